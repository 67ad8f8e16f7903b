"""What every part of the engine works with: the store, the host, and where things are."""

import hashlib
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onggi.engine.journal import Journal
    from onggi.host.files import Files
    from onggi.host.launcher import Launcher
    from onggi.plan.facts import Facts
    from onggi.plan.network import Table
    from onggi.registry.access import Registries
    from onggi.store.check import Checker
    from onggi.store.containers import Containers
    from onggi.store.content import Content
    from onggi.store.events import Events
    from onggi.store.gc import Collector
    from onggi.store.images import Images
    from onggi.store.layers import Layers
    from onggi.store.leases import Leases
    from onggi.store.networks import Networks
    from onggi.store.root import StateRoot
    from onggi.store.snapshots import Snapshots
    from onggi.store.sources import Sources
    from onggi.store.sweep import Sweeper
    from onggi.store.unsynced import Unsynced
    from onggi.store.volumes import Volumes

DEFAULT_ROOT = "/var/lib/onggi"


class Context:
    """Wired once by `assemble`, then only read."""

    def __init__(
        self,
        *,
        root: "StateRoot",
        run: str,
        files: "Files",
        launcher: "Launcher",
        random: Callable[[int], bytes],
        facts: "Callable[[], Facts]",
        registries: "Callable[[], Registries]",
        content: "Content",
        images: "Images",
        layers: "Layers",
        snapshots: "Snapshots",
        containers: "Containers",
        volumes: "Volumes",
        networks: "Networks",
        leases: "Leases",
        checker: "Checker",
        unsynced: "Unsynced",
        collector: "Collector",
        sweeper: "Sweeper",
        events: "Events",
        sources: "Sources",
    ) -> None:
        """Keep the parts; `run` is the run directory, whose contents do not outlive a boot."""
        self.root = root
        self.run = run
        self.files = files
        self.launcher = launcher
        self.random = random
        self.content = content
        self.images = images
        self.layers = layers
        self.snapshots = snapshots
        self.containers = containers
        self.volumes = volumes
        self.networks = networks
        self.leases = leases
        self.checker = checker
        self.unsynced = unsynced
        self.collector = collector
        self.sweeper = sweeper
        self.events = events
        self.sources = sources
        self.registries = registries
        self._facts = facts
        self._known: Facts | None = None
        self.filtered: tuple[Table, int] | None = None
        """The table that was found whole in this process, and the generation of nf_tables then."""

    @cached_property
    def journal(self) -> "Journal":
        """What writes events."""
        from onggi.engine.journal import Journal

        return Journal(self.root, self.events, self.images)

    @property
    def facts(self) -> "Facts":
        """The host as this process sees it; probed when first asked for."""
        if self._known is None:
            self._known = self._facts()
        return self._known

    @property
    def suffix(self) -> str:
        """What names of this root on the host end in: nothing for the default root, so that two roots never meet."""
        return "" if self.root.path == DEFAULT_ROOT else "-" + hashlib.sha256(self.root.path.encode()).hexdigest()[:8]

    @property
    def cgroup_parent(self) -> str:
        """The cgroup that all of this root are in."""
        return f"/onggi{self.suffix}"

    def cgroup_of(self, container: str, parent: str) -> str:
        """Where the cgroup of a container is: in the parent that it was given, else among those of this root."""
        return f"{(parent or self.cgroup_parent).rstrip('/')}/{container}"

    def run_directory(self, container: str) -> str:
        """Where the supervisor of a container keeps its lock, records and socket."""
        return f"{self.run}/containers/{container}"
