"""Network namespaces of the test's own: a host, a neighbour on its LAN, and sockets inside containers.

The test's main thread moves into the private host, and so do the programs that it starts.
Everything goes with the descriptors and processes that hold it.
"""

import ctypes
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, Self, TypeVar

import pytest

CLONE_NEWNET: Final = 0x4000_0000
TIMEOUT_S: Final = 5.0
HOST4: Final = "192.0.2.1"
LAN4: Final = "192.0.2.2"
HOST6: Final = "2001:db8::1"
LAN6: Final = "2001:db8::2"

_libc: Final = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Namespace:
    """A network namespace that this object keeps alive."""

    def __init__(self, path: str) -> None:
        """Open it by a path such as /proc/PID/ns/net."""
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def enter(self) -> None:
        """Move the calling thread into it."""
        _check(_libc.setns(self.fd, CLONE_NEWNET))

    def call(self, function: Callable[[], T]) -> T:
        """Call a function in a thread that is in this namespace."""
        done: list[T] = []
        failed: list[BaseException] = []

        def inside() -> None:
            try:
                self.enter()
                done.append(function())
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return done[0]

    def run(self, *command: str) -> str:
        """Run a program in it; gives its output."""
        return self.call(lambda: run(*command))

    def socket(self, family: int, kind: int) -> socket.socket:
        """Make a socket that belongs to it."""
        return self.call(lambda: socket.socket(family, kind))


class Host:
    """The private host, with a link `up0` to a neighbour on the LAN, which is also its way to the world."""

    def __init__(self, own: Namespace, lan: Namespace) -> None:
        self.own, self.lan = own, lan

    def sysctl(self, name: str, value: str) -> None:
        """Set a sysctl of this host."""
        Path("/proc/sys", *name.split(".")).write_text(value)


@contextmanager
def private_host() -> Iterator[Host]:
    """Move the main thread into a new network namespace that looks like a host on a LAN; back at the end."""
    for program, package in (("ip", "iproute2"), ("nft", "nftables"), ("unshare", "util-linux")):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}: apt-get install {package}")
    with ExitStack() as stack:
        before = stack.enter_context(Namespace("/proc/self/ns/net"))
        sleeper = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec sleep 900"], stdout=subprocess.PIPE)
        stack.callback(sleeper.wait)
        stack.callback(sleeper.kill)
        assert sleeper.stdout is not None
        stack.enter_context(sleeper.stdout)
        sleeper.stdout.readline()
        lan = stack.enter_context(Namespace(f"/proc/{sleeper.pid}/ns/net"))
        _check(_libc.unshare(CLONE_NEWNET))
        stack.callback(before.enter)
        own = stack.enter_context(Namespace("/proc/self/ns/net"))
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", str(sleeper.pid))
        for address in (f"{HOST4}/24", f"{HOST6}/64"):
            run("ip", "address", "add", address, "dev", "up0", *(["nodad"] if ":" in address else []))
        run("ip", "link", "set", "up0", "up")
        lan.run("ip", "link", "set", "lo", "up")
        for address in (f"{LAN4}/24", f"{LAN6}/64"):
            lan.run("ip", "address", "add", address, "dev", "eth0", *(["nodad"] if ":" in address else []))
        lan.run("ip", "link", "set", "eth0", "up")
        for family, ours, theirs in (("-4", HOST4, LAN4), ("-6", HOST6, LAN6)):
            run("ip", family, "route", "add", "default", "via", theirs)
            lan.run("ip", family, "route", "add", "default", "via", ours)
        yield Host(own, lan)


def run(*command: str) -> str:
    """Run a program; gives its output."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


class Server:
    """A server in some namespace: answers everybody with a text, and remembers who came."""

    def __init__(self, place: Namespace, address: str, port: int, *, udp: bool = False, says: str = "hello") -> None:
        self.peers: list[str] = []
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._udp, self._says = udp, says.encode()
        self._socket = place.socket(family, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self._socket.bind((address, port))
        if not udp:
            self._socket.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                if self._udp:
                    _, peer = self._socket.recvfrom(1000)
                    if not peer:
                        return  # shut down
                    self.peers.append(peer[0])
                    self._socket.sendto(self._says, peer)
                else:
                    connection, peer = self._socket.accept()
                    self.peers.append(peer[0])
                    with connection:
                        connection.sendall(self._says)


def ask(place: Namespace, address: str, port: int, *, udp: bool = False, timeout_s: float = TIMEOUT_S) -> str:
    """Ask a server from some namespace; gives its answer, `refused`, `timeout` or the kernel's other word."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with place.socket(family, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM) as client:
        client.settimeout(timeout_s)
        try:
            client.connect((address, port))
            if udp:
                client.send(b"?")
            answer = b""
            while chunk := client.recv(1000):
                answer += chunk
                if udp:
                    break
            return answer.decode()
        except ConnectionRefusedError:
            return "refused"
        except TimeoutError:
            return "timeout"
        except OSError as error:
            return os.strerror(error.errno or 0)


def is_taken(address: str, port: int, *, udp: bool = False, reuse: bool = True) -> bool:
    """Tell whether a program of this host would find a port taken, even if it is as tolerant as servers are."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(reuse))
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind((address, port))
            if not udp:
                probe.listen()
        except OSError:
            return True
    return False
