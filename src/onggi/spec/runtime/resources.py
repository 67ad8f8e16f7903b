"""`linux.resources`: what the container's cgroup allows (runtime-spec config-linux.md#control-groups)."""

import msgspec

from ._base import Int64, Object, UInt16, UInt32, UInt64, check_uint64


class LinuxDeviceCgroup(Object, frozen=True, kw_only=True):
    """One rule of the device controller: `type` is a, b or c; an absent number means all."""

    allow: bool
    type: str | None = None
    major: Int64 | None = None
    minor: Int64 | None = None
    access: str | None = None


class LinuxMemory(Object, frozen=True, kw_only=True):
    """Memory limits in bytes, -1 is unlimited; `swap` is memory and swap together."""

    limit: Int64 | None = None
    reservation: Int64 | None = None
    swap: Int64 | None = None
    kernel: Int64 | None = None
    kernel_tcp: Int64 | None = msgspec.field(default=None, name="kernelTCP")
    swappiness: UInt64 | None = None
    disable_oom_killer: bool | None = msgspec.field(default=None, name="disableOOMKiller")
    use_hierarchy: bool | None = None
    check_before_update: bool | None = None

    def __post_init__(self) -> None:
        check_uint64(swappiness=self.swappiness)


class LinuxCPU(Object, frozen=True, kw_only=True):
    """CPU time (microseconds) and placement; `idle` 1 is SCHED_IDLE."""

    shares: UInt64 | None = None
    quota: Int64 | None = None
    burst: UInt64 | None = None
    period: UInt64 | None = None
    realtime_runtime: Int64 | None = None
    realtime_period: UInt64 | None = None
    cpus: str | None = None
    mems: str | None = None
    idle: Int64 | None = None

    def __post_init__(self) -> None:
        check_uint64(shares=self.shares, burst=self.burst, period=self.period, realtimePeriod=self.realtime_period)


class LinuxPids(Object, frozen=True, kw_only=True):
    """Number of tasks; -1 is unlimited."""

    limit: Int64 | None = None


class LinuxWeightDevice(Object, frozen=True, kw_only=True):
    """Weight of one block device."""

    major: Int64
    minor: Int64
    weight: UInt16 | None = None
    leaf_weight: UInt16 | None = None


class LinuxThrottleDevice(Object, frozen=True, kw_only=True):
    """Rate limit of one block device, in bytes or operations per second."""

    major: Int64
    minor: Int64
    rate: UInt64

    def __post_init__(self) -> None:
        check_uint64(rate=self.rate)


class LinuxBlockIO(Object, frozen=True, kw_only=True):
    """Weights and rates of block devices."""

    weight: UInt16 | None = None
    leaf_weight: UInt16 | None = None
    weight_device: tuple[LinuxWeightDevice, ...] | None = None
    throttle_read_bps_device: tuple[LinuxThrottleDevice, ...] | None = None
    throttle_write_bps_device: tuple[LinuxThrottleDevice, ...] | None = None
    throttle_read_iops_device: tuple[LinuxThrottleDevice, ...] | None = msgspec.field(
        default=None, name="throttleReadIOPSDevice"
    )
    throttle_write_iops_device: tuple[LinuxThrottleDevice, ...] | None = msgspec.field(
        default=None, name="throttleWriteIOPSDevice"
    )


class LinuxHugepageLimit(Object, frozen=True, kw_only=True):
    """Limit in bytes for one page size, written as `2MB`, `1GB`."""

    page_size: str
    limit: UInt64

    def __post_init__(self) -> None:
        check_uint64(limit=self.limit)


class LinuxInterfacePriority(Object, frozen=True, kw_only=True):
    """net_prio of one interface."""

    name: str
    priority: UInt32


class LinuxNetwork(Object, frozen=True, kw_only=True):
    """net_cls and net_prio (cgroup v1)."""

    class_id: UInt32 | None = msgspec.field(default=None, name="classID")
    priorities: tuple[LinuxInterfacePriority, ...] | None = None


class LinuxRdma(Object, frozen=True, kw_only=True):
    """Limits of one RDMA device."""

    hca_handles: UInt32 | None = None
    hca_objects: UInt32 | None = None


class LinuxResources(Object, frozen=True, kw_only=True):
    """Everything that goes into the cgroup; `unified` are cgroup v2 files with their text."""

    devices: tuple[LinuxDeviceCgroup, ...] | None = None
    memory: LinuxMemory | None = None
    cpu: LinuxCPU | None = None
    pids: LinuxPids | None = None
    block_io: LinuxBlockIO | None = msgspec.field(default=None, name="blockIO")
    hugepage_limits: tuple[LinuxHugepageLimit, ...] | None = None
    network: LinuxNetwork | None = None
    rdma: dict[str, LinuxRdma] | None = None
    unified: dict[str, str] | None = None
