"""What both builders are given, and what is read of their results: contexts, the base image, saved images as facts."""

import gzip
import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

COMMENT: Final = "buildkit.dockerfile.v0"
_KINDS: Final = {tarfile.DIRTYPE: "d", tarfile.SYMTYPE: "l", tarfile.FIFOTYPE: "p", tarfile.CHRTYPE: "c"}
BASE: Final = "truthbase"
OLD: Final = 1_500_000_000
"""The time of all that is given: whatever is younger was made by a build, and its time is no fact."""
YOUNG: Final = 1_600_000_000
YOUNG_TEXT: Final = "2020-09-13T12:26:40Z"
PATH: Final = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
APPLETS: Final = """
    cat chmod chown cp cut echo env false find grep head hostname id ln ls mkdir mkfifo mount mv pwd readlink rm
    rmdir sed setpriv sh sleep sort stat tail test touch tr true wc xargs
"""
PASSWD: Final = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1001::/home/user:/bin/sh\nwww:x:33:33::/var/www:/bin/sh\n"
GROUP: Final = "root:x:0:\nwww:x:33:user\nuser:x:1001:\nextra:x:2000:user,www\n"


class File(NamedTuple):
    """A file of a context that is more than a text."""

    content: str | bytes = ""
    mode: int = 0o644


class Directory(NamedTuple):
    """A directory of a context whose mode matters."""

    mode: int = 0o755


class Link(NamedTuple):
    """A symbolic link."""

    target: str


class Hard(NamedTuple):
    """One more name of an earlier file."""

    target: str


Entry = str | bytes | File | Directory | Link | Hard


class Case(NamedTuple):
    """A Dockerfile, its context, and how it is built.

    `error`: what both builders say, where the build fails. `rewrite`: BuildKit is asked to
    hold files to SOURCE_DATE_EPOCH as well, which Onggi always does.
    """

    dockerfile: str | bytes
    files: Mapping[str, Entry] = {}
    args: Mapping[str, str] = {}
    target: str = ""
    labels: Mapping[str, str] = {}
    contexts: Mapping[str, str] = {}
    file: str = "Dockerfile"
    error: str = ""
    hosts: tuple[str, ...] = ()
    rewrite: bool = False


def write_context(directory: Path, case: Case) -> None:
    """Lay out the context of a case; everything in it belongs to somebody and is old."""
    directory.mkdir(parents=True)
    data = case.dockerfile if isinstance(case.dockerfile, bytes) else case.dockerfile.encode()
    entries: dict[str, Entry] = {case.file: data, **case.files}
    for name, entry in entries.items():
        place = directory / name
        place.parent.mkdir(parents=True, exist_ok=True)
        match entry:
            case Link(target=target):
                place.symlink_to(target)
            case Hard(target=target):
                os.link(directory / target, place)
            case Directory(mode=mode):
                place.mkdir(exist_ok=True)
                place.chmod(mode)
            case File(content=content, mode=mode):
                place.write_bytes(content.encode() if isinstance(content, str) else content)
                os.chown(place, 1000, 1000)
                place.chmod(mode)
            case str() | bytes():
                place.write_bytes(entry.encode() if isinstance(entry, str) else entry)
                os.chown(place, 1000, 1000)
                place.chmod(0o644)
    for path in sorted(directory.rglob("*"), reverse=True):
        os.utime(path, (OLD, OLD), follow_symlinks=False)
    os.utime(directory, (OLD, OLD))


def make_tar(lines: Iterable[str], *, compress: bool = False) -> bytes:
    """Make a small archive for ADD, of somebody: `x/` a directory, `x/y TEXT` a file, `x/z -> TARGET` a link."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for line in lines:
            name, _, text = line.partition(" ")
            data = f"{text}\n".encode()
            entry = _entry(name.rstrip("/"), 0o755 if name.endswith("/") else 0o640, uid=7, gid=8)
            if name.endswith("/"):
                entry.type = tarfile.DIRTYPE
            elif text.startswith("-> "):
                entry.type, entry.linkname = tarfile.SYMTYPE, text.removeprefix("-> ")
            else:
                entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data) if entry.isreg() else None)
    return gzip.compress(sink.getvalue(), mtime=0) if compress else sink.getvalue()


def _entry(name: str, mode: int, *, uid: int = 0, gid: int = 0) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.mtime, entry.uid, entry.gid = mode, OLD, uid, gid
    return entry


@cache
def _busybox() -> bytes:
    return Path(shutil.which("busybox") or "/bin/busybox").read_bytes()


@cache
def _base_layer() -> bytes:
    """The files of the base image: busybox, users, and a few links and directories to copy into."""
    sink = io.BytesIO()
    busybox = _busybox()
    texts = {"etc/passwd": PASSWD, "etc/group": GROUP, "srv/full/old": "old\n", "srv/file": "file\n"}
    texts |= {"etc/hosts": "", "etc/resolv.conf": ""}
    links = {"lib/link": "../srv/full", "abs": "/srv/full", "out": "../../../srv/full", "dangling": "/srv/none"}
    directories = "bin dev etc home home/user lib proc root srv srv/full sys tmp var var/www"
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in directories.split():
            entry = _entry(name, 0o1777 if name == "tmp" else 0o750 if name == "srv/full" else 0o755)
            entry.type = tarfile.DIRTYPE
            if name.startswith("home/"):
                entry.uid, entry.gid = 1000, 1001
            tar.addfile(entry)
        for name, text in texts.items():
            entry = _entry(name, 0o644)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
        entry = _entry("bin/busybox", 0o755)
        entry.size = len(busybox)
        tar.addfile(entry, io.BytesIO(busybox))
        for name, target in {**links, **{f"bin/{applet}": "busybox" for applet in APPLETS.split()}}.items():
            entry = _entry(name, 0o777)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    return sink.getvalue()


def base_archive() -> bytes:
    """The base image as `docker save` would write it."""
    layer = _base_layer()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2020-01-01T00:00:00Z",
        "config": {"Env": [PATH], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        "history": [{"created": "2020-01-01T00:00:00Z", "created_by": "the base"}],
    }
    data = json.dumps(config).encode()
    name = f"{hashlib.sha256(data).hexdigest()}.json"
    manifest = [{"Config": name, "RepoTags": [f"{BASE}:latest"], "Layers": ["layer.tar"]}]
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for member, content in ((name, data), ("layer.tar", layer), ("manifest.json", json.dumps(manifest).encode())):
            entry = _entry(member, 0o644)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return sink.getvalue()


# -- what came out -------------------------------------------------------------------------------------------------


def read_facts(archive: bytes) -> dict[str, Any]:
    """Read a saved image: config, history without times, the names in each new layer, the files but base's."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        (manifest,) = json.loads(_member(tar, "manifest.json"))
        image = json.loads(_member(tar, manifest["Config"]))
        layers = [_member(tar, name) for name in manifest["Layers"]]
    base = hashlib.sha256(_base_layer()).hexdigest()
    tree: dict[str, list[Any]] = {}
    names: list[list[str]] = []
    start: dict[str, list[Any]] = {}
    for layer, diff_id in zip(layers, image["rootfs"]["diff_ids"], strict=True):
        entries = _apply(layer, tree)
        if diff_id == f"sha256:{base}":
            start = dict(tree)
        else:
            names.append(entries)
    changed = {path: entry for path, entry in sorted(tree.items()) if start.get(path) != entry}
    facts: dict[str, Any] = {
        "config": image.get("config") or {},
        "history": [
            f"{'-' if entry.get('empty_layer') else '+'} {entry.get('created_by', '')}"
            + (f" ({entry['comment']})" if entry.get("comment", COMMENT) != COMMENT else "")
            for entry in image.get("history", ())
        ],
        "layers": names,
        "tree": changed,
        "gone": sorted(path for path in start if path not in tree),
    }
    if image.get("author"):
        facts["author"] = image["author"]
    if image["created"] < YOUNG_TEXT:
        facts["created"] = [image["created"], *(entry["created"] for entry in image["history"])]
    return facts


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    found = tar.extractfile(name)
    assert found is not None, name
    return found.read()


def _apply(layer: bytes, tree: dict[str, list[Any]]) -> list[str]:
    """Put a layer upon a tree; gives the names that it holds."""
    names: list[str] = []
    fresh: set[str] = set()
    before = set(tree)
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        for entry in tar:
            path = entry.name.strip("/").removeprefix("./")
            if path in (".", ""):
                continue
            parent, name = str(PurePosixPath(path).parent), PurePosixPath(path).name
            if name != ".wh..wh..opq" or parent in before:  # elsewhere it says nothing
                names.append(path)
            if name == ".wh..wh..opq":
                _cut(tree, parent, fresh, itself=False)
            elif name.startswith(".wh."):
                _cut(tree, name[4:] if parent == "." else f"{parent}/{name[4:]}", fresh, itself=True)
            else:
                if not entry.isdir():
                    _cut(tree, path, fresh, itself=True)
                tree[path] = _fact(tar, entry, tree)
                fresh.add(path)
    return sorted(names)


def _cut(tree: dict[str, list[Any]], path: str, keep: set[str], *, itself: bool) -> None:
    for name in list(tree):
        if name not in keep and ((itself and name == path) or name.startswith(f"{path}/")):
            del tree[name]


def _fact(tar: tarfile.TarFile, entry: tarfile.TarInfo, tree: dict[str, list[Any]]) -> list[Any]:
    """Kind, mode, owner, content or target, time if it is old, attributes."""
    if entry.islnk():
        return [*tree[entry.linkname.strip("/").removeprefix("./")][:-1], "hard"]
    kind = _KINDS.get(entry.type, "f")
    content = ""
    if kind == "f":
        file = tar.extractfile(entry)
        assert file is not None
        data = file.read()
        text = data.decode("ascii", "replace")
        content = text if len(data) < 200 and text.isascii() else f"{len(data)} {hashlib.sha256(data).hexdigest()}"
        content = "busybox" if data == _busybox() else content
    elif kind == "l":
        content = entry.linkname
    mode = "" if kind == "l" else f"{stat.S_IMODE(entry.mode):o}"
    old = entry.mtime < YOUNG
    xattrs = sorted(key.removeprefix("SCHILY.xattr.") for key in entry.pax_headers if key.startswith("SCHILY.xattr."))
    return [kind, mode, f"{entry.uid}:{entry.gid}", content, int(entry.mtime - OLD) if old else "new", *xattrs]


def essential(text: str) -> str:
    """Cut an error of BuildKit to what it is about."""
    text = text.strip().splitlines()[-1] if text.strip() else ""
    text = text.rpartition("failed to solve: ")[2]
    before, found, rest = text.partition("/work/data/overlay2/")  # where the daemon has the files at the moment
    text = before + rest.partition("/merged")[2] if found else text
    before, found, rest = text.partition("failed to calculate checksum of ref ")
    return before + rest.partition(": ")[2] if found else text


def run(command: Iterable[str], *, data: bytes | None = None, **options: Any) -> "subprocess.CompletedProcess[bytes]":
    """Run a command and keep what it says."""
    return subprocess.run(list(command), input=data, capture_output=True, check=False, **options)
