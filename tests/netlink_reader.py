"""Netlink messages read back, by a decoder that shares nothing with the encoders."""

import struct
from typing import Final, NamedTuple

from onggi.plan.ops import Data, LinkHole, SlotHole

SLOT: Final = b"SLOT"
LINK: Final = b"LINK"


class Read(NamedTuple):
    """One message: header fields and the body."""

    kind: int
    flags: int
    body: bytes


def flat(data: Data) -> bytes:
    """Fill every hole with four letters."""
    parts = data if isinstance(data, tuple) else (data,)
    return b"".join(part if isinstance(part, bytes) else _letters(part) for part in parts)


def _letters(hole: object) -> bytes:
    assert isinstance(hole, SlotHole | LinkHole), hole
    return SLOT if isinstance(hole, SlotHole) else LINK


def messages(data: Data) -> list[Read]:
    """Split a datagram, checking all lengths."""
    raw, found = flat(data), []
    while raw:
        length, kind, flags, _sequence, port = struct.unpack_from("=IHHII", raw)
        assert 16 <= length <= len(raw), (length, len(raw))
        assert port == 0
        padded = (length + 3) // 4 * 4
        assert raw[length:padded].strip(b"\0") == b""
        found.append(Read(kind, flags, raw[16:length]))
        raw = raw[padded:]
    return found


def attributes(raw: bytes) -> dict[int, bytes]:
    """Read a sequence of attributes, checking all lengths; a nested one has its flag."""
    found: dict[int, bytes] = {}
    while raw:
        length, kind = struct.unpack_from("=HH", raw)
        assert 4 <= length <= len(raw), (length, len(raw))
        padded = (length + 3) // 4 * 4
        assert raw[length:padded].strip(b"\0") == b""
        assert kind & 0x7FFF not in found or kind & 0x7FFF == 1, "only lists repeat"
        found[kind & 0x7FFF] = raw[4:length]
        raw = raw[padded:]
    return found


def tree(raw: bytes, nested: frozenset[tuple[int, ...]], path: tuple[int, ...] = ()) -> object:
    """Read attributes into nested dictionaries, so that order and flags of nesting do not matter."""
    return {
        kind: tree(value, nested, (*path, kind)) if (*path, kind) in nested else value
        for kind, value in attributes(raw).items()
    }
