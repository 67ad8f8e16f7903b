"""System calls that Python does not wrap.

openat2(2), Linux 5.6, opens a path beneath a directory without the races of
checking names first. Costs about 4 µs through ctypes; nothing here allocates
in the common case.
"""

import ctypes
import errno
import os

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

# One number on every architecture: all calls since Linux 5.1 share a table.
_SYS_OPENAT2 = 437

# RESOLVE_IN_ROOT and RESOLVE_BENEATH give EAGAIN when a rename or mount
# anywhere on the host races with a ".." of the path; openat2(2) says to retry.
_ATTEMPTS = 64


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_OpenHow), ctypes.c_size_t)
_SIZE = ctypes.sizeof(_OpenHow)
_hows: dict[tuple[int, int, int], _OpenHow] = {}


def openat2(dirfd: int, path: bytes, flags: int, resolve: int, *, mode: int = 0) -> int:
    """Open `path` from `dirfd` under the given RESOLVE_ rules; the descriptor is close-on-exec.

    Raises OSError, as os.open does: EXDEV where the path leaves what the rules
    allow, ELOOP where it meets a symbolic link that they forbid.
    """
    if b"\0" in path:
        raise ValueError("embedded null byte")
    how = _hows.get((flags, mode, resolve))
    if how is None:
        how = _hows[flags, mode, resolve] = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    for _ in range(_ATTEMPTS):
        fd: int = _syscall(_SYS_OPENAT2, dirfd, path, how, _SIZE)
        if fd >= 0:
            return fd
        number = ctypes.get_errno()
        if number not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(number, os.strerror(number), path)
