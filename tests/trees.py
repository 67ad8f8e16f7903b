"""Random trees as values, and planting them with nothing but the os module."""

import os
import stat
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import strategies as st

YEAR_NS = 31_556_952 * 10**9
ROOT = os.geteuid() == 0


def scratch() -> str | None:
    """Find a file system in memory for many small trees, if it has what they need; None for the usual place."""
    try:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
            os.setxattr(path, "user.test", b"")
    except OSError:
        return None
    return "/dev/shm"


class Node(NamedTuple):
    """One file: `what` is its content, its target, its device number, or the names in it."""

    kind: str
    what: "bytes | int | tuple[tuple[bytes, Node], ...]" = b""
    mode: int = 0o644
    owner: tuple[int, int] = (0, 0)
    mtime_ns: int = 0
    xattrs: tuple[tuple[str, bytes], ...] = ()


def trees(
    *,
    whiteouts: bool,
    marks: str = "user",
    devices: bool = False,
    names: bytes | None = None,
    years: tuple[int, int] = (1902, 2200),
) -> st.SearchStrategy[Node]:
    """Draw a directory: with `whiteouts`, one that could be the upper directory of an overlay."""
    # What ext4 and xfs can hold.
    times = st.one_of(
        st.just(1_700_000_000 * 10**9), st.integers((years[0] - 1970) * YEAR_NS, (years[1] - 1970) * YEAR_NS)
    )
    letters = names or bytes(set(range(1, 256)) - {0x2F})
    name = st.one_of(
        st.binary(min_size=1, max_size=8).map(lambda raw: bytes(letters[byte % len(letters)] for byte in raw)),
        st.sampled_from([letters[:1] * 99, letters[:1] * 101, letters[:1] * 250]),
    ).filter(lambda name: name not in (b".", b"..") and not name.startswith(b".wh."))
    ids = st.one_of(st.integers(0, 3000), st.sampled_from([2097151, 2097152, 2**32 - 2])) if ROOT else st.just(0)
    common: Any = {
        "mode": st.integers(0, 0o7777) if ROOT else st.integers(0o700, 0o777),
        "owner": st.tuples(ids, ids),
        "mtime_ns": times,
    }
    xattrs = st.lists(
        st.tuples(st.sampled_from(["user.a", "user.b c", "user.%=x"]), st.binary(max_size=20)),
        max_size=2,
        unique_by=lambda pair: pair[0],
    ).map(tuple)
    none: st.SearchStrategy[tuple[tuple[str, bytes], ...]] = st.just(())

    def nodes(
        kind: str, what: st.SearchStrategy[bytes] | st.SearchStrategy[int], attributes: Any = none
    ) -> st.SearchStrategy[Node]:
        return st.builds(Node, kind=st.just(kind), what=what, xattrs=attributes, **common)

    leaves = [
        nodes("regular", st.binary(max_size=600), xattrs),
        nodes("symlink", st.one_of(name, st.just(b"t" * 150), st.just(b"/../x"))),
        nodes("fifo", st.just(b"")),
        nodes("hardlink", st.integers(0, 100)),
    ]
    if whiteouts:
        leaves.append(st.just(Node("whiteout")))
    if devices:
        numbers = st.tuples(st.integers(1, 4095), st.integers(0, 2**20 - 1)).map(lambda pair: os.makedev(*pair))
        leaves += [nodes(kind, numbers) for kind in ("character", "block")]
    marked = st.one_of(xattrs, st.just(((f"{marks}.overlay.opaque", b"y"),))) if whiteouts else xattrs

    def directories(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
        content = st.dictionaries(name, inner, max_size=5).map(lambda found: tuple(sorted(found.items())))
        return st.builds(Node, kind=st.just("directory"), what=content, xattrs=marked, **common)

    return directories(st.recursive(st.one_of(leaves), directories, max_leaves=12))


def plant(root: Path, node: Node) -> None:
    """Make the tree; a hard link is one to a file that was made before, or nothing if there is none."""
    _plant(os.fsencode(root), node, [])


def _plant(path: bytes, node: Node, made: list[bytes]) -> None:
    match node.kind, node.what:
        case "directory", tuple(content):
            os.mkdir(path)
            for name, child in content:
                _plant(path + b"/" + name, child, made)
        case "regular", bytes(content):
            with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY), "wb") as file:
                file.write(content)
        case "symlink", bytes(target):
            os.symlink(target, path)
        case "fifo", _:
            os.mkfifo(path)
        case "hardlink", int(index):
            if made:
                os.link(made[index % len(made)], path, follow_symlinks=False)
            return
        case "whiteout", _:
            os.mknod(path, stat.S_IFCHR)
            return
        case kind, int(device):
            os.mknod(path, stat.S_IFCHR if kind == "character" else stat.S_IFBLK, device)
    if ROOT:
        os.chown(path, *node.owner, follow_symlinks=False)
    if node.kind != "symlink":
        os.chmod(path, node.mode)
        for key, value in node.xattrs:
            os.setxattr(path, key, value)
    os.utime(path, ns=(0, node.mtime_ns), follow_symlinks=False)
    if node.kind != "directory":
        made.append(path)
