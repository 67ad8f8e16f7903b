"""Manifests and indexes of OCI (image-spec 1.1) and Docker (schema 2).

The two families have the same shape and differ in media types. The documents
come from strangers: each is bounded, typed, and only one thing at a time. They
are content-addressed: what arrived is kept and named by its raw bytes, never by
what we would print.
"""

from typing import Annotated, Final

import msgspec

from onggi.base.errors import Corrupt, NotFound, NotSupported

from . import media
from .digest import Digest
from .image_config import ImageConfig
from .json import encode_json, json_decoder, parse_json
from .platform import Platform, best_match

MAX_MANIFEST_BYTES: Final = 4 << 20
"""What distribution-spec asks every registry to accept, and more than any image needs."""

Bytes = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Descriptor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Points to content (descriptor.md): what it is, its name, its `size` in bytes; `data` may hold it whole."""

    media_type: str
    digest: Digest
    size: Bytes
    urls: tuple[str, ...] | None = None
    annotations: dict[str, str] | None = None
    data: bytes | None = None
    artifact_type: str | None = None
    platform: Platform | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """One image for one platform (manifest.md): a config and layers, lowest first."""

    schema_version: int
    media_type: str | None = None
    artifact_type: str | None = None
    config: Descriptor
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None


class Index(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Several manifests under one name (image-index.md); Docker calls it a manifest list."""

    schema_version: int
    media_type: str | None = None
    artifact_type: str | None = None
    manifests: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None


_NOTHING: Final = msgspec.Raw()


class _Shape(msgspec.Struct, frozen=True, rename="camel"):
    """What tells the kinds of documents apart."""

    schema_version: int | None = None
    media_type: str | None = None
    config: msgspec.Raw = _NOTHING
    layers: msgspec.Raw = _NOTHING
    manifests: msgspec.Raw = _NOTHING
    fs_layers: msgspec.Raw = _NOTHING


_SHAPE: Final = json_decoder(_Shape)
_MANIFEST: Final = json_decoder(Manifest)
_INDEX: Final = json_decoder(Index)


def parse_manifest(data: bytes, media_type: str | None = None) -> Manifest | Index:
    """Read a manifest or an index; `media_type` is what its descriptor or the registry called it.

    Raises Corrupt for anything that is not clearly one of them: a document that
    reads as both would be a different image to different readers (CVE-2021-41190).
    Raises NotSupported for Docker's schema 1.
    """
    shape = parse_json(data, _SHAPE, "manifest", MAX_MANIFEST_BYTES, Corrupt)
    _check_shape(shape, media.bare(media_type) if media_type else None)
    if _is_there(shape.manifests):
        return parse_json(data, _INDEX, "image index", MAX_MANIFEST_BYTES, Corrupt)
    return parse_json(data, _MANIFEST, "manifest", MAX_MANIFEST_BYTES, Corrupt)


def print_manifest(manifest: Manifest | Index) -> bytes:
    """Write a new manifest or index, on one line."""
    return encode_json(manifest)


def select_manifest(index: Index, wanted: Platform, *, strict: bool = False) -> Descriptor:
    """The entry that runs best on `wanted`; an entry without platform is the last resort.

    Raises NotFound, with Docker's text.
    """
    images = [entry for entry in index.manifests if media.bare(entry.media_type) in media.MANIFESTS | media.INDEXES]
    best = best_match(wanted, [entry.platform for entry in images], strict=strict)
    if best is not None:
        return images[best]
    unnamed = [entry for entry in images if entry.platform is None]
    if not unnamed:
        raise NotFound(f"no matching manifest for {wanted} in the manifest list entries")
    return unnamed[0]


def check_layers(manifest: Manifest, config: ImageConfig) -> None:
    """Every layer of the manifest needs its DiffID in the config; raises Corrupt."""
    if len(manifest.layers) != len(config.diff_ids):
        raise Corrupt(
            f"image {manifest.config.digest}: the manifest has {len(manifest.layers)} layers, "
            f"the config names {len(config.diff_ids)}"
        )


def _check_shape(shape: _Shape, expected: str | None) -> None:
    declared = media.bare(shape.media_type) if shape.media_type else None
    kind = declared or expected
    if shape.schema_version == 1 or kind in (media.DOCKER_SCHEMA1, media.DOCKER_SCHEMA1_SIGNED):
        raise NotSupported("manifest: Docker image manifest version 2, schema 1 is not supported; push the image anew")
    if shape.schema_version != 2:
        raise Corrupt(f"manifest: schemaVersion: expected 2, got {shape.schema_version}")
    is_index = _is_there(shape.manifests)
    is_manifest = _is_there(shape.config) or _is_there(shape.layers) or _is_there(shape.fs_layers)
    if is_index == is_manifest:
        raise Corrupt(f"manifest: has {'both' if is_index else 'neither'} the fields of an image and of an index")
    for name in (declared, expected):
        if name in (media.INDEXES if is_manifest else media.MANIFESTS):
            raise Corrupt(f"manifest: is called {name}, but has the fields of an {'image' if is_manifest else 'index'}")


def _is_there(value: msgspec.Raw) -> bool:
    return bytes(value) not in (b"", b"null")
