"""The life of a container, as one table: which verb is legal in which state, and where it leads.

                 start                    pause
    created ───────────────> running <─────────────> paused
       │                      │    ^     unpause       │
       │                 exit │    │ start             │ exit
       │                      v    │                   │
       │                      exited <─────────────────┘
       │ bury                 │ bury
       └──────> dead <────────┘          remove: created, exited, dead -> nothing

`dead`: its files are gone (store/check.py buries it); only removing it is left.
`exit` is no command: the supervisor says so, or the kernel. Of a run whose start
nobody recorded only the end is seen, and `fail`, that a start failed, changes
nothing but the exit code. *Released*, that nobody holds its mounts any more, is not
a state (store/snapshots.py).

Pure. Texts are Docker's, its clients show and match them.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from onggi.base.errors import Conflict


class State(StrEnum):
    """Where in its life a container is."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    EXITED = "exited"
    DEAD = "dead"


class Verb(StrEnum):
    """What is done with a container, or happens to it."""

    START = "start"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    EXIT = "exit"
    FAIL = "fail"
    BURY = "bury"
    REMOVE = "remove"
    STOP = "stop"
    KILL = "kill"
    RESTART = "restart"
    EXEC = "exec"
    ATTACH = "attach"
    TOP = "top"
    COMMIT = "commit"
    RENAME = "rename"
    UPDATE = "update"


GONE: Final = None
"""What follows `remove`."""

LIVE: Final = (State.RUNNING, State.PAUSED)
"""It has processes."""

_STILL: Final = (State.CREATED, State.EXITED)


def _stays(*states: State) -> dict[State, State | None]:
    return {state: state for state in states}


TRANSITIONS: Final[Mapping[Verb, Mapping[State, State | None]]] = {
    Verb.START: dict.fromkeys(_STILL, State.RUNNING),
    Verb.PAUSE: {State.RUNNING: State.PAUSED},
    Verb.UNPAUSE: {State.PAUSED: State.RUNNING},
    Verb.EXIT: dict.fromkeys((*LIVE, *_STILL), State.EXITED),
    Verb.FAIL: {**_stays(*_STILL), **dict.fromkeys(LIVE, State.EXITED)},
    Verb.BURY: dict.fromkeys(_STILL, State.DEAD),
    Verb.REMOVE: dict.fromkeys((*_STILL, State.DEAD), GONE),
    # These change nothing themselves; a stop or kill is followed by an exit.
    Verb.STOP: _stays(*LIVE),
    Verb.KILL: _stays(*LIVE),
    Verb.RESTART: _stays(*LIVE, *_STILL),
    Verb.EXEC: _stays(State.RUNNING),
    Verb.ATTACH: _stays(State.RUNNING),
    Verb.TOP: _stays(*LIVE),
    Verb.COMMIT: _stays(*LIVE, *_STILL),
    Verb.RENAME: _stays(*LIVE, *_STILL),
    Verb.UPDATE: _stays(*LIVE, *_STILL),
}

ALREADY: Final = frozenset({(Verb.START, State.RUNNING), *((Verb.STOP, state) for state in (*_STILL, State.DEAD))})
"""Nothing is left to do: the API answers 304, the command succeeds."""


def legal_from(verb: Verb) -> frozenset[State]:
    """In which states the verb is legal: the `expected` of a compare-and-set."""
    return frozenset(TRANSITIONS[verb])


def is_done(verb: Verb, state: str) -> bool:
    """Tell whether the verb asks for what is already so."""
    return (verb, State(state)) in ALREADY


def next_state(verb: Verb, state: str, container: str) -> State | None:
    """Where the verb leads from a state; GONE after a removal.

    `container` names it in the Conflict that an illegal one raises. Ask `is_done` first.
    """
    now = State(state)
    try:
        return TRANSITIONS[verb][now]
    except KeyError:
        raise _refusal(verb, now, container) from None


def _refusal(verb: Verb, state: State, container: str) -> Conflict:
    if state is State.DEAD:
        return Conflict(f"Container {container} is marked for removal and cannot be {_PARTICIPLES[verb]}")
    match verb, state:
        case Verb.START, State.PAUSED:
            return Conflict("cannot start a paused container, try unpause instead")
        case Verb.START, _:
            return Conflict(f"Container {container} is already running")
        case Verb.PAUSE, State.PAUSED:
            return Conflict(f"Container {container} is already paused")
        case Verb.UNPAUSE, _:
            return Conflict(f"Container {container} is not paused")
        case Verb.EXEC, State.PAUSED:
            return Conflict(f"Container {container} is paused, unpause the container before exec")
        case Verb.ATTACH, State.PAUSED:
            return Conflict("You cannot attach to a paused container, unpause it first")
        case ((Verb.REMOVE | Verb.BURY), _):
            return Conflict(
                f'cannot remove container "{container}": container is {state}: '
                "stop the container before removing or force remove"
            )
        case _:
            return Conflict(f"container {container} is not running")


_PARTICIPLES: Final = {
    Verb.START: "started",
    Verb.PAUSE: "paused",
    Verb.UNPAUSE: "unpaused",
    Verb.EXIT: "ended",
    Verb.FAIL: "started",
    Verb.BURY: "removed again",
    Verb.REMOVE: "removed",
    Verb.STOP: "stopped",
    Verb.KILL: "killed",
    Verb.RESTART: "started",
    Verb.EXEC: "entered",
    Verb.ATTACH: "attached to",
    Verb.TOP: "looked into",
    Verb.COMMIT: "committed",
    Verb.RENAME: "renamed",
    Verb.UPDATE: "updated",
}
