"""Limits that a host cannot set: Docker's warnings, and nothing asked of the kernel."""

from pathlib import Path

import msgspec
import pytest

from onggi.plan.cgroup import plan_cgroup
from onggi.plan.facts import CgroupFacts, Facts
from onggi.runtime.bundle import resources_of
from onggi.runtime.fitting import fit_limits
from onggi.spec.container import ContainerRequest, ResourceRequest

MIB = 1 << 20
WITHOUT_SWAP = (
    "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap."
)
NO_SWAPPINESS = (
    "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. "
    "Memory swappiness discarded."
)
NO_OOM_KILL_DISABLE = "Your kernel does not support OomKillDisable. OomKillDisable discarded."
UNLIMITED = (
    "OOM killer is disabled for the container, but no memory limit is set, "
    "this can result in the system running out of resources."
)


def facts_of(layout: str, *, swap: bool) -> CgroupFacts:
    """Give recorded facts, with or without swap accounting."""
    data = (Path(__file__).parent / "data" / "facts" / f"{layout}.json").read_bytes()
    return msgspec.structs.replace(msgspec.json.decode(data, type=Facts).cgroup, swap=swap)


def memory_files(limits: ResourceRequest, facts: CgroupFacts) -> dict[str, str]:
    """Say what is written to the memory controller."""
    plan = plan_cgroup(resources_of(ContainerRequest(resources=limits), {}, facts), "/onggi/c1", facts)
    return {op.path.rpartition("/")[2]: bytes(op.data).decode() for op in plan.limits if isinstance(op.data, bytes)}


@pytest.mark.parametrize("layout", ["v1", "v2"])
@pytest.mark.parametrize("swap_bytes", [None, 0, 96 * MIB])
def test_without_swap_accounting_memory_is_limited_alone(layout: str, swap_bytes: int | None) -> None:
    limits = ResourceRequest(memory_bytes=64 * MIB, memory_swap_bytes=swap_bytes)
    facts = facts_of(layout, swap=False)
    assert fit_limits(limits, facts)[1] == (WITHOUT_SWAP,)
    file = "memory.limit_in_bytes" if layout == "v1" else "memory.max"
    assert memory_files(limits, facts) == {file: str(64 * MIB)}


@pytest.mark.parametrize("layout", ["v1", "v2"])
def test_with_it_memory_and_swap_are(layout: str) -> None:
    limits, facts = ResourceRequest(memory_bytes=64 * MIB), facts_of(layout, swap=True)
    assert fit_limits(limits, facts) == (limits, ())
    swap = {"v1": ("memory.memsw.limit_in_bytes", 128 * MIB), "v2": ("memory.swap.max", 64 * MIB)}[layout]
    assert memory_files(limits, facts)[swap[0]] == str(swap[1])


def test_unlimited_swap_needs_no_accounting() -> None:
    limits, facts = ResourceRequest(memory_bytes=64 * MIB, memory_swap_bytes=-1), facts_of("v1", swap=False)
    assert fit_limits(limits, facts)[1] == ()
    assert memory_files(limits, facts) == {"memory.limit_in_bytes": str(64 * MIB)}


@pytest.mark.parametrize(
    ("layout", "limits", "said"),
    [
        ("v2", ResourceRequest(memory_swappiness=10), (NO_SWAPPINESS,)),
        ("v1", ResourceRequest(memory_swappiness=10), ()),
        ("v2", ResourceRequest(oom_kill_disable=True, memory_bytes=64 * MIB), (NO_OOM_KILL_DISABLE,)),
        ("v1", ResourceRequest(oom_kill_disable=True), (UNLIMITED,)),
        ("v1", ResourceRequest(oom_kill_disable=True, memory_bytes=64 * MIB), ()),
    ],
)
def test_what_one_version_of_cgroups_does_not_have(layout: str, limits: ResourceRequest, said: tuple[str, ...]) -> None:
    facts = facts_of(layout, swap=True)
    left, warnings = fit_limits(limits, facts)
    assert warnings == said
    if layout == "v2":
        assert not left.oom_kill_disable
        assert left.memory_swappiness is None
        assert fit_limits(left, facts) == (left, ())
