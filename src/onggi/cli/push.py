"""`onggi push`. Texts are Docker's (cli/command/image/push.go, distribution/push.go)."""

import click

from onggi.base.errors import InvalidArgument, NotFound
from onggi.cli.app import Command, Group, State, pass_state
from onggi.cli.completion import IMAGE
from onggi.cli.registries import registries_of
from onggi.cli.transfers import PUSH, check_mode, choose_transfers
from onggi.registry.access import Registries
from onggi.spec.media import Compression
from onggi.spec.reference import DEFAULT_TAG, Reference


def register(cli: Group) -> None:
    """Add it, also below `image`."""
    cli.add_command(push)
    image = cli.commands["image"]
    assert isinstance(image, Group)
    image.add_command(push)


@click.command(cls=Command)
@click.option("-a", "--all-tags", is_flag=True, help="Push all tags of the repository")
@click.option("-q", "--quiet", is_flag=True, help="Print only the name")
@click.option("--platform", default=None, help="Push only the image for this platform")
@click.option("--compression", default=None, help="Compression of all layers: gzip, zstd or none")
@click.option("--compression-level", "level", type=int, default=None, help="1 to 9 for gzip, 1 to 22 for zstd")
@click.option("--progress", default="auto", help="How to show progress: auto, tty, plain, json or quiet")
@click.argument("name", type=IMAGE, metavar="NAME[:TAG]")
@pass_state
def push(
    state: State,
    /,
    name: str,
    all_tags: bool,
    quiet: bool,
    platform: str | None,
    compression: Compression | None,
    level: int | None,
    progress: str,
) -> int:
    """Upload an image to a registry.

    Layers that the registry has are not sent; new ones are compressed by zstd, or by gzip
    where the image came with Docker's manifest.
    """
    caller = state.caller
    caller.only_in_process()
    check_mode(progress)
    with registries_of(caller) as registries:
        reference = registries.parse(name)
        if all_tags and (reference.tag or reference.digest):
            raise InvalidArgument("tag can't be used with --all-tags/-a")
        if not all_tags and not quiet and not reference.tag and not reference.digest:
            caller.out(f"Using default tag: {DEFAULT_TAG}\n")
        if not quiet:
            caller.out(f"The push refers to repository [{reference.name}]\n")
        for one in _every(state, reference) if all_tags else [reference.with_default_tag()]:
            mode = "quiet" if quiet else progress
            _push(state, registries, one, mode, platform=platform, compression=compression, level=level)
    if quiet:
        caller.out(f"{reference if all_tags else reference.with_default_tag()}\n")
    return 0


def _every(state: State, repository: Reference) -> list[Reference]:
    tags = state.engine.images.tags(repository)
    if not tags:
        raise NotFound(f"An image does not exist locally with the tag: {repository.familiar_name}")
    return [repository.with_tag(tag) for tag in tags]


def _push(
    state: State,
    registries: Registries,
    reference: Reference,
    mode: str,
    *,
    platform: str | None,
    compression: Compression | None,
    level: int | None,
) -> None:
    shown = choose_transfers(mode, PUSH, state.caller)
    try:
        pushed = state.engine.images.push(
            str(reference),
            registries=registries,
            platform=platform,
            compression=compression,
            level=level,
            tell=shown.tell,
        )
    finally:
        shown.finish()
    if mode != "quiet":
        state.caller.out(f"{pushed.reference.tag}: digest: {pushed.digest} size: {pushed.size_bytes}\n")
