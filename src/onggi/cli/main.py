"""The command line: `onggi VERB …`."""

import sys
from typing import NoReturn

import click

from onggi.cli import bootstrap, build, completion, containers, images, system, volumes
from onggi.cli.app import Group, State, run_command
from onggi.cli.caller import LocalCaller
from onggi.cli.warm import leave_warm
from onggi.engine.assemble import Engine


@click.group(cls=Group, invoke_without_command=True)
@click.option("--root", default=None, metavar="DIR", help="State root (default /var/lib/onggi)")
@click.pass_context
def cli(ctx: click.Context, /, root: str | None) -> None:
    """Onggi builds images and runs containers."""
    state: State = ctx.obj
    state.root = root
    if ctx.invoked_subcommand is None:
        state.caller.out(ctx.get_help() + "\n")


containers.register(cli)
images.register(cli)
volumes.register(cli)
build.register(cli)
bootstrap.register(cli)
system.register(cli)
completion.register(cli)


def main() -> NoReturn:
    """Run the command line of this process."""
    arguments = sys.argv[1:]
    caller = LocalCaller()
    if question := caller.env.get(completion.VARIABLE):
        sys.exit(completion.answer(cli, State(caller, Engine), question))
    if not caller.env.get("ONGGI_NO_DAEMON"):
        leave_warm(arguments)
    code = run_command(cli, arguments, State(caller, Engine))
    sys.exit(code)
