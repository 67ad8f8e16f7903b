"""How layers travel: the compressed blobs that a layer's tar is known as, and the repositories that have them.

A push takes such a blob instead of compressing anew, and lets the registry take it from
a repository of its own. It is knowledge only: no blob has to be here, none has to be there.
"""

from typing import Final, cast

import msgspec

from onggi.spec.digest import DiffID, Digest
from onggi.spec.media import Compression

from .root import StateRoot

_REPOSITORIES: Final = 4
"""So many of one host are remembered for a blob, those seen last."""


class LayerBlob(msgspec.Struct, frozen=True, kw_only=True):
    """A layer as a blob; `level` is None if it was received."""

    digest: Digest
    size_bytes: int
    compression: Compression
    level: int | None = None


class Sources:
    """What a state root knows of blobs elsewhere."""

    def __init__(self, root: StateRoot) -> None:
        """Keep it in this state root."""
        self._root = root

    def remember_blob(self, diff_id: DiffID, blob: LayerBlob) -> None:
        """Note that a blob is this layer: only after its content was seen to be."""
        with self._root.db.write() as db:
            db.execute(
                "INSERT INTO layer_blobs (diff_id, digest, size, compression, level) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (diff_id, digest) DO UPDATE SET level = coalesce(excluded.level, level)",
                (diff_id, blob.digest, blob.size_bytes, blob.compression, blob.level),
            )

    def remember_source(self, digest: Digest, host: str, repository: str) -> None:
        """Note that a repository has a blob; only of blobs that `remember_blob` knows.

        `host` and `repository` are those of the `Endpoint`.
        """
        with self._root.db.write() as db:
            db.execute(
                "INSERT INTO blob_sources (digest, host, repository, seen_ns) "
                "SELECT ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM layer_blobs WHERE digest = ?) "
                "ON CONFLICT (digest, host, repository) DO UPDATE SET seen_ns = excluded.seen_ns",
                (digest, host, repository, self._root.clock_ns(), digest),
            )
            db.execute(
                "DELETE FROM blob_sources WHERE digest = ?1 AND host = ?2 AND repository NOT IN ("
                "SELECT repository FROM blob_sources WHERE digest = ?1 AND host = ?2 "
                "ORDER BY seen_ns DESC, repository LIMIT ?3)",
                (digest, host, _REPOSITORIES),
            )

    def forget_source(self, digest: Digest, host: str, repository: str) -> None:
        """Note that a repository has a blob no more, or does not give it."""
        with self._root.db.write() as db:
            db.execute(
                "DELETE FROM blob_sources WHERE digest = ? AND host = ? AND repository = ?", (digest, host, repository)
            )

    def blobs(self, diff_id: DiffID) -> list[LayerBlob]:
        """Give the blobs that a layer is known as; those received first."""
        with self._root.db.read() as db:
            rows = db.execute(
                "SELECT digest, size, compression, level FROM layer_blobs WHERE diff_id = ? "
                "ORDER BY level IS NOT NULL, digest",
                (diff_id,),
            ).fetchall()
        return [
            LayerBlob(digest=Digest(digest), size_bytes=size, compression=cast("Compression", compression), level=level)
            for digest, size, compression, level in rows
        ]

    def repositories(self, digest: Digest, host: str) -> list[str]:
        """Give the repositories of a host that have had a blob, the one seen last first."""
        with self._root.db.read() as db:
            rows = db.execute(
                "SELECT repository FROM blob_sources WHERE digest = ? AND host = ? ORDER BY seen_ns DESC, repository",
                (digest, host),
            ).fetchall()
        return [repository for (repository,) in rows]
