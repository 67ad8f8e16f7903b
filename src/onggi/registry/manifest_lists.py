"""Manifest lists made by hand, at registries: what an image is, and how a list is pushed (docker/cli's manifest)."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from onggi.base.errors import Corrupt, InvalidArgument, NotFound, OnggiError
from onggi.spec import media
from onggi.spec.digest import Digest
from onggi.spec.image import Descriptor, Index, Manifest, parse_manifest
from onggi.spec.image_config import MAX_IMAGE_CONFIG_BYTES
from onggi.spec.json import json_decoder, parse_json, print_json
from onggi.spec.platform import Platform
from onggi.spec.reference import Reference, parse_reference
from onggi.store.manifest_lists import ListedManifest, ManifestList

from .copying import copy_image, gather
from .documents import Document, fetch_blob, fetch_document, fetch_entry
from .remote import Remote

_PLATFORM: Final = json_decoder(Platform)
_RUNS_ON: Final[Mapping[str, frozenset[str]]] = {
    system: frozenset(architectures.split())
    for system, architectures in {
        "darwin": "386 amd64 arm arm64",
        "dragonfly": "amd64",
        "freebsd": "386 amd64 arm arm64 riscv64",
        "linux": "386 amd64 arm arm64 loong64 mips64 mips64le ppc64le riscv64 s390x",
        "netbsd": "386 amd64 arm",
        "openbsd": "386 amd64 arm",
        "plan9": "386 amd64",
        "solaris": "amd64",
        "windows": "386 amd64 arm arm64",
    }.items()
}
"""Docker's list, with what Go has had since."""


def check_platform(platform: Platform) -> None:
    """Raise InvalidArgument, with Docker's text, for a system that does not run on an architecture."""
    if platform.architecture not in _RUNS_ON.get(platform.os, ()):
        raise InvalidArgument(
            "manifest entry for image has unsupported os/arch combination: "
            f"{platform.os or 'none'}/{platform.architecture or 'none'}"
        )


def fetch_listed(remote: Remote, reference: Reference) -> ListedManifest:
    """Ask a registry what an image is. Raises NotFound, InvalidArgument for an index, with Docker's texts."""
    document = _fetch(remote, reference)
    if isinstance(document.content, Index):
        raise InvalidArgument(f"{reference} is a manifest list")
    return _listed(remote, document, str(reference))


def fetch_list(remote: Remote, reference: Reference) -> ListedManifest | ManifestList:
    """Ask a registry what a name is: an image, or a list whose manifests are fetched too."""
    document = _fetch(remote, reference)
    if isinstance(document.content, Manifest):
        return _listed(remote, document, str(reference))
    return ManifestList(
        reference=str(reference),
        annotations=document.content.annotations,
        manifests=tuple(
            ListedManifest(
                reference=str(msgspec.structs.replace(reference, digest=entry.digest)),
                descriptor=entry,
                raw=fetch_entry(remote, entry).data,
            )
            for entry in document.content.manifests
            if media.bare(entry.media_type) in media.MANIFESTS | media.INDEXES
        ),
    )


def print_list(manifests: ManifestList) -> tuple[bytes, str]:
    """Write the index of a list, byte for byte as Docker does, and give its media type.

    It is Docker's kind where all of its manifests are, and OCI's otherwise: only that
    may have both, and annotations.
    """
    annotated = manifests.annotations or any(one.descriptor.annotations for one in manifests.manifests)
    docker = all(media.bare(one.descriptor.media_type) == media.DOCKER_MANIFEST for one in manifests.manifests)
    kind = media.DOCKER_MANIFEST_LIST if docker and not annotated else media.OCI_INDEX
    document = {
        "schemaVersion": 2,
        "mediaType": kind,
        "manifests": [_entry(one.descriptor) for one in manifests.manifests],
        **({"annotations": manifests.annotations} if manifests.annotations else {}),
    }
    return print_json(document, "a manifest list", indent=3), kind


def push_list(
    manifests: ManifestList,
    remote_of: Callable[[Reference], Remote],
    *,
    pushed: Callable[[str, Digest], None],
    stop: Callable[[], None],
) -> Digest:
    """Push a list to the registry under its name; gives its digest.

    Images of other repositories there are brought to that of the list first, and then
    `pushed`. Raises InvalidArgument for images without a platform or of other registries.
    """
    target = parse_reference(manifests.reference)
    sources = [(one, parse_reference(one.reference)) for one in manifests.manifests]
    for listed, source in sources:
        platform = listed.descriptor.platform or Platform()
        if not platform.os or not platform.architecture:
            raise InvalidArgument(f"manifest {source} must have an OS and Architecture to be pushed to a registry")
        if source.domain != target.domain:
            raise InvalidArgument(
                "cannot use source images from a different registry than the target image: "
                f"{source.domain} != {target.domain}; `onggi image cp` brings them there"
            )
    there = remote_of(target)
    for listed, source in sources:
        if source.name != target.name:
            origin, document = remote_of(source), _document(listed)
            copy_image(origin, gather(origin, document), there, document.digest, tell=lambda event: None, stop=stop)
            pushed(f"{target.name}@{document.digest}", document.digest)
    data, kind = print_list(manifests)
    reference = target.digest or target.with_default_tag().tag or ""
    return there.do("push", lambda repository: repository.put_manifest(reference, data, kind))


def _fetch(remote: Remote, reference: Reference) -> Document:
    try:
        return fetch_document(remote, reference)
    except NotFound:
        raise NotFound(f"no such manifest: {reference}") from None


def _listed(remote: Remote, document: Document, reference: str) -> ListedManifest:
    assert isinstance(document.content, Manifest)
    descriptor = msgspec.structs.replace(document.descriptor, platform=_platform(remote, document.content.config))
    return ListedManifest(reference=reference, descriptor=descriptor, raw=document.data)


def _platform(remote: Remote, config: Descriptor) -> Platform:
    """Read what an image runs on; an artifact says nothing of that."""
    data = fetch_blob(remote, config, MAX_IMAGE_CONFIG_BYTES)
    try:
        found = parse_json(data, _PLATFORM, "image config", MAX_IMAGE_CONFIG_BYTES, Corrupt)
    except OnggiError:
        if media.bare(config.media_type) in media.IMAGE_CONFIGS:
            raise
        return Platform()
    return msgspec.structs.replace(found, features=None)


def _document(listed: ListedManifest) -> Document:
    kind = listed.descriptor.media_type
    return Document(
        data=listed.raw, media_type=kind, digest=listed.descriptor.digest, content=parse_manifest(listed.raw, kind)
    )


def _entry(descriptor: Descriptor) -> dict[str, Any]:
    platform = descriptor.platform or Platform()
    named = {
        "os.version": platform.os_version,
        "os.features": platform.os_features,
        "variant": platform.variant,
        "features": platform.features,
    }
    return {
        "mediaType": descriptor.media_type,
        "size": descriptor.size,
        "digest": str(descriptor.digest),
        **({"annotations": descriptor.annotations} if descriptor.annotations else {}),
        "platform": {
            "architecture": platform.architecture,
            "os": platform.os,
            **{name: value for name, value in named.items() if value},
        },
    }
