"""A registry that answers at random: broken HTTP, headers and documents, true ones with a part changed."""

import random
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO

import pytest

from onggi.base.errors import OnggiError
from onggi.host.http_client import Client
from onggi.registry.auth import Authentication, check
from onggi.registry.documents import fetch_blob, fetch_document, fetch_manifest
from onggi.registry.remote import Remote
from onggi.spec import media
from onggi.spec.digest import Digest
from onggi.spec.image import Descriptor
from onggi.spec.platform import Platform
from onggi.spec.reference import parse_reference
from onggi.spec.registry import Credential, Endpoint

ROUNDS = 500
DATA = bytes(range(256))
DIGEST = Digest.of(DATA)
POTTER = Credential(username="potter", password="s3cr3t-clay")

STATUSES = [
    *[200] * 4,
    201,
    202,
    206,
    301,
    307,
    308,
    400,
    401,
    401,
    403,
    404,
    405,
    413,
    416,
    429,
    500,
    503,
    100,
    204,
    304,
]
URLS = [
    *(
        "http://[",
        "http://h:port/",
        "//",
        "/",
        "?",
        "http://127.0.0.1:1/",
        "https://h\\@127.0.0.1/",
        "file:///etc/passwd",
    ),
    *("%ff%00", "http://\x1b[31m/", "a" * 3000, "http://" + "a" * 300 + ".x/", "http://a..b/", "http://x@127.0.0.1:1/"),
]
BODIES = [
    b'{"tags":["a","\\u001b[31m",null]}',
    b'{"tags":["a","b"]}',
    b'{"token":"abc","access_token":"\\n","expires_in":1e300,"refresh_token":"r"}',
    b'{"token":"abc","expires_in":-1}',
    b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":{},"detail":"\\u001b[2J"}]}',
    b'{"schemaVersion":2,"manifests":[{"mediaType":"%s","digest":"%s","size":256,"platform":{"os":"linux","architecture":'
    b'"amd64"}}]}' % (media.OCI_MANIFEST.encode(), DIGEST.encode()),
    b'{"schemaVersion":2,"mediaType":"%s","config":{"mediaType":"x","digest":"%s","size":256},"layers":[]}'
    % (media.OCI_MANIFEST.encode(), DIGEST.encode()),
    b"[" * 50_000,
    DATA,
    b"",
]
HEADERS: list[Callable[[random.Random], str]] = [
    lambda r: f"Location: {r.choice(URLS)}",
    lambda r: f'Link: <{r.choice(URLS)}>; rel="next"',
    lambda r: f'WWW-Authenticate: Bearer realm="{r.choice(URLS)}",service="s",scope="a:b:c"',
    lambda r: 'WWW-Authenticate: Bearer realm="{here}/token",service="s"',
    lambda r: "WWW-Authenticate: Basic realm=x",
    lambda r: f"Content-Type: {r.choice([*media.ACCEPTED, 'application/json', 'x', chr(27), ''])}",
    lambda r: f"Docker-Content-Digest: {r.choice([DIGEST, 'sha256:x', 'x', 'sha512:' + 'a' * 128])}",
    lambda r: f"Content-Range: bytes {r.choice(['0-255/256', '5-9/10', '9-1/3', '0-0/*', 'x', '0-9999999999/1'])}",
    lambda r: f"Range: {r.choice(['0-255', '0-0', '0-99999999999', 'bytes=0-3', '-', 'x'])}",
    lambda r: f"Retry-After: {r.choice(['0', '-1', '99999999999', 'Sat, 01 Jan 0001 00:00:00 GMT', 'x'])}",
    lambda r: f"Content-Length: {r.choice(['0', '1', '-1', 'x', '99999999999999999999', '5, 5'])}",
    lambda r: "Transfer-Encoding: chunked",
    lambda r: "Content-Encoding: gzip",
    lambda r: "Connection: close",
    lambda r: "Docker-Upload-UUID: \xff",
    lambda r: "".join(map(chr, r.choices(range(1, 256), k=20))),
]


class Garbage:
    """Answers each connection once, with what `dice` say."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> "Garbage":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.recv(1 << 16)
                connection.sendall(self._answer())
                connection.shutdown(socket.SHUT_WR)

    def _answer(self) -> bytes:
        dice = self._dice
        body = bytearray(dice.choice(BODIES))
        for _ in range(dice.choice([0, 0, 1, 3])):
            at = dice.randrange(len(body) + 1)
            body[at : at + dice.randrange(4)] = dice.choice([b"\xff", b"-", b"null", b'"', b"9" * 30, b"{", b""])
        lines = [dice.choice(HEADERS)(dice) for _ in range(dice.randrange(5))]
        if dice.random() < 0.5:
            lines.append(f"Content-Length: {len(body)}")
        if any("chunked" in line for line in lines):
            body = bytearray(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body) + dice.choice([0, 0, 1, -1]), body))
        head = "\r\n".join((f"HTTP/1.1 {dice.choice([*STATUSES, 999, -1, 'x'])} said\x1b[31m", *lines)).replace(
            "{here}", self.url
        )
        whole = head.encode("latin-1", "replace") + b"\r\n\r\n" + body
        return whole[: dice.randrange(len(whole))] if dice.random() < 0.1 else whole


def calls(remote: Remote, client: Client) -> list[Callable[[], object]]:
    """Everything that is asked of a registry."""
    here = remote.repositories[0]
    blob = Descriptor(media_type="x", digest=DIGEST, size=len(DATA))

    def part() -> object:
        with here.blob(DIGEST, offset=5, end=10, size=len(DATA)) as found:
            return b"".join(found.stream())

    return [
        lambda: here.resolve("latest"),
        lambda: here.resolve(DIGEST),
        lambda: here.tags(),
        lambda: here.referrers(DIGEST),
        lambda: here.has_blob(DIGEST),
        lambda: here.mount(DIGEST, "other"),
        lambda: here.upload(DIGEST, len(DATA), BytesIO(DATA)),
        lambda: here.upload(DIGEST, len(DATA), BytesIO(DATA), chunk_bytes=100),
        lambda: here.put_manifest("latest", BODIES[6], media.OCI_MANIFEST),
        lambda: here.delete("latest"),
        part,
        lambda: fetch_blob(remote, blob, 1 << 20),
        lambda: fetch_manifest(
            remote,
            fetch_document(remote, parse_reference("h.example/a:latest")),
            Platform(os="linux", architecture="amd64"),
        ),
        lambda: check(client, here.endpoint, POTTER),
    ]


@pytest.mark.parametrize("seed", range(3))
def test_whatever_a_registry_answers_is_read_or_an_error_of_ours(seed: int) -> None:
    dice = random.Random(seed)
    said = ""
    with Garbage(random.Random(f"server {seed}")) as server:
        client = Client(pause=lambda seconds: None, connect_s=5, read_s=5)
        for _ in range(ROUNDS):
            endpoint = Endpoint(url=f"{server.url}/v2", host="h.example", repository="a")
            auth = Authentication(client, lambda host, repository: dice.choice([None, POTTER]))
            call = dice.choice(calls(Remote("a", [endpoint], client, auth), client))
            try:
                call()
            except OnggiError as error:
                said += str(error)
        client.close()
    assert said
    assert "\x1b" not in said
    assert POTTER.password not in said
