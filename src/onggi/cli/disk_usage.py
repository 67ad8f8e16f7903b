"""`system df` and `builder du`: what everything takes up on the disk."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import click
import msgspec

from onggi.base.errors import InvalidArgument
from onggi.base.units import human_size
from onggi.cli import container_list, image_list
from onggi.cli.app import Command, Group, State, pass_state
from onggi.cli.listing import FORMAT_HELP, Column, Listing, parse_format, render_listing
from onggi.cli.render import age
from onggi.engine.disk_usage import DiskUsage, ImageUsage, Sum, VolumeUsage
from onggi.spec.reference import parse_reference
from onggi.store.build_cache import CacheEntry


def register(cli: Group) -> None:
    """Add them to their groups."""
    for name, command in (("system", df), ("builder", du)):
        group = cli.commands[name]
        assert isinstance(group, Group)
        group.add_command(command)


@dataclass(kw_only=True, eq=False)
class Row:
    """One kind of things."""

    kind: str
    sum: Sum
    percent: bool = True

    def reclaimable(self) -> str:
        """How much could be had back."""
        share = f" ({self.sum.reclaimable_bytes * 100 // self.sum.size_bytes}%)" if self.sum.size_bytes else ""
        return human_size(self.sum.reclaimable_bytes) + (share if self.percent else "")


_COLUMNS: Final[Mapping[str, Column[Row]]] = {
    "Type": Column("TYPE", lambda row: row.kind),
    "TotalCount": Column("TOTAL", lambda row: str(row.sum.total)),
    "Active": Column("ACTIVE", lambda row: str(row.sum.active)),
    "Size": Column("SIZE", lambda row: human_size(row.sum.size_bytes)),
    "Reclaimable": Column("RECLAIMABLE", Row.reclaimable),
}


@click.command(cls=Command)
@click.option("-v", "--verbose", is_flag=True, help="Show every image, container, volume and step of a build")
@click.option("--format", "format", default="", metavar="FORMAT", help=FORMAT_HELP)
@pass_state
def df(state: State, /, verbose: bool, format: str) -> int:
    """Show how much disk space images, containers, volumes and the build cache take up."""
    state.caller.only_in_process()
    usage = state.engine.system.disk_usage()
    if verbose:
        state.caller.out(_verbose(state, usage, format))
        return 0
    rows = [
        Row(kind="Images", sum=usage.sum_images()),
        Row(kind="Containers", sum=usage.sum_containers()),
        Row(kind="Local Volumes", sum=usage.sum_volumes()),
        Row(kind="Build Cache", sum=usage.sum_build_cache(), percent=False),
    ]
    listing = Listing(kind="disk usage", columns=_COLUMNS, default=tuple(_COLUMNS), items=rows, quiet="Type")
    state.caller.out(render_listing(listing, format=format))
    return 0


def _verbose(state: State, usage: DiskUsage, format: str) -> str:
    now_ns = time.time_ns()
    sections = {
        "Images": _images(state, usage.images, now_ns, truncate=not format),
        "Containers": _containers(state, usage, now_ns, truncate=not format),
        "Volumes": _volumes(usage.volumes),
        "BuildCache": _build_cache(usage.build_cache, now_ns),
    }
    if format:
        found: dict[str, Any] = {
            name: msgspec.json.decode(render_listing(listing, as_json=True)) for name, listing in sections.items()
        }
        return _by_template(found, "{{json .}}" if format == "json" else format)
    titles = (
        "Images space usage:",
        "Containers space usage:",
        "Local Volumes space usage:",
        f"Build cache usage: {human_size(usage.sum_build_cache().size_bytes)}",
    )
    return "\n".join(
        f"{title}\n\n{render_listing(listing)}" for title, listing in zip(titles, sections.values(), strict=True)
    )


def _by_template(found: dict[str, Any], format: str) -> str:
    from onggi.cli.template import TemplateError

    template = parse_format(format)
    try:
        return template.execute(found) + "\n"
    except TemplateError as error:
        raise InvalidArgument(f"template parsing error: {error}") from None


def _images(state: State, found: Sequence[ImageUsage], now_ns: int, *, truncate: bool) -> Listing[Any]:
    usages = {item.image.id: item for item in found}

    def listed(item: ImageUsage) -> image_list.Listed:
        name = parse_reference(item.image.references[0]) if item.image.references else None
        return image_list.Listed(
            image=item.image,
            created_ns=image_list.created(state.engine, item.image),
            repository=name.familiar_name if name else image_list.NONE,
            tag=(name.tag if name else None) or image_list.NONE,
            digest=str(name.digest) if name and name.digest else "",
            now_ns=now_ns,
            env=state.caller.env,
            truncate=truncate,
        )

    columns: dict[str, Column[Any]] = {
        **image_list.COLUMNS,
        "SharedSize": Column("SHARED SIZE", lambda item: human_size(usages[item.image.id].shared_bytes)),
        "UniqueSize": Column("UNIQUE SIZE", lambda item: human_size(usages[item.image.id].unique_bytes)),
        "Containers": Column("CONTAINERS", lambda item: str(usages[item.image.id].containers)),
    }
    default = (*image_list.TABLE, "SharedSize", "UniqueSize", "Containers")
    return Listing(kind="image", columns=columns, default=default, items=[listed(item) for item in found])


def _containers(state: State, usage: DiskUsage, now_ns: int, *, truncate: bool) -> Listing[Any]:
    sizes = {item.container.id: item.size_bytes for item in usage.containers}
    items = [
        container_list.Listed(
            engine=state.engine,
            container=item.container,
            now_ns=now_ns,
            env=state.caller.env,
            truncate=truncate,
            sized=False,
        )
        for item in usage.containers
    ]
    columns: dict[str, Column[Any]] = {
        **container_list.COLUMNS,
        "Size": Column("SIZE", lambda item: human_size(sizes[item.container.id], 3)),
    }
    default = ("ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names")
    return Listing(kind="container", columns=columns, default=default, items=items)


def _volumes(found: Sequence[VolumeUsage]) -> Listing[VolumeUsage]:
    columns: Mapping[str, Column[VolumeUsage]] = {
        "Name": Column("VOLUME NAME", lambda item: item.volume.name),
        "Links": Column("LINKS", lambda item: str(item.links)),
        "Size": Column("SIZE", lambda item: human_size(item.size_bytes, 3)),
        "Driver": Column("DRIVER", lambda item: "local"),
        "Scope": Column("SCOPE", lambda item: "local"),
        "Mountpoint": Column("MOUNTPOINT", lambda item: item.volume.path),
    }
    return Listing(kind="volume", columns=columns, default=("Name", "Links", "Size"), items=found, quiet="Name")


def _build_cache(found: Sequence[CacheEntry], now_ns: int) -> Listing[CacheEntry]:
    columns: Mapping[str, Column[CacheEntry]] = {
        "ID": Column("CACHE ID", lambda item: item.key[:12]),
        "CacheType": Column("CACHE TYPE", lambda item: "regular"),
        "Size": Column("SIZE", lambda item: human_size(item.size_bytes, 3)),
        "CreatedSince": Column("CREATED", lambda item: age(item.created_ns, now_ns)),
        "LastUsedSince": Column("LAST USED", lambda item: age(item.used_ns, now_ns)),
        "Shared": Column("SHARED", lambda item: str(item.shared).lower()),
        "InUse": Column("IN USE", lambda item: str(item.shared).lower()),
    }
    default = ("ID", "CacheType", "Size", "CreatedSince", "LastUsedSince", "Shared")
    return Listing(kind="build cache", columns=columns, default=default, items=found)


_CACHE_COLUMNS: Final[Mapping[str, Column[CacheEntry]]] = {
    "ID": Column("ID", lambda item: item.key[:25]),
    "Reclaimable": Column("RECLAIMABLE", lambda item: str(not item.shared).lower()),
    "Size": Column("SIZE", lambda item: human_size(item.size_bytes)),
    "LastAccessed": Column("LAST ACCESSED", lambda item: age(item.used_ns, time.time_ns())),
}


@click.command(cls=Command)
@click.option("--format", "format", default="", metavar="FORMAT", help=FORMAT_HELP)
@pass_state
def du(state: State, /, format: str) -> int:
    """Show how much disk space the build cache takes up."""
    entries = state.engine.system.build_cache()
    listing = Listing(kind="build cache", columns=_CACHE_COLUMNS, default=tuple(_CACHE_COLUMNS), items=entries)
    state.caller.out(render_listing(listing, format=format))
    if not format:
        shared = sum({entry.layer: entry.size_bytes for entry in entries if entry.shared}.values())
        own = sum({entry.layer: entry.size_bytes for entry in entries if not entry.shared}.values())
        lines = {"Shared": shared, "Private": own, "Reclaimable": own, "Total": shared + own}
        state.caller.out("".join(f"{name + ':':<14}{human_size(size)}\n" for name, size in lines.items()))
    return 0
