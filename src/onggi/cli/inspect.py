"""The document that `inspect` prints: Docker's names, what Onggi knows."""

from collections.abc import Callable
from typing import Any, Final

from onggi.base.errors import InvalidArgument, NotFound
from onggi.base.units import format_time
from onggi.cli.host_config_document import config_of, host_config_document
from onggi.cli.image_document import config_document, image_document
from onggi.cli.network_document import network_document
from onggi.cli.storage_document import mounts_document, volume_document
from onggi.engine.assemble import Engine
from onggi.runtime.bundle import command_line

_FILES: Final = {"ResolvConfPath": "resolv.conf", "HostnamePath": "hostname", "HostsPath": "hosts"}
KINDS: Final = ("container", "image", "volume")


def find_document(
    engine: Engine, ref: str, *, kind: str | None, size: bool, warn: Callable[[str], None]
) -> dict[str, Any]:
    """Describe the first object of this name, or the one of this kind. Raises NotFound."""
    if kind in (None, "container"):
        try:
            return container_document(engine, ref, size=size)
        except NotFound:
            if kind is not None:
                raise
    document = _image_or_volume(engine, ref, kind)
    if size:
        warn(f"WARNING: --size ignored for {'volume' if 'Mountpoint' in document else 'image'}\n")
    return document


def _image_or_volume(engine: Engine, ref: str, kind: str | None) -> dict[str, Any]:
    if kind != "volume":
        try:
            return image_document(engine, ref)
        except (NotFound, InvalidArgument):
            if kind is not None:
                raise
    try:
        return volume_document(engine.volumes.get(ref))
    except NotFound:
        if kind is not None:
            raise
        raise NotFound(f"No such object: {ref}") from None


def container_document(engine: Engine, ref: str, *, size: bool = False) -> dict[str, Any]:
    """Describe one container as `docker container inspect` does. Raises NotFound."""
    container = engine.containers.get(ref)
    request = engine.containers.request(container.id)
    image = engine.containers.image_defaults(container)
    words = command_line(request, image)
    alive = container.state in ("running", "paused")
    places = engine.containers.places(container.id)
    sizes = engine.containers.size(container.id) if size else ()
    config = config_of(request, image, id=container.id, image_ref=container.image_ref)
    return {
        "Id": str(container.id),
        "Created": format_time(container.created_ns),
        "Path": words[0],
        "Args": list(words[1:]),
        "State": {
            "Status": container.state,
            "Running": alive,
            "Paused": container.state == "paused",
            "Restarting": False,
            "OOMKilled": container.oom_killed,
            "Dead": container.state == "dead",
            "Pid": container.pid if alive else 0,
            "ExitCode": container.exit_code,
            "Error": container.error,
            "StartedAt": _time(container.started_ns),
            "FinishedAt": _time(container.finished_ns),
        },
        "Image": container.image,
        **{name: f"{places.directory}/{file}" for name, file in _FILES.items()},
        "LogPath": engine.containers.log_path(container.id),
        "Name": f"/{container.name}",
        "RestartCount": 0,
        "Driver": places.driver,
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": None,
        "HostConfig": host_config_document(request, engine.system.facts),
        "GraphDriver": {"Data": places.storage, "Name": places.driver},
        **dict(zip(("SizeRw", "SizeRootFs"), sizes, strict=False)),
        "Mounts": mounts_document(engine, request),
        "Config": config_document(config),
        "NetworkSettings": network_document(
            engine.containers.network(container.id) if alive else None,
            request.network,
            pid=container.pid if alive else 0,
            exposed=tuple(config.exposed_ports or ()),
        ),
    }


def _time(at_ns: int) -> str:
    return format_time(at_ns) if at_ns else "0001-01-01T00:00:00Z"
