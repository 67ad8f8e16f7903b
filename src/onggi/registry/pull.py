"""A blob from a registry into the content store: resumed, in ranges if it is large, from whichever endpoint has it."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from onggi.base.errors import Corrupt, NotFound, NotSupported, OnggiError, Unavailable
from onggi.spec import media
from onggi.spec.image import Descriptor
from onggi.store.content import Blob, Content, Ingest
from onggi.store.leases import Lease

from .client import Blob as Incoming
from .client import Repository
from .remote import Remote

if TYPE_CHECKING:
    from concurrent.futures import Future

RANGED_BYTES: Final = 64 << 20
"""A blob of which so much is missing comes in several ranges at once."""
_RANGE_BYTES: Final = (256 << 10, 4 << 20)
_RANGES: Final = 3
_PARTS: Final = 100
"""So many ranges a blob at least: of those that come at the same moment only the first is kept when all break off."""
_PLACES: Final = 8
"""How many URLs of a descriptor are tried."""
_ATTEMPTS: Final = 4
_WORTH_BYTES: Final = 256 << 10
"""A connection that brought so much before it broke is no failed attempt."""

Arrived = Callable[[int], None]
"""Told how many bytes of a blob are here."""


class _Progress:
    """Of one attempt: the bytes that it brought, and those from before that it went on from."""

    bytes = 0
    taken_up = 0


class _FailedHere(Exception):
    """Failed at this end: no other registry and no other attempt does better."""

    def __init__(self, error: OnggiError) -> None:
        super().__init__(error)
        self.error = error


@contextmanager
def _here() -> Iterator[None]:
    """Tell what fails here, such as a full disk, from what fails at the registry's end; Corrupt is its fault."""
    try:
        yield
    except Corrupt:
        raise
    except OnggiError as error:
        raise _FailedHere(error) from None


def pull_blob(remote: Remote, content: Content, descriptor: Descriptor, *, lease: Lease, arrived: Arrived) -> Blob:
    """Give a blob, fetched if it is not here; two who want the same one fetch it once.

    A connection that breaks is taken up where it broke, as often as it brings something.
    What was taken up and came out wrong is fetched once more from its beginning: that may have been
    spoiled before. Raises Corrupt for what is not what its descriptor says; nothing of that stays.
    """
    attempts, again = 0, False
    while True:
        progress = _Progress()

        def receive(repository: Repository, progress: _Progress = progress) -> Blob:
            return _receive(repository, content, descriptor, lease, arrived, progress)

        if found := _find(content, descriptor, lease):
            return found
        try:
            return remote.do("pull", receive)
        except _FailedHere as failed:
            raise failed.error from None
        except Unavailable:
            attempts = 1 if progress.bytes >= _WORTH_BYTES else attempts + 1
            if attempts >= _ATTEMPTS:
                raise
            remote.wait(attempts)
        except Corrupt:
            if again or not progress.taken_up:
                raise
            again = True


def _receive(
    repository: Repository,
    content: Content,
    descriptor: Descriptor,
    lease: Lease,
    arrived: Arrived,
    progress: _Progress,
) -> Blob:
    size = descriptor.size
    with content.receive(descriptor.digest, lease=lease) as ingest:
        if found := _find(content, descriptor, lease):
            ingest.abandon()
            return found
        if ingest.offset > size:
            ingest.restart()
        before = progress.taken_up = ingest.offset
        arrived(before)
        try:
            _receive_missing(repository, ingest, descriptor, arrived)
        finally:
            progress.bytes += max(0, ingest.offset - before)
        if ingest.offset != size:
            ingest.abandon()
            raise Corrupt(f"blob {descriptor.digest}: {ingest.offset} bytes came, its manifest says {size}")
        with _here():
            return ingest.finish()


def _find(content: Content, descriptor: Descriptor, lease: Lease) -> Blob | None:
    found = content.find(descriptor.digest, lease=lease)
    if found is not None and found.size_bytes != descriptor.size:
        raise Corrupt(f"blob {descriptor.digest}: it has {found.size_bytes} bytes, its manifest says {descriptor.size}")
    return found


def _receive_missing(repository: Repository, ingest: Ingest, descriptor: Descriptor, arrived: Arrived) -> None:
    digest, size = descriptor.digest, descriptor.size
    if ingest.offset == size:
        return
    try:
        if size - ingest.offset >= RANGED_BYTES and _receive_ranges(repository, ingest, descriptor, arrived):
            return
        with repository.blob(digest, offset=ingest.offset, size=size) as blob:
            _take(blob, ingest, arrived)
    except NotFound:
        if media.is_distributable(descriptor.media_type) or not descriptor.urls:
            raise
        _receive_elsewhere(repository, ingest, descriptor, arrived)


def _receive_elsewhere(repository: Repository, ingest: Ingest, descriptor: Descriptor, arrived: Arrived) -> None:
    """Fetch what the registry does not carry from where its descriptor says, the first place that has it."""
    *others, last = (descriptor.urls or ())[:_PLACES]
    for url in (*others, last):
        try:
            with repository.blob_elsewhere(url, descriptor.digest, offset=ingest.offset, size=descriptor.size) as blob:
                _take(blob, ingest, arrived)
        except (NotFound, NotSupported, Unavailable):
            if url == last:
                raise
        else:
            return


def _take(blob: Incoming, ingest: Ingest, arrived: Arrived) -> None:
    if blob.offset != ingest.offset:
        ingest.restart()
    for chunk in blob.stream():
        with _here():
            ingest.write(chunk)
        arrived(ingest.offset)


def _receive_ranges(repository: Repository, ingest: Ingest, descriptor: Descriptor, arrived: Arrived) -> bool:
    """Fetch ranges side by side and write them in order. False where the registry has none; nothing is lost then."""
    from concurrent.futures import ThreadPoolExecutor

    size = descriptor.size
    step = min(max(size // _PARTS, _RANGE_BYTES[0]), _RANGE_BYTES[1])

    def fetch(start: int) -> bytes | None:
        with repository.blob(descriptor.digest, offset=start, end=min(start + step, size), size=size) as blob:
            return None if blob.offset != start else b"".join(blob.stream())

    def take(start: int, piece: bytes | None) -> bool:
        if piece is None or start != ingest.offset:  # the one before was shorter than it was asked for
            return False
        with _here():
            ingest.write(piece)
        arrived(ingest.offset)
        return True

    if not take(ingest.offset, fetch(ingest.offset)):  # alone, since it shows whether there are any
        return False
    pieces: deque[tuple[int, Future[bytes | None]]] = deque()

    def take_next() -> bool:
        start, piece = pieces.popleft()
        return take(start, piece.result())

    with ThreadPoolExecutor(_RANGES, thread_name_prefix="range") as pool:
        try:
            for start in range(ingest.offset, size, step):
                pieces.append((start, pool.submit(fetch, start)))
                if len(pieces) > _RANGES and not take_next():
                    return False
            while pieces:
                if not take_next():
                    return False
            return True
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
