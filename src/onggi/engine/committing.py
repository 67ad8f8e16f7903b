"""Images from containers and trees: `commit`, `import`; trees from containers: `export`."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

import msgspec

from onggi.base.errors import Conflict
from onggi.base.units import format_time
from onggi.engine.context import Context
from onggi.engine.views import open_view
from onggi.host.changes import list_changes
from onggi.host.processes import open_process_root
from onggi.host.tree import OPEN_DIRECTORY, open_beneath
from onggi.runtime.lifecycle import LIVE
from onggi.spec.container import ContainerRequest
from onggi.spec.digest import DiffID, Digest
from onggi.spec.image_config import (
    MAX_IMAGE_CONFIG_BYTES,
    ContainerConfig,
    History,
    ImageConfig,
    RootFS,
    print_image_config,
    unknown_config,
)
from onggi.spec.platform import Platform
from onggi.spec.reference import Reference
from onggi.store.containers import Container
from onggi.store.content import Ingest
from onggi.store.images import Image

if TYPE_CHECKING:
    from onggi.store.tar.decompress import Source
    from onggi.store.tar.pack import Sink

MADE: Final = frozenset({b"dev", b"etc", b"etc/hostname", b"etc/hosts", b"etc/resolv.conf", b"proc", b"sys"})
"""What every start of a container makes to mount on; Docker keeps these in a layer of their own, and shows none."""


@contextmanager
def root_of(context: Context, container: Container) -> Iterator[int]:
    """Open the merged root file system of a container: its process's root, or a view of its layers."""
    files = context.files
    with ExitStack() as stack:
        if container.state in LIVE:
            fd = open_process_root(container.pid)
            stack.callback(files.close, fd)
            yield fd
            return
        if container.snapshot is None:
            raise Conflict(
                f"container {container.id[:12]} runs in a directory of the host, which is not Onggi's to read"
            )
        snapshot = context.snapshots.get(container.snapshot)
        context.snapshots.wait_released(snapshot.key)
        upper = context.root.place("snapshots", snapshot.key, "fs")
        yield stack.enter_context(open_view(context, snapshot.layers, upper=upper))


def changes_of(context: Context, container: Container) -> list[tuple[str, bytes]]:
    """List what a container has changed about its image: (A, C or D, path)."""
    if container.snapshot is None:
        raise Conflict(
            f"container {container.id[:12]} runs in a directory of the host: there is nothing to compare with"
        )
    files = context.files
    with ExitStack() as stack:
        upper = files.open_directory(context.root.place("snapshots", container.snapshot, "fs"))
        stack.callback(files.close, upper)
        layers = context.snapshots.get(container.snapshot).layers
        below = stack.enter_context(open_view(context, layers))
        return list_changes(upper, below, made=MADE)


def size_of(context: Context, container: Container) -> tuple[int, int]:
    """Measure what a container has written, and that together with its image, in bytes."""
    if container.snapshot is None:
        return 0, 0
    written = context.files.tree_bytes(context.root.place("snapshots", container.snapshot, "fs"))
    layers = context.snapshots.get(container.snapshot).layers
    return written, written + sum(context.layers.get(layer).size_bytes for layer in layers)


def export_container(context: Context, container: Container, sink: "Sink") -> None:
    """Write the merged root file system of a container as a tar."""
    from onggi.store.tar.pack import pack_tree

    with root_of(context, container) as root:
        fd = open_beneath(root, b".", OPEN_DIRECTORY)
        try:
            pack_tree(fd, sink)
        finally:
            context.files.close(fd)


def commit_container(
    context: Context,
    container: Container,
    request: ContainerRequest,
    *,
    reference: Reference | None,
    author: str,
    message: str,
    changed: ContainerConfig | None = None,
) -> Image:
    """Make an image of what a container has changed. The container is paused, or does not run, meanwhile."""
    from onggi.store.tar.pack import pack_layer

    if container.snapshot is None:
        raise Conflict(f"container {container.id[:12]} runs in a directory of the host: there is nothing to commit")
    base = Digest(container.image)
    raw = context.content.read(base, MAX_IMAGE_CONFIG_BYTES)
    old = context.images.config(base)
    with context.leases.open(f"commit of {container.id[:12]}") as lease:
        upper = context.files.open_directory(context.root.place("snapshots", container.snapshot, "fs"))
        try:
            with context.content.receive(lease=lease) as ingest:
                pack_layer(upper, _Into(ingest))
                diff_id = DiffID(ingest.finish().digest)
        finally:
            context.files.close(upper)
        layer = context.layers.receive(diff_id, lease=lease)
        created = format_time(context.root.clock_ns())
        step = History(created=created, created_by=_command(request), author=author or None, comment=message or None)
        config = ImageConfig(
            created=created,
            author=author or None,
            architecture=old.architecture,
            os=old.os,
            variant=old.variant,
            config=changed or _config(old.config or ContainerConfig(), request),
            rootfs=RootFS(type="layers", diff_ids=(*old.diff_ids, diff_id)),
            history=(*(old.history or ()), step),
        )
        layers = [*(context.images.get(base).layers), layer.id]
        data = print_image_config(config, unknown_config(raw))
        return context.images.create(data, layers, references=[reference] if reference else [], lease=lease)


class _Into:
    """A sink that takes a tar into the content store."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest

    def write(self, data: memoryview, /) -> int:
        self._ingest.write(data)
        return len(data)


def _command(request: ContainerRequest) -> str:
    return " ".join((*(request.entrypoint or ()), *(request.command or ())))


def _config(old: ContainerConfig, request: ContainerRequest) -> ContainerConfig:
    """Carry the container's own settings over, as `docker commit` does."""
    names = {entry.partition("=")[0] for entry in request.env}
    kept = [entry for entry in old.env or () if entry.partition("=")[0] not in names]
    return msgspec.structs.replace(
        old,
        env=(*kept, *request.env) or None,
        cmd=request.command or old.cmd,
        entrypoint=request.entrypoint if request.entrypoint is not None else old.entrypoint,
        user=request.user if request.user is not None else old.user,
        working_dir=request.workdir or old.working_dir,
        labels={**(old.labels or {}), **request.labels} or None,
    )


def import_tree(
    context: Context,
    source: "Source",
    *,
    reference: Reference | None,
    message: str,
    platform: Platform,
    changed: ContainerConfig,
) -> Image:
    """Make an image of one layer from a tar of a root file system."""
    from onggi.engine.layering import receive_layer

    with context.leases.open("import an image") as lease:
        received = receive_layer(context, source, lease=lease)
        created = format_time(context.root.clock_ns())
        config = ImageConfig(
            created=created,
            architecture=platform.architecture,
            os=platform.os,
            variant=platform.variant,
            config=changed,
            rootfs=RootFS(type="layers", diff_ids=(received.diff_id,)),
            history=(History(created=created, comment=message or "Imported from -"),),
        )
        references: Sequence[Reference] = [reference] if reference else []
        return context.images.create(
            print_image_config(config), [received.layer.id], references=references, lease=lease
        )
