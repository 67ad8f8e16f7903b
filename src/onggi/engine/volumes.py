"""Volumes as users know them: made, listed, removed."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import msgspec

from onggi.base.errors import Conflict, NotFound
from onggi.engine.context import Context
from onggi.engine.folding import Folding
from onggi.engine.mounting import ANONYMOUS_LABEL
from onggi.store.volumes import Volume


class Pruned(msgspec.Struct, frozen=True, kw_only=True):
    """What was removed, and how much space that gave back."""

    names: tuple[str, ...]
    size_bytes: int


class Volumes:
    """The volumes of an engine."""

    def __init__(self, context: Context, folding: Folding) -> None:
        """Work on this root."""
        self._context, self._folding = context, folding

    def create(self, name: str = "", *, labels: Mapping[str, str] | None = None) -> Volume:
        """Make a volume; one that is here already is given as it is. Without a name it gets a random one.

        Raises InvalidArgument for what is no name.
        """
        if name:
            return self._context.volumes.create(name, labels=labels)
        random = str(self._context.root.new_id())
        return self._context.volumes.create(random, labels={ANONYMOUS_LABEL: "", **(labels or {})}, anonymous=True)

    def get(self, name: str) -> Volume:
        """Find one by its whole name. Raises NotFound with Docker's text."""
        return self._context.volumes.get(name)

    def list(self, *, dangling: bool | None = None) -> Sequence[Volume]:
        """List all by name; with `dangling` only those that no container uses, or that one does."""
        self._settle()
        volumes = self._context.volumes
        return [v for v in volumes.list() if dangling is None or dangling != bool(volumes.users(v.name))]

    def users(self, name: str) -> Sequence[str]:
        """List the ids of the containers that use a volume, running or not."""
        return self._context.volumes.users(name)

    def size_bytes(self, name: str) -> int:
        """Measure the files in a volume."""
        return self._context.files.tree_bytes(self.get(name).path)

    def remove(self, name: str, *, force: bool = False) -> None:
        """Remove a volume and its data; with `force` one that is not here is fine.

        Raises NotFound, and Conflict while a container uses it, with Docker's texts.
        """
        self._settle()
        try:
            self._context.volumes.remove(name)
        except NotFound:
            if not force:
                raise

    def prune(self, *, every: bool = False, chosen: Callable[[Volume], bool] | None = None) -> Pruned:
        """Remove the anonymous volumes that no container uses, or with `every` all such; `chosen` tells which."""
        names, size_bytes = [], 0
        for volume in self.list(dangling=True):
            if not (every or volume.anonymous) or (chosen and not chosen(volume)):
                continue
            try:
                freed = self.size_bytes(volume.name)
                self._context.volumes.remove(volume.name)
            except (Conflict, NotFound):
                continue  # another command was faster
            names.append(volume.name)
            size_bytes += freed
        self._context.journal.pruned("volume", size_bytes)
        return Pruned(names=tuple(names), size_bytes=size_bytes)

    def _settle(self) -> None:
        """Bring records up to date, even where another command is at it: what `run --rm` used is free."""
        context = self._context
        self._folding.fold_all()
        for container in context.containers.list():
            # One without a run directory has not begun to run: whoever makes it may be at it for long.
            if container.auto_remove and context.files.look(context.run_directory(container.id)) is not None:
                with suppress(NotFound, Conflict):
                    self._folding.fold(container.id, wait=True)
