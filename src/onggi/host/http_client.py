"""HTTP for registries: any method, streamed both ways, and nothing that happens on its own.

    Trust       whom TLS believes at an endpoint, and as whom we show ourselves
    Client      connections that several threads share; `stop` ends what they wait for
    Response    an answer whose body is read piece by piece, as it is on the wire

Redirects are followed only within `_REDIRECTS`, never back to a URL, from https to
http or to another scheme; what tells who we are stays at the origin it was meant
for. Broken connections and `RETRIED` answers are tried again with growing pauses.
Errors name a URL without its query, where storage keeps its signatures.
"""

import random
import re
import socket
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import SplitResult, urljoin, urlsplit

import msgspec

from onggi.base.errors import Cancelled, Corrupt, FailedPrecondition, Unavailable
from onggi.spec.challenge import MAX_ERROR_BYTES, parse_retry_after, plain
from onggi.spec.registry import ClientCertificate, Endpoint

from .http import Proxies, explain, open_pools

if TYPE_CHECKING:
    import ssl

    import urllib3
    from urllib3.connection import HTTPConnection

CHUNK: Final = 256 << 10
ATTEMPTS: Final = 5
RETRIED: Final = frozenset({429, 502, 503, 504})
MAX_PAUSE_S: Final = 60.0
_REDIRECTS: Final = 5
_MOVED: Final = frozenset({301, 302, 303, 307, 308})
_REPEATED_MOVED: Final = frozenset({307, 308})
_PUBLIC_HEADERS: Final = frozenset({"accept", "accept-encoding", "content-type", "range", "user-agent"})
_BACKOFF_S: Final = 0.5
_CONNECTIONS: Final = 16
_NOT_IN_URL: Final = re.compile(r"[\x00-\x20\x7f\\]")  # after a backslash urlsplit and urllib3 see different hosts


class Unreachable(Unavailable):
    """Nobody answers there: no network, no such host, nobody listening."""


class NoTls(Unavailable):
    """Somebody answers there, but TLS is not what they speak."""


class Broken(Unavailable):
    """The connection ended in the middle; another may do better."""


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """Authorities beside the host's; who we are and `insecure` hold at the server called `name` only."""

    name: str = ""
    insecure: bool = False
    ca_files: tuple[str, ...] = ()
    client_certificates: tuple[ClientCertificate, ...] = ()

    @classmethod
    def of(cls, endpoint: Endpoint) -> Self:
        """Take what an endpoint was configured with."""
        return cls(
            name=urlsplit(endpoint.url).hostname or "",
            insecure=endpoint.insecure,
            ca_files=endpoint.ca_files,
            client_certificates=endpoint.client_certificates,
        )

    def at(self, name: str) -> "Trust":
        """Give what is left of it at the server called `name`."""
        return self if name == self.name else Trust(ca_files=self.ca_files)


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent: `size` bytes that `open` gives anew for each attempt."""

    size: int
    open: Callable[[], Iterable[bytes]]


class _Request(msgspec.Struct, frozen=True, kw_only=True):
    method: str
    trust: Trust
    headers: dict[str, str]
    body: bytes | Body | None
    connect_s: float


class Response:
    """An answer. Leave it as a context manager: a connection is used again only if all was read."""

    def __init__(self, client: "Client", url: str, response: "urllib3.BaseHTTPResponse", *, reusable: bool) -> None:
        """Take over the answer to a request for `url`."""
        self.url = url
        self.status = response.status
        self._client, self._response, self._reusable = client, response, reusable

    def __enter__(self) -> Self:
        """Give the answer itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go."""
        self.close()

    def header(self, name: str) -> str:
        """Give a header, empty if it is absent."""
        return self._response.headers.get(name, "")

    def headers(self, name: str) -> list[str]:
        """Give all headers of a name."""
        return self._response.headers.getlist(name)

    @property
    def length(self) -> int | None:
        """Content-Length, None where it is not told."""
        text = self.header("Content-Length")
        return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None

    @property
    def said(self) -> str:
        """Status and reason: `404 Not Found`."""
        return plain(f"{self.status} {self._response.reason or ''}")

    def stream(self, chunk_bytes: int = CHUNK) -> Iterator[bytes]:
        """Give the body as it comes. Raises Broken if it breaks off, Cancelled after `Client.stop`."""
        import urllib3

        try:
            while chunk := self._response.read(chunk_bytes, decode_content=False):
                self._client.check()
                yield chunk
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            self._client.check()
            raise Broken(f"{shown(self.url)}: the connection broke: {explain(error)}") from None
        self._client.check()  # what was stopped looks like an end

    def read(self, max_bytes: int, what: str) -> bytes:
        """Give the body whole. Raises Corrupt if it is larger than `max_bytes`."""
        pieces, seen = [], 0
        for piece in self.stream(min(CHUNK, max_bytes + 1)):
            seen += len(piece)
            if seen > max_bytes:
                raise Corrupt(f"{what}: {shown(self.url)} sends more than the {max_bytes} bytes that it may have")
            pieces.append(piece)
        return b"".join(pieces)

    def error_body(self) -> bytes:
        """Give the beginning of a body that only explains; empty if it cannot be had."""
        pieces, seen = [], 0
        with suppress(Unavailable):
            for piece in self.stream(MAX_ERROR_BYTES):
                pieces.append(piece)
                seen += len(piece)
                if seen >= MAX_ERROR_BYTES:
                    break
        return b"".join(pieces)[:MAX_ERROR_BYTES]

    def close(self) -> None:
        """End the answer."""
        if self._reusable and self._response.length_remaining == 0:
            with suppress(Unavailable, Cancelled):
                self.read(0, "nothing")  # tells http.client that this is the end
        else:
            self._response.close()
        self._response.release_conn()


class Client:
    """Connections to registries."""

    def __init__(
        self,
        proxies: Proxies | None = None,
        *,
        connect_s: float = 15.0,
        read_s: float = 60.0,
        pause: Callable[[float], object] | None = None,
        jitter: Callable[[], float] = random.random,
        user_agent: str = "onggi",
    ) -> None:
        """Open nothing yet. `pause` waits so many seconds, `jitter` gives a number below 1."""
        self._proxies = proxies or Proxies()
        self._connect_s, self._read_s = connect_s, read_s
        self._stopped = threading.Event()
        self._pause = self._stopped.wait if pause is None else pause
        self._jitter = jitter
        self._user_agent = user_agent
        self._pools: dict[tuple[str, Trust], urllib3.PoolManager] = {}
        self._connections: weakref.WeakSet[HTTPConnection] = weakref.WeakSet()
        self._lock = threading.Lock()

    def send(
        self,
        method: str,
        url: str,
        *,
        trust: Trust | None = None,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | Body | None = None,
        attempts: int = ATTEMPTS,
        connect_s: float | None = None,
    ) -> Response:
        """Ask, and give the answer whatever its status is. Raises Unavailable, Unreachable, NoTls, Cancelled."""
        request = _Request(
            method=method,
            trust=trust or Trust(name=split_url(url).hostname or ""),
            headers={"User-Agent": self._user_agent, "Accept-Encoding": "identity", **dict(headers)},
            body=body,
            connect_s=self._connect_s if connect_s is None else connect_s,
        )
        seen = {url}
        while True:
            response = self._try(url, request, attempts)
            location = response.header("Location")
            followed = _MOVED if method in ("GET", "HEAD") else _REPEATED_MOVED
            if response.status not in followed or not location:
                return response
            response.close()
            there = redirected(url, location)
            if there in seen or len(seen) > _REDIRECTS:
                raise Unavailable(f"{shown(url)}: it redirects in a circle, or more than {_REDIRECTS} times")
            if origin(there) != origin(url):
                if body is not None:  # it may be a password, or a private layer
                    raise Unavailable(f"{shown(url)}: it sends what we send on to {shown(there)}, which is refused")
                public = {name: value for name, value in request.headers.items() if name.lower() in _PUBLIC_HEADERS}
                request = msgspec.structs.replace(request, headers=public)
            seen.add(there)
            url = there

    def stop(self) -> None:
        """End what other threads wait for; from now on everything raises Cancelled."""
        self._stopped.set()
        with self._lock:
            for connection in self._connections:
                if sock := connection.sock:
                    with suppress(OSError, ValueError):
                        # SSLSocket.shutdown would take the session away from a thread that reads.
                        socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def check(self) -> None:
        """Raise Cancelled after `stop`."""
        if self._stopped.is_set():
            raise Cancelled("the transfer was stopped")

    def wait(self, attempt: int) -> None:
        """Pause before trying again for the `attempt`th time, from 1; longer each time."""
        self._pause(min(MAX_PAUSE_S, _BACKOFF_S * 2 ** (attempt - 1)) * (0.5 + self._jitter() / 2))
        self.check()

    def sibling(self, *, timeout_s: float) -> "Client":
        """Give a client of the same kind that was not stopped, and waits little: for tidying up."""
        return Client(self._proxies, connect_s=timeout_s, read_s=timeout_s, user_agent=self._user_agent)

    def close(self) -> None:
        """Close idle connections."""
        for pool in self._pools.values():
            pool.clear()

    def _try(self, url: str, request: _Request, attempts: int) -> Response:
        for attempt in range(1, attempts + 1):
            self.check()
            try:
                response = self._once(url, request)
            except Broken:
                if attempt == attempts:
                    raise
                self.wait(attempt)
                continue
            if response.status not in RETRIED or attempt == attempts:
                return response
            asked = parse_retry_after(response.header("Retry-After"), response.header("Date"))
            if asked is not None and asked > MAX_PAUSE_S:
                return response
            response.close()
            if asked is None:
                self.wait(attempt)
            else:
                self._pause(asked)
        raise AssertionError("an attempt returns or raises")

    def _once(self, url: str, request: _Request) -> Response:
        import urllib3
        from urllib3 import exceptions

        place = split_url(url)
        headers, body = request.headers, request.body
        content: bytes | Iterable[bytes] | None
        if isinstance(body, Body):
            headers = {**headers, "Content-Length": str(body.size)}
            content = body.open()
        else:
            content = body
        pools = self._pool(self._proxies.proxy_for(url), request.trust.at(place.hostname or ""))
        try:
            answer = pools.request(
                request.method,
                url,
                headers=headers,
                body=content,
                timeout=urllib3.Timeout(connect=request.connect_s, read=self._read_s),
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
        except exceptions.SSLError as error:
            self.check()
            raise _tls_error(url, error) from None
        except exceptions.ProxyError:
            self.check()
            raise Unreachable(f"{shown(url)} cannot be reached: the proxy does not let us through") from None
        except (exceptions.NewConnectionError, exceptions.ConnectTimeoutError) as error:
            self.check()
            raise Unreachable(f"{shown(url)} cannot be reached: {explain(error)}") from None
        except (exceptions.HTTPError, OSError, ValueError) as error:
            self.check()
            raise Broken(f"{shown(url)} cannot be asked: {explain(error)}") from None
        response = Response(self, url, answer, reusable=body is None or answer.status < 400)
        if self._stopped.is_set():
            response.close()
            self.check()
        return response

    def _pool(self, proxy: str, trust: Trust) -> "urllib3.PoolManager":
        with self._lock:
            if (proxy, trust) not in self._pools:
                self._pools[proxy, trust] = open_pools(
                    proxy,
                    self._opened,
                    maxsize=_CONNECTIONS,
                    ssl_context=tls_context(trust, self._proxies.authorities()),
                )
            return self._pools[proxy, trust]

    def _opened(self, connection: "HTTPConnection") -> None:
        with self._lock:
            self._connections.add(connection)
        if self._stopped.is_set():
            connection.close()
            self.check()


def tls_context(trust: Trust, authorities: str | None) -> "ssl.SSLContext":
    """Make a context that believes `authorities`, those of `trust`, and shows our certificates.

    Raises FailedPrecondition for a file that cannot be used.
    """
    import ssl

    path = authorities or ""
    try:
        context = ssl.create_default_context(cafile=authorities)
        for path in trust.ca_files:
            context.load_verify_locations(cafile=path)
        for pair in trust.client_certificates:
            path = pair.certificate
            # A password would be asked for on the terminal: such a key is refused instead.
            context.load_cert_chain(pair.certificate, pair.key or None, password=lambda: "")
    except (OSError, ValueError) as error:  # SSLError is an OSError
        reason = error.strerror if not isinstance(error, ssl.SSLError) and isinstance(error, OSError) else None
        raise FailedPrecondition(
            f"certificates for {trust.name or 'a registry'}: {path} cannot be used: {reason or 'no valid PEM file'}"
        ) from None
    if trust.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def redirected(url: str, location: str) -> str:
    """Give the URL that `location` means at `url`. Raises Unavailable for one that we do not follow."""
    try:
        there = urljoin(url, location)
        place = split_url(there)
    except ValueError:
        raise Unavailable(f"{shown(url)}: it redirects to what is no URL") from None
    if urlsplit(url).scheme == "https" and place.scheme != "https":
        raise Unavailable(f"{shown(url)}: it redirects from https to {shown(there)}, which is refused")
    return place._replace(netloc=place.netloc.rpartition("@")[2], fragment="").geturl()


def split_url(url: str) -> SplitResult:
    """Take apart a URL that may be asked. Raises Unavailable for any other."""
    if _NOT_IN_URL.search(url) or not url.isascii():
        raise Unavailable(f"{shown(url)} is no URL: it has blanks or other letters that no URL has")
    try:
        place = urlsplit(url)
        port = place.port
    except ValueError:
        raise Unavailable(f"{shown(url)} is no URL") from None
    if place.scheme not in ("http", "https") or not place.hostname or port == 0:
        raise Unavailable(f"{shown(url)} is refused: registries are asked by http and https only")
    return place


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: what headers that tell who we are were meant for. Raises Unavailable for no URL."""
    place = split_url(url)
    return place.scheme, place.hostname or "", place.port or (443 if place.scheme == "https" else 80)


def shown(url: str) -> str:
    """Give a URL for people: without user, query and fragment, which may be secret."""
    try:
        place = urlsplit(url)
    except ValueError:
        return "a URL"
    return plain(place._replace(netloc=place.netloc.rpartition("@")[2], query="", fragment="").geturl())


def _tls_error(url: str, error: Exception) -> Unavailable:
    text = str(error)
    if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER" in text:
        reason = "the server gave HTTP response to HTTPS client; plain HTTP must be allowed for this registry"
        return NoTls(f"{shown(url)}: {reason}")
    if match := re.search(r"certificate verify failed: ([^(]*)", text):
        return Unavailable(f"{shown(url)}: its certificate cannot be verified: {match[1].strip()}")
    if "EOF occurred" in text or "BAD_RECORD_MAC" in text:
        return Broken(f"{shown(url)}: the connection broke while TLS began")
    match = re.search(r"\] ([^(']*)", text)
    return Unavailable(f"{shown(url)}: TLS failed: {match[1].strip() if match else 'the connection broke'}")
