"""Files: the one layer through which everything that Onggi keeps on disk is written.

A file appears whole or not at all: it is staged under another name, checked by
its writer, and renamed. A tree disappears at once: it is renamed into a trash
directory, then unlinked. So a kill -9 leaves staged files and trash, never half
an object under its real name.

`durable=True` adds what a power loss needs: fsync of the file before the rename
and of the directory after it. Errors of the kernel leave as sentences.

Each change of the file system is announced to `before(effect, path)` first; the
tests cut each one there. Paths are absolute and belong to Onggi; what lies below
them may be hostile, and is left to tree.py.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final, Self

import msgspec

from onggi.base.errors import Corrupt, FailedPrecondition

from .oserrors import explain_oserror
from .tree import open_straight

Before = Callable[[str, str], None]
"""Called with the name of an effect and its path before it happens; whatever it raises prevents the effect."""

CHUNK_BYTES: Final = 1 << 20
_ATTEMPTS: Final = 10_000
_OPAQUE: Final = "trusted.overlay.opaque"


class Info(msgspec.Struct, frozen=True, kw_only=True):
    """What lies at a path: `kind` is file, directory or other."""

    kind: str
    size_bytes: int
    mtime_ns: int


class Files:
    """All changes of the file system that the store makes."""

    __slots__ = ("_before",)

    def __init__(self, before: Before | None = None) -> None:
        """Announce every effect to `before`."""
        self._before = before

    def about_to(self, effect: str, path: str) -> None:
        """Announce an effect; db.py announces its commits here too."""
        if self._before is not None:
            self._before(effect, path)

    # -- making ------------------------------------------------------------------------------------

    def make_directory(self, path: str, mode: int = 0o700) -> bool:
        """Make one directory with exactly this mode; False if there is one already."""
        self.about_to("mkdir", path)
        try:
            os.mkdir(path, mode)
            if mode & 0o077:  # the caller's umask may have taken from it, and it is not ours to change
                os.chmod(path, mode)
        except FileExistsError as error:
            if not os.path.isdir(path):
                raise explain_oserror(error, "make directory", path) from None
            return False
        except OSError as error:
            raise explain_oserror(error, "make directory", path) from None
        return True

    def own(self, path: str, uid: int, gid: int) -> None:
        """Change the owner of a file or directory, not of what a link leads to."""
        self.about_to("chown", path)
        try:
            os.chown(path, uid, gid, follow_symlinks=False)
        except OSError as error:
            raise explain_oserror(error, "change the owner of", path) from None

    def stage(self, path: str) -> "Staged":
        """Open a staged file for appending; what an earlier writer left in it is still there."""
        self.about_to("create", path)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise explain_oserror(error, "create", path) from None
        return Staged(self, fd, path)

    def put(self, path: str, data: bytes, *, mode: int = 0o600, durable: bool = False) -> None:
        """Write a small file whole, over an older one."""
        with self.stage(f"{path}.{os.urandom(8).hex()}") as staged:
            staged.write(data)
            os.fchmod(staged.fd, mode)
            staged.publish(path, durable=durable)

    def hard_link(self, source: str, path: str) -> None:
        """Give a regular file of ours one more name."""
        self.about_to("link", path)
        try:
            os.link(source, path, follow_symlinks=False)
        except OSError as error:
            raise explain_oserror(error, "link", path) from None

    def put_json(self, path: str, value: object) -> None:
        """Write a small value as JSON."""
        self.put(path, msgspec.json.encode(value))

    def remove_stubs(self, upper: str, stubs: list[bytes], etc: os.stat_result | None) -> None:
        """Remove files and directories of an upper directory that are still empty: places to mount on, deepest first.

        Its `etc` goes with them where it says no more than the one below it (`etc`, None if there is none).
        """
        if not stubs:
            return
        fd = self.open_directory(upper)
        try:
            for stub in stubs:
                with contextlib.suppress(OSError):
                    _remove_empty(fd, stub)
            with contextlib.suppress(OSError):
                if etc is not None and _says_no_more(fd, b"etc", etc):
                    os.rmdir(b"etc", dir_fd=fd)
        finally:
            os.close(fd)

    def rename(self, source: str, target: str, *, durable: bool = False) -> None:
        """Rename a file, or a directory to a name that is free; `durable` syncs the target's directory."""
        self.about_to("rename", target)
        try:
            os.rename(source, target)
        except OSError as error:
            raise explain_oserror(error, f"rename {source} to", target) from None
        if durable:
            self.sync_directory(os.path.dirname(target))

    # -- removing ----------------------------------------------------------------------------------

    def trash(self, path: str, trash: str) -> str | None:
        """Rename whatever lies at `path` into the directory `trash`; gives where it is then, None if nothing was there.

        What lies on another file system, as run directories do, stays where it is.
        """
        target = f"{trash}/{os.path.basename(path)}.{os.urandom(8).hex()}"
        self.about_to("rename", target)
        try:
            os.rename(path, target)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.EXDEV:
                return path
            raise explain_oserror(error, "remove", path) from None
        return target

    def remove_tree(self, path: str) -> None:
        """Unlink a file, or a directory with all below it; harmless when nothing is there.

        Follows no link, crosses no mount, and any depth is fine. Two at once are fine.
        """
        from .tree import remove_beneath  # brings ctypes, which a command that removes nothing need not pay for

        self.about_to("unlink", path)
        parent = self.open_directory(os.path.dirname(path))
        try:
            for attempt in range(1, _ATTEMPTS + 1):
                if not os.path.lexists(path):
                    return
                try:
                    remove_beneath(parent, os.fsencode(os.path.basename(path)))
                except FileNotFoundError:
                    # Somebody else removes it too: then there is less of it each time.
                    if attempt == _ATTEMPTS:
                        raise
        except OSError as error:
            raise explain_oserror(error, "remove", path) from None
        finally:
            os.close(parent)

    # -- reading -----------------------------------------------------------------------------------

    def open(self, path: str) -> BinaryIO:
        """Open a regular file for reading, unbuffered."""
        try:
            # O_NONBLOCK: what lies there may be a FIFO without a writer.
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise explain_oserror(error, "open", path) from None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise FailedPrecondition(f"cannot read {path}: it is not a regular file; move it away")
        return open(fd, "rb", buffering=0)

    def chunks(self, path: str) -> Iterator[bytes]:
        """Read a regular file from its start, a piece at a time."""
        with self.open(path) as file:
            while True:
                try:
                    chunk = file.read(CHUNK_BYTES)
                except OSError as error:
                    raise explain_oserror(error, "read", path) from None
                if not chunk:
                    return
                yield chunk

    def read(self, path: str, max_bytes: int) -> bytes:
        """Read a small file whole; raises Corrupt if it is larger than `max_bytes`."""
        data = bytearray()
        for chunk in self.chunks(path):
            data += chunk
            if len(data) > max_bytes:
                raise Corrupt(f"{path} is larger than the {max_bytes} bytes that it may have; it is damaged")
        return bytes(data)

    def open_directory(self, path: str, *, follow: bool = False) -> int:
        """Open a directory, or with `follow` what a link leads to; the caller closes the descriptor."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
        try:
            return os.open(path, flags)
        except OSError as error:
            raise explain_oserror(error, "open directory", path) from None

    def is_opaque(self, fd: int) -> bool:
        """Tell whether overlayfs is to show nothing of what is below a directory."""
        try:
            return os.getxattr(fd, _OPAQUE) == b"y"
        except OSError:
            return False

    def close(self, fd: int) -> None:
        """Close a descriptor that this class gave out."""
        os.close(fd)

    def entries(self, path: str) -> list[str]:
        """Names in a directory, sorted; none if there is no such directory."""
        try:
            return sorted(os.listdir(path))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise explain_oserror(error, "list", path) from None

    def look(self, path: str) -> Info | None:
        """Say what lies at `path`, never following a link; None if nothing does."""
        try:
            seen = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise explain_oserror(error, "look at", path) from None
        kind = "file" if stat.S_ISREG(seen.st_mode) else "directory" if stat.S_ISDIR(seen.st_mode) else "other"
        return Info(kind=kind, size_bytes=seen.st_size, mtime_ns=seen.st_mtime_ns)

    def tree_bytes(self, path: str) -> int:
        """Sum of the sizes of all regular files below a directory, hard links once."""
        from .tree import walk

        links: set[tuple[int, int]] = set()
        total = 0
        top = self.open_directory(path)
        try:
            for directory in walk(top, no_xdev=True):
                for name, regular in directory.files:
                    if not regular:
                        continue
                    with contextlib.suppress(FileNotFoundError):
                        seen = os.lstat(name, dir_fd=directory.fd)
                        if seen.st_nlink == 1 or (seen.st_dev, seen.st_ino) not in links:
                            total += seen.st_size
                        if seen.st_nlink > 1:
                            links.add((seen.st_dev, seen.st_ino))
        except OSError as error:
            raise explain_oserror(error, "measure", path) from None
        finally:
            os.close(top)
        return total

    def free_bytes(self, path: str) -> int:
        """Space that we may still use on the file system of `path`."""
        try:
            seen = os.statvfs(path)
        except OSError as error:
            raise explain_oserror(error, "measure the file system of", path) from None
        return (seen.f_bfree if os.geteuid() == 0 else seen.f_bavail) * seen.f_frsize

    # -- power loss --------------------------------------------------------------------------------

    def sync_directory(self, path: str) -> None:
        """Make the names in a directory survive a power loss."""
        self.about_to("fsync", path)
        fd = self.open_directory(path)
        try:
            os.fsync(fd)
        except OSError as error:
            if error.errno != errno.EINVAL:  # some file systems cannot, and need not
                raise explain_oserror(error, "sync", path) from None
        finally:
            os.close(fd)

    def sync_filesystem(self, path: str) -> None:
        """Make everything written so far to the file system of `path` survive a power loss (syncfs(2))."""
        import ctypes  # costs milliseconds, and only the background flush comes here

        self.about_to("fsync", path)
        fd = self.open_directory(path)
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.syncfs(fd) != 0:
                raise explain_oserror(OSError(ctypes.get_errno(), ""), "sync the file system of", path)
        finally:
            os.close(fd)


class Staged:
    """A file on its way in. Leaving the `with` block closes it; only `publish` and `discard` move or remove it."""

    __slots__ = ("_files", "fd", "path", "size_bytes")

    def __init__(self, files: Files, fd: int, path: str) -> None:
        """Take over `fd`, open for appending."""
        self._files, self.fd, self.path = files, fd, path
        self.size_bytes = os.fstat(fd).st_size

    def __enter__(self) -> Self:
        """Give the file itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close it, where it is."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append all of `data`."""
        self._files.about_to("write", self.path)
        rest = memoryview(data)
        try:
            while rest:
                written = os.write(self.fd, rest)
                self.size_bytes += written
                rest = rest[written:]
        except OSError as error:
            raise explain_oserror(error, "write", self.path) from None

    def chunks(self) -> Iterator[bytes]:
        """Read from its start what is in it."""
        offset = 0
        try:
            while chunk := os.pread(self.fd, CHUNK_BYTES, offset):
                offset += len(chunk)
                yield chunk
        except OSError as error:
            raise explain_oserror(error, "read", self.path) from None

    def allocate(self, size_bytes: int) -> None:
        """Let it take this much space, with nothing in it."""
        self._files.about_to("allocate", self.path)
        try:
            os.posix_fallocate(self.fd, 0, size_bytes)
        except OSError as error:
            raise explain_oserror(error, "write", self.path) from None
        self.size_bytes = max(self.size_bytes, size_bytes)

    def truncate(self) -> None:
        """Begin again with nothing."""
        self._files.about_to("truncate", self.path)
        try:
            os.ftruncate(self.fd, 0)
        except OSError as error:
            raise explain_oserror(error, "truncate", self.path) from None
        self.size_bytes = 0

    def publish(self, target: str, *, durable: bool = False) -> None:
        """Give it its real name, over an older file of that name."""
        if durable:
            self._files.about_to("fsync", self.path)
            try:
                os.fsync(self.fd)
            except OSError as error:
                raise explain_oserror(error, "sync", self.path) from None
        self._files.rename(self.path, target, durable=durable)

    def discard(self) -> None:
        """Close and remove it."""
        self.close()
        self._files.remove_tree(self.path)


def _says_no_more(root: int, name: bytes, below: os.stat_result) -> bool:
    """Tell whether a directory only repeats the one of a lower layer, and hides nothing of it."""
    fd = open_straight(root, name)
    try:
        seen = os.fstat(fd)
        same = (seen.st_mode, seen.st_uid, seen.st_gid) == (below.st_mode, below.st_uid, below.st_gid)
        return same and _OPAQUE not in os.listxattr(fd)
    finally:
        os.close(fd)


def _remove_empty(root: int, path: bytes) -> None:
    """Remove an empty file or directory; the way to it must not lead through a symbolic link."""
    parent, _, name = path.rpartition(b"/")
    above = open_straight(root, parent) if parent else os.dup(root)
    try:
        seen = os.lstat(name, dir_fd=above)
        if stat.S_ISDIR(seen.st_mode):
            os.rmdir(name, dir_fd=above)
        elif stat.S_ISREG(seen.st_mode) and seen.st_size == 0:
            os.unlink(name, dir_fd=above)
    finally:
        os.close(above)
