"""The documents that `inspect` prints of volumes and mounts."""

from typing import Any

from onggi.base.errors import NotFound
from onggi.base.units import format_time
from onggi.engine.assemble import Engine
from onggi.spec.container import ContainerRequest, MountRequest
from onggi.store.volumes import Volume


def volume_document(volume: Volume) -> dict[str, Any]:
    """Describe one volume as `docker volume inspect` does."""
    return {
        "CreatedAt": format_time(volume.created_ns // 1_000_000_000 * 1_000_000_000),
        "Driver": "local",
        "Labels": volume.labels or None,
        "Mountpoint": volume.path,
        "Name": volume.name,
        "Options": None,
        "Scope": "local",
    }


def mounts_document(engine: Engine, request: ContainerRequest) -> list[dict[str, Any]]:
    """Describe the mounts of a container."""
    return [_mount(engine, mount) for mount in request.mounts]


def _mount(engine: Engine, mount: MountRequest) -> dict[str, Any]:
    document: dict[str, Any] = {
        "Type": mount.type,
        "Source": mount.source,
        "Destination": mount.target,
        "Mode": "ro" if mount.read_only else "",
        "RW": not mount.read_only,
        "Propagation": (mount.propagation or "rprivate") if mount.type == "bind" else "",
    }
    if mount.type != "volume":
        return document
    try:
        path = engine.volumes.get(mount.source).path
    except NotFound:
        path = ""
    return {"Type": "volume", "Name": mount.source, **document, "Source": path, "Driver": "local"}
