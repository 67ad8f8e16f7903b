"""Commands that show containers: ps, logs, inspect, stats, top, port."""

import time
from typing import Any

import click

from onggi.base.errors import InvalidArgument, NotFound
from onggi.base.units import bytes_size, parse_duration, parse_time
from onggi.cli.app import Command, State, pass_state
from onggi.cli.completion import CONTAINER
from onggi.cli.container_list import COLUMNS, FILTERS, RAW, TABLE, Listed, select
from onggi.cli.documents import FORMAT_HELP as DOCUMENT_FORMAT_HELP
from onggi.cli.documents import show_documents
from onggi.cli.filters import filter_option, parse_filters
from onggi.cli.inspect import KINDS, find_document
from onggi.cli.listing import Listing, listing_options, needs, render_listing
from onggi.cli.quoting import quote
from onggi.cli.render import address, table
from onggi.host.processes import process_command


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
    if quiet and format and format != "raw":
        state.caller.err("WARNING: Ignoring custom format, because both --format and --quiet are set.\n")
        format = ""
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
@click.option("-f", "--follow", is_flag=True, help="Go on until the container ends")
@click.option("-n", "--tail", default="all", help="Only the last N records")
@click.option("-t", "--timestamps", is_flag=True, help="Show times")
@click.option("--since", default=None, help="Only later ones: a time or a duration such as 10m")
@click.argument("container", type=CONTAINER)
@pass_state
def logs(state: State, /, container: str, follow: bool, tail: str, timestamps: bool, since: str | None) -> int:
    """Show what a container has printed."""
    caller = state.caller
    if follow:
        caller.only_in_process()
    if tail != "all" and not tail.lstrip("-").isdigit():
        raise InvalidArgument(f'invalid value for "tail": {tail}')
    number = None if tail == "all" or int(tail) < 0 else int(tail)
    for line in state.engine.containers.logs(container, follow=follow, tail=number, since_ns=_since(since)):
        data = (f"{line.time} {line.log}" if timestamps else line.log).encode("utf-8", "surrogateescape")
        (caller.out_bytes if line.stream == "stdout" else caller.err_bytes)(data)
    return 0


def _since(text: str | None) -> int:
    if text is None:
        return 0
    try:
        return parse_time(text)
    except InvalidArgument:
        return time.time_ns() - parse_duration(text)


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


@click.command(cls=Command)
@click.argument("containers", type=CONTAINER, nargs=-1)
@pass_state
def stats(state: State, /, containers: tuple[str, ...]) -> int:
    """Show once what running containers use."""
    engine = state.engine
    found = [engine.containers.get(ref) for ref in containers] or engine.containers.list()
    rows = []
    for container in found:
        used = engine.containers.statistics(container.id)
        limit = used.memory.limit_bytes if used.memory and used.memory.limit_bytes else 0
        memory = used.memory.usage_bytes if used.memory else 0
        rows.append(
            (
                container.id.short,
                container.name or "",
                f"{bytes_size(memory)} / {bytes_size(limit) if limit else 'unlimited'}",
                f"{used.cpu.usage_ns / 1e9:.2f}s" if used.cpu else "--",
                str(used.pids.current) if used.pids else "--",
            )
        )
    state.caller.out(table(("CONTAINER ID", "NAME", "MEM USAGE / LIMIT", "CPU TIME", "PIDS"), rows))
    return 0


@click.command(cls=Command)
@click.argument("container", type=CONTAINER)
@pass_state
def top(state: State, /, container: str) -> int:
    """List the processes of a container."""
    rows = [(str(pid), " ".join(process_command(pid))) for pid in state.engine.containers.pids(container)]
    state.caller.out(table(("PID", "CMD"), rows))
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
