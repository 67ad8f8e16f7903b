"""`cp`, under Docker's flags."""

import io
import os
import time
from typing import Final, Self

import click

from onggi.base.errors import InvalidArgument
from onggi.base.units import human_size
from onggi.cli.app import Command, State, pass_state
from onggi.cli.caller import Caller
from onggi.engine.copy_paths import keep_ending

_TO: Final = "Copying to container - "
_FROM: Final = "Copying from container - "
_REFRESH_S: Final = 0.075


@click.command(cls=Command)
@click.option("-a", "--archive", is_flag=True, help="To a container: give all to its user. From one: keep the owners")
@click.option("-L", "--follow-link", "follow", is_flag=True, help="Copy what a link in the source leads to")
@click.option("-q", "--quiet/--no-quiet", default=None, help="Say nothing; the default where stdout is no terminal")
@click.argument("source")
@click.argument("destination")
@pass_state
def cp(state: State, /, source: str, destination: str, archive: bool, follow: bool, quiet: bool | None) -> int:
    """Copy files between a container and the host: CONTAINER:PATH PATH, or PATH CONTAINER:PATH; - is a tar."""
    for word, what in ((source, "source"), (destination, "destination")):
        if not word:
            raise InvalidArgument(f"{what} can not be empty")
    caller = state.caller
    caller.only_in_process()
    quiet = not caller.terminal[1] if quiet is None else quiet
    out, path = _split(source)
    into, place = _split(destination)
    if out and into:
        raise InvalidArgument("copying between containers is not supported")
    if out:
        _copy_out(state, out, path, destination, follow=follow, archive=archive, quiet=quiet)
    elif into:
        _copy_in(state, source, into, place, follow=follow, archive=archive, quiet=quiet)
    else:
        raise InvalidArgument("must specify at least one container source")
    return 0


def _split(text: str) -> tuple[str, str]:
    """Read `CONTAINER:PATH`; a path of the host that has a colon begins with `/` or `.`."""
    ref, colon, path = text.partition(":")
    if not colon or text.startswith(("/", ".")):
        return "", text
    return ref, path


def _absolute(caller: Caller, path: str) -> str:
    return keep_ending(os.path.normpath(os.path.join(caller.cwd, path)), path)


def _copy_out(state: State, ref: str, path: str, destination: str, *, follow: bool, archive: bool, quiet: bool) -> None:
    caller = state.caller
    with state.engine.containers.files(ref) as files:
        if destination == "-":
            files.pack(path, _Output(caller), follow=follow)
            return
        place = _absolute(caller, destination)
        with _Progress(caller, _FROM, quiet) as progress:
            copied = files.copy_out(path, place, follow=follow, archive=archive, tell=progress.tell)
    if copied.skipped_devices:
        caller.err(f"onggi: left out {copied.skipped_devices} device files\n")
    progress.finish(copied.size_bytes, place)


def _copy_in(state: State, source: str, ref: str, path: str, *, follow: bool, archive: bool, quiet: bool) -> None:
    caller = state.caller
    with state.engine.containers.files(ref) as files:
        if source == "-":
            if not files.is_directory(path):
                raise InvalidArgument(f'destination "{ref}:{path}" must be a directory')
            with io.FileIO(0, "rb", closefd=False) as stdin:
                files.unpack(path, stdin, archive=archive)
            return
        with _Progress(caller, _TO, quiet) as progress:
            copied = files.copy_in(_absolute(caller, source), path, follow=follow, archive=archive, tell=progress.tell)
    progress.finish(copied.size_bytes, f"{ref}:{path}")


class _Output:
    """The caller's stdout as a sink."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def write(self, data: memoryview, /) -> int:
        self._caller.out_bytes(bytes(data))
        return len(data)


class _Progress:
    """How much has passed, on the caller's terminal while it goes on, and in a line at the end."""

    def __init__(self, caller: Caller, header: str, quiet: bool) -> None:
        self._caller, self._header, self._quiet = caller, header, quiet
        self._shows = caller.terminal[2] and not quiet
        self._next_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shows:
            self._caller.err("\r\x1b[2K")

    def tell(self, passed: int) -> None:
        """Show it, not too often."""
        if self._shows and (now_s := time.monotonic()) >= self._next_s:
            self._next_s = now_s + _REFRESH_S
            self._caller.err(f"\r\x1b[2K{self._header}{human_size(passed, 3)}")

    def finish(self, passed: int, place: str) -> None:
        """Say that it is done."""
        if not self._quiet:
            self._caller.err(f"Successfully copied {human_size(passed, 3)} to {place}\n")
