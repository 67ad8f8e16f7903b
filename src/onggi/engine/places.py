"""Where on this host the files of containers and images are: for people who look, and for `inspect`."""

from collections.abc import Iterable

import msgspec

from onggi.engine.context import Context
from onggi.spec.container import ContainerRequest
from onggi.store.containers import Container
from onggi.store.layers import DIRECTORY


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """`directory` has a container's own files; `storage` is what its root file system is made of, by `driver`."""

    directory: str
    driver: str
    storage: dict[str, str]


def container_places(context: Context, container: Container, request: ContainerRequest) -> Places:
    """Say where a container is."""
    directory = context.containers.directory(container.id)
    if container.snapshot is None:
        return Places(directory=directory, driver="directory", storage={"Directory": request.rootfs})
    layers = context.snapshots.get(container.snapshot).layers
    storage = {
        "LowerDir": ":".join(layer_places(context, reversed(layers))),
        "UpperDir": context.root.place("snapshots", container.snapshot, "fs"),
    }
    return Places(directory=directory, driver="overlay", storage=storage)


def layer_places(context: Context, layers: Iterable[str]) -> list[str]:
    """Give where layers are kept; those kept as directories have their files in `fs`."""
    found = [context.layers.get(layer) for layer in layers]
    return [context.root.place(layer.place, *(["fs"] if layer.form == DIRECTORY else [])) for layer in found]
