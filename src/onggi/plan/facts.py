"""What planners know about the host. Plain values, JSON by msgspec; `host/` observes them.

Facts are probed by doing, not by kernel version, and are cached per boot. A plan
is a function of the spec and of these, so `config.json` and `facts.json` together
are a whole bug report.
"""

from typing import Final, Literal

import msgspec

OVERLAY_DESCRIPTORS: Final = (6, 13)
OVERLAY_APPENDS: Final = (6, 8)


class Hierarchy(msgspec.Struct, frozen=True, kw_only=True):
    """One mounted cgroup hierarchy.

    `path` is the caller's own cgroup as seen from `mount`; "" when it lies outside
    of what is mounted there. `writable`: cgroups can be made beneath `mount`.
    """

    version: Literal[1, 2]
    mount: str
    path: str = "/"
    writable: bool = True


class Unified(msgspec.Struct, frozen=True, kw_only=True):
    """The cgroup2 mount: all of v2, or the tree without (or with few) controllers of a hybrid host.

    `controllers` are those of its root, `delegated` those that the root's
    `cgroup.subtree_control` hands down already.
    """

    mount: str
    path: str = "/"
    writable: bool = True
    controllers: tuple[str, ...] = ()
    delegated: tuple[str, ...] = ()
    occupied: bool = False  # `mount` is not the real root and has processes: it cannot hand controllers down
    kill: bool = True  # cgroup.kill (5.14)
    freeze: bool = True  # cgroup.freeze (5.2)
    device_filter: bool = True  # BPF_PROG_TYPE_CGROUP_DEVICE can be loaded and attached by the caller


class CgroupFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The cgroup hierarchies, and what their controllers can do here.

    `controllers` maps a v1 name (memory, cpu, blkio, devices, freezer, ...) or a v2
    name (memory, cpu, io, ...) to its hierarchy; co-mounted ones share a mount.
    `kernel` has every controller that the kernel knows and whether it is enabled,
    so that a refusal can say why one is missing. `weight_file` is "" where block
    devices have no weights.
    """

    layout: Literal["v1", "hybrid", "v2", "none"]
    user_namespace: bool = False  # of the caller: no device rules there, and no device nodes either
    controllers: dict[str, Hierarchy] = {}
    named: dict[str, Hierarchy] = {}  # v1 hierarchies without controller: "systemd"
    unified: Unified | None = None
    kernel: dict[str, bool] = {}
    online_cpus: str = "0"
    online_mems: str = "0"
    hugepage_sizes: tuple[str, ...] = ()  # as in file names: "2MB", "1GB"
    hugepage_reservations: bool = False  # hugetlb.<size>.rsvd.*
    swap: bool = True  # memory.memsw.* or memory.swap.max
    weight_file: str = ""  # blkio.weight, blkio.bfq.weight, io.weight or io.bfq.weight
    cpu_idle: bool = True
    cpu_burst: bool = True
    cpu_realtime: bool = False  # cpu.rt_runtime_us


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a planner may ask about the host.

    `capabilities` is the bounding set of the caller as a bit mask. `namespaces` are
    the types that can be made here. `rlimit_ceilings` maps RLIMIT_* to the caller's
    hard limit, which only CAP_SYS_RESOURCE could raise.
    """

    kernel: tuple[int, int]
    arch: str
    boot_id: str = ""
    euid: int = 0
    capabilities: int = 0
    last_capability: int = 40
    namespaces: tuple[str, ...] = ()
    rlimit_ceilings: dict[str, int] = {}
    oom_score_adj: int = 0
    overlay_descriptors: bool = True  # lowerdir+, upperdir, workdir take descriptors (6.13)
    overlay_appends: bool = True  # lowerdir+ takes one layer after the other (6.8)
    clone_detached: bool = True  # a mount that is attached nowhere can be cloned (6.15)
    proc_hidden: tuple[str, ...] = ()  # what is mounted over parts of /proc
    cgroup: CgroupFacts
