"""Docker's seccomp profiles: runtime-spec's filter with conditions on capabilities, architecture and kernel.

Docker's own default profile is `plan/data/docker-seccomp.json`.
"""

from collections.abc import Collection
from functools import lru_cache
from typing import Annotated, Final

import msgspec

from onggi.base.errors import InvalidArgument
from onggi.spec.json import parse_json
from onggi.spec.runtime import LinuxSeccomp, LinuxSeccompArg, LinuxSyscall

from .tables import Arch, native_arch, read_data

_MAX_BYTES: Final = 4 << 20
_KEPT: Final = 16
"""Profiles that a warm process remembers."""
_WHAT: Final = "seccomp profile"

Names = tuple[str, ...]
Errno = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)]


class _Object(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of what a profile is made of; a null counts as absent, as in Go."""


class _ArchMap(_Object, frozen=True, kw_only=True):
    architecture: str
    sub_architectures: Names | None = None


class _Filter(_Object, frozen=True, kw_only=True):
    caps: Names | None = None
    arches: Names | None = None
    min_kernel: str | None = None


class _Syscall(_Object, frozen=True, kw_only=True):
    action: str
    names: Names | None = None
    name: str | None = None  # before 2016
    errno_ret: Errno | None = None
    args: tuple[LinuxSeccompArg, ...] | None = None
    includes: _Filter | None = None
    excludes: _Filter | None = None


class _Profile(_Object, frozen=True, kw_only=True):
    default_action: str
    default_errno_ret: Errno | None = None
    architectures: Names | None = None
    arch_map: tuple[_ArchMap, ...] | None = None
    flags: Names | None = None
    listener_path: str | None = None
    listener_metadata: str | None = None
    syscalls: tuple[_Syscall, ...] | None = None


_DECODER: Final = msgspec.json.Decoder(_Profile)


def docker_profile() -> bytes:
    """Give Docker's default profile, in Docker's format."""
    return read_data("docker-seccomp.json")


def resolve_profile(
    profile_json: bytes, *, capabilities: Collection[str], arch: str, kernel: tuple[int, int]
) -> LinuxSeccomp:
    """Decide a profile's conditions for one container: its bounding set, this kernel's architecture and version.

    Raises InvalidArgument, naming the field, for what is not a profile. Docker takes
    an empty one (`{}`) for "no seccomp"; here that has to be said.
    """
    return _resolve(profile_json, frozenset(capabilities), arch, kernel)


@lru_cache(maxsize=_KEPT)
def _resolve(profile_json: bytes, held: frozenset[str], arch: str, kernel: tuple[int, int]) -> LinuxSeccomp:
    profile = parse_json(profile_json, _DECODER, _WHAT, _MAX_BYTES)
    if profile.architectures and profile.arch_map:
        raise InvalidArgument(f"{_WHAT}: it has both architectures and archMap; remove one of the two")
    native = native_arch(arch)
    return LinuxSeccomp(
        default_action=profile.default_action,
        default_errno_ret=profile.default_errno_ret,
        architectures=_mapped(profile.arch_map, native) if profile.arch_map else profile.architectures,
        flags=profile.flags,
        listener_path=profile.listener_path,
        listener_metadata=profile.listener_metadata,
        syscalls=tuple(
            _plain(call, where)
            for where, call in _with_places(profile.syscalls)
            if _applies(call, where, held, native, kernel)
        ),
    )


def _with_places(calls: tuple[_Syscall, ...] | None) -> list[tuple[str, _Syscall]]:
    return [(f"{_WHAT}: syscalls[{at}]", call) for at, call in enumerate(calls or ())]


def _mapped(arch_map: tuple[_ArchMap, ...], native: Arch) -> Names:
    for entry in arch_map:
        if entry.architecture == native.scmp:
            return (entry.architecture, *(entry.sub_architectures or ()))
    return ()


def _plain(call: _Syscall, where: str) -> LinuxSyscall:
    if call.name and call.names:
        raise InvalidArgument(f"{where}: it has both name and names; move {call.name} into names")
    names = (call.name,) if call.name else call.names or ()
    return LinuxSyscall(names=names, action=call.action, errno_ret=call.errno_ret, args=call.args)


def _applies(call: _Syscall, where: str, held: frozenset[str], native: Arch, kernel: tuple[int, int]) -> bool:
    """A rule is in when all that it includes is there and nothing that it excludes."""
    excludes, includes = call.excludes or _Filter(), call.includes or _Filter()
    wanted = _version(includes.min_kernel, f"{where}.includes")
    unwanted = _version(excludes.min_kernel, f"{where}.excludes")
    return not (
        native.docker in (excludes.arches or ())
        or not held.isdisjoint(excludes.caps or ())
        or (unwanted is not None and kernel >= unwanted)
        or (includes.arches and native.docker not in includes.arches)
        or not held.issuperset(includes.caps or ())
        or (wanted is not None and kernel < wanted)
    )


def _version(text: str | None, where: str) -> tuple[int, int] | None:
    """Read "4.8"; more parts, or words, are refused as Docker refuses them."""
    if not text:
        return None
    parts = text.split(".")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and int(part) < 256 for part in parts):
        raise InvalidArgument(f"{where}.minKernel: {text!r} is no kernel version; it looks like 4.8")
    return int(parts[0]), int(parts[1])
