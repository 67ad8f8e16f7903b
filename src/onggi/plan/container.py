"""From a bundle and the facts of a host to the plan that starts and supervises it.

This is the one place where the order of everything is decided:

1. the launcher opens all that belongs to the host: namespaces, bind sources, layers;
2. the child is cloned; the launcher writes its id maps and puts it into its cgroups,
   while the child attaches the root and what lies beneath it;
3. the child lets the host's root go, gives up its privileges, and becomes the payload;
4. the launcher supervises; at the end it records the exit first, then clears away.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from onggi.base.errors import InvalidArgument, NotSupported
from onggi.plan import abi
from onggi.plan.cgroup import plan_cgroup, plan_refuge
from onggi.plan.cgroup_mount import plan_cgroup_mount
from onggi.plan.facts import Facts
from onggi.plan.mounts import ROOT, Shown, parse_options, plan_mount
from onggi.plan.namespaces import (
    Namespaces,
    clone_flags,
    host_uid,
    plan_hold,
    plan_joins_before,
    plan_joins_child,
    plan_maps,
    plan_release,
    plan_return,
    read_namespaces,
)
from onggi.plan.network import LOOPBACK_INDEX, NetworkPlan, link_up
from onggi.plan.ops import (
    Adopt,
    Await,
    Clone,
    Close,
    Hole,
    Inherit,
    Listen,
    Lock,
    MakeTarget,
    Netlink,
    NewSession,
    Op,
    OpenPath,
    Pipe,
    PivotRoot,
    Plan,
    Propagate,
    PutFile,
    Receive,
    Reclone,
    RecordExit,
    Remove,
    SetDomainname,
    SetHostname,
    SetIds,
    SetStdio,
    SetUndumpable,
    Supervise,
    Tell,
    Unshare,
    WriteFile,
)
from onggi.plan.process import plan_exec, plan_limits, plan_privileges
from onggi.plan.rootfs import (
    Directory,
    Overlay,
    plan_devices,
    plan_hiding,
    plan_pty,
    plan_root,
    plan_root_attributes,
    plan_show_root,
    plan_terminal,
)
from onggi.plan.slots import plan_closes
from onggi.spec.runtime import Linux, Mount, Process, Spec

NO_NETWORK: Final = NetworkPlan()
LOST_RECORDS: Final = "onggi: the disk was full; log records lost here: "


class Supervision(msgspec.Struct, frozen=True, kw_only=True):
    """How a container is looked after. Paths are the host's.

    `run_directory` holds `lock`, `state`, `exit` and the socket `attach`.
    `client` is the position of an inherited, connected attach socket, `hold` that of a
    descriptor to keep until the very end (the snapshot's lock). `supervisors` is the
    cgroup that the launcher itself enters. `remove` are trees to delete at the end.
    """

    run_directory: str
    log_directory: str | None = None
    log_name: str = "json.log"
    log_size_bytes: int = 10_000_000
    log_files: int = 3
    stdin: bool = False
    stdin_once: bool = False
    client: int | None = None
    hold: int | None = None
    supervisors: str | None = None
    init: bool = False
    remove: tuple[str, ...] = ()


def plan_container(
    spec: Spec,
    root: Overlay | Directory,
    supervision: Supervision,
    facts: Facts,
    *,
    bundle: str = "",
    network: NetworkPlan = NO_NETWORK,
) -> Plan:
    """Plan a container's whole life.

    `bundle` is the directory that relative paths of the spec belong to, `network` what
    a network adds to a container that makes its own network namespace.
    Raises InvalidArgument for what the spec has wrong, NotSupported for what this
    host or version cannot do; nothing has happened then.
    """
    process, linux = _require(spec)
    namespaces = read_namespaces(linux, facts)
    cgroup = plan_cgroup(linux.resources, linux.cgroups_path or "", facts.cgroup)
    # On v1 and hybrid a cgroup namespace shows the right root only when unshared after all joins.
    late_cgroupns = "cgroup" in namespaces.made and facts.cgroup.layout != "v2"
    rootfs = plan_root(root, linux, namespaces, facts)
    inside = _plan_inside(
        spec, process, linux, namespaces, facts, cgroups=cgroup.directories, late=late_cgroupns, bundle=bundle
    )
    mapped = "user" in namespaces.made
    owner = host_uid(process.user.uid, linux) if namespaces.has("user") else process.user.uid

    before: list[Op] = [*plan_sign_of_life(supervision, facts), *network.before]
    before += [*plan_stdio(process, supervision, owner=owner), *cgroup.before]
    before += plan_joins_before(namespaces, linux)
    before += [*rootfs.before, *inside.before]
    flags = clone_flags(namespaces, cgroup_at_birth=not late_cgroupns)
    child: list[Op] = [Close(slot="lock"), *_plan_entry(namespaces), *cgroup.join, NewSession()]
    child += plan_joins_child(namespaces)
    beside: list[Op] = []
    if namespaces.clones_inside:
        before.append(Clone(namespaces=0, pidfd="first", proc="first-proc", cgroup=cgroup.slot))
        child.append(Reclone(namespaces=flags))
        beside.append(Adopt(pidfd="pidfd", proc="child"))
    else:
        before.append(Clone(namespaces=flags, pidfd="pidfd", proc="child", cgroup=cgroup.slot))

    if mapped:
        child += [Await(name="mapped"), SetIds(uid=0, gid=0, groups=None), *rootfs.received]
    child += inside.child
    child += _plan_ending(process, linux, supervision, facts)

    beside += plan_return(namespaces)
    if mapped:
        beside += [*plan_maps(linux), Tell(name="mapped"), *rootfs.mapped]
    beside += [*plan_hold(namespaces), *network.beside, *plan_oom_score(process, facts)]
    if process.terminal:
        beside.append(Receive(slot="master"))
    beside += [
        PutFile(at="run", path="state", data=(b"pid ", Hole.PID, b"\nstarted ", Hole.NOW, b"\n")),
        Tell(name="placed"),
    ]
    after: list[Op] = [
        *cgroup.keep,
        *network.after,
        RecordExit(at="run", path="exit"),
        *cgroup.kill,
        *plan_release(namespaces),
        *cgroup.remove,
        *(Remove(path=path, tree=True, tolerate=(abi.ENOENT,)) for path in supervision.remove),
    ]
    beside += plan_handover(before, beside, plan_supervise(process, supervision), after)
    return Plan(before=tuple(before), child=tuple(child), beside=tuple(beside), after=tuple(after))


class _Inside(msgspec.Struct, frozen=True, kw_only=True):
    before: tuple[Op, ...]
    child: tuple[Op, ...]


def _require(spec: Spec) -> tuple[Process, Linux]:
    """Refuse by name what has no plan in this version."""
    if spec.process is None:
        raise InvalidArgument("the spec has no process: there is nothing to run")
    if not spec.process.cwd.startswith("/"):
        raise InvalidArgument(f"process.cwd {spec.process.cwd!r} must be an absolute path")
    if spec.linux is None:
        raise InvalidArgument("the spec has no section linux: Onggi runs Linux containers")
    hooks = spec.hooks
    asked = (
        ("hooks", hooks is not None and any(getattr(hooks, name) for name in hooks.__struct_fields__)),
        ("vm", spec.vm is not None),
        ("linux.intelRdt", spec.linux.intel_rdt is not None),
        ("linux.memoryPolicy", spec.linux.memory_policy is not None),
        ("linux.personality", spec.linux.personality is not None),
        ("linux.netDevices", bool(spec.linux.net_devices)),
        ("linux.mountLabel", bool(spec.linux.mount_label)),
    )
    for name, present in asked:
        if present:
            raise NotSupported(f"{name} is not supported by this version of Onggi; remove it from the spec")
    return spec.process, spec.linux


def plan_sign_of_life(supervision: Supervision, facts: Facts) -> tuple[Op, ...]:
    """The launcher is alive for others while it holds the lock.

    A cgroup and a session of its own keep away what is meant for its caller's: limits, kills, a terminal's signals.
    """
    flags = abi.OPEN_READ | abi.OPEN_WRITE | abi.OPEN_CREATE
    supervisors = supervision.supervisors
    ops: list[Op] = [
        *(plan_refuge(supervisors, facts.cgroup).join if supervisors is not None else ()),
        NewSession(),
        OpenPath(slot="run", path=supervision.run_directory, flags=abi.OPEN_READ | abi.OPEN_DIRECTORY),
        OpenPath(slot="lock", at="run", path="lock", flags=flags, mode=0o600),
        Lock(slot="lock"),
        Listen(slot="listener", at="run", path="attach"),
    ]
    if supervision.log_directory is not None:
        directory = abi.OPEN_READ | abi.OPEN_DIRECTORY
        ops.append(OpenPath(slot="log", path=supervision.log_directory, flags=directory))
    if supervision.client is not None:
        ops.append(Inherit(slot="client", position=supervision.client))
    if supervision.hold is not None:
        ops.append(Inherit(slot="hold", position=supervision.hold))
    return tuple(ops)


def plan_stdio(process: Process, supervision: Supervision, *, owner: int) -> tuple[Op, ...]:
    """Plan the pipes of a process that runs as `owner` on the host, or nothing where a terminal comes later."""
    if process.terminal:
        return ()
    if supervision.stdin:
        stdin: Op = Pipe(reader="stdin", writer="stdin-feed", uid=owner)
    else:
        stdin = OpenPath(slot="stdin", path="/dev/null", flags=abi.OPEN_READ)
    return (
        stdin,
        Pipe(reader="stdout-take", writer="stdout", uid=owner),
        Pipe(reader="stderr-take", writer="stderr", uid=owner),
    )


def plan_oom_score(process: Process, facts: Facts) -> tuple[Op, ...]:
    """Plan the OOM killer's bias. Below our own it needs CAP_SYS_RESOURCE; without that, ours is as near as can be."""
    score = process.oom_score_adj
    if score is None:
        return ()
    if not -1000 <= score <= 1000:
        raise InvalidArgument(f"process.oomScoreAdj: {score} is not between -1000 and 1000")
    if not facts.capabilities >> abi.CAPABILITIES.index("CAP_SYS_RESOURCE") & 1:
        score = max(score, facts.oom_score_adj)
    return (WriteFile(at="child", path="oom_score_adj", data=str(score).encode()),)


def plan_handover(
    before: Sequence[Op], beside: Sequence[Op], supervise: Supervise, after: Sequence[Op]
) -> tuple[Op, ...]:
    """Plan the launcher's turn to a supervisor: it keeps what it still needs and its signs of life."""
    later = (supervise, *after)
    return (*plan_closes((*before, *beside), later, keep=("lock", "hold")), supervise)


def plan_supervise(process: Process, supervision: Supervision) -> Supervise:
    """Plan the long part of the launcher's life."""
    terminal = bool(process.terminal)
    return Supervise(
        child="pidfd",
        stdin="stdin-feed" if supervision.stdin and not terminal else None,
        stdout=None if terminal else "stdout-take",
        stderr=None if terminal else "stderr-take",
        terminal="master" if terminal else None,
        listener="listener",
        client=None if supervision.client is None else "client",
        log=None if supervision.log_directory is None else "log",
        log_name=supervision.log_name,
        log_size_bytes=supervision.log_size_bytes,
        log_files=supervision.log_files,
        lost=LOST_RECORDS,
        stdin_once=supervision.stdin_once,
    )


def _plan_entry(namespaces: Namespaces) -> tuple[Op, ...]:
    """Plan what comes before joins: a process of a joined namespace could ptrace one that is dumpable.

    Where all is new there is nobody, and the launcher needs no CAP_SYS_PTRACE to hold the namespaces.
    """
    return (SetUndumpable(),) if namespaces.joined else ()


def _plan_inside(
    spec: Spec,
    process: Process,
    linux: Linux,
    namespaces: Namespaces,
    facts: Facts,
    *,
    cgroups: Mapping[str, str],
    late: bool,
    bundle: str,
) -> _Inside:
    """Plan all that happens inside the new namespaces before the process is made."""
    before: list[Op] = []
    child: list[Op] = []
    network: tuple[Op, ...] = ()
    if "network" in namespaces.made:
        network = (Netlink(family=abi.NETLINK_ROUTE, messages=link_up(LOOPBACK_INDEX), count=1, text="bring lo up"),)
    if "mount" in namespaces.joined:
        _refuse_files(spec, linux)
        late_cgroup: tuple[Op, ...] = (Unshare(types=abi.CLONE_NEWCGROUP),) if late else ()
        pty: tuple[Op, ...] = ()
        if process.terminal:
            flags = abi.OPEN_PATH | abi.OPEN_DIRECTORY
            pty = (OpenPath(slot="devpts", path="/dev/pts", flags=flags), *plan_pty(process, "devpts"))
        names = _plan_names(spec, namespaces)
        return _Inside(before=(), child=(*network, *names, *pty, Await(name="placed"), *late_cgroup))
    child += [Propagate(propagation=abi.MS_SLAVE), *plan_show_root()]
    late_mounts: list[Op] = []
    shown = Shown()
    for mount in spec.mounts or ():
        if mount.type == "cgroup":
            options = parse_options(mount.options or (), where=mount.destination)
            private = "cgroup" in namespaces.made
            planned = plan_cgroup_mount(mount, options, shown, cgroups, facts.cgroup, private=private)
            before += planned.before
            (late_mounts if late else child).extend(planned.child)
            continue
        planned = plan_mount(mount, shown, owns_netns=namespaces.owns_netns, bundle=bundle)
        before += planned.before
        child += planned.child
    if not _bound_dev(spec.mounts or ()):
        bound = namespaces.has("user") or facts.cgroup.user_namespace
        devices = plan_devices(linux, shown, bound=bound)
        before += devices.before
        child += devices.child
    if process.terminal:
        child += plan_terminal(process, _fresh(spec, shown, "/dev/pts", "devpts"), shown)
    child += _plan_workdir(process, shown)
    proc = _fresh(spec, shown, "/proc", "proc")
    child += [*network, *_plan_names(spec, namespaces), *_plan_sysctls(linux, namespaces, proc)]
    if late:
        child += [Unshare(types=abi.CLONE_NEWCGROUP), *late_mounts]
    hiding = plan_hiding(linux, shown)
    before += hiding.before
    child += hiding.child
    child += plan_root_attributes(linux, readonly=bool(spec.root and spec.root.readonly))
    child += [PivotRoot(root=ROOT), Await(name="placed")]
    return _Inside(before=tuple(before), child=tuple(child))


def _plan_workdir(process: Process, shown: Shown) -> tuple[Op, ...]:
    """Make a working directory that is missing, as runc and Docker do; chdir says what is wrong where it cannot be."""
    root, path = shown.find(process.cwd)
    if not path.strip("/"):
        return ()
    return (MakeTarget(root=root, path=path, tolerate=(abi.EROFS, abi.ENOTDIR, abi.ELOOP, abi.ENOENT)),)


def _refuse_files(spec: Spec, linux: Linux) -> None:
    """Refuse what would change a mount namespace that is somebody else's."""
    for name, present in (
        ("mounts", bool(spec.mounts)),
        ("root.readonly", bool(spec.root and spec.root.readonly)),
        ("linux.devices", bool(linux.devices)),
        ("linux.maskedPaths", bool(linux.masked_paths)),
        ("linux.readonlyPaths", bool(linux.readonly_paths)),
        ("linux.rootfsPropagation", bool(linux.rootfs_propagation)),
        ("linux.sysctl", bool(linux.sysctl)),
    ):
        if present:
            raise InvalidArgument(f"a container that joins a mount namespace takes it as it is; remove {name}")


def _fresh(spec: Spec, shown: Shown, place: str, kind: str) -> str | None:
    """Give the slot of the mount at a place, if that is a fresh one of this kind."""
    last = next((m for m in reversed(spec.mounts or ()) if m.destination.rstrip("/") == place), None)
    return shown.at(place) if last and last.type == kind else None


def _bound_dev(mounts: tuple[Mount, ...]) -> bool:
    return any(m.destination.rstrip("/") == "/dev" and m.type != "tmpfs" for m in mounts)


def _plan_names(spec: Spec, namespaces: Namespaces) -> tuple[Op, ...]:
    ops: list[Op] = []
    for name, value, op in (
        ("hostname", spec.hostname, SetHostname),
        ("domainname", spec.domainname, SetDomainname),
    ):
        if not value:
            continue
        if not namespaces.has("uts"):
            raise InvalidArgument(f"{name} needs a uts namespace in linux.namespaces; without one it is the host's")
        if len(value.encode()) > 64:
            raise InvalidArgument(f"{name} {value!r} is longer than the kernel's 64 bytes")
        ops.append(op(name=value))
    return tuple(ops)


_SYSCTL_OWNERS: Final = (
    ("net.", "network"),
    ("fs.mqueue.", "ipc"),
    ("kernel.msg", "ipc"),
    ("kernel.shm", "ipc"),
    ("kernel.sem", "ipc"),
    ("kernel.domainname", "uts"),
    ("kernel.hostname", "uts"),
)


def _plan_sysctls(linux: Linux, namespaces: Namespaces, proc: str | None) -> tuple[Op, ...]:
    """Plan sysctls, each only where a namespace of the container owns it; written through our own procfs."""
    ops: list[Op] = []
    for key, value in sorted((linux.sysctl or {}).items()):
        dotted = key.replace("/", ".") if "." not in key.partition("/")[0] else key
        owner = next((kind for prefix, kind in _SYSCTL_OWNERS if dotted.startswith(prefix)), None)
        if owner is None or not namespaces.has(owner):
            raise InvalidArgument(f"sysctl {key!r} is not in a separate kernel namespace: it would change the host")
        if proc is None:
            raise InvalidArgument(f"sysctl {key!r} needs a proc mount at /proc in the spec's mounts")
        # a.b/c.d: as sysctl(8), the first separator decides which one it is
        path = key if "/" in key and "." not in key.partition("/")[0] else key.translate({46: "/", 47: "."})
        if ".." in path.split("/"):
            raise InvalidArgument(f"sysctl {key!r} is no name of a sysctl")
        ops.append(WriteFile(at=proc, path=f"sys/{path}", data=value.encode()))
    return tuple(ops)


def _plan_ending(process: Process, linux: Linux, supervision: Supervision, facts: Facts) -> tuple[Op, ...]:
    """Plan the last part of the child: limits, stdio, privileges, exec."""
    terminal = bool(process.terminal)
    stdio = (
        SetStdio(stdin="terminal", stdout="terminal", stderr="terminal", terminal=True)
        if terminal
        else SetStdio(stdin="stdin", stdout="stdout", stderr="stderr")
    )
    return (
        *plan_limits(process, facts),
        stdio,
        *plan_privileges(process, linux.seccomp, facts, set_groups=True),
        *plan_exec(process, init=supervision.init),
    )
