"""Versions: dpkg's order, tried on what deb-version(7) says and against another way to compute it."""

import re
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onggi.base.errors import Corrupt
from onggi.bootstrap.versions import MAX_VERSION_CHARS, check_version, compare_versions, satisfies

VERSIONS: Final = st.from_regex(r"(?:[0-9]{1,3}:)?[0-9a-zA-Z.+~]{1,8}(?:-[0-9a-zA-Z.+~-]{0,5})?", fullmatch=True)


@pytest.mark.parametrize(
    ("smaller", "larger"),
    [
        ("1.0", "1.1"),
        ("1.0~rc1", "1.0"),
        ("1.0-1", "1.0-1+deb12u1"),
        ("1.0-1~bpo1", "1.0-1"),
        ("9", "10"),
        ("1.09", "1.10"),
        ("2.0", "1:0.1"),
        ("1.0a", "1.0b"),
        ("1.0", "1.0a"),
        ("1.0a", "1.0+"),
        ("1-2-9", "1-2-10"),
        ("0~~", "0~"),
        ("1.0Z", "1.0a"),
        ("1:9", "10:0"),
        ("1-", "1-1"),
    ],
)
def test_versions_are_ordered_as_dpkg_orders_them(smaller: str, larger: str) -> None:
    assert compare_versions(smaller, larger) < 0 < compare_versions(larger, smaller)


@pytest.mark.parametrize(
    ("one", "other"), [("1.01", "1.1"), ("0:1", "1"), ("1", "1-0"), ("1.0-", "1.0"), ("1a", "1a0")]
)
def test_some_versions_are_the_same(one: str, other: str) -> None:
    assert compare_versions(one, other) == 0


def reference_key(version: str) -> Any:
    """Map a version to a tuple that Python orders as Policy 5.6.12 does."""
    epoch, upstream, revision = re.fullmatch(r"(?:(\d+):)?(.*?)(?:-([^-]*))?", version).groups()  # type: ignore[union-attr]
    return int(epoch or 0), part_key(upstream), part_key(revision or "")


def part_key(text: str) -> list[Any]:
    """Take text and numbers in turn. The end of a text comes after `~`, before letters, before the rest."""
    ranks = {"~": 0}
    key: list[Any] = []
    for other, digits in re.findall(r"(\D*)(\d*)", text):
        weights = [(ranks.get(c, 2 if c.isalpha() else 3), ord(c)) for c in other]
        key += [[*weights, (1, 0)], int(digits or 0)]
    while key[-2:] == [[(1, 0)], 0]:
        del key[-2:]
    return [*key, [(1, 0)], 0]


@given(VERSIONS, VERSIONS)
def test_the_order_is_that_of_the_policy(a: str, b: str) -> None:
    key_a, key_b = reference_key(a), reference_key(b)
    assert (compare_versions(a, b) > 0) - (compare_versions(a, b) < 0) == (key_a > key_b) - (key_a < key_b)


@given(VERSIONS, VERSIONS, VERSIONS)
def test_versions_are_a_total_order(a: str, b: str, c: str) -> None:
    assert (compare_versions(a, b) > 0) == (compare_versions(b, a) < 0)
    if compare_versions(a, b) <= 0 and compare_versions(b, c) <= 0:
        assert compare_versions(a, c) <= 0


def test_numbers_may_be_longer_than_any_integer_type() -> None:
    assert compare_versions("9" * 250, "1" + "0" * 250) < 0
    assert compare_versions("1" * 5000, "1" * 5000) == 0


@pytest.mark.parametrize("op", ["<<", "<=", "=", ">=", ">>", "<", ">"])
def test_relations_are_what_they_say(op: str) -> None:
    expected = {"<<": "s", "<=": "se", "=": "e", ">=": "el", ">>": "l", "<": "se", ">": "el"}[op]
    assert [satisfies(version, op, "2") for version in "123"] == [letter in expected for letter in "sel"]


def test_an_unknown_relation_is_refused() -> None:
    with pytest.raises(Corrupt):
        satisfies("1", "~=", "1")


@pytest.mark.parametrize("version", ["", "1 2", "a:1", ":1", "1\u00b2", "1/2", "1" * (MAX_VERSION_CHARS + 1), "1\n"])
def test_what_is_no_version_is_refused(version: str) -> None:
    with pytest.raises(Corrupt, match="no version"):
        check_version(version)


@given(VERSIONS)
def test_versions_are_accepted(version: str) -> None:
    assert check_version(version) == version
