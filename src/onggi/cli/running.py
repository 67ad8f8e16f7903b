"""Commands that carry the stdio of a container: run, create, start, exec, attach."""

from contextlib import suppress
from typing import Any

import click
import msgspec

from onggi.base.errors import InvalidArgument, NotFound
from onggi.cli.app import Command, State, pass_state
from onggi.cli.caller import DEFAULT_DETACH_KEYS, KEEP_OPEN, PROXY, RAW, Attach
from onggi.cli.completion import CONTAINER, IMAGE
from onggi.cli.flags import RUN_OPTIONS, environment, make_request
from onggi.cli.options import with_options
from onggi.cli.render import each
from onggi.engine.sessions import Session
from onggi.host.attach import STDERR, STDIN, STDOUT, Attachment
from onggi.plan.explain import explain_plan
from onggi.spec.container import ContainerRequest

PASS_ON = {"ignore_unknown_options": False, "allow_interspersed_args": False}


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
@click.argument("image", type=IMAGE)
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
    request = _with_image(request, options, state)
    containers = state.engine.containers
    container = containers.create(request, name=options["name"])
    _warn(request, state)
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


def _with_image(request: ContainerRequest, options: dict[str, Any], state: State) -> ContainerRequest:
    """Pull an image that is not here, or always if that is asked for; gives the request for it."""
    policy, platform = options["pull"] or "missing", options["platform"]
    if request.rootfs:
        return request
    if policy == "missing" and platform is None:
        try:  # the usual case does without what pulls
            state.engine.images.resolve(request.image)
        except NotFound:
            pass
        else:
            return request
    from onggi.cli.pull import have_image

    image = have_image(state, request.image, policy, platform=platform, quiet=options["quiet"])
    return msgspec.structs.replace(request, image=image)


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


def _warn(request: ContainerRequest, state: State) -> None:
    for text in state.engine.containers.warnings(request):
        state.caller.err(f"WARNING: {text}\n")


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
@click.argument("image", type=IMAGE)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@pass_state
def create(state: State, /, **options: Any) -> int:
    """Create a container without starting it."""
    request = make_request(options["image"], options["command"], options, state.caller, attached=options["interactive"])
    request = _with_image(request, options, state)
    container = state.engine.containers.create(request, name=options["name"])
    _warn(request, state)
    _write_cidfile(options["cidfile"], container.id, state)
    state.caller.out(f"{container.id}\n")
    return 0


@click.command(cls=Command)
@click.option("-a", "--attach", "attached", is_flag=True, help="Attach stdout and stderr, and pass signals on")
@click.option("-i", "--interactive", is_flag=True, help="Attach stdin too")
@click.option("--detach-keys", default=None, help="Keys that detach, such as ctrl-p,ctrl-q")
@click.argument("containers", type=CONTAINER, nargs=-1, required=True)
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


@click.command("exec", cls=Command, context_settings=PASS_ON)
@click.option("-d", "--detach", is_flag=True, help="Leave it in the background")
@click.option("-e", "--env", multiple=True, help="Variable, NAME=VALUE, or NAME to take the caller's")
@click.option("--env-file", multiple=True, metavar="FILE", help="File with a variable in each line")
@click.option("-i", "--interactive", is_flag=True, help="Keep stdin open")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal")
@click.option("-u", "--user", default=None, help="User: name or uid, with :group or :gid")
@click.option("-w", "--workdir", default=None, help="Working directory inside the container")
@click.option("--privileged", is_flag=True, help="Give it all capabilities")
@click.option("--detach-keys", default=None, help="Keys that detach, such as ctrl-p,ctrl-q")
@click.argument("container", type=CONTAINER)
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
        env=environment(options, caller),
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
@click.argument("container", type=CONTAINER)
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
