"""Runs the supervisor half of the launcher by itself: `tests/c/harness.c`, and the attach protocol in Python.

With ONGGI_SANITIZE=1 the harness is built with gcc's address and undefined behaviour sanitizers.
"""

import atexit
import functools
import os
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

import msgspec

from launcher import build

STDIN: Final = 1
STDOUT: Final = 2
STDERR: Final = 4
ALL: Final = STDIN | STDOUT | STDERR
RAW: Final = 1
PROXY: Final = 2
KEEP_OPEN: Final = 4
CHUNK: Final = 32768
LOST: Final = "lost: "
TIMEOUT_S: Final = 30.0

SANITIZED: Final = os.environ.get("ONGGI_SANITIZE") == "1"
_PARTS: Final = ("supervise", "log", "attach", "init", "side", "decode")


@functools.cache
def harness() -> Path:
    """Compile the harness, once for a test run."""
    directory = Path(tempfile.mkdtemp(prefix="onggi-harness-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    sources = [build.ROOT / "tests" / "c" / "harness.c", *(build.SOURCES / f"{part}.c" for part in _PARTS)]
    out = directory / "harness"
    if SANITIZED:
        flags = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover")
        _compile(("gcc", *build.WARNINGS, *flags), out, sources)
    else:
        with build.compiler() as cc:
            _compile((*cc.command, *build.FLAGS), out, sources)
    return out


def _compile(command: tuple[str, ...], out: Path, sources: list[Path]) -> None:
    done = subprocess.run([*command, "-o", out, *sources], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class Record(msgspec.Struct, frozen=True):
    """One line of a json-file log."""

    log: str
    stream: str
    time: str


def read_log(path: Path) -> list[Record]:
    """Parse a log strictly: whole lines, these three fields, nothing else."""
    content = path.read_bytes()
    assert content == b"" or content.endswith(b"\n")
    return [msgspec.json.decode(line, type=Record) for line in content.splitlines()]


def logged(path: Path, stream: str = "stdout") -> str:
    """Join what the log has of one stream."""
    return "".join(record.log for record in read_log(path) if record.stream == stream)


class Client:
    """One attach connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()

    def join(self, streams: int, control: socket.socket | None = None) -> None:
        """Take part in stdio; `control` goes along for signals and sizes."""
        descriptors = [] if control is None else [control.fileno()]
        socket.send_fds(self.sock, [b"a" + bytes([streams])], descriptors)

    def send(self, kind: bytes, data: bytes = b"") -> None:
        self.sock.send(kind + data)

    def resize(self, rows: int, columns: int) -> None:
        self.send(b"r", struct.pack("=HH", rows, columns))

    def signal(self, number: int) -> None:
        self.send(b"s", bytes([number]))

    def fill(self, kind: bytes, size: int = CHUNK) -> None:
        """Send large messages until nobody takes more."""
        self.sock.settimeout(0.2)
        with suppress(TimeoutError):
            while True:
                self.send(kind, bytes(size))
        self.sock.settimeout(TIMEOUT_S)

    def receive(self) -> tuple[bytes, bytes]:
        """Give the kind and the rest of one message; both empty at the end of file."""
        try:
            packet = self.sock.recv(1 + CHUNK)
        except ConnectionResetError:  # told once, before the messages that are still there
            packet = self.sock.recv(1 + CHUNK)
        return packet[:1], packet[1:]

    def messages(self) -> Iterator[tuple[bytes, bytes]]:
        """Give all messages until the end of file."""
        while (message := self.receive()) != (b"", b""):
            yield message

    def collect(self) -> "Seen":
        """Read until the end of file."""
        return Seen(kind + data for kind, data in self.messages())

    def read_until(self, text: bytes) -> bytes:
        """Read output until it contains `text`."""
        seen = b""
        while text not in seen:
            kind, data = self.receive()
            assert kind in (b"h", b"o", b"x"), (kind, data, seen)
            seen += data if kind != b"h" else b""
        return seen


class Seen:
    """What a client saw, from the messages it got."""

    def __init__(self, packets: Iterable[bytes]) -> None:
        self.out = b""
        self.err = b""
        self.end: tuple[int, int] | None = None
        for packet in packets:
            kind, data = packet[:1], packet[1:]
            match kind:
                case b"h":
                    assert data == b"\1"
                case b"o":
                    self.out += data
                case b"x":
                    self.err += data
                case b"q":
                    self.end = struct.unpack("=ii", data)
                case _:
                    raise AssertionError(f"unexpected message {kind!r}")


class Supervisor:
    """A harness process around one child."""

    def __init__(self, process: subprocess.Popen[bytes], results: int, path: Path) -> None:
        self.process = process
        self.path = path
        self.pid = process.pid
        self._results = os.fdopen(results, "r")
        self.child = int(self.line("started"))

    def line(self, word: str) -> str:
        """Wait for the harness to report `word`; give what stands behind it."""
        text = self._results.readline()
        assert text.startswith(word), (word, text)
        return text[len(word) :].strip()

    def end(self) -> tuple[int, int, int]:
        """Wait for supervise() to return: exit code, signal, lost records."""
        result, code, number, lost = map(int, self.line("end").split())
        assert result == 0
        return code, number, lost

    def leave(self) -> None:
        """Wait for the harness to leave."""
        self.line("told")
        self.line("left")
        assert self.process.wait(TIMEOUT_S) == 0

    def connect(self) -> Client:
        """Connect as one more client."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.connect(str(self.path))
        return Client(sock)

    def close(self) -> None:
        """End what is left, after a failed test too."""
        if self.process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.child, signal.SIGKILL)  # the child leads a session
            self.process.kill()
        self.process.wait(TIMEOUT_S)
        self._results.close()


@contextmanager
def supervise(
    directory: Path, *argv: str, options: str = "", log: str | None = None, client: Client | None = None
) -> Iterator[Supervisor]:
    """Run supervise() around `argv` with a listener in `directory`.

    `options` are words of the harness; `log` is "SIZE FILES", for a log "c.log" in `directory`. The other end of
    `client` (see `pair`) goes to the supervisor with the plan.
    """
    path = directory / "attach"
    reader, writer = os.pipe()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen(256)
        words = ["supervise", str(writer), "listener", str(listener.fileno()), *options.split()]
        descriptors = [writer, listener.fileno()]
        if log is not None:
            words += ["log", str(directory), "c.log", *log.split(), LOST]
        if client is not None:
            other = _others.pop(client)
            words += ["client", str(other.fileno())]
            descriptors.append(other.fileno())
        process = subprocess.Popen([harness(), *words, "--", *argv], pass_fds=descriptors, stdin=subprocess.DEVNULL)
        os.close(writer)
        if client is not None:
            other.close()
    supervisor = None
    try:
        supervisor = Supervisor(process, reader, path)
        yield supervisor
    finally:
        if supervisor is not None:
            supervisor.close()
        path.unlink()


class LogWriter:
    """The log by itself, fed in frames."""

    def __init__(self, directory: Path, limit: int = 0, files: int = 1) -> None:
        words = ["log", str(directory), "c.log", str(limit), str(files), LOST]
        self.process = subprocess.Popen([harness(), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def take(self, data: bytes, stream: str = "stdout") -> None:
        """Hand over what one read of a stream gave; back when it is in the log."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(struct.pack("=cI", b"x" if stream == "stderr" else b"o", len(data)) + data)
        assert self.process.stdout.read(1) == b"."

    def room(self, size: int | None) -> None:
        """Leave room for files of `size` bytes only: a full disk that can be had without root."""
        limit = resource.RLIM_INFINITY if size is None else size
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    def finish(self) -> int:
        """End both streams; give the number of lost records."""
        output, _ = self.process.communicate(timeout=TIMEOUT_S)
        assert self.process.returncode == 0
        return int(output)


_others: dict[Client, socket.socket] = {}


def pair(streams: int = STDOUT | STDERR) -> Client:
    """Make a client that joins before its supervisor is there."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client = Client(ours)
    client.join(streams)
    _others[client] = theirs
    return client


class Attached(Client):
    """A harness process in the client role, and the supervisor's ends of its sockets."""

    def __init__(self, process: subprocess.Popen[bytes], sock: socket.socket | None, input: bytes | None) -> None:
        self.process = process
        self._input = input
        self._feeder: threading.Thread | None = None
        if sock is not None:
            super().__init__(sock)
            packet, (control,), _, _ = socket.recv_fds(sock, 9, 1)
            assert packet[:1] == b"a"
            self.streams = packet[1]
            self.control = socket.socket(fileno=control)
            self.control.settimeout(TIMEOUT_S)
        if input is not None:
            self._feeder = threading.Thread(target=self._feed)
            self._feeder.start()

    @property
    def stdout(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def _feed(self) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError), self.process.stdin as stdin:
            stdin.write(self._input or b"")

    def write(self, data: bytes) -> None:
        """Write to its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)

    def is_stuck(self) -> bool:
        """Say whether it waits with its stdin full."""
        assert self.process.stdin is not None
        return not select.select([], [self.process.stdin], [], 0.3)[1]

    def read_input(self) -> bytes:
        """Read input messages up to its end, or that of the client."""
        data = b""
        while (message := self.receive())[0] == b"i":
            data += message[1]
        assert message in ((b"e", b""), (b"", b""))
        return data

    def read_output(self, size: int) -> bytes:
        """Read exactly `size` bytes of its stdout."""
        data = b""
        while len(data) < size:
            data += self.stdout.read(size - len(data))
        return data

    def see_running(self) -> None:
        """Wait until it carries streams, and so has its signal handlers."""
        self.send(b"o", b"up")
        assert self.read_output(2) == b"up"

    def finish(self) -> tuple[int, bytes, bytes]:
        """Wait for its end: the code and what it wrote."""
        streams = self.process.stdout, self.process.stderr
        with ThreadPoolExecutor(2) as pool:
            out, err = pool.map(lambda stream: b"" if stream is None or stream.closed else stream.read(), streams)
        return self.process.wait(TIMEOUT_S), out, err

    def close(self) -> None:
        """End what is left, after a failed test too."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(TIMEOUT_S)
        if self._feeder is not None:
            self._feeder.join(TIMEOUT_S)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        if hasattr(self, "sock"):
            self.sock.close()
            self.control.close()


@contextmanager
def attach(
    streams: int,
    flags: int = 0,
    *,
    keys: str = "",
    input: bytes | None = None,
    stdin: int | None = None,
    stdio: int | None = None,
    sock: socket.socket | None = None,
    hello: bytes = b"h\1",
    command: tuple[str, ...] = (),
    shell: str = "",
) -> Iterator[Attached]:
    """Run the client role.

    It speaks to the test, or over `sock` to a supervisor. Its stdin is `input`, `stdin`, or one end of a pipe;
    with `stdio` that is stdin, stdout and stderr. It may run under a `command`, or under `shell`, a Python program.
    """
    ours, theirs = (None, sock) if sock is not None else socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    assert theirs is not None
    if shell:
        command = (sys.executable, "-c", shell)
    process = subprocess.Popen(
        [*command, harness(), "attach", str(theirs.fileno()), str(streams), str(flags), keys],
        pass_fds=[theirs.fileno()],
        stdin=stdio if stdio is not None else stdin if stdin is not None else subprocess.PIPE,
        stdout=stdio if stdio is not None else subprocess.PIPE,
        stderr=stdio if stdio is not None else subprocess.PIPE,
        env={**os.environ, "FDS": str(theirs.fileno())},
        bufsize=0,
    )
    theirs.close()
    if ours is not None:
        ours.settimeout(TIMEOUT_S)
        ours.send(hello)
    attached = Attached(process, ours, input)
    try:
        yield attached
    finally:
        attached.close()
