"""Sending one blob: POST begins, PATCH carries, PUT ends; after a cut the registry is asked how much it has.

All of it is one PATCH, as Docker does: some registries take no second one, and
those that take only small requests (413) are given chunks.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import quote, urlsplit

from onggi.base.errors import Corrupt, FailedPrecondition, OnggiError, Unavailable
from onggi.host.http_client import Body, Response
from onggi.spec.challenge import parse_upload_range
from onggi.spec.digest import Digest

from .answers import refusal

if TYPE_CHECKING:
    from .client import Repository

SMALL: Final = 1 << 20
"""Up to here a blob travels with the request that ends the upload."""
CHUNK: Final = 16 << 20
"""What a registry that takes only small requests is given."""
FAILURES: Final = 5
"""So often in a row it may fail without getting on."""
_PIECE: Final = 256 << 10
_DONE: Final = frozenset({200, 201, 202, 204})
_PASSING: Final = frozenset({404, 408, 413, 416, 429, 500, 502, 503, 504})

Sent = Callable[[int], None]


class Reader(Protocol):
    """Bytes that can be read again from a place."""

    def seek(self, offset: int, /) -> object:
        """Go to `offset`."""

    def read(self, size: int, /) -> bytes:
        """Give the next bytes, empty at the end."""


class Upload:
    """One blob on its way out."""

    def __init__(self, repository: "Repository", digest: Digest, size: int, reader: Reader, sent: Sent) -> None:
        """Begin nothing yet."""
        self._repository, self._digest, self._size, self._reader, self._sent = repository, digest, size, reader, sent
        self._what = f"blob {digest}"
        self._url = ""
        self._offset = self._best = 0
        self._limit = size

    def run(self, url: str, chunk_bytes: int | None) -> None:
        """Send it all; `url` is an upload that was begun, if one was."""
        self._url, self._limit = url, chunk_bytes or max(1, self._size)
        failures = reached = 0
        try:
            while True:
                try:
                    return self._go_on()
                except Unavailable:
                    failures = failures + 1 if self._best <= reached else 1
                    reached = self._best
                    if failures > FAILURES or not self._url:  # to begin was tried often enough
                        raise
                self._repository.wait(failures)
                with suppress(Unavailable):
                    if self._recover():
                        return None
        except BaseException:
            self._give_up()
            raise

    def _go_on(self) -> None:
        if not self._url:
            self._begin()
        if not self._offset and self._size <= min(SMALL, self._limit):
            return self._end(Body(size=self._size, open=lambda: self._bytes(0, self._size)))
        while self._offset < self._size:
            self._carry(min(self._size, self._offset + self._limit))
        return self._end(b"")

    def _begin(self) -> None:
        with self._repository.ask_upload("POST") as response:
            if response.status != 202:
                raise refusal(response, self._repository.name, self._what, pushing=True)
            self._url, self._offset = self._repository.location(response), 0

    def _carry(self, end: int) -> None:
        first = self._offset
        headers = (("Content-Type", "application/octet-stream"), ("Content-Range", f"{first}-{end - 1}"))
        body = Body(size=end - first, open=lambda: self._bytes(first, end))
        with self._repository.ask_upload("PATCH", self._url, headers=headers, body=body, attempts=1) as response:
            if response.status == 413:
                self._limit = min(self._limit, CHUNK)
            if response.status not in _DONE:
                raise self._problem(response)
            if response.header("Location"):
                self._url = self._repository.location(response)
            there = parse_upload_range(response.header("Range"))
        # A registry may keep less than it was sent; it cannot have more.
        self._reached(there if there is not None and first < there < end else end)

    def _end(self, body: Body | bytes) -> None:
        url = f"{self._url}{'&' if urlsplit(self._url).query else '?'}digest={quote(self._digest, safe=':')}"
        headers = (("Content-Type", "application/octet-stream"),)
        with self._repository.ask_upload("PUT", url, headers=headers, body=body, attempts=1) as response:
            if response.status not in _DONE:
                raise self._problem(response)
            named = response.header("Docker-Content-Digest")
        if named and named != self._digest:
            raise Corrupt(f"{self._what}: the registry stored something else: {named[:200]}")
        self._sent(self._size)

    def _recover(self) -> bool:
        """Find out how far the upload is; True if it has ended, though nobody said so."""
        if not self._url:
            return False
        with self._repository.ask_upload("GET", self._url) as response:
            there = parse_upload_range(response.header("Range")) if response.status in _DONE else None
            if there and there <= self._size:
                if response.header("Location"):
                    self._url = self._repository.location(response)
                self._reached(there)
                return False
        if self._repository.has_blob(self._digest):
            self._sent(self._size)
            return True
        self._give_up()  # what is there is unknown, or nothing
        self._url = ""
        self._reached(0)
        return False

    def _reached(self, offset: int) -> None:
        self._offset, self._best = offset, max(self._best, offset)
        self._sent(offset)

    def _give_up(self) -> None:
        if self._url:
            with suppress(OnggiError), self._repository.parting().ask_upload("DELETE", self._url, attempts=1):
                pass

    def _problem(self, response: Response) -> OnggiError:
        found = refusal(response, self._repository.name, self._what, pushing=True)
        return Unavailable(str(found)) if response.status in _PASSING else found

    def _bytes(self, first: int, end: int) -> Iterator[bytes]:
        try:
            self._reader.seek(first)
            while first < end:
                piece = self._reader.read(min(_PIECE, end - first))
                if not piece:
                    raise Corrupt(f"{self._what}: it ends after {first} of {self._size} bytes")
                first += len(piece)
                yield piece
        except OSError as error:  # not the connection's
            raise FailedPrecondition(f"{self._what} cannot be read: {error.strerror or error}") from None
