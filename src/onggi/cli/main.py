"""The command line: `onggi VERB …`."""

import gc
import os
import sys
from importlib import import_module
from typing import Final, NoReturn

import click

from onggi.cli.app import Group, State, run_command
from onggi.cli.caller import LocalCaller
from onggi.cli.warm import leave_warm
from onggi.engine.assemble import Engine

_MODULES: Final = (
    *("containers", "images", "volumes", "build", "bootstrap", "system"),
    *("pull", "push", "events", "disk_usage", "pruning", "completion", "registry_login", "manifest", "search"),
)
_QUICK: Final = {
    "build": "build.build",
    "create": "running.create",
    "exec": "running.exec_",
    "pull": "pull.pull",
    "push": "push.push",
    "run": "running.run",
    "start": "running.start",
}
"""Commands that are found without loading all others: what people start when no onggid runs, or it does not serve."""


class Program(Group):
    """The whole command line, loaded as far as it is needed."""

    def load(self) -> None:
        """Load every command."""
        if not self.commands:
            for name in _MODULES:
                import_module(f"onggi.cli.{name}").register(self)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Find a command."""
        if not self.commands and name in _QUICK:
            module, _, attribute = _QUICK[name].partition(".")
            found: click.Command = getattr(import_module(f"onggi.cli.{module}"), attribute)
            return found
        self.load()
        return super().get_command(ctx, name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List all names."""
        self.load()
        return super().list_commands(ctx)


@click.group(cls=Program, invoke_without_command=True)
@click.option("--root", default=None, metavar="DIR", help="State root (default /var/lib/onggi)")
@click.pass_context
def cli(ctx: click.Context, /, root: str | None) -> None:
    """Onggi builds images and runs containers."""
    state: State = ctx.obj
    state.root = root
    if ctx.invoked_subcommand is None:
        state.caller.out(ctx.get_help() + "\n")


def main() -> NoReturn:
    """Run the command line of this process."""
    # The stub's Python starts without a collector (launcher/stub.c): what was loaded so far stays to the end.
    gc.freeze()
    gc.enable()
    arguments = sys.argv[1:]
    warm = not os.environ.get("ONGGI_NO_DAEMON")
    # At the end, so that the two do not compete for the processor.
    caller = LocalCaller(leaving=lambda: leave_warm(arguments) if warm else None)
    if question := caller.env.get("_ONGGI_COMPLETE"):
        from onggi.cli.completion import answer

        leave(answer(cli, State(caller, Engine), question))
    code = run_command(cli, arguments, State(caller, Engine))
    caller.leaving()
    leave(code)


def leave(code: int | None) -> NoReturn:
    """End this process at once: taking a Python apart costs as long as starting one, and output is unbuffered."""
    os._exit(code or 0)
