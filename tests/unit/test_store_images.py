"""Images: found by Docker's rules, whole or not at all, gone only when somebody says so."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onggi.base.errors import Corrupt, InvalidArgument, NotFound
from onggi.spec.digest import Digest
from onggi.spec.reference import parse_reference
from onggi.store.images import Image, reference_key
from onggi.store.leases import Lease
from tests.stores import Store, diff_id_of, make_config, new_container, new_id, receive

FILES = {"bin/": b"", "bin/sh": b"shell"}
MORE = {"etc/": b""}


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


def make_image(store: Store, lease: Lease, *names: str, comment: str = "") -> Image:
    """Make an image of one layer."""
    layer = receive(store, FILES, lease)
    config = make_config(diff_id_of(FILES), comment=comment)
    return store.images.create(config, [layer], references=map(parse_reference, names), lease=lease)


def test_an_image_is_its_config(store: Store, lease: Lease) -> None:
    below, above = receive(store, FILES, lease), receive(store, MORE, lease)
    config = make_config(diff_id_of(FILES), diff_id_of(MORE))
    image = store.images.create(config, [below, above], references=[parse_reference("app:1")], lease=lease)
    assert image.id == Digest.of(config)
    assert image.layers == (below, above)
    assert image.references == ("docker.io/library/app:1",)
    assert image.size_bytes == 5
    assert [layer.diff_id for layer in store.images.layers(image.id)] == [diff_id_of(FILES), diff_id_of(MORE)]
    history = store.images.config(image.id).history
    assert history is not None
    assert history[0].created_by == "test"
    assert store.images.list() == [image] == [store.images.get(image.id)]


def test_the_same_again_only_adds_names(store: Store, lease: Lease) -> None:
    first = make_image(store, lease, "one")
    second = make_image(store, lease, "two")
    assert first.id == second.id
    assert second.created_ns == first.created_ns
    assert second.references == ("docker.io/library/one:latest", "docker.io/library/two:latest")


def test_the_layers_must_be_those_of_the_config(store: Store, lease: Lease) -> None:
    layer = receive(store, FILES, lease)
    for config, layers, kind, words in (
        (make_config(), [layer], InvalidArgument, "its config names the layers none, given are"),
        (make_config(diff_id_of(FILES)), [], InvalidArgument, "given are none"),
        (make_config(diff_id_of(MORE)), [layer], InvalidArgument, "its config names the layers"),
        (make_config(diff_id_of(MORE)), [new_id()], NotFound, "is not here any more; try again"),
        (b"{}", [layer], Corrupt, "image config"),
    ):
        with pytest.raises(kind, match=words):
            store.images.create(config, layers, lease=lease)
    assert store.images.list() == []


def test_a_layer_that_is_not_hashed_yet_makes_no_image(store: Store, lease: Lease) -> None:
    key = new_id()
    store.snapshots.prepare(key, [], lease=lease)
    store.snapshots.commit(key, lease=lease)
    with pytest.raises(InvalidArgument, match="given are one that is not hashed yet"):
        store.images.create(make_config(diff_id_of(FILES)), [key], lease=lease)


def test_a_manifest_must_be_here(store: Store, lease: Lease) -> None:
    layer = receive(store, FILES, lease)
    config = make_config(diff_id_of(FILES))
    with pytest.raises(NotFound, match="manifest sha256:"):
        store.images.create(config, [layer], manifest=Digest.of(b"m"), lease=lease)
    manifest = store.content.put([b"m"], lease=lease).digest
    image = store.images.create(config, [layer], manifest=manifest, lease=lease)
    assert image.manifest == manifest
    assert make_image(store, lease, "one").manifest == manifest
    with pytest.raises(NotFound, match="manifest sha256:"):
        store.images.tag(parse_reference("two"), image.id, manifest=Digest.of(b"n"))


@pytest.mark.parametrize("text", ["app", "app:latest", "docker.io/library/app", "index.docker.io/app:latest"])
def test_a_name_is_completed(store: Store, lease: Lease, text: str) -> None:
    image = make_image(store, lease, "app")
    assert store.images.resolve(text) == image


def test_ids_and_their_beginnings_are_found(store: Store, lease: Lease) -> None:
    image = make_image(store, lease)
    hex = image.id.hex
    for text in (image.id, hex, hex[:12], hex[:1], f"sha256:{hex[:12]}"):
        assert store.images.resolve(text) == image


def test_a_name_comes_before_an_id(store: Store, lease: Lease) -> None:
    first = make_image(store, lease)
    second = make_image(store, lease, first.id.hex[:8], comment="other")
    assert store.images.resolve(first.id.hex[:8]) == second
    assert store.images.resolve(first.id.hex[:9]) == first


def test_a_beginning_of_several_is_refused(store: Store, lease: Lease) -> None:
    for number in range(17):  # one more than there are first digits
        make_image(store, lease, comment=str(number))
    ids = [image.id.hex[0] for image in store.images.list()]
    twice = next(digit for digit in ids if ids.count(digit) > 1)
    with pytest.raises(InvalidArgument, match=f"Multiple IDs found with provided prefix: {twice}"):
        store.images.resolve(twice)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nothing", "No such image: nothing:latest"),
        ("nothing:1", "No such image: nothing:1"),
        ("docker.io/library/nothing", "No such image: nothing:latest"),
        ("example.org/a/b", "No such image: example.org/a/b:latest"),
        ("abc123", "No such image: abc123:latest"),
        ("0" * 64, f"No such image: sha256:{'0' * 64}"),
        (f"nothing@sha256:{'0' * 64}", f"No such image: nothing@sha256:{'0' * 64}"),
    ],
)
def test_what_is_not_here_is_said_as_docker_does(store: Store, text: str, said: str) -> None:
    with pytest.raises(NotFound) as caught:
        store.images.resolve(text)
    assert str(caught.value) == said


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Give a store that stays empty."""
    with Store(tmp_path_factory.mktemp("store")) as made:
        yield made


@given(text=st.text(max_size=80))
def test_any_text_gets_an_answer(text: str, empty: Store) -> None:
    with pytest.raises((NotFound, InvalidArgument)):
        empty.images.resolve(text)


def test_tags_move(store: Store, lease: Lease) -> None:
    first, second = make_image(store, lease, "app"), make_image(store, lease, comment="other")
    store.images.tag(parse_reference("app"), second.id)
    assert store.images.resolve("app").id == second.id
    assert store.images.get(first.id).references == ()
    assert store.images.untag(parse_reference("app:latest")) == second.id
    with pytest.raises(NotFound, match="No such image: app:latest"):
        store.images.untag(parse_reference("app"))
    with pytest.raises(NotFound, match="No such image"):
        store.images.tag(parse_reference("app"), Digest.of(b"nothing"))


def test_a_digest_reference_has_no_tag(store: Store, lease: Lease) -> None:
    manifest = store.content.put([b"m"], lease=lease).digest
    image = make_image(store, lease)
    reference = parse_reference(f"app:1@{manifest}")
    assert reference_key(reference) == f"docker.io/library/app@{manifest}"
    store.images.tag(reference, image.id, manifest=manifest)
    assert store.images.resolve(f"app@{manifest}").id == image.id
    assert store.images.resolve(f"app:other@{manifest}").id == image.id
    with pytest.raises(NotFound):
        store.images.resolve("app:1")


def test_removing_takes_the_names_and_leaves_the_containers(store: Store, lease: Lease) -> None:
    image = make_image(store, lease, "one", "two")
    container = new_container(image=image.id)
    with store.root.db.write():
        store.snapshots.prepare(container.id, image.layers)
        store.containers.create(new_container(container.id, image=image.id, snapshot=container.id), durable=False)
    assert store.images.users(image.id) == [container.id]
    assert store.images.remove(image.id) == ("docker.io/library/one:latest", "docker.io/library/two:latest")
    lease.close()
    collected = store.collector.collect()
    # A container reads its image's config as long as it is there.
    assert collected.blobs == collected.layers == collected.snapshots == ()
    with store.snapshots.hold(container.id) as held:
        assert len(held.lowers) == 1
    with pytest.raises(NotFound):
        store.images.remove(image.id)
    store.containers.remove(container.id)
    assert image.id in store.collector.collect().blobs
    assert store.checker.check() == []
