"""Overlays on kernels that do not take layers by descriptor (before 6.13) or one after the other (before 6.8)."""

from collections.abc import Iterator
from typing import Final

import msgspec
import pytest

from onggi import NotSupported
from onggi.engine.assemble import Engine
from onggi.engine.builds import BuildRequest
from onggi.host import mounts
from onggi.plan.explain import explain_plan
from onggi.plan.facts import Facts
from onggi.plan.rootfs import MAX_JOINED_LAYERS
from onggi.spec.container import ContainerRequest, IdMapRequest
from tests.homes import IMAGE, Home

OLDER: Final = {"6.12": (False, True), "6.1": (False, False)}
MAPS: Final = (IdMapRequest(container=0, host=100000, size=65536),)


@pytest.fixture(params=OLDER)
def engine(
    home: Home, facts: Facts, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Engine]:
    """Give an engine that does as if this was an older kernel; what it does works on this one too."""
    descriptors, appends = OLDER[request.param]
    monkeypatch.setattr(mounts, "_BY_DESCRIPTOR", descriptors)
    monkeypatch.setattr(mounts, "_BY_APPENDING", appends)
    with home.another() as engine:
        engine._context._known = msgspec.structs.replace(
            facts, overlay_descriptors=descriptors, overlay_appends=appends
        )
        yield engine


def layered(engine: Engine, count: int) -> str:
    """Build an image with so many layers, each with a directory of its own."""
    lines = [f"FROM {IMAGE}", *(f"WORKDIR /d{number}" for number in range(1, count)), "WORKDIR /"]
    request = BuildRequest(text="\n".join(lines).encode(), network="none")
    return str(engine.builds.build(request, lambda event: None).id)


def test_containers_builds_and_views(engine: Engine) -> None:
    image = layered(engine, MAX_JOINED_LAYERS - 1)
    text = f"FROM {image}\nRUN rmdir /d1 && touch /d2/more\nUSER www\n".encode()
    engine.builds.build(BuildRequest(text=text, tags=("top",), network="none"), lambda event: None)
    script = "echo /d*; id -un; ls /d2; touch /tmp/x"
    container = engine.containers.run("top", ["sh", "-c", script], request=ContainerRequest(network="none"))
    assert container.wait(timeout_s=60) == 0
    there = " ".join(sorted(["/dev", *(f"/d{number}" for number in range(2, MAX_JOINED_LAYERS - 1))]))
    assert [line.log for line in container.logs()] == [f"{there}\n", "www\n", "more\n"]
    assert ("A", b"/tmp/x") in engine.containers.changes(container.id)
    container.remove()


def test_what_the_plan_says(engine: Engine) -> None:
    image = layered(engine, 3)
    plan = explain_plan(engine.containers.explain(ContainerRequest(image=image, command=("true",), network="none")))
    (line,) = (line for line in plan.splitlines() if "new overlay" in line)
    paths = [f"/proc/self/fd/<%lower{number}>" for number in range(3)]
    if engine._context.facts.overlay_appends:
        assert f"[{','.join(f'lowerdir+={path}' for path in paths)}," in line
    else:
        assert f"[lowerdir={':'.join(paths)}," in line
    assert "upperdir=/proc/self/fd/<%upper>,workdir=/proc/self/fd/<%work>," in line


def test_what_cannot_be_done_there(engine: Engine) -> None:
    request = ContainerRequest(network="none", uid_map=MAPS, gid_map=MAPS)
    with pytest.raises(NotSupported, match="cannot have a user namespace on this kernel"):
        engine.containers.run(IMAGE, ["true"], request=request)


def test_one_string_has_room_for_a_few(home: Home, facts: Facts) -> None:
    image = layered(home.engine, MAX_JOINED_LAYERS + 1)
    with home.another() as engine:
        engine._context._known = msgspec.structs.replace(facts, overlay_descriptors=False, overlay_appends=False)
        with pytest.raises(NotSupported, match=f"the image has {MAX_JOINED_LAYERS + 1} layers, and this kernel takes"):
            engine.containers.run(image, ["true"], request=ContainerRequest(network="none"))
        engine._context._known = msgspec.structs.replace(facts, overlay_descriptors=False)
        assert engine.containers.run(image, ["true"], request=ContainerRequest(network="none")).wait() == 0
