"""Weights and rates of block devices (runtime-spec config-linux.md#block-io)."""

from collections.abc import Iterable
from typing import Final

from onggi.base.errors import InvalidArgument, NotSupported
from onggi.plan.cgroup.host import Home, Host, Wanted
from onggi.spec.runtime import LinuxBlockIO, LinuxThrottleDevice

_MIN_WEIGHT: Final = 10
_MAX_WEIGHT: Final = 1000


def plan_io(io: LinuxBlockIO, host: Host) -> Wanted:
    """Say what goes into the blkio (v1) or io (v2) controller. A weight of 0 means unset, as for runc."""
    if io.leaf_weight or any(device.leaf_weight for device in io.weight_device or ()):
        raise NotSupported("leaf weights of block devices went away with the CFQ scheduler (5.0); use plain weights")
    weights = [(f"{d.major}:{d.minor}", d.weight) for d in io.weight_device or () if d.weight]
    rates = tuple(_rates(io))
    if not (io.weight or weights or rates):
        return
    home = host.home("blkio", "a block device limit (--blkio-weight, --device-read-bps, linux.resources.blockIO)")
    if io.weight or weights:
        yield from _weights(io.weight or 0, weights, home, host)
    for file, key, device in rates:
        number = f"{device.major}:{device.minor}"
        if home.version == 1:
            yield home.write(f"blkio.throttle.{file}", f"{number} {device.rate}")
        else:
            yield home.write("io.max", f"{number} {key}={device.rate or 'max'}")


def io_weight(weight: int) -> int:
    """Convert blkio.weight [10, 1000] to io.weight [1, 10000], linearly."""
    return 1 + (weight - _MIN_WEIGHT) * 9999 // (_MAX_WEIGHT - _MIN_WEIGHT)


def _rates(io: LinuxBlockIO) -> Iterable[tuple[str, str, LinuxThrottleDevice]]:
    for file, key, devices in (
        ("read_bps_device", "rbps", io.throttle_read_bps_device),
        ("write_bps_device", "wbps", io.throttle_write_bps_device),
        ("read_iops_device", "riops", io.throttle_read_iops_device),
        ("write_iops_device", "wiops", io.throttle_write_iops_device),
    ):
        for device in devices or ():
            yield file, key, device


def _weights(weight: int, devices: list[tuple[str, int]], home: Home, host: Host) -> Wanted:
    for value in (weight, *(value for _, value in devices)):
        if value and not _MIN_WEIGHT <= value <= _MAX_WEIGHT:
            raise InvalidArgument(f"block IO weight {value}: the range is {_MIN_WEIGHT} to {_MAX_WEIGHT}")
    file = host.facts.weight_file
    if not file:
        raise NotSupported(
            "a block IO weight (--blkio-weight) needs the BFQ scheduler or io.cost, which this kernel does not have; "
            "leave it out, or limit rates (--device-read-bps)"
        )
    # Devices have a file of their own on v1; on v2 it is the same one. io.weight alone has another scale.
    device_file = f"{file}_device" if home.version == 1 else file
    if weight:
        yield home.write(file, io_weight(weight) if file == "io.weight" else weight)
    for number, value in devices:
        yield home.write(device_file, f"{number} {io_weight(value) if file == 'io.weight' else value}")
