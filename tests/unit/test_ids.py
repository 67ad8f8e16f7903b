"""Ids and names of containers."""

import os
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onggi.base.errors import InvalidArgument
from onggi.base.ids import (
    ContainerID,
    check_container_name,
    is_full_id,
    is_id_prefix,
    is_name,
    new_container_id,
    random_name,
    short_id,
)
from onggi.base.words import ADJECTIVES, MAKERS


@given(st.binary(min_size=32, max_size=32).filter(lambda data: not data.hex()[:12].isdigit()))
def test_an_id_is_the_random_bytes(data: bytes) -> None:
    made = new_container_id(lambda size: data[:size])
    assert made == data.hex()
    assert made.short == data.hex()[:12]
    assert ContainerID(made) == made
    assert is_full_id(made)


def test_an_id_that_reads_as_a_number_is_drawn_again() -> None:
    draws: Iterator[bytes] = iter([b"\x12" * 32, b"\x99" * 32, b"\xab" * 32])
    assert new_container_id(lambda size: next(draws)) == "ab" * 32


def test_ids_differ() -> None:
    assert len({new_container_id(os.urandom) for _ in range(100)}) == 100


@pytest.mark.parametrize("text", ["", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 63 + "\n", "é" * 64])
def test_what_is_no_id(text: str) -> None:
    with pytest.raises(InvalidArgument, match="is not a container id"):
        ContainerID(text)


def test_prefixes() -> None:
    assert all(is_id_prefix(("abc0" * 16)[:size]) for size in range(1, 65))
    assert not any(map(is_id_prefix, ("", "xyz", "AB", "a" * 65)))


def test_short_forms() -> None:
    assert short_id("0123456789abcdef" * 4) == "0123456789ab"
    assert short_id("sha256:" + "ab" * 32) == "abababababab"
    assert short_id("abc") == "abc"


def numbers(*draws: int) -> Callable[[int], bytes]:
    rest = iter(draws)
    return lambda size: next(rest).to_bytes(size, "big")


def test_names_are_two_words() -> None:
    assert random_name(numbers(0, 1, 2)) == f"{ADJECTIVES[0]}_{MAKERS[1]}"
    assert random_name(numbers(len(ADJECTIVES) - 1, len(MAKERS) - 1, 0)) == f"{ADJECTIVES[-1]}_{MAKERS[-1]}"
    assert random_name(numbers(len(ADJECTIVES), len(MAKERS), 17), attempt=1) == f"{ADJECTIVES[0]}_{MAKERS[0]}7"
    assert is_name(random_name(os.urandom))


def test_every_word_can_come() -> None:
    names = [random_name(numbers(n, n, 0)).split("_") for n in range(max(len(ADJECTIVES), len(MAKERS)))]
    assert {name[0] for name in names} == set(ADJECTIVES)
    assert {name[1] for name in names} == set(MAKERS)


def test_words() -> None:
    for words in (ADJECTIVES, MAKERS):
        assert len(words) >= 100
        assert len(set(words)) == len(words)
        assert all(word.isascii() and word.isalpha() and word.islower() for word in words)


@pytest.mark.parametrize("name", ["a", "t", "ab", "web_1", "a.b-c", "0x", "A" * 300, "a-", "a__"])
def test_good_names(name: str) -> None:
    assert check_container_name(name) == name
    assert check_container_name("/" + name) == name


@pytest.mark.parametrize("name", ["", "/", "_a", ".a", "-a", "a b", "a/b", "//ab", "ab\n", "옹", "옹기", "aé", "a:b"])
def test_bad_names(name: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        check_container_name(name)
    assert str(raised.value) == f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"


@given(st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", fullmatch=True))
def test_the_rule_is_the_regular_expression(name: str) -> None:
    assert is_name(name)
