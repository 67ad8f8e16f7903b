"""Limits of containers as flags, the same for `run`, `create` and `update`, and what they mean."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from onggi.base.errors import InvalidArgument
from onggi.base.units import parse_size
from onggi.cli.options import flag, repeated, single
from onggi.spec.container import ResourceRequest, ThrottleRequest

Options = Mapping[str, Any]


LIMIT_OPTIONS: Final = (
    single("-m", "--memory", help="Memory limit", metavar="BYTES"),
    single("--memory-swap", help="Memory and swap together; -1 for unlimited swap", metavar="BYTES"),
    single("--memory-reservation", help="Memory that is left when the host runs short", metavar="BYTES"),
    single("--cpus", help="Number of CPUs, such as 1.5", metavar="DECIMAL"),
    single("-c", "--cpu-shares", help="Relative weight of CPU time", kind=int, metavar="INT"),
    single("--cpu-quota", help="CPU time in a period, microseconds", kind=int, metavar="INT"),
    single("--cpu-period", help="Length of a period, microseconds", kind=int, metavar="INT"),
    single("--cpu-rt-runtime", help="Real-time CPU time in a period, microseconds", kind=int, metavar="INT"),
    single("--cpu-rt-period", help="Length of a real-time period, microseconds", kind=int, metavar="INT"),
    single("--cpuset-cpus", help="CPUs to run on, such as 0-2,4"),
    single("--cpuset-mems", help="Memory nodes to use"),
    single("--pids-limit", help="Number of processes; -1 for unlimited", kind=int, metavar="INT"),
    single("--blkio-weight", help="Weight of block device access, 10 to 1000", kind=int, metavar="INT"),
)
"""Those that a container that is there can be given anew."""

STARTING_LIMIT_OPTIONS: Final = (
    single("--memory-swappiness", help="Tendency to swap, 0 to 100", kind=int, metavar="INT"),
    flag("--oom-kill-disable", help="Let processes wait for memory instead of killing them (cgroup v1)"),
    repeated("--blkio-weight-device", help="The same for one device, PATH:WEIGHT"),
    repeated("--device-read-bps", help="Bytes a second read from a device, PATH:BYTES"),
    repeated("--device-write-bps", help="Bytes a second written to a device, PATH:BYTES"),
    repeated("--device-read-iops", help="Reads a second from a device, PATH:NUMBER"),
    repeated("--device-write-iops", help="Writes a second to a device, PATH:NUMBER"),
)


def changed_limits(options: Options) -> ResourceRequest:
    """Turn LIMIT_OPTIONS into limits. Raises InvalidArgument with Docker's texts where it has some."""
    return ResourceRequest(
        memory_bytes=parse_limit(options["memory"]) or None,
        memory_swap_bytes=parse_limit(options["memory_swap"]),
        memory_reservation_bytes=parse_limit(options["memory_reservation"]),
        nano_cpus=_nano_cpus(options["cpus"]),
        cpu_shares=options["cpu_shares"] or None,
        cpu_quota_us=options["cpu_quota"],
        cpu_period_us=options["cpu_period"],
        cpu_rt_runtime_us=options["cpu_rt_runtime"],
        cpu_rt_period_us=options["cpu_rt_period"],
        cpuset_cpus=options["cpuset_cpus"] or "",
        cpuset_mems=options["cpuset_mems"] or "",
        pids=options["pids_limit"],
        blkio_weight=options["blkio_weight"] or None,
    )


def make_limits(options: Options) -> ResourceRequest:
    """Turn all limits of `run` and `create` into a request."""
    return msgspec.structs.replace(
        changed_limits(options),
        memory_swappiness=options["memory_swappiness"],
        oom_kill_disable=options["oom_kill_disable"],
        blkio_weight_device=tuple(_throttle(text) for text in options["blkio_weight_device"]),
        read_bps=tuple(_throttle(text) for text in options["device_read_bps"]),
        write_bps=tuple(_throttle(text) for text in options["device_write_bps"]),
        read_iops=tuple(_throttle(text) for text in options["device_read_iops"]),
        write_iops=tuple(_throttle(text) for text in options["device_write_iops"]),
    )


def _nano_cpus(text: str | None) -> int | None:
    if text is None:
        return None
    whole, _, fraction = text.partition(".")
    if not (whole + fraction).isdigit() or len(fraction) > 9:
        raise InvalidArgument(
            f"invalid argument {text!r} for --cpus: expected a decimal number with at most nine places"
        )
    nano = int(whole or "0") * 1_000_000_000 + int(fraction.ljust(9, "0"))
    return nano or None


def _throttle(text: str) -> ThrottleRequest:
    path, colon, rate = text.rpartition(":")
    if not colon or not path.startswith("/"):
        raise InvalidArgument(f"bad format: {text}: expected PATH:RATE")
    return ThrottleRequest(path=path, rate=parse_size(rate))


def parse_limit(text: str | None) -> int | None:
    """Read a size; -1 is no limit."""
    return None if text is None else -1 if text == "-1" else parse_size(text)
