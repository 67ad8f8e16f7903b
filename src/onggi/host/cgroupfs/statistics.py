"""Reads what a cgroup has used: the numbers behind `stats` and the events of an OCI runtime.

`directories` is what `CgroupPlan` has under that name: v1 controllers by name, and
"unified". A controller that has no directory of its own is looked for in the unified
one; what is nowhere to be read is None.
"""

import os
from collections.abc import Mapping
from typing import Final

import msgspec

from onggi.base.errors import NotFound
from onggi.plan.cgroup import UNIFIED

from .files import read, read_number, read_pairs
from .members import main_directory

_UNLIMITED_V1: Final = 1 << 62  # v1 shows "no limit" as the greatest number of whole pages
_V1_IO: Final = ("blkio.bfq.io_{}_recursive", "blkio.throttle.io_{}_recursive", "blkio.throttle.io_{}")


class CpuStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """CPU time in nanoseconds, and how often the quota was used up."""

    usage_ns: int = 0
    user_ns: int = 0
    system_ns: int = 0
    per_cpu_ns: tuple[int, ...] = ()
    periods: int = 0
    throttled_periods: int = 0
    throttled_ns: int = 0


class MemoryStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Memory in bytes; a limit of None is none. `details` is memory.stat."""

    usage_bytes: int = 0
    max_usage_bytes: int = 0
    limit_bytes: int | None = None
    cache_bytes: int = 0
    rss_bytes: int = 0
    inactive_file_bytes: int = 0
    swap_bytes: int = 0
    swap_limit_bytes: int | None = None
    limit_hits: int = 0
    oom_kills: int = 0
    details: dict[str, int] = {}

    @property
    def working_set_bytes(self) -> int:
        """Usage without the page cache that the kernel would give up first: what `docker stats` shows."""
        return max(self.usage_bytes - self.inactive_file_bytes, 0)


class PidsStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Number of tasks; a limit of None is none."""

    current: int = 0
    limit: int | None = None


class DeviceStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What one block device was asked for."""

    major: int
    minor: int
    read_bytes: int = 0
    write_bytes: int = 0
    reads: int = 0
    writes: int = 0


class HugepageStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Huge pages of one size, in bytes."""

    usage_bytes: int = 0
    max_usage_bytes: int = 0
    limit_hits: int = 0


class Pressure(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a PSI file: shares of time in percent, and the total in microseconds."""

    avg10: float = 0.0
    avg60: float = 0.0
    avg300: float = 0.0
    total_us: int = 0


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is counted for one cgroup. `pressure` has keys like "memory some"."""

    cpu: CpuStatistics | None = None
    memory: MemoryStatistics | None = None
    pids: PidsStatistics | None = None
    devices: tuple[DeviceStatistics, ...] = ()
    hugepages: dict[str, HugepageStatistics] = {}
    pressure: dict[str, Pressure] = {}


def read_statistics(directories: Mapping[str, str], *, hugepage_sizes: tuple[str, ...] = ()) -> Statistics:
    """Read all counters of a cgroup. Raises NotFound when the cgroup is gone."""
    if not os.path.exists(main := main_directory(directories)):
        raise NotFound(f"cgroup {main} is gone; its container has ended")
    v1, unified = directories, directories.get(UNIFIED)
    return Statistics(
        cpu=_cpu_v1(v1) if "cpuacct" in v1 else _cpu_v2(unified) if unified else None,
        memory=_memory_v1(v1["memory"]) if "memory" in v1 else _memory_v2(unified) if unified else None,
        pids=_pids(v1["pids"]) if "pids" in v1 else _pids(unified) if unified else None,
        devices=_devices_v1(v1["blkio"]) if "blkio" in v1 else _devices_v2(unified) if unified else (),
        hugepages=_hugepages(v1.get("hugetlb"), unified, hugepage_sizes),
        pressure=_pressure(unified) if unified else {},
    )


def _cpu_v1(directories: Mapping[str, str]) -> CpuStatistics | None:
    accounts = directories["cpuacct"]
    if (usage := read_number(f"{accounts}/cpuacct.usage")) is None:
        return None
    throttling = read_pairs(f"{directories['cpu']}/cpu.stat") if "cpu" in directories else {}
    return CpuStatistics(
        usage_ns=usage,
        user_ns=read_number(f"{accounts}/cpuacct.usage_user") or 0,
        system_ns=read_number(f"{accounts}/cpuacct.usage_sys") or 0,
        per_cpu_ns=tuple(int(text) for text in read(f"{accounts}/cpuacct.usage_percpu").split()),
        periods=throttling.get("nr_periods", 0),
        throttled_periods=throttling.get("nr_throttled", 0),
        throttled_ns=throttling.get("throttled_time", 0),
    )


def _cpu_v2(directory: str) -> CpuStatistics | None:
    counters = read_pairs(f"{directory}/cpu.stat")
    if not counters:
        return None
    return CpuStatistics(
        usage_ns=counters.get("usage_usec", 0) * 1000,
        user_ns=counters.get("user_usec", 0) * 1000,
        system_ns=counters.get("system_usec", 0) * 1000,
        periods=counters.get("nr_periods", 0),
        throttled_periods=counters.get("nr_throttled", 0),
        throttled_ns=counters.get("throttled_usec", 0) * 1000,
    )


def _memory_v1(directory: str) -> MemoryStatistics | None:
    if (usage := read_number(f"{directory}/memory.usage_in_bytes")) is None:
        return None
    details = read_pairs(f"{directory}/memory.stat")
    together = read_number(f"{directory}/memory.memsw.usage_in_bytes")
    return MemoryStatistics(
        usage_bytes=usage,
        max_usage_bytes=read_number(f"{directory}/memory.max_usage_in_bytes") or 0,
        limit_bytes=_limit_v1(f"{directory}/memory.limit_in_bytes"),
        cache_bytes=details.get("total_cache", 0),
        rss_bytes=details.get("total_rss", 0),
        inactive_file_bytes=details.get("total_inactive_file", 0),
        swap_bytes=details.get("total_swap", max((together or 0) - usage, 0)),
        swap_limit_bytes=_limit_v1(f"{directory}/memory.memsw.limit_in_bytes"),
        limit_hits=read_number(f"{directory}/memory.failcnt") or 0,
        oom_kills=read_pairs(f"{directory}/memory.oom_control").get("oom_kill", 0),
        details=details,
    )


def _memory_v2(directory: str) -> MemoryStatistics | None:
    if (usage := read_number(f"{directory}/memory.current")) is None:
        return None
    details, events = read_pairs(f"{directory}/memory.stat"), read_pairs(f"{directory}/memory.events")
    limit, swap_limit = read_number(f"{directory}/memory.max"), read_number(f"{directory}/memory.swap.max")
    return MemoryStatistics(
        usage_bytes=usage,
        max_usage_bytes=read_number(f"{directory}/memory.peak") or 0,
        limit_bytes=limit,
        cache_bytes=details.get("file", 0),
        rss_bytes=details.get("anon", 0),
        inactive_file_bytes=details.get("inactive_file", 0),
        swap_bytes=read_number(f"{directory}/memory.swap.current") or 0,
        # Memory and swap together, as v1 and everybody's tools have it.
        swap_limit_bytes=None if limit is None or swap_limit is None else limit + swap_limit,
        limit_hits=events.get("max", 0),
        oom_kills=events.get("oom_kill", 0),
        details=details,
    )


def _pids(directory: str) -> PidsStatistics | None:
    current = read_number(f"{directory}/pids.current")
    if current is None:  # v2 without the controller still has the list
        if not os.path.exists(f"{directory}/cgroup.procs"):
            return None
        current = len(read(f"{directory}/cgroup.threads").split())
    return PidsStatistics(current=current, limit=read_number(f"{directory}/pids.max"))


def _devices_v1(directory: str) -> tuple[DeviceStatistics, ...]:
    """Read the first set of files that has anything: which one counts depends on the scheduler of the device."""
    for pattern in _V1_IO:
        counters: dict[tuple[int, int], dict[str, int]] = {}
        for kind, names in (("service_bytes", ("read_bytes", "write_bytes")), ("serviced", ("reads", "writes"))):
            for line in read(f"{directory}/{pattern.format(kind)}").splitlines():
                device, _, rest = line.partition(" ")
                operation, _, value = rest.partition(" ")
                if ":" in device and operation in ("Read", "Write"):
                    name = names[operation == "Write"]
                    counters.setdefault(_device(device), {})[name] = int(value)
        if counters:
            return _sorted_devices(counters)
    return ()


def _devices_v2(directory: str) -> tuple[DeviceStatistics, ...]:
    names = {"rbytes": "read_bytes", "wbytes": "write_bytes", "rios": "reads", "wios": "writes"}
    counters: dict[tuple[int, int], dict[str, int]] = {}
    for line in read(f"{directory}/io.stat").splitlines():
        device, *values = line.split()
        if ":" not in device:
            continue
        found = {key: int(value) for key, _, value in (text.partition("=") for text in values) if key in names}
        if found:
            counters[_device(device)] = {names[key]: value for key, value in found.items()}
    return _sorted_devices(counters)


def _device(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(":")
    return int(major), int(minor)


def _sorted_devices(counters: Mapping[tuple[int, int], Mapping[str, int]]) -> tuple[DeviceStatistics, ...]:
    return tuple(
        DeviceStatistics(
            major=major,
            minor=minor,
            read_bytes=values.get("read_bytes", 0),
            write_bytes=values.get("write_bytes", 0),
            reads=values.get("reads", 0),
            writes=values.get("writes", 0),
        )
        for (major, minor), values in sorted(counters.items())
    )


def _hugepages(v1: str | None, unified: str | None, sizes: tuple[str, ...]) -> dict[str, HugepageStatistics]:
    found: dict[str, HugepageStatistics] = {}
    for size in sizes:
        if v1 is not None and (usage := read_number(f"{v1}/hugetlb.{size}.usage_in_bytes")) is not None:
            found[size] = HugepageStatistics(
                usage_bytes=usage,
                max_usage_bytes=read_number(f"{v1}/hugetlb.{size}.max_usage_in_bytes") or 0,
                limit_hits=read_number(f"{v1}/hugetlb.{size}.failcnt") or 0,
            )
        elif unified is not None and (usage := read_number(f"{unified}/hugetlb.{size}.current")) is not None:
            hits = read_pairs(f"{unified}/hugetlb.{size}.events").get("max", 0)
            found[size] = HugepageStatistics(usage_bytes=usage, limit_hits=hits)
    return found


def _pressure(directory: str) -> dict[str, Pressure]:
    found: dict[str, Pressure] = {}
    for resource in ("cpu", "memory", "io"):
        for line in read(f"{directory}/{resource}.pressure").splitlines():
            kind, *fields = line.split()
            values = dict(text.split("=", 1) for text in fields)
            found[f"{resource} {kind}"] = Pressure(
                avg10=float(values["avg10"]),
                avg60=float(values["avg60"]),
                avg300=float(values["avg300"]),
                total_us=int(values["total"]),
            )
    return found


def _limit_v1(path: str) -> int | None:
    value = read_number(path)
    return None if value is None or value >= _UNLIMITED_V1 else value
