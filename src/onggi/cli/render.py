"""Tables and times as `docker` prints them."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo

import msgspec

from onggi.base.errors import OnggiError
from onggi.base.units import human_duration
from onggi.cli.app import State
from onggi.spec.ports import PublishedPort
from onggi.store.containers import Container


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, minimum: int = 10) -> str:
    """Lay out columns under their headers."""
    return tabulate([header, *rows], minimum=minimum)


def tabulate(lines: Sequence[Sequence[str]], *, minimum: int = 10, padding: int = 3, ended: bool = False) -> str:
    """Align cells as Go's text/tabwriter does: the last cell of a line belongs to no column.

    A column goes on as long as lines have it, is at least `minimum` wide, and `padding` apart from the next.
    The last of `ended` lines is what follows the last end of a line.
    """
    widths = [[0] * (len(line) - 1) for line in lines]
    for column in range(max((len(width) for width in widths), default=0)):
        first = 0
        while first < len(lines):
            last = first
            while last < len(lines) and len(widths[last]) > column:
                last += 1
            if last > first:
                widest = max(display_width(line[column]) for line in lines[first:last])
                for width in widths[first:last]:
                    width[column] = max(minimum, widest + padding)
            first = last + 1
    text = "\n".join(map(_aligned, lines, widths))
    return text if ended else f"{text}\n"


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell + " " * (width - display_width(cell)) for cell, width in zip(cells, widths, strict=False))
    return "".join(padded) + cells[-1]


def display_width(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    import unicodedata

    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) != 0 for char in text)


def json_document(document: object, *, indent: int = 4) -> str:
    """Print a document as Docker does; what is no UTF-8 in it becomes U+FFFD, since JSON cannot carry it."""
    try:
        data = msgspec.json.encode(document)
    except UnicodeEncodeError:
        data = msgspec.json.encode(_readable(msgspec.to_builtins(document)))
    return msgspec.json.format(data, indent=indent).decode() + "\n"


def _readable(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if isinstance(value, dict):
        return {_readable(key): _readable(item) for key, item in value.items()}
    return [_readable(item) for item in value] if isinstance(value, list | tuple) else value


def age(then_ns: int, now_ns: int) -> str:
    """`5 minutes ago`."""
    return f"{human_duration(max(0, now_ns - then_ns))} ago"


def status(container: Container, now_ns: int) -> str:
    """`Up 5 minutes`, `Exited (0) 2 hours ago`, `Created`."""
    match container.state:
        case "running":
            return f"Up {human_duration(max(0, now_ns - container.started_ns))}"
        case "paused":
            return f"Up {human_duration(max(0, now_ns - container.started_ns))} (Paused)"
        case "exited":
            return f"Exited ({container.exit_code}) {age(container.finished_ns, now_ns)}"
        case other:
            return other.capitalize()


def ellipsis(text: str, width: int) -> str:
    """Cut a text to what fits in `width` columns of a terminal."""
    if display_width(text) <= width:
        return text
    kept = ""
    for char in text:
        if display_width(kept + char) > width - 1:
            break
        kept += char
    return f"{kept}…"


def command_text(words: Sequence[str]) -> str:
    """A command on one line, as Docker lists it: words with spaces in single quotes."""
    return " ".join([*words[:1], *(f"'{word}'" if " " in word else word for word in words[1:])])


def zone_of(env: Mapping[str, str]) -> tzinfo | None:
    """Give the caller's zone; None is the host's."""
    name = env.get("TZ", "").removeprefix(":")
    if not name:
        return None
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


def local_time(time_ns: int, env: Mapping[str, str]) -> datetime:
    """Give a time in the caller's zone, in whole seconds."""
    return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).astimezone(zone_of(env))


def go_time(time_ns: int, env: Mapping[str, str]) -> str:
    """`2024-05-01 10:00:00 +0200 CEST`, as Go prints a time."""
    return local_time(time_ns, env).strftime("%Y-%m-%d %H:%M:%S %z %Z")


def each(state: State, refs: Sequence[str], action: Callable[[str], object], *, echo: bool = True) -> int:
    """Do something to each object and print its name; go on after a failure, and fail at the end."""
    code = 0
    for ref in refs:
        try:
            action(ref)
        except OnggiError as error:
            from onggi.cli.progress import printable

            state.caller.err(f"onggi: {printable(str(error))}\n")
            code = 1
        else:
            if echo:
                state.caller.out(f"{ref}\n")
    return code


def address(port: PublishedPort) -> str:
    """`0.0.0.0:8080`, `[::]:8080`."""
    host = f"[{port.host_ip}]" if ":" in port.host_ip else port.host_ip
    return f"{host}:{port.host_port}"
