"""Containers: one row each, found by Docker's rules, changed by compare-and-set.

Several commands may work on one container at once; none of them trusts what it read
a moment ago. A change names the states in which it is legal (they come from
runtime/lifecycle.py) and fails if the container is in another by then. Steps that
belong together are done under `lock`.

A container keeps what is not in its root file system in containers/<id>/.
"""

from collections.abc import Collection, Iterable
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from onggi.base.errors import Conflict, FailedPrecondition, InvalidArgument, NotFound
from onggi.base.ids import ContainerID, check_container_name, is_id_prefix
from onggi.host.db import Connection
from onggi.host.locks import Lock

from .root import LOCK_TIMEOUT_S, StateRoot


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """A container as it is recorded. `name` has no slash, None once it has been given up; `config` is the engine's."""

    id: ContainerID
    name: str | None
    image: str
    image_ref: str
    created_ns: int
    config: bytes
    auto_remove: bool
    snapshot: str | None
    state: str
    pid: int
    started_ns: int
    finished_ns: int
    exit_code: int
    oom_killed: bool
    error: str
    boot_id: str


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """New values of some fields; what is UNSET stays."""

    state: str | UnsetType = UNSET
    name: str | UnsetType | None = UNSET
    config: bytes | UnsetType = UNSET
    snapshot: str | UnsetType | None = UNSET
    pid: int | UnsetType = UNSET
    started_ns: int | UnsetType = UNSET
    finished_ns: int | UnsetType = UNSET
    exit_code: int | UnsetType = UNSET
    oom_killed: bool | UnsetType = UNSET
    error: str | UnsetType = UNSET
    boot_id: str | UnsetType = UNSET


_COLUMNS: Final = ", ".join(Container.__struct_fields__)


class Containers:
    """The containers of a state root."""

    def __init__(self, root: StateRoot) -> None:
        """Keep them in this state root."""
        self._root = root

    def create(self, container: Container, *, volumes: Iterable[str] = (), durable: bool) -> None:
        """Record a new container and make its directory; `volumes` are those it uses.

        `durable` for one that stays, not for `--rm`. Raises Conflict, with Docker's
        text, if the name is taken, and InvalidArgument if it is none.
        """
        if container.name is not None:
            container = msgspec.structs.replace(container, name=check_container_name(container.name))
        place = self.directory(container.id)
        made = False
        try:
            with self._root.db.write(durable=durable) as db:
                _claim_name(db, container.name)
                db.execute(
                    f"INSERT INTO containers ({_COLUMNS}) VALUES ({', '.join('?' * len(Container.__struct_fields__))})",
                    msgspec.structs.astuple(container),
                )
                for volume in volumes:
                    _use_volume(db, container.id, volume)
                made = self._root.files.make_directory(place)
        except BaseException:
            if made:
                self._root.discard(place)
            raise

    def get(self, text: str) -> Container:
        """Find a container by id, name, or the beginning of an id.

        Raises NotFound or InvalidArgument, with Docker's texts.
        """
        if not text:
            raise InvalidArgument('invalid name or ID supplied: ""')
        with self._root.db.read() as db:
            row = db.execute(f"SELECT {_COLUMNS} FROM containers WHERE id = ?", (text,)).fetchone()
            if row is None:
                name = text.removeprefix("/")
                row = db.execute(f"SELECT {_COLUMNS} FROM containers WHERE name = ?", (name,)).fetchone()
            if row is None and is_id_prefix(text):
                rows = db.execute(
                    f"SELECT {_COLUMNS} FROM containers WHERE id >= ? AND id < ? LIMIT 2", (text, text + "g")
                ).fetchall()
                if len(rows) > 1:
                    raise InvalidArgument(f"Multiple IDs found with provided prefix: {text}")
                row = rows[0] if rows else None
        if row is None:
            raise NotFound(f"No such container: {text}")
        return _container(row)

    def list(self, states: Collection[str] | None = None) -> list[Container]:
        """All containers, or those in `states`, newest first."""
        with self._root.db.read() as db:
            rows = db.execute(f"SELECT {_COLUMNS} FROM containers ORDER BY created_ns DESC, id").fetchall()
        found = [_container(row) for row in rows]
        return [container for container in found if states is None or container.state in states]

    def change(self, id: str, expected: Collection[str], change: Change, *, durable: bool = False) -> Container:
        """Set fields if the container is in one of the `expected` states; gives it as it is then.

        Raises FailedPrecondition if another command was faster, NotFound if it is gone,
        Conflict if `change` gives it a name that is taken.
        """
        fields = {field: value for field in Change.__struct_fields__ if (value := getattr(change, field)) is not UNSET}
        with self._root.db.write(durable=durable) as db:
            found = _get(db, id)
            if found.state not in expected:
                raise FailedPrecondition(
                    f"container {found.name or id[:12]} is {found.state} by now, not {' or '.join(sorted(expected))}: "
                    "another command was faster; look at it again"
                )
            if change.name is not UNSET and change.name != found.name:
                _claim_name(db, change.name)
            if fields:
                assignments = ", ".join(f"{field} = ?" for field in fields)
                db.execute(f"UPDATE containers SET {assignments} WHERE id = ?", (*fields.values(), id))
        return msgspec.structs.replace(found, **fields)

    def rename(self, id: str, name: str) -> None:
        """Give a container another name. Raises Conflict, with Docker's text, if it is taken."""
        name = check_container_name(name)
        with self._root.db.write(durable=True) as db:
            _get(db, id)
            _claim_name(db, name)
            db.execute("UPDATE containers SET name = ? WHERE id = ?", (name, id))

    def remove(self, id: str, *, durable: bool = False) -> None:
        """Forget a container and remove its directory; one that is not there is fine. Its snapshot is not touched."""
        with self.lock(id):
            self.remove_locked(id, durable=durable)

    def remove_locked(self, id: str, *, durable: bool = False) -> None:
        """The same for a caller that holds the container's lock."""
        self._root.make_room()
        self.forget(id, durable=durable)
        self._root.discard(self.directory(id))

    def forget(self, id: str, *, durable: bool = False) -> None:
        """Remove the row alone, in the transaction that goes on, if any; its directory is up to the caller."""
        with self._root.db.write(durable=durable) as db:
            db.execute("DELETE FROM containers WHERE id = ?", (id,))

    def directory(self, id: str) -> str:
        """Where a container keeps what is not in its root file system."""
        return self._root.place("containers", id)

    def lock(self, id: str, *, timeout_s: float | None = LOCK_TIMEOUT_S) -> Lock:
        """Exclude other commands from this container while several steps belong together. Not twice on one thread."""
        return self._root.lock("containers", id, f"container {id[:12]}", timeout_s=timeout_s)


def _container(row: tuple[Any, ...]) -> Container:
    fields = dict(zip(Container.__struct_fields__, row, strict=True))
    fields.update(
        id=ContainerID(fields["id"]),
        auto_remove=bool(fields["auto_remove"]),
        oom_killed=bool(fields["oom_killed"]),
    )
    return Container(**fields)


def _get(db: Connection, id: str) -> Container:
    row = db.execute(f"SELECT {_COLUMNS} FROM containers WHERE id = ?", (id,)).fetchone()
    if row is None:
        raise NotFound(f"No such container: {id}")
    return _container(row)


def _claim_name(db: Connection, name: str | None) -> None:
    row = db.execute("SELECT id FROM containers WHERE name = ?", (name,)).fetchone()
    if row is not None:
        raise Conflict(
            f'Conflict. The container name "/{name}" is already in use by container "{row[0]}". '
            "You have to remove (or rename) that container to be able to reuse that name."
        )


def _use_volume(db: Connection, container: str, volume: str) -> None:
    added = db.execute(
        "INSERT OR IGNORE INTO container_volumes (container, volume) SELECT ?, name FROM volumes WHERE name = ?",
        (container, volume),
    ).rowcount
    known = db.execute("SELECT 1 FROM volumes WHERE name = ?", (volume,)).fetchone()
    if not added and not known:
        raise NotFound(f"get {volume}: no such volume")
