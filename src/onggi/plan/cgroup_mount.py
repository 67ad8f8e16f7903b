"""The mount of type cgroup: what a container sees of its cgroups (config-linux.md#cgroup-mounts is silent; as runc)."""

from collections.abc import Mapping
from typing import Final

from onggi.base.errors import NotSupported
from onggi.plan import abi
from onggi.plan.facts import CgroupFacts
from onggi.plan.mounts import ROOT, MountOptions, PlannedMount
from onggi.plan.ops import Attach, MakeLink, MakeTarget, NewFs, Op, Open, Restrict, Slot, Tree
from onggi.spec.runtime import Mount

_SAFE: Final = abi.MOUNT_ATTR_NOSUID | abi.MOUNT_ATTR_NODEV | abi.MOUNT_ATTR_NOEXEC


def plan_cgroup_mount(
    mount: Mount, options: MountOptions, slot: Slot, directories: Mapping[str, str], facts: CgroupFacts, *, private: bool
) -> PlannedMount:
    """Plan it for this host.

    On v2 it is a cgroup2 mount, whose root is that of the container's cgroup
    namespace. On v1 and hybrid it is a tmpfs with one directory per hierarchy: with a
    private namespace fresh mounts, which wait until the joins are done, with the host's
    bind mounts of the container's own cgroups, `directories`.
    """
    where = mount.destination
    attributes = options.set | _SAFE
    if facts.layout == "none":
        raise NotSupported(f"mount {where}: no cgroup hierarchy is mounted on this host; leave the cgroup mount out")
    if facts.layout == "v2":
        fresh = Open(slot=slot, origin=NewFs(type="cgroup2", source="cgroup"), set=attributes)
        return PlannedMount(child=(MakeTarget(root=ROOT, path=where), fresh, Attach(slot=slot, root=ROOT, target=where)))

    base = NewFs(type="tmpfs", source="cgroup", options=(("mode", "0755"),))
    before: list[Op] = []
    child: list[Op] = [
        Open(slot=slot, origin=base, set=attributes & ~abi.MOUNT_ATTR_RDONLY),
        MakeTarget(root=ROOT, path=where),
        Attach(slot=slot, root=ROOT, target=where),
    ]
    links: list[Op] = []
    shown: set[str] = set()
    hierarchies = {**facts.controllers, **facts.named}
    for controller, hierarchy in sorted(hierarchies.items()):
        name = hierarchy.mount.rsplit("/", 1)[-1]
        if hierarchy.version != 1 or controller not in directories:
            continue
        if name != controller and controller not in facts.named:
            links.append(MakeLink(root=ROOT, path=f"{where}/{controller}", text=name))
        if name in shown:
            continue
        shown.add(name)
        part = f"{slot}-{controller}"
        if private:
            kind = ("none", None), ("name", controller)
            together = [(other, None) for other, h in sorted(facts.controllers.items()) if h.mount == hierarchy.mount]
            origin: NewFs | Tree = NewFs(
                type="cgroup", source="cgroup", options=kind if controller in facts.named else tuple(together)
            )
            child.append(Open(slot=part, origin=origin, set=attributes))
        else:
            before.append(Open(slot=part, origin=Tree(path=directories[controller]), set=attributes))
        child += [MakeTarget(root=ROOT, path=f"{where}/{name}"), Attach(slot=part, root=ROOT, target=f"{where}/{name}")]
    child += links
    if attributes & abi.MOUNT_ATTR_RDONLY:
        child.append(Restrict(slot=slot, set=abi.MOUNT_ATTR_RDONLY))
    return PlannedMount(before=tuple(before), child=tuple(child))
