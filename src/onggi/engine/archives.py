"""Images as files: `save` and `load`, in one archive that is an OCI layout and a docker-archive at once.

    oci-layout, index.json, blobs/sha256/…   image-spec image-layout.md
    manifest.json                            what `docker load` before 25 reads; points at the same blobs

Layers that several images share are in the archive once. `load` reads both, and the
older form of docker-archive (`<id>/layer.tar`), in any order, and takes a name in the
archive for nothing but a name.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from onggi.base.errors import Corrupt, InvalidArgument, NotFound, OnggiError
from onggi.engine.context import Context
from onggi.engine.layering import copy, receive_layer, settle_layer, tar_size, write_tar
from onggi.spec import media
from onggi.spec.digest import DiffID, Digest, digest_problem
from onggi.spec.image import Descriptor, Index, Manifest, check_layers, parse_manifest, print_manifest, select_manifest
from onggi.spec.image_config import MAX_IMAGE_CONFIG_BYTES, parse_image_config
from onggi.spec.platform import Platform
from onggi.spec.reference import Reference, parse_reference
from onggi.store.images import Image
from onggi.store.layers import Layer
from onggi.store.leases import Lease
from onggi.store.tar.decompress import Source, open_layer
from onggi.store.tar.entry import Entry, Kind
from onggi.store.tar.pack import Sink, write_all
from onggi.store.tar.reader import TarReader
from onggi.store.tar.writer import END, encode_header, padding

_LAYOUT: Final = b'{"imageLayoutVersion": "1.0.0"}'
_MAX_INDEX_BYTES: Final = 4 << 20
_MAX_DEPTH: Final = 4
_ZEROS: Final = 1 << 20
_REF_NAME: Final = "org.opencontainers.image.ref.name"
_IMAGE_NAME: Final = "io.containerd.image.name"


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """An image that `load` took in, and the names that it got."""

    image: Image
    references: tuple[Reference, ...]


# -- save ----------------------------------------------------------------------------------------------


class _Blob(msgspec.Struct, frozen=True):
    """A file of the archive: its bytes, a stored blob, or the tar of a layer."""

    size: int
    data: bytes | None = None
    blob: Digest | None = None
    layer: Layer | None = None


def save_images(context: Context, refs: Sequence[str], sink: Sink) -> None:
    """Write an archive with these images; a name keeps its tag in there, an id comes without. Raises NotFound."""
    with context.leases.open("save images") as lease:
        blobs: dict[Digest, _Blob] = {}
        entries: list[Descriptor] = []
        documents: dict[Digest, dict[str, Any]] = {}
        for ref in refs:
            image = context.images.resolve(ref)
            manifest = _add_image(context, image, blobs, lease)
            document = documents.setdefault(image.id, _document(context, image, manifest))
            reference = _named(ref, image)
            if reference is None:
                entries.append(_descriptor(manifest, blobs))
                continue
            document["RepoTags"].append(reference.familiar)
            names = {_IMAGE_NAME: str(reference), _REF_NAME: reference.tag or ""}
            entries.append(msgspec.structs.replace(_descriptor(manifest, blobs), annotations=names))
        index = print_manifest(Index(schema_version=2, media_type=media.OCI_INDEX, manifests=tuple(entries)))
        _write_archive(context, blobs, index, msgspec.json.encode(list(documents.values())), sink)


def _named(ref: str, image: Image) -> Reference | None:
    """Give the reference that a user named an image by; None for an id."""
    try:
        reference = parse_reference(ref).with_default_tag()
    except OnggiError:
        return None
    return reference if str(reference) in image.references else None


def _add_image(context: Context, image: Image, blobs: dict[Digest, _Blob], lease: Lease) -> Digest:
    """Add all blobs of an image; gives its manifest's digest. A kept manifest is used if all that it names is here."""
    config = context.content.read(image.id, MAX_IMAGE_CONFIG_BYTES)
    blobs[image.id] = _Blob(len(config), data=config)
    if image.manifest is not None and (kept := _kept(context, image.manifest, lease)) is not None:
        blobs.update(kept)
        return image.manifest
    layers = context.images.layers(image.id)
    descriptors = []
    for layer in layers:
        diff_id = settle_layer(context, layer)
        settled = context.layers.get(layer.id)
        size = tar_size(context, settled)
        digest = Digest(diff_id)
        blobs[digest] = _Blob(size, layer=settled)
        descriptors.append(Descriptor(media_type=media.OCI_LAYER, digest=digest, size=size))
    manifest = print_manifest(
        Manifest(
            schema_version=2,
            media_type=media.OCI_MANIFEST,
            config=Descriptor(media_type=media.OCI_CONFIG, digest=image.id, size=len(config)),
            layers=tuple(descriptors),
        )
    )
    digest = Digest.of(manifest)
    blobs[digest] = _Blob(len(manifest), data=manifest)
    return digest


def _kept(context: Context, manifest: Digest, lease: Lease) -> dict[Digest, _Blob] | None:
    try:
        data = context.content.read(manifest, _MAX_INDEX_BYTES)
        parsed = parse_manifest(data)
    except OnggiError:
        return None
    if not isinstance(parsed, Manifest):
        return None
    found = {manifest: _Blob(len(data), data=data)}
    other = [parsed.config] if parsed.config.digest.algorithm != "sha256" else []  # images have their ids by that
    for descriptor in (*other, *parsed.layers):
        if context.content.find(descriptor.digest, lease=lease) is None:
            return None
        found[descriptor.digest] = _Blob(descriptor.size, blob=descriptor.digest)
    return found


def _document(context: Context, image: Image, manifest: Digest) -> dict[str, Any]:
    """Describe an image as manifest.json does; layers are found by the manifest, whatever their compression."""
    data = None
    if image.manifest == manifest:
        parsed = parse_manifest(context.content.read(manifest, _MAX_INDEX_BYTES))
        data = [d.digest for d in parsed.layers] if isinstance(parsed, Manifest) else None
    digests = data or [Digest(context.layers.get(layer).diff_id or "") for layer in image.layers]
    return {"Config": _path(image.id), "RepoTags": [], "Layers": [_path(digest) for digest in digests]}


def _descriptor(manifest: Digest, blobs: Mapping[Digest, _Blob]) -> Descriptor:
    blob = blobs[manifest]
    assert blob.data is not None
    parsed = parse_manifest(blob.data)
    return Descriptor(media_type=parsed.media_type or media.OCI_MANIFEST, digest=manifest, size=blob.size)


def _path(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _write_archive(context: Context, blobs: Mapping[Digest, _Blob], index: bytes, manifest: bytes, sink: Sink) -> None:
    for directory in ("blobs", *sorted({f"blobs/{digest.algorithm}" for digest in blobs})):
        _put(sink, Entry(name=f"{directory}/".encode(), kind=Kind.DIRECTORY, mode=0o755))
    for digest, blob in sorted(blobs.items()):
        _put(sink, Entry(name=_path(digest).encode(), kind=Kind.REGULAR, size=blob.size))
        if blob.data is not None:
            write_all(sink, blob.data)
        elif blob.blob is not None:
            with context.content.open(blob.blob) as file:
                copy(file, sink)
        elif blob.layer is not None:
            write_tar(context, blob.layer, sink)
        write_all(sink, padding(blob.size))
    for name, data in (("index.json", index), ("manifest.json", manifest), ("oci-layout", _LAYOUT)):
        _put(sink, Entry(name=name.encode(), kind=Kind.REGULAR, size=len(data)))
        write_all(sink, data + padding(len(data)))
    write_all(sink, END)


def _put(sink: Sink, entry: Entry) -> None:
    write_all(sink, encode_header(entry))


# -- load ----------------------------------------------------------------------------------------------


class _Files(msgspec.Struct, frozen=True):
    """What an archive holds: blobs by the name that each had, and links between names."""

    digests: dict[str, Digest]
    links: dict[str, str]

    def find(self, name: str) -> Digest:
        """Find a blob by name, over the links of older docker-archives. Raises Corrupt."""
        clean = _clean(name)
        for _ in range(8):
            if clean in self.digests:
                return self.digests[clean]
            if clean not in self.links:
                break
            clean = self.links[clean]
        raise Corrupt(f"the archive names {name!r}, which is not in it")


def load_images(context: Context, source: Source, platform: Platform) -> list[Loaded]:
    """Take in all images of an archive, compressed or not. What it holds becomes visible only when it is verified."""
    with context.leases.open("load images") as lease:
        files = _take_in(context, source, lease)
        if "manifest.json" in files.digests and "index.json" not in files.digests:
            return list(_load_docker(context, files, lease))
        if "index.json" in files.digests:
            return list(_load_layout(context, files, lease, platform))
    raise InvalidArgument(
        "this is no archive of images: it has neither index.json (OCI) nor manifest.json (docker save)"
    )


def _clean(name: str) -> str:
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            if parts:
                parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _take_in(context: Context, source: Source, lease: Lease) -> _Files:
    """Store every file of the archive by its digest. Names only tell which is which."""
    files = _Files({}, {})
    reader = TarReader(open_layer(source))
    for entry in reader:
        name = _clean(entry.name.decode("utf-8", "surrogateescape"))
        if entry.kind is Kind.REGULAR:
            chunks = _whole(entry, reader)
            files.digests[name] = context.content.put(chunks, _other_digest(name), lease=lease).digest
        elif entry.kind in (Kind.SYMLINK, Kind.HARDLINK):
            link = entry.link.decode("utf-8", "surrogateescape")
            base = name.rpartition("/")[0] if entry.kind is Kind.SYMLINK and not link.startswith("/") else ""
            files.links[name] = _clean(f"{base}/{link}")
    return files


def _other_digest(name: str) -> Digest | None:
    """Give the digest by which a layout names a blob, if that is not the one by which blobs are stored anyway."""
    first, _, rest = name.partition("/")
    text = rest.replace("/", ":")
    return None if first != "blobs" or text.startswith("sha256:") or digest_problem(text) else Digest(text)


def _whole(entry: Entry, reader: TarReader) -> Iterator[bytes]:
    """Give a file's content with its holes as zeros."""
    at = 0
    for offset, piece in reader.extents():
        yield from _zeros(offset - at)
        yield piece.tobytes()
        at = offset + len(piece)
    yield from _zeros(entry.size - at)


def _zeros(size: int) -> Iterator[bytes]:
    while size > 0:
        yield bytes(min(size, _ZEROS))
        size -= _ZEROS


class _DockerImage(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One entry of manifest.json."""

    config: str
    repo_tags: tuple[str, ...] | None = None
    layers: tuple[str, ...] | None = None


def _load_docker(context: Context, files: _Files, lease: Lease) -> Iterator[Loaded]:
    data = context.content.read(files.find("manifest.json"), _MAX_INDEX_BYTES)
    try:
        documents = msgspec.json.decode(data, type=list[_DockerImage])
    except msgspec.MsgspecError as error:
        raise Corrupt(f"manifest.json of the archive: {error}") from None
    for document in documents:
        config = context.content.read(files.find(document.config), MAX_IMAGE_CONFIG_BYTES)
        blobs = [files.find(layer) for layer in document.layers or ()]
        references = [parse_reference(tag).with_default_tag() for tag in document.repo_tags or ()]
        yield _record(context, config, blobs, None, references, lease)


def _load_layout(context: Context, files: _Files, lease: Lease, platform: Platform) -> Iterator[Loaded]:
    index = parse_manifest(context.content.read(files.find("index.json"), _MAX_INDEX_BYTES), media.OCI_INDEX)
    if not isinstance(index, Index):
        raise Corrupt("index.json of the archive is no index")
    images: dict[Digest, list[Reference]] = {}
    for descriptor in index.manifests:
        digest = _choose(context, descriptor, platform, _MAX_DEPTH)
        references = images.setdefault(digest, [])
        reference = _annotated(descriptor.annotations or {})
        if reference is not None:
            references.append(reference)
    for digest, references in images.items():
        manifest = parse_manifest(_read_blob(context, digest))
        assert isinstance(manifest, Manifest)
        config = _read_blob(context, manifest.config.digest)
        check_layers(manifest, parse_image_config(config))
        blobs = [layer.digest for layer in manifest.layers]
        context.content.link(digest, [manifest.config.digest, *blobs])
        yield _record(context, config, blobs, digest, references, lease)


def _read_blob(context: Context, digest: Digest) -> bytes:
    try:
        return context.content.read(digest, MAX_IMAGE_CONFIG_BYTES)
    except NotFound:
        raise Corrupt(f"the archive names blob {digest}, which is not in it") from None


def _choose(context: Context, descriptor: Descriptor, platform: Platform, depth: int) -> Digest:
    """Follow indexes down to the image for this platform."""
    document = parse_manifest(_read_blob(context, descriptor.digest), descriptor.media_type)
    if isinstance(document, Manifest):
        return descriptor.digest
    if depth == 0:
        raise Corrupt("the archive nests indexes too deeply")
    return _choose(context, select_manifest(document, platform), platform, depth - 1)


def _annotated(annotations: Mapping[str, str]) -> Reference | None:
    """Read the name of an image in a layout: containerd's full one, or a plain one that is a whole reference."""
    for key in (_IMAGE_NAME, _REF_NAME):
        name = annotations.get(key, "")
        if name and (key == _IMAGE_NAME or ":" in name or "/" in name):
            try:
                return parse_reference(name).with_default_tag()
            except OnggiError:
                continue
    return None


def _record(
    context: Context,
    config: bytes,
    blobs: Sequence[Digest],
    manifest: Digest | None,
    references: Sequence[Reference],
    lease: Lease,
) -> Loaded:
    diff_ids = parse_image_config(config).diff_ids
    if len(diff_ids) != len(blobs):
        raise Corrupt(f"an image of the archive has {len(blobs)} layers, but its config names {len(diff_ids)}")
    layers = [_receive(context, blob, diff_id, lease) for blob, diff_id in zip(blobs, diff_ids, strict=True)]
    image = context.images.create(config, layers, manifest=manifest, references=references, lease=lease)
    return Loaded(image=image, references=tuple(references))


def _receive(context: Context, blob: Digest, diff_id: DiffID, lease: Lease) -> str:
    if (found := context.layers.find(diff_id, lease=lease)) is not None:
        return found.id
    if str(blob) == str(diff_id):
        return context.layers.receive(diff_id, lease=lease).id
    try:
        file = context.content.open(blob)
    except NotFound:
        raise Corrupt(f"the archive names layer {blob}, which is not in it") from None
    with file:
        return receive_layer(context, file, lease=lease, expected=diff_id).layer.id
