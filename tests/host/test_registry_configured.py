"""Endpoints as configuration makes them, at real servers: TLS first, plain HTTP only where that cannot be had."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from onggi.base.errors import NotFound, Unauthorized, Unavailable
from onggi.host.config_files import ConfigFiles
from onggi.host.http_client import Client, NoTls
from onggi.registry.auth import Authentication
from onggi.registry.hosts import RegistriesConfig, RegistryPaths, find_endpoints, read_config
from onggi.registry.remote import Remote
from onggi.spec.reference import parse_reference
from tests.certificates import Authority
from tests.registry_server import Registry, status

INDEX = {"schemaVersion": 2, "manifests": []}


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def client(pauses: list[float]) -> Iterator[Client]:
    client = Client(pause=pauses.append)
    yield client
    client.close()


@pytest.fixture
def server() -> Iterator[Registry]:
    with Registry() as server:
        server.add_manifest("team/app", "1", INDEX)
        yield server


def remote(client: Client, name: str, config: RegistriesConfig | None = None) -> Remote:
    reference = parse_reference(name)
    return Remote.of(reference, find_endpoints(config or RegistriesConfig(), reference), client, Authentication(client))


def configured(tmp_path: Path, text: str) -> RegistriesConfig:
    path = tmp_path / "registries.toml"
    path.write_text(text)
    return read_config(RegistryPaths(files=(str(path),)), ConfigFiles())


def test_a_registry_at_loopback_without_tls_is_found_at_once(
    client: Client, server: Registry, pauses: list[float]
) -> None:
    app = remote(client, f"{server.host}/team/app")
    digest = app.do("resolve", lambda repository: repository.resolve("1")).digest
    assert app.do("pull", lambda repository: repository.manifest(digest))[2] == digest
    assert server.lines() == ["HEAD /v2/team/app/manifests/1", f"GET /v2/team/app/manifests/{digest}"]
    assert pauses == []


def test_what_it_does_not_have_is_said_once_and_plainly(client: Client, server: Registry) -> None:
    app = remote(client, f"{server.host}/team/app")
    for _ in range(2):
        with pytest.raises(NotFound) as caught:
            app.do("pull", lambda repository: repository.manifest("2"))
        assert "tried" not in str(caught.value)
    assert server.lines() == ["GET /v2/team/app/manifests/2"] * 2


def test_whoever_speaks_tls_is_not_asked_without(client: Client, tmp_path: Path) -> None:
    with Registry(certificate=Authority(tmp_path / "ca").issue("server"), auth="basic") as server:
        server.anonymous_pull = False
        app = remote(client, f"{server.host}/team/app")
        with pytest.raises(Unauthorized, match="no basic auth credentials"):
            app.do("pull", lambda repository: repository.manifest("1"))
        assert [asked.line for asked in server.asked] == ["GET /v2/team/app/manifests/1"]


def test_an_endpoint_has_its_own_time_to_connect(tmp_path: Path) -> None:
    with ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # from then on the kernel drops who wants to connect
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        host = f"127.0.0.1:{full.getsockname()[1]}"
        config = configured(tmp_path, f'[registry."{host}"]\nurl = "http://{host}"\nconnect-timeout = "20ms"')
        patient = Client(connect_s=600)
        with pytest.raises(Unavailable, match="cannot be reached"):
            remote(patient, f"{host}/a", config).do("pull", lambda repository: repository.manifest("1"))
        patient.close()


def test_plain_http_that_nobody_allowed_is_an_error(client: Client, server: Registry, tmp_path: Path) -> None:
    config = configured(tmp_path, f'[registry."{server.host}"]\nplain-http = false')
    app = remote(client, f"{server.host}/team/app", config)
    with pytest.raises(NoTls, match="HTTP response to HTTPS client") as caught:
        app.do("pull", lambda repository: repository.manifest("1"))
    assert "bootstrap" not in str(caught.value)
    assert server.asked == []


def test_a_mirror_comes_first_and_is_told_for_whom(client: Client, server: Registry, tmp_path: Path) -> None:
    with Registry() as mirror:
        digest = mirror.add_manifest("proxy/team/app", "1", INDEX)
        config = configured(
            tmp_path,
            f'[registry."{server.host}"]\n'
            f'mirrors = [{{url = "{mirror.url}", rewrite = [{{prefix = "", to = "proxy/"}}], header = {{X-A = "b"}}}}]',
        )
        app = remote(client, f"{server.host}/team/app", config)
        assert app.do("pull", lambda repository: repository.manifest("1"))[2] == digest
        assert app.do("pull", lambda repository: list(repository.tags())) == ["1"]
        assert [asked.query["ns"] for asked in mirror.asked] == [[server.host]] * 2
        assert mirror.asked[0].headers["x-a"] == "b"
        assert server.asked == []

        mirror.fault("", "", status(404))
        assert app.do("pull", lambda repository: repository.manifest("1"))[2] == digest
        assert ["ns" in asked.query for asked in server.asked] == [False]
