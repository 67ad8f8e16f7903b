"""Releases: whose signature counts, what is read, and the keys that are shipped."""

import re
from typing import Final

import pysequoia
import pytest

import onggi.bootstrap
from onggi.base.errors import Corrupt, NotFound, Unauthorized
from onggi.bootstrap.release import PINNED, parse_release, pinned_keys, read_keyring, verify_release
from tests.debian_archive import public_key, sign

HASH: Final = "a" * 64
RELEASE: Final = (
    "Origin: Test\nSuite: stable\nCodename: test\nDate: Sat, 11 Jul 2026 10:16:37 UTC\n"
    "Valid-Until: Sat, 18 Jul 2026 10:16:37 UTC\nAcquire-By-Hash: yes\nSHA256:\n"
    f" {HASH} 12 main/binary-amd64/Packages.gz\n {HASH} 11 main/binary-amd64/Packages.xz\n"
    f" {HASH} 13 main/binary-arm64/Packages\n"
)
WHERE: Final = "http://mirror.example/InRelease"


def test_a_signed_release_is_read() -> None:
    release = verify_release(sign(RELEASE), public_key(), where=WHERE)
    assert (release.codename, release.suite, release.by_hash) == ("test", "stable", True)
    assert (release.date_s, release.until_s) == (1783764997, 1783764997 + 7 * 86400)


def test_the_most_compressed_index_is_taken() -> None:
    release = parse_release(RELEASE.encode(), where=WHERE)
    assert release.packages("main", "amd64").size == 11
    assert release.packages("main", "arm64").name == "main/binary-arm64/Packages"
    with pytest.raises(NotFound, match="no packages for riscv64"):
        release.packages("main", "riscv64")


def test_a_changed_release_is_refused() -> None:
    with pytest.raises(Unauthorized, match=r"is not signed by|no valid signature"):
        verify_release(sign(RELEASE).replace(b"Codename: test", b"Codename: evil"), public_key(), where=WHERE)


def test_another_key_is_refused() -> None:
    stranger = pysequoia.Tsk.generate("Stranger <stranger@test.example>")
    with pytest.raises(Unauthorized):
        verify_release(sign(RELEASE, stranger), public_key(), where=WHERE)


@pytest.mark.parametrize("data", [RELEASE.encode(), b"", b"<html>", b"-----BEGIN PGP SIGNED MESSAGE-----\n"])
def test_what_is_not_signed_is_refused(data: bytes) -> None:
    with pytest.raises(Unauthorized):
        verify_release(data, public_key(), where=WHERE)


def test_what_stands_around_the_signed_text_does_not_count() -> None:
    evil = RELEASE.replace("test", "evil").encode()
    for data in (evil + sign(RELEASE), sign(RELEASE) + evil):
        try:
            release = verify_release(data, public_key(), where=WHERE)
        except Unauthorized:
            continue
        assert release.codename == "test"


@pytest.mark.parametrize(
    "text",
    [
        "Origin: Test\n",
        RELEASE.replace("Date: Sat, 11 Jul 2026", "Date: someday"),
        RELEASE.replace(" 12 main", " twelve main"),
        RELEASE.replace(" 12 main", " -12 main"),
        RELEASE.replace(HASH, "xyz"),
        RELEASE.replace("main/binary-amd64", "../../etc"),
        RELEASE.replace("main/binary-amd64", "/etc"),
        RELEASE + "Origin: again\n",
        RELEASE.replace("Codename: test", "Codename: ../test"),
        RELEASE.replace("Suite: stable", "Suite: a b"),
        "",
    ],
)
def test_a_release_that_is_not_whole_is_refused(text: str) -> None:
    with pytest.raises(Corrupt, match="not a whole Release"):
        parse_release(text.encode(), where=WHERE)


def test_a_date_without_a_zone_is_in_utc() -> None:
    text = RELEASE.replace("10:16:37 UTC", "10:16:37 -0000")
    assert parse_release(text.encode(), where=WHERE).date_s == 1783764997


# -- keys -------------------------------------------------------------------------------------------


def documented(heading: str) -> set[str]:
    """Give the fingerprints that the package documents below a heading."""
    text = (onggi.bootstrap.__doc__ or "").partition(heading)[2]
    block = re.match(r"[^\n]*(?:\n[^\n ][^\n]*)*\n\n((?:    [^\n]*\n)+)", text)
    assert block
    return set(re.findall(r"^    ([0-9a-f]{40})  ", block[1], re.M))


def test_the_documented_keys_are_those_that_are_shipped() -> None:
    assert documented("The archive keys") == {cert.fingerprint for cert in pysequoia.Cert.split_bytes(read_keyring())}


def test_the_keys_of_ubuntu_are_documented() -> None:
    assert documented("A test compares") == set(PINNED["ubuntu"])


def test_only_known_keys_of_a_host_count() -> None:
    with pytest.raises(Unauthorized, match="has no archive key of ubuntu"):
        pinned_keys(public_key(), "ubuntu")


def test_a_known_key_of_a_host_is_picked_out(monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = pysequoia.Tsk.generate("Stranger <stranger@test.example>").extract_certificate()
    (known,) = pysequoia.Cert.split_bytes(public_key())
    monkeypatch.setitem(PINNED, "ubuntu", (known.fingerprint,))
    kept = pinned_keys(bytes(stranger) + bytes(known), "ubuntu")
    assert [cert.fingerprint for cert in pysequoia.Cert.split_bytes(kept)] == [known.fingerprint]
