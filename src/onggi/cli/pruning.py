"""Commands that clear out what is not used: `system prune`, `container prune`, `image prune`, `builder prune`."""

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import click

from onggi.base.errors import InvalidArgument
from onggi.base.units import human_size, parse_size
from onggi.cli.app import Command, Group, State, pass_state
from onggi.cli.filters import Filters, parse_filters
from onggi.cli.image_list import created
from onggi.cli.moments import parse_moment
from onggi.store.build_cache import CacheEntry
from onggi.store.containers import Container
from onggi.store.images import Image

FILTERS: Final = frozenset({"label", "label!", "until"})
_CACHE_FILTERS: Final = frozenset({"until", "unused-for"})
_QUESTION: Final = "Are you sure you want to continue? [y/N] "


def register(cli: Group) -> None:
    """Add them to their groups."""
    for name, command in (("system", system), ("container", container), ("image", image), ("builder", builder)):
        group = cli.commands[name]
        assert isinstance(group, Group)
        group.add_command(command)


def confirm(state: State, warning: str) -> bool:
    """Ask on stdout, as Docker does; anything but y is no."""
    state.caller.out(f"WARNING! {warning}{_QUESTION}")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _filter_option(names: Iterable[str]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    help = f"Remove only what this is true of, NAME=VALUE; the names are {', '.join(sorted(names))}"
    return click.option("--filter", "filters", multiple=True, metavar="FILTER", help=help)


_ALL: Final = click.option(
    "-a", "--all", "every", is_flag=True, help="Remove all images without a container, not only nameless ones"
)
_FORCE: Final = click.option("-f", "--force", is_flag=True, help="Do not ask")


@click.command("prune", cls=Command)
@_FORCE
@_filter_option(FILTERS)
@pass_state
def container(state: State, /, force: bool, filters: tuple[str, ...]) -> int:
    """Remove all containers that do not run."""
    state.caller.only_in_process()
    wanted = _Wanted(state, filters)
    if not force and not confirm(state, "This will remove all stopped containers.\n"):
        return 0
    return _report(state, _containers(state, wanted))


@click.command("prune", cls=Command)
@click.option(
    "-a", "--all", "every", is_flag=True, help="Remove all images without a container, not only nameless ones"
)
@_FORCE
@_filter_option(FILTERS)
@pass_state
def image(state: State, /, every: bool, force: bool, filters: tuple[str, ...]) -> int:
    """Remove images that are not used."""
    state.caller.only_in_process()
    wanted = _Wanted(state, (text for text in filters if not text.startswith("dangling=")))
    every = every or parse_filters(filters, {*FILTERS, "dangling"}).flag("dangling") is False
    what = "images without at least one container associated to them" if every else "dangling images"
    if not force and not confirm(state, f"This will remove all {what}.\n"):
        return 0
    return _report(state, _images(state, wanted, every))


@click.command("prune", cls=Command)
@click.option("-a", "--all", "every", is_flag=True, help="Forget also the steps whose layers images have")
@_FORCE
@_filter_option(_CACHE_FILTERS)
@click.option("--keep-storage", default="0", metavar="BYTES", help="Keep so much of what was used last")
@pass_state
def builder(state: State, /, every: bool, force: bool, filters: tuple[str, ...], keep_storage: str) -> int:
    """Forget the build cache, and remove the layers that nothing else needs."""
    state.caller.only_in_process()
    fields = parse_filters(filters, _CACHE_FILTERS)
    before = _moment(state, (*fields.values("until"), *fields.values("unused-for")))
    kept = parse_size(keep_storage)
    what = "build cache" if every else "dangling build cache"
    if not force and not confirm(state, f"This will remove all {what}. "):
        return 0
    return _report(state, _build_cache(state, every, before, kept))


@click.command("prune", cls=Command)
@click.option(
    "-a", "--all", "every", is_flag=True, help="Remove all images without a container, not only nameless ones"
)
@_FORCE
@click.option("--volumes", is_flag=True, help="Remove anonymous volumes that no container uses too")
@_filter_option(FILTERS)
@pass_state
def system(state: State, /, every: bool, force: bool, volumes: bool, filters: tuple[str, ...]) -> int:
    """Remove containers that do not run, images and build cache that are not used."""
    state.caller.only_in_process()
    wanted = _Wanted(state, filters)
    if volumes and "until" in wanted.fields:
        raise InvalidArgument('the "until" filter is not supported with "--volumes"')
    if not force and not confirm(state, _warning(every, volumes, filters)):
        return 0
    parts = [_containers(state, wanted)]
    if volumes:
        found = state.engine.volumes.prune(chosen=lambda volume: wanted.admits(volume.labels))
        parts.append(("Deleted Volumes:", list(found.names), found.size_bytes))
    parts.append(_images(state, wanted, every))
    if not {"label", "label!"} & set(wanted.fields.names()):  # steps of builds have none
        parts.append(_build_cache(state, every, wanted.before_ns, 0))
    return _report(state, *parts)


def _warning(every: bool, volumes: bool, filters: tuple[str, ...]) -> str:
    lines = [
        "all stopped containers",
        *(["all anonymous volumes not used by at least one container"] if volumes else []),
        "all images without at least one container associated to them" if every else "all dangling images",
        "all build cache" if every else "unused build cache",
    ]
    text = "This will remove:\n" + "".join(f"  - {line}\n" for line in lines) + "\n"
    if filters:
        text += "  Items to be pruned will be filtered with:\n" + "".join(f"  - {text}\n" for text in filters) + "\n"
    return text


class _Wanted:
    """Which things of one command line are to go."""

    def __init__(self, state: State, filters: Iterable[str]) -> None:
        self.fields: Filters = parse_filters(filters, FILTERS)
        self.before_ns = _moment(state, self.fields.values("until"))

    def admits(self, labels: Mapping[str, str], created_ns: int = 0) -> bool:
        unwanted = "label!" in self.fields and self.fields.admits_labels(labels, "label!")
        return self.fields.admits_labels(labels) and not unwanted and created_ns < self.before_ns


def _moment(state: State, texts: tuple[str, ...]) -> int:
    if len(texts) > 1:
        raise InvalidArgument("more than one until filter specified")
    return parse_moment(texts[0], time.time_ns(), state.caller.env) if texts else 1 << 63


Part = tuple[str, list[str], int]
"""A title, what is gone, and how much space that gave back."""


def _containers(state: State, wanted: _Wanted) -> Part:
    engine = state.engine

    def chosen(found: Container) -> bool:
        labels = {
            **(engine.containers.image_defaults(found).labels or {}),
            **engine.containers.request(found.id).labels,
        }
        return wanted.admits(labels, found.created_ns)

    pruned = engine.pruning.containers(chosen)
    return "Deleted Containers:", list(pruned.ids), pruned.size_bytes


def _images(state: State, wanted: _Wanted, every: bool) -> Part:
    engine = state.engine

    def chosen(found: Image) -> bool:
        return wanted.admits(engine.images.defaults(str(found.id)).labels or {}, created(engine, found) or 0)

    pruned = engine.pruning.images(chosen, every=every)
    lines: list[str] = []
    for id, names in zip(pruned.ids, pruned.untagged, strict=True):
        lines += [*(f"untagged: {name}" for name in names), f"deleted: {id}"]
    return "Deleted Images:", lines, pruned.size_bytes


def _build_cache(state: State, every: bool, before_ns: int, keep_bytes: int) -> Part:
    def chosen(entry: CacheEntry) -> bool:
        return (every or not entry.shared) and entry.used_ns < before_ns

    pruned = state.engine.pruning.build_cache(chosen, keep_bytes=keep_bytes)
    return "Deleted build cache objects:", list(pruned.ids), pruned.size_bytes


def _report(state: State, *parts: Part) -> int:
    for title, lines, _ in parts:
        if lines:
            state.caller.out("".join(f"{line}\n" for line in (title, *lines, "")))
    state.caller.out(f"Total reclaimed space: {human_size(sum(size for _, _, size in parts))}\n")
    return 0
