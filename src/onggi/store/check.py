"""Taking stock: what `onggi system check` lists, and what `--repair` makes of it.

A finding is a difference between the database and the files, or something that was
left over. Repair never invents data: files without a row go, rows without files say
so (`lost`), what can be made again is made again. Volumes are the user's: one without
a row is recorded again.
"""

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from onggi.base.errors import NotFound, OnggiError
from onggi.base.ids import is_name
from onggi.host.db import Database
from onggi.spec.digest import ChainID, Digest, DiffID

from .content import Content
from .layers import Layers
from .leases import Leases
from .root import StateRoot
from .sweep import Litter, Sweeper
from .unsynced import Unsynced

_LITTER: Final = {
    "trash": "was removed, but not to the end",
    "staged": "was left by a command that did not finish",
    "unrecorded": "is not in the database",
    "foreign": "is not from Onggi; move it away",
}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not as it should be: `subject` and `problem` read as a sentence.

    `repairable`: `repair` removes the difference. What it cannot, the text says how to.
    """

    kind: str
    subject: str
    problem: str
    repairable: bool = True


class _Trouble(msgspec.Struct, frozen=True):
    """A finding and what repairs it."""

    finding: Finding
    repair: Callable[[], object]


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
        """Compare these with the files below the root."""
        self._root, self._content, self._layers, self._leases = root, content, layers, leases
        self._unsynced, self._sweeper, self._databases = unsynced, sweeper, databases

    def check(self) -> list[Finding]:
        """List all differences; changes nothing. Commands that run meanwhile may show as one."""
        return [trouble.finding for trouble in self._troubles()]

    def repair(self) -> list[Finding]:
        """Repair what can be; gives what was found. `check` again tells what is left."""
        found: list[Finding] = []
        # Twice: taking stock of rows may leave files without one.
        for _ in range(2):
            troubles = [trouble for trouble in self._troubles() if trouble.finding.repairable]
            for trouble in troubles:
                trouble.repair()
            found += [trouble.finding for trouble in troubles]
        return found

    def _troubles(self) -> Iterator[_Trouble]:
        for database in self._databases:
            for problem in database.problems():
                yield _broken(database.path, problem)
        yield from self._dead_leases()
        yield from self._doubtful()
        yield from self._blobs()
        yield from self._lost_layers()
        yield from self._snapshots()
        yield from self._containers()
        yield from self._volumes()
        for item in self._sweeper.litter(resumable_for_s=0):
            yield self._litter(item)

    def _litter(self, item: Litter) -> _Trouble:
        finding = Finding(
            kind=item.kind,
            subject=self._root.place(item.place),
            problem=_LITTER[item.kind],
            repairable=item.kind != "foreign",
        )
        return _Trouble(finding, lambda: self._sweeper.remove(item))

    def _dead_leases(self) -> Iterator[_Trouble]:
        for lease in self._leases.list():
            if not lease.held:
                finding = Finding(kind="lease", subject=f"the lease of {lease.purpose}", problem="outlived its command")
                yield _Trouble(finding, self._leases.drop_dead)

    def _doubtful(self) -> Iterator[_Trouble]:
        blobs, layers = self._unsynced.doubtful()
        for subject in [f"blob {digest}" for digest in blobs] + [f"layer {id[:12]}" for id in layers]:
            problem = "was not flushed when the machine went down"
            yield _Trouble(Finding(kind="unsynced", subject=subject, problem=problem), self._unsynced.recover)

    def _blobs(self) -> Iterator[_Trouble]:
        with self._root.db.read() as db:
            rows = db.execute("SELECT digest, size, lost FROM blobs ORDER BY digest").fetchall()
        for text, size, lost in rows:
            digest = Digest(text)
            info = self._root.files.look(self._content.path(digest))
            if lost:
                yield _told(f"blob {digest}", "is lost; load, pull or build its image again")
            elif info is None or info.kind != "file" or info.size_bytes != size:
                problem = "has no file" if info is None else f"has a file of {info.size_bytes} bytes instead of {size}"
                yield _missing(f"blob {digest}", problem, lambda digest=digest: self._content.recheck(digest))

    def _lost_layers(self) -> Iterator[_Trouble]:
        with self._root.db.read() as db:
            rows = db.execute("SELECT id, diff_id, chain, tar, place, lost FROM layers ORDER BY id").fetchall()
        for id, diff_id, chain, tar, place, lost in rows:
            here = self._root.files.look(self._root.place(place)) is not None
            subject = f"layer {diff_id or id[:12]}"
            if lost and not (tar and self._content.find(Digest(tar))):
                yield _told(subject, "is lost; load, pull or build its image again")
            elif lost or not here:
                yield _missing(subject, "has no files", lambda id=id, d=diff_id, c=chain, t=tar: self._heal(id, d, c, t))

    def _heal(self, id: str, diff_id: str | None, chain: str | None, tar: str | None) -> None:
        """Record that a layer's files are gone; make them again if its tar is here."""
        with self._root.db.write() as db:
            db.execute("UPDATE layers SET lost = 1, unsynced = NULL WHERE id = ?", (id,))
        if tar and diff_id and self._content.find(Digest(tar)) and self._content.recheck(Digest(tar)):
            self._layers.receive(DiffID(diff_id), chain=ChainID(chain) if chain else None)

    def _snapshots(self) -> Iterator[_Trouble]:
        with self._root.db.read() as db:
            rows = db.execute(
                "SELECT key, containers.id FROM snapshots LEFT JOIN containers ON snapshot = key "
                "WHERE kind = 'active' AND coalesce(state, '') <> 'dead' ORDER BY key"
            ).fetchall()
        for key, container in rows:
            if self._root.files.look(self._root.place("snapshots", key, "fs")) is None:
                subject = f"the root file system of container {container[:12]}" if container else f"snapshot {key[:12]}"
                yield _missing(subject, "has no files", lambda key=key, c=container: self._bury(key, c))

    def _bury(self, key: str, container: str | None) -> None:
        with self._root.db.write() as db:
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
                remake = self._root.files.make_directory
                yield _missing(f"container {id[:12]}", "has no directory (logs are gone)", lambda p=place: remake(p))

    def _volumes(self) -> Iterator[_Trouble]:
        with self._root.db.read() as db:
            known = {name for (name,) in db.execute("SELECT name FROM volumes")}
        there = set(self._root.files.entries(self._root.place("volumes")))
        for name in sorted(known - there):
            yield _missing(f"volume {name}", "has no data", lambda name=name: self._forget_volume(name))
        for name in sorted(there - known):
            subject = self._root.place("volumes", name)
            if is_name(name):
                finding = Finding(kind="unrecorded", subject=subject, problem="is a volume that the database lacks")
                yield _Trouble(finding, lambda name=name: self._adopt_volume(name))
            else:
                finding = Finding(kind="foreign", subject=subject, problem=_LITTER["foreign"], repairable=False)
                yield _Trouble(finding, _nothing)
