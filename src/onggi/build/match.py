"""Wildcards in the sources of COPY and ADD: Go's filepath.Match.

`*` is any run of characters but `/`, `?` one of them, `[a-z]` and `[^a-z]` one out of a
class, `\\` makes the next character plain. `**` is no more than `*`. A pattern that is
malformed matches nothing.
"""

from functools import lru_cache
from typing import Final

import msgspec

_WILD: Final = "*?["


class Class(msgspec.Struct, frozen=True):
    """`[…]`: ranges of characters, or all but them."""

    ranges: tuple[tuple[str, str], ...]
    negated: bool

    def __contains__(self, char: object) -> bool:
        """Tell whether a character is one of the class."""
        return any(low <= char <= high for low, high in self.ranges if isinstance(char, str)) is not self.negated


class Literal(msgspec.Struct, frozen=True):
    """A character that stands for itself."""

    char: str


class Any(msgspec.Struct, frozen=True):
    """`?`."""


class Star(msgspec.Struct, frozen=True):
    """`*`."""


Token = Class | Literal | Any | Star


def has_wildcard(text: str) -> bool:
    """Tell whether a source, or a component of one, must be looked for: an escaped wildcard is none."""
    at = 0
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] in _WILD:
            return True
        at += 1
    return False


def match_component(pattern: str, name: str) -> bool:
    """Tell whether a name matches one component of a pattern."""
    return match(pattern, name)


def match(pattern: str, path: str) -> bool:
    """Tell whether a whole path matches a whole pattern."""
    tokens = parse_glob(pattern)
    return tokens is not None and _match(tokens, path)


def _match(tokens: tuple[Token, ...], text: str) -> bool:
    """Match from left to right; where that fails, let the last `*` take one character more."""
    at = index = 0
    star, resume = -1, 0
    while at < len(text) or index < len(tokens):
        if index < len(tokens):
            token = tokens[index]
            if isinstance(token, Star):
                star, resume = index, at
                index += 1
                continue
            if at < len(text) and _one(token, text[at]):
                at, index = at + 1, index + 1
                continue
        if star < 0 or resume >= len(text) or text[resume] == "/":
            return False
        resume += 1
        at, index = resume, star + 1
    return True


def _one(token: Token, char: str) -> bool:
    match token:
        case Literal(expected):
            return char == expected
        case Class():
            return char in token
        case _:
            return char != "/"


@lru_cache(maxsize=256)
def parse_glob(pattern: str) -> tuple[Token, ...] | None:
    """Read a pattern; None if it is malformed."""
    tokens: list[Token] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            if not (tokens and isinstance(tokens[-1], Star)):
                tokens.append(Star())
        elif char == "?":
            tokens.append(Any())
        elif char == "[":
            found = read_class(pattern, at)
            if found is None:
                return None
            token, at = found
            tokens.append(token)
        else:
            if char == "\\":
                if at == len(pattern):
                    return None
                char = pattern[at]
                at += 1
            tokens.append(Literal(char))
    return tuple(tokens)


def read_class(pattern: str, at: int) -> tuple[Class, int] | None:
    """Read a class from after its `[`; gives it and where it ends. None if it is malformed."""
    negated = pattern.startswith("^", at)
    at += negated
    ranges: list[tuple[str, str]] = []
    while True:
        if ranges and pattern.startswith("]", at):
            return Class(tuple(ranges), negated), at + 1
        low, at = _class_char(pattern, at)
        high = low
        if low and pattern.startswith("-", at):
            high, at = _class_char(pattern, at + 1)
        if not low or not high:
            return None
        ranges.append((low, high))


def _class_char(pattern: str, at: int) -> tuple[str, int]:
    """Read one character of a class; "" if there cannot be one here."""
    if pattern[at : at + 1] in ("", "-", "]"):
        return "", at
    if pattern[at] == "\\":
        at += 1
    return pattern[at : at + 1], at + 1
