"""Commands that show containers: ps, logs, inspect, stats, top, port."""

import time
from typing import Any, Final

import click

from onggi.base.errors import InvalidArgument, NotFound
from onggi.cli import usage_list
from onggi.cli.app import Command, State, pass_state
from onggi.cli.completion import CONTAINER
from onggi.cli.container_list import COLUMNS, FILTERS, RAW, TABLE, Listed, select
from onggi.cli.documents import FORMAT_HELP as DOCUMENT_FORMAT_HELP
from onggi.cli.documents import show_documents
from onggi.cli.filters import filter_option, parse_filters
from onggi.cli.inspect import KINDS, container_document, find_document
from onggi.cli.listing import Listing, listing_options, needs, render_listing
from onggi.cli.moments import parse_moment
from onggi.cli.processes_table import Moment, choose_columns, process_rows
from onggi.cli.quoting import quote
from onggi.cli.render import address, local_time, table
from onggi.host.machine_info import read_machine_info
from onggi.host.proctable import read_process

_STATS_INTERVAL_S: Final = 1.0


@click.command(cls=Command)
@click.option("-a", "--all", "every", is_flag=True, help="Show stopped ones too")
@filter_option(FILTERS)
@click.option("-n", "--last", type=int, default=-1, help="Show the last N, whatever their state")
@click.option("-l", "--latest", is_flag=True, help="Show the last one, whatever its state")
@click.option("--no-trunc", is_flag=True, help="Cut nothing short")
@click.option("-q", "--quiet", is_flag=True, help="Print only ids")
@click.option("-s", "--size", is_flag=True, help="Show what they have written, and that with the image")
@listing_options
@pass_state
def ps(
    state: State,
    /,
    every: bool,
    filters: tuple[str, ...],
    last: int,
    latest: bool,
    no_trunc: bool,
    quiet: bool,
    size: bool,
    format: str,
    as_json: bool,
) -> int:
    """List containers."""
    wanted = parse_filters(filters, FILTERS)
    if quiet and format:
        state.caller.err("WARNING: Ignoring custom format, because both --format and --quiet are set.\n")
        format = format if format == "raw" else ""
    sized = size or needs(format, "Size")
    engine, now_ns = state.engine, time.time_ns()
    found = [
        Listed(
            engine=engine, container=container, now_ns=now_ns, env=state.caller.env, truncate=not no_trunc, sized=sized
        )
        for container in engine.containers.list(every=True)
    ]
    listing = Listing(
        kind="container",
        columns=COLUMNS,
        default=(*TABLE, "Size") if size else TABLE,
        items=select(found, wanted, every=every, last=1 if latest and last == -1 else last),
        raw=RAW + ("size: {{.Size}}\n" if size else ""),
        raw_quiet="container_id: {{.ID}}",
    )
    state.caller.out(render_listing(listing, format=format, quiet=quiet, as_json=as_json))
    return 0


@click.command(cls=Command)
@click.option("--details", is_flag=True, help="Show the attributes of a record before it; json-file has none")
@click.option("-f", "--follow", is_flag=True, help="Go on until the container ends")
@click.option("--since", default="", metavar="TIME", help="Only later records: a time, or a duration such as 10m")
@click.option("-n", "--tail", default="all", help="Only the last N records")
@click.option("-t", "--timestamps", is_flag=True, help="Show times")
@click.option("--until", default="", metavar="TIME", help="Only earlier records: a time, or a duration such as 10m")
@click.argument("container", type=CONTAINER)
@pass_state
def logs(
    state: State, /, container: str, details: bool, follow: bool, since: str, tail: str, timestamps: bool, until: str
) -> int:
    """Show what a container has printed."""
    caller, now_ns = state.caller, time.time_ns()
    if follow:
        caller.only_in_process()
    if tail != "all" and not tail.lstrip("-").isdigit():
        raise InvalidArgument(f'invalid value for "tail": {tail}')
    number = None if tail == "all" or int(tail) < 0 else int(tail)
    since_ns = parse_moment(since, now_ns, caller.env) if since else 0
    until_ns = parse_moment(until, now_ns, caller.env) if until else None
    follow = follow and (until_ns is None or until_ns > now_ns)
    lines = state.engine.containers.logs(container, follow=follow, tail=number, since_ns=since_ns, until_ns=until_ns)
    for line in lines:
        text = f"{f'{line.time} ' if timestamps else ''}{' ' if details else ''}{line.log}"
        data = text.encode("utf-8", "surrogateescape")
        (caller.out_bytes if line.stream == "stdout" else caller.err_bytes)(data)
    return 0


@click.command(cls=Command)
@click.option("-f", "--format", "format", default="", metavar="FORMAT", help=DOCUMENT_FORMAT_HELP)
@click.option("-s", "--size", is_flag=True, help="Measure what a container has written")
@click.option("--type", "kind", default=None, help=f"Look only for one of {', '.join(KINDS)}")
@click.argument("objects", type=CONTAINER, nargs=-1, required=True)
@pass_state
def inspect(state: State, /, objects: tuple[str, ...], format: str, size: bool, kind: str | None) -> int:
    """Describe containers, images and other objects in full, as JSON."""
    if kind is not None and kind not in KINDS:
        raise InvalidArgument(f"unknown type: {quote(kind)}: must be one of {', '.join(map(quote, KINDS))}")

    def find(ref: str) -> dict[str, Any]:
        return find_document(state.engine, ref, kind=kind, size=size, warn=state.caller.err)

    return show_documents(state, objects, find, format)


@click.command("inspect", cls=Command)
@click.option("-f", "--format", "format", default="", metavar="FORMAT", help=DOCUMENT_FORMAT_HELP)
@click.option("-s", "--size", is_flag=True, help="Measure what a container has written")
@click.argument("containers", type=CONTAINER, nargs=-1, required=True)
@pass_state
def inspect_containers(state: State, /, containers: tuple[str, ...], format: str, size: bool) -> int:
    """Describe containers in full, as JSON."""
    return show_documents(state, containers, lambda ref: container_document(state.engine, ref, size=size), format)


@click.command(cls=Command)
@click.option("-a", "--all", "every", is_flag=True, help="Show stopped ones too")
@click.option("--no-stream", is_flag=True, help="Show it once")
@click.option("--no-trunc", is_flag=True, help="Cut nothing short")
@listing_options
@click.argument("containers", type=CONTAINER, nargs=-1)
@pass_state
def stats(
    state: State,
    /,
    containers: tuple[str, ...],
    every: bool,
    no_stream: bool,
    no_trunc: bool,
    format: str,
    as_json: bool,
) -> int:
    """Show what containers use, once a second until interrupted."""
    caller = state.caller
    caller.only_in_process()
    if as_json and not no_stream:
        raise InvalidArgument("conflicting options: --json prints one array, so it needs --no-stream")
    watch = usage_list.Watch(
        state.engine, containers, every=every, truncate=not no_trunc, memory_bytes=read_machine_info().memory_bytes
    )
    watch.look(time.monotonic_ns())
    while True:
        time.sleep(_STATS_INTERVAL_S)
        found = watch.look(time.monotonic_ns())
        listing = Listing(kind="container", columns=usage_list.COLUMNS, default=usage_list.TABLE, items=found)
        text = render_listing(listing, format=format, as_json=as_json)
        caller.out(text if no_stream else _over_the_last(text))
        if no_stream or (containers and not found):
            return 0


def _over_the_last(text: str) -> str:
    """Write over what stands on the terminal, from its corner: each line clears the rest of its own."""
    lines = "".join(f"{line} \x1b[K\n" for line in text.split("\n"))
    return f"\x1b[H{lines}\x1b[J"


@click.command(cls=Command, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("container", type=CONTAINER)
@click.argument("options", metavar="[PS OPTIONS]", nargs=-1, type=click.UNPROCESSED)
@pass_state
def top(state: State, /, container: str, options: tuple[str, ...]) -> int:
    """List the processes of a container, in the columns of ps."""
    columns = choose_columns(options)
    found = [process for pid in state.engine.containers.pids(container) if (process := read_process(pid)) is not None]
    at = Moment(local_time(time.time_ns(), state.caller.env), read_machine_info())
    state.caller.out(table([header for header, _ in columns], process_rows(found, columns, at), minimum=20))
    return 0


@click.command(cls=Command)
@click.argument("container", type=CONTAINER)
@click.argument("port", required=False)
@pass_state
def port(state: State, /, container: str, port: str | None) -> int:
    """List the published ports of a container, or where one of them is."""
    found = state.engine.containers.get(container)
    settings = state.engine.containers.network(found.id) if found.state in ("running", "paused") else None
    ports = settings.ports if settings else ()
    if port is None:
        lines = [f"{p.container_port}/{p.protocol} -> {address(p)}" for p in ports]
    else:
        wanted = port if "/" in port else f"{port}/tcp"
        lines = [address(p) for p in ports if f"{p.container_port}/{p.protocol}" == wanted]
        if not lines:
            raise NotFound(f"no public port '{wanted}' published for {container}")
    state.caller.out("".join(f"{line}\n" for line in lines))
    return 0
