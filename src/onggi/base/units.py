"""Sizes, durations and times as Docker's and Go's users write and read them.

Sizes are bytes, durations and times are nanoseconds (times since 1970, UTC),
all as int: nothing is rounded before it is shown. Spellings follow docker's
go-units, Go's time.ParseDuration and RFC 3339.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from .errors import InvalidArgument

NANOSECOND: Final = 1
MICROSECOND: Final = 1_000
MILLISECOND: Final = 1_000_000
SECOND: Final = 1_000_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE

_INT64_MAX: Final = 2**63 - 1
_DIGITS: Final = frozenset("0123456789")
_DECIMAL: Final = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
_BINARY: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")
_POWERS: Final = "kmgtpe"
_UNITS: Final = {
    "ns": NANOSECOND,
    "us": MICROSECOND,
    "µs": MICROSECOND,  # U+00B5, micro sign
    "μs": MICROSECOND,
    "ms": MILLISECOND,
    "s": SECOND,
    "m": MINUTE,
    "h": HOUR,
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def parse_size(text: str) -> int:
    """Bytes of `512m`, `1.5g`, `64KiB`, `10`: powers of 1024, as `--memory` takes them.

    Raises InvalidArgument with go-units' text.
    """
    number = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    suffix = text[len(number) :].lower()
    value = _parse_decimal(number.removesuffix(" "))
    if value is None:
        raise InvalidArgument(f"invalid size: '{text}'")
    power = _POWERS.find(suffix[:1]) + 1 if suffix else 0
    if suffix[1:] not in ("", "b", "ib") if power else suffix not in ("", "b"):
        raise InvalidArgument(f"invalid suffix: '{suffix}'")
    mantissa, scale = value
    size = (mantissa << 10 * power) // scale
    if size > _INT64_MAX:
        raise InvalidArgument(f"invalid size: '{text}'")
    return size


def human_size(size_bytes: float, digits: int = 4) -> str:
    """`1.5GB`, `77.8MB`: powers of 1000, as `docker images` shows sizes (`docker ps -s` with 3 digits)."""
    return _scaled(size_bytes, 1000, _DECIMAL, digits)


def bytes_size(size_bytes: float) -> str:
    """`1.5GiB`, `512MiB`: powers of 1024, as `docker stats` shows memory."""
    return _scaled(size_bytes, 1024, _BINARY, 4)


def parse_duration(text: str) -> int:
    """Nanoseconds of `1h30m`, `10s`, `100ms`, `-1.5h`, `0`.

    Raises InvalidArgument with Go's text.
    """
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0
    if not rest:
        raise InvalidArgument(f'time: invalid duration "{text}"')
    total = 0
    while rest:
        number, rest = _take(rest, lambda char: char in _DIGITS or char == ".")
        unit, rest = _take(rest, lambda char: char not in _DIGITS and char != ".")
        value = _parse_decimal(number)
        if value is None:
            raise InvalidArgument(f'time: invalid duration "{text}"')
        if not unit:
            raise InvalidArgument(f'time: missing unit in duration "{text}"')
        if unit not in _UNITS:
            raise InvalidArgument(f'time: unknown unit "{unit}" in duration "{text}"')
        mantissa, scale = value
        total += mantissa * _UNITS[unit] // scale
    if total > _INT64_MAX:
        raise InvalidArgument(f'time: invalid duration "{text}"')
    return -total if text[0] == "-" else total


def format_duration(duration_ns: int) -> str:
    """`1h30m0s`, `1.5s`, `100ms`, `0s`, as Go prints a duration."""
    sign, rest = ("-", -duration_ns) if duration_ns < 0 else ("", duration_ns)
    if rest == 0:
        return "0s"
    if rest < SECOND:
        unit = next(unit for unit in ("ms", "µs", "ns") if rest >= _UNITS[unit])
        return f"{sign}{_fraction(rest, _UNITS[unit])}{unit}"
    minutes, seconds = divmod(rest, MINUTE)
    hours, minutes = divmod(minutes, 60)
    text = f"{_fraction(seconds, SECOND)}s"
    if hours:
        return f"{sign}{hours}h{minutes}m{text}"
    return f"{sign}{minutes}m{text}" if minutes else sign + text


def human_duration(duration_ns: int) -> str:
    """`5 minutes`, `About an hour`, `2 weeks`: what follows `Up` and `Exited (0)` in `docker ps`."""
    seconds = duration_ns // SECOND
    minutes = seconds // 60
    hours = (duration_ns + 30 * MINUTE) // HOUR
    if seconds < 1:
        return "Less than a second"
    if seconds < 60:
        return "1 second" if seconds == 1 else f"{seconds} seconds"
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    days = hours // 24
    if days < 14:
        return f"{days} days"
    if days < 60:
        return f"{days // 7} weeks"
    if days < 730:
        return f"{days // 30} months"
    return f"{duration_ns // HOUR // 24 // 365} years"


def format_time(time_ns: int) -> str:
    """`2024-05-01T10:00:00.123456789Z`: RFC 3339 with as many digits as needed (Go's RFC3339Nano)."""
    seconds, nanoseconds = divmod(time_ns, SECOND)
    try:
        whole = (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()
    except OverflowError:
        raise InvalidArgument(f"time {time_ns}: outside the years 1 to 9999") from None
    fraction = f".{nanoseconds:09}".rstrip("0") if nanoseconds else ""
    return f"{whole}{fraction}Z"


def parse_time(text: str) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time with any zone; digits below nanoseconds are dropped.

    Raises InvalidArgument.
    """
    whole, zone = text[:19], text[19:]
    fraction = ""
    if zone[:1] in (".", ","):
        fraction, zone = _take(zone[1:], _DIGITS.__contains__)
        if not fraction:
            raise _not_a_time(text)
    moment = _parse_moment(whole, zone)
    if moment is None:
        raise _not_a_time(text)
    since = moment - _EPOCH
    return (since.days * 86400 + since.seconds) * SECOND + int(fraction[:9].ljust(9, "0"))


def _parse_moment(whole: str, zone: str) -> datetime | None:
    if not _has_form(whole, "0000-00-00T00:00:00"):
        return None
    if zone == "Z":
        offset = timedelta()
    elif _has_form(zone[1:], "00:00") and zone[0] in "+-" and zone[1:3] < "24" and zone[4:6] < "60":
        offset = timedelta(hours=int(zone[:3]), minutes=int(zone[0] + zone[4:6]))
    else:
        return None
    try:
        return datetime.fromisoformat(whole).replace(tzinfo=timezone(offset))
    except ValueError:
        return None


def _has_form(text: str, form: str) -> bool:
    """Whether `text` has a digit where `form` has 0, and else the same characters."""
    return "".join("0" if char in _DIGITS else char for char in text) == form


def _not_a_time(text: str) -> InvalidArgument:
    return InvalidArgument(f"{text!r} is not an RFC 3339 time like 2024-05-01T10:00:00Z")


def _parse_decimal(text: str) -> tuple[int, int] | None:
    """`1.5` is (15, 10): exact, unlike float; None if this is no number."""
    whole, _, fraction = text.partition(".")
    digits = whole + fraction
    if not digits or len(digits) > 100 or not _DIGITS.issuperset(digits):
        return None
    return int(digits), 10 ** len(fraction)


def _scaled(size: float, base: int, names: tuple[str, ...], digits: int) -> str:
    index = 0
    while size >= base and index < len(names) - 1:
        size /= base
        index += 1
    return f"{size:.{digits}g}{names[index]}"


def _fraction(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    if not rest:
        return str(whole)
    return f"{whole}.{rest:0{len(str(unit)) - 1}}".rstrip("0")


def _take(text: str, wanted: Callable[[str], bool]) -> tuple[str, str]:
    """Split off the longest start whose characters are all `wanted`."""
    length = next((index for index, char in enumerate(text) if not wanted(char)), len(text))
    return text[:length], text[length:]
