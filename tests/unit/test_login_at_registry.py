"""`login` at a registry on loopback, and what its credentials are good for afterwards."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from onggi.base.errors import FailedPrecondition, Unauthorized
from onggi.cli.app import State, run_command
from onggi.cli.caller import Caller
from onggi.cli.main import cli
from onggi.registry.access import Registries
from onggi.registry.client import Repository
from onggi.spec.registry import Credential
from tests.callers import FakeCaller
from tests.registry_server import IDENTITY, USER, Registry, status

NAME, PASSWORD = USER


class User:
    """A user with a home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.env = {"HOME": str(home), "XDG_RUNTIME_DIR": f"{home}/run", "XDG_CONFIG_HOME": f"{home}/config"}
        self.config = home / ".docker/config.json"

    def onggi(self, *words: str) -> tuple[int | None, FakeCaller]:
        caller = FakeCaller(self.env)
        return run_command(
            cli, list(words), State(cast(Caller, caller), lambda _root: pytest.fail("no engine"))
        ), caller

    def auths(self) -> Any:
        return json.loads(self.config.read_text())["auths"]

    def configure(self, text: str) -> None:
        path = self.home / "config/onggi/registries.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def registries(self) -> Registries:
        """Give what commands reach registries with."""
        return Registries.of(self.env, home=str(self.home), uid=4_000_000)


def plain(registry: Registry, mirrors: str = "") -> str:
    """Configure a registry to speak HTTP."""
    return f'[registry."{registry.host}"]\nurl = "http://{registry.host}/v2"\n{mirrors}'


@pytest.fixture
def user(tmp_path: Path) -> User:
    return User(tmp_path)


@pytest.fixture(params=["basic", "bearer"])
def registry(request: pytest.FixtureRequest, user: User) -> Iterator[Registry]:
    with Registry(auth=request.param) as registry:
        user.configure(plain(registry))
        registry.anonymous_pull = False
        yield registry


def test_who_is_known_logs_in(user: User, registry: Registry) -> None:
    code, caller = user.onggi("login", "-u", NAME, "-p", PASSWORD, registry.host)
    assert (code, caller.stdout) == (0, "Login Succeeded\n"), caller.stderr
    (host, entry), *_ = user.auths().items()
    assert host == registry.host
    assert entry.get("identitytoken") == (IDENTITY if registry.auth == "bearer" else None)


def test_who_is_not_known_is_told_so(user: User, registry: Registry) -> None:
    code, caller = user.onggi("login", "-u", NAME, "-p", "secret", registry.host)
    assert (code, caller.stdout) == (1, "")
    assert "unauthorized" in caller.stderr
    assert "secret" not in caller.stderr
    assert not user.config.exists()


@pytest.mark.parametrize("namespace", ["", "/library", "/library/app"])
def test_credentials_are_used_for_their_namespace(user: User, registry: Registry, namespace: str) -> None:
    for name in ("library/app", "other/app"):
        registry.add_manifest(name, "1", {"schemaVersion": 2})
    user.onggi("login", "-u", NAME, "-p", PASSWORD, registry.host)
    entry = user.auths()[registry.host]
    user.config.write_text(json.dumps({"auths": {registry.host + namespace: entry}}))
    with user.registries() as registries:
        app, other = (
            registries.remote(registries.parse(f"{registry.host}/{name}:1")) for name in ("library/app", "other/app")
        )
        app.do("pull", resolve)
        if namespace:
            with pytest.raises(Unauthorized):
                other.do("pull", resolve)
        else:
            other.do("pull", resolve)


def resolve(repository: Repository) -> object:
    return repository.resolve("1")


@pytest.mark.parametrize("auth", ["", "bearer"])
def test_what_is_public_needs_no_credentials_that_can_be_read(user: User, auth: str) -> None:
    """Many a configuration names a helper that is long gone."""
    write_broken(user)
    with Registry(auth=auth) as registry:
        user.configure(plain(registry))
        registry.add_manifest("app", "1", {"schemaVersion": 2})
        with user.registries() as registries:
            registries.remote(registries.parse(f"{registry.host}/app:1")).do("pull", resolve)


def test_who_is_refused_hears_why_no_credentials_were_found(user: User, registry: Registry) -> None:
    write_broken(user)
    with user.registries() as registries:
        remote = registries.remote(registries.parse(f"{registry.host}/app:1"))
        for _ in range(2):
            with pytest.raises(Unauthorized, match=r"looking for one failed: error getting .*nonesuch"):
                remote.do("pull", resolve)


def write_broken(user: User) -> None:
    user.config.parent.mkdir()
    user.config.write_text('{"credsStore": "nonesuch"}')


def test_a_mirror_gets_no_password_that_is_the_registrys(user: User, registry: Registry) -> None:
    with Registry(auth="basic") as mirror:
        user.configure(plain(registry, f'mirrors = ["http://{mirror.host}/v2"]\n'))
        code, caller = user.onggi("login", "-u", NAME, "-p", PASSWORD, registry.host)
        assert code == 0, caller.stderr
        assert mirror.asked == []


def test_on_this_machine_plain_http_will_do(user: User, registry: Registry) -> None:
    user.configure("")
    code, caller = user.onggi("login", "-u", NAME, "-p", PASSWORD, registry.host)
    assert (code, caller.stdout) == (0, "Login Succeeded\n"), caller.stderr


def test_a_registry_that_is_configured_to_be_elsewhere(user: User) -> None:
    user.configure('[registry."docker.io"]\nurl = "http://127.0.0.1:1/v2"\n')
    with pytest.raises(FailedPrecondition, match=r"docker\.io is configured to be at 127\.0\.0\.1:1; log in there"):
        user.registries().check("docker.io", Credential(username="u", password="p"))


def test_nobody_answers(user: User) -> None:
    with Registry() as registry:
        host = registry.host
    code, caller = user.onggi("login", "-u", NAME, "-p", "secret", host)
    assert code == 1
    assert f"http://{host}/v2/ cannot be reached" in caller.stderr
    assert not user.config.exists()


@pytest.mark.parametrize("challenge", ['Basic realm="x"', 'Bearer realm="{url}/token"'])
def test_names_and_passwords_may_be_any_bytes(user: User, challenge: str) -> None:
    """As they may be in files and pipes; this registry takes none."""
    with Registry() as registry:
        user.configure(plain(registry))
        registry.fault("", "", status(401, WWW_Authenticate=challenge.format(url=registry.url)))
        code, caller = user.onggi("login", "-u", "m\udcff", "-p", "\udcfe", registry.host)
    assert code == 1
    assert "unauthorized" in caller.stderr
    given = [asked.headers["authorization"] for asked in registry.asked if "authorization" in asked.headers]
    assert [base64.b64decode(value.removeprefix("Basic ")) for value in given] == [b"m\xff:\xfe"]
