"""The volume commands, under Docker's flags."""

import sys
from collections.abc import Callable
from typing import Any

import click

from onggi.base.errors import InvalidArgument, NotFound, NotSupported
from onggi.base.units import format_time, human_size
from onggi.cli.app import Command, Group, State, pass_state
from onggi.cli.completion import VOLUME
from onggi.cli.render import each, json_lines, table
from onggi.store.volumes import Volume

_WARNING = (
    "WARNING! This will remove {} volumes not used by at least one container.\n"
    "Are you sure you want to continue? [y/N] "
)


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
@click.argument("volumes", type=VOLUME, nargs=-1, required=True)
@pass_state
def inspect(state: State, /, volumes: tuple[str, ...]) -> int:
    """Describe volumes, as JSON."""
    documents, code = [], 0
    for name in volumes:
        try:
            documents.append(volume_document(state.engine.volumes.get(name)))
        except NotFound as error:
            state.caller.err(f"onggi: {error}\n")
            code = 1
    state.caller.out(json_lines(documents))
    return code


def volume_document(volume: Volume) -> dict[str, Any]:
    """Describe one volume as `docker volume inspect` does."""
    return {
        "CreatedAt": format_time(volume.created_ns // 1_000_000_000 * 1_000_000_000),
        "Driver": "local",
        "Labels": volume.labels or None,
        "Mountpoint": volume.path,
        "Name": volume.name,
        "Options": None,
        "Scope": "local",
    }


@click.command(cls=Command)
@click.option("-q", "--quiet", is_flag=True, help="Print only names")
@pass_state
def ls(state: State, /, quiet: bool) -> int:
    """List volumes."""
    found = state.engine.volumes.list()
    if quiet:
        state.caller.out("".join(f"{volume.name}\n" for volume in found))
    else:
        state.caller.out(table(("DRIVER", "VOLUME NAME"), [("local", volume.name) for volume in found]))
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
    chosen = _label_filter(filters)
    if not force:
        caller.out(_WARNING.format("all local" if every else "anonymous local"))
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            return 0
    pruned = state.engine.volumes.prune(every=every, chosen=chosen)
    if pruned.names:
        caller.out("Deleted Volumes:\n" + "".join(f"{name}\n" for name in pruned.names) + "\n")
    caller.out(f"Total reclaimed space: {human_size(pruned.size_bytes)}\n")
    return 0


def _label_filter(texts: tuple[str, ...]) -> Callable[[Volume], bool]:
    """Read the filters of `prune`: every `label=` has to be there, and no `label!=`."""
    tests: list[tuple[bool, str, str, str]] = []
    for text in texts:
        key, _, label = text.partition("=")
        if key not in ("label", "label!") or not label:
            raise InvalidArgument(f"invalid filter '{key}'")
        tests.append((key == "label", *label.partition("=")))

    def chosen(volume: Volume) -> bool:
        return all(
            wanted == (name in volume.labels and (not equals or volume.labels[name] == value))
            for wanted, name, equals, value in tests
        )

    return chosen
