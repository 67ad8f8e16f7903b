"""The container commands, and those that only act on containers: parse, ask the engine, render."""

from typing import Any

import click

from onggi.base.errors import InvalidArgument, NotFound
from onggi.cli.app import Command, Group, State, pass_state
from onggi.cli.completion import CONTAINER
from onggi.cli.copying import cp
from onggi.cli.images import commit, export
from onggi.cli.limits import LIMIT_OPTIONS, changed_limits
from onggi.cli.options import with_options
from onggi.cli.render import each
from onggi.cli.running import attach, create, exec_, run, start
from onggi.cli.showing import inspect, inspect_containers, logs, port, ps, stats, top
from onggi.engine.containers import parse_signal
from onggi.spec.container import ResourceRequest
from onggi.store.containers import Container


def register(cli: Group) -> None:
    """Add the container commands, and their management forms below `container`."""
    group = Group("container", help="Manage containers")
    for command in (run, create, start, stop, kill, restart, pause, unpause, wait, rm, ps, logs, exec_, attach, inspect,
                    stats, top, port, rename, diff, update, cp, commit, export):  # fmt: skip
        cli.add_command(command)
        group.add_command(command)
    group.add_command(inspect_containers, "inspect")
    group.add_command(ps, "ls")
    group.add_command(ps, "list")
    group.add_command(rm, "remove")
    cli.add_command(group)


@click.command(cls=Command)
@click.option("-s", "--signal", "name", default=None, help="Signal to send first")
@click.option("-t", "--timeout", "--time", type=int, default=None, help="Seconds until it is killed")
@click.argument("containers", type=CONTAINER, nargs=-1, required=True)
@pass_state
def stop(state: State, /, containers: tuple[str, ...], name: str | None, timeout: int | None) -> int:
    """Stop running containers."""
    number = parse_signal(name) if name else None
    return each(state, containers, lambda ref: state.engine.containers.stop(ref, timeout_s=timeout, number=number))


@click.command(cls=Command)
@click.option("-s", "--signal", "name", default="KILL", help="Signal to send")
@click.argument("containers", type=CONTAINER, nargs=-1, required=True)
@pass_state
def kill(state: State, /, containers: tuple[str, ...], name: str) -> int:
    """Send a signal to running containers."""
    number = parse_signal(name)
    return each(state, containers, lambda ref: state.engine.containers.kill(ref, number=number))


@click.command(cls=Command)
@click.option("-s", "--signal", "name", default=None, help="Signal to send first")
@click.option("-t", "--timeout", "--time", type=int, default=None, help="Seconds until it is killed")
@click.argument("containers", type=CONTAINER, nargs=-1, required=True)
@pass_state
def restart(state: State, /, containers: tuple[str, ...], name: str | None, timeout: int | None) -> int:
    """Stop containers and start them again."""
    number = parse_signal(name) if name else None
    engine, caller = state.engine, state.caller
    facts = caller.facts(engine.system.facts)

    def again(ref: str) -> Container:
        return engine.containers.restart(ref, timeout_s=timeout, number=number, spawn=caller.spawn, facts=facts)

    return each(state, containers, again)


@click.command(cls=Command)
@click.argument("containers", type=CONTAINER, nargs=-1, required=True)
@pass_state
def pause(state: State, /, containers: tuple[str, ...]) -> int:
    """Freeze all processes of containers."""
    return each(state, containers, state.engine.containers.pause)


@click.command(cls=Command)
@click.argument("containers", type=CONTAINER, nargs=-1, required=True)
@pass_state
def unpause(state: State, /, containers: tuple[str, ...]) -> int:
    """Let frozen containers go on."""
    return each(state, containers, state.engine.containers.unpause)


@click.command(cls=Command)
@click.argument("containers", type=CONTAINER, nargs=-1, required=True)
@pass_state
def wait(state: State, /, containers: tuple[str, ...]) -> int:
    """Wait until containers have ended, then print their exit codes."""
    state.caller.only_in_process()
    for ref in containers:
        state.caller.out(f"{state.engine.containers.wait(ref)}\n")
    return 0


@click.command(cls=Command)
@click.option("-f", "--force", is_flag=True, help="Kill it where it runs")
@click.option("-v", "--volumes", is_flag=True, help="Remove its anonymous volumes too")
@click.argument("containers", type=CONTAINER, nargs=-1, required=True)
@pass_state
def rm(state: State, /, containers: tuple[str, ...], force: bool, volumes: bool) -> int:
    """Remove containers."""

    def remove(ref: str) -> None:
        try:
            state.engine.containers.remove(ref, force=force, volumes=volumes)
        except NotFound:
            if not force:
                raise
            state.caller.err(f"Error response from daemon: No such container: {ref}\n")

    return each(state, containers, remove)


@click.command(cls=Command)
@click.argument("container", type=CONTAINER)
@click.argument("name")
@pass_state
def rename(state: State, /, container: str, name: str) -> int:
    """Give a container another name."""
    state.engine.containers.rename(container, name)
    return 0


@click.command(cls=Command)
@click.argument("container", type=CONTAINER)
@pass_state
def diff(state: State, /, container: str) -> int:
    """Show what a container has changed about its image: A added, C changed, D deleted."""
    state.caller.only_in_process()
    for kind, path in state.engine.containers.changes(container):
        state.caller.out_bytes(kind.encode() + b" " + path + b"\n")
    return 0


@click.command(cls=Command)
@with_options(LIMIT_OPTIONS)
@click.argument("containers", type=CONTAINER, nargs=-1, required=True)
@pass_state
def update(state: State, /, containers: tuple[str, ...], **options: Any) -> int:
    """Change the limits of containers, now or for their next start."""
    limits = changed_limits(options)
    if limits == ResourceRequest():
        raise InvalidArgument("you must provide one or more flags when using this command")

    def change(ref: str) -> None:
        for note in state.engine.containers.update(ref, limits):
            state.caller.err(f"WARNING: {note}\n")

    return each(state, containers, change)
