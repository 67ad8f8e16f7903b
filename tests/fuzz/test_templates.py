"""Templates from strangers: whatever is written, there is an output or an error with Go's text, soon."""

from typing import Final

from hypothesis import example, given
from hypothesis import strategies as st

from onggi.cli.template import Map, Method, NilList, Object, Row, TemplateError, parse_template

WORDS: Final = (
    *("{{", "}}", "{{- ", " -}}", "(", ")", "|", ",", ":=", "=", " ", "\n", "text", "/*", "*/", "é"),
    *("if ", "else", "else if ", "end", "range ", "with ", "break", "continue", "define ", "template ", "block "),
    *("$", "$x", ".", ".A", ".B", ".B.C", ".L", ".M.k", ".N", ".nope", "nil", "true", '"x"', "`y`", "'c'"),
    *("0", "1", "-1", "1.5", "0x1f", "1e9", "99999999999999999999", '"%d %s|%v"', '"%*d"', '"%999999d"'),
    *("index ", "slice ", "len ", "print ", "printf ", "println ", "eq ", "ne ", "lt ", "le ", "gt ", "ge ", "and "),
    *("or ", "not ", "json ", "split ", "join ", "lower ", "upper ", "title ", "truncate ", "pad ", ".Label "),
)
DATA: Final = {
    "A": "a text with 옹기 and \udcff",
    "B": Object({"C": 3, "D": 1.5, "E": None}, {"N": None}),
    "L": ["a", "b"],
    "M": Map({"k": "v"}),
    "N": NilList(),
    "X": [1, None, {"y": True}],
}
ROW: Final = Row({"A": "1", "Label": Method(str.upper, "string")}, "row")
DEEP: Final = "{{define `x`}}" + "{{if 1}}" * 45 + "{{template `x`}}" + "{{end}}" * 45 + "{{end}}{{template `x`}}"
NESTED: Final = "{{if 1}}" * 24 + "{{" + "(print " * 24 + "1" + ")" * 24 + "}}" + "{{end}}" * 24


def execute(text: str) -> str:
    """Give the outputs, or the error."""
    try:
        template = parse_template(text)
        return template.execute(DATA) + template.execute(ROW) + template.execute_header(Map({"A": "A"}))
    except TemplateError as error:
        return str(error)


@given(st.lists(st.sampled_from(WORDS), max_size=30).map("".join))
@example(DEEP)
@example(NESTED)
def test_words(text: str) -> None:
    execute(text)


@given(st.lists(st.sampled_from(WORDS), max_size=8).map("".join))
def test_one_action(text: str) -> None:
    execute("{{" + text + "}}")


@given(st.text(st.characters(), max_size=40))
def test_any_text(text: str) -> None:
    execute(text)
    execute("{{" + text)


def test_depths() -> None:
    assert "exceeded maximum template depth" in execute(DEEP)
    assert execute(NESTED).startswith("1")
