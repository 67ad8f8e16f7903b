"""`search`: repositories of Docker Hub or another registry (docker/cli's cli/command/registry)."""

from collections.abc import Mapping
from typing import Final

import click

from onggi.base.errors import InvalidArgument
from onggi.cli.app import Command, Group, State, pass_state
from onggi.cli.filters import Filters, filter_option, parse_filters
from onggi.cli.listing import Column, Listing, listing_options, render_listing
from onggi.cli.registries import registries_of
from onggi.cli.render import ellipsis
from onggi.registry.search import DEFAULT_LIMIT, MAX_LIMIT, Found
from onggi.registry.search import search as search_registry

FILTERS: Final = frozenset({"is-automated", "is-official", "stars"})
TABLE: Final = ("Name", "Description", "StarCount", "IsOfficial")
_DESCRIPTION_WIDTH: Final = 45
_AUTOMATED: Final = (
    'WARNING: the "is-automated" filter is deprecated, '
    'and searching for "is-automated=true" will not yield any results in future.\n'
)


def register(cli: Group) -> None:
    """Add it."""
    cli.add_command(search)


@click.command(cls=Command)
@filter_option(FILTERS)
@click.option("--limit", type=int, default=DEFAULT_LIMIT, help=f"Show so many at most, up to {MAX_LIMIT}")
@click.option("--no-trunc", is_flag=True, help="Cut nothing short")
@listing_options
@click.argument("term")
@pass_state
def search(
    state: State, /, term: str, filters: tuple[str, ...], limit: int, no_trunc: bool, format: str, as_json: bool
) -> int:
    """Search Docker Hub for repositories, or another registry if TERM is HOST/TERM."""
    caller = state.caller
    caller.only_in_process()
    wanted = parse_filters(filters, FILTERS)
    if "is-automated" in wanted:
        caller.err(_AUTOMATED)
    least, official, automated = _stars(wanted), wanted.flag("is-official"), wanted.flag("is-automated")
    with registries_of(caller) as registries:
        found = search_registry(registries, term, limit)
    listing = Listing(
        kind="repository",
        columns=_columns(truncate=not no_trunc, words=as_json or format == "json"),
        default=TABLE,
        items=[
            item
            for item in found
            if item.stars >= least and official in (None, item.is_official) and automated in (None, item.is_automated)
        ],
        quiet="Name",
    )
    caller.out(render_listing(listing, format=format, as_json=as_json))
    return 0


def _columns(*, truncate: bool, words: bool) -> Mapping[str, Column[Found]]:
    """Give the columns; `words`: yes and no are true and false, as in Docker's JSON."""

    def mark(value: bool) -> str:
        return str(value).lower() if words else "[OK]" if value else ""

    def describe(item: Found) -> str:
        return ellipsis(item.description, _DESCRIPTION_WIDTH) if truncate else item.description

    return {
        "Name": Column("NAME", lambda item: item.name),
        "Description": Column("DESCRIPTION", describe),
        "StarCount": Column("STARS", lambda item: str(item.stars)),
        "IsOfficial": Column("OFFICIAL", lambda item: mark(item.is_official)),
        "IsAutomated": Column("AUTOMATED", lambda item: mark(item.is_automated)),
    }


def _stars(filters: Filters) -> int:
    """Give how many stars are needed: the most of what was asked for."""
    values = filters.values("stars")
    if not all(value.isascii() and value.isdigit() and len(value) < 10 for value in values):
        raise InvalidArgument(f"invalid filter 'stars=[{' '.join(values)}]'")
    return max(map(int, values), default=0)
