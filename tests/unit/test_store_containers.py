"""Containers: Docker's rules for finding them, compare-and-set for changing them. And volumes."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from onggi.base.errors import Conflict, FailedPrecondition, InvalidArgument, NotFound
from onggi.runtime.lifecycle import State, Verb, legal_from
from onggi.store.containers import Change
from tests.stores import Store, new_container

PROJECT = Path(__file__).parents[2]
A, B, C = "aa" + "0" * 62, "ab" + "0" * 62, "c0" + "f" * 62


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Give an empty store."""
    with Store(tmp_path) as made:
        yield made


def create(store: Store, id: str, name: str | None = None, **fields: object) -> None:
    """Create a container."""
    store.containers.create(new_container(id, name=name, **fields), durable=False)


def test_what_is_created_is_found_as_it_was(store: Store) -> None:
    container = new_container(
        A, name="web", config=b"\x00\xff", auto_remove=True, exit_code=137, oom_killed=True, error="e", created_ns=2**62
    )
    store.containers.create(container, durable=True)
    assert store.containers.get("web") == container
    assert os.path.isdir(store.containers.directory(A))
    assert store.containers.list() == [container]
    create(store, B, "/slash")
    assert store.containers.get("slash").name == "slash"


def test_they_are_found_by_id_name_and_beginning(store: Store) -> None:
    create(store, A, "one")
    create(store, B, "two")
    create(store, C, "aa")
    for text, id in (
        (A, A),
        (A[:12], A),
        ("ab", B),
        ("one", A),
        ("/one", A),
        ("aa", C),  # a name comes before a beginning
        ("aa0", A),
        ("c", C),
    ):
        assert store.containers.get(text).id == id


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("a", InvalidArgument, "Multiple IDs found with provided prefix: a"),
        ("nothing", NotFound, "No such container: nothing"),
        ("d", NotFound, "No such container: d"),
        ("AA", NotFound, "No such container: AA"),
        ("/", NotFound, "No such container: /"),
        ("%", NotFound, "No such container: %"),
        ("", InvalidArgument, 'invalid name or ID supplied: ""'),
    ],
)
def test_what_is_not_found_is_said_as_docker_does(store: Store, text: str, kind: type[Exception], said: str) -> None:
    create(store, A)
    create(store, B)
    with pytest.raises(kind) as caught:
        store.containers.get(text)
    assert str(caught.value) == said


def test_a_name_is_held_until_it_is_given_up(store: Store) -> None:
    create(store, A, "web")
    said = (
        f'Conflict. The container name "/web" is already in use by container "{A}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )
    with pytest.raises(Conflict) as caught:
        create(store, B, "web")
    assert str(caught.value) == said
    assert not os.path.exists(store.containers.directory(B))
    create(store, C)
    with pytest.raises(Conflict) as caught:
        store.containers.rename(C, "/web")
    assert str(caught.value) == said
    store.containers.change(A, ["created"], Change(name=None))
    create(store, B, "web")
    assert store.containers.get("web").id == B
    assert store.containers.get(A).name is None


def test_names_are_checked(store: Store) -> None:
    for name in ("-x", "a/b", "", "é" * 3):
        with pytest.raises(InvalidArgument, match="Invalid container name"):
            create(store, A, name)
    assert os.listdir(f"{store.root.path}/containers") == []


def test_the_same_id_again_harms_nothing(store: Store) -> None:
    create(store, A, "one")
    Path(store.containers.directory(A), "json.log").touch()
    with pytest.raises(Exception, match="UNIQUE"):
        create(store, A, "two")
    assert os.listdir(store.containers.directory(A)) == ["json.log"]


def test_renaming(store: Store) -> None:
    create(store, A, "one")
    store.containers.rename(A, "two")
    assert store.containers.get("two").id == A
    create(store, B, "one")
    with pytest.raises(NotFound):
        store.containers.rename(C, "three")


def test_a_change_needs_the_state_it_was_thought_for(store: Store) -> None:
    create(store, A, "web")
    running = store.containers.change(
        A, legal_from(Verb.START), Change(state=State.RUNNING, pid=7, started_ns=5, boot_id="b", config=b"new")
    )
    assert running == store.containers.get(A)
    assert (running.state, running.pid, running.started_ns, running.name) == ("running", 7, 5, "web")
    with pytest.raises(FailedPrecondition, match="container web is running by now, not created or exited"):
        store.containers.change(A, legal_from(Verb.START), Change(state=State.RUNNING))
    assert store.containers.change(A, ["running"], Change()) == running
    with pytest.raises(NotFound):
        store.containers.change(B, ["running"], Change(pid=1))


def test_of_many_at_once_one_wins(store: Store) -> None:
    create(store, A)
    won: list[int] = []

    def start(pid: int) -> None:
        try:
            store.containers.change(A, legal_from(Verb.START), Change(state="running", pid=pid))
            won.append(pid)
        except FailedPrecondition:
            pass

    threads = [threading.Thread(target=start, args=(pid,)) for pid in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [store.containers.get(A).pid]


CHILD = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/src"]
from onggi.base.errors import Conflict
from tests.stores import Store, new_container
won = 0
with Store(sys.argv[2]) as store:
    for n in range(30):
        try:
            store.containers.create(new_container(name=f"name{n}"), durable=False)
            won += 1
        except Conflict:
            pass
print(won)
"""


def test_of_two_processes_one_gets_the_name(store: Store, tmp_path: Path) -> None:
    command = [sys.executable, "-B", "-c", CHILD, str(PROJECT), str(tmp_path)]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    won = [int(process.communicate()[0]) for process in children]
    assert sum(won) == 30
    assert len(store.containers.list()) == len(os.listdir(tmp_path / "containers")) == 30


def test_lists_are_newest_first_and_by_state(store: Store) -> None:
    for number, id in enumerate((A, B, C)):
        create(store, id, created_ns=number, state="exited" if number else "running")
    assert [container.id for container in store.containers.list()] == [C, B, A]
    assert [container.id for container in store.containers.list({"exited"})] == [C, B]


def test_removing_takes_the_directory_along(store: Store) -> None:
    create(store, A, "web")
    Path(store.containers.directory(A), "json.log").touch()
    with store.containers.lock(A):
        with pytest.raises(Conflict, match="container aa0000000000 is in use by another command"):
            store.containers.lock(A, timeout_s=0)
        store.containers.remove_locked(A)
    assert not os.path.exists(store.containers.directory(A))
    assert os.listdir(f"{store.root.path}/trash") == []
    store.containers.remove(A)
    create(store, B, "web")


# -- volumes ---------------------------------------------------------------------------------------


def test_a_volume_is_made_once(store: Store) -> None:
    made = store.volumes.create("data", labels={"a": "b"})
    assert (made.name, made.labels, made.anonymous) == ("data", {"a": "b"}, False)
    assert made.path == f"{store.root.path}/volumes/data/_data"
    assert os.stat(made.path).st_mode & 0o777 == 0o755
    Path(made.path, "file").touch()
    assert store.volumes.create("data", labels={"c": "d"}) == made
    assert os.listdir(made.path) == ["file"]
    assert store.volumes.list() == [made] == [store.volumes.get("data")]


def test_volume_names_are_checked_and_missing_ones_said(store: Store) -> None:
    for name in ("../x", "", "a/b", "."):
        with pytest.raises(InvalidArgument, match="includes invalid characters for a local volume name"):
            store.volumes.create(name)
    with pytest.raises(NotFound) as caught:
        store.volumes.get("nothing")
    assert str(caught.value) == "get nothing: no such volume"
    with pytest.raises(NotFound, match="get nothing: no such volume"):
        store.containers.create(new_container(A), volumes=["nothing"], durable=False)
    assert store.checker.check() == []


def test_a_volume_in_use_stays(store: Store) -> None:
    path = store.volumes.create("data", anonymous=True).path
    store.containers.create(new_container(A), volumes=["data", "data"], durable=False)
    assert store.volumes.users("data") == [A]
    with pytest.raises(Conflict) as caught:
        store.volumes.remove("data")
    assert str(caught.value) == f"remove data: volume is in use - [{A}]"
    assert os.path.isdir(path)
    store.containers.remove(A)
    store.volumes.remove("data")
    assert os.listdir(f"{store.root.path}/volumes") == os.listdir(f"{store.root.path}/trash") == []
    with pytest.raises(NotFound):
        store.volumes.remove("data")
