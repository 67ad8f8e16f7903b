"""Filling an empty volume from an image: what is kept, what stays, and what a kill in the middle leaves."""

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stores import ROOT, Store

TIME_NS = 1_500_000_000_123_456_789


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Give a store with a volume, `data`."""
    with Store(tmp_path / "root") as made:
        made.volumes.create("data")
        yield made


@pytest.fixture
def image(tmp_path: Path) -> Iterator[int]:
    """Give a directory of an image with one of everything."""
    top = tmp_path / "image"
    (top / "sub").mkdir(parents=True)
    (top / "file").write_bytes(b"content")
    (top / "sub" / "again").hardlink_to(top / "file")
    (top / "link").symlink_to("/etc/passwd")
    os.mkfifo(top / "fifo")
    os.setxattr(top / "file", "user.note", b"kept")
    os.chmod(top / "file", 0o640)
    if ROOT:
        os.chown(top / "file", 5, 6)
        os.chown(top, 7, 8)
    os.chmod(top, 0o1770)
    for path in (top / "file", top / "sub", top):
        os.utime(path, ns=(TIME_NS, TIME_NS))
    fd = os.open(top, os.O_RDONLY)
    yield fd
    os.close(fd)


def data_of(store: Store) -> Path:
    """Give the volume's directory."""
    return Path(store.volumes.get("data").path)


def test_an_empty_volume_takes_everything(store: Store, image: int) -> None:
    data = data_of(store)
    inode = data.stat().st_ino
    store.volumes.fill("data", image)
    assert sorted(os.listdir(data)) == ["fifo", "file", "link", "sub"]
    file, top = (data / "file").stat(), data.stat()
    assert (data / "file").read_bytes() == b"content"
    assert os.getxattr(data / "file", "user.note") == b"kept"
    assert (stat.S_IMODE(file.st_mode), file.st_mtime_ns) == (0o640, TIME_NS)
    assert file.st_ino == (data / "sub" / "again").stat().st_ino
    assert os.readlink(data / "link") == "/etc/passwd"
    assert stat.S_ISFIFO((data / "fifo").lstat().st_mode)
    assert (stat.S_IMODE(top.st_mode), top.st_mtime_ns, top.st_ino) == (0o1770, TIME_NS, inode)
    assert (data / "sub").stat().st_mtime_ns == TIME_NS
    if ROOT:
        assert (file.st_uid, file.st_gid, top.st_uid, top.st_gid) == (5, 6, 7, 8)
    assert os.listdir(data.parent) == ["_data"]
    assert store.checker.check() == []


def test_what_is_in_it_stays(store: Store, image: int) -> None:
    (data_of(store) / "mine").touch()
    store.volumes.fill("data", image)
    assert os.listdir(data_of(store)) == ["mine"]
    assert not store.volumes.is_empty("data")


def test_half_a_copy_is_worth_nothing(store: Store, image: int) -> None:
    left = data_of(store).parent / "filling"
    (left / "half").mkdir(parents=True)
    assert store.volumes.is_empty("data")
    assert [finding.problem for finding in store.checker.check()] == [
        "was being filled from an image when that was killed"
    ]
    store.checker.repair()
    assert store.checker.check() == []
    assert not left.exists()
    left.mkdir()
    (left / "half").mkdir()
    store.volumes.fill("data", image)
    assert sorted(os.listdir(data_of(store))) == ["fifo", "file", "link", "sub"]
    assert os.listdir(left.parent) == ["_data"]


def test_a_whole_copy_is_moved_by_whoever_is_next(store: Store, image: int) -> None:
    """As after a kill in the middle of moving, while a container already wrote into the volume."""
    data = data_of(store)
    filled = data.parent / "filled"
    (filled / "sub" / "deep").mkdir(parents=True)
    for name in ("mine", "file", "both"):
        (filled / name).write_bytes(b"of the image")
    (data / "mine").write_bytes(b"of a container")
    (data / "both").hardlink_to(filled / "both")
    os.chmod(filled, 0o711)
    assert not store.volumes.is_empty("data")
    assert sorted(os.listdir(data)) == ["both", "file", "mine", "sub"]
    assert (data / "mine").read_bytes() == b"of a container"
    assert (data / "file").read_bytes() == b"of the image"
    assert (data / "sub" / "deep").is_dir()
    assert stat.S_IMODE(data.stat().st_mode) == 0o711
    assert os.listdir(data.parent) == ["_data"]


def test_a_directory_of_the_container_is_not_replaced(store: Store) -> None:
    data = data_of(store)
    (data.parent / "filled" / "sub").mkdir(parents=True)
    (data.parent / "filled" / "file").touch()
    (data / "sub").mkdir()
    (data / "sub" / "mine").touch()
    (data / "file").mkdir()
    assert not store.volumes.is_empty("data")
    assert os.listdir(data / "sub") == ["mine"]
    assert (data / "file").is_dir()


def test_a_copy_that_goes_on_is_nobody_elses(store: Store) -> None:
    (data_of(store).parent / "filling").mkdir()
    with store.root.lock("fillings", hashlib.sha256(b"data").hexdigest(), "the test"):
        assert store.checker.check() == []
    assert len(store.checker.check()) == 1
