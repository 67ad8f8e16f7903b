"""Plans as text: what reviewers read. A changed line is a changed effect; CONTRIBUTING.md says how to record it."""

from pathlib import Path

import pytest

from onggi.plan.explain import explain_plan
from tests.plans import FACTS, load_recorded, recorded_cases


@pytest.mark.parametrize("case", recorded_cases(), ids=lambda case: case.stem)
def test_plan_reads_as_recorded(case: Path) -> None:
    assert explain_plan(load_recorded(case).plan()) == case.with_suffix(".plan").read_text()


def test_every_recorded_plan_has_its_source() -> None:
    stems = {path.stem for path in recorded_cases()}
    assert stems == {path.stem for path in recorded_cases()[0].parent.glob("*.plan")}
    assert {load_recorded(path).facts for path in recorded_cases()} == set(FACTS)
