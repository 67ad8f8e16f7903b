"""Tables and times as `docker` prints them."""

from collections.abc import Callable, Sequence

import msgspec

from onggi.base.errors import OnggiError
from onggi.base.units import human_duration
from onggi.cli.app import State
from onggi.engine.networks import NetworkSettings
from onggi.spec.ports import PublishedPort
from onggi.store.containers import Container


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out columns, three spaces apart."""
    every = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in every) for column in range(len(header))]
    lines = ("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in every)
    return "".join(f"{line}\n" for line in lines)


def json_lines(document: object) -> str:
    """Print a document as Docker does; what is no UTF-8 in it becomes U+FFFD, since JSON cannot carry it."""
    try:
        data = msgspec.json.encode(document)
    except UnicodeEncodeError:
        data = msgspec.json.encode(_readable(msgspec.to_builtins(document)))
    return msgspec.json.format(data, indent=4).decode() + "\n"


def _readable(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if isinstance(value, dict):
        return {_readable(key): _readable(item) for key, item in value.items()}
    return [_readable(item) for item in value] if isinstance(value, list) else value


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


def quoted_command(words: Sequence[str], *, whole: bool) -> str:
    """`"sh -c 'sleep 1'"`, cut to 20 characters unless `whole`."""
    text = " ".join(words)
    if not whole and len(text) > 20:
        text = text[:19] + "…"
    return f'"{text}"'


def each(state: State, refs: Sequence[str], action: Callable[[str], object], *, echo: bool = True) -> int:
    """Do something to each object and print its name; go on after a failure, and fail at the end."""
    code = 0
    for ref in refs:
        try:
            action(ref)
        except OnggiError as error:
            state.caller.err(f"onggi: {error}\n")
            code = 1
        else:
            if echo:
                state.caller.out(f"{ref}\n")
    return code


def address(port: PublishedPort) -> str:
    """`0.0.0.0:8080`, `[::]:8080`."""
    host = f"[{port.host_ip}]" if ":" in port.host_ip else port.host_ip
    return f"{host}:{port.host_port}"


def published(settings: NetworkSettings | None) -> str:
    """The column PORTS of `ps`."""
    if settings is None:
        return ""
    return ", ".join(f"{address(port)}->{port.container_port}/{port.protocol}" for port in settings.ports)
