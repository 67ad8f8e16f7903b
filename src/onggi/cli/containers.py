"""The container commands: parse, ask the engine, render."""

import time
from contextlib import suppress
from typing import Any

import click

from onggi.base.errors import InvalidArgument, NotFound
from onggi.base.units import bytes_size, parse_duration, parse_time
from onggi.cli.app import Command, Group, State
from onggi.cli.caller import DEFAULT_DETACH_KEYS, KEEP_OPEN, PROXY, RAW, Attach
from onggi.cli.flags import RUN_OPTIONS, make_request, with_options
from onggi.cli.images import image_document
from onggi.cli.inspect import container_document
from onggi.cli.render import address, age, each, json_lines, published, quoted_command, status, table
from onggi.engine.containers import parse_signal
from onggi.engine.sessions import Session
from onggi.host.attach import STDERR, STDIN, STDOUT, Attachment
from onggi.host.processes import process_command
from onggi.plan.explain import explain_plan
from onggi.runtime.bundle import command_line
from onggi.spec.container import ContainerRequest
from onggi.store.containers import Container

PASS_ON = {"ignore_unknown_options": False, "allow_interspersed_args": False}
pass_state = click.make_pass_decorator(State)


def register(cli: Group) -> None:
    """Add the container commands, and their management forms below `container`."""
    group = Group("container", help="Manage containers")
    for command in (run, create, start, stop, kill, restart, pause, unpause, wait, rm, ps, logs, exec_, attach, inspect,
                    stats, top, port, rename):  # fmt: skip
        cli.add_command(command)
        group.add_command(command)
    group.add_command(ps, "ls")
    group.add_command(ps, "list")
    cli.add_command(group)


def parse_detach_keys(text: str | None) -> bytes:
    """Read `ctrl-p,ctrl-q`, `a,b`. Raises InvalidArgument."""
    if text is None:
        return DEFAULT_DETACH_KEYS
    keys = bytearray()
    for word in text.split(","):
        if len(word) == 1 and word.isascii():
            keys.append(ord(word))
        elif word.startswith("ctrl-") and len(word) == 6 and (word[5].isalpha() or word[5] in "@[\\]^_"):
            keys.append(ord(word[5].upper()) & 0x1F)
        else:
            raise InvalidArgument(f"invalid detach keys ({text}): {word!r} is neither a character nor ctrl-<letter>")
    return bytes(keys)


def _attach_request(request: ContainerRequest, streams: int, keys: bytes, *, proxy: bool) -> Attach:
    flags = RAW if request.tty else PROXY if proxy else 0
    if not request.stdin_once:
        flags |= KEEP_OPEN
    return Attach(streams=streams, flags=flags, detach_keys=keys if request.tty or streams & STDIN else b"")


@click.command(cls=Command, context_settings=PASS_ON)
@with_options(RUN_OPTIONS)
@click.option("-d", "--detach", is_flag=True, help="Run in the background and print the container's id")
@click.option("-a", "--attach", "streams", multiple=True, help="Attach only to stdin, stdout or stderr")
@click.option("--detach-keys", default=None, help="Keys that detach, such as ctrl-p,ctrl-q")
@click.option("--sig-proxy", default=True, type=bool, help="Pass signals on to the container")
@click.option("--explain", is_flag=True, help="Print what would be done, and do nothing")
@click.argument("image")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@pass_state
def run(state: State, /, **options: Any) -> int:
    """Run a command in a new container."""
    caller = state.caller
    detach = options["detach"]
    keys = parse_detach_keys(options["detach_keys"])
    streams = _streams(options["streams"], options["interactive"])
    request = make_request(options["image"], options["command"], options, caller, attached=not detach)
    _check_terminal(request, state, detach)
    if options["explain"]:
        caller.out(
            explain_plan(state.engine.containers.explain(request, facts=caller.facts(state.engine.system.facts)))
        )
        return 0
    containers = state.engine.containers
    container = containers.create(request, name=options["name"])
    try:
        _write_cidfile(options["cidfile"], container.id, state)
        facts = caller.facts(state.engine.system.facts)
        if detach:
            containers.start(container.id, spawn=caller.spawn, facts=facts)
            caller.out(f"{container.id}\n")
            return 0
        spawner = caller.spawner(_attach_request(request, streams, keys, proxy=options["sig_proxy"]))
        try:
            containers.start(container.id, client=spawner.client, spawn=spawner.spawn, facts=facts)
        except BaseException:
            spawner.close()
            raise
    except BaseException:
        if request.auto_remove:
            with suppress(NotFound):  # folding may have been faster
                containers.remove(container.id, force=True, volumes=True)
        raise
    return spawner.carry()


def _streams(names: tuple[str, ...], interactive: bool) -> int:
    known = {"stdin": STDIN, "stdout": STDOUT, "stderr": STDERR}
    if not names:
        return STDOUT | STDERR | (STDIN if interactive else 0)
    streams = 0
    for name in names:
        if name.lower() not in known:
            raise InvalidArgument(
                f'invalid argument "{name}" for "-a, --attach" flag: valid streams are STDIN, STDOUT and STDERR'
            )
        streams |= known[name.lower()]
    return streams


def _check_terminal(request: ContainerRequest, state: State, detach: bool) -> None:
    if request.tty and request.stdin_open and not detach and not state.caller.terminal[0]:
        raise InvalidArgument("the input device is not a TTY")


def _write_cidfile(path: str | None, id: str, state: State) -> None:
    if path is None:
        return
    import os

    try:
        with open(os.path.join(state.caller.cwd, path), "x", encoding="ascii") as file:
            file.write(id)
    except FileExistsError:
        raise InvalidArgument(
            f"container ID file found, make sure the other container isn't running or delete {path}"
        ) from None
    except OSError as error:
        raise NotFound(f"failed to create the container ID file {path}: {(error.strerror or '').lower()}") from None


@click.command(cls=Command, context_settings=PASS_ON)
@with_options(RUN_OPTIONS)
@click.argument("image")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@pass_state
def create(state: State, /, **options: Any) -> int:
    """Create a container without starting it."""
    request = make_request(options["image"], options["command"], options, state.caller, attached=options["interactive"])
    container = state.engine.containers.create(request, name=options["name"])
    _write_cidfile(options["cidfile"], container.id, state)
    state.caller.out(f"{container.id}\n")
    return 0


@click.command(cls=Command)
@click.option("-a", "--attach", "attached", is_flag=True, help="Attach stdout and stderr, and pass signals on")
@click.option("-i", "--interactive", is_flag=True, help="Attach stdin too")
@click.option("--detach-keys", default=None, help="Keys that detach, such as ctrl-p,ctrl-q")
@click.argument("containers", nargs=-1, required=True)
@pass_state
def start(
    state: State, /, containers: tuple[str, ...], attached: bool, interactive: bool, detach_keys: str | None
) -> int:
    """Start containers that do not run."""
    engine, caller = state.engine, state.caller
    facts = caller.facts(engine.system.facts)
    if not attached and not interactive:
        return each(state, containers, lambda ref: engine.containers.start(ref, spawn=caller.spawn, facts=facts))
    if len(containers) > 1:
        raise InvalidArgument("you cannot start and attach multiple containers at once")
    request = engine.containers.request(containers[0])
    streams = STDOUT | STDERR | (STDIN if interactive and request.stdin_open else 0)
    order = _attach_request(request, streams, parse_detach_keys(detach_keys), proxy=True)
    if engine.containers.get(containers[0]).state in ("running", "paused"):
        caller.attach(engine.containers.connect(containers[0]), order)
    spawner = caller.spawner(order)
    try:
        engine.containers.start(containers[0], client=spawner.client, spawn=spawner.spawn, facts=facts)
    except BaseException:
        spawner.close()
        raise
    return spawner.carry()


@click.command(cls=Command)
@click.option("-s", "--signal", "name", default=None, help="Signal to send first")
@click.option("-t", "--timeout", "--time", type=int, default=None, help="Seconds until it is killed")
@click.argument("containers", nargs=-1, required=True)
@pass_state
def stop(state: State, /, containers: tuple[str, ...], name: str | None, timeout: int | None) -> int:
    """Stop running containers."""
    number = parse_signal(name) if name else None
    return each(state, containers, lambda ref: state.engine.containers.stop(ref, timeout_s=timeout, number=number))


@click.command(cls=Command)
@click.option("-s", "--signal", "name", default="KILL", help="Signal to send")
@click.argument("containers", nargs=-1, required=True)
@pass_state
def kill(state: State, /, containers: tuple[str, ...], name: str) -> int:
    """Send a signal to running containers."""
    number = parse_signal(name)
    return each(state, containers, lambda ref: state.engine.containers.kill(ref, number=number))


@click.command(cls=Command)
@click.option("-s", "--signal", "name", default=None, help="Signal to send first")
@click.option("-t", "--timeout", "--time", type=int, default=None, help="Seconds until it is killed")
@click.argument("containers", nargs=-1, required=True)
@pass_state
def restart(state: State, /, containers: tuple[str, ...], name: str | None, timeout: int | None) -> int:
    """Stop containers and start them again."""
    number = parse_signal(name) if name else None
    engine, caller = state.engine, state.caller
    facts = caller.facts(engine.system.facts)

    def again(ref: str) -> Container:
        engine.containers.stop(ref, timeout_s=timeout, number=number)
        return engine.containers.start(ref, spawn=caller.spawn, facts=facts)

    return each(state, containers, again)


@click.command(cls=Command)
@click.argument("containers", nargs=-1, required=True)
@pass_state
def pause(state: State, /, containers: tuple[str, ...]) -> int:
    """Freeze all processes of containers."""
    return each(state, containers, state.engine.containers.pause)


@click.command(cls=Command)
@click.argument("containers", nargs=-1, required=True)
@pass_state
def unpause(state: State, /, containers: tuple[str, ...]) -> int:
    """Let frozen containers go on."""
    return each(state, containers, state.engine.containers.unpause)


@click.command(cls=Command)
@click.argument("containers", nargs=-1, required=True)
@pass_state
def wait(state: State, /, containers: tuple[str, ...]) -> int:
    """Wait until containers have ended, then print their exit codes."""
    state.caller.only_in_process()
    for ref in containers:
        state.caller.out(f"{state.engine.containers.wait(ref)}\n")
    return 0


@click.command(cls=Command)
@click.option("-f", "--force", is_flag=True, help="Kill it where it runs")
@click.option("-v", "--volumes", is_flag=True, help="Remove its anonymous volumes too")
@click.argument("containers", nargs=-1, required=True)
@pass_state
def rm(state: State, /, containers: tuple[str, ...], force: bool, volumes: bool) -> int:
    """Remove containers."""

    def remove(ref: str) -> None:
        try:
            state.engine.containers.remove(ref, force=force, volumes=volumes)
        except NotFound:
            if not force:
                raise
            state.caller.err(f"Error response from daemon: No such container: {ref}\n")

    return each(state, containers, remove)


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
@click.argument("container")
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


@click.command("exec", cls=Command, context_settings=PASS_ON)
@click.option("-d", "--detach", is_flag=True, help="Leave it in the background")
@click.option("-e", "--env", multiple=True, help="Variable, NAME=VALUE")
@click.option("-i", "--interactive", is_flag=True, help="Keep stdin open")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal")
@click.option("-u", "--user", default=None, help="User: name or uid, with :group or :gid")
@click.option("-w", "--workdir", default=None, help="Working directory inside the container")
@click.option("--privileged", is_flag=True, help="Give it all capabilities")
@click.option("--detach-keys", default=None, help="Keys that detach, such as ctrl-p,ctrl-q")
@click.argument("container")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@pass_state
def exec_(state: State, /, **options: Any) -> int:
    """Run a further command in a running container."""
    caller, engine = state.caller, state.engine
    tty, stdin = options["tty"], options["interactive"]
    if tty and stdin and not options["detach"] and not caller.terminal[0]:
        raise InvalidArgument("the input device is not a TTY")
    session = Session(
        command=options["command"],
        env=options["env"],
        user=options["user"],
        workdir=options["workdir"],
        tty=tty,
        console_size=caller.size if tty and any(caller.size) else None,
        stdin=stdin,
        privileged=options["privileged"],
    )
    facts = caller.facts(engine.system.facts)
    if options["detach"]:
        engine.containers.start_session(options["container"], session, client=None, spawn=caller.spawn, facts=facts)
        return 0
    streams = STDOUT | STDERR | (STDIN if stdin else 0)
    flags = RAW if tty else 0
    keys = parse_detach_keys(options["detach_keys"]) if tty else b""
    spawner = caller.spawner(Attach(streams=streams, flags=flags, detach_keys=keys))
    try:
        engine.containers.start_session(
            options["container"], session, client=spawner.client, spawn=spawner.spawn, facts=facts
        )
    except BaseException:
        spawner.close()
        raise
    return spawner.carry()


@click.command(cls=Command)
@click.option("--no-stdin", is_flag=True, help="Leave stdin alone")
@click.option("--sig-proxy", default=True, type=bool, help="Pass signals on to the container")
@click.option("--detach-keys", default=None, help="Keys that detach, such as ctrl-p,ctrl-q")
@click.argument("container")
@pass_state
def attach(state: State, /, container: str, no_stdin: bool, sig_proxy: bool, detach_keys: str | None) -> int:
    """Attach this terminal to a running container."""
    engine = state.engine
    request = engine.containers.request(container)
    if request.tty and request.stdin_open and not no_stdin and not state.caller.terminal[0]:
        raise InvalidArgument("the input device is not a TTY")
    attachment: Attachment = engine.containers.connect(container)
    streams = STDOUT | STDERR | (STDIN if request.stdin_open and not no_stdin else 0)
    state.caller.attach(attachment, _attach_request(request, streams, parse_detach_keys(detach_keys), proxy=sig_proxy))


@click.command(cls=Command)
@click.argument("containers", nargs=-1, required=True)
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
@click.argument("containers", nargs=-1)
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
@click.argument("container")
@pass_state
def top(state: State, /, container: str) -> int:
    """List the processes of a container."""
    rows = [(str(pid), " ".join(process_command(pid))) for pid in state.engine.containers.pids(container)]
    state.caller.out(table(("PID", "CMD"), rows))
    return 0


@click.command(cls=Command)
@click.argument("container")
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


@click.command(cls=Command)
@click.argument("container")
@click.argument("name")
@pass_state
def rename(state: State, /, container: str, name: str) -> int:
    """Give a container another name."""
    state.engine.containers.rename(container, name)
    return 0
