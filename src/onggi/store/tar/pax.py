"""PAX extended headers (IEEE 1003.1, pax(1)): records `LENGTH KEY=VALUE\\n` that override or add to a header."""

from collections.abc import Iterable
from typing import Final

from onggi.base.errors import Corrupt
from onggi.base.names import shown

Records = list[tuple[bytes, bytes]]

SECOND_NS: Final = 1_000_000_000
_XATTR: Final = b"SCHILY.xattr."
_LIBARCHIVE: Final = b"LIBARCHIVE.xattr."
_LENGTH_DIGITS_MOST: Final = 8
_SECONDS_DIGITS_MOST: Final = 18
_XATTR_NAME_MOST: Final = 255
_XATTR_VALUE_MOST: Final = 65536


def parse_records(body: bytes) -> Records:
    """Split the body of an extended header into its records, in order; raises Corrupt."""
    records: Records = []
    at = 0
    while at < len(body):
        space = body.find(b" ", at, at + _LENGTH_DIGITS_MOST + 1)
        digits = body[at:space]
        if space < 0 or not digits.isdigit():
            raise Corrupt(f"a record of its PAX header has no length: {shown(body[at : at + 32])}")
        end = at + int(digits)
        if end > len(body) or end <= space + 1 or body[end - 1] != 0x0A:
            raise Corrupt(f"a record of its PAX header does not end where its length says: {shown(body[at : at + 32])}")
        key, equals, value = body[space + 1 : end - 1].partition(b"=")
        if not equals or not key or b"\0" in key:
            raise Corrupt(f"a record of its PAX header has no key: {shown(body[at : at + 32])}")
        records.append((key, value))
        at = end
    return records


def format_records(records: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Put records together; their order is kept."""
    return b"".join(_format_record(key, value) for key, value in records)


def _format_record(key: bytes, value: bytes) -> bytes:
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) > len(str(rest)):
        length += 1
    return b"%d %s=%s\n" % (length, key, value)


def parse_number(value: bytes, what: str) -> int:
    """Read a decimal number without sign; raises Corrupt."""
    if not value.isdigit() or len(value) > 20:
        raise Corrupt(f"the {what} in its PAX header is no number: {shown(value)}")
    return int(value)


def parse_time(value: bytes) -> int:
    """Read `[-]SECONDS[.FRACTION]` as nanoseconds; finer digits are cut. Raises Corrupt."""
    whole, _, fraction = value.removeprefix(b"-").partition(b".")
    if not whole.isdigit() or len(whole) > _SECONDS_DIGITS_MOST or not (fraction.isdigit() if fraction else True):
        raise Corrupt(f"the time in its PAX header is no number: {shown(value)}")
    time_ns = int(whole) * SECOND_NS + int(fraction[:9].ljust(9, b"0"))
    return -time_ns if value.startswith(b"-") else time_ns


def format_time(time_ns: int) -> bytes:
    """Write nanoseconds as seconds with the digits that are needed."""
    seconds, rest = divmod(abs(time_ns), SECOND_NS)
    text = b"%d.%09d" % (seconds, rest) if rest else b"%d" % seconds
    text = text.rstrip(b"0") if rest else text
    return b"-" + text if time_ns < 0 else text


def is_xattr(key: bytes) -> bool:
    """Say whether the record is an extended attribute."""
    return key.startswith((_XATTR, _LIBARCHIVE))


def parse_xattrs(pax: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Collect extended attributes in star's form (raw) and libarchive's (encoded); raises Corrupt."""
    found: dict[bytes, bytes] = {}
    for key, value in pax.items():
        if key.startswith(_XATTR):
            name = key[len(_XATTR) :]
            if b"%" in name:  # as GNU tar writes names with a character that no key can have
                name = name.replace(b"%3D", b"=").replace(b"%25", b"%")
        elif key.startswith(_LIBARCHIVE):
            name, value = _unquote(key[len(_LIBARCHIVE) :]), _decode_base64(value)
        else:
            continue
        if not 0 < len(name) <= _XATTR_NAME_MOST or b"\0" in name or len(value) > _XATTR_VALUE_MOST:
            raise Corrupt(f"its extended attribute {shown(name)} is one that no system can hold")
        found[name] = value
    return found


def format_xattrs(xattrs: dict[bytes, bytes]) -> Records:
    """Give the records of extended attributes."""
    return [(_XATTR + name.replace(b"%", b"%25").replace(b"=", b"%3D"), value) for name, value in xattrs.items()]


def _unquote(text: bytes) -> bytes:
    """Decode the `%XX` of libarchive's attribute names."""
    first, *rest = text.split(b"%")
    try:
        return first + b"".join(bytes.fromhex(part[:2].decode("ascii")) + part[2:] for part in rest)
    except ValueError:
        raise Corrupt(f"its extended attribute {shown(text)} is badly encoded") from None


def _decode_base64(text: bytes) -> bytes:
    """Decode base64 with or without its padding, as libarchive writes it."""
    import binascii  # rarely needed

    try:
        return binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)
    except ValueError:
        raise Corrupt(f"an extended attribute in its PAX header is no base64: {shown(text)}") from None
