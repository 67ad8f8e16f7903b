"""A store for tests: every part over one state root, wired as the engine does it."""

import hashlib
import io
import os
import tarfile
import time
from collections.abc import Callable, Mapping
from io import FileIO
from typing import BinaryIO, Final, Self, cast

import msgspec

from onggi.base.ids import ContainerID
from onggi.host.files import Before, Files
from onggi.spec.digest import DiffID, Digest
from onggi.spec.image_config import History, ImageConfig, RootFS, print_image_config
from onggi.store.check import Checker
from onggi.store.containers import Container, Containers
from onggi.store.content import Content
from onggi.store.events import Events
from onggi.store.gc import Collector
from onggi.store.images import Images
from onggi.store.layers import DirectoryForm, LayerForm, Layers
from onggi.store.leases import Lease, Leases
from onggi.store.root import StateRoot
from onggi.store.snapshots import Snapshots
from onggi.store.sources import Sources
from onggi.store.sweep import Sweeper
from onggi.store.tar.pack import hash_layer
from onggi.store.tar.unpack import Marks, unpack_layer
from onggi.store.unsynced import Unsynced
from onggi.store.volumes import Volumes

BOOT = "11111111-1111-1111-1111-111111111111"
NEXT_BOOT = "22222222-2222-2222-2222-222222222222"
ROOT: Final = os.geteuid() == 0
MARKS: Final[Marks] = "trusted" if ROOT else "user"


class Clock:
    """A clock that moves a second each time somebody looks."""

    def __init__(self) -> None:
        """Begin now."""
        self.now_ns = time.time_ns()

    def __call__(self) -> int:
        """Give the time."""
        self.now_ns += 1_000_000_000
        return self.now_ns


def new_id() -> str:
    """Give 64 random hex digits."""
    return os.urandom(32).hex()


class Store:
    """All parts of the store."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        before: Before | None = None,
        boot_id: str = BOOT,
        clock_ns: Callable[[], int] | None = None,
        forms: Callable[[Files], Mapping[str, LayerForm]] | None = None,
    ) -> None:
        """Open the state root at `path`; `before` sees every effect."""
        self.files = Files(before)
        self.root = StateRoot(
            os.fspath(path), files=self.files, clock_ns=clock_ns or Clock(), new_id=new_id, boot_id=boot_id
        )
        made = forms(self.files) if forms else {"directory": DirectoryForm(self.files, toy_unpack, toy_diff_id)}
        self.events = Events(self.root)
        self.leases = Leases(self.root)
        self.content = Content(self.root)
        self.layers = Layers(self.root, self.content, made, next(iter(made)))
        self.snapshots = Snapshots(self.root, self.layers)
        self.images = Images(self.root, self.content)
        self.sources = Sources(self.root)
        self.containers = Containers(self.root)
        self.volumes = Volumes(self.root)
        self.unsynced = Unsynced(self.root, self.content, self.layers)
        self.sweeper = Sweeper(self.root)
        self.collector = Collector(self.root, self.leases)
        self.checker = Checker(
            self.root,
            self.content,
            self.layers,
            self.leases,
            self.unsynced,
            self.sweeper,
            (self.root.db,),
        )

    def __enter__(self) -> Self:
        """Give the store itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the databases."""
        self.close()

    def close(self) -> None:
        """Close the databases."""
        self.root.db.close()


def toy_unpack(tar: BinaryIO, directory: int) -> int:
    """Unpack a benign tar."""
    size = 0
    with tarfile.open(fileobj=tar, mode="r|") as archive:
        for member in archive:
            if member.isdir():
                os.mkdir(member.name, member.mode, dir_fd=directory)
                continue
            content = archive.extractfile(member)
            assert content is not None
            fd = os.open(member.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, member.mode, dir_fd=directory)
            with open(fd, "wb") as file:
                size += file.write(content.read())
    return size


def toy_diff_id(directory: int) -> DiffID:
    """Hash names, modes and contents of a tree."""
    found = []
    for path, directories, files, fd in os.fwalk(".", dir_fd=directory):
        for name in [*directories, *files]:
            info = os.lstat(name, dir_fd=fd)
            data = b""
            if name in files:
                with open(os.open(name, os.O_RDONLY, dir_fd=fd), "rb") as file:
                    data = file.read()
            found.append((path, name, info.st_mode, data))
    return DiffID.of(repr(sorted(found)).encode())


def directory_form(files: Files) -> DirectoryForm:
    """Make the form that the engine uses, with the real tar code."""
    return DirectoryForm(
        files,
        lambda tar, directory: unpack_layer(cast("FileIO", tar), directory, marks=MARKS, owners=ROOT).size_bytes,
        lambda directory: hash_layer(directory, marks=MARKS)[0],
    )


def make_tar(files: Mapping[str, bytes]) -> bytes:
    """Make the tar of a layer; a name that ends in `/` is a directory."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name.rstrip("/"))
            member.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            member.mode = 0o755 if name.endswith("/") else 0o644
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def make_config(*diff_ids: Digest, comment: str = "") -> bytes:
    """Make the config of an image of these layers."""
    return print_image_config(
        ImageConfig(
            architecture="amd64",
            os="linux",
            rootfs=RootFS(type="layers", diff_ids=tuple(DiffID(diff_id) for diff_id in diff_ids)),
            history=(History(created_by="test", comment=comment),),
        )
    )


def receive(store: Store, files: Mapping[str, bytes], lease: Lease) -> str:
    """Take in a layer; gives its id."""
    tar = make_tar(files)
    digest = store.content.put([tar], Digest.of(tar), lease=lease).digest
    return store.layers.receive(DiffID(digest), lease=lease).id


def diff_id_of(files: Mapping[str, bytes]) -> DiffID:
    """Give the DiffID of a layer that `receive` takes in."""
    return DiffID.of(make_tar(files))


def new_container(id: str | None = None, **fields: object) -> Container:
    """Make a record of a container."""
    container = Container(
        id=ContainerID(id or new_id()),
        name=None,
        image="sha256:" + "0" * 64,
        image_ref="test",
        created_ns=1,
        config=b"{}",
        auto_remove=False,
        snapshot=None,
        state="created",
        pid=0,
        started_ns=0,
        finished_ns=0,
        exit_code=0,
        oom_killed=False,
        error="",
        boot_id="",
    )
    return msgspec.structs.replace(container, **fields)


def tree_of(path: str | os.PathLike[str]) -> dict[str, str]:
    """Give every file below a directory with its hash: what must be the same where nothing happened."""
    found = {}
    for directory, _, files in os.walk(path):
        for name in files:
            place = os.path.join(directory, name)
            with open(place, "rb") as file:
                found[os.path.relpath(place, path)] = hashlib.sha256(file.read()).hexdigest()
    return found
