"""bpf(2), as far as the device filter of a cgroup needs it; the launcher does its own for new containers."""

import ctypes
import os
import platform
import struct
from typing import Final

from onggi.base.errors import NotSupported, PermissionDenied

# linux/bpf.h
_PROG_LOAD: Final = 5
_PROG_ATTACH: Final = 8
_PROG_DETACH: Final = 9
_PROG_GET_FD_BY_ID: Final = 13
_PROG_QUERY: Final = 16
_TYPE_CGROUP_DEVICE: Final = 15
_ATTACH_DEVICE: Final = 6
_ALLOW_MULTI: Final = 2
_REPLACE: Final = 4

_NUMBERS: Final = {"x86_64": 321, "aarch64": 280}
_LICENSE: Final = b"Apache-2.0"


def load_device_filter(program: bytes) -> int:
    """Load a program and give its descriptor; OSError when the kernel will not have it."""
    code = ctypes.create_string_buffer(program, len(program))
    name = ctypes.create_string_buffer(_LICENSE)
    attributes = struct.pack(
        "=IIQQ", _TYPE_CGROUP_DEVICE, len(program) // 8, ctypes.addressof(code), ctypes.addressof(name)
    )
    return _bpf(_PROG_LOAD, bytearray(attributes.ljust(128, b"\0")))


def can_load_device_filter() -> bool:
    """Find out by loading the shortest program: return 1."""
    try:
        os.close(load_device_filter(struct.pack("<BBhiBBhi", 0xB4, 0, 0, 1, 0x95, 0, 0, 0)))
    except (OSError, NotSupported):
        return False
    return True


def replace_device_filter(directory: str, program: bytes) -> None:
    """Put a program in the place of whatever filters the devices of a cgroup now, without a gap."""
    try:
        _replace(directory, program)
    except PermissionError as error:
        raise PermissionDenied(
            f"change the device rules of {directory}: {error.strerror}; that takes CAP_BPF or CAP_SYS_ADMIN"
        ) from error


def _replace(directory: str, program: bytes) -> None:
    cgroup = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    old: list[int] = []
    new = -1
    try:
        old = [_open_program(number) for number in attached_device_filters(cgroup)]
        new = load_device_filter(program)
        if old:
            _attach(cgroup, new, _ALLOW_MULTI | _REPLACE, old[0])
        else:
            _attach(cgroup, new, _ALLOW_MULTI, 0)
        for extra in old[1:]:
            _bpf(_PROG_DETACH, bytearray(struct.pack("=IIII", cgroup, extra, _ATTACH_DEVICE, 0).ljust(128, b"\0")))
    finally:
        for descriptor in (cgroup, new, *old):
            if descriptor >= 0:
                os.close(descriptor)


def attached_device_filters(cgroup: int) -> list[int]:
    """Give the ids of the programs that are attached to this cgroup itself."""
    room = 64
    ids = (ctypes.c_uint32 * room)()
    attributes = bytearray(
        struct.pack("=IIIIQI", cgroup, _ATTACH_DEVICE, 0, 0, ctypes.addressof(ids), room).ljust(128, b"\0")
    )
    _bpf(_PROG_QUERY, attributes)
    (count,) = struct.unpack_from("=I", attributes, 24)
    return list(ids[:count])


def _attach(cgroup: int, program: int, flags: int, replaced: int) -> None:
    attributes = struct.pack("=IIIII", cgroup, program, _ATTACH_DEVICE, flags, replaced)
    _bpf(_PROG_ATTACH, bytearray(attributes.ljust(128, b"\0")))


def _open_program(number: int) -> int:
    return _bpf(_PROG_GET_FD_BY_ID, bytearray(struct.pack("=I", number).ljust(128, b"\0")))


def _bpf(command: int, attributes: bytearray) -> int:
    machine = platform.machine()
    if machine not in _NUMBERS:
        raise NotSupported(f"device rules of cgroup v2 on {machine}: only x86-64 and aarch64 are known here")
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = (ctypes.c_char * len(attributes)).from_buffer(attributes)
    result: int = libc.syscall(_NUMBERS[machine], command, buffer, len(attributes))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
