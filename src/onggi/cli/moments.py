"""Times as `--since` and `--until` take them (moby's api/types/time): a date, a duration back from now, or seconds."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from onggi.base.errors import InvalidArgument
from onggi.base.units import SECOND, parse_duration, parse_time

_DATE: Final = re.compile(
    r"(\d{4}-\d{2}-\d{2})(?:T(\d{2}:\d{2})(?::(\d{2}(?:\.\d{1,9})?))?)?(Z|[+-]\d{2}:\d{2})?", re.ASCII
)
_END_NS: Final = 2**63 - 1
"""What the database and most programs keep."""
_SECONDS: Final = re.compile(r"(\d{1,18})(?:\.(\d{1,9}))?", re.ASCII)


def parse_moment(text: str, now_ns: int, env: Mapping[str, str]) -> int:
    """Read `2024-05-01T10:00:00Z`, `2024-05-01` (in the caller's zone), `10m` (ago) or `1714557600.5`.

    Gives nanoseconds since 1970, those of the years 1678 and 2262 for anything beyond. Raises InvalidArgument.
    """
    return max(-_END_NS, min(_END_NS, _parse(text, now_ns, env)))


def _parse(text: str, now_ns: int, env: Mapping[str, str]) -> int:
    if found := _SECONDS.fullmatch(text):
        return int(found[1]) * SECOND + int((found[2] or "").ljust(9, "0"))
    if found := _DATE.fullmatch(text):
        day, minute, seconds, zone = found.groups()
        whole = f"{day}T{minute or '00:00'}:{seconds or '00'}"
        return parse_time(whole + (zone or _zone(whole, env)))
    try:
        return now_ns - parse_duration(text)
    except InvalidArgument:
        raise InvalidArgument(f'failed to parse value as time or duration: "{text}"') from None


def _zone(whole: str, env: Mapping[str, str]) -> str:
    """Give the offset of the caller's zone at a time, as `+02:00`."""
    from onggi.cli.render import zone_of

    try:
        offset = datetime.fromisoformat(whole[:19]).replace(tzinfo=zone_of(env)).astimezone(zone_of(env)).strftime("%z")
    except (ValueError, OverflowError):
        return "Z"
    return f"{offset[:3]}:{offset[3:5]}"
