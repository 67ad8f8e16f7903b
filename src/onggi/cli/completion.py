"""Completion for bash, zsh and fish: the scripts, and the names of what is here."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

import click
from click.types import StringParamType

from onggi.base.errors import OnggiError
from onggi.cli.app import Command, Group, State, pass_state
from onggi.engine.assemble import Engine
from onggi.spec.reference import parse_reference

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem, ShellComplete

VARIABLE: Final = "_ONGGI_COMPLETE"
"""With it in the environment, `onggi` answers a shell's question (`bash_complete`) instead of running a command."""
SHELLS: Final = ("bash", "zsh", "fish")


def register(cli: Group) -> None:
    """Add `completion`."""
    cli.add_command(completion)


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(SHELLS))
@pass_state
@click.pass_context
def completion(ctx: click.Context, state: State, /, shell: str) -> int:
    """Print a script for a shell: `source <(onggi completion bash)`."""
    state.caller.out(_of(shell)(ctx.find_root().command, {}, "onggi", VARIABLE).source() + "\n")
    return 0


def answer(cli: Group, state: State, instruction: str) -> int:
    """Answer a shell that asks what could come next; its words are in its own variables."""
    shell, _, verb = instruction.partition("_")
    if shell not in SHELLS or verb != "complete":
        return 1
    state.caller.out(_of(shell)(cli, {"obj": state}, "onggi", VARIABLE).complete() + "\n")
    return 0


def _of(shell: str) -> "type[ShellComplete]":
    from click.shell_completion import get_completion_class

    known = get_completion_class(shell)
    assert known is not None
    return known


class _Name(StringParamType):
    """The name of something that the engine knows."""

    name = "text"

    def __init__(self, names: Callable[[Engine], Iterable[str]]) -> None:
        self._names = names

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
        """Give the names that begin so; none where the engine cannot be asked."""
        from click.shell_completion import CompletionItem

        state = ctx.find_object(State)
        assert state is not None
        state.root = ctx.find_root().params.get("root")
        try:
            names = sorted(set(self._names(state.engine)))
        except OnggiError:
            return []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _containers(engine: Engine) -> Iterable[str]:
    return (container.name or container.id for container in engine.containers.list(every=True))


def _images(engine: Engine) -> Iterable[str]:
    return (parse_reference(reference).familiar for image in engine.images.list() for reference in image.references)


def _volumes(engine: Engine) -> Iterable[str]:
    return (volume.name for volume in engine.volumes.list())


CONTAINER: Final = _Name(_containers)
IMAGE: Final = _Name(_images)
VOLUME: Final = _Name(_volumes)
