"""The client against Debian's docker-registry: open, with passwords, with tokens, over TLS of a private authority."""

import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from onggi.base.errors import NotFound, NotSupported, Unauthorized, Unavailable
from onggi.host.http_client import Client
from onggi.registry.auth import Authentication, check
from onggi.registry.client import Repository, referrers_tag
from onggi.spec import media
from onggi.spec.digest import Digest
from onggi.spec.registry import Credential
from tests.certificates import Authority
from tests.debian_registry import USER, DebianRegistry, Issuer, debian_registry, htpasswd

POTTER: Final = Credential(username=USER[0], password=USER[1])
THIEF: Final = Credential(username="thief", password="guessed password")
LAYER: Final = os.urandom(3 << 20)
CONFIG: Final = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'

Open = Callable[..., Repository]


@pytest.fixture
def client() -> Iterator[Client]:
    client = Client()
    yield client
    client.close()


@pytest.fixture
def repository(client: Client) -> Open:
    """Give a repository of a registry, as somebody."""

    def make(
        registry: DebianRegistry, name: str = "public/pot", credential: Credential | None = None, **fields: Any
    ) -> Repository:
        auth = Authentication(client, lambda host, repository: credential)
        return Repository(registry.endpoint(name, **fields), client, auth)

    return make


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    with debian_registry(tmp_path_factory.mktemp("plain")) as registry:
        yield registry


def push(here: Repository, tag: str = "latest", **options: Any) -> Digest:
    """Send an image of one layer; gives its digest."""
    blobs = []
    for kind, data in ((media.OCI_CONFIG, CONFIG), (media.OCI_LAYER, LAYER)):
        digest = Digest.of(data)
        here.upload(digest, len(data), io.BytesIO(data), **options)
        blobs.append({"mediaType": kind, "digest": digest, "size": len(data)})
    manifest = {"schemaVersion": 2, "mediaType": media.OCI_MANIFEST, "config": blobs[0], "layers": blobs[1:]}
    return here.put_manifest(tag, json.dumps(manifest).encode(), media.OCI_MANIFEST)


def fetch(here: Repository, digest: Digest, **options: Any) -> bytes:
    with here.blob(digest, **options) as blob:
        return b"".join(blob.stream())


@pytest.mark.parametrize("chunk_bytes", [None, 1 << 20])
def test_an_image_there_and_back(plain: DebianRegistry, repository: Open, chunk_bytes: int | None) -> None:
    here = repository(plain, f"pots/by{chunk_bytes or 0}")
    assert not here.has_blob(Digest.of(LAYER))
    digest = push(here, chunk_bytes=chunk_bytes)
    assert here.resolve("latest").digest == here.resolve(digest).digest == digest
    data, kind, named = here.manifest("latest")
    assert (Digest.of(data), kind, named) == (digest, media.OCI_MANIFEST, digest)
    layer = Digest.of(LAYER)
    assert here.has_blob(layer)
    assert fetch(here, layer, size=len(LAYER)) == LAYER
    with here.blob(layer, offset=1000, end=5000) as blob:
        assert (blob.offset, blob.total) == (1000, len(LAYER))
        assert b"".join(blob.stream()) == LAYER[1000:5000]


def test_an_upload_goes_on_after_a_cut(plain: DebianRegistry, repository: Open) -> None:
    """The source breaks off in the middle of a request, as a connection would."""
    here = repository(plain, "pots/cut")
    cuts = [len(LAYER) // 3, len(LAYER) // 2]

    class Breaking(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if cuts and self.tell() >= cuts[0]:
                cuts.pop(0)
                raise Unavailable("the cable was pulled")
            return super().read(size)

    offsets: list[int] = []
    here.upload(Digest.of(LAYER), len(LAYER), Breaking(LAYER), sent=offsets.append)
    assert cuts == []
    assert fetch(here, Digest.of(LAYER)) == LAYER
    assert offsets[-1] == len(LAYER)


def test_what_is_not_there(plain: DebianRegistry, repository: Open) -> None:
    here = repository(plain, "pots/none")
    with pytest.raises(NotFound, match=r"manifest for \S+/pots/none:x not found: manifest unknown: manifest unknown"):
        here.resolve("x")
    with pytest.raises(NotFound, match="blob unknown: blob unknown to registry"):
        fetch(here, Digest.of(b"none"))
    with pytest.raises(NotFound, match="repository name not known to registry"):
        here.tags()
    assert here.referrers(Digest.of(b"none")) == []


def test_a_blob_is_mounted(plain: DebianRegistry, repository: Open) -> None:
    push(repository(plain, "pots/first"))
    second = repository(plain, "pots/second")
    assert second.mount(Digest.of(LAYER), "pots/first")
    assert fetch(second, Digest.of(LAYER)) == LAYER
    assert not second.mount(Digest.of(b"none"), "pots/first")
    second.upload(Digest.of(b"none"), 4, io.BytesIO(b"none"))
    assert fetch(second, Digest.of(b"none")) == b"none"


def test_tags_and_deleting(plain: DebianRegistry, repository: Open) -> None:
    here = repository(plain, "pots/tagged")
    for tag in ("a", "b", "c"):
        digest = push(here, tag)
    assert sorted(here.tags()) == ["a", "b", "c"]
    with pytest.raises(NotSupported, match="by digest only"):
        here.delete("a")
    here.delete(digest)
    with pytest.raises(NotFound):
        here.resolve("a")


def test_referrers_by_their_tag(plain: DebianRegistry, repository: Open) -> None:
    """This version of it has no referrers API."""
    here = repository(plain, "pots/referred")
    digest = push(here)
    size = here.resolve("latest").size
    entry = {"mediaType": media.OCI_MANIFEST, "digest": digest, "size": size, "artifactType": "application/x-a"}
    index = {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": [entry]}
    here.put_manifest(referrers_tag(digest), json.dumps(index).encode(), media.OCI_INDEX)
    assert [found.digest for found in here.referrers(digest, "application/x-a")] == [digest]
    assert here.referrers(digest, "application/x-b") == []


def test_passwords(tmp_path: Path, client: Client, repository: Open) -> None:
    with debian_registry(tmp_path / "registry", auth=htpasswd(tmp_path)) as registry:
        push(repository(registry, credential=POTTER))
        endpoint = registry.endpoint("public/pot")
        assert check(client, endpoint, POTTER) == ""
        with pytest.raises(Unauthorized, match="unauthorized: authentication required"):
            check(client, endpoint, THIEF)
        with pytest.raises(Unauthorized, match="no basic auth credentials"):
            repository(registry).resolve("latest")
        with pytest.raises(Unauthorized, match="pull access denied"):
            repository(registry, credential=THIEF).resolve("latest")
        assert USER[1] not in registry.log


def test_tokens(tmp_path: Path, client: Client, repository: Open) -> None:
    issuer = Issuer(tmp_path / "issuer")
    with issuer.serving(), debian_registry(tmp_path / "registry", auth=issuer.auth) as registry:
        digest = push(repository(registry, credential=POTTER))
        asked = len(issuer.asked)
        assert asked <= 2
        push(repository(registry, "private/pot", POTTER))
        assert repository(registry).resolve("latest").digest == digest
        with pytest.raises(Unauthorized, match=r"pull access denied for \S+/private/pot, .*'onggi login': "):
            repository(registry, "private/pot").resolve("latest")
        with pytest.raises(Unauthorized, match="push access denied for"):
            repository(registry).upload(Digest.of(b"x"), 1, io.BytesIO(b"x"))
        second = repository(registry, "private/other", POTTER)
        assert second.mount(Digest.of(LAYER), "private/pot")
        assert check(client, registry.endpoint("public/pot"), POTTER) == ""
        with pytest.raises(Unauthorized, match="unauthorized: incorrect username or password"):
            check(client, registry.endpoint("public/pot"), THIEF)


def test_tls_of_a_private_authority(tmp_path: Path, repository: Open) -> None:
    authority = Authority(tmp_path / "authority")
    with debian_registry(tmp_path / "registry", certificate=authority.issue("server")) as registry:
        push(repository(registry, ca_files=(str(authority.ca),)))
        assert repository(registry, insecure=True).resolve("latest")
        with pytest.raises(Unavailable, match="its certificate cannot be verified"):
            repository(registry).resolve("latest")
