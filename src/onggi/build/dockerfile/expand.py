"""The expansion of variables in words: what BuildKit's shell lexer does, which is much, but not all, of what sh does.

A word is taken apart at quotes, escapes and `$`. `'…'` keeps everything; `"…"` keeps
everything but `$` and, after the escape character, `"`, `$` and itself; outside of
quotes the escape character makes the next one plain. Variables:

    $x ${x}             the value, empty where unset; also $1, $@ and the other special ones
    ${x:-w} ${x-w}      w if x is unset (with the colon: or empty)
    ${x:+w} ${x+w}      w if x is set
    ${x:?w} ${x?w}      an error that says w
    ${x#p} ${x##p}      without the shortest, longest beginning that matches p
    ${x%p} ${x%%p}      without the shortest, longest end
    ${x/p/w} ${x//p/w}  with the first, every part that matches p replaced

EXPANDED says which fields of which instruction are words.
"""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from onggi.base.errors import InvalidArgument

from . import instructions as of
from .quoting import quote
from .shell_pattern import parse_pattern, replace, trim_end, trim_start
from .spaces import split_at_spaces

EXPANDED: Final[Mapping[type[of.Instruction], frozenset[str]]] = {
    of.From: frozenset({"base", "platform"}),  # with the ARGs before the first FROM only
    of.Arg: frozenset({"names"}),
    of.Env: frozenset({"pairs"}),
    of.Label: frozenset({"pairs"}),
    of.Copy: frozenset({"sources", "heredocs", "destination", "chown", "chmod"}),
    of.Run: frozenset({"mounts"}),
    of.Workdir: frozenset({"path"}),
    of.User: frozenset({"user"}),
    of.Expose: frozenset({"ports"}),
    of.VolumeInstruction: frozenset({"paths"}),
    of.StopSignal: frozenset({"signal"}),
    of.Cmd: frozenset(),
    of.Entrypoint: frozenset(),
    of.Shell: frozenset(),
    of.HealthcheckInstruction: frozenset(),
    of.Onbuild: frozenset(),
    of.Maintainer: frozenset(),
}
"""The fields that hold words to expand. Only EXPOSE splits what comes out (`expand_words`); here-documents are raw."""

_SPECIAL: Final = frozenset("@*#?-$!0")
_END: Final = ""
_MAX_DEPTH: Final = 64
_MAX_SUBSTITUTED: Final = 1 << 20
"""Characters that variables may bring into one word: eight times what Linux gives a program as one variable."""
_NO_CHARACTER: Final = "\ufffd"  # how Go prints the end of its input


class ExpansionError(InvalidArgument):
    """A word that cannot be expanded: a quote or brace is open, a `${x:?}` is unset, a modifier does not exist."""


class Expansion(msgspec.Struct, frozen=True):
    """A word expanded: as one text, split into words, and the names that it asked for: those set, those unset."""

    text: str
    words: tuple[str, ...]
    matched: frozenset[str]
    unmatched: frozenset[str]


def expand_word(word: str, env: Mapping[str, str], *, escape: str = "\\", raw: bool = False) -> str:
    """Expand a word to one text. `raw`: quotes are plain characters, as in here-documents, where `\\` escapes."""
    return expand(word, env, escape=escape, raw=raw).text


def expand_words(word: str, env: Mapping[str, str], *, escape: str = "\\") -> tuple[str, ...]:
    """Expand a word, then split it at spaces that are neither quoted nor escaped; empty words vanish."""
    return expand(word, env, escape=escape).words


def expand(word: str, env: Mapping[str, str], *, escape: str = "\\", raw: bool = False) -> Expansion:
    """Expand a word; tell what was looked up. Raises ExpansionError."""
    lexer = Lexer(word, env, escape="\\" if raw else escape, skip_quotes=raw)
    try:
        text, words = lexer.run()
    except _Failed as failed:
        raise ExpansionError(f"failed to process {quote(word)}: {failed}") from None
    return Expansion(text, tuple(words), frozenset(lexer.matched), frozenset(lexer.unmatched))


class _Failed(Exception):
    pass


class _TooMuch(_Failed):
    pass


class _Words:
    """Collects characters into words."""

    def __init__(self) -> None:
        self._done: list[str] = []
        self._parts: list[str] = []

    def add(self, text: str) -> None:
        """Add what splits at spaces."""
        first, *others = split_at_spaces(text)
        self.add_whole(first)
        for other in others:
            self.finish()
            self.add_whole(other)

    def add_whole(self, text: str) -> None:
        """Add what belongs to one word, spaces and all."""
        self._parts.append(text)

    def finish(self) -> list[str]:
        """End a word, if there is one, and give all."""
        if word := "".join(self._parts):
            self._done.append(word)
        self._parts.clear()
        return self._done


class Lexer:
    """One pass over one word. The options serve the recognition of here-documents: nothing is taken away then."""

    def __init__(
        self,
        text: str,
        env: Mapping[str, str],
        *,
        escape: str = "\\",
        raw_quotes: bool = False,
        raw_escapes: bool = False,
        skip_quotes: bool = False,
        skip_unset: bool = False,
    ) -> None:
        """Read `text`; `skip_unset` keeps variables that are not set as they are written."""
        self._text = text.removeprefix("\ufeff")
        self._at = 0
        self._env = env
        self._escape = escape
        self._raw_quotes, self._raw_escapes = raw_quotes, raw_escapes
        self._skip_unset = skip_unset
        self._depth = 0
        self._substituted = 0
        self._special: dict[str, Callable[[], str]] = {"$": self._dollar}
        if not skip_quotes:
            self._special |= {"'": self._single_quoted, '"': self._double_quoted}
        self.matched: set[str] = set()
        self.unmatched: set[str] = set()

    def run(self) -> tuple[str, list[str]]:
        """Give the whole text and its words."""
        return self._until(_END, self._raw_escapes)

    def text_or_none(self) -> str | None:
        """Give the whole text, or None if it is not well-formed."""
        try:
            return self.run()[0]
        except _Failed:
            return None

    def words_or_none(self) -> list[str] | None:
        """Give the words, or None if the text is not well-formed."""
        try:
            return self.run()[1]
        except _Failed:
            return None

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        char = self._peek()
        self._at += len(char)
        return char

    def _until(self, stop: str, raw_escapes: bool) -> tuple[str, list[str]]:
        """Read up to the character `stop`, or to the end."""
        if self._depth == _MAX_DEPTH:
            raise _TooMuch(f"substitutions are nested deeper than {_MAX_DEPTH}")
        before, self._raw_escapes = self._raw_escapes, raw_escapes
        self._depth += 1
        try:
            return self._read_until(stop)
        finally:
            self._depth -= 1
            self._raw_escapes = before

    def _read_until(self, stop: str) -> tuple[str, list[str]]:
        result: list[str] = []
        words = _Words()
        while (char := self._peek()) != _END:
            if char == stop:
                self._at += 1
                return "".join(result), words.finish()
            if (special := self._special.get(char)) is not None:
                text = special()
                (words.add if char == "$" else words.add_whole)(text)
                result.append(text)
                continue
            self._at += 1
            if char == self._escape:
                if self._raw_escapes:
                    words.add_whole(char)
                    result.append(char)
                char = self._next()
                if char == _END:
                    break
                words.add_whole(char)
            else:
                words.add(char)
            result.append(char)
        if stop != _END:
            raise _Failed(f"unexpected end of statement while looking for matching {stop}")
        return "".join(result), words.finish()

    def _single_quoted(self) -> str:
        start = self._at
        end = self._text.find("'", start + 1)
        if end < 0:
            self._at = len(self._text)
            raise _Failed("unexpected end of statement while looking for matching single-quote")
        self._at = end + 1
        return self._text[start : end + 1] if self._raw_quotes else self._text[start + 1 : end]

    def _double_quoted(self) -> str:
        quoting = '"' if self._raw_quotes else ""
        self._at += 1
        result = [quoting]
        while True:
            char = self._peek()
            if char == _END:
                raise _Failed("unexpected end of statement while looking for matching double-quote")
            if char == '"':
                self._at += 1
                return "".join((*result, quoting))
            if char == "$":
                result.append(self._dollar())
                continue
            self._at += 1
            if char == self._escape:
                if self._raw_escapes:
                    result.append(char)
                after = self._peek()
                if after == _END:
                    continue
                if after in ('"', "$", self._escape):
                    char = self._next()
            result.append(char)

    def _dollar(self) -> str:
        self._at += 1
        if self._peek() != "{":
            name = self._name()
            if not name:
                return "$"
            value = self._get(name)
            if value is None:
                return f"${name}" if self._skip_unset else ""
            return value
        self._at += 1
        if self._peek() == _END:
            raise _Failed("syntax error: missing '}'")
        if self._peek() in "{}:":
            raise _Failed("syntax error: bad substitution")
        name = self._name()
        return self._braces(name, self._next())

    def _braces(self, name: str, char: str) -> str:
        """Read what follows `${name`, of which `char` is the first character."""
        if char == "}":
            value = self._get(name)
            if value is None:
                return f"${{{name}}}" if self._skip_unset else ""
            return value
        if char == "/":
            return self._replacement(name)
        modifier = char
        if char == ":":
            char = self._next()
            modifier += char or _NO_CHARACTER
            if char in ("#", "%"):
                raise _Failed(f"unsupported modifier ({modifier}) in substitution")
        elif char == _END or char not in "+-?#%":
            raise _Failed(f"unsupported modifier ({char or _NO_CHARACTER}) in substitution")
        word = self._part("}", char in ("#", "%"), "missing '}'")
        value = self._get(name)
        if value is None and self._skip_unset:
            return f"${{{name}{modifier}{word}}}"
        return self._modified(name, modifier, value, word)

    def _modified(self, name: str, modifier: str, value: str | None, word: str) -> str:
        missing = value is None or (modifier[0] == ":" and not value)
        match modifier[-1]:
            case "-":
                return word if missing else value or ""
            case "+":
                return "" if missing else word
            case "?":
                if missing:
                    state = "unset" if value is None else "empty"
                    raise _Failed(f"{name}: {word or f'is not allowed to be {state}'}")
                return value or ""
            case "#" | "%" as sign:
                longest = word.startswith(sign)
                trim = trim_start if sign == "#" else trim_end
                try:
                    return trim(word[longest:], value or "", longest=longest)
                except ValueError as error:
                    shown = word[longest:]
                    raise _Failed(f"invalid pattern ({shown}) in substitution: {error}") from None
            case _:
                raise _Failed(f"unsupported modifier ({modifier}) in substitution")

    def _replacement(self, name: str) -> str:
        """Read `/pattern/text}` or `//pattern/text}`, from after the first slash."""
        everywhere = self._peek() == "/"
        if everywhere:
            self._at += 1
        pattern = self._part("/", True, "missing '/' in ${}")
        text = self._part("}", True, "missing '}'")
        value = self._get(name)
        if value is None and self._skip_unset:
            return f"${{{name}/{pattern}/{text}}}"
        try:
            return replace(parse_pattern(pattern), text, value or "", everywhere=everywhere, count=self._count)
        except ValueError as error:
            raise _Failed(f"invalid pattern ({pattern}) in substitution: {error}") from None

    def _part(self, stop: str, raw_escapes: bool, missing: str) -> str:
        """Read a part of a substitution; what ends early lacks its end, whatever was open inside."""
        try:
            return self._until(stop, raw_escapes)[0]
        except _TooMuch:
            raise
        except _Failed:
            if self._peek() == _END:
                raise _Failed(f"syntax error: {missing}") from None
            raise

    def _name(self) -> str:
        """Read the name of a variable: digits, or one special character, or letters, digits and `_`."""
        start, text, end = self._at, self._text, len(self._text)
        if start < end and text[start].isdecimal():
            while self._at < end and text[self._at].isdecimal():
                self._at += 1
        elif start < end and text[start] in _SPECIAL:
            self._at += 1
        else:
            while self._at < end and ((char := text[self._at]) == "_" or char.isalpha() or char.isdecimal()):
                self._at += 1
        return text[start : self._at]

    def _get(self, name: str) -> str | None:
        value = self._env.get(name)
        (self.unmatched if value is None else self.matched).add(name)
        self._count(value or "")
        return value

    def _count(self, substituted: str) -> None:
        self._substituted += len(substituted)
        if self._substituted > _MAX_SUBSTITUTED:
            raise _TooMuch(f"variables bring in more than {_MAX_SUBSTITUTED} characters")
