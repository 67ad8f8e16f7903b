"""Patterns of `${x#p}`, `${x%p}` and `${x/p/w}`: `*` and `?` and nothing else; neither matches a line's end.

A pattern is matched by keeping the set of places where it may go on, so no text and
no pattern takes more than their product of steps.
"""

from collections.abc import Callable
from typing import Final

_ANY: Final = object()
_STAR: Final = object()
Pattern = tuple[str | object, ...]
"""Characters, `_ANY` for `?`, `_STAR` for `*`."""


def parse_pattern(text: str) -> Pattern:
    r"""Read a pattern. `\*`, `\?`, `\\`, `\}` and `\/` are those characters. Raises ValueError for another escape."""
    tokens: list[str | object] = []
    at = 0
    while at < len(text):
        char = text[at]
        at += 1
        if char == "*":
            tokens.append(_STAR)
        elif char == "?":
            tokens.append(_ANY)
        elif char == "\\":
            after = text[at : at + 1]
            if after not in ("}", "/", "*", "?", "\\"):
                raise ValueError(f"invalid escape '\\{after or chr(0xFFFD)}'")
            tokens.append(after)
            at += 1
        else:
            tokens.append(char)
    return tuple(tokens)


def trim_start(pattern: str, value: str, *, longest: bool) -> str:
    """Take away the shortest or longest beginning that matches."""
    end = _match(parse_pattern(pattern), value, 0, longest=longest)
    return value if end is None else value[end:]


def trim_end(pattern: str, value: str, *, longest: bool) -> str:
    """Take away the shortest or longest end that matches."""
    end = _match(parse_pattern(pattern)[::-1], value[::-1], 0, longest=longest)
    return value if end is None else value[: len(value) - end]


def replace(
    pattern: Pattern, text: str, value: str, *, everywhere: bool, count: Callable[[str], object] = lambda part: None
) -> str:
    """Replace the first part that matches, or every one, by `text`; at one place the longest part counts.

    `count` hears of everything that is put in, and may raise.
    """
    result: list[str] = []
    ends = _longest(pattern, value)
    at = copied = 0
    last_end = -1
    while at <= len(value):
        end = ends[at]
        if end < 0 or end == at == last_end:  # no match, or an empty one right after another
            at += 1
            continue
        part = _template(text, value[at:end], count) if everywhere else text
        count(part)
        result += [value[copied:at], part]
        copied = last_end = end
        if not everywhere:
            break
        at = end if end > at else at + 1
    return "".join((*result, value[copied:]))


def _longest(pattern: Pattern, value: str) -> list[int]:
    """Say for each place where the longest match that begins there ends, -1 where none does."""
    ends = [-1] * (len(value) + 1)
    later = [-1] * (len(pattern) + 1)  # of the rests of the pattern, one place further on
    for at in range(len(value), -1, -1):
        char = value[at : at + 1]
        here = [-1] * len(pattern) + [at]
        for state in range(len(pattern) - 1, -1, -1):
            token = pattern[state]
            if token is _STAR:
                here[state] = max(here[state + 1], later[state] if char != "\n" else -1)
            elif char and (token == char or (token is _ANY and char != "\n")):
                here[state] = later[state + 1]
        ends[at], later = here[0], here
    return ends


def _match(pattern: Pattern, value: str, start: int, *, longest: bool) -> int | None:
    """Find where a match that begins at `start` ends."""
    states = _closure(pattern, {0})
    found: int | None = None
    at = start
    while True:
        if len(pattern) in states:
            found = at
            if not longest:
                return found
        if at == len(value) or not states:
            return found
        states = _closure(pattern, _step(pattern, states, value[at]))
        at += 1


def _closure(pattern: Pattern, states: set[int]) -> set[int]:
    """Add where the pattern may go on without a character: after a `*`."""
    for state in sorted(states):
        after = state
        while after < len(pattern) and pattern[after] is _STAR:
            after += 1
            states.add(after)
    return states


def _step(pattern: Pattern, states: set[int], char: str) -> set[int]:
    following: set[int] = set()
    for state in states:
        if state == len(pattern):
            continue
        token = pattern[state]
        if token is _STAR:
            if char != "\n":
                following.add(state)
        elif token == char or (token is _ANY and char != "\n"):
            following.add(state + 1)
    return following


def _template(text: str, matched: str, count: Callable[[str], object]) -> str:
    """Fill in `$0` and `${0}`, drop other `$name`: what Go's regexp does to a replacement, and so BuildKit to `//`."""
    if "$" not in text:
        return text
    result: list[str] = []
    while True:
        before, dollar, text = text.partition("$")
        result.append(before)
        if not dollar:
            return "".join(result)
        if text.startswith("$"):
            result.append("$")
            text = text[1:]
            continue
        name, rest = _template_name(text)
        if name is None:
            result.append("$")
            continue
        if name.isascii() and name.isdigit() and int(name[:9]) == 0:
            count(matched)
            result.append(matched)
        text = rest


def _template_name(text: str) -> tuple[str | None, str]:
    braces = text.startswith("{")
    start = end = 1 if braces else 0
    while end < len(text) and (text[end] == "_" or text[end].isalpha() or text[end].isdecimal()):
        end += 1
    if end == start or (braces and text[end : end + 1] != "}"):
        return None, text
    return text[start:end], text[end + braces :]
