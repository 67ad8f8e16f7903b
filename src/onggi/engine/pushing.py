"""`push`: an image that is here becomes one of a registry.

What was received goes out as it came, byte for byte, if all of it is here: the same
digest. Otherwise each layer goes as a blob that it is known as, wherever that is: in the
repository, in a neighbour of it, here. A layer that is known as none is compressed into
the content store and kept, so that a second push sends nothing. Blobs first, in
parallel; then manifests, an index last: a registry never shows half an image.
"""

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Final, Self, cast

import msgspec

from onggi.base.errors import InvalidArgument, NotFound, OnggiError
from onggi.engine.context import Context
from onggi.engine.layering import write_tar
from onggi.host.together import run_together
from onggi.registry.access import Registries
from onggi.registry.client import Repository
from onggi.registry.progress import BlobProgress, Event, Note, State, Tell
from onggi.registry.push import push_blob
from onggi.spec import media
from onggi.spec.digest import DiffID, Digest
from onggi.spec.image import (
    MAX_MANIFEST_BYTES,
    Descriptor,
    Index,
    Manifest,
    parse_manifest,
    print_manifest,
    select_manifest,
)
from onggi.spec.image_config import MAX_IMAGE_CONFIG_BYTES
from onggi.spec.platform import Platform, best_match
from onggi.spec.reference import Reference, parse_reference
from onggi.store.content import Ingest
from onggi.store.images import Image
from onggi.store.layers import Layer
from onggi.store.leases import Lease
from onggi.store.sources import LayerBlob
from onggi.store.tar.compress import Compressing, check_level
from onggi.store.tar.pack import Sink, write_all

WIDTH: Final = 4
_MAX_DEPTH: Final = 4

Say = Callable[[Event], None]


class Packing(msgspec.Struct, frozen=True, kw_only=True):
    """How layers are to be compressed; None: as they are known, new ones as the image's manifest suggests."""

    compression: media.Compression | None = None
    level: int | None = None

    @classmethod
    def of(cls, compression: str | None, level: int | None) -> Self:
        """Take what a user asked for. Raises InvalidArgument."""
        if compression is None:
            if level is not None:
                raise InvalidArgument("a level of compression is that of a kind: give gzip or zstd too")
            return cls()
        check_level(compression, level)
        return cls(compression=cast("media.Compression", compression), level=level)

    def accepts(self, compression: str | None, level: int | None) -> bool:
        """Whether a blob that is compressed like this is what was asked for."""
        return self.compression in (None, compression) and self.level in (None, level)


AS_IT_IS: Final = Packing()


class Pushed(msgspec.Struct, frozen=True, kw_only=True):
    """What a name stands for at the registry now; `size_bytes` is its manifest's, `sent_bytes` what travelled."""

    reference: Reference
    image: Digest
    digest: Digest
    size_bytes: int
    sent_bytes: int


def push_image(
    context: Context,
    registries: Registries,
    reference: Reference,
    *,
    platform: Platform | None = None,
    packing: Packing = AS_IT_IS,
    tell: Tell = lambda event: None,
) -> Pushed:
    """Push what a reference with a tag stands for.

    With an index of which all is here the whole of it, unless `platform` or `packing` ask
    for something else. Raises NotFound, Unauthorized, Unavailable, Cancelled.
    """
    found = context.images.tagged(reference)
    if found is None:
        raise NotFound(f"tag does not exist: {reference.familiar}")
    id, top = found
    with context.leases.open(f"push of {reference.familiar}") as lease:
        push = _Push(context, registries, reference, context.images.get(id), packing, lease, tell)
        return push.run(top, platform)


class _Document(msgspec.Struct, frozen=True):
    """A manifest or an index, and the blobs that have to be there before."""

    digest: Digest
    media_type: str
    data: bytes
    blobs: tuple[Descriptor, ...]


class _Push:
    def __init__(
        self,
        context: Context,
        registries: Registries,
        reference: Reference,
        image: Image,
        packing: Packing,
        lease: Lease,
        tell: Tell,
    ) -> None:
        self._context, self._registries, self._reference = context, registries, reference
        self._image, self._packing, self._lease, self._tell = image, packing, lease, tell
        self._sent: dict[str, int] = {}
        lease.add("blob", image.id)
        for layer in image.layers:
            lease.add("layer", layer)

    def run(self, top: Digest | None, platform: Platform | None) -> Pushed:
        top = self._choose(top, platform) if platform else top
        given = [digest for digest in (top, self._image.manifest) if digest and self._packing == AS_IT_IS]
        documents = next((found for digest in given if (found := self._below(digest))), None)
        ours = platform is None or top in (None, self._image.manifest)

        def push(repository: Repository) -> Pushed:
            if documents and (pushed := self._push_whole(documents, repository)):
                return pushed
            if not ours and platform:
                raise self._not_for(platform) if self._packing == AS_IT_IS else self._only_as_it_is(platform)
            return self._push_image(repository)

        return self._registries.remote(self._reference).do("push", push)

    # -- what to push ----------------------------------------------------------------------------------

    def _choose(self, top: Digest | None, platform: Platform) -> Digest | None:
        """Give the manifest for a platform; None: the image's own, which is for it."""
        document = self._parse(top) if top else None
        for _ in range(_MAX_DEPTH):
            if top is None or not isinstance(document, Index):
                break
            entry = select_manifest(document, platform, strict=True)
            top, document = entry.digest, self._parse(entry.digest)
        if top is not None and document is not None and top != self._image.manifest:
            return top
        config = self._context.images.config(self._image.id)
        actual = Platform(os=config.os, architecture=config.architecture, variant=config.variant)
        if best_match(platform, [actual], strict=True) is None:
            raise self._not_for(platform)
        return self._image.manifest

    def _not_for(self, platform: Platform) -> NotFound:
        return NotFound(
            f"image with reference {self._reference.familiar} was found but does not provide the specified "
            f"platform ({platform})"
        )

    def _only_as_it_is(self, platform: Platform) -> InvalidArgument:
        return InvalidArgument(
            f"{self._reference.familiar}: the image for {platform} is here as it was received, without layers that "
            "could be compressed anew; push it without --compression"
        )

    def _parse(self, digest: Digest) -> Manifest | Index | None:
        try:
            return parse_manifest(self._context.content.read(digest, MAX_MANIFEST_BYTES))
        except OnggiError:
            return None

    def _below(self, top: Digest) -> list[_Document]:
        """Give a manifest or an index with all below it, in the order to push; nothing if one of them is not here."""
        documents: dict[Digest, _Document] = {}
        return list(documents.values()) if self._collect(top, documents, _MAX_DEPTH) else []

    def _collect(self, digest: Digest, documents: dict[Digest, _Document], depth: int) -> bool:
        content = self._context.content
        document = self._parse(digest) if content.find(digest, lease=self._lease) else None
        if document is None or depth == 0:
            return False
        if isinstance(document, Index):
            blobs: tuple[Descriptor, ...] = ()
            if not all(self._collect(entry.digest, documents, depth - 1) for entry in document.manifests):
                return False
        else:
            blobs = (document.config, *document.layers)
        kind = document.media_type or (media.OCI_INDEX if isinstance(document, Index) else media.OCI_MANIFEST)
        documents[digest] = _Document(digest, kind, content.read(digest, MAX_MANIFEST_BYTES), blobs)
        return True

    def _is_here(self, blob: Descriptor) -> bool:
        if not media.is_distributable(blob.media_type):
            return True
        return self._context.content.find(blob.digest, lease=self._lease) is not None

    # -- as it came ------------------------------------------------------------------------------------

    def _push_whole(self, documents: list[_Document], repository: Repository) -> Pushed | None:
        """Push everything as it came; None if a blob is neither here nor to be had there."""
        blobs = {blob.digest: blob for document in documents for blob in document.blobs}
        early: list[Event] = []
        missing = [blob for blob in blobs.values() if not self._is_here(blob)]
        if not all(self._push_blob(repository, blob, early.append) for blob in missing):
            return None
        rest = [blob for blob in blobs.values() if blob not in missing]
        configs = [blob for blob in rest if media.layer_compression(blob.media_type) is None]
        layers = [blob for blob in rest if media.layer_compression(blob.media_type) is not None]
        for blob in layers:
            self._tell(BlobProgress(blob=blob.digest, state=State.WAITING, total=blob.size))
        for event in early:
            self._tell(event)
        for blob in configs:
            self._push_blob(repository, blob)
        tasks = [partial(self._push_layer_blob, repository, blob) for blob in layers]
        run_together(tasks, width=WIDTH, heard=self._tell, stop=self._registries.stop)
        *below, top = documents
        for document in below:
            repository.put_manifest(str(document.digest), document.data, document.media_type)
        repository.put_manifest(self._tag, top.data, top.media_type)
        self._name(top.digest)
        return self._pushed(top.digest, len(top.data))

    def _push_layer_blob(self, repository: Repository, blob: Descriptor, say: Say) -> None:
        if media.is_distributable(blob.media_type):
            self._push_blob(repository, blob, say)
        else:
            say(BlobProgress(blob=blob.digest, state=State.SKIPPED, total=blob.size))

    def _push_blob(
        self, repository: Repository, blob: Descriptor, say: Say = lambda event: None, name: str = ""
    ) -> bool:
        """Have a blob there; False if it cannot be had. It is shown by `name`."""

        def told(state: State, count: int, source: str) -> None:
            if state is State.READY:
                self._sent[blob.digest] = blob.size
            say(BlobProgress(blob=name or blob.digest, state=state, bytes=count, total=blob.size, source=source))

        content, sources = self._context.content, self._context.sources
        return push_blob(repository, content, sources, blob, told, neighbours=self._neighbours)

    @cached_property
    def _neighbours(self) -> list[str]:
        """Where the image was pulled from or pushed to, at the registry that it goes to now."""
        names = [parse_reference(name) for name in self._image.references]
        return [name.path for name in names if name.digest and name.domain == self._reference.domain]

    # -- layer by layer --------------------------------------------------------------------------------

    def _push_image(self, repository: Repository) -> Pushed:
        """Push the image under a manifest of its own."""
        context, image = self._context, self._image
        config = context.content.read(image.id, MAX_IMAGE_CONFIG_BYTES)
        layers = context.images.layers(image.id)
        kept = self._kept_manifest(len(layers))
        found: dict[str, Descriptor] = {}
        tasks: dict[str, Callable[[Say], None]] = {}
        for number, layer in enumerate(layers):
            diff_id = DiffID(layer.diff_id or "")
            before = kept.layers[number] if kept else None
            docker = kept is not None and kept.media_type == media.DOCKER_MANIFEST
            tasks[diff_id] = partial(self._push_layer, repository, layer, before, found, docker=docker)
            self._tell(BlobProgress(blob=diff_id, state=State.WAITING, total=layer.size_bytes))
        self._push_blob(repository, Descriptor(media_type=media.OCI_CONFIG, digest=image.id, size=len(config)))
        run_together(list(tasks.values()), width=WIDTH, heard=self._tell, stop=self._registries.stop)
        manifest = _manifest(image.id, len(config), [found[str(layer.diff_id)] for layer in layers], kept)
        data = print_manifest(manifest)
        digest = Digest.of(data)
        if kept is not None and manifest == kept and image.manifest:
            digest, data = image.manifest, context.content.read(image.manifest, MAX_MANIFEST_BYTES)
        elif image.manifest and image.manifest != digest:
            why = "its layers were compressed anew" if self._packing == AS_IT_IS else "as it was asked for"
            changed = f"the digest changes from {image.manifest} to {digest}"
            self._tell(Note(text=f"{self._reference.familiar}: {changed}: {why}"))
        repository.put_manifest(self._tag, data, manifest.media_type or media.OCI_MANIFEST)
        self._keep(digest, data, manifest, config)
        return self._pushed(digest, len(data))

    def _kept_manifest(self, layers: int) -> Manifest | None:
        """Give the manifest that the image came with, even if not all of it is here."""
        document = self._parse(self._image.manifest) if self._image.manifest else None
        fits = isinstance(document, Manifest) and document.config.digest == self._image.id
        return document if isinstance(document, Manifest) and fits and len(document.layers) == layers else None

    def _push_layer(
        self,
        repository: Repository,
        layer: Layer,
        before: Descriptor | None,
        found: dict[str, Descriptor],
        say: Say,
        *,
        docker: bool,
    ) -> None:
        diff_id = DiffID(layer.diff_id or "")
        if before is not None and not media.is_distributable(before.media_type) and self._packing == AS_IT_IS:
            found[diff_id] = before
            say(BlobProgress(blob=diff_id, state=State.SKIPPED))
            return
        for blob in self._known(layer, before):
            if self._push_blob(repository, blob, say, diff_id):
                found[diff_id] = blob
                return
        compression = self._packing.compression or ("gzip" if docker else "zstd")
        blob = self._compress(layer, compression, say)
        self._push_blob(repository, blob, say, diff_id)
        found[diff_id] = blob

    def _known(self, layer: Layer, before: Descriptor | None) -> Iterator[Descriptor]:
        """Give the blobs that a layer may go as: as it came, then as it is known."""
        known = self._context.sources.blobs(DiffID(layer.diff_id or ""))
        levels = {blob.digest: blob.level for blob in known}
        seen = set()
        if before is not None:
            compression = media.layer_compression(before.media_type)
            if self._packing.accepts(compression, levels.get(before.digest)):
                seen.add(before.digest)
                yield before
        find = self._context.content.find
        tar = find(layer.tar, lease=self._lease) if layer.tar and self._packing.compression == "none" else None
        if tar is not None:
            known.append(LayerBlob(digest=tar.digest, size_bytes=tar.size_bytes, compression="none", level=0))
        for blob in known:
            if blob.digest not in seen and self._packing.accepts(blob.compression, blob.level):
                seen.add(blob.digest)
                find(blob.digest, lease=self._lease)  # if it is here it stays
                yield Descriptor(media_type=_OCI[blob.compression], digest=blob.digest, size=blob.size_bytes)

    def _compress(self, layer: Layer, compression: media.Compression, say: Say) -> Descriptor:
        """Make a layer's blob, kept for the next push."""
        context, diff_id = self._context, DiffID(layer.diff_id or "")
        level = check_level(compression, self._packing.level)

        def heard(count: int) -> None:
            self._registries.client.check()
            total = max(count, layer.size_bytes)
            say(BlobProgress(blob=diff_id, state=State.COMPRESSING, bytes=count, total=total))

        with context.content.receive(lease=self._lease) as ingest:
            sink = Compressing(_Into(ingest), compression, level)
            write_tar(context, layer, _Counting(sink, heard))
            sink.finish()
            blob = ingest.finish()
        made = LayerBlob(digest=blob.digest, size_bytes=blob.size_bytes, compression=compression, level=level)
        context.sources.remember_blob(diff_id, made)
        return Descriptor(media_type=_OCI[compression], digest=blob.digest, size=blob.size_bytes)

    def _keep(self, digest: Digest, data: bytes, manifest: Manifest, config: bytes) -> None:
        """Keep a manifest with its blobs: as the tag's, and as the image's if that has none that is whole."""
        context, image = self._context, self._image
        context.content.put([data], digest, lease=self._lease)
        context.content.link(digest, [image.id, *(layer.digest for layer in manifest.layers)])
        kept = self._below(image.manifest) if image.manifest else []
        if not kept or not all(self._is_here(blob) for document in kept for blob in document.blobs):
            context.images.create(config, image.layers, manifest=digest, lease=self._lease)
        with context.root.db.write(durable=True):
            now = context.images.tagged(self._reference)
            if now is not None and now[0] == image.id:
                context.images.tag(self._reference, image.id, manifest=digest)
        self._name(digest)

    def _name(self, digest: Digest) -> None:
        """Let the image be found by what it is called at the registry."""
        name = self._reference.with_digest(digest)
        if self._context.images.tagged(name) is None:
            self._context.images.tag(name, self._image.id, manifest=digest)

    # -- the end ---------------------------------------------------------------------------------------

    @property
    def _tag(self) -> str:
        return self._reference.tag or ""

    def _pushed(self, digest: Digest, size: int) -> Pushed:
        return Pushed(
            reference=self._reference,
            image=self._image.id,
            digest=digest,
            size_bytes=size,
            sent_bytes=sum(self._sent.values()),
        )


_OCI: Final = {"gzip": media.OCI_LAYER_GZIP, "zstd": media.OCI_LAYER_ZSTD, "none": media.OCI_LAYER}
_DOCKER: Final = {media.OCI_LAYER_GZIP: media.DOCKER_LAYER_GZIP, media.OCI_LAYER: media.DOCKER_LAYER}
_TO_OCI: Final = {docker: oci for oci, docker in _DOCKER.items()} | {media.DOCKER_LAYER_ZSTD: media.OCI_LAYER_ZSTD}


class _Into:
    """A blob on its way in, as a sink."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest

    def write(self, data: memoryview, /) -> int:
        self._ingest.write(data)
        return len(data)


class _Counting:
    """A sink that says how much has gone through."""

    def __init__(self, behind: Sink, heard: Callable[[int], None]) -> None:
        self._behind, self._heard, self._count = behind, heard, 0

    def write(self, data: memoryview, /) -> int:
        self._count += len(data)
        self._heard(self._count)
        write_all(self._behind, data)
        return len(data)


def _manifest(config: Digest, size: int, layers: list[Descriptor], kept: Manifest | None) -> Manifest:
    """Put a manifest together, as much as `kept` is as possible: Docker's stays Docker's if it knows all its layers."""
    if kept is not None and list(kept.layers) == layers:
        return kept
    docker = kept is not None and kept.media_type == media.DOCKER_MANIFEST
    types = {media.bare(layer.media_type) for layer in layers}
    if docker and types <= {*_DOCKER, *_DOCKER.values()}:
        names, manifest_type, config_type = _DOCKER, media.DOCKER_MANIFEST, media.DOCKER_CONFIG
    else:
        names, manifest_type, config_type = _TO_OCI, media.OCI_MANIFEST, media.OCI_CONFIG
    named = tuple(
        msgspec.structs.replace(layer, media_type=names.get(media.bare(layer.media_type), layer.media_type))
        for layer in layers
    )
    return Manifest(
        schema_version=2,
        media_type=manifest_type,
        config=Descriptor(media_type=config_type, digest=config, size=size),
        layers=named,
        annotations=kept.annotations if kept is not None else None,
    )
