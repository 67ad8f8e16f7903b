"""Manifest lists that somebody makes by hand before they are pushed: `onggi manifest create`.

    manifests/<sha256 of the list's name>.json      one file for a list, replaced whole

They name images of registries and hold these images' manifests, so that nothing has to be asked twice.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from onggi.base.errors import Corrupt, FailedPrecondition, InvalidArgument, NotFound
from onggi.host.files import Files
from onggi.host.locks import take_lock
from onggi.spec.image import Descriptor
from onggi.spec.json import encode_json, json_decoder, parse_json

MAX_MANIFESTS: Final = 500
MAX_LIST_BYTES: Final = 64 << 20
MAX_LISTS: Final = 10_000
_LOCK_TIMEOUT_S: Final = 30.0


class ListedManifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A manifest under the full name by which it was asked for: what an index says of it, and its bytes."""

    reference: str
    descriptor: Descriptor
    raw: bytes


class ManifestList(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A list under its full name; the manifests are sorted as Docker sorts them."""

    reference: str
    manifests: tuple[ListedManifest, ...] = ()
    annotations: dict[str, str] | None = None

    def find(self, reference: str) -> ListedManifest | None:
        """Give the manifest of an image, None if the list has none."""
        return next((one for one in self.manifests if one.reference == reference), None)

    def with_manifest(self, manifest: ListedManifest) -> "ManifestList":
        """Give the list with this manifest in the place of an older one of that image, if there is one."""
        others = [one for one in self.manifests if one.reference != manifest.reference]
        return msgspec.structs.replace(self, manifests=tuple(sorted((*others, manifest), key=_file_name)))


_DECODER: Final = json_decoder(ManifestList)


class ManifestLists:
    """The lists of a state root."""

    def __init__(self, directory: str, lock: str, files: Files) -> None:
        """Keep them in `directory`, which is made when it is needed; `lock` is a file to lock."""
        self._directory, self._lock, self._files = directory, lock, files

    def find(self, reference: str) -> ManifestList | None:
        """Give a list by its full name, None if there is none. Raises Corrupt."""
        path = self._path(reference)
        if self._files.look(path) is None:
            return None
        try:
            data = self._files.read(path, 2 * MAX_LIST_BYTES)
        except NotFound:  # removed meanwhile
            return None
        return parse_json(data, _DECODER, f"manifest list {reference}", 2 * MAX_LIST_BYTES, Corrupt)

    def get(self, reference: str) -> ManifestList:
        """Give a list by its full name. Raises NotFound with Docker's text."""
        found = self.find(reference)
        if found is None:
            raise NotFound(f"No such manifest: {reference}")
        return found

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Keep others from changing lists meanwhile."""
        with take_lock(self._lock, "the manifest lists", timeout_s=_LOCK_TIMEOUT_S):
            yield

    def put(self, manifests: ManifestList) -> None:
        """Keep a list, over an older one. Raises InvalidArgument for more than a list may have."""
        data = encode_json(manifests)
        if len(manifests.manifests) > MAX_MANIFESTS or len(data) > MAX_LIST_BYTES:
            raise InvalidArgument(
                f"{manifests.reference}: a manifest list has at most {MAX_MANIFESTS} manifests, {MAX_LIST_BYTES} bytes"
            )
        self._files.make_directory(self._directory)
        path = self._path(manifests.reference)
        if self._files.look(path) is None and len(self._files.entries(self._directory)) >= MAX_LISTS:
            raise FailedPrecondition(f"there are {MAX_LISTS} manifest lists; `onggi manifest rm` removes some")
        self._files.put(path, data, durable=True)

    def remove(self, reference: str) -> None:
        """Remove a list. Raises NotFound with Docker's text."""
        if self._files.look(self._path(reference)) is None:
            raise NotFound(f"No such manifest: {reference}")
        self._files.remove_tree(self._path(reference))

    def _path(self, reference: str) -> str:
        return f"{self._directory}/{hashlib.sha256(reference.encode()).hexdigest()}.json"


def _file_name(manifest: ListedManifest) -> str:
    """Name a manifest as Docker names its file: lists are in that order."""
    return manifest.reference.replace(":", "-").replace("/", "_")
