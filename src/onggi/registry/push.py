"""One blob into a repository: left alone if it is there, taken from a neighbour of it if one has it, else sent."""

from collections.abc import Callable, Sequence
from typing import BinaryIO, Final

from onggi.spec.image import Descriptor
from onggi.store.content import Content
from onggi.store.sources import Sources

from .client import Repository
from .progress import State

_NEIGHBOURS: Final = 3

Told = Callable[[State, int, str], None]
"""Hears a blob's state, how many bytes of it are through, and where it came from."""


def push_blob(
    repository: Repository,
    content: Content,
    sources: Sources,
    blob: Descriptor,
    told: Told,
    *,
    neighbours: Sequence[str] = (),
) -> bool:
    """Have a blob in the repository; False if it is neither there nor here. Sending goes on where it broke off.

    `neighbours` are repositories there that may have it, beside those that `sources` knows of.
    """
    endpoint, digest = repository.endpoint, blob.digest
    if repository.has_blob(digest, pushing=True):
        told(State.THERE, blob.size, "")
    elif neighbour := _mount(repository, sources, blob, neighbours):
        told(State.MOUNTED, blob.size, neighbour)
    elif content.find(digest) is None:
        return False
    else:
        told(State.UPLOADING, 0, "")
        with content.open(digest) as file:
            repository.upload(digest, blob.size, _Telling(file, told))
        told(State.READY, blob.size, "")
    sources.remember_source(digest, endpoint.host, endpoint.repository)
    return True


def _mount(repository: Repository, sources: Sources, blob: Descriptor, neighbours: Sequence[str]) -> str:
    """Let the registry take a blob from where it was seen; gives that repository, or nothing."""
    host, here = repository.endpoint.host, repository.endpoint.repository
    known = dict.fromkeys((*sources.repositories(blob.digest, host), *neighbours))
    for neighbour in [one for one in known if one != here][:_NEIGHBOURS]:
        if repository.mount(blob.digest, neighbour):
            return neighbour
        sources.forget_source(blob.digest, host, neighbour)
    return ""


class _Telling:
    """A file that says how far it was read, which may go back."""

    def __init__(self, file: BinaryIO, told: Told) -> None:
        self._file, self._told, self._offset = file, told, 0

    def seek(self, offset: int, /) -> None:
        self._file.seek(offset)
        self._offset = offset

    def read(self, size: int, /) -> bytes:
        data = self._file.read(size)
        self._offset += len(data)
        self._told(State.UPLOADING, self._offset, "")
        return data
