"""The mount of type cgroup: what a container sees of its cgroups (config-linux.md#cgroup-mounts is silent; as runc)."""

from collections.abc import Mapping
from typing import Final

from onggi.base.errors import NotSupported
from onggi.plan import abi
from onggi.plan.facts import CgroupFacts, Hierarchy
from onggi.plan.mounts import MountOptions, PlannedMount, Shown
from onggi.plan.ops import Attach, MakeLink, MakeTarget, NewFs, Op, Open, Restrict, Tree
from onggi.spec.runtime import Mount

_NAMED: Final = "name="
_SAFE: Final = abi.MOUNT_ATTR_NOSUID | abi.MOUNT_ATTR_NODEV | abi.MOUNT_ATTR_NOEXEC


def plan_cgroup_mount(
    mount: Mount,
    options: MountOptions,
    shown: Shown,
    directories: Mapping[str, str],
    facts: CgroupFacts,
    *,
    private: bool,
) -> PlannedMount:
    """Plan it for this host, and note it in `shown`.

    On v2 it is a cgroup2 mount, whose root is that of the container's cgroup
    namespace. On v1 and hybrid it is a tmpfs with one directory per hierarchy: with a
    private namespace fresh mounts, which wait until the joins are done, with the host's
    bind mounts of the container's own cgroups, `directories`.
    """
    where = mount.destination
    root, target = shown.find(where)
    slot = shown.name(where)
    shown.add(where, slot, fresh=True)
    show: tuple[Op, ...] = (MakeTarget(root=root, path=target), Attach(slot=slot, root=root, target=target))
    attributes = options.set | _SAFE
    if facts.layout == "none":
        raise NotSupported(f"mount {where}: no cgroup hierarchy is mounted on this host; leave the cgroup mount out")
    if facts.layout == "v2":
        fresh = Open(slot=slot, origin=NewFs(type="cgroup2", source="cgroup"), set=attributes)
        return PlannedMount(child=(fresh, *show))

    base = NewFs(type="tmpfs", source="cgroup", options=(("mode", "0755"),))
    before: list[Op] = []
    child: list[Op] = [
        Open(slot=slot, origin=base, set=attributes & ~abi.MOUNT_ATTR_RDONLY),
        *show,
    ]
    links: list[Op] = []
    done: set[str] = set()
    for key, hierarchy in _hierarchies(facts):
        name = hierarchy.mount.rsplit("/", 1)[-1]
        if key not in directories:
            continue
        if name != key and not key.startswith(_NAMED):
            links.append(MakeLink(root=slot, path=key, text=name))
        if name in done:
            continue
        done.add(name)
        part = f"{slot}/{name}"
        if private:
            origin = NewFs(type="cgroup", source="cgroup", options=_options(key, hierarchy, facts))
            child.append(Open(slot=part, origin=origin, set=attributes))
        else:
            tree = Tree(path=directories[key])
            before.append(Open(slot=part, origin=tree, set=attributes, propagation=abi.MS_PRIVATE))
        child += [MakeTarget(root=slot, path=name), Attach(slot=part, root=slot, target=name)]
    child += links
    if attributes & abi.MOUNT_ATTR_RDONLY:
        child.append(Restrict(slot=slot, set=abi.MOUNT_ATTR_RDONLY))
    return PlannedMount(before=tuple(before), child=tuple(child))


def _hierarchies(facts: CgroupFacts) -> list[tuple[str, Hierarchy]]:
    """List the v1 hierarchies by controller or `name=systemd`, as the keys of a cgroup's directories are."""
    named = {f"{_NAMED}{name}": hierarchy for name, hierarchy in facts.named.items()}
    return [(key, h) for key, h in sorted({**facts.controllers, **named}.items()) if h.version == 1]


def _options(key: str, hierarchy: Hierarchy, facts: CgroupFacts) -> tuple[tuple[str, str | None], ...]:
    """Say which hierarchy a mount of type cgroup shall show: all its controllers must be named."""
    if key.startswith(_NAMED):
        return (("none", None), ("name", key.removeprefix(_NAMED)))
    return tuple((other, None) for other, h in sorted(facts.controllers.items()) if h.mount == hierarchy.mount)
