"""Collection and leases: what is needed stays, what is not goes, whoever dies protects nothing."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onggi.spec.digest import Digest
from onggi.spec.reference import parse_reference
from tests.stores import Store, diff_id_of, make_config, make_tar, new_container, new_id, receive, tree_of

PROJECT = Path(__file__).parents[2]
FILES = {"bin/": b"", "bin/sh": b"shell"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Give an empty store."""
    with Store(tmp_path) as made:
        yield made


def kept_files(store: Store) -> set[str]:
    """Give the objects that have files."""
    return {
        f"{area}/{name}"
        for area in ("blobs/sha256", "layers", "snapshots", "trash", "ingest")
        for name in os.listdir(store.root.place(area))
    }


def test_everything_of_an_image_stays_and_goes_with_it(store: Store) -> None:
    with store.leases.open("load") as lease:
        layer = receive(store, FILES, lease)
        packed = store.content.put([b"packed layer"], lease=lease).digest
        manifest = store.content.put([b"manifest"], lease=lease).digest
        index = store.content.put([b"index"], lease=lease).digest
        store.content.link(index, [manifest])
        store.content.link(manifest, [packed])
        config = make_config(diff_id_of(FILES))
        image = store.images.create(config, [layer], manifest=index, references=[parse_reference("app")], lease=lease)
        store.content.put([b"nothing needs this"], lease=lease)
        before = kept_files(store)
        assert store.collector.collect().size_bytes == 0
        assert kept_files(store) == before
    collected = store.collector.collect()
    assert collected.blobs == (Digest.of(b"nothing needs this"),)
    assert collected.size_bytes == len(b"nothing needs this")
    store.images.untag(parse_reference("app"))
    assert store.collector.collect().blobs == ()  # an image without a name is still an image
    store.images.remove(image.id)
    collected = store.collector.collect()
    assert collected.layers == (layer,)
    assert set(collected.blobs) == {packed, manifest, index, image.id, diff_id_of(FILES)}
    assert kept_files(store) == set()
    assert store.checker.check() == []


def test_the_config_of_a_removed_image_stays_for_its_containers(store: Store) -> None:
    with store.leases.open("load") as lease:
        layer = receive(store, FILES, lease)
        image = store.images.create(make_config(diff_id_of(FILES)), [layer], lease=lease)
    id = new_id()
    store.containers.create(new_container(id, image=str(image.id)), durable=False)
    store.images.remove(image.id)
    assert image.id not in store.collector.collect().blobs
    assert store.images.config(image.id).diff_ids == (diff_id_of(FILES),)
    store.containers.remove(id)
    assert store.collector.collect().blobs == (image.id,)


def test_snapshots_stay_for_containers_leases_and_holders(store: Store) -> None:
    container, leased, held, loose = (new_id() for _ in range(4))
    lease = store.leases.open("build")
    for key in (container, held, loose):
        with store.root.db.write():
            store.snapshots.prepare(key, [])
            if key == container:
                store.containers.create(new_container(key, snapshot=key), durable=False)
    store.snapshots.prepare(leased, [], lease=lease)
    with store.snapshots.hold(held):
        assert store.collector.collect().snapshots == (loose,)
    assert store.collector.collect().snapshots == (held,)
    lease.close()
    assert store.collector.collect().snapshots == (leased,)
    store.containers.remove(container)
    assert store.collector.collect().snapshots == (container,)
    assert kept_files(store) == set()


def test_layers_stay_for_snapshots(store: Store) -> None:
    with store.leases.open("build") as lease:
        below = receive(store, FILES, lease)
        step = new_id()
        store.snapshots.prepare(step, [below], lease=lease)
        made = store.snapshots.commit(step, lease=lease).id
        container = new_container()
        with store.root.db.write():
            store.snapshots.prepare(container.id, [below, made])
            store.containers.create(new_container(container.id, snapshot=container.id), durable=False)
    assert store.collector.collect().layers == ()
    store.containers.remove(container.id)
    assert set(store.collector.collect().layers) == {below, made}
    assert kept_files(store) == set()


def test_many_are_collected_in_batches(store: Store) -> None:
    for number in range(150):
        store.content.put([str(number).encode()])
    assert len(store.collector.collect().blobs) == 150
    assert kept_files(store) == set()
    assert store.checker.check() == []


def test_a_blob_on_its_way_in_is_left_alone(store: Store) -> None:
    digest = Digest.of(b"data")
    store.content.put([b"data"])
    with store.content.lock(digest):
        assert store.collector.collect().blobs == ()
    assert store.collector.collect().blobs == (digest,)


def test_publishing_and_collecting_at_once(store: Store) -> None:
    """Whatever the order, a leased blob is there afterwards."""
    digest = Digest.of(b"data")
    stop = threading.Event()

    def collect() -> None:
        while not stop.is_set():
            store.collector.collect()

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        for _ in range(40):
            with store.leases.open("test") as lease:
                store.content.put([b"data"], digest, lease=lease)
                assert store.content.read(digest, 10) == b"data"
                layer = receive(store, FILES, lease)
                os.close(store.layers.open(layer))
    finally:
        stop.set()
        thread.join()
    assert store.checker.check() == []


# -- leases ----------------------------------------------------------------------------------------

CHILD = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/src"]
from tests.stores import Store
with Store(sys.argv[2]) as store:
    lease = store.leases.open("child")
    store.content.put([b"data"], lease=lease)
    print("leased", flush=True)
    sys.stdin.read()
"""


def test_a_lease_dies_with_its_holder(store: Store, tmp_path: Path) -> None:
    command = [sys.executable, "-B", "-c", CHILD, str(PROJECT), str(tmp_path)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"leased\n"
        assert store.collector.collect().blobs == ()
        assert [(lease.purpose, lease.held) for lease in store.leases.list()] == [("child", True)]
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate()
    assert [(lease.purpose, lease.held) for lease in store.leases.list()] == [("child", False)]
    assert [(item.kind, item.subject) for item in store.checker.check()] == [("lease", "the lease of child")]
    assert store.collector.collect().blobs == (Digest.of(b"data"),)
    assert store.leases.list() == []


def test_closing_a_lease_is_harmless_twice_and_leaks_nothing(store: Store) -> None:
    store.leases.open("first").close()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        lease = store.leases.open("test")
        lease.add("blob", Digest.of(b""))
        lease.close()
        lease.close()
    assert store.leases.list() == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_finding_protects_in_the_same_moment(store: Store) -> None:
    layer = None
    with store.leases.open("first") as lease:
        layer = receive(store, FILES, lease)
    with store.leases.open("second") as lease:
        assert store.layers.find(diff_id_of(FILES), lease=lease) == store.layers.get(layer)
        assert store.content.find(Digest(diff_id_of(FILES)), lease=lease) is not None
        assert store.collector.collect().layers == ()
    assert store.collector.collect().layers == (layer,)


# -- any history -----------------------------------------------------------------------------------

VERBS = ["receive", "image", "remove image", "container", "remove container", "blob", "step", "collect"]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(VERBS),
        st.integers(0, 2),
    ),
    max_size=25,
)


@settings(max_examples=25)
@given(steps=STEPS)
def test_after_any_history_all_that_is_referred_to_is_there(
    steps: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("store")
    with Store(path) as store:
        for verb, number in steps:
            _step(store, verb, number)
        for image in store.images.list():
            store.images.config(image.id)
            for layer in image.layers:
                assert store.layers.verify(layer)
        for container in store.containers.list():
            with store.snapshots.hold(container.id) as held:
                assert len(held.lowers) >= 1
        assert store.checker.check() == []
        for image in store.images.list():
            store.images.remove(image.id)
        for container in store.containers.list():
            store.containers.remove(container.id)
        store.collector.collect()
        assert kept_files(store) == set()
        assert tree_of(path / "containers") == {}
        assert store.checker.check() == []


def _step(store: Store, verb: str, number: int) -> None:
    files = {f"file{number}": b"data"}
    images = store.images.list()
    containers = store.containers.list()
    with store.leases.open("step") as lease:
        match verb:
            case "receive":
                receive(store, files, lease)
            case "image":
                layer = receive(store, files, lease)
                store.images.create(make_config(Digest.of(make_tar(files))), [layer], lease=lease)
            case "remove image" if images:
                store.images.remove(images[number % len(images)].id)
            case "container":
                layers = images[number % len(images)].layers if images else ()
                id = new_id()
                with store.root.db.write():
                    store.snapshots.prepare(id, layers)
                    store.containers.create(new_container(id, snapshot=id), durable=False)
            case "remove container" if containers:
                store.containers.remove(containers[number % len(containers)].id)
            case "blob":
                store.content.put([str(number).encode()])
            case "step":
                key = new_id()
                store.snapshots.prepare(key, [], lease=lease)
                store.snapshots.commit(key, lease=lease)
            case "collect":
                store.collector.collect()
