"""Commands as click sees them, without a process of their own: output, help and errors go to the caller."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeGuard

import click

from onggi.base.errors import NotSupported, OnggiError
from onggi.cli.caller import Caller, Finished
from onggi.cli.exits import USAGE, exit_code
from onggi.cli.refused import COMMANDS, refused_names, refused_options

if TYPE_CHECKING:
    from onggi.engine.assemble import Engine

RUNNING: Final = frozenset({"run", "start", "exec", "create"})
"""Verbs whose own failures are 125, since other codes are the container's."""


_BOOLEANS: Final = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}


class State:
    """What a command has: the caller, and the engine once it is needed."""

    def __init__(self, caller: Caller, open_engine: "Callable[[str | None], Engine]") -> None:
        """Keep both."""
        self.caller = caller
        self.root: str | None = None
        self._open = open_engine
        self._engine: Engine | None = None

    @property
    def engine(self) -> "Engine":
        """The engine over the state root that was asked for."""
        if self._engine is None:
            self._engine = self._open(self.root)
        return self._engine


pass_state: Final = click.make_pass_decorator(State)


class Command(click.Command):
    """A command whose help goes to the caller, and which knows the flags that it does not have.

    Its switches also take a value, as `--human=false`.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; only with a flag that is not there those of refused.py are looked at."""
        if self.allow_interspersed_args and not self.ignore_unknown_options:
            # Otherwise what follows the first argument belongs to a container.
            flags = {name: param for param in self.params if _is_switch(param) for name in param.opts}
            end = args.index("--") if "--" in args else len(args)
            args = [word for arg in args[:end] for word in _switched(arg, flags)] + args[end:]
        words = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            options = refused_options(self.name or "", error.option_name)
            if not options:
                raise
            known = click.Command(self.name, params=[*self.params, *options], context_settings=self.context_settings)
            return known.parse_args(ctx, words)

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
            if name in COMMANDS:
                raise NotSupported(f"{name}: {COMMANDS[name]}")
            import difflib

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
    running = is_running(arguments)
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
        from onggi.cli.progress import printable

        state.caller.err(f"onggi: {printable(str(error))}\n")
        return exit_code(error, running=running)
    return result if isinstance(result, int) else 0


def is_running(arguments: list[str]) -> bool:
    """Tell whether a command line is one of RUNNING, or its management form."""
    words = iter(arguments)
    for word in words:
        if word == "--root":
            next(words, None)
        elif word != "container" and not word.startswith("--root="):
            return word in RUNNING
    return False


def _usage(error: click.UsageError) -> str:
    """Say a wrong flag as Docker does."""
    if isinstance(error, click.NoSuchOption):
        kind = "flag" if error.option_name.startswith("--") else "shorthand flag"
        return f"unknown {kind}: {error.option_name}{_near(error)}"
    message = error.format_message()
    if isinstance(error, click.BadOptionUsage) and message.endswith("requires an argument."):
        return f"flag needs an argument: {error.option_name}"
    return message[:1].lower() + message[1:] if message[1:2].islower() else message


def _near(error: click.NoSuchOption) -> str:
    if error.ctx is None or not error.option_name.startswith("--"):
        return ""
    command = error.ctx.command
    names = [name for option in command.params for name in option.opts if isinstance(option, click.Option)]
    known = {name.lstrip("-"): name for name in (*names, *refused_names(command.name or "")) if name.startswith("--")}
    import difflib

    near = difflib.get_close_matches(error.option_name.lstrip("-"), known, n=1, cutoff=0.75)
    return f"; did you mean {known[near[0]]}?" if near else ""
