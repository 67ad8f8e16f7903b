"""Small documents of a repository, held whole and verified: manifests, indexes, configs."""

from typing import Final

import msgspec

from onggi.base.errors import Corrupt, NotSupported
from onggi.spec import media
from onggi.spec.digest import Digest
from onggi.spec.image import Descriptor, Index, Manifest, parse_manifest, select_manifest
from onggi.spec.platform import Platform
from onggi.spec.reference import Reference

from .client import Repository
from .remote import Remote

MAX_DEPTH: Final = 4
"""So deep an index may lie in an index."""


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest or an index as a registry gave it: its bytes, and what they say."""

    data: bytes
    media_type: str
    digest: Digest
    content: Manifest | Index

    @property
    def descriptor(self) -> Descriptor:
        """What points to it."""
        return Descriptor(media_type=self.media_type, digest=self.digest, size=len(self.data))


def fetch_document(remote: Remote, reference: Reference) -> Document:
    """Fetch what a tag or a digest names. Raises NotFound, Corrupt, NotSupported for schema 1."""
    wanted = reference.digest or reference.with_default_tag().tag or ""
    return remote.do("pull" if reference.digest else "resolve", lambda one: _fetch(one, wanted))


def fetch_entry(remote: Remote, entry: Descriptor) -> Document:
    """Fetch what a descriptor points to; it is what that promises."""

    def fetch(repository: Repository) -> Document:
        found = _fetch(repository, entry.digest, entry.media_type)
        if len(found.data) != entry.size:
            raise Corrupt(f"manifest {entry.digest}: it has {len(found.data)} bytes, its descriptor says {entry.size}")
        return found

    return remote.do("pull", fetch)


def fetch_manifest(remote: Remote, document: Document, wanted: Platform, *, strict: bool = False) -> Document:
    """Give the manifest of one platform: the document itself, or that of an index, and of an index therein.

    Raises NotFound where there is none.
    """
    for _ in range(MAX_DEPTH + 1):
        if isinstance(document.content, Manifest):
            return document
        document = fetch_entry(remote, select_manifest(document.content, wanted, strict=strict))
    raise Corrupt(f"{remote.name}: indexes lie more than {MAX_DEPTH} deep in each other")


def fetch_blob(remote: Remote, descriptor: Descriptor, max_bytes: int) -> bytes:
    """Fetch a small blob whole. Raises Corrupt if it is something else, or larger than `max_bytes`."""
    what = f"blob {descriptor.digest} of {remote.name}"
    if descriptor.size > max_bytes:
        raise Corrupt(f"{what}: its {descriptor.size} bytes are more than the {max_bytes} that are accepted")

    def fetch(repository: Repository) -> bytes:
        with repository.blob(descriptor.digest, size=descriptor.size) as blob:
            data = b"".join(blob.stream())
        if Digest.of(data, descriptor.digest.algorithm) != descriptor.digest:
            raise Corrupt(f"{what}: the registry sent something else")
        return data

    return remote.do("pull", fetch)


def _fetch(repository: Repository, reference: str, expected: str | None = None) -> Document:
    data, kind, digest = repository.manifest(reference)
    if kind in (media.DOCKER_SCHEMA1, media.DOCKER_SCHEMA1_SIGNED):
        raise NotSupported(
            f"{repository.name}: Docker image manifest version 2, schema 1 is not supported; push the image anew"
        )
    content = parse_manifest(data, expected or kind)
    # What it calls itself is what it is, whatever the registry makes of it.
    return Document(
        data=data, media_type=media.bare(content.media_type or expected or kind), digest=digest, content=content
    )
