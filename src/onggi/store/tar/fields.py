"""The 512 bytes of a tar header: numbers, texts, checksum.

POSIX ustar (IEEE 1003.1), GNU's variant with its base-256 numbers, star's, and
the old V7 header without a magic. Strict where a lenient reading could differ
between programs that read the same archive: digits are digits.
"""

import struct
from typing import Final

import msgspec

from onggi.base.errors import Corrupt
from onggi.base.names import shown

BLOCK: Final = 512
ZERO_BLOCK: Final = bytes(BLOCK)

# name mode uid gid size mtime chksum type linkname magic+version uname gname major minor prefix rest
_HEADER: Final = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12s")
_CHECKSUM: Final = slice(148, 156)
_SPACES: Final = 8 * 0x20
_DIGITS: Final = b"01234567"
# Fields such as the mode and the owner hold a handful of values all through an archive.
_known: dict[bytes, int] = {}
_KNOWN_MOST: Final = 4096


class Header(msgspec.Struct, frozen=True):
    """The fields of one header that mean something; numbers are still text."""

    name: bytes
    mode: bytes
    uid: bytes
    gid: bytes
    size: bytes
    mtime: bytes
    type: bytes
    link: bytes
    major: bytes
    minor: bytes


def parse_header(block: bytes) -> Header:
    """Split a header after checking its sum; raises Corrupt."""
    (name, mode, uid, gid, size, mtime, checksum, kind, link, magic, _, _, major, minor, prefix, rest) = _HEADER.unpack(
        block
    )
    if number(checksum, "checksum") != sum(block) - sum(checksum) + _SPACES:
        _check_signed(block, checksum)
    name = text(name)
    if prefix[0] and magic[:6] == b"ustar\0":
        # star puts the access time and its own magic where POSIX has the end of the prefix.
        prefix = text(prefix[:131] if rest[8:] == b"tar\0" else prefix)
        name = prefix + b"/" + name if name else prefix
    return Header(name, mode, uid, gid, size, mtime, kind, text(link), major, minor)


def _check_signed(block: bytes, checksum: bytes) -> None:
    """Accept the sum of old programs that took bytes as signed."""
    signed = sum(struct.unpack(f"{BLOCK}b", block)) - sum(struct.unpack("8b", checksum)) + _SPACES
    if number(checksum, "checksum") != signed:
        raise Corrupt("the checksum of its header is wrong: this is no tar archive, or a damaged one")


def text(field: bytes) -> bytes:
    """Give a text field up to its first NUL."""
    end = field.find(0)
    return field if end < 0 else field[:end]


def number(field: bytes, what: str) -> int:
    """Read an octal or base-256 number; an empty field is 0. Raises Corrupt."""
    if field[0] & 0x80:
        return _base256(field)
    digits = text(field.lstrip(b" \0")).rstrip(b" ")
    if digits.strip(_DIGITS):
        raise Corrupt(f"its {what} is no octal number: {shown(field)}")
    return int(digits, 8) if digits else 0


def repeated_number(field: bytes, what: str, most: int) -> int:
    """Read a number from 0 to `most`, of a kind that few entries differ in; raises Corrupt."""
    value = _known.get(field)
    if value is None:
        value = number(field, what)
        if len(_known) < _KNOWN_MOST:
            _known[field] = value
    if not 0 <= value <= most:
        raise Corrupt(f"its {what} is {value}, which is not between 0 and {most}")
    return value


def _base256(field: bytes) -> int:
    """Big-endian two's complement whose first bit only marks the form (GNU, star)."""
    value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
    if field[0] & 0x40:
        value -= 1 << (8 * len(field) - 1)
    return value


def small_number(field: bytes, what: str, most: int) -> int:
    """Read a number from 0 to `most`; raises Corrupt."""
    value = number(field, what)
    if not 0 <= value <= most:
        raise Corrupt(f"its {what} is {value}, which is not between 0 and {most}")
    return value
