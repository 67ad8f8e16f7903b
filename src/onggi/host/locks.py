"""Open file description locks (F_OFD_*, fcntl(2)): they belong to a descriptor and die with its last copy.

So a lock can be handed to another process with its descriptor, two threads of
one process exclude each other, and kill -9 releases. A lock is probed by
F_OFD_GETLK only, never by taking it: a taking prober makes its holder's own
attempt fail.
"""

import errno
import fcntl
import os
import struct
import time
from typing import Final, Self

from onggi.base.errors import Conflict

from .oserrors import explain_oserror

_FLOCK: Final = struct.Struct("hhqqi4x")  # struct flock: type, whence, start, length, pid (must be 0)
_FIRST_WAIT_S: Final = 0.0005
_LONGEST_WAIT_S: Final = 0.02
_HEX_DIGITS: Final = 15  # 60 bits: the kernel's offsets end at 2^63


class Lock:
    """A lock that is held. `fd` keeps it: whoever inherits a copy of the descriptor holds it too."""

    __slots__ = ("_length", "_start", "fd", "shared")

    def __init__(self, fd: int, shared: bool, start: int, length: int) -> None:
        """Own `fd`, on which the lock is."""
        self.fd, self.shared, self._start, self._length = fd, shared, start, length

    def __enter__(self) -> Self:
        """Give the lock itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go."""
        self.close()

    def share(self) -> None:
        """Make an exclusive lock shared, without a moment in which it is not held."""
        fcntl.fcntl(self.fd, fcntl.F_OFD_SETLK, _pack(fcntl.F_RDLCK, self._start, self._length))
        self.shared = True

    def close(self) -> None:
        """Close our descriptor; the lock ends with the last copy of it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def take_lock(
    path: str,
    what: str,
    *,
    shared: bool = False,
    timeout_s: float | None = None,
    start: int = 0,
    length: int = 0,
) -> Lock:
    """Lock a file, or `length` bytes of it from `start`; `timeout_s=None` waits as long as it takes, 0 not at all.

    The file is made if it is not there. Raises Conflict, whose sentence begins with
    `what`, if the time is over.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise explain_oserror(error, "open the lock file", path) from None
    try:
        if not _wait(fd, _pack(fcntl.F_RDLCK if shared else fcntl.F_WRLCK, start, length), timeout_s):
            waited = f" (waited {timeout_s:g} s)" if timeout_s else ""
            raise Conflict(f"{what} is in use by another command{waited}; try again when that is done")
    except OSError as error:
        os.close(fd)
        raise explain_oserror(error, "lock", path) from None
    except BaseException:
        os.close(fd)
        raise
    return Lock(fd, shared, start, length)


def probe_lock(path: str, *, shared: bool = False, start: int = 0, length: int = 0) -> bool:
    """Tell whether somebody holds a lock that forbids one of this kind; takes nothing."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise explain_oserror(error, "open the lock file", path) from None
    try:
        asked = _pack(fcntl.F_RDLCK if shared else fcntl.F_WRLCK, start, length)
        answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked)
    finally:
        os.close(fd)
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


class LockTable:
    """Many locks in one file, a byte each: no lock file to make or remove with every object.

    Names are hexadecimal and random from the start (ids, digests): the first 15
    digits are the byte's offset.
    """

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        """Use the file at `path`; the first lock makes it."""
        self.path = path

    def take(self, name: str, what: str, *, shared: bool = False, timeout_s: float | None = None) -> Lock:
        """Lock a name; see `take_lock`."""
        start = int(name[:_HEX_DIGITS], 16)
        return take_lock(self.path, what, shared=shared, timeout_s=timeout_s, start=start, length=1)

    def attempt(self, name: str, *, shared: bool = False) -> Lock | None:
        """Lock a name if that is possible now.

        Only for one who gives up if it is not and whose holding others wait out: see `take_lock`'s timeout.
        """
        try:
            return self.take(name, "", shared=shared, timeout_s=0)
        except Conflict:
            return None

    def probe(self, name: str, *, shared: bool = False) -> bool:
        """Tell whether a name is locked so that it could not be locked (shared) now; takes nothing."""
        return probe_lock(self.path, shared=shared, start=int(name[:_HEX_DIGITS], 16), length=1)


def _wait(fd: int, request: bytes, timeout_s: float | None) -> bool:
    if timeout_s is None:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, request)
        return True
    deadline = time.monotonic() + timeout_s
    pause = _FIRST_WAIT_S
    while True:
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, request)
            return True
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(pause, left))
        pause = min(pause * 2, _LONGEST_WAIT_S)


def _pack(kind: int, start: int, length: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, start, length, 0)
