"""Users and groups as an image's /etc/passwd and /etc/group have them (passwd(5), group(5)).

The files are written by whoever made the image: lines are parsed strictly, broken
ones are passed over, and nothing is taken from them but numbers and a home
directory (CVE-2026-46680 and its family). A name made of digits is an id.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from onggi.base.errors import InvalidArgument, NotFound

MAX_ID: Final = 2**31 - 1
MAX_GROUPS: Final = 1024


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who a process is: ids, supplementary groups, and the home of its passwd entry ("/" without one)."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/"


class Passwd(msgspec.Struct, frozen=True):
    """One entry of /etc/passwd."""

    name: str
    uid: int
    gid: int
    home: str


class Group(msgspec.Struct, frozen=True):
    """One entry of /etc/group."""

    name: str
    gid: int
    members: tuple[str, ...]


def parse_passwd(text: str) -> Iterator[Passwd]:
    """Read the entries that are whole."""
    for line in text.split("\n"):
        fields = line.split(":")
        if len(fields) != 7 or not fields[0]:
            continue
        uid, gid = _parse_id(fields[2]), _parse_id(fields[3])
        if uid is not None and gid is not None:
            home = fields[5] if fields[5].startswith("/") and fields[5].isprintable() else "/"
            yield Passwd(fields[0], uid, gid, home)


def parse_group(text: str) -> Iterator[Group]:
    """Read the entries that are whole."""
    for line in text.split("\n"):
        fields = line.split(":")
        if len(fields) != 4 or not fields[0]:
            continue
        gid = _parse_id(fields[2])
        if gid is not None:
            yield Group(fields[0], gid, tuple(member for member in fields[3].split(",") if member))


def resolve_identity(user: str, extra_groups: tuple[str, ...], *, passwd: str, group: str) -> Identity:
    """Find out who `user` is: `name`, `uid`, `name:group` or `uid:gid`, as Docker does it.

    With an explicit group, and for a bare uid that is in no passwd entry, there are no
    supplementary groups but `extra_groups`. Raises NotFound for unknown names.
    """
    wanted_user, colon, wanted_group = user.partition(":")
    if colon and not wanted_group:
        wanted_group = ""
    entry = _find_user(wanted_user or "0", passwd)
    groups: tuple[int, ...] = ()
    if wanted_group:
        gid = _find_group(wanted_group, group)
    else:
        gid = entry.gid
        if entry.name:
            groups = tuple(g.gid for g in parse_group(group) if entry.name in g.members)
    extra = tuple(_find_group(name, group) for name in extra_groups)
    every = tuple(dict.fromkeys((*groups, *extra)))
    if len(every) > MAX_GROUPS:
        raise InvalidArgument(f"user {user}: {len(every)} supplementary groups; at most {MAX_GROUPS} are possible")
    return Identity(uid=entry.uid, gid=gid, groups=every, home=entry.home)


def _find_user(wanted: str, passwd: str) -> Passwd:
    number = _parse_id(wanted)
    for entry in parse_passwd(passwd):
        if entry.uid == number if number is not None else entry.name == wanted:
            return entry
    if number is None:
        raise NotFound(f"unable to find user {wanted}: no matching entries in passwd file")
    return Passwd("", number, 0, "/")


def _find_group(wanted: str, group: str) -> int:
    number = _parse_id(wanted)
    if number is not None:
        return number
    for entry in parse_group(group):
        if entry.name == wanted:
            return entry.gid
    raise NotFound(f"unable to find group {wanted}: no matching entries in group file")


def _parse_id(text: str) -> int | None:
    """Read a decimal id of at most 2**31-1: no sign, no space, no other digits than ASCII's."""
    if not text.isascii() or not text.isdigit() or len(text) > 10:
        return None
    number = int(text)
    return number if number <= MAX_ID else None
