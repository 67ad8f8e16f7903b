"""Platforms: `os/architecture[/variant]` (image-spec image-index.md; spelling as containerd's `platforms`).

The names are Go's GOOS and GOARCH. Many spellings mean the same (`x86_64`,
`arm64/v8`, `armhf`), so platforms are normalised before they are compared.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from onggi.base.errors import InvalidArgument


class Platform(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a manifest runs on."""

    architecture: str = ""
    os: str = ""
    os_version: str | None = msgspec.field(default=None, name="os.version")
    os_features: tuple[str, ...] | None = msgspec.field(default=None, name="os.features")
    variant: str | None = None
    features: tuple[str, ...] | None = None

    def __str__(self) -> str:
        """`linux/arm/v7`."""
        return "/".join(part for part in (self.os or "unknown", self.architecture or "unknown", self.variant) if part)


_GOOS: Final = "aix android darwin dragonfly freebsd illumos ios js linux netbsd openbsd plan9 solaris wasip1 windows"
_GOARCH: Final = "386 amd64 arm arm64 loong64 mips mipsle mips64 mips64le ppc64 ppc64le riscv64 s390x wasm"
_OS_NAMES: Final = frozenset(_GOOS.split())
_ARCHITECTURES: Final = frozenset(_GOARCH.split())
_OS_ALIASES: Final = {"macos": "darwin"}
_ARCHITECTURE_ALIASES: Final = {
    "i386": ("386", None),
    "i486": ("386", None),
    "i586": ("386", None),
    "i686": ("386", None),
    "x86_64": ("amd64", None),
    "x86-64": ("amd64", None),
    "aarch64": ("arm64", None),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv5l": ("arm", "v5"),
    "armv6l": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv8l": ("arm", "v8"),
    "loongarch64": ("loong64", None),
}
_COMPONENT: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_.-")


def parse_platform(text: str, host: Platform) -> Platform:
    """Read `linux/arm/v7`, `linux/amd64`, or one of the two words alone, completed from `host`.

    Raises InvalidArgument.
    """
    parts = text.strip().lower().split("/")
    if len(parts) > 3 or not all(part and _COMPONENT.issuperset(part) for part in parts):
        raise InvalidArgument(f"{text!r} is an invalid platform: write os/architecture or os/architecture/variant")
    if len(parts) > 1:
        return normalize(Platform(os=parts[0], architecture=parts[1], variant=parts[2] if len(parts) == 3 else None))
    word = parts[0]
    if _OS_ALIASES.get(word, word) in _OS_NAMES:
        return normalize(Platform(os=word, architecture=host.architecture, variant=host.variant))
    if word in _ARCHITECTURES or word in _ARCHITECTURE_ALIASES:
        return normalize(Platform(os=host.os, architecture=word))
    raise InvalidArgument(f"{text!r}: unknown operating system or architecture")


def machine_platform(machine: str) -> Platform:
    """The platform of a Linux host whose uname(2) says `machine` (`x86_64`, `aarch64`, `armv7l`)."""
    return normalize(Platform(os="linux", architecture=machine))


def normalize(platform: Platform) -> Platform:
    """One spelling for each platform."""
    os_name = platform.os.lower()
    architecture, variant = platform.architecture.lower(), (platform.variant or "").lower()
    if architecture in _ARCHITECTURE_ALIASES:
        architecture, implied = _ARCHITECTURE_ALIASES[architecture]
        variant = variant or implied or ""
    if variant.replace(".", "").isdigit():
        variant = f"v{variant}"
    variant = variant.removesuffix(".0")
    if architecture == "arm" and not variant:
        variant = "v7"
    if (architecture, variant) in {("arm64", "v8"), ("amd64", "v1")}:
        variant = ""
    return msgspec.structs.replace(
        platform, os=_OS_ALIASES.get(os_name, os_name), architecture=architecture, variant=variant or None
    )


def best_match(wanted: Platform, offered: Iterable[Platform | None], *, strict: bool = False) -> int | None:
    """Index of the offer that runs best on `wanted`, or None; the first of equals.

    A newer variant runs older ones (amd64/v3 runs amd64, arm/v7 runs arm/v6),
    and unless `strict` a 64-bit machine runs its 32-bit programs.
    """
    ranks = {_key(platform): rank for rank, platform in reversed([*enumerate(runnable(wanted, strict=strict))])}
    found: tuple[int, int] | None = None
    for index, platform in enumerate(offered):
        if platform is not None and (rank := ranks.get(_key(normalize(platform)))) is not None:
            found = min(found or (rank, index), (rank, index))
    return found[1] if found else None


def runnable(host: Platform, *, strict: bool = False) -> Iterator[Platform]:
    """Platforms whose programs `host` runs, best first."""
    host = normalize(host)
    for architecture, variant in _compatible(host.architecture, host.variant or "", strict):
        yield Platform(os=host.os, architecture=architecture, variant=variant or None)


def _compatible(architecture: str, variant: str, strict: bool) -> Iterator[tuple[str, str]]:
    yield architecture, variant
    level = int(variant[1:]) if variant[:1] == "v" and variant[1:].isdigit() else 0
    if architecture == "amd64":
        yield from (("amd64", f"v{lower}" if lower > 1 else "") for lower in range(level - 1, 0, -1))
        if not strict:
            yield "386", ""
    elif architecture == "arm":
        yield from (("arm", f"v{lower}") for lower in range(level - 1, 4, -1))
    elif architecture == "arm64":
        yield from _older_arm64(variant)
        if not strict:
            yield from (("arm", f"v{lower}") for lower in range(8, 4, -1))


def _older_arm64(variant: str) -> Iterator[tuple[str, str]]:
    """Below v9.n are v9.n-1 … v9 and v8.n+5 … v8 (Arm's manual: v9.n has all of v8.n+5)."""
    major, _, minor = variant.removeprefix("v").partition(".")
    if not major.isdigit() or (minor and not minor.isdigit()) or major not in ("8", "9"):
        return
    n = int(minor or 0)
    for lower in range(n - 1, -1, -1):
        yield "arm64", f"v{major}.{lower}" if lower else ("v9" if major == "9" else "")
    if major == "9":
        yield from (("arm64", f"v8.{lower}" if lower else "") for lower in range(min(n + 5, 9), -1, -1))


def _key(platform: Platform) -> tuple[str, str, str]:
    return platform.os, platform.architecture, platform.variant or ""
