"""Sparse files: the five ways in which archives say where the holes are.

GNU's old format (type `S`, a map in the header and in blocks after it) and
GNU's PAX formats 0.0 (repeated records), 0.1 (one record) and 1.0 (decimal
lines before the data). All become a tuple of (offset, length).
"""

from collections.abc import Callable, Iterator
from typing import Final

from onggi.base.errors import Corrupt

from .fields import BLOCK, number, small_number
from .pax import Records, parse_number

Extents = tuple[tuple[int, int], ...]

_OLD_MAP: Final = 386
_OLD_IN_HEADER: Final = 4
_OLD_IN_BLOCK: Final = 21
_OLD_EXTENDED: Final = 482
_OLD_BLOCK_EXTENDED: Final = 504
_OLD_REAL_SIZE: Final = slice(483, 495)
_PAIR: Final = 24
_SIZE_MOST: Final = (1 << 63) - 1
_LINE_MOST: Final = 20


def read_old(block: bytes, next_block: Callable[[], bytes], most: int) -> tuple[int, Extents]:
    """Read the size and the map of an old GNU sparse header; `next_block` gives the blocks after it."""
    pairs = list(_old_pairs(block, _OLD_MAP, _OLD_IN_HEADER))
    extended = block[_OLD_EXTENDED]
    while extended:
        if len(pairs) > most:
            raise Corrupt(f"its sparse map has more than {most} parts")
        more = next_block()
        pairs += _old_pairs(more, 0, _OLD_IN_BLOCK)
        extended = more[_OLD_BLOCK_EXTENDED]
    return small_number(block[_OLD_REAL_SIZE], "real size", _SIZE_MOST), tuple(pairs)


def _old_pairs(block: bytes, start: int, count: int) -> Iterator[tuple[int, int]]:
    for at in range(start, start + count * _PAIR, _PAIR):
        if not block[at]:
            break
        yield number(block[at : at + 12], "sparse offset"), number(block[at + 12 : at + _PAIR], "sparse length")


def pax_version(records: dict[bytes, bytes]) -> tuple[int, int] | None:
    """Say which PAX sparse format the records announce."""
    if b"GNU.sparse.major" in records:
        major = parse_number(records[b"GNU.sparse.major"], "sparse format")
        minor = parse_number(records.get(b"GNU.sparse.minor", b"0"), "sparse format")
        if (major, minor) == (1, 0):
            return 1, 0
        if major != 0 or minor > 1:
            raise Corrupt(f"its sparse format {major}.{minor} is unknown")
    if b"GNU.sparse.map" in records:
        return 0, 1
    if b"GNU.sparse.numblocks" in records or b"GNU.sparse.size" in records:
        return 0, 0
    return None


def real_size(records: dict[bytes, bytes]) -> int:
    """Give the size of the file with its holes; raises Corrupt."""
    value = records.get(b"GNU.sparse.realsize") or records.get(b"GNU.sparse.size")
    if value is None or (size := parse_number(value, "real size")) > _SIZE_MOST:
        raise Corrupt("its PAX header does not say how large the sparse file is")
    return size


def parse_0_0(records: Records, most: int) -> Extents:
    """Read the repeated offset and numbytes records."""
    numbers: list[int] = []
    for key, value in records:
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            if (key == b"GNU.sparse.offset") != (len(numbers) % 2 == 0):
                raise Corrupt("its sparse map is out of order")
            numbers.append(parse_number(value, "sparse map"))
    return _pairs(numbers, most)


def parse_0_1(value: bytes, most: int) -> Extents:
    """Read `offset,length,offset,length`."""
    if value.count(b",") > 2 * most:
        raise Corrupt(f"its sparse map has more than {most} parts")
    return _pairs([parse_number(part, "sparse map") for part in value.split(b",")] if value else [], most)


def read_1_0(next_block: Callable[[], bytes], most: int, most_bytes: int) -> tuple[Extents, int]:
    """Read the map that is in front of the data; gives it and the bytes that it took, whole blocks."""
    text = bytearray()
    blocks = 0
    at = 0

    def line() -> int:
        nonlocal blocks, at
        while (end := text.find(b"\n", at, at + _LINE_MOST + 1)) < 0:
            if len(text) - at > _LINE_MOST or blocks * BLOCK >= most_bytes:
                raise Corrupt("its sparse map is too long or no map")
            text.extend(next_block())
            blocks += 1
        value = parse_number(bytes(text[at:end]), "sparse map")
        at = end + 1
        return value

    count = line()
    if count > most:
        raise Corrupt(f"its sparse map has more than {most} parts")
    numbers = [line() for _ in range(2 * count)]
    return _pairs(numbers, most), blocks * BLOCK


def _pairs(numbers: list[int], most: int) -> Extents:
    if len(numbers) % 2 or len(numbers) > 2 * most:
        raise Corrupt(f"its sparse map is incomplete or has more than {most} parts")
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def check(extents: Extents, size: int, stored: int) -> None:
    """Hold the map against the size of the file and the bytes that the archive stores; raises Corrupt."""
    end = total = 0
    for offset, length in extents:
        if offset < end or length < 0 or offset + length > size:
            raise Corrupt(f"its sparse map is wrong: {length} bytes at {offset} of {size}")
        end = offset + length
        total += length
    if total != stored:
        raise Corrupt(f"its sparse map names {total} bytes, but {stored} are stored")
