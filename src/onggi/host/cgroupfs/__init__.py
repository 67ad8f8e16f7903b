"""Cgroups as they are: observed (`CgroupFacts`), counted, frozen, given new limits, emptied, removed.

What makes a cgroup for a new container is a plan, executed by the launcher; here is
what happens to it afterwards, and what is left to sweep. `directories` is everywhere
what `CgroupPlan.directories` was when the cgroup was planned.
"""

from .freezer import freeze, is_frozen, thaw
from .members import check_vacant, kill_members, main_directory, processes, remove_cgroup
from .probe import probe_cgroups
from .statistics import (
    CpuStatistics,
    DeviceStatistics,
    HugepageStatistics,
    MemoryStatistics,
    PidsStatistics,
    Pressure,
    Statistics,
    read_statistics,
)
from .update import check_memory_usage, update_limits

__all__ = [
    "CpuStatistics",
    "DeviceStatistics",
    "HugepageStatistics",
    "MemoryStatistics",
    "PidsStatistics",
    "Pressure",
    "Statistics",
    "check_memory_usage",
    "check_vacant",
    "freeze",
    "is_frozen",
    "kill_members",
    "main_directory",
    "probe_cgroups",
    "processes",
    "read_statistics",
    "remove_cgroup",
    "thaw",
    "update_limits",
]
