"""`.dockerignore` leaves out what moby's patternmatcher leaves out; wildcards match what Go's filepath.Match matches.

data/dockerfile/ignore.json: the paths, then per pattern list (as text, and as read) a digit for each path;
ignorefile.json: text and the patterns read; glob.json: the names, then pattern and digits. Recorded from patternmatcher
0.6 and Go 1.26.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onggi.base.errors import InvalidArgument
from onggi.build.ignore import Ignore, clean, parse_ignore, read_patterns
from onggi.build.match import has_wildcard, match, match_component

DATA = Path(__file__).parent / "data/dockerfile"
PATHS, *FACTS = json.loads((DATA / "ignore.json").read_text())
FILES = json.loads((DATA / "ignorefile.json").read_text())
NAMES, *GLOBS = json.loads((DATA / "glob.json").read_text())


@pytest.mark.parametrize(("text", "patterns", "out"), FACTS, ids=[text for text, _, _ in FACTS])
def test_as_patternmatcher(text: str, patterns: list[str], out: str) -> None:
    assert read_patterns(text.encode()) == patterns
    ignore = parse_ignore(text.encode())
    found = {path: ignore.matches(path, is_directory=False) for path in PATHS}
    assert found == {path: digit == "1" for path, digit in zip(PATHS, out, strict=True)}


@pytest.mark.parametrize(("text", "patterns"), FILES)
def test_lines_are_read_as_by_ignorefile(text: str, patterns: list[str]) -> None:
    assert read_patterns(text.encode()) == patterns


@pytest.mark.parametrize(("pattern", "matches"), GLOBS, ids=[pattern for pattern, _ in GLOBS])
def test_as_filepath_match(pattern: str, matches: str) -> None:
    found = {name: match(pattern, name) for name in NAMES}
    assert found == {name: digit == "1" for name, digit in zip(NAMES, matches, strict=True)}


Tree = dict[str, Any]
TREE: Tree = {
    "dir": {"file": 0, "sub": {"file": 0, "deep": {"x.go": 0}}},
    "docs": {"README.md": 0, "api": {"a.md": 0}},
    "node_modules": {"a": {"b": 0}},
    "x.go": 0,
}


def walk(ignore: Ignore, tree: Tree, base: str = "") -> tuple[list[str], list[str]]:
    """Walk as a builder does: give what is there, and the directories entered."""
    kept: list[str] = []
    entered: list[str] = []
    for name, below in tree.items():
        path = f"{base}{name}"
        out = ignore.matches(path, is_directory=isinstance(below, dict))
        if not out:
            kept.append(path)
        if isinstance(below, dict) and (not out or ignore.may_have_more(path)):
            entered.append(path)
            more, deeper = walk(ignore, below, f"{path}/")
            kept += [path] if more and out else []
            kept, entered = kept + more, entered + deeper
    return kept, entered


@pytest.mark.parametrize(
    ("text", "kept", "entered"),
    [
        ("*", [], []),
        ("*\n!dir/sub/file", ["dir", "dir/sub", "dir/sub/file"], ["dir", "dir/sub"]),
        ("dir\ndocs\nx.go", ["node_modules", "node_modules/a", "node_modules/a/b"], ["node_modules", "node_modules/a"]),
        ("*\n!docs/", ["docs", "docs/README.md", "docs/api", "docs/api/a.md"], ["docs", "docs/api"]),
        ("*\n!docs/*", ["docs", "docs/README.md", "docs/api", "docs/api/a.md"], ["docs", "docs/api"]),
        ("*\n!dir\ndir/sub", ["dir", "dir/file"], ["dir"]),
    ],
)
def test_a_walk_enters_only_what_may_hold_something(text: str, kept: list[str], entered: list[str]) -> None:
    found, seen = walk(parse_ignore(text.encode()), TREE)
    assert (sorted(found), seen) == (sorted(kept), entered)


def test_an_exception_with_wildcards_may_be_anywhere() -> None:
    found, entered = walk(parse_ignore(b"*\n!**/x.go"), TREE)
    assert sorted(found) == ["dir", "dir/sub", "dir/sub/deep", "dir/sub/deep/x.go", "x.go"]
    assert "node_modules/a" in entered


def test_the_root_is_never_left_out() -> None:
    assert not parse_ignore(b"*\n**\n.").matches("", is_directory=True)


def test_a_file_without_patterns_leaves_out_nothing() -> None:
    assert not parse_ignore(b"# only a comment\n\n").matches("a", is_directory=False)


@pytest.mark.parametrize("text", [b"[", b"a[b", b"[]a]", b"a\\", b"!", b"x\n!\n", b"[b-]"])
def test_a_malformed_pattern_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidArgument, match="pattern"):
        parse_ignore(text)


def test_exclude_patterns_are_taken_as_they_are() -> None:
    """`--exclude` is no ignore file: `#` begins no comment, and a leading slash matches nothing."""
    ignore = Ignore(("#a", "/b", " c "))
    assert [ignore.matches(path, is_directory=False) for path in ("#a", "b", "c")] == [True, False, True]


NAME = st.text("ab.", min_size=1, max_size=2)
PATH = (
    st.lists(NAME, min_size=1, max_size=4).map("/".join).filter(lambda path: clean(path) == path and ".." not in path)
)
PATTERN = st.text("ab./*?!", min_size=1, max_size=8).filter(lambda text: text.strip("!./") != "")


@given(st.lists(PATTERN, max_size=4), PATH)
def test_a_walk_misses_nothing(patterns: list[str], path: str) -> None:
    """Whatever `matches` lets in, each directory above it is let in too or entered."""
    try:
        ignore = Ignore(patterns)
    except InvalidArgument:
        return
    if ignore.matches(path, is_directory=False):
        return
    parts = path.split("/")
    for end in range(1, len(parts)):
        above = "/".join(parts[:end])
        assert not ignore.matches(above, is_directory=True) or ignore.may_have_more(above)


@given(st.lists(PATTERN.filter(lambda text: not clean(text).startswith("!")), max_size=4), PATH)
def test_without_exceptions_what_is_below_is_out_too(patterns: list[str], path: str) -> None:
    ignore = Ignore(patterns)
    if ignore.matches(path, is_directory=True):
        assert ignore.matches(f"{path}/x", is_directory=False)
        assert not ignore.may_have_more(path)


@given(st.binary(max_size=60), st.text(max_size=10))
def test_any_file_is_read_or_explained(data: bytes, path: str) -> None:
    try:
        parse_ignore(data).matches(path, is_directory=False)
    except InvalidArgument as error:
        problem = str(error)
    else:
        problem = "no pattern is malformed"
    assert "pattern" in problem


@given(st.text("ab*?[]^-\\/", max_size=10), st.text("ab-]/", max_size=8))
def test_any_glob_is_answered(pattern: str, name: str) -> None:
    assert match(pattern, name) in (True, False)


@pytest.mark.parametrize(
    ("text", "wild"), [("a", False), ("a*", True), ("a\\*", False), ("[a]", True), ("a?", True), ("\\\\*", True)]
)
def test_wildcards_are_known(text: str, wild: bool) -> None:
    assert has_wildcard(text) is wild


def test_two_stars_are_one() -> None:
    assert match_component("**", "abc")
    assert not match("**", "a/b")


@given(st.text("ab./", max_size=12))
def test_cleaning_twice_changes_nothing(path: str) -> None:
    assert clean(clean(path)) == clean(path)
