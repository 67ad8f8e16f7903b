"""The distribution API against a registry that is honest, and one that lies."""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from onggi.base.errors import (
    Corrupt,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    NotSupported,
    OnggiError,
    Unauthorized,
    Unavailable,
)
from onggi.host.http_client import ATTEMPTS, Broken, Client
from onggi.registry import client as module
from onggi.registry import uploading
from onggi.registry.auth import Authentication
from onggi.registry.client import Repository, referrers_tag
from onggi.spec import media
from onggi.spec.digest import Digest
from onggi.spec.image import MAX_MANIFEST_BYTES
from onggi.spec.registry import Credential
from tests.registry_server import (
    USER,
    Call,
    Fault,
    Registry,
    answer,
    corrupt,
    cut,
    cut_upload,
    endless,
    redirect,
    status,
    without_ranges,
)

NAME = "a/b"
MANIFEST = {"schemaVersion": 2, "mediaType": media.OCI_MANIFEST, "layers": []}
DATA = bytes(range(256)) * 8
ABSENT = Digest.of(b"not there")


@pytest.fixture
def client() -> Iterator[Client]:
    client = Client(pause=lambda seconds: None)
    yield client
    client.close()


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry() as registry:
        yield registry


@pytest.fixture
def here(registry: Registry, client: Client) -> Repository:
    return Repository(registry.endpoint(NAME), client, Authentication(client), name="ab")


def fetch(here: Repository, digest: Digest, **options: Any) -> tuple[int, int | None, bytes]:
    with here.blob(digest, **options) as blob:
        return blob.offset, blob.total, b"".join(blob.stream(100))


# -- manifests ---------------------------------------------------------------------------------------------------------


def test_a_tag_is_resolved_by_head(registry: Registry, here: Repository) -> None:
    digest = registry.add_manifest(NAME, "latest", MANIFEST, media.DOCKER_MANIFEST)
    found = here.resolve("latest")
    assert (found.digest, found.media_type) == (digest, media.DOCKER_MANIFEST)
    assert found.size == len(registry.manifests[NAME][digest][0])
    assert registry.lines() == ["HEAD /v2/a/b/manifests/latest"]
    assert all(name in registry.asked[0].headers["accept"] for name in media.ACCEPTED)


@pytest.mark.parametrize(
    "head",
    [
        status(405),
        status(404),
        answer(200, Content_Length="19", Content_Type=media.OCI_MANIFEST),
        answer(200, Content_Length="19", Content_Type=media.OCI_MANIFEST, Docker_Content_Digest="sha256:no"),
        answer(200, Docker_Content_Digest=str(ABSENT)),
    ],
)
def test_a_registry_without_a_good_head_is_asked_by_get(registry: Registry, here: Repository, head: Fault) -> None:
    digest = registry.add_manifest(NAME, "latest", MANIFEST)
    registry.fault("HEAD", "", head)
    assert here.resolve("latest").digest == digest
    assert registry.lines("GET") == ["GET /v2/a/b/manifests/latest"]


def test_media_types_cannot_draw_on_the_terminal(registry: Registry, here: Repository) -> None:
    registry.add_manifest(NAME, "latest", {**MANIFEST, "mediaType": "a\x1b[2Jb"})
    for kind in ("x/y\x1b[2J", "application/json"):
        told = answer(200, Content_Type=kind, Docker_Content_Digest=str(ABSENT), Content_Length="9")
        registry.fault("HEAD", "", told if kind != "application/json" else status(404), times=1)
        registry.fault("GET", "", answer(200, b'{"mediaType":"a\\u001b[2Jb"}', Content_Type=kind), times=1)
        assert "\x1b" not in here.resolve("latest").media_type


def test_a_head_that_lies_about_a_digest_is_caught(registry: Registry, here: Repository) -> None:
    digest = registry.add_manifest(NAME, "", MANIFEST)
    registry.fault("HEAD", "", answer(200, b"x", Content_Type=media.OCI_MANIFEST, Docker_Content_Digest=str(ABSENT)))
    with pytest.raises(Corrupt, match="something else"):
        here.resolve(digest)


def test_a_head_may_not_announce_a_huge_manifest(registry: Registry, here: Repository) -> None:
    registry.fault(
        "HEAD",
        "",
        answer(
            200,
            Content_Type=media.OCI_MANIFEST,
            Docker_Content_Digest=str(ABSENT),
            Content_Length=str(MAX_MANIFEST_BYTES + 1),
        ),
    )
    with pytest.raises(Corrupt, match="larger"):
        here.resolve("latest")


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_manifest_has_its_digest(registry: Registry, here: Repository, algorithm: str) -> None:
    digest = registry.add_manifest(NAME, "latest", MANIFEST, algorithm=algorithm)
    raw = registry.manifests[NAME][digest][0]
    assert here.manifest("latest") == (raw, media.OCI_MANIFEST, digest)
    assert here.manifest(digest) == (raw, media.OCI_MANIFEST, digest)


@pytest.mark.parametrize("by", ["tag", "digest"])
def test_a_manifest_that_was_changed_is_refused(registry: Registry, here: Repository, by: str) -> None:
    digest = registry.add_manifest(NAME, "latest", MANIFEST)
    registry.fault("GET", "", corrupt)
    with pytest.raises(Corrupt, match=r"manifest for ab[:@]\S+: the registry sent something else: sha256:"):
        here.manifest("latest" if by == "tag" else digest)


def test_a_registry_that_tells_no_digest_and_no_type(registry: Registry, here: Repository) -> None:
    raw = json.dumps(MANIFEST).encode()
    registry.fault("GET", "", answer(200, raw, Content_Type="application/json; charset=utf-8"))
    assert here.manifest("latest") == (raw, media.OCI_MANIFEST, Digest.of(raw))


def test_a_huge_manifest_is_cut(registry: Registry, here: Repository) -> None:
    registry.fault("GET", "", endless())
    with pytest.raises(Corrupt, match=f"more than the {MAX_MANIFEST_BYTES} bytes"):
        here.manifest("latest")


@pytest.mark.parametrize("reference", ["", "a b", "../x", "a/b", "x?y", "sha256:abc", "sha256:" + "G" * 64, "a" * 200])
def test_references_are_checked(registry: Registry, here: Repository, reference: str) -> None:
    with pytest.raises(InvalidArgument):
        here.manifest(reference)
    assert registry.asked == []


@pytest.mark.parametrize(
    ("fault", "kind", "text"),
    [
        (status(404), NotFound, "manifest for ab:x not found: name unknown"),
        (
            status(403),
            Unauthorized,
            "pull access denied for ab, repository does not exist or may require 'onggi login': denied: denied",
        ),
        (answer(401), Unauthorized, "'onggi login': denied: requested access to the resource is denied"),
        (answer(429, b'{"errors":[{"code":"TOOMANYREQUESTS","message":"too many pulls"}]}'), Unavailable,
         "toomanyrequests: too many pulls"),
        (answer(429), Unavailable, "toomanyrequests: the registry asks for fewer"),
        (answer(500, b"<html>"), Unavailable, "the registry answered 500 Internal Server Error; it may"),
        (status(503), Unavailable, "answered 503"),
        (answer(400, b'{"errors":[{"code":"NAME_INVALID","message":"no\\u001b[1m"}]}'), InvalidArgument,
         "answered 400 Bad Request: name invalid: no"),
        (status(405), NotSupported, "answered 405"),
        (status(451), FailedPrecondition, "answered 451"),
        (answer(204), FailedPrecondition, "answered 204"),
    ],
)  # fmt: skip
def test_refusals(registry: Registry, here: Repository, fault: Fault, kind: type[OnggiError], text: str) -> None:
    registry.fault("GET", "", fault)
    with pytest.raises(kind) as caught:
        here.manifest("x")
    assert type(caught.value) is kind
    assert text in str(caught.value)
    assert "\x1b" not in str(caught.value)


# -- blobs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("offset", "end"), [(0, None), (0, 10), (100, 200), (500, None), (0, len(DATA)), (2047, None)])
def test_ranges(registry: Registry, here: Repository, offset: int, end: int | None) -> None:
    digest = registry.add_blob(NAME, DATA)
    found = fetch(here, digest, offset=offset, end=end, size=len(DATA))
    assert found == (offset, len(DATA), DATA[offset:end])
    assert ("range" in registry.asked[0].headers) == (bool(offset) or end is not None)


def test_a_server_may_ignore_ranges(registry: Registry, here: Repository) -> None:
    digest = registry.add_blob(NAME, DATA)
    registry.fault("GET", "", without_ranges)
    assert fetch(here, digest, offset=100, end=200) == (0, len(DATA), DATA)


def test_a_range_that_is_not_there_gives_all(registry: Registry, here: Repository) -> None:
    digest = registry.add_blob(NAME, DATA)
    assert fetch(here, digest, offset=5000) == (0, len(DATA), DATA)


def test_storage_elsewhere_gives_ranges_too(registry: Registry, here: Repository) -> None:
    with Registry() as storage:
        digest = storage.add_blob("store", DATA)
        registry.fault("GET", "/blobs/", redirect(f"{storage.url}/v2/store/blobs/{digest}?signature=x"))
        assert fetch(here, digest, offset=100) == (100, len(DATA), DATA[100:])


@pytest.mark.parametrize(
    "fault",
    [
        answer(206, DATA[50:], Content_Range="bytes 50-2047/2048"),
        answer(206, DATA[100:], Content_Range="bytes 100-2047/4096"),
        answer(206, DATA[100:], Content_Range="bytes 100-4095/4096"),
        answer(206, DATA[100:]),
        answer(206, DATA[100:], Content_Range="nonsense"),
        answer(206, DATA[100:], Content_Range="bytes 100-199/2048"),
        answer(200, DATA + b"x"),
        answer(200, DATA[:-1]),
        endless(),
    ],
)
def test_ranges_that_lie_are_refused(registry: Registry, here: Repository, fault: Fault) -> None:
    digest = registry.add_blob(NAME, DATA)
    registry.fault("GET", "", fault)
    with pytest.raises(Corrupt, match=f"blob {digest} of ab"):
        fetch(here, digest, offset=100, size=len(DATA))


def test_more_than_was_asked_for_is_refused(registry: Registry, here: Repository) -> None:
    digest = registry.add_blob(NAME, DATA)
    registry.fault("GET", "", answer(206, DATA[:200], Content_Range="bytes 0-199/2048"))
    with pytest.raises(Corrupt):
        fetch(here, digest, end=100)


def test_a_cut_gives_what_came_and_an_error(registry: Registry, here: Repository) -> None:
    digest = registry.add_blob(NAME, DATA)
    registry.fault("GET", "", cut(1000))
    with here.blob(digest) as blob:
        chunks = blob.stream(100)
        assert b"".join(next(chunks) for _ in range(10)) == DATA[:1000]
        with pytest.raises(Unavailable, match="the connection broke"):
            next(chunks)


def test_an_early_end_without_a_length_is_a_cut(registry: Registry, here: Repository) -> None:
    def early(call: Call) -> None:
        call.close()
        call.write(b"HTTP/1.1 200 OK\r\n\r\n" + DATA[:1000])

    registry.fault("GET", "", early)
    with pytest.raises(Broken, match="the connection broke after 1000 of 2048 bytes"):
        fetch(here, registry.add_blob(NAME, DATA), size=len(DATA))


@pytest.mark.parametrize(
    "url", ["https://[", "https://h:port/", "https://h\\@g/", "http://127.0.0.1/", "file:///x", ""]
)
def test_urls_of_layers_are_https(here: Repository, url: str) -> None:
    with (
        pytest.raises((NotSupported, Unavailable), match=r"https|no URL|refused"),
        here.blob_elsewhere(url, ABSENT, offset=0, size=1),
    ):
        pass


def test_blobs_that_are_there_or_not(registry: Registry, here: Repository) -> None:
    digest = registry.add_blob(NAME, DATA)
    assert here.has_blob(digest)
    assert not here.has_blob(ABSENT)
    with pytest.raises(NotFound, match=f"blob {ABSENT} not found: blob unknown"):
        fetch(here, ABSENT)
    registry.fault("HEAD", "", status(500))
    with pytest.raises(Unavailable):
        here.has_blob(digest)


# -- uploads -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all that is small smaller."""
    monkeypatch.setattr(uploading, "SMALL", 100)
    monkeypatch.setattr(uploading, "CHUNK", 500)
    monkeypatch.setattr(uploading, "_PIECE", 64)


def send(here: Repository, data: bytes = DATA, **options: Any) -> list[int]:
    offsets: list[int] = []
    here.upload(Digest.of(data), len(data), io.BytesIO(data), sent=offsets.append, **options)
    return offsets


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize(
    ("data", "chunk_bytes", "steps"),
    [
        (b"", None, "POST PUT"),
        (b"x", None, "POST PUT"),
        (DATA[:100], None, "POST PUT"),
        (DATA, None, "POST PATCH PUT"),
        (DATA, 1000, "POST PATCH PATCH PATCH PUT"),
        (DATA[:100], 60, "POST PATCH PATCH PUT"),
    ],
)
def test_a_blob_is_sent(registry: Registry, here: Repository, data: bytes, chunk_bytes: int | None, steps: str) -> None:
    offsets = send(here, data, chunk_bytes=chunk_bytes)
    assert registry.blobs[NAME] == {Digest.of(data): data}
    assert [asked.method for asked in registry.asked] == steps.split()
    assert offsets[-1] == len(data)
    assert registry.uploads == {}


@pytest.mark.usefixtures("sizes")
def test_an_upload_goes_on_where_it_was_cut(registry: Registry, here: Repository) -> None:
    registry.fault("PATCH", "", cut_upload(700), times=2)
    send(here)
    assert registry.blobs[NAME] == {Digest.of(DATA): DATA}
    patches = [asked for asked in registry.asked if asked.method == "PATCH"]
    assert [asked.headers["content-range"] for asked in patches] == ["0-2047", "700-2047", "1400-2047"]
    assert len(registry.lines("POST")) == 1


@pytest.mark.usefixtures("sizes")
def test_an_upload_that_gets_on_is_not_given_up(registry: Registry, here: Repository) -> None:
    registry.fault("PATCH", "", cut_upload(100), times=15)
    send(here)
    assert registry.blobs[NAME] == {Digest.of(DATA): DATA}


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize(
    ("method", "fault", "times"),
    [
        ("PATCH", cut(), 3),
        ("PATCH", status(503), 2),
        ("PATCH", status(404), 1),
        ("PATCH", status(416), 1),
        ("PUT", cut(), 2),
        ("PUT", status(502), 1),
        ("PUT", status(404), 1),
        ("GET", status(404), 1),
    ],
)
@pytest.mark.parametrize("size", [50, len(DATA)])
def test_an_upload_survives(
    registry: Registry, here: Repository, method: str, fault: Fault, times: int, size: int
) -> None:
    registry.fault(method, "", fault, times=times)
    if method == "GET":
        registry.fault("PATCH", "", cut(), times=1)
        registry.fault("PUT", "", cut(), times=1)
    send(here, DATA[:size])
    assert registry.blobs[NAME] == {Digest.of(DATA[:size]): DATA[:size]}
    assert registry.uploads == {}


@pytest.mark.usefixtures("sizes")
def test_an_end_whose_answer_was_lost_is_an_end(registry: Registry, here: Repository) -> None:
    def lose(call: Call) -> None:
        call.registry.uploads.clear()
        call.registry.add_blob(NAME, DATA)
        call.close()

    registry.fault("PUT", "", lose, times=1)
    assert send(here)[-1] == len(DATA)
    assert [asked.method for asked in registry.asked] == ["POST", "PATCH", "PUT", "GET", "HEAD"]


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_an_upload_that_never_works_is_given_up_and_cleared_away(
    registry: Registry, here: Repository, method: str
) -> None:
    registry.fault(method, "", status(503))
    with pytest.raises(Unavailable, match="503"):
        send(here)
    assert len(registry.lines(method)) == uploading.FAILURES + 1
    assert registry.uploads == {}


def test_an_upload_that_cannot_begin_is_not_begun_for_ever(registry: Registry, here: Repository) -> None:
    registry.fault("POST", "", status(503))
    with pytest.raises(Unavailable):
        send(here)
    assert len(registry.asked) == ATTEMPTS


@pytest.mark.usefixtures("sizes")
def test_large_requests_become_smaller_ones(registry: Registry, here: Repository) -> None:
    registry.max_body = 500
    send(here)
    assert registry.blobs[NAME] == {Digest.of(DATA): DATA}


@pytest.mark.usefixtures("sizes")
def test_an_upload_elsewhere_gets_no_token(registry: Registry, client: Client) -> None:
    registry.auth = "bearer"
    with Registry() as storage:

        def begin(call: Call) -> None:
            if call.asked.headers.get("authorization"):
                storage.uploads["up"] = bytearray()
                call.reply(202, Location=f"{storage.url}/v2/store/blobs/uploads/up?state=x")
            else:
                call.registry.honest(call)

        registry.fault("POST", "uploads", begin)
        credential = Credential(username=USER[0], password=USER[1])
        endpoint = registry.endpoint(NAME, headers=(("X-Key", "secret"),))
        send(Repository(endpoint, client, Authentication(client, lambda host, repository: credential)))
        assert storage.blobs["store"] == {Digest.of(DATA): DATA}
        assert all(not {"authorization", "x-key"} & set(asked.headers) for asked in storage.asked)
        assert storage.asked[-1].query.get("digest") == [Digest.of(DATA)]


@pytest.mark.parametrize("fault", [answer(202), answer(202, Location="file:///x"), answer(202, Location="//[")])
def test_an_upload_must_go_on_somewhere(registry: Registry, here: Repository, fault: Fault) -> None:
    registry.fault("POST", "", fault)
    with pytest.raises(OnggiError):
        send(here)
    assert [asked.method for asked in registry.asked if asked.method in ("PATCH", "PUT")] == []


@pytest.mark.usefixtures("sizes")
def test_a_source_that_ends_early_stores_nothing(registry: Registry, here: Repository) -> None:
    with pytest.raises(Corrupt, match="it ends after 2048 of 3000"):
        here.upload(Digest.of(DATA), 3000, io.BytesIO(DATA))
    assert registry.blobs == {}


@pytest.mark.usefixtures("sizes")
def test_wrong_bytes_are_refused_and_cleared_away(registry: Registry, here: Repository) -> None:
    with pytest.raises(InvalidArgument, match="digest invalid"):
        here.upload(ABSENT, len(DATA), io.BytesIO(DATA))
    assert (registry.blobs, registry.uploads) == ({}, {})


def test_a_source_that_cannot_be_read_is_not_the_networks_fault(registry: Registry, here: Repository) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(FailedPrecondition, match="Input/output error"):
        here.upload(Digest.of(DATA), len(DATA), Broken(DATA))
    assert registry.uploads == {}


def test_a_stopped_upload_is_still_cleared_away(registry: Registry, here: Repository, client: Client) -> None:
    class Stopping(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            client.stop()
            return super().read(size)

    with pytest.raises(OnggiError):
        here.upload(Digest.of(DATA), len(DATA), Stopping(DATA))
    assert registry.lines()[-1].startswith("DELETE ")
    assert registry.uploads == {}


def test_mounting(registry: Registry, here: Repository) -> None:
    digest = registry.add_blob("other/one", DATA)
    assert here.mount(digest, "other/one")
    assert registry.blobs[NAME] == {digest: DATA}
    assert registry.asked[0].query == {"mount": [digest], "from": ["other/one"]}


def test_a_mount_that_fails_has_begun_an_upload(registry: Registry, here: Repository) -> None:
    assert not here.mount(Digest.of(DATA), "other/none")
    send(here)
    assert len(registry.lines("POST")) == 1
    assert registry.blobs[NAME] == {Digest.of(DATA): DATA}


def test_a_mount_that_is_forbidden_is_only_no_mount(registry: Registry, here: Repository) -> None:
    registry.fault("POST", "", status(403))
    assert not here.mount(ABSENT, "other/secret")
    registry.heal()
    registry.fault("POST", "", status(500))
    with pytest.raises(Unavailable):
        here.mount(ABSENT, "other/one")


# -- the rest ----------------------------------------------------------------------------------------------------------


def test_manifests_are_stored(registry: Registry, here: Repository) -> None:
    raw = json.dumps(MANIFEST).encode()
    digest = here.put_manifest("v1", raw, media.OCI_MANIFEST)
    assert here.manifest("v1") == here.manifest(digest) == (raw, media.OCI_MANIFEST, digest)
    assert here.put_manifest(digest, raw, media.OCI_MANIFEST) == digest
    wide = Digest.of(raw, "sha512")
    assert here.put_manifest(wide, raw, media.OCI_MANIFEST) == wide
    with pytest.raises(Corrupt):
        here.put_manifest(ABSENT, raw, media.OCI_MANIFEST)


def test_a_push_that_is_denied(registry: Registry, here: Repository) -> None:
    registry.fault("PUT", "", status(403))
    with pytest.raises(Unauthorized, match="push access denied for ab, repository does not exist or may require"):
        here.put_manifest("v1", b"{}", media.OCI_MANIFEST)


def test_a_registry_that_stores_something_else(registry: Registry, here: Repository) -> None:
    registry.fault("PUT", "", answer(201, Docker_Content_Digest=str(ABSENT)))
    with pytest.raises(Corrupt, match="stored something else"):
        here.put_manifest("v1", b"{}", media.OCI_MANIFEST)


def test_tags_come_in_pages(registry: Registry, here: Repository) -> None:
    registry.page = 3
    names = [f"v{number}" for number in range(8)]
    for name in names:
        registry.add_manifest(NAME, name, MANIFEST)
    assert here.tags() == names
    assert len(registry.asked) == 3


@pytest.mark.parametrize(
    "body", [b'{"tags":null}', b'{"tags":[]}', b"{}", b'{"name":"x","tags":["../x","a b","\\u001b[1m"]}']
)
def test_no_tags_and_bad_ones(registry: Registry, here: Repository, body: bytes) -> None:
    registry.fault("GET", "", answer(200, body))
    assert here.tags() == []


def test_no_repository_has_no_tags(registry: Registry, here: Repository) -> None:
    with pytest.raises(NotFound, match="tags of ab not found: name unknown: repository name not known to registry"):
        here.tags()


def further(call: Call) -> None:
    """Give a page and always another one."""
    number = int(call.asked.query.get("page", ["0"])[0]) + 1
    link = f'<{call.asked.path}?page={number}>; rel="next"'
    call.reply(200, b'{"tags":["v%d"]}' % number, Link=link)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (further, "pages have no end"),
        (answer(200, b"{}", Link='<?n=1000>; rel="next"'), "pages have no end"),
        (answer(200, b"{}", Link='<http://elsewhere.example/v2/>; rel="next"'), "at another server"),
        (answer(200, json.dumps({"tags": [f"v{n}" for n in range(60)]}).encode()), "more than 50"),
        (answer(200, b"[]"), "tags of ab"),
        (answer(200, b"{}", Link='<http://h:port/v2/>; rel="next"'), "no URL"),
        (answer(200, b"{}", Link=r'<http://elsewhere.example\@127.0.0.1/>; rel="next"'), "no URL"),
        (endless(), "more than the"),
    ],
)
def test_pages_that_lie_have_an_end(
    registry: Registry, here: Repository, monkeypatch: pytest.MonkeyPatch, fault: Fault, text: str
) -> None:
    monkeypatch.setattr(module, "MAX_PAGES", 10)
    monkeypatch.setattr(module, "MAX_TAGS", 50)
    registry.fault("GET", "", fault)
    with pytest.raises((Corrupt, Unavailable), match=text):
        here.tags()
    assert len(registry.asked) <= 10


@pytest.mark.parametrize("api", [True, False])
def test_referrers(registry: Registry, here: Repository, api: bool) -> None:
    registry.referrers_api = api
    subject = registry.add_manifest(NAME, "latest", MANIFEST)
    about = {"mediaType": media.OCI_MANIFEST, "digest": subject, "size": 1}
    entries = []
    for kind in ("application/x-a", "application/x-b"):
        document = {**MANIFEST, "artifactType": kind, "subject": about}
        digest = registry.add_manifest(NAME, "", document)
        size = len(registry.manifests[NAME][digest][0])
        entries.append({"mediaType": media.OCI_MANIFEST, "digest": digest, "size": size, "artifactType": kind})
    if not api:
        assert here.referrers(subject) == []
        index = {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": entries}
        registry.add_manifest(NAME, referrers_tag(subject), index, media.OCI_INDEX)
    assert [entry.digest for entry in here.referrers(subject)] == [entry["digest"] for entry in entries]
    (one,) = here.referrers(subject, "application/x-b")
    assert one.artifact_type == "application/x-b"


@pytest.mark.parametrize("api", [True, False])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_what_is_pushed_is_found_by_its_subject(
    registry: Registry, here: Repository, api: bool, algorithm: str
) -> None:
    registry.referrers_api = api
    subject = registry.add_manifest(NAME, "", MANIFEST, algorithm=algorithm)
    about = {"mediaType": media.OCI_MANIFEST, "digest": subject, "size": 1}
    one = {**MANIFEST, "artifactType": "application/x-a", "subject": about, "annotations": {"a": "b"}}
    two = {**MANIFEST, "config": {"mediaType": "application/x-b"}, "subject": about}
    digests = [
        here.put_manifest(f"v{number}", json.dumps(document).encode(), media.OCI_MANIFEST)
        for number, document in enumerate((one, two, one))
    ]
    found = here.referrers(subject)
    assert [entry.digest for entry in found] == digests[:2]
    assert [entry.artifact_type for entry in found] == ["application/x-a", "application/x-b"]
    assert (referrers_tag(subject) in registry.tags[NAME]) == (not api)
    if not api:
        assert found[0].annotations == {"a": "b"}


def test_tags_of_referrers_are_tags() -> None:
    assert referrers_tag(Digest.of(b"", "sha512")) == f"sha512-{Digest.of(b'', 'sha512').hex[:64]}"


def test_a_mirror_is_told_whose_it_is(registry: Registry, client: Client) -> None:
    digest = registry.add_manifest(NAME, "latest", MANIFEST)
    mirror = Repository(registry.endpoint(NAME, namespace="docker.io"), client, Authentication(client))
    mirror.resolve("latest")
    mirror.referrers(digest, "application/x+y")
    mirror.tags()
    mirror.upload(Digest.of(DATA), len(DATA), io.BytesIO(DATA))  # its end is where the mirror says
    assert all(asked.query["ns"] == ["docker.io"] for asked in registry.asked if asked.method != "PUT")
    assert registry.asked[1].query["artifactType"] == ["application/x+y"]


def test_what_is_no_index_refers_to_nothing(registry: Registry, here: Repository) -> None:
    registry.fault("GET", "", answer(200, json.dumps({**MANIFEST, "config": {}}).encode()))
    with pytest.raises(Corrupt):
        here.referrers(ABSENT)


def test_deleting(registry: Registry, here: Repository) -> None:
    digest = registry.add_manifest(NAME, "latest", MANIFEST)
    here.delete("latest")
    assert registry.tags[NAME] == {}
    here.delete(digest)
    with pytest.raises(NotFound):
        here.delete(digest)
    registry.fault("DELETE", "", status(405))
    with pytest.raises(NotSupported):
        here.delete(digest)


CALLS: list[Callable[[Repository], object]] = [
    lambda here: here.resolve("latest"),
    lambda here: here.manifest("latest"),
    lambda here: fetch(here, ABSENT),
    lambda here: here.has_blob(ABSENT),
    lambda here: here.mount(ABSENT, "x"),
    lambda here: here.tags(),
    lambda here: here.referrers(ABSENT),
    lambda here: here.delete("latest"),
    lambda here: here.put_manifest("latest", b"{}", "application/x"),
    lambda here: send(here, b"x"),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "fault", [answer(500), answer(302, Location="/loop"), cut(), answer(200, b"\xff" * 50, Content_Length="60")]
)
def test_whatever_a_registry_does_is_an_error_of_ours(
    registry: Registry, here: Repository, call: Callable[[Repository], object], fault: Fault
) -> None:
    registry.fault("", "", fault)
    with suppress(OnggiError):  # and nothing else
        call(here)
