"""The volume commands, under Docker's flags."""

from collections.abc import Mapping
from typing import Final

import click

from onggi.base.errors import InvalidArgument, NotFound, NotSupported
from onggi.base.units import human_size
from onggi.cli.app import Command, Group, State, pass_state
from onggi.cli.completion import VOLUME
from onggi.cli.documents import FORMAT_HELP as DOCUMENT_FORMAT_HELP
from onggi.cli.documents import show_documents
from onggi.cli.filters import Filters, filter_option, parse_filters
from onggi.cli.listing import Column, Listing, listing_options, render_listing
from onggi.cli.pruning import confirm
from onggi.cli.render import each
from onggi.cli.storage_document import volume_document
from onggi.store.volumes import Volume


def register(cli: Group) -> None:
    """Add them."""
    group = Group("volume", help="Manage volumes")
    for command in (create, inspect, ls, prune, rm):
        group.add_command(command)
    group.add_command(ls, "list")
    group.add_command(rm, "remove")
    cli.add_command(group)


@click.command(cls=Command)
@click.option("-d", "--driver", default="local", help="Driver; only local is there")
@click.option("-l", "--label", "labels", multiple=True, help="Label, NAME=VALUE")
@click.option("-o", "--opt", "options", multiple=True, help="Option of the driver; none is supported yet")
@click.argument("name", required=False, default="")
@pass_state
def create(state: State, /, name: str, driver: str, labels: tuple[str, ...], options: tuple[str, ...]) -> int:
    """Make a volume, with a random name if none is given."""
    check_driver(name, driver, options)
    volume = state.engine.volumes.create(name, labels=parse_labels(labels))
    state.caller.out(f"{volume.name}\n")
    return 0


def check_driver(name: str, driver: str, options: tuple[str, ...]) -> None:
    """Refuse volumes that are not plain directories of Onggi's, with Docker's text where it has one."""
    if driver not in ("", "local"):
        raise NotFound(
            f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found; '
            "this version of Onggi has the driver local"
        )
    if options:
        raise NotSupported(
            f"create {name}: the option {options[0].partition('=')[0]} of the driver local is not supported by this "
            "version of Onggi; --mount type=bind or type=tmpfs of a container does what it is for"
        )


def parse_labels(texts: tuple[str, ...]) -> dict[str, str]:
    """Read `NAME=VALUE` or `NAME`."""
    return {name: value for name, _, value in (text.partition("=") for text in texts) if name}


@click.command(cls=Command)
@click.option("-f", "--format", default="", help=DOCUMENT_FORMAT_HELP)
@click.argument("volumes", type=VOLUME, nargs=-1, required=True)
@pass_state
def inspect(state: State, /, volumes: tuple[str, ...], format: str) -> int:
    """Describe volumes, as JSON."""
    return show_documents(state, volumes, lambda name: volume_document(state.engine.volumes.get(name)), format)


_COLUMNS: Final[Mapping[str, Column[Volume]]] = {
    "Name": Column("VOLUME NAME", lambda volume: volume.name),
    "Driver": Column("DRIVER", lambda volume: "local"),
    "Scope": Column("SCOPE", lambda volume: "local"),
    "Mountpoint": Column("MOUNTPOINT", lambda volume: volume.path),
    "Labels": Column("LABELS", lambda volume: ",".join(f"{k}={v}" for k, v in sorted(volume.labels.items()))),
    "Label": Column("", lambda volume: lambda name: volume.labels.get(name, "")),
    "Links": Column("LINKS", lambda volume: "N/A"),
    "Size": Column("SIZE", lambda volume: "N/A"),
    "Availability": Column("AVAILABILITY", lambda volume: "N/A"),
    "Group": Column("GROUP", lambda volume: "N/A"),
    "Status": Column("STATUS", lambda volume: "N/A"),
}
_FILTERS: Final = frozenset({"dangling", "driver", "label", "name"})
_PRUNE_FILTERS: Final = frozenset({"all", "label", "label!"})


@click.command(cls=Command)
@filter_option(_FILTERS)
@click.option("-q", "--quiet", is_flag=True, help="Print only names")
@listing_options
@pass_state
def ls(state: State, /, filters: tuple[str, ...], quiet: bool, format: str, as_json: bool) -> int:
    """List volumes."""
    wanted = parse_filters(filters, _FILTERS)
    found = [
        volume
        for volume in state.engine.volumes.list(dangling=wanted.flag("dangling"))
        if wanted.admits("name", volume.name)
        and wanted.admits_exactly("driver", "local")
        and wanted.admits_labels(volume.labels)
    ]
    listing = Listing(kind="volume", columns=_COLUMNS, default=("Driver", "Name"), items=found, quiet="Name")
    state.caller.out(render_listing(listing, format=format, quiet=quiet, as_json=as_json))
    return 0


@click.command(cls=Command)
@click.option("-f", "--force", is_flag=True, help="Do not mind one that is not here")
@click.argument("volumes", type=VOLUME, nargs=-1, required=True)
@pass_state
def rm(state: State, /, volumes: tuple[str, ...], force: bool) -> int:
    """Remove volumes, and what is in them."""
    return each(state, volumes, lambda name: state.engine.volumes.remove(name, force=force))


@click.command(cls=Command)
@click.option("-a", "--all", "every", is_flag=True, help="Remove all unused volumes, not only anonymous ones")
@click.option("-f", "--force", is_flag=True, help="Do not ask")
@click.option("--filter", "filters", multiple=True, help="label=NAME[=VALUE] or label!=NAME[=VALUE]", metavar="FILTER")
@pass_state
def prune(state: State, /, every: bool, force: bool, filters: tuple[str, ...]) -> int:
    """Remove volumes that no container uses."""
    caller = state.caller
    caller.only_in_process()
    wanted = parse_filters(filters, _PRUNE_FILTERS)
    if every and "all" in wanted:
        raise InvalidArgument("conflicting options: cannot specify both --all and --filter all=1")
    every = every or bool(wanted.flag("all"))
    kind = "all local" if every else "anonymous local"
    if not force and not confirm(state, f"This will remove {kind} volumes not used by at least one container.\n"):
        return 0
    pruned = state.engine.volumes.prune(every=every, chosen=lambda volume: _has(volume, wanted))
    if pruned.names:
        caller.out("Deleted Volumes:\n" + "".join(f"{name}\n" for name in pruned.names) + "\n")
    caller.out(f"Total reclaimed space: {human_size(pruned.size_bytes)}\n")
    return 0


def _has(volume: Volume, wanted: Filters) -> bool:
    """Whether it has the labels that are wanted, and none of those that are not."""
    unwanted = "label!" in wanted and wanted.admits_labels(volume.labels, "label!")
    return wanted.admits_labels(volume.labels) and not unwanted
