"""Leases: what a running command still needs, although nothing refers to it yet.

A lease is a row and an OFD lock. The lock is taken before the row is written and
dies with its holder, so a row whose lock can be had belongs to a dead command: it
protects nothing, and the next collection removes it.
"""

from contextlib import suppress
from typing import Literal, Self

import msgspec

from onggi.base.errors import OnggiError
from onggi.host.db import Connection
from onggi.host.locks import Lock

from .root import StateRoot

Kind = Literal["blob", "layer", "snapshot"]


class LeaseRow(msgspec.Struct, frozen=True, kw_only=True):
    """A lease as others see it; `held` tells whether its command lives."""

    id: str
    purpose: str
    created_ns: int
    held: bool


class Lease:
    """A lease of this process. Closing it gives everything free that nothing else refers to."""

    __slots__ = ("_lock", "_root", "id")

    def __init__(self, root: StateRoot, id: str, lock: Lock) -> None:
        """Own the lock."""
        self._root, self.id, self._lock = root, id, lock

    def __enter__(self) -> Self:
        """Give the lease itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.close()

    def add(self, kind: Kind, key: str) -> None:
        """Protect an object; join the transaction in which its row is written or read."""
        with self._root.db.write() as db:
            db.execute("INSERT OR IGNORE INTO lease_items (kind, key, lease) VALUES (?, ?, ?)", (kind, key, self.id))

    def close(self) -> None:
        """End it; twice is harmless."""
        if self._lock.fd < 0:
            return
        try:
            # A full disk is no reason to fail here: without its lock the row means nothing, and is collected.
            with suppress(OnggiError), self._root.db.write() as db:
                db.execute("DELETE FROM leases WHERE id = ?", (self.id,))
        finally:
            self._lock.close()


class Leases:
    """All leases of a state root."""

    def __init__(self, root: StateRoot) -> None:
        """Keep them in this state root."""
        self._root = root

    def open(self, purpose: str) -> Lease:
        """Begin a lease; `purpose` is for those who wonder what holds their disk (`build of app:1`)."""
        id = self._root.new_id()
        lock = self._root.lock("leases", id, f"lease {id[:12]}")
        try:
            with self._root.db.write() as db:
                db.execute(
                    "INSERT INTO leases (id, purpose, created_ns) VALUES (?, ?, ?)",
                    (id, purpose, self._root.clock_ns()),
                )
        except BaseException:
            lock.close()
            raise
        return Lease(self._root, id, lock)

    def list(self) -> list[LeaseRow]:
        """All leases, oldest first, dead ones too."""
        with self._root.db.read() as db:
            rows = db.execute("SELECT id, purpose, created_ns FROM leases ORDER BY created_ns, id").fetchall()
        probe = self._root.locks("leases").probe
        return [LeaseRow(id=id, purpose=purpose, created_ns=at, held=probe(id)) for id, purpose, at in rows]

    def drop_dead(self) -> int:
        """Remove the rows of leases whose command is gone; gives their number."""
        dead = [lease.id for lease in self.list() if not lease.held]
        if dead:
            with self._root.db.write() as db:
                db.executemany("DELETE FROM leases WHERE id = ?", [(id,) for id in dead])
        return len(dead)


def protect(db: Connection, lease: Lease | None, kind: Kind, key: str) -> None:
    """Within a transaction, add an object to a lease if there is one."""
    if lease is not None:
        db.execute("INSERT OR IGNORE INTO lease_items (kind, key, lease) VALUES (?, ?, ?)", (kind, key, lease.id))
