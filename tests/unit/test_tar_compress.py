"""Compression of layers: read by everyone, the same every time."""

import gzip
import io
import random
import sys

import pytest

from onggi.base.errors import InvalidArgument
from onggi.store.tar.compress import Compressing, check_level
from onggi.store.tar.decompress import open_layer
from onggi.store.tar.pack import write_all

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DATA = bytes(random.Random(1).choices(b"abcdefgh \n", k=200_000)) + bytes(100_000)
ALL = [
    ("gzip", 1), ("gzip", 2), ("gzip", 3), ("gzip", 4), ("gzip", 9),
    ("zstd", 1), ("zstd", 3), ("zstd", 19), ("zstd", 22), ("none", 0),
]  # fmt: skip


def compress(data: bytes, compression: str, level: int, piece: int = 1 << 18) -> bytes:
    """Compress in pieces."""
    out = io.BytesIO()
    sink = Compressing(out, compression, level)
    for start in range(0, len(data), piece):
        write_all(sink, data[start : start + piece])
    sink.finish()
    return out.getvalue()


@pytest.mark.parametrize(("compression", "level"), ALL)
@pytest.mark.parametrize("data", [b"", b"a", DATA], ids=["nothing", "a byte", "much"])
def test_there_and_back(compression: str, level: int, data: bytes) -> None:
    small = compress(data, compression, level)
    stream = open_layer(io.BytesIO(small))
    found = b""
    buffer = memoryview(bytearray(1 << 18))
    while count := stream.readinto(buffer):
        found += buffer[:count]
    assert found == data
    if data == DATA:
        assert stream.compression == compression
        assert len(small) < len(data) / 1.8 or compression == "none"


@pytest.mark.parametrize(("compression", "level"), ALL)
def test_the_same_every_time(compression: str, level: int) -> None:
    assert compress(DATA, compression, level) == compress(DATA, compression, level)


def test_no_time_and_no_name_in_gzip() -> None:
    head = compress(DATA, "gzip", 2)[:10]
    assert head[:4] == b"\x1f\x8b\x08\0"
    assert head[4:8] == bytes(4)
    assert gzip.decompress(compress(DATA, "gzip", 9)) == DATA


def test_no_decoder_needs_more_than_eight_megabytes() -> None:
    decompressor = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: 23})
    data = bytes(20 << 20)
    assert decompressor.decompress(compress(data, "zstd", 22)) == data


def test_levels_are_checked() -> None:
    assert check_level("zstd", None) == 3
    assert check_level("gzip", None) == 2
    assert check_level("none", None) == 0
    for compression, level in (("zstd", 0), ("zstd", 23), ("gzip", 0), ("gzip", 10), ("none", 1)):
        with pytest.raises(InvalidArgument, match="level"):
            check_level(compression, level)
    with pytest.raises(InvalidArgument, match="unknown compression 'xz': there are gzip, zstd and none"):
        check_level("xz", None)
