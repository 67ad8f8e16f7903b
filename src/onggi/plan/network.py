"""Netlink messages as bytes (rtnetlink(7), linux/rtnetlink.h)."""

import struct
from typing import Final

RTM_NEWLINK: Final = 16
NLM_F_REQUEST: Final = 1
NLM_F_ACK: Final = 4
IFF_UP: Final = 1

LOOPBACK_INDEX: Final = 1


def encode_message(kind: int, flags: int, body: bytes) -> bytes:
    """Frame one message: length, type, flags, sequence, port, then the body, padded to four bytes."""
    padded = body + bytes(-len(body) % 4)
    return struct.pack("=IHHII", 16 + len(padded), kind, NLM_F_REQUEST | NLM_F_ACK | flags, 1, 0) + padded


def link_up(index: int) -> bytes:
    """Set IFF_UP on the link with this index."""
    return encode_message(RTM_NEWLINK, 0, struct.pack("=BxHiII", 0, 0, index, IFF_UP, IFF_UP))
