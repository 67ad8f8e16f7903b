"""What flags of a command are made of."""

from collections.abc import Callable
from typing import Any

import click


def flag(*names: str, help: str) -> Callable[..., Any]:
    """Declare a flag without a value."""
    return click.option(*names, is_flag=True, help=help)


def single(*names: str, help: str, metavar: str = "TEXT", kind: Any = str) -> Callable[..., Any]:
    """Declare a flag with a value, None where it is not given."""
    return click.option(*names, type=kind, default=None, help=help, metavar=metavar)


def repeated(*names: str, help: str, metavar: str = "TEXT") -> Callable[..., Any]:
    """Declare a flag that may be given several times."""
    return click.option(*names, multiple=True, help=help, metavar=metavar)


def with_options(options: tuple[Callable[..., Any], ...]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a command with these options, in their order."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate
