"""Volumes: directories that outlive containers. They are the user's data, so nothing here guesses.

A volume's directory is renamed to the trash before its row goes, other than
everywhere else in the store: whatever happens in between, what the user removed
never comes back. A directory without a row is not litter but is recorded again
(check.py).
"""

from collections.abc import Mapping

import msgspec

from onggi.base.errors import Conflict, InvalidArgument, NotFound
from onggi.base.ids import is_name
from onggi.host.db import Connection
from onggi.host.locks import Lock, take_lock

from .root import LOCK_TIMEOUT_S, StateRoot

_LABELS = msgspec.json.Decoder(dict[str, str])


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """A volume; its data is in the directory `path`."""

    name: str
    labels: dict[str, str]
    anonymous: bool
    created_ns: int
    path: str


class Volumes:
    """The volumes of a state root."""

    def __init__(self, root: StateRoot) -> None:
        """Keep them in this state root."""
        self._root = root

    def create(self, name: str, *, labels: Mapping[str, str] | None = None, anonymous: bool = False) -> Volume:
        """Make a volume; one of this name that is here already is given as it is, as Docker does."""
        if not is_name(name):
            raise InvalidArgument(
                f'create {name}: "{name}" includes invalid characters for a local volume name, only '
                '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
            )
        root = self._root
        with self._lock():
            root.files.make_directory(root.place("volumes", name))
            root.files.make_directory(self._data(name), 0o755)
            with root.db.write(durable=True) as db:
                db.execute(
                    "INSERT INTO volumes (name, labels, anonymous, created_ns) VALUES (?, ?, ?, ?) "
                    "ON CONFLICT (name) DO NOTHING",
                    (name, msgspec.json.encode(dict(labels or {})), anonymous, root.clock_ns()),
                )
                return self._get(db, name)

    def get(self, name: str) -> Volume:
        """Give one volume; raises NotFound, Docker's text."""
        with self._root.db.read() as db:
            return self._get(db, name)

    def users(self, name: str) -> list[str]:
        """Ids of the containers that use a volume."""
        with self._root.db.read() as db:
            rows = db.execute("SELECT container FROM container_volumes WHERE volume = ? ORDER BY container", (name,))
            return [container for (container,) in rows]

    def remove(self, name: str) -> None:
        """Remove a volume and its data. Raises Conflict, Docker's text, while a container uses it."""
        root = self._root
        trashed = None
        root.make_room()
        with self._lock(), root.db.write(durable=True) as db:
            self._get(db, name)
            if users := self.users(name):
                raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
            trashed = root.files.trash(root.place("volumes", name), root.place("trash"))
            db.execute("DELETE FROM volumes WHERE name = ?", (name,))
        if trashed:
            root.files.remove_tree(trashed)

    def list(self) -> list[Volume]:
        """All volumes by name."""
        with self._root.db.read() as db:
            rows = db.execute("SELECT name FROM volumes ORDER BY name").fetchall()
            return [self._get(db, name) for (name,) in rows]

    def _get(self, db: Connection, name: str) -> Volume:
        row = db.execute("SELECT labels, anonymous, created_ns FROM volumes WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise NotFound(f"get {name}: no such volume")
        labels, anonymous, created_ns = row
        return Volume(
            name=name,
            labels=_LABELS.decode(labels),
            anonymous=bool(anonymous),
            created_ns=created_ns,
            path=self._data(name),
        )

    def _data(self, name: str) -> str:
        return self._root.place("volumes", name, "_data")

    def _lock(self) -> Lock:
        # Names of volumes are the user's, no random hex: one lock for all, they come and go rarely.
        return take_lock(self._root.place("locks", "volumes"), "the list of volumes", timeout_s=LOCK_TIMEOUT_S)
