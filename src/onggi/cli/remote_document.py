"""`image inspect --remote`: what a registry says of an image, of which nothing is fetched but documents."""

import os
from collections.abc import Iterable
from typing import Any, Final

from onggi.base.errors import InvalidArgument, NotFound
from onggi.cli.app import State
from onggi.cli.documents import show_documents
from onggi.cli.image_document import config_document
from onggi.cli.registries import registries_of
from onggi.cli.render import each
from onggi.registry.access import Registries
from onggi.registry.documents import Document, fetch_blob, fetch_document, fetch_manifest
from onggi.registry.remote import Remote
from onggi.spec import media
from onggi.spec.image import Descriptor, Index, Manifest
from onggi.spec.image_config import MAX_IMAGE_CONFIG_BYTES, ContainerConfig, ImageConfig, parse_image_config
from onggi.spec.platform import Platform, machine_platform, normalize, parse_platform

_UNKNOWN: Final = Platform(os="unknown", architecture="unknown")


def inspect_remote(state: State, names: tuple[str, ...], *, platform: str | None, raw: bool, format: str) -> int:
    """Describe images as their registries have them; `raw` prints the manifest or index itself."""
    if raw and format:
        raise InvalidArgument("conflicting options: --raw cannot be used with --format")
    state.caller.only_in_process()
    host = machine_platform(os.uname().machine)
    wanted = parse_platform(platform, host) if platform else None
    with registries_of(state.caller) as registries:
        if raw:
            return each(state, names, lambda name: _print_raw(state, registries, name, wanted), echo=False)
        return show_documents(state, names, lambda name: remote_document(registries, name, wanted, host), format)


def remote_document(registries: Registries, name: str, wanted: Platform | None, host: Platform) -> dict[str, Any]:
    """Describe one image; `wanted` must be there, and without it what runs best on `host` is chosen, if anything is."""
    reference = registries.parse(name).with_default_tag()
    remote = registries.remote(reference)
    root = fetch_document(remote, reference)
    try:
        chosen = fetch_manifest(remote, root, wanted or host, strict=wanted is not None)
    except NotFound:
        if wanted is not None:
            raise
        chosen = None
    config = _config(remote, chosen) if chosen else None
    if wanted is not None and isinstance(root.content, Manifest) and config is not None:
        _check_platform(name, wanted, config)
    return {
        "Name": reference.familiar,
        "Digest": str(root.digest),
        "MediaType": root.media_type,
        "Size": len(root.data),
        "ArtifactType": root.content.artifact_type or "",
        "Annotations": root.content.annotations,
        "Platforms": list(_platforms(root, config)),
        "Manifest": _manifest_document(remote, chosen, config) if chosen else None,
        "Image": _image_document(config) if config else None,
        "Referrers": _referrers(remote, root),
    }


def _print_raw(state: State, registries: Registries, name: str, wanted: Platform | None) -> None:
    reference = registries.parse(name).with_default_tag()
    remote = registries.remote(reference)
    document = fetch_document(remote, reference)
    if wanted is not None:
        document = fetch_manifest(remote, document, wanted, strict=True)
    state.caller.out(document.data.decode("utf-8", "surrogateescape"))


def _config(remote: Remote, manifest: Document) -> ImageConfig | None:
    """Fetch the config of an image; what an artifact has there means nothing to us."""
    assert isinstance(manifest.content, Manifest)
    config = manifest.content.config
    if media.bare(config.media_type) not in media.IMAGE_CONFIGS:
        return None
    return parse_image_config(fetch_blob(remote, config, MAX_IMAGE_CONFIG_BYTES))


def _check_platform(name: str, wanted: Platform, config: ImageConfig) -> None:
    there = normalize(config.platform)
    if (there.os, there.architecture, there.variant) != (wanted.os, wanted.architecture, wanted.variant):
        raise NotFound(f"{name} is for {there} only, not for {wanted}")


def _platforms(root: Document, config: ImageConfig | None) -> Iterable[dict[str, Any]]:
    if isinstance(root.content, Index):
        for entry in root.content.manifests:
            yield {"Platform": str(entry.platform or _UNKNOWN), **_descriptor(entry)}
    else:
        platform = normalize(config.platform) if config else _UNKNOWN
        yield {"Platform": str(platform), **_descriptor(root.descriptor)}


def _manifest_document(remote: Remote, chosen: Document, config: ImageConfig | None) -> dict[str, Any]:
    manifest = chosen.content
    assert isinstance(manifest, Manifest)
    return {
        "Platform": str(normalize(config.platform) if config else _UNKNOWN),
        "Digest": str(chosen.digest),
        "MediaType": chosen.media_type,
        "Size": len(chosen.data),
        "ArtifactType": manifest.artifact_type or "",
        "Annotations": manifest.annotations,
        "Subject": _descriptor(manifest.subject) if manifest.subject else None,
        "Config": _descriptor(manifest.config),
        "Layers": [_descriptor(layer) for layer in manifest.layers],
        "LayersSize": sum(layer.size for layer in manifest.layers),
        "Referrers": _referrers(remote, chosen),
    }


def _image_document(config: ImageConfig) -> dict[str, Any]:
    return {
        "Created": config.created or "",
        "Author": config.author or "",
        "Architecture": config.architecture,
        **({"Variant": config.variant} if config.variant else {}),
        "Os": config.os,
        "Config": config_document(config.config or ContainerConfig()),
        "RootFS": {"Type": "layers", "Layers": [str(diff_id) for diff_id in config.diff_ids]},
    }


def _referrers(remote: Remote, document: Document) -> list[dict[str, Any]]:
    found = remote.do("pull", lambda repository: repository.referrers(document.digest))
    return [_descriptor(entry) for entry in found]


def _descriptor(entry: Descriptor) -> dict[str, Any]:
    return {
        "Digest": str(entry.digest),
        "MediaType": entry.media_type,
        "Size": entry.size,
        "ArtifactType": entry.artifact_type or "",
        "Annotations": entry.annotations,
    }
