"""The list of containers: what `ps` shows of each, and which its filters let through (moby's daemon/list.go)."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Final

import msgspec

from onggi.base.errors import InvalidArgument, NotFound
from onggi.base.units import human_size
from onggi.cli.filters import Filters
from onggi.cli.listing import Column
from onggi.cli.ports_text import ports_text
from onggi.cli.quoting import quote
from onggi.cli.render import age, command_text, ellipsis, go_time, status
from onggi.engine.assemble import Engine
from onggi.engine.networks import NetworkSettings
from onggi.runtime.bundle import command_line
from onggi.runtime.lifecycle import LIVE
from onggi.spec.container import ContainerRequest, parse_request
from onggi.spec.image_config import ContainerConfig as ImageDefaults
from onggi.spec.ports import PublishedPort, parse_exposed
from onggi.spec.reference import parse_reference
from onggi.store.containers import Container

STATES: Final = ("created", "running", "paused", "restarting", "removing", "exited", "dead")
HEALTH: Final = ("none", "starting", "healthy", "unhealthy")
FILTERS: Final = frozenset(
    {"ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label", "name", "network",
     "publish", "since", "status", "volume"}
)  # fmt: skip


class Listed(msgspec.Struct, kw_only=True, eq=False, dict=True):
    """A container to show; what costs something is looked up when it is asked for."""

    engine: Engine
    container: Container
    now_ns: int
    env: Mapping[str, str]
    truncate: bool
    sized: bool

    @cached_property
    def request(self) -> ContainerRequest:
        """What it was created with."""
        return parse_request(self.container.config)

    @cached_property
    def image(self) -> ImageDefaults:
        """What its image says."""
        try:
            return self.engine.containers.image_defaults(self.container)
        except NotFound:
            return ImageDefaults()

    @cached_property
    def settings(self) -> NetworkSettings | None:
        """Where it is in a network, while it runs."""
        if self.container.state not in LIVE:
            return None
        try:
            return self.engine.containers.network(self.container.id)
        except NotFound:
            return None  # it has ended and is gone since it was listed

    @property
    def labels(self) -> dict[str, str]:
        """Its labels and those of its image."""
        return {**(self.image.labels or {}), **self.request.labels}

    @property
    def published(self) -> Sequence[PublishedPort]:
        """The ports that are published."""
        return self.settings.ports if self.settings else ()

    @cached_property
    def exposed(self) -> set[tuple[int, str]]:
        """The ports that it says it serves, while it has a network."""
        if self.settings is None:
            return set()
        texts = (*(self.image.exposed_ports or {}), *self.request.exposed)
        return {port for text in texts for port in parse_exposed(text)}

    def id(self) -> str:
        """Its id."""
        return self.container.id.short if self.truncate else str(self.container.id)

    def image_name(self) -> str:
        """What it was made from; the id, where the name stands for another image by now."""
        container = self.container
        if not container.image:
            return self.request.rootfs or "<no image>"
        try:
            found = self.engine.images.get(container.image_ref)
        except (NotFound, InvalidArgument):
            found = None
        if found is None or found.id != container.image:
            return container.image.removeprefix("sha256:")[:12] if self.truncate else container.image
        if not self.truncate:
            return container.image_ref
        short = container.image_ref.removeprefix("sha256:")[:12]
        if container.image.removeprefix("sha256:").startswith(short):
            return short
        name = parse_reference(container.image_ref)
        return f"{name.familiar_name}:{name.tag}" if name.tag else name.familiar_name

    def command(self) -> str:
        """What it runs, quoted."""
        text = command_text(command_line(self.request, self.image))
        return quote(ellipsis(text, 20) if self.truncate else text)

    def size(self) -> str:
        """What it has written, and that with its image: `0B (virtual 1MB)`."""
        written = whole = 0
        if self.sized:
            with suppress(NotFound):  # it may be gone since it was listed
                written, whole = self.engine.containers.size(self.container.id)
        return human_size(written, 3) + (f" (virtual {human_size(whole, 3)})" if whole else "")

    def platform(self) -> str:
        """What its image is made for."""
        if not self.container.image:
            return ""
        try:
            platform = self.engine.images.config(self.container.image).platform
        except NotFound:  # its image is gone, which those that do not run allow
            return ""
        return f"{platform.os}/{platform.architecture}" + (f"/{platform.variant}" if platform.variant else "")

    def mounts(self) -> str:
        """Names of its volumes and sources of its binds."""
        names = (mount.source for mount in self.request.mounts if mount.type != "tmpfs")
        return ",".join(ellipsis(name, 15) if self.truncate else name for name in names)

    def volumes(self) -> str:
        """How many volumes it has."""
        return str(sum(mount.type == "volume" for mount in self.request.mounts))

    def networks(self) -> str:
        """The network that it is in."""
        return "" if self.request.network.startswith("container:") else self.request.network


COLUMNS: Final[Mapping[str, Column[Listed]]] = {
    "ID": Column("CONTAINER ID", Listed.id),
    "Image": Column("IMAGE", Listed.image_name),
    "Command": Column("COMMAND", Listed.command),
    "CreatedAt": Column("CREATED AT", lambda item: go_time(item.container.created_ns, item.env)),
    "RunningFor": Column("CREATED", lambda item: age(item.container.created_ns, item.now_ns)),
    "Status": Column("STATUS", lambda item: status(item.container, item.now_ns)),
    "State": Column("STATE", lambda item: item.container.state),
    "Ports": Column("PORTS", lambda item: ports_text(item.published, item.exposed)),
    "Names": Column("NAMES", lambda item: item.container.name or ""),
    "Size": Column("SIZE", Listed.size),
    "Labels": Column("LABELS", lambda item: ",".join(sorted(f"{key}={text}" for key, text in item.labels.items()))),
    "Label": Column("", lambda item: lambda name: item.labels.get(name, "")),
    "Mounts": Column("MOUNTS", Listed.mounts),
    "LocalVolumes": Column("LOCAL VOLUMES", Listed.volumes),
    "Networks": Column("NETWORKS", Listed.networks),
    "Platform": Column("PLATFORM", Listed.platform),
}
TABLE: Final = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")
RAW: Final = (
    "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\n"
    "state: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\n"
    "labels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n"
)


def select(found: Sequence[Listed], filters: Filters, *, every: bool, last: int) -> list[Listed]:
    """Give those of `found` (all, newest first) that are wanted; the `last` ones if that is above 0."""
    test = _Test(found, filters)
    every = every or last > 0 or "status" in filters
    wanted = [item for item in test.between if (every or item.container.state in LIVE) and test.admits(item)]
    return wanted[:last] if last > 0 else wanted


class _Test:
    """The filters of one call, understood once."""

    def __init__(self, found: Sequence[Listed], filters: Filters) -> None:
        self._filters = filters
        for name, known in (("status", STATES), ("health", HEALTH)):
            for value in filters.values(name):
                if value not in known:
                    what = "state" if name == "status" else name
                    raise InvalidArgument(
                        f"invalid filter '{name}={value}': "
                        f"invalid value for {what} ({value}): must be one of {', '.join(known)}"
                    )
        self._codes = [_exit_code(value) for value in filters.values("exited")]
        self._is_task = filters.flag("is-task")
        self.between = _between(found, filters)
        self._ids = _ids(found, filters.values("id"))
        self._images = [_ancestor(found, value) for value in filters.values("ancestor")]
        self._published = _ports("publish", filters.values("publish"))
        self._exposed = _ports("expose", filters.values("expose"))

    def admits(self, item: Listed) -> bool:
        """Whether a container passes all filters."""
        filters, container = self._filters, item.container
        return (
            (not self._ids_wanted or container.id in self._ids)
            and filters.admits("name", f"/{container.name}", container.name or "")
            and not self._is_task
            and filters.admits_labels(item.labels if "label" in filters else {})
            and self._has_exited(container)
            and filters.admits("status", container.state)
            and filters.admits_exactly("health", "none")
            and ("volume" not in filters or self._has_volume(item))
            and ("ancestor" not in filters or self._is_descendant(item))
            and filters.admits_exactly("network", item.networks() if "network" in filters else "")
            and self._has_port(item)
        )

    @property
    def _ids_wanted(self) -> bool:
        return "id" in self._filters

    def _has_exited(self, container: Container) -> bool:
        if not self._codes:
            return True
        return container.exit_code in self._codes and container.state not in LIVE and container.started_ns > 0

    def _has_volume(self, item: Listed) -> bool:
        wanted = self._filters.values("volume")
        return any(mount.source in wanted or mount.target in wanted for mount in item.request.mounts)

    def _is_descendant(self, item: Listed) -> bool:
        return any(item.container.image in images for images in self._images)

    def _has_port(self, item: Listed) -> bool:
        if not (self._published or self._exposed):
            return True
        if any((port.host_port, port.protocol) in self._published for port in item.published):
            return True
        inside = {(port.container_port, port.protocol) for port in item.published} | item.exposed
        return bool(self._exposed and inside & self._exposed)


def _exit_code(value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise InvalidArgument(
            f"invalid filter 'exited={value}': strconv.Atoi: parsing {quote(value)}: invalid syntax"
        ) from None


def _between(found: Sequence[Listed], filters: Filters) -> Sequence[Listed]:
    """Give those that were created before one container and since another."""
    first, last = 0, len(found)
    for value in filters.values("before"):
        first = _place(found, value) + 1
    for value in filters.values("since"):
        last = _place(found, value)
    return found[first:last]


def _place(found: Sequence[Listed], ref: str) -> int:
    if not found:
        raise NotFound(f"No such container: {ref}")
    id = found[0].engine.containers.get(ref).id
    return next((number for number, item in enumerate(found) if item.container.id == id), len(found))


def _ids(found: Sequence[Listed], values: Sequence[str]) -> set[str]:
    """Find containers by the beginning of an id; one that is not clear is none."""
    ids = [item.container.id for item in found]
    matches = ([id for id in ids if value and id.startswith(value)] for value in values)
    return {match[0] for match in matches if len(match) == 1}


def _ancestor(found: Sequence[Listed], ref: str) -> set[str]:
    """Find an image and those that were built on it, which have its layers below theirs."""
    if not found:
        return set()
    images = found[0].engine.images
    try:
        parent = images.get(ref)
    except (NotFound, InvalidArgument):
        return set()
    count = len(parent.layers)
    above = {
        str(image.id)
        for image in images.list()
        if 0 < count < len(image.layers) and image.layers[:count] == parent.layers
    }
    return {str(parent.id), *above}


def _ports(name: str, values: Sequence[str]) -> set[tuple[int, str]]:
    ports: set[tuple[int, str]] = set()
    for value in values:
        if ":" in value:
            raise InvalidArgument(f"filter for '{name}' should not contain ':': {value}")
        try:
            ports.update(parse_exposed(value))
        except InvalidArgument:
            raise InvalidArgument(f"error while looking up for {name} {value}: invalid port or range") from None
    return ports
