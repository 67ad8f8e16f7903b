"""The distribution API (distribution-spec 1.1) of one repository at one endpoint.

Whatever has a digest is verified here if it is held whole (manifests), and by the
receiver if it is streamed (blobs). Every answer is bounded before it is believed.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import quote, urlencode

import msgspec

from onggi.base.errors import Corrupt, InvalidArgument, NotFound, NotSupported, OnggiError
from onggi.host.http_client import ATTEMPTS, CHUNK, Body, Broken, Client, Response, origin, redirected, shown, split_url
from onggi.spec import media
from onggi.spec.challenge import parse_content_range, parse_next_page, plain
from onggi.spec.digest import Digest, digest_problem
from onggi.spec.image import MAX_MANIFEST_BYTES, Descriptor, Index, parse_manifest, print_manifest
from onggi.spec.json import json_decoder, parse_json
from onggi.spec.reference import Reference, check_tag
from onggi.spec.registry import Endpoint

from .answers import refusal
from .auth import Authentication
from .uploading import Reader, Sent, Upload

MAX_PAGES: Final = 1000
MAX_TAGS: Final = 200_000
MAX_REFERRERS: Final = 20_000
_PAGE: Final = 1000
_ACCEPT: Final = (("Accept", ", ".join((*media.ACCEPTED, "*/*;q=0.1"))),)
_PULL: Final = "pull"
_PUSH: Final = "pull,push"
_DELETE: Final = "delete"


class _Tags(msgspec.Struct, frozen=True):
    tags: tuple[str, ...] | None = None


class _Kind(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str = ""


class _Referring(msgspec.Struct, frozen=True, rename="camel"):
    subject: Descriptor | None = None
    artifact_type: str | None = None
    config: _Kind | None = None
    annotations: dict[str, str] | None = None


_TAGS: Final = json_decoder(_Tags)
_KIND: Final = json_decoder(_Kind)
_REFERRING: Final = json_decoder(_Referring)


class Blob:
    """A blob on its way: bytes from `offset` on, which may be less than was asked for; `total` if it is told."""

    def __init__(self, response: Response, what: str, offset: int, length: int | None, total: int | None) -> None:
        """Take over an answer with `length` bytes."""
        self.offset, self.total = offset, total
        self._response, self._what, self._length = response, what, length

    def stream(self, chunk_bytes: int = CHUNK) -> Iterator[bytes]:
        """Give the bytes, never more than announced. Raises Broken if they break off, Corrupt, Cancelled."""
        seen = 0
        for chunk in self._response.stream(chunk_bytes):
            seen += len(chunk)
            if self._length is not None and seen > self._length:
                raise Corrupt(f"{self._what}: the registry sends more than the {self._length} bytes that it may have")
            yield chunk
        if self._length is not None and seen < self._length:
            # Without Content-Length an early end looks like the end.
            raise Broken(f"{self._what}: the connection broke after {seen} of {self._length} bytes")


class Repository:
    """One repository at one endpoint; several threads may use it."""

    def __init__(self, endpoint: Endpoint, client: Client, auth: Authentication, *, name: str = "") -> None:
        """Ask nothing yet. `name` is what people call it, in errors."""
        self.endpoint, self._client, self._auth = endpoint, client, auth
        self.name = name or Reference(domain=endpoint.host, path=endpoint.repository).familiar_name
        self._base = f"{endpoint.url}/{endpoint.repository}"
        self._sessions: dict[Digest, str] = {}

    def resolve(self, reference: str) -> Descriptor:
        """Say what a tag or a digest is now, without fetching it where the registry tells so."""
        with self._manifest("HEAD", reference) as response:
            named, size = response.header("Docker-Content-Digest"), response.length
            kind = _kind(response)
            if response.status == 200 and kind and size and not digest_problem(named):
                digest = self._expect(Digest(named), reference)
                if size > MAX_MANIFEST_BYTES:
                    raise Corrupt(f"{self._ref(reference)}: a manifest of {size} bytes is larger than any may be")
                return Descriptor(media_type=kind, digest=digest, size=size)
        data, kind, digest = self.manifest(reference)
        return Descriptor(media_type=kind, digest=digest, size=len(data))

    def manifest(self, reference: str) -> tuple[bytes, str, Digest]:
        """Fetch a manifest or an index by tag or digest: its bytes, media type and digest, which they have."""
        what = f"manifest for {self._ref(reference)}"
        with self._manifest("GET", reference) as response:
            if response.status != 200:
                raise refusal(response, self.name, what)
            data = response.read(MAX_MANIFEST_BYTES, what)
            named, kind = response.header("Docker-Content-Digest"), _kind(response)
        promised = Digest(reference) if _is_digest(reference) else None
        if promised is None and named:
            if problem := digest_problem(named):
                raise Corrupt(f"{what}: the registry names it by an {problem}")
            promised = Digest(named)
        digest = Digest.of(data, promised.algorithm if promised else "sha256")
        if promised and digest != promised:
            raise Corrupt(f"{what}: the registry sent something else: {digest} instead of {promised}")
        if kind in ("", "application/json", "application/octet-stream", "text/plain"):
            kind = plain(parse_json(data, _KIND, what, MAX_MANIFEST_BYTES, Corrupt).media_type) or kind
        return data, kind, digest

    @contextmanager
    def blob(
        self, digest: Digest, *, offset: int = 0, end: int | None = None, size: int | None = None
    ) -> Iterator[Blob]:
        """Fetch a blob from `offset` to before `end`; `size` is what its descriptor promises, and then holds.

        A registry may ignore the range and send all: mind `Blob.offset`.
        """
        what = f"blob {digest} of {self.name}"
        ranged = bool(offset) or end is not None
        with self._get_blob(digest, (offset, end) if ranged else None) as response:
            if response.status == 416:  # it has no such range, perhaps no ranges
                response.close()
                with self._get_blob(digest, None) as whole:
                    yield self._whole(whole, what, size)
            elif response.status == 206:
                yield self._part(response, what, offset, end, size)
            else:
                yield self._whole(response, what, size)

    @contextmanager
    def blob_elsewhere(self, url: str, digest: Digest, *, offset: int, size: int) -> Iterator[Blob]:
        """Fetch a blob that registries do not carry from a URL of its descriptor: by https, and without credentials."""
        what = f"blob {digest} of {self.name}"
        if split_url(url).scheme != "https":
            raise NotSupported(f"{what} is not carried by the registry, and not to be had by https: {shown(url)}")
        headers = (("Range", f"bytes={offset}-"),) if offset else ()
        with self._client.send("GET", url, headers=headers) as response:
            if response.status == 206:
                yield self._part(response, what, offset, None, size)
            elif response.status == 200:
                yield self._whole(response, what, size)
            else:
                raise NotFound(f"{what} is not at {shown(url)}, which answered {response.said}")

    def has_blob(self, digest: Digest, *, pushing: bool = False) -> bool:
        """Whether the registry has a blob in this repository; `pushing` if it is to be sent otherwise."""
        with self._send(_PUSH if pushing else _PULL, "HEAD", f"blobs/{digest}") as response:
            if response.status == 404:
                return False
            if response.status != 200:
                raise refusal(response, self.name, f"blob {digest}", pushing=pushing)
            return True

    def mount(self, digest: Digest, source: str) -> bool:
        """Take a blob from another repository of the registry; False if it does not, and it must be sent."""
        scopes = (self._scope(_PUSH), f"repository:{source}:pull")
        url = self._at("blobs/uploads/", mount=digest, from_=source)
        with self._auth.send(self.endpoint, scopes, "POST", url) as response:
            if response.status == 201:
                return True
            if response.status == 202 and (location := response.header("Location")):
                self._sessions[digest] = self._location(response.url, location)
                return False
            if response.status in (202, 401, 403, 404, 405):  # not from there; the upload says whether at all
                return False
            raise refusal(response, self.name, f"blob {digest}", pushing=True)

    def upload(
        self,
        digest: Digest,
        size: int,
        reader: Reader,
        *,
        chunk_bytes: int | None = None,
        sent: Sent = lambda offset: None,
    ) -> None:
        """Send a blob, going on where it broke off; `sent` is told how far it is, which may go back.

        `chunk_bytes`: as much as one request carries; None for all in one.
        """
        Upload(self, digest, size, reader, sent).run(self._sessions.pop(digest, ""), chunk_bytes)

    def put_manifest(self, reference: str, data: bytes, media_type: str) -> Digest:
        """Store a manifest or an index under a tag or its digest, and where its subject is looked up from."""
        digest = Digest.of(data, Digest(reference).algorithm if _is_digest(reference) else "sha256")
        self._expect(digest, reference)
        headers = (("Content-Type", media_type),)
        what = f"manifest for {self._ref(reference)}"
        with self._send(_PUSH, "PUT", f"manifests/{_checked(reference)}", headers=headers, body=data) as response:
            if response.status not in (200, 201, 202):
                raise refusal(response, self.name, what, pushing=True)
            if (named := response.header("Docker-Content-Digest")) and named != digest and digest.algorithm in named:
                raise Corrupt(f"{what}: the registry stored something else: {named[:200]} instead of {digest}")
            listed = bool(response.header("OCI-Subject"))
        if not listed:
            self._list_referrer(data, media_type, digest, what)
        return digest

    def tags(self) -> list[str]:
        """List the tags, in the order of the registry."""
        found: dict[str, None] = {}
        for data in self._pages(self._at("tags/list", n=str(_PAGE)), f"tags of {self.name}"):
            page = parse_json(data, _TAGS, f"tags of {self.name}", MAX_MANIFEST_BYTES, Corrupt)
            found.update((tag, None) for tag in page.tags or () if _is_tag(tag))
            if len(found) > MAX_TAGS:
                raise Corrupt(f"tags of {self.name}: the registry lists more than {MAX_TAGS}")
        return list(found)

    def referrers(self, digest: Digest, artifact_type: str | None = None) -> list[Descriptor]:
        """List what refers to a manifest, by the referrers API or else the tag that stands in for it."""
        query = {"artifactType": artifact_type} if artifact_type else {}
        what = f"referrers of {digest} in {self.name}"
        found: list[Descriptor] = []
        try:
            for data in self._pages(self._at(f"referrers/{digest}", **query), what, (("Accept", media.OCI_INDEX),)):
                found += _index(data, what).manifests
                if len(found) > MAX_REFERRERS:
                    raise Corrupt(f"{what}: the registry lists more than {MAX_REFERRERS}")
        except (NotFound, NotSupported):
            try:
                found = list(_index(self.manifest(referrers_tag(digest))[0], what).manifests)
            except NotFound:
                return []
        return [entry for entry in found if artifact_type in (None, entry.artifact_type)]

    def delete(self, reference: str) -> None:
        """Remove a manifest by its digest, or a tag."""
        what = f"manifest for {self._ref(reference)}"
        with self._send(_DELETE, "DELETE", f"manifests/{_checked(reference)}") as response:
            if response.status in (400, 405) and not _is_digest(reference):
                raise NotSupported(f"{what}: this registry removes manifests by digest only, not tags")
            if response.status not in (200, 202, 204):
                raise refusal(response, self.name, what, pushing=True)

    # -- for uploads ---------------------------------------------------------------------------------------------------

    def ask_upload(
        self,
        method: str,
        url: str = "",
        *,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | Body | None = None,
        attempts: int = ATTEMPTS,
    ) -> Response:
        """Ask something about an upload; `url` is where the registry said it is, empty to begin one."""
        where, scopes = url or self._at("blobs/uploads/"), (self._scope(_PUSH),)
        return self._auth.send(self.endpoint, scopes, method, where, headers=headers, body=body, attempts=attempts)

    def location(self, response: Response) -> str:
        """Where an upload goes on. Raises Corrupt."""
        return self._location(response.url, response.header("Location"))

    def wait(self, attempt: int) -> None:
        """Pause before another attempt."""
        self._client.wait(attempt)

    def parting(self) -> "Repository":
        """Give the same repository for a last request, even when everything was stopped."""
        client = self._client.sibling(timeout_s=5)
        return Repository(self.endpoint, client, self._auth.through(client), name=self.name)

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _list_referrer(self, data: bytes, media_type: str, digest: Digest, what: str) -> None:
        """Where a registry has no referrers API, whoever pushes keeps the list, in a tag (distribution-spec)."""
        try:
            document = parse_json(data, _REFERRING, what, MAX_MANIFEST_BYTES)
        except InvalidArgument:  # stored all the same: it refers to nothing that we can read
            return
        if document.subject is None:
            return
        tag = referrers_tag(document.subject.digest)
        try:
            others = _index(self.manifest(tag)[0], what).manifests
        except NotFound:
            others = ()
        if any(other.digest == digest for other in others):
            return
        entry = Descriptor(
            media_type=media_type,
            digest=digest,
            size=len(data),
            annotations=document.annotations,
            artifact_type=document.artifact_type or (document.config.media_type if document.config else None),
        )
        index = Index(schema_version=2, media_type=media.OCI_INDEX, manifests=(*others, entry))
        self.put_manifest(tag, print_manifest(index), media.OCI_INDEX)

    def _send(
        self,
        actions: str,
        method: str,
        path: str,
        *,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | None = None,
    ) -> Response:
        return self._auth.send(
            self.endpoint, (self._scope(actions),), method, self._at(path), headers=headers, body=body
        )

    def _at(self, path: str, **query: str) -> str:
        """Give a URL of the repository; a mirror is told whose it is (containerd's `ns`)."""
        if self.endpoint.namespace:
            query["ns"] = self.endpoint.namespace
        fields = urlencode({name.rstrip("_"): value for name, value in query.items()}, safe="/:")
        return f"{self._base}/{path}{'?' if fields else ''}{fields}"

    def _scope(self, actions: str) -> str:
        return f"repository:{self.endpoint.repository}:{actions}"

    def _manifest(self, method: str, reference: str) -> Response:
        return self._send(_PULL, method, f"manifests/{_checked(reference)}", headers=_ACCEPT)

    def _get_blob(self, digest: Digest, range_: tuple[int, int | None] | None) -> Response:
        headers: tuple[tuple[str, str], ...] = ()
        if range_:
            first, end = range_
            headers = (("Range", f"bytes={first}-{'' if end is None else end - 1}"),)
        response = self._send(_PULL, "GET", f"blobs/{digest}", headers=headers)
        if response.status in (200, 206) or (range_ and response.status == 416):
            return response
        raise refusal(response, self.name, f"blob {digest}")

    def _whole(self, response: Response, what: str, size: int | None) -> Blob:
        length = response.length
        _agree(what, size, length)
        return Blob(response, what, 0, size if length is None else length, size if length is None else length)

    def _part(self, response: Response, what: str, offset: int, end: int | None, size: int | None) -> Blob:
        part = parse_content_range(response.header("Content-Range"))
        if part is None or part.first != offset or (end is not None and part.last >= end):
            raise Corrupt(f"{what}: the registry answered with another range than bytes {offset} to {end or 'the end'}")
        length = part.last - part.first + 1
        _agree(what, size, part.total)
        _agree(what, length, response.length)
        if size is not None and part.last >= size:
            raise Corrupt(f"{what}: the registry has more than the {size} bytes that its manifest says")
        return Blob(response, what, offset, length, part.total if part.total is not None else size)

    def _pages(self, first: str, what: str, headers: Iterable[tuple[str, str]] = ()) -> Iterator[bytes]:
        url: str | None = first
        seen: set[str] = set()
        while url is not None:
            if url in seen or len(seen) >= MAX_PAGES:
                raise Corrupt(f"{what}: the registry's pages have no end")
            seen.add(url)
            with self._auth.send(self.endpoint, (self._scope(_PULL),), "GET", url, headers=headers) as response:
                if response.status != 200:
                    raise refusal(response, self.name, what)
                yield response.read(MAX_MANIFEST_BYTES, what)
                url = parse_next_page(response.headers("Link"), response.url)
            if url is not None and origin(url) != origin(self.endpoint.url):
                raise Corrupt(f"{what}: the next page is at another server, {shown(url)}")

    def _expect(self, digest: Digest, reference: str) -> Digest:
        """Check that what a reference by digest gave is that."""
        if _is_digest(reference) and digest != reference:
            raise Corrupt(f"manifest for {self._ref(reference)}: it is something else: {digest}")
        return digest

    def _ref(self, reference: str) -> str:
        return f"{self.name}{'@' if _is_digest(reference) else ':'}{reference}"

    def _location(self, url: str, location: str) -> str:
        if not location:
            raise Corrupt(f"{self.name}: the registry does not say where an upload goes on")
        return redirected(url, location)


def referrers_tag(digest: Digest) -> str:
    """Give the tag that lists what refers to `digest` where a registry has no referrers API."""
    return f"{digest.algorithm[:32]}-{digest.hex[:64]}"


def _index(data: bytes, what: str) -> Index:
    index = parse_manifest(data, media.OCI_INDEX)
    if not isinstance(index, Index):
        raise Corrupt(f"{what}: the registry sent no image index")
    return index


def _agree(what: str, promised: int | None, told: int | None) -> None:
    if promised is not None and told is not None and promised != told:
        raise Corrupt(f"{what}: the registry has {told} bytes, its manifest or range says {promised}")


def _kind(response: Response) -> str:
    return media.bare(plain(response.header("Content-Type")))


def _is_digest(reference: str) -> bool:
    return ":" in reference


def _is_tag(tag: str) -> bool:
    try:
        check_tag(tag)
    except OnggiError:
        return False
    return True


def _checked(reference: str) -> str:
    if not _is_digest(reference):
        return check_tag(reference)
    if problem := digest_problem(reference):
        raise InvalidArgument(f"{problem}: {reference[:200]!r}")
    return quote(reference, safe=":")
