"""Events: what happened, for `events`. They are written in the transaction that makes them true.

The oldest go when there are more than `KEPT`; nothing depends on them.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from .root import StateRoot

KEPT: Final = 10_000
_PRUNED_EVERY: Final = 256
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

    def __init__(self, root: StateRoot) -> None:
        """Keep them in this state root."""
        self._root = root

    def append(self, *events: Event) -> None:
        """Record what happened, in order, in the transaction that goes on, if any; a power loss may take it back."""
        with self._root.db.write() as db:
            for event in events:
                last = db.execute(
                    "INSERT INTO events (time_ns, type, action, actor, attributes) VALUES (?, ?, ?, ?, ?)",
                    (event.time_ns, event.type, _readable(event.action), event.actor, _encode(event.attributes)),
                ).lastrowid
                if last and last % _PRUNED_EVERY == 0:
                    db.execute("DELETE FROM events WHERE id <= ?", (last - KEPT,))

    def last_id(self) -> int:
        """Give the id of the latest event, 0 without any."""
        with self._root.db.read() as db:
            return int(db.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()[0])

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
        with self._root.db.read() as db:
            rows = db.execute(
                "SELECT id, time_ns, type, action, actor, attributes FROM events "
                f"WHERE {' AND '.join(clauses)} ORDER BY id LIMIT ?",
                (*arguments, limit),
            ).fetchall()
        return [
            Event(id=id, time_ns=at, type=type, action=action, actor=actor, attributes=_ATTRIBUTES.decode(attributes))
            for id, at, type, action, actor, attributes in rows
        ]


def _encode(attributes: dict[str, str]) -> bytes:
    try:
        return msgspec.json.encode(attributes)
    except UnicodeEncodeError:
        return msgspec.json.encode({_readable(name): _readable(value) for name, value in attributes.items()})


def _readable(text: str) -> str:
    """What is no UTF-8 becomes U+FFFD, since neither SQLite nor JSON can carry it."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
