"""A launcher that has been started and has no plan yet."""

import os
import resource
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from onggi.host.launcher import Launcher, LaunchFailed
from onggi.plan.ops import Plan
from tests.containers import wait_for


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that only this test is in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def waiting_in(place: Path) -> list[int]:
    """The launchers that were started there and have come to ignore a terminal's signals."""
    found = []
    for entry in os.listdir("/proc"):
        with suppress(OSError):
            if entry.isdigit() and os.readlink(f"/proc/{entry}/cwd") == str(place):
                words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
                lines = Path(f"/proc/{entry}/status").read_text().splitlines()
                ignored = next(int(line.split()[1], 16) for line in lines if line.startswith("SigIgn:"))
                if words[:2] == [b"onggi-launcher", b"supervise"] and ignored >> (signal.SIGINT - 1) & 1:
                    found.append(int(entry))
    return found


def test_it_waits_and_ends_when_it_is_let_go(launcher: Launcher, place: Path) -> None:
    waiting = launcher.prepare()
    wait_for(lambda: waiting_in(place), "it waits")
    waiting.close()
    wait_for(lambda: not waiting_in(place), "it has ended")


def test_ctrl_c_is_for_whoever_plans(launcher: Launcher, place: Path) -> None:
    with launcher.prepare():
        wait_for(lambda: waiting_in(place), "it waits")
        (pid,) = waiting_in(place)
        os.kill(pid, signal.SIGINT)
        os.kill(pid, 0)
        assert waiting_in(place) == [pid]
    wait_for(lambda: not waiting_in(place), "it has ended")


def test_too_many_descriptors_are_a_sentence(launcher: Launcher, place: Path) -> None:
    """Not a wait without end for those that the kernel did not hand over."""
    with launcher.prepare() as waiting, open("/dev/null", "rb") as file:
        wait_for(lambda: waiting_in(place), "it waits")
        (pid,) = waiting_in(place)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (16, 16))
        with pytest.raises(LaunchFailed, match=r"too many open files; raise the limit of open files \(ulimit -n\)"):
            waiting.run(Plan(before=(), child=(), beside=(), after=()), [file.fileno()] * 40)
    wait_for(lambda: not waiting_in(place), "it has ended")
