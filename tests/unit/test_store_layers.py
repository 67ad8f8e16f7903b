"""Layers and snapshots: received once, made without a copy, released before they are used again."""

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from onggi.base.errors import Conflict, Corrupt, FailedPrecondition, InvalidArgument, NotFound, NotSupported
from onggi.spec.digest import ChainID, DiffID, Digest
from onggi.store.leases import Lease
from tests.stores import (
    NEXT_BOOT,
    Store,
    diff_id_of,
    make_config,
    make_tar,
    new_container,
    new_id,
    receive,
    toy_diff_id,
    tree_of,
)

FILES = {"bin/": b"", "bin/sh": b"sh"}
OTHER = {"etc/": b"", "etc/passwd": b"root"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Give an empty store."""
    with Store(tmp_path) as made:
        yield made


@pytest.fixture
def lease(store: Store) -> Iterator[Lease]:
    """Give a lease."""
    with store.leases.open("test") as made:
        yield made


def make_layer(store: Store, lease: Lease, files: dict[str, bytes], *, settle: bool = True) -> str:
    """Make a layer as a build step does: write into the upper, commit, hash."""
    key = new_id()
    store.snapshots.prepare(key, [], lease=lease)
    with store.snapshots.hold(key) as held:
        assert held.upper is not None
        for name, data in files.items():
            Path(held.upper, name).write_bytes(data)
    id = store.snapshots.commit(key, lease=lease).id
    if settle:
        fd = store.layers.open(id)
        store.layers.settle(id, toy_diff_id(fd), sum(map(len, files.values())))
        os.close(fd)
    return id


# -- received layers -------------------------------------------------------------------------------


def test_a_layer_is_received_once(store: Store, lease: Lease) -> None:
    id = receive(store, FILES, lease)
    assert receive(store, FILES, lease) == id
    assert os.listdir(f"{store.root.path}/layers") == [id]
    layer = store.layers.find(diff_id_of(FILES))
    assert layer is not None
    assert (layer.id, layer.form, layer.size_bytes, layer.lost) == (id, "directory", 2, False)


def test_threads_that_receive_the_same_make_one(store: Store, lease: Lease) -> None:
    store.content.put([make_tar(FILES)], lease=lease)
    ids: list[str] = []
    threads = [
        threading.Thread(target=lambda: ids.append(store.layers.receive(diff_id_of(FILES)).id)) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 5
    assert len(set(ids)) == 1


def test_a_layer_that_depends_on_what_lies_below_is_for_that_stack_only(store: Store, lease: Lease) -> None:
    store.content.put([make_tar(FILES)], lease=lease)
    diff_id = diff_id_of(FILES)
    here, there = ChainID.of(b"1"), ChainID.of(b"2")
    first = store.layers.receive(diff_id, chain=here, lease=lease)
    assert store.layers.find(diff_id, here) == first
    assert store.layers.find(diff_id, there) is None
    assert store.layers.find(diff_id) is None
    second = store.layers.receive(diff_id, chain=there, lease=lease)
    assert second.id != first.id


def test_the_tar_must_be_here(store: Store) -> None:
    with pytest.raises(NotFound, match="blob sha256:"):
        store.layers.receive(diff_id_of(FILES))
    assert store.checker.check() == []


def test_a_tar_that_cannot_be_unpacked_leaves_nothing(store: Store, lease: Lease) -> None:
    broken = make_tar(OTHER)[:1026]
    digest = store.content.put([broken], lease=lease).digest
    with pytest.raises(Exception):  # noqa: B017, PT011 whatever the unpacker says
        store.layers.receive(DiffID(digest), lease=lease)
    assert store.checker.check() == []
    assert store.layers.find(DiffID(digest)) is None


def test_forms_that_this_host_lacks_are_said(store: Store) -> None:
    with pytest.raises(NotSupported, match="form 'erofs' cannot be used on this host"):
        store.layers.receive(diff_id_of(FILES), form="erofs")


def test_verifying_compares_with_the_tar(store: Store, lease: Lease) -> None:
    id = receive(store, FILES, lease)
    assert store.layers.verify(id)
    shell = Path(store.root.path, "layers", id, "fs/bin/sh")
    shell.write_bytes(b"SH")
    assert not store.layers.verify(id)
    shell.write_bytes(b"sh")
    assert store.layers.verify(id)
    Path(store.content.path(diff_id_of(FILES))).write_bytes(b"")
    assert not store.layers.verify(id)
    assert os.listdir(f"{store.root.path}/ingest") == []


# -- snapshots -------------------------------------------------------------------------------------


def test_a_snapshot_gives_what_to_mount_it_from(store: Store, lease: Lease) -> None:
    below, above = receive(store, FILES, lease), receive(store, OTHER, lease)
    key = new_id()
    snapshot = store.snapshots.prepare(key, [below, above], volatile=True, lease=lease)
    assert store.snapshots.get(key) == snapshot
    assert snapshot.layers == (below, above)
    with store.snapshots.hold(key) as held:
        assert [os.listdir(fd) for fd in held.lowers] == [["etc"], ["bin"]]  # top first
        assert held.upper == f"{store.root.path}/snapshots/{key}/fs"
        assert held.work is not None
        assert os.path.dirname(held.work) == os.path.dirname(held.upper)
        assert os.stat(held.upper).st_mode & 0o777 == 0o755
        assert held.snapshot.volatile


def test_the_work_directory_is_new_each_time(store: Store, lease: Lease) -> None:
    key = new_id()
    store.snapshots.prepare(key, [], lease=lease)
    seen = set()
    for _ in range(3):
        with store.snapshots.hold(key) as held:
            assert held.work is not None
            Path(held.work, "work/incompat/volatile").mkdir(parents=True)
            seen.add(os.path.basename(held.work))
            assert set(os.listdir(f"{store.root.path}/snapshots/{key}")) == {"fs", os.path.basename(held.work)}
    assert len(seen) == 3
    assert os.listdir(f"{store.root.path}/trash") == []


@pytest.mark.parametrize(("layers", "lowers"), [(0, 2), (1, 2), (2, 2)])
def test_a_view_has_no_upper_and_enough_lowers(store: Store, lease: Lease, layers: int, lowers: int) -> None:
    ids = [receive(store, {f"{n}": b""}, lease) for n in range(layers)]
    key = new_id()
    store.snapshots.view(key, ids, lease=lease)
    with store.snapshots.hold(key) as held, store.snapshots.hold(key, timeout_s=0) as again:
        assert (held.upper, held.work) == (None, None)
        assert len(held.lowers) == len(again.lowers) == lowers
    with pytest.raises(FailedPrecondition, match="is a view"):
        store.snapshots.commit(key)
    store.snapshots.remove(key)
    assert store.checker.check() == []


def test_an_active_one_without_layers_has_an_empty_lower(store: Store, lease: Lease) -> None:
    key = new_id()
    store.snapshots.prepare(key, [], lease=lease)
    with store.snapshots.hold(key) as held:
        assert [os.listdir(fd) for fd in held.lowers] == [[]]


def test_nothing_happens_to_it_while_it_is_held(store: Store, lease: Lease) -> None:
    key = new_id()
    store.snapshots.prepare(key, [], lease=lease)
    assert store.snapshots.is_released(key)
    with store.snapshots.hold(key):
        assert not store.snapshots.is_released(key)
        for attempt in (
            lambda: store.snapshots.hold(key, timeout_s=0),
            lambda: store.snapshots.commit(key, timeout_s=0),
            lambda: store.snapshots.remove(key, timeout_s=0),
            lambda: store.snapshots.wait_released(key, timeout_s=0),
        ):
            with pytest.raises(Conflict, match=f"the root file system {key[:12]} is in use"):
                attempt()
    store.snapshots.wait_released(key)
    store.snapshots.remove(key)


def test_it_is_held_as_long_as_any_process_has_the_descriptor(store: Store, lease: Lease) -> None:
    key = new_id()
    store.snapshots.prepare(key, [], lease=lease)
    with store.snapshots.hold(key) as held:
        supervisor = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=(held.lock.fd,))
    released = threading.Thread(target=store.snapshots.remove, args=(key,), kwargs={"timeout_s": 60})
    try:
        assert not store.snapshots.is_released(key)
        released.start()
        assert store.snapshots.get(key).key == key
    finally:
        supervisor.communicate()
    released.join()
    with pytest.raises(NotFound):
        store.snapshots.get(key)


def test_holding_leaks_no_descriptor(store: Store, lease: Lease) -> None:
    key = new_id()
    store.snapshots.prepare(key, [receive(store, FILES, lease)], lease=lease)
    before = len(os.listdir("/proc/self/fd"))
    with store.snapshots.hold(key), pytest.raises(Conflict):
        store.snapshots.hold(key, timeout_s=0)
    Path(store.root.path, "layers", store.snapshots.get(key).layers[0], "fs").rename(f"{store.root.path}/elsewhere")
    with pytest.raises(Corrupt, match="the files of a layer are gone"):
        store.snapshots.hold(key)
    assert len(os.listdir("/proc/self/fd")) == before
    assert store.snapshots.is_released(key)


@pytest.mark.parametrize("key", ["", "x" * 64, "../../etc/passwd", "a" * 15, "a" * 129, "A" * 64])
def test_keys_are_ids(store: Store, key: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot name a snapshot"):
        store.snapshots.prepare(key, [])


def test_a_key_is_used_once(store: Store, lease: Lease) -> None:
    key = new_id()
    store.snapshots.prepare(key, [], lease=lease)
    Path(store.root.path, "snapshots", key, "fs/file").touch()
    with pytest.raises(Conflict, match="exists already"):
        store.snapshots.prepare(key, [])
    assert os.listdir(f"{store.root.path}/snapshots/{key}/fs") == ["file"]
    store.snapshots.commit(key, lease=lease)
    with pytest.raises(Conflict, match="exists already"):
        store.snapshots.prepare(key, [])


def test_layers_that_are_gone_are_said(store: Store) -> None:
    with pytest.raises(NotFound, match="is not here any more; try again"):
        store.snapshots.prepare(new_id(), [new_id()])
    assert store.checker.check() == []
    with pytest.raises(NotFound):
        store.snapshots.hold(new_id())
    store.snapshots.remove(new_id())


def test_a_snapshot_of_a_container_stays(store: Store, lease: Lease) -> None:
    container = new_container()
    with store.root.db.write():
        store.snapshots.prepare(container.id, [])
        store.containers.create(new_container(container.id, snapshot=container.id), durable=False)
    for attempt in (store.snapshots.remove, store.snapshots.commit):
        with pytest.raises(FailedPrecondition, match=f"belongs to container {container.id[:12]}"):
            attempt(container.id)
    store.containers.remove(container.id)
    store.snapshots.remove(container.id)
    assert store.checker.check() == []


def test_a_transaction_that_fails_takes_the_directories_along(store: Store) -> None:
    key = new_id()

    def fail() -> None:
        with store.root.db.write():
            store.snapshots.prepare(key, [])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert os.listdir(f"{store.root.path}/snapshots") == [key]
    store.sweeper.sweep()
    assert store.checker.check() == []
    assert os.listdir(f"{store.root.path}/snapshots") == []


# -- made layers -----------------------------------------------------------------------------------


def test_an_upper_becomes_a_layer_where_it_is(store: Store, lease: Lease) -> None:
    inode = None
    key = new_id()
    store.snapshots.prepare(key, [], lease=lease)
    with store.snapshots.hold(key) as held:
        assert held.upper is not None
        Path(held.upper, "made").write_bytes(b"here")
        inode = os.stat(held.upper).st_ino
    layer = store.snapshots.commit(key, lease=lease)
    assert (layer.id, layer.diff_id, layer.tar, layer.form) == (key, None, None, "directory")
    assert os.listdir(f"{store.root.path}/snapshots/{key}") == ["fs"]
    fd = store.layers.open(key)
    assert os.fstat(fd).st_ino == inode
    os.close(fd)
    with pytest.raises(NotFound):
        store.snapshots.get(key)
    store.snapshots.remove(key)  # too late, and harmless
    assert store.checker.check() == []


def test_the_next_step_runs_before_the_hash_is_known(store: Store, lease: Lease) -> None:
    first = make_layer(store, lease, {"file": b"1"}, settle=False)
    key = new_id()
    store.snapshots.prepare(key, [first], lease=lease)
    with store.snapshots.hold(key) as held:
        assert os.listdir(held.lowers[0]) == ["file"]
        diff_id = toy_diff_id(held.lowers[0])
    assert not store.layers.verify(first)
    store.layers.settle(first, diff_id, 1)
    store.layers.settle(first, diff_id, 1)
    assert store.layers.verify(first)
    assert store.layers.get(first).size_bytes == 1
    with pytest.raises(Conflict, match="has another DiffID"):
        store.layers.settle(first, DiffID.of(b""), 1)
    found = store.layers.find(diff_id)
    assert found is not None
    assert found.id == first


def test_layers_made_twice_live_side_by_side(store: Store, lease: Lease) -> None:
    one, two = make_layer(store, lease, {"same": b""}), make_layer(store, lease, {"same": b""})
    assert one != two
    assert store.layers.get(one).diff_id == store.layers.get(two).diff_id


# -- power loss ------------------------------------------------------------------------------------


def test_a_received_layer_is_made_again_from_its_tar(store: Store, lease: Lease, tmp_path: Path) -> None:
    id = receive(store, FILES, lease)
    Path(store.root.path, "layers", id, "fs/bin/sh").write_bytes(bytes(2))
    with Store(tmp_path, boot_id=NEXT_BOOT) as later:
        fd = later.layers.open(id)  # whoever comes first
        with open(os.open("bin/sh", os.O_RDONLY, dir_fd=fd), "rb") as file:
            assert file.read() == b"sh"
        os.close(fd)
        layer = later.layers.get(id)
        assert (layer.lost, layer.unsynced) == (False, NEXT_BOOT)
        assert len(os.listdir(f"{tmp_path}/layers")) == 1
        later.unsynced.recover()
        assert later.checker.check() == []
        assert later.unsynced.flush() == 2


def test_a_received_layer_without_its_tar_is_lost_and_healed(store: Store, lease: Lease, tmp_path: Path) -> None:
    id = receive(store, FILES, lease)
    store.images.create(make_config(diff_id_of(FILES)), [id], lease=lease)
    Path(store.content.path(Digest(diff_id_of(FILES)))).unlink()
    with Store(tmp_path, boot_id=NEXT_BOOT) as later:
        recovery = later.unsynced.recover()
        assert recovery.lost == (diff_id_of(FILES), id)
        with pytest.raises(Corrupt, match="was lost or damaged"):
            later.layers.open(id)
        assert not later.layers.verify(id)
        assert [(item.kind, item.repairable) for item in later.checker.check()] == [("lost", False)] * 2
        with later.leases.open("test") as other:
            assert receive(later, FILES, other) == id  # so the image is whole again
        os.close(later.layers.open(id))
        assert later.checker.check() == []


@pytest.mark.parametrize(("settle", "damage", "lost"), [(True, False, False), (True, True, True), (False, False, True)])
def test_a_made_layer_is_hashed_again(
    store: Store, lease: Lease, tmp_path: Path, settle: bool, damage: bool, lost: bool
) -> None:
    id = make_layer(store, lease, {"file": b"1"}, settle=settle)
    if damage:
        Path(store.root.path, "snapshots", id, "fs/file").write_bytes(b"")
    with Store(tmp_path, boot_id=NEXT_BOOT) as later:
        recovery = later.unsynced.recover()
        assert recovery.lost == ((id,) if lost else ())
        assert later.layers.get(id).lost is lost
        assert os.path.exists(f"{tmp_path}/snapshots/{id}") is not lost
        assert {item.kind for item in later.checker.check()} == ({"lost"} if lost else set())


def test_what_was_flushed_is_not_looked_at(store: Store, lease: Lease, tmp_path: Path) -> None:
    id = receive(store, FILES, lease)
    assert store.unsynced.flush() == 2
    before = tree_of(tmp_path / "layers")
    with Store(tmp_path, boot_id=NEXT_BOOT) as later:
        os.close(later.layers.open(id))
        assert later.unsynced.recover().kept == ()
        assert tree_of(tmp_path / "layers") == before
