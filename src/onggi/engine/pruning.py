"""Clearing out what is not used: containers that have ended, images without containers, the build cache."""

from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from onggi.base.errors import Conflict, NotFound
from onggi.engine.containers import Containers
from onggi.engine.context import Context
from onggi.runtime.lifecycle import Verb, legal_from
from onggi.spec.reference import parse_reference
from onggi.store.build_cache import BuildCache, CacheEntry
from onggi.store.containers import Container
from onggi.store.images import Image


class Reclaimed(msgspec.Struct, frozen=True, kw_only=True):
    """What is gone, by id or key, and how much space that gave back. `untagged`: names of images that went."""

    ids: tuple[str, ...]
    size_bytes: int
    untagged: tuple[tuple[str, ...], ...] = ()


class Pruning:
    """Clears out a state root. `chosen` tells of each unused thing whether it is to go."""

    def __init__(self, context: Context, containers: Containers) -> None:
        """Work on this root."""
        self._context, self._containers = context, containers

    def containers(self, chosen: Callable[[Container], bool]) -> Reclaimed:
        """Remove containers that do not run."""
        ids: list[str] = []
        total = 0
        for listed in self._containers.list(every=True):
            try:
                container = self._containers.get(listed.id)  # which waits for an end that is just being recorded
                if container.state not in legal_from(Verb.REMOVE) or not chosen(container):
                    continue
                size, _ = self._containers.size(container.id)
                self._containers.remove(container.id)
            except (Conflict, NotFound):
                continue  # another command was faster
            ids.append(str(container.id))
            total += size
        self._context.journal.pruned("container", total)
        return Reclaimed(ids=tuple(ids), size_bytes=total)

    def images(self, chosen: Callable[[Image], bool], *, every: bool) -> Reclaimed:
        """Remove images without a name, or with `every` all from which there is no container."""
        context = self._context
        ids: list[str] = []
        untagged: list[tuple[str, ...]] = []
        for image in context.images.list():
            if (image.references and not every) or not chosen(image):
                continue
            with context.root.db.write(durable=True):
                if context.images.users(image.id):
                    continue
                context.journal.image(image.id, *("untag" for _ in image.references), "delete")
                names = context.images.remove(image.id)
            ids.append(str(image.id))
            untagged.append(tuple(parse_reference(name).familiar for name in names))
        return self._collected("image", ids, untagged)

    def build_cache(self, chosen: Callable[[CacheEntry], bool], *, keep_bytes: int = 0) -> Reclaimed:
        """Forget steps of builds, the longest unused first, until no more than `keep_bytes` are left."""
        cache = BuildCache(self._context.root)
        entries = cache.entries()
        users = Counter(entry.layer for entry in entries)
        left = sum({entry.layer: entry.size_bytes for entry in entries}.values())
        gone: list[str] = []
        for entry in entries:
            if left <= keep_bytes and keep_bytes:
                break
            if chosen(entry):
                gone.append(entry.key)
                users[entry.layer] -= 1
                left -= 0 if users[entry.layer] else entry.size_bytes
        cache.forget(gone)
        return self._collected("builder", gone)

    def _collected(self, type: str, ids: Sequence[str], untagged: Sequence[tuple[str, ...]] = ()) -> Reclaimed:
        size = self._context.collector.collect().size_bytes
        self._context.journal.pruned(type, size)
        return Reclaimed(ids=tuple(ids), size_bytes=size, untagged=tuple(untagged))
