"""`--filter NAME=VALUE` of the commands that list (moby's api/types/filters).

Values of one name are alternatives, except for labels, which must all be there; names narrow each other.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any

import click

from onggi.base.errors import InvalidArgument


class Filters:
    """The filters of one command line."""

    def __init__(self, fields: Mapping[str, tuple[str, ...]]) -> None:
        """Hold the values by name."""
        self._fields = fields

    def __contains__(self, name: str) -> bool:
        """Whether a filter of this name was given."""
        return name in self._fields

    def names(self) -> tuple[str, ...]:
        """Give the names of the filters that were given."""
        return tuple(self._fields)

    def values(self, name: str) -> tuple[str, ...]:
        """Give the values of a filter in the order in which they were given; none without it."""
        return self._fields.get(name, ())

    def flag(self, name: str) -> bool | None:
        """Read a filter that is true or false; None without it. Raises InvalidArgument."""
        if name not in self:
            return None
        values = self.values(name)
        is_false, is_true = ("0" in values or "false" in values), ("1" in values or "true" in values)
        if is_false == is_true:
            raise InvalidArgument(f"invalid filter '{name}=[{' '.join(values)}]'")
        return is_true

    def admits_exactly(self, name: str, *texts: str) -> bool:
        """Whether one of the texts is a value of the filter; True without it."""
        return name not in self or any(text in self.values(name) for text in texts)

    def admits(self, name: str, *texts: str) -> bool:
        """Whether one of the texts has a part that a value, a regular expression, matches; True without it."""
        if self.admits_exactly(name, *texts):
            return True
        return any(_matches(value, text) for value in self.values(name) for text in texts)

    def admits_labels(self, labels: Mapping[str, str], name: str = "label") -> bool:
        """Whether all labels that were asked for are there, with the value where one was given."""
        for wanted in self.values(name):
            key, equals, value = wanted.partition("=")
            if key not in labels or (equals and labels[key] != value):
                return False
        return True


def _matches(pattern: str, text: str) -> bool:
    with suppress(re.error):
        return re.search(pattern, text) is not None
    return False


def parse_filters(texts: Iterable[str], known: Collection[str]) -> Filters:
    """Read the values of `--filter`. Raises InvalidArgument, with Docker's texts, for one that is not `known`."""
    fields: dict[str, tuple[str, ...]] = {}
    for text in texts:
        if not text:
            continue
        name, _, value = text.partition("=")
        name, value = name.strip().lower(), value.strip()
        if name not in known:
            raise InvalidArgument(f"invalid filter '{name}'")
        fields[name] = tuple(dict.fromkeys((*fields.get(name, ()), value)))
    return Filters(fields)


def filter_option(known: Collection[str]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command `--filter`: the argument `filters`, which `parse_filters` reads."""
    help = f"Show only what this is true of, NAME=VALUE; the names are {', '.join(sorted(known))}"
    return click.option("-f", "--filter", "filters", multiple=True, metavar="FILTER", help=help, callback=_check_form)


def _check_form(ctx: click.Context, _param: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:
    for text in texts:
        if text and "=" not in text:
            problem = "bad format of filter (expected name=value)"
            raise click.UsageError(f'invalid argument "{text}" for "-f, --filter" flag: {problem}', ctx)
    return texts
