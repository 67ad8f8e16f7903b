"""Cgroups on this kernel: what plans write is what the kernel has then; counted, frozen, updated, emptied, removed.

Each test runs with the host as it is, and, where that has both, as if it had only the
v1 hierarchies or only the unified one.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import onggi
from onggi.base.errors import Conflict, FailedPrecondition, InvalidArgument, NotFound
from onggi.host.bpf import attached_device_filters, can_load_device_filter, load_device_filter
from onggi.host.cgroupfs import (
    check_memory_usage,
    check_vacant,
    freeze,
    is_frozen,
    kill_members,
    probe_cgroups,
    processes,
    read_statistics,
    remove_cgroup,
    thaw,
    update_limits,
)
from onggi.plan.cgroup import count_oom_kills, plan_cgroup, plan_refuge, plan_update
from onggi.plan.devices import compile_device_filter, parse_device_rules
from onggi.plan.facts import CgroupFacts
from onggi.plan.ops import WriteFile
from onggi.spec.runtime import (
    LinuxBlockIO,
    LinuxCPU,
    LinuxDeviceCgroup,
    LinuxHugepageLimit,
    LinuxMemory,
    LinuxPids,
    LinuxResources,
    LinuxThrottleDevice,
)
from tests.cgroup_world import Executor, Member, World, joined_by_writing, read, world

MIB = 1 << 20
ECHO = "for line in sys.stdin: say(line.strip())"
DENY_ALL = LinuxDeviceCgroup(allow=False, access="rwm")
KMSG = LinuxDeviceCgroup(allow=True, type="c", major=1, minor=11, access="r")


def seen_as(facts: CgroupFacts, what: str) -> CgroupFacts:
    """Give the facts of this host, or of one that has only a part of it."""
    if what == "the host as it is":
        return facts
    if facts.layout != "hybrid":
        pytest.skip(f"{what}: this host is {facts.layout}, not hybrid")
    version = 1 if what == "v1 alone" else 2
    controllers = {name: h for name, h in facts.controllers.items() if h.version == version}
    if version == 1:
        return msgspec.structs.replace(facts, layout="v1", controllers=controllers, unified=None)
    return msgspec.structs.replace(facts, layout="v2", controllers=controllers, named={})


@pytest.fixture(params=["the host as it is", "v1 alone", "v2 alone"])
def here(request: pytest.FixtureRequest) -> Iterator[World]:
    facts = probe_cgroups()
    if facts.layout == "none":
        pytest.skip("no cgroups are mounted here")
    with world(seen_as(facts, request.param)) as made:
        yield made


def needs(here: World, *controllers: str) -> None:
    """Skip where the kernel, or the part of it that is looked at, does not have a controller."""
    for controller in controllers:
        if controller not in here.facts.controllers:
            pytest.skip(f"this host has no {controller} controller in a {here.facts.layout} layout")


def some_disk() -> tuple[int, int]:
    for name in sorted(os.listdir("/sys/block")):
        block = Path("/sys/block", name)
        if not name.startswith(("loop", "ram", "zram")) and int((block / "size").read_text()):
            major, _, minor = (block / "dev").read_text().strip().partition(":")
            return int(major), int(minor)
    pytest.skip("this host has no disk")


# -- limits ------------------------------------------------------------------------------------------------


def test_probing_agrees_with_the_host() -> None:
    facts = probe_cgroups()
    for hierarchy in facts.controllers.values():
        assert os.path.isdir(hierarchy.mount + hierarchy.path)
    if facts.unified is not None:
        assert os.path.exists(f"{facts.unified.mount}/cgroup.controllers")
        assert not [name for name in os.listdir(facts.unified.mount) if name.startswith("onggi-probe")]


def test_probing_a_private_mount_namespace_with_cgroup2_on_top() -> None:
    if probe_cgroups().layout == "v2":
        pytest.skip("this host has cgroup2 there already")
    source = Path(onggi.__file__).parent.parent
    code = (
        "import msgspec, sys; from onggi.host.cgroupfs import probe_cgroups; "
        "sys.stdout.buffer.write(msgspec.json.encode(probe_cgroups()))"
    )
    script = 'mount -t cgroup2 none /sys/fs/cgroup && exec "$0" -B -c "$1"'
    out = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, sys.executable, code],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        check=True,
    ).stdout
    facts = msgspec.json.decode(out, type=CgroupFacts)
    assert facts.layout == "v2"
    assert facts.unified is not None
    assert facts.unified.mount == "/sys/fs/cgroup"
    assert set(facts.controllers) == set(facts.unified.controllers)


@pytest.mark.parametrize(
    ("controller", "resources"),
    [
        ("memory", LinuxResources(memory=LinuxMemory(limit=64 * MIB))),
        ("memory", LinuxResources(memory=LinuxMemory(limit=64 * MIB, swap=96 * MIB, reservation=32 * MIB))),
        ("memory", LinuxResources(memory=LinuxMemory(limit=64 * MIB, swap=64 * MIB))),
        ("memory", LinuxResources(memory=LinuxMemory(swappiness=10, disable_oom_killer=True))),
        ("cpu", LinuxResources(cpu=LinuxCPU(shares=512, quota=50_000, period=20_000, burst=10_000))),
        ("cpu", LinuxResources(cpu=LinuxCPU(idle=1))),
        ("cpuset", LinuxResources(cpu=LinuxCPU(cpus="0", mems="0"))),
        ("pids", LinuxResources(pids=LinuxPids(limit=7))),
        ("pids", LinuxResources(pids=LinuxPids(limit=-1))),
        ("hugetlb", LinuxResources(hugepage_limits=(LinuxHugepageLimit(page_size="2MB", limit=4 * MIB),))),
    ],
)  # fmt: skip
def test_limits_are_what_the_kernel_has_then(here: World, controller: str, resources: LinuxResources) -> None:
    needs(here, controller)
    if resources.memory is not None and resources.memory.swap and not here.facts.swap:
        pytest.skip("this kernel does not account for swap")
    assert_kernel_has(here.make(plan_cgroup(resources, here.path(), here.facts)).limits)


def test_rates_of_a_disk(here: World) -> None:
    if not {"blkio", "io"} & set(here.facts.controllers):
        needs(here, "blkio")
    major, minor = some_disk()
    rate = (LinuxThrottleDevice(major=major, minor=minor, rate=MIB),)
    resources = LinuxResources(
        block_io=LinuxBlockIO(
            weight=500 if here.facts.weight_file else None,
            throttle_read_bps_device=rate,
            throttle_write_bps_device=rate,
            throttle_read_iops_device=rate,
            throttle_write_iops_device=rate,
        )
    )
    plan = here.make(plan_cgroup(resources, here.path(), here.facts))
    assert len(plan.limits) == (5 if here.facts.weight_file else 4)
    assert_kernel_has(plan.limits)


def assert_kernel_has(writes: tuple[WriteFile, ...]) -> None:
    """Each word of the last write to a file is among what the file says now."""
    last = {op.path if "/io.max" not in op.path else (op.path, op.data): op for op in writes}
    for op in last.values():
        assert isinstance(op.data, bytes)
        text = Path(op.path).read_text()
        assert set(op.data.decode().split()) <= set(text.split()), f"{op.path}: {text!r}"


def test_cpuset_of_a_parent_is_inherited_and_left_alone(here: World) -> None:
    needs(here, "cpuset")
    here.make(plan_cgroup(LinuxResources(cpu=LinuxCPU(cpus="0")), here.path("a"), here.facts))
    plan = here.make(plan_cgroup(None, here.path("a/b"), here.facts))
    effective = "cpuset.effective_cpus" if "cpuset" in plan.directories else "cpuset.cpus.effective"
    with Member(plan, ECHO):
        parent = Path(plan.directories.get("cpuset", plan.directories.get("unified", ""))).parent
        assert (parent / "cpuset.cpus").read_text() == "0\n"
        if (parent / "b" / effective).exists():
            assert (parent / "b" / effective).read_text() == "0\n"


# -- life --------------------------------------------------------------------------------------------------


def test_a_whole_life_leaves_nothing(here: World) -> None:
    plan = here.make(plan_cgroup(None, here.path(), here.facts))
    with Member(plan, "import os\nif not os.fork(): hear()\nsay('ready')\nhear()") as member:
        assert member.hear() == "ready"
        for directory in plan.directories.values():
            assert member.pid in processes(directory)
            assert len(processes(directory)) == 2
        after = Executor()
        after.run(plan.after)
        assert member.wait() == -9
        assert set(after.kept) == {op.name for op in plan.keep if hasattr(op, "name") and after.kept.get(op.name)}
    assert not any(os.path.exists(directory) for directory in plan.directories.values())


def test_the_launcher_moves_to_its_refuge(here: World) -> None:
    path = here.path("supervisors")
    refuge = here.make(plan_refuge(path, here.facts))
    code = "import sys\nfor p in sys.argv[1:]: open(p, 'w').write('0')\nprint(open('/proc/self/cgroup').read())"
    paths = joined_by_writing(refuge)
    if "unified" in refuge.directories:  # the launcher goes on in a process that is born there
        paths.append(f"{refuge.directories['unified']}/cgroup.procs")
    text = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True).stdout
    assert sum(line.endswith(f":{path}") for line in text.splitlines()) == len(set(refuge.directories.values()))


def test_statistics(here: World, tmp_path: Path) -> None:
    limit = LinuxMemory(limit=256 * MIB) if "memory" in here.facts.controllers else None
    quota = LinuxCPU(quota=20_000, period=100_000) if "cpu" in here.facts.controllers else None
    pids = LinuxPids(limit=9) if "pids" in here.facts.controllers else None
    resources = LinuxResources(memory=limit, cpu=quota, pids=pids)
    plan = here.make(plan_cgroup(resources, here.path(), here.facts))
    code = f"""
import os, time
while time.process_time() < 0.06: pass
held = b"x" * {32 * MIB}
try:
    fd = os.open({str(tmp_path / "written")!r}, os.O_CREAT | os.O_WRONLY | os.O_DIRECT)
    import mmap
    os.write(fd, mmap.mmap(-1, {MIB}))
    say("wrote")
except OSError: say("no direct writes here")
hear()
"""
    with Member(plan, code) as member:
        wrote = member.hear() == "wrote"
        seen = read_statistics(plan.directories, hugepage_sizes=here.facts.hugepage_sizes)
    if seen.cpu is not None:
        assert 60_000_000 <= seen.cpu.usage_ns < 20_000_000_000
        assert 0 < seen.cpu.user_ns + seen.cpu.system_ns <= seen.cpu.usage_ns + 20_000_000
        assert (seen.cpu.periods > 0) == (seen.cpu.throttled_periods > 0) == (seen.cpu.throttled_ns > 0) == bool(quota)
    assert (seen.memory is not None) == bool(limit)
    if seen.memory is not None:
        assert 32 * MIB <= seen.memory.usage_bytes <= seen.memory.max_usage_bytes <= 256 * MIB
        assert seen.memory.limit_bytes == 256 * MIB
        assert 32 * MIB <= seen.memory.rss_bytes <= seen.memory.usage_bytes
        assert seen.memory.working_set_bytes >= 32 * MIB
        assert seen.memory.oom_kills == 0
        assert seen.memory.details
    assert seen.pids is not None
    assert (seen.pids.current, seen.pids.limit) == (1, 9 if pids else None)
    if wrote and {"blkio", "io"} & set(here.facts.controllers):
        assert sum(device.write_bytes for device in seen.devices) >= MIB
        assert sum(device.writes for device in seen.devices) >= 1
    if "unified" in plan.directories:
        assert {"cpu some", "memory full"} <= set(seen.pressure)


def test_statistics_of_what_is_gone(here: World) -> None:
    plan = plan_cgroup(None, here.path(), here.facts)
    with pytest.raises(NotFound, match="is gone"):
        read_statistics(plan.directories)


def test_out_of_memory_is_noticed(here: World) -> None:
    needs(here, "memory")
    memory = LinuxMemory(limit=32 * MIB, swap=32 * MIB if here.facts.swap else None)
    plan = here.make(plan_cgroup(LinuxResources(memory=memory), here.path(), here.facts))
    with Member(plan, f"held = b'x' * {128 * MIB}") as member:
        assert member.wait() == -9
    seen = read_statistics(plan.directories).memory
    assert seen is not None
    assert seen.oom_kills == 1
    executor = Executor()
    executor.run(plan.after)
    assert count_oom_kills(executor.kept) == 1


# -- devices -----------------------------------------------------------------------------------------------

TRY_DEVICES = """
import os
for line in sys.stdin:
    verb, path = line.split()
    try:
        if verb == "mknod": os.mknod(path, 0o20600, os.makedev(1, 11))
        else: os.close(os.open(path, {"read": os.O_RDONLY, "both": os.O_RDWR}[verb]))
        say("done")
    except OSError as error: say(error.strerror)
"""


def test_devices(here: World, tmp_path: Path) -> None:
    """The v1 controller and the program of v2 agree."""
    rules = LinuxResources(devices=(DENY_ALL,))
    plan = here.make(plan_cgroup(rules, here.path(), here.facts))
    with Member(plan, TRY_DEVICES) as member:

        def attempt(what: str) -> str:
            member.tell(what)
            return member.hear()

        assert attempt("both /dev/null") == "done"
        assert attempt("read /dev/kmsg") == "Operation not permitted"
        assert attempt(f"mknod {tmp_path / 'node'}") == "done"
        assert attempt("read /proc/self/stat") == "done"
        for devices, expected in (
            ((DENY_ALL, KMSG), ("done", "Operation not permitted")),
            ((DENY_ALL,), ("Operation not permitted",) * 2),
        ):
            ops, _ = plan_update(LinuxResources(devices=devices), plan.directories, here.facts)
            update_limits(ops, plan.directories)
            assert (attempt("read /dev/kmsg"), attempt("both /dev/null")) == expected


@given(
    st.lists(
        st.builds(
            LinuxDeviceCgroup,
            allow=st.booleans(),
            type=st.sampled_from("abc"),
            major=st.sampled_from([None, 1, 2**32 - 1]),
            minor=st.sampled_from([None, 3, 2**31]),
            access=st.sampled_from(["r", "rw", "rwm"]),
        ),
        max_size=12,
    )
)
def test_the_verifier_takes_every_program(rules: list[LinuxDeviceCgroup]) -> None:
    """It refuses what cannot be reached, registers that nobody wrote, verdicts other than 0 and 1."""
    if not can_load_device_filter():
        pytest.skip("BPF programs cannot be loaded here")
    os.close(load_device_filter(compile_device_filter(parse_device_rules(rules))))


def test_programs_do_not_pile_up() -> None:
    facts = probe_cgroups()
    if facts.unified is None or not facts.unified.device_filter:
        pytest.skip("this host has no cgroup v2, or loads no BPF programs")
    with world(seen_as(facts, "v2 alone") if facts.layout == "hybrid" else facts) as here:
        plan = here.make(plan_cgroup(LinuxResources(devices=(DENY_ALL,)), here.path(), here.facts))
        for _ in range(3):
            update_limits(
                plan_update(LinuxResources(devices=(KMSG,)), plan.directories, here.facts)[0], plan.directories
            )
        cgroup = os.open(plan.directories["unified"], os.O_RDONLY)
        try:
            assert len(attached_device_filters(cgroup)) == 1
        finally:
            os.close(cgroup)


# -- freeze, update, kill ------------------------------------------------------------------------------------


def test_freeze_and_thaw(here: World) -> None:
    plan = here.make(plan_cgroup(None, here.path(), here.facts))
    with Member(plan, ECHO) as member:
        member.tell("one")
        assert member.hear() == "one"
        freeze(plan.directories)
        assert is_frozen(plan.directories)
        with pytest.raises(Conflict, match="not empty"):
            check_vacant(plan.directories)
        member.tell("two")
        assert member.is_silent(0.05)
        thaw(plan.directories)
        assert not is_frozen(plan.directories)
        assert member.hear() == "two"


def test_vacancy(here: World) -> None:
    plan = here.make(plan_cgroup(None, here.path(), here.facts))
    check_vacant(plan.directories)
    freeze(plan.directories)
    with pytest.raises(Conflict, match="unexpectedly frozen"):
        check_vacant(plan.directories)
    thaw(plan.directories)
    check_vacant(plan.directories)


def test_a_frozen_cgroup_is_killed_and_removed_with_those_beneath_it(here: World) -> None:
    plan = here.make(plan_cgroup(None, here.path(), here.facts))
    inner = here.make(plan_cgroup(None, here.path("c1/inner"), here.facts))
    with Member(inner, "import os\nfor _ in range(5):\n  if not os.fork(): break\nsay('ready')\nhear()") as member:
        assert member.hear() == "ready"
        freeze(plan.directories)
        with pytest.raises(Conflict, match="process"):
            remove_cgroup(plan.directories, patience_s=0.01)
        kill_members(plan.directories)
        assert member.wait() == -9
        remove_cgroup(plan.directories)
        assert not any(os.path.exists(directory) for directory in plan.directories.values())
        kill_members(plan.directories)
        remove_cgroup(plan.directories)


def test_memory_limits_pass_each_other(here: World) -> None:
    needs(here, "memory")
    if not here.facts.swap:
        pytest.skip("this kernel does not account for swap")
    first = LinuxResources(memory=LinuxMemory(limit=64 * MIB, swap=64 * MIB))
    plan = here.make(plan_cgroup(first, here.path(), here.facts))
    for limit, swap in ((128, 256), (32, 32), (64, 1024), (512, 768), (-1, -1), (16, 20)):
        memory = LinuxMemory(limit=limit * MIB if limit > 0 else -1, swap=swap * MIB if swap > 0 else -1)
        update_limits(plan_update(LinuxResources(memory=memory), plan.directories, here.facts)[0], plan.directories)
        seen = read_statistics(plan.directories).memory
        assert seen is not None
        assert (seen.limit_bytes, seen.swap_limit_bytes) == (
            limit * MIB if limit > 0 else None,
            swap * MIB if swap > 0 else None,
        )


def test_period_and_quota_pass_each_other(here: World) -> None:
    needs(here, "cpu")
    plan = here.make(plan_cgroup(LinuxResources(cpu=LinuxCPU(quota=50_000)), here.path(), here.facts))
    for cpu in (
        LinuxCPU(quota=2000, period=1000),
        LinuxCPU(quota=900_000, period=1_000_000),
        LinuxCPU(idle=1, shares=20),
    ):
        ops = plan_update(LinuxResources(cpu=cpu), plan.directories, here.facts)[0]
        update_limits(ops, plan.directories)
        assert_kernel_has(tuple(op for op in ops if isinstance(op, WriteFile)))


def test_a_limit_that_does_not_fit_is_refused_in_a_sentence(here: World) -> None:
    needs(here, "memory")
    plan = here.make(plan_cgroup(LinuxResources(memory=LinuxMemory(limit=64 * MIB)), here.path(), here.facts))
    with Member(plan, f"held = b'x' * {32 * MIB}\nsay('ready')\nhear()") as member:
        assert member.hear() == "ready"
        with pytest.raises(FailedPrecondition, match="rejecting memory limit 1048576 <= usage"):
            check_memory_usage(MIB, None, plan.directories)
        check_memory_usage(60 * MIB, -1, plan.directories)
        if "memory" in plan.directories and not here.facts.swap:
            ops = plan_update(LinuxResources(memory=LinuxMemory(limit=4096)), plan.directories, here.facts)[0]
            with pytest.raises(
                FailedPrecondition, match=r"set memory\.limit_in_bytes of .* its processes use \d+ bytes"
            ):
                update_limits(ops, plan.directories)


def test_updates_of_what_is_gone_or_nonsense(here: World) -> None:
    needs(here, "pids")
    plan = plan_cgroup(None, here.path(), here.facts)
    ops, _ = plan_update(LinuxResources(pids=LinuxPids(limit=3)), plan.directories, here.facts)
    with pytest.raises(NotFound, match="the cgroup is gone"):
        update_limits(ops, plan.directories)
    here.make(plan)
    bad = WriteFile(path=ops[0].path if isinstance(ops[0], WriteFile) else "", data=b"many")
    if os.path.exists(bad.path):
        with pytest.raises(InvalidArgument, match=r"set pids\.max of .* to many: invalid argument"):
            update_limits([bad], plan.directories)


def test_kept_files_are_read(here: World) -> None:
    plan = here.make(plan_cgroup(None, here.path(), here.facts))
    executor = Executor()
    executor.run(plan.keep)
    expected = {"cpu.stat"} if here.facts.layout == "v2" else {"memory.oom_control", "cpuacct.usage"}
    assert expected <= set(executor.kept)
    assert read(plan, "cpuacct", "cgroup.procs") == ""
