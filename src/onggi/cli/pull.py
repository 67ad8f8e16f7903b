"""`onggi pull`, and the pull before a `run` whose image is not here."""

from collections.abc import Callable
from typing import Final

import click

from onggi.base.errors import Cancelled, InvalidArgument, NotFound
from onggi.cli.app import Command, Group, State, pass_state
from onggi.cli.registries import registries_of
from onggi.cli.transfers import MODES, PULL, PlainTransfers, Transfers, check_mode, choose_transfers
from onggi.engine.pulling import Pulled
from onggi.registry.access import Registries
from onggi.registry.progress import Event
from onggi.spec.reference import Reference

POLICIES: Final = ("missing", "always", "never")


def register(cli: Group) -> None:
    """Add it, and its form below `image`."""
    cli.add_command(pull)
    image = cli.commands["image"]
    assert isinstance(image, Group)
    image.add_command(pull)


@click.command(cls=Command)
@click.option("-a", "--all-tags", is_flag=True, help="Pull every tag of the repository")
@click.option("--platform", default=None, metavar="PLATFORM", help="Platform of the image, such as linux/arm64")
@click.option("--all-platforms", is_flag=True, help="Keep the images of all other platforms too")
@click.option("--progress", default="auto", help=f"How to show progress: {', '.join(MODES[:-1])} or {MODES[-1]}")
@click.option("-q", "--quiet", is_flag=True, help="Print only the image's name")
@click.argument("name")
@pass_state
def pull(
    state: State,
    /,
    name: str,
    platform: str | None,
    progress: str,
    *,
    all_tags: bool,
    all_platforms: bool,
    quiet: bool,
) -> int:
    """Fetch an image from a registry: NAME, NAME:TAG or NAME@DIGEST."""
    caller = state.caller
    caller.only_in_process()
    check_mode(progress)
    with registries_of(caller) as registries:
        reference = registries.parse(name)
        if all_tags and (reference.tag or reference.digest):
            raise InvalidArgument("tag can't be used with --all-tags/-a")
        if not all_tags and not reference.tag and not reference.digest and not quiet:
            caller.out("Using default tag: latest\n")
        for wanted in _every(registries, reference) if all_tags else [reference.with_default_tag()]:
            write = _silent if quiet else caller.out
            shown = _Shown(wanted, lambda: choose_transfers("quiet" if quiet else progress, PULL, caller), write)
            write(_summary(_pull(state, registries, wanted, shown, platform, every_platform=all_platforms)))
            caller.out(f"{wanted}\n")
    return 0


def have_image(state: State, name: str, policy: str, *, platform: str | None = None, quiet: bool = False) -> str:
    """See to it that an image is here before a container is made of it, and give its name.

    What has to be pulled is pulled by the caller's own process, with Docker's words on stderr.
    The name is another one where a short name is one of a default registry other than Docker Hub.
    """
    if policy not in POLICIES:
        raise InvalidArgument(f'invalid pull option: \'{policy}\': must be one of "always", "missing" or "never"')
    if policy == "never" or (policy == "missing" and _is_here(state, name, platform)):
        return name
    caller = state.caller
    caller.only_in_process()
    with registries_of(caller) as registries:
        reference = registries.parse(name).with_default_tag()
        if policy == "missing" and _is_here(state, str(reference), platform):
            return str(reference)
        write = _silent if quiet else caller.err
        if policy == "missing":
            write(f"Unable to find image '{reference.familiar}' locally\n")
        drawn = "quiet" if quiet else "tty" if caller.terminal[2] else ""
        shown = _Shown(
            reference,
            lambda: choose_transfers(drawn, PULL, caller) if drawn else PlainTransfers(caller.err, PULL),
            write,
        )
        write(_summary(_pull(state, registries, reference, shown, platform)))
    return str(reference)


def _is_here(state: State, name: str, platform: str | None) -> bool:
    try:
        return state.engine.images.fits(state.engine.images.resolve(name), platform)
    except NotFound:
        return False


class _Shown:
    """Docker's first line and the transfers below it, once the registry has said that there is something to pull."""

    def __init__(self, reference: Reference, show: Callable[[], Transfers], write: Callable[[str], None]) -> None:
        self._reference, self._show, self._write = reference, show, write
        self._transfers: Transfers | None = None

    def begin(self) -> Transfers:
        """Print the line, the first time."""
        if self._transfers is None:
            self._write(f"{self._reference.tag or self._reference.digest}: Pulling from {self._reference.path}\n")
            self._transfers = self._show()
        return self._transfers

    def tell(self, event: Event) -> None:
        """Show one event."""
        self.begin().tell(event)

    def finish(self) -> None:
        """The transfer is over, or never began."""
        if self._transfers is not None:
            self._transfers.finish()


def _pull(
    state: State,
    registries: Registries,
    reference: Reference,
    shown: _Shown,
    platform: str | None,
    *,
    every_platform: bool = False,
) -> Pulled:
    try:
        pulled = state.engine.images.pull(
            str(reference), registries=registries, platform=platform, every_platform=every_platform, tell=shown.tell
        )
        shown.begin()
    except KeyboardInterrupt:
        raise Cancelled("interrupted") from None
    finally:
        shown.finish()
    return pulled


def _silent(text: str) -> None:
    """Print nothing."""


def _every(registries: Registries, reference: Reference) -> list[Reference]:
    tags = registries.remote(reference).do("resolve", lambda repository: repository.tags())
    return [reference.with_tag(tag) for tag in tags]


def _summary(pulled: Pulled) -> str:
    what = "Image is up to date" if pulled.up_to_date else "Downloaded newer image"
    return f"Digest: {pulled.digest}\nStatus: {what} for {pulled.reference.familiar}\n"
