"""Two commands at once on one container, and kill -9 of whoever takes part: a sentence and a consistent store."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from onggi import Conflict, OnggiError
from onggi.engine.folding import LOST
from onggi.engine.handles import Handle
from onggi.host.locks import Lock
from onggi.host.ports import find_any_port
from onggi.spec.ports import parse_publish
from onggi.store.containers import Change
from tests.containers import BUILD_ID, wait_for
from tests.homes import IMAGE, Home, cgroups_named, end_process, is_alive, rules_of
from tests.soak import timeout, times

SOURCES: Final = Path(__file__).parent.parent.parent
ROUNDS: Final = times(4)

PAIRS: Final = [
    ("start", "start"),
    ("stop", "remove"),
    ("remove", "remove"),
    ("start", "remove"),
    ("stop", "stop"),
    ("pause", "stop"),
    ("kill", "remove"),
    ("restart", "restart"),
    ("restart", "remove"),
]

DRIVER: Final = """
import sys
from pathlib import Path
from onggi import Engine, OnggiError
from onggi.host.launcher import Launcher
from tests.root.test_lifecycle_races import act
with Engine(sys.argv[1], launcher=Launcher(Path(sys.argv[2]), sys.argv[3])) as engine:
    engine.containers.list()
    print("ready", flush=True)
    for line in sys.stdin:
        verb, container = line.split()
        try:
            act(engine, verb, container)
            print("ok", flush=True)
        except OnggiError as error:
            print(type(error).__name__, error, flush=True)
"""


def act(engine: Any, verb: str, container: str) -> None:
    """Do one thing to a container."""
    containers = engine.containers
    does: dict[str, Callable[[], object]] = {
        "start": lambda: containers.start(container),
        "stop": lambda: containers.stop(container, timeout_s=0),
        "kill": lambda: containers.kill(container),
        "restart": lambda: containers.restart(container, timeout_s=0),
        "remove": lambda: containers.remove(container, force=True),
        "pause": lambda: containers.pause(container),
    }
    does[verb]()


@pytest.fixture
def others(home: Home) -> Iterator[list["subprocess.Popen[str]"]]:
    """Give two more processes with an engine over the same root."""
    words = [sys.executable, "-c", DRIVER, str(home.root), home.launcher.program, BUILD_ID]
    environment = {**os.environ, "PYTHONPATH": f"{SOURCES}/src:{SOURCES}"}
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
            )
            for _ in range(2)
        ]
        try:
            for process in processes:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
            yield processes
        finally:
            for process in processes:
                assert process.stdin is not None
                process.stdin.close()


def settle(home: Home, container: Handle, before: dict[str, list[str]], outcomes: list[str]) -> None:
    """What both said is a sentence; what they left is whole."""
    for outcome in outcomes:
        assert outcome.split()[0] in ("ok", "Conflict", "NotFound", "FailedPrecondition", "LaunchFailed"), outcomes
    assert "ok" in outcomes, outcomes
    found = home.engine.containers.list(every=True)
    assert [c.id for c in found] in ([container.id], [])
    if found:
        state = found[0].state
        assert state in ("created", "running", "paused", "exited")
        assert (found[0].pid > 0) == (state in ("running", "paused"))
        if found[0].pid:
            assert is_alive(found[0].pid)
        home.engine.containers.remove(container.id, force=True)
    wait_for(lambda: home.traces() == before, f"everything as before, not {home.traces()}; {outcomes}", 10)
    home.assert_consistent()


def prepare(home: Home, verbs: tuple[str, str]) -> Handle:
    container = home.shell("sleep 60")
    if verbs[0] == "start":
        home.engine.containers.stop(container.id, timeout_s=0)
    return container


@pytest.mark.parametrize("verbs", PAIRS, ids=" and ".join)
def test_two_threads_at_once(home: Home, verbs: tuple[str, str]) -> None:
    before = home.traces()
    for _ in range(ROUNDS):
        container = prepare(home, verbs)
        outcomes: list[str] = []
        barrier = threading.Barrier(2)

        def perform(verb: str, id: str, barrier: threading.Barrier, outcomes: list[str]) -> None:
            barrier.wait()
            try:
                act(home.engine, verb, id)
            except OnggiError as error:
                outcomes.append(f"{type(error).__name__} {error}")
            except BaseException as error:
                outcomes.append(repr(error))
                raise
            else:
                outcomes.append("ok")

        threads = [threading.Thread(target=perform, args=(verb, container.id, barrier, outcomes)) for verb in verbs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(outcomes) == 2
        settle(home, container, before, outcomes)


@pytest.mark.parametrize("verbs", PAIRS, ids=" and ".join)
def test_two_processes_at_once(home: Home, others: list["subprocess.Popen[str]"], verbs: tuple[str, str]) -> None:
    before = home.traces()
    for _ in range(ROUNDS):
        container = prepare(home, verbs)
        for process, verb in zip(others, verbs, strict=True):
            assert process.stdin is not None
            process.stdin.write(f"{verb} {container.id}\n")
            process.stdin.flush()
        outcomes = [process.stdout.readline().strip() for process in others if process.stdout is not None]
        settle(home, container, before, outcomes)


def test_one_name_for_two_at_once(home: Home) -> None:
    outcomes: list[str] = []

    def create() -> None:
        try:
            outcomes.append(home.start("sleep", "60", name="same").id)
        except Conflict as error:
            outcomes.append("" if "is already in use by container" in str(error) else repr(error))

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    (winner,) = {outcome for outcome in outcomes if outcome}
    assert len(outcomes) == 4
    assert [c.id for c in home.engine.containers.list(every=True)] == [winner]
    home.assert_consistent()


# -- kill -9 ----------------------------------------------------------------------------------------------


@contextmanager
def soon(what: str) -> Iterator[None]:
    """What must be done within 10 s."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 10, what


@pytest.mark.parametrize("network", ["none", "bridge"])
def test_a_lost_supervisor(home: Home, network: str) -> None:
    port = find_any_port("tcp", ("127.0.0.1",), set())
    ports = parse_publish(f"127.0.0.1:{port}:80") if network == "bridge" else ()
    home.shell("true", network=network).wait()
    before = home.calm()
    container = home.shell("sleep 61 & sleep 62 & wait", network=network, ports=ports)
    pids = home.engine.containers.pids(container.id)
    end_process(home.supervisor(container.id))
    with soon("everything is as before"):
        with home.another() as engine:
            found = engine.containers.list(every=True)[0]
        assert (found.id, found.state, found.pid) == (container.id, "exited", 0)
        assert (found.exit_code, found.error) == (137, LOST)
        assert not any(is_alive(pid) for pid in pids)
        after = home.traces()
        for kept in ("snapshots", "containers"):
            before.pop(kept), after.pop(kept)
        if network == "bridge":  # the kernel takes the links after their namespace
            wait_for(lambda: home.traces()["links"] == before["links"], "the links are gone", 10)
            after["links"] = before["links"]
        assert after == before
    # It starts again, at the same port.
    home.engine.containers.start(container.id)
    home.engine.containers.remove(container.id, force=True)
    home.assert_consistent()


def test_a_lost_supervisor_of_a_container_with_rm(home: Home) -> None:
    home.shell("true", auto_remove=True).wait()
    before = home.calm()
    container = home.shell("sleep 60", name="t", auto_remove=True)
    pid = home.engine.containers.get("t").pid
    end_process(home.supervisor(container.id))
    with soon("it is gone"):
        home.shell("true", name="t", auto_remove=True).wait()
        wait_for(lambda: home.engine.containers.list(every=True) == [], "its removal")
        wait_for(lambda: home.calm() == before, "everything is as before")
    assert not is_alive(pid)


CRASHING: Final = """
import json, os, sys
from pathlib import Path
from onggi import ContainerRequest, Engine, OnggiError
from onggi.host.launcher import Launcher
from tests.homes import Cut, IMAGE
root, launcher = sys.argv[1], Launcher(Path(sys.argv[2]), sys.argv[3])
request = ContainerRequest(image=IMAGE, command=("sleep", "60"), network="none", auto_remove=sys.argv[4] == "rm")
number = 0
while True:
    pid = os.fork()
    if pid == 0:
        engine = Engine(root, launcher=launcher, files=Cut(number))
        container = engine.containers.create(request, name="c")
        engine.containers.start("c")
        if sys.argv[4] == "remove":
            engine.containers.remove("c", force=True)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    with Engine(root, launcher=launcher) as engine:
        engine.containers.list()
        states = [(c.name, c.state, c.pid > 0) for c in engine.containers.list(every=True)]
        left = [f"{f.subject} {f.problem}" for f in engine.system.check()]
        engine.system.check(repair=True)
        for container in engine.containers.list(every=True):
            engine.containers.remove(container.id, force=True)
        engine.system.fold()
        still = [f"{f.subject} {f.problem}" for f in engine.system.check()]
        rest = {name: sorted(os.listdir(f"{root}/{name}")) for name in ("containers", "snapshots", "run/containers")}
    print(json.dumps({"number": number, "status": status, "states": states, "left": left, "still": still,
                      "rest": rest}), flush=True)
    number += 1
    if status == 0:
        break
"""


@pytest.mark.parametrize("kind", ["kept", "rm", "remove"])
def test_a_starter_killed_at_every_effect(home: Home, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    home.shell("true", auto_remove=True).wait()
    before = home.calm()
    done = subprocess.run(
        [sys.executable, "-c", CRASHING, str(home.root), home.launcher.program, BUILD_ID, kind],
        env={**os.environ, "PYTHONPATH": f"{SOURCES}/src:{SOURCES}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    *cut, whole = results
    assert whole["status"] == 0
    assert {result["status"] for result in cut} == {9}
    for result in results:
        assert result["still"] == [], result
        assert not any(result["rest"].values()), result
        for name, state, has_pid in result["states"]:
            assert name == "c"
            assert (state == "running") == has_pid, result
    assert {state for result in cut for _, state, _ in result["states"]} >= {"created", "running"}
    assert home.traces() == before
    with capsys.disabled():
        print(f"\n{kind}: killed at {len(cut)} effects; {sum(bool(r['left']) for r in cut)} left something to repair")


# -- the next one never meets the last one -------------------------------------------------------------------


@pytest.mark.timeout(timeout(240))
@pytest.mark.parametrize(("warm", "rounds"), [(True, times(200)), (False, times(20))], ids=["warm", "cold"])
def test_a_name_and_a_port_are_free_at_once(home: Home, warm: bool, rounds: int) -> None:
    port = find_any_port("tcp", ("0.0.0.0", "::"), set())
    if warm:
        home.warm_up()
    for _ in range(rounds):
        home.ok("run", "--rm", "--name", "t", "-p", f"{port}:80", IMAGE, "true", warm=warm)
    wait_for(lambda: home.ok("ps", "-aq", warm=warm) == "", "the last one's removal")
    wait_for(lambda: home.ok("system", "check") == "", "nothing is left")
    assert home.traces()["snapshots"] == []


@pytest.mark.parametrize("when", ["before the second look", "after it"])
def test_what_is_over_before_its_start_is_recorded_can_be_removed(
    home: Home, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """`run` in the foreground returns at the end of the process; `rm` may come before onggid has written its start."""
    container = home.start("true", name="t")
    context = home.engine._context
    wait_for((Path(context.run_directory(container.id)) / "exit").exists, "the end")
    record, lock = context.containers, context.containers.lock(container.id)
    record.change(container.id, ("running",), Change(state="created", pid=0))
    starter = ExitStack()
    starter.enter_context(lock)

    def finish() -> None:
        record.change(container.id, ("created",), Change(state="running", pid=1))
        starter.close()

    folding, fold, take = home.engine.containers._folding, home.engine.containers._folding.fold, record.lock

    def fold_then_finish(id: str, *, wait: bool = False) -> None:
        monkeypatch.setattr(folding, "fold", fold)
        fold(id, wait=wait)
        finish()

    def finish_then_take(id: str) -> Lock:
        monkeypatch.setattr(record, "lock", take)
        finish()
        return take(id)

    if when == "after it":
        monkeypatch.setattr(record, "lock", finish_then_take)
    else:
        monkeypatch.setattr(folding, "fold", fold_then_finish)
    home.engine.containers.remove("t")
    assert home.engine.containers.list(every=True) == []


def test_reset_leaves_nothing(home: Home) -> None:
    port = find_any_port("tcp", ("127.0.0.1",), set())
    home.ok("run", "-d", "-p", f"127.0.0.1:{port}:80", IMAGE, "sleep", "60")
    home.ok("run", "-d", "-v", "kept:/v", IMAGE, "true", warm=False)
    wait_for(lambda: len(home.links()) == 2, "the end of the second one's link")
    assert rules_of(home.bridge.replace("onggi0", "onggi")) != []
    refused = home.onggi("system", "reset")
    assert refused.returncode == 1
    assert refused.stderr == "onggi: 1 containers are running; stop them first, or use --force\n"
    home.ok("system", "reset", "--force")
    home.end_onggid()
    assert not os.path.exists(home.root) or os.listdir(home.root) in ([], ["run"])
    wait_for(lambda: not home.links(), "its links are gone")
    name = home.engine.cgroup_parent.lstrip("/")
    assert list(cgroups_named(name)) == []
    assert rules_of(name) == []
