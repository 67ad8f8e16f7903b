"""Images as users know them: found, listed, described; and the one that is part of Onggi itself."""

from pathlib import Path
from typing import Final

from onggi.base.errors import NotFound
from onggi.engine.context import Context
from onggi.spec.digest import Digest, DiffID
from onggi.spec.image_config import ContainerConfig, ImageConfig, RootFS, parse_image_config, print_image_config
from onggi.spec.reference import parse_reference
from onggi.store.images import Image
from onggi.store.layers import Layer
from onggi.store.tar.pack import hash_layer

HELLO: Final = "hello"
_EMBEDDED: Final = Path(__file__).parent.parent / "data" / HELLO


class Images:
    """The images of an engine. Every `ref` is a name, an id, or the beginning of one."""

    def __init__(self, context: Context) -> None:
        """Work on this root."""
        self._context = context

    def resolve(self, ref: str) -> Image:
        """Find an image to run; the embedded `hello` is always there. Raises NotFound with what to do."""
        try:
            return self._context.images.resolve(ref)
        except NotFound:
            if parse_reference(ref).with_default_tag().familiar == f"{HELLO}:latest":
                return self._add_hello()
            raise NotFound(
                f"Unable to find image '{parse_reference(ref).with_default_tag().familiar}' locally; "
                f"this version of Onggi has no registries yet: make a base image with `onggi image bootstrap`, "
                "load one with `onggi load`, or build it"
            ) from None

    def defaults(self, id: str) -> ContainerConfig:
        """Give what an image says on how to run it. Raises NotFound."""
        return self._context.images.config(Digest(id)).config or ContainerConfig()

    def config(self, ref: str) -> ImageConfig:
        """Give an image's whole config."""
        return self._context.images.config(self._context.images.resolve(ref).id)

    def list(self) -> list[Image]:
        """List all images, newest first."""
        return self._context.images.list()

    def _add_hello(self) -> Image:
        """Make the embedded image: one layer with one static program."""
        context = self._context
        with context.leases.open("add the image hello") as lease:
            key = context.root.new_id()
            context.snapshots.prepare(key, (), lease=lease)
            place = context.root.place("snapshots", key, "fs")
            context.files.put(f"{place}/hello", (_EMBEDDED / "rootfs" / "hello").read_bytes(), mode=0o755)
            layer = context.snapshots.commit(key, lease=lease)
            diff_id = self._settle(layer)
            config = parse_image_config((_EMBEDDED / "config.json").read_bytes())
            rootfs = RootFS(type="layers", diff_ids=(diff_id,))
            config = ImageConfig(
                architecture=config.architecture, os=config.os, config=config.config, rootfs=rootfs, history=config.history
            )
            return context.images.create(
                print_image_config(config), [layer.id], references=[parse_reference(HELLO)], lease=lease
            )

    def _settle(self, layer: Layer) -> DiffID:
        """Hash the tar of a layer that was made here."""
        context = self._context
        fd = context.layers.open(layer.id)
        try:
            diff_id, _ = hash_layer(fd)
        finally:
            context.files.close(fd)
        size_bytes = context.files.tree_bytes(context.root.place("snapshots", layer.id, "fs"))
        context.layers.settle(layer.id, diff_id, size_bytes)
        return diff_id
