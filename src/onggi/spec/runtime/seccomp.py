"""`linux.seccomp` (runtime-spec config-linux.md#seccomp), and what a seccomp agent receives."""

from ._base import Object, Strings, UInt32, UInt64, check_uint64


class LinuxSeccompArg(Object, frozen=True, kw_only=True):
    """A comparison of one syscall argument; `op` is `SCMP_CMP_*`.

    For SCMP_CMP_MASKED_EQ `value` is the mask and `value_two` what must remain.
    """

    index: UInt32
    value: UInt64
    value_two: UInt64 | None = None
    op: str

    def __post_init__(self) -> None:
        check_uint64(value=self.value, valueTwo=self.value_two)


class LinuxSyscall(Object, frozen=True, kw_only=True):
    """What to do (`SCMP_ACT_*`) with the named syscalls when all comparisons hold."""

    names: Strings
    action: str
    errno_ret: UInt32 | None = None
    args: tuple[LinuxSeccompArg, ...] | None = None


class LinuxSeccomp(Object, frozen=True, kw_only=True):
    """A seccomp filter; `architectures` are `SCMP_ARCH_*`, `flags` are `SECCOMP_FILTER_FLAG_*`."""

    default_action: str
    default_errno_ret: UInt32 | None = None
    architectures: Strings | None = None
    flags: Strings | None = None
    listener_path: str | None = None
    listener_metadata: str | None = None
    syscalls: tuple[LinuxSyscall, ...] | None = None
