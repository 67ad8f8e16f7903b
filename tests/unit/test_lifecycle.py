"""The life of a container: the table is whole, and says what Docker says."""

import re
from pathlib import Path

import pytest

from onggi import engine
from onggi.base.errors import Conflict
from onggi.runtime.lifecycle import ALREADY, GONE, TRANSITIONS, State, Verb, is_done, legal_from, next_state

ID = "c" * 64


def test_every_state_is_reached_and_left() -> None:
    reached = {State.CREATED}
    for _ in State:
        reached |= {to for moves in TRANSITIONS.values() for start, to in moves.items() if start in reached and to}
    assert reached == set(State)
    for state in State:
        gone, seen = {state}, set[State]()
        while gone - seen:
            seen |= gone
            gone = {to for moves in TRANSITIONS.values() for start, to in moves.items() if start in seen and to}
        assert seen & legal_from(Verb.REMOVE), f"{state} can never be removed"


@pytest.mark.parametrize("verb", list(Verb))
@pytest.mark.parametrize("state", list(State))
def test_each_verb_in_each_state_leads_is_done_or_is_refused(verb: Verb, state: State) -> None:
    legal = state in legal_from(verb)
    assert not (legal and is_done(verb, state))
    if legal:
        assert next_state(verb, state, ID) == TRANSITIONS[verb][state]
    elif not is_done(verb, state):
        with pytest.raises(Conflict) as caught:
            next_state(verb, state, ID)
        assert ID in str(caught.value) or "a paused container" in str(caught.value)


def test_the_table_in_words() -> None:
    moves = {
        (verb.value, start.value, to.value if to else "gone")
        for verb, table in TRANSITIONS.items()
        for start, to in table.items()
        if start is not to
    }
    assert moves == {
        ("start", "created", "running"),
        ("start", "exited", "running"),
        ("pause", "running", "paused"),
        ("unpause", "paused", "running"),
        ("exit", "created", "exited"),
        ("exit", "running", "exited"),
        ("exit", "paused", "exited"),
        ("fail", "running", "exited"),
        ("fail", "paused", "exited"),
        ("bury", "created", "dead"),
        ("bury", "exited", "dead"),
        ("remove", "created", "gone"),
        ("remove", "exited", "gone"),
        ("remove", "dead", "gone"),
    }
    assert {verb for verb, table in TRANSITIONS.items() if State.DEAD in table} == {Verb.REMOVE}
    assert GONE is None
    assert len(ALREADY) == 4


@pytest.mark.parametrize(
    ("verb", "state", "said"),
    [
        ("start", "paused", "cannot start a paused container, try unpause instead"),
        ("start", "dead", f"Container {ID} is marked for removal and cannot be started"),
        ("pause", "paused", f"Container {ID} is already paused"),
        ("pause", "exited", f"container {ID} is not running"),
        ("unpause", "running", f"Container {ID} is not paused"),
        ("kill", "exited", f"container {ID} is not running"),
        ("exec", "created", f"container {ID} is not running"),
        ("exec", "paused", f"Container {ID} is paused, unpause the container before exec"),
        ("attach", "paused", "You cannot attach to a paused container, unpause it first"),
        (
            "remove",
            "running",
            f'cannot remove container "{ID}": container is running: stop the container before removing or force remove',
        ),
        (
            "remove",
            "paused",
            f'cannot remove container "{ID}": container is paused: stop the container before removing or force remove',
        ),
    ],
)
def test_refusals_are_dockers(verb: str, state: str, said: str) -> None:
    with pytest.raises(Conflict) as caught:
        next_state(Verb(verb), State(state), ID)
    assert str(caught.value) == said


def test_the_engine_names_states_and_moves_by_the_table_only() -> None:
    names = "|".join(state.value for state in State)
    said = [
        f"{path.name}: {line.strip()}"
        for path in sorted(Path(engine.__file__).parent.glob("*.py"))
        for line in path.read_text().splitlines()
        if re.search(rf'state\b.*"({names})"', line)
    ]
    assert said == []
