"""Beneath a directory: opening, reading, walking and removing what strangers made."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from onggi.base.errors import InvalidArgument, NotFound
from onggi.host.syscalls import openat2
from onggi.host.tree import (
    open_beneath,
    open_regular,
    open_straight,
    read_small,
    remove_beneath,
    remove_contents,
    walk,
)
from tests.archives import few_descriptors


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    """Give an empty directory beside one that nobody may touch."""
    (tmp_path / "root").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    fd = os.open(tmp_path / "root", os.O_RDONLY)
    yield fd
    os.close(fd)
    assert (tmp_path / "outside" / "secret").read_text() == "secret"


@pytest.fixture
def place(tmp_path: Path, root: int) -> Path:
    """Give the path of the root."""
    return tmp_path / "root"


def deep_tree(path: Path, depth: int, name: str = "d") -> None:
    """Make directories in each other, each with a file."""
    fd = os.open(path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=fd)
        child = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = child
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)


# -- opening ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["../outside/secret", "/outside/secret", "../../../../../../../etc/passwd"])
def test_links_stay_inside(root: int, place: Path, target: str) -> None:
    (place / "link").symlink_to(target)
    with pytest.raises(FileNotFoundError):
        open_beneath(root, b"link")
    with pytest.raises(OSError, match="symbolic link"):
        open_straight(root, b"link", os.O_RDONLY)


def test_links_are_followed_as_in_a_root(root: int, place: Path) -> None:
    (place / "etc").mkdir()
    (place / "etc" / "passwd").write_text("here")
    (place / "link").symlink_to("/../etc/../etc/passwd")
    fd = open_beneath(root, b"link")
    assert os.read(fd, 9) == b"here"
    os.close(fd)
    assert read_small(root, b"/link", max_bytes=4) == b"here"


def test_dots_stay_inside(root: int) -> None:
    fd = open_beneath(root, b"../../..", os.O_RDONLY | os.O_DIRECTORY)
    assert os.fstat(fd).st_ino == os.fstat(root).st_ino
    os.close(fd)
    with pytest.raises(OSError, match="cross-device"):
        open_straight(root, b"..")


def test_magic_links_lead_nowhere(root: int, place: Path) -> None:
    proc = os.open("/proc/self", os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="symbolic link"):
            open_beneath(proc, b"root/etc/passwd")
    finally:
        os.close(proc)


def test_loops_end(root: int, place: Path) -> None:
    (place / "a").symlink_to("b")
    (place / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic link"):
        open_beneath(root, b"a")


def test_descriptors_are_not_inherited(root: int) -> None:
    fd = open_beneath(root, b"")
    assert not os.get_inheritable(fd)
    os.close(fd)


def test_a_nul_is_no_end(root: int) -> None:
    with pytest.raises(ValueError, match="null"):
        openat2(root, b"a\0b", os.O_RDONLY, 0)


# -- reading ---------------------------------------------------------------------------------------


def test_what_is_no_file_is_not_read(root: int, place: Path) -> None:
    """Above all it does not wait for the writer of a FIFO."""
    os.mkfifo(place / "fifo")
    (place / "directory").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        # The path of a socket has 108 bytes; that of a test may have more.
        listener.bind(f"/proc/self/fd/{root}/socket")
    for name in (b"fifo", b"directory", b"socket"):
        with pytest.raises(InvalidArgument, match="not a regular file"):
            read_small(root, name, max_bytes=10)
        assert open_regular(root, name) is None


def test_what_is_not_there(root: int, place: Path) -> None:
    (place / "loop").symlink_to("loop")
    (place / "file").touch()
    for name in (b"absent", b"loop", b"file/x", b"x" * 300, b"absent/../absent"):
        with pytest.raises(NotFound, match="there is no"):
            read_small(root, name, max_bytes=10)
    assert open_regular(root, b"absent") is None
    assert open_regular(root, b"loop") is None


def test_sizes_are_bounded(root: int, place: Path) -> None:
    with (place / "huge").open("wb") as file:
        file.truncate(10 << 40)
    with pytest.raises(InvalidArgument, match="larger than 100 bytes"):
        read_small(root, b"huge", max_bytes=100)
    (place / "exact").write_bytes(b"x" * 100)
    assert read_small(root, b"exact", max_bytes=100) == b"x" * 100


# -- walking ---------------------------------------------------------------------------------------


def test_a_walk_is_in_the_order_of_the_bytes(root: int, place: Path) -> None:
    names = [b"b/c/d", b"b/\xff\xfe", b"a/x", b"a-b/x", b"\n/x", b"b/B", b"z"]
    for name in names:
        path = os.fsencode(place) + b"/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    os.symlink("a", place / "link")
    seen = [(directory.path, directory.files, directory.subdirectories) for directory in walk(root)]
    assert seen == [
        (b"", [(b"link", False), (b"z", True)], [b"\n", b"a", b"a-b", b"b"]),
        (b"\n", [(b"x", True)], []),
        (b"a", [(b"x", True)], []),
        (b"a-b", [(b"x", True)], []),
        (b"b", [(b"B", True), (b"\xff\xfe", True)], [b"c"]),
        (b"b/c", [(b"d", True)], []),
    ]


def test_a_walk_can_be_cut(root: int, place: Path) -> None:
    (place / "in" / "deep").mkdir(parents=True)
    (place / "out" / "deep").mkdir(parents=True)
    seen = []
    for directory in walk(root):
        seen.append(directory.path)
        if b"out" in directory.subdirectories:
            directory.subdirectories.remove(b"out")
    assert seen == [b"", b"in", b"in/deep"]


def test_what_vanishes_during_a_walk_is_left_out(root: int, place: Path) -> None:
    for name in ("a", "b", "c"):
        (place / name).mkdir()
    seen = []
    for directory in walk(root):
        seen.append(directory.path)
        if directory.path == b"":
            (place / "a").rmdir()
            (place / "b").rmdir()
            (place / "b").symlink_to("../outside")
    assert seen == [b"", b"c"]


def test_a_walk_is_bounded(root: int, place: Path) -> None:
    for number in range(10):
        (place / str(number)).mkdir()
    assert len(list(walk(root, max_entries=10))) == 11
    with pytest.raises(InvalidArgument, match="too many files"):
        list(walk(root, max_entries=9))


def test_a_walk_leaves_no_descriptor_open(root: int, place: Path) -> None:
    (place / "a" / "b").mkdir(parents=True)
    before = os.listdir("/proc/self/fd")
    for _ in walk(root):
        break
    list(walk(root))
    assert os.listdir("/proc/self/fd") == before


def test_a_tree_deeper_than_a_path_is_an_error_not_an_escape(root: int, place: Path) -> None:
    deep_tree(place, 25, name="d" * 200)
    with pytest.raises(OSError, match="name too long"):
        list(walk(root))
    remove_contents(root)


# -- removing --------------------------------------------------------------------------------------


def test_removing_follows_nothing(root: int, place: Path) -> None:
    (place / "a").mkdir()
    (place / "a" / "link").symlink_to("../../outside")
    (place / "link").symlink_to("../outside")
    remove_beneath(root, b"a")
    remove_beneath(root, b"link")
    assert os.listdir(root) == []


@pytest.mark.parametrize("depth", [1, 64, 65, 130, 400])
def test_depth_costs_neither_stack_nor_descriptors(root: int, place: Path, depth: int) -> None:
    (place / "top").mkdir()
    deep_tree(place / "top", depth)
    with few_descriptors(150):
        remove_beneath(root, b"top")
    assert os.listdir(root) == []


def test_contents_go_and_the_directory_stays(root: int, place: Path) -> None:
    deep_tree(place, 3)
    (place / "file").touch()
    remove_contents(root)
    assert os.listdir(root) == []
    with pytest.raises(FileNotFoundError):
        remove_beneath(root, b"absent")


def test_directories_that_forbid_it_are_removed_by_their_owner(root: int, place: Path) -> None:
    (place / "a" / "b").mkdir(parents=True)
    (place / "a" / "b" / "file").touch()
    (place / "a" / "b").chmod(0)
    (place / "a").chmod(0o500)
    remove_beneath(root, b"a")
    assert os.listdir(root) == []
