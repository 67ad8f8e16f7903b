"""Packages as files: the members of an ar archive."""

import io

import pytest

from onggi.base.errors import Corrupt
from onggi.bootstrap.deb import open_member
from tests.debian_archive import ar


def test_a_member_of_a_package_is_found() -> None:
    deb = io.BytesIO(
        ar(("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), ("data.tar.xz/", b"payload"), mtime_s=7)
    )
    data = open_member(deb, "data.tar", "x.deb")
    assert data.mtime_s == 7
    assert data.read() == b"payload"
    assert data.read() == b""
    assert open_member(deb, "control.tar", "x.deb").read(2) == b"od"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\3\4",
        ar(("debian-binary", b"2.0\n")),
        ar(("x", b"y"))[:30],
        ar(("data.tar", b"y")).replace(b"`\n", b"xx"),
        ar(("data.tar", b"y")).replace(b"1         `", b"-1        `"),
        ar(*[("x", b"")] * 100, ("data.tar", b"y")),
    ],
)
def test_a_damaged_package_is_refused(data: bytes) -> None:
    with pytest.raises(Corrupt):
        open_member(io.BytesIO(data), "data.tar", "x.deb")


def test_a_member_that_is_cut_off_ends() -> None:
    data = ar(("data.tar", b"y" * 100))[:-50]
    assert open_member(io.BytesIO(data), "data.tar", "x.deb").read() == b"y" * 50
