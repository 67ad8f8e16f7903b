"""The small init ends as its payload does, passes signals on, reaps, and keeps nothing open."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.supervisor import TIMEOUT_S, harness


@contextmanager
def init(
    *argv: str, prefix: tuple[str, ...] = (), stdin: int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `argv` under the init."""
    process = subprocess.Popen(
        [*prefix, harness(), "init", *argv], stdin=stdin, stdout=subprocess.PIPE, start_new_session=True, bufsize=0
    )
    assert process.stdout is not None
    try:
        yield process
    finally:
        for child in children(process.pid):  # the init ends when its payload does
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        process.wait(TIMEOUT_S)
        process.stdout.close()


def children(pid: int) -> list[int]:
    """List the children of a process, none if it is gone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    return []


def read_line(process: subprocess.Popen[bytes]) -> bytes:
    """Read a line of output."""
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.parametrize("code", [0, 1, 255])
def test_it_ends_with_the_code_of_its_payload(code: int) -> None:
    with init("sh", "-c", f"exit {code}") as process:
        assert process.wait(TIMEOUT_S) == code


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_killed_payload_is_128_and_the_signal(number: int) -> None:
    with init("sh", "-c", f"kill -{int(number)} $$") as process:
        assert process.wait(TIMEOUT_S) == 128 + number


def test_signals_are_passed_on() -> None:
    numbers = [1, 2, 3, 10, 12, 14, 15, 20, 28, int(signal.SIGRTMIN) + 3]
    script = f"""
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, {numbers})
print("up", flush=True)
while True:
    print(int(signal.sigwait({numbers})), flush=True)
"""
    with init(sys.executable, "-c", script) as process:
        assert read_line(process) == b"up\n"
        for number in numbers:
            process.send_signal(number)
            assert int(read_line(process)) == number


@pytest.mark.parametrize(
    "prefix", [(), ("unshare", "-rpf", "--kill-child", "--mount-proc")], ids=["subreaper", "pid 1"]
)
def test_orphans_are_reaped(prefix: tuple[str, ...]) -> None:
    """As the first process of a pid namespace, and where it is not the first."""
    script = (
        "for i in 1 2 3 4 5; do (true &); done\n"
        'while cat /proc/[0-9]*/stat 2>/dev/null | grep -q "Z $PPID "; do :; done; echo none'
    )
    with init("sh", "-c", script, prefix=prefix) as process:
        assert read_line(process) == b"none\n"
        assert process.wait(TIMEOUT_S) == 0


def test_the_first_process_of_a_namespace_is_signalled_too() -> None:
    """The kernel gives that process only the signals that it handles or blocks."""
    script = "trap 'echo got; exit 3' TERM; kill -TERM 1; while :; do :; done"
    with init("sh", "-c", script, prefix=("unshare", "-rpf", "--kill-child", "--mount-proc")) as process:
        assert read_line(process) == b"got\n"
        assert process.wait(TIMEOUT_S) == 3


def test_nothing_stays_open_and_nothing_stays_blocked() -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    script = "import os; print(os.getppid(), os.getpgrp() == os.getpid(), flush=True); input()"
    stdin, feed = os.pipe()
    process = subprocess.Popen(
        [harness(), "init", sys.executable, "-c", script], stdin=stdin, stdout=subprocess.PIPE, pass_fds=[writer]
    )
    os.close(writer)
    os.close(stdin)
    try:
        parent, own_group = read_line(process).split()
        assert int(parent) == process.pid
        assert own_group == b"True"
        assert {int(path.name) for path in Path(f"/proc/{process.pid}/fd").iterdir()} == {0, 1, 2}
        (payload,) = children(process.pid)
        assert blocked(payload) == blocked(os.getpid())
    finally:
        os.close(feed)
        assert process.wait(TIMEOUT_S) == 1  # input() met the end of file
        assert process.stdout is not None
        process.stdout.close()
        os.close(reader)


def blocked(pid: int) -> int:
    """Read the blocked signals of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigBlk:"):
            return int(line.split()[1], 16)
    raise AssertionError("no SigBlk")


def test_the_payload_has_the_terminal() -> None:
    master, slave = pty.openpty()
    take = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    script = "import os, time; print(os.tcgetpgrp(0) == os.getpgrp(), flush=True); time.sleep(1000)"
    prefix = (sys.executable, "-c", take)
    try:
        with init(sys.executable, "-c", script, prefix=prefix, stdin=slave) as process:
            assert read_line(process) == b"True\n"
            os.write(master, b"\x03")  # to the group in the foreground, which the init is not in
            assert process.wait(TIMEOUT_S) in (1, 128 + signal.SIGINT)
    finally:
        os.close(master)
        os.close(slave)
