"""Base images: indices, versions, dependencies, signatures, packages. Everything a mirror says is hostile until signed."""

import hashlib
import io
import re

import pysequoia
import pytest
from hypothesis import given
from hypothesis import strategies as st

import onggi.bootstrap
from onggi.base.errors import Corrupt, InvalidArgument, NotFound, Unauthorized
from onggi.bootstrap.deb import open_member
from onggi.bootstrap.packages import (
    Package,
    choose_minimal,
    compare_versions,
    parse_packages,
    parse_stanzas,
    resolve,
)
from onggi.bootstrap.release import KEYRINGS, parse_release, pinned_keys, read_keyring, verify_release
from onggi.host.apt import find_mirror

HASH = hashlib.sha256(b"").hexdigest()


def stanza(name: str, version: str = "1", **fields: str) -> str:
    every = {
        "Package": name,
        "Version": version,
        "Filename": f"pool/{name}.deb",
        "Size": "10",
        "SHA256": HASH,
        **fields,
    }
    return "".join(f"{key.replace('_', '-')}: {value}\n" for key, value in every.items()) + "\n"


def package(name: str, *depends: tuple[str, ...], provides: tuple[str, ...] = (), essential: bool = False) -> Package:
    return Package(
        name=name,
        version="1",
        filename=name,
        size=1,
        sha256=HASH,
        depends=depends,
        provides=provides,
        essential=essential,
    )


# -- versions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("smaller", "larger"),
    [
        ("1.0", "1.1"),
        ("1.0~rc1", "1.0"),
        ("1.0-1", "1.0-1+deb12u1"),
        ("1.0-1~bpo1", "1.0-1"),
        ("9", "10"),
        ("1.09", "1.10"),
        ("2.0", "1:0.1"),
        ("1.0a", "1.0b"),
        ("1.0", "1.0a"),
        ("1.0a", "1.0+"),
        ("1-2-9", "1-2-10"),
        ("0~~", "0~"),
    ],
)
def test_versions_are_ordered_as_dpkg_orders_them(smaller: str, larger: str) -> None:
    assert compare_versions(smaller, larger) < 0 < compare_versions(larger, smaller)


VERSIONS = st.text(alphabet="0123456789ab.+~-:", min_size=1, max_size=10)


@given(VERSIONS, VERSIONS, VERSIONS)
def test_versions_are_a_total_order(a: str, b: str, c: str) -> None:
    assert (compare_versions(a, b) > 0) == (compare_versions(b, a) < 0)
    if compare_versions(a, b) <= 0 and compare_versions(b, c) <= 0:
        assert compare_versions(a, c) <= 0


def test_leading_zeros_do_not_count() -> None:
    assert compare_versions("1.01", "1.1") == 0


# -- indices ----------------------------------------------------------------------------------------


def test_stanzas_have_continuation_lines() -> None:
    found = list(parse_stanzas("A: 1\nB:\n x\n y\n\n\nC: 2\n"))
    assert found == [{"A": "1", "B": "\nx\ny"}, {"C": "2"}]


def test_an_index_gives_the_newest_version_of_each_package() -> None:
    text = stanza("a", "1") + stanza("a", "2") + stanza("a", "1.5") + stanza("b", Depends="a (>= 2) | x, c:any")
    found = parse_packages(text)
    assert found["a"].version == "2"
    assert found["b"].depends == (("a", "x"), ("c",))


@pytest.mark.parametrize(
    "text",
    [
        "Package: a\n\n",
        stanza("a", Filename="/etc/passwd"),
        stanza("a", Filename="pool/../../x"),
        stanza("a", Size="-1"),
        stanza("a", Size="ten"),
        stanza("a", SHA256="abc"),
        "no field here\n",
    ],
)
def test_an_impossible_index_is_refused(text: str) -> None:
    with pytest.raises(Corrupt):
        parse_packages(text)


def test_dependencies_are_followed_round_in_circles_and_through_what_is_provided() -> None:
    every = {
        p.name: p
        for p in (
            package("base", ("mta",), ("x", "y"), essential=True),
            package("x", ("base",)),
            package("exim", provides=("mta",)),
            package("postfix", provides=("mta",)),
            package("unused"),
        )
    }
    assert [p.name for p in choose_minimal(every)] == ["base", "exim", "x"]


def test_an_alternative_that_is_there_already_is_taken() -> None:
    every = {p.name: p for p in (package("a", ("b", "c")), package("b"), package("c"))}
    assert [p.name for p in resolve(every, ["a", "c"])] == ["a", "c"]


def test_what_the_archive_does_not_have_is_named() -> None:
    with pytest.raises(NotFound, match=r"no package libx or liby, which a needs"):
        resolve({"a": package("a", ("libx", "liby"))}, ["a"])


# -- signatures -------------------------------------------------------------------------------------

RELEASE = (
    "Origin: Test\nSuite: stable\nCodename: test\nDate: Sat, 11 Jul 2026 10:16:37 UTC\n"
    f"Valid-Until: Sat, 18 Jul 2026 10:16:37 UTC\nArchitectures: amd64\nSHA256:\n {HASH} 12 main/binary-amd64/Packages.xz\n"
)
NOW = 1783800000  # 2026-07-11


@pytest.fixture(scope="module")
def key() -> pysequoia.Tsk:
    return pysequoia.Tsk.generate("Test Archive <test@example.com>")


def signed(key: pysequoia.Tsk, text: str) -> bytes:
    return bytes(pysequoia.sign(key.signer(), text.encode(), mode=pysequoia.SignatureMode.CLEAR))


def test_a_signed_release_is_read(key: pysequoia.Tsk) -> None:
    release = verify_release(signed(key, RELEASE), bytes(key.extract_certificate()), now_s=NOW, where="x")
    assert release.codename == "test"
    assert release.files["main/binary-amd64/Packages.xz"].size == 12
    assert release.date_s == 1783764997


def test_a_changed_release_is_refused(key: pysequoia.Tsk) -> None:
    data = signed(key, RELEASE).replace(b"Codename: test", b"Codename: evil")
    with pytest.raises(Unauthorized, match=r"is not signed by|no valid signature"):
        verify_release(data, bytes(key.extract_certificate()), now_s=NOW, where="x")


def test_another_key_is_refused(key: pysequoia.Tsk) -> None:
    stranger = pysequoia.Tsk.generate("Stranger <s@example.com>")
    with pytest.raises(Unauthorized):
        verify_release(signed(stranger, RELEASE), bytes(key.extract_certificate()), now_s=NOW, where="x")


def test_an_unsigned_release_is_refused(key: pysequoia.Tsk) -> None:
    with pytest.raises(Unauthorized):
        verify_release(RELEASE.encode(), bytes(key.extract_certificate()), now_s=NOW, where="x")


def test_a_release_is_valid_only_so_long() -> None:
    with pytest.raises(Corrupt, match="was valid until"):
        parse_release(RELEASE.encode(), now_s=NOW + 30 * 86400, where="x")


def test_a_release_that_is_not_whole_is_refused() -> None:
    with pytest.raises(Corrupt, match="not a whole Release"):
        parse_release(b"Origin: Test\n", now_s=NOW, where="x")


def test_only_known_keys_of_a_host_count(key: pysequoia.Tsk) -> None:
    with pytest.raises(Unauthorized, match="has no archive key of ubuntu"):
        pinned_keys(bytes(key.extract_certificate()), "ubuntu")


def test_the_documented_keys_are_those_that_are_shipped() -> None:
    documented = set(re.findall(r"^    ([0-9a-f]{40})  ", onggi.bootstrap.__doc__ or "", re.M))
    shipped = {cert.fingerprint for name in KEYRINGS for cert in pysequoia.Cert.split_bytes(read_keyring(name))}
    assert documented == shipped


# -- packages and mirrors ---------------------------------------------------------------------------


def ar(*members: tuple[str, bytes]) -> bytes:
    data = b"!<arch>\n"
    for name, body in members:
        data += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(body):<10}`\n".encode() + body + b"\n" * (len(body) % 2)
    return data


def test_a_member_of_a_package_is_found() -> None:
    deb = io.BytesIO(ar(("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), ("data.tar.xz/", b"payload")))
    assert open_member(deb, "data.tar", "x.deb").read() == b"payload"
    assert open_member(deb, "control.tar", "x.deb").read(2) == b"od"


@pytest.mark.parametrize("data", [b"", b"PK\3\4", ar(("debian-binary", b"2.0\n")), ar(("x", b"y"))[:30]])
def test_a_damaged_package_is_refused(data: bytes) -> None:
    with pytest.raises(Corrupt):
        open_member(io.BytesIO(data), "data.tar", "x.deb")


def test_the_mirror_of_the_host_is_used(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("host")
    sources = root / "etc/apt/sources.list.d"
    sources.mkdir(parents=True)
    (sources / "debian.sources").write_text("Types: deb\nURIs: http://mirror.example/debian/\nSuites: x\n")
    (root / "etc/apt/sources.list").write_text(
        "# deb http://old.example/debian x main\ndeb [a=b] https://u.example/ubuntu y main\n"
    )
    assert find_mirror("debian", str(root)) == "http://mirror.example/debian"
    assert find_mirror("ubuntu", str(root)) == "https://u.example/ubuntu"


def test_a_host_without_a_mirror_says_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(InvalidArgument, match="--mirror URL"):
        find_mirror("debian", str(tmp_path_factory.mktemp("bare")))
