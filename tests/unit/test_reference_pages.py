"""The reference pages say what the code does now; `python -m tests.record_docs` writes them."""

import pytest

from tests.oci_fields import NO_VERDICT, SAMPLES, fields
from tests.reference import DOCS, PAGES


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_current(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), "PYTHONPATH=src python -m tests.record_docs"


def test_every_field_of_the_runtime_spec_is_tried() -> None:
    tried = {path.partition("[]")[0] for path in SAMPLES}
    assert set(fields()) == tried | NO_VERDICT
