"""Text as Go's `%q` prints it: in BuildKit's messages and in the history of images."""

from collections.abc import Iterable
from typing import Final

_SHORT: Final = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    '"': '\\"',
    "\\": "\\\\",
}
_ASCII_END: Final = 0x80
_BMP_END: Final = 0x10000
REPLACEMENT: Final = "\ufffd"
"""What stands for a byte that is not UTF-8."""


def quote(text: str) -> str:
    """Quote as strconv.Quote does."""
    return f'"{"".join(_escape(char) for char in text)}"'


def quote_list(words: Iterable[str]) -> str:
    """`["a" "b"]`, as Go's `%q` prints a list of strings."""
    return f"[{' '.join(quote(word) for word in words)}]"


def without_surrogates(text: str) -> str:
    """Put U+FFFD for each byte that `surrogateescape` kept."""
    if text.isascii():
        return text
    return "".join(REPLACEMENT if "\ud800" <= char <= "\udfff" else char for char in text)


def _escape(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    if char.isprintable():
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code < _ASCII_END:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < _BMP_END else f"\\U{code:08x}"
