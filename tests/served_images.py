"""Images at a test registry: small, whole, and different from each other by what they are called."""

import gzip
import json
from typing import Any

from onggi.spec import media
from onggi.spec.digest import Digest
from tests.registry_server import Registry

Entry = dict[str, Any]


def serve_image(
    registry: Registry,
    repository: str,
    tag: str = "",
    *,
    architecture: str = "amd64",
    variant: str = "",
    layers: tuple[bytes, ...] = (b"base", b"top"),
    docker: bool = False,
    **fields: Any,
) -> Entry:
    """Have an image; gives what an index says of it. `fields` are further ones of its manifest."""
    platform = {"architecture": architecture, "os": "linux"} | ({"variant": variant} if variant else {})
    config = {
        **platform,
        "created": "2024-05-01T10:00:00Z",
        "config": {"Cmd": ["/bin/app"], "Labels": {"tag": tag}},
        "rootfs": {"type": "layers", "diff_ids": [Digest.of(layer) for layer in layers]},
    }
    kind = media.DOCKER_MANIFEST if docker else media.OCI_MANIFEST
    manifest = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": _blob(registry, repository, _json(config), media.DOCKER_CONFIG if docker else media.OCI_CONFIG),
        "layers": [
            _blob(
                registry,
                repository,
                gzip.compress(layer, mtime=0),
                media.DOCKER_LAYER_GZIP if docker else media.OCI_LAYER_GZIP,
            )
            for layer in layers
        ],
        **fields,
    }
    return {**_manifest(registry, repository, tag, manifest, kind), "platform": platform}


def serve_index(registry: Registry, repository: str, tag: str, *entries: Entry, docker: bool = False) -> Entry:
    """Have an index of images that are there."""
    kind = media.DOCKER_MANIFEST_LIST if docker else media.OCI_INDEX
    return _manifest(
        registry, repository, tag, {"schemaVersion": 2, "mediaType": kind, "manifests": list(entries)}, kind
    )


def serve_referrer(registry: Registry, repository: str, subject: Entry, artifact_type: str, content: bytes) -> Entry:
    """Have an artifact that refers to a manifest."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": media.OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": _blob(registry, repository, b"{}", media.OCI_EMPTY),
        "layers": [_blob(registry, repository, content, artifact_type)],
        "subject": {name: subject[name] for name in ("mediaType", "digest", "size")},
    }
    return _manifest(registry, repository, "", manifest, media.OCI_MANIFEST)


def _manifest(registry: Registry, repository: str, tag: str, document: Any, kind: str) -> Entry:
    data = _json(document)
    return {"mediaType": kind, "digest": registry.add_manifest(repository, tag, data, kind), "size": len(data)}


def _blob(registry: Registry, repository: str, data: bytes, kind: str) -> Entry:
    return {"mediaType": kind, "digest": registry.add_blob(repository, data), "size": len(data)}


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
