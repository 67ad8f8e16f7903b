"""The cgroup's part of a plan, for recorded hosts of v1, hybrid and v2."""

from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onggi.base.errors import InvalidArgument, NotSupported, OnggiError
from onggi.plan.cgroup import (
    CgroupPlan,
    count_oom_kills,
    io_weight,
    plan_cgroup,
    plan_entry,
    plan_refuge,
    plan_update,
    weight_of_shares,
)
from onggi.plan.facts import CgroupFacts
from onggi.plan.ops import (
    Close,
    EnterCgroup,
    FilterDevices,
    Keep,
    KillMembers,
    MakeDirectory,
    Op,
    OpenPath,
    Remove,
    WriteFile,
)
from onggi.spec.runtime import (
    LinuxBlockIO,
    LinuxCPU,
    LinuxDeviceCgroup,
    LinuxHugepageLimit,
    LinuxInterfacePriority,
    LinuxMemory,
    LinuxNetwork,
    LinuxPids,
    LinuxRdma,
    LinuxResources,
    LinuxThrottleDevice,
    LinuxWeightDevice,
)
from tests.cgroup_hosts import HOSTS, facts_of

PATH = "/onggi/c1"
MIB = 1 << 20
WRITABLE = [host for host in HOSTS if host not in ("v1-container", "v2-container")]


def say(op: Op, root: str = "/sys/fs/cgroup/") -> str:
    """Say an op in a few words."""
    match op:
        case MakeDirectory():
            return f"mkdir {op.path.removeprefix(root)}"
        case WriteFile():
            parts = op.data if isinstance(op.data, tuple) else (op.data,)
            text = "".join(part.decode() if isinstance(part, bytes) else "<pid>" for part in parts)
            return f"{op.path.removeprefix(root)} = {text}{' if empty' if op.if_empty else ''}"
        case OpenPath():
            return f"open {op.path.removeprefix(root)} as {op.slot}"
        case FilterDevices():
            return f"filter {op.cgroup}"
        case EnterCgroup():
            return f"enter {op.cgroup}"
        case Close():
            return f"close {op.slot}"
        case KillMembers():
            return f"kill {op.path.removeprefix(root)}"
        case Keep():
            return f"keep {op.name}"
        case Remove():
            return f"remove {op.path.removeprefix(root)}"
    raise AssertionError(op)


def limits(resources: LinuxResources, facts: CgroupFacts) -> list[str]:
    """Give the writes of limits as `file = text`, without the directory."""
    plan = plan_cgroup(resources, PATH, facts, default_devices=())
    return [say(op, op.path.rpartition("/")[0] + "/") for op in plan.limits]


def without(facts: CgroupFacts, **changes: object) -> CgroupFacts:
    return msgspec.structs.replace(facts, **changes)


# -- shape -------------------------------------------------------------------------------------------------


def test_v2_without_limits() -> None:
    plan = plan_cgroup(None, PATH, facts_of("v2-delegated"))
    assert [say(op) for op in plan.before] == [
        "mkdir onggi",
        "onggi/cgroup.subtree_control = +cpu +io +memory +pids",
        "mkdir onggi/c1",
        "open onggi/c1 as cgroup",
        "filter cgroup",
    ]
    assert plan.join == ()
    assert [say(op) for op in plan.after] == [
        "onggi/c1/cgroup.kill = 1",
        "kill onggi/c1/cgroup.procs",
        "keep memory.events",
        "keep memory.peak",
        "keep cpu.stat",
        "remove onggi/c1",
    ]
    assert plan.slot == "cgroup"
    assert plan.directories == {"unified": "/sys/fs/cgroup/onggi/c1"}
    assert plan.notes == ()


def test_v2_hands_down_what_limits_need_or_fails_and_the_rest_if_it_can() -> None:
    resources = LinuxResources(memory=LinuxMemory(limit=MIB), cpu=LinuxCPU(cpus="0"))
    plan = plan_cgroup(resources, PATH, facts_of("v2-fresh"), default_devices=())
    assert [(say(op), bool(op.tolerate)) for op in plan.before] == [
        ("cgroup.subtree_control = +cpuset +memory", False),
        ("cgroup.subtree_control = +cpu", True),
        ("cgroup.subtree_control = +io", True),
        ("cgroup.subtree_control = +pids", True),
        ("mkdir onggi", True),
        ("onggi/cgroup.subtree_control = +cpuset +memory", False),
        ("onggi/cgroup.subtree_control = +cpu", True),
        ("onggi/cgroup.subtree_control = +io", True),
        ("onggi/cgroup.subtree_control = +pids", True),
        ("mkdir onggi/c1", True),
        ("onggi/c1/cpuset.cpus = 0", False),
        ("onggi/c1/memory.max = 1048576", False),
        ("open onggi/c1 as cgroup", False),
    ]


def test_v1_joins_every_hierarchy_once() -> None:
    plan = plan_cgroup(None, PATH, facts_of("v1"))
    assert [say(op) for op in plan.join] == [
        f"{name}/onggi/c1/tasks = 0"
        for name in (
            "blkio", "cpu,cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory", "net_cls,net_prio",
            "perf_event", "pids", "rdma", "systemd",
        )
    ]  # fmt: skip
    assert plan.slot is None
    assert plan.directories["cpu"] == plan.directories["cpuacct"] == "/sys/fs/cgroup/cpu,cpuacct/onggi/c1"
    assert plan.directories["name=systemd"] == "/sys/fs/cgroup/systemd/onggi/c1"
    assert [say(op) for op in plan.kill] == [
        "freezer/onggi/c1/freezer.state = THAWED",
        "kill systemd/onggi/c1/cgroup.procs",
    ]
    assert [say(op) for op in plan.keep] == [
        "keep memory.oom_control",
        "keep memory.max_usage_in_bytes",
        "keep cpuacct.usage",
    ]


def test_v1_cpuset_is_born_with_what_its_parent_has() -> None:
    plan = plan_cgroup(LinuxResources(cpu=LinuxCPU(cpus="1")), "/a/b/c", facts_of("v1"))
    assert [say(op) for op in plan.before if "cpuset" in say(op)] == [
        "mkdir cpuset/a",
        "cpuset/a/cpuset.cpus = 0-1 if empty",
        "cpuset/a/cpuset.mems = 0 if empty",
        "cpuset/a/cgroup.clone_children = 1",
        "mkdir cpuset/a/b",
        "cpuset/a/b/cgroup.clone_children = 1",
        "mkdir cpuset/a/b/c",
        "cpuset/a/b/c/cpuset.cpus = 1",
    ]


@pytest.mark.parametrize("layout", ["v1", "hybrid"])
def test_what_is_everybodys_is_left_as_it_is(layout: str) -> None:
    """Nothing is written into the top of a v1 hierarchy: `cgroup.clone_children` there changes others' cpusets."""
    facts = facts_of(layout)
    plan = plan_cgroup(LinuxResources(cpu=LinuxCPU(cpus="1")), "/a/b", facts)
    tops = {hierarchy.mount for hierarchy in (*facts.controllers.values(), *facts.named.values())}
    written = [op.path for op in plan.before if isinstance(op, WriteFile)]
    assert tops
    assert [path for path in written if path.rpartition("/")[0] in tops] == []


def test_hybrid_is_born_in_the_unified_tree_and_takes_no_controller_from_v1() -> None:
    plan = plan_cgroup(None, PATH, facts_of("hybrid"))
    assert plan.slot == "cgroup"
    assert "open unified/onggi/c1 as cgroup" in [say(op) for op in plan.before]
    assert not any("subtree_control" in say(op) for op in plan.before)
    assert not any(isinstance(op, FilterDevices) for op in plan.before)
    assert len(plan.join) == 9
    assert not any("unified" in say(op) for op in plan.join)
    assert [say(op) for op in plan.kill] == ["unified/onggi/c1/cgroup.kill = 1", "kill unified/onggi/c1/cgroup.procs"]


def test_hybrid_limits_go_to_the_version_that_has_the_controller() -> None:
    resources = LinuxResources(
        hugepage_limits=(LinuxHugepageLimit(page_size="2MB", limit=4 * MIB),), pids=LinuxPids(limit=5)
    )
    plan = plan_cgroup(resources, PATH, facts_of("hybrid"), default_devices=())
    assert [say(op) for op in plan.limits] == [
        "pids/onggi/c1/pids.max = 5",
        "unified/onggi/c1/hugetlb.2MB.max = 4194304",
        "unified/onggi/c1/hugetlb.2MB.rsvd.max = 4194304",
    ]
    handed = [say(op) for op in plan.before if "subtree_control" in say(op)]
    assert handed == [
        "unified/cgroup.subtree_control = +hugetlb",
        "unified/onggi/cgroup.subtree_control = +hugetlb",
    ]


@pytest.mark.parametrize("host", WRITABLE)
def test_order(host: str) -> None:
    """Directories before what is in them, all limits before anybody is in it, the program on an open directory."""
    facts = facts_of(host)
    resources = LinuxResources(pids=LinuxPids(limit=1)) if host != "v2-privileged-container" else None
    plan = plan_cgroup(resources, PATH, facts)
    made: set[str] = set()
    for op in plan.before:
        if isinstance(op, MakeDirectory):
            made.add(op.path)
        elif isinstance(op, WriteFile) and "/onggi" in op.path:
            assert op.path.rpartition("/")[0] in made
        elif isinstance(op, OpenPath):
            assert op.path in made
        assert not (isinstance(op, WriteFile) and op.path.endswith("cgroup.procs"))
    kinds = [type(op) for op in plan.before]
    if FilterDevices in kinds:
        assert kinds.index(OpenPath) < kinds.index(FilterDevices)
    assert {op.path for op in plan.remove if isinstance(op, Remove)} == set(plan.directories.values()) <= made


@pytest.mark.parametrize("host", WRITABLE)
def test_teardown_of_a_plan_that_never_began_is_harmless(host: str) -> None:
    assert all(2 in op.tolerate for op in plan_cgroup(None, PATH, facts_of(host)).after)


def test_entry_and_refuge() -> None:
    plan = plan_cgroup(None, PATH, facts_of("hybrid"))
    entry = plan_entry(plan.directories)
    assert entry.join == plan.join
    assert [say(op) for op in entry.before] == ["open unified/onggi/c1 as cgroup"]
    assert entry.slot == plan.slot
    refuge = plan_refuge("/onggi/supervisors", facts_of("hybrid"))
    assert [say(op) for op in refuge.join] == [
        *(say(op).replace("c1", "supervisors") for op in plan.join),
        "open unified/onggi/supervisors as refuge",
        "enter refuge",
        "close refuge",
    ]
    assert refuge.after == ()


# -- paths -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "path", "directory"),
    [
        ("v2-delegated", "/a/b", "/sys/fs/cgroup/a/b"),
        ("v2-delegated", "/../a/./b/", "/sys/fs/cgroup/a/b"),
        # Beside the caller's own cgroup, which has processes.
        ("v2-delegated", "a", "/sys/fs/cgroup/user.slice/user-0.slice/a"),
        ("v2-delegated", "../../a", "/sys/fs/cgroup/user.slice/user-0.slice/a"),
        ("v2-fresh", "a", "/sys/fs/cgroup/a"),
    ],
)
def test_v2_paths(host: str, path: str, directory: str) -> None:
    assert plan_cgroup(None, path, facts_of(host)).directories == {"unified": directory}


def test_v1_relative_path_is_beneath_each_own_cgroup() -> None:
    plan = plan_cgroup(None, "a", facts_of("v1"))
    assert plan.directories["memory"] == "/sys/fs/cgroup/memory/user.slice/a"
    assert plan.directories["pids"] == "/sys/fs/cgroup/pids/a"
    assert "mkdir memory/user.slice" not in [say(op) for op in plan.before]


def test_relative_path_asks_nothing_above_it() -> None:
    plan = plan_cgroup(LinuxResources(pids=LinuxPids(limit=1)), "a", facts_of("v2-delegated"), default_devices=())
    assert [say(op, "/sys/fs/cgroup/user.slice/") for op in plan.before[:3]] == [
        "user-0.slice/cgroup.subtree_control = +pids",
        "user-0.slice/cgroup.subtree_control = +cpu",
        "user-0.slice/cgroup.subtree_control = +io",
    ]
    assert [bool(op.tolerate) for op in plan.before[:3]] == [False, True, True]


@pytest.mark.parametrize("path", ["", "/", ".", "/..", "a/.."])
def test_paths_that_name_nothing(path: str) -> None:
    with pytest.raises(InvalidArgument, match="names no cgroup"):
        plan_cgroup(None, path, facts_of("v2-delegated"))


def test_relative_path_of_a_caller_outside() -> None:
    facts = facts_of("v2-delegated")
    assert facts.unified is not None
    outside = without(facts, unified=msgspec.structs.replace(facts.unified, path=""))
    with pytest.raises(NotSupported, match="is relative, and this process is in a part of the cgroup2 hierarchy"):
        plan_cgroup(None, "a", outside)


# -- limits ------------------------------------------------------------------------------------------------

CASES: list[tuple[LinuxResources, list[str], list[str]]] = [
    (
        LinuxResources(memory=LinuxMemory(limit=64 * MIB)),
        ["memory.limit_in_bytes = 67108864"],
        ["memory.max = 67108864"],
    ),
    (
        LinuxResources(memory=LinuxMemory(limit=64 * MIB, swap=96 * MIB, reservation=MIB)),
        [
            "memory.limit_in_bytes = 67108864",
            "memory.memsw.limit_in_bytes = 100663296",
            "memory.soft_limit_in_bytes = 1048576",
        ],
        ["memory.swap.max = 33554432", "memory.max = 67108864", "memory.low = 1048576"],
    ),
    (
        LinuxResources(memory=LinuxMemory(limit=64 * MIB, swap=64 * MIB)),
        ["memory.limit_in_bytes = 67108864", "memory.memsw.limit_in_bytes = 67108864"],
        ["memory.swap.max = 0", "memory.max = 67108864"],
    ),
    (
        LinuxResources(memory=LinuxMemory(limit=64 * MIB, swap=-1)),
        ["memory.limit_in_bytes = 67108864", "memory.memsw.limit_in_bytes = -1"],
        ["memory.swap.max = max", "memory.max = 67108864"],
    ),
    (
        LinuxResources(memory=LinuxMemory(limit=-1)),
        ["memory.limit_in_bytes = -1", "memory.memsw.limit_in_bytes = -1"],
        ["memory.swap.max = max", "memory.max = max"],
    ),
    (
        LinuxResources(memory=LinuxMemory(limit=-1, swap=MIB)),
        ["memory.limit_in_bytes = -1", "memory.memsw.limit_in_bytes = 1048576"],
        ["memory.swap.max = 1048576", "memory.max = max"],
    ),
    (LinuxResources(memory=LinuxMemory(reservation=-1)), ["memory.soft_limit_in_bytes = -1"], ["memory.low = max"]),
    (LinuxResources(memory=LinuxMemory(limit=0, swap=0, swappiness=2**64 - 1)), [], []),
    (
        LinuxResources(memory=LinuxMemory(swappiness=0, disable_oom_killer=True)),
        ["memory.oom_control = 1", "memory.swappiness = 0"],
        [],
    ),
    (LinuxResources(cpu=LinuxCPU(shares=1024)), ["cpu.shares = 1024"], ["cpu.weight = 100"]),
    (
        LinuxResources(cpu=LinuxCPU(quota=50_000, period=20_000, burst=10_000)),
        ["cpu.cfs_period_us = 20000", "cpu.cfs_quota_us = 50000", "cpu.cfs_burst_us = 10000"],
        ["cpu.max = 50000 20000", "cpu.max.burst = 10000"],
    ),
    (LinuxResources(cpu=LinuxCPU(quota=50_000)), ["cpu.cfs_quota_us = 50000"], ["cpu.max = 50000 100000"]),
    (LinuxResources(cpu=LinuxCPU(quota=-1)), ["cpu.cfs_quota_us = -1"], ["cpu.max = max 100000"]),
    (LinuxResources(cpu=LinuxCPU(period=50_000)), ["cpu.cfs_period_us = 50000"], ["cpu.max = max 50000"]),
    (LinuxResources(cpu=LinuxCPU(shares=0, quota=0, period=0, cpus="", mems="")), [], []),
    (LinuxResources(cpu=LinuxCPU(idle=1)), ["cpu.idle = 1"], ["cpu.idle = 1"]),
    (
        LinuxResources(cpu=LinuxCPU(idle=0, shares=2)),
        ["cpu.idle = 0", "cpu.shares = 2"],
        ["cpu.idle = 0", "cpu.weight = 1"],
    ),
    (
        LinuxResources(cpu=LinuxCPU(cpus="0-1", mems="0")),
        ["cpuset.cpus = 0-1", "cpuset.mems = 0"],
        ["cpuset.cpus = 0-1", "cpuset.mems = 0"],
    ),
    (LinuxResources(pids=LinuxPids(limit=7)), ["pids.max = 7"], ["pids.max = 7"]),
    (LinuxResources(pids=LinuxPids(limit=-1)), ["pids.max = max"], ["pids.max = max"]),
    (LinuxResources(pids=LinuxPids(limit=0)), ["pids.max = 1"], ["pids.max = 1"]),
    (LinuxResources(pids=LinuxPids()), [], []),
    (
        LinuxResources(
            block_io=LinuxBlockIO(
                weight=500,
                weight_device=(LinuxWeightDevice(major=8, minor=0, weight=10), LinuxWeightDevice(major=8, minor=16)),
                throttle_read_bps_device=(LinuxThrottleDevice(major=8, minor=0, rate=1000),),
                throttle_write_bps_device=(LinuxThrottleDevice(major=8, minor=0, rate=2000),),
                throttle_read_iops_device=(LinuxThrottleDevice(major=8, minor=0, rate=30),),
                throttle_write_iops_device=(LinuxThrottleDevice(major=8, minor=0, rate=0),),
            )
        ),
        [
            "blkio.bfq.weight = 500",
            "blkio.bfq.weight_device = 8:0 10",
            "blkio.throttle.read_bps_device = 8:0 1000",
            "blkio.throttle.write_bps_device = 8:0 2000",
            "blkio.throttle.read_iops_device = 8:0 30",
            "blkio.throttle.write_iops_device = 8:0 0",
        ],
        [
            "io.bfq.weight = 500",
            "io.bfq.weight = 8:0 10",
            "io.max = 8:0 rbps=1000",
            "io.max = 8:0 wbps=2000",
            "io.max = 8:0 riops=30",
            "io.max = 8:0 wiops=max",
        ],
    ),
    (
        LinuxResources(hugepage_limits=(LinuxHugepageLimit(page_size="1GB", limit=0),)),
        ["hugetlb.1GB.limit_in_bytes = 0", "hugetlb.1GB.rsvd.limit_in_bytes = 0"],
        ["hugetlb.1GB.max = 0", "hugetlb.1GB.rsvd.max = 0"],
    ),
    (
        LinuxResources(rdma={"mlx5_1": LinuxRdma(hca_handles=3, hca_objects=10000)}),
        ["rdma.max = mlx5_1 hca_handle=3 hca_object=10000"],
        ["rdma.max = mlx5_1 hca_handle=3 hca_object=10000"],
    ),
]


@pytest.mark.parametrize(("resources", "v1", "v2"), CASES)
def test_limits(resources: LinuxResources, v1: list[str], v2: list[str]) -> None:
    weights = without(facts_of("v1"), weight_file="blkio.bfq.weight")
    assert limits(resources, weights) == v1
    assert limits(resources, facts_of("v2-delegated")) == v2


def test_io_weight_without_bfq() -> None:
    io = LinuxResources(
        block_io=LinuxBlockIO(weight=500, weight_device=(LinuxWeightDevice(major=8, minor=0, weight=10),))
    )
    assert limits(io, without(facts_of("v2-delegated"), weight_file="io.weight")) == [
        "io.weight = 4950",
        "io.weight = 8:0 1",
    ]
    with pytest.raises(NotSupported, match=r"a block IO weight \(--blkio-weight\) needs the BFQ scheduler"):
        limits(io, without(facts_of("v2-delegated"), weight_file=""))


def test_network_classes() -> None:
    network = LinuxResources(
        network=LinuxNetwork(class_id=0x100001, priorities=(LinuxInterfacePriority(name="eth0", priority=5),))
    )
    assert limits(network, facts_of("v1")) == ["net_cls.classid = 1048577", "net_prio.ifpriomap = eth0 5"]
    with pytest.raises(NotSupported, match="which cgroup v2 does not have"):
        limits(network, facts_of("v2-delegated"))


def test_unified() -> None:
    files = LinuxResources(
        unified={"memory.high": "1000000", "cgroup.max.depth": "3", "io.max": "8:0 rbps=1\n8:16 rbps=2"}
    )
    plan = plan_cgroup(files, PATH, facts_of("v2-fresh"), default_devices=())
    assert [say(op, "/sys/fs/cgroup/onggi/c1/") for op in plan.limits] == [
        "memory.high = 1000000",
        "cgroup.max.depth = 3",
        "io.max = 8:0 rbps=1",
        "io.max = 8:16 rbps=2",
    ]
    assert "onggi/cgroup.subtree_control = +io +memory" in [say(op) for op in plan.before]


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("../memory.max", "must be a file name"),
        ("memory", "must be in the form CONTROLLER.PARAMETER"),
        ("nosuch.max", "controller 'nosuch' not available"),
    ],
)
def test_unified_refusals(file: str, words: str) -> None:
    with pytest.raises((InvalidArgument, NotSupported), match=words):
        limits(LinuxResources(unified={file: "1"}), facts_of("v2-delegated"))


@pytest.mark.parametrize("host", ["v1", "hybrid"])
def test_unified_is_refused_on_v1(host: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid configuration: cannot use unified on cgroup v1"):
        limits(LinuxResources(unified={"memory.max": "1"}), facts_of(host))


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        (LinuxResources(memory=LinuxMemory(limit=2, swap=1)), "memory.swap limit should be >= memory limit"),
        (LinuxResources(memory=LinuxMemory(swap=1)), "it needs a memory limit too"),
        (LinuxResources(memory=LinuxMemory(limit=-2)), "memory limit -2"),
        (LinuxResources(memory=LinuxMemory(swappiness=101)), "the range is 0 to 100"),
        (LinuxResources(cpu=LinuxCPU(idle=2)), "cpu idle 2"),
        (
            LinuxResources(cpu=LinuxCPU(cpus="0-7")),
            "requested CPUs are not available: asked for 0-7, this host has 0-1",
        ),
        (LinuxResources(cpu=LinuxCPU(mems="1")), "requested memory nodes are not available"),
        (LinuxResources(cpu=LinuxCPU(cpus="1-0")), "is no list of CPUs"),
        (LinuxResources(cpu=LinuxCPU(cpus="0-99999999999")), "is no list of CPUs"),
        (LinuxResources(cpu=LinuxCPU(cpus="a,,b")), "is no list of CPUs"),
        (LinuxResources(block_io=LinuxBlockIO(weight=5)), "block IO weight 5: the range is 10 to 1000"),
        (LinuxResources(hugepage_limits=(LinuxHugepageLimit(page_size="3MB", limit=1),)), "this host has 2MB, 1GB"),
    ],
)
@pytest.mark.parametrize("host", ["v1", "hybrid", "v2-delegated"])
def test_bad_values(host: str, resources: LinuxResources, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        limits(resources, without(facts_of(host), weight_file="io.bfq.weight"))


@pytest.mark.parametrize(("shares", "words"), [(1, "minimum allowed cpu-shares is 2"), (2**20, "maximum .* is 262144")])
def test_shares_that_v1_would_clamp(shares: int, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        limits(LinuxResources(cpu=LinuxCPU(shares=shares)), facts_of("v1"))
    assert limits(LinuxResources(cpu=LinuxCPU(shares=shares)), facts_of("v2-delegated")) != []


@pytest.mark.parametrize(
    "leaf",
    [LinuxBlockIO(leaf_weight=10), LinuxBlockIO(weight_device=(LinuxWeightDevice(major=8, minor=0, leaf_weight=10),))],
)
def test_leaf_weights_are_gone(leaf: LinuxBlockIO) -> None:
    with pytest.raises(NotSupported, match="leaf weights"):
        limits(LinuxResources(block_io=leaf), facts_of("v1"))


def test_abilities_that_are_missing() -> None:
    v1, v2 = facts_of("v1"), facts_of("v2-delegated")
    realtime = LinuxResources(cpu=LinuxCPU(realtime_runtime=1000, realtime_period=10_000))
    assert limits(realtime, facts_of("hybrid")) == ["cpu.rt_period_us = 10000", "cpu.rt_runtime_us = 1000"]
    for facts in (v1, v2):
        with pytest.raises(NotSupported, match="CONFIG_RT_GROUP_SCHED"):
            limits(realtime, facts)
    with pytest.raises(NotSupported, match=r"cpu\.idle"):
        limits(LinuxResources(cpu=LinuxCPU(idle=1)), without(v1, cpu_idle=False))
    with pytest.raises(NotSupported, match="burst"):
        limits(LinuxResources(cpu=LinuxCPU(burst=1)), without(v1, cpu_burst=False))


@pytest.mark.parametrize("host", ["v1", "v2-delegated"])
def test_without_swap_accounting(host: str) -> None:
    facts = without(facts_of(host), swap=False)
    with pytest.raises(NotSupported, match="needs swap accounting"):
        limits(LinuxResources(memory=LinuxMemory(limit=MIB, swap=2 * MIB)), facts)
    for swap in (-1, MIB):
        plan = plan_cgroup(LinuxResources(memory=LinuxMemory(limit=MIB, swap=swap)), PATH, facts)
        assert len(plan.limits) == 1
        assert any("does not account for swap" in note for note in plan.notes)
    assert len(limits(LinuxResources(memory=LinuxMemory(limit=-1)), facts)) == 1


def test_what_v2_ignores_is_told() -> None:
    memory = LinuxMemory(limit=MIB, kernel=MIB, swappiness=10, disable_oom_killer=True)
    notes = plan_cgroup(LinuxResources(memory=memory), PATH, facts_of("v2-delegated")).notes
    assert [note.split(" has no effect")[0].split(" have no effect")[0] for note in notes] == [
        "kernel memory limits",
        "disabling the OOM killer",
        "memory swappiness",
    ]


def test_an_idle_group_has_no_shares() -> None:
    resources = LinuxResources(cpu=LinuxCPU(idle=1, shares=512))
    for host in ("v1", "v2-delegated"):
        assert limits(resources, facts_of(host)) == ["cpu.idle = 1"]
        [note] = plan_cgroup(resources, PATH, facts_of(host)).notes
        assert note.startswith("CPU shares have no effect")


# -- refusals ----------------------------------------------------------------------------------------------

MEMORY = LinuxResources(memory=LinuxMemory(limit=MIB))


def lost(facts: CgroupFacts, name: str, **changes: object) -> CgroupFacts:
    """The same host without one controller."""
    rest = {key: hierarchy for key, hierarchy in facts.controllers.items() if key != name}
    return without(facts, controllers=rest, **changes)


def test_a_controller_that_is_mounted_nowhere() -> None:
    with pytest.raises(NotSupported) as caught:
        limits(MEMORY, lost(facts_of("v1"), "memory"))
    assert str(caught.value) == (
        "a memory limit (--memory, linux.resources.memory) needs the memory controller, which is mounted nowhere on "
        "this host; the kernel has it: mount -t cgroup -o memory memory /sys/fs/cgroup/memory"
    )


def test_a_controller_that_the_kernel_lacks_or_has_switched_off() -> None:
    v1 = facts_of("v1")
    with pytest.raises(NotSupported, match="which this kernel was built without"):
        limits(MEMORY, lost(v1, "memory", kernel={"cpu": True}))
    with pytest.raises(NotSupported, match="remove cgroup_disable=memory from its command line"):
        limits(MEMORY, lost(v1, "memory", kernel={"memory": False}))


def test_a_controller_that_is_not_delegated() -> None:
    facts = facts_of("v2-delegated")
    assert facts.unified is not None
    unified = msgspec.structs.replace(facts.unified, controllers=("cpu",))
    with pytest.raises(NotSupported, match=r"which /sys/fs/cgroup/cgroup.controllers does not have.*Delegate=yes"):
        limits(MEMORY, lost(facts, "memory", unified=unified))


def test_a_host_without_cgroups() -> None:
    none = CgroupFacts(layout="none")
    with pytest.raises(NotSupported, match="no cgroups are mounted on this host; mount -t cgroup2 none /sys/fs/cgroup"):
        limits(MEMORY, none)
    plan = plan_cgroup(None, PATH, none, default_devices=())
    assert plan == CgroupPlan(notes=plan.notes)
    assert "in no cgroup of its own" in plan.notes[0]
    with pytest.raises(NotSupported, match="devices cannot be kept from the container here"):
        plan_cgroup(None, PATH, none)


def test_inside_an_unprivileged_container() -> None:
    for host in ("v1-container", "v2-container"):
        with pytest.raises(
            NotSupported, match=r"mounted read-only or belongs to somebody else|has processes of its own"
        ):
            limits(MEMORY, facts_of(host))
        assert plan_cgroup(None, PATH, facts_of(host), default_devices=()).before == ()


def test_inside_a_privileged_container_whose_cgroup_is_occupied() -> None:
    facts = facts_of("v2-privileged-container")
    with pytest.raises(NotSupported, match="which cannot be handed down here: /sys/fs/cgroup has processes of its own"):
        limits(MEMORY, facts)
    plan = plan_cgroup(None, PATH, facts)
    assert [say(op) for op in plan.before] == [
        "mkdir onggi",
        "mkdir onggi/c1",
        "open onggi/c1 as cgroup",
        "filter cgroup",
    ]


# -- devices -----------------------------------------------------------------------------------------------

ALLOW_ALL = LinuxResources(devices=(LinuxDeviceCgroup(allow=True, access="rwm"),))


def test_devices_by_version() -> None:
    assert (
        sum("devices/onggi/c1/devices." in say(op) for op in plan_cgroup(None, PATH, facts_of("hybrid")).before) == 11
    )
    [program] = [op for op in plan_cgroup(None, PATH, facts_of("v2-fresh")).before if isinstance(op, FilterDevices)]
    assert program.cgroup == "cgroup"


def test_all_devices() -> None:
    writes = [say(op) for op in plan_cgroup(ALLOW_ALL, PATH, facts_of("v1")).before if "/devices." in say(op)]
    assert writes == ["devices/onggi/c1/devices.allow = a"]
    assert not any(isinstance(op, FilterDevices) for op in plan_cgroup(ALLOW_ALL, PATH, facts_of("v2-fresh")).before)


def test_hybrid_without_the_v1_controller_uses_a_program() -> None:
    plan = plan_cgroup(None, PATH, lost(facts_of("hybrid"), "devices"))
    assert isinstance(plan.before[-1], FilterDevices)


def test_devices_in_a_user_namespace_are_the_kernels_business() -> None:
    for host in ("v1", "v2-delegated"):
        plan = plan_cgroup(None, PATH, without(facts_of(host), user_namespace=True))
        assert not any(isinstance(op, FilterDevices) or "/devices." in say(op) for op in plan.before)


def test_devices_without_the_right_to_load_programs() -> None:
    facts = facts_of("v2-delegated")
    assert facts.unified is not None
    facts = without(facts, unified=msgspec.structs.replace(facts.unified, device_filter=False))
    with pytest.raises(NotSupported, match="right to load BPF programs"):
        plan_cgroup(None, PATH, facts)
    plan_cgroup(ALLOW_ALL, PATH, facts)


# -- update, kept files, numbers ---------------------------------------------------------------------------


def test_update() -> None:
    directories = plan_cgroup(None, PATH, facts_of("v2-delegated")).directories
    resources = LinuxResources(memory=LinuxMemory(limit=MIB, swap=2 * MIB), pids=LinuxPids(limit=3))
    ops, notes = plan_update(resources, directories, facts_of("v2-delegated"))
    assert [say(op) for op in ops] == [
        "onggi/c1/memory.swap.max = 1048576",
        "onggi/c1/memory.max = 1048576",
        "onggi/c1/pids.max = 3",
    ]
    assert notes == ()


def test_update_touches_devices_only_when_told() -> None:
    for host in ("hybrid", "v2-delegated"):
        directories = plan_cgroup(None, PATH, facts_of(host)).directories
        assert plan_update(LinuxResources(pids=LinuxPids(limit=3)), directories, facts_of(host))[0][1:] == ()
        ops, _ = plan_update(ALLOW_ALL, directories, facts_of(host))
        assert [say(op) for op in ops] == [
            "filter cgroup" if host == "v2-delegated" else "devices/onggi/c1/devices.allow = a"
        ]


@pytest.mark.parametrize(
    ("kept", "count"),
    [
        ({}, 0),
        ({"memory.oom_control": b"oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"}, 2),
        ({"memory.events": b"low 0\nhigh 0\nmax 9\noom 1\noom_kill 1\noom_group_kill 0\n"}, 1),
        ({"memory.events": b"garbage"}, 0),
        ({"cpu.stat": b"oom_kill 3\n"}, 0),
    ],
)
def test_oom_kills(kept: dict[str, bytes], count: int) -> None:
    assert count_oom_kills(kept) == count


def test_weights() -> None:
    """The values of runc's own table (its cgroups library, since 0.0.5)."""
    shares = [0, 1, 2, 512, 1024, 2048, 262144, 1 << 30]
    assert [weight_of_shares(value) for value in shares] == [1, 1, 1, 59, 100, 174, 10000, 10000]
    assert [io_weight(value) for value in (10, 500, 1000)] == [1, 4950, 10000]


@given(st.integers(2, 262143))
def test_more_shares_are_never_less_weight(shares: int) -> None:
    assert 1 <= weight_of_shares(shares) <= weight_of_shares(shares + 1) <= 10_000


def optional(values: st.SearchStrategy[int]) -> st.SearchStrategy[int | None]:
    return st.none() | values


some_limits = st.builds(
    LinuxResources,
    memory=st.builds(LinuxMemory, limit=optional(st.integers(-1, 1 << 40)), swap=optional(st.integers(-1, 1 << 41))),
    cpu=st.builds(
        LinuxCPU,
        shares=optional(st.integers(0, 1 << 19)),
        quota=optional(st.integers(-1, 10**6)),
        period=optional(st.integers(0, 10**6)),
        idle=optional(st.integers(0, 1)),
        cpus=st.sampled_from([None, "", "0", "0-1"]),
    ),
    pids=st.builds(LinuxPids, limit=optional(st.integers(-1, 1 << 22))),
)


def files(ops: Iterable[Op]) -> set[str]:
    return {op.path for op in ops if isinstance(op, WriteFile)}


@given(some_limits, st.sampled_from(WRITABLE))
def test_a_limit_is_set_or_refused(resources: LinuxResources, host: str) -> None:
    """What is planned is written inside the container's own cgroup, where its controller has been handed down."""
    try:
        plan = plan_cgroup(resources, PATH, facts_of(host), default_devices=())
    except OnggiError:
        return
    assert files(plan.limits) <= files(plan.before)
    assert all("/onggi/c1/" in path for path in files(plan.limits))
    memory, pids = resources.memory, resources.pids
    assert bool(memory and (memory.limit or memory.swap)) == any("/memory." in path for path in files(plan.limits))
    assert bool(pids and pids.limit is not None) == any("/pids." in path for path in files(plan.limits))
    for op in plan.limits:
        controller = op.path.rpartition("/")[2].partition(".")[0]
        if plan.directories.get("unified", "?") == op.path.rpartition("/")[0]:
            handed = [o.data for o in plan.before if isinstance(o, WriteFile) and "onggi/cgroup.sub" in o.path]
            assert any(f"+{controller}".encode() in data for data in handed if isinstance(data, bytes))
