"""What containers, images and volumes leave in the record of events, as dockerd told it of the same commands."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

import onggi
from onggi import ContainerRequest, LaunchFailed, MountRequest, ResourceRequest
from onggi.plan.facts import Facts
from onggi.plan.ops import Plan
from onggi.store.events import Event
from tests.containers import wait_for
from tests.homes import IMAGE, TIMEOUT_S, Home

KILLED: Final = """
import os, sys
from onggi import Engine
from onggi.host.launcher import Launcher, Waiting

root, program, build_id, container = sys.argv[1:]
execute = Waiting.run

def execute_and_die(*arguments, **options):
    execute(*arguments, **options)
    os.kill(os.getpid(), 9)

Waiting.run = execute_and_die
Engine(root, launcher=Launcher(program, build_id)).containers.start(container)
"""


def told(home: Home, *kinds: str) -> list[str]:
    """List the actions of some kinds, `container` alone without any, in the order of the record."""
    home.engine.system.fold()
    return [event.action for event in past(home) if event.type in (kinds or ("container",))]


def past(home: Home) -> list[Event]:
    """Read all that was recorded since the home was made."""
    return list(home.engine.system.events(since_ns=0, until_ns=time.time_ns()))


def test_the_life_of_a_container(home: Home) -> None:
    container = home.start("sleep", "600", name="bb", labels={"owner": "me"})
    container.pause()
    container.unpause()
    container.kill(signal=10)
    home.engine.containers.rename("bb", "cc")
    container.update(ResourceRequest(pids=50))
    home.engine.containers.restart("cc", timeout_s=0)
    container.stop(timeout_s=0)
    container.remove()
    assert told(home) == [
        *("create", "start", "pause", "unpause", "kill", "rename", "update"),
        *("kill", "kill", "die", "stop", "start", "restart"),
        *("kill", "kill", "die", "stop", "destroy"),
    ]
    events = [event for event in past(home) if event.type == "container"]
    assert {event.actor for event in events} == {container.id}
    common = {"image": IMAGE, "owner": "me"}
    by_action = {event.action: event.attributes for event in events}
    assert by_action["create"] == {**common, "name": "bb"}
    assert by_action["rename"] == {**common, "name": "cc", "oldName": "/bb"}
    assert by_action["die"] == {**common, "name": "cc", "exitCode": "137", "execDuration": "0"}
    assert by_action["destroy"] == {**common, "name": "cc"}
    assert [event.attributes["signal"] for event in events if event.action == "kill"] == ["10", "15", "9", "15", "9"]
    times = [event.time_ns for event in events]
    assert times == sorted(times)


@pytest.mark.parametrize("warm", [True, False])
def test_run_with_rm(home: Home, warm: bool) -> None:
    home.ok("run", "--rm", "--name", "oo", "--network", "none", IMAGE, "true", warm=warm)
    assert told(home) == ["create", "attach", "start", "die", "destroy"]
    assert {event.attributes["name"] for event in past(home) if event.type == "container"} == {"oo"}
    assert told(home, "network") == ["connect", "disconnect"]


def test_a_start_that_fails_is_no_start(home: Home) -> None:
    container = home.engine.containers.create(ContainerRequest(image=IMAGE, command=("nothing",), network="none"))
    with pytest.raises(LaunchFailed):
        home.engine.containers.start(container.id)
    home.engine.containers.remove(container.id)
    assert told(home) == ["create", "destroy"]


def test_a_container_that_runs_out_of_memory(home: Home) -> None:
    limits = ResourceRequest(memory_bytes=8 << 20, memory_swap_bytes=8 << 20)
    container = home.shell("x=aaaa; while :; do x=$x$x; done", resources=limits)
    assert container.wait(timeout_s=TIMEOUT_S) == 137
    assert told(home)[-2:] == ["oom", "die"]


def test_networks_and_volumes(home: Home) -> None:
    mounts = (MountRequest(type="volume", source="vol", target="/v", read_only=True),)
    container = home.start("true", network="host", mounts=mounts)
    container.wait(timeout_s=TIMEOUT_S)
    container.remove()
    home.ok("volume", "rm", "vol")
    home.engine.volumes.create("other")
    home.engine.volumes.create("other")
    seen = [(event.type, event.action, event.actor, event.attributes) for event in past(home)]
    of = {"container": str(container.id)}
    assert [event for event in seen if event[0] == "network"] == [
        ("network", "connect", "host", {**of, "name": "host", "type": "host"}),
        ("network", "disconnect", "host", {**of, "name": "host", "type": "host"}),
    ]
    mount = {**of, "destination": "/v", "driver": "local", "propagation": "", "read/write": "false"}
    assert [event for event in seen if event[0] == "volume"] == [
        ("volume", "create", "vol", {"driver": "local"}),
        ("volume", "mount", "vol", mount),
        ("volume", "unmount", "vol", {**of, "driver": "local"}),
        ("volume", "destroy", "vol", {"driver": "local"}),
        ("volume", "create", "other", {"driver": "local"}),
    ]


def test_exec(home: Home) -> None:
    container = home.start("sleep", "600", name="bb")
    assert container.exec(["true"]).exit_code == 0
    assert container.exec(["sh", "-c", "exit 5"]).exit_code == 5
    with pytest.raises(LaunchFailed):
        container.exec(["nothing"])

    def ended() -> bool:
        return told(home).count("exec_die") == 3

    wait_for(ended, "all sessions to be folded")
    sessions = [event for event in past(home) if event.action.startswith("exec_")]
    ids = list(dict.fromkeys(event.attributes["execID"] for event in sessions))
    assert len(ids) == 3
    of = {id: [e for e in sessions if e.attributes["execID"] == id] for id in ids}
    assert [e.action for e in of[ids[0]]] == ["exec_create: true ", "exec_start: true ", "exec_die"]
    assert [e.action for e in of[ids[1]]][:2] == ["exec_create: sh -c exit 5", "exec_start: sh -c exit 5"]
    assert [of[id][-1].attributes["exitCode"] for id in ids] == ["0", "5", "127"]
    assert not [name for name in (home.run / "containers" / container.id).iterdir() if name.name.startswith("exec-")]


def test_sessions_do_not_pile_up_where_nobody_looks(home: Home) -> None:
    container = home.start("sleep", "600")
    for _ in range(40):
        container.exec(["true"])
    left = [path for path in (home.run / "containers" / container.id).iterdir() if path.name.startswith("exec-")]
    assert len(left) < 25
    wait_for(lambda: told(home).count("exec_die") == 40, "all sessions to be folded")


def test_sessions_of_a_container_that_has_ended(home: Home) -> None:
    container = home.start("sleep", "600")
    container.exec(["true"])
    container.remove(force=True)
    assert told(home)[-4:] in (["exec_die", "kill", "die", "destroy"], ["kill", "exec_die", "die", "destroy"])


def test_images(home: Home, tmp_path: Path) -> None:
    container = home.start("true", labels={"k": "v"}, name="cc")
    container.wait(timeout_s=TIMEOUT_S)
    image = home.engine.containers.commit("cc", name="img", message="why")
    home.ok("tag", "img", "img2")
    home.ok("rmi", "img2")
    home.ok("save", "img", "-o", str(tmp_path / "img.tar"))
    home.ok("rmi", "img")
    home.ok("load", "-i", str(tmp_path / "img.tar"))
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    home.ok("build", "-t", "built", "-t", "again", str(tmp_path))
    seen = [event for event in past(home) if event.type == "image"]
    assert [event.action for event in seen] == [
        *("tag", "import"),  # of the home's own image
        *("tag", "tag", "untag", "save", "untag", "delete", "load", "tag", "tag"),
    ]
    assert [event.attributes["name"] for event in seen if event.action == "tag"] == [
        *("box:latest", "img:latest", "img2:latest", "built:latest", "again:latest")
    ]
    assert {event.actor for event in seen[2:9]} == {image.id}
    assert seen[2].attributes == {"name": "img:latest", "k": "v"}
    (commit,) = [event for event in past(home) if event.action == "commit"]
    assert commit.attributes == {
        "comment": "why",
        "image": IMAGE,
        "imageID": str(image.id),
        "imageRef": "img:latest",
        "k": "v",
        "name": "cc",
    }


def test_export_attach_and_labels_of_the_image(home: Home, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nLABEL of=image both=image\n")
    home.ok("build", "-q", "-t", "labelled", str(tmp_path))
    container = home.start("sleep", "600", image="labelled", labels={"both": "container"})
    home.ok("export", container.name, "-o", str(tmp_path / "out.tar"))
    home.engine.containers.connect(container.id).close()
    events = [event for event in past(home) if event.type == "container"]
    assert [event.action for event in events] == ["create", "start", "export", "attach"]
    assert events[0].attributes["of"] == "image"
    assert events[0].attributes["both"] == "container"


def test_copying_and_pruning(home: Home, tmp_path: Path) -> None:
    home.engine.containers.create(ContainerRequest(image=IMAGE, network="none"), name="box")
    (tmp_path / "file").write_text("x")
    home.ok("cp", "box:/etc/passwd", str(tmp_path))
    home.ok("cp", str(tmp_path / "file"), "box:/tmp")
    home.ok("cp", "box:/etc/passwd", "-")
    assert told(home) == ["create", "archive-path", "extract-to-dir", "archive-path"]
    home.ok("system", "prune", "-f", "--volumes")
    pruned = [(event.type, event.actor, event.attributes) for event in past(home) if event.action == "prune"]
    assert [kind for kind, _, _ in pruned] == ["container", "volume", "image", "builder"]
    assert pruned[1:] == [(kind, "", {"reclaimed": "0"}) for kind in ("volume", "image", "builder")]
    assert pruned[0][2] == {"reclaimed": "1"}


def test_a_start_is_told_once_where_the_starter_was_killed(home: Home) -> None:
    """Whoever folds first tells of it, and of the end too."""
    container = home.engine.containers.create(ContainerRequest(image=IMAGE, command=("true",), network="none"))
    done = subprocess.run(
        [sys.executable, "-c", KILLED, home.root, home.launcher.program, home.launcher.build_id, container.id],
        check=False,
        timeout=TIMEOUT_S,
        env={**home.environment(), "PYTHONPATH": str(Path(onggi.__file__).parent.parent)},
    )
    assert done.returncode == -9
    assert home.engine.containers.wait(container.id, timeout_s=TIMEOUT_S) == 0
    assert told(home) == ["create", "start", "die"]


def test_a_start_is_told_once_where_another_command_saw_it_first(home: Home) -> None:
    container = home.engine.containers.create(ContainerRequest(image=IMAGE, command=("sleep", "600"), network="none"))
    with home.another() as other:

        def spawn_and_look(plan: Plan, inherited: Sequence[int], facts: Facts) -> int:
            pid = home.launcher.run(plan, inherited, facts=facts)
            other.system.fold()
            assert other.containers.recorded(("running",))
            return pid

        home.engine.containers.start(container.id, spawn=spawn_and_look)
    assert told(home) == ["create", "start"]


def test_a_stream_hears_of_an_end_by_itself(home: Home) -> None:
    """No onggid folds here, and no other command."""
    words = home.words("events", "--filter", "container=box", "--format", "{{.Action}}", "--since", "0")
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=home.environment(warm=False), text=True) as stream:
        try:
            assert stream.stdout is not None
            wait_for(lambda: is_listening(home, stream.pid), "the stream to begin")
            container = home.shell("read line", stdin_open=True, name="box")
            container.kill()
            heard = [stream.stdout.readline().strip() for _ in range(4)]
            assert heard == ["create", "start", "kill", "die"]
        finally:
            stream.kill()


def is_listening(home: Home, pid: int) -> bool:
    """Tell whether a process has the database of this root open."""
    with suppress(OSError):
        return any(
            os.readlink(f"/proc/{pid}/fd/{fd}").endswith("db.sqlite-wal") for fd in os.listdir(f"/proc/{pid}/fd")
        )
    return False


def test_a_stream_ends_with_until(home: Home) -> None:
    assert home.ok("events", "--until", str(time.time() + 0.5)) == ""


def test_past_events_by_the_command(home: Home) -> None:
    home.start("sh", "-c", "exit 4", name="box").wait(timeout_s=TIMEOUT_S)
    said = home.ok("events", "--since", "1h", "--until", "0s", "--filter", "event=die", warm=False)
    (line,) = said.splitlines()
    id = home.engine.containers.get("box").id
    assert f" container die {id} (execDuration=0, exitCode=4, image={IMAGE}, name=box)" in line
    assert home.ok("system", "events", "--since", "0", "--until", "0s", "--format", "{{.Type}}").splitlines()
    assert home.ok("events", "--since", "0", "--until", "1") == ""
    for words, code, text in (
        (("--since", "bogus"), 1, 'failed to parse value as time or duration: "bogus"'),
        (("--filter", "bogus"), 125, "bad format of filter (expected name=value)"),
        (("--filter", "a=b"), 1, "invalid filter 'a'"),
    ):
        done = home.onggi("events", "--until", "0s", *words)
        assert (done.returncode, text in done.stderr) == (code, True)
