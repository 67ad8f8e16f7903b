"""Starting a container: hold its root file system, plan, let somebody execute the plan, record.

Whoever executes (`Spawn`) may be this process or the stub of a user's shell; the
records do not depend on it: a starter that is killed after the launch is made up for
by the next command's folding.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec

from onggi.base.errors import Conflict, InvalidArgument
from onggi.base.ids import ContainerID
from onggi.engine.bridges import BRIDGE
from onggi.engine.context import Context
from onggi.engine.identity import find_identity
from onggi.engine.networks import attach_container, preview_attachment, release
from onggi.engine.resolving import network_mounts, write_network_files
from onggi.host.certs import host_certs_mount
from onggi.host.cgroupfs import check_vacant, is_frozen
from onggi.host.cgroupfs.files import write_or_explain
from onggi.host.devices import DeviceNode, list_devices, look_up_devices
from onggi.host.locks import probe_lock, take_lock
from onggi.plan.cgroup import plan_directories, plan_refuge
from onggi.plan.container import Supervision, plan_container
from onggi.plan.facts import Facts
from onggi.plan.network import Attachment, NetworkPlan, plan_attachment
from onggi.plan.ops import MakeDirectory, Plan, WriteFile
from onggi.plan.rootfs import Directory, Overlay
from onggi.runtime.bundle import Resolved, make_spec
from onggi.spec.container import ContainerRequest, DeviceRequest, parse_request
from onggi.spec.image_config import ContainerConfig as ImageDefaults
from onggi.spec.runtime import Mount, Spec
from onggi.store.containers import Container

Spawn = Callable[[Plan, Sequence[int], Facts], int]
"""Execute a plan with these inherited descriptors; gives the pid, raises LaunchFailed."""


@contextmanager
def spawning(context: Context, spawn: Spawn | None) -> Iterator[Spawn]:
    """Give `spawn`, or else one of this process, whose launcher starts while the caller is still planning."""
    if spawn is not None:
        yield spawn
        return
    with context.launcher.prepare() as waiting:
        yield waiting.run


RELEASE_TIMEOUT_S: Final = 30.0
LOG_NAME: Final = "json.log"


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A container ready to be launched."""

    spec: Spec
    plan: Plan
    inherited: tuple[int, ...]
    cgroups: dict[str, str]


def decode_request(container: Container) -> ContainerRequest:
    """Read the create request that the store keeps."""
    return parse_request(container.config)


def launch(
    context: Context,
    container: Container,
    request: ContainerRequest,
    image: ImageDefaults,
    *,
    client: int | None,
    spawn: Spawn,
    facts: Facts,
    joined: Mapping[str, str],
) -> int:
    """Launch a container whose lock the caller holds; gives the pid. Its supervisor keeps the snapshot held."""
    run = context.run_directory(container.id)
    if context.files.look(run) is not None:
        _wait_gone(run, container.id)
        context.root.discard(run)
    ensure_refuge(context, facts)
    if request.cgroup_parent:
        _check_parent(context, container.id, request.cgroup_parent, facts)
    request = _with_shared_hostname(context, request)
    at = attach_container(context, container.id, request, image) if request.network == BRIDGE else None
    try:
        return _launch(context, container, request, image, client, spawn, facts, joined, at)
    except BaseException:
        if at is not None and not probe_lock(f"{run}/lock"):
            release(context, container.id, link=at.link)
        raise


def _launch(
    context: Context,
    container: Container,
    request: ContainerRequest,
    image: ImageDefaults,
    client: int | None,
    spawn: Spawn,
    facts: Facts,
    joined: Mapping[str, str],
    at: Attachment | None,
) -> int:
    run = context.run_directory(container.id)
    sources = _volume_sources(context, request)
    if container.snapshot is None:
        root: Overlay | Directory = Directory(path=request.rootfs)
        prepared = _prepare(context, container, request, image, root, [], client, None, facts, joined, sources, at)
        return _spawn(context, run, prepared, spawn, facts)
    with context.snapshots.hold(container.snapshot) as held:
        overlay = Overlay(
            lowers=tuple(range(len(held.lowers))),
            upper=held.upper,
            work=held.work,
            volatile=held.snapshot.volatile,
        )
        fds = [*held.lowers]
        prepared = _prepare(
            context, container, request, image, overlay, fds, client, held.lock.fd, facts, joined, sources, at
        )
        return _spawn(context, run, prepared, spawn, facts)


def explain_launch(
    context: Context,
    request: ContainerRequest,
    image: ImageDefaults,
    layers: tuple[str, ...],
    facts: Facts,
    joined: Mapping[str, str],
) -> Plan:
    """Plan what `launch` would do for a container that does not exist; nothing is made."""
    id = ContainerID("0" * 64)
    request = msgspec.structs.replace(request, devices=expand_devices(request.devices))
    user = request.user if request.user is not None else image.user or ""
    place = context.root.place("snapshots", id)
    if request.rootfs:
        root: Overlay | Directory = Directory(path=request.rootfs)
        identity = find_identity(context, None, layers, request, user)
    else:
        lowers = tuple(context.root.place("layers", layer) for layer in reversed(layers))
        root = Overlay(lowers=lowers, upper=f"{place}/fs", work=f"{place}/work", volatile=request.auto_remove)
        identity = find_identity(context, None, layers, request, user)
    resolved = Resolved(
        identity=identity,
        sources={
            m.target: context.root.place("volumes", m.source or "<new>", "_data")
            for m in request.mounts
            if m.type == "volume"
        },
        devices=find_devices(request),
        joined=joined,
        files=(*network_mounts(context, id), *_certs(request)),
        cgroups_path=context.cgroup_of(id, request.cgroup_parent),
    )
    spec = make_spec(id, request, image, resolved, facts)
    at = preview_attachment(context, request, image) if request.network == BRIDGE else None
    supervision = _supervision(context, id, request, None, None)
    return plan_container(spec, root, supervision, facts, network=_network_of(at))


def _spawn(context: Context, run: str, prepared: Prepared, spawn: Spawn, facts: Facts) -> int:
    context.files.make_directory(run)
    # Where whoever clears away after a lost supervisor looks for what it left.
    context.files.put(f"{run}/cgroups", msgspec.json.encode(prepared.cgroups))
    try:
        return spawn(prepared.plan, prepared.inherited, facts)
    except BaseException:
        if not probe_lock(f"{run}/lock"):
            context.root.discard(run)
        raise


def _prepare(
    context: Context,
    container: Container,
    request: ContainerRequest,
    image: ImageDefaults,
    root: Overlay | Directory,
    fds: list[int],
    client: int | None,
    hold: int | None,
    facts: Facts,
    joined: Mapping[str, str],
    sources: Mapping[str, str],
    at: Attachment | None,
) -> Prepared:
    inherited = list(fds)
    client_position = hold_position = None
    if client is not None:
        client_position = len(inherited)
        inherited.append(client)
    if hold is not None:
        hold_position = len(inherited)
        inherited.append(hold)
    supervision = _supervision(context, container.id, request, client_position, hold_position)
    user = request.user if request.user is not None else image.user or ""
    identity = find_identity(context, container, _layers_of(context, container), request, user)
    resolved = Resolved(
        identity=identity,
        sources=sources,
        devices=find_devices(request),
        joined=joined,
        files=(*write_network_files(context, container, request, at), *_certs(request)),
        cgroups_path=context.cgroup_of(container.id, request.cgroup_parent),
    )
    spec = make_spec(container.id, request, image, resolved, facts)
    plan = plan_container(spec, root, supervision, facts, network=_network_of(at))
    cgroups = plan_directories(resolved.cgroups_path, facts.cgroup)
    return Prepared(spec=spec, plan=plan, inherited=tuple(inherited), cgroups=cgroups)


def _certs(request: ContainerRequest) -> tuple[Mount, ...]:
    return (host_certs_mount(),) if request.host_certs else ()


def _supervision(
    context: Context, id: str, request: ContainerRequest, client: int | None, hold: int | None
) -> Supervision:
    return Supervision(
        run_directory=context.run_directory(id),
        log_directory=context.containers.directory(id) if request.log.driver == "json-file" else None,
        log_name=LOG_NAME,
        log_size_bytes=request.log.size_bytes,
        log_files=request.log.files,
        stdin=request.stdin_open,
        stdin_once=request.stdin_once,
        client=client,
        hold=hold,
        supervisors=f"{context.cgroup_parent}/supervisors",
        init=request.init,
    )


def _layers_of(context: Context, container: Container) -> tuple[str, ...]:
    return () if container.snapshot is None else context.snapshots.get(container.snapshot).layers


def find_devices(request: ContainerRequest) -> dict[str, DeviceNode]:
    """Look up every device of the host that a request names."""
    found: dict[str, DeviceNode] = {}
    if request.privileged:
        found.update((node.path, node) for node in list_devices())
    limits = request.resources
    throttled = (
        *limits.blkio_weight_device,
        *limits.read_bps,
        *limits.write_bps,
        *limits.read_iops,
        *limits.write_iops,
    )
    for path in (*(device.source for device in request.devices), *(item.path for item in throttled)):
        nodes = look_up_devices(path)
        found.update((node.path, node) for node in nodes)
        if len(nodes) == 1:
            found[path] = nodes[0]
    return found


def expand_devices(devices: tuple[DeviceRequest, ...]) -> tuple[DeviceRequest, ...]:
    """Replace directories of devices by the devices in them, as Docker does."""
    every: list[DeviceRequest] = []
    for device in devices:
        nodes = look_up_devices(device.source)
        if len(nodes) == 1 and nodes[0].path == device.source:
            every.append(device)
            continue
        every += [
            DeviceRequest(
                source=node.path, target=device.target + node.path.removeprefix(device.source), access=device.access
            )
            for node in nodes
        ]
    return tuple(every)


def _network_of(at: Attachment | None) -> NetworkPlan:
    return NetworkPlan() if at is None else plan_attachment(at)


def _with_shared_hostname(context: Context, request: ContainerRequest) -> ContainerRequest:
    """A container in another one's network has that one's host name, as its hosts file says."""
    if not request.network.startswith("container:"):
        return request
    other = context.containers.get(request.network.removeprefix("container:"))
    name = decode_request(other).hostname
    return msgspec.structs.replace(request, hostname=name if name is not None else other.id[:12])


def _volume_sources(context: Context, request: ContainerRequest) -> dict[str, str]:
    return {mount.target: context.volumes.get(mount.source).path for mount in request.mounts if mount.type == "volume"}


def ensure_refuge(context: Context, facts: Facts) -> None:
    """Make the cgroup in which the supervisors of this root live; it stays."""
    for op in plan_refuge(f"{context.cgroup_parent}/supervisors", facts.cgroup).before:
        match op:
            case MakeDirectory(path=path, mode=mode):
                if context.files.look(path) is None:
                    context.files.make_directory(path, mode)
            case WriteFile(path=path, data=bytes() as data, if_empty=if_empty):
                write_or_explain(path, data, "prepare the supervisors' cgroup", if_empty=if_empty)
            case _:
                raise InvalidArgument(f"cannot make the supervisors' cgroup: {op!r}")


def _check_parent(context: Context, container: str, parent: str, facts: Facts) -> None:
    """Refuse what a user chose as parent where the container would not run, or not be alone in its cgroup."""
    if parent != "/" and is_frozen(plan_directories(parent, facts.cgroup)):
        raise Conflict(f"cgroup parent {parent} is frozen, and all that starts in it: thaw it first, or give another")
    check_vacant(plan_directories(context.cgroup_of(container, parent), facts.cgroup))


def _wait_gone(run: str, id: str) -> None:
    """Wait until an earlier supervisor has cleared away: *exited* is not yet *released*."""
    try:
        take_lock(f"{run}/lock", f"container {id[:12]}", timeout_s=RELEASE_TIMEOUT_S).close()
    except Conflict:
        raise Conflict(
            f"container {id[:12]} has not been released yet: its last supervisor is still clearing away; try again"
        ) from None
