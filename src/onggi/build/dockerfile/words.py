"""From the text of one instruction to its command, flags and words; quotes and escapes stay for `expand.py`.

These are BuildKit's line parsers (frontend/dockerfile/parser).
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from .errors import Wrong
from .quoting import quote, without_surrogates
from .spaces import is_space, split_first, trim, trim_left

_DECODER: Final = msgspec.json.Decoder(list[Any])


def split_command(code: str, escape: str) -> tuple[str, tuple[str, ...], str]:
    """Split an instruction into its name as written, its flags (without quotes) and the rest."""
    command, rest = split_first(trim(code))
    if rest is None:
        return command, (), ""
    flags, rest = _split_flags(rest, escape)
    return command, flags, trim(rest)


def _split_flags(line: str, escape: str) -> tuple[tuple[str, ...], str]:
    """Take the words that begin with `--` off the front; a lone `--` ends them."""
    flags: list[str] = []
    at = 0
    while True:
        while at < len(line) and is_space(line[at]):
            at += 1
        if not line.startswith("--", at):
            return tuple(flags), line[at:]
        word, at = _flag(line, at, escape)
        if word == "--":
            return tuple(flags), line[at:]
        flags.append(word)


def _flag(line: str, at: int, escape: str) -> tuple[str, int]:
    """Read a flag that begins at `at`, without its quotes and escapes."""
    word: list[str] = []
    quoting = ""
    while at < len(line):
        char = line[at]
        if char == escape:
            word.append(line[at + 1 : at + 2])
            at += 1
        elif quoting:
            if char == quoting:
                quoting = ""
            else:
                word.append(char)
        elif is_space(char):
            break
        elif char in "'\"":
            quoting = char
        else:
            word.append(char)
        at += 1
    return "".join(word), at


def parse_words(text: str, escape: str) -> list[str]:
    """Split at spaces that are neither quoted nor escaped."""
    words: list[str] = []
    word: list[str] = []
    present, quoting = False, ""
    at = 0
    while at < len(text):
        char = text[at]
        at += 1
        if not quoting and is_space(char):
            if present or word:
                words.append("".join(word))
            word, present = [], False
            continue
        if char == escape and quoting != "'":
            if at == len(text):
                break  # an escape character at the end is skipped
            word.append(char)
            char = text[at]
            at += 1
        elif quoting:
            quoting = "" if char == quoting else quoting
        elif char in "'\"":
            quoting, present = char, True
        word.append(char)
    if present or word:
        words.append("".join(word))
    return words


def parse_pairs(command: str, text: str, escape: str) -> tuple[tuple[str, str], ...]:
    """Read `key=value …`, or the old `key value` whose value is all the rest. Raises Wrong."""
    words = parse_words(text, escape)
    if not words:
        raise Wrong(f"{command} requires at least one argument")
    if "=" not in words[0]:
        key, value = split_first(text)
        if value is None:
            raise Wrong(f"{command} must have two arguments")
        pairs = [(key, value)]
    else:
        for word in words:
            if "=" not in word:
                raise Wrong(f"Syntax error - can't find = in {quote(word)}. Must be of the form: name=value")
        pairs = [(key, value) for key, _, value in (word.partition("=") for word in words)]
    if not all(key for key, _ in pairs):
        raise Wrong(f"{command} names can not be blank")
    return tuple(pairs)


def parse_json(text: str) -> tuple[str, ...] | None:
    """Read a JSON array of strings; None if this is no JSON array. Raises Wrong for one of other things."""
    text = trim_left(text)
    if not text.startswith("["):
        return None
    try:
        values = _DECODER.decode(without_surrogates(_without_lone_escapes(text)))
    except (msgspec.DecodeError, RecursionError):
        return None
    if not all(isinstance(value, str) for value in values):
        raise Wrong("when using JSON array syntax, arrays must be comprised of strings only")
    return tuple(values)


def _without_lone_escapes(text: str) -> str:
    r"""Put `\ufffd` for each half of a surrogate pair that is alone: msgspec refuses it, Go replaces it."""
    if "\\u" not in text:
        return text
    return "".join(_escapes(text))


def _escapes(text: str) -> Iterator[str]:
    at = copied = 0
    while (at := text.find("\\", at)) >= 0:
        if not _half(text, at, "89ab"):
            lone, width = _half(text, at, "cdef"), 6 if text[at + 1 : at + 2] == "u" else 2
        elif _half(text, at + 6, "cdef"):
            lone, width = False, 12
        else:
            lone, width = True, 6
        if lone:
            yield text[copied:at]
            yield "\\ufffd"
            copied = at + width
        at += width
    yield text[copied:]


def _half(text: str, at: int, kinds: str) -> bool:
    escape = text[at : at + 6].lower()
    return (
        escape.startswith("\\ud")
        and escape[3:4] in set(kinds)
        and len(escape) == 6
        and all(char in "0123456789abcdef" for char in escape[4:])
    )


def parse_healthcheck(text: str) -> tuple[str, str]:
    """Split `CMD command` or `NONE` into the word and the rest."""
    end = next((at for at, char in enumerate(text) if is_space(char)), len(text))
    return text[:end], trim_left(text[end:])
