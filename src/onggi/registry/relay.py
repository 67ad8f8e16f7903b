"""A blob on its way from one registry to another: nothing is kept, and nothing that is wrong arrives."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from onggi.base.errors import Corrupt, Unavailable
from onggi.host.http_client import CHUNK, Unreachable
from onggi.spec.image import Descriptor

from .client import Blob, Repository
from .remote import Remote

if TYPE_CHECKING:
    from hashlib import _Hash

_FAILURES: Final = 3
"""So often in a row the source may break off without bringing anything."""
_MARK_BYTES: Final = 16 << 20
"""So far apart are the places to which the hash can go back."""


class Relay:
    """A reader of a blob at its source, for an upload. The last byte is given only once the digest is right.

    What the source breaks off is taken up where it broke; what the target lost is fetched again.
    """

    def __init__(self, source: Remote, descriptor: Descriptor, passed: Callable[[int], object]) -> None:
        """Ask nothing yet. `passed` is told how far it is. Raises Corrupt for an empty blob of another digest."""
        self._source, self._descriptor, self._passed = source, descriptor, passed
        self._what = f"blob {descriptor.digest} of {source.name}"
        self._offset = 0
        self._hash = descriptor.digest.hasher()
        self._marks: list[tuple[int, _Hash]] = [(0, self._hash.copy())]
        self._stack = ExitStack()
        self._stream: Iterator[bytes] | None = None
        self._rest = memoryview(b"")
        if not descriptor.size:
            self._verify()

    def seek(self, offset: int, /) -> None:
        """Go to `offset`: back to a mark, and from there on anew."""
        if offset < self._offset:
            self.close()
            while self._marks[-1][0] > offset:
                self._marks.pop()
            self._offset, hash = self._marks[-1]
            self._hash = hash.copy()
        while self._offset < offset and self.read(min(CHUNK, offset - self._offset)):
            pass

    def read(self, size: int, /) -> bytes:
        """Give the next bytes, empty at the end. Raises Corrupt before the last ones of a blob that is another."""
        if self._offset == self._descriptor.size:
            return b""
        if not self._rest:
            self._rest = memoryview(self._receive())
        piece = bytes(self._rest[:size])
        self._rest = self._rest[len(piece) :]
        self._hash.update(piece)
        self._offset += len(piece)
        if self._offset == self._descriptor.size:
            self._verify()
        elif self._offset >= self._marks[-1][0] + _MARK_BYTES:
            self._marks.append((self._offset, self._hash.copy()))
        self._passed(self._offset)
        return piece

    def close(self) -> None:
        """Let go of the source."""
        self._stack.close()
        self._stream, self._rest = None, memoryview(b"")

    def _receive(self) -> bytes:
        failures = 0
        while True:
            try:
                for piece in self._stream or self._open():
                    return piece[: self._descriptor.size - self._offset]
                raise Corrupt(f"{self._what}: it ends after {self._offset} of {self._descriptor.size} bytes")
            except Unavailable as error:
                self.close()
                failures += 1
                if failures == _FAILURES or isinstance(error, Unreachable):
                    raise
            self._source.repositories[0].wait(failures)

    def _open(self) -> Iterator[bytes]:
        offset, descriptor = self._offset, self._descriptor

        def ask(repository: Repository) -> Blob:
            return self._stack.enter_context(repository.blob(descriptor.digest, offset=offset, size=descriptor.size))

        blob = self._source.do("pull", ask)
        self._stream = _from(blob.stream(), offset - blob.offset)
        return self._stream

    def _verify(self) -> None:
        digest = self._descriptor.digest
        if self._hash.hexdigest() != digest.hex:
            raise Corrupt(
                f"{self._what}: the registry sent something else: {digest.algorithm}:{self._hash.hexdigest()}"
            )


def _from(pieces: Iterator[bytes], skipped: int) -> Iterator[bytes]:
    for piece in pieces:
        if skipped < len(piece):
            yield piece[skipped:]
        skipped = max(0, skipped - len(piece))
