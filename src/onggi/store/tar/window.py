"""The part of a stream that is in memory: one buffer, filled by readinto, handed out as views.

A view is good until the next call that reads.
"""

from typing import Final, Protocol

from onggi.base.errors import Corrupt

BUFFER_BYTES: Final = 1 << 20


class ByteStream(Protocol):
    """What an archive is read from: an unbuffered file, a BytesIO, a LayerStream."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill the buffer from its beginning; 0 at the end."""


class Window:
    """A stream read in large pieces; `offset` is how far its consumer has come."""

    __slots__ = ("_buffer", "_end", "_start", "_stream", "_view", "offset")

    def __init__(self, stream: ByteStream) -> None:
        """Read nothing yet."""
        self._stream = stream
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self.offset = 0

    def exactly(self, count: int) -> bytes:
        """Take exactly `count` bytes, at most a buffer; raises Corrupt if the stream ends before."""
        if not self._have(count):
            raise Corrupt("the archive ends here in the middle of an entry: it is truncated")
        return self._take(count).tobytes()

    def block_or_end(self, count: int) -> bytes | None:
        """Take exactly `count` bytes, or None if the stream ends here; raises Corrupt in between."""
        if self._end - self._start < count and not self._have(count) and self._start == self._end:
            return None
        return self.exactly(count)

    def some(self, most: int) -> memoryview:
        """Take from one byte to `most`, whatever there is; raises Corrupt if there is none."""
        if self._start == self._end and not self._have(1):
            raise Corrupt("the archive ends here in the middle of an entry: it is truncated")
        return self._take(min(most, self._end - self._start))

    def skip(self, count: int) -> None:
        """Drop `count` bytes; raises Corrupt if the stream ends before."""
        while count:
            count -= len(self.some(count))

    def _take(self, count: int) -> memoryview:
        start = self._start
        self._start = start + count
        self.offset += count
        return self._view[start : self._start]

    def _have(self, count: int) -> bool:
        """Read until `count` bytes are in the buffer; False if the stream ends before."""
        have = self._end - self._start
        if not have or (self._start and self._start + count > BUFFER_BYTES):
            self._view[:have] = self._view[self._start : self._end]
            self._start, self._end = 0, have
        while self._end - self._start < count:
            got = self._stream.readinto(self._view[self._end :])
            if not got:
                return False
            self._end += got
        return True
