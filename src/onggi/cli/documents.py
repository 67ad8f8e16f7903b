"""`inspect`: documents of objects as JSON or by `--format` (docker/cli's cli/command/inspect)."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from onggi.base.errors import OnggiError
from onggi.cli.app import State
from onggi.cli.render import json_document

WRONG_TEMPLATE: Final = 64
"""Exit code for a template that cannot be read."""

FORMAT_HELP: Final = "Print as 'json' (on one line) or by a Go template, such as '{{.Id}}'"

_MAPS: Final = frozenset(
    {"Labels", "Ports", "PortBindings", "ExposedPorts", "Volumes", "Networks", "Sysctls", "Options",
     "Tmpfs", "Annotations", "StorageOpt", "Data", "Containers", "DriverOpts"}
)  # fmt: skip
"""Fields whose keys the user chose: one that is not there is nothing, and no mistake."""

_POINTERS: Final = frozenset(
    {"PidsLimit", "Init", "MemorySwappiness", "IPAMConfig", "Health", "Healthcheck", "StopTimeout"}
)
"""Fields where null is a pointer to nothing, and no empty list."""

_SILENT: Final[dict[str, dict[str, Any]]] = {
    "Config": {"ExposedPorts": None, "Healthcheck": None, "StopSignal": "", "StopTimeout": None, "Shell": None},
    "HostConfig": {"Init": None, "Annotations": None, "StorageOpt": None, "Sysctls": None, "Tmpfs": None},
    "State": {"Health": None},
}
"""Fields that JSON leaves out where they are empty, and templates may name."""

ALIASES: Final = {
    "ID": "Id", "NanoCPUs": "NanoCpus", "CPUShares": "CpuShares", "CPUPeriod": "CpuPeriod", "CPUQuota": "CpuQuota",
    "CPURealtimePeriod": "CpuRealtimePeriod", "CPURealtimeRuntime": "CpuRealtimeRuntime", "DNS": "Dns",
    "DNSOptions": "DnsOptions", "DNSSearch": "DnsSearch", "HostIP": "HostIp",
}  # fmt: skip
"""Names that Docker's templates know beside those of its JSON."""


def show_documents(state: State, refs: Sequence[str], find: Callable[[str], dict[str, Any]], format: str = "") -> int:
    """Print the document of each object that `find` gives; say which were not found, and fail then.

    `format` is "" (indented JSON), `json` (on one line), or a template. Gives the exit code.
    """
    caller = state.caller
    if format in ("", "json"):
        failures: list[OnggiError] = []
        documents = list(_found(refs, find, failures))
        caller.out(json_document(documents, indent=4 if format == "" else -1))
        return _report(state, failures)
    from onggi.cli.template import TemplateError, parse_template

    try:
        template = parse_template(format)
    except TemplateError as error:
        caller.err(f"onggi: template parsing error: {error}\n")
        return WRONG_TEMPLATE
    problems: list[Exception] = []
    lines = []
    for document in _found(refs, find, problems):
        try:
            lines.append(template.execute(typed(document), aliases=ALIASES) + "\n")
        except TemplateError as error:
            problems.append(TemplateError(f"template parsing error: {error}"))
    caller.out("".join(lines) or "\n")
    return _report(state, problems)


def _found(
    refs: Sequence[str], find: Callable[[str], dict[str, Any]], failures: "list[Any]"
) -> Iterator[dict[str, Any]]:
    for ref in refs:
        try:
            document = find(ref)
        except OnggiError as error:
            failures.append(error)
        else:
            yield document


def _report(state: State, failures: Sequence[Exception]) -> int:
    for failure in failures:
        state.caller.err(f"onggi: {failure}\n")
    return 1 if failures else 0


def typed(value: Any, name: str = "") -> Any:
    """Give a document the types that templates tell apart: maps, and lists and maps that are not there."""
    from onggi.cli.template import NIL, Map, NilList, NilMap, Object

    if isinstance(value, dict):
        items = {key: typed(item, key) for key, item in value.items()}
        if name in _MAPS:
            return Map(items, "" if all(isinstance(item, str) for item in items.values()) else None)
        return Object(items, {key: typed(item, key) for key, item in _SILENT.get(name, {}).items()})
    if isinstance(value, list | tuple):
        return [typed(item) for item in value]
    if value is None:
        return NIL if name in _POINTERS else NilMap() if name in _MAPS else NilList()
    return value
