"""Images in a test's registry: made of a few files, as a registry has them."""

import gzip
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from onggi.spec import media
from onggi.spec.digest import Digest
from tests.archives import END, member
from tests.registry_server import Registry

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Files = Mapping[str, bytes]
PACKED: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    media.OCI_LAYER: bytes,
    media.OCI_LAYER_GZIP: lambda tar: gzip.compress(tar, 6, mtime=0),
    media.OCI_LAYER_ZSTD: zstd.compress,
    media.DOCKER_LAYER_GZIP: lambda tar: gzip.compress(tar, 6, mtime=0),
}


def tar_of(files: Files) -> bytes:
    """Make a layer's tar; what is beneath bin/ can be executed."""
    modes = {name: 0o755 if name.startswith("bin/") else 0o644 for name in files}
    return b"".join(member(name.encode(), b"0", data, mode=modes[name]) for name, data in files.items()) + END


def descriptor(media_type: str, digest: Digest, size: int, **more: Any) -> dict[str, Any]:
    """Make a descriptor."""
    return {"mediaType": media_type, "digest": digest, "size": size, **more}


def add_image(
    registry: Registry,
    repository: str,
    tag: str,
    layers: Sequence[Files],
    *,
    layer_type: str = media.OCI_LAYER_GZIP,
    manifest_type: str = media.OCI_MANIFEST,
    config_type: str = media.OCI_CONFIG,
    architecture: str = "amd64",
    algorithm: str = "sha256",
    **config: Any,
) -> Digest:
    """Put an image into a repository; gives its manifest's digest."""
    tars = [tar_of(files) for files in layers]
    diff_ids = [Digest.of(tar) for tar in tars]
    blobs = [PACKED[layer_type](tar) for tar in tars]
    document = {
        "architecture": architecture,
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    raw = json.dumps(document).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": descriptor(config_type, registry.add_blob(repository, raw, algorithm), len(raw)),
        "layers": [descriptor(layer_type, registry.add_blob(repository, blob, algorithm), len(blob)) for blob in blobs],
    }
    return registry.add_manifest(repository, tag, manifest, manifest_type, algorithm)


def add_index(
    registry: Registry, repository: str, tag: str, entries: Iterable[tuple[Digest, str]], kind: str = media.OCI_INDEX
) -> Digest:
    """Put an index of manifests that are there under `os/architecture`; gives its digest."""
    described = []
    for digest, platform in entries:
        data, media_type = registry.manifests[repository][digest]
        os, _, architecture = platform.partition("/")
        known = {"os": os, "architecture": architecture}
        described.append(descriptor(media_type, digest, len(data), **({"platform": known} if platform else {})))
    return registry.add_manifest(repository, tag, {"schemaVersion": 2, "mediaType": kind, "manifests": described}, kind)
