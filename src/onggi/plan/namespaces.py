"""Namespaces: which are made, which are joined, and when (runtime-spec config-linux.md#namespaces).

Network, IPC, UTS, PID and time namespaces are joined by the launcher, which clones
the child and goes back: there it still has the rights of the host, whoever owns the
namespace, and a PID namespace takes only children anyway. User, mount and cgroup
namespaces are joined by the child. Every descriptor is opened before any is joined.

New namespaces belong to the user namespace of whoever makes them, and only its root has
rights over them. Where a user namespace is joined, the child therefore clones once
more in there, with the flags that the launcher's clone would have had.
"""

from typing import Final

import msgspec

from onggi.base.errors import InvalidArgument, NotSupported
from onggi.plan import abi
from onggi.plan.facts import Facts
from onggi.plan.ops import Close, Op, OpenPath, SetIds, SetNamespace, Unshare, WriteFile
from onggi.spec.runtime import Linux, LinuxIDMapping

FLAGS: Final = {
    "mount": abi.CLONE_NEWNS,
    "pid": abi.CLONE_NEWPID,
    "network": abi.CLONE_NEWNET,
    "ipc": abi.CLONE_NEWIPC,
    "uts": abi.CLONE_NEWUTS,
    "user": abi.CLONE_NEWUSER,
    "cgroup": abi.CLONE_NEWCGROUP,
    "time": abi.CLONE_NEWTIME,
}
_FILES: Final = {"mount": "mnt", "network": "net"}
_BY_LAUNCHER: Final = ("network", "ipc", "uts", "pid", "time")
_BY_CHILD: Final = ("user", "cgroup", "mount")
_HELD: Final = ("mount", "network", "ipc", "uts")


def namespace_file(kind: str) -> str:
    """Give the name of a namespace beneath /proc/PID/ns."""
    return _FILES.get(kind, kind)


class Namespaces(msgspec.Struct, frozen=True, kw_only=True):
    """The namespaces of one container by type: `made` new, `joined` by path."""

    made: frozenset[str]
    joined: dict[str, str]

    def has(self, kind: str) -> bool:
        """Tell whether the container has a namespace of this kind that is not Onggi's own."""
        return kind in self.made or kind in self.joined

    @property
    def owns_netns(self) -> bool:
        """Whether the container's user namespace owns its network namespace (a fresh sysfs needs that).

        Where both are joined they are taken for one pod's, whose user namespace made the other.
        """
        return "network" in self.made or not self.has("user") or ("user" in self.joined and "network" in self.joined)

    @property
    def clones_inside(self) -> bool:
        """Whether the child must clone once more: it joins a user namespace that shall own what is made."""
        return "user" in self.joined and bool(self.made - {"time"})


def read_namespaces(linux: Linux, facts: Facts) -> Namespaces:
    """Sort the namespaces of a spec and refuse what cannot be."""
    made: set[str] = set()
    joined: dict[str, str] = {}
    for namespace in linux.namespaces or ():
        kind = namespace.type
        if kind not in FLAGS:
            raise InvalidArgument(f"linux.namespaces: unknown type {kind!r}; known are {', '.join(FLAGS)}")
        if kind in made or kind in joined:
            raise InvalidArgument(f"linux.namespaces: {kind} is listed twice")
        if kind not in facts.namespaces:
            raise NotSupported(
                f"linux.namespaces: this kernel has no {kind} namespaces (or does not let Onggi make one)"
            )
        if namespace.path:
            joined[kind] = namespace.path
        else:
            made.add(kind)
    if "mount" not in made and "mount" not in joined:
        raise NotSupported("linux.namespaces: a container without a mount namespace of its own is not supported")
    if linux.time_offsets and "time" not in made:
        raise InvalidArgument("linux.timeOffsets need a new time namespace in linux.namespaces")
    if (linux.uid_mappings or linux.gid_mappings) and "user" not in made and "user" not in joined:
        raise InvalidArgument("linux.uidMappings and gidMappings need a user namespace in linux.namespaces")
    if "user" in made:
        if not (linux.uid_mappings and linux.gid_mappings):
            raise InvalidArgument("a new user namespace needs linux.uidMappings and linux.gidMappings")
        mapped_root(linux)
    return Namespaces(made=frozenset(made), joined=joined)


def clone_flags(namespaces: Namespaces, *, cgroup_at_birth: bool) -> int:
    """Give the CLONE_NEW* bits of clone3. The time namespace is unshared before (its offsets come first)."""
    flags = 0
    for kind in namespaces.made - {"time"}:
        if kind != "cgroup" or cgroup_at_birth:
            flags |= FLAGS[kind]
    return flags


def plan_joins_before(namespaces: Namespaces, linux: Linux) -> tuple[Op, ...]:
    """Plan what the launcher does before it clones: open all, join its part, set clock offsets."""
    ops: list[Op] = [
        OpenPath(slot=f"ns-{kind}", path=path, flags=abi.OPEN_READ) for kind, path in sorted(namespaces.joined.items())
    ]
    here = [kind for kind in _BY_LAUNCHER if kind in namespaces.joined]
    ops += [
        OpenPath(slot=f"own-{kind}", path=f"/proc/self/ns/{namespace_file(kind)}", flags=abi.OPEN_READ) for kind in here
    ]
    ops += [SetNamespace(slot=f"ns-{kind}", types=FLAGS[kind]) for kind in here]
    if "time" in namespaces.made:
        ops.append(Unshare(types=abi.CLONE_NEWTIME))
        ops += [
            WriteFile(path="/proc/self/timens_offsets", data=f"{clock} {o.secs or 0} {o.nanosecs or 0}".encode())
            for clock, o in sorted((linux.time_offsets or {}).items())
        ]
    return tuple(ops)


def plan_joins_child(namespaces: Namespaces) -> tuple[Op, ...]:
    """Plan the child's joins: the user namespace first, whose root has the rights for the others."""
    ops: list[Op] = []
    for kind in _BY_CHILD:
        if kind in namespaces.joined:
            ops.append(SetNamespace(slot=f"ns-{kind}", types=FLAGS[kind]))
            ops += (SetIds(uid=0, gid=0, groups=None),) if kind == "user" else ()
    return tuple(ops)


def plan_return(namespaces: Namespaces) -> tuple[Op, ...]:
    """Plan the launcher's way back into its own namespaces."""
    kinds = [kind for kind in _BY_LAUNCHER if kind in namespaces.joined]
    return tuple(SetNamespace(slot=f"own-{kind}", types=FLAGS[kind]) for kind in kinds)


def plan_maps(linux: Linux) -> tuple[Op, ...]:
    """Plan the id maps, written by the launcher, which holds the rights over the outer ids (user_namespaces(7))."""
    return (
        WriteFile(at="child", path="uid_map", data=_map_text(linux.uid_mappings or ())),
        WriteFile(at="child", path="gid_map", data=_map_text(linux.gid_mappings or ())),
    )


def mapped_root(linux: Linux) -> tuple[int, int]:
    """Give the outer uid and gid of the container's root; without a mapping of 0, overflow ids cannot be used."""
    return _map_id(linux.uid_mappings or (), "uid"), _map_id(linux.gid_mappings or (), "gid")


def host_uid(uid: int, linux: Linux) -> int:
    """Give the outer uid of a user of the container; 0, whose own files stay so, where that is not known."""
    for mapping in linux.uid_mappings or ():
        if 0 <= uid - mapping.container_id < mapping.size:
            return mapping.host_id + uid - mapping.container_id
    return 0


def plan_hold(namespaces: Namespaces) -> tuple[Op, ...]:
    """Plan to hold the namespaces: then the exit status is known before the kernel has taken them apart."""
    flags = abi.OPEN_READ | abi.OPEN_MAGIC
    return tuple(
        OpenPath(slot=f"hold-{kind}", at="child", path=f"ns/{namespace_file(kind)}", flags=flags)
        for kind in _HELD
        if kind in namespaces.made
    )


def plan_release(namespaces: Namespaces) -> tuple[Op, ...]:
    """Plan to let the held namespaces go."""
    return tuple(Close(slot=f"hold-{kind}") for kind in _HELD if kind in namespaces.made)


def _map_text(mappings: tuple[LinuxIDMapping, ...]) -> bytes:
    return "".join(f"{m.container_id} {m.host_id} {m.size}\n" for m in mappings).encode()


def _map_id(mappings: tuple[LinuxIDMapping, ...], what: str) -> int:
    for mapping in mappings:
        if mapping.container_id == 0 and mapping.size > 0:
            return mapping.host_id
    raise InvalidArgument(
        f"linux.{what}Mappings: {what} 0 of the container is not mapped; it sets the container up and owns its files"
    )
