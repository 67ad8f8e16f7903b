"""HTTP for mirrors: get a file, bounded, verified while it arrives."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from onggi.base.errors import Corrupt, NotFound, Unavailable

if TYPE_CHECKING:
    import urllib3

_CHUNK: Final = 256 << 10
_TIMEOUT_S: Final = 60.0
_REDIRECTS: Final = 5


class Downloads:
    """A pool of connections for several threads; `proxies` by scheme, as the caller's environment has them."""

    def __init__(self, proxies: Mapping[str, str] | None = None) -> None:
        """Open nothing yet."""
        self._proxies = dict(proxies or {})
        self._pools: dict[str, urllib3.PoolManager] = {}

    def _pool(self, url: str) -> "urllib3.PoolManager":
        import urllib3

        scheme = url.partition(":")[0]
        proxy = self._proxies.get(scheme, "")
        if proxy not in self._pools:
            retries = urllib3.Retry(total=3, redirect=_REDIRECTS, backoff_factor=0.3)
            timeout = urllib3.Timeout(connect=15.0, read=_TIMEOUT_S)
            if proxy:
                self._pools[proxy] = urllib3.ProxyManager(proxy, retries=retries, timeout=timeout, maxsize=8)
            else:
                self._pools[proxy] = urllib3.PoolManager(retries=retries, timeout=timeout, maxsize=8)
        return self._pools[proxy]

    def get(self, url: str, *, max_bytes: int) -> bytes:
        """Fetch a small file whole. Raises NotFound, Unavailable, Corrupt for one that is too large."""
        data = bytearray()
        for chunk in self._chunks(url):
            data += chunk
            if len(data) > max_bytes:
                raise Corrupt(f"{url} is larger than {max_bytes} bytes")
        return bytes(data)

    def fetch(self, url: str, target: str, *, size: int, sha256: str) -> None:
        """Fetch a file whose size and digest are known. Anything else leaves no trace. Raises Corrupt."""
        staged = f"{target}.{os.urandom(6).hex()}.part"
        digest, seen = hashlib.sha256(), 0
        try:
            with open(staged, "xb") as file:
                for chunk in self._chunks(url):
                    seen += len(chunk)
                    if seen > size:
                        raise Corrupt(f"{url} is larger than the {size} bytes that its index says")
                    digest.update(chunk)
                    file.write(chunk)
            if seen != size or digest.hexdigest() != sha256:
                raise Corrupt(
                    f"{url} is not what its index says (size {seen} of {size}); the mirror is broken, use another"
                )
            os.replace(staged, target)
        finally:
            if os.path.lexists(staged):
                os.unlink(staged)

    def _chunks(self, url: str) -> Iterator[bytes]:
        import urllib3

        try:
            response = self._pool(url).request("GET", url, preload_content=False, decode_content=False)
            try:
                if response.status == 404:
                    raise NotFound(f"{url} is not there")
                if response.status != 200:
                    raise Unavailable(f"{url}: the server answered {response.status} {response.reason or ''}".rstrip())
                yield from response.stream(_CHUNK)
            finally:
                response.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise Unavailable(
                f"{url} cannot be fetched: {_reason(error)}; is there a network, and is the mirror right?"
            ) from None


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return str(reason or error).rpartition(": ")[2]
