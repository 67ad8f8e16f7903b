"""Detached mounts for reading: an overlay that is attached nowhere and goes with its descriptor.

What a container runs on is mounted by the launcher, as lines of its plan. This is for
looking into a root file system that nobody runs: users, `cp`, `diff`, `export`.
"""

import ctypes
import errno
import os
from collections.abc import Sequence
from typing import Final

from onggi.base.errors import NotSupported, PermissionDenied
from onggi.plan.facts import OVERLAY_APPENDS, OVERLAY_DESCRIPTORS

from .machine import parse_kernel
from .oserrors import explain_oserror

# One table on every architecture since Linux 5.2.
_SYS_FSOPEN: Final = 430
_SYS_FSCONFIG: Final = 431
_SYS_FSMOUNT: Final = 432

_CLOEXEC: Final = 1
_SET_FLAG, _SET_STRING, _SET_FD, _CREATE = 0, 1, 5, 6
_ATTRIBUTES: Final = 0x1 | 0x2 | 0x4 | 0x8  # MOUNT_ATTR_RDONLY, _NOSUID, _NODEV, _NOEXEC
_FEWEST_LOWERS: Final = 2
_MAX_STRING_BYTES: Final = 255
_KERNEL: Final = parse_kernel(os.uname().release)
_BY_DESCRIPTOR = _KERNEL >= OVERLAY_DESCRIPTORS
_BY_APPENDING = _KERNEL >= OVERLAY_APPENDS

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long


def mount_overlay_view(lowers: Sequence[int]) -> int:
    """Mount layers (descriptors, top first, at least two) read-only and detached; gives a descriptor of its root.

    Raises NotSupported where overlayfs refuses the layers.
    """
    if len(lowers) < _FEWEST_LOWERS:
        raise ValueError("overlayfs takes no fewer than two lower layers without an upper")
    context = _open_overlay()
    try:
        _name_layers(context, lowers)
        for key, value in (("redirect_dir", "nofollow"), ("metacopy", "off")):
            _set_string(context, key, value)
        _call(_SYS_FSCONFIG, context, _CREATE, None, None, 0)
        return _call(_SYS_FSMOUNT, context, _CLOEXEC, _ATTRIBUTES)
    except OSError as error:
        raise explain_oserror(error, "mount", "an overlay of the layers") from None
    finally:
        os.close(context)


def _open_overlay() -> int:
    try:
        return _call(_SYS_FSOPEN, ctypes.c_char_p(b"overlay"), _CLOEXEC)
    except OSError as error:
        words = f"cannot mount overlayfs: {os.strerror(error.errno or 0).lower()}"
        if error.errno == errno.EPERM:
            raise PermissionDenied(
                f"{words}; that needs CAP_SYS_ADMIN: run Onggi as root on the host, or in a --privileged container"
            ) from None
        raise NotSupported(f"{words}; this kernel has it as a module, if at all: modprobe overlay") from None


def open_merged(lowers: Sequence[int], empty: str) -> int:
    """Show layers (descriptors, top first) together, read-only; `empty` is an empty directory. Gives a descriptor.

    overlayfs takes no fewer than two lower layers without an upper, and none twice.
    """
    directory = os.open(empty, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    if not lowers:
        return directory
    try:
        return mount_overlay_view(lowers if len(lowers) >= _FEWEST_LOWERS else [*lowers, directory])
    finally:
        os.close(directory)


def mount_overlay(lowers: Sequence[int], upper: str, work: str) -> int:
    """Mount layers (descriptors, top first) and a writable upper directory, detached and volatile.

    For build steps: what is written through the descriptor is in `upper` once it is closed.
    """
    directories: list[int] = []
    context = _open_overlay()
    try:
        _name_layers(context, lowers)
        for key, path in (("upperdir", upper), ("workdir", work)):
            directories.append(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW))
            if _BY_DESCRIPTOR:
                _call(_SYS_FSCONFIG, context, _SET_FD, ctypes.c_char_p(key.encode()), None, directories[-1])
            else:
                _set_string(context, key, _path_of(directories[-1]))
        for key, value in (("redirect_dir", "nofollow"), ("metacopy", "off"), ("xino", "on")):
            _set_string(context, key, value)
        _call(_SYS_FSCONFIG, context, _SET_FLAG, ctypes.c_char_p(b"volatile"), None, 0)
        _call(_SYS_FSCONFIG, context, _CREATE, None, None, 0)
        return _call(_SYS_FSMOUNT, context, _CLOEXEC, 0)
    except OSError as error:
        raise explain_oserror(error, "mount", "an overlay of the layers") from None
    finally:
        os.close(context)
        for fd in directories:
            os.close(fd)


def _name_layers(context: int, lowers: Sequence[int]) -> None:
    """Name the layers, top first: as plan/rootfs.py has it for the launcher."""
    if _BY_DESCRIPTOR:
        for lower in lowers:
            _call(_SYS_FSCONFIG, context, _SET_FD, ctypes.c_char_p(b"lowerdir+"), None, lower)
    elif _BY_APPENDING:
        for lower in lowers:
            _set_string(context, "lowerdir+", _path_of(lower))
    else:
        joined = ":".join(_path_of(lower) for lower in lowers)
        if len(joined) > _MAX_STRING_BYTES:
            raise NotSupported(f"this kernel cannot show {len(lowers)} layers together; use Linux 6.8 or newer")
        _set_string(context, "lowerdir", joined)


def _path_of(fd: int) -> str:
    return f"/proc/self/fd/{fd}"


def _set_string(context: int, key: str, value: str) -> None:
    _call(_SYS_FSCONFIG, context, _SET_STRING, ctypes.c_char_p(key.encode()), ctypes.c_char_p(value.encode()), 0)


def _call(number: int, *arguments: object) -> int:
    result: int = _syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
