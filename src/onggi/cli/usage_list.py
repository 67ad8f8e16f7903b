"""The list of what containers use: what `stats` shows of each (docker/cli's formatter_stats.go)."""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from onggi.base.errors import Conflict, NotFound
from onggi.base.units import bytes_size, human_size
from onggi.cli.listing import Column
from onggi.engine.assemble import Engine
from onggi.host.cgroupfs import Statistics
from onggi.host.processes import network_traffic
from onggi.spec.container import parse_request
from onggi.store.containers import Container


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What a container had used at a moment; nothing of what does not run."""

    at_ns: int
    used: Statistics
    received: int = 0
    sent: int = 0


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A container and what it uses: `before` and `now` are two looks at it."""

    asked: str
    container: Container
    before: Sample
    now: Sample
    memory_bytes: int
    truncate: bool

    def id(self) -> str:
        """Its id."""
        return self.container.id.short if self.truncate else self.container.id

    def processors(self) -> str:
        """How much of a processor it used between the two looks."""
        elapsed = self.now.at_ns - self.before.at_ns
        spent = _processor_ns(self.now.used) - _processor_ns(self.before.used)
        return f"{100 * max(spent, 0) / elapsed if elapsed > 0 else 0:.2f}%"

    def memory(self) -> tuple[int, int]:
        """How much memory it uses, and may use: no more than there is."""
        memory = self.now.used.memory
        if memory is None:
            return 0, 0
        return memory.working_set_bytes, min(memory.limit_bytes or self.memory_bytes, self.memory_bytes)

    def memory_usage(self) -> str:
        """The same as text."""
        used, limit = self.memory()
        return f"{bytes_size(used)} / {bytes_size(limit)}"

    def memory_share(self) -> str:
        """How much of its memory it uses."""
        used, limit = self.memory()
        return f"{100 * used / limit if limit else 0:.2f}%"

    def network(self) -> str:
        """What it has received and sent."""
        return f"{human_size(self.now.received, 3)} / {human_size(self.now.sent, 3)}"

    def blocks(self) -> str:
        """What it has read and written."""
        devices = self.now.used.devices
        read, written = (sum(getattr(device, name) for device in devices) for name in ("read_bytes", "write_bytes"))
        return f"{human_size(read, 3)} / {human_size(written, 3)}"

    def tasks(self) -> str:
        """How many tasks it has."""
        return str(self.now.used.pids.current) if self.now.used.pids else "0"


COLUMNS: Final[Mapping[str, Column[Listed]]] = {
    "Container": Column("CONTAINER", lambda item: item.asked),
    "ID": Column("CONTAINER ID", Listed.id),
    "Name": Column("NAME", lambda item: item.container.name or "--"),
    "CPUPerc": Column("CPU %", Listed.processors),
    "MemUsage": Column("MEM USAGE / LIMIT", Listed.memory_usage),
    "MemPerc": Column("MEM %", Listed.memory_share),
    "NetIO": Column("NET I/O", Listed.network),
    "BlockIO": Column("BLOCK I/O", Listed.blocks),
    "PIDs": Column("PIDS", Listed.tasks),
}
TABLE: Final = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")


def _processor_ns(used: Statistics) -> int:
    return used.cpu.usage_ns if used.cpu else 0


class Watch:
    """Looks at containers again and again: those that were asked for, or all."""

    def __init__(self, engine: Engine, refs: Sequence[str], *, every: bool, truncate: bool, memory_bytes: int) -> None:
        """Watch `refs`, all of which must be there, or without them what runs, with `every` all. Raises NotFound."""
        self._engine, self._every, self._truncate, self._memory = engine, every, truncate, memory_bytes
        self._asked = {str(engine.containers.get(ref).id): ref for ref in refs}
        self._before: dict[str, Sample] = {}

    def look(self, now_ns: int) -> list[Listed]:
        """Look once more; the first time there is nothing to compare with."""
        found = [(ref, container) for ref, container in self._containers()]
        samples = {str(container.id): self._sample(container, now_ns) for _, container in found}
        listed = [
            Listed(
                asked=ref,
                container=container,
                before=self._before.get(container.id, samples[container.id]),
                now=samples[container.id],
                memory_bytes=self._memory,
                truncate=self._truncate,
            )
            for ref, container in found
        ]
        self._before = samples
        return listed

    def _containers(self) -> list[tuple[str, Container]]:
        if not self._asked:
            return [(container.id.short, container) for container in self._engine.containers.list(every=self._every)]
        found = []
        for id, ref in self._asked.items():
            try:
                found.append((ref, self._engine.containers.get(id)))
            except NotFound:
                continue  # removed meanwhile
        return found

    def _sample(self, container: Container, now_ns: int) -> Sample:
        try:
            used = self._engine.containers.statistics(container.id)
        except (Conflict, NotFound):
            return Sample(at_ns=now_ns, used=Statistics())
        received = sent = 0
        if parse_request(container.config).network not in ("host", "none"):
            received, sent = network_traffic(container.pid)
        return Sample(at_ns=now_ns, used=used, received=received, sent=sent)
