"""The files of a container, looked at, packed and unpacked beneath its root: `cp`, as `docker cp` does it.

Its files are a stranger's: no link of theirs leads out of the container. The other end
is the caller's, whose links count.
"""

import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import fsdecode, fsencode

import msgspec

from onggi.base.errors import InvalidArgument, NotFound
from onggi.engine.copy_paths import base_of, entry_name, inside, keep_ending, parent_of, plan_extraction
from onggi.host.composing import is_read_only
from onggi.host.local import Endpoint, find_destination, find_source, open_place
from onggi.host.oserrors import explain_oserror
from onggi.host.piping import pour
from onggi.host.reading import look_at
from onggi.host.selecting import close, look, open_directory, resolve_last
from onggi.store.tar.decompress import Source, open_layer
from onggi.store.tar.pack import Packed, Sink, pack_file, pack_tree
from onggi.store.tar.unpack import Unpacked, unpack_tree

Tell = Callable[[int], None]
"""Told how many bytes of the archive have passed."""


@contextmanager
def _explained(step: str, what: str) -> Iterator[None]:
    """Say what the kernel said; a container may change anything while it is looked at."""
    try:
        yield
    except OSError as error:
        raise explain_oserror(error, step, what) from None


class PathStat(msgspec.Struct, frozen=True, kw_only=True):
    """What lies at a path; `mode` as stat(2) has it. `target`: where a symbolic link leads in the end."""

    name: str
    size_bytes: int
    mode: int
    mtime_ns: int
    target: str = ""

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.mode)


class Copied(msgspec.Struct, frozen=True, kw_only=True):
    """What passed: the size of the archive as Docker would have written it, and how many devices were left out."""

    size_bytes: int
    skipped_devices: int = 0


class ContainerFiles:
    """The files of one container, as `engine.containers.files` opens them."""

    def __init__(
        self, root: int, shown: str, owner: Callable[[], tuple[int, int]], happened: Callable[[str], None]
    ) -> None:
        """Work beneath the descriptor `root`.

        `shown` names the container in errors, `owner` gives its user's ids, `happened` takes down what was done.
        """
        self._root, self._shown, self._owner, self._happened = root, shown, owner, happened

    @_explained("look at", "files of the container")
    def stat(self, path: str) -> PathStat:
        """Look at a path, not following a link that is named itself. Raises NotFound with Docker's text."""
        found = self._look(inside(path))
        if found is None:
            raise self._missing(path)
        return found

    @_explained("look at", "files of the container")
    def is_directory(self, path: str) -> bool:
        """Tell whether a path is a directory, or a link to one."""
        return self._destination(path).is_directory

    @_explained("pack", "files of the container")
    def pack(self, path: str, sink: Sink, *, follow: bool = False, name: str | None = None) -> Packed:
        """Write a tar of what lies at `path`, under its last name or another `name`; `.` is what is in a directory."""
        source, own_name = self._source(path, follow)
        found = self._look(source)
        if found is None:
            raise self._missing(path)
        label = fsencode(own_name if name is None else name)
        self._happened("archive-path")
        if found.is_directory:
            fd = open_directory(self._root, _bytes(source))
            try:
                return pack_tree(fd, sink, prefix=label, no_xdev=False)
            finally:
                close(fd)
        parent = open_directory(self._root, _bytes(parent_of(source)))
        try:
            return pack_file(parent, fsencode(base_of(source)), sink, name=label)
        finally:
            close(parent)

    @_explained("unpack into", "files of the container")
    def unpack(self, path: str, source: Source, *, archive: bool = False) -> Unpacked:
        """Unpack a tar, compressed or not, into the directory `path`.

        With `archive` all belongs to the container's user. Raises NotFound, and InvalidArgument for what is no
        directory or cannot be written to, with Docker's texts.
        """
        stream = open_layer(source)
        fd = self._open_to_write(path)
        try:
            return unpack_tree(
                stream, fd, owner=self._owner() if archive else None, replace_directories=False, keep_root=True
            )
        finally:
            close(fd)

    @_explained("copy", "files of the container")
    def copy_out(
        self, path: str, destination: str, *, follow: bool = False, archive: bool = False, tell: Tell | None = None
    ) -> Copied:
        """Copy to an absolute path of the host, as `docker cp` does; what is copied belongs to the caller.

        `archive` keeps owners. Devices are left out. Gives what passed.
        """
        place = find_destination(destination)
        source, name = self._source(path, follow)
        found = self.stat(source)
        into = plan_extraction(
            name,
            keep_ending(place.path, destination),
            from_directory=found.is_directory,
            exists=place.exists,
            is_directory=place.is_directory,
        )
        fd = open_place(into.directory)
        unpacked: list[Unpacked] = []
        try:
            packed = pour(
                lambda sink: self.pack(source, _Counting(sink, tell), name=into.name),
                lambda file: unpacked.append(
                    unpack_tree(file, fd, owners=archive, devices=False, replace_directories=False, keep_root=True)
                ),
            )
        finally:
            close(fd)
        return Copied(size_bytes=packed.size_bytes - packed.extended_bytes, skipped_devices=unpacked[0].skipped_devices)

    @_explained("copy to", "files of the container")
    def copy_in(
        self, source: str, path: str, *, follow: bool = False, archive: bool = False, tell: Tell | None = None
    ) -> Copied:
        """Copy an absolute path of the host into the container, as `docker cp` does; owners are kept as numbers.

        With `archive` all belongs to the container's user. Gives what passed.
        """
        target = self._destination(path)
        local = find_source(source, follow=follow)
        into = plan_extraction(
            entry_name(source),
            target.path,
            from_directory=local.is_directory,
            exists=target.exists,
            is_directory=target.is_directory,
        )
        fd = self._open_to_write(into.directory)
        try:
            owner = self._owner() if archive else None
            packed = pour(
                lambda sink: _pack_local(local.path, local.is_directory, _Counting(sink, tell), fsencode(into.name)),
                lambda file: unpack_tree(file, fd, owner=owner, replace_directories=False, keep_root=True),
            )
        finally:
            close(fd)
        return Copied(size_bytes=packed.size_bytes - packed.extended_bytes)

    # -- places ------------------------------------------------------------------------------------

    def _look(self, path: str) -> PathStat | None:
        raw = _bytes(path)
        seen = look(self._root, raw)
        if seen is None:
            return None
        target = ""
        if stat.S_ISLNK(seen.st_mode):
            target = "/" + fsdecode(resolve_last(self._root, raw.rstrip(b"/")))
        return PathStat(
            name=base_of(path), size_bytes=seen.st_size, mode=seen.st_mode, mtime_ns=seen.st_mtime_ns, target=target
        )

    def _source(self, path: str, follow: bool) -> tuple[str, str]:
        """Give the path to pack and its name: a link that is followed keeps its own."""
        source = inside(path)
        name = entry_name(source)
        found = self._look(source) if follow else None
        return (keep_ending(found.target, source) if found and found.target else source), name

    def _destination(self, path: str) -> Endpoint:
        target = inside(path)
        found = self._look(target)
        if found is not None and found.target:
            target = found.target
            found = self._look(target)
        if found is not None and not (found.is_directory or stat.S_ISREG(found.mode)):
            raise InvalidArgument(f'destination "{self._shown}:{path}" must be a directory or a regular file')
        return Endpoint(path=target, exists=found is not None, is_directory=found is not None and found.is_directory)

    def _open_to_write(self, path: str) -> int:
        try:
            fd = open_directory(self._root, _bytes(inside(path)))
        except NotADirectoryError:
            raise InvalidArgument("extraction point is not a directory") from None
        except OSError:
            raise self._missing(path) from None
        if is_read_only(fd):
            in_root = look_at(fd).st_dev == look_at(self._root).st_dev
            close(fd)
            raise InvalidArgument(
                "container rootfs is marked read-only" if in_root else "mounted volume is marked read-only"
            )
        self._happened("extract-to-dir")
        return fd

    def _missing(self, path: str) -> NotFound:
        return NotFound(f"Could not find the file {path} in container {self._shown}")


def _bytes(path: str) -> bytes:
    """Give a path beneath the root; a trailing slash stays."""
    return fsencode(path).lstrip(b"/") or b"."


def _pack_local(path: str, is_directory: bool, sink: Sink, name: bytes) -> Packed:
    fd = open_place(path if is_directory else parent_of(path))
    try:
        if is_directory:
            return pack_tree(fd, sink, prefix=name, no_xdev=False)
        return pack_file(fd, fsencode(base_of(path)), sink, name=name)
    finally:
        close(fd)


class _Counting:
    """A sink that tells how much has passed."""

    def __init__(self, behind: Sink, tell: Tell | None) -> None:
        self._behind, self._tell, self._passed = behind, tell, 0

    def write(self, data: memoryview, /) -> int | None:
        taken = self._behind.write(data)
        self._passed += len(data) if taken is None else taken
        if self._tell is not None:
            self._tell(self._passed)
        return taken
