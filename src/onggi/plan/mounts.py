"""Mount options and single mounts (runtime-spec config.md#mounts, fstab(5), mount(8))."""

from typing import Final

import msgspec

from onggi.base.errors import InvalidArgument, NotSupported
from onggi.plan import abi
from onggi.plan.ops import Attach, MakeTarget, NewFs, Op, Open, Slot, Tree
from onggi.spec.runtime import Mount

ROOT: Final[Slot] = "root"

# name -> (attributes to set, attributes to clear)
_ATTRIBUTES: Final[dict[str, tuple[int, int]]] = {
    "ro": (abi.MOUNT_ATTR_RDONLY, 0),
    "rw": (0, abi.MOUNT_ATTR_RDONLY),
    "nosuid": (abi.MOUNT_ATTR_NOSUID, 0),
    "suid": (0, abi.MOUNT_ATTR_NOSUID),
    "nodev": (abi.MOUNT_ATTR_NODEV, 0),
    "dev": (0, abi.MOUNT_ATTR_NODEV),
    "noexec": (abi.MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, abi.MOUNT_ATTR_NOEXEC),
    "nodiratime": (abi.MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, abi.MOUNT_ATTR_NODIRATIME),
    "noatime": (abi.MOUNT_ATTR_NOATIME, abi.MOUNT_ATTR__ATIME),
    "atime": (0, abi.MOUNT_ATTR__ATIME),
    "relatime": (abi.MOUNT_ATTR_RELATIME, abi.MOUNT_ATTR__ATIME),
    "norelatime": (0, abi.MOUNT_ATTR__ATIME),
    "strictatime": (abi.MOUNT_ATTR_STRICTATIME, abi.MOUNT_ATTR__ATIME),
    "nostrictatime": (0, abi.MOUNT_ATTR__ATIME),
    "nosymfollow": (abi.MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, abi.MOUNT_ATTR_NOSYMFOLLOW),
}
_PROPAGATION: Final = {
    "private": abi.MS_PRIVATE,
    "shared": abi.MS_SHARED,
    "slave": abi.MS_SLAVE,
    "unbindable": abi.MS_UNBINDABLE,
}
# Flags of the superblock: fsconfig takes them as they are.
_SUPERBLOCK: Final = frozenset(
    {"sync", "async", "dirsync", "mand", "nomand", "lazytime", "nolazytime", "silent", "loud"}
)
# File systems of the kernel, in which nobody has made a symbolic link before us that leads anywhere else.
_EMPTY: Final = frozenset({"proc", "sysfs", "tmpfs", "ramfs", "devpts", "mqueue", "cgroup", "cgroup2"})
_REFUSED: Final = frozenset({"tmpcopyup", "idmap", "ridmap", "remount", "iversion", "noiversion"})


class MountOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of one mount, by what they act on."""

    set: int = 0
    clear: int = 0
    recursive_set: int = 0
    recursive_clear: int = 0
    propagation: int = 0
    recursive_propagation: bool = False
    bind: bool = False
    recursive_bind: bool = False
    data: tuple[tuple[str, str | None], ...] = ()


def parse_options(options: tuple[str, ...], *, where: str) -> MountOptions:
    """Sort mount options; `where` names the mount in errors."""
    sets = clears = recursive_sets = recursive_clears = propagation = 0
    recursive_propagation = bind = recursive_bind = False
    data: list[tuple[str, str | None]] = []
    for option in options:
        base = option[1:] if option.startswith("r") else ""
        if option in ("", "defaults"):
            continue
        if option in _REFUSED:
            raise NotSupported(f"mount {where}: the option {option} is not supported by this version of Onggi")
        if option in _ATTRIBUTES:
            set_, clear = _ATTRIBUTES[option]
            sets, clears = sets & ~clear | set_, clears & ~set_ | clear
        elif base in _ATTRIBUTES:
            set_, clear = _ATTRIBUTES[base]
            recursive_sets, recursive_clears = recursive_sets & ~clear | set_, recursive_clears & ~set_ | clear
        elif option in _PROPAGATION or base in _PROPAGATION:
            propagation = _PROPAGATION[option if option in _PROPAGATION else base]
            recursive_propagation = option not in _PROPAGATION
        elif option in ("bind", "rbind"):
            bind, recursive_bind = True, option == "rbind"
        else:
            key, equals, value = option.partition("=")
            data.append((key, value if equals else None))
    return MountOptions(
        set=sets,
        clear=clears,
        recursive_set=recursive_sets,
        recursive_clear=recursive_clears,
        propagation=propagation,
        recursive_propagation=recursive_propagation,
        bind=bind,
        recursive_bind=recursive_bind,
        data=tuple(data),
    )


class Shown:
    """The mounts of a container as they are planned, so that what lies in a fresh one is reached by its descriptor.

    A name of an image may be a symbolic link, and a directory that two containers share
    can be exchanged while one of them is made (CVE-2019-19921, CVE-2023-27561): "kcore"
    beneath the procfs that was mounted is what it says, "/proc/kcore" may not be.
    """

    def __init__(self) -> None:
        """Begin with the root alone."""
        self._mounts: dict[tuple[str, ...], Slot | None] = {}
        self._names: set[Slot] = set()

    def name(self, destination: str) -> Slot:
        """Give the slot for a mount there: its destination, and a number where something is there already."""
        name, number = destination, 2
        while name in self._names:
            name, number = f"{destination}#{number}", number + 1
        self._names.add(name)
        return name

    def add(self, destination: str, slot: Slot, *, fresh: bool) -> None:
        """Take note of a mount, which covers what was mounted below. `fresh`: nobody else has put names in it."""
        steps = _steps(destination)
        if steps is None:
            return
        for covered in [place for place in self._mounts if place[: len(steps)] == steps]:
            del self._mounts[covered]
        self._mounts[steps] = slot if fresh else None

    def at(self, destination: str) -> Slot | None:
        """Give the slot of the fresh mount that is exactly there."""
        steps = _steps(destination)
        return None if steps is None else self._mounts.get(steps)

    def find(self, path: str) -> tuple[Slot, str]:
        """Say beneath which slot to look for a path, and under which name there."""
        steps = _steps(path)
        if steps is not None:
            for length in range(len(steps) - 1, 0, -1):
                if steps[:length] in self._mounts:
                    slot = self._mounts[steps[:length]]
                    return (ROOT, path) if slot is None else (slot, "/".join(steps[length:]))
        return ROOT, path


def _steps(path: str) -> tuple[str, ...] | None:
    """Split a path; None where `..` makes its meaning depend on what is there."""
    steps = tuple(step for step in path.split("/") if step not in ("", "."))
    return None if ".." in steps else steps


class PlannedMount(msgspec.Struct, frozen=True, kw_only=True):
    """One mount: what the parent opens before it clones, and what the child does."""

    before: tuple[Op, ...] = ()
    child: tuple[Op, ...] = ()


def plan_mount(mount: Mount, shown: Shown, *, owns_netns: bool, bundle: str) -> PlannedMount:
    """Say how one mount of the bundle comes to be in the container, and note it in `shown`.

    `owns_netns`: the container's user namespace owns its network namespace.
    """
    where = mount.destination
    if not where.startswith("/"):
        raise InvalidArgument(f"mount {where!r}: the destination must be an absolute path")
    options = parse_options(mount.options or (), where=where)
    if mount.uid_mappings or mount.gid_mappings:
        raise NotSupported(f"mount {where}: idmapped mounts are not supported by this version of Onggi")
    bind = options.bind or mount.type == "bind"
    root, target = shown.find(where)
    slot = shown.name(where)
    shown.add(where, slot, fresh=not bind and mount.type in _EMPTY)
    if bind:
        return _plan_bind(mount, options, slot, bundle, root, target)
    if mount.type == "sysfs" and not owns_netns:
        # The kernel gives a fresh sysfs only to the owner of the network
        # namespace; anyone else gets the host's, whole and read-only.
        read_only = abi.MOUNT_ATTR_RDONLY
        opened = Open(
            slot=slot,
            origin=Tree(path="/sys", recursive=True),
            set=options.set,
            clear=options.clear & ~read_only,
            recursive_set=options.recursive_set | read_only,
            recursive_clear=options.recursive_clear & ~read_only,
            propagation=abi.MS_PRIVATE,
            recursive_propagation=True,
        )
        return PlannedMount(before=(opened,), child=_show(slot, root, target))
    if not mount.type:
        raise InvalidArgument(f"mount {where}: neither a type nor the option bind is given")
    if mount.type == "tmpfs" and not any(key == "source" for key, _ in options.data):
        source: str | None = mount.source or "tmpfs"
    else:
        source = mount.source
    for key, value in (*options.data, ("source", source)):
        if len(key.encode()) > 255 or len((value or "").encode()) > 255:
            raise InvalidArgument(f"mount {where}: the option {key[:40]} is longer than the kernel's 255 bytes")
    origin = NewFs(type=mount.type, source=source, options=options.data)
    return PlannedMount(child=(_open(slot, origin, options), *_show(slot, root, target)))


def _plan_bind(mount: Mount, options: MountOptions, slot: Slot, bundle: str, root: Slot, target: str) -> PlannedMount:
    """Bind sources are opened in the caller's mount namespace: only there does shared propagation stay true."""
    where = mount.destination
    if not mount.source:
        raise InvalidArgument(f"mount {where}: a bind mount needs a source")
    if unknown := [key for key, _ in options.data if key not in _SUPERBLOCK]:
        raise InvalidArgument(f"mount {where}: {unknown[0]} is no option of a bind mount")
    source = mount.source if mount.source.startswith("/") else f"{bundle}/{mount.source}"
    # As mount --bind: private unless asked otherwise, and only rbind takes what is mounted below.
    opened = _open(slot, Tree(path=source, recursive=options.recursive_bind), options)
    if options.propagation == 0:
        opened = msgspec.structs.replace(opened, propagation=abi.MS_PRIVATE, recursive_propagation=True)
    show = MakeTarget(root=root, path=target, like=slot), Attach(slot=slot, root=root, target=target)
    return PlannedMount(before=(opened,), child=show)


def _open(slot: Slot, origin: NewFs | Tree, options: MountOptions) -> Open:
    return Open(
        slot=slot,
        origin=origin,
        set=options.set,
        clear=options.clear,
        recursive_set=options.recursive_set,
        recursive_clear=options.recursive_clear,
        propagation=options.propagation,
        recursive_propagation=options.recursive_propagation,
    )


def _show(slot: Slot, root: Slot, target: str) -> tuple[Op, ...]:
    return MakeTarget(root=root, path=target), Attach(slot=slot, root=root, target=target)
