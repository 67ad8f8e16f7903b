"""Small files of a user's that hold secrets, and that other programs use too.

A file is read whole within a bound and replaced whole, and only its owner may read it then.
A symbolic link to it stays a link: people keep these files among their dotfiles. Changes by
several of us at once follow one another; a lock on the directory leaves no file behind.
"""

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from typing import Final

from onggi.base.errors import FailedPrecondition, InvalidArgument, NotFound, OnggiError, PermissionDenied, Unavailable

_CHUNK_BYTES: Final = 1 << 16


def read_private(path: str, max_bytes: int) -> bytes | None:
    """Read a file whole; None if there is none. Raises InvalidArgument for one that is larger than `max_bytes`."""
    try:
        # O_NONBLOCK: what lies there may be a FIFO without a writer.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _explain(error, "read", path) from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise FailedPrecondition(f"cannot read {path}: it is not a regular file; move it away")
        data = bytearray()
        while chunk := os.read(fd, _CHUNK_BYTES):
            data += chunk
            if len(data) > max_bytes:
                raise InvalidArgument(f"cannot read {path}: it is larger than the {max_bytes} bytes that it may have")
        return bytes(data)
    except OSError as error:
        raise _explain(error, "read", path) from None
    finally:
        os.close(fd)


@contextlib.contextmanager
def changing(path: str) -> Iterator[str]:
    """Keep others of us from changing a file meanwhile, and make its directory; gives where it really lies."""
    real = os.path.realpath(path)
    directory = os.path.dirname(real)
    try:
        os.makedirs(directory, 0o700, exist_ok=True)
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _explain(error, "write", path) from None
    try:
        with contextlib.suppress(OSError):  # some file systems of networks have no locks
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield real
    finally:
        os.close(fd)


def replace_private(path: str, data: bytes) -> None:
    """Write a file whole over an older one, whose owner it keeps; nobody else may read it."""
    staged = f"{path}.{os.urandom(8).hex()}"
    try:
        fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise _explain(error, "write", path) from None
    try:
        with open(fd, "wb", buffering=0) as file:
            os.fchmod(fd, 0o600)
            with contextlib.suppress(FileNotFoundError, PermissionError):
                older = os.stat(path)
                if (older.st_uid, older.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(fd, older.st_uid, older.st_gid)
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(fd)
        os.rename(staged, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(staged)
        if isinstance(error, OSError):
            raise _explain(error, "write", path) from None
        raise


def _explain(error: OSError, step: str, path: str) -> OnggiError:
    text = os.strerror(error.errno) if error.errno else str(error)
    what = f"cannot {step} {path}: {text[:1].lower()}{text[1:]}"
    match error.errno:
        case errno.EACCES | errno.EPERM:
            return PermissionDenied(f"{what}; run as its owner")
        case errno.EROFS | errno.ELOOP | errno.EISDIR | errno.ENOTDIR | errno.EEXIST | errno.ENXIO:
            return FailedPrecondition(what)
        case errno.ENOENT:
            return NotFound(what)
        case _:
            return Unavailable(what)
