"""Sweeping, taking stock, repairing: each kind of difference is found, said, and repaired or left to the user."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from onggi.base.errors import Corrupt
from onggi.host.files import Files, Info
from onggi.spec.digest import Digest
from tests.stores import Store, diff_id_of, make_config, new_container, new_id, receive

FILES = {"bin/": b"", "bin/sh": b"shell"}
DATA = Digest.of(b"data")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Give a store with an image, a container, a volume and a loose blob."""
    with Store(tmp_path / "state") as made:
        with made.leases.open("test") as lease:
            layer = receive(made, FILES, lease)
            made.images.create(make_config(diff_id_of(FILES)), [layer], lease=lease)
            container = new_container()
            made.snapshots.prepare(container.id, [layer], lease=lease)
            made.containers.create(new_container(container.id, snapshot=container.id), durable=False)
        made.volumes.create("volume")
        made.content.put([b"data"])
        assert made.checker.check() == []
        yield made


def found(store: Store) -> list[tuple[str, str]]:
    """Give the findings as kind and sentence."""
    return [(item.kind, f"{item.subject} {item.problem}") for item in store.checker.check()]


def test_trash_is_emptied(store: Store) -> None:
    place = Path(store.root.place("trash", "something.0"))
    (place / "deep/er").mkdir(parents=True)
    assert found(store) == [("trash", f"{place} was removed, but not to the end")]
    store.sweeper.sweep()
    assert found(store) == []


def test_staged_files_go_if_nobody_is_at_them(store: Store) -> None:
    digest = Digest.of(b"new")
    with store.content.receive(digest) as ingest:
        ingest.write(b"n")
        with store.content.receive():
            assert found(store) == []
    (staged,) = os.listdir(store.root.place("ingest"))
    assert staged == f"blob-{digest.hex}"
    assert [kind for kind, _ in found(store)] == ["staged"]
    assert store.sweeper.sweep() == []  # it may be resumed until tomorrow
    os.utime(store.root.place("ingest", staged), (0, 0))
    assert len(store.sweeper.sweep()) == 1
    Path(store.root.place("ingest", new_id())).mkdir()
    assert len(store.sweeper.sweep()) == 1
    assert found(store) == []


def test_what_is_repaired_may_not_be_resumed(store: Store) -> None:
    with store.content.receive(Digest.of(b"new")) as ingest:
        ingest.write(b"n")
    store.checker.repair()
    assert found(store) == []
    with store.content.receive(Digest.of(b"new")) as ingest:
        assert ingest.offset == 0


@pytest.mark.parametrize("place", ["blobs/sha256", "blobs/sha512", "layers", "snapshots", "containers"])
def test_files_without_a_row_go(store: Store, place: str) -> None:
    stray = Path(store.root.place(place, "ab" * 32))
    stray.parent.mkdir(exist_ok=True)
    stray.mkdir()
    assert found(store) == [("unrecorded", f"{stray} is not in the database")]
    assert [item.kind for item in store.checker.repair()] == ["unrecorded"]
    assert not stray.exists()
    assert found(store) == []


@pytest.mark.parametrize("area", ["layers", "snapshots", "containers", "blobs"])
def test_files_that_somebody_is_making_stay(store: Store, area: str) -> None:
    name = "ab" * 32
    stray = Path(store.root.place(f"{area}/sha256" if area == "blobs" else area, name))
    stray.mkdir()
    with store.root.lock(area, name, "it"):
        assert found(store) == []
        assert store.sweeper.sweep() == []
        assert stray.exists()
    assert len(store.sweeper.sweep()) == 1


@pytest.mark.parametrize("place", ["layers", "containers", "blobs/sha256", "ingest", "volumes"])
def test_what_is_not_ours_is_left_alone(store: Store, place: str) -> None:
    foreign = Path(store.root.place(place, "lost+found"))
    foreign.mkdir()
    assert found(store) == [("foreign", f"{foreign} is not from Onggi; move it away")]
    assert store.checker.repair() == []
    assert foreign.exists()


def test_a_blob_without_its_file_is_lost(store: Store) -> None:
    os.unlink(store.content.path(DATA))
    assert found(store) == [("missing", f"blob {DATA} has no file")]
    store.checker.repair()
    assert found(store) == [("lost", f"blob {DATA} is lost; load or build its image again")]
    assert store.collector.collect().blobs == (DATA,)
    assert found(store) == []


def test_a_blob_of_the_wrong_size_is_lost(store: Store) -> None:
    os.truncate(store.content.path(DATA), 1)
    assert found(store) == [("missing", f"blob {DATA} has a file of 1 bytes instead of 4")]
    store.checker.repair()
    with pytest.raises(Corrupt):
        store.content.open(DATA)


def test_a_layer_without_files_is_made_again_from_its_tar(store: Store) -> None:
    (image,) = store.images.list()
    store.root.discard(store.root.place("layers", image.layers[0]))
    assert found(store) == [("missing", f"layer {diff_id_of(FILES)} has no files")]
    store.checker.repair()
    assert found(store) == []
    assert store.images.get(image.id).layers == image.layers
    assert store.layers.verify(image.layers[0])


def test_a_lost_layer_whose_tar_is_here_is_made_again_too(store: Store) -> None:
    (image,) = store.images.list()
    with store.root.db.write() as db:
        db.execute("UPDATE layers SET lost = 1")
    assert found(store) == [("missing", f"layer {diff_id_of(FILES)} has no files")]
    store.checker.repair()
    assert found(store) == []
    assert store.layers.verify(image.layers[0])
    assert len(os.listdir(store.root.place("layers"))) == 1


def test_what_another_command_repaired_meanwhile_is_left_alone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    (image,) = store.images.list()
    (container,) = store.containers.list()
    hidden = {store.root.place("layers", image.layers[0]), store.root.place("snapshots", container.id, "fs")}
    look = Files.look

    def see_late(files: Files, path: str) -> Info | None:
        if path in hidden:
            hidden.remove(path)
            return None
        return look(files, path)

    monkeypatch.setattr(Files, "look", see_late)
    assert [item.kind for item in store.checker.repair()] == ["missing", "missing"]
    assert hidden == set()
    assert not store.layers.get(image.layers[0]).lost
    assert store.containers.get(container.id).state == "created"
    assert found(store) == []


def test_a_made_layer_without_files_is_lost(store: Store) -> None:
    with store.leases.open("test") as lease:
        key = new_id()
        store.snapshots.prepare(key, [], lease=lease)
        store.snapshots.commit(key, lease=lease)
        store.root.discard(store.root.place("snapshots", key))
        assert found(store) == [("missing", f"layer {key[:12]} has no files")]
        store.checker.repair()
        assert found(store) == [("lost", f"layer {key[:12]} is lost; load or build its image again")]
    store.collector.collect()
    assert found(store) == []


def test_a_container_without_its_root_file_system_is_dead(store: Store) -> None:
    (container,) = store.containers.list()
    store.root.discard(store.root.place("snapshots", container.id))
    assert found(store) == [("missing", f"the root file system of container {container.id[:12]} has no files")]
    store.checker.repair()
    assert found(store) == []
    after = store.containers.get(container.id)
    assert (after.state, after.error) == ("dead", "its root file system is gone")
    store.containers.remove(container.id)
    store.snapshots.remove(container.id)
    assert found(store) == []


def test_a_snapshot_without_files_goes(store: Store) -> None:
    with store.leases.open("test") as lease:
        key = new_id()
        store.snapshots.prepare(key, [], lease=lease)
        store.root.discard(store.root.place("snapshots", key))
        assert found(store) == [("missing", f"snapshot {key[:12]} has no files")]
        store.checker.repair()
        assert found(store) == []


def test_a_container_without_its_directory_gets_one(store: Store) -> None:
    (container,) = store.containers.list()
    store.root.discard(store.containers.directory(container.id))
    assert found(store) == [("missing", f"container {container.id[:12]} has no directory; its logs are gone")]
    store.checker.repair()
    assert found(store) == []
    assert os.path.isdir(store.containers.directory(container.id))


def test_a_volume_without_a_row_is_recorded_again(store: Store) -> None:
    data = Path(store.root.place("volumes", "mine", "_data"))
    data.mkdir(parents=True)
    (data / "precious").touch()
    problem = f"{store.root.path}/volumes/mine is a volume that the database does not know"
    assert found(store) == [("unrecorded", problem)]
    store.sweeper.sweep()
    store.collector.collect()
    store.checker.repair()
    assert found(store) == []
    assert os.listdir(store.volumes.get("mine").path) == ["precious"]


@pytest.mark.parametrize("used", [True, False])
def test_a_volume_without_data_goes_or_is_empty(store: Store, used: bool) -> None:
    if used:
        store.containers.create(new_container(), volumes=["volume"], durable=False)
    store.root.discard(store.root.place("volumes", "volume"))
    assert found(store) == [("missing", "volume volume has no data")]
    store.checker.repair()
    assert found(store) == []
    assert [volume.name for volume in store.volumes.list()] == (["volume"] if used else [])


def test_a_damaged_index_is_reported(store: Store) -> None:
    store.close()
    connection = sqlite3.connect(store.root.db.path)
    connection.execute("PRAGMA foreign_keys=OFF")
    connection.execute("INSERT INTO tags VALUES ('docker.io/library/x:1', 'sha256:0', NULL, 0)")
    connection.commit()
    connection.close()
    ((kind, text),) = found(store)
    assert kind == "database"
    assert "a row of tags refers to a row of images that is not there; move it away" in text
    assert store.checker.repair() == []


def test_checking_changes_nothing(store: Store) -> None:
    Path(store.root.place("trash", "x")).mkdir()
    Path(store.root.place("layers", "ab" * 32)).mkdir()
    os.unlink(store.content.path(DATA))
    first = found(store)
    assert len(first) == 3
    assert found(store) == first
