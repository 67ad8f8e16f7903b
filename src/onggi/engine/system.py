"""The system as a whole: taking stock, resetting, and what this host is."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from onggi.base.errors import Conflict
from onggi.engine.bridges import BRIDGE, remove_bridge
from onggi.engine.context import Context
from onggi.engine.folding import Folding
from onggi.host.cgroupfs import kill_members, remove_cgroup
from onggi.host.clock import pause_s
from onggi.plan.cgroup import plan_refuge
from onggi.plan.facts import Facts
from onggi.runtime.lifecycle import LIVE, State
from onggi.store.build_cache import BuildCache, CacheEntry
from onggi.store.check import Finding
from onggi.store.events import Event

if TYPE_CHECKING:
    from onggi.engine.disk_usage import DiskUsage
_POLL_S: Final = 0.1


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
            running=states.count(State.RUNNING),
            paused=states.count(State.PAUSED),
            stopped=len(states) - states.count(State.RUNNING) - states.count(State.PAUSED),
            images=len(self._context.images.list()),
        )

    def check(self, *, repair: bool = False) -> list[Finding]:
        """List what is left over or does not fit together; with `repair` mend it."""
        from onggi.engine.network_check import check_network_state

        self._folding.fold_all()
        checker = self._context.checker
        found = checker.repair() if repair else checker.check()
        return found + check_network_state(self._context, repair=repair)

    def disk_usage(self) -> "DiskUsage":
        """Measure what everything takes up on the disk; that takes its time."""
        from onggi.engine.disk_usage import measure  # rarely needed

        self._folding.fold_all()
        return measure(self._context)

    def build_cache(self) -> Sequence[CacheEntry]:
        """List the steps of builds that are remembered, the longest unused first."""
        return BuildCache(self._context.root).entries()

    def events(self, *, since_ns: int | None = None, until_ns: int | None = None) -> Iterator[Event]:
        """Give what happened from `since_ns` and what happens until `until_ns`; without them from now on, for ever."""
        context = self._context
        last = context.events.last_id()
        if since_ns is not None:
            self._folding.fold_all()
            past = context.events.read(since_ns=since_ns, until_ns=until_ns)
            last = max([last, *(event.id for event in past)])
            # What was folded late happened earlier than what was written before it.
            yield from sorted(past, key=lambda event: (event.time_ns, event.id))
        while True:
            now = context.root.clock_ns()
            self._folding.fold_all()
            for event in context.events.read(after_id=last, since_ns=since_ns or 0, until_ns=until_ns):
                last = event.id
                yield event
            if until_ns is not None and now >= until_ns:
                return
            pause_s(_POLL_S)

    def reset(self) -> None:
        """Remove all of this state root, on disk and on the host. Raises Conflict while any container runs."""
        self._folding.fold_all()
        context = self._context
        if alive := context.containers.list(LIVE):
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
