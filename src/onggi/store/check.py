"""Taking stock: what `onggi system check` lists, and what `--repair` makes of it.

A finding is a difference between the database and the files, or something that was
left over. Repair never invents data: files without a row go, rows without files say
so (`lost`), what can be made again is made again. Volumes are the user's: one without
a row is recorded again.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Final

import msgspec

from onggi.base.errors import Conflict, NotFound
from onggi.base.ids import is_name
from onggi.host.db import Database
from onggi.spec.digest import ChainID, DiffID, Digest

from .content import Content
from .layers import Layers
from .leases import Leases
from .root import StateRoot
from .sweep import Sweeper
from .unsynced import Unsynced
from .volumes import Volumes

_LITTER: Final = {
    "trash": "was removed, but not to the end",
    "staged": "was left by a command that did not finish",
    "unrecorded": "is not in the database",
    "foreign": "is not from Onggi; move it away",
}
_AGAIN: Final = "is lost; load or build its image again"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not as it should be: `subject` and `problem` read as a sentence.

    `repairable`: `repair` removes the difference; of what it cannot, the text says what to do.
    """

    kind: str
    subject: str
    problem: str
    repairable: bool = True


class _Trouble(msgspec.Struct, frozen=True):
    """A finding and, if there is one, its repair."""

    finding: Finding
    repair: Callable[[], object] | None


class Checker:
    """The stock-taker of a state root."""

    def __init__(
        self,
        root: StateRoot,
        content: Content,
        layers: Layers,
        leases: Leases,
        unsynced: Unsynced,
        sweeper: Sweeper,
        databases: tuple[Database, ...],
    ) -> None:
        """Compare all these with the files below the root."""
        self._root = root
        self._content = content
        self._layers = layers
        self._leases = leases
        self._volumes = Volumes(root)
        self._unsynced = unsynced
        self._sweeper = sweeper
        self._databases = databases

    def check(self) -> list[Finding]:
        """List all differences; changes nothing. Commands that run meanwhile may show as one."""
        return [trouble.finding for trouble in self._troubles()]

    def repair(self) -> list[Finding]:
        """Repair what can be; gives what was found. `check` tells what is left."""
        self._root.make_room()
        found: list[Finding] = []
        # Twice: a repaired row may leave files that nothing knows.
        for _ in range(2):
            for trouble in list(self._troubles()):
                if trouble.repair is not None:
                    # Another command may have taken it up or removed it since it was looked at.
                    with suppress(NotFound, Conflict):
                        trouble.repair()
                        found.append(trouble.finding)
        return found

    def _troubles(self) -> Iterator[_Trouble]:
        for database in self._databases:
            for problem in database.problems():
                yield _trouble("database", database.path, f"is damaged: {problem}; move it away to begin anew", None)
        for lease in self._leases.list():
            if not lease.held:
                subject = f"the lease of {lease.purpose}"
                yield _trouble("lease", subject, "outlived its command", self._leases.drop_dead)
        yield from self._doubtful()
        yield from self._blobs()
        yield from self._lost_layers()
        yield from self._snapshots()
        yield from self._containers()
        yield from self._volume_data()
        for item in self._sweeper.litter(resumable_for_s=0):
            repair = None if item.kind == "foreign" else partial(self._sweeper.remove, item)
            yield _trouble(item.kind, self._root.place(item.place), _LITTER[item.kind], repair)

    def _doubtful(self) -> Iterator[_Trouble]:
        blobs, layers = self._unsynced.doubtful()
        for subject in [f"blob {digest}" for digest in blobs] + [f"layer {id[:12]}" for id in layers]:
            yield _trouble("unsynced", subject, "was not flushed before the machine went down", self._unsynced.recover)

    def _blobs(self) -> Iterator[_Trouble]:
        with self._root.db.read() as db:
            rows = db.execute("SELECT digest, size, lost FROM blobs ORDER BY digest").fetchall()
        for text, size, lost in rows:
            digest = Digest(text)
            info = self._root.files.look(self._content.path(digest))
            if lost:
                yield _trouble("lost", f"blob {digest}", _AGAIN, None)
            elif info is None or info.kind != "file" or info.size_bytes != size:
                problem = "has no file" if info is None else f"has a file of {info.size_bytes} bytes instead of {size}"
                yield _trouble("missing", f"blob {digest}", problem, partial(self._content.recheck, digest))

    def _lost_layers(self) -> Iterator[_Trouble]:
        with self._root.db.read() as db:
            rows = db.execute("SELECT id, diff_id, chain, tar, place, lost FROM layers ORDER BY id").fetchall()
        for id, diff_id, chain, tar, place, lost in rows:
            here = self._is_there(place)
            again = tar is not None and self._content.find(Digest(tar)) is not None
            subject = f"layer {diff_id or id[:12]}"
            if lost and not again:
                rest = partial(self._root.discard, self._root.place(place)) if here else None
                yield _trouble("lost", subject, _AGAIN, rest)
            elif lost or not here:
                heal = partial(self._heal, id, diff_id if again else None, chain)
                yield _trouble("missing", subject, "has no files", heal)

    def _heal(self, id: str, diff_id: str | None, chain: str | None) -> None:
        """Record that a layer's files are gone; make them again if its tar (`diff_id`) is here."""
        with self._root.db.write() as db:
            layer = self._layers.get(id)
            if not layer.lost and self._is_there(layer.place):
                return  # another command was faster
            db.execute("UPDATE layers SET lost = 1, unsynced = NULL WHERE id = ?", (id,))
        if diff_id and self._content.recheck(Digest(diff_id)):
            self._layers.receive(DiffID(diff_id), chain=ChainID(chain) if chain else None)

    def _is_there(self, place: str) -> bool:
        return self._root.files.look(self._root.place(place)) is not None

    def _snapshots(self) -> Iterator[_Trouble]:
        with self._root.db.read() as db:
            rows = db.execute(
                "SELECT key, containers.id FROM snapshots LEFT JOIN containers ON snapshot = key "
                "WHERE kind = 'active' AND coalesce(state, '') <> 'dead' ORDER BY key"
            ).fetchall()
        for key, container in rows:
            if not self._is_there(f"snapshots/{key}/fs"):
                subject = f"the root file system of container {container[:12]}" if container else f"snapshot {key[:12]}"
                yield _trouble("missing", subject, "has no files", partial(self._bury, key, container))

    def _bury(self, key: str, container: str | None) -> None:
        with self._root.db.write() as db:
            if self._is_there(f"snapshots/{key}/fs"):
                return  # another command was faster
            if container is None:
                db.execute("DELETE FROM snapshots WHERE key = ?", (key,))
            else:
                error = "its root file system is gone"
                db.execute("UPDATE containers SET state = 'dead', error = ? WHERE id = ?", (error, container))

    def _containers(self) -> Iterator[_Trouble]:
        with self._root.db.read() as db:
            ids = [id for (id,) in db.execute("SELECT id FROM containers ORDER BY id")]
        for id in ids:
            place = self._root.place("containers", id)
            if self._root.files.look(place) is None:
                repair = partial(self._root.files.make_directory, place)
                yield _trouble("missing", f"container {id[:12]}", "has no directory; its logs are gone", repair)

    def _volume_data(self) -> Iterator[_Trouble]:
        known = {volume.name for volume in self._volumes.list()}
        there = set(self._root.files.entries(self._root.place("volumes")))
        for name in sorted(known - there):
            # Removing was interrupted, and is finished; or somebody else took the data from a volume in use.
            repair = self._volumes.create if self._volumes.users(name) else self._volumes.remove
            yield _trouble("missing", f"volume {name}", "has no data", partial(repair, name))
        for name in filter(self._volumes.is_unfinished, sorted(known & there)):
            problem = "was being filled from an image when that was killed"
            yield _trouble("unfinished", f"volume {name}", problem, partial(self._volumes.finish, name))
        for name in sorted(there - known):
            subject = self._root.place("volumes", name)
            if is_name(name):
                problem = "is a volume that the database does not know"
                yield _trouble("unrecorded", subject, problem, partial(self._volumes.create, name))
            else:
                yield _trouble("foreign", subject, _LITTER["foreign"], None)


def _trouble(kind: str, subject: str, problem: str, repair: Callable[[], object] | None) -> _Trouble:
    return _Trouble(Finding(kind=kind, subject=subject, problem=problem, repairable=repair is not None), repair)
