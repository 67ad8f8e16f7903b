"""Versions of Debian packages: deb-version(7), in the order that dpkg gives them. Pure."""

from typing import Final

from onggi.base.errors import Corrupt

MAX_VERSION_CHARS: Final = 256
_DIGITS: Final = frozenset("0123456789")
_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_OTHERS: Final = frozenset(".+-~:")


def check_version(version: str) -> str:
    """Give a version back if it is one; raises Corrupt."""
    epoch, colon, _ = version.partition(":")
    wrong = not 0 < len(version) <= MAX_VERSION_CHARS or (colon and not _is_number(epoch))
    if wrong or not set(version) <= _DIGITS | _LETTERS | _OTHERS:
        raise Corrupt(f"{version[:60]!r} is no version of a package")
    return version


def compare_versions(a: str, b: str) -> int:
    """Compare two versions: negative, 0 or positive."""
    epoch_a, upstream_a, revision_a = _split(a)
    epoch_b, upstream_b, revision_b = _split(b)
    return _compare(epoch_a, epoch_b) or _compare(upstream_a, upstream_b) or _compare(revision_a, revision_b)


def satisfies(version: str, op: str, wanted: str) -> bool:
    """Say whether `version` is in the relation `op` (<<, <=, =, >=, >>) to `wanted`. Raises Corrupt for others."""
    difference = compare_versions(version, wanted)
    match op:
        case "<<":
            return difference < 0
        case "<=" | "<":
            return difference <= 0
        case "=":
            return difference == 0
        case ">=" | ">":
            return difference >= 0
        case ">>":
            return difference > 0
    raise Corrupt(f"{op!r} relates no versions")


def _is_number(text: str) -> bool:
    return bool(text) and set(text) <= _DIGITS


def _split(version: str) -> tuple[str, str, str]:
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "", version
    upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "")
    return epoch, upstream, revision


def _order(char: str) -> int:
    if char == "~":
        return -1
    if not char or char in _DIGITS:
        return 0
    return ord(char) if char in _LETTERS else ord(char) + 256


def _compare(a: str, b: str) -> int:
    """Compare one part: by turns what is no digit, by `_order`, and numbers."""
    at_a = at_b = 0
    while at_a < len(a) or at_b < len(b):
        while (at_a < len(a) and a[at_a] not in _DIGITS) or (at_b < len(b) and b[at_b] not in _DIGITS):
            difference = _order(a[at_a : at_a + 1]) - _order(b[at_b : at_b + 1])
            if difference:
                return difference
            at_a += 1
            at_b += 1
        number_a, at_a = _number(a, at_a)
        number_b, at_b = _number(b, at_b)
        if number_a != number_b:
            return 1 if number_a > number_b else -1
    return 0


def _number(text: str, at: int) -> tuple[tuple[int, str], int]:
    """Take the digits at `at`, as what orders as their number does: however long, without making it."""
    end = at
    while end < len(text) and text[end] in _DIGITS:
        end += 1
    digits = text[at:end].lstrip("0")
    return (len(digits), digits), end
