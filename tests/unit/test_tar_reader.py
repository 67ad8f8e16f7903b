"""Reading archives: what entries say, what is refused, and agreement with another reader."""

import io
import tarfile
from collections.abc import Callable

import pytest

from onggi.base.errors import Corrupt, InvalidArgument, OnggiError
from onggi.store.tar.entry import LIMITS, Entry, Kind, Limits
from onggi.store.tar.reader import TarReader
from tests.archives import END, archive, header, member, padded, pax, record, with_checksum


def read(stream: io.BytesIO, limits: Limits = LIMITS) -> list[tuple[Entry, list[tuple[int, bytes]]]]:
    reader = TarReader(stream, limits=limits)
    return [(entry, [(offset, bytes(data)) for offset, data in reader.extents()]) for entry in reader]


def only(stream: io.BytesIO) -> Entry:
    [(entry, _)] = read(stream)
    return entry


class Trickle(io.BytesIO):
    """A stream that gives a few bytes at a time, as sockets do."""

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        return super().readinto(buffer[:7])


def test_an_entry_has_all_that_its_header_says() -> None:
    entry = only(archive(member(b"a/b", b"0", b"data", mode=0o4755, uid=1000, gid=100, mtime=1_700_000_000)))
    assert (entry.name, entry.kind, entry.size) == (b"a/b", Kind.REGULAR, 4)
    assert (entry.mode, entry.uid, entry.gid, entry.mtime_ns) == (0o4755, 1000, 100, 1_700_000_000 * 10**9)
    assert (entry.offset, entry.data_offset, entry.extents) == (0, 512, None)


def test_data_arrives_whole_from_a_stream_that_trickles() -> None:
    content = bytes(range(256)) * 20
    stream = Trickle(archive(member(data=content), member(b"b", data=b"x")).getvalue())
    first, second = read(stream)
    assert b"".join(data for _, data in first[1]) == content
    assert second[1] == [(0, b"x")]


def test_pieces_of_the_stream_may_end_anywhere() -> None:
    class Odd(io.BytesIO):
        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            return super().readinto(buffer[:999_983])

    # Two blocks of a PAX header lie across each end of the buffer, which is a mebibyte.
    parts = [pax((b"path", b"%0700d" % number)) + member(data=b"%d" % number) for number in range(3000)]
    found = read(Odd(archive(member(b"a"), member(b"b"), *parts).getvalue()))[2:]
    assert [(entry.name, *pieces) for entry, pieces in found] == [
        (b"%0700d" % number, (0, b"%d" % number)) for number in range(3000)
    ]


def test_data_that_nobody_reads_is_skipped() -> None:
    names = [entry.name for entry in TarReader(archive(member(b"a", data=b"x" * 3_000_000), member(b"b", data=b"y")))]
    assert names == [b"a", b"b"]


def test_small_files_are_read_at_once_and_large_ones_refused() -> None:
    reader = TarReader(archive(member(b"a", data=b"x" * 100), member(b"b", data=b"x" * 101)))
    assert [next(iter(reader)).name, reader.read(100)] == [b"a", b"x" * 100]
    next(iter(reader))
    with pytest.raises(InvalidArgument, match="101 bytes where at most 100"):
        reader.read(100)


@pytest.mark.parametrize(
    ("stream", "count"),
    [
        (io.BytesIO(), 0),  # Docker takes an empty file for an empty layer
        (archive(), 0),
        (io.BytesIO(bytes(512)), 0),
        (io.BytesIO(member()), 1),  # no end at all, as Go takes it
        (io.BytesIO(member() + bytes(512)), 1),
        (io.BytesIO(member() + END + b"something else"), 1),
    ],
)
def test_ends(stream: io.BytesIO, count: int) -> None:
    assert len(read(stream)) == count


# -- extended headers ------------------------------------------------------------------------------


def test_pax_overrides_the_header() -> None:
    entry = only(archive(
        pax((b"path", b"long/" * 60), (b"uid", b"4000000000"), (b"gid", b"3"), (b"mtime", b"1.000000001"),
            (b"SCHILY.xattr.user.a", b"\0\n"), (b"comment", b"ignored")),
        member(b"short", b"0", uid=7),
    ))  # fmt: skip
    assert (entry.name, entry.uid, entry.gid, entry.mtime_ns) == (b"long/" * 60, 4_000_000_000, 3, 1_000_000_001)
    assert entry.xattrs == {b"user.a": b"\0\n"}


def test_pax_says_how_much_data_follows() -> None:
    """The difference between the two sizes is how archives were smuggled past readers (CVE-2025-62518)."""
    inner = member(b"smuggled")
    stream = archive(pax((b"size", b"%d" % len(inner))), header(b"outer", size=0) + inner, member(b"next"))
    assert [(entry.name, entry.size) for entry, _ in read(stream)] == [(b"outer", len(inner)), (b"next", 0)]


def test_a_pax_header_is_for_one_entry_and_a_global_one_for_all() -> None:
    stream = archive(
        pax((b"mtime", b"5"), (b"uid", b"9"), kind=b"g"), pax((b"mtime", b"6")), member(b"a"), member(b"b"),
        pax((b"uid", b""), kind=b"g"), member(b"c", uid=1),
    )  # fmt: skip
    assert [(entry.mtime_ns // 10**9, entry.uid) for entry, _ in read(stream)] == [(6, 9), (5, 9), (5, 1)]


def test_an_empty_value_takes_back() -> None:
    assert only(archive(pax((b"path", b"other"), (b"path", b"")), member(b"own"))).name == b"own"


def test_gnu_long_names() -> None:
    name, link = b"n" * 300, b"l" * 400
    stream = archive(member(b"././@LongLink", b"K", link + b"\0"), member(b"././@LongLink", b"L", name + b"\0"),
                     member(b"short", b"2", link=b"short"), member(b"next"))  # fmt: skip
    first, second = (entry for entry, _ in read(stream))
    assert (first.name, first.link, second.name) == (name, link, b"next")


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"4", b"5", b"6"])
def test_what_is_no_file_has_no_data_whatever_its_size_says(kind: bytes) -> None:
    entries = [entry for entry, _ in read(archive(header(b"a", kind, size=5000, link=b"x"), member(b"b")))]
    assert [(entry.name, entry.size) for entry in entries] == [(b"a", 0), (b"b", 0)]


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        (b"\0", b"a", Kind.REGULAR),
        (b"\0", b"a/", Kind.DIRECTORY),
        (b"7", b"a", Kind.REGULAR),
        (b"0", b"a/", Kind.REGULAR),
    ],
)
def test_types_of_old_archives(kind: bytes, name: bytes, expected: Kind) -> None:
    assert only(archive(member(name, kind, magic=b"\0" * 8))).kind is expected


def test_devices_have_numbers() -> None:
    assert only(archive(header(b"a", b"3", device=(4095, 1048575)))).device == (4095, 1048575)


# -- sparse files ----------------------------------------------------------------------------------

EXTENTS = ((0, 512), (1 << 20, 100), (3 << 20, 0))
DATA = b"a" * 512 + b"b" * 100
REAL_SIZE = 3 << 20


def old_sparse(extents: tuple[tuple[int, int], ...], data: bytes, size: int) -> bytes:
    """Make an entry in GNU's old format: four pairs in the header, then 21 in each block."""

    def pairs(part: tuple[tuple[int, int], ...]) -> bytes:
        return b"".join(b"%011o\0%011o\0" % pair for pair in part)

    blocks, rest = b"", extents[4:]
    while rest:
        blocks += pairs(rest[:21]).ljust(504, b"\0") + (b"\1" if rest[21:] else b"\0") + bytes(7)
        rest = rest[21:]
    block = header(b"sparse", b"S", size=len(data), magic=b"ustar  \0")
    block = block[:386] + pairs(extents[:4]).ljust(96, b"\0") + (b"\1" if blocks else b"\0") + b"%011o\0" % size
    return with_checksum(block.ljust(512, b"\0")) + blocks + padded(data)


def pax_sparse(version: str, extents: tuple[tuple[int, int], ...], data: bytes, size: int) -> bytes:
    """Make an entry in one of GNU's PAX formats."""
    flat = [b"%d" % number for pair in extents for number in pair]
    count = b"%d" % len(extents)
    if version == "0.0":
        records = b"".join(
            record(b"GNU.sparse.offset", a) + record(b"GNU.sparse.numbytes", b)
            for a, b in zip(flat[::2], flat[1::2], strict=True)
        )
        sizes = record(b"GNU.sparse.size", b"%d" % size) + record(b"GNU.sparse.numblocks", count)
        return member(b"PaxHeader", b"x", sizes + records) + member(b"sparse", data=data)
    if version == "0.1":
        extended = pax((b"GNU.sparse.size", b"%d" % size), (b"GNU.sparse.numblocks", count),
                       (b"GNU.sparse.name", b"sparse"), (b"GNU.sparse.map", b",".join(flat)))  # fmt: skip
        return extended + member(b"GNUSparseFile.1/sparse", data=data)
    extended = pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", b"sparse"),
                   (b"GNU.sparse.realsize", b"%d" % size))  # fmt: skip
    written = padded(b"\n".join([count, *flat]) + b"\n")
    return extended + member(b"GNUSparseFile.1/sparse", data=written + data)


MAKERS: dict[str, Callable[[tuple[tuple[int, int], ...], bytes, int], bytes]] = {
    "old": old_sparse,
    "0.0": lambda *args: pax_sparse("0.0", *args),
    "0.1": lambda *args: pax_sparse("0.1", *args),
    "1.0": lambda *args: pax_sparse("1.0", *args),
}


@pytest.mark.parametrize("form", MAKERS)
def test_sparse_files(form: str) -> None:
    [(entry, data), (following, _)] = read(archive(MAKERS[form](EXTENTS, DATA, REAL_SIZE), member(b"next")))
    assert (entry.name, entry.size, entry.extents, following.name) == (b"sparse", REAL_SIZE, EXTENTS, b"next")
    assert data == [(0, b"a" * 512), (1 << 20, b"b" * 100)]


@pytest.mark.parametrize("form", MAKERS)
def test_sparse_files_of_many_parts(form: str) -> None:
    extents = tuple((n * 1000, 7) for n in range(300))
    [(entry, data)] = read(archive(MAKERS[form](extents, bytes(2100), 300_000)))
    assert (entry.extents, len(data)) == (extents, 300)


@pytest.mark.parametrize("form", MAKERS)
@pytest.mark.parametrize(
    ("extents", "data", "size"),
    [
        (((0, 10), (5, 10)), b"x" * 20, 100),
        (((0, 512),), b"x" * 512, 511),
        (((0, 512),), b"x" * 500, 512),
    ],
)
def test_maps_that_lie_are_refused(form: str, extents: tuple[tuple[int, int], ...], data: bytes, size: int) -> None:
    with pytest.raises(Corrupt, match="sparse map"):
        read(archive(MAKERS[form](extents, data, size)))


@pytest.mark.parametrize("form", MAKERS)
def test_holes_count_as_size(form: str) -> None:
    stream = archive(MAKERS[form](((0, 0),), b"", 1 << 32))
    with pytest.raises(InvalidArgument, match="larger than"):
        read(stream, Limits(total_bytes=1 << 31))


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "match"),
    [
        (io.BytesIO(b"x" * 512), "checksum"),
        (io.BytesIO(b"x" * 100), "truncated"),
        (io.BytesIO(header(size=10)), "truncated"),
        (io.BytesIO(header(size=10) + b"x" * 10), "truncated"),
        (io.BytesIO(pax((b"path", b"x"))), "ends after an extended header"),
        (archive(pax((b"path", b"x"))), "ends after an extended header"),
        (archive(bytes(512), member()), "zero block in the middle"),
        (archive(header(size=b"\xff" * 12)), "its size is -1"),
        (archive(header(size=b"\x80" + b"\xff" * 11)), "its size is"),
        (archive(pax((b"size", b"-1")), header()), "the size in its PAX header is no number"),
        (archive(pax((b"size", b"9" * 19)), header()), "its size is"),
        (archive(header(uid=b"\xff" * 8)), "its uid is -1"),
        (archive(pax((b"uid", b"4294967295")), header()), "its uid is 4294967295"),
        (archive(header(mtime=b"\x80" + b"\x7f" * 11)), "its time is"),
        (archive(header(kind=b"Z")), "unknown type 'Z'"),
        (archive(header(kind=b"V")), "unknown type 'V'"),
        (archive(header(b"")), "without a name"),
        (archive(pax((b"path", b"a\0b")), header()), "NUL"),
        (archive(pax((b"linkpath", b"a\0b")), header(kind=b"2")), "NUL"),
        (archive(pax((b"path", b"a")), member(b"", b"L", b"b\0"), header()), "two names"),
        (archive(pax((b"path", b"a"), kind=b"g"), header()), "gives every file the same"),
        (archive(pax((b"GNU.sparse.size", b"1"), kind=b"g"), header()), "gives every file the same"),
        (archive(header(kind=b"x", size=(1 << 20) + 1)), "extended header of 1048577 bytes"),
        (archive(header(kind=b"L", size=(1 << 16) + 1)), "extended header of 65537 bytes"),
        (archive(header(kind=b"x", size=b"\xff" * 12)), "extended header of -1 bytes"),
        (archive(pax((b"GNU.sparse.major", b"2"), (b"GNU.sparse.minor", b"0")), header()), "sparse format 2.0"),
        (archive(pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0")), member(data=b"0\n")), "how large"),
        (archive(header(kind=b"3", device=(4096, 0))), "major number is 4096"),
    ],
)
def test_refusals_say_what_is_wrong_and_where(stream: io.BytesIO, match: str) -> None:
    with pytest.raises(Corrupt, match=match) as caught:
        read(stream)
    assert "byte " in str(caught.value)


@pytest.mark.parametrize(
    ("limits", "match"),
    [
        (Limits(entries=2), "more than 2 entries"),
        (Limits(total_bytes=5), "larger than 5 bytes together"),
        (Limits(path_bytes=5), "a name of 6 bytes"),
    ],
)
def test_limits(limits: Limits, match: str) -> None:
    stream = archive(member(b"a", data=b"123"), member(b"b", data=b"123"), member(b"sixsix"))
    with pytest.raises(InvalidArgument, match=match):
        read(stream, limits)


def test_headers_without_entries_count_as_entries() -> None:
    with pytest.raises(InvalidArgument, match="more than 10 entries"):
        read(archive(*[pax((b"comment", b"x"))] * 11), Limits(entries=10))


def test_a_refusal_names_the_entry_and_its_byte() -> None:
    with pytest.raises(OnggiError) as caught:
        read(archive(member(b"good"), member(b"bad\x1b[2J", kind=b"Z")))
    assert str(caught.value) == "bad tar archive, entry 'bad\\x1b[2J' at byte 512: an entry of the unknown type 'Z'"


# -- another reader --------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_agreement_with_tarfile(form: int) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for number, kind in enumerate([tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE,
                                       tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE]):  # fmt: skip
            deep = "d" * 60 + "/" + "e" * (40 if form == tarfile.USTAR_FORMAT else 300)
            for name in (f"short{number}", f"{deep}{number}"):
                info = tarfile.TarInfo(name)
                info.type, info.mode, info.mtime = kind, 0o640 + number, 1_700_000_000 + number
                info.uid, info.gid = (5, 6) if form == tarfile.USTAR_FORMAT else (3_000_000, 4_000_000_000)
                info.linkname = "target" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
                info.devmajor, info.devminor = (8, 17) if kind in (tarfile.CHRTYPE, tarfile.BLKTYPE) else (0, 0)
                info.size = 600 if kind == tarfile.REGTYPE else 0
                tar.addfile(info, io.BytesIO(b"z" * info.size))
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        theirs = [
            (info.name, info.type, info.mode, info.uid, info.gid, info.mtime, info.size, info.linkname,
             info.offset_data, (info.devmajor, info.devminor))
            for info in tar
        ]  # fmt: skip
    out.seek(0)
    ours = [
        (entry.name.decode().rstrip("/"), entry.kind.value, entry.mode, entry.uid, entry.gid, entry.mtime_ns // 10**9,
         entry.size, entry.link.decode(), entry.data_offset, entry.device)
        for entry, _ in read(out)
    ]  # fmt: skip
    assert ours == theirs
