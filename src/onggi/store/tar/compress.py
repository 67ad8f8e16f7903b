"""Layers become small: gzip (RFC 1952) and zstd (RFC 8878), the same bytes for the same tar.

No time, no name, one thread per layer. gzip's levels 1 to 3 are ISA-L's, which takes a fifth
of zlib's time for a few per cent more; those above are zlib's.
"""

import sys
import zlib
from typing import Final, Protocol

from onggi.base.errors import InvalidArgument

from .pack import Sink, write_all

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DEFAULT_LEVELS: Final = {"gzip": 2, "zstd": 3, "none": 0}
_LEVELS: Final = {"gzip": range(1, 10), "zstd": range(1, 23), "none": range(1)}
_ISAL: Final = 3
_ZSTD_WINDOW_LOG: Final = 23  # RFC 8878, 3.1.1.1.2: every decoder has to take 8 MiB


class _Compressor(Protocol):
    def compress(self, data: memoryview, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _Plain:
    def compress(self, data: memoryview, /) -> memoryview:
        return data

    def flush(self) -> bytes:
        return b""


def check_level(compression: str, level: int | None) -> int:
    """Give the level to use, the default one for None. Raises InvalidArgument."""
    if compression not in _LEVELS:
        raise InvalidArgument(f"unknown compression {compression!r}: there are gzip, zstd and none")
    if level is None:
        return DEFAULT_LEVELS[compression]
    levels = _LEVELS[compression]
    if level not in levels:
        if compression == "none":
            raise InvalidArgument("without compression there is no level")
        raise InvalidArgument(f"{compression} has levels {levels[0]} to {levels[-1]}, not {level}")
    return level


class Compressing:
    """A sink that passes on what it takes, compressed; `finish` ends the stream."""

    def __init__(self, behind: Sink, compression: str, level: int) -> None:
        """Compress into `behind`; `level` as `check_level` gives it."""
        self._behind = behind
        self._compressor = _open(compression, level)

    def write(self, data: memoryview, /) -> int:
        """Take everything."""
        if small := self._compressor.compress(data):
            write_all(self._behind, small)
        return len(data)

    def finish(self) -> None:
        """Write what is left."""
        write_all(self._behind, self._compressor.flush())


def _open(compression: str, level: int) -> "_Compressor | _Plain":
    if compression == "none":
        return _Plain()
    if compression == "zstd":
        parameter = zstd.CompressionParameter
        options: dict[int, int] = {parameter.compression_level: level, parameter.checksum_flag: 1}
        if level > 19:
            options[parameter.window_log] = _ZSTD_WINDOW_LOG
        return zstd.ZstdCompressor(options=options)
    if level <= _ISAL:
        try:
            from isal import isal_zlib
        except ImportError:
            pass  # no wheel for this platform: slower, not different in kind
        else:
            return isal_zlib.compressobj(level, wbits=31)
    return zlib.compressobj(level, wbits=31)
