"""The image commands: parse, ask the engine, render."""

import os
import sys
from typing import Any, BinaryIO

import click

from onggi.base.errors import InvalidArgument, NotFound
from onggi.cli.app import Command, Group, State, pass_state
from onggi.cli.completion import CONTAINER, IMAGE
from onggi.cli.image_copy import copy
from onggi.cli.image_showing import history, images, inspect
from onggi.cli.render import each


def register(cli: Group) -> None:
    """Add the image commands, and their management forms below `image`."""
    group = Group("image", help="Manage images")
    for command in (images, history, tag, rmi, save, load, import_):
        cli.add_command(command)
    for command, name in (
        (images, "ls"),
        (images, "list"),
        (history, "history"),
        (tag, "tag"),
        (rmi, "rm"),
        (rmi, "remove"),
        (save, "save"),
        (load, "load"),
        (import_, "import"),
        (inspect, "inspect"),
        (copy, "cp"),
    ):
        group.add_command(command, name)
    cli.add_command(group)


@click.command(cls=Command)
@click.argument("image", type=IMAGE)
@click.argument("name")
@pass_state
def tag(state: State, /, image: str, name: str) -> int:
    """Give an image one more name."""
    state.engine.images.tag(image, name)
    return 0


@click.command(cls=Command)
@click.option("-f", "--force", is_flag=True, help="Even if containers that do not run use it")
@click.argument("images", type=IMAGE, nargs=-1, required=True)
@pass_state
def rmi(state: State, /, images: tuple[str, ...], force: bool) -> int:
    """Remove images."""

    state.engine.system.fold()  # what has ended does not run, and may be in the way no more

    def remove(ref: str) -> None:
        names, id = state.engine.images.remove(ref, force=force)
        for name in names:
            state.caller.out(f"Untagged: {name}\n")
        if id is not None:
            state.caller.out(f"Deleted: {id}\n")

    return each(state, images, remove, echo=False)


class _Sink:
    """Writes whole pieces to a binary file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, data: memoryview, /) -> int:
        self._file.write(data)
        return len(data)


def _write_to(state: State, path: str | None, write: Any) -> None:
    """Give `write` a sink: a file that appears when it is whole, or stdout, which must be no terminal."""
    if path is None:
        if state.caller.terminal[1]:
            raise InvalidArgument("cowardly refusing to save to a terminal. Use the -o flag or redirect")
        with os.fdopen(os.dup(1), "wb", buffering=1 << 20) as file:
            write(_Sink(file))
        return
    target = os.path.join(state.caller.cwd, path)
    staged = f"{target}.{os.getpid()}.part"
    try:
        with open(staged, "xb", buffering=1 << 20) as file:
            write(_Sink(file))
        os.replace(staged, target)
    except OSError as error:
        raise NotFound(f"cannot write {path}: {(error.strerror or '').lower()}") from None
    finally:
        if os.path.lexists(staged):
            os.unlink(staged)


def _open(state: State, path: str | None) -> BinaryIO:
    if path is None or path == "-":
        if state.caller.terminal[0]:
            raise InvalidArgument("requested load from stdin, but stdin is empty")
        return sys.stdin.buffer
    try:
        return open(os.path.join(state.caller.cwd, path), "rb")
    except OSError as error:
        raise NotFound(f"open {path}: {(error.strerror or '').lower()}") from None


@click.command(cls=Command)
@click.option("-o", "--output", default=None, metavar="FILE", help="Write to this file instead of stdout")
@click.argument("images", type=IMAGE, nargs=-1, required=True)
@pass_state
def save(state: State, /, images: tuple[str, ...], output: str | None) -> int:
    """Write images to an archive, which is an OCI layout and a docker-archive at once."""
    state.caller.only_in_process()
    for ref in images:
        state.engine.images.get(ref)
    _write_to(state, output, lambda sink: state.engine.images.save(images, sink))
    return 0


@click.command(cls=Command)
@click.option("-i", "--input", "path", default=None, metavar="FILE", help="Read this file instead of stdin")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing")
@pass_state
def load(state: State, /, path: str | None, quiet: bool) -> int:
    """Take in the images of an archive: an OCI layout or a docker-archive, compressed or not."""
    state.caller.only_in_process()
    with _open(state, path) as file:
        loaded = state.engine.images.load(file)
    for item in loaded if not quiet else ():
        for reference in item.references:
            state.caller.out(f"Loaded image: {reference.familiar}\n")
        if not item.references:
            state.caller.out(f"Loaded image ID: {item.image.id}\n")
    return 0


@click.command("import", cls=Command)
@click.option("-m", "--message", default="", help="Comment in the image's history")
@click.argument("file")
@click.argument("name", required=False)
@pass_state
def import_(state: State, /, file: str, name: str | None, message: str) -> int:
    """Make an image from a tar of a root file system; `-` is stdin."""
    state.caller.only_in_process()
    with _open(state, file) as source:
        image = state.engine.images.import_tree(source, name=name, message=message)
    state.caller.out(f"{image.id}\n")
    return 0


@click.command(cls=Command)
@click.option("-o", "--output", default=None, metavar="FILE", help="Write to this file instead of stdout")
@click.argument("container", type=CONTAINER)
@pass_state
def export(state: State, /, container: str, output: str | None) -> int:
    """Write the root file system of a container as a tar."""
    state.caller.only_in_process()
    state.engine.containers.get(container)
    _write_to(state, output, lambda sink: state.engine.containers.export(container, sink))
    return 0


@click.command(cls=Command)
@click.option("-a", "--author", default="", help="Author")
@click.option("-m", "--message", default="", help="Comment in the image's history")
@click.option("-p", "--pause", default=True, type=bool, help="Pause the container meanwhile")
@click.argument("container", type=CONTAINER)
@click.argument("name", required=False)
@pass_state
def commit(state: State, /, container: str, name: str | None, author: str, message: str, pause: bool) -> int:
    """Make an image of what a container has changed."""
    state.caller.only_in_process()
    image = state.engine.containers.commit(container, name=name, author=author, message=message, pause=pause)
    state.caller.out(f"{image.id}\n")
    return 0
