"""Trees become archives and trees again: properties, agreement with GNU tar, and trees that are hostile or change.

What needs privileges is in tests/root/test_layer_trees.py, with the same properties.
"""

import io
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings

from onggi.base.errors import FailedPrecondition, InvalidArgument
from onggi.host import reading
from onggi.host.copying import copy_tree
from onggi.store.tar import pack
from onggi.store.tar.entry import Limits
from onggi.store.tar.pack import Hashing, hash_layer, pack_layer, pack_tree
from onggi.store.tar.unpack import unpack_layer, unpack_tree
from tests.archives import directory, paths, snapshot
from tests.trees import Node, plant, scratch, trees

ROOT = os.geteuid() == 0
SCRATCH = scratch()
GNU_TAR = shutil.which("tar") or "tar"


def layer(path: Path, epoch: int | None = None, limits: Limits | None = None) -> bytes:
    out = io.BytesIO()
    with directory(path) as fd:
        packed = pack_layer(fd, out, marks="user", epoch=epoch, limits=limits or Limits())
    assert packed.size_bytes == len(out.getvalue())
    return out.getvalue()


def tree(path: Path, prefix: bytes = b"") -> bytes:
    out = io.BytesIO()
    with directory(path) as fd:
        pack_tree(fd, out, prefix=prefix)
    return out.getvalue()


def names(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = tar.getnames()
    # A root that is not root's gets an entry; most tests are about the others.
    return found if ROOT else [name for name in found if name != "."]


@settings(max_examples=200)
@given(trees(whiteouts=True))
def test_a_layer_comes_back_and_packs_the_same(node: Node) -> None:
    with tempfile.TemporaryDirectory(dir=SCRATCH) as temporary:
        source, target = Path(temporary, "source"), Path(temporary, "target")
        plant(source, node)
        first = layer(source)
        with directory(target) as fd:
            unpack_layer(io.BytesIO(first), fd, marks="user", owners=ROOT)
        assert snapshot(target) == {**snapshot(source), b"": snapshot(target)[b""]}
        assert layer(target) == first == layer(source)


@settings(max_examples=150)
@given(trees(whiteouts=False))
def test_a_plain_tree_comes_back_and_a_copy_is_equal(node: Node) -> None:
    with tempfile.TemporaryDirectory(dir=SCRATCH) as temporary:
        source, target, copy = (Path(temporary, name) for name in ("source", "target", "copy"))
        plant(source, node)
        first = tree(source)
        with directory(source) as source_fd, directory(target) as target_fd, directory(copy) as copy_fd:
            unpack_tree(io.BytesIO(first), target_fd, owners=ROOT)
            copied = copy_tree(source_fd, copy_fd, owners=ROOT)
        assert snapshot(target) == {**snapshot(source), b"": snapshot(target)[b""]}
        assert snapshot(copy) == snapshot(source)
        assert copied.entries == len(snapshot(source))
        assert tree(target) == tree(copy) == first


@settings(max_examples=60)
@given(trees(whiteouts=False, names=b"abcd\xc3\xa9 -", years=(1971, 2200)))
def test_gnu_tar_reads_what_we_write(node: Node) -> None:
    with tempfile.TemporaryDirectory(dir=SCRATCH) as temporary:
        source, target = Path(temporary, "source"), Path(temporary, "target")
        plant(source, node)
        target.mkdir()
        gnu_tar("-xp", "--xattrs", "--xattrs-include=user.*", "-C", str(target), stdin=tree(source))
        assert without_root(snapshot(target)) == without_root(snapshot(source))


@pytest.mark.parametrize(
    ("form", "sparse"),
    [
        ("v7", ()),
        ("ustar", ()),
        ("oldgnu", ("--sparse",)),
        ("gnu", ()),
        ("gnu", ("--sparse",)),
        ("pax", ()),
        ("pax", ("--sparse", "--sparse-version=0.0")),
        ("pax", ("--sparse", "--sparse-version=0.1")),
        ("pax", ("--sparse", "--sparse-version=1.0")),
    ],
)
def test_we_read_what_gnu_tar_writes(tmp_path: Path, form: str, sparse: tuple[str, ...]) -> None:
    source = tmp_path / "source"
    (source / ("d" * 70) / "sub").mkdir(parents=True)
    (source / "file").write_bytes(b"content" * 1000)
    (source / ("d" * 70) / "sub" / "sm\xf6rg\xe5s").write_text("x")
    os.link(source / "file", source / "hard")
    (source / "link").symlink_to("../elsewhere")
    if form != "v7":  # which has no FIFOs
        os.mkfifo(source / "fifo")
    if form not in ("ustar", "v7"):  # which have neither room for these names nor a way to tell
        (source / ("n" * 200)).write_text("long")
        (source / "long-link").symlink_to("t" * 300)
    with (source / "holes").open("wb") as file:
        for at in range(0, 8_000_000, 200_000):
            file.seek(at)
            file.write(b"island")
        file.truncate(10_000_000)
    (source / "file").chmod(0o4711)
    for number, path in enumerate(sorted(paths(os.fsencode(source)))[1:]):
        os.utime(path, ns=(0, 1_600_000_000_123_456_789 + number * 10**9), follow_symlinks=False)
    data = gnu_tar(f"--format={form}", *sparse, "--numeric-owner", "-C", str(source), "-c", ".")
    with directory(tmp_path / "target") as fd:
        unpack_tree(io.BytesIO(data), fd, owners=ROOT)
    unit = 1 if form == "pax" else 10**9
    assert without_root(snapshot(tmp_path / "target", mtime_unit_ns=unit)) == without_root(
        snapshot(source, mtime_unit_ns=unit)
    )
    assert (tmp_path / "target" / "holes").stat().st_blocks * 512 < 6_000_000


def gnu_tar(*arguments: str, stdin: bytes | None = None) -> bytes:
    done = subprocess.run([GNU_TAR, *arguments, "-f", "-"], input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def without_root(found: dict[bytes, object]) -> dict[bytes, object]:
    return {name: value for name, value in found.items() if name}


# -- the form of a layer ---------------------------------------------------------------------------


def test_the_names_and_their_order(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("b/c", "b-/x", "a", "b/a/deep"):
        (root / name).mkdir(parents=True)
    for name in ("b/file", "z", "b.txt"):
        (root / name).touch()
    os.mknod(root / "b" / "gone", 0o020000)
    os.setxattr(root / "b" / "a", "user.overlay.opaque", b"y")
    root.chmod(0o755)
    # Files before directories, both by the bytes of their own names; a whiteout by the name that it hides.
    assert names(layer(root)) == [
        *("b.txt", "z", "a", "b", "b/file", "b/.wh.gone", "b/a", "b/a/.wh..wh..opq", "b/a/deep", "b/c", "b-", "b-/x"),
    ]


def test_nothing_of_the_machine_goes_in(tmp_path: Path) -> None:
    for name in ("one", "two"):
        root = tmp_path / name
        root.mkdir(mode=0o755)
        os.mknod(root / "gone", 0o020000)
        with socket.socket(socket.AF_UNIX) as listener, directory(root) as fd:
            listener.bind(f"/proc/self/fd/{fd}/socket")
        os.utime(root, (5, 5))
    assert layer(tmp_path / "one") == layer(tmp_path / "two")
    assert names(layer(tmp_path / "one")) == [".wh.gone"]


def test_the_root_appears_where_it_is_special(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    root.chmod(0o711)
    with tarfile.open(fileobj=io.BytesIO(layer(root))) as tar:
        assert [(info.name, info.mode) for info in tar] == [(".", 0o711)]


@pytest.mark.skipif(not ROOT, reason="the root of an image is root's")
def test_an_empty_layer_is_two_blocks(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root").chmod(0o755)
    assert layer(tmp_path / "root") == bytes(1024)


def test_attributes_of_overlayfs_stay_out(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "file").touch()
    os.setxattr(root / "file", "user.overlay.origin", b"x")
    os.setxattr(root / "file", "user.kept", b"x")
    with tarfile.open(fileobj=io.BytesIO(layer(root))) as tar:
        headers = tar.getmember("file").pax_headers
    assert {key: value for key, value in headers.items() if "xattr" in key} == {"SCHILY.xattr.user.kept": "x"}


def test_only_y_makes_a_directory_opaque(tmp_path: Path) -> None:
    """`x` says that there may be whiteouts in the form of attributes (kernel 6.7)."""
    for name, value in (("opaque", b"y"), ("not", b"x"), ("neither", b"n")):
        (tmp_path / "root" / name).mkdir(parents=True)
        os.setxattr(tmp_path / "root" / name, "user.overlay.opaque", value)
    assert [name for name in names(layer(tmp_path / "root")) if "opq" in name] == ["opaque/.wh..wh..opq"]


@pytest.mark.parametrize("what", ["redirect", "metacopy"])
def test_a_directory_whose_content_is_elsewhere_is_no_layer(tmp_path: Path, what: str) -> None:
    (tmp_path / "root" / "dir").mkdir(parents=True)
    os.setxattr(tmp_path / "root" / "dir", f"user.overlay.{what}", b"/etc")
    with pytest.raises(FailedPrecondition, match=what):
        layer(tmp_path / "root")


def test_a_name_that_would_delete_something_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / ".wh.etc").touch()
    with pytest.raises(InvalidArgument, match=r"'\.wh\.etc' cannot be in an image layer"):
        layer(tmp_path / "root")
    assert ".wh.etc" in names(tree(tmp_path / "root"))


def test_times_are_not_later_than_the_epoch(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir(mode=0o755)
    for name, time_ns in (("old", 1_000_000_000_500_000_000), ("new", 1_700_000_000_500_000_000)):
        (root / name).touch()
        os.utime(root / name, ns=(0, time_ns))
    with tarfile.open(fileobj=io.BytesIO(layer(root, epoch=1_500_000_000))) as tar:
        assert {name: tar.getmember(name).mtime for name in ("old", "new")} == {"old": 1e9 + 0.5, "new": 1.5e9}


def test_a_prefix_stands_for_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "a").touch()
    os.link(root / "a", root / "sub" / "b")
    data = tree(root, prefix=b"etc")
    assert names(data) == ["etc", "etc/a", "etc/sub", "etc/sub/b"]
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getmember("etc/sub/b").linkname == "etc/a"


def test_hashing_is_the_digest_of_the_bytes(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "file").write_bytes(os.urandom(3_000_000))
    with directory(root) as fd:
        out = io.BytesIO()
        through = Hashing(out)
        pack_layer(fd, through, marks="user")
        diff_id, packed = hash_layer(fd, marks="user")
    assert out.getvalue() == layer(root)
    assert through.diff_id() == diff_id
    assert packed.size_bytes == len(out.getvalue())


def test_a_sink_may_take_less_than_it_is_given(tmp_path: Path) -> None:
    class Slow(io.BytesIO):
        def write(self, data: object, /) -> int:
            return super().write(bytes(data)[:1000])  # type: ignore[call-overload]

    root = tmp_path / "root"
    root.mkdir()
    (root / "file").write_bytes(os.urandom(100_000))
    slow = Slow()
    with directory(root) as fd:
        hashing = Hashing(slow)
        pack_layer(fd, hashing, marks="user")
        assert slow.getvalue() == layer(root)
        assert hashing.diff_id() == hash_layer(fd, marks="user")[0]


# -- hostile and changing trees --------------------------------------------------------------------


def test_holes_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    with (tmp_path / "root" / "huge").open("wb") as file:
        file.truncate(10 << 40)
    with pytest.raises(InvalidArgument, match="'huge' has 10995116277760 bytes"):
        layer(tmp_path / "root")


def test_entries_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    for number in range(5):
        (tmp_path / "root" / str(number)).touch()
    with pytest.raises(InvalidArgument, match="too many files"):
        layer(tmp_path / "root", limits=Limits(entries=4))


def test_depth_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "root" / "a" / "b" / "c").mkdir(parents=True)
    with pytest.raises(InvalidArgument, match="directories deep"):
        layer(tmp_path / "root", limits=Limits(depth=2))


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    os.mkfifo(tmp_path / "root" / "fifo")
    with tarfile.open(fileobj=io.BytesIO(layer(tmp_path / "root"))) as tar:
        assert tar.getmember("fifo").isfifo()


def meddle(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Change a tree in the moment in which its first file is being read."""
    done = False

    def read(fd: int, buffer: memoryview) -> int:
        nonlocal done
        got = reading.read_into(fd, buffer[:100_000])
        if not done:
            done = True
            change()
        return got

    monkeypatch.setattr(pack, "read_into", read)


def test_a_file_that_shrinks_leaves_a_readable_archive_and_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").write_bytes(b"x" * 1_000_000)
    (root / "b").write_text("after")
    meddle(monkeypatch, lambda: os.truncate(root / "a", 500_000))
    out = io.BytesIO()
    with directory(root) as fd, pytest.raises(FailedPrecondition, match="'a' became shorter"):
        pack_layer(fd, out, marks="user")
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        assert tar.getmember("a").size == 1_000_000
        after = tar.extractfile("b")
        assert after is not None
        assert after.read() == b"after"


def test_a_file_that_grows_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").write_bytes(b"x" * 200_000)
    (root / "b").write_text("after")

    def grow() -> None:
        with (root / "a").open("ab") as file:
            file.write(b"y" * 500_000)

    meddle(monkeypatch, grow)
    with tarfile.open(fileobj=io.BytesIO(layer(root))) as tar:
        content = tar.extractfile("a")
        assert content is not None
        assert content.read() == b"x" * 200_000
        assert tar.getmember("b").size == 5


def test_what_vanishes_or_becomes_something_else_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    (root / "directory").mkdir(parents=True)
    (root / "directory" / "file").touch()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    for name in ("a", "b", "c", "d", "e"):
        (root / name).write_bytes(b"x" * 10)

    def change() -> None:
        (root / "b").unlink()
        (root / "c").unlink()
        (root / "c").symlink_to(outside / "secret")
        (root / "d").unlink()
        (root / "d").mkdir()
        (root / "e").unlink()
        os.mkfifo(root / "e")
        shutil.rmtree(root / "directory")
        (root / "directory").symlink_to(outside)

    meddle(monkeypatch, change)
    data = layer(root)
    assert names(data)[-3:] == ["a", "c", "e"]
    assert b"secret\0" not in data.replace(os.fsencode(outside) + b"/secret", b"")


# -- copies ----------------------------------------------------------------------------------------


def test_a_copy_keeps_holes_and_gives_things_an_owner(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with (source / "holes").open("wb") as file:
        file.seek(5_000_000)
        file.write(b"x")
        file.truncate(10_000_000)
    (source / "link").symlink_to("nowhere")
    owner = (1234, 5678) if ROOT else None
    with directory(source) as source_fd, directory(tmp_path / "target") as target_fd:
        copy_tree(source_fd, target_fd, owner=owner and (lambda _uid, _gid: owner), owners=ROOT)
    holes = (tmp_path / "target" / "holes").stat()
    assert (holes.st_size, holes.st_blocks * 512 < 100_000) == (10_000_000, True)
    assert (tmp_path / "target" / "holes").read_bytes() == (source / "holes").read_bytes()
    if ROOT:
        for name in ("holes", "link", "."):
            seen = (tmp_path / "target" / name).lstat()
            assert (seen.st_uid, seen.st_gid) == owner


def test_a_copy_merges_and_replaces(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "both").mkdir(parents=True)
    (source / "both" / "new").touch()
    (source / "file").write_text("new")
    (target / "both").mkdir(parents=True)
    (target / "both" / "old").touch()
    (target / "file").symlink_to("/etc/passwd")
    with directory(source) as source_fd, directory(target) as target_fd:
        copy_tree(source_fd, target_fd, owners=ROOT)
    assert sorted(os.listdir(target / "both")) == ["new", "old"]
    assert (target / "file").read_text() == "new"
    assert not (target / "file").is_symlink()
