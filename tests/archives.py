"""Archives made by hand, and trees as values to compare: what the tests of store/tar share."""

import io
import os
import resource
import stat
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

END = bytes(1024)


def header(
    name: bytes = b"file",
    kind: bytes = b"0",
    *,
    size: int | bytes = 0,
    mode: int | bytes = 0o644,
    uid: int | bytes = 0,
    gid: int | bytes = 0,
    mtime: int | bytes = 0,
    link: bytes = b"",
    magic: bytes = b"ustar\x0000",
    device: tuple[int, int] = (0, 0),
    prefix: bytes = b"",
    checksum: bytes | None = None,
) -> bytes:
    """Make one header block; a number given as bytes is put in as it is."""

    def octal(value: int | bytes, width: int) -> bytes:
        return value if isinstance(value, bytes) else b"%0*o\0" % (width - 1, value)

    block = struct.pack(
        "100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x",
        name, octal(mode, 8), octal(uid, 8), octal(gid, 8), octal(size, 12), octal(mtime, 12), b" " * 8, kind, link,
        magic, b"", b"", octal(device[0], 8), octal(device[1], 8), prefix,
    )  # fmt: skip
    return with_checksum(block, checksum)


def with_checksum(block: bytes, checksum: bytes | None = None) -> bytes:
    """Put the right checksum into a header, or the given text."""
    block = block[:148] + b" " * 8 + block[156:512]
    return block[:148] + (checksum or b"%06o\0 " % sum(block)).ljust(8)[:8] + block[156:]


def padded(data: bytes) -> bytes:
    """Fill up to a whole block."""
    return data + bytes(-len(data) % 512)


def member(name: bytes = b"file", kind: bytes = b"0", data: bytes = b"", **fields: Any) -> bytes:
    """Make an entry with its data."""
    mode = 0o755 if kind == b"5" else 0o644
    return header(name, kind, **{"size": len(data), "mode": mode, **fields}) + padded(data)


def record(key: bytes, value: bytes) -> bytes:
    """Make one PAX record, its length found by trying."""
    rest = b" %s=%s\n" % (key, value)
    length = next(n for n in range(len(rest) + 1, len(rest) + 9) if len(str(n)) + len(rest) == n)
    return b"%d%s" % (length, rest)


def pax(*records: tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    """Make a PAX header of these records."""
    return member(b"PaxHeader", kind, b"".join(record(key, value) for key, value in records))


def archive(*parts: bytes) -> io.BytesIO:
    """Put entries together to an archive."""
    return io.BytesIO(b"".join(parts) + END)


@contextmanager
def directory(path: Path) -> Iterator[int]:
    """Open a directory, making it if it is not there."""
    path.mkdir(exist_ok=True)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def few_descriptors(count: int) -> Iterator[None]:
    """Allow as many more open descriptors."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def snapshot(root: Path, *, times: bool = True, ids: bool = True, mtime_unit_ns: int = 1) -> dict[bytes, object]:
    """Describe a tree completely: types, modes, owners, times, contents, targets, numbers, attributes, links."""
    found: dict[bytes, object] = {}
    links: dict[tuple[int, int], bytes] = {}
    top = os.fsencode(root)
    for path in sorted(paths(top)):
        seen = os.lstat(path)
        name = path[len(top) :]
        kind = stat.S_IFMT(seen.st_mode)
        first = links.setdefault((seen.st_dev, seen.st_ino), name) if kind != stat.S_IFDIR else name
        if kind == stat.S_IFCHR and seen.st_rdev == 0:
            found[name] = "whiteout"  # its owner and time mean nothing, and overlayfs links them to each other
            continue
        content: object = b""
        if kind == stat.S_IFREG:
            content = Path(os.fsdecode(path)).read_bytes() if seen.st_size < 1 << 24 else seen.st_size
        elif kind == stat.S_IFLNK:
            content = os.readlink(path)
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            content = seen.st_rdev
        attributes = {} if kind == stat.S_IFLNK else {key: os.getxattr(path, key) for key in os.listxattr(path)}
        found[name] = (
            oct(seen.st_mode), (seen.st_uid, seen.st_gid) if ids else None,
            seen.st_mtime_ns // mtime_unit_ns if times else None, content, attributes, first,
        )  # fmt: skip
    return found


def paths(top: bytes) -> Iterable[bytes]:
    """Give a directory and everything below it, following no link."""
    yield top
    for path, directories, files in os.walk(top):
        for name in directories + files:
            yield path + b"/" + name
