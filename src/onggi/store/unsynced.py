"""Power loss: what was written and not flushed, and what becomes of it in the next boot.

Blobs and layers become visible as soon as they are complete, long before the disk has
them; their rows carry the boot id until `flush` has run. A row with the id of another
boot means that the machine went down before: its files may be short, empty or gone.
They are verified again before they are trusted, by `recover` or, whoever comes first,
by the one who opens them.
"""

import msgspec

from onggi.spec.digest import Digest

from .content import Content
from .layers import Layers
from .root import StateRoot


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """What `recover` looked at: blobs (digests) and layers (ids) that are right, and those that are lost."""

    kept: tuple[str, ...]
    lost: tuple[str, ...]


class Unsynced:
    """The marks of a state root."""

    def __init__(self, root: StateRoot, content: Content, layers: Layers) -> None:
        """Know whose marks these are."""
        self._root, self._content, self._layers = root, content, layers

    def flush(self) -> int:
        """Make all that this boot has published survive a power loss; gives how many marks that cleared.

        One syncfs(2), for which nobody waits but the caller: for a thread or process in the background.
        """
        with self._root.db.read() as db:
            mine = (self._root.boot_id,)
            blobs = db.execute("SELECT digest, created_ns FROM blobs WHERE unsynced = ?", mine).fetchall()
            layers = db.execute("SELECT id, place FROM layers WHERE unsynced = ?", mine).fetchall()
        if not blobs and not layers:
            return 0
        self._root.files.sync_filesystem(self._root.path)
        with self._root.db.write(durable=True) as db:
            # What was published again meanwhile has another time or place, and was not in time for the sync.
            db.executemany("UPDATE blobs SET unsynced = NULL WHERE digest = ? AND created_ns = ?", blobs)
            db.executemany("UPDATE layers SET unsynced = NULL WHERE id = ? AND place = ?", layers)
        return len(blobs) + len(layers)

    def doubtful(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Give the blobs (digests) and layers (ids) that a former boot left unflushed."""
        with self._root.db.read() as db:
            other = (self._root.boot_id,)
            blobs = db.execute("SELECT digest FROM blobs WHERE unsynced <> ? ORDER BY digest", other).fetchall()
            layers = db.execute("SELECT id FROM layers WHERE unsynced <> ? ORDER BY id", other).fetchall()
        return tuple(digest for (digest,) in blobs), tuple(id for (id,) in layers)

    def recover(self) -> Recovery:
        """Verify all that a former boot left unflushed, and record what is lost. May take long."""
        blobs, layers = self.doubtful()
        kept: list[str] = []
        lost: list[str] = []
        for digest in blobs:
            (kept if self._content.recheck(Digest(digest)) else lost).append(digest)
        for id in layers:
            (lost if self._layers.recheck(id).lost else kept).append(id)
        return Recovery(kept=tuple(kept), lost=tuple(lost))
