"""Events: what happened, for `events` and `system` of Docker's API. A file of its own, so that history locks nothing.

    events  id: grows, never used twice; actor: id or name of the object; attributes: JSON

The oldest go when there are more than `KEPT`; nothing depends on them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from onggi.host.db import Database
from onggi.host.files import Files

KEPT: Final = 10_000
_PRUNED_EVERY: Final = 256

_MIGRATIONS: Final = (
    """
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, time_ns INTEGER NOT NULL, type TEXT NOT NULL, action TEXT NOT NULL,
    actor TEXT NOT NULL, attributes BLOB NOT NULL
) STRICT;
CREATE INDEX events_time ON events(time_ns);
""",
)
_ATTRIBUTES: Final = msgspec.json.Decoder(dict[str, str])


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened: `container` `start` to `actor`. `id` is 0 until it is recorded."""

    id: int = 0
    time_ns: int
    type: str
    action: str
    actor: str
    attributes: dict[str, str]


class Events:
    """The events of a state root."""

    def __init__(self, path: str, files: Files, *, make_room: Callable[[], bool] | None = None) -> None:
        """Keep them in the database file at `path`; `make_room` is StateRoot's."""
        self.db = Database(path, _MIGRATIONS, about_to=files.about_to, make_room=make_room)

    def append(self, *events: Event) -> None:
        """Record what happened, in order, in one commit that a power loss may take back."""
        with self.db.write() as db:
            for event in events:
                last = db.execute(
                    "INSERT INTO events (time_ns, type, action, actor, attributes) VALUES (?, ?, ?, ?, ?)",
                    (event.time_ns, event.type, event.action, event.actor, msgspec.json.encode(event.attributes)),
                ).lastrowid
                if last and last % _PRUNED_EVERY == 0:
                    db.execute("DELETE FROM events WHERE id <= ?", (last - KEPT,))

    def read(
        self,
        *,
        since_ns: int = 0,
        until_ns: int | None = None,
        after_id: int = 0,
        where: Mapping[str, Sequence[str]] | None = None,
        limit: int = KEPT,
    ) -> list[Event]:
        """Give events in order: those from `since_ns` to before `until_ns`, recorded after `after_id`.

        `where` keeps those whose `type`, `action` or `actor` is one of some values. To
        follow, ask again with the last id.
        """
        clauses, values = ["id > ?", "time_ns >= ?"], [after_id, since_ns]
        arguments: list[int | str] = list(values)
        if until_ns is not None:
            clauses.append("time_ns < ?")
            arguments.append(until_ns)
        for column in ("type", "action", "actor"):
            if wanted := (where or {}).get(column):
                clauses.append(f"{column} IN ({', '.join('?' * len(wanted))})")
                arguments += wanted
        with self.db.read() as db:
            rows = db.execute(
                "SELECT id, time_ns, type, action, actor, attributes FROM events "
                f"WHERE {' AND '.join(clauses)} ORDER BY id LIMIT ?",
                (*arguments, limit),
            ).fetchall()
        return [
            Event(id=id, time_ns=at, type=type, action=action, actor=actor, attributes=_ATTRIBUTES.decode(attributes))
            for id, at, type, action, actor, attributes in rows
        ]
