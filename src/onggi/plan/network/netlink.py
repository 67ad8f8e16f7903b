"""Netlink framing: messages and attributes, with holes where only the launcher knows the value.

A message is a flat tuple of parts. Lengths count a hole as the four bytes that it becomes.
"""

import struct
from collections.abc import Iterable
from typing import Final

from onggi.plan.ops import Data, Part

NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_DUMP: Final = 0x300
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
NLM_F_APPEND: Final = 0x800

NLA_F_NESTED: Final = 0x8000

Parts = tuple[Part, ...]


def attribute(kind: int, *value: Part) -> Parts:
    """Encode one attribute, padded to four bytes."""
    length = 4 + _size(value)
    return _pack(struct.pack("=HH", length, kind), *value, bytes(-length % 4))


def nest(kind: int, *attributes: Parts) -> Parts:
    """Encode an attribute that holds others."""
    return attribute(kind | NLA_F_NESTED, *(part for each in attributes for part in each))


def text(kind: int, value: str) -> Parts:
    """Encode a string with its NUL."""
    return attribute(kind, value.encode() + b"\0")


def u32(kind: int, value: int) -> Parts:
    """Encode a native number, as rtnetlink has them."""
    return attribute(kind, struct.pack("=I", value))


def be32(kind: int, value: int) -> Parts:
    """Encode a number in network order, as nfnetlink has them."""
    return attribute(kind, struct.pack(">I", value))


def message(kind: int, flags: int, *body: Part) -> Parts:
    """Frame one request: length, type, flags, sequence, port, then the body, padded to four bytes."""
    length = 16 + _size(body)
    return _pack(struct.pack("=IHHII", length, kind, NLM_F_REQUEST | flags, 1, 0), *body, bytes(-length % 4))


def flatten(*many: Parts) -> Parts:
    """Put attributes, or messages, one after the other."""
    return tuple(part for each in many for part in each)


def join(messages: Iterable[Parts]) -> Data:
    """Make one template of several messages: neighbouring bytes become one piece."""
    pieces = _pack(*flatten(*messages))
    return pieces[0] if len(pieces) == 1 and isinstance(pieces[0], bytes) else pieces


def plain(*messages: Parts) -> bytes:
    """Give messages that have no holes as bytes."""
    data = join(messages)
    if not isinstance(data, bytes):
        raise TypeError("only the launcher can fill the holes of a message")
    return data


def _pack(*parts: Part) -> Parts:
    """Put neighbouring bytes together, so that what has no holes is one piece, however deep it is built."""
    pieces: list[Part] = []
    run: list[bytes] = []
    for part in parts:
        if isinstance(part, bytes):
            run.append(part)
            continue
        if run:
            pieces.append(b"".join(run))
            run.clear()
        pieces.append(part)
    return (*pieces, b"".join(run)) if run else tuple(pieces)


def _size(parts: Iterable[Part]) -> int:
    return sum(len(part) if isinstance(part, bytes) else 4 for part in parts)
