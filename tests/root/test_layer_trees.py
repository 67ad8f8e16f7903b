"""Layers on the real overlayfs: what we unpack is what it shows, and what it wrote is what we pack.

Also owners, devices, capabilities, and mounts within a tree.
"""

import io
import os
import random
import shutil
import stat
import struct
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings

from onggi.base.errors import Corrupt, PermissionDenied
from onggi.host.copying import copy_tree
from onggi.host.tree import MountCrossed, open_beneath, read_small, remove_beneath, walk
from onggi.store.tar.pack import pack_layer, pack_tree
from onggi.store.tar.unpack import unpack_layer, unpack_tree
from tests.archives import archive, directory, header, member, pax, snapshot
from tests.trees import Node, plant, scratch, trees

# struct vfs_cap_data, revision 2: cap_net_raw permitted and effective.
CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)


def layer(path: Path) -> bytes:
    out = io.BytesIO()
    with directory(path) as fd:
        pack_layer(fd, out)
    return out.getvalue()


def unpack(data: bytes, path: Path) -> None:
    with directory(path) as fd:
        unpack_layer(io.BytesIO(data), fd)


@contextmanager
def overlay(place: Path, *lowers: Path, upper: Path | None = None) -> Iterator[Path]:
    """Mount an overlay with the options that Onggi uses."""
    merged = place / "merged"
    merged.mkdir(exist_ok=True)
    options = f"lowerdir={':'.join(map(str, lowers))},redirect_dir=nofollow,metacopy=off,index=off"
    if upper is not None:
        (place / "work").mkdir(exist_ok=True)
        upper.mkdir(exist_ok=True)
        options += f",upperdir={upper},workdir={place / 'work'}"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", merged], check=True)
    try:
        yield merged
    finally:
        subprocess.run(["umount", merged], check=True)


@contextmanager
def bind(source: Path, target: Path) -> Iterator[None]:
    subprocess.run(["mount", "--bind", source, target], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", target], check=True)


# -- attributes that need privileges ---------------------------------------------------------------


def test_owners_modes_and_capabilities(tmp_path: Path) -> None:
    unpack(
        archive(
            member(b"dir/", b"5", uid=7, gid=8, mode=0o3775),
            pax((b"SCHILY.xattr.security.capability", CAPABILITY)),
            member(b"dir/ping", data=b"x", uid=5, gid=6, mode=0o6755),
            pax((b"uid", b"4294967294")), header(b"dir/link", b"2", link=b"x", gid=9),
            header(b"dir/fifo", b"6", uid=1),
            header(b"dir/null", b"3", device=(1, 3), mode=0o666, uid=2),
            header(b"dir/disk", b"4", device=(259, 1048575), mode=0o640, gid=3),
            member(b"dir/roots", uid=0, gid=0),
        ).getvalue(),
        tmp_path / "root",
    )  # fmt: skip
    seen = {path.name: path.lstat() for path in (tmp_path / "root" / "dir").iterdir()}
    assert {name: (info.st_uid, info.st_gid) for name, info in seen.items()} == {
        "ping": (5, 6), "link": (4294967294, 9), "fifo": (1, 0), "null": (2, 0), "disk": (0, 3),
        "roots": (0, 0),  # although the directory passes on its group
    }  # fmt: skip
    assert stat.S_IMODE(seen["ping"].st_mode) == 0o6755
    assert os.getxattr(tmp_path / "root" / "dir" / "ping", "security.capability") == CAPABILITY
    assert (stat.S_ISCHR(seen["null"].st_mode), seen["null"].st_rdev) == (True, os.makedev(1, 3))
    assert (stat.S_ISBLK(seen["disk"].st_mode), seen["disk"].st_rdev) == (True, os.makedev(259, 1048575))
    above = (tmp_path / "root" / "dir").stat()
    assert (above.st_uid, above.st_gid, stat.S_IMODE(above.st_mode)) == (7, 8, 0o3775)
    again = tmp_path / "again"
    unpack(layer(tmp_path / "root"), again)
    assert snapshot(again / "dir") == snapshot(tmp_path / "root" / "dir")


def test_what_an_earlier_entry_gave_is_taken_back(tmp_path: Path) -> None:
    unpack(
        archive(member(b"a/", b"5", uid=7, gid=8, mode=0o2775), member(b"a/b/c"), member(b"a/", b"5"),
                member(b"d"), header(b"d", b"5", uid=3), header(b"d", b"5")).getvalue(),
        tmp_path / "root",
    )  # fmt: skip
    for name in ("a", "a/b", "a/b/c", "d"):
        seen = (tmp_path / "root" / name).stat()
        assert (seen.st_uid, seen.st_gid) == (0, 0), name
        assert not seen.st_mode & stat.S_ISGID, name


def test_attributes_of_overlayfs_do_not_come_in(tmp_path: Path) -> None:
    names = ("trusted.overlay.opaque", "trusted.overlay.redirect", "trusted.overlay.metacopy", "trusted.other")
    unpack(
        archive(pax(*[(b"SCHILY.xattr." + name.encode(), b"y") for name in names]), member(b"a/", b"5"),
                pax(*[(b"SCHILY.xattr." + name.encode(), b"y") for name in names]), member(b"b")).getvalue(),
        tmp_path / "root",
    )  # fmt: skip
    for name in ("a", "b"):
        assert not [key for key in os.listxattr(tmp_path / "root" / name) if key.startswith("trusted.")]


def test_a_capability_that_cannot_be_kept_is_an_error(tmp_path: Path) -> None:
    """A bad value gives EINVAL; what matters is that it is not passed over."""
    with pytest.raises(Corrupt, match="Invalid argument"):
        unpack(archive(pax((b"SCHILY.xattr.security.capability", b"short")), member()).getvalue(), tmp_path / "root")


def test_an_immutable_file_in_the_way(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").touch()
    if subprocess.run(["chattr", "+i", root / "a"], check=False).returncode:
        pytest.skip("this file system has no immutable files")
    try:
        with directory(root) as fd, pytest.raises(PermissionDenied, match="'a'"):
            unpack_tree(archive(member(b"a")), fd)
    finally:
        subprocess.run(["chattr", "-i", root / "a"], check=True)


@settings(max_examples=120)
@given(trees(whiteouts=True, marks="trusted", devices=True))
def test_a_layer_comes_back_with_everything(node: Node) -> None:
    with tempfile.TemporaryDirectory(dir=scratch()) as temporary:
        source, target = Path(temporary, "source"), Path(temporary, "target")
        plant(source, node)
        first = layer(source)
        unpack(first, target)
        assert snapshot(target) == {**snapshot(source), b"": snapshot(target)[b""]}
        assert layer(target) == first


# -- overlayfs -------------------------------------------------------------------------------------


def test_what_a_layer_says_is_deleted_is_not_shown(tmp_path: Path) -> None:
    unpack(
        archive(member(b"file"), member(b"dir/a"), member(b"dir/b"), member(b"opaque/a"), member(b"both/old"),
                member(b"kept/a")).getvalue(),
        tmp_path / "lower",
    )  # fmt: skip
    unpack(
        archive(member(b".wh.file"), member(b"dir/.wh.a"), member(b"opaque/.wh..wh..opq"), member(b"opaque/new"),
                member(b"both/new"), member(b".wh.both"), member(b"kept/b")).getvalue(),
        tmp_path / "upper",
    )  # fmt: skip
    with overlay(tmp_path, tmp_path / "upper", tmp_path / "lower") as merged:
        found = {str(path.relative_to(merged)) for path in merged.rglob("*")}
    assert found == {"dir", "dir/b", "opaque", "opaque/new", "both", "both/new", "kept", "kept/a", "kept/b"}


@pytest.mark.parametrize("seed", range(12))
def test_what_overlayfs_wrote_is_what_we_pack(tmp_path: Path, seed: int) -> None:
    """Change a merged tree at random, pack the upper directory, and see the same tree from what was unpacked."""
    chance = random.Random(seed)
    lower, upper, copy = tmp_path / "lower", tmp_path / "upper", tmp_path / "copy"
    lower.mkdir()
    grow(chance, lower, 30)
    with overlay(tmp_path, lower, upper=upper) as merged:
        for _ in range(40):
            change(chance, merged)
        expected = snapshot(merged)
    data = layer(upper)
    unpack(data, copy)
    assert layer(copy) == data
    empty = tmp_path / "empty"
    empty.mkdir()
    with overlay(tmp_path, copy, lower, empty) as merged:
        found = snapshot(merged)
    # The link counts of lower files are overlayfs's own affair; the root has no entry in a layer.
    assert without_root(found) == without_root(expected)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert not [name for name in tar.getnames() if name.endswith("/.wh.")]


def without_root(found: dict[bytes, object]) -> dict[bytes, object]:
    return {name: value for name, value in found.items() if name}


def grow(chance: random.Random, root: Path, count: int) -> None:
    """Add files and directories at random places."""
    places = [root, *(path for path in root.rglob("*") if path.is_dir() and not path.is_symlink())]
    for number in range(count):
        place = chance.choice(places)
        path = place / f"{chance.choice('abcdef')}{number}"
        if path.exists() or path.is_symlink():
            continue
        match chance.randrange(6):
            case 0 | 1:
                path.mkdir(mode=chance.choice((0o755, 0o1777, 0o700)))
                places.append(path)
            case 2:
                path.symlink_to(chance.choice(["a", "../b", "/etc"]))
            case 3:
                os.mkfifo(path)
            case _:
                path.write_bytes(chance.randbytes(chance.randrange(200)))
                os.chown(path, chance.randrange(2000), chance.randrange(2000))


def change(chance: random.Random, merged: Path) -> None:
    """Do one random thing to a tree."""
    everything = sorted(merged.rglob("*"))
    if not everything:
        grow(chance, merged, 3)
        return
    path = chance.choice(everything)
    is_directory = path.is_dir() and not path.is_symlink()
    match chance.randrange(7):
        case 0:
            shutil.rmtree(path) if is_directory else path.unlink()
        case 1:  # something else in its place, which must not show what was below
            shutil.rmtree(path) if is_directory else path.unlink()
            path.mkdir()
            (path / "new").touch()
        case 2:
            shutil.rmtree(path) if is_directory else path.unlink()
            path.write_text("replaced")
        case 3 if not path.is_symlink():
            path.chmod(chance.choice((0o700, 0o755, 0o4755)))
        case 4 if not path.is_symlink():
            os.setxattr(path, "user.test", chance.randbytes(5)) if path.is_file() or is_directory else None
        case 5:
            if path.is_file() and not path.is_symlink():
                with path.open("ab") as file:
                    file.write(b"appended")
        case _:
            grow(chance, merged, 2)


# -- mounts in a tree ------------------------------------------------------------------------------


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """Give a tree with a directory of the host mounted in it, and a file of the host on a file."""
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "deep" / "point").mkdir(parents=True)
    (root / "etc" / "passwd").write_text("ours")
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "precious").write_text("precious")
    (tmp_path / "host-file").write_text("the host's")
    with bind(tmp_path / "host", root / "deep" / "point"), bind(tmp_path / "host-file", root / "etc" / "passwd"):
        yield root
    assert (tmp_path / "host" / "precious").read_text() == "precious"


def test_a_mounted_file_is_not_read(mounted: Path) -> None:
    with directory(mounted) as fd:
        with pytest.raises(MountCrossed, match="something is mounted over it"):
            read_small(fd, b"etc/passwd", max_bytes=100)
        assert read_small(fd, b"etc/passwd", max_bytes=100, no_xdev=False) == b"the host's"
        with pytest.raises(OSError, match="cross-device"):
            open_beneath(fd, b"deep/point", no_xdev=True)


def test_a_walk_tells_of_mounts_and_does_not_enter_them(mounted: Path) -> None:
    told: list[bytes] = []
    with directory(mounted) as fd:
        assert b"deep/point" in [found.path for found in walk(fd)]
        assert b"deep/point" not in [found.path for found in walk(fd, no_xdev=True, mounted=told.append)]
    assert told == [b"deep/point"]


def test_an_archive_has_places_for_mounts_but_not_what_is_mounted(mounted: Path) -> None:
    out = io.BytesIO()
    with directory(mounted) as fd:
        pack_tree(fd, out)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        assert tar.getnames() == ["deep", "deep/point", "etc", "etc/passwd"]
        assert tar.getmember("etc/passwd").size == 0


def test_a_copy_leaves_mounts_out(mounted: Path, tmp_path: Path) -> None:
    with directory(mounted) as source, directory(tmp_path / "copy") as target:
        copy_tree(source, target, no_xdev=True)
    assert sorted(os.listdir(tmp_path / "copy" / "deep")) == []
    assert sorted(os.listdir(tmp_path / "copy" / "etc")) == []


def test_what_is_mounted_is_not_removed(mounted: Path, tmp_path: Path) -> None:
    for name in (b"deep", b"etc"):
        with directory(mounted) as fd, pytest.raises(OSError, match=r"cross-device|busy"):
            remove_beneath(fd, name)
