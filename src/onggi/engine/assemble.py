"""The only place that wires things together."""

import os
import time
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self, cast

from onggi.base.errors import NotSupported
from onggi.base.ids import new_container_id
from onggi.engine.context import DEFAULT_ROOT, Context
from onggi.engine.images import Images
from onggi.host.files import Files
from onggi.host.launcher import Launcher
from onggi.host.machine import read_boot_id
from onggi.host.paths import make_private_directory
from onggi.store import (
    containers,
    content,
    events,
    images,
    layers,
    leases,
    networks,
    snapshots,
    sources,
    unsynced,
    volumes,
)
from onggi.store.check import Checker
from onggi.store.gc import Collector
from onggi.store.root import StateRoot
from onggi.store.sweep import Sweeper

if TYPE_CHECKING:
    from io import FileIO

    from onggi.build.events import Tell
    from onggi.engine.bootstrap import Bootstrap
    from onggi.engine.builds import Builds
    from onggi.engine.containers import Containers
    from onggi.engine.folding import Folding
    from onggi.engine.pruning import Pruning
    from onggi.engine.system import System
    from onggi.engine.volumes import Volumes
    from onggi.host.http import Proxies
    from onggi.plan.facts import Facts
    from onggi.registry.access import Registries
    from onggi.spec.digest import DiffID
    from onggi.store.manifest_lists import ManifestLists

DEFAULT_RUN = "/run/onggi"


class Engine:
    """Onggi over one state root. Thread-safe; several engines and processes may share a root.

    `with Engine() as engine: engine.containers.run("hello")`. Nothing happens at import, and
    no child process is left to the caller.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        *,
        launcher: Launcher | None = None,
        files: Files | None = None,
    ) -> None:
        """Open the state root `root` (default /var/lib/onggi, with /run/onggi); it is made if missing.

        Raises NotSupported where this host lacks what Onggi needs, PermissionDenied for a root that is not ours.
        """
        if os.geteuid() != 0:
            raise NotSupported("Onggi needs root in this version: run it with sudo; rootless containers come later")
        place = DEFAULT_ROOT if root is None else os.path.abspath(os.fspath(root))
        run = DEFAULT_RUN if root is None else f"{place}/run"
        for directory in (place, run, f"{run}/containers"):
            make_private_directory(directory)
        self._context = _assemble(place, run, files or Files(), launcher or Launcher.installed())
        self.images = Images(self._context)

    # What is large is loaded when it is asked for: a build that finds everything in its cache plans no
    # container, and containers start without the Dockerfile language.

    @cached_property
    def containers(self) -> "Containers":
        """Containers."""
        from onggi.engine.containers import Containers

        return Containers(self._context, self._folding, self.images)

    @cached_property
    def volumes(self) -> "Volumes":
        """Volumes."""
        from onggi.engine.volumes import Volumes

        return Volumes(self._context, self._folding)

    @cached_property
    def system(self) -> "System":
        """The state root as a whole."""
        from onggi.engine.system import System

        return System(self._context, self._folding)

    @cached_property
    def _folding(self) -> "Folding":
        from onggi.engine.folding import Folding

        return Folding(self._context)

    @cached_property
    def builds(self) -> "Builds":
        """Builds."""
        from onggi.engine.builds import Builds

        return Builds(self._context, self.images)

    @cached_property
    def manifest_lists(self) -> "ManifestLists":
        """Manifest lists that are being made."""
        from onggi.store.manifest_lists import ManifestLists

        root = self._context.root
        return ManifestLists(root.place("manifests"), root.place("locks", "manifests"), self._context.files)

    @cached_property
    def pruning(self) -> "Pruning":
        """What clears out things that are not used."""
        from onggi.engine.pruning import Pruning

        return Pruning(self._context, self.containers)

    def bootstrap(self, *, tell: "Tell", proxies: "Proxies | None" = None, keyring: bytes | None = None) -> "Bootstrap":
        """Give what makes base images; progress goes to `tell`. `keyring`: keys of an archive of your own."""
        from onggi.engine.bootstrap import Bootstrap

        return Bootstrap(self._context, tell=tell, proxies=proxies, keyring=keyring)

    def warm_up(self) -> None:
        """Load all that short commands need, and look at the host."""
        _ = self.containers, self.volumes, self.system, self._context.facts, self._context.journal

    @property
    def root(self) -> str:
        """The state root's path."""
        return self._context.root.path

    @property
    def run(self) -> str:
        """The run directory's path."""
        return self._context.run

    @property
    def cgroup_parent(self) -> str:
        """The cgroup that everything of this root is in."""
        return self._context.cgroup_parent

    def close(self) -> None:
        """Close the database; containers go on."""
        self._context.root.db.close()

    def __enter__(self) -> Self:
        """Give the engine itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()


def _assemble(place: str, run: str, files: Files, launcher: Launcher) -> Context:
    boot_id = read_boot_id()
    root = StateRoot(
        place, files=files, clock_ns=time.time_ns, new_id=lambda: new_container_id(os.urandom), boot_id=boot_id
    )
    blobs = content.Content(root)
    directory = layers.DirectoryForm(files, _unpack, _hash)
    kept = layers.Layers(root, blobs, {directory.name: directory}, directory.name)
    held = leases.Leases(root)
    marks = unsynced.Unsynced(root, blobs, kept)
    sweeper = Sweeper(root)
    checker = Checker(root, blobs, kept, held, marks, sweeper, (root.db,))
    return Context(
        root=root,
        run=run,
        files=files,
        launcher=launcher,
        random=os.urandom,
        facts=_probe_facts,
        registries=_registries,
        content=blobs,
        images=images.Images(root, blobs),
        layers=kept,
        snapshots=snapshots.Snapshots(root, kept),
        containers=containers.Containers(root),
        volumes=volumes.Volumes(root),
        networks=networks.Networks(root),
        leases=held,
        checker=checker,
        unsynced=marks,
        collector=Collector(root, held),
        sweeper=sweeper,
        events=events.Events(root),
        sources=sources.Sources(root),
    )


def _probe_facts() -> "Facts":
    from onggi.host.probe import probe_facts

    return probe_facts()


def _registries() -> "Registries":
    from onggi.registry.access import Registries

    return Registries.of(os.environ, home=os.path.expanduser("~"), uid=os.geteuid())


def _hash(tree: int) -> "DiffID":
    from onggi.store.tar.pack import hash_layer

    return hash_layer(tree)[0]


def _unpack(tar: BinaryIO, directory: int) -> int:
    from onggi.store.tar.unpack import unpack_layer

    # `Files.open` gives unbuffered files, whose readinto BinaryIO does not tell of.
    return unpack_layer(cast("FileIO", tar), directory).size_bytes
