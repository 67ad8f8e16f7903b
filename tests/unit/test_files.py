"""The layer through which everything is written: whole files or none, sentences for errors."""

import errno
import os
import threading
from pathlib import Path

import pytest

from onggi.base.errors import (
    Conflict,
    Corrupt,
    FailedPrecondition,
    NotFound,
    OnggiError,
    PermissionDenied,
    Unavailable,
)
from onggi.host.files import Files
from onggi.host.oserrors import explain_oserror

FILES = Files()


def test_a_staged_file_appears_whole_under_its_name(tmp_path: Path) -> None:
    with FILES.stage(f"{tmp_path}/staged") as staged:
        staged.write(b"one ")
        assert not (tmp_path / "real").exists()
        staged.write(memoryview(b"two"))
        staged.publish(f"{tmp_path}/real", durable=True)
    assert (tmp_path / "real").read_bytes() == b"one two"
    assert os.listdir(tmp_path) == ["real"]


def test_a_staged_file_is_continued(tmp_path: Path) -> None:
    with FILES.stage(f"{tmp_path}/staged") as staged:
        staged.write(b"begin")
    with FILES.stage(f"{tmp_path}/staged") as staged:
        assert staged.size_bytes == 5
        assert b"".join(staged.chunks()) == b"begin"
        staged.write(b", end")
        staged.publish(f"{tmp_path}/real")
    assert (tmp_path / "real").read_bytes() == b"begin, end"


def test_put_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    FILES.put(f"{tmp_path}/file", b"old")
    FILES.put(f"{tmp_path}/file", b"new", mode=0o640, durable=True)
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"new"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        FILES.make_directory(f"{tmp_path}/open", 0o755)
        FILES.put(f"{tmp_path}/file", b"", mode=0o644)
    finally:
        os.umask(old)
    assert (tmp_path / "open").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_a_directory_that_is_there_is_no_error_but_a_file_is(tmp_path: Path) -> None:
    assert FILES.make_directory(f"{tmp_path}/a")
    assert not FILES.make_directory(f"{tmp_path}/a")
    (tmp_path / "b").touch()
    with pytest.raises(Conflict, match="cannot make directory"):
        FILES.make_directory(f"{tmp_path}/b")


def test_what_is_removed_is_in_the_trash_at_once(tmp_path: Path) -> None:
    (tmp_path / "trash").mkdir()
    (tmp_path / "tree/below").mkdir(parents=True)
    trashed = FILES.trash(f"{tmp_path}/tree", f"{tmp_path}/trash")
    assert trashed is not None
    assert not (tmp_path / "tree").exists()
    assert Path(trashed, "below").is_dir()
    FILES.remove_tree(trashed)
    assert os.listdir(tmp_path / "trash") == []
    assert FILES.trash(f"{tmp_path}/tree", f"{tmp_path}/trash") is None


def test_removing_is_deep_and_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/kept").touch()
    deep = os.open(tmp_path, os.O_RDONLY)
    os.mkdir("tree", dir_fd=deep)
    top = tmp_path / "tree"
    (top / "link").symlink_to("../outside")
    (top / "file").touch()
    for _ in range(1500):  # far beyond PATH_MAX, recursion and descriptors
        os.mkdir("directory", dir_fd=deep)
        below = os.open("directory" if _ else "tree", os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = below
    os.close(deep)
    FILES.remove_tree(f"{tmp_path}/tree")
    FILES.remove_tree(f"{tmp_path}/directory")
    assert sorted(os.listdir(tmp_path)) == ["outside"]
    assert os.listdir(tmp_path / "outside") == ["kept"]


def test_two_removers_do_not_disturb_each_other(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"tree/{number % 7}/{number}").mkdir(parents=True)
        (tmp_path / f"tree/{number % 7}/{number}/file").touch()
    errors: list[BaseException] = []
    start = threading.Barrier(2)

    def remove() -> None:
        try:
            start.wait()
            FILES.remove_tree(f"{tmp_path}/tree")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=remove) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert os.listdir(tmp_path) == []


def test_reading_is_bounded_and_waits_for_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 10)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("file")
    assert FILES.read(f"{tmp_path}/file", 10) == b"x" * 10
    with pytest.raises(Corrupt, match="9 bytes"):
        FILES.read(f"{tmp_path}/file", 9)
    for name in ("fifo", "link", "."):
        with pytest.raises(FailedPrecondition):
            FILES.read(f"{tmp_path}/{name}", 10)
    with pytest.raises(NotFound):
        FILES.read(f"{tmp_path}/nothing", 10)


def test_looking_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/")
    (tmp_path / "file").write_bytes(b"123")
    info = FILES.look(f"{tmp_path}/file")
    assert info is not None
    assert (info.kind, info.size_bytes) == ("file", 3)
    assert [getattr(FILES.look(f"{tmp_path}/{name}"), "kind", None) for name in ("link", ".", "no", "file/no")] == [
        "other",
        "directory",
        None,
        None,
    ]


def test_a_tree_is_measured_with_hard_links_once(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/one").write_bytes(b"1" * 100)
    (tmp_path / "a/b/two").write_bytes(b"2" * 20)
    os.link(tmp_path / "a/one", tmp_path / "a/b/again")
    (tmp_path / "a/b/link").symlink_to("two")
    assert FILES.tree_bytes(f"{tmp_path}/a") == 120


def test_entries_are_sorted_and_a_missing_directory_has_none(tmp_path: Path) -> None:
    for name in "bca":
        (tmp_path / name).touch()
    assert FILES.entries(f"{tmp_path}") == ["a", "b", "c"]
    assert FILES.entries(f"{tmp_path}/nothing") == []


def test_the_file_system_can_be_synced_and_measured(tmp_path: Path) -> None:
    FILES.sync_filesystem(f"{tmp_path}")
    assert FILES.free_bytes(f"{tmp_path}") > 0


def test_every_effect_is_announced_first(tmp_path: Path) -> None:
    seen: list[str] = []

    def before(effect: str, path: str) -> None:
        seen.append(f"{effect} {os.path.relpath(path, tmp_path)}")

    files = Files(before)
    files.make_directory(f"{tmp_path}/trash")
    with files.stage(f"{tmp_path}/staged") as staged:
        staged.write(b"x")
        staged.truncate()
        staged.publish(f"{tmp_path}/real", durable=True)
    files.rename(f"{tmp_path}/real", f"{tmp_path}/other")
    files.remove_tree(f"{tmp_path}/other")
    files.sync_filesystem(f"{tmp_path}")
    assert seen == [
        "mkdir trash",
        "create staged",
        "write staged",
        "truncate staged",
        "fsync staged",
        "rename real",
        "fsync .",
        "rename other",
        "unlink other",
        "fsync .",
    ]


def test_what_is_announced_can_be_prevented(tmp_path: Path) -> None:
    def refuse(effect: str, path: str) -> None:
        raise InterruptedError(effect)

    files = Files(refuse)
    (tmp_path / "file").touch()
    for attempt in (
        lambda: files.make_directory(f"{tmp_path}/a"),
        lambda: files.stage(f"{tmp_path}/a"),
        lambda: files.rename(f"{tmp_path}/file", f"{tmp_path}/a"),
        lambda: files.trash(f"{tmp_path}/file", f"{tmp_path}"),
        lambda: files.remove_tree(f"{tmp_path}/file"),
    ):
        with pytest.raises(InterruptedError):
            attempt()
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOSPC, Unavailable, "no space left on its file system; free some"),
        (errno.EDQUOT, Unavailable, "quota is used up"),
        (errno.EROFS, FailedPrecondition, "read-only; remount it read-write or use --root"),
        (errno.EACCES, PermissionDenied, "permission denied; run as its owner or as root"),
        (errno.EPERM, PermissionDenied, "operation not permitted"),
        (errno.ENOENT, NotFound, "it is not there"),
        (errno.EEXIST, Conflict, "something is there already"),
        (errno.EBUSY, Conflict, "it is in use"),
        (errno.ELOOP, FailedPrecondition, "something else lies there"),
        (errno.EIO, Corrupt, "the disk or its file system is damaged"),
        (errno.EMFILE, Unavailable, "ulimit -n"),
        (errno.EDOM, Unavailable, "numerical argument out of domain"),
    ],
)
def test_what_the_kernel_says_becomes_a_sentence(number: int, kind: type[OnggiError], words: str) -> None:
    error = explain_oserror(OSError(number, "x"), "write", "/state/file")
    assert type(error) is kind
    assert str(error).startswith("cannot write /state/file: ")
    assert words in str(error)
