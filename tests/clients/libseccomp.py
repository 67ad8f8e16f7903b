"""libseccomp, driven as runc drives it: the peer that our compiler is measured against."""

import ctypes
import os

import pytest

from onggi.plan.seccomp.tables import Arch
from onggi.spec.runtime import LinuxSeccomp, LinuxSyscall

_OPERATORS = {"NE": 1, "LT": 2, "LE": 3, "EQ": 4, "GE": 5, "GT": 6, "MASKED_EQ": 7}
_ACTIONS = {
    "ALLOW": 0x7FFF_0000,
    "ERRNO": 0x0005_0000,
    "KILL": 0,
    "KILL_PROCESS": 0x8000_0000,
    "KILL_THREAD": 0,
    "LOG": 0x7FFC_0000,
    "NOTIFY": 0x7FC0_0000,
    "TRACE": 0x7FF0_0000,
    "TRAP": 0x0003_0000,
}
_TOKENS = {
    "x86_64": 0xC000_003E,
    "x32": 0x4000_003E,
    "i386": 0x4000_0003,
    "aarch64": 0xC000_00B7,
    "arm": 0x4000_0028,
}
_NO_SUCH_NAME = -1
_OPTIMIZE = 8  # SCMP_FLTATR_CTL_OPTIMIZE


class _Compare(ctypes.Structure):
    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


class RefusedError(Exception):
    """libseccomp does not take this rule beside the earlier ones."""


class Libseccomp:
    """The shared library."""

    def __init__(self) -> None:
        try:
            self._lib = ctypes.CDLL("libseccomp.so.2")
        except OSError:
            pytest.skip("libseccomp.so.2 is not installed")
        self._lib.seccomp_init.restype = ctypes.c_void_p

    def number(self, name: str, arch: Arch) -> int:
        """Give a system call's number; negative ones are not of this architecture, -1 of none."""
        number: int = self._lib.seccomp_syscall_resolve_name_arch(ctypes.c_uint32(_TOKENS[arch.name]), name.encode())
        return number

    def knows(self, name: str) -> bool:
        """Say whether any architecture has this call."""
        return bool(self._lib.seccomp_syscall_resolve_name(name.encode()) != _NO_SUCH_NAME)

    def compile(self, profile: LinuxSeccomp, arches: tuple[Arch, ...], *, optimize: bool = False) -> bytes:
        """Build the filter of a profile for these architectures, as runc 1.5 does, without its ENOSYS stub."""
        default = _action(profile.default_action, profile.default_errno_ret)
        context = ctypes.c_void_p(self._lib.seccomp_init(ctypes.c_uint32(default)))
        assert context.value, "seccomp_init failed"
        try:
            self._choose(context, arches)
            if optimize:
                assert self._lib.seccomp_attr_set(context, _OPTIMIZE, 2) == 0
            for call in profile.syscalls or ():
                self._add(context, call, default)
            return self._export(context)
        finally:
            self._lib.seccomp_release(context)

    def _choose(self, context: ctypes.c_void_p, arches: tuple[Arch, ...]) -> None:
        native = self._lib.seccomp_arch_native() & 0xFFFF_FFFF
        wanted = [_TOKENS[arch.name] for arch in arches]
        for token in wanted:
            if token != native:
                assert self._lib.seccomp_arch_add(context, ctypes.c_uint32(token)) == 0
        if native not in wanted:
            assert self._lib.seccomp_arch_remove(context, ctypes.c_uint32(native)) == 0

    def _add(self, context: ctypes.c_void_p, call: LinuxSyscall, default: int) -> None:
        action = _action(call.action, call.errno_ret)
        if action == default:
            return
        compares = [
            _Compare(arg.index, _OPERATORS[arg.op.removeprefix("SCMP_CMP_")], arg.value, arg.value_two or 0)
            for arg in call.args or ()
        ]
        indexes = [compare.arg for compare in compares]
        groups = [compares] if len(set(indexes)) == len(indexes) else [[compare] for compare in compares]
        for name in call.names:
            number = self._lib.seccomp_syscall_resolve_name(name.encode())
            if number == _NO_SUCH_NAME:
                continue
            for group in groups:
                array = (_Compare * len(group))(*group)
                status = self._lib.seccomp_rule_add_array(
                    context, ctypes.c_uint32(action), ctypes.c_int(number), ctypes.c_uint(len(group)), array
                )
                if status != 0:
                    raise RefusedError(f"{name}: {os.strerror(-status)}")

    def _export(self, context: ctypes.c_void_p) -> bytes:
        memory = os.memfd_create("filter")
        try:
            assert self._lib.seccomp_export_bpf(context, memory) == 0
            return os.pread(memory, os.fstat(memory).st_size, 0)
        finally:
            os.close(memory)


def _action(name: str, errno_ret: int | None) -> int:
    action = _ACTIONS[name.removeprefix("SCMP_ACT_")]
    data = 1 if errno_ret is None else errno_ret
    return action | data if name in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE") else action
