"""Builds that are only looked up: what they may look at, and which are remembered as small enough to follow."""

import os
from pathlib import Path

import msgspec
import pytest

from onggi.build.bounds import Bounds, NotCached, is_small
from onggi.build.digests import BoundedDigests
from onggi.host.selecting import Item, choose, find_matches
from onggi.host.tree import is_magic
from onggi.store.build_cache import BuildCache
from tests.stores import Store
from tests.unit.test_build_graph import plan


def test_entries_and_bytes_run_out() -> None:
    bounds = Bounds(entries=2, read_bytes=10)
    bounds.look()
    bounds.read(10)
    bounds.look()
    with pytest.raises(NotCached, match="too many files"):
        bounds.look()
    with pytest.raises(NotCached, match="is new"):
        bounds.read(1)


def test_every_entry_counts_before_a_directory_is_read_to_its_end(tmp_path: Path) -> None:
    for name in ("a/1", "a/2", "b/3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    root = os.open(tmp_path, os.O_PATH)
    try:
        assert len(list(choose(root, b"", count=Bounds(entries=5).look))) == 6
        for skip in (None, lambda _path, directory: directory):  # what is left out but may hold something counts too
            with pytest.raises(NotCached):
                list(choose(root, b"", skip=skip, enter=lambda _path: True, count=Bounds(entries=4).look))
        with pytest.raises(NotCached):
            find_matches(root, [lambda _name: False], count=Bounds(entries=1).look)
    finally:
        os.close(root)


@pytest.mark.parametrize(
    ("text", "small"),
    [
        ("FROM scratch\nENV A=b\nRUN x\n", True),
        ("FROM scratch\nENV A=" + "x" * 1000 + "\n" + "RUN x\n" * 100, True),
        ("FROM scratch\nENV A=" + "x" * 20000 + "\n" + "RUN x\n" * 60, False),
        ("FROM scratch\nENV A=0123456789abcdef\n" + "ENV A=$A$A\n" * 9 + "RUN x\n" * 60, False),
        ("FROM scratch\n" + "LABEL a=b\n" * 600, False),
        ("FROM scratch AS a0\n" + "".join(f"FROM a{n} AS a{n + 1}\n" for n in range(31)), True),
        ("FROM scratch AS a0\n" + "".join(f"FROM a{n} AS a{n + 1}\n" for n in range(32)), False),
    ],
    ids=["plain", "long variable", "long variable often", "doubling", "many entries", "stages", "many stages"],
)
def test_what_takes_little_room_is_small(text: str, small: bool) -> None:
    assert is_small(plan(text)) is small


def test_the_last_builds_that_came_out_whole_are_remembered(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        cache = BuildCache(store.root)
        assert not cache.was_whole("0")
        for number in range(300):
            cache.put_whole(str(number))
        assert cache.was_whole("299")
        assert cache.was_whole("44")
        assert not cache.was_whole("43")
        cache.forget([])  # nothing is cached: nothing of this is wanted any more
        assert not cache.was_whole("299")


def test_digests_are_those_of_this_very_state_of_a_file(tmp_path: Path) -> None:
    item = Item(source=b"f", name=b"", mode=0o100644, uid=0, gid=0, size=3, mtime_ns=4, ctime_ns=5, device=1, inode=2)
    with Store(tmp_path) as store:
        cache = BuildCache(store.root)
        cache.put_digests([(1, 2, 3, 4, 5, b"digest")])
        digests = BoundedDigests(cache, 0, Bounds(read_bytes=3))
        assert digests.get(item) == b"digest"
        for changed in ({"size": 2}, {"mtime_ns": 9}, {"ctime_ns": 9}, {"inode": 9}, {"device": 9}):
            digests = BoundedDigests(cache, 0, Bounds(read_bytes=3))
            other = msgspec.structs.replace(item, **changed)
            assert digests.get(other) is None
            with pytest.raises(NotCached):
                BoundedDigests(cache, 0, Bounds(read_bytes=1)).get(other)


def test_links_that_each_process_sees_otherwise(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert not is_magic(str(tmp_path / "link" / "link"))
    assert not is_magic(str(tmp_path / "absent"))
    for path in ("/proc/self/cwd", "/proc/self/root/tmp", "/dev/stdin", "/dev/fd/0"):
        assert is_magic(path), path
