"""Literals of Go in templates: numbers, characters and quoted texts (strconv.Unquote, ParseInt with base 0)."""

import math
import re
from typing import Final

from onggi.cli.quoting import quote

_SIMPLE: Final = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92}
_COUNTED: Final = {"x": 2, "u": 4, "U": 8}
_INTEGER: Final = re.compile(
    r"[+-]?(0[xX](_?[0-9a-fA-F])+|0[bB](_?[01])+|0[oO](_?[0-7])+|0(_?[0-7])+|0|[1-9](_?[0-9])*)", re.ASCII
)
_FLOAT: Final = re.compile(r"[+-]?([0-9](_?[0-9])*\.?([0-9](_?[0-9])*)?|\.[0-9](_?[0-9])*)([eE][+-]?[0-9]+)?", re.ASCII)
_MAX_DIGITS: Final = 100


def parse_number(text: str) -> int | float:
    """Read `42`, `0x2a`, `1e3`, `'a'`. Raises ValueError with Go's text."""
    if text.startswith("'"):
        return _character(text)
    if len(text) <= _MAX_DIGITS and _INTEGER.fullmatch(text):
        number = _integer(text)
        if -(2**63) <= number < 2**63:
            return number
        raise ValueError(f"integer overflow: {quote(text)}")
    if len(text) <= _MAX_DIGITS and _FLOAT.fullmatch(text):
        if not set(text) & set(".eE"):
            raise ValueError(f"integer overflow: {quote(text)}")
        value = float(text.replace("_", ""))
        if math.isfinite(value):
            return value
    raise ValueError(f"illegal number syntax: {quote(text)}")


def _integer(text: str) -> int:
    digits = text.lstrip("+-")
    sign = -1 if text[0] == "-" else 1
    if len(digits) > 1 and digits[0] == "0" and digits[1] in "_01234567":
        return sign * int(digits.replace("_", ""), 8)
    return sign * int(digits, 0)


def _character(text: str) -> int:
    try:
        value = unquote('"' + text[1:-1].replace("\\'", "'").replace('"', '\\"') + '"')
    except ValueError:
        value = ""
    if text == "''":
        raise ValueError("invalid syntax")
    if len(value) != 1:
        raise ValueError(f"malformed character constant: {text}")
    return ord(value)


def unquote(text: str) -> str:
    """Give the value of a quoted or raw text; bytes that are no UTF-8 become surrogates. Raises ValueError."""
    if text[0] == "`":
        return text[1:-1].replace("\r", "")
    out = bytearray()
    rest = text[1:-1]
    while rest:
        char, rest = rest[0], rest[1:]
        if char != "\\":
            out += char.encode("utf-8", "surrogateescape")
            continue
        rest = _escape(rest, out)
    return out.decode("utf-8", "surrogateescape")


def _escape(rest: str, out: bytearray) -> str:
    kind = rest[:1]
    if kind in _SIMPLE:
        out.append(_SIMPLE[kind])
        return rest[1:]
    if kind == '"':
        out += b'"'
        return rest[1:]
    if kind in _COUNTED:
        digits, base, after = rest[1 : 1 + _COUNTED[kind]], 16, rest[1 + _COUNTED[kind] :]
        wanted = _COUNTED[kind]
    else:
        digits, base, after, wanted = rest[:3], 8, rest[3:], 3
    alphabet = "0123456789abcdefABCDEF" if base == 16 else "01234567"
    if len(digits) != wanted or not set(digits) <= set(alphabet):
        raise ValueError("invalid syntax")
    value = int(digits, base)
    if kind in ("u", "U"):
        if value > 0x10FFFF or 0xD800 <= value < 0xE000:
            raise ValueError("invalid syntax")
        out += chr(value).encode()
    elif value > 255:
        raise ValueError("invalid syntax")
    else:
        out.append(value)
    return after
