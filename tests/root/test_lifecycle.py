"""The life of containers through the Python API: every verb, every state, and what is said where it does not fit."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Final

import pytest

from onggi import (
    Conflict,
    ContainerRequest,
    InvalidArgument,
    LaunchFailed,
    MountRequest,
    NotFound,
)
from onggi.engine.handles import Handle
from tests.containers import wait_for
from tests.homes import IMAGE, Home, command_of, read_tree

TRAP: Final = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done"


def ready(container: Handle) -> Handle:
    """Wait until it has printed something."""
    wait_for(lambda: list(container.logs()), "the container's first line")
    return container


# -- one verb after the other ---------------------------------------------------------------------------


def test_created_running_exited_removed(home: Home) -> None:
    containers = home.engine.containers
    container = containers.create(ContainerRequest(image=IMAGE, command=("sh", "-c", "exit 3"), network="none"))
    assert (container.state, container.pid) == ("created", 0)
    assert container.name
    handle = containers.handle(container.name)
    handle.start()
    assert handle.wait(timeout_s=20) == 3
    found = containers.get(container.id)
    assert (found.state, found.exit_code, found.pid, found.error) == ("exited", 3, 0, "")
    assert found.finished_ns >= found.started_ns > container.created_ns
    handle.remove()
    with pytest.raises(NotFound, match=f"No such container: {container.id}"):
        containers.get(container.id)
    home.assert_consistent()


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$; sleep 9", 0)])
def test_exit_codes(home: Home, script: str, code: int) -> None:
    # The first process of a pid namespace does not die of its own signals.
    if "kill" in script:
        container = home.shell("sleep 60")
        container.kill()
        code = 137
    else:
        container = home.shell(script)
    assert container.wait(timeout_s=20) == code
    assert home.engine.containers.get(container.id).exit_code == code


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        (("no-such-program",), 127, "no-such-program"),
        (("/no/such/program",), 127, "/no/such/program"),
        (("/etc/passwd",), 126, "permission denied"),
        (("/etc",), 126, "/etc"),
    ],
)
def test_a_command_that_cannot_start(home: Home, command: tuple[str, ...], code: int, text: str) -> None:
    before = home.traces()
    container = home.engine.containers.create(ContainerRequest(image=IMAGE, command=command, network="none"))
    with pytest.raises(LaunchFailed, match=text) as caught:
        home.engine.containers.start(container.id)
    assert caught.value.exit_code == code
    found = home.engine.containers.get(container.id)
    assert (found.state, found.exit_code, found.error) == ("created", code, str(caught.value))
    home.engine.containers.remove(container.id)
    assert home.traces() == before
    with pytest.raises(LaunchFailed):
        home.start(*command, name="t")
    assert home.engine.containers.list(every=True) == []
    assert home.traces() == before


def test_stop_asks_then_kills(home: Home) -> None:
    polite = ready(home.shell(TRAP))
    polite.stop()
    assert home.engine.containers.get(polite.id).exit_code == 7
    polite.stop()  # of one that has ended: nothing to do
    deaf = ready(home.shell("trap '' TERM; echo ready; while :; do sleep 0.05; done"))
    began = time.monotonic()
    deaf.stop(timeout_s=1)
    assert 0.9 < time.monotonic() - began < 8
    assert home.engine.containers.get(deaf.id).exit_code == 137


def test_stop_signal_of_the_request(home: Home) -> None:
    container = ready(home.shell("trap 'exit 9' USR1; echo ready; while :; do sleep 0.05; done", stop_signal="SIGUSR1"))
    container.stop()
    assert container.wait() == 9


def test_kill_sends_any_signal(home: Home) -> None:
    container = ready(home.shell("trap 'echo hup' HUP; echo ready; while :; do sleep 0.05; done"))
    container.kill(signal=signal.SIGHUP)
    wait_for(lambda: len(list(container.logs())) == 2, "the answer to SIGHUP")
    assert container.status == "running"
    container.kill()
    assert container.wait(timeout_s=20) == 137
    with pytest.raises(Conflict, match="is not running"):
        container.kill()


def test_restart_keeps_files_and_gets_a_new_process(home: Home) -> None:
    container = home.shell("echo x >> /kept; cat /kept; sleep 60")
    wait_for(lambda: list(container.logs()), "the first line")
    first = home.engine.containers.get(container.id)
    again = home.engine.containers.restart(container.id, timeout_s=0)
    assert again.pid != first.pid
    wait_for(lambda: [line.log for line in container.logs()] == ["x\n", "x\n", "x\n"], "lines of both runs")


def test_pause_and_unpause(home: Home) -> None:
    containers = home.engine.containers
    container = ready(home.shell("while :; do echo tick; sleep 0.02; done", name="p"))
    container.pause()
    assert container.status == "paused"
    assert [c.id for c in containers.list()] == [container.id]
    count = len(list(container.logs()))
    with pytest.raises(Conflict, match="already paused"):
        containers.pause("p")
    with pytest.raises(Conflict, match="is paused, unpause the container before exec"):
        container.exec(["true"])
    with pytest.raises(Conflict, match="cannot start a paused container, try unpause instead"):
        container.start()
    with pytest.raises(TimeoutError):
        container.wait(timeout_s=0.3)
    assert len(list(container.logs())) - count <= 1  # what was on its way
    container.unpause()
    wait_for(lambda: len(list(container.logs())) > count + 2, "more lines")
    with pytest.raises(Conflict, match="Container p is not paused"):
        containers.unpause("p")
    container.pause()
    container.kill()
    assert container.wait(timeout_s=20) == 137
    with pytest.raises(Conflict, match="is not running"):
        containers.pause("p")


def test_stop_of_a_paused_one(home: Home) -> None:
    container = ready(home.shell(TRAP))
    container.pause()
    container.stop()
    assert home.engine.containers.get(container.id).exit_code == 7


def test_wait_has_a_timeout_and_knows_the_past(home: Home) -> None:
    container = home.shell("sleep 60")
    with pytest.raises(TimeoutError):
        container.wait(timeout_s=0.05)
    with pytest.raises(TimeoutError):
        container.wait(timeout_s=0)
    container.kill()
    assert [container.wait(timeout_s=20) for _ in range(2)] == [137, 137]


def test_wait_returns_when_a_container_is_removed(home: Home) -> None:
    container = home.shell("sleep 0.3; exit 5", auto_remove=True)
    assert home.engine.containers.wait(container.id, timeout_s=20) == 5
    wait_for(lambda: home.engine.containers.list(every=True) == [], "its removal")


def test_remove(home: Home) -> None:
    containers = home.engine.containers
    before = home.traces()
    container = home.shell("sleep 60", name="r")
    with pytest.raises(Conflict, match='cannot remove container "r": container is running: stop the container before'):
        container.remove()
    container.remove(force=True)
    with pytest.raises(NotFound):
        containers.remove("r", force=True)
    assert home.traces() == before
    home.assert_consistent()


def test_rename(home: Home) -> None:
    containers = home.engine.containers
    one, two = home.shell("sleep 60", name="one"), home.shell("sleep 60", name="two")
    with pytest.raises(Conflict, match='The container name "/two" is already in use by container'):
        containers.rename("one", "two")
    with pytest.raises(InvalidArgument):
        containers.rename("one", "not a name")
    containers.rename("one", "three")
    assert (one.name, two.name, containers.get("three").id) == ("three", "two", one.id)
    with pytest.raises(NotFound):
        containers.get("one")


def test_names_and_the_beginnings_of_ids(home: Home) -> None:
    containers = home.engine.containers
    container = home.shell("sleep 60", name="here")
    for ref in ("here", "/here", container.id, container.id[:12], container.id[:6]):
        assert containers.get(ref).id == container.id
    with pytest.raises(Conflict, match="already in use"):
        home.shell("true", name="here")


def test_exec(home: Home) -> None:
    container = home.shell("sleep 60", env=("A=1",), hostname="h")
    done = container.exec(["sh", "-c", "echo $A $B; hostname; pwd; id -u; echo no >&2; exit 4"], env=["B=2"])
    assert (done.exit_code, done.stdout, done.stderr) == (4, b"1 2\nh\n/\n0\n", b"no\n")
    done = container.exec(["sh", "-c", "id -u; pwd; grep NoNewPrivs /proc/self/status"], user="www", workdir="/tmp")
    assert done.stdout.split() == [b"82", b"/tmp", b"NoNewPrivs:", b"0"]
    assert container.exec(["sh", "-c", "kill -9 $$"]).exit_code == 137
    with pytest.raises(LaunchFailed, match="nothing-here") as caught:
        container.exec(["nothing-here"])
    assert caught.value.exit_code == 127
    with pytest.raises(LaunchFailed) as caught:
        container.exec(["/etc/passwd"])
    assert caught.value.exit_code == 126
    assert container.status == "running"
    container.kill()
    container.wait()
    with pytest.raises(Conflict, match="is not running"):
        container.exec(["true"])


def test_sessions_end_with_their_container_and_leave_nothing(home: Home) -> None:
    before = home.traces()
    container = home.shell("sleep 60")
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(container.exec(["sleep", "60"]).exit_code))
    thread.start()
    sleepers = [["sleep", "60"]] * 2  # the shell has become its last command
    wait_for(lambda: [command_of(pid) for pid in home.engine.containers.pids(container.id)] == sleepers, "the session")
    container.remove(force=True)
    thread.join(20)
    assert results == [137]
    assert home.traces() == before


def test_logs(home: Home) -> None:
    container = home.shell("echo one; echo two >&2; printf three")
    container.wait()
    found = [(line.stream, line.log) for line in container.logs()]  # two pipes: between them there is no order
    assert [log for stream, log in found if stream == "stdout"] == ["one\n", "three"]
    assert [log for stream, log in found if stream == "stderr"] == ["two\n"]
    assert len(list(container.logs(tail=1))) == 1
    assert list(container.logs(tail=0)) == []
    silent = home.start("echo", "x")
    silent.wait()
    assert [line.log for line in silent.logs()] == ["x\n"]


def test_ps_and_inspect(home: Home) -> None:
    one, two = home.shell("sleep 60", name="one"), home.shell("exit 2", name="two")
    two.wait()
    containers = home.engine.containers
    assert [c.name for c in containers.list()] == ["one"]
    assert [c.name for c in containers.list(every=True)] == ["two", "one"]
    pid = containers.get("one").pid
    assert pid in containers.pids("one")
    assert Path(f"/proc/{pid}/comm").read_text() in ("sh\n", "sleep\n")
    assert two.status == "exited"
    with pytest.raises(Conflict, match="is not running"):
        containers.pids("two")
    assert one.statistics().pids


def test_export_and_commit(home: Home, tmp_path: Path) -> None:
    container = home.shell("echo data > /added; rm /etc/group; mkdir /d; chown 82:82 /d; echo up; sleep 60")
    ready(container)
    entries = read_tree(home.engine, container.id, tmp_path / "out.tar")
    assert "added" in entries or "./added" in entries
    assert not {"etc/group", "./etc/group"} & set(entries)
    image = home.engine.containers.commit(container.id, name="changed:1", author="me", message="why")
    assert container.status == "running"
    config = home.engine.images.config("changed:1")
    assert config.author == "me"
    assert config.history is not None
    assert config.history[-1].comment == "why"
    assert image.layers[:-1] == home.image.layers
    again = home.shell("cat /added; ls -d /etc/group; stat -c %u:%g /d", image="changed:1")
    assert home.output(again).splitlines()[0] == "data"
    assert "82:82\n" in home.output(again)


def test_volumes_outlive_and_anonymous_ones_go(home: Home) -> None:
    mounts = (MountRequest(type="volume", source="kept", target="/v"), MountRequest(type="volume", target="/w"))
    container = home.shell("echo 1 >> /v/n; echo 1 > /w/n", mounts=mounts)
    container.wait()
    home.engine.containers.remove(container.id, volumes=True)
    assert os.listdir(home.root / "volumes") == ["kept"]
    again = home.shell("cat /v/n; ls /w", mounts=mounts)
    assert home.output(again) == "1\n"


@pytest.mark.parametrize("read_only", [False, True])
def test_a_working_directory_that_is_missing_is_made(home: Home, read_only: bool) -> None:
    place = home.shell("stat -c '%n %a %u' $PWD; ls -d ../*", workdir="/made/for/it", read_only=read_only)
    assert home.output(place) == "/made/for/it 755 0\n../it\n"
    assert ("A", b"/made/for/it") in home.engine.containers.changes(place.id)


def test_a_working_directory_that_cannot_be(home: Home) -> None:
    done = home.onggi("run", "--rm", "-w", "/etc/passwd/x", IMAGE, "true")
    assert done.returncode == 125
    assert "chdir /etc/passwd/x: not a directory" in done.stderr
    done = home.onggi("run", "--rm", "-w", "/proc/self/fd/9", IMAGE, "true")
    assert done.returncode == 125
    assert "chdir /proc/self/fd/9" in done.stderr
