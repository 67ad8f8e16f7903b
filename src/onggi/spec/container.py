"""What a user asks of a container: the create request, in Docker's terms and Onggi's types.

This is the one form in which the command line, the Python API and later the Docker
API hand a container to the engine, and in which the store keeps it. Absent (None)
means "as the image says, else the default".
"""

from typing import Final, Literal

import msgspec

from onggi.base.errors import Conflict, InvalidArgument
from onggi.spec.ports import PortRequest, parse_exposed
from onggi.spec.resolv import check_dns, parse_extra_host

DEFAULT_SHM_BYTES: Final = 64 << 20
MIN_MEMORY_BYTES: Final = 6 << 20
DEFAULT_LOG_BYTES: Final = 10_000_000
DEFAULT_LOG_FILES: Final = 3


class MountRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One `-v`, `--mount` or `--tmpfs`.

    `source` is a host path (bind), a volume's name or "" for an anonymous one (volume).
    `anonymous`: the engine gave the volume its name, and it goes with its container.
    """

    type: Literal["bind", "volume", "tmpfs"]
    target: str
    source: str = ""
    read_only: bool = False
    recursive: bool = True
    writable_below: bool = False  # bind: what is mounted in a read-only one can be written to
    propagation: str = ""
    create_source: bool = False  # bind: make a directory where nothing is
    copy: bool = True  # volume: fill an empty one from the image
    labels: dict[str, str] = {}  # volume: of one that is made
    anonymous: bool = False
    size_bytes: int | None = None  # tmpfs
    mode: int | None = None  # tmpfs
    options: tuple[str, ...] = ()  # tmpfs: further mount options


class DeviceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One `--device`: a host path, its path in the container, and the access (r, w, m)."""

    source: str
    target: str
    access: str = "rwm"


class Ulimit(msgspec.Struct, frozen=True, kw_only=True):
    """One `--ulimit`; `name` as in Docker (nofile), 2**64-1 is unlimited."""

    name: str
    soft: int
    hard: int


class ThrottleRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One `--device-read-bps` and the like: a device's path and a rate a second."""

    path: str
    rate: int


class ResourceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Limits, in bytes, nanoseconds of CPU a second, microseconds (quota, period); None is no limit."""

    memory_bytes: int | None = None
    memory_swap_bytes: int | None = None  # memory and swap together, -1 for unlimited swap
    memory_reservation_bytes: int | None = None
    memory_swappiness: int | None = None
    oom_kill_disable: bool = False
    nano_cpus: int | None = None
    cpu_shares: int | None = None
    cpu_quota_us: int | None = None
    cpu_period_us: int | None = None
    cpu_rt_runtime_us: int | None = None
    cpu_rt_period_us: int | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids: int | None = None
    blkio_weight: int | None = None
    blkio_weight_device: tuple[ThrottleRequest, ...] = ()
    read_bps: tuple[ThrottleRequest, ...] = ()
    write_bps: tuple[ThrottleRequest, ...] = ()
    read_iops: tuple[ThrottleRequest, ...] = ()
    write_iops: tuple[ThrottleRequest, ...] = ()


class IdMapRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One range of a user namespace: container ids, host ids, how many."""

    container: int
    host: int
    size: int


class LogRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Where output is kept: `json-file` with rotation, or `none`."""

    driver: Literal["json-file", "none"] = "json-file"
    size_bytes: int = DEFAULT_LOG_BYTES
    files: int = DEFAULT_LOG_FILES


class ContainerRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A whole create request."""

    image: str = ""
    rootfs: str = ""  # a directory used as it is, instead of an image
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    workdir: str | None = None
    user: str | None = None
    groups: tuple[str, ...] = ()
    hostname: str | None = None
    domainname: str = ""
    tty: bool = False
    console_size: tuple[int, int] | None = None  # rows, columns
    stdin_open: bool = False
    stdin_once: bool = False
    init: bool = False
    auto_remove: bool = False
    stop_signal: str | None = None
    stop_timeout_s: int | None = None
    mounts: tuple[MountRequest, ...] = ()
    volumes_from: tuple[str, ...] = ()  # container[:ro]
    read_only: bool = False
    shm_bytes: int = DEFAULT_SHM_BYTES
    privileged: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    no_new_privileges: bool = False
    seccomp: str | None = None  # a profile in Docker's format, "unconfined", or None for the default
    unmask_system_paths: bool = False
    devices: tuple[DeviceRequest, ...] = ()
    device_rules: tuple[str, ...] = ()
    ulimits: tuple[Ulimit, ...] = ()
    sysctls: dict[str, str] = {}
    resources: ResourceRequest = ResourceRequest()
    oom_score_adj: int | None = None
    network: str = "bridge"  # bridge, none, host, container:<id>
    ports: tuple[PortRequest, ...] = ()
    exposed: tuple[str, ...] = ()  # --expose: "80/tcp", "80-90/udp"
    publish_all: bool = False  # every exposed port, the image's too, at a free port of the host
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    extra_hosts: tuple[str, ...] = ()  # "name:address", the address may be host-gateway
    pid: str = ""  # "" for its own, host, container:<id>
    ipc: str = ""  # "" or private for its own, host, none, container:<id>
    uts: str = ""  # "" for its own, host
    cgroupns: str = ""  # "" for the host's default, host, private
    time_offsets: dict[str, int] = {}  # boottime, monotonic: seconds
    uid_map: tuple[IdMapRequest, ...] = ()
    gid_map: tuple[IdMapRequest, ...] = ()
    cgroup_parent: str = ""
    host_certs: bool = False  # show it the host's certificate authorities
    log: LogRequest = LogRequest()


def check_network(request: ContainerRequest) -> None:
    """Refuse what does not go together about a network. Raises InvalidArgument, with Docker's texts where there are."""
    mode = request.network
    if mode not in ("bridge", "none", "host") and not mode.startswith("container:"):
        raise InvalidArgument(
            f"network {mode} not found: this version of Onggi has bridge, none, host and container:NAME; "
            "networks of one's own come later"
        )
    if mode.startswith("container:"):
        what = "conflicting options: {} and the container type network mode"
        for asked, name in (
            (request.hostname is not None, "hostname"),
            (request.dns or request.dns_search or request.dns_options, "dns"),
            (request.extra_hosts, "custom host-to-IP mapping"),
            (request.ports or request.publish_all, "port publishing"),
            (request.exposed, "port exposing"),
        ):
            if asked:
                raise InvalidArgument(what.format(name))
    elif mode != "bridge" and (request.ports or request.publish_all):
        raise InvalidArgument(
            f"conflicting options: port publishing and network mode {mode}: "
            + ("its ports are the host's already" if mode == "host" else "nothing could reach them")
            + "; leave out -p and -P, or use --network bridge"
        )
    for text in request.exposed:
        parse_exposed(text)
    for text in request.extra_hosts:
        parse_extra_host(text)
    check_dns(request.dns)


def check_limits(limits: ResourceRequest) -> None:
    """Refuse limits that do not go together. Raises InvalidArgument with Docker's texts."""
    memory, swap, kept = limits.memory_bytes or 0, limits.memory_swap_bytes or 0, limits.memory_reservation_bytes or 0
    cpus, quota, period = limits.nano_cpus or 0, limits.cpu_quota_us or 0, limits.cpu_period_us or 0
    for wrong, text in (
        (0 < memory < MIN_MEMORY_BYTES, "Minimum memory limit allowed is 6MB"),
        (0 < swap < memory, "Minimum memoryswap limit should be larger than memory limit, see usage"),
        (
            swap > 0 and memory == 0,
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ),
        (0 < kept < MIN_MEMORY_BYTES, "Minimum memory reservation allowed is 6MB"),
        (0 < memory < kept, "Minimum memory limit can not be less than memory reservation limit, see usage"),
        (cpus > 0 and period > 0, "Conflicting options: Nano CPUs and CPU Period cannot both be set"),
        (cpus > 0 and quota > 0, "Conflicting options: Nano CPUs and CPU Quota cannot both be set"),
        (
            period != 0 and not 1000 <= period <= 1_000_000,
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ),
        (0 < quota < 1000, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
        (limits.blkio_weight and not 10 <= limits.blkio_weight <= 1000, "Range of blkio weight is from 10 to 1000"),
    ):
        if wrong:
            raise InvalidArgument(text)


def check_limits_change(old: ResourceRequest, new: ResourceRequest) -> None:
    """Refuse limits that cannot follow those that a container has. Raises Conflict with Docker's texts."""
    swap = old.memory_swap_bytes or 0
    if new.memory_swap_bytes is None and 0 < swap < (new.memory_bytes or 0):
        raise Conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        )
    for asked, name, there, other in (
        (new.nano_cpus, "Nano CPUs", old.cpu_period_us, "CPU Period"),
        (new.nano_cpus, "Nano CPUs", old.cpu_quota_us, "CPU Quota"),
        (new.cpu_period_us, "CPU Period", old.nano_cpus, "NanoCPUs"),
        (new.cpu_quota_us, "CPU Quota", old.nano_cpus, "NanoCPUs"),
    ):
        if asked and there:
            raise Conflict(f"Conflicting options: {name} cannot be updated as {other} has already been set")


def print_request(request: ContainerRequest) -> bytes:
    """Encode a request for the store. Arguments may be any bytes: what is no UTF-8 is kept as lone surrogates."""
    try:
        return msgspec.json.encode(request)
    except UnicodeEncodeError:
        import json  # slower, and rarely needed

        return json.dumps(msgspec.to_builtins(request)).encode("ascii")


def parse_request(data: bytes) -> ContainerRequest:
    """Decode what `print_request` gave."""
    try:
        return _REQUEST.decode(data)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        import json

        return msgspec.convert(json.loads(data), type=ContainerRequest)


_REQUEST: Final = msgspec.json.Decoder(ContainerRequest)
