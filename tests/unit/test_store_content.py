"""Content: verified, resumable, one at a time; nothing wrong leaves a trace."""

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

from onggi.base.errors import Conflict, Corrupt, NotFound
from onggi.spec.digest import Digest
from tests.stores import NEXT_BOOT, Store, make_config, tree_of

PROJECT = Path(__file__).parents[2]
DATA = b"some content"
DIGEST = Digest.of(DATA)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Give an empty store."""
    with Store(tmp_path) as made:
        yield made


def files(store: Store) -> list[str]:
    """Give the files of blobs and of what is on its way in."""
    return sorted(name for name in tree_of(store.root.path) if name.startswith(("blobs", "ingest", "trash")))


def test_a_blob_is_named_by_what_it_is(store: Store) -> None:
    blob = store.content.put([b"some ", b"content"])
    assert (blob.digest, blob.size_bytes) == (DIGEST, len(DATA))
    assert store.content.find(DIGEST) == blob
    assert files(store) == [f"blobs/sha256/{DIGEST.hex}"]
    with store.content.open(DIGEST) as file:
        assert file.read() == DATA
    assert store.content.read(DIGEST, 100) == DATA


def test_a_second_time_reads_nothing(store: Store) -> None:
    store.content.put([DATA], DIGEST)

    def never() -> Iterator[bytes]:
        raise AssertionError("read")
        yield b""

    assert store.content.put(never(), DIGEST).size_bytes == len(DATA)


def test_other_algorithms_have_their_own_directory(store: Store) -> None:
    digest = Digest.of(DATA, "sha512")
    store.content.put([DATA], digest)
    assert files(store) == [f"blobs/sha512/{digest.hex}"]
    assert store.content.read(digest, 100) == DATA
    assert store.checker.check() == []


def test_wrong_bytes_leave_no_trace(store: Store) -> None:
    before = files(store)
    with pytest.raises(Corrupt, match=f"blob {DIGEST}: what was received has digest sha256:"):
        store.content.put([b"other"], DIGEST)
    assert files(store) == before
    assert store.content.find(DIGEST) is None
    with pytest.raises(NotFound):
        store.content.open(DIGEST)
    store.content.put([DATA], DIGEST)


def test_a_broken_off_one_is_resumed(store: Store) -> None:
    with store.content.receive(DIGEST) as ingest:
        ingest.write(DATA[:5])
    with store.content.receive(DIGEST) as ingest:
        assert ingest.offset == 5
        ingest.write(DATA[5:])
        ingest.finish()
    assert store.content.read(DIGEST, 100) == DATA
    assert files(store) == [f"blobs/sha256/{DIGEST.hex}"]


def test_a_sender_that_cannot_continue_begins_again(store: Store) -> None:
    with store.content.receive(DIGEST) as ingest:
        ingest.write(b"half")
    with store.content.receive(DIGEST) as ingest:
        ingest.restart()
        assert ingest.offset == 0
        ingest.write(DATA)
        ingest.finish()
    with store.content.receive(Digest.of(b"x")) as ingest:
        ingest.write(b"half")
    store.content.put([b"x"], Digest.of(b"x"))
    assert store.content.read(Digest.of(b"x"), 1) == b"x"


def test_what_was_resumed_and_wrong_is_gone(store: Store) -> None:
    with store.content.receive(DIGEST) as ingest:
        ingest.write(b"wrong")
    with store.content.receive(DIGEST) as ingest:
        ingest.write(DATA[5:])
        with pytest.raises(Corrupt):
            ingest.finish()
    with store.content.receive(DIGEST) as ingest:
        assert ingest.offset == 0


def test_a_failing_sender_without_digest_leaves_nothing(store: Store) -> None:
    def failing() -> Iterator[bytes]:
        yield b"x"
        raise TimeoutError

    with pytest.raises(TimeoutError):
        store.content.put(failing())
    assert files(store) == []
    with pytest.raises(TimeoutError):
        store.content.put(failing(), DIGEST)
    assert files(store) == [f"ingest/blob-{DIGEST.hex}"]


@settings(max_examples=30)
@given(chunks=st.lists(st.binary(max_size=50), max_size=8), cut=st.integers(0, 8), named=st.booleans())
def test_any_cut_gives_the_same_bytes(
    chunks: list[bytes], cut: int, named: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = b"".join(chunks)
    with Store(tmp_path_factory.mktemp("store")) as store:
        digest = Digest.of(data)
        if named:
            with store.content.receive(digest) as ingest:
                for chunk in chunks[:cut]:
                    ingest.write(chunk)
            with store.content.receive(digest) as ingest:
                assert ingest.offset == len(b"".join(chunks[:cut]))
                for chunk in chunks[cut:]:
                    ingest.write(chunk)
                ingest.finish()
        else:
            store.content.put(chunks)
        assert store.content.read(digest, 1000) == data
        assert store.checker.check() == []


def test_threads_that_want_the_same_fetch_it_once(store: Store) -> None:
    fetched = []

    def chunks() -> Iterator[bytes]:
        fetched.append(1)
        yield DATA

    threads = [threading.Thread(target=store.content.put, args=(chunks(), DIGEST)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fetched == [1]
    assert store.content.read(DIGEST, 100) == DATA


CHILD = """
import os, signal, sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/src"]
from onggi.spec.digest import Digest
from tests.stores import Store
data = b"x" * 1000
with Store(sys.argv[2]) as store:
    def chunks():
        for n in range(1000):
            if sys.argv[3] == "die" and n == 500:
                os.kill(os.getpid(), signal.SIGKILL)
            yield b"x"
    store.content.put(chunks(), Digest.of(data))
    store.content.put(chunks())
"""


def child(path: Path, how: str = "") -> "subprocess.Popen[bytes]":
    """Put the same content from another process."""
    return subprocess.Popen([sys.executable, "-B", "-c", CHILD, str(PROJECT), str(path), how])


def test_processes_that_want_the_same_do_not_disturb_each_other(store: Store, tmp_path: Path) -> None:
    children = [child(tmp_path) for _ in range(3)]
    assert [process.wait() for process in children] == [0, 0, 0]
    assert store.content.read(Digest.of(b"x" * 1000), 1000) == b"x" * 1000
    assert store.checker.check() == []


def test_a_killed_writer_leaves_what_can_be_resumed(store: Store, tmp_path: Path) -> None:
    digest = Digest.of(b"x" * 1000)
    assert child(tmp_path, "die").wait() == -signal.SIGKILL
    assert files(store) == [f"ingest/blob-{digest.hex}"]
    with store.content.receive(digest) as ingest:
        assert ingest.offset == 500
        ingest.write(b"x" * 500)
        ingest.finish()
    assert store.checker.check() == []


def test_deleting_asks_who_needs_it(store: Store) -> None:
    config = make_config()
    with store.leases.open("test") as lease:
        image = store.images.create(config, [], lease=lease)
        manifest = store.content.put([b"manifest"], lease=lease)
        store.content.link(manifest.digest, [image.id, DIGEST])  # a child that is not here is no link
    with pytest.raises(Conflict, match=f"is used by image {image.id}"):
        store.content.delete(image.id)
    store.content.put([DATA])
    store.content.delete(DIGEST)
    store.content.delete(manifest.digest)
    assert files(store) == [f"blobs/sha256/{image.id.hex}"]
    assert store.content.find(DIGEST) is None


def test_what_is_flushed_is_trusted_in_the_next_boot(store: Store, tmp_path: Path) -> None:
    store.content.put([DATA])
    store.content.put([b"durable"], durable=True)
    assert store.unsynced.flush() == 1
    assert store.unsynced.flush() == 0
    with Store(tmp_path, boot_id=NEXT_BOOT) as later:
        assert later.unsynced.doubtful() == ((), ())


@pytest.mark.parametrize("eager", [True, False])
@pytest.mark.parametrize("damage", ["none", "short", "gone", "zeros"])
def test_what_was_not_flushed_is_verified_in_the_next_boot(
    store: Store, tmp_path: Path, damage: str, eager: bool
) -> None:
    store.content.put([DATA])
    path = Path(store.content.path(DIGEST))
    if damage == "short":
        os.truncate(path, 3)
    elif damage == "gone":
        path.unlink()
    elif damage == "zeros":
        path.write_bytes(bytes(len(DATA)))
    with Store(tmp_path, boot_id=NEXT_BOOT) as later:
        assert later.unsynced.doubtful() == ((DIGEST,), ())
        if eager:
            recovery = later.unsynced.recover()
            assert (recovery.kept, recovery.lost) == (((DIGEST,), ()) if damage == "none" else ((), (DIGEST,)))
        if damage == "none":
            assert later.content.read(DIGEST, 100) == DATA
            assert later.unsynced.flush() == 1
            return
        with pytest.raises(Corrupt, match="was lost or damaged, probably in a power failure; load or build"):
            later.content.open(DIGEST)
        assert not path.exists()
        assert later.unsynced.doubtful() == ((), ())
        assert later.content.find(DIGEST) is None
        later.content.put([DATA], DIGEST)  # heals it
        assert later.content.read(DIGEST, 100) == DATA
        assert later.checker.check() == []
