"""Every write of the store is cut once: by an error, by a disk that fails from then on, by kill -9.

Each step below is run on a copy of the store that the steps before it made, and cut
at its first effect, its second, and so on until it gets through. After each cut
`repair` must leave a consistent store in which nothing that was there before is
missing, and the step must succeed when it is tried again.
"""

import errno
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from onggi.base.errors import Conflict, Corrupt
from onggi.host.files import Before
from onggi.host.oserrors import explain_oserror
from onggi.spec.digest import Digest
from onggi.spec.reference import parse_reference
from onggi.store.check import Finding
from onggi.store.events import Event
from tests.stores import NEXT_BOOT, Store, diff_id_of, make_config, new_container, receive, toy_diff_id

FILES = {"bin/": b"", "bin/sh": b"shell"}
MADE = {"made": b"here"}
BLOB = [b"a", b" ", b"blob"]
DIGEST = Digest.of(b"a blob")
CONTAINER, STEP, LATER_STEP = "c" * 64, "d" * 64, "e" * 64


def open_it(store: Store) -> None:
    """Make the databases: the directories are made by opening it."""
    assert store.images.list() == []
    assert store.events.read() == []


def put_blob(store: Store) -> None:
    """Take in content that has no name yet, and some that has."""
    store.content.put(BLOB)
    store.content.put(BLOB, DIGEST)
    assert store.content.read(DIGEST, 100) == b"a blob"


def resume_blob(store: Store) -> None:
    """Break off, go on."""
    digest = Digest.of(b"in two parts")
    with store.content.receive(digest) as ingest:
        if not ingest.offset:
            ingest.write(b"in two")
    if store.content.find(digest) is None:
        with store.content.receive(digest) as ingest:
            if ingest.offset == len(b"in two"):
                ingest.write(b" parts")
            else:
                ingest.restart()
                ingest.write(b"in two parts")
            ingest.finish(durable=True)
    assert store.content.read(digest, 100) == b"in two parts"


def load_image(store: Store) -> None:
    """Receive a layer, a manifest, make the image and name it."""
    with store.leases.open("load") as lease:
        layer = receive(store, FILES, lease)
        manifest = store.content.put([b"manifest"], lease=lease).digest
        store.content.link(manifest, [Digest(diff_id_of(FILES))])
        config = make_config(diff_id_of(FILES))
        store.images.create(config, [layer], manifest=manifest, references=[parse_reference("app:1")], lease=lease)
    assert store.layers.verify(store.images.resolve("app:1").layers[0])


def tag_image(store: Store) -> None:
    """Give another name, take it away, leave one."""
    id = store.images.resolve("app:1").id
    store.images.tag(parse_reference("app:2"), id)
    store.images.untag(parse_reference("app:2"))
    store.images.tag(parse_reference("app:3"), id)


def build_step(store: Store) -> None:
    """Make a layer, an image of it, and go on from there."""
    if any(image.references == ("docker.io/library/built:latest",) for image in store.images.list()):
        return
    below = store.images.resolve("app:1").layers
    with store.leases.open("build") as lease:
        store.snapshots.remove(STEP)
        store.collector.collect()
        key = STEP if store.root.files.look(store.root.place("snapshots", STEP)) is None else os.urandom(32).hex()
        store.snapshots.prepare(key, below, volatile=True, lease=lease)
        with store.snapshots.hold(key) as held:
            assert held.upper is not None
            Path(held.upper, "made").write_bytes(MADE["made"])
        layer = store.snapshots.commit(key, lease=lease)
        fd = store.layers.open(layer.id)
        diff_id = toy_diff_id(fd)
        os.close(fd)
        store.layers.settle(layer.id, diff_id, 4)
        config = make_config(diff_id_of(FILES), diff_id)
        store.images.create(config, [*below, layer.id], references=[parse_reference("built")], lease=lease)
    assert store.layers.verify(layer.id)


def run_container(store: Store) -> None:
    """Create a container with its root file system and a volume, start it, let it exit."""
    store.volumes.create("data")
    try:
        with store.root.db.write(durable=True):
            store.snapshots.prepare(CONTAINER, store.images.resolve("app:1").layers)
            container = new_container(CONTAINER, name="web", snapshot=CONTAINER)
            store.containers.create(container, volumes=["data"], durable=True)
    except Conflict:
        assert store.containers.get("web").id == CONTAINER  # it was created before the cut
    with store.snapshots.hold(CONTAINER) as held:
        assert held.upper is not None
    store.events.append(Event(time_ns=1, type="container", action="start", actor=CONTAINER, attributes={}))


def fill_volume(store: Store) -> None:
    """Fill its volume from a directory of an image; what a cut left is nothing or all."""
    data = Path(store.volumes.get("data").path)
    empty = store.volumes.is_empty("data")
    assert sorted(path.name for path in data.rglob("*")) == ([] if empty else ["a", "b", "c"])
    with tempfile.TemporaryDirectory(dir=Path(store.root.path).parent) as image:
        Path(image, "a", "b").mkdir(parents=True)
        Path(image, "a", "c").write_bytes(b"content")
        fd = os.open(image, os.O_RDONLY)
        store.volumes.fill("data", fd)
        os.close(fd)
    assert (data / "a" / "c").read_bytes() == b"content"
    assert os.listdir(data.parent) == ["_data"]


def rename_container(store: Store) -> None:
    """Rename it."""
    store.containers.rename(CONTAINER, "renamed")


def heal_after_power_loss(store: Store) -> None:
    """Lose what was not flushed; verify; receive it again; flush."""
    store.root.boot_id = NEXT_BOOT
    tar = Path(store.content.path(Digest(diff_id_of(FILES))))
    if store.unsynced.doubtful() != ((), ()):
        tar.unlink(missing_ok=True)
    store.unsynced.recover()
    with store.leases.open("load") as lease:
        receive(store, FILES, lease)
    store.unsynced.flush()
    store.root.db.checkpoint()
    assert store.unsynced.doubtful() == ((), ())
    assert store.layers.verify(store.images.resolve("app:1").layers[0])


def remove_container(store: Store) -> None:
    """Remove it, its root file system and its volume."""
    store.containers.remove(CONTAINER, durable=True)
    store.snapshots.remove(CONTAINER)
    if any(volume.name == "data" for volume in store.volumes.list()):
        store.volumes.remove("data")
    assert store.containers.list() == []


def remove_all(store: Store) -> None:
    """Remove the images and collect everything."""
    for image in store.images.list():
        store.images.remove(image.id)
    store.content.delete(DIGEST)
    store.collector.collect()
    store.sweeper.sweep()
    for area in ("blobs/sha256", "layers", "snapshots", "trash"):
        assert os.listdir(store.root.place(area)) == []


Step = Callable[[Store], None]

STEPS: Final[list[Step]] = [
    open_it,
    put_blob,
    resume_blob,
    load_image,
    tag_image,
    build_step,
    run_container,
    fill_volume,
    rename_container,
    heal_after_power_loss,
    remove_container,
    remove_all,
]


COUNTS: Final[dict[str, int]] = {}
"""How many writes were cut, by each way."""


class Cut(BaseException):
    """The write is cut here: not an Exception, so that nobody may swallow it."""


class Counter:
    """Does something at the n-th effect."""

    def __init__(self, at: int, cut: Before, *, forever: bool = False) -> None:
        """Cut at `at`, counted from 1; with `forever` all later ones too."""
        self.at, self.cut, self.forever, self.seen = at, cut, forever, 0

    def __call__(self, effect: str, path: str) -> None:
        """Count."""
        self.seen += 1
        if self.seen == self.at or (self.forever and self.seen > self.at):
            self.cut(effect, path)

    @property
    def reached(self) -> bool:
        """Whether there was an effect to cut."""
        return self.seen >= self.at


def raise_cut(effect: str, path: str) -> None:
    """Stop here as by Ctrl-C."""
    raise Cut(f"{effect} {path}")


def raise_no_space(effect: str, path: str) -> None:
    """Fail as a full disk does."""
    raise explain_oserror(OSError(errno.ENOSPC, ""), effect, path)


def kill(effect: str, path: str) -> None:
    """Die as by kill -9."""
    os.kill(os.getpid(), signal.SIGKILL)


Way = Callable[[Path, Step, int], bool]
"""Runs a step on a state root and cuts it at an effect; false if there was none."""


def cut_by_exception(cut: Before, *, forever: bool) -> Way:
    """Run a step in this process and let an effect fail."""

    def run(path: Path, step: Step, at: int) -> bool:
        counter = Counter(at, cut, forever=forever)
        try:
            with Store(path, before=counter) as store:
                step(store)
        except BaseException:
            if not counter.reached:
                raise
        return counter.reached

    return run


def cut_by_kill(path: Path, step: Step, at: int) -> bool:
    """Run a step in another process that dies at an effect."""
    child = os.fork()
    if child == 0:
        try:
            with Store(path, before=Counter(at, kill)) as store:
                step(store)
            os._exit(0)
        except BaseException:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), f"{step.__name__} failed before effect {at}"
    return status != 0


WAYS: Final[dict[str, Way]] = {
    "cut": cut_by_exception(raise_cut, forever=False),
    "error": cut_by_exception(raise_no_space, forever=False),
    "full disk": cut_by_exception(raise_no_space, forever=True),
    "kill -9": cut_by_kill,
}


def whole(store: Store) -> set[str]:
    """Name all that can be used: images, containers, volumes."""
    found = {volume.name for volume in store.volumes.list() if os.path.exists(volume.path)}
    for image in store.images.list():
        found |= {image.id, *image.references}
        with suppress(Corrupt):  # lost in the power failure
            store.images.config(image.id)
            for layer in image.layers:
                os.close(store.layers.open(layer))
            found.add(f"layers of {image.id}")
    for container in store.containers.list():
        found |= {container.id, container.name or ""}
        if container.snapshot is not None:
            with suppress(Corrupt):
                store.snapshots.hold(container.snapshot).close()
                found.add(f"root file system of {container.id}")
    return found


def repairable(store: Store) -> list[Finding]:
    """Give what `repair` should have repaired."""
    return [item for item in store.checker.check() if item.repairable]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a directory in memory: hundreds of stores sync here, and what a disk does is not the question."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path_factory.mktemp("cuts")
        return
    with tempfile.TemporaryDirectory(dir=memory) as directory:
        yield Path(directory)


@pytest.fixture(scope="module")
def stages(scratch: Path) -> dict[str, Path]:
    """Give, for each step, a state root as it is before it."""
    base = scratch / "stages"
    base.mkdir()
    found = {}
    for number, step in enumerate(STEPS):
        found[step.__name__] = base / f"{number}-before"
        if number == 0:
            (base / "0-before").mkdir()
        else:
            shutil.copytree(base / f"{number - 1}-after", base / f"{number}-before", symlinks=True)
        shutil.copytree(base / f"{number}-before", base / f"{number}-after", symlinks=True)
        with Store(base / f"{number}-after") as store:
            step(store)
            # What the former boot left is the point of one step, and what all later ones begin with.
            assert [item for item in store.checker.check() if item.kind != "unsynced"] == []
    return found


@pytest.mark.parametrize("way", sorted(WAYS))
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_every_write_is_cut_once(
    step: Step,
    way: str,
    stages: dict[str, Path],
    scratch: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = stages[step.__name__]
    at = 1
    while True:
        path = scratch / f"{step.__name__}-{way}-{at}"
        shutil.copytree(before, path, symlinks=True)
        if not WAYS[way](path, step, at):
            shutil.rmtree(path)
            break
        with Store(path) as store:
            had = whole(store)
            store.checker.repair()
            assert repairable(store) == [], f"{step.__name__} cut at {at}"
            assert whole(store) >= had
            step(store)
            assert repairable(store) == [], f"{step.__name__} again after {at}"
        shutil.rmtree(path)
        at += 1
    assert at > 1
    COUNTS[way] = COUNTS.get(way, 0) + at - 1
    if step is STEPS[-1]:
        with capsys.disabled():
            print(f"\nstore writes cut by {way}: {COUNTS[way]} ", end="")
