"""Digests are checked once and then are plain text."""

import hashlib
import sqlite3

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onggi.base.errors import InvalidArgument
from onggi.spec.digest import ChainID, DiffID, Digest, chain_ids
from onggi.spec.json import encode_json, json_decoder, parse_json

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_parts() -> None:
    digest = Digest(EMPTY)
    assert (digest.algorithm, digest.hex) == ("sha256", EMPTY[7:])
    assert digest == EMPTY
    assert digest == Digest.of(b"")
    assert isinstance(digest, str)


@given(data=st.binary(), algorithm=st.sampled_from(("sha256", "sha512")))
def test_of_is_what_hashlib_says(data: bytes, algorithm: str) -> None:
    digest = Digest.of(data, algorithm)
    assert digest == f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
    hasher = digest.hasher()
    hasher.update(data)
    assert hasher.hexdigest() == digest.hex
    assert Digest.from_hash(hasher, algorithm) == digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid checksum digest format"),
        ("sha256", "invalid checksum digest format"),
        ("sha256:", "invalid checksum digest format"),
        (":" + "a" * 64, "invalid checksum digest format"),
        ("sha256:" + "a" * 63, "invalid checksum digest length"),
        ("sha256:" + "a" * 65, "invalid checksum digest length"),
        ("sha512:" + "a" * 64, "invalid checksum digest length"),
        ("sha256:" + "A" * 64, "invalid checksum digest format"),
        ("sha256:" + "g" * 64, "invalid checksum digest format"),
        ("sha256:" + "a" * 63 + "\n", "invalid checksum digest format"),
        ("md5:" + "a" * 32, "unsupported digest algorithm"),
        ("../../etc:" + "a" * 64, "invalid checksum digest format"),
        ("SHA256:" + "a" * 64, "invalid checksum digest format"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{message}"):
        Digest(text)


def test_errors_stay_short() -> None:
    with pytest.raises(InvalidArgument) as raised:
        Digest("sha256:" + "x" * 100_000)
    assert len(str(raised.value)) < 300


def test_chain_ids_follow_the_image_spec() -> None:
    a, b, c = (DiffID.of(name) for name in (b"a", b"b", b"c"))
    ab = ChainID("sha256:" + hashlib.sha256(f"{a} {b}".encode()).hexdigest())
    abc = ChainID("sha256:" + hashlib.sha256(f"{ab} {c}".encode()).hexdigest())
    assert chain_ids([a, b, c]) == (ChainID(a), ab, abc)
    assert ChainID(a).child(b) == ab
    assert chain_ids([]) == ()


def test_the_three_types_stay_themselves() -> None:
    (only,) = chain_ids([DiffID(EMPTY)])
    assert type(only) is ChainID
    assert type(DiffID.of(b"")) is DiffID


class _Holder(msgspec.Struct):
    digest: Digest
    layers: tuple[DiffID, ...] = ()


def test_json_checks_and_restores_them() -> None:
    decoder = json_decoder(_Holder)
    holder = _Holder(Digest(EMPTY), (DiffID(EMPTY),))
    assert encode_json(holder) == f'{{"digest":"{EMPTY}","layers":["{EMPTY}"]}}'.encode()
    again = parse_json(encode_json(holder), decoder, "it", 1000)
    assert again == holder
    assert (type(again.digest), type(again.layers[0])) == (Digest, DiffID)
    with pytest.raises(InvalidArgument, match=r"^it: digest: invalid value: unsupported digest algorithm"):
        parse_json(b'{"digest": "crc32:00"}', decoder, "it", 1000)
    with pytest.raises(InvalidArgument, match=r"^it: digest: expected string$"):
        parse_json(b'{"digest": 5}', decoder, "it", 1000)


def test_databases_take_them_as_text() -> None:
    with sqlite3.connect(":memory:") as db:
        assert db.execute("select typeof(?), ?", (Digest(EMPTY), Digest(EMPTY))).fetchone() == ("text", EMPTY)
    db.close()
