"""What BuildKit made of each Dockerfile in tests/truth Onggi makes of it too; record_truth.py asked the real one."""

import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from onggi import Engine, OnggiError
from onggi.build.events import Event
from onggi.engine.builds import BuildRequest
from onggi.host.launcher import Launcher
from tests.truth.cases import CASES
from tests.truth.world import Case, base_archive, read_facts, write_context

FACTS: Final[dict[str, Any]] = json.loads((Path(__file__).parent.parent / "truth" / "facts.json").read_text())
Build = Callable[[str], dict[str, Any]]
pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the facts are of x86-64")


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory, launcher: Launcher) -> Iterator[Build]:
    """Build cases in one state root that has the base image."""
    place = tmp_path_factory.mktemp("truth")
    with ExitStack() as stack:
        engine = Engine(place / "state", launcher=launcher)
        stack.callback(engine.close)
        stack.callback(engine.system.reset)
        engine.images.load(io.BytesIO(base_archive()))
        yield lambda name: _build(engine, place / name, CASES[name])


def _build(engine: Engine, place: Path, case: Case) -> dict[str, Any]:
    write_context(place, case)
    request = BuildRequest(
        context=str(place),
        dockerfile=case.file,
        args=case.args,
        target=case.target or None,
        labels=case.labels,
        contexts={name: to if ":" in to else str(place / to) for name, to in case.contexts.items()},
        hosts=case.hosts,
        network="none",
    )
    events: list[Event] = []
    try:
        image = engine.builds.build(request, events.append)
    except OnggiError as error:
        return {"error": str(error)}
    sink = io.BytesIO()
    engine.images.save([str(image.id)], sink)
    return read_facts(sink.getvalue())


@pytest.mark.parametrize("name", CASES)
def test_onggi_agrees_with_buildkit(build: Build, name: str) -> None:
    theirs, ours = FACTS[name], build(name)
    wanted = CASES[name].error
    if wanted:
        assert wanted in theirs["error"], "the case expects what BuildKit does not say"
        assert wanted in ours["error"]
    else:
        assert ours == theirs


def test_nothing_is_recorded_that_is_not_asked() -> None:
    assert set(FACTS) == set(CASES)
