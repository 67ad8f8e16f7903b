"""Volumes: directories that outlive containers. They are the user's data, so nothing here guesses.

A volume's directory is renamed to the trash before its row goes, other than
everywhere else in the store: whatever happens in between, what the user removed
never comes back. A directory without a row is not litter but is recorded again
(check.py).

    volumes/<name>/_data     what containers see
    volumes/<name>/filling   a copy on its way: worth nothing, whoever is next begins anew
    volumes/<name>/filled    a whole copy, which is being moved to _data: whoever is next goes on

An empty volume is filled with what the image has at its place. The copy is made beside it
and becomes valid by one rename, so that a kill at any moment leaves the volume empty, or
full as soon as it is used again. `_data` itself stays: a container may be using it.
"""

import hashlib
from collections.abc import Mapping

import msgspec

from onggi.base.errors import Conflict, InvalidArgument, NotFound
from onggi.base.ids import is_name
from onggi.host.copying import Owner, copy_tree, move_contents
from onggi.host.db import Connection
from onggi.host.locks import Lock, take_lock
from onggi.host.oserrors import explain_oserror

from .events import Event, Events
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
        with self.lock():
            return self.create_locked(name, labels=labels, anonymous=anonymous)

    def create_locked(self, name: str, *, labels: Mapping[str, str] | None = None, anonymous: bool = False) -> Volume:
        """The same for a caller that holds the lock: what it makes cannot be removed before it has a user."""
        if not is_name(name):
            raise InvalidArgument(
                f'create {name}: "{name}" includes invalid characters for a local volume name, only '
                '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
            )
        root = self._root
        root.files.make_directory(root.place("volumes", name))
        root.files.make_directory(self._data(name), 0o755)
        with root.db.write(durable=True) as db:
            made = db.execute(
                "INSERT INTO volumes (name, labels, anonymous, created_ns) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (name) DO NOTHING",
                (name, msgspec.json.encode(dict(labels or {})), anonymous, root.clock_ns()),
            ).rowcount
            if made:
                self._tell(name, "create")
            return self._get(db, name)

    def get(self, name: str) -> Volume:
        """Give one volume; raises NotFound, Docker's text."""
        with self._root.db.read() as db:
            return self._get(db, name)

    def users(self, name: str) -> list[str]:
        """Ids of the containers that use a volume; one that removes itself does not once it has ended."""
        with self._root.db.read() as db:
            rows = db.execute(
                "SELECT container FROM container_volumes JOIN containers ON id = container "
                "WHERE volume = ? AND (name IS NOT NULL OR NOT auto_remove) ORDER BY container",
                (name,),
            )
            return [container for (container,) in rows]

    def remove(self, name: str) -> None:
        """Remove a volume and its data. Raises Conflict, Docker's text, while a container uses it."""
        root = self._root
        trashed = None
        root.make_room()
        with self.lock(), root.db.write(durable=True) as db:
            self._get(db, name)
            if users := self.users(name):
                raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
            trashed = root.files.trash(root.place("volumes", name), root.place("trash"))
            db.execute("DELETE FROM container_volumes WHERE volume = ?", (name,))
            db.execute("DELETE FROM volumes WHERE name = ?", (name,))
            self._tell(name, "destroy")
        if trashed:
            root.files.remove_tree(trashed)

    def _tell(self, name: str, action: str) -> None:
        at_ns = self._root.clock_ns()
        event = Event(time_ns=at_ns, type="volume", action=action, actor=name, attributes={"driver": "local"})
        Events(self._root).append(event)

    # -- the first content -------------------------------------------------------------------------

    def is_empty(self, name: str) -> bool:
        """Tell whether there is nothing in a volume, after finishing what a killed command had begun."""
        files = self._root.files
        if files.look(self._filled(name)) is not None:
            self.finish(name)
        return not files.entries(self._data(name))

    def is_unfinished(self, name: str) -> bool:
        """Tell whether a killed command left a copy on its way."""
        left = {"filling", "filled"} & set(self._root.files.entries(self._root.place("volumes", name)))
        return bool(left) and not self._root.locks("fillings").probe(_lock_name(name))

    def finish(self, name: str) -> None:
        """Finish what a killed command left."""
        with self._filling_lock(name):
            self._finish(name)
            self._root.discard(self._root.place("volumes", name, "filling"))

    def fill(self, name: str, source: int, *, owner: Owner | None = None) -> None:
        """Copy what is beneath the directory `source` into an empty volume, which takes its owner and mode too.

        A volume that is not empty stays as it is. `source` is hostile: nothing leads out of it. `owner` gives other
        ids for those of the source.
        """
        files = self._root.files
        filling = self._root.place("volumes", name, "filling")
        with self._filling_lock(name):
            self._finish(name)
            if files.entries(self._data(name)):
                return
            self._root.discard(filling)
            files.make_directory(filling)
            target = files.open_directory(filling)
            try:
                copy_tree(source, target, owner=owner)
                files.rename(filling, self._filled(name))
            except OSError as error:
                raise explain_oserror(error, "copy the image's files to volume", name) from None
            finally:
                files.close(target)
                self._root.discard(filling)
            self._finish(name)

    def give(self, name: str, uid: int, gid: int) -> None:
        """Change the owner of a volume itself."""
        self._root.files.own(self._data(name), uid, gid)

    def _finish(self, name: str) -> None:
        files, filled = self._root.files, self._filled(name)
        if files.look(filled) is None:
            return
        source, target = files.open_directory(filled), files.open_directory(self._data(name))
        try:
            files.about_to("move", filled)
            move_contents(source, target)
        except OSError as error:
            raise explain_oserror(error, "move the image's files to volume", name) from None
        finally:
            files.close(source)
            files.close(target)
        self._root.discard(filled)

    def _filled(self, name: str) -> str:
        return self._root.place("volumes", name, "filled")

    def _filling_lock(self, name: str) -> Lock:
        # However long the copy takes: what would a container do with half of it?
        return self._root.lock("fillings", _lock_name(name), f"volume {name}", timeout_s=None)

    # -- looking -----------------------------------------------------------------------------------

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

    def lock(self) -> Lock:
        """Exclude those who make and remove volumes."""
        # Names of volumes are the user's, no random hex: one lock for all, they come and go rarely.
        return take_lock(self._root.place("locks", "volumes"), "the list of volumes", timeout_s=LOCK_TIMEOUT_S)


def _lock_name(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
