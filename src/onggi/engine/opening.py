"""Opening the files of a container, running or not, with its volumes in it.

What is seen is the root file system and the volumes and bind mounts, as Docker shows
them: nothing of /proc, /sys, /dev or a temporary file system.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from onggi.base.errors import FailedPrecondition, NotSupported
from onggi.engine.context import Context
from onggi.engine.copying import ContainerFiles
from onggi.engine.identity import find_identity
from onggi.engine.resolving import network_mounts
from onggi.engine.starting import decode_request
from onggi.host.composing import Place, clone_directory, clone_root, compose
from onggi.host.mounts import mount_overlay
from onggi.host.selecting import close
from onggi.runtime.lifecycle import LIVE
from onggi.spec.container import ContainerRequest
from onggi.spec.digest import Digest
from onggi.store.containers import Container


@contextmanager
def open_files(
    context: Context, found: Container, shown: str, *, is_member: Callable[[Container], bool]
) -> Iterator[ContainerFiles]:
    """Open the files of a container, which does not start or end its release meanwhile.

    `is_member` tells whether the process that a running container is said to have is in it.
    """
    request = decode_request(found)
    if request.uid_map or request.gid_map:
        raise NotSupported(
            f"cp with container {shown}, which has a user namespace of its own, is not supported by this version of "
            "Onggi: its files have other owners inside than outside; run tar in it by `onggi exec`"
        )
    with ExitStack() as stack:
        with context.containers.lock(found.id):
            container = context.containers.get(found.id)
            root = _open_root(context, container, request, stack, is_member)
        at = context.root.place("empty", "0")
        composed = stack.enter_context(
            compose(root, _places(context, container, request), at, read_only=request.read_only)
        )
        yield ContainerFiles(
            composed.fd,
            shown,
            owner=lambda: _owner(context, container, request),
            happened=lambda action: context.journal.container(container, action),
        )


def _open_root(
    context: Context,
    container: Container,
    request: ContainerRequest,
    stack: ExitStack,
    is_member: Callable[[Container], bool],
) -> int:
    """Give a detached mount of its root file system, and keep that from being mounted once more until the end."""
    if container.state in LIVE:
        if container.snapshot is not None:
            stack.enter_context(context.snapshots.share(container.snapshot))
        root = clone_root(container.pid)
        if not is_member(container):
            close(root)
            raise FailedPrecondition(f"container {container.id[:12]} has ended just now; try again")
        return root
    if container.snapshot is None:
        return clone_directory(request.rootfs)
    held = stack.enter_context(context.snapshots.hold(container.snapshot))
    assert held.upper is not None
    assert held.work is not None
    return mount_overlay(held.lowers, held.upper, held.work)


def _places(context: Context, container: Container, request: ContainerRequest) -> list[Place]:
    """List what a start mounts that is not made anew each time, outer mounts first."""
    asked = {mount.target for mount in request.mounts}
    places = [
        Place(source=mount.source, target=mount.destination)
        for mount in network_mounts(context, container.id)
        if mount.source and mount.destination not in asked and context.files.look(mount.source) is not None
    ]
    for mount in request.mounts:
        if mount.type == "tmpfs":
            continue
        source = context.volumes.get(mount.source).path if mount.type == "volume" else mount.source
        if context.files.look(source) is not None:
            places.append(
                Place(source=source, target=mount.target, read_only=mount.read_only, recursive=mount.recursive)
            )
    return sorted(places, key=lambda place: place.target.rstrip("/").count("/"))


def _owner(context: Context, container: Container, request: ContainerRequest) -> tuple[int, int]:
    """Give the ids of the user that a container runs as."""
    image = context.images.config(Digest(container.image)).config if container.image else None
    user = request.user if request.user is not None else (image.user if image else None) or ""
    layers = () if container.snapshot is None else context.snapshots.get(container.snapshot).layers
    identity = find_identity(context, container, layers, request, user)
    return identity.uid, identity.gid
