"""A build that is only looked up: onggid answers it when all of it is in the cache, and does nothing for it.

Two things keep such a build short and harmless. Only a Dockerfile that was built whole
here before, by a process of its own, and came out small (`is_small`) is followed at all;
and what it looks at in contexts is bounded by `Bounds`. Beyond that it is NotCached.
"""

from typing import Final

from onggi.base.errors import OnggiError
from onggi.build.graph import Graph, RunStep

MAX_DOCKERFILE_BYTES: Final = 64 << 10
MAX_IGNORE_BYTES: Final = 8 << 10
MAX_ENTRIES: Final = 1000
"""Walking so many files costs about a third of what a Python costs that starts."""
MAX_READ_BYTES: Final = 8 << 20
_MAX_STAGES: Final = 32
_MAX_ROOM: Final = 1 << 20
_ENTRY_ROOM: Final = 2 << 10


class NotCached(OnggiError):
    """A build that was only to be looked up has something to do, or more to look at than it may."""


class Bounds:
    """How much of its contexts a build may still look at. Stages share it."""

    __slots__ = ("_entries", "_read_bytes")

    def __init__(self, entries: int = MAX_ENTRIES, read_bytes: int = MAX_READ_BYTES) -> None:
        """Allow so many entries of directories, and so many bytes of files that changed."""
        self._entries, self._read_bytes = entries, read_bytes

    def look(self) -> None:
        """Count one entry. Raises NotCached."""
        self._entries -= 1
        if self._entries < 0:
            raise NotCached("the context has too many files")

    def read(self, size_bytes: int) -> None:
        """Count a file that is to be read. Raises NotCached."""
        self._read_bytes -= size_bytes
        if self._read_bytes < 0:
            raise NotCached("too much of the context is new")


def is_small(graph: Graph) -> bool:
    """Tell whether a graph takes little room: a few lines can become a gigabyte (`ENV A=$A$A`)."""
    if len(graph.stages) > _MAX_STAGES:
        return False
    room = 0
    for plan in graph.stages.values():
        room += sum(len(entry.created_by or "") + _ENTRY_ROOM for entry in plan.history)
        for step in plan.steps:
            config = step.config
            room += len(step.title) + sum(map(len, config.env or ())) + sum(map(len, config.labels or ()))
            if isinstance(step.action, RunStep):
                room += sum(map(len, (*step.action.env, *step.action.argv)))
            if room > _MAX_ROOM:
                return False
    return room <= _MAX_ROOM
