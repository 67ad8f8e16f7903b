"""`version` and `info`: which Onggi this is, on which machine, and what is kept here."""

import os
import sys
from typing import Any, Final

import click
import msgspec

from onggi.base.errors import InvalidArgument
from onggi.base.units import bytes_size
from onggi.cli.app import Command, State, pass_state
from onggi.cli.documents import FORMAT_HELP, WRONG_TEMPLATE, typed
from onggi.cli.render import tabulate
from onggi.host.launcher import Launcher
from onggi.host.machine_info import read_machine_info
from onggi.host.probe import probe_facts

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_VERSION_LINES: Final = (
    ("Version", "Version"),
    ("Build", "GitCommit"),
    ("Python version", "PythonVersion"),
    ("OS/Arch", "OSArch"),
)


@click.command(cls=Command)
@click.option("-f", "--format", "format", default="", metavar="FORMAT", help=FORMAT_HELP)
@pass_state
def version(state: State, /, format: str) -> int:
    """Show the version."""
    own = version_document()
    if format:
        return _show(state, {"Client": own, "Server": own}, format, name="version")
    fields = {**own, "OSArch": f"{own['Os']}/{own['Arch']}"}
    lines = [[f" {title}:", fields[field]] for title, field in _VERSION_LINES]
    state.caller.out("Onggi:\n" + tabulate(lines, minimum=20, padding=1))
    return 0


def version_document() -> dict[str, Any]:
    """Describe this Onggi, which is Docker's client and server in one."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        number = installed("onggi")
    except PackageNotFoundError:
        number = "from a source tree"
    host = os.uname()
    return {
        "Platform": {"Name": "Onggi"},
        "Version": number,
        "GitCommit": Launcher.installed().build_id,
        "PythonVersion": ".".join(map(str, sys.version_info[:3])),
        "Os": "linux",
        "Arch": _ARCHITECTURES.get(host.machine, host.machine),
        "KernelVersion": host.release,
        "Context": "default",
    }


@click.command(cls=Command)
@click.option("--facts", is_flag=True, help="Print the facts of this host, as JSON")
@click.option("-f", "--format", "format", default="", metavar="FORMAT", help=FORMAT_HELP)
@pass_state
def info(state: State, /, facts: bool, format: str) -> int:
    """Show what this host is and what is kept here."""
    if facts:
        if format:
            raise InvalidArgument("conflicting options: --facts cannot be used with --format")
        state.caller.out(msgspec.json.format(msgspec.json.encode(probe_facts()), indent=2).decode() + "\n")
        return 0
    document = info_document(state)
    if format:
        return _show(state, document, format)
    state.caller.out("".join(f"{line}\n" for line in _info_lines(state, document)))
    return 0


def info_document(state: State) -> dict[str, Any]:
    """Describe the machine and the state root, under Docker's names."""
    engine = state.engine
    counts, host, machine = engine.system.counts(), engine.system.facts, read_machine_info()
    own = version_document()
    return {
        "ID": "",
        "Containers": counts.running + counts.paused + counts.stopped,
        "ContainersRunning": counts.running,
        "ContainersPaused": counts.paused,
        "ContainersStopped": counts.stopped,
        "Images": counts.images,
        "Driver": "overlay",
        "DriverStatus": [],
        "Plugins": {"Volume": ["local"], "Network": ["bridge", "host", "none"], "Log": ["json-file", "none"]},
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": "2" if host.cgroup.layout == "v2" else "1",
        "KernelVersion": machine.kernel,
        "OperatingSystem": machine.system,
        "OSType": own["Os"],
        "Architecture": os.uname().machine,
        "NCPU": machine.processors,
        "MemTotal": machine.memory_bytes,
        "DockerRootDir": engine.root,
        "Name": machine.name,
        "Labels": [],
        "ServerVersion": own["Version"],
        "DefaultRuntime": "onggi",
        "LiveRestoreEnabled": True,
        "InitBinary": "onggi-launcher",
        "SecurityOptions": ["name=seccomp,profile=builtin"],
        "Warnings": None,
        "ClientInfo": {"Debug": False, **own, "Plugins": [], "Warnings": None},
    }


def _info_lines(state: State, document: dict[str, Any]) -> list[str]:
    engine = state.engine
    cgroup = engine.system.facts.cgroup
    controllers = ", ".join(sorted(cgroup.controllers)) or "no controllers"
    return [
        f"Containers: {document['Containers']}",
        f" Running: {document['ContainersRunning']}",
        f" Paused: {document['ContainersPaused']}",
        f" Stopped: {document['ContainersStopped']}",
        f"Images: {document['Images']}",
        f"Server Version: {document['ServerVersion']}",
        f"Storage Driver: {document['Driver']}",
        f"Logging Driver: {document['LoggingDriver']}",
        f"Cgroup Driver: {document['CgroupDriver']}",
        f"Cgroup Version: {document['CgroupVersion']}",
        f"Cgroups: {cgroup.layout} ({controllers})",
        "Plugins:",
        *(f" {kind}: {' '.join(names)}" for kind, names in document["Plugins"].items()),
        "Security Options:",
        " seccomp",
        "  Profile: builtin",
        f"Kernel Version: {document['KernelVersion']}",
        f"Operating System: {document['OperatingSystem']}",
        f"OSType: {document['OSType']}",
        f"Architecture: {document['Architecture']}",
        f"CPUs: {document['NCPU']}",
        f"Total Memory: {bytes_size(document['MemTotal'])}",
        f"Name: {document['Name']}",
        f"State Root: {engine.root}",
        f"Run Directory: {engine.run}",
    ]


def _show(state: State, document: dict[str, Any], format: str, *, name: str = "") -> int:
    """Print one document by a template. Gives the exit code."""
    from onggi.cli.template import TemplateError, parse_template

    try:
        template = parse_template("{{json .}}" if format == "json" else format, name)
    except TemplateError as error:
        state.caller.err(f"onggi: template parsing error: {error}\n")
        return WRONG_TEMPLATE
    try:
        text = template.execute(typed(document))
    except TemplateError as error:
        raise InvalidArgument(str(error)) from None
    state.caller.out(f"{text}\n")
    return 0
