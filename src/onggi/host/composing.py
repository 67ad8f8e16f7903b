"""A root file system with its volumes mounted in it, in a mount namespace that no process is in: `cp`.

A path is then resolved by the kernel as a process of the container would resolve it, and
still beneath a descriptor: what the container does meanwhile can lead it nowhere else.
The namespace is made by a thread of its own and goes with its last descriptor.
"""

import ctypes
import os
import stat
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final, Self

import msgspec

from onggi.base.errors import FailedPrecondition, InvalidArgument
from onggi.base.names import shown

from .oserrors import explain_oserror
from .selecting import look, make_parents
from .tree import open_beneath

# One table on every architecture since Linux 5.2.
_SYS_OPEN_TREE: Final = 428
_SYS_MOVE_MOUNT: Final = 429
_SYS_MOUNT_SETATTR: Final = 442

_AT_FDCWD: Final = -100
_AT_EMPTY_PATH: Final = 0x1000
_AT_RECURSIVE: Final = 0x8000
_OPEN_TREE_CLONE: Final = 1
_FROM_FD: Final = 0x04  # MOVE_MOUNT_F_EMPTY_PATH
_TO_FD: Final = 0x40  # MOVE_MOUNT_T_EMPTY_PATH
_RDONLY: Final = 1
_CLONE_FS: Final = 0x200
_CLONE_NEWNS: Final = 0x20000
_MS_REC: Final = 0x4000
_MS_PRIVATE: Final = 1 << 18

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """What is mounted where: a path of the host, and a path in the root file system."""

    source: str
    target: str
    read_only: bool = False
    recursive: bool = True


class Composed:
    """A root file system with what is mounted in it; `fd` is its root."""

    __slots__ = ("_namespace", "fd")

    def __init__(self, fd: int, namespace: int) -> None:
        """Own both descriptors."""
        self.fd, self._namespace = fd, namespace

    def __enter__(self) -> Self:
        """Give it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Unmount all of it."""
        os.close(self.fd)
        os.close(self._namespace)


def compose(root: int, places: Sequence[Place], at: str, *, read_only: bool = False) -> Composed:
    """Mount `places` in the detached mount `root`, which is owned from now on; missing mount points are made.

    `at`: a directory of ours to mount on, in the new namespace only. `read_only`: nothing can be written to the root.
    """
    with ExitStack() as stack:
        stack.callback(os.close, root)
        trees: list[int] = []
        for place in places:
            trees.append(_clone(_AT_FDCWD, os.fsencode(place.source), place.source, recursive=place.recursive))
            stack.callback(os.close, trees[-1])
            if place.read_only:
                _make_read_only(trees[-1], recursive=place.recursive)
        namespace = _in_thread(lambda: _mount_all(root, places, trees, at, read_only))
        return Composed(os.dup(root), namespace)


def clone_root(pid: int) -> int:
    """Clone the root mount of a container's process, without what is mounted in it; gives a detached mount."""
    try:
        namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        raise FailedPrecondition("the container has ended just now") from None
    try:
        return _in_thread(lambda: _clone_in(namespace))
    finally:
        os.close(namespace)


def clone_directory(path: str) -> int:
    """Clone a directory of the host as a detached mount."""
    return _clone(_AT_FDCWD, os.fsencode(path), path, recursive=True)


def is_read_only(fd: int) -> bool:
    """Tell whether nothing can be written through the mount of an open directory."""
    return bool(os.fstatvfs(fd).f_flag & os.ST_RDONLY)


def _clone_in(namespace: int) -> int:
    _check(_libc.setns(namespace, _CLONE_NEWNS))
    return _clone(_AT_FDCWD, b"/", "the container's root", recursive=False)


def _mount_all(root: int, places: Sequence[Place], trees: Sequence[int], at: str, read_only: bool) -> int:
    _check(_libc.unshare(_CLONE_NEWNS))
    _check(_libc.mount(None, b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None))
    _call(_SYS_MOVE_MOUNT, root, b"", _AT_FDCWD, os.fsencode(at), _FROM_FD)
    for place, tree in zip(places, trees, strict=True):
        target = _make_target(root, place.target, directory=stat.S_ISDIR(os.fstat(tree).st_mode))
        try:
            _call(_SYS_MOVE_MOUNT, tree, b"", target, b"", _FROM_FD | _TO_FD)
        except OSError as error:
            raise explain_oserror(error, "mount", f"{place.source} at {place.target}") from None
        finally:
            os.close(target)
    if read_only:
        _make_read_only(root, recursive=False)
    return os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)


def _make_target(root: int, target: str, *, directory: bool) -> int:
    path = os.fsencode(target).strip(b"/")
    if look(root, path, follow=True) is None and not is_read_only(root):
        if directory:
            path = make_parents(root, path, (0, 0))
        else:
            parent, _, name = path.rpartition(b"/")
            made = open_beneath(root, make_parents(root, parent, (0, 0)), os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=made))
            finally:
                os.close(made)
    try:
        return open_beneath(root, path, os.O_PATH)
    except OSError as error:
        raise InvalidArgument(f"cannot mount at {shown(path)}: {error.strerror}") from None


def _clone(at: int, path: bytes, what: str, *, recursive: bool) -> int:
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | (_AT_RECURSIVE if recursive else 0)
    try:
        return _call(_SYS_OPEN_TREE, at, path, flags)
    except OSError as error:
        raise explain_oserror(error, "open the mount", what) from None


def _make_read_only(tree: int, *, recursive: bool) -> None:
    attributes = (ctypes.c_uint64 * 4)(_RDONLY, 0, 0, 0)  # struct mount_attr: set, clear, propagation, userns
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    _call(_SYS_MOUNT_SETATTR, tree, b"", flags, ctypes.byref(attributes), ctypes.sizeof(attributes))


def _in_thread(work: Callable[[], int]) -> int:
    """Do something in a thread that ends with it: only that thread changes its namespace.

    It goes back first: a thread that Python has joined may still be there, and would keep what is mounted.
    """
    result: list[int | BaseException] = []

    def run() -> None:
        own = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.unshare(_CLONE_FS))
            result.append(work())
            _check(_libc.setns(own, _CLONE_NEWNS))
        except BaseException as error:
            result.insert(0, error)
        finally:
            os.close(own)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    given = result[0]
    if isinstance(given, OSError):
        raise explain_oserror(given, "mount", "the container's file systems") from None
    if isinstance(given, BaseException):
        raise given
    return given


def _call(number: int, *arguments: object) -> int:
    result: int = _syscall(ctypes.c_long(number), *arguments)
    return _check(result)


def _check(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
