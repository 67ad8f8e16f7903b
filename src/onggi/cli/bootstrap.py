"""`onggi image bootstrap`."""

import click

from onggi.base.errors import InvalidArgument
from onggi.cli.app import Command, Group, State, pass_state
from onggi.cli.progress import choose_progress
from onggi.host.http import Proxies


def register(cli: Group) -> None:
    """Add it below `image`."""
    image = cli.commands["image"]
    assert isinstance(image, Group)
    image.add_command(bootstrap)


@click.command(cls=Command)
@click.option("--mirror", default=None, metavar="URL", help="Mirror of the archive (default: the host's own)")
@click.option("-t", "--tag", default=None, metavar="NAME", help="Name of the image (default: as it is asked for)")
@click.option("--progress", default="auto", help="How to show progress: auto, tty, plain, json or quiet")
@click.option("-q", "--quiet", is_flag=True, help="Print only the image's id")
@click.argument("name")
@pass_state
def bootstrap(state: State, /, name: str, mirror: str | None, tag: str | None, progress: str, quiet: bool) -> int:
    """Make a base image without a registry: busybox, debian:SUITE, debian:SUITE-slim, ubuntu:SUITE."""
    caller = state.caller
    caller.only_in_process()
    if progress not in ("auto", "tty", "plain", "json", "quiet"):
        raise InvalidArgument(f"invalid progress mode {progress}: known are auto, tty, plain, json and quiet")
    shown = choose_progress("quiet" if quiet else progress, terminal=caller.terminal[2], write=caller.err)
    try:
        maker = state.engine.bootstrap(tell=shown.tell, proxies=Proxies.of(caller.env))
        image = maker.make(name, mirror=mirror, tag=tag)
    finally:
        shown.finish()
    caller.out(f"{image.id}\n")
    return 0
