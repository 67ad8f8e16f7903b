"""What builds remember: which step made which layer, what it was made of, what context files contain."""

from collections.abc import Iterable
from typing import Final

import msgspec

from .layers import COLUMNS, Layer, layer_of
from .leases import Lease, protect
from .root import StateRoot

# A file that changed within the granularity of its own time stamp looks unchanged afterwards.
TRUSTED_AFTER_NS: Final = 2_000_000_000
_PARTS: Final = msgspec.json.Decoder(dict[str, str])
_WHOLE: Final = ""
"""The place of no Dockerfile: its parts are the names of builds that came out whole."""
_MAX_WHOLE: Final = 256


class CacheEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One step that is remembered, and whether images, containers or running commands have its layer too."""

    key: str
    layer: str
    created_ns: int
    used_ns: int
    size_bytes: int
    shared: bool


class BuildCache:
    """The build cache of a state root. An entry keeps its layer."""

    def __init__(self, root: StateRoot) -> None:
        """Keep it in this state root."""
        self._root = root

    def find(self, key: str, *, lease: Lease) -> Layer | None:
        """Give the layer of a step and protect it in the same moment."""
        with self._root.db.write() as db:
            row = db.execute(
                f"SELECT {COLUMNS} FROM layers WHERE id = (SELECT layer FROM build_cache WHERE key = ?)", (key,)
            ).fetchone()
            if row is None:
                return None
            layer = layer_of(row)
            if layer.lost:
                db.execute("DELETE FROM build_cache WHERE key = ?", (key,))
                return None
            db.execute("UPDATE build_cache SET used_ns = ? WHERE key = ?", (self._root.clock_ns(), key))
            protect(db, lease, "layer", layer.id)
        return layer

    def put(self, key: str, layer: str) -> None:
        """Remember what a step made; a later run of the same step replaces it."""
        now = self._root.clock_ns()
        with self._root.db.write() as db:
            db.execute(
                "INSERT INTO build_cache (key, layer, created_ns, used_ns) VALUES (:key, :layer, :now, :now) "
                "ON CONFLICT (key) DO UPDATE SET layer = :layer, created_ns = :now, used_ns = :now",
                {"key": key, "layer": layer, "now": now},
            )

    def last_parts(self, place: str) -> dict[str, str] | None:
        """Give what the step at this place of a Dockerfile was made of when it ran last."""
        with self._root.db.read() as db:
            row = db.execute("SELECT parts FROM build_steps WHERE place = ?", (place,)).fetchone()
        return None if row is None else _PARTS.decode(row[0])

    def put_parts(self, parts: dict[str, dict[str, str]]) -> None:
        """Remember what steps were made of, by place."""
        now = self._root.clock_ns()
        with self._root.db.write() as db:
            db.executemany(
                "INSERT INTO build_steps (place, parts, used_ns) VALUES (:place, :parts, :now) "
                "ON CONFLICT (place) DO UPDATE SET parts = :parts, used_ns = :now",
                [{"place": place, "parts": msgspec.json.encode(found), "now": now} for place, found in parts.items()],
            )

    def put_whole(self, build: str) -> None:
        """Remember that a build came out whole, by a name for all that it was asked for; the last few are kept."""
        with self._root.db.write():
            names = [*(self.last_parts(_WHOLE) or {}), build][-_MAX_WHOLE:]
            self.put_parts({_WHOLE: dict.fromkeys(names, "")})

    def was_whole(self, build: str) -> bool:
        """Tell whether a build of this name came out whole before."""
        return build in (self.last_parts(_WHOLE) or {})

    def entries(self) -> list[CacheEntry]:
        """All steps that are remembered, longest unused first."""
        with self._root.db.read() as db:
            rows = db.execute(
                "SELECT key, layer, build_cache.created_ns, used_ns, size, "
                "layer IN (SELECT layer FROM image_layers UNION SELECT layer FROM snapshot_layers "
                "UNION SELECT key FROM lease_items WHERE kind = 'layer') "
                "FROM build_cache JOIN layers ON layers.id = layer ORDER BY used_ns, key"
            ).fetchall()
        return [
            CacheEntry(key=key, layer=layer, created_ns=created, used_ns=used, size_bytes=size, shared=bool(shared))
            for key, layer, created, used, size, shared in rows
        ]

    def forget(self, keys: Iterable[str]) -> None:
        """Forget steps; their layers go at the next collection. With the last one goes what was known of files."""
        with self._root.db.write(durable=True) as db:
            db.executemany("DELETE FROM build_cache WHERE key = ?", [(key,) for key in keys])
            if db.execute("SELECT 1 FROM build_cache").fetchone() is None:
                db.execute("DELETE FROM build_steps")
                db.execute("DELETE FROM file_digests")

    # -- files -------------------------------------------------------------------------------------

    def load_digests(self, device: int) -> dict[int, tuple[int, int, int, bytes]]:
        """Give all that is known of files on one device: inode to (size, mtime, ctime, digest)."""
        with self._root.db.read() as db:
            rows = db.execute(
                "SELECT inode, size, mtime_ns, ctime_ns, digest FROM file_digests WHERE device = ?", (device,)
            ).fetchall()
        return {row[0]: (row[1], row[2], row[3], row[4]) for row in rows}

    def find_digest(self, device: int, inode: int) -> tuple[int, int, int, bytes] | None:
        """Give what is known of one file: (size, mtime, ctime, digest)."""
        with self._root.db.read() as db:
            row: tuple[int, int, int, bytes] | None = db.execute(
                "SELECT size, mtime_ns, ctime_ns, digest FROM file_digests WHERE device = ? AND inode = ?",
                (device, inode),
            ).fetchone()
        return row

    def put_digests(self, rows: list[tuple[int, int, int, int, int, bytes]]) -> None:
        """Remember files: (device, inode, size, mtime, ctime, digest)."""
        with self._root.db.write() as db:
            db.executemany(
                "INSERT OR REPLACE INTO file_digests (device, inode, size, mtime_ns, ctime_ns, digest) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                rows,
            )
