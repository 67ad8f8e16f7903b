"""What containers have to do with volumes and directories of the host: making them, filling them, leaving them."""

import posixpath
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from os import fsencode
from typing import Final

from msgspec.structs import replace

from onggi.base.errors import InvalidArgument, OnggiError
from onggi.engine.context import Context
from onggi.engine.views import open_view
from onggi.host.copying import Owner
from onggi.host.selecting import close, is_directory, look, open_anything, open_directory
from onggi.spec.container import ContainerRequest, IdMapRequest, MountRequest, parse_request
from onggi.spec.image_config import ContainerConfig as ImageDefaults
from onggi.spec.mounts import check_mounts, parse_volumes_from
from onggi.store.containers import Container

ANONYMOUS_LABEL: Final = "com.docker.volume.anonymous"
_NOBODY: Final = 65534


def complete_mounts(context: Context, request: ContainerRequest, image: ImageDefaults) -> ContainerRequest:
    """Add the mounts of --volumes-from and the image's volumes, where the request has nothing at their places."""
    check_mounts(request.mounts)
    mounts: dict[str, MountRequest] = {}
    for text in request.volumes_from:
        mounts |= _mounts_of(context, text)
    mounts |= {mount.target: mount for mount in request.mounts}
    for path in sorted(image.volumes or ()):
        target = posixpath.normpath(path)
        mounts.setdefault(target, MountRequest(type="volume", target=target))
    for mount in mounts.values():
        if mount.type == "bind" and not mount.create_source and context.files.look(mount.source) is None:
            raise InvalidArgument(
                f'invalid mount config for type "bind": bind source path does not exist: {mount.source}'
            )
    return replace(request, mounts=tuple(mounts.values()))


def _mounts_of(context: Context, text: str) -> dict[str, MountRequest]:
    """Take over the mounts of another container but its temporary file systems; nothing is copied into them."""
    ref, read_only = parse_volumes_from(text)
    other = parse_request(context.containers.get(ref).config)
    return {
        mount.target: replace(mount, read_only=mount.read_only or read_only, copy=False)
        for mount in other.mounts
        if mount.type != "tmpfs"
    }


@contextmanager
def new_volumes(context: Context, request: ContainerRequest) -> Iterator[ContainerRequest]:
    """Make the volumes that a request names, and anonymous ones; gives the request with the names of all.

    Nobody removes them before the block has recorded who uses them. If it fails, anonymous ones go again.
    """
    wanted = any(mount.type == "volume" for mount in request.mounts)
    made: list[str] = []
    try:
        with context.volumes.lock() if wanted else nullcontext():
            mounts = [_with_volume(context, mount, made) for mount in request.mounts]
            yield replace(request, mounts=tuple(mounts))
    except BaseException:
        for name in made:
            with suppress(OnggiError):
                context.volumes.remove(name)
        raise


def _with_volume(context: Context, mount: MountRequest, made: list[str]) -> MountRequest:
    if mount.type != "volume":
        return mount
    if mount.source:
        context.volumes.create_locked(mount.source, labels=mount.labels)
        return mount
    name = str(context.root.new_id())
    context.volumes.create_locked(name, labels={ANONYMOUS_LABEL: "", **mount.labels}, anonymous=True)
    made.append(name)
    return replace(mount, source=name, anonymous=True)


def fill_volumes(context: Context, container: Container, request: ContainerRequest, *, first: bool) -> None:
    """Before a container's `first` start, fill its empty volumes with what its image has at their places.

    Before each start, finish what a killed command has begun.
    """
    volumes = [mount for mount in request.mounts if mount.type == "volume"]
    empty = [mount for mount in volumes if context.volumes.is_empty(mount.source) and mount.copy and first]
    if not empty:
        return
    owner = _owner_outside(request)
    with _open_root(context, container, request) as root:
        for mount in empty:
            _fill(context, mount, root, owner)


def _owner_outside(request: ContainerRequest) -> Owner | None:
    """Give the host's ids for those in a container with a user namespace of its own; what has none is nobody's."""
    if not request.uid_map:
        return None

    def outside(ranges: Sequence[IdMapRequest], id: int) -> int:
        found = (r.host + id - r.container for r in ranges if r.container <= id < r.container + r.size)
        return next(found, _NOBODY)

    return lambda uid, gid: (outside(request.uid_map, uid), outside(request.gid_map, gid))


@contextmanager
def _open_root(context: Context, container: Container, request: ContainerRequest) -> Iterator[int]:
    if container.snapshot is not None:
        with open_view(context, context.snapshots.get(container.snapshot).layers) as view:
            yield view
        return
    fd = context.files.open_directory(request.rootfs)
    try:
        yield fd
    finally:
        context.files.close(fd)


def _fill(context: Context, mount: MountRequest, root: int, owner: Owner | None) -> None:
    path = fsencode(mount.target).strip(b"/")
    if look(root, path, follow=True) is None:
        if owner is not None:
            context.volumes.give(mount.source, *owner(0, 0))
        return
    place = open_anything(root, path)
    try:
        if not is_directory(place):
            raise InvalidArgument(f"cannot mount volume over existing file, file exists {mount.target}")
    finally:
        close(place)
    source = open_directory(root, path)
    try:
        context.volumes.fill(mount.source, source, owner=owner)
    finally:
        close(source)


def make_bind_sources(context: Context, request: ContainerRequest) -> None:
    """Make the directories of the host that `-v` names and that are not there, as Docker does."""
    for mount in request.mounts:
        if mount.type != "bind" or not mount.create_source or context.files.look(mount.source) is not None:
            continue
        made = ""
        for part in mount.source.strip("/").split("/"):
            made += f"/{part}"
            try:
                if context.files.look(made) is None:
                    context.files.make_directory(made, 0o755)
            except OnggiError as error:
                raise type(error)(f"error while creating mount source path '{mount.source}': {error}") from None


def remove_anonymous(context: Context, request: ContainerRequest) -> None:
    """Remove the volumes that were made for a container alone, unless another one uses them by now."""
    for mount in request.mounts:
        if mount.type == "volume" and mount.anonymous:
            with suppress(OnggiError):
                context.volumes.remove(mount.source)
