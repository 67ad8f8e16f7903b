"""What `cp` makes of its paths: where a slash at the end, `/.` and the last name matter."""

import pytest

from onggi.base.errors import InvalidArgument
from onggi.engine.copy_paths import base_of, entry_name, inside, keep_ending, parent_of, plan_extraction


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a/b", "/a/b"),
        ("/a//b/", "/a/b/"),
        ("/a/./b/.", "/a/b/."),
        ("../../a", "/a"),
        ("/a/../../b", "/b"),
        ("", "/."),
        (".", "/."),
        ("/", "/"),
        ("//a", "/a"),
        ("/a/./", "/a/./"),
    ],
)
def test_paths_begin_at_the_root_and_keep_their_end(path: str, found: str) -> None:
    assert inside(path) == found


@pytest.mark.parametrize(
    ("path", "base", "entry", "parent"),
    [
        ("/a/b", "b", "b", "/a"),
        ("/a/b/", "b", "b", "/a"),
        ("/a/b/.", ".", ".", "/a/b"),
        ("/", "/", ".", "/"),
        ("/.", ".", ".", "/"),
    ],
)
def test_names(path: str, base: str, entry: str, parent: str) -> None:
    assert (base_of(path), entry_name(path), parent_of(path)) == (base, entry, parent)


def test_the_end_of_what_was_asked_for() -> None:
    assert keep_ending("/x", "there/.") == "/x/."
    assert keep_ending("/x", "there/") == "/x/"
    assert keep_ending("/x/", "there/") == "/x/"
    assert keep_ending("/", "/") == "/"


@pytest.mark.parametrize(
    ("destination", "from_directory", "exists", "is_directory", "found"),
    [
        ("/d", False, True, True, ("/d", "name")),
        ("/d/", True, True, True, ("/d/", "name")),
        ("/d/f", False, True, False, ("/d", "f")),
        ("/d/new", False, False, False, ("/d", "new")),
        ("/d/new", True, False, False, ("/d", "new")),
        ("/d/new/", True, False, False, ("/d", "new")),
        ("/d/new/.", True, False, False, ("/d", "new")),
        ("/d/f", True, True, False, "cannot copy directory"),
        ("/d/new/", False, False, False, "no such directory"),
        ("/d/new/.", False, False, False, "no such directory"),
    ],
)
def test_where_something_is_unpacked(
    destination: str, from_directory: bool, exists: bool, is_directory: bool, found: tuple[str, str] | str
) -> None:
    def plan() -> tuple[str, str]:
        into = plan_extraction(
            "name", destination, from_directory=from_directory, exists=exists, is_directory=is_directory
        )
        return into.directory, into.name

    if isinstance(found, str):
        with pytest.raises(InvalidArgument, match=found):
            plan()
    else:
        assert plan() == found
