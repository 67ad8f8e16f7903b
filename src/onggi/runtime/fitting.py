"""Limits that this host can set: what it cannot is discarded, with Docker's warnings, where no limit is lost by that.

What is worse than discarded is refused by the planner (plan/cgroup).
"""

import msgspec

from onggi.plan.facts import CgroupFacts
from onggi.spec.container import ResourceRequest


def fit_limits(limits: ResourceRequest, facts: CgroupFacts) -> tuple[ResourceRequest, tuple[str, ...]]:
    """Leave out what this host cannot do; gives what is left, and the warnings."""
    warnings: list[str] = []
    memory = facts.controllers.get("memory")
    if limits.memory_bytes and limits.memory_swap_bytes != -1 and not facts.swap:
        warnings.append(
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. "
            "Memory limited without swap."
        )
        limits = msgspec.structs.replace(limits, memory_swap_bytes=0)
    if memory is not None and memory.version == 2 and limits.memory_swappiness is not None:
        warnings.append(
            "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. "
            "Memory swappiness discarded."
        )
        limits = msgspec.structs.replace(limits, memory_swappiness=None)
    if limits.oom_kill_disable:
        if memory is not None and memory.version == 2:
            warnings.append("Your kernel does not support OomKillDisable. OomKillDisable discarded.")
            limits = msgspec.structs.replace(limits, oom_kill_disable=False)
        elif not limits.memory_bytes:
            warnings.append(
                "OOM killer is disabled for the container, but no memory limit is set, "
                "this can result in the system running out of resources."
            )
    return limits, tuple(warnings)
