"""Tokens and passwords: who gets which, when they are asked for anew, and that nobody else sees them."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from onggi.base.errors import Corrupt, InvalidArgument, NotFound, OnggiError, Unauthorized, Unavailable
from onggi.host.http_client import Client
from onggi.registry.auth import Authentication, check
from onggi.registry.client import Repository
from onggi.spec.registry import Credential, Endpoint
from tests.registry_server import IDENTITY, USER, Call, Registry, answer, redirect, status

POTTER = Credential(username=USER[0], password=USER[1])
THIEF = Credential(username="thief", password="guessed password")
KNOWN = Credential(identity_token=IDENTITY)
MANIFEST = b'{"schemaVersion":2}'


class Clock:
    """Time that passes when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@pytest.fixture
def client() -> Iterator[Client]:
    client = Client(pause=lambda seconds: None)
    yield client
    client.close()


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry(auth="bearer") as registry:
        registry.add_manifest("a/b", "latest", MANIFEST)
        yield registry


def repository(
    registry: Registry, client: Client, credential: Credential | None = None, clock: Clock | None = None, **fields: Any
) -> Repository:
    endpoint = registry.endpoint("a/b", **fields)
    return Repository(
        endpoint, client, Authentication(client, lambda host, repository: credential, clock=clock or Clock())
    )


def secrets_in(error: BaseException) -> list[str]:
    return [secret for secret in (*USER, IDENTITY, "token-", THIEF.password) if secret in f"{error!r} {error}"]


# -- bearer ------------------------------------------------------------------------------------------------------------


def test_anybody_pulls_with_an_anonymous_token(registry: Registry, client: Client) -> None:
    assert repository(registry, client).manifest("latest")[0] == MANIFEST
    (token,) = [asked for asked in registry.asked if asked.path == "/token"]
    assert token.method == "GET"
    assert token.query == {"service": ["test registry"], "scope": ["repository:a/b:pull"]}
    assert "authorization" not in token.headers


def test_a_token_is_kept_and_the_next_scope_asked_for_at_once(registry: Registry, client: Client) -> None:
    here = repository(registry, client, POTTER)
    for _ in range(3):
        here.manifest("latest")
    assert len(registry.lines("/token")) == 1
    here.put_manifest("other", MANIFEST, "application/x")
    assert registry.lines()[-2:] == ["GET /token", "PUT /v2/a/b/manifests/other"]


def test_a_password_is_shown_to_the_realm_and_a_token_to_the_registry(registry: Registry, client: Client) -> None:
    with Registry() as issuer:
        issuer.tokens = registry.tokens  # they share what was granted
        registry.realm = f"{issuer.url}/token"
        here = repository(registry, client, POTTER, headers=(("X-Key", "endpoint secret"),))
        here.put_manifest("x", MANIFEST, "application/x")
    (asked,) = issuer.asked
    assert asked.headers["authorization"].startswith("Basic ")
    assert asked.query["account"] == [USER[0]]
    assert "x-key" not in asked.headers
    assert all("Basic" not in asked.headers.get("authorization", "") for asked in registry.asked)
    assert all(asked.headers["x-key"] == "endpoint secret" for asked in registry.asked)


def test_an_identity_token_is_exchanged(registry: Registry, client: Client) -> None:
    repository(registry, client, KNOWN).put_manifest("x", MANIFEST, "application/x")
    (asked,) = [asked for asked in registry.asked if asked.path == "/token"]
    assert asked.method == "POST"
    assert b"grant_type=refresh_token" in asked.body
    assert asked.query == {}


def test_a_registry_token_is_shown_as_it_is(registry: Registry, client: Client) -> None:
    registry.tokens["given"] = ("repository:a/b:pull",)
    repository(registry, client, Credential(registry_token="given")).manifest("latest")
    assert registry.lines() == ["GET /v2/a/b/manifests/latest"] * 2
    with pytest.raises(Unauthorized):
        repository(registry, client, Credential(registry_token="wrong")).manifest("latest")


def test_a_realm_without_get_is_asked_by_post(registry: Registry, client: Client) -> None:
    registry.accepts_get = False
    repository(registry, client, POTTER).put_manifest("x", MANIFEST, "application/x")
    assert registry.lines("/token") == ["GET /token", "POST /token"]
    assert b"grant_type=password" in registry.asked[-2].body


@pytest.mark.parametrize(
    ("expires_in", "fresh", "stale"), [(300, 269, 271), (None, 47, 49), (1, 47, 49), (10**9, 9e8, 1e9)]
)
def test_a_token_is_renewed_before_it_ends(
    registry: Registry, client: Client, expires_in: int | None, fresh: float, stale: float
) -> None:
    registry.expires_in = expires_in
    clock = Clock()
    here = repository(registry, client, clock=clock)
    here.manifest("latest")
    clock.now = fresh
    here.manifest("latest")
    assert len(registry.lines("/token")) == 1
    clock.now = stale
    here.manifest("latest")
    assert len(registry.lines("/token")) == 2


def test_a_token_that_is_refused_is_renewed(registry: Registry, client: Client) -> None:
    here = repository(registry, client)
    here.manifest("latest")
    registry.tokens.clear()
    assert here.manifest("latest")[0] == MANIFEST
    assert registry.lines()[-3:] == ["GET /v2/a/b/manifests/latest", "GET /token", "GET /v2/a/b/manifests/latest"]


def test_a_registry_that_is_never_content_gets_one_more_request(registry: Registry, client: Client) -> None:
    registry.anonymous_pull = False
    with pytest.raises(Unauthorized, match=r"pull access denied for \S+/a/b, .* may require 'onggi login'"):
        repository(registry, client).manifest("latest")
    assert len(registry.lines("/manifests/")) == 2


def test_threads_share_one_token(registry: Registry, client: Client) -> None:
    here = repository(registry, client)
    threads = [threading.Thread(target=here.manifest, args=("latest",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(registry.lines("/token")) == 1
    assert len(registry.lines("/manifests/")) >= 8


def test_a_token_goes_to_the_endpoint_that_asked_for_it(registry: Registry, client: Client) -> None:
    with Registry() as other:
        other.add_manifest("a/b", "latest", MANIFEST)
        auth = Authentication(client)
        Repository(registry.endpoint("a/b"), client, auth).manifest("latest")
        Repository(other.endpoint("a/b"), client, auth).manifest("latest")
        registry.fault("GET", "/blobs/", redirect(f"{other.url}/v2/a/b/manifests/latest"))
        with Repository(registry.endpoint("a/b"), client, auth).blob(registry.add_blob("a/b", b"x")):
            pass
    assert len(other.asked) == 2
    assert all("authorization" not in asked.headers for asked in other.asked)


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_another_server_is_not_answered(registry: Registry, client: Client, auth: str) -> None:
    """A 401 after a redirect is that server's, which has no business with our credentials."""
    with Registry(auth=auth) as other:
        registry.fault("GET", "/manifests/", redirect(f"{other.url}/v2/a/b/manifests/latest"))
        with pytest.raises(OnggiError):
            repository(registry, client, POTTER).manifest("latest")
        assert [asked for asked in other.asked if "authorization" in asked.headers] == []
        registry.fault("GET", "^/v2/$", redirect(f"{other.url}/v2/"))
        with pytest.raises(Unauthorized, match="another server"):
            check(client, registry.endpoint("a/b"), POTTER)


def test_credentials_that_cannot_be_had_are_missed_only_where_they_are_needed(client: Client) -> None:
    looked = []

    def broken(*where: str) -> Credential | None:
        looked.append(where)
        raise InvalidArgument("a credential helper that fails")

    with Registry() as registry:
        registry.add_manifest("a/b", "latest", MANIFEST)
        there = Repository(registry.endpoint("a/b"), client, Authentication(client, broken))
        there.manifest("latest")
        assert looked == []
        registry.auth = "bearer"
        there.manifest("latest")
        assert looked == [(registry.host, "a/b")]
        registry.anonymous_pull = False
        registry.tokens.clear()
        with pytest.raises(Unauthorized, match="looking for one failed: a credential helper that fails"):
            there.manifest("latest")
        assert len(looked) == 1


# -- where credentials go ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("credential", [POTTER, KNOWN], ids=["password", "identity"])
@pytest.mark.parametrize("realm", ["http://auth.example/", "http://127.0.0.1.example/", "http://127.999.1.1/"])
def test_credentials_do_not_go_unencrypted(
    registry: Registry, client: Client, realm: str, credential: Credential
) -> None:
    registry.realm = realm
    with pytest.raises(Unauthorized, match="not encrypted") as caught:
        repository(registry, client, credential).manifest("latest")
    assert secrets_in(caught.value) == []


@pytest.mark.parametrize("credential", [None, POTTER, KNOWN], ids=["nobody", "password", "identity"])
@pytest.mark.parametrize(
    "realm",
    [
        *("file:///etc/passwd", "gopher://x/", "http://", "ftp://x/", "http://[", "http://h:port/", "//["),
        "http://auth.example\\\\@127.0.0.1/token",  # loopback for urlsplit, auth.example for urllib3
    ],
)
def test_realms_are_http(registry: Registry, client: Client, realm: str, credential: Credential | None) -> None:
    registry.realm = realm
    with pytest.raises(Unavailable, match=r"refused|no URL"):
        repository(registry, client, credential).manifest("latest")


def test_a_realm_that_sends_passwords_on_is_not_followed(registry: Registry, client: Client) -> None:
    with Registry() as other:
        registry.fault("POST", "/token", redirect(f"{other.url}/token"))
        with pytest.raises(Unavailable, match="sends what we send on"):
            repository(registry, client, KNOWN).manifest("latest")
        registry.heal()
        registry.fault("GET", "/token", redirect(f"{other.url}/token"))
        with pytest.raises(OnggiError):
            repository(registry, client, POTTER).put_manifest("x", MANIFEST, "application/x")
        assert all("authorization" not in asked.headers for asked in other.asked)


# -- hostile realms ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{}", Unauthorized),
        (b'{"token":""}', Unauthorized),
        (b"<html>token-1</html>", Corrupt),
        (b'{"token":5}', Corrupt),
        (b'{"token":"token-1","expires_in":"soon"}', Corrupt),
        (b'{"token":"a\\r\\nX: y"}', InvalidArgument),
        (b'{"token":"' + b"x" * (1 << 20) + b'"}', Corrupt),
        (b"[" * 5000, Corrupt),
    ],
)
def test_answers_that_are_no_tokens(registry: Registry, client: Client, body: bytes, kind: type[OnggiError]) -> None:
    registry.fault("", "/token", answer(200, body))
    with pytest.raises(kind) as caught:
        repository(registry, client).manifest("latest")
    assert secrets_in(caught.value) == []


def test_a_realm_may_be_busy(registry: Registry, client: Client) -> None:
    registry.fault("", "/token", status(503))
    with pytest.raises(Unavailable, match="answered 503"):
        repository(registry, client).manifest("latest")


def test_a_wrong_password_is_told_in_dockers_words(registry: Registry, client: Client) -> None:
    with pytest.raises(Unauthorized, match="unauthorized: incorrect username or password") as caught:
        repository(registry, client, THIEF).manifest("latest")
    assert secrets_in(caught.value) == []


# -- basic -------------------------------------------------------------------------------------------------------------


def test_basic(client: Client) -> None:
    with Registry(auth="basic") as registry:
        registry.add_manifest("a/b", "latest", MANIFEST)
        here = repository(registry, client, POTTER)
        here.manifest("latest")
        here.manifest("latest")
        assert len(registry.asked) == 3
        with pytest.raises(Unauthorized, match=r"no basic auth credentials; 'onggi login'"):
            repository(registry, client).manifest("latest")
        with pytest.raises(Unauthorized, match="authentication required") as caught:
            repository(registry, client, THIEF).manifest("latest")
        assert secrets_in(caught.value) == []
        with pytest.raises(NotFound):
            here.manifest("other")


# -- login -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["GET", "POST"])
def test_login_gives_an_identity_token(registry: Registry, client: Client, by: str) -> None:
    registry.accepts_get = by == "GET"
    assert check(client, registry.endpoint("a/b"), POTTER) == IDENTITY
    assert registry.lines()[-1] == "GET /v2/"
    if by == "POST":
        assert b"access_type=offline" in registry.asked[-2].body


def test_login_with_an_identity_token(registry: Registry, client: Client) -> None:
    assert check(client, registry.endpoint("a/b"), KNOWN) == ""


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_login_with_a_wrong_password(client: Client, auth: str) -> None:
    text = "incorrect username or password" if auth == "bearer" else "authentication required"
    with (
        Registry(auth=auth) as registry,
        pytest.raises(Unauthorized, match=rf"/(v2/|token)\"?: unauthorized: {text}") as caught,
    ):
        check(client, registry.endpoint("a/b"), THIEF)
    assert secrets_in(caught.value) == []


def test_login_with_a_password_or_nothing(client: Client) -> None:
    with Registry(auth="basic") as registry:
        assert check(client, registry.endpoint("a/b"), POTTER) == ""
        with pytest.raises(Unauthorized, match="no basic auth credentials"):
            check(client, registry.endpoint("a/b"), Credential())
    with Registry() as registry:
        assert check(client, registry.endpoint("a/b"), POTTER) == ""


def test_login_where_there_is_no_registry(client: Client) -> None:
    def page(call: Call) -> None:
        call.reply(404, b"<html>")

    with Registry() as registry:
        registry.fault("GET", "", page)
        with pytest.raises(Unavailable, match=r'Get "http://\S+/v2/": the server answered 404'):
            check(client, registry.endpoint("a/b"), POTTER)


def test_nothing_here_shows_a_secret(registry: Registry, client: Client) -> None:
    auth = Authentication(client, lambda host, repository: POTTER)
    endpoint: Endpoint = registry.endpoint("a/b")
    Repository(endpoint, client, auth).put_manifest("x", MANIFEST, "application/x")
    told = f"{auth!r} {vars(auth)!r} {POTTER!r} {KNOWN!r}"
    assert [secret for secret in (USER[1], IDENTITY, "token-") if secret in told] == []
