"""Content: blobs by the digest of their raw bytes (image-spec descriptor.md#digests).

A blob arrives in a staged file, is verified, renamed and recorded. The staged file
of a known digest has a stable name: a download that broke off resumes there. One
lock per digest keeps two commands from fetching the same thing, and the collector
away from both.
"""

from collections.abc import Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, BinaryIO, Self

import msgspec

from onggi.base.errors import Conflict, Corrupt, NotFound, OnggiError
from onggi.host.db import Connection
from onggi.host.files import Staged
from onggi.host.locks import Lock
from onggi.spec.digest import Digest

from .leases import Lease, protect
from .root import LOCK_TIMEOUT_S, StateRoot

if TYPE_CHECKING:
    from hashlib import _Hash


class Blob(msgspec.Struct, frozen=True, kw_only=True):
    """A blob that is here."""

    digest: Digest
    size_bytes: int


class Ingest:
    """A blob on its way in; the writer holds its lock. Leaving without `finish` keeps a resumable one for later."""

    def __init__(
        self, content: "Content", digest: Digest | None, staged: Staged, lock: Lock, lease: Lease | None
    ) -> None:
        """Continue after what `staged` has already."""
        self._content, self._digest, self._staged, self._lock, self._lease = content, digest, staged, lock, lease
        self._hash = _hasher(digest)
        for chunk in staged.chunks():
            self._hash.update(chunk)

    def __enter__(self) -> Self:
        """Give the ingest itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go; what has no digest yet, or no bytes, cannot be resumed and goes."""
        try:
            if self._staged.fd >= 0 and (self._digest is None or not self._staged.size_bytes):
                self._staged.discard()
        finally:
            self._staged.close()
            self._lock.close()

    @property
    def offset(self) -> int:
        """How many bytes are here already: ask the sender for the rest."""
        return self._staged.size_bytes

    def restart(self) -> None:
        """Forget what is here: the sender can only begin at the beginning."""
        self._staged.truncate()
        self._hash = _hasher(self._digest)

    def abandon(self) -> None:
        """Forget what is here and do not keep it for later."""
        self._staged.discard()

    def write(self, chunk: bytes | memoryview) -> None:
        """Take the next bytes. If the disk is full, give back what we used of it."""
        try:
            self._staged.write(chunk)
        except OnggiError:
            self.abandon()
            raise
        self._hash.update(chunk)

    def finish(self, *, durable: bool = False) -> Blob:
        """Verify and publish. Wrong bytes leave no trace: raises Corrupt."""
        seen = Digest.from_hash(self._hash, self._digest.algorithm if self._digest else "sha256")
        if self._digest is not None and seen != self._digest:
            self.abandon()
            raise Corrupt(
                f"blob {self._digest}: what was received has digest {seen}; it was damaged or changed on its way, "
                "try again"
            )
        with ExitStack() as stack:
            if self._digest is None:  # its lock could not be taken before it had a name
                stack.enter_context(self._content.lock(seen, timeout_s=None))
            return self._content._publish(seen, self._staged, self._lease, durable=durable)


class Content:
    """The blobs of a state root."""

    def __init__(self, root: StateRoot) -> None:
        """Keep them in this state root."""
        self._root = root

    def lock(self, digest: Digest, *, timeout_s: float | None = LOCK_TIMEOUT_S) -> Lock:
        """Exclude everybody who wants to publish or collect this blob."""
        return self._root.lock("blobs", digest.hex, f"blob {digest}", timeout_s=timeout_s)

    def path(self, digest: Digest) -> str:
        """Where a blob's file is."""
        return self._root.place("blobs", digest.algorithm, digest.hex)

    def find(self, digest: Digest, *, lease: Lease | None = None) -> Blob | None:
        """Tell whether a blob is here, and protect it by `lease` in the same moment."""
        with self._root.db.write() if lease else self._root.db.read() as db:
            row = db.execute("SELECT size, lost FROM blobs WHERE digest = ?", (digest,)).fetchone()
            if row is None or row[1]:
                return None
            protect(db, lease, "blob", digest)
        return Blob(digest=digest, size_bytes=row[0])

    def receive(self, digest: Digest | None = None, *, lease: Lease | None = None) -> Ingest:
        """Begin or resume taking in a blob; without a digest it is named by what arrives.

        Waits while another command takes in the same one: look with `find` first, and
        again after. Use as a context manager, then `write` and `finish`.
        """
        name = f"blob-{digest.hex}" if digest else self._root.new_id()
        area, key = ("blobs", digest.hex) if digest else ("ingest", name)
        lock = self._root.lock(area, key, f"blob {digest or 'on its way in'}", timeout_s=None)
        try:
            return Ingest(self, digest, self._root.files.stage(self._root.place("ingest", name)), lock, lease)
        except BaseException:
            lock.close()
            raise

    def put(
        self,
        chunks: Iterable[bytes],
        digest: Digest | None = None,
        *,
        lease: Lease | None = None,
        durable: bool = False,
    ) -> Blob:
        """Take in a whole blob. A second time is harmless, and then nothing is read from `chunks`."""
        if digest is not None and (found := self.find(digest, lease=lease)):
            return found
        with self.receive(digest, lease=lease) as ingest:
            if digest is not None and (found := self.find(digest, lease=lease)):
                ingest.abandon()
                return found
            if ingest.offset:
                ingest.restart()
            for chunk in chunks:
                ingest.write(chunk)
            return ingest.finish(durable=durable)

    def open(self, digest: Digest) -> BinaryIO:
        """Open a blob for reading. Raises NotFound, or Corrupt if it was here and is lost."""
        self._require(digest)
        return self._root.files.open(self.path(digest))

    def read(self, digest: Digest, max_bytes: int) -> bytes:
        """Read a small blob (a config, a manifest) whole."""
        self._require(digest)
        return self._root.files.read(self.path(digest), max_bytes)

    def link(self, parent: Digest, children: Iterable[Digest]) -> None:
        """Record which of the blobs here a manifest or index lists: they live as long as it does."""
        with self._root.db.write() as db:
            db.executemany(
                "INSERT OR IGNORE INTO blob_links (parent, child) SELECT ?, digest FROM blobs WHERE digest = ?",
                [(parent, child) for child in children],
            )

    def verify(self, digest: Digest) -> bool:
        """Read a blob's file again and tell whether it is what its name says; changes nothing."""
        hash = digest.hasher()
        try:
            for chunk in self._root.files.chunks(self.path(digest)):
                hash.update(chunk)
        except (NotFound, Corrupt):  # any other error says nothing about the blob
            return False
        return hash.hexdigest() == digest.hex

    def delete(self, digest: Digest) -> None:
        """Remove a blob to which no image, tag or layer refers itself; manifests that list it stay.

        Raises Conflict if something does.
        """
        self._root.make_room()
        with self.lock(digest):
            with self._root.db.write(durable=True) as db:
                refuse_if_used(db, digest)
                db.execute("DELETE FROM blobs WHERE digest = ?", (digest,))
            self._root.discard(self.path(digest))

    def _publish(self, digest: Digest, staged: Staged, lease: Lease | None, *, durable: bool) -> Blob:
        root = self._root
        if digest.algorithm != "sha256":
            root.files.make_directory(root.place("blobs", digest.algorithm))
        staged.publish(self.path(digest), durable=durable)
        size = staged.size_bytes
        staged.close()
        with root.db.write(durable=durable) as db:
            db.execute(
                "INSERT INTO blobs (digest, size, created_ns, unsynced) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (digest) DO UPDATE SET size = excluded.size, created_ns = excluded.created_ns, "
                "unsynced = excluded.unsynced, lost = 0",
                (digest, size, root.clock_ns(), None if durable else root.boot_id),
            )
            protect(db, lease, "blob", digest)
        return Blob(digest=digest, size_bytes=size)

    def _require(self, digest: Digest) -> None:
        with self._root.db.read() as db:
            row = db.execute("SELECT unsynced, lost FROM blobs WHERE digest = ?", (digest,)).fetchone()
        if row is None:
            raise NotFound(f"blob {digest} is not here")
        unsynced, lost = row
        if lost or (unsynced not in (None, self._root.boot_id) and not self.recheck(digest)):
            raise Corrupt(
                f"blob {digest} was lost or damaged, probably in a power failure; load or build its image again"
            )

    def recheck(self, digest: Digest) -> bool:
        """Verify a blob that a former boot left unflushed, and record what came out."""
        with self.lock(digest):
            right = self.verify(digest)
            if not right:
                self._root.discard(self.path(digest))
            with self._root.db.write() as db:
                db.execute(
                    "UPDATE blobs SET unsynced = ?, lost = ? WHERE digest = ?",
                    (self._root.boot_id if right else None, not right, digest),
                )
        return right


def refuse_if_used(db: Connection, digest: Digest) -> None:
    """Within a transaction, raise Conflict if an image, tag or layer refers to a blob."""
    users = db.execute(
        "SELECT 'image ' || id FROM images WHERE ? IN (id, manifest) "
        "UNION ALL SELECT 'tag ' || reference FROM tags WHERE manifest = ? "
        "UNION ALL SELECT 'layer ' || id FROM layers WHERE tar = ? LIMIT 1",
        (digest, digest, digest),
    ).fetchone()
    if users is not None:
        raise Conflict(f"blob {digest} is used by {users[0]}; remove that first")


def _hasher(digest: Digest | None) -> "_Hash":
    return (digest or Digest.of(b"")).hasher()
