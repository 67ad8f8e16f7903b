"""Lists of objects as `docker` prints them: tables, `-q`, `--format`, and Onggi's `--json`.

A command describes what it lists by a `Listing`; a column is computed only where it is shown. The
template language is imported only for a `--format` that needs it: `onggi ps` is asked for often.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

import click
import msgspec

from onggi.base.errors import InvalidArgument
from onggi.cli.render import json_document, tabulate

if TYPE_CHECKING:
    from onggi.cli.template import Template

T = TypeVar("T")
Value = str | Callable[[str], str]

FORMAT_HELP: Final = (
    "Print as 'table', 'table TEMPLATE', 'json' (a line for each) or by a Go template, such as '{{.ID}}'"
)


class Column(NamedTuple, Generic[T]):
    """A column: its header, and how an item shows in it: a text, or a function of templates, as `Label`."""

    header: str
    value: Callable[[T], Value]


class Listing(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """What is listed: `columns` by the names that templates use, and which of them the plain table shows.

    `quiet` names the column of `-q`; `raw` is the template that `--format raw` stands for, and `raw_quiet`
    the same with `-q`. `kind` says what an item is, in errors.
    """

    kind: str
    columns: Mapping[str, Column[T]]
    default: Sequence[str]
    items: Sequence[T]
    quiet: str = "ID"
    raw: str = ""
    raw_quiet: str = ""


def listing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--format` and `--json`: the arguments `format` and `as_json` of `render_listing`."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print one JSON array of all"),
        click.option("--format", "format", default="", metavar="FORMAT", help=FORMAT_HELP),
    ):
        command = option(command)
    return command


def render_listing(listing: Listing[Any], *, format: str = "", quiet: bool = False, as_json: bool = False) -> str:
    """Print a list. Raises InvalidArgument for a wrong template."""
    if as_json:
        if format or quiet:
            raise InvalidArgument("conflicting options: --json cannot be used with --format or --quiet")
        return json_document([_data(listing, item) for item in listing.items])
    if format in ("", "table"):
        if quiet:
            value = listing.columns[listing.quiet].value
            return "".join(f"{value(item)}\n" for item in listing.items)
        return _table(listing)
    if format == "raw" and listing.raw:
        format = listing.raw_quiet if quiet else listing.raw
    return _by_template(listing, format)


def _table(listing: Listing[Any]) -> str:
    columns = [listing.columns[name] for name in listing.default]
    rows = [[str(column.value(item)) for column in columns] for item in listing.items]
    return tabulate([[column.header for column in columns], *rows])


def _by_template(listing: Listing[Any], format: str) -> str:
    from onggi.cli.template import Map, Method, TemplateError

    text = "{{json .}}" if format == "json" else format.removeprefix("table") if _is_table(format) else format
    template = parse_format(_unescape(text.strip(" ")))
    try:
        lines = [template.execute(_row(listing, item, template)) + "\n" for item in listing.items]
    except TemplateError as error:
        raise InvalidArgument(f"template parsing error: {error}") from None
    if not _is_table(format):
        return "".join(lines)
    headers: dict[str, Any] = {name: column.header for name, column in listing.columns.items()}
    if "Label" in headers:
        headers["Label"] = Method(label_header, "string")
    header = template.execute_header(Map(headers))
    return tabulate([line.split("\t") for line in f"{header}\n{''.join(lines)}".split("\n")], ended=True)


def _is_table(format: str) -> bool:
    return format.startswith("table")


def _unescape(text: str) -> str:
    """Docker's client reads these two escapes everywhere in the formats of lists."""
    return text.replace("\\t", "\t").replace("\\n", "\n")


def _row(listing: Listing[Any], item: object, template: "Template") -> object:
    from onggi.cli.template import Method, Row

    found: dict[str, object] = {}
    for name, column in listing.columns.items():
        value = column.value(item) if template.names(name) else ""
        found[name] = Method(value, "string") if callable(value) else value
    return Row(found, listing.kind)


def _data(listing: Listing[Any], item: object) -> dict[str, str]:
    values = {name: listing.columns[name].value(item) for name in sorted(listing.columns)}
    return {name: value for name, value in values.items() if isinstance(value, str)}


def label_header(name: str) -> str:
    """Name a column by the last part of a label: `com.example.the-owner` is `the owner`."""
    return name.rpartition(".")[2].replace("-", " ").replace("_", " ")


def needs(format: str, field: str) -> bool:
    """Whether a `--format` names a field, or takes a whole item. Raises InvalidArgument for a wrong template."""
    if format in ("", "table", "json", "raw"):
        return False
    return parse_format(format).names(field)


def parse_format(text: str) -> "Template":
    """Read a template. Raises InvalidArgument with Docker's text."""
    from onggi.cli.template import TemplateError, parse_template

    try:
        return parse_template(text)
    except TemplateError as error:
        raise InvalidArgument(f"template parsing error: {error}") from None
