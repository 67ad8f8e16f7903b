"""Commands as click sees them, without a process of their own: output, help and errors go to the caller."""

import difflib
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeGuard

import click

from onggi.base.errors import OnggiError
from onggi.cli.caller import Caller, Finished
from onggi.cli.exits import USAGE, exit_code
from onggi.engine.assemble import Engine

RUNNING: Final = frozenset({"run", "start", "exec", "create"})
"""Verbs whose own failures are 125, since other codes are the container's."""


_BOOLEANS: Final = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}


class State:
    """What a command has: the caller, and the engine once it is needed."""

    def __init__(self, caller: Caller, open_engine: Callable[[str | None], Engine]) -> None:
        """Keep both."""
        self.caller = caller
        self.root: str | None = None
        self._open = open_engine
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """The engine over the state root that was asked for."""
        if self._engine is None:
            self._engine = self._open(self.root)
        return self._engine


pass_state: Final = click.make_pass_decorator(State)


class Command(click.Command):
    """A command whose help goes to the caller, and whose switches also take a value, as `--human=false`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments; what follows an argument of `run` belongs to the container."""
        if self.allow_interspersed_args and not self.ignore_unknown_options:
            flags = {name: param for param in self.params if _is_switch(param) for name in param.opts}
            end = args.index("--") if "--" in args else len(args)
            args = [word for arg in args[:end] for word in _switched(arg, flags)] + args[end:]
        return super().parse_args(ctx, args)

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """Give `--help`."""
        return _help_option()


def _is_switch(param: click.Parameter) -> TypeGuard[click.Option]:
    return isinstance(param, click.Option) and param.is_flag and not param.multiple


def _switched(word: str, flags: Mapping[str, click.Option]) -> list[str]:
    """Write `--flag=true` as click knows it."""
    name, equals, value = word.partition("=")
    if not equals or name not in flags or value.lower() not in _BOOLEANS:
        return [word]
    return [name] if _BOOLEANS[value.lower()] else flags[name].secondary_opts[:1]


class Group(click.Group):
    """A group of commands, which suggests names for wrong ones."""

    command_class = Command

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """Give `--help`."""
        return _help_option()

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; an unknown one is refused with Docker's text and the nearest name."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            near = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise click.UsageError(f"'{name}' is not an {ctx.command_path} command{hint}", ctx)
        return super().resolve_command(ctx, args)


def _help_option() -> click.Option:
    def show(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            ctx.find_root().obj.caller.out(ctx.get_help() + "\n")
            ctx.exit()

    return click.Option(
        ["--help"], is_flag=True, is_eager=True, expose_value=False, callback=show, help="Show this text"
    )


def run_command(cli: click.Group, arguments: list[str], state: State) -> int | None:
    """Run one command line; gives the exit code, None when the user's process goes on without us."""
    running = any(word in RUNNING for word in arguments[:3])
    try:
        result: Any = cli.main(args=arguments, prog_name="onggi", standalone_mode=False, obj=state)
    except Finished:
        return None
    except click.UsageError as error:
        state.caller.err(f"onggi: {_usage(error)}\n")
        path = error.ctx.command_path if error.ctx else "onggi"
        state.caller.err(f"See '{path} --help'.\n")
        return USAGE
    except click.ClickException as error:
        state.caller.err(f"onggi: {error.format_message()}\n")
        return USAGE
    except click.Abort:
        return 130
    except OnggiError as error:
        state.caller.err(f"onggi: {error}\n")
        return exit_code(error, running=running)
    return result if isinstance(result, int) else 0


def _usage(error: click.UsageError) -> str:
    """Say a wrong flag as Docker does."""
    if isinstance(error, click.NoSuchOption):
        near = f"; did you mean {error.possibilities[0]}?" if error.possibilities else ""
        kind = "flag" if error.option_name.startswith("--") else "shorthand flag"
        return f"unknown {kind}: {error.option_name}{near}"
    message = error.format_message()
    return message[:1].lower() + message[1:] if message[1:2].islower() else message
