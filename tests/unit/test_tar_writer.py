"""Our own headers: they come back as they were, and other readers agree."""

import io
import tarfile

from hypothesis import given
from hypothesis import strategies as st

from onggi.store.tar.entry import Entry, Kind
from onggi.store.tar.reader import TarReader
from onggi.store.tar.writer import END, encode_header, padding

PARTS = st.binary(min_size=1, max_size=120).filter(lambda part: not {0, 0x2F} & set(part))
PATHS = st.lists(PARTS, min_size=1, max_size=12).map(b"/".join)
IDS = st.one_of(st.integers(0, 70_000), st.integers(0, 2**32 - 2))
TIMES = st.one_of(st.integers(0, 2**31).map(lambda s: s * 10**9), st.integers(-(2**62), 2**62))

ATTRIBUTES = st.one_of(PARTS, st.sampled_from([b"a=b", b"%3D", b"%253D="])).map(b"user.".__add__)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    kind = draw(st.sampled_from(Kind))
    return Entry(
        name=draw(PATHS),
        kind=kind,
        mode=draw(st.integers(0, 0o7777)),
        uid=draw(IDS),
        gid=draw(IDS),
        mtime_ns=draw(TIMES),
        size=draw(st.integers(0, 2000)) if kind is Kind.REGULAR else 0,
        link=draw(PATHS) if kind in (Kind.SYMLINK, Kind.HARDLINK) else b"",
        device=draw(st.tuples(st.integers(0, 4095), st.integers(0, 2**20 - 1)))
        if kind in (Kind.CHARACTER, Kind.BLOCK)
        else (0, 0),
        xattrs=draw(st.dictionaries(ATTRIBUTES, st.binary())),
    )


@given(st.lists(entries(), max_size=4))
def test_entries_come_back(wanted: list[Entry]) -> None:
    data = b"".join(encode_header(entry) + b"x" * entry.size + padding(entry.size) for entry in wanted)
    found = list(TarReader(io.BytesIO(data + END)))
    assert [(e.name, e.kind, e.mode, e.uid, e.gid, e.mtime_ns, e.size, e.link, e.device, e.xattrs) for e in found] == [
        (e.name, e.kind, e.mode, e.uid, e.gid, e.mtime_ns, e.size, e.link, e.device, e.xattrs) for e in wanted
    ]


@given(entries())
def test_tarfile_agrees(entry: Entry) -> None:
    data = encode_header(entry) + b"x" * entry.size + padding(entry.size) + END
    with tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8", errors="surrogateescape") as tar:
        [info] = tar.getmembers()
    # tarfile takes what looks like UTF-8 in PAX headers only, and drops slashes at the end.
    assert info.name.encode("utf-8", "surrogateescape").rstrip(b"/") == entry.name.rstrip(b"/")
    assert (info.type, info.mode, info.uid, info.gid, info.size) == (
        entry.kind.value, entry.mode, entry.uid, entry.gid, entry.size,
    )  # fmt: skip


def test_an_ordinary_entry_is_one_block() -> None:
    assert len(encode_header(Entry(name=b"a" * 100, kind=Kind.REGULAR, uid=0o7777777, mtime_ns=10**18))) == 512
    assert len(encode_header(Entry(name=b"a" * 155 + b"/" + b"b" * 100, kind=Kind.REGULAR))) == 512
    assert len(encode_header(Entry(name=b"a" * 154 + b"/" + b"b" * 99 + b"/", kind=Kind.DIRECTORY))) == 512


def test_only_what_does_not_fit_is_in_the_pax_header() -> None:
    data = encode_header(Entry(name=b"a", kind=Kind.REGULAR, mtime_ns=1_500_000_000, uid=0o10000000))
    assert data[512:1024].rstrip(b"\0") == b"13 mtime=1.5\n15 uid=2097152\n"
    assert len(data) == 3 * 512


def test_large_sizes() -> None:
    for size, length in (((1 << 33) - 1, 512), (1 << 33, 3 * 512), (1 << 40, 3 * 512)):
        data = encode_header(Entry(name=b"a", kind=Kind.REGULAR, size=size))
        assert next(iter(TarReader(io.BytesIO(data)))).size == size
        assert len(data) == length
