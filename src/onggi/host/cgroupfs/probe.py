"""Looks at the cgroups of this host: /proc/self/mountinfo, /proc/self/cgroup, /proc/cgroups and the trees themselves.

All paths are taken beneath a root directory, so that recorded hosts can be looked at
as well; only what has to be tried (a scratch cgroup, a BPF program) is left out then.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Final

import msgspec

from onggi.plan.facts import CgroupFacts, Hierarchy, Unified

_LOOKED_INTO: Final = 8  # children of a hierarchy's top, to see which files cgroups have
_WHOLE_ID_SPACE: Final = ["0", "0", "4294967295"]


class _Mount(msgspec.Struct, frozen=True, kw_only=True):
    """A line of mountinfo (proc_pid_mountinfo(5))."""

    number: str
    parent: str
    root: str
    point: str
    type: str
    options: frozenset[str]
    writable: bool


def probe_cgroups(root: str = "/") -> CgroupFacts:
    """Find out what cgroups can do here; `path` of each hierarchy is where the calling process is now."""
    live = root == "/"
    mounts = list(_visible_mounts(_read(root, "/proc/self/mountinfo")))
    own = _own_paths(_read(root, "/proc/self/cgroup"))
    kernel = _kernel_controllers(_read(root, "/proc/cgroups"))
    v1 = _version1(mounts, own, kernel, root)
    controllers = {name: hierarchy for name, hierarchy in v1.items() if not name.startswith("name=")}
    unified, children = _unified(mounts, own.get("", "/"), root, live=live)
    for name in unified.controllers if unified else ():
        if name not in controllers and unified:
            controllers[name] = Hierarchy(version=2, mount=unified.mount, path=unified.path, writable=unified.writable)
    files = _Files(controllers, children, root, live=live)
    cpu_version, cpu = files.of("cpu")
    cpu_witness = "cpu.shares" if cpu_version == 1 else "cpu.weight"
    return CgroupFacts(
        layout=("hybrid" if v1 else "v2") if unified else "v1" if v1 else "none",
        user_namespace=_read(root, "/proc/self/uid_map").split() not in ([], _WHOLE_ID_SPACE),
        controllers=controllers,
        named={name.removeprefix("name="): hierarchy for name, hierarchy in v1.items() if name.startswith("name=")},
        unified=unified,
        kernel=kernel,
        online_cpus=_online(root, controllers, "cpus", "cpu"),
        online_mems=_online(root, controllers, "mems", "node"),
        hugepage_sizes=_hugepage_sizes(root),
        hugepage_reservations=_has_reservations(files),
        swap=_has_swap(files, root),
        weight_file=_weight_file(files),
        cpu_idle=_has(cpu, "cpu.idle", cpu_witness),
        cpu_burst=_has(cpu, "cpu.cfs_burst_us" if cpu_version == 1 else "cpu.max.burst", cpu_witness),
        cpu_realtime="cpu.rt_runtime_us" in cpu,
    )


# -- mounts and paths ----------------------------------------------------------------------------------


def _visible_mounts(mountinfo: str) -> Iterator[_Mount]:
    """Give the cgroup mounts that a path lookup reaches, and not those that another mount hides."""
    mounts = [_parse_mount(line) for line in mountinfo.splitlines()]
    numbers = {mount.number for mount in mounts}
    # The parent of our root is not listed, or the root itself (an initramfs).
    on = {(mount.parent if mount.parent in numbers - {mount.number} else "", mount.point): mount for mount in mounts}
    for mount in mounts:
        if mount.type in ("cgroup", "cgroup2") and _look_up(mount.point, on) is mount:
            yield mount


def _look_up(path: str, on: Mapping[tuple[str, str], _Mount]) -> _Mount | None:
    """Walk a path as the kernel does: at each step into whatever is mounted there, and on that, and so on."""
    found, place = None, ""
    for step in ("", *path.strip("/").split("/")):
        place = f"{place.rstrip('/')}/{step}"
        while above := on.get((found.number if found else "", place)):
            found = above
    return found


def _parse_mount(line: str) -> _Mount:
    left, _, right = line.partition(" - ")
    number, parent, _, root, point, flags = left.split(" ")[:6]
    type_, _, options = [*right.split(" "), "", ""][:3]
    both = frozenset(options.split(","))
    return _Mount(
        number=number,
        parent=parent,
        root=_unescape(root),
        point=_unescape(point),
        type=type_,
        options=both,
        writable="ro" not in both and "ro" not in flags.split(","),
    )


def _unescape(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


def _own_paths(text: str) -> dict[str, str]:
    """Read /proc/self/cgroup: v1 controller or "name=..." to path; "" is the v2 one."""
    own: dict[str, str] = {}
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        for name in names.split(","):
            own[name] = path
    return own


def _kernel_controllers(text: str) -> dict[str, bool]:
    rows = (line.split() for line in text.splitlines() if not line.startswith("#"))
    return {row[0]: row[3] != "0" for row in rows if len(row) >= 4}


def _version1(
    mounts: list[_Mount], own: Mapping[str, str], kernel: Mapping[str, bool], root: str
) -> dict[str, Hierarchy]:
    found: dict[str, Hierarchy] = {}
    for mount in mounts:
        if mount.type != "cgroup":
            continue
        names = {name for name in mount.options if name in own or name in kernel or name.startswith("name=")}
        for name in sorted(names - set(found)):
            path = _inside(own.get(name, "/"), mount.root)
            writable = mount.writable and _may_make(root, mount.point, path)
            found[name] = Hierarchy(version=1, mount=mount.point, path=path, writable=writable)
    return found


def _inside(own: str, mounted: str) -> str:
    """Say where a cgroup lies as seen from a mount that shows `mounted`; "" when it lies outside."""
    if own.startswith("/.."):
        return ""
    if mounted == "/":
        return own
    if own == mounted or own.startswith(mounted + "/"):
        return own[len(mounted) :] or "/"
    return ""


def _may_make(root: str, mount: str, path: str) -> bool:
    """Say whether cgroups can be made at the top, or beneath one's own when that is delegated."""
    return any(os.access(_at(root, place), os.W_OK) for place in (mount, mount + path if path else mount))


# -- the unified tree ------------------------------------------------------------------------------------


def _unified(mounts: list[_Mount], own: str, root: str, *, live: bool) -> tuple[Unified | None, frozenset[str]]:
    """Describe the cgroup2 mount, and give the names of the files that its cgroups have."""
    mount = next((mount for mount in mounts if mount.type == "cgroup2"), None)
    if mount is None:
        return None, frozenset()
    path = _inside(own, mount.root)
    top = _at(root, mount.point)
    writable = mount.writable and _may_make(root, mount.point, path)
    files = _files_of_cgroups(top, scratch=live and writable)
    # Of the real root the kernel shows no cgroup.type.
    occupied = os.path.exists(f"{top}/cgroup.type") and bool(_read(root, f"{mount.point}/cgroup.procs").strip())
    unified = Unified(
        mount=mount.point,
        path=path,
        writable=writable,
        controllers=tuple(_read(root, f"{mount.point}/cgroup.controllers").split()),
        delegated=tuple(_read(root, f"{mount.point}/cgroup.subtree_control").split()),
        occupied=occupied,
        kill=_has(files, "cgroup.kill", "cgroup.events"),
        freeze=_has(files, "cgroup.freeze", "cgroup.events"),
        device_filter=not live or _can_filter_devices(),
    )
    return unified, files


def _can_filter_devices() -> bool:
    from onggi.host.bpf import can_load_device_filter  # ctypes; only who probes pays for it

    return can_load_device_filter()


def _files_of_cgroups(top: str, *, scratch: bool) -> frozenset[str]:
    """List what files the cgroups beneath `top` have, which itself lacks many.

    `scratch`: where there is no cgroup to look into, one is made for a moment.
    """
    names: set[str] = set()
    children: list[str] = []
    with suppress(OSError), os.scandir(top) as entries:
        for entry in entries:
            (children.append if entry.is_dir(follow_symlinks=False) else names.add)(entry.name)
    for child in islice(sorted(children), _LOOKED_INTO):
        with suppress(OSError):
            names.update(os.listdir(f"{top}/{child}"))
    if not children and scratch:
        with suppress(OSError):
            probe = f"{top}/onggi-probe-{os.getpid()}"
            os.mkdir(probe)
            try:
                names.update(os.listdir(probe))
            finally:
                os.rmdir(probe)
    return frozenset(names)


# -- abilities ---------------------------------------------------------------------------------------------


class _Files:
    """The names of the files that cgroups of one controller have."""

    def __init__(self, controllers: Mapping[str, Hierarchy], unified: frozenset[str], root: str, *, live: bool) -> None:
        self._controllers = controllers
        self._unified = unified
        self._root = root
        self._live = live

    def of(self, *names: str) -> tuple[int, frozenset[str]]:
        """Give version and file names of the first controller that there is; version 0 is none."""
        for name in names:
            hierarchy = self._controllers.get(name)
            if hierarchy is not None and hierarchy.version == 2:
                return 2, self._unified
            if hierarchy is not None:
                scratch = self._live and hierarchy.writable
                return 1, _files_of_cgroups(_at(self._root, hierarchy.mount), scratch=scratch)
        return 0, frozenset()


def _has_swap(files: _Files, root: str) -> bool:
    version, names = files.of("memory")
    if version == 1:
        return "memory.memsw.limit_in_bytes" in names
    if "memory.max" in names:
        return "memory.swap.max" in names
    return os.path.exists(_at(root, "/proc/swaps"))  # CONFIG_SWAP, while no cgroup with memory.* is to be seen


def _has_reservations(files: _Files) -> bool:
    _, names = files.of("hugetlb")
    own = [name for name in names if name.startswith("hugetlb.")]
    return not own or any(".rsvd." in name for name in own)


def _weight_file(files: _Files) -> str:
    version, names = files.of("blkio", "io")
    for name in ("blkio.bfq.weight", "blkio.weight") if version == 1 else ("io.bfq.weight", "io.weight"):
        if name in names:
            return name
    # The top tells about io.cost before any cgroup has the controller.
    return "io.weight" if version == 2 and "io.max" not in names and "io.cost.qos" in names else ""


def _has(files: frozenset[str], name: str, witness: str) -> bool:
    """Say whether there is a file; true as well where its controller (the witness) is not to be seen at all."""
    return name in files or witness not in files


def _online(root: str, controllers: Mapping[str, Hierarchy], what: str, device: str) -> str:
    """Read which CPUs or memory nodes this part of the host may use."""
    paths = [f"/sys/devices/system/{device}/online"]
    if cpuset := controllers.get("cpuset"):
        name = f"cpuset.effective_{what}" if cpuset.version == 1 else f"cpuset.{what}.effective"
        paths.insert(0, f"{cpuset.mount}/{name}")
    return next((text for text in (_read(root, path).strip() for path in paths) if text), "0")


def _hugepage_sizes(root: str) -> tuple[str, ...]:
    """Name the sizes of huge pages as the files of hugetlb do, the smallest first."""
    sizes = []
    with suppress(OSError):
        for name in os.listdir(_at(root, "/sys/kernel/mm/hugepages")):
            text = name.removeprefix("hugepages-").removesuffix("kB")
            if text.isdecimal():
                sizes.append(int(text))
    return tuple(
        f"{size >> 20}GB" if size >= 1 << 20 else f"{size >> 10}MB" if size >= 1 << 10 else f"{size}KB"
        for size in sorted(sizes)
    )


def _at(root: str, path: str) -> str:
    return root.rstrip("/") + path


def _read(root: str, path: str) -> str:
    try:
        with open(_at(root, path), encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""
