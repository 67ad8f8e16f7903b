"""The small parts of a tar archive: numbers, records, maps, names."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onggi.base.errors import Corrupt, InvalidArgument
from onggi.store.tar import pax, sparse
from onggi.store.tar.entry import LIMITS, Limits
from onggi.store.tar.fields import number, parse_header, repeated_number
from onggi.store.tar.paths import clean
from tests.archives import header, record


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"0000644\0", 0o644),
        (b"000644 \0", 0o644),
        (b"   644 \0", 0o644),
        (b"0000644 ", 0o644),
        (b"644\0junk", 0o644),
        (b"\0" * 8, 0),
        (b" " * 8, 0),
        (b"77777777", 0o77777777),
        (b"\x80\0\0\0\0\0\x10\0", 4096),
        (b"\x80\0\0\0\0\0\0\0\x02\0\0\0", 1 << 25),
        (b"\xff" * 12, -1),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00", -256),
    ],
)
def test_numbers_of_every_dialect(field: bytes, value: int) -> None:
    assert number(field, "size") == value


@pytest.mark.parametrize("field", [b"0000648\0", b"-000644\0", b"+00644\0 ", b"0x644\0  ", b"6_44\0   ", b"64 4\0   "])
def test_digits_are_octal_digits_and_nothing_else(field: bytes) -> None:
    with pytest.raises(Corrupt, match="its size is no octal number"):
        number(field, "size")


@pytest.mark.parametrize("field", [b"\xff" * 8, b"\x80\xff\xff\xff\xff\xff\xff\xff"])
def test_a_number_out_of_its_range_is_refused(field: bytes) -> None:
    for _ in range(2):  # the second time it is remembered
        with pytest.raises(Corrupt, match="is not between 0 and 100"):
            repeated_number(field, "uid", 100)


def test_a_header_says_what_it_was_made_of() -> None:
    parsed = parse_header(header(b"name", b"2", link=b"target", mode=0o755, prefix=b"pre/fix"))
    assert (parsed.name, parsed.type, parsed.link, parsed.mode) == (b"pre/fix/name", b"2", b"target", b"0000755\0")


def test_gnu_headers_have_no_prefix() -> None:
    assert parse_header(header(b"name", magic=b"ustar  \0", prefix=b"12345")).name == b"name"


def test_the_prefix_of_star_is_shorter() -> None:
    block = header(b"name", prefix=b"p" * 131)
    star = block[:148] + b" " * 8 + block[156:508] + b"tar\0"
    assert parse_header(star[:148] + b"%06o\0 " % sum(star) + star[156:]).name == b"p" * 131 + b"/name"


def test_checksums_are_checked() -> None:
    block = bytearray(header())
    block[0] ^= 1
    with pytest.raises(Corrupt, match="checksum"):
        parse_header(bytes(block))


def test_signed_checksums_of_old_programs_are_taken() -> None:
    block = header(b"\xff\xfe")
    signed = sum(byte - 256 if byte > 127 else byte for byte in block[:148] + b" " * 8 + block[156:])
    assert parse_header(header(b"\xff\xfe", checksum=b"%06o\0 " % signed)).name == b"\xff\xfe"


# -- PAX -------------------------------------------------------------------------------------------

KEYS = st.binary(min_size=1, max_size=40).filter(lambda key: b"=" not in key and b"\0" not in key)


@given(st.lists(st.tuples(KEYS, st.binary(max_size=200))))
def test_records_come_back_whatever_is_in_them(records: list[tuple[bytes, bytes]]) -> None:
    assert pax.parse_records(pax.format_records(records)) == records


@pytest.mark.parametrize("length", [4, 5, 92, 93, 94, 95, 990, 991, 992, 993, 9988, 9990])
def test_a_record_counts_its_own_length(length: int) -> None:
    body = pax.format_records([(b"k", b"v" * length)])
    assert body == record(b"k", b"v" * length)
    assert int(body.split(b" ")[0]) == len(body)


@pytest.mark.parametrize(
    "body",
    [
        b"11 path=ab",  # no newline, and shorter than it says
        b"10 path=abc",  # ends in the middle
        b"12 path=abc",  # ends in nothing
        b"-1 path=abc\n",
        b"+12 path=abc\n",
        b"0 path=abc\n",
        b"3 \n",
        b"x path=abc\n",
        b" path=abc\n",
        b"path=abc\n",
        b"5 =a\n",
        b"5 ab\n",
        b"7 a\0=b\n",
        b"99999999999999999999 path=abc\n",
        b"9223372036854775820 path=abc\n",
        b"12 path=abc\n\0",
    ],
)
def test_records_that_are_none_are_refused(body: bytes) -> None:
    with pytest.raises(Corrupt, match="a record of its PAX header"):
        pax.parse_records(body)


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        (b"0", 0),
        (b"1700000000", 1_700_000_000_000_000_000),
        (b"1.5", 1_500_000_000),
        (b"1.", 1_000_000_000),
        (b"1.0000000019", 1_000_000_001),
        (b"-1.5", -1_500_000_000),
        (b"-0.000000001", -1),
    ],
)
def test_times_have_nanoseconds(text: bytes, time_ns: int) -> None:
    assert pax.parse_time(text) == time_ns


@given(st.integers(-(2**62), 2**62))
def test_times_come_back(time_ns: int) -> None:
    assert pax.parse_time(pax.format_time(time_ns)) == time_ns


@pytest.mark.parametrize("text", [b"", b"-", b".5", b"1.-5", b"1e5", b"1_0", b" 1", b"nan", b"1" * 19, b"--1"])
def test_what_is_no_time_is_refused(text: bytes) -> None:
    with pytest.raises(Corrupt, match="the time"):
        pax.parse_time(text)


def test_attributes_in_both_spellings() -> None:
    found = pax.parse_xattrs({
        b"SCHILY.xattr.user.raw": b"a\0\n=b",
        b"LIBARCHIVE.xattr.user.enc%3Doded": b"AQID",
        b"LIBARCHIVE.xattr.user.unpadded": b"AQ",
        b"SCHILY.acl.access": b"user::rwx",
    })  # fmt: skip
    assert found == {b"user.raw": b"a\0\n=b", b"user.enc=oded": b"\1\2\3", b"user.unpadded": b"\1"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"SCHILY.xattr.", b"x"),
        (b"SCHILY.xattr.user." + b"x" * 255, b"x"),
        (b"SCHILY.xattr.user.x", b"x" * 65537),
        (b"LIBARCHIVE.xattr.user.x", b"!!!!"),
        (b"LIBARCHIVE.xattr.user.%zz", b"AQID"),
        (b"LIBARCHIVE.xattr.user.%00", b"AQID"),
        (b"LIBARCHIVE.xattr.user.%f", b"AQID"),
    ],
)
def test_attributes_that_no_system_can_hold_are_refused(key: bytes, value: bytes) -> None:
    with pytest.raises(Corrupt, match="extended attribute"):
        pax.parse_xattrs({key: value})


# -- sparse maps -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extents", "size", "stored"),
    [
        (((0, 10), (5, 10)), 20, 20),  # overlap
        (((10, 5), (0, 5)), 20, 10),  # backwards
        (((0, 21),), 20, 21),  # beyond the end
        (((0, 10),), 20, 11),  # more is stored
        (((-1, 10),), 20, 10),
        (((0, -10), (0, 20)), 20, 10),
        (((1 << 63, 1),), 20, 1),
    ],
)
def test_maps_that_cannot_be_are_refused(extents: sparse.Extents, size: int, stored: int) -> None:
    with pytest.raises(Corrupt, match="sparse map"):
        sparse.check(extents, size, stored)


def test_a_map_in_the_data_may_not_go_on_for_ever() -> None:
    for block in (b"9" * 512, b"9\n" + b"1" * 510, b"\n" * 512, b"1\n-1\n1\n"):
        with pytest.raises(Corrupt, match="sparse map"):
            sparse.read_1_0(itertools.repeat(block).__next__, 10, 4096)


def test_a_map_has_bounds() -> None:
    with pytest.raises(Corrupt, match="more than 3 parts"):
        sparse.parse_0_1(b"0,0," * 4 + b"0,0", 3)
    with pytest.raises(Corrupt, match="more than 3 parts"):
        sparse.parse_0_0([(b"GNU.sparse.offset", b"0"), (b"GNU.sparse.numbytes", b"0")] * 4, 3)


def test_records_of_a_map_alternate() -> None:
    with pytest.raises(Corrupt, match="out of order"):
        sparse.parse_0_0([(b"GNU.sparse.numbytes", b"0"), (b"GNU.sparse.offset", b"0")], 3)


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (b"a/b", b"a/b"),
        (b"./a/b/", b"a/b"),
        (b"/a//b/./c", b"a/b/c"),
        (b"a/../b", b"b"),
        (b"/../../etc/passwd", b"etc/passwd"),
        (b".", b""),
        (b"./", b""),
        (b"/", b""),
        (b"a/..", b""),
        (b".hidden/..b/...", b".hidden/..b/..."),
        (b"././a", b"a"),
        (b"a//", b"a"),
        (b"\xff\n\x1b", b"\xff\n\x1b"),
    ],
)
def test_names_become_paths_beneath_the_root(name: bytes, path: bytes) -> None:
    assert clean(name, LIMITS) == path


@pytest.mark.parametrize("name", [b"..", b"../a", b"a/../../b", b"./..", b"./../a", b"a/b/../../..", b"../"])
def test_names_that_lead_out_are_refused(name: bytes) -> None:
    with pytest.raises(Corrupt, match="leads out"):
        clean(name, LIMITS)


@given(st.lists(st.sampled_from([b"", b".", b"..", b"a", b".b", b"c.", b".."]), min_size=1).map(b"/".join))
def test_a_path_has_nothing_left_to_interpret(name: bytes) -> None:
    try:
        path = clean(name, LIMITS)
    except Corrupt:
        return
    assert path == b"" or not {b"", b".", b".."} & set(path.split(b"/"))


def test_depth_and_length_are_bounded() -> None:
    clean(b"a/" * 512, LIMITS)
    clean(b"a" * 255, LIMITS)
    clean(b".wh." + b"a" * 255, LIMITS)
    with pytest.raises(InvalidArgument, match="513 directories deep"):
        clean(b"a/" * 513, LIMITS)
    with pytest.raises(InvalidArgument, match="longer than 255"):
        clean(b"a" * 256, LIMITS)
    with pytest.raises(InvalidArgument, match="3 directories deep"):
        clean(b"a/b/c", Limits(depth=2))
