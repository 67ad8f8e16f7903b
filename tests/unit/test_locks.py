"""Locks: held by descriptors, probed without taking, gone with their last holder."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from onggi.base.errors import Conflict
from onggi.host.locks import LockTable, probe_lock, take_lock

SRC = Path(__file__).parents[2] / "src"
NAME, OTHER = "a" * 64, "b" * 64

HOLDER = """
import sys
sys.path.insert(0, sys.argv[1])
from onggi.host.locks import take_lock
lock = take_lock(sys.argv[2], "it")
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held_elsewhere(path: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Hold a lock in another process, until its stdin ends or the block does."""
    command = [sys.executable, "-B", "-c", HOLDER, str(SRC), path]
    with ended(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process


@contextmanager
def ended(process: "subprocess.Popen[bytes]") -> Iterator["subprocess.Popen[bytes]"]:
    """See that a process ends, whatever happens."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        finish(process)


def finish(process: "subprocess.Popen[bytes]") -> None:
    """Let it go and wait for its end."""
    if process.stdin and not process.stdin.closed:
        process.communicate()


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Give the path of a lock file that is not there yet."""
    return f"{tmp_path}/lock"


def test_threads_of_one_process_exclude_each_other(path: str) -> None:
    with take_lock(path, "it"), pytest.raises(Conflict, match="it is in use by another command; try again"):
        take_lock(path, "it", timeout_s=0)
    take_lock(path, "it", timeout_s=0).close()


def test_shared_locks_share(path: str) -> None:
    with (
        take_lock(path, "it", shared=True),
        take_lock(path, "it", shared=True, timeout_s=0),
        pytest.raises(Conflict),
    ):
        take_lock(path, "it", timeout_s=0)
    take_lock(path, "it", timeout_s=0).close()


def test_processes_exclude_each_other_and_a_killed_one_lets_go(path: str) -> None:
    with held_elsewhere(path) as process:
        assert probe_lock(path)
        with pytest.raises(Conflict, match=r"waited 0\.05 s"):
            take_lock(path, "it", timeout_s=0.05)
        process.send_signal(signal.SIGKILL)
    assert not probe_lock(path)
    take_lock(path, "it", timeout_s=0).close()


def test_a_waiter_gets_it_when_it_is_free(path: str) -> None:
    got = threading.Event()

    def wait() -> None:
        with take_lock(path, "it", timeout_s=60):
            got.set()

    thread = threading.Thread(target=wait)
    with held_elsewhere(path):
        thread.start()
        assert not got.is_set()
    thread.join()
    assert got.is_set()


def test_blocking_waits_as_long_as_it_takes(path: str) -> None:
    thread = threading.Thread(target=lambda: take_lock(path, "it").close())
    with held_elsewhere(path):
        thread.start()
    thread.join(60)
    assert not thread.is_alive()


def test_an_exclusive_lock_becomes_shared(path: str) -> None:
    with take_lock(path, "it") as lock:
        lock.share()
        take_lock(path, "it", shared=True, timeout_s=0).close()
        with pytest.raises(Conflict):
            take_lock(path, "it", timeout_s=0)


def test_whoever_inherits_the_descriptor_holds_it_too(path: str) -> None:
    with take_lock(path, "it", shared=True) as lock:
        heir = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(lock.fd,))
    with ended(heir):
        assert probe_lock(path)
        finish(heir)
        assert not probe_lock(path)


def test_probing_takes_nothing(path: str) -> None:
    assert not probe_lock(path)
    assert not os.path.exists(path)
    with take_lock(path, "it", shared=True):
        assert probe_lock(path)
        assert not probe_lock(path, shared=True)
    failed = 0
    stop = threading.Event()

    def probe() -> None:
        while not stop.is_set():
            probe_lock(path)

    thread = threading.Thread(target=probe)
    thread.start()
    for _ in range(500):
        try:
            take_lock(path, "it", timeout_s=0).close()
        except Conflict:
            failed += 1
    stop.set()
    thread.join()
    assert failed == 0


def test_names_of_a_table_are_independent(path: str) -> None:
    table = LockTable(path)
    with table.take(NAME, "it"):
        assert table.probe(NAME)
        assert not table.probe(OTHER)
        assert table.attempt(NAME) is None
        other = table.attempt(OTHER)
        assert other is not None
        other.close()
        with pytest.raises(Conflict):
            table.take(NAME, "it", shared=True, timeout_s=0)
    assert not table.probe(NAME)
    assert os.path.getsize(path) == 0


def test_the_largest_name_fits_the_kernel(path: str) -> None:
    table = LockTable(path)
    with table.take("f" * 128, "it"):
        assert table.probe("f" * 64)


def test_a_lock_leaks_no_descriptor(path: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with take_lock(path, "it"):
        for _ in range(3):
            with pytest.raises(Conflict):
                take_lock(path, "it", timeout_s=0)
    assert len(os.listdir("/proc/self/fd")) == before
