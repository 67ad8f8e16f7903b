"""`onggi build` and the build cache's commands."""

import io
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from onggi.base.errors import InvalidArgument, NotFound, OnggiError
from onggi.cli.app import Command, Group, State, pass_state
from onggi.cli.config import wants_host_certs
from onggi.cli.progress import choose_progress

if TYPE_CHECKING:
    from onggi.engine.builds import BuildRequest


def register(cli: Group) -> None:
    """Add the build commands."""
    cli.add_command(build)
    image = cli.commands["image"]
    assert isinstance(image, Group)
    image.add_command(build)
    builder = Group("builder", help="Manage builds")
    builder.add_command(build)
    cli.add_command(builder)


@click.command(cls=Command)
@click.option("-t", "--tag", "tags", multiple=True, help="Name of the image, NAME[:TAG]")
@click.option("-f", "--file", "dockerfile", default=None, metavar="FILE", help="Dockerfile; `-` is stdin")
@click.option("--build-arg", "args", multiple=True, help="Value of an ARG, NAME=VALUE, or NAME to take the caller's")
@click.option("--target", default=None, help="Stage to build")
@click.option("--label", "labels", multiple=True, help="Label of the image, NAME=VALUE")
@click.option("--no-cache", is_flag=True, help="Run every step")
@click.option("--pull", is_flag=True, help="Pull base images even if they are here")
@click.option("--network", default="default", help="Network of RUN: default, none or host")
@click.option("--add-host", "hosts", multiple=True, help="Line of /etc/hosts for RUN, NAME:IP")
@click.option(
    "--build-context", "contexts", multiple=True, help="Further context, NAME=PATH or NAME=docker-image://IMAGE"
)
@click.option("--platform", default=None, help="Platform of the image")
@click.option("--progress", default="auto", help="How to show progress: auto, tty, plain, json or quiet")
@click.option("-q", "--quiet", is_flag=True, help="Print only the image's id")
@click.option("--iidfile", default=None, metavar="FILE", help="Write the image's id to this file")
@click.option("--host-certs/--no-host-certs", default=None, help="Give RUN the host's certificate authorities")
@click.argument("context", required=False)
@pass_state
def build(state: State, /, **options: Any) -> int:
    """Build an image from a Dockerfile. CONTEXT is a directory, or `-` for a Dockerfile or a tar on stdin."""
    caller = state.caller
    if not _may_be_served(options, state):
        caller.only_in_process()
    if options["context"] is None:
        raise click.UsageError('"onggi build" requires exactly 1 argument.')
    if options["progress"] not in ("auto", "tty", "plain", "json", "quiet"):
        raise InvalidArgument(
            f"invalid progress mode {options['progress']}: known are auto, tty, plain, json and quiet"
        )
    request = _request(options, state)
    kind = "quiet" if options["quiet"] else options["progress"]
    held: list[str] = []  # what onggid says, once it knows that it has the answer
    progress = choose_progress(kind, terminal=caller.terminal[2], write=held.append if caller.served else caller.err)
    try:
        image = state.engine.builds.build(request, progress.tell, cached_only=caller.served)
    except OnggiError:
        caller.only_in_process()
        raise
    finally:
        progress.finish()
    caller.err("".join(held))
    if options["iidfile"]:
        _write(os.path.join(caller.cwd, options["iidfile"]), str(image.id))
    if options["quiet"]:
        caller.out(f"{image.id}\n")
    else:
        names = "".join(f"naming to {tag}\n" for tag in options["tags"])
        caller.err(f"writing image {image.id}\n{names}")
    return 0


def _may_be_served(options: dict[str, Any], state: State) -> bool:
    """Tell whether onggid may try: it has no stdin and no terminal of the caller's, and writes none of his files."""
    drawn = options["progress"] == "tty" or (options["progress"] == "auto" and state.caller.terminal[2])
    return not (
        options["context"] == "-"
        or options["dockerfile"] == "-"
        or options["iidfile"]
        or options["no_cache"]
        or options["pull"]
        or (drawn and not options["quiet"])
    )


def _request(options: dict[str, Any], state: State) -> "BuildRequest":
    from onggi.engine.builds import BuildRequest  # the Dockerfile language is loaded for builds only

    caller = state.caller
    context, dockerfile = options["context"], options["dockerfile"]
    text = archive = directory = None
    if context == "-":
        stdin = io.BufferedReader(io.FileIO(0, closefd=False))
        head = stdin.peek(512)[:512]
        if head[257:262] == b"ustar" or head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")):
            archive = stdin
        else:
            text = stdin.read(16 << 20)
    else:
        if context.startswith(("http://", "https://", "git://", "git@")):
            raise InvalidArgument(f"context {context}: contexts by URL are not supported yet; fetch it first")
        directory = os.path.normpath(os.path.join(caller.cwd, context))
        if not os.path.isdir(directory):
            raise NotFound(f"unable to prepare context: path {context!r} not found")
    if dockerfile == "-":
        if context == "-":
            raise InvalidArgument("invalid argument: can't use stdin for both build context and dockerfile")
        text = sys.stdin.buffer.read(16 << 20)
    return BuildRequest(
        context=directory,
        archive=archive,
        dockerfile=_dockerfile(dockerfile, directory, caller.cwd),
        text=text,
        tags=options["tags"],
        args=_args(options["args"], state),
        target=options["target"],
        labels=dict(label.partition("=")[::2] for label in options["labels"]),
        network=_network(options["network"]),
        hosts=tuple(_host(entry) for entry in options["hosts"]),
        contexts=dict(_context(entry, caller.cwd) for entry in options["contexts"]),
        platform=options["platform"],
        no_cache=options["no_cache"],
        pull=options["pull"],
        host_certs=wants_host_certs(options, caller),
    )


def _dockerfile(given: str | None, directory: str | None, cwd: str) -> str:
    """A Dockerfile in the context is named from there, so that its own ignore file is found."""
    if given is None or given == "-":
        return "Dockerfile"
    path = os.path.normpath(os.path.join(cwd, given))
    if directory is not None and path.startswith(directory + "/"):
        return path[len(directory) + 1 :]
    return path if os.path.exists(path) else given


def _args(entries: tuple[str, ...], state: State) -> dict[str, str]:
    args: dict[str, str] = {}
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"):
        for variable in (name, name.lower()):
            if variable in state.caller.env:
                args[variable] = state.caller.env[variable]
    if epoch := state.caller.env.get("SOURCE_DATE_EPOCH"):  # an argument too, as buildx has it
        args["SOURCE_DATE_EPOCH"] = epoch
    for entry in entries:
        name, equals, value = entry.partition("=")
        if equals:
            args[name] = value
        elif name in state.caller.env:
            args[name] = state.caller.env[name]
    return args


def _network(name: str) -> str:
    if name not in ("default", "none", "host"):
        raise InvalidArgument(f"network mode {name!r} is not supported for builds: known are default, none and host")
    return name


def _host(entry: str) -> str:
    name, colon, ip = entry.partition(":")
    if not colon:
        name, colon, ip = entry.partition("=")
    if not name or not ip:
        raise InvalidArgument(f'bad format for add-host: "{entry}"')
    return f"{name}:{ip}"


def _context(entry: str, cwd: str) -> tuple[str, str]:
    name, equals, value = entry.partition("=")
    if not equals or not name or not value:
        raise InvalidArgument(f"invalid context value: {entry}, expected key=value")
    if value.startswith("docker-image://"):
        return name, value
    path = os.path.normpath(os.path.join(cwd, value))
    return name, path if os.path.isdir(path) else value


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
    except OSError as error:
        raise NotFound(f"cannot write {path}: {(error.strerror or '').lower()}") from None
