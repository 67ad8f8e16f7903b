"""`--filter`, and the times that some filters take."""

import pytest

from onggi.base.errors import InvalidArgument
from onggi.cli.filters import parse_filters
from onggi.cli.moments import parse_moment

KNOWN = {"name", "label", "dangling"}


def test_values_of_one_name_are_alternatives() -> None:
    filters = parse_filters(["name=web", "NAME = db ", "name=web", ""], KNOWN)
    assert filters.values("name") == ("web", "db")
    assert "name" in filters
    assert "label" not in filters
    assert [filters.admits_exactly("name", text) for text in ("web", "db", "web1")] == [True, True, False]
    assert [filters.admits("name", text) for text in ("web", "my-db-1", "cache")] == [True, True, False]
    assert filters.admits("label", "anything")


def test_patterns() -> None:
    filters = parse_filters(["name=^/?we"], KNOWN)
    assert [filters.admits("name", text) for text in ("web", "/web", "a-web")] == [True, True, False]
    wrong = parse_filters(["name=("], KNOWN)
    assert [wrong.admits("name", text) for text in ("(", "a")] == [True, False]


def test_labels_must_all_be_there() -> None:
    labels = {"a": "1", "b": "", "c": "x=y"}
    for given, expected in (
        (["label=a"], True),
        (["label=a=1"], True),
        (["label=a=2"], False),
        (["label=a", "label=b"], True),
        (["label=a", "label=z"], False),
        (["label=b="], True),
        (["label=c=x=y"], True),
        ([], True),
    ):
        assert parse_filters(given, KNOWN).admits_labels(labels) is expected, given


@pytest.mark.parametrize(
    ("values", "expected"), [((), None), (("true",), True), (("1",), True), (("false",), False), (("0",), False)]
)
def test_switches(values: tuple[str, ...], expected: bool | None) -> None:
    assert parse_filters([f"dangling={value}" for value in values], KNOWN).flag("dangling") is expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nope=1", "invalid filter 'nope'"),
        ("=x", "invalid filter ''"),
    ],
)
def test_wrong_filters(text: str, problem: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_filters([text], KNOWN)
    assert str(caught.value) == problem


def test_wrong_switches() -> None:
    for values in (["maybe"], ["true", "false"]):
        with pytest.raises(InvalidArgument, match="invalid filter 'dangling="):
            parse_filters([f"dangling={value}" for value in values], KNOWN).flag("dangling")


NOW = 1714557600 * 10**9


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10m", NOW - 600 * 10**9),
        ("1714557600", NOW),
        ("1714557600.5", NOW + 500_000_000),
        ("2024-05-01T10:00:00Z", NOW),
        ("2024-05-01T10:00:00.000000001Z", NOW + 1),
        ("2024-05-01T12:00:00+02:00", NOW),
        ("2024-05-01T12:00:00", NOW),
        ("2024-05-01T12:00", NOW),
        ("2024-05-01", NOW - 12 * 3600 * 10**9),
        ("2024-05-01Z", NOW - 10 * 3600 * 10**9),
    ],
)
def test_moments(text: str, expected: int) -> None:
    assert parse_moment(text, NOW, {"TZ": "Europe/Berlin"}) == expected


@pytest.mark.parametrize("text", ["", "soon", "2024-13-01", "2024-05-01T25:00:00", "1.2.3", "10x", "9" * 30])
def test_no_moments(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_moment(text, NOW, {"TZ": "UTC"})
