"""Archives changed at random: only our own errors come out, and nothing outside the root changes.

A seeded loop rather than hypothesis: whole archives are mutated, their checksums
mostly repaired, so that what is behind the checksum is reached.
"""

import gzip
import io
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from onggi.base.errors import OnggiError
from onggi.host.tree import remove_contents
from onggi.spec.digest import DiffID
from onggi.store.tar.decompress import Expansion, open_layer
from onggi.store.tar.entry import Limits
from onggi.store.tar.pack import Hashing, pack_layer
from onggi.store.tar.reader import TarReader
from onggi.store.tar.unpack import unpack_layer, unpack_tree
from onggi.store.tar.writer import END
from tests.archives import directory, header, member, pax, snapshot, with_checksum
from tests.trees import scratch
from tests.unit.test_tar_reader import DATA as SPARSE_DATA
from tests.unit.test_tar_reader import EXTENTS, MAKERS, REAL_SIZE

SECONDS = float(os.environ.get("ONGGI_FUZZ_SECONDS", "8"))
SEED = int(os.environ.get("ONGGI_FUZZ_SEED", "1"))
ROOT = os.geteuid() == 0
LIMITS = Limits(entries=500, total_bytes=1 << 24)

SEEDS = [
    [
        *(member(b"a/", b"5"), member(b"a/b", data=b"content" * 90), header(b"a/l", b"2", link=b"../..")),
        *(header(b"h", b"1", link=b"a/b"), member(b"a/l/x"), header(b"f", b"6"), header(b"d", b"3", device=(1, 3))),
    ],
    [
        *(member(b".wh.x"), member(b"x/", b"5"), member(b"x/.wh..wh..opq"), member(b"x/y/z")),
        *(header(b"x/y", b"2", link=b"."), member(b"x/y/y/z"), header(b"x", b"2", link=b"/proc/self/cwd")),
        member(b"x/q"),
    ],
    [
        pax((b"path", b"p" * 150), (b"mtime", b"-1.5"), (b"SCHILY.xattr.user.a", b"b"), (b"size", b"3")),
        *(member(data=b"abc"), pax((b"uid", b"77"), kind=b"g")),
        *(member(b"././@LongLink", b"L", b"long" * 40 + b"\0"), member(b"s")),
    ],
    [
        *(header(b"a", b"2", link=b"b"), header(b"b", b"2", link=b"a"), header(b"c", b"2", link=b"../outside")),
        *(member(b"c/secret", data=b"x"), header(b"e", b"1", link=b"c/secret")),
        member(b"../outside/secret", data=b"y"),
    ],
    *[[make(EXTENTS, SPARSE_DATA, REAL_SIZE), member(b"after", data=b"z" * 600)] for make in MAKERS.values()],
]

TOKENS = [
    *(b"..", b"/", b"../outside/secret", b"/etc", b".wh.", b".wh..wh..opq", b"\0", b"\xff", b"\x80", b"\n", b"="),
    *(b"-1", b"99999999999", b"%00", b"a", b"a/b", b"x/y", b"."),
    *(b"0", b"1", b"2", b"3", b"5", b"L", b"K", b"x", b"g", b"S"),
    *(b"path", b"linkpath", b"size", b"GNU.sparse.", b"SCHILY.xattr.trusted.overlay.opaque"),
]


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Path]:
    """Give a place beside which something lies that must not change."""
    place = Path(scratch() or tmp_path, f"onggi-fuzz-{os.getpid()}")
    (place / "outside" / "directory").mkdir(parents=True)
    (place / "outside" / "secret").write_text("secret")
    (place / "root").mkdir()
    before, descriptors = snapshot(place / "outside"), len(os.listdir("/proc/self/fd"))
    yield place
    try:
        assert snapshot(place / "outside") == before
        assert sorted(os.listdir(place)) == ["outside", "root"]
        assert len(os.listdir("/proc/self/fd")) == descriptors
    finally:
        with directory(place) as fd:
            remove_contents(fd)
        place.rmdir()


def mutated(chance: random.Random) -> bytes:
    """Make an archive of pieces of the seeds, some of them changed."""
    parts = list(chance.choice(SEEDS))
    for _ in range(chance.randrange(3)):
        parts.insert(chance.randrange(len(parts) + 1), chance.choice(chance.choice(SEEDS)))
    if chance.random() < 0.3:
        chance.shuffle(parts)
    for _ in range(chance.randrange(4)):
        at = chance.randrange(len(parts))
        parts[at] = damaged(chance, parts[at])
    whole = b"".join(parts) + END
    return whole[: chance.randrange(len(whole))] if chance.random() < 0.1 else whole


def damaged(chance: random.Random, part: bytes) -> bytes:
    """Change one entry in one place, and mostly make its checksum right again."""
    data = bytearray(part)
    field = chance.choice([(0, 100), (100, 136), (124, 136), (136, 148), (156, 157), (157, 257), (257, 345), (345, 500),
                           (386, 512), (0, len(data))])  # fmt: skip
    at = chance.randrange(*field)
    match chance.randrange(4):
        case 0:
            data[at : at + 1] = chance.randbytes(1)
        case 1:
            token = chance.choice(TOKENS)
            data[at : at + len(token)] = token
        case 2:
            token = chance.choice(TOKENS)
            start = field[0]
            data[start : start + len(token) + 1] = token + b"\0"
        case _:
            end = min(at + chance.randrange(1, 12), len(data))
            data[at:end] = bytes([chance.choice(b"\0 7\xff/")]) * (end - at)
    data = data[: len(part)]
    if chance.random() < 0.9:
        data[:512] = with_checksum(bytes(data[:512]))
    return bytes(data)


def rounds() -> Iterator[tuple[int, random.Random]]:
    end = time.monotonic() + SECONDS
    number = SEED << 32
    while time.monotonic() < end:
        yield number, random.Random(number)
        number += 1


def test_unpacking_anything(box: Path) -> None:
    taken = refused = 0
    with directory(box / "root") as fd:
        for number, chance in rounds():
            data = mutated(chance)
            try:
                if chance.random() < 0.7:
                    unpack_layer(io.BytesIO(data), fd, marks="user", limits=LIMITS, owners=ROOT)
                    pack_again(fd)
                else:
                    unpack_tree(io.BytesIO(data), fd, limits=LIMITS, owners=ROOT)
                taken += 1
            except OnggiError:
                refused += 1
            except Exception as error:
                raise AssertionError(f"archive {number} of the fuzzer: {error!r}") from error
            assert sorted(os.listdir(box)) == ["outside", "root"], number
            assert (box / "outside" / "secret").read_text() == "secret", number
            remove_contents(fd)
    # Both have to be frequent, else this tests nothing.
    assert taken > refused / 20
    assert refused > taken / 20


def pack_again(fd: int) -> None:
    """What came out of an archive can be packed, and the same comes out of that."""
    out = io.BytesIO()
    pack_layer(fd, out, marks="user")
    remove_contents(fd)
    os.fchmod(fd, 0o755)
    unpack_layer(io.BytesIO(out.getvalue()), fd, marks="user", owners=ROOT)
    again = Hashing()
    pack_layer(fd, again, marks="user")
    assert again.diff_id() == DiffID.of(out.getvalue())


def test_reading_anything_behind_any_compression(box: Path) -> None:
    for number, chance in rounds():
        data = bytearray(gzip.compress(mutated(chance), 1))
        for _ in range(chance.randrange(3)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        if chance.random() < 0.2:
            data = data[: chance.randrange(len(data))]
        if chance.random() < 0.2:
            data += chance.choice([bytes(data), b"\0" * 600, b"garbage"])
        try:
            stream = open_layer(io.BytesIO(data), expansion=Expansion(total_bytes=1 << 22))
            reader = TarReader(stream, limits=LIMITS)
            for entry in reader:
                assert entry.size >= 0
                for offset, piece in reader.extents():
                    assert 0 <= offset <= offset + len(piece) <= entry.size
            stream.drain()
        except OnggiError:
            continue
        except Exception as error:
            raise AssertionError(f"archive {number} of the fuzzer: {error!r}") from error
