"""Quoted texts as Go's strconv.Quote writes them."""

from typing import Final

_ESCAPES: Final = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v",
                   "\\": "\\\\", '"': '\\"'}  # fmt: skip


def quote(text: str, *, ascii_only: bool = False) -> str:
    """Quote a text as Go's strconv.Quote does, and %q."""
    return '"' + "".join(_quoted(char, ascii_only) for char in text) + '"'


def _quoted(char: str, ascii_only: bool) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if (char.isprintable() and not ascii_only) or 0x20 <= code < 0x7F:
        return char
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
