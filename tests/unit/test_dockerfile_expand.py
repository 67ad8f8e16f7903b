"""Variables are expanded as BuildKit's shell lexer does it.

data/dockerfile/expand.json was recorded from BuildKit 0.25.1: word, escape character, error, text, words. (What it
splits into words after a `${…:-…}` is not recorded: it forgets the characters before that.)
"""

import json
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onggi.build.dockerfile import instructions as of
from onggi.build.dockerfile.expand import EXPANDED, ExpansionError, expand, expand_word, expand_words
from onggi.build.dockerfile.shell_pattern import parse_pattern, replace, trim_end, trim_start

ENV, *FACTS = json.loads((Path(__file__).parent / "data/dockerfile/expand.json").read_text())
SET = ENV["env"]


@pytest.mark.parametrize(("word", "escape", "error", "text", "words"), FACTS)
def test_as_buildkit(word: str, escape: str, error: str | None, text: str | None, words: list[str] | None) -> None:
    if error is not None:
        with pytest.raises(ExpansionError) as caught:
            expand(word, SET, escape=escape)
        assert str(caught.value) == error or ("invalid pattern" in error and "invalid pattern" in str(caught.value))
        return
    found = expand(word, SET, escape=escape)
    assert found.text == text
    if words is not None:
        assert list(found.words) == words


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ('"hi" $x', '"hi" X'),
        ("'$x'", "'X'"),
        ("\\$x", "$x"),
        ("a\\nb", "anb"),
        ("\\\\", "\\"),
        ("${x#?}", ""),
        ("it's", "it's"),
        ("\\\n", "\n"),
    ],
)
def test_here_documents_are_raw(word: str, text: str) -> None:
    """Quotes stay; the escape character is a backslash whatever the directive says, and goes."""
    assert expand_word(word, {"x": "X"}, escape="`", raw=True) == text


def test_nesting_has_an_end() -> None:
    assert expand_word("${x:-" * 50 + "a" + "}" * 50, {}) == "a"
    for word in ("${x:-" * 1000 + "}" * 1000, "${x:-" * 100_000, '"${x/' * 1000):
        with pytest.raises(ExpansionError, match="nested deeper than 64"):
            expand_word(word, {})


def test_words_are_split_after_expansion_but_not_in_quotes() -> None:
    env = {"x": "a b", "e": ""}
    assert expand_words("$x", env) == ("a", "b")
    assert expand_words('"$x" c\\ d', env) == ("a b", "c d")
    assert expand_words("$e '' \"\"", env) == ()


def test_what_was_looked_up_is_told() -> None:
    found = expand("$a ${b:-$c} '$d' \\$e", {"a": "1", "c": "3"})
    assert found.matched == {"a", "c"}
    assert found.unmatched == {"b"}


def test_the_table_has_every_instruction_and_only_fields_that_exist() -> None:
    assert set(EXPANDED) == set(of.Instruction.__subclasses__())
    assert all(fields <= set(kind.__struct_fields__) for kind, fields in EXPANDED.items())
    assert not EXPANDED[of.Cmd] | EXPANDED[of.Entrypoint] | EXPANDED[of.HealthcheckInstruction]
    assert EXPANDED[of.Run] == {"mounts"}


PLAIN = st.text(string.ascii_letters + string.digits + " ./=:-+한", max_size=30)


@given(st.lists(st.tuples(PLAIN, st.sampled_from(("a", "b", "unset"))), max_size=4), PLAIN, PLAIN)
def test_plain_words_against_a_reference(parts: list[tuple[str, str]], a: str, b: str) -> None:
    """Without quotes and modifiers it is what string.Template does, empty where unset."""
    word = "".join(f"{text}${{{name}}}" for text, name in parts)
    expected = string.Template(word).substitute(a=a, b=b, unset="")
    assert expand_word(word, {"a": a, "b": b}) == expected


@given(st.text(max_size=40).filter(lambda text: "'" not in text and not text.startswith("\ufeff")))
def test_single_quotes_keep_everything(text: str) -> None:
    assert expand_word(f"'{text}'", {}) == text


@given(st.text(max_size=40).filter(lambda text: not text.startswith("\ufeff")), st.sampled_from("\\`"))
def test_everything_escaped_is_itself(text: str, escape: str) -> None:
    word = "".join(f"{escape}{char}" for char in text)
    assert expand_word(word, {}, escape=escape) == text


@given(st.text("ab*?", max_size=6), st.text("ab", max_size=12))
def test_trimming_against_regular_expressions(pattern: str, value: str) -> None:
    import re

    def regex(star: str) -> str:
        return "".join({"*": star, "?": "."}.get(char, char) for char in pattern)

    for longest, star in ((False, ".*?"), (True, ".*")):
        ends = [end for end in range(len(value) + 1) if re.fullmatch(regex(star), value[:end])]
        starts = [at for at in range(len(value) + 1) if re.fullmatch(regex(star), value[at:])]
        expected = value[(max if longest else min)(ends) :] if ends else value
        assert trim_start(pattern, value, longest=longest) == expected
        expected = value[: (min if longest else max)(starts)] if starts else value
        assert trim_end(pattern, value, longest=longest) == expected


@given(st.text("ab*?", max_size=4), st.text("ab", max_size=10), st.booleans())
def test_replacing_against_regular_expressions(pattern: str, value: str, everywhere: bool) -> None:
    import re

    regex = "".join({"*": ".*", "?": "."}.get(char, char) for char in pattern)
    found = replace(parse_pattern(pattern), "<x>", value, everywhere=everywhere)
    if everywhere and re.fullmatch(regex, ""):  # Python and Go differ on empty matches after others
        assert "<x>" in found
    else:
        assert found == re.sub(regex, "<x>", value, count=0 if everywhere else 1)


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    value = "a" * 2000
    assert trim_start("*a" * 50 + "b", value, longest=True) == value


def test_replacing_takes_no_more_than_the_product_of_pattern_and_value() -> None:
    value = "a" * 50_000
    assert replace(parse_pattern("a*b"), "x", value, everywhere=True) == value
    assert replace(parse_pattern("*b"), "x", value, everywhere=False) == value


@pytest.mark.parametrize("word", ["$A$A", "${A:-x}$A", '"$A$A"', "${A//a/$A}", "${A//*/\\$0\\$0\\$0}", "${A//a/bcd}"])
def test_what_variables_bring_in_has_a_bound(word: str) -> None:
    value = "a" * 600_000
    with pytest.raises(ExpansionError, match="variables bring in more than 1048576 characters"):
        expand_word(word, {"A": value})
    assert expand_word("$A " + "x" * 600_000, {"A": value}) == f"{value} {'x' * 600_000}"


def test_doubling_ends_soon() -> None:
    value = "0123456789 abcde"
    while len(value) < 1 << 20:
        value = expand("$A$A", {"A": value}).text
    with pytest.raises(ExpansionError, match="variables bring in more than"):
        expand("$A$A", {"A": value})


@given(st.text("$x{}:-+?#%/\\`'\" ab*", max_size=24), st.sampled_from("\\`"), st.booleans())
def test_any_word_is_text_or_an_error(word: str, escape: str, raw: bool) -> None:
    try:
        found = expand(word, {"x": "a b"}, escape=escape, raw=raw)
    except ExpansionError as error:
        problem = str(error)
    else:
        assert all(found.words)
        assert len("".join(found.words)) <= len(found.text)
        return
    assert problem.startswith("failed to process ")
