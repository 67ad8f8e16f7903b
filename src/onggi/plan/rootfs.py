"""The root file system of a container: where it comes from, what /dev gets, what is hidden.

Everything is attached beneath the slot `root`, resolved inside it, before pivot_root.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from onggi.base.errors import InvalidArgument, NotSupported
from onggi.plan import abi
from onggi.plan.facts import Facts
from onggi.plan.mounts import ROOT, Shown
from onggi.plan.namespaces import Namespaces, mapped_root
from onggi.plan.ops import (
    Attach,
    AttachRoot,
    Inherit,
    MakeDirectory,
    MakeLink,
    MakeNode,
    MakeReadOnly,
    MakeTarget,
    Mask,
    NewFs,
    Op,
    Open,
    OpenPath,
    OpenTerminal,
    OptionValue,
    Receive,
    Remove,
    Restrict,
    Send,
    Slot,
    SlotHole,
    Tree,
)
from onggi.spec.runtime import Linux, LinuxDevice, Process

DEFAULT_DEVICES: Final = (
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
)
_LINKS: Final = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
)
MAX_JOINED_LAYERS: Final = 14
_PATH_OF: Final = b"/proc/self/fd/"
_NODE_TYPES: Final = {"b": abi.S_IFBLK, "c": abi.S_IFCHR, "u": abi.S_IFCHR, "p": abi.S_IFIFO}


class Overlay(msgspec.Struct, frozen=True, kw_only=True):
    """A rootfs made of layers, top first.

    A layer is a directory's path, or the position of an inherited descriptor (a
    mounted layer). `upper` and `work` are directories; the work directory is made
    fresh, since a volatile overlay refuses a used one. Without `upper` it is read-only.
    """

    lowers: tuple[str | int, ...]
    upper: str | None = None
    work: str | None = None
    volatile: bool = False


class Directory(msgspec.Struct, frozen=True, kw_only=True):
    """A rootfs that is a directory already, as in an OCI bundle."""

    path: str


class PlannedRoot(msgspec.Struct, frozen=True, kw_only=True):
    """How the slot `root` comes to be: in the launcher, or after the id maps for a user namespace."""

    before: tuple[Op, ...] = ()
    mapped: tuple[Op, ...] = ()
    received: tuple[Op, ...] = ()


def plan_root(source: Overlay | Directory, linux: Linux, namespaces: Namespaces, facts: Facts) -> PlannedRoot:
    """Plan to obtain the root mount, detached. A mount namespace that is joined has its own."""
    if "mount" in namespaces.joined:
        return PlannedRoot()
    match source:
        case Directory(path=path):
            tree = Open(
                slot=ROOT,
                origin=Tree(path=path, recursive=True),
                propagation=abi.MS_PRIVATE,
                recursive_propagation=True,
            )
            return PlannedRoot(before=(tree,))
        case Overlay():
            return _plan_overlay(source, linux, namespaces, facts)


def _plan_overlay(source: Overlay, linux: Linux, namespaces: Namespaces, facts: Facts) -> PlannedRoot:
    """Make the overlay in the initial user namespace, from idmapped clones where the container has its own.

    One idmapped clone serves as both upper and work directory's mount: two
    separate ones are EINVAL, and without the mapped root's fsuid at its creation the
    overlay comes up silently read-only (EOVERFLOW in the work directory).
    """
    mapped = namespaces.has("user")
    idmap = None if not mapped else "ns-user" if "user" in namespaces.joined else "userns"
    if mapped and not facts.overlay_descriptors:
        raise NotSupported(
            "a container of layers cannot have a user namespace on this kernel: its layers are mounts that overlayfs "
            "takes by descriptor only, which it does since Linux 6.13"
        )
    opens: list[Op] = []
    lowers: list[Slot] = []
    for number, lower in enumerate(source.lowers):
        slot = f"lower{number}"
        if isinstance(lower, int):
            opens.append(Inherit(slot=slot, position=lower))
            if mapped:
                opens.append(Open(slot=f"{slot}-mapped", origin=Tree(path="", at=slot), idmap=idmap))
                slot = f"{slot}-mapped"
        elif mapped:
            opens.append(Open(slot=slot, origin=Tree(path=lower), idmap=idmap))
        else:
            opens.append(OpenPath(slot=slot, path=lower, flags=abi.OPEN_PATH | abi.OPEN_DIRECTORY))
        lowers.append(slot)
    options = _layer_options(lowers, facts)
    if source.upper is not None:
        if source.work is None:
            raise InvalidArgument("an overlay with an upper directory needs a work directory")
        opens.append(Remove(path=source.work, tree=True, tolerate=(abi.ENOENT,)))
        opens.append(MakeDirectory(path=source.work, mode=0o700))
        parent, name = source.upper.rsplit("/", 1)
        work_parent, work_name = source.work.rsplit("/", 1)
        if mapped:
            if parent != work_parent:
                raise InvalidArgument(f"upper and work directory must lie side by side: {source.upper}, {source.work}")
            opens.append(Open(slot="upper-parent", origin=Tree(path=parent), idmap=idmap))
            flags = abi.OPEN_PATH | abi.OPEN_DIRECTORY
            opens.append(OpenPath(slot="upper", at="upper-parent", path=name, flags=flags))
            opens.append(OpenPath(slot="work", at="upper-parent", path=work_name, flags=flags))
        else:
            for slot, directory in (("upper", source.upper), ("work", source.work)):
                opens.append(OpenPath(slot=slot, path=directory, flags=abi.OPEN_PATH | abi.OPEN_DIRECTORY))
        options += [("upperdir", _directory("upper", facts)), ("workdir", _directory("work", facts))]
        # A hard link is one file across copy-up, and `du -x` sees one device.
        options.append(("xino", "on"))
        if source.volatile:
            options.append(("volatile", None))
    # A layer's trusted.overlay.redirect may bring back what a layer above deleted: never follow one.
    options += [("redirect_dir", "nofollow"), ("metacopy", "off")]
    owner = mapped_root(linux) if mapped else (0, 0)
    overlay = Open(slot=ROOT, origin=NewFs(type="overlay", source="overlay", options=tuple(options), owner=owner))
    ops = (*opens, overlay)
    if "user" not in namespaces.made:
        return PlannedRoot(before=ops)
    userns = OpenPath(slot="userns", at="child", path="ns/user", flags=abi.OPEN_READ | abi.OPEN_MAGIC)
    return PlannedRoot(mapped=(userns, *ops, Send(slot=ROOT)), received=(Receive(slot=ROOT),))


def _layer_options(lowers: Sequence[Slot], facts: Facts) -> list[tuple[str, OptionValue]]:
    """Name the layers, top first. One string has room for a few only: the kernel takes 255 bytes by fsconfig."""
    if facts.overlay_descriptors or facts.overlay_appends:
        return [("lowerdir+", _directory(slot, facts)) for slot in lowers]
    if len(lowers) > MAX_JOINED_LAYERS:
        raise NotSupported(
            f"the image has {len(lowers)} layers, and this kernel takes {MAX_JOINED_LAYERS} at most from Onggi; "
            "use Linux 6.8 or newer, or make it one layer: onggi export and import"
        )
    joined = [part for slot in lowers for part in (b":", _PATH_OF, SlotHole(slot=slot))]
    return [("lowerdir", tuple(joined[1:]))]


def _directory(slot: Slot, facts: Facts) -> OptionValue:
    """Name a directory of an overlay: by its descriptor, where the kernel takes one, else by a path to that."""
    return SlotHole(slot=slot) if facts.overlay_descriptors else (_PATH_OF, SlotHole(slot=slot))


def plan_show_root() -> tuple[Op, ...]:
    """Plan to put the root where other mounts can be attached beneath it."""
    return (AttachRoot(slot=ROOT),)


class PlannedDevices(msgspec.Struct, frozen=True, kw_only=True):
    """Device nodes: made in the child, or bound from the host where a user namespace forbids mknod."""

    before: tuple[Op, ...] = ()
    child: tuple[Op, ...] = ()


def plan_devices(linux: Linux, shown: Shown, *, bound: bool) -> PlannedDevices:
    """Plan the default devices, those of the spec, and the links of /dev (config-linux.md#default-devices).

    Where /dev is not a new file system, nodes that are there already stay. `bound`: nodes
    cannot be made here (in a user namespace), so those of the host are shown.
    """
    devices = [
        LinuxDevice(path=path, type="c", major=major, minor=minor, file_mode=0o666)
        for path, major, minor in DEFAULT_DEVICES
        if not any(device.path == path for device in linux.devices or ())
    ]
    devices += linux.devices or ()
    tolerate = () if shown.at("/dev") else (abi.EEXIST,)
    before: list[Op] = []
    child: list[Op] = []
    parents: set[tuple[Slot, str]] = set()
    for number, device in enumerate(devices):
        if device.type not in _NODE_TYPES:
            raise InvalidArgument(f"linux.devices: {device.path}: unknown type {device.type!r} (b, c, u or p)")
        if not device.path.startswith("/"):
            raise InvalidArgument(f"linux.devices: {device.path}: the path must be absolute")
        major, minor = device.major or 0, device.minor or 0
        if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
            raise InvalidArgument(f"linux.devices: {device.path}: no device has the numbers {major}:{minor}")
        root, path = shown.find(device.path)
        if bound:
            slot = f"device{number}"
            # Its inode is the host's: read-only, so that no chmod reaches it. Devices are written to all the same.
            before.append(
                Open(slot=slot, origin=Tree(path=device.path), set=abi.MOUNT_ATTR_RDONLY, propagation=abi.MS_PRIVATE)
            )
            child.append(MakeTarget(root=root, path=path, directory=False))
            child.append(Attach(slot=slot, root=root, target=path))
            continue
        parent, _, name = path.rpartition("/")
        if not name:
            raise InvalidArgument(f"linux.devices: {device.path}: the path names no file")
        if parent and (root, parent) not in parents:
            parents.add((root, parent))
            child.append(MakeTarget(root=root, path=parent))
        child.append(
            MakeNode(
                root=root,
                path=path,
                mode=_NODE_TYPES[device.type] | (0o666 if device.file_mode is None else device.file_mode & 0o7777),
                device=abi.makedev(major, minor),
                uid=device.uid or 0,
                gid=device.gid or 0,
                tolerate=tolerate,
            )
        )
    for path, text in _LINKS:
        root, name = shown.find(path)
        child.append(MakeLink(root=root, path=name, text=text, tolerate=tolerate))
    return PlannedDevices(before=tuple(before), child=tuple(child))


def plan_pty(process: Process, devpts: Slot) -> tuple[Op, ...]:
    """Plan a pty pair in a devpts and handing its master to the supervisor."""
    size = process.console_size
    if size and not (size.height < 1 << 16 and size.width < 1 << 16):
        raise InvalidArgument(f"process.consoleSize: no terminal has {size.height} rows and {size.width} columns")
    return (
        OpenTerminal(
            master="master",
            peer="terminal",
            devpts=devpts,
            rows=size.height if size else 0,
            columns=size.width if size else 0,
            uid=process.user.uid,
        ),
        Send(slot="master"),
    )


def plan_terminal(process: Process, devpts: Slot | None, shown: Shown) -> tuple[Op, ...]:
    """Plan the container's own pty and its console."""
    if devpts is None:
        raise NotSupported("a terminal needs a devpts mount at /dev/pts in the spec's mounts")
    root, path = shown.find("/dev/console")
    return (
        *plan_pty(process, devpts),
        MakeTarget(root=root, path=path, directory=False),
        Open(slot="console", origin=Tree(path="", at="terminal")),
        Attach(slot="console", root=root, target=path),
    )


def plan_hiding(linux: Linux, shown: Shown) -> PlannedDevices:
    """Plan masked and read-only paths; one empty read-only tmpfs serves every masked directory."""
    masked, readonly = linux.masked_paths or (), linux.readonly_paths or ()
    before: list[Op] = []
    child: list[Op] = []
    if masked:
        # The host's own /dev/null: read-only, so that no chmod or chown reaches it.
        safe = abi.MOUNT_ATTR_RDONLY | abi.MOUNT_ATTR_NOSUID | abi.MOUNT_ATTR_NOEXEC
        before.append(Open(slot="null", origin=Tree(path="/dev/null"), set=safe, propagation=abi.MS_PRIVATE))
        options = (("size", "0"), ("mode", "0555"))
        empty = NewFs(type="tmpfs", source="tmpfs", options=options)
        child.append(Open(slot="empty", origin=empty, set=abi.MOUNT_ATTR_RDONLY))
    for path in masked:
        root, name = shown.find(path)
        child.append(Mask(root=root, path=name, null="null", empty="empty", tolerate=(abi.ENOENT,)))
    for path in readonly:
        root, name = shown.find(path)
        child.append(MakeReadOnly(root=root, path=name, tolerate=(abi.ENOENT,)))
    return PlannedDevices(before=tuple(before), child=tuple(child))


def plan_root_attributes(linux: Linux, *, readonly: bool) -> tuple[Op, ...]:
    """Plan what the root mount gets once everything is in it."""
    known = {"": 0, "private": abi.MS_PRIVATE, "slave": abi.MS_SLAVE, "shared": abi.MS_SHARED}
    name = linux.rootfs_propagation or ""
    recursive = name.startswith("r") and name[1:] in known
    base = name[1:] if recursive else name
    if base == "unbindable":
        propagation = abi.MS_UNBINDABLE
    elif base in known:
        propagation = known[base]
    else:
        raise InvalidArgument(f"linux.rootfsPropagation: unknown value {name!r}")
    ops: list[Op] = []
    if readonly:
        ops.append(Restrict(slot=ROOT, set=abi.MOUNT_ATTR_RDONLY))
    if propagation:
        ops.append(Restrict(slot=ROOT, propagation=propagation, recursive=recursive))
    return tuple(ops)
