"""What is known of layers elsewhere: it is bounded, and goes with the layer."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from onggi.spec.digest import DiffID, Digest
from onggi.store.sources import LayerBlob
from tests.stores import Store, diff_id_of, receive

LAYER = {"file": b"content"}
DIFF_ID = diff_id_of(LAYER)
BLOB = LayerBlob(digest=Digest.of(b"compressed"), size_bytes=10, compression="gzip")
MADE = LayerBlob(digest=Digest.of(b"other"), size_bytes=5, compression="zstd", level=3)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Give an empty store."""
    with Store(tmp_path) as made:
        yield made


def test_a_layer_is_known_as_its_blobs(store: Store) -> None:
    store.sources.remember_blob(DIFF_ID, MADE)
    store.sources.remember_blob(DIFF_ID, BLOB)
    store.sources.remember_blob(DIFF_ID, BLOB)
    assert store.sources.blobs(DIFF_ID) == [BLOB, MADE]
    assert store.sources.blobs(DiffID.of(b"another")) == []


def test_a_level_is_not_forgotten_when_the_blob_is_seen_again(store: Store) -> None:
    store.sources.remember_blob(DIFF_ID, MADE)
    store.sources.remember_blob(DIFF_ID, LayerBlob(digest=MADE.digest, size_bytes=5, compression="zstd"))
    assert store.sources.blobs(DIFF_ID) == [MADE]


def test_repositories_are_told_by_host_the_last_seen_first(store: Store) -> None:
    store.sources.remember_blob(DIFF_ID, BLOB)
    for host, repository in (("a", "x"), ("a", "y"), ("b", "z"), ("a", "x")):
        store.sources.remember_source(BLOB.digest, host, repository)
    assert store.sources.repositories(BLOB.digest, "a") == ["x", "y"]
    assert store.sources.repositories(BLOB.digest, "b") == ["z"]
    store.sources.forget_source(BLOB.digest, "a", "x")
    assert store.sources.repositories(BLOB.digest, "a") == ["y"]


def test_only_the_last_few_repositories_are_remembered(store: Store) -> None:
    store.sources.remember_blob(DIFF_ID, BLOB)
    for number in range(9):
        store.sources.remember_source(BLOB.digest, "a", f"r{number}")
    store.sources.remember_source(BLOB.digest, "b", "other")
    assert store.sources.repositories(BLOB.digest, "a") == ["r8", "r7", "r6", "r5"]
    assert store.sources.repositories(BLOB.digest, "b") == ["other"]


def test_a_blob_that_is_no_layer_is_not_remembered(store: Store) -> None:
    store.sources.remember_source(BLOB.digest, "a", "x")
    assert store.sources.repositories(BLOB.digest, "a") == []


def test_it_goes_with_the_layer(store: Store) -> None:
    with store.leases.open("test") as lease:
        receive(store, LAYER, lease)
        store.sources.remember_blob(DIFF_ID, BLOB)
        store.sources.remember_blob(DiffID.of(b"another"), MADE)
        store.sources.remember_source(BLOB.digest, "a", "x")
        store.sources.remember_source(MADE.digest, "a", "x")
        store.collector.collect()
        assert store.sources.blobs(DIFF_ID) == [BLOB]
    store.collector.collect()
    assert store.sources.blobs(DIFF_ID) == []
    assert store.sources.repositories(BLOB.digest, "a") == []
    assert store.sources.repositories(MADE.digest, "a") == ["x"]
