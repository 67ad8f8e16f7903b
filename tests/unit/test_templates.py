"""Templates of `--format`: what Go's text/template with the functions of Docker's client does (record_templates.py)."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from onggi.cli.template import Map, Method, NilList, Row, TemplateError, parse_template
from onggi.cli.template.evaluate import MAX_DEPTH, MAX_STEPS

DATA: Final = Path(__file__).parent / "data" / "templates"
CASES: Final = json.loads((DATA / "cases.json").read_text())
FACTS: Final = json.loads((DATA / "facts.json").read_text())


def as_maps(value: Any) -> Any:
    """Let every object be a Go map."""
    if isinstance(value, dict):
        items = {key: as_maps(item) for key, item in value.items()}
        return Map(items, "" if all(isinstance(item, str) for item in items.values()) else None)
    return value


def in_order(value: Any) -> Any:
    """Sort the names of every object, as Go's maps are."""
    if isinstance(value, dict):
        return {key: in_order(value[key]) for key in sorted(value)}
    return [in_order(item) for item in value] if isinstance(value, list) else value


def outcome(template: str, data: Any) -> tuple[str, str]:
    """Give the output and the error."""
    try:
        return parse_template(template).execute(data), ""
    except TemplateError as error:
        return "", str(error)


@pytest.mark.parametrize("fact", FACTS["objects"], ids=lambda fact: fact["template"])
def test_as_go(fact: dict[str, str]) -> None:
    assert outcome(fact["template"], in_order(CASES["objects"]["data"])) == (fact["output"], fact["error"])


@pytest.mark.parametrize("fact", FACTS["maps"], ids=lambda fact: fact["template"])
def test_as_go_with_maps(fact: dict[str, str]) -> None:
    assert outcome(fact["template"], as_maps(CASES["maps"]["data"])) == (fact["output"], fact["error"])


ROW: Final = Row({"ID": "1", "Name": "<a>", "Label": Method({"k": "v"}.get, "string")}, "container")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ('{{.Name}} {{.Label "k"}}', "<a> v"),
        ('{{"k" | .Label}}', "v"),
        ("{{json .}}", '{"ID":"1","Name":"\\u003ca\\u003e"}'),
        ("{{if .}}there{{end}}", "there"),
        ("{{.Label}}", 'template: :1:2: executing "" at <.Label>: wrong number of args for Label: want 1 got 0'),
        ("{{.Label 1}}", 'template: :1:9: executing "" at <1>: expected string; found 1'),
        ("{{.Nane}}", 'template: :1:2: executing "" at <.Nane>: can\'t evaluate field Nane in type container'),
        ("{{range .}}{{end}}", 'template: :1:8: executing "" at <.>: range can\'t iterate over'),
        ('{{index . "ID"}}', 'template: :1:2: executing "" at <index . "ID">: error calling index: can\'t index item'),
    ],
)
def test_rows_have_methods_and_no_other_names(template: str, expected: str) -> None:
    output, error = outcome(template, ROW)
    assert (output or error).startswith(expected)


def test_a_slice_that_was_never_made() -> None:
    data = {"Cap": NilList()}
    assert outcome("{{.Cap}} {{json .Cap}} {{len .Cap}} {{eq .Cap nil}} {{range .Cap}}{{else}}none{{end}}", data) == (
        "[] null 0 true none",
        "",
    )


def test_names_of_fields() -> None:
    for text in (
        "{{.Size}}",
        "{{json .}}",
        "{{with $}}{{end}}",
        "{{range .X}}{{$.Size}}{{end}}",
        "{{if true}}{{len .Size}}{{end}}",
    ):
        assert parse_template(text).names("Size"), text
    for text in ("{{.ID}}", "Size", "{{$x := .ID}}{{$x}}", "json"):
        assert not parse_template(text).names("Size"), text


def test_other_names_of_fields() -> None:
    assert parse_template("{{.ID}} {{.Id}}").execute({"Id": "1"}, aliases={"ID": "Id"}) == "1 1"


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{{" + "(" * 1000 + "1" + ")" * 1000 + "}}", "max expression depth exceeded"),
        ("{{if 1}}" * 1000 + "{{end}}" * 1000, "max expression depth exceeded"),
        ("{{if 0}}" + "{{else if 0}}" * 1000 + "{{end}}", "max expression depth exceeded"),
        ('{{define "x"}}{{template "x"}}{{end}}{{template "x"}}', f"exceeded maximum template depth ({MAX_DEPTH})"),
        ("{{range 1000}}{{range 1000}}{{range 1000}}{{end}}{{end}}{{end}}", f"more than {MAX_STEPS} steps"),
        ("{{range 9223372036854775807}}{{end}}", f"more than {MAX_STEPS} steps"),
        ('{{$x := "aa"}}{{range 100}}{{$x = print $x $x}}{{end}}', "characters"),
        ('{{$x := "aa"}}{{range 100}}{{$x = println $x $x}}{{end}}', "characters"),
        ('{{$x := "aa"}}{{range 100}}{{$x = printf "%s%s" $x $x}}{{end}}', "characters"),
        ('{{pad "x" 1000000000 1}}', "characters"),
        ('{{printf "' + "%1000000d" * 10 + '" 1 2 3 4 5 6 7 8 9 10}}', "characters"),
        ('{{$s := pad "x" 100000 0}}{{join (split $s "") $s}}', "characters"),
        ('{{$s := pad "x" 1000000 0}}{{range 100}}{{$s}}{{end}}', "characters of output"),
        ('{{printf "%99999999999999999999d" 1}}', "%!(NOVERB)"),
    ],
    ids=range(14),
)
def test_hostile_templates_end(template: str, problem: str) -> None:
    output, error = outcome(template, {})
    assert problem in output[:100] + error


@pytest.mark.parametrize("name", ["__class__", "__init__", "items", "keys", "function"])
def test_nothing_of_python_can_be_reached(name: str) -> None:
    plain: dict[str, dict[str, str]] = {"a": {}}
    for data in (plain, ROW):
        for path in (f".{name}", f".a.{name}"):
            output, error = outcome(f"{{{{{path}}}}}", data)
            assert (output, bool(error)) == ("", True)


def test_the_header_of_a_table_stays_whole() -> None:
    headers = Map({"ID": "CONTAINER ID", "Label": Method(str.upper, "string")})
    template = parse_template(
        '{{.ID | lower | json}} {{truncate .ID 3}} {{join .ID ","}} {{.Label "x"}} {{pad .ID 1 1}}|{{.Other}}'
    )
    assert template.execute_header(headers) == "CONTAINER ID CONTAINER ID CONTAINER ID X  CONTAINER ID |<no value>"
    assert parse_template("{{.ID}} {{slice .ID 99}}").execute_header(headers) == "CONTAINER ID "
