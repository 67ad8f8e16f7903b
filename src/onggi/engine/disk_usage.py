"""What a state root takes up on the disk, by kind (`system df`)."""

from collections import Counter

import msgspec

from onggi.base.errors import NotFound
from onggi.engine.committing import size_of
from onggi.engine.context import Context
from onggi.runtime.lifecycle import LIVE
from onggi.store.build_cache import BuildCache, CacheEntry
from onggi.store.containers import Container
from onggi.store.images import Image
from onggi.store.volumes import Volume


class ImageUsage(msgspec.Struct, frozen=True, kw_only=True):
    """An image: how much of it other images have too, and how many containers there are of it."""

    image: Image
    shared_bytes: int
    containers: int

    @property
    def unique_bytes(self) -> int:
        """What goes with it."""
        return self.image.size_bytes - self.shared_bytes


class ContainerUsage(msgspec.Struct, frozen=True, kw_only=True):
    """A container and what it has written."""

    container: Container
    size_bytes: int


class VolumeUsage(msgspec.Struct, frozen=True, kw_only=True):
    """A volume, what is in it, and how many containers use it."""

    volume: Volume
    size_bytes: int
    links: int


class Sum(msgspec.Struct, frozen=True, kw_only=True):
    """All of one kind: how many there are and are in use, and how much space there is and could be had back."""

    total: int
    active: int
    size_bytes: int
    reclaimable_bytes: int


class DiskUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Everything.

    `layers_bytes` and `blobs_bytes` are what all images take up: the files of their layers, and
    what is kept beside them (tars, the blobs that came from registries, manifests, configs).
    `used_bytes` is how much of both is of images from which there are containers.
    """

    images: tuple[ImageUsage, ...]
    layers_bytes: int
    blobs_bytes: int
    used_bytes: int
    containers: tuple[ContainerUsage, ...]
    volumes: tuple[VolumeUsage, ...]
    build_cache: tuple[CacheEntry, ...]

    def sum_images(self) -> Sum:
        """Images that containers are made from are in use."""
        size = self.layers_bytes + self.blobs_bytes
        return Sum(
            total=len(self.images),
            active=sum(item.containers > 0 for item in self.images),
            size_bytes=size,
            reclaimable_bytes=size - self.used_bytes,
        )

    def sum_containers(self) -> Sum:
        """Containers that run are in use."""
        size = sum(item.size_bytes for item in self.containers)
        used = [item for item in self.containers if item.container.state in LIVE]
        kept = sum(item.size_bytes for item in used)
        return Sum(total=len(self.containers), active=len(used), size_bytes=size, reclaimable_bytes=size - kept)

    def sum_volumes(self) -> Sum:
        """Volumes that containers have, running or not, are in use."""
        size = sum(item.size_bytes for item in self.volumes)
        used = [item for item in self.volumes if item.links]
        kept = sum(item.size_bytes for item in used)
        return Sum(total=len(self.volumes), active=len(used), size_bytes=size, reclaimable_bytes=size - kept)

    def sum_build_cache(self) -> Sum:
        """What images have too is in use, and no space of its own."""
        own = {entry.layer: entry.size_bytes for entry in self.build_cache if not entry.shared}
        size = sum(own.values())
        active = sum(entry.shared for entry in self.build_cache)
        return Sum(total=len(self.build_cache), active=active, size_bytes=size, reclaimable_bytes=size)


def measure(context: Context) -> DiskUsage:
    """Measure everything. Directories are walked: that takes its time."""
    images = context.images.list()
    layers = {image.id: context.images.layers(image.id) for image in images}
    users = {image.id: len(context.images.users(image.id)) for image in images}
    sizes = {layer.id: layer.size_bytes for stack in layers.values() for layer in stack}
    used = {layer.id: layer.size_bytes for id, stack in layers.items() if users[id] for layer in stack}
    times = Counter(id for stack in layers.values() for id in {layer.id for layer in stack})
    return DiskUsage(
        images=tuple(
            ImageUsage(
                image=image,
                shared_bytes=sum(layer.size_bytes for layer in layers[image.id] if times[layer.id] > 1),
                containers=users[image.id],
            )
            for image in images
        ),
        layers_bytes=sum(sizes.values()),
        blobs_bytes=sum(context.images.blobs(layers).values()),
        used_bytes=sum(used.values()) + sum(context.images.blobs(id for id in layers if users[id]).values()),
        containers=tuple(_containers(context)),
        volumes=tuple(_volumes(context)),
        build_cache=tuple(BuildCache(context.root).entries()),
    )


def _containers(context: Context) -> list[ContainerUsage]:
    found = []
    for container in context.containers.list():
        if container.name is None:
            continue
        try:
            found.append(ContainerUsage(container=container, size_bytes=size_of(context, container)[0]))
        except NotFound:
            continue  # removed meanwhile
    return found


def _volumes(context: Context) -> list[VolumeUsage]:
    found = []
    for volume in context.volumes.list():
        try:
            size = context.files.tree_bytes(volume.path)
        except NotFound:
            continue
        found.append(VolumeUsage(volume=volume, size_bytes=size, links=len(context.volumes.users(volume.name))))
    return found
