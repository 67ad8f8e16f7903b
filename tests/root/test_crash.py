"""SIGKILL after every record of a plan, launcher and child, once each: a sweep brings everything back within 10 s.

tests/crash_driver.py does it, in a pid and mount namespace of its own.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import pytest

from launcher import build
from onggi.base.errors import Conflict, Corrupt
from onggi.host.files import Files
from onggi.host.locks import take_lock
from onggi.host.sweep import begin_start, clear, is_alive, sweep
from onggi.plan.cgroup import plan_directories
from onggi.plan.facts import Facts
from onggi.runtime.records import parse_exit
from tests.containers import Room, compile_launcher, wait_for
from tests.soak import MINUTES, timeout

ROOT: Final = Path(__file__).parent.parent.parent
V2: Final = 'umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"'
CASES: Final = ("pipes", "terminal", "pod", "v2")
SOAKED: Final = ("pipes v2", "terminal v2", "pod v2") if MINUTES else ()


@pytest.fixture(scope="session")
def crash_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a launcher that can be told to die."""
    return compile_launcher(tmp_path_factory.mktemp("crash-launcher"), *build.CRASH_TEST)


def run_driver(case: str, *arguments: str) -> list[dict[str, Any]]:
    """Run the driver as the first process of a pid namespace."""
    script = V2 if case.endswith("v2") else 'exec "$@"'
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "sh", "-c", script, "sh"]
    done = subprocess.run(
        [*command, sys.executable, "-B", "-m", "tests.crash_driver", *arguments, case.split()[0]],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "src:."},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    results: list[dict[str, Any]] = json.loads(done.stdout)
    return results


@pytest.mark.timeout(timeout(170))
@pytest.mark.parametrize("case", [*CASES, *SOAKED])
def test_a_crash_anywhere_is_swept(
    case: str, crash_program: Path, tmp_path: Path, rootfs: Path, facts: Facts, capsys: pytest.CaptureFixture[str]
) -> None:
    if case.endswith("v2") and facts.cgroup.unified is None:
        pytest.skip("needs cgroup2")
    results = run_driver(case, str(crash_program), str(tmp_path / "room"), str(rootfs))
    for result in results:
        assert (result["left"], result["errors"], result["wrong"]) == ({}, [], []), result
        assert result["seconds"] < 10, result
        assert result["status"] in (0, 125, 137), result
    never, *crashes = results
    assert (never["outcome"], never["status"]) == ("started", 0)
    outcomes = [result["outcome"] for result in crashes]
    assert {*outcomes} == {"killed", "failed", "started"}
    lost = [result for result in crashes if result["outcome"] == "killed"]
    assert {result["status"] for result in lost} == {137}
    with capsys.disabled():
        slowest = max(result["seconds"] for result in crashes)
        print(f"\n{case}: {len(crashes)} crashes, one after each record; swept within {slowest:.2f} s")


# -- the sweep by itself ---------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> str:
    """Give an empty run directory."""
    path = tmp_path / "root" / "c1"
    path.mkdir(parents=True)
    return str(path)


def test_a_start_that_is_under_way_is_left_alone(run: str) -> None:
    files, root = Files(), os.path.dirname(run)
    with begin_start(files, run, {}, now_ns=1):
        assert is_alive(run)
        assert sweep(files, root, now_ns=2) == ((), ())
        with take_lock(f"{run}/lock", "the container"):
            assert not clear(files, run, now_ns=2)
    assert not Path(f"{run}/exit").exists()
    assert sweep(files, root, now_ns=2) == ((run,), ())
    assert sweep(files, root, now_ns=3) == ((), ())
    record = parse_exit(Path(f"{run}/exit").read_bytes())
    assert (record.status, record.at_ns) == (137, 2)


def test_what_runs_is_left_alone_and_not_started_again(run: str) -> None:
    files = Files()
    begin_start(files, run, {}, now_ns=1).close()
    with take_lock(f"{run}/lock", "the container"):
        assert not clear(files, run, now_ns=2)
        with pytest.raises(Conflict, match="is running"):
            begin_start(files, run, {}, now_ns=2)
        assert is_alive(run)
    assert clear(files, run, now_ns=3)


def test_two_sweeps_at_once_are_one(run: str) -> None:
    files = Files()
    begin_start(files, run, {}, now_ns=1).close()
    with take_lock(f"{run}/starting", "another sweep"):
        assert not clear(files, run, now_ns=2)
    assert clear(files, run, now_ns=2)


def test_an_end_that_was_recorded_stays_as_it_was(run: str, tmp_path: Path) -> None:
    files = Files()
    tree = tmp_path / "tree"
    (tree / "below").mkdir(parents=True)
    begin_start(files, run, {}, (str(tree), str(tmp_path / "gone" / "tree")), now_ns=1).close()
    Path(f"{run}/exit").write_text("exit 3\nsignal 0\ntime 5\nlost 0\n")
    assert clear(files, run, now_ns=9)
    assert parse_exit(Path(f"{run}/exit").read_bytes()).code == 3
    assert not tree.exists()


def test_the_next_start_begins_clean(run: str) -> None:
    files = Files()
    begin_start(files, run, {}, now_ns=1).close()
    for name in ("exit", "state"):
        Path(f"{run}/{name}").write_text("old")
    with begin_start(files, run, {}, now_ns=2):
        assert sorted(os.listdir(run)) == ["cgroups", "starting", "trees"]


def test_what_cannot_be_read_does_not_keep_others_from_being_swept(run: str) -> None:
    files, root = Files(), os.path.dirname(run)
    other = f"{root}/c2"
    os.mkdir(other)
    for place in (run, other):
        begin_start(files, place, {}, now_ns=1).close()
    Path(f"{run}/cgroups").write_text("{")
    cleared, errors = sweep(files, root, now_ns=2)
    assert cleared == (other,)
    assert [type(error) for error in errors] == [Corrupt]


def test_processes_of_a_lost_container_are_killed(room: Room) -> None:
    """One that got rid of its death signal, as a setuid program does, and the cgroups beneath its own."""
    spec = room.spec("sh", "-c", "sleep 60 & echo $! up; wait", pid="host")
    assert spec.linux is not None
    plan, run = room.plan(spec)
    directories = plan_directories(spec.linux.cgroups_path or "", room.facts.cgroup)
    with begin_start(Files(), str(run), directories, now_ns=time.time_ns()):
        running = room.launch(plan, run)
    orphan = int(running.read_until(b"up\n").split()[0])
    supervisor = int(Path(f"/proc/{running.pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(supervisor, 9)
    assert running.hear() == (b"", b"")
    running.close()
    wait_for(lambda: not is_alive(str(run)), "the supervisor's end")
    wait_for(lambda: Path(f"/proc/{orphan}/cmdline").read_bytes() == b"sleep\x0060\x00", "the orphan")
    assert clear(Files(), str(run), now_ns=time.time_ns())
    assert not Path(f"/proc/{orphan}").exists() or "Z" in Path(f"/proc/{orphan}/stat").read_text()
    assert not [path for path in directories.values() if Path(path).exists()]
