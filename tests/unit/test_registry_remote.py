"""Several endpoints for one name: their order, and what is said when none helps."""

import socket
from collections.abc import Iterator

import msgspec
import pytest

from onggi.base.errors import Cancelled, Corrupt, FailedPrecondition, NotFound, OnggiError, Unauthorized, Unavailable
from onggi.host.http_client import Client
from onggi.registry.auth import Authentication
from onggi.registry.client import Repository
from onggi.registry.remote import Remote
from onggi.spec.reference import parse_reference
from onggi.spec.registry import Endpoint
from tests.certificates import Authority
from tests.registry_server import Fault, Registry, corrupt, status

NAME = "library/app"


@pytest.fixture
def client() -> Iterator[Client]:
    client = Client(pause=lambda seconds: None)
    yield client
    client.close()


@pytest.fixture
def mirror() -> Iterator[Registry]:
    with Registry() as mirror:
        yield mirror


@pytest.fixture
def upstream() -> Iterator[Registry]:
    with Registry() as upstream:
        yield upstream


@pytest.fixture
def nowhere() -> Endpoint:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    return Endpoint(url=f"http://127.0.0.1:{port}/v2", host="nowhere", repository=NAME)


def remote(client: Client, *endpoints: Endpoint) -> Remote:
    return Remote.of(parse_reference("app"), endpoints, client, Authentication(client))


def digest(repository: Repository) -> str:
    return repository.manifest("latest")[2]


def test_the_first_that_has_it_gives_it(client: Client, mirror: Registry, upstream: Registry) -> None:
    there = upstream.add_manifest(NAME, "latest", {"a": 1})
    here = remote(client, mirror.endpoint(NAME), upstream.endpoint(NAME))
    assert here.do("pull", digest) == there
    assert (len(mirror.asked), len(upstream.asked)) == (1, 1)
    mirror.add_manifest(NAME, "latest", {"a": 1})
    assert here.do("pull", digest) == there
    assert (len(mirror.asked), len(upstream.asked)) == (2, 1)


@pytest.mark.parametrize("fault", [status(500), status(403), corrupt])
def test_a_bad_mirror_is_no_harm(client: Client, mirror: Registry, upstream: Registry, fault: Fault) -> None:
    mirror.add_manifest(NAME, "latest", {"a": 1})
    mirror.fault("", "", fault)
    there = upstream.add_manifest(NAME, "latest", {"a": 2})
    assert remote(client, mirror.endpoint(NAME), upstream.endpoint(NAME)).do("pull", digest) == there


@pytest.mark.parametrize(
    ("fault", "kind"), [(None, NotFound), (status(403), Unauthorized), (status(500), Unavailable), (corrupt, Corrupt)]
)
def test_the_registry_itself_decides_the_kind(
    client: Client, mirror: Registry, upstream: Registry, fault: Fault | None, kind: type[OnggiError]
) -> None:
    mirror.fault("", "", status(500))
    if fault is not None:
        upstream.add_manifest(NAME, "latest", {})
        upstream.fault("", "", fault)
    with pytest.raises(kind) as caught:
        remote(client, mirror.endpoint(NAME), upstream.endpoint(NAME)).do("pull", digest)
    text = str(caught.value)
    assert type(caught.value) is kind
    there = f"{mirror.url}/v2/{NAME}/manifests/latest"
    assert f" (tried in this order: 1. {mirror.url}/v2: {there}: the registry answered 500" in text
    assert text.endswith(f"; 2. {upstream.url}/v2, which answered this)")


def test_one_endpoint_speaks_for_itself(client: Client, upstream: Registry) -> None:
    with pytest.raises(NotFound, match=r"^manifest for app:latest not found: manifest unknown: manifest unknown$"):
        remote(client, upstream.endpoint(NAME)).do("pull", digest)


def test_without_a_network_there_is_a_way(client: Client, nowhere: Endpoint) -> None:
    for endpoints in ((nowhere,), (nowhere, nowhere)):
        with pytest.raises(Unavailable, match=r"app: .*cannot be reached.*'onggi image bootstrap'"):
            remote(client, *endpoints).do("pull", digest)
    with pytest.raises(Unavailable) as caught:
        remote(client, nowhere).do("push", digest)
    assert "bootstrap" not in str(caught.value)


def test_who_is_away_is_asked_last_from_then_on(client: Client, upstream: Registry, nowhere: Endpoint) -> None:
    upstream.add_manifest(NAME, "latest", {})
    asked: list[str] = []

    def noting(repository: Repository) -> str:
        asked.append(repository.endpoint.host)
        return digest(repository)

    here = remote(client, nowhere, upstream.endpoint(NAME))
    here.do("pull", noting)
    here.do("pull", noting)
    assert asked == ["nowhere", upstream.host, upstream.host]
    del upstream.tags[NAME]["latest"]
    with pytest.raises(NotFound, match=r"1\. .*2\. "):
        here.do("pull", noting)


def plain_http(registry: Registry) -> tuple[Endpoint, Endpoint]:
    """Give the endpoints of a server on this machine, of which nobody said whether it speaks TLS."""
    url = registry.url.replace("http:", "https:")
    first = Endpoint(url=f"{url}/v2", host=registry.host, repository=NAME, insecure=True)
    return first, registry.endpoint(NAME, fallback=True)


def test_plain_http_is_tried_where_tls_is_not_spoken(client: Client, upstream: Registry) -> None:
    there = upstream.add_manifest(NAME, "latest", {})
    asked: list[str] = []

    def noting(repository: Repository) -> str:
        asked.append(repository.endpoint.url.partition(":")[0])
        return digest(repository)

    here = remote(client, *plain_http(upstream))
    assert here.do("pull", noting) == there
    upstream.heal()
    del upstream.tags[NAME]["latest"]
    with pytest.raises(NotFound, match=r"^manifest for app:latest not found: manifest unknown: manifest unknown$"):
        here.do("pull", noting)
    assert asked == ["https", "http", "http"]


def test_plain_http_is_not_tried_where_tls_fails_or_answers(
    client: Client, upstream: Registry, tmp_path_factory: pytest.TempPathFactory
) -> None:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    upstream.add_manifest(NAME, "latest", {})
    with Registry(certificate=authority.issue("server")) as secure:
        untrusted = remote(client, secure.endpoint(NAME), upstream.endpoint(NAME, fallback=True))
        with pytest.raises(Unavailable, match="cannot be verified"):
            untrusted.do("pull", digest)
        trusted = secure.endpoint(NAME, ca_files=(str(authority.ca),))
        with pytest.raises(NotFound):
            remote(client, trusted, upstream.endpoint(NAME, fallback=True)).do("pull", digest)
    assert upstream.asked == []


def test_nobody_at_either_is_told_once(client: Client, nowhere: Endpoint) -> None:
    secure = msgspec.structs.replace(nowhere, url=nowhere.url.replace("http:", "https:"))
    with pytest.raises(Unavailable) as caught:
        remote(client, secure, msgspec.structs.replace(nowhere, fallback=True)).do("pull", digest)
    assert str(caught.value).count("cannot be reached") == 1


def test_capabilities_are_minded(client: Client, mirror: Registry, upstream: Registry) -> None:
    upstream.add_manifest(NAME, "latest", {})
    here = remote(client, mirror.endpoint(NAME, capabilities=("pull",)), upstream.endpoint(NAME))
    here.do("resolve", digest)
    assert mirror.asked == []
    with pytest.raises(FailedPrecondition, match="no registry is configured that may be used to push"):
        remote(client, mirror.endpoint(NAME, capabilities=("pull",))).do("push", digest)


def test_what_was_stopped_is_not_tried_elsewhere(client: Client, mirror: Registry, upstream: Registry) -> None:
    client.stop()
    with pytest.raises(Cancelled):
        remote(client, mirror.endpoint(NAME), upstream.endpoint(NAME)).do("pull", digest)
    assert mirror.asked == upstream.asked == []


def test_a_bug_is_not_hidden(client: Client, mirror: Registry, upstream: Registry) -> None:
    def broken(repository: Repository) -> str:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        remote(client, mirror.endpoint(NAME), upstream.endpoint(NAME)).do("pull", broken)
