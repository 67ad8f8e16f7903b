"""From `linux.resources` to the files of a cgroup (runtime-spec config-linux.md#control-groups)."""

from onggi.plan.cgroup.cpu import plan_cpu
from onggi.plan.cgroup.host import Host, Wanted
from onggi.plan.cgroup.io import plan_io
from onggi.plan.cgroup.memory import plan_memory
from onggi.plan.cgroup.others import plan_hugepages, plan_network, plan_pids, plan_rdma, plan_unified
from onggi.spec.runtime import LinuxResources


def plan_limits(resources: LinuxResources, host: Host) -> Wanted:
    """Say what every limit comes to, devices excepted; `unified` comes last and so has the last word."""
    if resources.cpu is not None:
        yield from plan_cpu(resources.cpu, host)
    if resources.memory is not None:
        yield from plan_memory(resources.memory, host)
    if resources.pids is not None:
        yield from plan_pids(resources.pids, host)
    if resources.block_io is not None:
        yield from plan_io(resources.block_io, host)
    yield from plan_hugepages(resources.hugepage_limits or (), host)
    if resources.network is not None:
        yield from plan_network(resources.network, host)
    yield from plan_rdma(resources.rdma or {}, host)
    yield from plan_unified(resources.unified or {}, host)
