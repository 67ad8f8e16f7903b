"""Images from one repository to another, in the same registry or not, byte for byte and without being stored.

    gather   all documents that belong to an image, in memory: manifests, indexes, what refers to them
    blobs    four at once: those that are there stay, a registry's own are mounted, the others stream through
    publish  documents by their digests, what is pointed to before what points; the tag comes last

So a tag never names what is not whole. Every document and blob is verified on its way.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from onggi.base.errors import Cancelled, Corrupt, NotFound
from onggi.spec import media
from onggi.spec.digest import Digest
from onggi.spec.image import Descriptor, Manifest

from .client import Repository
from .documents import MAX_DEPTH, Document, fetch_entry
from .progress import BlobProgress, State, Tell, one_at_a_time
from .relay import Relay
from .remote import Remote

PARALLEL: Final = 4
MAX_DOCUMENTS: Final = 2000
MAX_DOCUMENTS_BYTES: Final = 64 << 20


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """All that belongs to an image: its `documents`, what is pointed to before what points, and their `blobs`."""

    root: Document
    documents: tuple[Document, ...]
    blobs: tuple[Descriptor, ...]


class Copied(msgspec.Struct, frozen=True, kw_only=True):
    """What a copy came to: how many blobs, of which `sent` went through us, with so many bytes."""

    blobs: int
    sent: int
    mounted: int
    sent_bytes: int
    total_bytes: int


def gather(source: Remote, root: Document, *, referrers: bool = False) -> Image:
    """Fetch every document of an image. Raises Corrupt for more than any image needs."""
    documents: dict[Digest, Document] = {}
    blobs: dict[Digest, Descriptor] = {}

    def take(document: Document, depth: int) -> None:
        if document.digest in documents:
            return
        if depth > MAX_DEPTH:
            raise Corrupt(f"{source.name}: indexes lie more than {MAX_DEPTH} deep in each other")
        if isinstance(document.content, Manifest):
            blobs.update((part.digest, part) for part in (document.content.config, *document.content.layers))
        else:
            for entry in document.content.manifests:
                if media.bare(entry.media_type) in media.MANIFESTS | media.INDEXES:
                    take(fetch_entry(source, entry), depth + 1)
                else:
                    blobs[entry.digest] = entry
        documents[document.digest] = document
        if len(documents) > MAX_DOCUMENTS or sum(len(one.data) for one in documents.values()) > MAX_DOCUMENTS_BYTES:
            raise Corrupt(f"{source.name}: {root.digest} has more manifests than are accepted")

    def take_referrers() -> None:
        asked: set[Digest] = set()
        while waiting := [digest for digest in documents if digest not in asked]:
            for digest in waiting:
                asked.add(digest)
                for entry in _referrers(source, digest):
                    take(fetch_entry(source, entry), 0)

    take(root, 0)
    if referrers:
        take_referrers()
    return Image(root=root, documents=tuple(documents.values()), blobs=tuple(blobs.values()))


def copy_image(
    source: Remote, image: Image, target: Remote, reference: str, *, tell: Tell, stop: Callable[[], None]
) -> Copied:
    """Bring an image to a repository, under a tag or its digest; `stop` ends what is under way when a part fails."""
    there = target.do("push", lambda repository: _answering(repository, image.root.digest))
    states = _copy_blobs(source, image.blobs, there, one_at_a_time(tell), stop)
    _publish(image, there, reference)
    sent = [blob for blob, state in zip(image.blobs, states, strict=True) if state is State.READY]
    return Copied(
        blobs=len(image.blobs),
        sent=len(sent),
        mounted=states.count(State.MOUNTED),
        sent_bytes=sum(blob.size for blob in sent),
        total_bytes=sum(blob.size for blob in image.blobs),
    )


def _answering(repository: Repository, digest: Digest) -> Repository:
    repository.has_blob(digest)
    return repository


def _copy_blobs(
    source: Remote, blobs: Sequence[Descriptor], target: Repository, tell: Tell, stop: Callable[[], None]
) -> list[State]:
    from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

    for blob in blobs:
        tell(BlobProgress(blob=blob.digest, state=State.WAITING))
    origin = _repository_at(source, target)
    with ThreadPoolExecutor(PARALLEL) as pool:
        futures = [pool.submit(_copy_blob, source, blob, target, origin, tell) for blob in blobs]
        try:
            done = wait(futures, return_when=FIRST_EXCEPTION).done
        except KeyboardInterrupt:
            raise Cancelled("interrupted; what was copied to its end is there") from None
        finally:
            if any(not future.done() for future in futures):
                stop()
                pool.shutdown(wait=False, cancel_futures=True)
        failed = [error for future in done if (error := future.exception())]
        for error in sorted(failed, key=lambda one: isinstance(one, Cancelled)):
            raise error
        return [future.result() for future in futures]


def _copy_blob(source: Remote, blob: Descriptor, target: Repository, origin: str, tell: Tell) -> State:
    def say(state: State, bytes: int = 0, total: int = 0, source: str = "") -> State:
        tell(BlobProgress(blob=blob.digest, state=state, bytes=bytes, total=total, source=source))
        return state

    if not media.is_distributable(blob.media_type):
        return say(State.SKIPPED)
    if target.has_blob(blob.digest):
        return say(State.THERE)
    if origin and target.mount(blob.digest, origin):
        return say(State.MOUNTED, source=source.name)
    relay = Relay(source, blob, lambda offset: say(State.UPLOADING, bytes=offset, total=blob.size))
    try:
        target.upload(blob.digest, blob.size, relay)
    finally:
        relay.close()
    return say(State.READY, bytes=blob.size, total=blob.size)


def _repository_at(source: Remote, target: Repository) -> str:
    """Give what the registry of `target` itself calls the source; "" if it is not there."""
    for one in source.repositories:
        if one.endpoint.url == target.endpoint.url and one.endpoint.repository != target.endpoint.repository:
            return one.endpoint.repository
    return ""


def _publish(image: Image, target: Repository, reference: str) -> None:
    root = image.root
    for document in image.documents:
        if document is not root and not _has(target, document.digest):
            target.put_manifest(document.digest, document.data, document.media_type)
    target.put_manifest(reference, root.data, root.media_type)


def _referrers(source: Remote, digest: Digest) -> list[Descriptor]:
    return source.do("pull", lambda repository: repository.referrers(digest))


def _has(target: Repository, digest: Digest) -> bool:
    try:
        target.resolve(digest)
    except NotFound:
        return False
    return True
