"""From a create request and an image's config to an OCI runtime spec (image-spec conversion.md, Docker's defaults).

Pure, once the host has been asked: `Resolved` carries what only it knew.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from onggi.base.errors import InvalidArgument
from onggi.host import certs
from onggi.host.devices import DeviceNode
from onggi.plan import abi
from onggi.plan.devices import DEFAULT_DEVICE_RULES
from onggi.plan.facts import CgroupFacts, Facts
from onggi.plan.process import DEFAULT_PATH
from onggi.plan.seccomp import docker_profile, resolve_profile
from onggi.runtime import defaults
from onggi.runtime.fitting import fit_limits
from onggi.spec.container import ContainerRequest, DeviceRequest, MountRequest, ResourceRequest, ThrottleRequest
from onggi.spec.image_config import ContainerConfig as ImageDefaults
from onggi.spec.passwd import Identity
from onggi.spec.runtime import (
    OCI_VERSION,
    Box,
    Linux,
    LinuxBlockIO,
    LinuxCapabilities,
    LinuxCPU,
    LinuxDevice,
    LinuxDeviceCgroup,
    LinuxIDMapping,
    LinuxMemory,
    LinuxNamespace,
    LinuxPids,
    LinuxResources,
    LinuxSeccomp,
    LinuxThrottleDevice,
    LinuxTimeOffset,
    LinuxWeightDevice,
    Mount,
    POSIXRlimit,
    Process,
    Root,
    Spec,
    User,
)

_UNLIMITED: Final = 2**64 - 1


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """What the host and the store know about a request.

    `sources` gives the host directory of each volume mount by target; `devices` the
    host's nodes by path (all of them for a privileged container); `joined` the
    namespace file for each kind that is shared with another container.
    """

    identity: Identity
    sources: Mapping[str, str] = {}
    devices: Mapping[str, DeviceNode] = {}
    joined: Mapping[str, str] = {}
    files: tuple[Mount, ...] = ()  # resolv.conf, hosts, hostname
    cgroups_path: str


def make_spec(
    container: str, request: ContainerRequest, image: ImageDefaults, resolved: Resolved, facts: Facts
) -> Spec:
    """Build the spec of container `container` (its id)."""
    hostname = request.hostname if request.hostname is not None else container[:12]
    own_uts = request.uts != "host"
    capabilities = container_capabilities(request)
    env = environment_of(request, image, resolved.identity, hostname)
    return Spec(
        oci_version=OCI_VERSION,
        process=process_of(request, image, resolved.identity, env, capabilities, facts),
        root=Root(path="rootfs", readonly=request.read_only or None),
        hostname=hostname if own_uts else None,
        domainname=request.domainname or None if own_uts else None,
        mounts=_mounts(request, resolved),
        linux=_linux(request, resolved, capabilities, facts),
    )


def command_line(request: ContainerRequest, image: ImageDefaults) -> tuple[str, ...]:
    """Combine entrypoint and command: an entrypoint of the request drops the image's command."""
    if request.entrypoint is not None:
        entrypoint = tuple(word for word in request.entrypoint if word)
        command = request.command or ()
    else:
        entrypoint = image.entrypoint or ()
        command = request.command if request.command else image.cmd or ()
    argv = (*entrypoint, *command)
    if not argv:
        raise InvalidArgument("no command specified: give one, or use an image that has CMD or ENTRYPOINT")
    return argv


def container_capabilities(request: ContainerRequest) -> tuple[str, ...]:
    """Apply --cap-add and --cap-drop to the defaults, as Docker does: ALL first, then names."""
    if request.privileged:
        return abi.CAPABILITIES
    added, dropped = _capability_names(request.cap_add), _capability_names(request.cap_drop)
    if "ALL" in added:
        kept = [name for name in abi.CAPABILITIES if name not in dropped]
    elif "ALL" in dropped:
        kept = [name for name in added if name not in ("ALL",)]
    else:
        kept = [name for name in (*defaults.CAPABILITIES, *added) if name not in dropped]
    return tuple(dict.fromkeys(kept))


def _capability_names(names: tuple[str, ...]) -> tuple[str, ...]:
    full = []
    for given in names:
        name = given.upper()
        if name != "ALL" and not name.startswith("CAP_"):
            name = f"CAP_{name}"
        if name != "ALL" and name not in abi.CAPABILITIES:
            raise InvalidArgument(f"invalid capability: {given!r}; capabilities(7) has the names")
        full.append(name)
    return tuple(full)


def process_of(
    request: ContainerRequest,
    image: ImageDefaults,
    identity: Identity,
    env: tuple[str, ...],
    capabilities: tuple[str, ...],
    facts: Facts,
) -> Process:
    """Build the process: a user other than root holds no capability, but may still gain those of the bounding set."""
    held = tuple(name for number, name in enumerate(abi.CAPABILITIES) if facts.capabilities >> number & 1)
    if request.privileged:
        # Privileged is all that Onggi itself has; less on a host that holds some back.
        capabilities = tuple(name for name in capabilities if name in held)
    root = identity.uid == 0
    return Process(
        terminal=request.tty or None,
        console_size=Box(height=request.console_size[0], width=request.console_size[1])
        if request.console_size
        else None,
        user=User(uid=identity.uid, gid=identity.gid, additional_gids=identity.groups or None),
        args=command_line(request, image),
        env=env,
        cwd=request.workdir or image.working_dir or "/",
        capabilities=LinuxCapabilities(
            bounding=capabilities,
            effective=capabilities if root else None,
            permitted=capabilities if root else None,
        ),
        rlimits=tuple(
            POSIXRlimit(type=f"RLIMIT_{limit.name.upper()}", soft=limit.soft, hard=limit.hard)
            for limit in request.ulimits
        )
        or None,
        no_new_privileges=request.no_new_privileges or None,
        oom_score_adj=request.oom_score_adj,
    )


def environment_of(
    request: ContainerRequest, image: ImageDefaults, identity: Identity, hostname: str
) -> tuple[str, ...]:
    """PATH, HOSTNAME and TERM come first so that image and request can change them; HOME is the user's."""
    variables: dict[str, str] = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname}
    if request.tty:
        variables["TERM"] = "xterm"
    if request.host_certs:
        variables |= dict.fromkeys(certs.CERT_VARIABLES, certs.TARGET)
    for entry in (*(image.env or ()), *request.env):
        name, equals, value = entry.partition("=")
        if equals:
            variables[name] = value
        else:
            variables.pop(name, None)
    variables.setdefault("HOME", identity.home)
    return tuple(f"{name}={value}" for name, value in variables.items())


def _mounts(request: ContainerRequest, resolved: Resolved) -> tuple[Mount, ...]:
    """Docker's mounts, then the request's in order of depth, so that none hides another."""
    privileged = request.privileged
    system = [defaults.PROC, defaults.DEV, defaults.DEVPTS, defaults.sysfs(writable=privileged)]
    system.append(defaults.cgroup(writable=privileged))
    if request.ipc == "host":
        system += [defaults.MQUEUE, _bind("/dev/shm", "/dev/shm")]  # that of the host's, which need not have it mounted
    else:
        system.append(defaults.MQUEUE)
        if request.ipc not in ("none",) and not request.ipc.startswith("container:"):
            system.append(defaults.shm(request.shm_bytes))
    asked = [*resolved.files, *(_requested(mount, resolved) for mount in request.mounts)]
    targets = {mount.destination for mount in asked}
    asked.sort(key=lambda mount: mount.destination.rstrip("/").count("/"))
    return (*(mount for mount in system if mount.destination not in targets), *asked)


def _bind(source: str, target: str, *options: str) -> Mount:
    return Mount(destination=target, type="bind", source=source, options=("rbind", *options))


def _requested(mount: MountRequest, resolved: Resolved) -> Mount:
    mode = "ro" if mount.read_only else "rw"
    if mount.type == "tmpfs":
        options = ["nosuid", "nodev", "noexec", *mount.options]
        options += [f"size={mount.size_bytes}"] if mount.size_bytes is not None else []
        options += [f"mode={mount.mode:o}"] if mount.mode is not None else []
        return Mount(destination=mount.target, type="tmpfs", source="tmpfs", options=(*options, mode))
    source = resolved.sources.get(mount.target, mount.source)
    bind = "rbind" if mount.recursive else "bind"
    if mount.read_only and mount.recursive and not mount.writable_below:
        mode = "rro"
    return Mount(
        destination=mount.target, type="bind", source=source, options=(bind, mode, mount.propagation or "rprivate")
    )


def _linux(request: ContainerRequest, resolved: Resolved, capabilities: tuple[str, ...], facts: Facts) -> Linux:
    hidden = not request.privileged and not request.unmask_system_paths
    return Linux(
        namespaces=_namespaces(request, resolved, facts),
        uid_mappings=tuple(_mapping(m.container, m.host, m.size) for m in request.uid_map) or None,
        gid_mappings=tuple(_mapping(m.container, m.host, m.size) for m in request.gid_map) or None,
        time_offsets={clock: LinuxTimeOffset(secs=secs) for clock, secs in request.time_offsets.items()} or None,
        devices=_devices(request, resolved),
        cgroups_path=resolved.cgroups_path,
        resources=_resources(request, resolved, facts.cgroup),
        sysctl=_sysctls(request),
        seccomp=seccomp_of(request, capabilities, facts),
        masked_paths=defaults.MASKED_PATHS if hidden else None,
        readonly_paths=defaults.READONLY_PATHS if hidden else None,
    )


def _mapping(container: int, host: int, size: int) -> LinuxIDMapping:
    return LinuxIDMapping(container_id=container, host_id=host, size=size)


def cgroup_namespace_of(request: ContainerRequest, facts: Facts) -> str:
    """The host's cgroup namespace is the default on v1 and hybrid, a private one on v2, as Docker's."""
    return request.cgroupns or ("private" if facts.cgroup.layout == "v2" and not request.privileged else "host")


def _namespaces(request: ContainerRequest, resolved: Resolved, facts: Facts) -> tuple[LinuxNamespace, ...]:
    wanted = {
        "mount": True,
        "pid": request.pid != "host",
        "network": request.network != "host",
        "ipc": request.ipc != "host",
        "uts": request.uts != "host",
        "cgroup": cgroup_namespace_of(request, facts) == "private",
        "user": bool(request.uid_map),
        "time": bool(request.time_offsets),
    }
    return tuple(
        LinuxNamespace(type=kind, path=resolved.joined.get(kind))
        for kind, own in wanted.items()
        if own or kind in resolved.joined
    )


def _sysctls(request: ContainerRequest) -> dict[str, str] | None:
    """Ping needs no CAP_NET_RAW and low ports no CAP_NET_BIND_SERVICE in a network namespace of one's own."""
    sysctls: dict[str, str] = {}
    if request.network != "host" and not request.network.startswith("container:"):
        last = max((m.container + m.size - 1 for m in request.gid_map), default=2**31 - 1)
        sysctls["net.ipv4.ping_group_range"] = f"0 {min(last, 2**31 - 1)}"
        sysctls["net.ipv4.ip_unprivileged_port_start"] = "0"
    return {**sysctls, **request.sysctls} or None


def seccomp_of(request: ContainerRequest, capabilities: tuple[str, ...], facts: Facts) -> LinuxSeccomp | None:
    """Give the filter: Docker's default, the request's own, or none for unconfined and privileged containers."""
    if request.seccomp == "unconfined" or (request.privileged and request.seccomp is None):
        return None
    profile = docker_profile() if request.seccomp is None else request.seccomp.encode()
    return resolve_profile(profile, capabilities=capabilities, arch=facts.arch, kernel=facts.kernel)


def _devices(request: ContainerRequest, resolved: Resolved) -> tuple[LinuxDevice, ...] | None:
    asked = request.devices
    if request.privileged:
        asked = (*(DeviceRequest(source=path, target=path) for path in resolved.devices), *asked)
    devices = {}
    for device in asked:
        host = resolved.devices[device.source]
        devices[device.target] = LinuxDevice(
            path=device.target,
            type=host.type,
            major=host.major,
            minor=host.minor,
            file_mode=host.mode,
            uid=host.uid,
            gid=host.gid,
        )
    return tuple(devices.values()) or None


def _resources(request: ContainerRequest, resolved: Resolved, facts: CgroupFacts) -> LinuxResources:
    limits, _ = fit_limits(request.resources, facts)
    return LinuxResources(
        devices=_device_rules(request, resolved),
        memory=_memory(limits),
        cpu=_cpu(limits),
        pids=None if limits.pids is None else LinuxPids(limit=limits.pids or -1),
        block_io=_block_io(limits, resolved),
    )


def resources_of(request: ContainerRequest, devices: Mapping[str, DeviceNode], facts: CgroupFacts) -> LinuxResources:
    """Give the limits of a request alone, for a cgroup that is there: no device rules."""
    resolved = Resolved(identity=Identity(), devices=devices, cgroups_path="")
    return msgspec.structs.replace(_resources(request, resolved, facts), devices=None)


def merge_resources(old: ResourceRequest, new: ResourceRequest) -> ResourceRequest:
    """Let what `new` says replace what `old` says."""
    empty = ResourceRequest()
    said = {
        name: value
        for name in ResourceRequest.__struct_fields__
        if (value := getattr(new, name)) != getattr(empty, name)
    }
    return msgspec.structs.replace(old, **said)


def _device_rules(request: ContainerRequest, resolved: Resolved) -> tuple[LinuxDeviceCgroup, ...]:
    if request.privileged:
        return (LinuxDeviceCgroup(allow=True, access="rwm"),)
    rules = [LinuxDeviceCgroup(allow=False, access="rwm"), *DEFAULT_DEVICE_RULES]
    for device in request.devices:
        host = resolved.devices[device.source]
        rules.append(
            LinuxDeviceCgroup(allow=True, type=host.type, major=host.major, minor=host.minor, access=device.access)
        )
    rules += [parse_device_rule(rule) for rule in request.device_rules]
    return tuple(rules)


def parse_device_rule(text: str) -> LinuxDeviceCgroup:
    """Read `c 1:3 mr` (--device-cgroup-rule)."""
    words = text.split()
    numbers = words[1].split(":") if len(words) == 3 else []
    valid = len(numbers) == 2 and words[0] in ("a", "b", "c") and set(words[2]) <= set("rwm")
    if not valid or not all(number == "*" or number.isdigit() for number in numbers):
        raise InvalidArgument(
            f"invalid device cgroup format {text!r}: expected 'c 1:3 rwm' (type, major:minor, access)"
        )
    major, minor = (None if number == "*" else int(number) for number in numbers)
    return LinuxDeviceCgroup(allow=True, type=words[0], major=major, minor=minor, access=words[2])


def _memory(limits: ResourceRequest) -> LinuxMemory | None:
    """Without a word on swap, as much swap as memory, as Docker; -1 is unlimited swap."""
    swap = limits.memory_swap_bytes
    if swap is None and limits.memory_bytes:
        swap = 2 * limits.memory_bytes
    memory = LinuxMemory(
        limit=limits.memory_bytes,
        swap=swap,
        reservation=limits.memory_reservation_bytes,
        swappiness=limits.memory_swappiness,
        disable_oom_killer=limits.oom_kill_disable or None,
    )
    return None if memory == LinuxMemory() else memory


def _cpu(limits: ResourceRequest) -> LinuxCPU | None:
    quota, period = limits.cpu_quota_us, limits.cpu_period_us
    if limits.nano_cpus is not None:
        if quota is not None or period is not None:
            raise InvalidArgument("--cpus cannot be given together with --cpu-quota or --cpu-period")
        period = 100_000
        quota = limits.nano_cpus * period // 1_000_000_000
    cpu = LinuxCPU(
        shares=limits.cpu_shares,
        quota=quota,
        period=period,
        realtime_runtime=limits.cpu_rt_runtime_us,
        realtime_period=limits.cpu_rt_period_us,
        cpus=limits.cpuset_cpus or None,
        mems=limits.cpuset_mems or None,
    )
    return None if cpu == LinuxCPU() else cpu


def _block_io(limits: ResourceRequest, resolved: Resolved) -> LinuxBlockIO | None:
    def throttles(asked: tuple[ThrottleRequest, ...]) -> tuple[LinuxThrottleDevice, ...] | None:
        hosts = [(resolved.devices[item.path], item.rate) for item in asked]
        return tuple(LinuxThrottleDevice(major=h.major, minor=h.minor, rate=rate) for h, rate in hosts) or None

    weights = [(resolved.devices[item.path], item.rate) for item in limits.blkio_weight_device]
    block_io = LinuxBlockIO(
        weight=limits.blkio_weight,
        weight_device=tuple(LinuxWeightDevice(major=h.major, minor=h.minor, weight=w) for h, w in weights) or None,
        throttle_read_bps_device=throttles(limits.read_bps),
        throttle_write_bps_device=throttles(limits.write_bps),
        throttle_read_iops_device=throttles(limits.read_iops),
        throttle_write_iops_device=throttles(limits.write_iops),
    )
    return None if block_io == LinuxBlockIO() else block_io
