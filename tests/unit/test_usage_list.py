"""What `stats` shows of what containers use."""

from types import SimpleNamespace
from typing import cast

import pytest

from onggi.base.errors import Conflict, NotFound
from onggi.cli import usage_list
from onggi.cli.usage_list import COLUMNS, TABLE, Listed, Sample, Watch
from onggi.engine.assemble import Engine
from onggi.host.cgroupfs import Statistics
from onggi.host.cgroupfs.statistics import CpuStatistics, DeviceStatistics, MemoryStatistics, PidsStatistics
from onggi.spec.container import ContainerRequest, print_request
from onggi.store.containers import Container

SECOND = 10**9
CONTAINER = cast(Container, SimpleNamespace(id="a" * 64, name="web", pid=0))


def used(seconds: float, *, limit: int | None = 64 << 20) -> Statistics:
    """Make numbers."""
    return Statistics(
        cpu=CpuStatistics(usage_ns=int(seconds * SECOND)),
        memory=MemoryStatistics(usage_bytes=20 << 20, inactive_file_bytes=4 << 20, limit_bytes=limit),
        pids=PidsStatistics(current=3),
        devices=(
            DeviceStatistics(major=8, minor=0, read_bytes=1000, write_bytes=5),
            DeviceStatistics(major=8, minor=16, read_bytes=500),
        ),
    )


def listed(before: Sample, now: Sample) -> dict[str, object]:
    """Show one container by all columns."""
    item = Listed(asked="web", container=CONTAINER, before=before, now=now, memory_bytes=1 << 30, truncate=True)
    return {name: COLUMNS[name].value(item) for name in COLUMNS if name != "ID"}


def test_between_two_looks() -> None:
    now = Sample(at_ns=2 * SECOND, used=used(1.5), received=1234, sent=0)
    assert listed(Sample(at_ns=0, used=used(1)), now) == {
        "Container": "web",
        "Name": "web",
        "CPUPerc": "25.00%",
        "MemUsage": "16MiB / 64MiB",
        "MemPerc": "25.00%",
        "NetIO": "1.23kB / 0B",
        "BlockIO": "1.5kB / 5B",
        "PIDs": "3",
    }


def test_the_first_look_has_nothing_to_compare_with() -> None:
    only = Sample(at_ns=5 * SECOND, used=used(1))
    assert listed(only, only)["CPUPerc"] == "0.00%"


@pytest.mark.parametrize("limit", [None, 1 << 40])
def test_no_limit_is_what_the_machine_has(limit: int | None) -> None:
    sample = Sample(at_ns=0, used=used(1, limit=limit))
    assert listed(sample, sample)["MemUsage"] == "16MiB / 1GiB"


def test_what_does_not_run_uses_nothing() -> None:
    nothing = Sample(at_ns=0, used=Statistics())
    found = listed(nothing, nothing)
    assert [found[name] for name in TABLE[2:]] == ["0.00%", "0B / 0B", "0.00%", "0B / 0B", "0B / 0B", "0"]


class Containers:
    """Containers that come and go."""

    def __init__(self, *names: str, network: str = "none") -> None:
        self.network = network
        self.names = list(names)
        self.alive = set(names)

    def get(self, ref: str) -> Container:
        if ref not in self.names:
            raise NotFound(f"No such container: {ref}")
        return self._container(ref)

    def _container(self, name: str) -> Container:
        config = print_request(ContainerRequest(network=self.network))
        return cast(Container, SimpleNamespace(id=_Id(name), name=name, pid=7, config=config))

    def list(self, *, every: bool) -> list[Container]:
        return [self._container(name) for name in self.names if every or name in self.alive]

    def statistics(self, id: str) -> Statistics:
        if id not in self.alive:
            raise Conflict(f"container {id} is not running")
        return used(1)


class _Id(str):
    __slots__ = ()

    @property
    def short(self) -> str:
        return self[:12]


def watch(containers: Containers, *refs: str, every: bool = False) -> Watch:
    """Watch them."""
    engine = cast(Engine, SimpleNamespace(containers=containers))
    return Watch(engine, refs, every=every, truncate=True, memory_bytes=1)


def test_all_that_runs_comes_and_goes() -> None:
    containers = Containers("a", "b")
    found = watch(containers)
    assert [item.asked for item in found.look(0)] == ["a", "b"]
    containers.alive.remove("a")
    assert [item.asked for item in found.look(1)] == ["b"]
    assert [item.asked for item in watch(containers, every=True).look(0)] == ["a", "b"]


def test_those_asked_for_stay_until_they_are_removed() -> None:
    containers = Containers("a", "b")
    found = watch(containers, "b", "a", "b")
    assert [item.asked for item in found.look(0)] == ["b", "a"]
    containers.alive.clear()
    assert [item.tasks() for item in found.look(1)] == ["0", "0"]
    containers.names.remove("a")
    assert [item.asked for item in found.look(2)] == ["b"]
    with pytest.raises(NotFound):
        watch(containers, "nobody")


@pytest.mark.parametrize(("network", "expected"), [("bridge", "7B / 70B"), ("host", "0B / 0B"), ("none", "0B / 0B")])
def test_traffic_of_a_network_of_its_own(monkeypatch: pytest.MonkeyPatch, network: str, expected: str) -> None:
    monkeypatch.setattr(usage_list, "network_traffic", lambda pid: (pid, 10 * pid))
    (item,) = watch(Containers("a", network=network)).look(0)
    assert item.network() == expected
