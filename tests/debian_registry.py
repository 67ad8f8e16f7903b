"""Debian's docker-registry on loopback, with a directory of its own, and a small issuer of its tokens."""

import base64
import http.server
import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from onggi.spec.registry import Endpoint
from tests.certificates import Authority
from tests.peers import find

WAIT_S: Final = 30.0
USER: Final = ("potter", "clay pot")
ISSUER, SERVICE = "onggi test issuer", "onggi test registry"


class DebianRegistry:
    """A running registry. `host` is `127.0.0.1:PORT`."""

    def __init__(self, scheme: str, host: str, directory: Path) -> None:
        self.scheme, self.host, self.directory = scheme, host, directory

    def endpoint(self, repository: str, **fields: Any) -> Endpoint:
        """Give the endpoint of a repository here."""
        return Endpoint(url=f"{self.scheme}://{self.host}/v2", host=self.host, repository=repository, **fields)

    @property
    def log(self) -> str:
        """What it has written."""
        return (self.directory / "log").read_text()


@contextmanager
def debian_registry(
    directory: Path, *, auth: dict[str, Any] | None = None, certificate: Path | None = None
) -> Iterator[DebianRegistry]:
    """Run one. `auth` is its section of the configuration, `certificate` a PEM file that has the key, too."""
    program = find("docker-registry")
    directory.mkdir(parents=True, exist_ok=True)
    configuration: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "info"},
        "storage": {"filesystem": {"rootdirectory": str(directory / "data")}, "delete": {"enabled": True}},
        "http": {"addr": "127.0.0.1:0", "secret": "of this test"},
    }
    if auth:
        configuration["auth"] = auth
    if certificate:
        configuration["http"]["tls"] = {"certificate": str(certificate), "key": str(certificate)}
    file = directory / "config.yml"
    file.write_text(json.dumps(configuration))  # JSON is YAML
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "serve", str(file)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory
        )
    try:
        host = _listening(directory / "log", process)
        yield DebianRegistry("https" if certificate else "http", host, directory)
    finally:
        process.terminate()
        process.wait(WAIT_S)


def htpasswd(directory: Path) -> dict[str, Any]:
    """Make the section `auth` that knows USER by its password."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "htpasswd"
    done = subprocess.run([find("htpasswd"), "-niB", USER[0]], input=USER[1].encode(), capture_output=True, check=True)
    path.write_bytes(done.stdout)
    return {"htpasswd": {"realm": "pots", "path": str(path)}}


class Issuer:
    """Issues signed tokens: anybody may pull from `public/`, USER may do everything."""

    def __init__(self, directory: Path) -> None:
        self._authority = Authority(directory)
        self._signer = self._authority.issue("signer", rsa=True)
        self._directory = directory
        self.asked: list[str] = []
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer._answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def realm(self) -> str:
        """Where tokens are."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/token"

    @property
    def auth(self) -> dict[str, Any]:
        """The section `auth` that believes this issuer."""
        bundle = str(self._authority.ca)
        return {"token": {"realm": self.realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": bundle}}

    @contextmanager
    def serving(self) -> Iterator["Issuer"]:
        """Answer."""
        self._thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def _answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        query = parse_qs(urlsplit(handler.path).query)
        given = handler.headers.get("Authorization", "").removeprefix("Basic ")
        known = base64.b64decode(given).decode() == ":".join(USER)
        self.asked.append(handler.path)
        if given and not known:
            handler.send_response(401)
            handler.end_headers()
            handler.wfile.write(b'{"details":"incorrect username or password"}')
            return
        access = []
        for scope in query.get("scope", []):
            kind, name, actions = scope.split(":")
            granted = [action for action in actions.split(",") if known or (action, name[:7]) == ("pull", "public/")]
            access.append({"type": kind, "name": name, "actions": granted})
        body = json.dumps({"token": self._sign(access, USER[0] if known else "")}).encode()
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(body)

    def _sign(self, access: list[dict[str, Any]], subject: str) -> str:
        pem = self._signer.read_text()
        certificate = "".join(pem.partition("BEGIN CERTIFICATE-----")[2].partition("-----END")[0].split())
        now = int(time.time())
        header = {"typ": "JWT", "alg": "RS256", "x5c": [certificate]}
        claims = {"iss": ISSUER, "sub": subject, "aud": SERVICE, "exp": now + 300, "nbf": now - 60, "iat": now}
        claims |= {"jti": "1", "access": access}
        text = f"{_base64(json.dumps(header).encode())}.{_base64(json.dumps(claims).encode())}"
        done = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", self._signer], input=text.encode(), capture_output=True, check=True
        )
        return f"{text}.{_base64(done.stdout)}"


def _listening(log: Path, process: "subprocess.Popen[bytes]") -> str:
    """Wait until the log says where it listens."""
    deadline = time.monotonic() + WAIT_S
    while not (found := re.search(r"listening on (127\.0\.0\.1:[0-9]+)", log.read_text())):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
    return found[1]


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
