"""The client role carries stdio both ways and leaves the terminal as it found it, whatever ends it."""

import errno
import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.supervisor import ALL, CHUNK, KEEP_OPEN, PROXY, RAW, STDERR, STDOUT, TIMEOUT_S, Attached, attach, supervise

CTRL_P_CTRL_Q = "\x10\x11"


def failed(error: int) -> int:
    """Give the code with which the harness reports a negative errno."""
    return (200 + error) & 0xFF


def end(attached: Attached, code: int = 0, number: int = 0) -> None:
    """Let the supervisor say how the child ended."""
    attached.send(b"q", struct.pack("=ii", code, number))


def is_raw(fd: int) -> bool:
    """Say whether a terminal hands on every key."""
    return not termios.tcgetattr(fd)[3] & (termios.ICANON | termios.ISIG | termios.ECHO)


def wait_until(condition: Callable[[], bool], seconds: float = TIMEOUT_S) -> None:
    """Look again and again, for as long as a test may take."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def catches(pid: int, number: int) -> bool:
    """Say whether a process has a handler for a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(status.partition("SigCgt:")[2].split()[0], 16) >> (number - 1) & 1)


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """Give the two ends of a new terminal."""
    master, slave = pty.openpty()
    try:
        yield master, slave
    finally:
        os.close(master)
        with suppress(OSError):
            os.close(slave)


# -- pipes -----------------------------------------------------------------------------------------------


def test_output_and_code() -> None:
    with attach(ALL & ~1) as attached:
        attached.send(b"o", b"out" * 10000)
        attached.send(b"x", b"err")
        attached.send(b"o", b"more")
        end(attached, 42)
        assert attached.finish() == (42, b"out" * 10000 + b"more", b"err")


@pytest.mark.parametrize(("code", "number", "expected"), [(0, 0, 0), (255, 0, 255), (0, 9, 137), (0, 15, 143)])
def test_how_a_child_ended(code: int, number: int, expected: int) -> None:
    with attach(STDOUT) as attached:
        end(attached, code, number)
        assert attached.finish()[0] == expected


def test_it_joins_with_the_streams_asked_for() -> None:
    with attach(STDOUT | STDERR) as attached:
        assert attached.streams == STDOUT | STDERR
        end(attached)
        assert attached.finish()[0] == 0


def test_input_and_its_end() -> None:
    data = bytes(range(256)) * 1000
    with attach(ALL, input=data) as attached:
        assert attached.read_input() == data
        end(attached)
        assert attached.finish()[0] == 0


@pytest.mark.parametrize("packets", range(1, 9))
def test_the_end_of_input_waits_for_room(tmp_path: Path, packets: int) -> None:
    """One of these numbers leaves no room in the socket for the end of input."""
    data = bytes(packets * (CHUNK - 32))
    (tmp_path / "input").write_bytes(data)
    with (tmp_path / "input").open("rb") as stdin, attach(ALL, stdin=stdin.fileno()) as attached:
        with suppress(AssertionError):
            wait_until(lambda: stdin.tell() == len(data), seconds=0.2)
        assert attached.read_input() == data
        end(attached)
        assert attached.finish()[0] == 0


def test_the_end_of_input_may_be_kept() -> None:
    with attach(ALL, KEEP_OPEN, input=b"abc") as attached:
        assert attached.receive() == (b"i", b"abc")
        end(attached)
        assert attached.finish()[0] == 0
        assert attached.receive() == (b"", b"")


def test_a_gone_supervisor_is_an_error() -> None:
    with attach(STDOUT) as attached:
        attached.send(b"o", b"x")
        attached.sock.close()
        assert attached.finish() == (failed(errno.ECONNRESET), b"x", b"")


def test_an_end_behind_unread_input_is_seen() -> None:
    """The supervisor leaves without having read all input: the kernel reports a reset before what it sent."""
    with attach(ALL, input=b"x" * 100_000) as attached:
        assert attached.receive()[0] == b"i"
        end(attached, 3)
        attached.sock.close()
        assert attached.finish()[0] == 3


def test_another_version_is_refused() -> None:
    with attach(STDOUT, hello=b"h\x63") as attached:
        assert attached.finish()[0] == failed(errno.EPROTONOSUPPORT)


@pytest.mark.parametrize("packet", [b"?", b"q123", b"h"])
def test_what_makes_no_sense_is_refused(packet: bytes) -> None:
    with attach(STDOUT) as attached:
        attached.sock.send(packet)
        assert attached.finish()[0] in (failed(errno.EPROTO), failed(errno.EPROTONOSUPPORT))


def test_closed_output_ends_quietly() -> None:
    """As in `onggi logs | head`."""
    with attach(STDOUT) as attached:
        attached.stdout.close()
        attached.send(b"o", b"x")
        code, _, err = attached.finish()
        assert (code, err) == (failed(errno.EPIPE), b"")


def test_input_and_signals_pass_while_output_is_stuck() -> None:
    with attach(ALL, PROXY) as attached:
        attached.fill(b"o", 30000)  # no multiple of it fills a pipe
        attached.write(b"keys")
        assert attached.receive() == (b"i", b"keys")
        attached.process.send_signal(signal.SIGTERM)
        assert attached.control.recv(9) == b"s\x0f"


def test_flags_of_shared_descriptors_stay() -> None:
    with terminal() as (_, slave), attach(ALL, RAW, stdio=slave) as attached:
        wait_until(lambda: is_raw(slave))
        assert not fcntl.fcntl(slave, fcntl.F_GETFL) & os.O_NONBLOCK
        end(attached)
        assert attached.finish()[0] == 0


def test_nonblocking_descriptors_are_served_too() -> None:
    with terminal() as (master, slave):
        os.set_blocking(slave, False)
        with attach(ALL, RAW, stdio=slave) as attached:
            wait_until(lambda: is_raw(slave))
            os.write(master, b"keys")
            assert attached.receive() == (b"i", b"keys")
            attached.send(b"o", b"x" * 30000)
            end(attached)
            seen = b""
            while len(seen) < 30000:
                seen += os.read(master, 65536)
            assert attached.finish()[0] == 0


# -- signals ---------------------------------------------------------------------------------------------


def test_signals_are_passed_on() -> None:
    with attach(STDOUT, PROXY) as attached:
        attached.see_running()
        for number in (*map(signal.Signals, (1, 2, 3, 6, 10, 12, 14, 15)), signal.SIGRTMIN + 1, signal.SIGRTMAX):
            attached.process.send_signal(number)
            assert attached.control.recv(9) == b"s%c" % number
        end(attached, 0, signal.SIGTERM)
        assert attached.finish()[0] == 128 + signal.SIGTERM


def test_without_proxy_a_signal_ends_the_client() -> None:
    with attach(STDOUT) as attached:
        attached.see_running()
        attached.process.send_signal(signal.SIGTERM)
        assert attached.finish()[0] == -signal.SIGTERM


def test_what_the_caller_ignores_stays_ignored() -> None:
    with attach(STDOUT, PROXY, command=("nohup",)) as attached:
        attached.see_running()
        attached.process.send_signal(signal.SIGHUP)
        attached.process.send_signal(signal.SIGUSR1)
        assert attached.control.recv(9) == b"s%c" % signal.SIGUSR1
        end(attached)
        assert attached.finish()[0] == 0


# -- terminals ---------------------------------------------------------------------------------------------


def test_a_terminal_is_raw_meanwhile() -> None:
    with terminal() as (master, slave):
        before = termios.tcgetattr(slave)
        with attach(ALL, RAW, stdio=slave) as attached:
            wait_until(lambda: is_raw(slave))
            os.write(master, b"\x03\x1a\r")  # Ctrl-C and Ctrl-Z belong to the container
            assert attached.receive() == (b"i", b"\x03\x1a\r")
            end(attached, 5)
            assert attached.finish()[0] == 5
        assert termios.tcgetattr(slave) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT])
def test_a_killed_client_restores_the_terminal(number: int) -> None:
    with terminal() as (_, slave):
        before = termios.tcgetattr(slave)
        with attach(ALL, RAW, stdio=slave) as attached:
            wait_until(lambda: is_raw(slave))
            attached.process.send_signal(number)
            assert attached.finish()[0] == -number
        assert termios.tcgetattr(slave) == before


def test_a_terminal_is_restored_when_output_is_closed() -> None:
    with terminal() as (_, slave):
        before = termios.tcgetattr(slave)
        with attach(ALL, RAW, stdin=slave) as attached:
            wait_until(lambda: is_raw(slave))
            attached.stdout.close()
            attached.send(b"o", b"x")
            assert attached.finish()[0] == failed(errno.EPIPE)
        assert termios.tcgetattr(slave) == before


def test_a_hung_up_terminal_is_the_end_of_input() -> None:
    master, slave = pty.openpty()
    with attach(ALL, RAW, stdin=slave) as attached:
        wait_until(lambda: is_raw(slave))
        os.close(slave)
        os.close(master)
        assert attached.receive() == (b"e", b"")
        end(attached, 6)
        assert attached.finish()[0] == 6


def test_sizes_are_told() -> None:
    with terminal() as (master, slave):
        termios.tcsetwinsize(master, (20, 60))
        with attach(ALL, RAW, stdio=slave) as attached:
            assert attached.control.recv(9) == struct.pack("=cHH", b"r", 20, 60)
            termios.tcsetwinsize(master, (30, 90))
            attached.process.send_signal(signal.SIGWINCH)
            assert attached.control.recv(9) == struct.pack("=cHH", b"r", 30, 90)
            end(attached)
            assert attached.finish()[0] == 0


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGTSTP])
def test_a_stopped_client_takes_the_terminal_again(number: int) -> None:
    with terminal() as (master, slave):
        before = termios.tcgetattr(slave)
        with attach(ALL, RAW, stdio=slave) as attached:
            wait_until(lambda: is_raw(slave))
            attached.process.send_signal(number)
            os.waitid(os.P_PID, attached.process.pid, os.WSTOPPED)
            assert (termios.tcgetattr(slave) == before) == (number == signal.SIGTSTP)
            termios.tcsetattr(slave, termios.TCSANOW, before)  # as a shell does
            attached.process.send_signal(signal.SIGCONT)
            wait_until(lambda: is_raw(slave))
            os.write(master, b"x")
            assert attached.receive() == (b"i", b"x")
            end(attached)
            assert attached.finish()[0] == 0
        assert termios.tcgetattr(slave) == before


IN_THE_BACKGROUND = """
import fcntl, os, signal, subprocess, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # shells do
process = subprocess.Popen(sys.argv[1:], process_group=0, pass_fds=list(map(int, os.environ["FDS"].split())))
print(process.pid, file=sys.stderr, flush=True)
input()
os.tcsetpgrp(0, process.pid)
os.kill(process.pid, signal.SIGCONT)
sys.exit(process.wait())
"""


def test_a_client_in_the_background_leaves_the_terminal_alone(tmp_path: Path) -> None:
    """Not raw before it is brought to the front, and not stopped for having tried."""
    with terminal() as (master, slave):
        before = termios.tcgetattr(slave)
        with attach(ALL, RAW, stdin=slave, shell=IN_THE_BACKGROUND) as attached:
            attached.send(b"o", b"from the background")
            assert attached.read_output(19) == b"from the background"
            assert termios.tcgetattr(slave) == before
            os.write(master, b"fg\n")
            wait_until(lambda: is_raw(slave))
            os.write(master, b"x")
            assert attached.receive() == (b"i", b"x")
            end(attached, 7)
            assert attached.finish()[0] == 7
        assert termios.tcgetattr(slave) == before


# -- detach keys --------------------------------------------------------------------------------------------


def test_detach_keys_across_reads() -> None:
    with terminal() as (master, slave):
        before = termios.tcgetattr(slave)
        with attach(ALL, RAW, keys=CTRL_P_CTRL_Q, stdio=slave) as attached:
            wait_until(lambda: is_raw(slave))
            os.write(master, b"a\x10")
            assert attached.receive() == (b"i", b"a")
            os.write(master, b"b")  # it was only the beginning of them
            assert attached.receive() == (b"i", b"\x10b")
            os.write(master, b"\x10")
            os.write(master, b"\x11")
            assert attached.finish()[0] == failed(errno.ECANCELED)
        assert termios.tcgetattr(slave) == before


@settings(max_examples=100)
@given(
    keys=st.text("pq", min_size=1, max_size=5),
    data=st.text("pqx", max_size=40),
)
def test_detach_keys_are_found_and_nothing_is_lost(keys: str, data: str) -> None:
    with attach(ALL, keys=keys, input=data.encode()) as attached:
        if keys in data:
            assert attached.read_input().decode() == data[: data.index(keys)]
            assert attached.finish()[0] == failed(errno.ECANCELED)
        else:
            assert attached.read_input().decode() == data
            end(attached)
            assert attached.finish()[0] == 0


# -- with a supervisor ----------------------------------------------------------------------------------------


def test_both_ends_together(tmp_path: Path) -> None:
    script = "read x; stty size; echo got $x; exit 9"
    with terminal() as (master, slave), supervise(tmp_path, "sh", "-c", script, options="terminal") as supervisor:
        termios.tcsetwinsize(master, (11, 22))
        with supervisor.connect() as client, attach(ALL, RAW, stdio=slave, sock=client.sock) as attached:
            wait_until(lambda: is_raw(slave))
            os.write(master, b"hello\r")
            assert supervisor.end() == (9, 0, 0)
            assert attached.process.wait(TIMEOUT_S) == 9
            seen = b""
            while b"got hello\r\n" not in seen:
                seen += os.read(master, 65536)
    assert b"11 22\r\n" in seen


def test_a_large_stream_through_both(tmp_path: Path) -> None:
    with supervise(tmp_path, "sh", "-c", "wc -c; head -c 3000000 /dev/zero", options="stdin once") as supervisor:
        with supervisor.connect() as client, attach(ALL, input=bytes(2_000_000), sock=client.sock) as attached:
            code, out, _ = attached.finish()
            assert code == 0
            assert out == b"2000000\n" + bytes(3_000_000)
        assert supervisor.end() == (0, 0, 0)


def test_ctrl_c_reaches_a_container_that_reads_nothing(tmp_path: Path) -> None:
    with (
        supervise(tmp_path, "sleep", "1000", options="stdin") as supervisor,
        supervisor.connect() as client,
        attach(ALL, PROXY, input=bytes(3_000_000), sock=client.sock) as attached,
    ):
        wait_until(lambda: catches(attached.process.pid, signal.SIGINT) and attached.is_stuck())
        attached.process.send_signal(signal.SIGINT)
        assert supervisor.end()[1] == signal.SIGINT
        assert attached.finish()[0] == 128 + signal.SIGINT


def test_a_signalled_group_and_its_client(tmp_path: Path) -> None:
    """`onggi run IMAGE yes | head`: the client ends, the container goes on."""
    with supervise(tmp_path, "yes") as supervisor, supervisor.connect() as client:
        with attach(STDOUT, sock=client.sock) as attached:
            head = subprocess.run(["head", "-n", "3"], stdin=attached.stdout, capture_output=True, check=True)
            assert head.stdout == b"y\n" * 3
            attached.stdout.close()
            assert attached.process.wait(TIMEOUT_S) == failed(errno.EPIPE)
        os.kill(supervisor.child, 0)
