"""Collection: what nothing needs any more goes.

Roots are images (which stay until they are removed, tagged or not), containers, the build
cache and the leases of living commands. From there: snapshots to layers, images to layers and blobs,
layers to their tars, manifests to the blobs they list.

Publish and collect take the same lock of an object, and a row is only deleted in a
transaction that looks again whether it is still garbage. Rows go first, durably; then
the files, renamed to the trash under the lock, unlinked without it. Killed in between,
it leaves files without a row, which the next sweep removes: never a row without files.
"""

from contextlib import ExitStack
from typing import Final

import msgspec

from onggi.host.db import Connection
from onggi.spec.digest import Digest

from .leases import Leases
from .root import StateRoot

_BATCH: Final = 64  # each lock is a descriptor

_SNAPSHOTS: Final = """
SELECT key, 0, 'snapshots/' || key FROM snapshots
WHERE key NOT IN (SELECT snapshot FROM containers WHERE snapshot IS NOT NULL)
  AND key NOT IN (SELECT key FROM lease_items WHERE kind = 'snapshot')
ORDER BY key
"""
_LAYERS: Final = """
SELECT id, size, place FROM layers
WHERE id NOT IN (SELECT layer FROM image_layers)
  AND id NOT IN (SELECT layer FROM snapshot_layers)
  AND id NOT IN (SELECT layer FROM build_cache)
  AND id NOT IN (SELECT key FROM lease_items WHERE kind = 'layer')
ORDER BY id
"""
_BLOBS: Final = """
WITH RECURSIVE live(digest) AS (
    SELECT id FROM images UNION SELECT manifest FROM images UNION SELECT manifest FROM tags
    UNION SELECT image FROM containers
    UNION SELECT tar FROM layers UNION SELECT key FROM lease_items WHERE kind = 'blob'
    UNION SELECT child FROM blob_links JOIN live ON parent = live.digest
)
SELECT digest, size, 'blobs/' || replace(digest, ':', '/') FROM blobs
WHERE digest NOT IN (SELECT digest FROM live WHERE digest IS NOT NULL)
ORDER BY digest
"""


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """What a collection removed, by key, id and digest, and the size of it."""

    snapshots: tuple[str, ...]
    layers: tuple[str, ...]
    blobs: tuple[str, ...]
    size_bytes: int


class Collector:
    """The collector of a state root."""

    def __init__(self, root: StateRoot, leases: Leases) -> None:
        """Collect here, sparing what living leases protect."""
        self._root, self._leases = root, leases

    def collect(self) -> Collected:
        """Remove all that nothing needs; what others are using at this moment stays for the next time."""
        self._root.make_room()
        self._leases.drop_dead()
        size = 0
        removed: dict[str, list[str]] = {}
        # In this order: each may make garbage of the next kind.
        for area, table, key, query in (
            ("snapshots", "snapshots", "key", _SNAPSHOTS),
            ("layers", "layers", "id", _LAYERS),
            ("blobs", "blobs", "digest", _BLOBS),
        ):
            with self._root.db.read() as db:
                candidates = [row[0] for row in db.execute(query)]
            removed[area] = []
            for start in range(0, len(candidates), _BATCH):
                batch = candidates[start : start + _BATCH]
                rows = self._collect(area, batch, query, f"DELETE FROM {table} WHERE {key} = ?")
                removed[area] += [row[0] for row in rows]
                size += sum(row[1] for row in rows)
        self._root.set_aside()
        return Collected(
            snapshots=tuple(removed["snapshots"]),
            layers=tuple(removed["layers"]),
            blobs=tuple(removed["blobs"]),
            size_bytes=size,
        )

    def _collect(self, area: str, batch: list[str], query: str, delete: str) -> list[tuple[str, int, str]]:
        root = self._root
        trash: list[str] = []
        with ExitStack() as locks:
            ours: set[str] = set()
            for key in batch:
                if lock := root.locks(area).attempt(lock_name(area, key)):
                    locks.enter_context(lock)
                    ours.add(key)
            with root.db.write(durable=True) as db:
                rows = [row for row in _rows(db, query) if row[0] in ours]
                db.executemany(delete, [(row[0],) for row in rows])
            for _, _, place in rows:
                if trashed := root.files.trash(root.place(place), root.place("trash")):
                    trash.append(trashed)
        for trashed in trash:
            root.files.remove_tree(trashed)
        return rows


def lock_name(area: str, key: str) -> str:
    """Under which name an object is locked."""
    return Digest(key).hex if area == "blobs" else key


def _rows(db: Connection, query: str) -> list[tuple[str, int, str]]:
    return [(str(key), int(size), str(place)) for key, size, place in db.execute(query)]
