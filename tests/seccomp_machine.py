"""A classic BPF machine as strict as the kernel's, and strategies for seccomp profiles.

Shared by the unit tests of the seccomp compiler and by its comparison with libseccomp.
"""

import struct

from hypothesis import strategies as st

from onggi.plan.seccomp.tables import AARCH64, ARM, I386, X32, X86_64, Arch
from onggi.spec.runtime import LinuxSeccomp, LinuxSeccompArg, LinuxSyscall

ALL_ARCHES = (X86_64, X32, I386, AARCH64, ARM)
WORD = 0xFFFF_FFFF

LOAD, AND, RETURN, JUMP, JEQ, JGT, JGE, JSET = 0x20, 0x54, 0x06, 0x05, 0x15, 0x25, 0x35, 0x45


class Machine:
    """Runs one filter. Refuses what the kernel's seccomp_check_filter refuses."""

    def __init__(self, program: bytes) -> None:
        self.code = list(struct.iter_unpack("<HBBI", program))
        count = len(self.code)
        assert 0 < count <= 4096, f"{count} instructions"
        assert self.code[-1][0] == RETURN, "the last instruction must return"
        for at, (code, yes, no, k) in enumerate(self.code):
            assert code in (LOAD, AND, RETURN, JUMP, JEQ, JGT, JGE, JSET), f"{code:#x} at {at}"
            if code == LOAD:
                assert k in range(0, 64, 4), f"load of {k} at {at}"
            elif code == JUMP:
                assert at + 1 + k < count, f"jump out of the program at {at}"
            elif code in (JEQ, JGT, JGE, JSET):
                assert at + 1 + max(yes, no) < count, f"jump out of the program at {at}"

    def run(self, arch: int, number: int, args: tuple[int, ...] = ()) -> int:
        """Give the verdict on one call: `arch` is an AUDIT_ARCH token."""
        padded = (*args, 0, 0, 0, 0, 0, 0)[:6]
        words: tuple[int, ...] = struct.unpack(
            "<16I", struct.pack("<IIQ6Q", number, arch, 0xDEAD_BEEF_0BAD_F00D, *padded)
        )
        code, at, accumulator = self.code, 0, 0
        while True:
            op, yes, no, k = code[at]
            at += 1
            if op == JEQ:
                at += yes if accumulator == k else no
            elif op == JGE:
                at += yes if accumulator >= k else no
            elif op == JGT:
                at += yes if accumulator > k else no
            elif op == LOAD:
                accumulator = words[k >> 2]
            elif op == RETURN:
                return int(k)
            elif op == JUMP:
                at += k
            elif op == AND:
                accumulator &= k
            else:
                at += yes if accumulator & k else no


# -- profiles --------------------------------------------------------------------------------------

_ACTIONS = (
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_LOG",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
)
_NAMES = ("read", "clone", "ioctl", "socket", "semget", "stat64", "sendfile64", "futex_waitv", "getpid", "nonsense")
_SCMP = tuple(arch.scmp for arch in ALL_ARCHES)

# Few values, so that comparisons meet; on both sides of what fits a word.
VALUES = (0, 1, 2, 5, 7, WORD - 1, WORD, WORD + 1, WORD + 6, 5 << 32, (5 << 32) + 5, (1 << 63) + 1, (1 << 64) - 1)


def arguments() -> st.SearchStrategy[LinuxSeccompArg]:
    """One comparison."""
    plain = ("SCMP_CMP_EQ", "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_GE", "SCMP_CMP_GT")
    values = st.sampled_from(VALUES)
    return st.one_of(
        st.builds(LinuxSeccompArg, index=st.integers(0, 2), value=values, op=st.sampled_from(plain)),
        st.builds(
            LinuxSeccompArg, index=st.integers(0, 2), value=values, value_two=values, op=st.just("SCMP_CMP_MASKED_EQ")
        ),
    )


def profiles(actions: tuple[str, ...] = _ACTIONS) -> st.SearchStrategy[LinuxSeccomp]:
    """Profiles with few names and many rules for each."""
    rule = st.builds(
        LinuxSyscall,
        names=st.lists(st.sampled_from(_NAMES), min_size=1, max_size=3, unique=True).map(tuple),
        action=st.sampled_from(actions),
        errno_ret=st.none() | st.sampled_from((1, 38)),
        args=st.lists(arguments(), max_size=3).map(tuple),
    )
    return st.builds(
        LinuxSeccomp,
        default_action=st.sampled_from(_ACTIONS),
        default_errno_ret=st.none() | st.sampled_from((1, 38)),
        architectures=st.lists(st.sampled_from(_SCMP), unique=True).map(tuple),
        syscalls=st.lists(rule, max_size=8).map(tuple),
    )


def family_of(native: Arch) -> tuple[Arch, ...]:
    """Give the architectures that a kernel of this one runs."""
    return {"x86_64": (X86_64, X32, I386), "aarch64": (AARCH64, ARM)}[native.name]
