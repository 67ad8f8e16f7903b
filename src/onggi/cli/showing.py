"""Commands that show containers: ps, logs, inspect, stats, top, port."""

import time

import click

from onggi.base.errors import InvalidArgument, NotFound
from onggi.base.units import bytes_size, parse_duration, parse_time
from onggi.cli.app import Command, State, pass_state
from onggi.cli.completion import CONTAINER
from onggi.cli.images import image_document
from onggi.cli.inspect import container_document
from onggi.cli.render import address, age, json_lines, published, quoted_command, status, table
from onggi.host.processes import process_command
from onggi.runtime.bundle import command_line


@click.command(cls=Command)
@click.option("-a", "--all", "every", is_flag=True, help="Show stopped ones too")
@click.option("-q", "--quiet", is_flag=True, help="Print only ids")
@click.option("--no-trunc", is_flag=True, help="Cut nothing short")
@click.option("-n", "--last", type=int, default=-1, help="Show the last N, whatever their state")
@click.option("-l", "--latest", is_flag=True, help="Show the last one, whatever its state")
@pass_state
def ps(state: State, /, every: bool, quiet: bool, no_trunc: bool, last: int, latest: bool) -> int:
    """List containers."""
    last = 1 if latest else last
    engine = state.engine
    found = engine.containers.list(every=every or last > 0)
    found = found[:last] if last > 0 else found
    if quiet:
        state.caller.out("".join(f"{c.id if no_trunc else c.id.short}\n" for c in found))
        return 0
    now = time.time_ns()
    rows = []
    for c in found:
        words = command_line(engine.containers.request(c.id), engine.containers.image_defaults(c))
        rows.append(
            (
                c.id if no_trunc else c.id.short,
                c.image_ref or engine.containers.request(c.id).rootfs,
                quoted_command(words, whole=no_trunc),
                age(c.created_ns, now),
                status(c, now),
                published(engine.containers.network(c.id)) if c.state in ("running", "paused") else "",
                c.name or "",
            )
        )
    state.caller.out(table(("CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"), rows))
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
@click.argument("containers", type=CONTAINER, nargs=-1, required=True)
@pass_state
def inspect(state: State, /, containers: tuple[str, ...]) -> int:
    """Describe containers or images in full, as JSON."""
    documents, code = [], 0
    for ref in containers:
        try:
            documents.append(container_document(state.engine, ref))
        except NotFound:
            try:
                documents.append(image_document(state, ref))
            except NotFound:
                state.caller.err(f"Error: No such object: {ref}\n")
                code = 1
    state.caller.out(json_lines(documents))
    return code


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
