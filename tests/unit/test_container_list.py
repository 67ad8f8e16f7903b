"""Which containers `ps` lists, and what it shows of them."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest

from onggi.base.errors import InvalidArgument, NotFound
from onggi.base.ids import ContainerID
from onggi.cli.container_list import COLUMNS, FILTERS, Listed, select
from onggi.cli.filters import parse_filters
from onggi.engine.assemble import Engine
from onggi.engine.networks import NetworkSettings
from onggi.spec.container import ContainerRequest, MountRequest, parse_request, print_request
from onggi.spec.digest import Digest
from onggi.spec.image_config import ContainerConfig, ImageConfig, RootFS
from onggi.spec.ports import PublishedPort
from onggi.store.containers import Container
from onggi.store.images import Image

SECOND: Final = 10**9
NOW: Final = 1714557600 * SECOND


def image(number: str, layers: tuple[str, ...], *names: str) -> Image:
    """Make an image."""
    return Image(
        id=Digest(f"sha256:{number * 64}"),
        manifest=None,
        created_ns=0,
        references=names,
        layers=layers,
        size_bytes=0,
        tagged_ns=0,
    )


BASE: Final = image("a", ("l1",), "base:latest")
APP: Final = image("b", ("l1", "l2"), "app:latest")
CONFIG: Final = ContainerConfig(
    cmd=("sh",), labels={"tier": "web", "of": "image"}, exposed_ports={"80/tcp": {}, "90/tcp": {}}
)


class Containers:
    """The part of an engine that a list asks."""

    def __init__(self) -> None:
        self.known: dict[str, Container] = {}
        self.measured: list[str] = []

    def get(self, ref: str) -> Container:
        for container in self.known.values():
            if ref in (container.name, container.id) or container.id.startswith(ref):
                return container
        raise NotFound(f"No such container: {ref}")

    def request(self, id: str) -> ContainerRequest:
        return parse_request(self.known[id].config)

    def image_defaults(self, container: Container) -> ContainerConfig:
        return CONFIG if container.image == BASE.id else ContainerConfig(cmd=("true",))

    def network(self, id: str) -> NetworkSettings | None:
        if self.request(id).network != "bridge":
            return None
        ports = tuple(
            PublishedPort(
                protocol=p.protocol, host_ip="0.0.0.0", host_port=p.host_port, container_port=p.container_port
            )
            for p in self.request(id).ports
        )
        nowhere = dict.fromkeys(("address4", "gateway4", "address6", "gateway6", "mac", "link"), "")
        return NetworkSettings(network="bridge", bridge="onggi0", prefix4=0, prefix6=0, ports=ports, **nowhere)

    def size(self, id: str) -> tuple[int, int]:
        self.measured.append(id)
        return 1500, 10_001_500


class Images:
    """The same for images."""

    def get(self, ref: str) -> Image:
        for found in (BASE, APP):
            if ref in (found.id, found.references[0], found.references[0].removesuffix(":latest"), found.id.hex[:12]):
                return found
        raise NotFound(f"No such image: {ref}")

    def list(self) -> list[Image]:
        return [APP, BASE]

    def config(self, ref: str) -> ImageConfig:
        return ImageConfig(architecture="arm64", os="linux", variant="v8", rootfs=RootFS(type="layers"))


Add = Callable[..., Listed]


@pytest.fixture
def world() -> list[Listed]:
    """List four containers, newest first."""
    containers = Containers()
    engine = cast(Engine, SimpleNamespace(containers=containers, images=Images()))
    listed = []

    def add(number: int, name: str, state: str, image: str, ref: str, code: int = 0, **request: Any) -> None:
        id = ContainerID(f"{number}" * 64)
        container = Container(
            id=id,
            name=name,
            image=image,
            image_ref=ref,
            created_ns=NOW - number * 60 * SECOND,
            config=print_request(ContainerRequest(image=ref, **request)),
            auto_remove=False,
            snapshot=id,
            state=state,
            pid=0,
            started_ns=0 if state == "created" else NOW - 30 * SECOND,
            finished_ns=NOW - 10 * SECOND,
            exit_code=code,
            oom_killed=False,
            error="",
            boot_id="",
        )
        containers.known[id] = container
        listed.append(
            Listed(engine=engine, container=container, now_ns=NOW, env={"TZ": "UTC"}, truncate=True, sized=False)
        )

    volume = MountRequest(type="volume", source="a-volume-with-a-long-name", target="/data")
    bind = MountRequest(type="bind", source="/src", target="/mnt")
    add(1, "web-2", "running", BASE.id, "base", network="bridge", labels={"tier": "front"}, mounts=(volume, bind))
    add(2, "db", "exited", APP.id, "app", 3, network="none", command=("sh", "-c", 'echo "hello" there'))
    add(3, "web-1", "paused", APP.id, "gone:1", network="host")
    add(4, "new", "created", BASE.id, "base:latest", network="container:db")
    return listed


def names(world: list[Listed], *filters: str, every: bool = False, last: int = -1) -> list[str | None]:
    """Give the names of what is selected."""
    return [item.container.name for item in select(world, parse_filters(filters, FILTERS), every=every, last=last)]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], ["web-2", "db", "web-1", "new"]),
        (["name=web"], ["web-2", "web-1"]),
        (["name=^/db$"], ["db"]),
        (["name=^db$", "name=new"], ["db", "new"]),
        (["id=111"], ["web-2"]),
        (["id=9"], []),
        (["id=1", "name=db"], []),
        (["status=exited"], ["db"]),
        (["status=paused", "status=running"], ["web-2", "web-1"]),
        (["exited=3"], ["db"]),
        (["exited=0"], []),
        (["label=tier"], ["web-2", "new"]),
        (["label=tier=front"], ["web-2"]),
        (["label=of=image"], ["web-2", "new"]),
        (["label=tier", "label=nope"], []),
        (["ancestor=base"], ["web-2", "db", "web-1", "new"]),
        (["ancestor=app:latest"], ["db", "web-1"]),
        (["ancestor=bbbbbbbbbbbb"], ["db", "web-1"]),
        (["ancestor=unknown"], []),
        (["before=db"], ["web-1", "new"]),
        (["since=web-1"], ["web-2", "db"]),
        (["before=web-2", "since=new"], ["db", "web-1"]),
        (["volume=a-volume-with-a-long-name"], ["web-2"]),
        (["volume=/data"], ["web-2"]),
        (["volume=/src"], ["web-2"]),
        (["network=bridge"], ["web-2"]),
        (["network=host", "network=none"], ["db", "web-1"]),
        (["expose=80"], ["web-2"]),
        (["expose=85-95/tcp"], ["web-2"]),
        (["expose=80/udp"], []),
        (["publish=80"], []),
        (["health=none"], ["web-2", "db", "web-1", "new"]),
        (["health=healthy"], []),
        (["is-task=false"], ["web-2", "db", "web-1", "new"]),
        (["is-task=true"], []),
        (["isolation=default"], ["web-2", "db", "web-1", "new"]),
    ],
    ids=" ".join,
)
def test_filters(world: list[Listed], filters: list[str], expected: list[str]) -> None:
    assert names(world, *filters, every=True) == expected


def test_which_states_are_shown(world: list[Listed]) -> None:
    assert names(world) == ["web-2", "web-1"]
    assert names(world, "status=created") == ["new"]
    assert names(world, "exited=3") == []
    assert names(world, last=2) == ["web-2", "db"]
    assert names(world, "name=web", last=1) == ["web-2"]
    assert names(world, "name=new", last=1) == ["new"]


@pytest.mark.parametrize(
    ("filter", "problem"),
    [
        ("status=odd", "invalid filter 'status=odd': invalid value for state (odd): must be one of created, running"),
        ("health=odd", "invalid filter 'health=odd': invalid value for health (odd): must be one of none, starting"),
        ("exited=x", "invalid filter 'exited=x'"),
        ("is-task=x", "invalid filter 'is-task=[x]'"),
        ("publish=80:80", "filter for 'publish' should not contain ':': 80:80"),
        ("expose=x", "error while looking up for expose x"),
    ],
)
def test_wrong_filters(world: list[Listed], filter: str, problem: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        names(world, filter)
    assert str(caught.value).startswith(problem)
    with pytest.raises(InvalidArgument):
        names([], filter)


def test_unknown_neighbours(world: list[Listed]) -> None:
    for filter in ("before=nobody", "since=nobody"):
        with pytest.raises(NotFound, match="No such container: nobody"):
            names(world, filter)


def shown(item: Listed, name: str) -> object:
    """Give what a column shows."""
    return COLUMNS[name].value(item)


def test_what_is_shown(world: list[Listed]) -> None:
    web, db, other, new = world
    assert [shown(item, "ID") for item in world] == ["1" * 12, "2" * 12, "3" * 12, "4" * 12]
    assert [shown(item, "Image") for item in world] == ["base", "app", "b" * 12, "base:latest"]
    assert [shown(item, "Command") for item in world] == ['"sh"', '"sh -c \'echo \\"hello\\"…"', '"true"', '"sh"']
    assert shown(web, "CreatedAt") == "2024-05-01 09:59:00 +0000 UTC"
    assert shown(web, "RunningFor") == "About a minute ago"
    assert [shown(item, "Status") for item in world] == [
        "Up 30 seconds",
        "Exited (3) 10 seconds ago",
        "Up 30 seconds (Paused)",
        "Created",
    ]
    assert [shown(item, "State") for item in world] == ["running", "exited", "paused", "created"]
    assert [shown(item, "Ports") for item in world] == ["80/tcp, 90/tcp", "", "", ""]
    assert shown(web, "Labels") == "of=image,tier=front"
    label = shown(web, "Label")
    assert callable(label)
    assert (label("tier"), label("nope")) == ("front", "")
    assert (shown(web, "Mounts"), shown(web, "LocalVolumes")) == ("a-volume-with-…,/src", "1")
    assert [shown(item, "Networks") for item in world] == ["bridge", "none", "host", ""]
    assert shown(web, "Platform") == "linux/arm64/v8"
    assert (shown(new, "Names"), shown(db, "Names"), shown(other, "Names")) == ("new", "db", "web-1")


def test_nothing_is_cut_short(world: list[Listed]) -> None:
    web, db, other, _ = world
    for item in world:
        item.truncate = False
    assert shown(web, "ID") == "1" * 64
    assert shown(other, "Image") == APP.id
    assert shown(db, "Command") == '"sh -c \'echo \\"hello\\" there\'"'
    assert shown(web, "Mounts") == "a-volume-with-a-long-name,/src"


def test_sizes_are_measured_only_when_asked_for(world: list[Listed]) -> None:
    web = world[0]
    containers = cast(Containers, web.engine.containers)
    assert shown(web, "Size") == "0B"
    assert containers.measured == []
    web.sized = True
    assert shown(web, "Size") == "1.5kB (virtual 10MB)"


def test_one_that_is_removed_while_it_is_listed_is_shown_as_it_was(world: list[Listed]) -> None:
    """`run --rm` in one terminal must not fail `ps` in another."""
    gone = world[0]
    gone.engine.containers.known.clear()  # type: ignore[attr-defined]
    gone.engine.containers.network = gone.engine.containers.get  # type: ignore[method-assign,assignment]
    shown = {name: column.value(gone) for name, column in COLUMNS.items() if name not in ("Size", "Platform")}
    assert (shown["Names"], shown["Ports"], shown["Networks"]) == ("web-2", "", "bridge")
