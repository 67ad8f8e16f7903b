"""The commands about the whole: `system`, `images`, `plan`, `version`, `info`."""

import os

import click
import msgspec

from onggi.base.errors import InvalidArgument, NotFound
from onggi.cli.about import info, version
from onggi.cli.app import Command, Group, State, pass_state
from onggi.host.probe import probe_facts
from onggi.plan.container import Supervision, plan_container
from onggi.plan.explain import explain_plan
from onggi.plan.facts import Facts
from onggi.plan.rootfs import Directory
from onggi.spec.runtime import Linux, parse_spec


def register(cli: Group) -> None:
    """Add them."""
    group = Group("system", help="Manage Onggi itself")
    for command in (check, reset, info):
        group.add_command(command)
    cli.add_command(group)
    for command in (plan, version, info):
        cli.add_command(command)


@click.command(cls=Command)
@click.option(
    "--facts", "facts_file", default=None, metavar="FILE", help="Facts of another host, as `onggi info --facts` prints"
)
@click.argument("bundle", default=".")
@pass_state
def plan(state: State, /, bundle: str, facts_file: str | None) -> int:
    """Print what starting an OCI bundle would do, and do nothing. Needs no root."""
    directory = os.path.normpath(os.path.join(state.caller.cwd, bundle))
    data = _read(os.path.join(directory, "config.json"))
    facts = _read_facts(os.path.join(state.caller.cwd, facts_file)) if facts_file else probe_facts()
    spec = parse_spec(data)
    if spec.root is None:
        raise InvalidArgument(f"{directory}/config.json has no root")
    root = os.path.normpath(os.path.join(directory, spec.root.path))
    linux = spec.linux or Linux()
    if not linux.cgroups_path:
        spec = msgspec.structs.replace(spec, linux=msgspec.structs.replace(linux, cgroups_path="/onggi/<id>"))
    supervision = Supervision(run_directory="/run/onggi/containers/<id>")
    state.caller.out(explain_plan(plan_container(spec, Directory(path=root), supervision, facts, bundle=directory)))
    return 0


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read((16 << 20) + 1)
    except OSError as error:
        raise NotFound(f"{path}: {(error.strerror or '').lower()}") from None


def _read_facts(path: str) -> Facts:
    try:
        return msgspec.json.decode(_read(path), type=Facts)
    except msgspec.MsgspecError as error:
        raise InvalidArgument(f"{path} holds no facts: {error}") from None


@click.command(cls=Command)
@click.option("--repair", is_flag=True, help="Mend what can be mended")
@pass_state
def check(state: State, /, repair: bool) -> int:
    """List what is left over or does not fit together."""
    findings = state.engine.system.check(repair=repair)
    for finding in findings:
        word = "repaired: " if repair and finding.repairable else ""
        state.caller.out(f"{word}{finding.subject} {finding.problem}\n")
    return 1 if findings and not repair else 0


@click.command(cls=Command)
@click.option("-f", "--force", is_flag=True, help="Kill and remove running containers first")
@pass_state
def reset(state: State, /, force: bool) -> int:
    """Remove every container, image and volume of this state root."""
    engine = state.engine
    if force:
        for container in engine.containers.list():
            engine.containers.remove(container.id, force=True)
    engine.system.reset()
    return 0
