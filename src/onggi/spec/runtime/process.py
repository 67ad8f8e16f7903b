"""`process` and `root`, `mounts`, `hooks` of config.json (runtime-spec config.md)."""

import msgspec

from ._base import ABSENT, Int32, Int64, Object, Strings, UInt32, UInt64, check_uint64
from .namespace import LinuxIDMapping


class Box(Object, frozen=True, kw_only=True):
    """Size of a console, in characters."""

    height: UInt64
    width: UInt64

    def __post_init__(self) -> None:
        check_uint64(height=self.height, width=self.width)


class User(Object, frozen=True, kw_only=True):
    """Who the process is. An absent id counts as 0, as in every other runtime."""

    uid: UInt32 = ABSENT
    gid: UInt32 = ABSENT
    umask: UInt32 | None = None
    additional_gids: tuple[UInt32, ...] | None = None
    username: str | None = None


class LinuxCapabilities(Object, frozen=True, kw_only=True):
    """The five capability sets, as `CAP_*` names (capabilities(7))."""

    bounding: Strings | None = None
    effective: Strings | None = None
    inheritable: Strings | None = None
    permitted: Strings | None = None
    ambient: Strings | None = None


class POSIXRlimit(Object, frozen=True, kw_only=True):
    """One resource limit: `type` is `RLIMIT_*`, 2**64-1 is RLIM_INFINITY."""

    type: str
    hard: UInt64
    soft: UInt64

    def __post_init__(self) -> None:
        check_uint64(hard=self.hard, soft=self.soft)


class LinuxIOPriority(Object, frozen=True, kw_only=True):
    """ioprio_set(2): `class_` is IOPRIO_CLASS_RT, _BE or _IDLE; priority 0 (high) to 7."""

    class_: str = msgspec.field(name="class")
    priority: Int32 | None = None


class Scheduler(Object, frozen=True, kw_only=True):
    """sched_setattr(2): `policy` is `SCHED_*`, `flags` are `SCHED_FLAG_*`; times in nanoseconds (SCHED_DEADLINE)."""

    policy: str
    nice: Int32 | None = None
    priority: Int32 | None = None
    flags: Strings | None = None
    runtime: UInt64 | None = None
    deadline: UInt64 | None = None
    period: UInt64 | None = None

    def __post_init__(self) -> None:
        check_uint64(runtime=self.runtime, deadline=self.deadline, period=self.period)


class CPUAffinity(Object, frozen=True, kw_only=True):
    """CPUs of an exec'ed process before (`initial`) and after (`final`) it enters the cgroup: lists as `0-3,7`."""

    initial: str | None = None
    final: str | None = None


class Process(Object, frozen=True, kw_only=True):
    """The program to run and with what rights (config.md#process)."""

    terminal: bool | None = None
    console_size: Box | None = None
    user: User = User()
    args: Strings | None = None
    command_line: str | None = None
    env: Strings | None = None
    cwd: str
    capabilities: LinuxCapabilities | None = None
    rlimits: tuple[POSIXRlimit, ...] | None = None
    no_new_privileges: bool | None = None
    apparmor_profile: str | None = None
    oom_score_adj: Int64 | None = None
    scheduler: Scheduler | None = None
    selinux_label: str | None = None
    io_priority: LinuxIOPriority | None = None
    exec_cpu_affinity: CPUAffinity | None = msgspec.field(default=None, name="execCPUAffinity")


class Root(Object, frozen=True, kw_only=True):
    """The root filesystem: a directory, absolute or relative to the bundle."""

    path: str
    readonly: bool | None = None


class Mount(Object, frozen=True, kw_only=True):
    """One mount besides the root; `options` as in fstab, mappings make it an idmapped mount."""

    destination: str
    type: str | None = None
    source: str | None = None
    options: Strings | None = None
    uid_mappings: tuple[LinuxIDMapping, ...] | None = None
    gid_mappings: tuple[LinuxIDMapping, ...] | None = None


class Hook(Object, frozen=True, kw_only=True):
    """A program run at a point of the life cycle, with the state on stdin; `timeout` in seconds."""

    path: str
    args: Strings | None = None
    env: Strings | None = None
    timeout: Int64 | None = None


class Hooks(Object, frozen=True, kw_only=True):
    """Hooks by point of the life cycle (config.md#posix-platform-hooks); `prestart` is deprecated but used."""

    prestart: tuple[Hook, ...] | None = None
    create_runtime: tuple[Hook, ...] | None = None
    create_container: tuple[Hook, ...] | None = None
    start_container: tuple[Hook, ...] | None = None
    poststart: tuple[Hook, ...] | None = None
    poststop: tuple[Hook, ...] | None = None
