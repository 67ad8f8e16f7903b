"""`pull`: an image of a registry becomes one of ours.

Documents first (index, manifest, config), each verified and bounded; then the layers, several
at once, of which those that are here are not asked for. Nothing is named before all of it is
here. What was fetched stays when the rest fails, and the next pull goes on from there.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final

import msgspec

from onggi.base.errors import Corrupt, NotFound, NotSupported
from onggi.engine.context import Context
from onggi.engine.layering import receive_layer
from onggi.host.together import run_together
from onggi.registry.access import Registries
from onggi.registry.progress import BlobProgress, Event, Note, State, Tell
from onggi.registry.pull import pull_blob
from onggi.registry.remote import Remote
from onggi.spec import media
from onggi.spec.digest import DiffID, Digest
from onggi.spec.image import (
    MAX_MANIFEST_BYTES,
    Descriptor,
    Index,
    Manifest,
    check_layers,
    parse_manifest,
    select_manifest,
)
from onggi.spec.image_config import MAX_IMAGE_CONFIG_BYTES, ImageConfig, parse_image_config
from onggi.spec.platform import Platform, best_match
from onggi.spec.reference import Reference, parse_reference
from onggi.store.images import Image
from onggi.store.layers import Layer
from onggi.store.leases import Lease
from onggi.store.sources import LayerBlob

WIDTH: Final = 4
_MAX_DEPTH: Final = 4
_MAX_PLATFORMS: Final = 200
_MAX_LAYERS: Final = 1000

Say = Callable[[Event], None]


class Pulled(msgspec.Struct, frozen=True, kw_only=True):
    """What a pull brought: the image, the digest that its tag had, and whether all was here before.

    `saved_bytes` is the compressed size of the layers that were not fetched.
    """

    image: Image
    reference: Reference
    digest: Digest
    up_to_date: bool
    fetched_bytes: int
    saved_bytes: int


def pull_image(
    context: Context,
    registries: Registries,
    reference: Reference,
    *,
    host: Platform,
    platform: Platform | None = None,
    every_platform: bool = False,
    tell: Tell = lambda event: None,
) -> Pulled:
    """Pull a reference (with a tag or a digest) for `platform`, else for `host`.

    `every_platform` fetches the other platforms' blobs too, without making layers of them.
    Raises NotFound, Unauthorized, Unavailable, NotSupported for what is no image, Corrupt for
    what is not what its name promised, Cancelled.
    """
    with context.leases.open(f"pull of {reference.familiar}") as lease:
        pull = _Pull(context, registries, registries.remote(reference), lease, tell)
        return pull.run(reference, host, platform, every_platform=every_platform)


class _Chosen(msgspec.Struct, frozen=True):
    """The image for one platform: its descriptor, manifest and config, and those of the indexes above it."""

    digest: Digest
    manifest: Manifest
    raw_config: bytes
    config: ImageConfig


class _Pull:
    def __init__(self, context: Context, registries: Registries, remote: Remote, lease: Lease, tell: Tell) -> None:
        self._context, self._registries, self._remote = context, registries, remote
        self._lease, self._tell = lease, tell
        self._sizes: dict[str, int] = {}
        self._fetched: dict[str, int] = {}
        self._verified: set[Digest] = set()

    def run(self, reference: Reference, host: Platform, platform: Platform | None, *, every_platform: bool) -> Pulled:
        before = self._known(reference)
        top = self._resolve(reference)
        chosen = self._choose(top, platform or host, strict=platform is not None, depth=_MAX_DEPTH)
        self._check_platform(reference, chosen.config, host, platform)
        others = list(self._others(top, {chosen.digest})) if every_platform else []
        layers = self._pull_layers(chosen, others)
        image = self._record(reference, top.digest, chosen, layers)
        return Pulled(
            image=image,
            reference=reference,
            digest=top.digest,
            up_to_date=before == (image.id, top.digest),
            fetched_bytes=sum(self._fetched.values()),
            saved_bytes=sum(size for blob, size in self._sizes.items() if blob not in self._fetched),
        )

    # -- documents -------------------------------------------------------------------------------------

    def _resolve(self, reference: Reference) -> Descriptor:
        what = str(reference.digest or reference.with_default_tag().tag)
        return self._remote.do("resolve", lambda repository: repository.resolve(what))

    def _document(self, descriptor: Descriptor) -> Manifest | Index:
        """Give a manifest or an index, fetched if it is not here, and keep its bytes."""
        content, digest = self._context.content, descriptor.digest
        if content.find(digest, lease=self._lease) is None:
            data, _, _ = self._remote.do("pull", lambda repository: repository.manifest(str(digest)))
            content.put([data], digest, lease=self._lease)
        data = content.read(digest, MAX_MANIFEST_BYTES)
        if len(data) != descriptor.size:
            raise Corrupt(f"manifest {digest}: it has {len(data)} bytes, its descriptor says {descriptor.size}")
        return parse_manifest(data, descriptor.media_type)

    def _choose(self, descriptor: Descriptor, wanted: Platform, *, strict: bool, depth: int) -> _Chosen:
        """Follow indexes down to the image for a platform."""
        document = self._document(descriptor)
        if isinstance(document, Index):
            if depth == 0:
                raise Corrupt(f"{self._remote.name}: its indexes are nested too deeply")
            entry = select_manifest(document, wanted, strict=strict)
            chosen = self._choose(entry, wanted, strict=strict, depth=depth - 1)
            self._context.content.link(descriptor.digest, [entry.digest])
            return chosen
        return self._image(descriptor.digest, document)

    def _image(self, digest: Digest, manifest: Manifest) -> _Chosen:
        kind = media.bare(manifest.config.media_type)
        if kind not in media.IMAGE_CONFIGS:
            kind = manifest.artifact_type or kind
            raise NotSupported(
                f"{self._remote.name}: {digest} is an artifact of type {kind}, not an image that can be run; "
                "`onggi image cp` copies it between registries"
            )
        self._check_count(manifest)
        for layer in manifest.layers:
            if media.layer_compression(layer.media_type) is None:
                raise NotSupported(f"{self._remote.name}: layers of type {layer.media_type} are not supported")
        raw = self._small(manifest.config)
        config = parse_image_config(raw)
        check_layers(manifest, config)
        return _Chosen(digest, manifest, raw, config)

    def _check_count(self, manifest: Manifest) -> None:
        if len(manifest.layers) > _MAX_LAYERS:
            raise Corrupt(f"{self._remote.name}: the manifest has {len(manifest.layers)} layers, which no image has")

    def _small(self, descriptor: Descriptor) -> bytes:
        if descriptor.size > MAX_IMAGE_CONFIG_BYTES:
            raise Corrupt(f"{self._remote.name}: a config of {descriptor.size} bytes is larger than any may be")
        pull_blob(self._remote, self._context.content, descriptor, lease=self._lease, arrived=lambda _: None)
        return self._context.content.read(descriptor.digest, MAX_IMAGE_CONFIG_BYTES)

    def _check_platform(
        self, reference: Reference, config: ImageConfig, host: Platform, platform: Platform | None
    ) -> None:
        actual = Platform(os=config.os, architecture=config.architecture, variant=config.variant)
        if platform is not None:
            if config.os and best_match(platform, [actual], strict=True) is None:
                raise NotFound(
                    f"image with reference {reference.familiar} was found but does not provide the specified "
                    f"platform ({platform}): it is for {actual}"
                )
        elif config.os and best_match(host, [actual]) is None:
            self._tell(
                Note(
                    text=f"WARNING: The requested image's platform ({actual}) does not match the detected host "
                    f"platform ({host}) and no specific platform was requested"
                )
            )

    def _others(self, top: Descriptor, seen: set[Digest], depth: int = _MAX_DEPTH) -> Iterator[tuple[Digest, Manifest]]:
        """Give the manifests of the other platforms: all below an index that are not `seen`."""
        index = self._document(top)
        if not isinstance(index, Index):
            return
        if depth == 0:
            raise Corrupt(f"{self._remote.name}: its indexes are nested too deeply")
        for entry in index.manifests:
            if entry.digest not in seen:
                seen.add(entry.digest)
                if len(seen) > _MAX_PLATFORMS:
                    raise Corrupt(f"{self._remote.name}: an index of so many entries is larger than any is")
                document = self._document(entry)
                if isinstance(document, Manifest):
                    self._check_count(document)
                    yield entry.digest, document
                else:
                    yield from self._others(entry, seen, depth - 1)
            self._context.content.link(top.digest, [entry.digest])

    # -- layers ----------------------------------------------------------------------------------------

    def _pull_layers(self, chosen: _Chosen, others: list[tuple[Digest, Manifest]]) -> list[str]:
        """Give the ids of the image's layers, lowest first."""
        wanted = dict(zip(chosen.config.diff_ids, chosen.manifest.layers, strict=True))
        ids: dict[DiffID, str] = {}
        tasks = []
        for diff_id, descriptor in sorted(wanted.items(), key=lambda item: -item[1].size):
            self._sizes[descriptor.digest] = descriptor.size
            if (found := self._context.layers.find(diff_id, lease=self._lease)) is not None:
                ids[diff_id] = found.id
                self._tell(self._shared(found, descriptor))
            else:
                self._tell(BlobProgress(blob=descriptor.digest, state=State.WAITING, total=descriptor.size))
                tasks.append(partial(self._pull_layer, diff_id, descriptor, ids))
        blobs = {blob.digest: blob for _, manifest in others for blob in (manifest.config, *manifest.layers)}
        for descriptor in blobs.values():
            if descriptor.digest not in self._sizes and media.is_distributable(descriptor.media_type):
                self._sizes[descriptor.digest] = descriptor.size
                tasks.append(partial(self._pull_blob, descriptor))
        run_together(tasks, width=WIDTH, heard=self._tell, stop=self._registries.stop)
        self._remember(wanted)
        for digest, manifest in others:
            self._context.content.link(digest, [manifest.config.digest, *(layer.digest for layer in manifest.layers)])
        return [ids[diff_id] for diff_id in chosen.config.diff_ids]

    def _remember(self, layers: Mapping[DiffID, Descriptor]) -> None:
        """Note for later pushes where these blobs are; each was seen to be its layer, now or before."""
        there = self._remote.repositories[-1].endpoint
        for diff_id, descriptor in layers.items():
            compression = media.layer_compression(descriptor.media_type)
            if descriptor.digest in self._verified and compression is not None:
                blob = LayerBlob(digest=descriptor.digest, size_bytes=descriptor.size, compression=compression)
                self._context.sources.remember_blob(diff_id, blob)
            self._context.sources.remember_source(descriptor.digest, there.host, there.repository)

    def _shared(self, layer: Layer, descriptor: Descriptor) -> BlobProgress:
        users = [name for name in self._context.images.with_layer(layer.id) if not self._is_ours(name)]
        return BlobProgress(
            blob=descriptor.digest,
            state=State.SHARED if users else State.HERE,
            total=descriptor.size,
            source=users[0] if users else "",
        )

    def _is_ours(self, name: str) -> bool:
        return parse_reference(name).familiar_name == self._remote.name

    def _pull_layer(self, diff_id: DiffID, descriptor: Descriptor, ids: dict[DiffID, str], say: Say) -> None:
        self._pull_blob(descriptor, say, last=State.VERIFYING)
        if str(descriptor.digest) == str(diff_id):
            ids[diff_id] = self._context.layers.receive(diff_id, lease=self._lease).id
        else:
            with self._context.content.open(descriptor.digest) as file:
                received = receive_layer(self._context, file, lease=self._lease, expected=diff_id)
            ids[diff_id] = received.layer.id
        self._verified.add(descriptor.digest)
        say(BlobProgress(blob=descriptor.digest, state=State.READY, bytes=descriptor.size, total=descriptor.size))

    def _pull_blob(self, descriptor: Descriptor, say: Say, *, last: State = State.READY) -> None:
        digest, total = descriptor.digest, descriptor.size
        first: list[int] = []

        def arrived(count: int) -> None:
            first.append(count) if not first else None
            self._fetched[digest] = max(0, count - first[0])
            say(BlobProgress(blob=digest, state=State.DOWNLOADING, bytes=count, total=total))

        pull_blob(self._remote, self._context.content, descriptor, lease=self._lease, arrived=arrived)
        say(BlobProgress(blob=digest, state=last, bytes=total, total=total))

    # -- the image -------------------------------------------------------------------------------------

    def _known(self, reference: Reference) -> tuple[Digest, Digest | None] | None:
        return self._context.images.tagged(reference)

    def _record(self, reference: Reference, top: Digest, chosen: _Chosen, layers: list[str]) -> Image:
        context = self._context
        blobs = [chosen.manifest.config.digest, *(layer.digest for layer in chosen.manifest.layers)]
        context.content.link(chosen.digest, blobs)
        with context.root.db.write(durable=True):
            image = context.images.create(
                chosen.raw_config, layers, manifest=self._manifest_of(chosen), lease=self._lease
            )
            names = [reference.with_digest(top)]
            if reference.tag and reference.digest is None:
                names.append(reference)
            for name in names:
                context.images.tag(name, image.id, manifest=top)
        return context.images.get(image.id)

    def _manifest_of(self, chosen: _Chosen) -> Digest | None:
        """Give the image's manifest from now on; None to leave it that which it has.

        Where its layers were here, their blobs in this manifest were not fetched, and an earlier one may be whole.
        """
        find = self._context.content.find
        whole = all(find(layer.digest) is not None for layer in chosen.manifest.layers)
        return chosen.digest if whole or self._context.images.find(Digest.of(chosen.raw_config)) is None else None
