"""Cgroups of version 1, hybrid and version 2 hosts as parts of a plan (runtime-spec config-linux.md#control-groups).

Everything follows from `CgroupFacts`: where the hierarchies are, which controllers
they have, what those can do. Limits become writes, in the order that a fresh cgroup
takes them; a limit that this host cannot set is refused with the reason.
"""

from onggi.plan.cgroup.cpu import weight_of_shares
from onggi.plan.cgroup.io import io_weight
from onggi.plan.cgroup.places import UNIFIED, parse_parent
from onggi.plan.cgroup.plan import (
    SLOT,
    CgroupPlan,
    count_oom_kills,
    plan_cgroup,
    plan_directories,
    plan_entry,
    plan_refuge,
    plan_update,
)
from onggi.plan.devices import DEFAULT_DEVICE_RULES

__all__ = [
    "DEFAULT_DEVICE_RULES",
    "SLOT",
    "UNIFIED",
    "CgroupPlan",
    "count_oom_kills",
    "io_weight",
    "parse_parent",
    "plan_cgroup",
    "plan_directories",
    "plan_entry",
    "plan_refuge",
    "plan_update",
    "weight_of_shares",
]
