"""`onggi events`: what happened and what happens, as `docker events` prints it."""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from onggi.base.errors import InvalidArgument
from onggi.base.units import SECOND
from onggi.cli.app import Command, Group, State, pass_state
from onggi.cli.filters import Filters, filter_option, parse_filters
from onggi.cli.listing import parse_format
from onggi.cli.moments import parse_moment
from onggi.cli.render import local_time
from onggi.store.events import Event

if TYPE_CHECKING:
    from onggi.cli.template import Template

FILTERS: Final = ("container", "event", "image", "label", "network", "scope", "type", "volume")
_OBJECTS: Final = ("container", "network", "volume")


def register(cli: Group) -> None:
    """Add `events`, and its management form."""
    cli.add_command(events)
    system = cli.commands["system"]
    assert isinstance(system, Group)
    system.add_command(events)


@click.command(cls=Command)
@filter_option(FILTERS)
@click.option("--since", default=None, metavar="TIME", help="From then on: a time, or a duration back from now")
@click.option("--until", default=None, metavar="TIME", help="Until then: a time, or a duration back from now")
@click.option("--format", "format", default="", metavar="FORMAT", help="Print by a Go template, or 'json'")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document for each, as --format json")
@pass_state
def events(
    state: State, /, filters: tuple[str, ...], since: str | None, until: str | None, format: str, as_json: bool
) -> int:
    """Show what happens to containers, images, volumes and networks, until --until or for ever."""
    caller = state.caller
    caller.only_in_process()
    wanted = parse_filters(filters, FILTERS)
    show = shower("json" if as_json else format, caller.env)
    now = time.time_ns()
    since_ns = None if since is None else parse_moment(since, now, caller.env)
    until_ns = None if until is None else parse_moment(until, now, caller.env)
    for event in state.engine.system.events(since_ns=since_ns, until_ns=until_ns):
        if is_wanted(event, wanted):
            caller.out(f"{show(event)}\n")
    return 0


def shower(format: str, env: Mapping[str, str]) -> Callable[[Event], str]:
    """Give what prints an event in this format. Raises InvalidArgument for a wrong template."""
    if not format:
        return lambda event: line(event, env)
    if format.strip() in ("json", "{{json .}}"):
        return lambda event: msgspec.json.encode(document(event)).decode()
    template = parse_format(format)
    return lambda event: _formatted(event, template)


def line(event: Event, env: Mapping[str, str]) -> str:
    """Print an event as Docker's client does: `TIME TYPE ACTION ID (NAME=VALUE, …)`."""
    at = local_time(event.time_ns, env)
    zone = at.replace(microsecond=0).isoformat()[19:]
    text = f"{at:%Y-%m-%dT%H:%M:%S}.{event.time_ns % SECOND:09}{'Z' if zone == '+00:00' else zone}"
    attributes = ", ".join(f"{name}={value}" for name, value in sorted(event.attributes.items()))
    return f"{text} {event.type} {event.action} {event.actor}" + (f" ({attributes})" if attributes else "")


def document(event: Event) -> dict[str, Any]:
    """Describe an event as Docker's API does."""
    seconds = event.time_ns // SECOND
    common: dict[str, Any] = {
        "Type": event.type,
        "Action": event.action,
        "Actor": {"ID": event.actor, "Attributes": dict(sorted(event.attributes.items()))},
        "scope": "local",
        "time": seconds,
        "timeNano": event.time_ns,
    }
    match event.type:
        case "container":
            return {"status": event.action, "id": event.actor, "from": event.attributes.get("image", ""), **common}
        case "image":
            return {"status": event.action, "id": event.actor, **common}
    return common


def _formatted(event: Event, template: "Template") -> str:
    from onggi.cli.template import Map, TemplateError

    found = document(event)
    actor = {"ID": event.actor, "Attributes": Map(found["Actor"]["Attributes"])}
    names = {"Status": "status", "ID": "id", "From": "from", "Scope": "scope", "Time": "time", "TimeNano": "timeNano"}
    fields = {go: found.get(name, "") for go, name in names.items()}
    try:
        return template.execute({"Type": event.type, "Action": event.action, "Actor": actor, **fields})
    except TemplateError as error:
        raise InvalidArgument(f"template parsing error: {error}") from None


def is_wanted(event: Event, filters: Filters) -> bool:
    """Tell whether all filters admit an event; those that name an object admit no event of another kind."""
    name = event.attributes.get("name", "")
    for kind in _OBJECTS:
        if kind in filters and not (
            event.type == kind and any(text.startswith(filters.values(kind)) for text in (event.actor, name))
        ):
            return False
    image = event.attributes.get("image" if event.type == "container" else "name", "")
    about_image = event.type in ("container", "image") and filters.admits_exactly(
        "image", event.actor, image, image.partition(":")[0]
    )
    return (
        ("image" not in filters or about_image)
        and filters.admits_exactly("event", event.action, event.action.partition(":")[0])
        and filters.admits_exactly("type", event.type)
        and filters.admits_exactly("scope", "local")
        and filters.admits_labels(event.attributes)
    )
