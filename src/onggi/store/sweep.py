"""Litter: files that nothing in the database knows, left by commands that were killed.

    trash/*                     always
    ingest/blob-<hex>           a broken-off download, once nobody has continued it for a day
    ingest/<id>                 if nobody holds its lock
    blobs, layers, snapshots,   if there is no row, looked at under the object's lock
    containers                  and inside a write transaction (root.py says why)

Names that Onggi cannot have made are left alone; check.py reports them.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Final, Literal

import msgspec

from onggi.host.db import Connection
from onggi.spec.digest import HEX_LENGTH

from .root import StateRoot, is_hex_id

RESUMABLE_FOR_S: Final = 24 * 3600

_KNOWN: Final = {
    "blobs": "SELECT 1 FROM blobs WHERE digest = replace(substr(:place, 7), '/', ':')",
    "layers": "SELECT 1 FROM layers WHERE place = :place",
    "snapshots": "SELECT 1 FROM snapshots WHERE 'snapshots/' || key = :place "
    "UNION ALL SELECT 1 FROM layers WHERE place = :place",
    "containers": "SELECT 1 FROM containers WHERE 'containers/' || id = :place",
}


class Litter(msgspec.Struct, frozen=True, kw_only=True):
    """A file or directory that should not be there; `place` is below the root, `lock` the name of the object's lock."""

    kind: Literal["trash", "staged", "unrecorded", "foreign"]
    place: str
    area: str = ""
    lock: str = ""


class Sweeper:
    """The sweeper of a state root."""

    def __init__(self, root: StateRoot) -> None:
        """Sweep here."""
        self._root = root

    def litter(self, *, resumable_for_s: float = RESUMABLE_FOR_S) -> list[Litter]:
        """List what lies about and nobody is working on; changes nothing."""
        found = [Litter(kind="trash", place=f"trash/{name}") for name in self._names("trash")]
        found += self._staged(resumable_for_s)
        for area, directory in self._directories():
            found += self._unrecorded(area, directory)
        return found

    def sweep(self, *, resumable_for_s: float = RESUMABLE_FOR_S) -> list[Litter]:
        """Remove litter; gives what was removed. What others have taken up meanwhile stays."""
        self._root.make_room()
        removed = [item for item in self.litter(resumable_for_s=resumable_for_s) if self.remove(item)]
        self._root.set_aside()
        return removed

    def sweep_staged(self) -> None:
        """Remove what killed commands had staged; where there is nothing it costs no more than a look."""
        for item in list(self._staged(RESUMABLE_FOR_S)):
            self.remove(item)

    def remove(self, item: Litter) -> bool:
        """Remove one piece of litter, if it still is that and nobody is at it."""
        root = self._root
        path = root.place(item.place)
        if item.kind == "foreign":
            return False
        if item.kind == "trash":
            root.files.remove_tree(path)
            return True
        lock = root.locks(item.area).attempt(item.lock)
        if lock is None:
            return False
        with lock, root.db.write() if item.kind == "unrecorded" else nullcontext() as db:
            if db is not None and _is_known(db, item):
                return False
            trashed = root.files.trash(path, root.place("trash"))
        if trashed:
            root.files.remove_tree(trashed)
        return True

    def _staged(self, resumable_for_s: float) -> Iterator[Litter]:
        youngest_ns = self._root.clock_ns() - int(resumable_for_s * 1e9)
        for name in self._names("ingest"):
            resumable = name.startswith("blob-")
            area, key = ("blobs", name.removeprefix("blob-")) if resumable else ("ingest", name)
            if not is_hex_id(key):
                yield Litter(kind="foreign", place=f"ingest/{name}")
                continue
            if self._root.locks(area).probe(key):
                continue
            info = self._root.files.look(self._root.place("ingest", name))
            if info is not None and (not resumable or not resumable_for_s or info.mtime_ns <= youngest_ns):
                yield Litter(kind="staged", place=f"ingest/{name}", area=area, lock=key)

    def _unrecorded(self, area: str, directory: str) -> Iterator[Litter]:
        names = self._names(directory)
        with self._root.db.read() as db:
            for name in names:
                item = Litter(kind="unrecorded", place=f"{directory}/{name}", area=area, lock=name)
                if not is_hex_id(name):
                    yield Litter(kind="foreign", place=item.place)
                elif not _is_known(db, item) and not self._root.locks(area).probe(name):
                    yield item

    def _directories(self) -> Iterator[tuple[str, str]]:
        for algorithm in HEX_LENGTH:
            yield "blobs", f"blobs/{algorithm}"
        for area in ("layers", "snapshots", "containers"):
            yield area, area

    def _names(self, directory: str) -> list[str]:
        return self._root.files.entries(self._root.place(directory))


def _is_known(db: Connection, item: Litter) -> bool:
    return db.execute(_KNOWN[item.area], {"place": item.place}).fetchone() is not None
