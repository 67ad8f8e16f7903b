"""Binary packages: an ar archive of control.tar.* and data.tar.* (deb(5))."""

import io
from typing import Final, Protocol

from onggi.base.errors import Corrupt

_MAGIC: Final = b"!<arch>\n"
_HEADER: Final = 60
_MAX_MEMBERS: Final = 16


class File(Protocol):
    """A seekable file."""

    def read(self, size: int, /) -> bytes: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def tell(self) -> int: ...


class Member(io.RawIOBase):
    """One member of an ar archive, as an unbuffered stream."""

    def __init__(self, file: File, start: int, size: int) -> None:
        """Read `size` bytes of `file` from `start`."""
        self._file, self._at, self._end = file, start, start + size

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
    file.seek(0)
    if file.read(len(_MAGIC)) != _MAGIC:
        raise Corrupt(f"{where} is no Debian package")
    at = len(_MAGIC)
    for _ in range(_MAX_MEMBERS):
        file.seek(at)
        header = file.read(_HEADER)
        size = header[48:58].strip()
        if len(header) < _HEADER or header[58:] != b"`\n" or not size.isdigit():
            break
        start = at + _HEADER
        if header[:16].decode("ascii", "replace").strip().rstrip("/").startswith(prefix):
            return Member(file, start, int(size))
        at = start + int(size) + int(size) % 2
    raise Corrupt(f"{where} has no {prefix}: it is damaged")
