"""The document that `inspect` prints: Docker's names, what Onggi knows."""

from collections.abc import Callable
from typing import Any, Final

from onggi.base.errors import InvalidArgument, NotFound
from onggi.base.units import format_time
from onggi.cli.image_document import image_document
from onggi.cli.network_document import bindings_document, network_document
from onggi.cli.storage_document import mounts_document, volume_document
from onggi.engine.assemble import Engine
from onggi.runtime.bundle import command_line

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
        raise NotFound(f"Error: No such object: {ref}") from None


def container_document(engine: Engine, ref: str, *, size: bool = False) -> dict[str, Any]:
    """Describe one container as `docker container inspect` does. Raises NotFound."""
    container = engine.containers.get(ref)
    request = engine.containers.request(container.id)
    image = engine.containers.image_defaults(container)
    words = command_line(request, image)
    limits = request.resources
    return {
        "Id": str(container.id),
        "Created": format_time(container.created_ns),
        "Path": words[0],
        "Args": list(words[1:]),
        "State": {
            "Status": container.state,
            "Running": container.state in ("running", "paused"),
            "Paused": container.state == "paused",
            "Restarting": False,
            "OOMKilled": container.oom_killed,
            "Dead": container.state == "dead",
            "Pid": container.pid,
            "ExitCode": container.exit_code,
            "Error": container.error,
            "StartedAt": _time(container.started_ns),
            "FinishedAt": _time(container.finished_ns),
        },
        "Image": container.image,
        "LogPath": engine.containers.log_path(container.id),
        "Name": f"/{container.name}",
        "HostConfig": {
            "AutoRemove": request.auto_remove,
            "CapAdd": list(request.cap_add) or None,
            "CapDrop": list(request.cap_drop) or None,
            "CgroupParent": request.cgroup_parent,
            "CgroupnsMode": request.cgroupns or "",
            "CpuShares": limits.cpu_shares or 0,
            "CpusetCpus": limits.cpuset_cpus,
            "Init": request.init,
            "IpcMode": request.ipc or "private",
            "LogConfig": {
                "Type": request.log.driver,
                "Config": {"max-size": str(request.log.size_bytes), "max-file": str(request.log.files)},
            },
            "Memory": limits.memory_bytes or 0,
            "MemorySwap": limits.memory_swap_bytes or 0,
            "NanoCpus": limits.nano_cpus or 0,
            "Dns": list(request.dns),
            "DnsOptions": list(request.dns_options),
            "DnsSearch": list(request.dns_search),
            "ExtraHosts": list(request.extra_hosts) or None,
            "NetworkMode": request.network,
            "PortBindings": bindings_document(request),
            "PublishAllPorts": request.publish_all,
            "PidMode": request.pid,
            "PidsLimit": limits.pids,
            "Privileged": request.privileged,
            "ReadonlyRootfs": request.read_only,
            "ShmSize": request.shm_bytes,
            "UTSMode": request.uts,
        },
        "NetworkSettings": network_document(engine.containers.network(container.id), request.network),
        "Mounts": mounts_document(engine, request),
        "Config": {
            "Hostname": request.hostname if request.hostname is not None else container.id.short,
            "Domainname": request.domainname,
            "User": request.user if request.user is not None else image.user or "",
            "Tty": request.tty,
            "OpenStdin": request.stdin_open,
            "StdinOnce": request.stdin_once,
            "Env": [*(image.env or ()), *request.env],
            "Cmd": list(request.command or image.cmd or ()) or None,
            "Image": container.image_ref,
            "WorkingDir": request.workdir or image.working_dir or "/",
            "Entrypoint": list(request.entrypoint if request.entrypoint is not None else image.entrypoint or ())
            or None,
            "Labels": {**(image.labels or {}), **request.labels},
        },
    }


def _time(at_ns: int) -> str:
    return format_time(at_ns) if at_ns else "0001-01-01T00:00:00Z"
