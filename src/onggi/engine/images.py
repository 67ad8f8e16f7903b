"""Images as users know them: found, listed, described; and the one that is part of Onggi itself."""

import os.path
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from onggi.base.errors import Conflict, InvalidArgument, NotFound, OnggiError
from onggi.base.ids import ContainerID
from onggi.bootstrap.names import KNOWN, parse_name
from onggi.engine.context import Context
from onggi.engine.places import layer_places
from onggi.host.machine import read_machine
from onggi.spec.digest import Digest
from onggi.spec.image_config import (
    MAX_IMAGE_CONFIG_BYTES,
    ContainerConfig,
    ImageConfig,
    RootFS,
    parse_image_config,
    print_image_config,
)
from onggi.spec.platform import Platform, machine_platform
from onggi.spec.reference import Reference, parse_reference
from onggi.store.gc import Collected
from onggi.store.images import Image
from onggi.store.layers import Layer

if TYPE_CHECKING:
    from onggi.engine.archives import Loaded
    from onggi.engine.pulling import Pulled
    from onggi.engine.pushing import Pushed
    from onggi.registry.access import Registries
    from onggi.registry.progress import Tell
    from onggi.spec.media import Compression
    from onggi.store.tar.decompress import Source
    from onggi.store.tar.pack import Sink

HELLO: Final = "hello"
_MAX_HELLO_BYTES: Final = 1 << 20
_EMBEDDED: Final = os.path.join(os.path.dirname(os.path.dirname(__file__)), "data", HELLO)


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
            name = parse_reference(ref).with_default_tag().familiar
            raise NotFound(f"No such image: {name}; `onggi pull {name}` fetches one, {_advice(name)}") from None

    def defaults(self, id: str) -> ContainerConfig:
        """Give what an image says on how to run it. Raises NotFound."""
        return self._context.images.config(Digest(id)).config or ContainerConfig()

    def config(self, ref: str) -> ImageConfig:
        """Give an image's whole config."""
        return self._context.images.config(self._context.images.resolve(ref).id)

    def list(self) -> Sequence[Image]:
        """List all images, newest first."""
        return self._context.images.list()

    def get(self, ref: str) -> Image:
        """Find an image that is here. Raises NotFound."""
        return self._context.images.resolve(ref)

    def fits(self, image: Image, platform: str | None) -> bool:
        """Tell whether an image is for this platform; any is for None."""
        from onggi.spec.platform import best_match, parse_platform

        config = self._context.images.config(image.id)
        actual = Platform(os=config.os, architecture=config.architecture, variant=config.variant)
        return platform is None or best_match(parse_platform(platform, self._platform()), [actual]) is not None

    def raw_config(self, image: Image) -> bytes:
        """Give an image's config as it is stored."""
        return self._context.content.read(image.id, MAX_IMAGE_CONFIG_BYTES)

    def layers(self, image: Image) -> tuple[Layer, ...]:
        """Give an image's layers, lowest first."""
        return self._context.images.layers(image.id)

    def places(self, image: Image) -> Sequence[str]:
        """Say where an image's layers are kept, lowest first."""
        return layer_places(self._context, image.layers)

    def tag(self, ref: str, name: str) -> None:
        """Give an image one more name."""
        image, reference = self._context.images.resolve(ref), parse_reference(name).with_default_tag()
        self._context.images.tag(reference, image.id, manifest=image.manifest)
        self._context.journal.tagged(image.id, [reference.familiar])

    def save(self, refs: Sequence[str], sink: "Sink") -> None:
        """Write images to an archive that is an OCI layout and a docker-archive at once."""
        from onggi.engine.archives import save_images

        save_images(self._context, refs, sink)
        for ref in refs:
            self._context.journal.image(self._context.images.resolve(ref).id, "save")

    def load(self, source: "Source") -> "Sequence[Loaded]":
        """Take in the images of an archive, of either kind, compressed or not."""
        from onggi.engine.archives import load_images

        loaded = load_images(self._context, source, self._platform())
        for item in loaded:
            self._context.journal.image(item.image.id, "load")
        return loaded

    def pull(
        self,
        name: str,
        *,
        registries: "Registries | None" = None,
        platform: str | None = None,
        every_platform: bool = False,
        tell: "Tell" = lambda event: None,
    ) -> "Pulled":
        """Fetch an image from a registry: `ubuntu`, `quay.io/org/app:1`, `app@sha256:…`.

        `registries` is how they are reached (default: as this process's environment says),
        `platform` such as `linux/arm64` (default: the host's), `tell` hears how far it is.
        Raises NotFound, Unauthorized, Unavailable, NotSupported, Corrupt, Cancelled.
        """
        from onggi.engine.pulling import pull_image
        from onggi.spec.platform import parse_platform

        host = self._platform()
        wanted = None if platform is None else parse_platform(platform, host)
        with ExitStack() as stack:
            known = registries or stack.enter_context(self._context.registries())
            reference = known.parse(name).with_default_tag()
            pulled = pull_image(
                self._context,
                known,
                reference,
                host=host,
                platform=wanted,
                every_platform=every_platform,
                tell=tell,
            )
        self._context.journal.image(pulled.image.id, "pull", name=reference.familiar)
        return pulled

    def push(
        self,
        name: str,
        *,
        registries: "Registries | None" = None,
        platform: str | None = None,
        compression: "Compression | None" = None,
        level: int | None = None,
        tell: "Tell" = lambda event: None,
    ) -> "Pushed":
        """Send what a name stands for to its registry: `me/app`, `registry.example.com:5000/app:1`.

        What was received goes out with the digest that it came with, an index whole if all of it
        is here. `platform` such as `linux/arm64` sends that image alone. New layers are compressed
        by zstd at level 3, for an image that came with Docker's manifest by gzip; `compression` and
        `level` ask for something else, of all layers. `registries` and `tell` are as in `pull`.
        Raises NotFound, InvalidArgument, Unauthorized, Unavailable, Cancelled.
        """
        from onggi.engine.pushing import Packing, push_image
        from onggi.spec.platform import parse_platform

        packing = Packing.of(compression, level)
        wanted = None if platform is None else parse_platform(platform, self._platform())
        with ExitStack() as stack:
            known = registries or stack.enter_context(self._context.registries())
            reference = known.parse(name)
            if reference.digest is not None:
                raise InvalidArgument("cannot push a digest reference")
            if not self.tags(reference):
                raise NotFound(f"An image does not exist locally with the tag: {reference.familiar_name}")
            pushed = push_image(
                self._context, known, reference.with_default_tag(), platform=wanted, packing=packing, tell=tell
            )
        self._context.journal.image(pushed.image, "push", name=pushed.reference.familiar)
        return pushed

    def tags(self, repository: Reference) -> "Sequence[str]":
        """List the tags that images here have in a repository."""
        names = [parse_reference(name) for image in self._context.images.list() for name in image.references]
        return sorted(name.tag for name in names if name.name == repository.name and name.tag)

    def have(self, name: str, *, again: bool = False) -> str:
        """Pull an image that is not here, or anyway; gives what it is called here."""
        known = None if again else self.known_as(name)
        return known or str(self.pull(name).reference)

    def known_as(self, name: str) -> str | None:
        """Give the name by which an image is here: this one, or it in the default registry; None if it is not."""
        if self._is_here(name):
            return name
        with self._context.registries() as registries:
            whole = str(registries.parse(name).with_default_tag())
        return whole if self._is_here(whole) else None

    def _is_here(self, name: str) -> bool:
        try:
            self.resolve(name)
        except NotFound:
            return False
        return True

    def import_tree(
        self, source: "Source", *, name: str | None = None, message: str = "", config: ContainerConfig | None = None
    ) -> Image:
        """Make an image of one layer from the tar of a root file system."""
        from onggi.engine.committing import import_tree

        reference = parse_reference(name).with_default_tag() if name else None
        image = import_tree(
            self._context,
            source,
            reference=reference,
            message=message,
            platform=self._platform(),
            changed=config or ContainerConfig(),
        )
        self._context.journal.tagged(image.id, [reference.familiar] if reference else [])
        self._context.journal.image(image.id, "import")
        return image

    def remove(self, ref: str, *, force: bool = False) -> tuple[tuple[str, ...], Digest | None]:
        """Take a name away, and the image with its last one; gives the names and the image that went.

        Raises Conflict, Docker's texts, for an image that containers use or that has several names.
        """
        context = self._context
        image = context.images.resolve(ref)
        reference = self._reference_of(ref, image)
        known = [parse_reference(name) for name in image.references]
        if reference is not None and (gone := _going_with(reference, known)) != known:
            for name in gone:
                context.images.untag(name)
                context.journal.image(image.id, "untag")
            return tuple(name.familiar for name in gone), None
        if reference is None and not _is_single(known) and not force:
            raise Conflict(
                f"conflict: unable to delete {image.id.hex[:12]} (must be forced) - "
                "image is referenced in multiple repositories"
            )
        from onggi.runtime.lifecycle import LIVE  # a build that finds all in its cache needs nothing of containers

        users = context.images.users(image.id)
        alive = {c.id: c.state for c in context.containers.list()}
        running = [user for user in users if alive.get(ContainerID(user)) in LIVE]
        if running:
            raise Conflict(
                f"conflict: unable to delete {image.id.hex[:12]} (cannot be forced) - "
                f"image is being used by running container {running[0][:12]}"
            )
        if users and not force:
            kind = "remove repository reference" if reference else "delete"
            what = f'"{reference.familiar}"' if reference else image.id.hex[:12]
            raise Conflict(
                f"conflict: unable to {kind} {what} (must force) - "
                f"container {users[0][:12]} is using its referenced image {image.id.hex[:12]}"
            )
        with context.root.db.write(durable=True):
            context.journal.image(image.id, *("untag" for _ in image.references), "delete")
            names = context.images.remove(image.id)
        self.collect()
        return tuple(parse_reference(name).familiar for name in names), image.id

    def collect(self) -> Collected:
        """Remove every blob and layer that nothing refers to any more."""
        return self._context.collector.collect()

    def _reference_of(self, ref: str, image: Image) -> Reference | None:
        try:
            reference = parse_reference(ref).with_default_tag()
        except OnggiError:
            return None
        return reference if str(reference) in image.references else None

    def _platform(self) -> Platform:
        return machine_platform(read_machine())

    def _add_hello(self) -> Image:
        """Make the embedded image: one layer with one static program, the same one at any time."""
        from onggi.engine.layering import settle_layer
        from onggi.host.clamping import clamp_times

        context = self._context
        with context.leases.open("add the image hello") as lease:
            key = context.root.new_id()
            context.snapshots.prepare(key, (), lease=lease)
            place = context.root.place("snapshots", key, "fs")
            context.files.put(
                f"{place}/hello", context.files.read(f"{_EMBEDDED}/rootfs/hello", _MAX_HELLO_BYTES), mode=0o755
            )
            clamp_times(place, 0)
            layer = context.snapshots.commit(key, lease=lease)
            diff_id = settle_layer(context, layer)
            config = parse_image_config(context.files.read(f"{_EMBEDDED}/config.json", _MAX_HELLO_BYTES))
            rootfs = RootFS(type="layers", diff_ids=(diff_id,))
            config = ImageConfig(
                architecture=config.architecture,
                os=config.os,
                config=config.config,
                rootfs=rootfs,
                history=config.history,
            )
            return context.images.create(
                print_image_config(config), [layer.id], references=[parse_reference(HELLO)], lease=lease
            )


def _going_with(reference: Reference, known: Sequence[Reference]) -> Sequence[Reference]:
    """Give a name and, if it is the last tag of its repository, the digests that were pulled there."""
    tags = [name for name in known if name.name == reference.name and name.tag]
    if reference.digest is not None or len(tags) > 1:
        return [name for name in known if name == reference]
    return [name for name in known if name.name == reference.name]


def _is_single(known: Sequence[Reference]) -> bool:
    """Tell whether an image has one tag at most, and all its names are of one repository."""
    return len({name.name for name in known}) <= 1 and sum(name.tag is not None for name in known) <= 1


def _advice(name: str) -> str:
    """Say how to come by an image."""
    if parse_name(name) is not None:
        return f"`onggi image bootstrap {name}` makes it from the distribution's packages"
    return f"`onggi image bootstrap` makes {KNOWN}; `onggi load` takes archives, `onggi build` builds"
