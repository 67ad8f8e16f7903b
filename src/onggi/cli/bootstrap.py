"""`onggi image bootstrap`."""

import click

from onggi.cli.app import Command, Group, State

pass_state = click.make_pass_decorator(State)


def register(cli: Group) -> None:
    """Add it below `image`."""
    image = cli.commands["image"]
    assert isinstance(image, Group)
    image.add_command(bootstrap)


@click.command(cls=Command)
@click.option("--mirror", default=None, metavar="URL", help="Mirror of the archive (default: the host's own)")
@click.option("-t", "--tag", default=None, help="Name of the image (default: NAME)")
@click.option("-q", "--quiet", is_flag=True, help="Print only the image's id")
@click.argument("name")
@pass_state
def bootstrap(state: State, /, name: str, mirror: str | None, tag: str | None, quiet: bool) -> int:
    """Make a base image without a registry: busybox, debian:SUITE, debian:SUITE-slim, ubuntu:SUITE."""
    caller = state.caller
    caller.only_in_process()
    proxies = {
        s: v for s in ("http", "https") if (v := caller.env.get(f"{s}_proxy") or caller.env.get(f"{s.upper()}_PROXY"))
    }
    tell = (lambda _line: None) if quiet else (lambda line: caller.err(f"{line}\n"))
    image = state.engine.bootstrap(proxies=proxies, tell=tell).make(name, mirror=mirror, tag=tag)
    caller.out(f"{image.id}\n")
    return 0
