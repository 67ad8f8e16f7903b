"""What happens, written down as Docker tells it: types, actions and attributes of `docker events`.

Where a row changes, its event is written in the same transaction: neither is there without
the other, and a start pays for no further commit.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from onggi.base.errors import OnggiError
from onggi.spec.container import ContainerRequest, parse_request
from onggi.spec.digest import Digest
from onggi.store.containers import Container
from onggi.store.events import Event, Events
from onggi.store.images import Images
from onggi.store.root import StateRoot

_REMEMBERED: Final = 256
_KINDS: Final = {"bridge": "bridge", "none": "null", "host": "host"}


class Journal:
    """Writes the events of one state root."""

    def __init__(self, root: StateRoot, events: Events, images: Images) -> None:
        """Write them here."""
        self._root, self._events, self._images = root, events, images
        self._labels: dict[str, dict[str, str]] = {}

    # -- containers --------------------------------------------------------------------------------

    def container(
        self, container: Container, *actions: str, at_ns: int = 0, more: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Write that something happened to a container; `more` are attributes of this event alone."""
        attributes = {**self._of_container(container, parse_request(container.config)), **more}
        at_ns = at_ns or self._root.clock_ns()
        self._events.append(*(_event(at_ns, "container", action, container.id, attributes) for action in actions))

    def started(self, container: Container, request: ContainerRequest, at_ns: int, *, attached: bool) -> None:
        """Write that a container runs: attached, in its network, with its volumes."""
        attributes = self._of_container(container, request)
        actions = ("attach", "start") if attached else ("start",)
        *before, start = [_event(at_ns, "container", action, container.id, attributes) for action in actions]
        networks = _networks(container, request, "connect", at_ns)
        mounts = [
            _event(
                at_ns,
                "volume",
                "mount",
                mount.source,
                {
                    "container": str(container.id),
                    "destination": mount.target,
                    "driver": "local",
                    "propagation": mount.propagation,
                    "read/write": str(not mount.read_only).lower(),
                },
            )
            for mount in request.mounts
            if mount.type == "volume"
        ]
        self._events.append(*before, *networks, *mounts, start)

    def died(self, container: Container, at_ns: int, *, code: int, oom_killed: bool, was_running: bool) -> None:
        """Write how a container ended; one whose start nobody has recorded is told to have started."""
        request = parse_request(container.config)
        attributes = self._of_container(container, request)
        started_ns = container.started_ns or at_ns
        if not was_running:
            self.started(container, request, at_ns, attached=False)
        seconds = max(0, at_ns - started_ns) // 1_000_000_000
        ended = {**attributes, "execDuration": str(seconds), "exitCode": str(code)}
        unmounts = [
            _event(at_ns, "volume", "unmount", mount.source, {"container": str(container.id), "driver": "local"})
            for mount in request.mounts
            if mount.type == "volume"
        ]
        self._events.append(
            *([_event(at_ns, "container", "oom", container.id, attributes)] if oom_killed else []),
            _event(at_ns, "container", "die", container.id, ended),
            *_networks(container, request, "disconnect", at_ns),
            *unmounts,
        )

    def session_started(self, container: Container, id: str, command: Sequence[str]) -> None:
        """Write that a further process was started in a container."""
        words = f"{command[0]} {' '.join(command[1:])}"  # with Docker's space behind a single word
        self.container(container, f"exec_create: {words}", f"exec_start: {words}", more={"execID": id})

    def session_died(self, container: Container, id: str, at_ns: int, *, code: int) -> None:
        """Write how it ended."""
        self.container(container, "exec_die", at_ns=at_ns, more={"execID": id, "exitCode": str(code)})

    def _of_container(self, container: Container, request: ContainerRequest) -> dict[str, str]:
        return {
            **self._of_image(container.image),
            **request.labels,
            "image": container.image_ref,
            "name": container.name or "",
        }

    # -- images and the rest -----------------------------------------------------------------------

    def image(self, id: str, *actions: str, name: str = "") -> None:
        """Write that something happened to an image; `name` is its id where nothing else is meant."""
        attributes = {**self._of_image(id), "name": name or str(id)}
        at_ns = self._root.clock_ns()
        self._events.append(*(_event(at_ns, "image", action, id, attributes) for action in actions))

    def tagged(self, id: str, names: Sequence[str]) -> None:
        """Write that an image has new names."""
        for name in names:
            self.image(id, "tag", name=name)

    def pruned(self, type: str, reclaimed_bytes: int) -> None:
        """Write that a kind of things was cleared out."""
        attributes = {"reclaimed": str(reclaimed_bytes)}
        self._events.append(_event(self._root.clock_ns(), type, "prune", "", attributes))

    def _of_image(self, id: str) -> dict[str, str]:
        """Give an image's labels; its config never changes, so it is read once."""
        if not id:
            return {}
        if (found := self._labels.get(id)) is None:
            try:
                config = self._images.config(Digest(id)).config
            except OnggiError:
                return {}  # it is gone, and its containers go on
            found = dict((config and config.labels) or {})
            if len(self._labels) >= _REMEMBERED:
                self._labels.clear()
            self._labels[id] = found
        return found


def _networks(container: Container, request: ContainerRequest, action: str, at_ns: int) -> list[Event]:
    if request.network not in _KINDS:
        return []
    attributes = {"container": str(container.id), "name": request.network, "type": _KINDS[request.network]}
    return [_event(at_ns, "network", action, request.network, attributes)]


def _event(at_ns: int, type: str, action: str, actor: str, attributes: dict[str, str]) -> Event:
    return Event(time_ns=at_ns, type=type, action=action, actor=actor, attributes=attributes)
