"""The cgroup's part of a container's plan: made, limited, entered, read once more, emptied, removed."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from onggi.base.errors import NotSupported
from onggi.plan import abi
from onggi.plan.cgroup.host import Host, Note
from onggi.plan.cgroup.limits import plan_limits
from onggi.plan.cgroup.places import UNIFIED, Place, directories_of, find_places, known_places
from onggi.plan.devices import (
    DEFAULT_DEVICE_RULES,
    allows_everything,
    compile_device_filter,
    parse_device_rules,
    plan_device_lines,
)
from onggi.plan.facts import CgroupFacts
from onggi.plan.ops import (
    Close,
    EnterCgroup,
    FilterDevices,
    Keep,
    KillMembers,
    MakeDirectory,
    Op,
    OpenPath,
    Remove,
    Slot,
    WriteFile,
)
from onggi.spec.runtime import LinuxDeviceCgroup, LinuxResources

SLOT: Final[Slot] = "cgroup"
_COUNTED: Final = ("cpu", "io", "memory", "pids")  # what statistics need, limits or not
# What keeps a controller that nobody asked for from being handed down: it went away, real-time tasks (cpu), processes
# in the way, a threaded subtree.
_NOT_HANDED_DOWN: Final = (abi.ENOENT, abi.EINVAL, abi.EBUSY, abi.EOPNOTSUPP)
# The exit record has room for a few small files.
_KEPT_V1: Final = {
    "memory.oom_control": "memory",
    "memory.max_usage_in_bytes": "memory",
    "cpuacct.usage": "cpuacct",
}
_KEPT_V2: Final = ("memory.events", "memory.peak", "cpu.stat")


class CgroupPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What the plan of one process does about its cgroup.

    before   make the directories, set the limits, open the slot
    join     what the process itself does to be in it; into a container's v2 directory it is born (`slot`)
    kill     end whoever is still in it
    keep     read once more what the exit record shall have
    remove   take the directories away

    `directories` (v1 controller or "unified" to directory) is what statistics, freezing
    and the sweep need, so it belongs into the container's record. `limits` are the
    writes among `before` that an update makes again.
    """

    before: tuple[Op, ...] = ()
    join: tuple[Op, ...] = ()
    kill: tuple[Op, ...] = ()
    keep: tuple[Op, ...] = ()
    remove: tuple[Op, ...] = ()
    slot: Slot | None = None
    directories: dict[str, str] = {}
    limits: tuple[WriteFile, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def after(self) -> tuple[Op, ...]:
        """Everything for the time when the child is gone. The exit record goes between `keep` and `remove`."""
        return self.kill + self.keep + self.remove


def plan_cgroup(
    resources: LinuxResources | None,
    path: str,
    facts: CgroupFacts,
    *,
    default_devices: tuple[LinuxDeviceCgroup, ...] = DEFAULT_DEVICE_RULES,
) -> CgroupPlan:
    """Plan the cgroup of a container at `path`, which is there already or not.

    `default_devices` come after the rules of the bundle, as runc does it; without any
    rules at all devices are not restricted. Limits that this host cannot set are
    refused; what it ignores harmlessly is told in `notes`.
    """
    resources = resources or LinuxResources()
    places = find_places(path, facts)
    host = Host(facts, places)
    limits, notes = _sort(plan_limits(resources, host))
    devices, filters = _plan_devices((*(resources.devices or ()), *default_devices), places, facts, fresh=True)
    if not places:
        notes.append("the container is in no cgroup of its own: none can be made here, so nothing counts or limits it")
    entry = plan_entry(directories_of(places))
    make = [op for place in places for op in _make(place, facts, host.needed)]
    return CgroupPlan(
        before=(*make, *limits, *devices, *entry.before, *filters),
        join=entry.join,
        kill=tuple(_kill(places, facts)),
        keep=tuple(_keep(places)),
        remove=tuple(
            Remove(path=place.directory, directory=True, tree=True, tolerate=(abi.ENOENT,)) for place in places
        ),
        slot=entry.slot,
        directories=directories_of(places),
        limits=tuple(limits),
        notes=tuple(notes),
    )


def plan_directories(path: str, facts: CgroupFacts) -> dict[str, str]:
    """Give the directories that a cgroup at `path` has or would have, as `CgroupPlan.directories` does."""
    return directories_of(find_places(path, facts))


def plan_entry(directories: Mapping[str, str]) -> CgroupPlan:
    """Plan only the joining of a cgroup that is there, as `exec` needs it."""
    places = known_places(directories)
    return CgroupPlan(
        before=tuple(_open(place, SLOT) for place in places if place.version == 2),
        join=tuple(_join_v1(place) for place in places if place.version == 1),
        slot=SLOT if UNIFIED in directories else None,
        directories=dict(directories),
    )


def plan_refuge(path: str, facts: CgroupFacts) -> CgroupPlan:
    """Plan that the launcher itself moves to a cgroup that stays."""
    places = find_places(path, facts)
    join: list[Op] = [_join_v1(place) for place in places if place.version == 1]
    for place in places:
        if place.version == 2:
            join += [_open(place, "refuge"), EnterCgroup(cgroup="refuge"), Close(slot="refuge")]
    return CgroupPlan(
        before=tuple(op for place in places for op in _make(place, facts, set())),
        join=tuple(join),
        directories=directories_of(places),
    )


def _open(place: Place, slot: Slot) -> OpenPath:
    return OpenPath(slot=slot, path=place.directory, flags=abi.OPEN_PATH | abi.OPEN_DIRECTORY)


def _join_v1(place: Place) -> WriteFile:
    """Let a process of one thread move itself.

    Whoever moves another one, or a whole process (`cgroup.procs`), takes the lock of all
    forks and exits, which after idling waits for an RCU grace period: 6 to 20 ms.
    """
    return WriteFile(path=f"{place.directory}/tasks", data=b"0")


def plan_update(
    resources: LinuxResources, directories: Mapping[str, str], facts: CgroupFacts
) -> tuple[tuple[WriteFile | FilterDevices, ...], tuple[str, ...]]:
    """Plan new limits for a cgroup that is there: the writes, and notes.

    Their order is that of a fresh cgroup; old values may be in the way of new ones, so
    whoever executes them tries those that failed again (`host.cgroupfs.update_limits`).
    """
    places = known_places(directories)
    limits, notes = _sort(plan_limits(resources, Host(facts, places)))
    lines, filters = _plan_devices(resources.devices or (), places, facts, fresh=False)
    return (*limits, *lines, *filters), tuple(notes)


def count_oom_kills(kept: Mapping[str, bytes]) -> int:
    """Read from the files of `keep` how many processes the OOM killer ended."""
    for name in ("memory.events", "memory.oom_control"):
        for line in kept.get(name, b"").splitlines():
            key, _, value = line.partition(b" ")
            if key == b"oom_kill" and value.isdigit():
                return int(value)
    return 0


def _sort(wanted: Iterable[WriteFile | Note]) -> tuple[list[WriteFile], list[str]]:
    writes: list[WriteFile] = []
    notes: list[str] = []
    for item in wanted:
        if isinstance(item, Note):
            notes.append(item.text)
        else:
            writes.append(item)
    return writes, notes


def _make(place: Place, facts: CgroupFacts, needed: set[str]) -> Iterator[Op]:
    """Make the directories of one hierarchy, each able to take processes and limits."""
    for parent, directory in zip(place.parents, place.made, strict=True):
        # A v1 cpuset is born empty, and then takes no process. With this flag of the parent it is born with the
        # parent's CPUs and memory nodes. The top one is everybody's, and its flag not ours to change.
        cpuset, top = "cpuset" in place.keys, parent == place.mount
        if cpuset and not top:
            yield WriteFile(path=f"{parent}/cgroup.clone_children", data=b"1")
        if place.version == 2:
            yield from _hand_down(parent, place, needed, facts)
        yield MakeDirectory(path=directory, tolerate=(abi.EEXIST,))
        if cpuset and top:
            for name, online in (("cpus", facts.online_cpus), ("mems", facts.online_mems)):
                yield WriteFile(path=f"{directory}/cpuset.{name}", data=online.encode(), if_empty=True)


def _hand_down(parent: str, place: Place, needed: set[str], facts: CgroupFacts) -> Iterator[Op]:
    """Give the children of a v2 cgroup their controllers.

    What limits need must succeed, what only statistics would like to have may fail. On a
    hybrid host nothing is taken that is not needed: it would be lost to v1 mounts.
    """
    unified, file = facts.unified, f"{parent}/cgroup.subtree_control"
    if needed:
        yield WriteFile(path=file, data=" ".join(f"+{controller}" for controller in sorted(needed)).encode())
    if unified is None or facts.layout != "v2" or unified.occupied:
        return
    optional = [controller for controller in _COUNTED if controller in unified.controllers and controller not in needed]
    sure = [c for c in optional if c in unified.delegated and place.parents[0] == unified.mount]
    if sure and parent != unified.mount:
        text = " ".join(f"+{controller}" for controller in sure)
        yield WriteFile(path=file, data=text.encode(), tolerate=_NOT_HANDED_DOWN)
    for controller in optional:
        if controller not in sure:  # each by itself: one that fails takes the others of its write with it
            yield WriteFile(path=file, data=f"+{controller}".encode(), tolerate=_NOT_HANDED_DOWN)


def _plan_devices(
    said: tuple[LinuxDeviceCgroup, ...], places: tuple[Place, ...], facts: CgroupFacts, *, fresh: bool
) -> tuple[list[WriteFile], list[FilterDevices]]:
    """Say how devices are restricted: by lines for the v1 controller or by a program on the v2 directory."""
    if not said or facts.user_namespace:
        # In a user namespace the kernel opens no device node that was made there.
        return [], []
    rules = parse_device_rules(said)
    place = next((place for place in places if "devices" in place.keys), None)
    if place is not None:
        # A cgroup whose parent may not use everything cannot either, and need not be told so.
        return [
            WriteFile(
                path=f"{place.directory}/{file}",
                data=line.encode(),
                tolerate=(abi.EPERM,) if (file, line) == ("devices.allow", "a") else (),
            )
            for file, line in plan_device_lines(rules)
        ], []
    if fresh and allows_everything(rules):
        return [], []
    unified = facts.unified
    if unified is None or not unified.device_filter or not any(UNIFIED in place.keys for place in places):
        raise NotSupported(
            "devices cannot be kept from the container here: that needs the devices controller of cgroup v1, or cgroup "
            "v2 and the right to load BPF programs (CAP_BPF or CAP_SYS_ADMIN); run Onggi as root on the host, or with "
            "--privileged if the container may have every device"
        )
    return [], [FilterDevices(cgroup=SLOT, program=compile_device_filter(rules))]


def _kill(places: tuple[Place, ...], facts: CgroupFacts) -> Iterator[Op]:
    """End all members: by cgroup.kill where there is a v2 directory, whose members are all of them."""
    last = places[-1:]
    for place in last:
        if place.version == 2 and facts.unified is not None and facts.unified.kill:
            yield WriteFile(path=f"{place.directory}/cgroup.kill", data=b"1", tolerate=(abi.ENOENT,))
    if not any(place.version == 2 for place in places):
        for place in places:
            if "freezer" in place.keys:  # a frozen task does not die before it thaws
                yield WriteFile(path=f"{place.directory}/freezer.state", data=b"THAWED", tolerate=(abi.ENOENT,))
    for place in last:
        yield KillMembers(path=f"{place.directory}/cgroup.procs", tolerate=(abi.ENOENT,))


def _keep(places: tuple[Place, ...]) -> Iterator[Op]:
    unified = next((place for place in places if UNIFIED in place.keys), None)
    v1 = {key: place for place in places if place.version == 1 for key in place.keys}
    kept = [(v1[key], file) for file, key in _KEPT_V1.items() if key in v1]
    if unified is not None and "memory" not in v1:
        kept += [(unified, file) for file in _KEPT_V2]
    for place, file in kept:
        yield Keep(name=file, path=f"{place.directory}/{file}", tolerate=(abi.ENOENT,))
