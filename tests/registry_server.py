"""A registry on loopback: honest by default, and as hostile as a test wants it.

    with Registry() as registry:
        digest = registry.add_manifest("library/app", "latest", {...})
        registry.fault("GET", r"/blobs/", cut(100), times=1)

`faults` come before honest answers: the first whose method and path match, and
whose `times` are not used up, answers. `asked` lists every request. Tokens are
issued by the registry itself at `/token`, or by another one that `realm` names.
"""

import base64
import hashlib
import http.server
import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self
from urllib.parse import parse_qs, urlsplit

from onggi.spec import media
from onggi.spec.digest import Digest
from onggi.spec.registry import Endpoint

USER: Final = ("potter", "clay pot")
IDENTITY: Final = "identity-secret"


class Asked(NamedTuple):
    """One request, without its body."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    @property
    def line(self) -> str:
        """`GET /v2/a/tags/list`."""
        return f"{self.method} {self.path}"


class Call:
    """A request being answered."""

    def __init__(self, registry: "Registry", handler: http.server.BaseHTTPRequestHandler, asked: Asked) -> None:
        self.registry, self.handler, self.asked = registry, handler, asked
        self.pieces: Callable[[bytes], Iterable[bytes]] = lambda body: [body]

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.handler.wfile.write(data)

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Send a whole answer. `Content_Type` is Content-Type; a Content_Length may lie."""
        self.handler.send_response(status)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in ({"Content-Length": str(len(body))} | names).items():
            self.handler.send_header(name, value)
        self.handler.end_headers()
        if self.asked.method != "HEAD":
            for piece in self.pieces(body):
                with self.registry.lock:
                    self.registry.sent_bytes += len(piece)
                self.write(piece)

    def error(self, status: int, code: str, message: str = "", **headers: str) -> None:
        """Send distribution's error body."""
        body = json.dumps({"errors": [{"code": code, "message": message or code.lower().replace("_", " ")}]}).encode()
        self.reply(status, body, Content_Type="application/json", **headers)

    def close(self) -> None:
        """Break the connection off after this."""
        self.handler.close_connection = True


Fault = Callable[[Call], None]


def status(code: int, **headers: str) -> Fault:
    """Answer with a status; `Retry_After="1"` is a header."""
    names = {401: "UNAUTHORIZED", 403: "DENIED", 404: "NAME_UNKNOWN", 429: "TOOMANYREQUESTS"}
    return lambda call: call.error(code, names.get(code, "UNKNOWN"), **headers)


def answer(code: int, body: bytes = b"", **headers: str) -> Fault:
    """Answer with exactly this. After a Content_Length that lies, the connection ends."""

    def fault(call: Call) -> None:
        call.reply(code, body, **headers)
        if headers.get("Content_Length", str(len(body))) != str(len(body)):
            call.close()

    return fault


def redirect(url: str, code: int = 307) -> Fault:
    """Send somewhere else; a relative URL stays here."""
    return lambda call: call.reply(code, Location=url)


def cut(after_bytes: int = 0) -> Fault:
    """Answer honestly, but break off after so many bytes of the body; 0 does not answer at all."""

    def fault(call: Call) -> None:
        call.close()
        if after_bytes:
            call.pieces = lambda body: [body[:after_bytes]]
            call.registry.honest(call)

    return fault


def cut_upload(after_bytes: int) -> Fault:
    """Take only the beginning of a PATCH or PUT, keep it, and break off."""

    def fault(call: Call) -> None:
        call.close()
        upload = call.registry.uploads[call.asked.path.rpartition("/")[2]]
        upload += call.asked.body[:after_bytes]

    return fault


def endless(**headers: str) -> Fault:
    """Send a body that never ends, without a length."""

    def fault(call: Call) -> None:
        call.close()
        text = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        call.write(f"HTTP/1.1 200 OK\r\n{text}Connection: close\r\n\r\n".encode())
        while not call.registry.ended.is_set():
            call.write(b"x" * 65536)

    return fault


def corrupt(call: Call) -> None:
    """Answer honestly, but with every byte of the body changed."""
    call.pieces = lambda body: [bytes(byte ^ 0xFF for byte in body)]
    call.registry.honest(call)


def without_ranges(call: Call) -> None:
    """Answer honestly, as a server that ignores Range."""
    kept = {name: value for name, value in call.asked.headers.items() if name != "range"}
    call.asked = call.asked._replace(headers=kept)
    call.registry.honest(call)


def held(until: threading.Event, then: Fault | None = None) -> Fault:
    """Answer only when a test says so."""

    def fault(call: Call) -> None:
        while not until.wait(0.02):
            if call.registry.ended.is_set():
                return call.close()
        return (then or call.registry.honest)(call)

    return fault


def slow(pause_s: float, piece_bytes: int = 64 << 10) -> Fault:
    """Answer honestly, with a pause after each piece of the body."""

    def pieces(body: bytes) -> Iterator[bytes]:
        for at in range(0, len(body), piece_bytes):
            yield body[at : at + piece_bytes]
            time.sleep(pause_s)

    def fault(call: Call) -> None:
        call.pieces = pieces
        call.registry.honest(call)

    return fault


class _Rule:
    def __init__(self, method: str, path: str, fault: Fault, times: int | None) -> None:
        self.method, self.path, self.fault, self.left = method, re.compile(path), fault, times


class Registry:
    """The server. `auth` is "" (everybody), "basic" or "bearer"; `certificate` (PEM with key) makes it https."""

    def __init__(
        self,
        *,
        auth: str = "",
        realm: str = "",
        certificate: Path | None = None,
        client_ca: Path | None = None,
        referrers: bool = True,
        page: int = 1000,
    ) -> None:
        self.auth, self.realm, self.referrers_api, self.page = auth, realm, referrers, page
        self.anonymous_pull = True
        self.expires_in: int | None = 300
        self.accepts_post = True
        self.accepts_get = True
        self.chunks = True
        self.max_body: int | None = None
        self.blobs: dict[str, dict[str, bytes]] = {}
        self.manifests: dict[str, dict[str, tuple[bytes, str]]] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.uploads: dict[str, bytearray] = {}
        self.asked: list[Asked] = []
        self.tokens: dict[str, tuple[str, ...]] = {}
        self.sent_bytes = 0
        self.lock = threading.RLock()
        self.ended = threading.Event()
        self._rules: list[_Rule] = []
        self._serial = 0
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 0

            def parse_request(self) -> bool:
                good = super().parse_request()
                if good:
                    registry._handle(self)
                return False

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # clients that went away

        self._server = Server(("127.0.0.1", 0), Handler)
        self.scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            if client_ca is not None:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(client_ca)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
            self.scheme = "https"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    # -- what tests set up and look at ---------------------------------------------------------------------------------

    @property
    def host(self) -> str:
        """`127.0.0.1:PORT`."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        """The server's URL without a path."""
        return f"{self.scheme}://{self.host}"

    def endpoint(self, repository: str, **fields: Any) -> Endpoint:
        """Give the endpoint of a repository here."""
        return Endpoint(url=f"{self.url}/v2", host=self.host, repository=repository, **fields)

    def add_blob(self, repository: str, data: bytes, algorithm: str = "sha256") -> Digest:
        """Have a blob."""
        digest = Digest.of(data, algorithm)
        self.blobs.setdefault(repository, {})[digest] = data
        return digest

    def add_manifest(
        self, repository: str, tag: str, document: Any, media_type: str = media.OCI_MANIFEST, algorithm: str = "sha256"
    ) -> Digest:
        """Have a manifest, raw or as a value, under its digest, and under a tag if one is given."""
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        digest = Digest.of(data, algorithm)
        self.manifests.setdefault(repository, {})[digest] = (data, media_type)
        if tag:
            self.tags.setdefault(repository, {})[tag] = digest
        return digest

    def fault(self, method: str, path: str, fault: Fault, *, times: int | None = None) -> None:
        """Answer so the next `times` requests whose method (empty: any) and path (searched regex) match."""
        self._rules.append(_Rule(method, path, fault, times))

    def heal(self) -> None:
        """Be honest from now on."""
        self._rules.clear()

    def lines(self, pattern: str = "") -> list[str]:
        """List the requests, `GET /v2/...`, that match."""
        return [asked.line for asked in self.asked if re.search(pattern, asked.line)]

    # -- answering -----------------------------------------------------------------------------------------------------

    def _handle(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        headers = {name.lower(): value for name, value in handler.headers.items()}
        with suppress(OSError):
            if headers.get("expect", "").lower() == "100-continue":
                handler.send_response_only(100)
                handler.end_headers()
            body = handler.rfile.read(int(headers.get("content-length", "0")))
            place = urlsplit(handler.path)
            asked = Asked(handler.command, place.path, parse_qs(place.query, keep_blank_values=True), headers, body)
            with self.lock:
                self.asked.append(asked)
                rule = next((rule for rule in self._rules if self._matches(rule, asked)), None)
                if rule and rule.left is not None:
                    rule.left -= 1
            handler.close_connection = headers.get("connection", "").lower() == "close"
            (rule.fault if rule else self.honest)(Call(self, handler, asked))
            return
        handler.close_connection = True

    @staticmethod
    def _matches(rule: _Rule, asked: Asked) -> bool:
        return rule.left != 0 and rule.method in ("", asked.method) and bool(rule.path.search(asked.path))

    def honest(self, call: Call) -> None:
        """Answer as a registry does."""
        if call.asked.path == "/token":
            return self._issue(call)
        if not call.asked.path.startswith("/v2/"):
            return call.error(404, "NOT_FOUND")
        if self.auth and not self._allowed(call):
            return None
        if call.asked.path == "/v2/":
            return call.reply(200, b"{}")
        match = re.fullmatch(r"/v2/(.+)/(manifests|blobs|tags|referrers)/(.*)", call.asked.path)
        if match is None:
            return call.error(404, "NOT_FOUND")
        repository, kind, rest = match.groups()
        if kind == "blobs" and rest.startswith("uploads/"):
            with self.lock:
                return self._upload(call, repository, rest.removeprefix("uploads/"))
        methods: dict[str, Callable[[Call, str, str], None]] = {
            "manifests": self._manifest,
            "blobs": self._blob,
            "tags": self._tags,
            "referrers": self._referrers,
        }
        return methods[kind](call, repository, rest)

    def _manifest(self, call: Call, repository: str, reference: str) -> None:
        known = self.manifests.setdefault(repository, {})
        if call.asked.method == "PUT":
            stored = self.add_manifest(
                repository,
                "" if ":" in reference else reference,
                call.asked.body,
                call.asked.headers.get("content-type", ""),
                reference.partition(":")[0] if ":" in reference else "sha256",
            )
            if ":" in reference and reference != stored:
                return call.error(400, "DIGEST_INVALID")
            extra = {}
            with suppress(ValueError):
                subject = json.loads(call.asked.body).get("subject")
                if subject and self.referrers_api:
                    extra = {"OCI_Subject": subject["digest"]}
            return call.reply(201, Docker_Content_Digest=stored, Location=call.asked.path, **extra)
        digest = reference if ":" in reference else self.tags.get(repository, {}).get(reference, "")
        if call.asked.method == "DELETE":
            if digest not in known and reference not in self.tags.get(repository, {}):
                return call.error(404, "MANIFEST_UNKNOWN")
            if ":" in reference:
                del known[digest]
            else:
                del self.tags[repository][reference]
            return call.reply(202)
        if digest not in known:
            return call.error(404, "MANIFEST_UNKNOWN")
        data, media_type = known[digest]
        return call.reply(200, data, Content_Type=media_type, Docker_Content_Digest=digest)

    def _blob(self, call: Call, repository: str, digest: str) -> None:
        data = self.blobs.get(repository, {}).get(digest)
        if data is None:
            return call.error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        extra = {"Docker_Content_Digest": digest, "Content_Type": "application/octet-stream", "Accept_Ranges": "bytes"}
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", call.asked.headers.get("range", "")):
            first = int(match[1])
            last = min(int(match[2]) if match[2] else len(data) - 1, len(data) - 1)
            if first >= len(data):
                return call.reply(416, Content_Range=f"bytes */{len(data)}")
            return call.reply(206, data[first : last + 1], Content_Range=f"bytes {first}-{last}/{len(data)}", **extra)
        return call.reply(200, data, **extra)

    def _tags(self, call: Call, repository: str, rest: str) -> None:
        if repository not in self.tags:
            return call.error(404, "NAME_UNKNOWN", "repository name not known to registry")
        names = sorted(self.tags[repository])
        last = call.asked.query.get("last", [""])[0]
        left = [name for name in names if name > last]
        page = left[: self.page]
        extra = {}
        if len(left) > len(page):
            extra = {"Link": f'</v2/{repository}/tags/list?n={self.page}&last={page[-1]}>; rel="next"'}
        return call.reply(200, json.dumps({"name": repository, "tags": page}).encode(), **extra)

    def _referrers(self, call: Call, repository: str, digest: str) -> None:
        if not self.referrers_api:
            return call.error(404, "NOT_FOUND")
        found = []
        for name, (data, media_type) in self.manifests.get(repository, {}).items():
            with suppress(ValueError):
                document = json.loads(data)
                if document.get("subject", {}).get("digest") == digest:
                    kind = document.get("artifactType") or document.get("config", {}).get("mediaType")
                    found.append({"mediaType": media_type, "digest": name, "size": len(data), "artifactType": kind})
        index = {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": found}
        return call.reply(200, json.dumps(index).encode(), Content_Type=media.OCI_INDEX)

    def _upload(self, call: Call, repository: str, id: str) -> None:
        method, asked = call.asked.method, call.asked
        here = f"/v2/{repository}/blobs/uploads/"
        if self.max_body is not None and len(asked.body) > self.max_body:
            return call.error(413, "SIZE_INVALID", "request entity too large")
        if method == "POST" and not id:
            mount, source = asked.query.get("mount", [""])[0], asked.query.get("from", [""])[0]
            if mount and mount in self.blobs.get(source, {}):
                self.blobs.setdefault(repository, {})[mount] = self.blobs[source][mount]
                return call.reply(201, Location=f"/v2/{repository}/blobs/{mount}", Docker_Content_Digest=mount)
            self._serial += 1
            id = f"upload-{self._serial}"
            self.uploads[id] = bytearray()
            return call.reply(202, Location=here + id, Range="0-0", Docker_Upload_UUID=id)
        if id not in self.uploads:
            return call.error(404, "BLOB_UPLOAD_UNKNOWN")
        data = self.uploads[id]
        if method == "DELETE":
            del self.uploads[id]
            return call.reply(204)
        if method == "GET":
            return call.reply(204, Location=here + id, Range=f"0-{max(0, len(data) - 1)}")
        if method == "PATCH":
            start = asked.headers.get("content-range", f"{len(data)}-").partition("-")[0]
            if int(start) != len(data):
                return call.error(416, "BLOB_UPLOAD_INVALID")
            data += asked.body
            return call.reply(202, Location=here + id, Range=f"0-{max(0, len(data) - 1)}")
        if method == "PUT":
            digest = asked.query.get("digest", [""])[0]
            content = bytes(data + asked.body)
            if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest and Digest.of(content, "sha512") != digest:
                return call.error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
            del self.uploads[id]
            self.blobs.setdefault(repository, {})[digest] = content
            return call.reply(201, Location=f"/v2/{repository}/blobs/{digest}", Docker_Content_Digest=digest)
        return call.error(405, "UNSUPPORTED")

    # -- who may -------------------------------------------------------------------------------------------------------

    def _allowed(self, call: Call) -> bool:
        given = call.asked.headers.get("authorization", "")
        if self.auth == "basic":
            if _basic(given) == USER:
                return True
            call.error(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate='Basic realm="pots"')
            return False
        match = re.fullmatch(r"/v2/(.+)/(?:manifests|blobs|tags|referrers)/.*", call.asked.path)
        action = "pull" if call.asked.method in ("GET", "HEAD") else "push"
        if call.asked.method == "DELETE" and "/uploads/" not in call.asked.path:
            action = "delete"
        granted = self.tokens.get(given.removeprefix("Bearer ")) if given.startswith("Bearer ") else None
        wanted = f"repository:{match[1]}:{action}" if match else ""
        if granted is not None and (not wanted or wanted in granted):
            return True
        challenge = f'Bearer realm="{self.realm or self.url + "/token"}",service="test registry"'
        if wanted:
            challenge += f',scope="{wanted}"'
        if granted is not None:
            challenge += ',error="insufficient_scope"'
        call.error(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate=challenge)
        return False

    def _issue(self, call: Call) -> None:
        """Issue a token: anybody may pull, USER may do everything."""
        asked = call.asked
        form = parse_qs(asked.body.decode()) if asked.method == "POST" else asked.query
        known, refresh = False, ""
        if asked.method == "POST":
            if not self.accepts_post:
                return call.error(404, "NOT_FOUND")
            if form.get("grant_type") == ["refresh_token"]:
                known = form.get("refresh_token") == [IDENTITY]
            else:
                known = (form.get("username", [""])[0], form.get("password", [""])[0]) == USER
            if not known:
                return call.reply(401, b'{"details":"incorrect username or password"}')
            refresh = IDENTITY if form.get("access_type") == ["offline"] else ""
        else:
            if not self.accepts_get:
                return call.error(405, "UNSUPPORTED")
            if given := asked.headers.get("authorization", ""):
                known = _basic(given) == USER
                if not known:
                    return call.reply(401, b'{"details":"incorrect username or password"}')
                refresh = IDENTITY if form.get("offline_token") == ["true"] else ""
        scopes = [scope for value in form.get("scope", []) for scope in value.split()]
        granted = tuple(
            f"{name}:{action}"
            for name, _, actions in (scope.rpartition(":") for scope in scopes)
            for action in actions.split(",")
            if known or (action == "pull" and self.anonymous_pull)
        )
        with self.lock:
            self._serial += 1
            token = f"token-{self._serial}"
            self.tokens[token] = granted
        document: dict[str, Any] = {"token": token}
        if self.expires_in is not None:
            document["expires_in"] = self.expires_in
        if refresh:
            document["refresh_token"] = refresh
        return call.reply(200, json.dumps(document).encode(), Content_Type="application/json")


def _basic(header: str) -> tuple[str, str] | None:
    if not header.startswith("Basic "):
        return None
    name, _, password = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
    return name, password
