"""`onggi pull`, and the pull before a `run` whose image is not here."""

from typing import Final

import click

from onggi.base.errors import Cancelled, InvalidArgument, NotFound
from onggi.cli.app import Command, Group, State, pass_state
from onggi.cli.registries import registries_of
from onggi.cli.transfers import MODES, PULL, PlainTransfers, Transfers, check_mode, choose_transfers
from onggi.engine.pulling import Pulled
from onggi.registry.access import Registries
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
            shown = choose_transfers("quiet" if quiet else progress, PULL, caller)
            if not quiet:
                caller.out(f"{wanted.tag or wanted.digest}: Pulling from {wanted.path}\n")
            pulled = _pull(state, registries, wanted, shown, platform, every_platform=all_platforms)
            if not quiet:
                caller.out(_summary(pulled))
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
        if not quiet:
            if policy == "missing":
                caller.err(f"Unable to find image '{reference.familiar}' locally\n")
            caller.err(f"{reference.tag or reference.digest}: Pulling from {reference.path}\n")
        drawn = "quiet" if quiet else "tty" if caller.terminal[2] else ""
        shown = choose_transfers(drawn, PULL, caller) if drawn else PlainTransfers(caller.err, PULL)
        pulled = _pull(state, registries, reference, shown, platform)
        if not quiet:
            caller.err(_summary(pulled))
    return str(reference)


def _is_here(state: State, name: str, platform: str | None) -> bool:
    try:
        return state.engine.images.fits(state.engine.images.resolve(name), platform)
    except NotFound:
        return False


def _pull(
    state: State,
    registries: Registries,
    reference: Reference,
    shown: Transfers,
    platform: str | None,
    *,
    every_platform: bool = False,
) -> Pulled:
    try:
        return state.engine.images.pull(
            str(reference), registries=registries, platform=platform, every_platform=every_platform, tell=shown.tell
        )
    except KeyboardInterrupt:
        raise Cancelled("interrupted") from None
    finally:
        shown.finish()


def _every(registries: Registries, reference: Reference) -> list[Reference]:
    tags = registries.remote(reference).do("resolve", lambda repository: repository.tags())
    return [reference.with_tag(tag) for tag in tags]


def _summary(pulled: Pulled) -> str:
    what = "Image is up to date" if pulled.up_to_date else "Downloaded newer image"
    return f"Digest: {pulled.digest}\nStatus: {what} for {pulled.reference.familiar}\n"
