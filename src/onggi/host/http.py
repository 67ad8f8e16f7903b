"""HTTP for mirrors: a file as a stream, bounded. Whoever asks knows what it must be, and checks."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from onggi.base.errors import Cancelled, Corrupt, InvalidArgument, NotFound, Unavailable

from .certs import BUNDLES

if TYPE_CHECKING:
    import urllib3
    from urllib3.connection import HTTPConnection

_CHUNK: Final = 256 << 10
_CONNECT_S: Final = 15.0
_READ_S: Final = 60.0
_REDIRECTS: Final = 5
_CONNECTIONS: Final = 8


class Proxies(msgspec.Struct, frozen=True, kw_only=True):
    """How the caller's environment says that servers are reached; `none` are the hosts of no_proxy.

    `ca_bundle`: a file of certificate authorities instead of the system's.
    """

    http: str = ""
    https: str = ""
    none: tuple[str, ...] = ()
    ca_bundle: str = ""

    @classmethod
    def of(cls, env: Mapping[str, str]) -> Self:
        """Read the usual variables, which have no standard but many readers: small letters count first."""

        def get(name: str) -> str:
            return env.get(name) or env.get(name.upper()) or ""

        return cls(
            http=get("http_proxy") or get("all_proxy"),
            https=get("https_proxy") or get("all_proxy"),
            none=tuple(entry for entry in get("no_proxy").replace(",", " ").split()),
            ca_bundle=env.get("SSL_CERT_FILE", ""),
        )

    def proxy_for(self, url: str) -> str:
        """Give the proxy that leads to a URL, empty for none."""
        scheme, _, rest = url.partition("://")
        host = rest.partition("/")[0].rpartition("@")[2].lower()
        name = host.partition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
        for entry in self.none:
            suffix = entry.strip().lower().lstrip(".")
            if suffix and (suffix in ("*", name, host) or name.endswith(f".{suffix}")):
                return ""
        if is_loopback(name):  # as Go's programs do: there a proxy would find itself
            return ""
        return self.https if scheme == "https" else self.http

    def authorities(self) -> str | None:
        """Give the file of certificate authorities to trust, None for what OpenSSL was built with."""
        return self.ca_bundle or next((path for path in BUNDLES if os.path.isfile(path)), None)


def is_loopback(name: str) -> bool:
    """Whether a host's name or address means this machine."""
    try:
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


def open_pools(
    proxy: str, opened: "Callable[[HTTPConnection], object]" = lambda connection: None, **options: Any
) -> "urllib3.PoolManager":
    """Make connections through a proxy, or without one where it is empty; each is `opened`.

    Raises InvalidArgument for what is no proxy, without its text, which may have a password.
    """
    from base64 import b64encode
    from urllib.parse import unquote

    import urllib3

    from .connections import pool_classes

    if not proxy:
        pools = urllib3.PoolManager(**options)
    else:
        url = proxy if "://" in proxy else f"http://{proxy}"  # as curl and Go's programs read it
        try:
            user = urllib3.util.parse_url(url).auth
            basic = {"proxy-authorization": f"Basic {b64encode(unquote(user).encode()).decode()}"} if user else None
            pools = urllib3.ProxyManager(url, proxy_headers=basic, **options)
        except (urllib3.exceptions.HTTPError, ValueError):
            raise InvalidArgument(
                "http_proxy, https_proxy or all_proxy: a proxy is http://[USER:PASSWORD@]HOST[:PORT] or https://…"
            ) from None
    pools.pool_classes_by_scheme = pool_classes(opened)
    return pools


def explain(error: Exception) -> str:
    """Say why a request failed, without the layers that it came through."""
    reason = getattr(error, "reason", None)
    return str(reason or error).rpartition(": ")[2]


class Downloads:
    """Connections that several threads share."""

    def __init__(self, proxies: Proxies | None = None) -> None:
        """Open nothing yet."""
        self._proxies = proxies or Proxies()
        self._pools: dict[str, urllib3.PoolManager] = {}
        self._open: set[urllib3.BaseHTTPResponse] = set()
        self._lock = threading.Lock()

    def get(self, url: str, *, max_bytes: int) -> bytes:
        """Fetch a small file whole. Raises NotFound, Unavailable, Corrupt for one that is too large."""
        return b"".join(self.stream(url, max_bytes=max_bytes))

    def stream(self, url: str, *, max_bytes: int, stopped: Callable[[], bool] = lambda: False) -> Iterator[bytes]:
        """Fetch a file piece by piece, as it is on the server. Raises like `get`, Cancelled as soon as `stopped`."""
        import urllib3

        try:
            response = self._pool(url).request("GET", url, preload_content=False, decode_content=False)
            try:
                with self._lock:
                    self._open.add(response)
                if stopped():
                    raise Cancelled(f"{url} is not needed any more")
                if response.status in (404, 410):
                    raise NotFound(f"{url} is not there")
                if response.status != 200:
                    raise Unavailable(f"{url}: the server answered {response.status} {response.reason or ''}".rstrip())
                seen = 0
                for chunk in response.stream(_CHUNK, decode_content=False):
                    seen += len(chunk)
                    if stopped():
                        raise Cancelled(f"{url} is not needed any more")
                    if seen > max_bytes:
                        raise Corrupt(f"{url} is larger than the {max_bytes} bytes that it may have")
                    yield chunk
            finally:
                with self._lock:
                    self._open.discard(response)
                # A connection is used again only if everything was read.
                response.close()
                response.release_conn()
        except (urllib3.exceptions.HTTPError, ValueError) as error:  # ValueError: a redirect to what is no URL
            raise Unavailable(
                f"{url} cannot be fetched: {explain(error)}; is there a network, and is the mirror right?"
            ) from None

    def stop(self) -> None:
        """End what other threads wait for at this moment; what they ask for later is for `stopped` to say."""
        with self._lock:
            for response in self._open:
                with suppress(OSError, ValueError, RuntimeError):
                    response.shutdown()

    def _pool(self, url: str) -> "urllib3.PoolManager":
        import urllib3

        proxy = self._proxies.proxy_for(url)
        if proxy not in self._pools:
            retries = urllib3.Retry(
                total=_REDIRECTS + 3,
                connect=2,
                read=2,
                redirect=_REDIRECTS,
                status=2,
                status_forcelist=(500, 502, 503, 504),
                backoff_factor=0.3,
            )
            timeout = urllib3.Timeout(connect=_CONNECT_S, read=_READ_S)
            self._pools[proxy] = open_pools(
                proxy,
                retries=retries,
                timeout=timeout,
                maxsize=_CONNECTIONS,
                ca_certs=self._proxies.authorities(),
            )
        return self._pools[proxy]
