"""The system as a whole: taking stock, resetting, and what this host is."""

from typing import Final

import msgspec

from onggi.base.errors import Conflict
from onggi.engine.bridges import BRIDGE, remove_bridge
from onggi.engine.context import Context
from onggi.engine.folding import Folding
from onggi.host.cgroupfs import kill_members, remove_cgroup
from onggi.plan.cgroup import plan_refuge
from onggi.plan.facts import Facts
from onggi.store.check import Finding

ALIVE: Final = ("running", "paused")


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How many of each there are."""

    running: int
    paused: int
    stopped: int
    images: int


class System:
    """Questions about a whole state root."""

    def __init__(self, context: Context, folding: Folding) -> None:
        """Work on this root."""
        self._context, self._folding = context, folding

    @property
    def facts(self) -> Facts:
        """What this host is."""
        return self._context.facts

    def fold(self) -> None:
        """Bring all records up to date, and clear away what lost supervisors left."""
        self._folding.fold_all()

    def flush(self) -> int:
        """Make all that was published survive a power loss; for a quiet moment. Gives how many objects that were."""
        return self._context.unsynced.flush()

    def counts(self) -> Counts:
        """Count containers and images."""
        self._folding.fold_all()
        states = [container.state for container in self._context.containers.list()]
        return Counts(
            running=states.count("running"),
            paused=states.count("paused"),
            stopped=len(states) - states.count("running") - states.count("paused"),
            images=len(self._context.images.list()),
        )

    def check(self, *, repair: bool = False) -> list[Finding]:
        """List what is left over or does not fit together; with `repair` mend it."""
        from onggi.engine.network_check import check_network_state

        self._folding.fold_all()
        checker = self._context.checker
        found = checker.repair() if repair else checker.check()
        return found + check_network_state(self._context, repair=repair)

    def reset(self) -> None:
        """Remove all of this state root, on disk and on the host. Raises Conflict while any container runs."""
        self._folding.fold_all()
        context = self._context
        if alive := context.containers.list(ALIVE):
            raise Conflict(f"{len(alive)} containers are running; stop them first, or use --force")
        if context.networks.get(BRIDGE) is not None:
            remove_bridge(context)
        # Whoever serves this root keeps its files open, and is in its cgroup.
        onggid = plan_refuge(f"{context.cgroup_parent}/onggid", context.facts.cgroup).directories
        kill_members(onggid)
        context.root.db.close()
        for place in (context.run, context.root.path):
            for name in context.files.entries(place):
                context.files.remove_tree(f"{place}/{name}")
        refuge = plan_refuge(f"{context.cgroup_parent}/supervisors", context.facts.cgroup).directories
        kill_members(refuge)
        remove_cgroup(refuge)
        remove_cgroup(onggid)
        remove_cgroup(plan_refuge(context.cgroup_parent, context.facts.cgroup).directories)
