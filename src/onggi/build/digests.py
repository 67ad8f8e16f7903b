"""A memory of what context files contain: an unchanged context costs a walk, not a read."""

import threading

from onggi.build.bounds import Bounds
from onggi.host.selecting import Item
from onggi.store.build_cache import TRUSTED_AFTER_NS, BuildCache


class RememberedDigests:
    """Digests by device, inode, size and both times; `now_ns` is when the build began."""

    def __init__(self, cache: BuildCache, now_ns: int) -> None:
        """Look in `cache` when a device is first seen."""
        self._cache, self._now_ns = cache, now_ns
        self._known: dict[int, dict[int, tuple[int, int, int, bytes]]] = {}
        self._fresh: list[tuple[int, int, int, int, int, bytes]] = []
        self._lock = threading.Lock()

    def get(self, item: Item) -> bytes | None:
        """Give the digest of this very state of a file."""
        with self._lock:
            known = self._known.get(item.device)
            if known is None:
                known = self._known[item.device] = self._cache.load_digests(item.device)
        return _trusted(known.get(item.inode), item)

    def put(self, item: Item, digest: bytes) -> None:
        """Remember it, unless the file changed so lately that it could change again without a trace."""
        if item.ctime_ns > self._now_ns - TRUSTED_AFTER_NS:
            return
        row = (item.device, item.inode, item.size, item.mtime_ns, item.ctime_ns, digest)
        with self._lock:
            self._fresh.append(row)

    def flush(self) -> None:
        """Write down what was learnt."""
        with self._lock:
            fresh, self._fresh = self._fresh, []
        if fresh:
            self._cache.put_digests(fresh)


class BoundedDigests(RememberedDigests):
    """The same for a build that is only looked up: it asks file by file, and reads no more than it may."""

    def __init__(self, cache: BuildCache, now_ns: int, bounds: Bounds) -> None:
        """Count in `bounds`."""
        super().__init__(cache, now_ns)
        self._bounds = bounds

    def get(self, item: Item) -> bytes | None:
        """Give the digest of this very state of a file. Raises NotCached where too much would have to be read."""
        found = _trusted(self._cache.find_digest(item.device, item.inode), item)
        if found is None:
            self._bounds.read(item.size)
        return found


def _trusted(found: tuple[int, int, int, bytes] | None, item: Item) -> bytes | None:
    if found is None or found[:3] != (item.size, item.mtime_ns, item.ctime_ns):
        return None
    return found[3]
