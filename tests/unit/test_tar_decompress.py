"""The front of the reader: every compression, many members, damage, bombs, and the DiffID."""

import bz2
import gzip
import hashlib
import io
import lzma
import sys
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onggi.base.errors import Corrupt, InvalidArgument
from onggi.store.tar import decompress
from onggi.store.tar.decompress import Expansion, LayerStream, open_layer

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CONTENT = b"".join(b"%d\n" % (n * n) for n in range(60_000))
FRONTS: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gzip": lambda data: gzip.compress(data, 1),
    "gzip without isal": lambda data: gzip.compress(data, 1),
    "zstd": lambda data: zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1}),
    "bzip2": lambda data: bz2.compress(data, 1),
    "xz": lambda data: lzma.compress(data, preset=0, check=lzma.CHECK_CRC32),
}
COMPRESSED = sorted(set(FRONTS) - {"none"})


@pytest.fixture(autouse=True)
def _no_isal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be on a platform for which isal has no wheel, where the name of the test says so."""
    if "without isal" in request.node.name:
        monkeypatch.setattr(decompress, "_gzip", decompress._ZlibDecompressor)


def everything(stream: LayerStream) -> bytes:
    out, buffer = bytearray(), memoryview(bytearray(100_000))
    while count := stream.readinto(buffer):
        out += buffer[:count]
    return bytes(out)


class Trickle(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size or 1, 5))


@pytest.mark.parametrize("name", FRONTS)
def test_content_and_digest(name: str) -> None:
    compressed = FRONTS[name](CONTENT)
    stream = open_layer(io.BytesIO(compressed))
    assert everything(stream) == CONTENT
    assert stream.drain() == f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    assert (stream.compression, stream.size_bytes, stream.compressed_bytes) == (
        name.partition(" ")[0], len(CONTENT), len(compressed),
    )  # fmt: skip


@pytest.mark.parametrize("name", FRONTS)
def test_a_stream_that_trickles(name: str) -> None:
    assert everything(open_layer(Trickle(FRONTS[name](CONTENT[:3000])))) == CONTENT[:3000]


@pytest.mark.parametrize("name", FRONTS)
def test_the_digest_includes_what_nobody_read(name: str) -> None:
    stream = open_layer(io.BytesIO(FRONTS[name](CONTENT)))
    stream.readinto(memoryview(bytearray(10)))
    assert stream.drain() == f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    assert stream.drain() == stream.drain()


@pytest.mark.parametrize("name", FRONTS)
def test_nothing_at_all(name: str) -> None:
    assert everything(open_layer(io.BytesIO(FRONTS[name](b"")))) == b""


@pytest.mark.parametrize("name", COMPRESSED)
@given(parts=st.lists(st.binary(max_size=300), min_size=1, max_size=5), zeros=st.sampled_from([0, 1, 5, 512, 200_000]))
def test_many_members_and_padding(name: str, parts: list[bytes], zeros: int) -> None:
    stream = open_layer(io.BytesIO(b"".join(map(FRONTS[name], parts)) + bytes(zeros)))
    assert everything(stream) == b"".join(parts)


def test_zstd_frames_that_are_to_be_skipped() -> None:
    skippable = b"\x5e\x2a\x4d\x18" + (10).to_bytes(4, "little") + b"y" * 10
    frame = FRONTS["zstd"](CONTENT)
    stream = open_layer(io.BytesIO(skippable + frame + skippable + frame + skippable))
    assert stream.compression == "zstd"
    assert everything(stream) == CONTENT * 2


@pytest.mark.parametrize("name", COMPRESSED)
@pytest.mark.parametrize("garbage", [b"garbage", b"\0\0\1", b"\0" * 200_000 + b"x", b"\x1f", b"PK\3\4..."])
def test_garbage_behind_the_stream_is_refused(name: str, garbage: bytes) -> None:
    with pytest.raises(Corrupt, match="something behind"):
        everything(open_layer(io.BytesIO(FRONTS[name](CONTENT) + garbage)))


@pytest.mark.parametrize("name", COMPRESSED)
@pytest.mark.parametrize("cut", [1, 3, 4, 9, 1000])
def test_truncation_is_noticed(name: str, cut: int) -> None:
    with pytest.raises(Corrupt, match="truncated"):
        everything(open_layer(io.BytesIO(FRONTS[name](CONTENT)[:-cut])))


@pytest.mark.parametrize("name", COMPRESSED)
def test_every_flipped_byte_is_noticed_or_harmless(name: str) -> None:
    whole = FRONTS[name](CONTENT[:2000])
    for at in range(0, len(whole), 1 if len(whole) < 1500 else 3):
        broken = bytearray(whole)
        broken[at] ^= 0x10
        stream = open_layer(io.BytesIO(broken))
        try:
            found = everything(stream)
        except (Corrupt, InvalidArgument):
            continue
        # A header may say another time or system, and a broken magic number makes it a plain stream.
        assert found == CONTENT[:2000] or stream.compression == "none"


@pytest.mark.parametrize("name", COMPRESSED)
def test_bombs_are_stopped(name: str) -> None:
    bomb = FRONTS[name](bytes(8_000_000))
    stream = open_layer(io.BytesIO(bomb), expansion=Expansion(free_bytes=1_000_000, ratio=10))
    with pytest.raises(InvalidArgument, match="taken for a bomb"):
        everything(stream)
    assert stream.size_bytes < 1_000_000 + 10 * len(bomb) + (1 << 20)


@pytest.mark.parametrize("name", FRONTS)
def test_there_is_an_absolute_bound(name: str) -> None:
    stream = open_layer(io.BytesIO(FRONTS[name](CONTENT)), expansion=Expansion(total_bytes=1000))
    with pytest.raises(InvalidArgument, match="more than 1000 bytes"):
        stream.drain()


@pytest.mark.parametrize("name", COMPRESSED)
def test_streams_without_content_are_bounded(name: str) -> None:
    stream = open_layer(io.BytesIO(FRONTS[name](b"") * 100), expansion=Expansion(empty_members=50))
    with pytest.raises(InvalidArgument, match="without content"):
        stream.drain()


def test_a_zstd_window_that_takes_all_memory_is_refused() -> None:
    huge = b"\x28\xb5\x2f\xfd" + b"\x00" + bytes([(31 - 10) << 3]) + b"\x01\x00\x00"
    with pytest.raises(Corrupt, match="damaged"):
        open_layer(io.BytesIO(huge)).drain()


def test_xz_that_takes_all_memory_is_refused() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 29}]
    huge = lzma.compress(b"x", format=lzma.FORMAT_XZ, filters=filters)
    with pytest.raises(Corrupt, match="damaged"):
        open_layer(io.BytesIO(huge)).drain()


def test_gzip_with_every_optional_field() -> None:
    deflated = zlib.compressobj(wbits=-15)
    body = deflated.compress(CONTENT) + deflated.flush()
    header = b"\x1f\x8b\x08\x1c" + bytes(6) + b"\x03\x00abc" + b"name\0" + b"comment\0"
    trailer = zlib.crc32(CONTENT).to_bytes(4, "little") + len(CONTENT).to_bytes(4, "little")
    assert everything(open_layer(io.BytesIO(header + body + trailer))) == CONTENT
