"""Commands that show images: images, history, inspect."""

import time
from typing import Final

import click

from onggi.base.errors import InvalidArgument
from onggi.cli import history_list, image_list
from onggi.cli.app import Command, State, pass_state
from onggi.cli.completion import IMAGE
from onggi.cli.documents import FORMAT_HELP, show_documents
from onggi.cli.filters import filter_option, parse_filters
from onggi.cli.image_document import image_document
from onggi.cli.listing import Listing, listing_options, render_listing
from onggi.cli.options import single

_VERBS: Final = frozenset(
    {"bootstrap", "build", "history", "import", "inspect", "list", "load", "ls", "prune", "rm", "save", "tag"}
)


@click.command(cls=Command)
@click.option("-a", "--all", "every", is_flag=True, help="Show all; Onggi hides none")
@click.option("--digests", is_flag=True, help="Show digests")
@filter_option(image_list.FILTERS)
@click.option("--no-trunc", is_flag=True, help="Cut nothing short")
@click.option("-q", "--quiet", is_flag=True, help="Print only ids; with --remote only tags")
@click.option("--remote", is_flag=True, help="Show the tags of REPOSITORY at its registry")
@listing_options
@click.argument("repository", required=False, type=IMAGE, metavar="[REPOSITORY[:TAG]]")
@pass_state
def images(
    state: State,
    /,
    every: bool,
    digests: bool,
    filters: tuple[str, ...],
    no_trunc: bool,
    quiet: bool,
    remote: bool,
    format: str,
    as_json: bool,
    repository: str | None,
) -> int:
    """List images, or the tags of a repository at its registry."""
    if remote:
        from onggi.cli.remote_list import list_remote

        refused = "--all" if every else "--filter" if filters else ""
        return list_remote(
            state, repository, digests=digests, format=format, quiet=quiet, as_json=as_json, refused=refused
        )
    wanted = [*filters, *([f"reference={repository}"] if repository else [])]
    found = image_list.list_images(
        state.engine,
        parse_filters(wanted, image_list.FILTERS),
        digests=digests or "{{.Digest}}" in format,
        digest_rows=digests,
        now_ns=time.time_ns(),
        env=state.caller.env,
        truncate=not no_trunc,
    )
    if digests and format.startswith("table ") and "{{.Digest}}" not in format:
        format += "\t{{.Digest}}"
    listing = Listing(
        kind="image",
        columns=image_list.COLUMNS,
        default=image_list.TABLE_WITH_DIGESTS if digests else image_list.TABLE,
        items=found,
        raw=image_list.RAW_WITH_DIGESTS if digests else image_list.RAW,
        raw_quiet="image_id: {{.ID}}",
    )
    state.caller.out(render_listing(listing, format=format, quiet=quiet, as_json=as_json))
    if not found and repository in _VERBS and click.get_current_context().info_name == "images":
        state.caller.err(f'\nNo images found matching "{repository}": did you mean "onggi image {repository}"?\n')
    return 0


@click.command(cls=Command)
@click.option("-H", "--human/--no-human", default=True, help="Round sizes and ages; --human=false gives exact ones")
@click.option("--no-trunc", is_flag=True, help="Cut nothing short")
@click.option("-q", "--quiet", is_flag=True, help="Print only ids")
@listing_options
@click.argument("image", type=IMAGE)
@pass_state
def history(state: State, /, image: str, human: bool, no_trunc: bool, quiet: bool, format: str, as_json: bool) -> int:
    """Show the steps that made an image, and what each added."""
    listing = Listing(
        kind="step of an image",
        columns=history_list.COLUMNS,
        default=history_list.TABLE if human else history_list.TABLE_WITH_TIMES,
        items=history_list.list_history(
            state.engine, image, now_ns=time.time_ns(), env=state.caller.env, truncate=not no_trunc, human=human
        ),
    )
    state.caller.out(render_listing(listing, format=format, quiet=quiet, as_json=as_json))
    return 0


@click.command(cls=Command)
@click.option("-f", "--format", "format", default="", metavar="FORMAT", help=FORMAT_HELP)
@click.option("--remote", is_flag=True, help="Ask the registry; nothing is stored")
@single("--platform", metavar="PLATFORM", help="With --remote: the manifest for this platform, as linux/arm64")
@click.option("--raw", is_flag=True, help="With --remote: print the manifest or index as the registry has it")
@click.argument("images", type=IMAGE, nargs=-1, required=True)
@pass_state
def inspect(
    state: State, /, images: tuple[str, ...], format: str, remote: bool, platform: str | None, raw: bool
) -> int:
    """Describe images in full, as JSON."""
    if remote:
        from onggi.cli.remote_document import inspect_remote

        return inspect_remote(state, images, platform=platform, raw=raw, format=format)
    for name, given in (("--platform", platform), ("--raw", raw)):
        if given:
            raise InvalidArgument(f"{name} requires --remote: an image that is here has one platform")
    return show_documents(state, images, lambda ref: image_document(state.engine, ref), format)
