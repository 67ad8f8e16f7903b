"""What `inspect` says about how a container is bound to its host: HostConfig, Docker's fields in Docker's order."""

from collections.abc import Sequence
from typing import Any, Final

from onggi.cli.network_document import bindings_document
from onggi.plan.facts import Facts
from onggi.runtime import defaults
from onggi.runtime.bundle import cgroup_namespace_of
from onggi.spec.container import ContainerRequest, MountRequest, ResourceRequest, ThrottleRequest
from onggi.spec.image_config import ContainerConfig as ImageDefaults

_UNLIMITED: Final = 2**64 - 1


def host_config_document(request: ContainerRequest, facts: Facts) -> dict[str, Any]:
    """Describe what was asked of the host."""
    hidden = not request.privileged and not request.unmask_system_paths
    tmpfs = {mount.target: ",".join(_tmpfs_options(mount)) for mount in request.mounts if mount.type == "tmpfs"}
    return {
        "Binds": [_bind(mount) for mount in request.mounts if _is_bound(mount)] or None,
        "ContainerIDFile": "",
        "LogConfig": _log_document(request),
        "NetworkMode": request.network,
        "PortBindings": bindings_document(request),
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "AutoRemove": request.auto_remove,
        "VolumeDriver": "",
        "VolumesFrom": list(request.volumes_from) or None,
        "ConsoleSize": list(request.console_size or (0, 0)),
        "CapAdd": _capabilities(request.cap_add) or None,
        "CapDrop": _capabilities(request.cap_drop) or None,
        "CgroupnsMode": cgroup_namespace_of(request, facts),
        "Dns": list(request.dns),
        "DnsOptions": list(request.dns_options),
        "DnsSearch": list(request.dns_search),
        "ExtraHosts": list(request.extra_hosts) or None,
        "GroupAdd": list(request.groups) or None,
        "IpcMode": request.ipc or "private",
        "Cgroup": "",
        "Links": None,
        "OomScoreAdj": request.oom_score_adj or 0,
        "PidMode": request.pid,
        "Privileged": request.privileged,
        "PublishAllPorts": request.publish_all,
        "ReadonlyRootfs": request.read_only,
        "SecurityOpt": _security_options(request) or None,
        **({"Tmpfs": dict(sorted(tmpfs.items()))} if tmpfs else {}),
        "UTSMode": request.uts,
        "UsernsMode": "",
        "ShmSize": request.shm_bytes,
        **({"Sysctls": dict(sorted(request.sysctls.items()))} if request.sysctls else {}),
        "Runtime": "onggi",
        "Isolation": "",
        **_resources_document(request),
        "MaskedPaths": list(defaults.MASKED_PATHS) if hidden else None,
        "ReadonlyPaths": list(defaults.READONLY_PATHS) if hidden else None,
        **({"Init": True} if request.init else {}),
    }


def _resources_document(request: ContainerRequest) -> dict[str, Any]:
    limits = request.resources
    return {
        "CpuShares": limits.cpu_shares or 0,
        "Memory": limits.memory_bytes or 0,
        "NanoCpus": limits.nano_cpus or 0,
        "CgroupParent": request.cgroup_parent,
        "BlkioWeight": limits.blkio_weight or 0,
        "BlkioWeightDevice": [{"Path": item.path, "Weight": item.rate} for item in limits.blkio_weight_device],
        "BlkioDeviceReadBps": _throttles(limits.read_bps),
        "BlkioDeviceWriteBps": _throttles(limits.write_bps),
        "BlkioDeviceReadIOps": _throttles(limits.read_iops),
        "BlkioDeviceWriteIOps": _throttles(limits.write_iops),
        "CpuPeriod": limits.cpu_period_us or 0,
        "CpuQuota": limits.cpu_quota_us or 0,
        "CpuRealtimePeriod": limits.cpu_rt_period_us or 0,
        "CpuRealtimeRuntime": limits.cpu_rt_runtime_us or 0,
        "CpusetCpus": limits.cpuset_cpus,
        "CpusetMems": limits.cpuset_mems,
        "Devices": [
            {"PathOnHost": item.source, "PathInContainer": item.target, "CgroupPermissions": item.access}
            for item in request.devices
        ],
        "DeviceCgroupRules": list(request.device_rules) or None,
        "DeviceRequests": None,
        "MemoryReservation": limits.memory_reservation_bytes or 0,
        "MemorySwap": _swap(limits),
        "MemorySwappiness": limits.memory_swappiness,
        "OomKillDisable": limits.oom_kill_disable,
        "PidsLimit": limits.pids,
        "Ulimits": [
            {"Name": item.name, "Hard": _limit(item.hard), "Soft": _limit(item.soft)} for item in request.ulimits
        ],
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
    }


def _log_document(request: ContainerRequest) -> dict[str, Any]:
    if request.log.driver == "none":
        return {"Type": "none", "Config": {}}
    config = {"max-file": str(request.log.files), "max-size": str(request.log.size_bytes)}
    return {"Type": request.log.driver, "Config": config}


def _is_bound(mount: MountRequest) -> bool:
    return mount.type != "tmpfs" and not mount.anonymous


def _bind(mount: MountRequest) -> str:
    words = ["ro"] if mount.read_only else []
    words += [mount.propagation] if mount.propagation else []
    words += [] if mount.copy else ["nocopy"]
    return f"{mount.source}:{mount.target}" + (f":{','.join(words)}" if words else "")


def _tmpfs_options(mount: MountRequest) -> Sequence[str]:
    return (
        *(("ro",) if mount.read_only else ()),
        *mount.options,
        *((f"size={mount.size_bytes}",) if mount.size_bytes is not None else ()),
        *((f"mode={mount.mode:o}",) if mount.mode is not None else ()),
    )


def _security_options(request: ContainerRequest) -> list[str]:
    return [
        *(["no-new-privileges"] if request.no_new_privileges else []),
        *([] if request.seccomp is None else [f"seccomp={request.seccomp}"]),
        *(["systempaths=unconfined"] if request.unmask_system_paths else []),
    ]


def _capabilities(names: Sequence[str]) -> list[str]:
    """Write names as the kernel has them."""
    upper = [name.upper() for name in names]
    return [name if name == "ALL" or name.startswith("CAP_") else f"CAP_{name}" for name in upper]


def _throttles(items: Sequence[ThrottleRequest]) -> list[dict[str, Any]]:
    return [{"Path": item.path, "Rate": item.rate} for item in items]


def _limit(value: int) -> int:
    return -1 if value == _UNLIMITED else value


def _swap(limits: ResourceRequest) -> int:
    if limits.memory_swap_bytes is not None:
        return limits.memory_swap_bytes
    return 2 * (limits.memory_bytes or 0)


def config_of(request: ContainerRequest, image: ImageDefaults, *, id: str, image_ref: str) -> ImageDefaults:
    """Give how a container runs: what was asked for over what its image says."""
    exposed = {**(image.exposed_ports or {}), **{_port(text): {} for text in request.exposed}}
    exposed |= {f"{port.container_port}/{port.protocol}": {} for port in request.ports}
    anonymous: dict[str, Any] = {mount.target: {} for mount in request.mounts if mount.anonymous}
    volumes = {**(image.volumes or {}), **anonymous}
    entrypoint = image.entrypoint if request.entrypoint is None else request.entrypoint
    # An entrypoint of one's own takes the image's command away.
    command = request.command or (image.cmd if request.entrypoint is None else None)
    return ImageDefaults(
        hostname=request.hostname if request.hostname is not None else id[:12],
        domainname=request.domainname or None,
        user=(request.user if request.user is not None else image.user) or None,
        attach_stdout=None,
        exposed_ports=exposed or None,
        tty=request.tty or None,
        open_stdin=request.stdin_open or None,
        stdin_once=request.stdin_once or None,
        env=merge_env(image.env or (), request.env),
        cmd=tuple(command or ()) or None,
        healthcheck=image.healthcheck,
        image=image_ref,
        volumes=volumes or None,
        working_dir=request.workdir or image.working_dir or "/",
        entrypoint=tuple(entrypoint or ()) or None,
        labels={**(image.labels or {}), **request.labels},
        stop_signal=request.stop_signal or image.stop_signal,
        stop_timeout=request.stop_timeout_s,
        shell=image.shell,
    )


def _port(text: str) -> str:
    return text if "/" in text else f"{text}/tcp"


def merge_env(image: Sequence[str], asked: Sequence[str]) -> tuple[str, ...]:
    """Give the image's variables, with those that were asked for in place of theirs."""
    names = {entry.partition("=")[0] for entry in asked}
    return (*asked, *(entry for entry in image if entry.partition("=")[0] not in names))
