"""A full disk costs log records, never the container, and the log says how many."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.supervisor import LOST, STDIN, STDOUT, logged, read_log, supervise


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system with room for 128 KiB and ten files."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k,nr_inodes=10", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk(small_disk: Path) -> None:
    log = small_disk / "c.log"
    run = supervise(small_disk, "sh", "-c", "seq 10000; cat", log="0 1", options="stdin")
    with run as supervisor, supervisor.connect() as client:
        client.join(STDIN | STDOUT)
        client.send(b"i", b"full\n")
        client.read_until(b"full\n")
        kept = read_log(log)
        log.write_bytes(b"")
        client.send(b"i", b"room\n")
        client.send(b"e")
        code, number, lost = supervisor.end()
    assert (code, number) == (0, 0)
    assert [record.log for record in kept] == [f"{number}\n" for number in range(1, len(kept) + 1)]
    assert 1000 < len(kept) < 10000
    assert lost == 10000 + 1 - len(kept)
    assert [record.log for record in read_log(log)] == [f"{LOST}{lost}\n", "room\n"]


def test_a_disk_without_room_for_one_more_file(small_disk: Path) -> None:
    """The log cannot be opened, and rotation cannot make a file: neither stops the container."""
    for number in range(9):  # the directory itself is one of ten
        (small_disk / str(number)).touch()
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "9").touch()
    (small_disk / "0").unlink()  # for the listener
    run = supervise(small_disk, "sh", "-c", "echo one; cat", log="100 3", options="stdin")
    with run as supervisor, supervisor.connect() as client:
        client.join(STDIN | STDOUT)
        client.send(b"i", b"two\n")
        client.read_until(b"two\n")
        (small_disk / "1").unlink()
        client.send(b"i", b"three\nfour\nfive\n")
        client.read_until(b"five\n")
        assert not (small_disk / "c.log.1").exists()
        (small_disk / "2").unlink()
        client.send(b"i", b"six\n")
        client.send(b"e")
        assert supervisor.end() == (0, 0, 2)
    assert logged(small_disk / "c.log.1") == "three\nfour\nfive\n"
    assert [r.log for r in read_log(small_disk / "c.log.1") if r.stream == "stderr"] == [f"{LOST}2\n"]
    assert logged(small_disk / "c.log") == "six\n"
