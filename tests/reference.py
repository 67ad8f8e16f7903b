"""The reference pages in docs/, written from the code they describe."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import msgspec

from onggi.cli.main import cli
from onggi.plan import ops
from tests.oci_fields import oci_table

DOCS: Final = Path(__file__).parent.parent / "docs"


def op_table() -> str:
    """Every kind of op with its fields, as Markdown."""
    lines = [
        "# Ops",
        "",
        "What a plan is made of: `src/onggi/plan/ops.py` as a table, written by `python -m tests.record_docs`.",
        "Paths with `at` are resolved beneath that descriptor; every op can `tolerate` some errno values.",
    ]
    for title, kinds in _sections():
        lines += ["", f"## {title}", "", "| op | what it does | fields |", "|---|---|---|"]
        lines += [f"| {kind.__name__} | {_cell(inspect.getdoc(kind) or '')} | {_fields(kind)} |" for kind in kinds]
    return "\n".join(lines) + "\n"


def _sections() -> Iterator[tuple[str, list[type[ops.Op]]]]:
    """Follow the headings of ops.py."""
    source = inspect.getsource(ops)
    places = {node.name: node.lineno for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
    lines = source.splitlines()
    headings = [number for number, line in enumerate(lines, 1) if line.startswith("# -- ")]
    for start, end in zip(headings, [*headings[1:], len(lines)], strict=True):
        found = (getattr(ops, name) for name, line in places.items() if start < line < end)
        yield (
            lines[start - 1].strip("# -").capitalize(),
            [kind for kind in found if issubclass(kind, ops.Op)],
        )


def _fields(kind: type[ops.Op]) -> str:
    own = [field for field in msgspec.structs.fields(kind) if field.name != "tolerate"]
    return ", ".join(f"`{field.name}`" if field.required else f"[`{field.name}`]" for field in own)


def command_reference() -> str:
    """Every command with its arguments and flags, as Markdown."""
    cli.load()
    lines = ["# Commands", "", "What `onggi COMMAND --help` says of each, written by `python -m tests.record_docs`."]
    names: dict[click.Command, list[str]] = {}
    for path, command in _commands(cli, "onggi"):
        names.setdefault(command, []).append(path)
    for command, (name, *others) in sorted(names.items(), key=lambda item: item[1][0]):
        context = click.Context(command, info_name=name)
        lines += ["", f"## {name}", "", f"    {name} {' '.join(command.collect_usage_pieces(context))}", ""]
        lines += [_cell(command.help), *([f"The same as `{'`, `'.join(others)}`."] if others else [])]
        options = (parameter for parameter in command.params if isinstance(parameter, click.Option))
        records = [record for option in options if (record := option.get_help_record(context))]
        if records:
            lines += ["", "| flag | meaning |", "|---|---|"]
            lines += [f"| `{_cell(flag)}` | {_cell(meaning)} |" for flag, meaning in records]
    return "\n".join(lines) + "\n"


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def _commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """Give each command by all its names, short ones first."""
    for name, command in group.commands.items():
        if not isinstance(command, click.Group) and not command.hidden:
            yield f"{path} {name}", command
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, f"{path} {name}")


PAGES: Final = {"ops.md": op_table, "commands.md": command_reference, "oci.md": oci_table}
