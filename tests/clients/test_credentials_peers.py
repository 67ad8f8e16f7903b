"""Files of credentials beside a real docker and a real podman: what they write we find, what we write they find.

docker has its daemon ask the registry; a small one of our own answers in its place. podman asks itself.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

import pytest

from onggi.registry.credentials import Credentials
from onggi.spec.registry import Credential
from tests.peers import WAIT_S, find
from tests.registry_server import USER, Registry

ME = Credential(username="me", password="pä ss:w")
TOKEN = Credential(username="me", identity_token="it is me")
NAME, PASSWORD = USER

HELPER = (
    f"#!{sys.executable} -I"
    + """
import json, os, sys
kept_in = os.environ["HOME"] + "/kept.json"
kept = json.load(open(kept_in)) if os.path.exists(kept_in) else {}
given = sys.stdin.read()
match sys.argv[1]:
    case "store":
        kept[json.loads(given)["ServerURL"]] = json.loads(given)
    case "get" if given in kept:
        print(json.dumps(kept[given]))
    case "erase" if given in kept:
        del kept[given]
    case _:
        sys.exit(print("credentials not found in native keychain") or 1)
json.dump(kept, open(kept_in, "w"))
"""
)


class Daemon(ThreadingUnixStreamServer):
    """A docker daemon that lets everybody log in; a password that begins with `it is` is worth a token."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.asked: list[dict[str, str]] = []
        daemon = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                pass

            def reply(self, document: Any) -> None:
                body = json.dumps(document).encode()
                self.send_response(200)
                for name, value in {"Api-Version": "1.43", "Content-Type": "application/json"}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def do_HEAD(self) -> None:
                self.reply("OK")

            def do_GET(self) -> None:
                self.reply({"ApiVersion": "1.43", "Version": "24.0.0"})

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0"))))
                daemon.asked.append(asked)
                password = asked.get("password", "")
                token = password if password.startswith("it is") else ""
                self.reply({"Status": "Login Succeeded", "IdentityToken": token})

        super().__init__(str(path), Handler)


class Both:
    """A docker and us, with one home."""

    def __init__(self, home: Path, daemon: Daemon, socket: Path) -> None:
        find("docker")
        self.home, self.daemon = home, daemon
        bin = home / "bin"
        bin.mkdir()
        (bin / "docker-credential-toy").write_text(HELPER)
        (bin / "docker-credential-toy").chmod(0o755)
        self.config = home / ".docker/config.json"
        self.env = {
            "HOME": str(home),
            "PATH": f"{bin}:{os.environ['PATH']}",
            "XDG_RUNTIME_DIR": f"{home}/run",
            "DOCKER_HOST": f"unix://{socket}",
        }

    @property
    def ours(self) -> Credentials:
        return Credentials(self.env, home=str(self.home), uid=4_000_000)

    def docker(self, *words: str, given: str = "") -> str:
        done = subprocess.run(
            ["docker", *words], input=given, env=self.env, capture_output=True, text=True, check=False, timeout=WAIT_S
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def docker_knows(self, server: str) -> tuple[str, str] | None:
        """Say as whom docker would log in by itself."""
        before = len(self.daemon.asked)
        words = ["docker", "login", *([server] if server else [])]
        subprocess.run(words, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=WAIT_S)
        return next(((asked["username"], asked["password"]) for asked in self.daemon.asked[before:]), None)

    def configure(self, **document: Any) -> None:
        self.config.parent.mkdir(exist_ok=True)
        self.config.write_text(json.dumps(document))


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Both]:
    socket = tmp_path / "docker.sock"
    home = tmp_path / "home"
    home.mkdir()
    with Daemon(socket) as daemon:
        thread = threading.Thread(target=daemon.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield Both(home, daemon, socket)
        finally:
            daemon.shutdown()
            thread.join()


SERVERS = {"": "docker.io", "quay.io": "quay.io", "https://localhost:5000/v1/": "localhost:5000"}


@pytest.mark.parametrize("helper", [False, True])
@pytest.mark.parametrize("server", SERVERS)
def test_what_docker_keeps_we_find_and_forget(both: Both, server: str, helper: bool) -> None:
    both.configure(**({"credsStore": "toy"} if helper else {}))
    words = [server] if server else []
    both.docker("login", "-u", "me", "--password-stdin", *words, given=ME.password)
    assert both.ours.find(SERVERS[server]) == ME
    assert both.ours.erase(SERVERS[server])
    assert both.docker_knows(server) is None
    both.docker("login", "-u", "me", "--password-stdin", *words, given=TOKEN.identity_token)
    found = both.ours.find(SERVERS[server])
    assert found is not None
    assert (found.password, found.identity_token) == ("", TOKEN.identity_token)


@pytest.mark.parametrize("helper", [False, True])
@pytest.mark.parametrize("server", SERVERS)
def test_what_we_keep_docker_finds_and_forgets(both: Both, server: str, helper: bool) -> None:
    both.configure(**({"credHelpers": {"quay.io": "toy"}, "credsStore": "toy"} if helper else {}))
    both.ours.save(SERVERS[server], ME)
    assert both.docker_knows(server) == ("me", ME.password)
    both.docker("logout", *([server] if server else []))
    assert both.ours.find(SERVERS[server]) is None


@pytest.mark.parametrize("credential", [ME, TOKEN], ids=["password", "token"])
@pytest.mark.parametrize("helper", [False, True])
def test_the_files_are_the_same_to_the_byte(both: Both, credential: Credential, helper: bool) -> None:
    entry = {"https://a.example/v1/": {"auth": "bWU6cHc="}, "z": {"auth": "bWU6cHc="}}
    document = {"auths": entry, **({"credsStore": "toy"} if helper else {})}

    def written(save: Callable[[], object]) -> tuple[bytes, bytes]:
        both.configure(**document)
        save()
        return both.config.read_bytes(), (both.home / "kept.json").read_bytes() if helper else b""

    secret = credential.password or credential.identity_token
    ours = written(lambda: both.ours.save("docker.io", credential))
    assert ours == written(lambda: both.docker("login", "-u", "me", "--password-stdin", given=secret))


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[tuple[Registry, Path]]:
    find("podman")
    with Registry(auth="basic") as registry:
        yield registry, tmp_path / "auth.json"


def run_podman(path: Path, *words: str, given: str = "", check: bool = True) -> str:
    """Run podman, with all that it keeps beneath the directory of `path`."""
    env = {**os.environ, "HOME": str(path.parent), "REGISTRY_AUTH_FILE": str(path), "XDG_RUNTIME_DIR": str(path.parent)}
    verb, *rest = words
    done = subprocess.run(
        ["podman", verb, "--tls-verify=false", *rest] if verb == "login" else ["podman", verb, *rest],
        input=given, env=env, capture_output=True, text=True, check=False, timeout=WAIT_S,
    )  # fmt: skip
    assert not check or done.returncode == 0, done.stderr
    return done.stdout.strip()


def credentials_beside(path: Path) -> Credentials:
    return Credentials({"REGISTRY_AUTH_FILE": str(path)}, home=str(path.parent), uid=4_000_000)


@pytest.mark.root
def test_what_podman_keeps_we_find(podman: tuple[Registry, Path]) -> None:
    registry, path = podman
    credential = Credential(username=NAME, password=PASSWORD)
    for namespace in ("", "/org"):
        run_podman(path, "login", "-u", NAME, "--password-stdin", registry.host + namespace, given=PASSWORD)
        ours = credentials_beside(path)
        assert ours.find(registry.host, "org/repo") == credential
        assert (ours.find(registry.host, "organ/repo") is None) == bool(namespace)
        run_podman(path, "logout", registry.host + namespace)
        assert ours.find(registry.host, "org/repo") is None


@pytest.mark.root
def test_what_we_keep_podman_finds(podman: tuple[Registry, Path]) -> None:
    registry, path = podman
    ours = Credentials({"DOCKER_CONFIG": str(path.parent)}, home=str(path.parent), uid=4_000_000)
    for host in (registry.host, "docker.io"):
        ours.save(host, Credential(username=NAME, password=PASSWORD))
        assert run_podman(path.parent / "config.json", "login", "--get-login", host) == NAME
