"""onggid: a warm Python that plans and records for short commands, and that nobody manages.

One runs per state root, started by a first command and gone when idle. It is the
parent of no container and knows nothing that is not on disk, so it may be killed at
any time. Requests come from the stub (launcher/stub.c has the protocol); each is served
in a thread of its own, with the user's directory, environment and terminal as data.
"""

import gc
import logging
import os
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

import msgspec

from onggi.base.errors import OnggiError
from onggi.cli.app import State, run_command
from onggi.cli.caller import Attach, Finished, Spawner
from onggi.cli.main import cli
from onggi.cli.warm import is_served
from onggi.cli.watching import Watcher
from onggi.engine.assemble import Engine
from onggi.host.attach import Attachment
from onggi.host.cgroupfs.files import write_or_explain
from onggi.host.launcher import Launcher, interpret_report
from onggi.host.locks import take_lock
from onggi.plan.abi import RLIMITS
from onggi.plan.cgroup import plan_refuge
from onggi.plan.facts import Facts
from onggi.plan.ops import MakeDirectory, Plan, WriteFile

IDLE_S: Final = 300.0
_LOOK_S: Final = 5.0
_REQUEST: Final = struct.Struct("=IIII16s4BHH16Q")
_ORDER: Final = struct.Struct("=cBBBB3x32s")
_VERSION: Final = 1
_MAX_PACKET: Final = 1 << 18
_SWITCH_S: Final = 0.0005
"""How long a thread that clears away after one command may keep the next one waiting."""
_CHUNK: Final = 32000
_log: Final = logging.getLogger("onggid")


class InProcess(Exception):
    """This command belongs into the user's own process."""


class Gone(Exception):
    """The stub has ended."""


class ServedCaller:
    """A user whose stub is at the other end of a socket."""

    served = True

    def __init__(self, sock: socket.socket, request: "Request", launcher: Launcher) -> None:
        """Answer over `sock`."""
        self._socket, self._request, self._launcher = sock, request, launcher
        self.env: Mapping[str, str] = request.env
        self.cwd = request.cwd
        self.terminal = request.terminal
        self.size = request.size

    def out(self, text: str) -> None:
        """Let the stub write to its stdout."""
        self.out_bytes(text.encode("utf-8", "surrogateescape"))

    def err(self, text: str) -> None:
        """Let the stub write to its stderr."""
        self.err_bytes(text.encode("utf-8", "surrogateescape"))

    def out_bytes(self, data: bytes) -> None:
        """Let the stub write bytes to its stdout."""
        self._write(b"O", data)

    def err_bytes(self, data: bytes) -> None:
        """Let the stub write bytes to its stderr."""
        self._write(b"E", data)

    def _write(self, kind: bytes, data: bytes) -> None:
        for start in range(0, len(data), _CHUNK):
            self.send(kind + data[start : start + _CHUNK])

    def send(self, message: bytes, fds: Sequence[int] = ()) -> None:
        """Send one packet. Raises Gone."""
        try:
            if fds:
                socket.send_fds(self._socket, [message], list(fds))
            else:
                self._socket.send(message)
        except (BrokenPipeError, ConnectionResetError):
            raise Gone from None

    def facts(self, facts: Facts) -> Facts:
        """The user's own hard limits decide what can be asked for, since the stub executes the plan."""
        return msgspec.structs.replace(facts, rlimit_ceilings=self._request.hard_limits)

    def spawn(self, plan: Plan, inherited: Sequence[int], facts: Facts) -> int:
        """Let the stub execute a plan."""
        return self.order(plan, inherited, facts, None, None)

    def order(self, plan: Plan, inherited: Sequence[int], facts: Facts, attach: Attach | None, ours: int | None) -> int:
        """Send the order, and wait for the launcher's report."""
        plan_fd = self._launcher.encode(plan)
        try:
            fds = [plan_fd, *inherited, *(() if ours is None else (ours,))]
            self.send(_encode_order(b"L", attach), fds)
        finally:
            os.close(plan_fd)
        report = self._socket.recv(64)
        if not report:
            raise Gone
        return interpret_report(report[1:], plan, facts)

    def spawner(self, attach: Attach) -> Spawner:
        """Prepare an order with attached stdio."""
        return _ServedSpawner(self, attach)

    def attach(self, attachment: Attachment, attach: Attach) -> NoReturn:
        """Hand the connection to the stub."""
        with attachment:
            self.send(_encode_order(b"A", attach), [attachment.fileno()])
        raise Finished

    def only_in_process(self) -> None:
        """Send the command back."""
        raise InProcess


class _ServedSpawner:
    def __init__(self, caller: ServedCaller, attach: Attach) -> None:
        self._caller, self._attach = caller, attach
        self._ours, self._theirs = Attachment.pair()
        self.client = self._theirs.fileno()

    def spawn(self, plan: Plan, inherited: Sequence[int], facts: Facts) -> int:
        return self._caller.order(plan, inherited, facts, self._attach, self._ours.fileno())

    def carry(self) -> NoReturn:
        self.close()
        raise Finished

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()


def _encode_order(kind: bytes, attach: Attach | None) -> bytes:
    if attach is None:
        return _ORDER.pack(kind, 0, 0, 0, 0, b"")
    keys = attach.detach_keys[:32]
    return _ORDER.pack(kind, 1, attach.streams, attach.flags, len(keys), keys)


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A command line with its surroundings."""

    build_id: str
    arguments: tuple[str, ...]
    env: dict[str, str]
    cwd: str
    terminal: tuple[bool, bool, bool]
    size: tuple[int, int]
    hard_limits: dict[str, int]


def read_request(sock: socket.socket) -> Request:
    """Receive a request. Raises InProcess for one that is not of this version."""
    packet, fds, _, _ = socket.recv_fds(sock, _MAX_PACKET, 4)
    try:
        if len(packet) < _REQUEST.size or len(fds) != 1:
            raise InProcess
        fields = _REQUEST.unpack_from(packet)
        words = [os.fsdecode(word) for word in packet[_REQUEST.size :].split(b"\0")[:-1]]
        if fields[0] != _VERSION or len(words) != fields[1] + fields[2]:
            raise InProcess
        cwd = os.readlink(f"/proc/self/fd/{fds[0]}")
    finally:
        for fd in fds:
            os.close(fd)
    arguments, entries = words[1 : fields[1]], words[fields[1] :]
    return Request(
        build_id=fields[4].decode("ascii", "replace"),
        arguments=tuple(arguments),
        env={name: value for name, equals, value in (entry.partition("=") for entry in entries) if equals},
        cwd=cwd,
        terminal=(bool(fields[5]), bool(fields[6]), bool(fields[7])),
        size=(fields[9], fields[10]),
        hard_limits={name: fields[11 + number] for name, number in RLIMITS.items()},
    )


def is_like_us(sock: socket.socket) -> bool:
    """Tell whether the caller sees the host as we do; else the command is its own."""
    pid, uid, _ = struct.unpack("=iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if uid != os.geteuid() or pid <= 0:
        return False
    return _surroundings(pid) == _surroundings(os.getpid())


def _surroundings(pid: int) -> tuple[object, ...]:
    """What decides whether a plan made here is right there: namespaces, root, rights."""
    try:
        namespaces = tuple(os.readlink(f"/proc/{pid}/ns/{name}") for name in ("mnt", "net", "user", "pid", "cgroup"))
        root = os.stat(f"/proc/{pid}/root")
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            rights = [line for line in file if line.startswith(("CapEff", "CapBnd", "Seccomp:", "NoNewPrivs"))]
    except OSError:
        return (pid,)
    return (*namespaces, root.st_dev, root.st_ino, *rights)


class Server:
    """The accept loop and the idle clock."""

    def __init__(self, engine: Engine, launcher: Launcher, listener: socket.socket, idle_s: float) -> None:
        """Serve `listener` until idle for `idle_s` seconds."""
        self._engine, self._launcher, self._listener, self._idle_s = engine, launcher, listener, idle_s
        self._watcher = Watcher(engine)
        self._active = 0
        self._changed = threading.Condition()
        self._leaving = False
        self._place = _identity(self._path)
        self._wake, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    @property
    def _path(self) -> str:
        return f"{self._engine.run}/onggid"

    def is_reachable(self) -> bool:
        """Tell whether our socket is still where stubs look for it."""
        return _identity(self._path) == self._place

    def serve(self) -> None:
        """Accept until idle, or until a newer build asks; then finish what is under way."""
        self._watcher.start()
        self._listener.setblocking(False)
        idle_since = time.monotonic()
        poll = select.poll()
        for fd in (self._listener.fileno(), self._wake):
            poll.register(fd, select.POLLIN)
        while not self._leaving:
            if not poll.poll(min(self._idle_s, _LOOK_S) * 1000):
                if not self.is_reachable():
                    break  # nobody can reach us, and nobody can take our place while we stay
                with self._changed:
                    if self._active == 0 and time.monotonic() - idle_since >= self._idle_s:
                        break
                continue
            idle_since = time.monotonic()
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                continue
            connection.setblocking(True)
            with self._changed:
                self._active += 1
            threading.Thread(target=self._serve_one, args=(connection,), daemon=True).start()
        with self._changed:
            self._changed.wait_for(lambda: self._active == 0, timeout=60)

    def _serve_one(self, connection: socket.socket) -> None:
        try:
            with connection:
                self._answer(connection)
        except (Gone, OSError):
            pass
        finally:
            with self._changed:
                self._active -= 1
                self._changed.notify_all()

    def _answer(self, connection: socket.socket) -> None:
        try:
            request = read_request(connection)
            if request.build_id != self._launcher.build_id:
                self._leave()
                raise InProcess
            if not is_served(request.arguments) or not is_like_us(connection):
                raise InProcess
            caller = ServedCaller(connection, request, self._launcher)
            state = State(caller, lambda _root: self._engine)
            code = run_command(cli, list(request.arguments), state)
        except InProcess:
            connection.send(b"X")
            return
        except (Gone, OSError):
            raise
        except Exception as error:
            _log.exception("a command failed in onggid")
            where = f"{self._engine.run}/onggid.log"
            connection.send(
                f"Eonggi: this is a mistake in Onggi ({error!r}); {where} has the details\n"[:_CHUNK].encode()
            )
            code = 125
        self._watcher.look()
        if code is not None:
            connection.send(b"Q" + bytes([code & 0xFF]))

    def _leave(self) -> None:
        """A newer Onggi was installed: finish, and make room for its onggid."""
        self._leaving = True
        os.write(self._waker, b".")


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def listen(run: str) -> socket.socket:
    """Make the socket, beneath the run directory's descriptor, since a state root may be deep."""
    path = f"{run}/onggid"
    at = os.open(run, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        if os.path.lexists(path):
            os.unlink(path)
        sock.bind(f"/proc/self/fd/{at}/onggid")
        os.chmod(path, 0o600)
    finally:
        os.close(at)
    sock.listen(64)
    return sock


def main() -> NoReturn:
    """Run onggid for the state root named by the first argument ("" is the default)."""
    root = sys.argv[1] or None
    os.chdir("/")
    os.umask(0o022)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    launcher = Launcher.installed()
    cli.load()
    with Engine(root, launcher=launcher) as engine:
        engine.warm_up()
        sys.setswitchinterval(_SWITCH_S)
        gc.freeze()  # what is loaded stays: no collection needs to look at it again
        try:
            lock = take_lock(f"{engine.run}/onggid.lock", "onggid", timeout_s=0)
        except OnggiError:
            sys.exit(0)  # another one runs
        with lock:
            logging.basicConfig(
                filename=f"{engine.run}/onggid.log", level=logging.WARNING, format="%(asctime)s %(message)s"
            )
            _enter_cgroup(engine)
            with listen(engine.run) as listener:
                server = Server(engine, launcher, listener, IDLE_S)
                server.serve()
                if server.is_reachable():
                    os.unlink(f"{engine.run}/onggid")
    sys.exit(0)


def _enter_cgroup(engine: Engine) -> None:
    """Leave the cgroup of whoever happened to start us: what ends that one must not end us."""
    plan = plan_refuge(f"{engine.cgroup_parent}/onggid", engine.system.facts.cgroup)
    for op in plan.before:
        match op:
            case MakeDirectory(path=path, mode=mode):
                os.makedirs(path, mode=mode, exist_ok=True)
            case WriteFile(path=path, data=bytes() as data, if_empty=if_empty):
                _try_write(path, data, if_empty=if_empty)
    for directory in plan.directories.values():
        _try_write(f"{directory}/cgroup.procs", b"0")


def _try_write(path: str, data: bytes, *, if_empty: bool = False) -> None:
    try:
        write_or_explain(path, data, "enter the cgroup of onggid", if_empty=if_empty)
    except OnggiError as error:
        _log.warning("%s", error)
