"""Archives become trees: layers as overlayfs reads them, plain archives, and every known attack on an unpacker.

Whiteouts and `user.overlay.*` need no privilege; the rest is in tests/root/test_layer_trees.py.
"""

import io
import os
import stat
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from onggi.base.errors import Conflict, Corrupt, InvalidArgument, OnggiError
from onggi.store.tar.entry import Entry, Kind
from onggi.store.tar.unpack import Unpacked, unpack_layer, unpack_tree
from onggi.store.tar.writer import END, encode_header
from tests.archives import archive, directory, few_descriptors, header, member, pax, snapshot

ROOT = os.geteuid() == 0
OPAQUE = "user.overlay.opaque"


class Box:
    """A directory to unpack into, beside one that has to stay as it is."""

    def __init__(self, path: Path) -> None:
        self.root = path / "root"
        self.outside = path / "outside"
        self.outside.mkdir()
        (self.outside / "secret").write_text("secret")
        (self.outside / "directory").mkdir()
        self.before = snapshot(self.outside)

    def layer(self, *parts: bytes, devices: bool = True) -> Unpacked:
        with directory(self.root) as fd:
            return unpack_layer(archive(*parts), fd, marks="user", owners=ROOT, devices=devices)

    def tree(self, *parts: bytes, devices: bool = True, replace_directories: bool = True) -> Unpacked:
        with directory(self.root) as fd:
            return unpack_tree(
                archive(*parts), fd, owners=ROOT, devices=devices, replace_directories=replace_directories
            )

    def names(self) -> set[str]:
        return {
            os.path.relpath(os.path.join(path, name), self.root)
            for path, directories, files in os.walk(self.root)
            for name in directories + files
        }

    def is_whiteout(self, name: str) -> bool:
        seen = (self.root / name).lstat()
        return stat.S_ISCHR(seen.st_mode) and seen.st_rdev == 0

    def is_opaque(self, name: str) -> bool:
        return OPAQUE in os.listxattr(self.root / name) and os.getxattr(self.root / name, OPAQUE) == b"y"


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path)
    descriptors = os.listdir("/proc/self/fd")
    yield box
    assert snapshot(box.outside) == box.before, "something outside was touched"
    assert os.listdir("/proc/self/fd") == descriptors, "a descriptor stays open"


# -- ordinary entries ------------------------------------------------------------------------------


def test_everything_that_needs_no_privilege(box: Box) -> None:
    unpacked = box.layer(
        member(b"dir/", b"5", mode=0o2750, mtime=5),
        pax((b"mtime", b"1.000000001"), (b"SCHILY.xattr.user.a", b"\0b")),
        member(b"dir/file", data=b"content", mode=0o4755),
        header(b"dir/link", b"2", link=b"../../outside/secret", mtime=7),
        header(b"hard", b"1", link=b"./dir/file"),
        header(b"fifo", b"6", mode=0o622, mtime=8),
    )
    assert (unpacked.entries, unpacked.size_bytes) == (5, 7)
    file = (box.root / "dir" / "file").lstat()
    assert (stat.S_IMODE(file.st_mode), file.st_mtime_ns, file.st_nlink) == (0o4755, 1_000_000_001, 2)
    assert os.getxattr(box.root / "hard", "user.a") == b"\0b"
    above = (box.root / "dir").lstat()
    assert (stat.S_IMODE(above.st_mode), above.st_mtime_ns) == (0o2750, 5 * 10**9)
    link = (box.root / "dir" / "link").lstat()
    assert (os.readlink(box.root / "dir" / "link"), link.st_mtime_ns) == ("../../outside/secret", 7 * 10**9)
    fifo = (box.root / "fifo").lstat()
    assert (stat.S_ISFIFO(fifo.st_mode), stat.S_IMODE(fifo.st_mode), fifo.st_mtime_ns) == (True, 0o622, 8 * 10**9)


def test_nothing_depends_on_the_umask(box: Box) -> None:
    before = os.umask(0o077)
    try:
        box.layer(member(b"a/", b"5", mode=0o777), member(b"a/b", mode=0o666), member(b"c/d"), header(b"e", b"6"))
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((box.root / name).stat().st_mode) for name in ("a", "a/b", "c", "e")]
    assert modes == [0o777, 0o666, 0o755, 0o644]


def test_the_root_has_attributes_too(box: Box) -> None:
    box.layer(member(b"./", b"5", mode=0o700, mtime=3), member(b"a"))
    seen = box.root.stat()
    assert (stat.S_IMODE(seen.st_mode), seen.st_mtime_ns) == (0o700, 3 * 10**9)


def test_a_directory_that_was_not_described_is_the_same_each_time(box: Box) -> None:
    box.layer(member(b"a/b/c", mtime=9))
    seen = (box.root / "a" / "b").stat()
    assert (stat.S_IMODE(seen.st_mode), seen.st_mtime_ns) == (0o755, 0)


def test_a_child_before_its_parent(box: Box) -> None:
    box.layer(member(b"a/b/c", data=b"1"), member(b"a/b/", b"5", mode=0o711, mtime=4), member(b"a/b/d"))
    seen = (box.root / "a" / "b").stat()
    assert (stat.S_IMODE(seen.st_mode), seen.st_mtime_ns) == (0o711, 4 * 10**9)
    assert box.names() == {"a", "a/b", "a/b/c", "a/b/d"}


def test_a_directory_that_forbids_writing_is_filled_first(box: Box) -> None:
    box.layer(member(b"a/", b"5", mode=0o500), member(b"a/b/", b"5", mode=0), member(b"a/b/c"), member(b"a/d"))
    assert stat.S_IMODE((box.root / "a" / "b").stat().st_mode) == 0
    assert stat.S_IMODE((box.root / "a").stat().st_mode) == 0o500
    (box.root / "a").chmod(0o700)
    (box.root / "a" / "b").chmod(0o700)
    assert box.names() == {"a", "a/b", "a/b/c", "a/d"}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("file", "file"), ("file", "directory"), ("file", "link"), ("file", "fifo"), ("directory", "file"),
        ("directory", "link"), ("directory", "fifo"), ("link", "file"), ("link", "directory"), ("link", "link"),
        ("fifo", "file"), ("fifo", "fifo"), ("directory", "hard"), ("file", "hard"), ("link", "hard"),
    ],
)  # fmt: skip
def test_the_last_of_two_entries_stays(box: Box, first: str, second: str) -> None:
    makers = {
        "file": member(b"x", data=b"file"),
        "directory": member(b"x/", b"5") + member(b"x/y"),
        "link": header(b"x", b"2", link=b"elsewhere"),
        "fifo": header(b"x", b"6"),
        "hard": header(b"x", b"1", link=b"target"),
    }
    box.layer(member(b"target", data=b"target"), makers[first], makers[second])
    kind = stat.S_IFMT((box.root / "x").lstat().st_mode)
    assert kind == {"directory": stat.S_IFDIR, "link": stat.S_IFLNK, "fifo": stat.S_IFIFO}.get(second, stat.S_IFREG)
    if kind == stat.S_IFREG:
        assert (box.root / "x").read_text() == {"file": "file", "hard": "target"}[second]


def test_two_entries_of_a_directory_are_one_directory(box: Box) -> None:
    box.layer(member(b"a/", b"5", mode=0o700), member(b"a/b"), member(b"a/", b"5", mode=0o755, mtime=6))
    assert box.names() == {"a", "a/b"}
    seen = (box.root / "a").stat()
    assert (stat.S_IMODE(seen.st_mode), seen.st_mtime_ns) == (0o755, 6 * 10**9)


def test_kept_directories_are_let_go_when_something_replaces_them(box: Box) -> None:
    """Without that `a/b/new` would be made in the removed directory, or the time of the old one set."""
    box.layer(
        member(b"a/b/", b"5", mtime=1), member(b"a/b/old"), header(b"a", b"2", link=b"c"), member(b"c/", b"5", mtime=2),
        member(b"a/b/new"), header(b"a", b"0"), member(b"a/", b"5", mtime=3), member(b"a/b/newest"),
    )  # fmt: skip
    assert box.names() == {"a", "a/b", "a/b/newest", "c", "c/b", "c/b/new"}
    assert (box.root / "a").stat().st_mtime_ns == 3 * 10**9
    assert (box.root / "c" / "b").stat().st_mtime_ns == 0


def test_the_time_of_a_directory_that_is_gone_goes_to_no_other(box: Box) -> None:
    box.layer(member(b"c/b/", b"5", mtime=2), member(b"a/b/", b"5", mtime=1), header(b"a", b"2", link=b"c"))
    assert (box.root / "c" / "b").stat().st_mtime_ns == 2 * 10**9


def test_a_directory_takes_the_place_of_a_link_that_was_used(box: Box) -> None:
    box.layer(member(b"c/", b"5"), header(b"a", b"2", link=b"c"), member(b"a/1"), member(b"a/", b"5", mtime=5),
              member(b"a/2"))  # fmt: skip
    assert box.names() == {"c", "c/1", "a", "a/2"}
    assert (box.root / "a").stat().st_mtime_ns == 5 * 10**9


def test_a_link_to_itself_may_be_replaced_through_itself(box: Box) -> None:
    box.layer(header(b"l", b"2", link=b"."), member(b"l/a"), member(b"l/l", data=b"file"), member(b"b"))
    assert box.names() == {"l", "a", "b"}
    assert (box.root / "l").read_text() == "file"


def test_more_directories_than_descriptors(box: Box) -> None:
    parts = [member(b"d%d/" % n, b"5", mtime=n) for n in range(300)]
    parts += [member(b"d%d/f" % n) for n in range(300)]
    with few_descriptors(200):
        box.layer(*parts)
    assert [(box.root / f"d{n}").stat().st_mtime_ns for n in range(300)] == [n * 10**9 for n in range(300)]


def test_a_path_of_more_directories_than_descriptors(box: Box) -> None:
    for name in (b"f", b"g"):
        with few_descriptors(200):
            box.layer(pax((b"path", b"d/" * 400 + name)), member())
    assert len(box.names()) == 402


def test_sparse_files_have_holes(box: Box) -> None:
    box.layer(pax((b"GNU.sparse.size", b"10000000"), (b"GNU.sparse.numblocks", b"1"),
                  (b"GNU.sparse.map", b"5000000,10")), member(b"sparse", data=b"0123456789"))  # fmt: skip
    seen = (box.root / "sparse").stat()
    assert seen.st_size == 10_000_000
    assert seen.st_blocks * 512 < 100_000
    with (box.root / "sparse").open("rb") as file:
        file.seek(4_999_999)
        assert file.read(12) == b"\x000123456789\0"


def test_zeros_in_a_large_file_become_holes(box: Box) -> None:
    content = b"a" * 100_000 + bytes(3_000_000) + b"b" + bytes(1_000_000)
    box.layer(member(b"a", data=content), member(b"zero", data=bytes(1_000_000)))
    assert (box.root / "a").read_bytes() == content
    assert (box.root / "a").stat().st_blocks * 512 < 400_000
    assert ((box.root / "zero").stat().st_size, (box.root / "zero").stat().st_blocks) == (1_000_000, 0)


def test_other_attributes_than_an_images_are_left_out(box: Box) -> None:
    box.layer(
        pax(
            (b"SCHILY.xattr.user.kept", b"1"), (b"SCHILY.xattr.user.overlay.opaque", b"y"),
            (b"SCHILY.xattr.user.overlay.redirect", b"/etc"), (b"SCHILY.xattr.trusted.overlay.opaque", b"y"),
            (b"SCHILY.xattr.trusted.overlay.redirect", b"/etc"), (b"SCHILY.xattr.security.selinux", b"x"),
            (b"SCHILY.xattr.trusted.other", b"x"), (b"SCHILY.xattr.system.posix_acl_access", b"x"),
            (b"LIBARCHIVE.xattr.trusted.overlay.metacopy", b"AQ"), (b"LIBARCHIVE.xattr.user.overlay%2Eorigin", b"AQ"),
        ),
        member(b"dir/", b"5"),
    )  # fmt: skip
    assert [name for name in os.listxattr(box.root / "dir") if name != "security.selinux"] == ["user.kept"]


# -- whiteouts -------------------------------------------------------------------------------------


def test_whiteouts_become_what_overlayfs_reads(box: Box) -> None:
    box.layer(member(b"a/.wh.gone"), member(b".wh.top"), member(b"b/.wh..wh..opq"), member(b"b/new"))
    assert box.is_whiteout("a/gone")
    assert box.is_whiteout("top")
    assert box.is_opaque("b")
    assert box.names() == {"a", "a/gone", "top", "b", "b/new"}


def test_whiteouts_speak_of_lower_layers_only_whatever_the_order(box: Box) -> None:
    """image-spec, layer.md: files of the same layer are never hidden."""
    box.layer(
        member(b"file1", data=b"1"), member(b".wh.file1"), member(b".wh.file2"), member(b"file2", data=b"2"),
        member(b"dir1/a"), member(b".wh.dir1"), member(b".wh.dir2"), member(b"dir2/", b"5"), member(b"dir2/a"),
        member(b".wh.dir3"), member(b"dir3/a"), member(b"dir4/a"), member(b"dir4/.wh..wh..opq"),
        member(b"dir5"), member(b".wh.dir5"), member(b"dir5/", b"5"),
    )  # fmt: skip
    assert ((box.root / "file1").read_text(), (box.root / "file2").read_text()) == ("1", "2")
    for number in range(1, 6):
        assert box.is_opaque(f"dir{number}"), number
    assert {"dir1/a", "dir2/a", "dir3/a", "dir4/a"} < box.names()


def test_an_opaque_root_is_marked(box: Box) -> None:
    box.layer(member(b"a/.wh..wh..opq"))
    assert not box.is_opaque("")
    box.layer(member(b".wh..wh..opq"))
    assert box.is_opaque("")


def test_notes_of_aufs_are_left_out(box: Box) -> None:
    box.layer(member(b".wh..wh.plnk/", b"5"), member(b".wh..wh.plnk/1.2"), member(b"a/.wh..wh.aufs"))
    assert box.names() == set()


@pytest.mark.parametrize(
    "name", [b".wh.", b".wh..", b".wh...", b"a/.wh.", b"a/.wh..", b"a/.wh...", b"a/.wh./", b"./.wh../."]
)
def test_whiteouts_of_a_directory_itself_or_the_one_above(box: Box, name: bytes) -> None:
    with pytest.raises(Corrupt, match="a directory itself is deleted"):
        box.layer(member(b"a/", b"5"), member(name))


def test_nothing_lies_beneath_a_whiteout(box: Box) -> None:
    with pytest.raises(Corrupt, match=r"beneath '\.wh\.a'"):
        box.layer(member(b"x/.wh.a/b"))


def test_a_whiteout_in_a_place_that_is_no_directory(box: Box) -> None:
    with pytest.raises(Corrupt, match="not a directory"):
        box.layer(member(b"a"), member(b"a/.wh.b"))


def test_whiteouts_replace_one_another(box: Box) -> None:
    box.layer(member(b".wh.a"), member(b".wh.a"), member(b".wh.b"), member(b"b/.wh.c"))
    assert box.is_whiteout("a")
    assert box.is_opaque("b")
    assert box.is_whiteout("b/c")


def test_the_longest_name_can_be_deleted(box: Box) -> None:
    box.layer(member(b".wh." + b"x" * 96), pax((b"path", b".wh." + b"y" * 255)), member(b"short"))
    assert box.is_whiteout("y" * 255)


# -- attacks ---------------------------------------------------------------------------------------


def test_absolute_names_begin_at_the_root(box: Box) -> None:
    outside = os.fsencode(box.outside)
    box.layer(member(outside + b"/secret", data=b"overwritten"), header(b"link", b"1", link=outside + b"/secret"))
    assert (box.root / "link").read_text() == "overwritten"


@pytest.mark.parametrize("name", [b"../outside/secret", b"a/../../outside/secret", b"..", b"../", b"./../outside/new"])
def test_names_that_lead_out(box: Box, name: bytes) -> None:
    for kind in (b"0", b"5", b"2", b"6"):
        with pytest.raises(Corrupt, match="leads out"):
            box.layer(header(name, kind, link=b"x"))


@pytest.mark.parametrize(
    ("target", "leads_nowhere"),
    [(b"../outside", True), (b"/../outside", True), (b"../../../../../..", False), (b"/proc/self/root", True)],
)
@pytest.mark.parametrize("what", [member(b"link/secret", data=b"overwritten"), member(b"link/directory/", b"5", mode=0),
                                  member(b"link/.wh.secret"), member(b"link/.wh..wh..opq"),
                                  header(b"link/secret", b"2", link=b"x"), header(b"link/secret", b"6")])  # fmt: skip
def test_a_link_and_then_something_through_it(box: Box, target: bytes, leads_nowhere: bool, what: bytes) -> None:
    with pytest.raises(Corrupt, match="not a directory") if leads_nowhere else nullcontext():
        box.layer(header(b"link", b"2", link=target), what)
    assert (box.root / "link").is_symlink()


def test_a_link_within_the_layer_is_followed_as_in_a_root(box: Box) -> None:
    box.layer(member(b"etc/", b"5"), header(b"a", b"2", link=b"/../etc"), member(b"a/passwd", data=b"x"))
    assert box.names() == {"etc", "etc/passwd", "a"}


@pytest.mark.parametrize("kind", [b"0", b"5"])
def test_a_link_in_the_place_of_the_file_is_replaced_not_followed(box: Box, kind: bytes) -> None:
    box.layer(header(b"x", b"2", link=b"../outside/secret"), header(b"x", kind, mode=0o777))
    assert not (box.root / "x").is_symlink()


def test_loops_of_links(box: Box) -> None:
    with pytest.raises(Corrupt, match="not a directory"):
        box.layer(header(b"a", b"2", link=b"b"), header(b"b", b"2", link=b"a"), member(b"a/x"))
    box.layer(header(b"c", b"2", link=b"c"), member(b"c/", b"5"), member(b"c/x"))


@pytest.mark.parametrize("target", [b"absent", b"../outside/secret", b"dir", b"", b".", b"/", b"gone", b"link/secret",
                                    b"inside/file", b"later", b"dir/../../outside/secret", b"file/x"])  # fmt: skip
def test_hard_links_lead_to_earlier_files_and_through_no_link(box: Box, target: bytes) -> None:
    with pytest.raises(Corrupt):
        box.layer(
            member(b"dir/", b"5"), member(b"dir/file"), member(b"file"), member(b".wh.gone"),
            header(b"link", b"2", link=b"../outside"), header(b"inside", b"2", link=b"dir"),
            header(b"hard", b"1", link=target), member(b"later"),
        )  # fmt: skip


def test_a_hard_link_to_a_link_is_to_the_link_itself(box: Box) -> None:
    box.layer(header(b"link", b"2", link=b"../outside/secret"), header(b"hard", b"1", link=b"link"),
              member(b"hard", data=b"overwritten"))  # fmt: skip
    assert (box.root / "link").is_symlink()
    assert (box.root / "hard").read_text() == "overwritten"


def test_a_hard_link_to_itself_changes_nothing(box: Box) -> None:
    box.layer(member(b"a", data=b"1"), header(b"a", b"1", link=b"a"), header(b"./a", b"1", link=b"/a"),
              header(b"b", b"1", link=b"a"), header(b"a", b"1", link=b"b"))  # fmt: skip
    assert (box.root / "a").read_text() == "1"


def test_a_hard_link_that_replaces_the_directory_of_its_target(box: Box) -> None:
    with pytest.raises(Corrupt, match="not an earlier file"):
        box.layer(member(b"a/b"), header(b"a", b"1", link=b"a/b"))


def test_a_file_written_through_a_hard_link_changes_one_name_only(box: Box) -> None:
    box.layer(member(b"a", data=b"1"), header(b"b", b"1", link=b"a"), member(b"b", data=b"2"))
    assert ((box.root / "a").read_text(), (box.root / "b").read_text()) == ("1", "2")


@pytest.mark.parametrize("what", [member(b"."), member(b"/"), header(b"./", b"2", link=b"x"), header(b"a/..", b"6"),
                                  header(b".", b"1", link=b"a")])  # fmt: skip
def test_the_root_is_not_replaced(box: Box, what: bytes) -> None:
    with pytest.raises(Corrupt, match="root"):
        box.layer(member(b"a"), what)
    assert box.root.is_dir()


def test_a_device_that_would_be_a_whiteout(box: Box) -> None:
    for name in (b"a", b"dir/.whiteout"):
        with pytest.raises(Corrupt, match="0:0"):
            box.layer(header(name, b"3"))
        with pytest.raises(Corrupt, match="0:0"):
            box.tree(header(name, b"3"), devices=False)


def test_devices_are_skipped_where_nobody_can_make_them(box: Box) -> None:
    unpacked = box.layer(header(b"null", b"3", device=(1, 3)), header(b"disk", b"4"), member(b"a"), devices=False)
    assert unpacked.skipped_devices == 2
    assert box.names() == {"a"}


def test_links_to_nothing(box: Box) -> None:
    with pytest.raises(Corrupt, match="link to nothing"):
        box.layer(header(b"a", b"2"))


def test_something_beneath_a_file(box: Box) -> None:
    for kind in (b"0", b"5", b"2", b"6"):
        with pytest.raises(Corrupt, match="'a' is not a directory"):
            box.layer(member(b"a"), header(b"a/b/c", kind, link=b"x"))


def test_names_that_no_file_system_takes(box: Box) -> None:
    with pytest.raises(InvalidArgument, match="longer than 255"):
        box.layer(pax((b"path", b"x" * 256)), member())
    with pytest.raises(InvalidArgument, match="directories deep"):
        box.layer(pax((b"path", b"x/" * 600)), member())
    with pytest.raises(InvalidArgument, match="4097 bytes"):
        box.layer(pax((b"linkpath", b"x" * 4097)), header(kind=b"2"))


def test_names_of_any_bytes(box: Box) -> None:
    name = bytes(set(range(1, 256)) - {0x2F})
    box.layer(pax((b"path", name)), member(data=b"1"), pax((b"path", b"\xff\xfe/\x1b[2J")), member(data=b"2"))
    assert set(os.listdir(os.fsencode(box.root))) == {name, b"\xff\xfe"}


def test_a_sparse_file_larger_than_anything(box: Box) -> None:
    with pytest.raises(InvalidArgument, match="larger than"):
        box.layer(pax((b"GNU.sparse.size", b"%d" % (1 << 62)), (b"GNU.sparse.map", b"")), member())


def test_refusals_name_the_entry_and_its_byte(box: Box) -> None:
    with pytest.raises(OnggiError) as caught:
        box.layer(member(b"good"), member(b"../\x1b]bad"))
    assert str(caught.value) == (
        "cannot unpack entry '../\\x1b]bad' at byte 512 of the archive: its name leads out of the archive's root"
    )


def test_an_archive_that_ends_in_a_file(box: Box) -> None:
    with directory(box.root) as fd, pytest.raises(Corrupt, match="truncated"):
        unpack_layer(io.BytesIO(header(b"a", size=5000) + b"x" * 1000), fd, owners=ROOT)


# -- plain archives --------------------------------------------------------------------------------


def test_names_of_whiteouts_mean_nothing_in_a_plain_archive(box: Box) -> None:
    box.tree(member(b".wh.a", data=b"1"), member(b"b/.wh..wh..opq"), member(b".wh.c/d"))
    assert box.names() == {".wh.a", "b", "b/.wh..wh..opq", ".wh.c", ".wh.c/d"}


def test_a_plain_archive_is_merged_into_what_is_there(box: Box) -> None:
    (box.root / "a").mkdir(parents=True)
    (box.root / "a" / "kept").touch()
    (box.root / "link").symlink_to("../outside")
    box.tree(member(b"a/", b"5", mode=0o711), member(b"a/new"), member(b"link/", b"5"), member(b"link/secret"))
    assert box.names() == {"a", "a/kept", "a/new", "link", "link/secret"}
    assert stat.S_IMODE((box.root / "a").stat().st_mode) == 0o711


def test_directories_can_be_protected(box: Box) -> None:
    (box.root / "a" / "b").mkdir(parents=True)
    box.tree(member(b"a/", b"5"), replace_directories=False)
    with pytest.raises(Conflict, match="cannot overwrite directory 'a' with non-directory"):
        box.tree(member(b"a"), replace_directories=False)
    assert box.names() == {"a", "a/b"}


def test_links_to_directories_can_be_kept(box: Box) -> None:
    """As dpkg does: a package's /lib goes where the system's link says, within the root."""
    (box.root / "usr" / "lib").mkdir(parents=True)
    (box.root / "usr" / "lib").chmod(0o755)
    (box.root / "lib").symlink_to("usr/lib")
    (box.root / "dangling").symlink_to("../outside/directory")
    (box.root / "file-link").symlink_to("file")
    (box.root / "file").touch()
    parts = (
        member(b"./lib/", b"5", mode=0o700), member(b"./lib/a/", b"5", mode=0o711), member(b"./lib/a/b"),
        member(b"dangling/", b"5"), member(b"file-link/", b"5"),
    )  # fmt: skip
    with directory(box.root) as fd:
        unpack_tree(archive(*parts), fd, owners=ROOT, keep_directory_links=True)
    assert os.readlink(box.root / "lib") == "usr/lib"
    assert box.names() == {"usr", "usr/lib", "usr/lib/a", "usr/lib/a/b", "lib", "dangling", "file-link", "file"}
    assert stat.S_IMODE((box.root / "usr" / "lib").stat().st_mode) == 0o755
    assert stat.S_IMODE((box.root / "usr" / "lib" / "a").stat().st_mode) == 0o711
    assert not (box.root / "dangling").is_symlink()
    assert not (box.root / "file-link").is_symlink()


def test_a_hard_link_through_a_kept_directory_link(tmp_path: Path) -> None:
    """Packages have `./bin/x` and a hard link to it, where /bin is a link to usr/bin."""
    (tmp_path / "usr" / "bin").mkdir(parents=True)
    (tmp_path / "bin").symlink_to("usr/bin")
    entries = [
        Entry(name=b"./bin/", kind=Kind.DIRECTORY, mode=0o755),
        Entry(name=b"./bin/gunzip", kind=Kind.REGULAR, mode=0o755, uid=os.geteuid(), gid=os.getegid()),
        Entry(name=b"./bin/uncompress", kind=Kind.HARDLINK, link=b"./bin/gunzip"),
    ]
    data = b"".join(encode_header(entry) for entry in entries) + END
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        unpack_tree(io.BytesIO(data), fd, owners=False, keep_directory_links=True)
    finally:
        os.close(fd)
    assert (tmp_path / "bin").is_symlink()
    assert (tmp_path / "usr/bin/gunzip").samefile(tmp_path / "usr/bin/uncompress")
