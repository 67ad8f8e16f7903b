"""Binary packages: an ar archive of debian-binary, control.tar.* and data.tar.* (deb(5)). Pure."""

import io
from collections.abc import Iterator
from typing import Final, Protocol

import msgspec

from onggi.base.errors import Corrupt

_MAGIC: Final = b"!<arch>\n"
_HEADER: Final = 60
_MAX_MEMBERS: Final = 16
_LATEST_S: Final = 1 << 34


class File(Protocol):
    """A seekable file."""

    def read(self, size: int, /) -> bytes: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """One member of an ar archive: its name, when the package was built, and where it lies in the file."""

    name: str
    mtime_s: int
    start: int
    size: int


class Member(io.RawIOBase):
    """The content of one member, as an unbuffered stream."""

    def __init__(self, file: File, header: Header) -> None:
        """Read from `file`, which nobody else reads meanwhile."""
        self._file, self._at, self._end = file, header.start, header.start + header.size
        self.mtime_s = header.mtime_s

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Give up to `size` bytes."""
        left = self._end - self._at
        self._file.seek(self._at)
        data = self._file.read(left if size < 0 else min(size, left))
        self._at += len(data)
        return data


def open_member(file: File, prefix: str, where: str) -> Member:
    """Find the member whose name begins with `prefix` (`data.tar`). Raises Corrupt."""
    for header in _headers(file, where):
        if header.name.startswith(prefix):
            return Member(file, header)
    raise Corrupt(f"{where} has no {prefix}: it is damaged")


def _headers(file: File, where: str) -> Iterator[Header]:
    file.seek(0)
    if file.read(len(_MAGIC)) != _MAGIC:
        raise Corrupt(f"{where} is no Debian package")
    at = len(_MAGIC)
    for _ in range(_MAX_MEMBERS):
        file.seek(at)
        header = file.read(_HEADER)
        mtime, size = header[16:28].strip(), header[48:58].strip()
        if len(header) < _HEADER or header[58:] != b"`\n" or not size.isdigit() or not mtime.isdigit():
            return
        name = header[:16].decode("ascii", "replace").strip().rstrip("/")
        found = Header(name=name, mtime_s=min(int(mtime), _LATEST_S), start=at + _HEADER, size=int(size))
        yield found
        at = found.start + found.size + found.size % 2
