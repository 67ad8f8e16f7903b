"""Platforms: many spellings, one meaning; and what runs on what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onggi.base.errors import InvalidArgument
from onggi.spec.platform import Platform, best_match, machine_platform, normalize, parse_platform, runnable

AMD64 = machine_platform("x86_64")


def named(text: str) -> Platform:
    return parse_platform(text, AMD64)


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("linux/amd64", "linux/amd64"),
        ("Linux/X86_64", "linux/amd64"),
        ("linux/x86-64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/arm64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm64/v8.0", "linux/arm64"),
        ("linux/arm64/v8.5", "linux/arm64/v8.5"),
        ("linux/arm64/v9.0", "linux/arm64/v9"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/7", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/i386", "linux/386"),
        ("linux/riscv64", "linux/riscv64"),
        ("linux", "linux/amd64"),
        ("arm64", "linux/arm64"),
        ("aarch64", "linux/arm64"),
        ("windows", "windows/amd64"),
        ("macos/arm64", "darwin/arm64"),
        ("linux/newarch", "linux/newarch"),
    ],
)
def test_parsed(text: str, printed: str) -> None:
    assert str(named(text)) == printed
    assert named(printed) == named(text) == normalize(named(text))


@pytest.mark.parametrize("text", ["", "/", "linux/", "a/b/c/d", "linux/ amd64", "linux/am*", "옹기/amd64"])
def test_malformed(text: str) -> None:
    with pytest.raises(InvalidArgument, match="is an invalid platform"):
        named(text)


def test_one_unknown_word() -> None:
    with pytest.raises(InvalidArgument, match="'pottery': unknown operating system or architecture"):
        named("pottery")


@pytest.mark.parametrize(
    ("machine", "printed"),
    [
        ("x86_64", "linux/amd64"),
        ("aarch64", "linux/arm64"),
        ("armv7l", "linux/arm/v7"),
        ("armv6l", "linux/arm/v6"),
        ("i686", "linux/386"),
        ("ppc64le", "linux/ppc64le"),
        ("s390x", "linux/s390x"),
        ("riscv64", "linux/riscv64"),
        ("loongarch64", "linux/loong64"),
    ],
)
def test_of_a_machine(machine: str, printed: str) -> None:
    assert str(machine_platform(machine)) == printed


@pytest.mark.parametrize(
    ("wanted", "offered", "best"),
    [
        ("linux/amd64", ["linux/arm64", "linux/amd64"], 1),
        ("linux/amd64", ["linux/amd64/v3", "linux/amd64"], 1),
        ("linux/amd64", ["linux/amd64/v2"], None),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], 1),
        ("linux/amd64", ["linux/386"], 0),
        ("linux/arm64", ["linux/arm/v7", "linux/arm64/v8"], 1),
        ("linux/arm64", ["linux/arm/v6", "linux/arm/v7"], 1),
        ("linux/arm64/v9.2", ["linux/arm64", "linux/arm64/v8.7", "linux/arm64/v9.3"], 1),
        ("linux/arm64/v9", ["linux/arm64/v8.6", "linux/arm64/v8.5"], 1),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6"], 1),
        ("linux/arm/v6", ["linux/arm/v7"], None),
        ("linux/amd64", ["windows/amd64"], None),
        ("linux/amd64", ["linux/amd64", "linux/amd64"], 0),
        ("linux/riscv64", ["linux/riscv64"], 0),
        ("linux/amd64", [], None),
    ],
)
def test_best_match(wanted: str, offered: list[str], best: int | None) -> None:
    assert best_match(named(wanted), [named(text) for text in offered]) == best


def test_strict_keeps_to_the_architecture() -> None:
    assert best_match(AMD64, [named("linux/386")], strict=True) is None
    assert best_match(named("arm64"), [named("linux/arm/v7")], strict=True) is None
    assert best_match(named("linux/arm/v7"), [named("linux/arm/v6")], strict=True) == 0


def test_offers_without_platform_never_match() -> None:
    assert best_match(AMD64, [None, Platform(os="unknown", architecture="unknown"), AMD64]) == 2


variants = st.none() | st.sampled_from(
    ("", "1", "v1", "v2", "v3", "5", "v6", "v7", "8", "v8", "v8.1", "v9", "v9.4", "x")
)


@given(
    st.builds(
        Platform,
        os=st.sampled_from(("linux", "Linux", "windows")),
        architecture=st.sampled_from(("amd64", "x86_64", "arm64", "aarch64", "arm", "armhf", "386", "s390x")),
        variant=variants,
    )
)
def test_laws(platform: Platform) -> None:
    once = normalize(platform)
    assert normalize(once) == once
    able = list(runnable(platform))
    assert able[0] == once
    assert all(normalize(other) == other for other in able)
    assert len(set(map(str, able))) == len(able)
    assert best_match(platform, reversed(able)) == len(able) - 1
