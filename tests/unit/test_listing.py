"""Lists: tables, `-q`, `--format`, `--json`."""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Final, NamedTuple

import pytest

from onggi.base.errors import InvalidArgument
from onggi.cli.listing import Column, Listing, label_header, needs, render_listing
from onggi.cli.quoting import quote
from onggi.cli.render import command_text, display_width, ellipsis, go_time, table, tabulate


class Pot(NamedTuple):
    """What is listed here; its weight can be had once it is `fired`."""

    id: str
    name: str = ""
    glaze: str = ""
    fired: int = 0


COLUMNS: Final[Mapping[str, Column[Pot]]] = {
    "ID": Column("POT ID", lambda pot: pot.id),
    "Name": Column("NAME", lambda pot: pot.name),
    "Glaze": Column("GLAZE", lambda pot: pot.glaze),
    "Label": Column("", lambda pot: lambda key: pot.name if key == "com.x.the-owner" else ""),
    "Weight": Column("WEIGHT", lambda pot: str(1 // pot.fired)),
}
LISTING: Final = Listing(
    kind="pot",
    columns=COLUMNS,
    default=("ID", "Name", "Glaze"),
    items=[Pot("1", "a long name", fired=1), Pot("22", "옹기", "<red>", fired=1)],
    raw="id: {{.ID}}\\nname: {{.Name}}\\n",
    raw_quiet="id: {{.ID}}",
)
BRITTLE: Final = Listing(kind="pot", columns=COLUMNS, default=("ID",), items=[Pot("3")])


@pytest.mark.parametrize(
    ("format", "quiet", "expected"),
    [
        ("", False, "POT ID    NAME          GLAZE\n1         a long name   \n22        옹기          <red>\n"),
        ("table", False, "POT ID    NAME          GLAZE\n1         a long name   \n22        옹기          <red>\n"),
        ("", True, "1\n22\n"),
        ("table", True, "1\n22\n"),
        ("{{.ID}}: {{.Name}}", False, "1: a long name\n22: 옹기\n"),
        ("{{.ID}}", True, "1\n22\n"),
        (r"{{.ID}}\t{{.Name}}\n-", False, "1\ta long name\n-\n22\t옹기\n-\n"),
        (r"table {{.ID}}\t{{upper .Name}}", False, "POT ID    NAME\n1         A LONG NAME\n22        옹기\n"),
        (r"table {{.Label \"com.x.the-owner\"}}".replace("\\", ""), False, "the owner\na long name\n옹기\n"),
        ("raw", False, "id: 1\nname: a long name\n\nid: 22\nname: 옹기\n\n"),
        ("raw", True, "id: 1\nid: 22\n"),
        ("json", False, '{"Glaze":"","ID":"1","Name":"a long name","Weight":"1"}\n'
                        '{"Glaze":"\\u003cred\\u003e","ID":"22","Name":"옹기","Weight":"1"}\n'),
    ],
)  # fmt: skip
def test_formats(format: str, quiet: bool, expected: str) -> None:
    assert render_listing(LISTING, format=format, quiet=quiet) == expected


def test_one_array_of_all() -> None:
    found = json.loads(render_listing(LISTING, as_json=True))
    assert [(pot["ID"], pot["Name"], pot["Glaze"]) for pot in found] == [
        ("1", "a long name", ""),
        ("22", "옹기", "<red>"),
    ]
    for options in ({"format": "x"}, {"quiet": True}):
        with pytest.raises(InvalidArgument, match="--json cannot be used"):
            render_listing(LISTING, as_json=True, **options)


def test_only_what_is_shown_is_computed() -> None:
    assert render_listing(BRITTLE) == "POT ID\n3\n"
    assert render_listing(BRITTLE, format="{{.ID}}") == "3\n"
    for format in ("{{.Weight}}", "{{json .}}", "json"):
        with pytest.raises(ZeroDivisionError):
            render_listing(BRITTLE, format=format)


@pytest.mark.parametrize(
    ("format", "problem"),
    [
        ("{{.ID", "template parsing error: template: :1: unclosed action"),
        ("{{nope}}", 'template parsing error: template: :1: function "nope" not defined'),
        (
            "{{.Nope}}",
            'template parsing error: template: :1:2: executing "" at <.Nope>: can\'t evaluate field Nope in type pot',
        ),
        ("table {{.Nope}}", "can't evaluate field Nope in type pot"),
    ],
)
def test_wrong_templates(format: str, problem: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        render_listing(LISTING, format=format)
    assert problem in str(caught.value)


def test_what_a_format_needs() -> None:
    assert needs("table {{.Size}}", "Size")
    assert needs("{{json .}}", "Size")
    for format in ("", "table", "json", "raw", "{{.ID}}"):
        assert not needs(format, "Size")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([["a", "b", "c"], ["aaaaaaaaaaaa", "", "c"]], "a              b         c\naaaaaaaaaaaa             c\n"),
        ([["a", "b"], ["text"], ["aaaaaaaaaaaa", "b"]], "a         b\ntext\naaaaaaaaaaaa   b\n"),
        (
            [["x", "y", "z"], ["xx", "yyyyyyyyyyy"], ["x", "y", "z"]],
            "x         y         z\nxx        yyyyyyyyyyy\nx         y         z\n",
        ),
        ([], "\n"),
    ],
)
def test_columns_as_tabwriter(lines: list[list[str]], expected: str) -> None:
    assert tabulate(lines) == expected


def test_wider_columns() -> None:
    assert table(("PID", "CMD"), [("1", "sh")], minimum=20) == f"PID{' ' * 17}CMD\n1{' ' * 19}sh\n"


def test_width_and_ellipsis() -> None:
    assert [display_width(text) for text in ("", "abc", "옹기", "e\u0301", "é")] == [0, 3, 4, 1, 1]
    assert [ellipsis(text, 5) for text in ("abcde", "abcdef", "옹기옹기", "옹기옹")] == [
        "abcde",
        "abcd…",
        "옹기…",
        "옹기…",
    ]


def test_headers_of_labels() -> None:
    assert [label_header(name) for name in ("com.example.the-owner", "a_b", "x.")] == ["the owner", "a b", ""]


def test_commands_on_one_line() -> None:
    assert command_text(["sh", "-c", "sleep 1", "x"]) == "sh -c 'sleep 1' x"
    assert quote(command_text(["a b", 'say "hi"'])) == r'''"a b 'say \"hi\"'"'''


def test_times_in_the_callers_zone() -> None:
    at = 1714557600 * 10**9 + 5
    assert go_time(at, {"TZ": "UTC"}) == "2024-05-01 10:00:00 +0000 UTC"
    assert go_time(at, {"TZ": "Europe/Berlin"}) == "2024-05-01 12:00:00 +0200 CEST"
    assert go_time(at, {"TZ": "nowhere/at all"}) == "2024-05-01 10:00:00 +0000 UTC"


def test_the_template_language_is_imported_only_when_asked_for() -> None:
    code = (
        "import sys, onggi.cli.showing, onggi.cli.image_showing, tests.unit.test_listing as test; "
        "test.render_listing(test.LISTING); test.render_listing(test.LISTING, quiet=True); "
        "print('onggi.cli.template' in sys.modules); "
        "test.render_listing(test.LISTING, format='json'); print('onggi.cli.template' in sys.modules)"
    )
    path = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=path)
    assert done.stdout.split() == ["False", "True"]
