"""The supervisor carries stdio, waits for nobody but its child, and is ended by nothing else."""

import fcntl
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.supervisor import (
    ALL,
    CHUNK,
    SANITIZED,
    STDERR,
    STDIN,
    STDOUT,
    Client,
    Seen,
    logged,
    pair,
    read_log,
    supervise,
)


@pytest.fixture
def waiting() -> Iterator[Client]:
    """Give a client that joined before the start, and does not read before the test does."""
    with pair() as client:
        yield client


def test_output_goes_to_the_log_and_to_the_client(tmp_path: Path, waiting: Client) -> None:
    script = "echo out; echo err >&2; printf last; exit 3"
    with supervise(tmp_path, "sh", "-c", script, log="0 1", client=waiting) as supervisor:
        seen = waiting.collect()
        assert supervisor.end() == (3, 0, 0)
        supervisor.leave()
    assert (seen.out, seen.err, seen.end) == (b"out\nlast", b"err\n", (3, 0))
    records = read_log(tmp_path / "c.log")
    assert [record.log for record in records if record.stream == "stdout"] == ["out\n", "last"]
    assert [record.log for record in records if record.stream == "stderr"] == ["err\n"]


def test_a_signal_is_told_as_such(tmp_path: Path, waiting: Client) -> None:
    with supervise(tmp_path, "sh", "-c", "kill -SEGV $$", client=waiting) as supervisor:
        assert supervisor.end() == (0, signal.SIGSEGV, 0)
        assert waiting.collect().end == (0, signal.SIGSEGV)


def test_without_log_and_clients_output_is_taken_all_the_same(tmp_path: Path) -> None:
    with supervise(tmp_path, "sh", "-c", "head -c 1000000 /dev/zero; exit 5") as supervisor:
        assert supervisor.end() == (5, 0, 0)


def test_a_line_of_a_megabyte(tmp_path: Path, waiting: Client) -> None:
    with supervise(
        tmp_path, "sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x; echo", log="0 1", client=waiting
    ) as s:
        seen = waiting.collect()
        s.end()
    assert seen.out == b"x" * 1_000_000 + b"\n"
    records = read_log(tmp_path / "c.log")
    assert [len(record.log) for record in records] == [16384] * 61 + [1_000_000 - 61 * 16384 + 1]
    assert len({record.time for record in records}) == 1  # as Docker: parts of a line share its time


def test_streams_that_were_not_joined_are_not_sent(tmp_path: Path) -> None:
    with pair(STDERR) as client, supervise(tmp_path, "sh", "-c", "echo out; echo err >&2", client=client) as supervisor:
        supervisor.end()
        seen = client.collect()
    assert (seen.out, seen.err, seen.end) == (b"", b"err\n", (0, 0))


def test_many_clients_see_the_same(tmp_path: Path) -> None:
    with supervise(tmp_path, "sh", "-c", "read x; seq 20000; exit 4", options="stdin") as supervisor:
        clients = [supervisor.connect() for _ in range(100)]
        for client in clients:
            client.join(STDOUT)
            assert client.receive() == (b"h", b"\1")
        # Joined is who has been heard: a size that nobody uses is heard after it, and the input after that.
        with supervisor.connect() as giver:
            giver.join(STDIN)
            giver.send(b"i", b"go\n")
            seen = []
            for client in clients:
                with client:
                    seen.append(client.collect())
        assert supervisor.end() == (4, 0, 0)
    expected = b"".join(b"%d\n" % i for i in range(1, 20001))
    assert {one.end for one in seen} == {(4, 0)}
    assert all(expected.endswith(one.out) for one in seen)
    assert sum(one.out == expected for one in seen) > 50


def test_more_clients_than_places_wait_for_one(tmp_path: Path) -> None:
    with supervise(tmp_path, "cat", options="stdin") as supervisor:
        clients = [supervisor.connect() for _ in range(200)]
        for client in clients[:128]:
            assert client.receive() == (b"h", b"\1")
            client.sock.close()
        for client in clients[128:]:
            assert client.receive() == (b"h", b"\1")
        clients[-1].join(STDIN)
        clients[-1].send(b"e")
        assert supervisor.end() == (0, 0, 0)
        for client in clients[128:]:
            with client:
                assert client.collect().end == (0, 0)


# -- clients that are slow -------------------------------------------------------------------------


def test_a_slow_client_holds_the_container_back_but_not_its_end(tmp_path: Path, waiting: Client) -> None:
    with supervise(tmp_path, "yes", "y" * 1000, log="0 1", client=waiting) as supervisor:
        with supervisor.connect() as other:
            log = tmp_path / "c.log"
            wait_until(lambda: size(log) > 100_000)
            other.signal(signal.SIGKILL)
            assert other.collect().end == (0, signal.SIGKILL)  # told, though the slow one has not read a byte
        assert supervisor.end() == (0, signal.SIGKILL, 0)
        seen = waiting.collect()
        supervisor.leave()
    assert seen.end == (0, signal.SIGKILL)
    assert 100_000 < len(seen.out) < 1_000_000
    assert seen.out.decode() == logged(log)


FILLS_ITS_PIPES = """
import os, select
total = {1: 0, 2: 0}
for fd in total:
    os.set_blocking(fd, False)
while writable := select.select([], list(total), [], 0.5)[1]:
    for fd in writable:
        total[fd] += os.write(fd, b"%d" % fd * 4096)
with open("total", "w") as file:
    print(total[1], total[2], file=file)
os._exit(7)
"""


def test_what_a_slow_client_is_owed_is_kept_for_it(tmp_path: Path, waiting: Client) -> None:
    """When the child ends, its pipes, the supervisor's buffer and the client's socket are all full."""
    script = f"import os; os.chdir({str(tmp_path)!r})\n{FILLS_ITS_PIPES}"
    with supervise(tmp_path, sys.executable, "-c", script, log="0 1", client=waiting) as supervisor:
        assert supervisor.end() == (7, 0, 0)
        supervisor.line("told")
        out, err = map(int, (tmp_path / "total").read_text().split())
        assert out > 100_000
        assert err > 60_000
        waiting.send(b"r", b"1234")  # nobody reads it any more: no reset may come of that
        seen = Seen(iter(lambda: waiting.sock.recv(1 + CHUNK), b""))
        supervisor.line("left")
    assert (seen.out, seen.err, seen.end) == (b"1" * out, b"2" * err, (7, 0))
    assert (len(logged(tmp_path / "c.log")), len(logged(tmp_path / "c.log", "stderr"))) == (out, err)


def test_a_client_that_goes_away_ends_the_wait_for_it(tmp_path: Path, waiting: Client) -> None:
    script = f"import os; os.chdir({str(tmp_path)!r})\n{FILLS_ITS_PIPES}"
    with supervise(tmp_path, sys.executable, "-c", script, client=waiting) as supervisor:
        supervisor.end()
        supervisor.line("told")
        waiting.sock.close()
        supervisor.line("left")


def test_a_client_too_far_behind_is_cut_off(tmp_path: Path, waiting: Client) -> None:
    """The child fills a pipe that it made larger: more than is kept for slow clients."""
    script = f"import fcntl, os; fcntl.fcntl(1, {fcntl.F_SETPIPE_SZ}, 1 << 20); os.write(1, b'x\\n' * 400_000)"
    with supervise(tmp_path, sys.executable, "-c", script, log="0 1", client=waiting) as supervisor:
        assert supervisor.end() == (0, 0, 0)
        seen = waiting.collect()
        supervisor.leave()
    assert seen.end is None
    assert 100_000 < len(seen.out) < 800_000
    assert logged(tmp_path / "c.log") == "x\n" * 400_000


# -- the end ------------------------------------------------------------------------------------------


def test_others_who_hold_the_pipes_are_not_waited_for(tmp_path: Path, waiting: Client) -> None:
    with supervise(tmp_path, "sh", "-c", "sleep 1000 & echo $!; exit 6", client=waiting) as supervisor:
        started = time.monotonic()
        assert supervisor.end() == (6, 0, 0)
        assert time.monotonic() - started < 10
        seen = waiting.collect()
        assert seen.end == (6, 0)
        os.kill(int(seen.out), signal.SIGKILL)


def test_others_who_hold_the_pipes_are_heard_for_a_moment(tmp_path: Path) -> None:
    script = "(while [ -d /proc/$$ ] && ! grep -q Z /proc/$$/stat; do :; done; echo late) & exit 0"
    with supervise(tmp_path, "sh", "-c", script, log="0 1") as supervisor:
        supervisor.end()
    assert logged(tmp_path / "c.log") == "late\n"


def test_the_supervisor_is_ended_by_no_signal(tmp_path: Path) -> None:
    with supervise(tmp_path, "cat", options="stdin") as supervisor, supervisor.connect() as client:
        assert client.receive() == (b"h", b"\1")
        for number in set(range(1, signal.SIGRTMAX + 1)) - {signal.SIGKILL, signal.SIGSTOP}:
            os.kill(supervisor.pid, number)
        client.join(STDIN | STDOUT)
        client.send(b"i", b"still here")
        assert client.read_until(b"here") == b"still here"
        client.send(b"e")
        assert supervisor.end() == (0, 0, 0)
        supervisor.leave()


def test_orphans_are_reaped(tmp_path: Path) -> None:
    with supervise(tmp_path, "sh", "-c", "(true & true &); read x", options="reaper stdin") as supervisor:
        children = Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children")
        wait_until(lambda: children.read_text().split() == [str(supervisor.child)])
        with supervisor.connect() as client:
            client.join(STDIN)
            client.send(b"e")
            assert supervisor.end() == (1, 0, 0)


# -- input ---------------------------------------------------------------------------------------------


def test_input_and_its_end(tmp_path: Path, waiting: Client) -> None:
    with supervise(tmp_path, "wc", "-c", options="stdin", client=waiting) as supervisor:
        with supervisor.connect() as giver:
            giver.join(STDIN)
            for _ in range(40):
                giver.send(b"i", b"x" * 25000)
            giver.send(b"e")
            assert supervisor.end() == (0, 0, 0)
        assert waiting.collect().out.split() == [b"1000000"]


def test_input_of_one_who_only_watches_is_ignored(tmp_path: Path) -> None:
    with supervise(tmp_path, "cat", options="stdin", log="0 1") as supervisor, supervisor.connect() as client:
        client.join(STDOUT)
        client.send(b"i", b"not wanted\n")
        client.send(b"e")
        client.join(STDIN)
        client.send(b"i", b"wanted\n")
        client.send(b"e")
        supervisor.end()
    assert logged(tmp_path / "c.log") == "wanted\n"


def test_input_outlives_the_client_that_gave_it(tmp_path: Path) -> None:
    with supervise(tmp_path, "wc", "-c", options="stdin once", log="0 1") as supervisor:
        with supervisor.connect() as client:
            client.join(STDIN)
            for _ in range(4):
                client.send(b"i", b"x" * 30000)
        assert supervisor.end() == (0, 0, 0)
    assert logged(tmp_path / "c.log").split() == ["120000"]


def test_without_once_input_stays_open(tmp_path: Path, waiting: Client) -> None:
    with supervise(tmp_path, "cat", options="stdin", client=waiting) as supervisor:
        for text in (b"one\n", b"two\n"):
            with supervisor.connect() as client:
                client.join(STDIN)
                client.send(b"i", text)
            waiting.read_until(text)
        with supervisor.connect() as client:
            client.join(STDIN)
            client.send(b"e")
            assert supervisor.end() == (0, 0, 0)


def test_a_child_that_closed_its_input_goes_on(tmp_path: Path) -> None:
    script = "exec <&-; echo closed; while ! [ -e done ]; do :; done; echo end"
    with (
        pair(ALL) as client,
        supervise(tmp_path, "sh", "-c", f"cd {tmp_path}; {script}", options="stdin", client=client) as s,
    ):
        client.read_until(b"closed\n")
        for _ in range(20):
            client.send(b"i", bytes(CHUNK))
        (tmp_path / "done").touch()
        assert s.end() == (0, 0, 0)
        assert client.collect().out == b"end\n"


def test_a_signal_overtakes_input_that_nobody_reads(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with supervise(tmp_path, "sleep", "1000", options="stdin") as supervisor, supervisor.connect() as client:
        with theirs:
            client.join(STDIN, theirs)
        client.fill(b"i")
        with Client(ours) as control:
            control.signal(signal.SIGTERM)
            assert supervisor.end() == (0, signal.SIGTERM, 0)


def test_nobody_spins_while_everything_is_stuck(tmp_path: Path, waiting: Client) -> None:
    """A client that does not read, output that cannot go on, and input that nobody wants, from one who has left."""
    with supervise(tmp_path, "yes", options="stdin", client=waiting) as supervisor:
        with supervisor.connect() as giver:
            giver.join(STDIN)
            giver.fill(b"i")
        with supervisor.connect() as giver:
            giver.join(STDIN)
            giver.fill(b"i")
            spent = processor_s(supervisor.pid)
            time.sleep(0.4)  # measured, not waited for
            assert processor_s(supervisor.pid) - spent < 0.1
        with supervisor.connect() as other:
            other.signal(signal.SIGKILL)
            assert supervisor.end() == (0, signal.SIGKILL, 0)


def test_messages_that_make_no_sense_do_no_harm(tmp_path: Path) -> None:
    with supervise(tmp_path, "cat", options="stdin", log="0 1") as supervisor:
        for packet in (
            b"s",
            b"s\xff",
            b"s\0",
            b"r",
            b"r123",
            b"?",
            b"i",
            b"a",
            b"e",
            b"a\xff" + bytes(100),
            b"\0" * 99,
        ):
            with supervisor.connect() as client:
                client.sock.send(packet)
        with supervisor.connect() as client:
            client.join(STDIN)
            client.send(b"i", bytes(CHUNK + 1))  # longer than any message: it is shown the door
            while client.receive() != (b"", b""):
                pass
        with supervisor.connect() as client:
            client.join(STDIN)
            client.send(b"i", b"fine\n")
            client.send(b"e")
            assert supervisor.end() == (0, 0, 0)
    assert logged(tmp_path / "c.log") == "fine\n"


# -- terminals ------------------------------------------------------------------------------------------


def test_a_terminal_is_one_stream(tmp_path: Path) -> None:
    script = "echo out; echo err >&2"
    with (
        pair(ALL) as client,
        supervise(tmp_path, "sh", "-c", script, options="terminal", log="0 1", client=client) as s,
    ):
        seen = client.collect()
        assert s.end() == (0, 0, 0)
    assert (seen.out, seen.err) == (b"out\r\nerr\r\n", b"")
    assert logged(tmp_path / "c.log") == "out\r\nerr\r\n"


def test_the_size_of_a_terminal(tmp_path: Path) -> None:
    with (
        pair(ALL) as client,
        supervise(tmp_path, "sh", "-c", "read x; stty size", options="terminal", client=client) as s,
    ):
        client.resize(33, 77)
        client.send(b"i", b"\n")
        assert client.read_until(b"33 77\r\n")
        assert s.end() == (0, 0, 0)


def test_keys_of_a_terminal_signal(tmp_path: Path) -> None:
    with (
        pair(ALL) as client,
        supervise(tmp_path, "sh", "-c", "echo up; exec cat", options="terminal", client=client) as s,
    ):
        client.read_until(b"up\r\n")
        client.send(b"e")  # says nothing to a terminal
        client.send(b"i", b"\x03")
        assert s.end()[1] == signal.SIGINT


def test_a_terminal_that_nobody_has_open_can_be_opened_again(tmp_path: Path, waiting: Client) -> None:
    script = "exec </dev/null >/dev/null 2>&1; cat fifo; echo back >/dev/tty"
    os.mkfifo(tmp_path / "fifo")
    with supervise(tmp_path, "sh", "-c", f"cd {tmp_path}; {script}", options="terminal", client=waiting) as supervisor:
        with (tmp_path / "fifo").open("w"):
            spent = processor_s(supervisor.pid)
            with supervisor.connect() as client:
                assert client.receive() == (b"h", b"\1")
            assert processor_s(supervisor.pid) - spent < 0.5
        assert waiting.read_until(b"back\r\n")
        assert supervisor.end() == (0, 0, 0)


def test_a_terminal_that_others_hold_is_left(tmp_path: Path, waiting: Client) -> None:
    with supervise(tmp_path, "sh", "-c", "trap '' HUP; sleep 1000 & echo $!", options="terminal", client=waiting) as s:
        assert s.end() == (0, 0, 0)
        os.kill(int(waiting.collect().out), signal.SIGKILL)


# -- cost ------------------------------------------------------------------------------------------------


@pytest.mark.skipif(SANITIZED, reason="the sanitizers' own memory")
def test_memory_of_a_supervisor(tmp_path: Path, waiting: Client) -> None:
    """Once idle, and once with every buffer in use: binary output on both streams, input that nobody reads."""
    log = tmp_path / "c.log"
    with supervise(tmp_path, "sh", "-c", "echo up; exec sleep 1000", log="0 1") as supervisor:
        wait_until(lambda: size(log) > 0)
        idle = pss_kib(supervisor.pid)
    script = "cat /dev/urandom >&2 & exec cat /dev/urandom"
    busy_one = supervise(tmp_path, "sh", "-c", script, options="stdin", log="0 1")
    with busy_one as supervisor, supervisor.connect() as giver:
        giver.join(STDIN)
        giver.fill(b"i")
        wait_until(lambda: size(log) > 3_000_000)
        os.killpg(supervisor.child, signal.SIGSTOP)
        busy = pss_kib(supervisor.pid)
        os.killpg(supervisor.child, signal.SIGKILL)
        supervisor.end()
    print(f"supervisor: {idle} KiB idle, {busy} KiB busy")
    assert idle < 120
    assert busy < 200


def size(path: Path) -> int:
    """Give the size of a file, 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


def pss_kib(pid: int) -> int:
    """Read the proportional set size of a process."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise AssertionError("no Pss")


def processor_s(pid: int) -> float:
    """Read the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_until(condition: Callable[[], bool]) -> None:
    """Look again and again, for as long as a test may take."""
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)
