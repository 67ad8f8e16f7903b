"""`onggi update`: new limits for containers that run, read in their cgroups, and for those that do not."""

from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from onggi import Conflict, InvalidArgument, NotFound, ResourceRequest
from onggi.plan.cgroup import plan_directories
from onggi.plan.facts import Facts
from onggi.spec.container import ContainerRequest
from tests.homes import IMAGE, Home

MIB = 1 << 20


def limit(home: Home, facts: Facts, container: str, v1: str, v2: str) -> str:
    """Read a limit in the container's cgroup, whichever version has it."""
    id = home.engine.containers.get(container).id
    for key, directory in plan_directories(f"{home.engine.cgroup_parent}/{id}", facts.cgroup).items():
        for name in (v1, v2):
            if (place := Path(directory, name)).exists():
                assert key
                return place.read_text().strip()
    raise AssertionError(f"neither {v1} nor {v2} is there")


def memory(home: Home, facts: Facts, container: str) -> int:
    """Read the memory limit."""
    return int(limit(home, facts, container, "memory.limit_in_bytes", "memory.max"))


def test_a_running_container_is_limited_at_once(home: Home, facts: Facts) -> None:
    home.start("sleep", "600", name="box")
    assert home.ok("update", "-m", "64m", "--memory-swap", "96m", "--pids-limit", "20", "box") == "box\n"
    assert memory(home, facts, "box") == 64 * MIB
    assert limit(home, facts, "box", "pids.max", "pids.max") == "20"
    # Below and above what is there: neither value may pass the other on the way.
    for size, swap in ((256, 512), (32, 48)):
        home.ok("update", "-m", f"{size}m", "--memory-swap", f"{swap}m", "box")
        assert memory(home, facts, "box") == size * MIB
    home.ok("container", "update", "--cpu-quota", "50000", "--cpu-shares", "512", "--cpuset-cpus", "0", "box")
    assert limit(home, facts, "box", "cpu.cfs_quota_us", "cpu.max").split()[0] == "50000"
    assert limit(home, facts, "box", "cpuset.cpus", "cpuset.cpus") == "0"
    assert memory(home, facts, "box") == 32 * MIB
    home.ok("update", "--pids-limit", "-1", "box")
    assert limit(home, facts, "box", "pids.max", "pids.max") == "max"


def test_a_stopped_container_has_them_at_its_next_start(home: Home, facts: Facts) -> None:
    home.ok("create", "--name", "box", "--network", "none", "--pids-limit", "30", IMAGE, "sleep", "600")
    assert home.ok("update", "-m", "64m", "box") == "box\n"
    home.ok("start", "box")
    assert memory(home, facts, "box") == 64 * MIB
    assert limit(home, facts, "box", "pids.max", "pids.max") == "30"
    home.ok("kill", "box")
    home.ok("update", "-m", "80m", "box")
    home.ok("start", "box")
    assert memory(home, facts, "box") == 80 * MIB


def test_a_paused_container_too(home: Home, facts: Facts) -> None:
    container = home.start("sleep", "600", name="box")
    container.pause()
    assert list(container.update(ResourceRequest(pids=40))) == []
    assert limit(home, facts, "box", "pids.max", "pids.max") == "40"


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ((), "you must provide one or more flags when using this command"),
        (("-m", "1m"), "Minimum memory limit allowed is 6MB"),
        (("-m", "32m", "--memory-swap", "16m"), "Minimum memoryswap limit should be larger than memory limit"),
        (("-m", "200m"), "Memory limit should be smaller than already set memoryswap limit, update the memoryswap"),
        (("-m", "32m", "--memory-reservation", "64m"), "can not be less than memory reservation limit"),
        (("--cpu-quota", "5000"), "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set"),
        (("--cpu-period", "5000"), "Conflicting options: CPU Period cannot be updated as NanoCPUs has already"),
        (("--cpuset-cpus", "4000"), "requested CPUs are not available"),
        (("--blkio-weight", "5"), "Range of blkio weight is from 10 to 1000"),
        (("--cpus", "many"), "invalid argument 'many' for --cpus"),
        (("--restart", "always"), "--restart always: restart policies"),
    ],
)
def test_what_is_refused_changes_nothing(home: Home, facts: Facts, flags: tuple[str, ...], text: str) -> None:
    home.ok("run", "-d", "--name", "box", "--network", "none", "-m", "64m", "--memory-swap", "96m", "--cpus", "0.5",
            IMAGE, "sleep", "600")  # fmt: skip
    before = home.engine.containers.request("box")
    done = home.onggi("update", *flags, "box")
    assert done.returncode in (1, 125)
    assert text in done.stderr
    assert home.engine.containers.request("box") == before
    assert memory(home, facts, "box") == 64 * MIB


def test_the_others_are_changed_where_one_is_not_there(home: Home, facts: Facts) -> None:
    home.start("sleep", "600", name="box")
    done = home.onggi("update", "--pids-limit", "9", "nope", "box")
    assert (done.returncode, done.stdout, done.stderr) == (1, "box\n", "onggi: No such container: nope\n")
    assert limit(home, facts, "box", "pids.max", "pids.max") == "9"
    with pytest.raises(NotFound):
        home.engine.containers.update("nope", ResourceRequest(pids=9))


def test_limits_that_run_refuses_too(home: Home) -> None:
    done = home.onggi("create", "--network", "none", "--memory-swap", "64m", IMAGE)
    assert "You should always set the Memory limit when using Memoryswap limit" in done.stderr
    done = home.onggi("run", "--network", "none", "--cpus", "1", "--cpu-period", "10000", IMAGE)
    assert (done.returncode, "Nano CPUs and CPU Period cannot both be set" in done.stderr) == (125, True)


def test_nano_cpus_do_not_follow_a_quota(home: Home) -> None:
    container = home.start("sleep", "600", resources=ResourceRequest(cpu_quota_us=50_000))
    with pytest.raises(Conflict, match="Nano CPUs cannot be updated as CPU Quota has already been set"):
        container.update(ResourceRequest(nano_cpus=10**9))
    with pytest.raises(InvalidArgument, match="cfs period"):
        container.update(ResourceRequest(cpu_period_us=10))


def test_without_swap_accounting_a_memory_limit_works_and_warns(home: Home, facts: Facts) -> None:
    cgroup = msgspec.structs.replace(facts.cgroup, swap=False)
    with closing(home.another()) as engine:
        engine._context._known = msgspec.structs.replace(facts, cgroup=cgroup)
        request = ContainerRequest(network="none", resources=ResourceRequest(memory_bytes=64 << 20))
        container = engine.containers.run(IMAGE, ["true"], request=request)
        assert container.wait() == 0
        assert engine.containers.warnings(request)
    said = home.onggi("run", "--rm", "--network", "none", "--oom-kill-disable", IMAGE, "true")
    assert said.returncode == 0
    assert said.stderr.startswith("WARNING: ")
    assert home.onggi("run", "--rm", "--network", "none", "-m", "64m", IMAGE, "true").stderr == ""
