"""CPU time and placement (runtime-spec config-linux.md#cpu)."""

import math
from typing import Final

from onggi.base.errors import InvalidArgument, NotSupported
from onggi.plan.cgroup.host import Home, Host, Note, Wanted
from onggi.spec.runtime import LinuxCPU

_MIN_SHARES: Final = 2
_MAX_SHARES: Final = 262144  # MAX_SHARES of kernel/sched/sched.h
_DEFAULT_PERIOD_US: Final = 100_000
_MAX_CPU: Final = 1 << 16


def plan_cpu(cpu: LinuxCPU, host: Host) -> Wanted:
    """Say what goes into the cpu and cpuset controllers. 0 means unset, as for runc."""
    realtime = cpu.realtime_runtime or cpu.realtime_period
    if cpu.shares or cpu.quota or cpu.period or realtime or cpu.burst is not None or cpu.idle is not None:
        home = host.home("cpu", "a CPU limit (--cpus, --cpu-shares, linux.resources.cpu)")
        _check(cpu, host)
        if realtime and not (home.version == 1 and host.facts.cpu_realtime):
            raise NotSupported(
                "realtime CPU limits (--cpu-rt-runtime, --cpu-rt-period) need cgroup v1 and a kernel with "
                "CONFIG_RT_GROUP_SCHED; leave them out here"
            )
        yield from _version1(cpu, home) if home.version == 1 else _version2(cpu, home)
    if cpu.cpus or cpu.mems:
        home = host.home("cpuset", "CPU placement (--cpuset-cpus, --cpuset-mems, linux.resources.cpu.cpus)")
        if cpu.cpus:
            _check_list(cpu.cpus, host.facts.online_cpus, "CPUs")
            yield home.write("cpuset.cpus", cpu.cpus)
        if cpu.mems:
            _check_list(cpu.mems, host.facts.online_mems, "memory nodes")
            yield home.write("cpuset.mems", cpu.mems)


def weight_of_shares(shares: int) -> int:
    """Convert cpu.shares [2, 262144] to cpu.weight [1, 10000], 1024 to 100.

    The curve that runc has since 1.3.2 and crun since 1.23 (a quadratic function through
    the smallest, the default and the greatest value, on logarithmic scales).
    """
    if shares <= _MIN_SHARES:
        return 1
    if shares >= _MAX_SHARES:
        return 10_000
    exponent = math.log2(shares)
    return math.ceil(10 ** ((exponent * exponent + 125 * exponent) / 612 - 7 / 34))


def _check(cpu: LinuxCPU, host: Host) -> None:
    if cpu.idle not in (None, 0, 1):
        raise InvalidArgument(f"cpu idle {cpu.idle}: give 1 (SCHED_IDLE) or 0")
    if cpu.idle and not host.facts.cpu_idle:
        raise NotSupported("cpu idle needs cpu.idle, which kernels have since 5.15; use a small --cpu-shares instead")
    if cpu.burst and not host.facts.cpu_burst:
        raise NotSupported("a CPU burst needs cpu.cfs_burst_us, which this kernel does not have; leave it out")


def _version1(cpu: LinuxCPU, home: Home) -> Wanted:
    if cpu.shares and not _MIN_SHARES <= cpu.shares <= _MAX_SHARES:  # the kernel would clamp without a word
        end, bound = ("minimum", _MIN_SHARES) if cpu.shares < _MIN_SHARES else ("maximum", _MAX_SHARES)
        raise InvalidArgument(f"the {end} allowed cpu-shares is {bound}, not {cpu.shares}")
    yield from _weighted(cpu, home, "cpu.shares", cpu.shares or 0)
    if cpu.period:
        yield home.write("cpu.cfs_period_us", cpu.period)
    if cpu.quota:
        yield home.write("cpu.cfs_quota_us", cpu.quota)
    if cpu.burst is not None:
        yield home.write("cpu.cfs_burst_us", cpu.burst)
    if cpu.realtime_period:
        yield home.write("cpu.rt_period_us", cpu.realtime_period)
    if cpu.realtime_runtime:
        yield home.write("cpu.rt_runtime_us", cpu.realtime_runtime)


def _version2(cpu: LinuxCPU, home: Home) -> Wanted:
    yield from _weighted(cpu, home, "cpu.weight", weight_of_shares(cpu.shares or 0))
    if cpu.quota or cpu.period:
        quota = str(cpu.quota) if cpu.quota and cpu.quota > 0 else "max"
        yield home.write("cpu.max", f"{quota} {cpu.period or _DEFAULT_PERIOD_US}")
    if cpu.burst is not None:
        yield home.write("cpu.max.burst", cpu.burst)


def _weighted(cpu: LinuxCPU, home: Home, file: str, weight: int) -> Wanted:
    """Write weight and idle class. An idle group takes no weight (EINVAL), and one that becomes idle loses its own."""
    if cpu.idle is not None:
        yield home.write("cpu.idle", cpu.idle)
    if cpu.shares and not cpu.idle:
        yield home.write(file, weight)
    elif cpu.shares:
        yield Note("CPU shares have no effect: the container is in the idle class (linux.resources.cpu.idle)")


def _check_list(asked: str, online: str, what: str) -> None:
    wanted, available = _numbers(asked, what), _numbers(online, what)
    if not wanted <= available:
        raise InvalidArgument(f"requested {what} are not available: asked for {asked}, this host has {online}")


def _numbers(text: str, what: str) -> set[int]:
    numbers: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        last = last or first
        if not (first.isdecimal() and last.isdecimal()) or not int(first) <= int(last) < _MAX_CPU:
            raise InvalidArgument(f"{text!r} is no list of {what}; give numbers and ranges, like 0-2,7")
        numbers.update(range(int(first), int(last) + 1))
    return numbers
