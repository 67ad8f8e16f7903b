"""The small controllers: pids, hugetlb, net_cls, net_prio, rdma; and `unified`, the files of v2 by name."""

from collections.abc import Mapping
from typing import Final

from onggi.base.errors import InvalidArgument, NotSupported
from onggi.plan.cgroup.host import Home, Host, Wanted
from onggi.spec.runtime import LinuxHugepageLimit, LinuxNetwork, LinuxPids, LinuxRdma

_CORE: Final = "cgroup"  # cgroup.max.depth and the like: files without a controller


def plan_pids(pids: LinuxPids, host: Host) -> Wanted:
    """Limit the number of tasks: absent is no limit, -1 is `max`.

    0 becomes 1, as for runc: a cgroup that may have no task could have no container.
    """
    if pids.limit is None:
        return
    home = host.home("pids", "a limit of processes (--pids-limit, linux.resources.pids)")
    yield home.write("pids.max", "max" if pids.limit < 0 else max(pids.limit, 1))


def plan_hugepages(limits: tuple[LinuxHugepageLimit, ...], host: Host) -> Wanted:
    """Limit huge pages, those in use and, where the kernel can, those reserved."""
    for limit in limits:
        home = host.home("hugetlb", "a limit of huge pages (linux.resources.hugepageLimits)")
        if limit.page_size not in host.facts.hugepage_sizes:
            raise InvalidArgument(
                f"huge page size {limit.page_size!r}: this host has "
                f"{', '.join(host.facts.hugepage_sizes) or 'none'}; write it like 2MB"
            )
        file = "limit_in_bytes" if home.version == 1 else "max"
        yield home.write(f"hugetlb.{limit.page_size}.{file}", limit.limit)
        if host.facts.hugepage_reservations:
            yield home.write(f"hugetlb.{limit.page_size}.rsvd.{file}", limit.limit)


def plan_network(network: LinuxNetwork, host: Host) -> Wanted:
    """Mark packets and set priorities; cgroup v1 only."""
    if network.class_id:
        home = _only_v1(host, "net_cls", "a network class (linux.resources.network.classID)")
        yield home.write("net_cls.classid", network.class_id)
    if network.priorities:
        home = _only_v1(host, "net_prio", "network priorities (linux.resources.network.priorities)")
        for entry in network.priorities:
            yield home.write("net_prio.ifpriomap", f"{entry.name} {entry.priority}")


def _only_v1(host: Host, controller: str, asked: str) -> Home:
    if host.facts.layout == "v2":
        raise NotSupported(
            f"{asked} needs the {controller} controller, which cgroup v2 does not have; "
            "match the cgroup in nftables instead (socket cgroupv2)"
        )
    return host.home(controller, asked)


def plan_rdma(devices: Mapping[str, LinuxRdma], host: Host) -> Wanted:
    """Limit the resources of RDMA devices."""
    for name, limit in devices.items():
        home = host.home("rdma", "an RDMA limit (linux.resources.rdma)")
        parts = [name]
        if limit.hca_handles is not None:
            parts.append(f"hca_handle={limit.hca_handles}")
        if limit.hca_objects is not None:
            parts.append(f"hca_object={limit.hca_objects}")
        yield home.write("rdma.max", " ".join(parts))


def plan_unified(files: Mapping[str, str], host: Host) -> Wanted:
    """Write files of cgroup v2 by name, a line at a time."""
    if files and host.facts.layout != "v2":
        raise InvalidArgument(
            "invalid configuration: cannot use unified on cgroup v1 (linux.resources.unified); "
            "use the fields for memory, cpu and so on, or boot with cgroup v2"
        )
    for file, text in files.items():
        if "/" in file:
            raise InvalidArgument(f"unified resource {file!r} must be a file name (no slashes)")
        controller, dot, parameter = file.partition(".")
        if not (controller and dot and parameter):
            raise InvalidArgument(f"unified resource {file!r} must be in the form CONTROLLER.PARAMETER")
        asked = f"unified resource {file!r} can't be set: controller {controller!r} not available: it"
        home = host.unified(asked) if controller == _CORE else host.home(controller, asked)
        for line in text.splitlines() or [""]:
            yield home.write(file, line)
