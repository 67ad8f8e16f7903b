"""Cuts a template into tokens (Go's text/template/parse/lex.go)."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from onggi.cli.quoting import quote

KEYWORDS: Final = frozenset(
    {".", "block", "break", "continue", "define", "else", "end", "if", "nil", "range", "template", "with"}
)
_LEFT: Final = "{{"
_RIGHT: Final = "}}"
_SPACES: Final = " \t\r\n"
_DIGITS: Final = "0123456789_"
_BASES: Final = {"x": "0123456789abcdefABCDEF_", "o": "01234567_", "b": "01_"}
_END: Final = ""


class Token(NamedTuple):
    """One token: its kind (a keyword is its own), its text, and where it begins."""

    kind: str
    text: str
    position: int
    line: int

    def __str__(self) -> str:
        """Show it as Go does in errors."""
        if self.kind == "EOF":
            return "EOF"
        if self.kind == "error":
            return self.text
        if self.kind in KEYWORDS:
            return f"<{self.text}>"
        if len(self.text.encode("utf-8", "surrogateescape")) > 10:
            return f"{quote(self.text[:10])}..."
        return quote(self.text)


class _Wrong(Exception):
    """What is wrong with the text; it becomes a token of kind `error`, the last one."""


def is_space(char: str) -> bool:
    """Whether a character separates arguments."""
    return char != _END and char in _SPACES


def _is_word(char: str) -> bool:
    return char == "_" or char.isalpha() or char.isdecimal()


class Lexer:
    """Gives the tokens of a text one by one, and after the last for ever EOF or the error."""

    def __init__(self, text: str) -> None:
        """Begin at the start."""
        self._text, self._at, self._start, self._depth = text, 0, 0, 0
        self._line = 1
        self._counted = 0
        self._tokens = self._all()
        self._last: Token | None = None

    def next(self) -> Token:
        """Give the next token."""
        if self._last is None:
            try:
                token = next(self._tokens)
            except _Wrong as error:
                token = Token("error", str(error), self._start, self._line_of(self._start))
            if token.kind in ("EOF", "error"):
                self._last = token
            return token
        return Token("EOF", "EOF", self._last.position, self._last.line)

    def _line_of(self, position: int) -> int:
        if position >= self._counted:
            self._line += self._text.count("\n", self._counted, position)
            self._counted = position
            return self._line
        return 1 + self._text.count("\n", 0, position)

    def _token(self, kind: str) -> Token:
        token = Token(kind, self._text[self._start : self._at], self._start, self._line_of(self._start))
        self._start = self._at
        return token

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        char = self._peek()
        self._at += len(char)
        return char

    def _skip(self, count: int) -> None:
        self._at += count
        self._start = self._at

    def _all(self) -> Iterator[Token]:
        while True:
            yield from self._literal_text()
            if not self._text.startswith(_LEFT, self._at):
                yield self._token("EOF")._replace(text="EOF")
                return
            trimmed = 2 if self._trims_left(self._at + 2) else 0
            if self._text.startswith("/*", self._at + 2 + trimmed):
                self._skip(2 + trimmed)
                self._comment()
                continue
            self._at += 2
            yield self._token("{{")
            self._skip(trimmed)
            self._depth = 0
            yield from self._action()

    def _trims_left(self, at: int) -> bool:
        return self._text[at : at + 1] == "-" and is_space(self._text[at + 1 : at + 2])

    def _closing(self, at: int) -> tuple[bool, bool]:
        """Whether the action ends here, and whether that trims the text after it."""
        if is_space(self._text[at : at + 1]) and self._text.startswith("-" + _RIGHT, at + 1):
            return True, True
        return self._text.startswith(_RIGHT, at), False

    def _literal_text(self) -> Iterator[Token]:
        found = self._text.find(_LEFT, self._at)
        end = found if found >= 0 else len(self._text)
        text = self._text[self._at : end]
        if found >= 0 and self._trims_left(found + 2):
            text = text.rstrip(_SPACES)
        self._at += len(text)
        if text:
            yield self._token("text")
        self._skip(end - self._at)

    def _comment(self) -> None:
        end = self._text.find("*/", self._at + 2)
        if end < 0:
            raise _Wrong("unclosed comment")
        closing, trims = self._closing(end + 2)
        if not closing:
            raise _Wrong("comment ends before closing delimiter")
        self._skip(end + 2 - self._at)
        self._close(trims)

    def _close(self, trims: bool) -> Token:
        if trims:
            self._skip(2)
        self._at += 2
        token = self._token("}}")
        if trims:
            rest = len(self._text) - len(self._text[self._at :].lstrip(_SPACES))
            self._skip(rest - self._at)
        return token

    def _action(self) -> Iterator[Token]:
        while True:
            closing, trims = self._closing(self._at)
            if closing:
                if self._depth:
                    raise _Wrong("unclosed left paren")
                yield self._close(trims)
                return
            yield self._inside()

    def _inside(self) -> Token:
        char = self._next()
        if char == _END:
            raise _Wrong("unclosed action")
        if is_space(char):
            while is_space(self._peek()) and self._closing(self._at) != (True, True):
                self._at += 1
            return self._token("space")
        if char == "=":
            return self._token("=")
        if char == ":":
            if self._next() != "=":
                raise _Wrong("expected :=")
            return self._token(":=")
        if char == '"':
            return self._quoted('"', "string", "unterminated quoted string")
        if char == "'":
            return self._quoted("'", "char constant", "unterminated character constant")
        if char == "`":
            end = self._text.find("`", self._at)
            if end < 0:
                raise _Wrong("unterminated raw quoted string")
            self._at = end + 1
            return self._token("raw string")
        if char == "$":
            return self._name("variable", "variable")
        if char == "." and not "0" <= self._peek() <= "9":
            return self._name("field", ".")
        if char in "+-." or "0" <= char <= "9":
            self._at -= 1
            return self._number()
        if _is_word(char):
            return self._word()
        return self._punctuation(char)

    def _punctuation(self, char: str) -> Token:
        if char == "|":
            return self._token("|")
        if char == "(":
            self._depth += 1
            return self._token("(")
        if char == ")":
            self._depth -= 1
            if self._depth < 0:
                raise _Wrong("unexpected right paren")
            return self._token(")")
        if " " <= char <= "~":
            return self._token("char")
        raise _Wrong(f"unrecognized character in action: {_code_point(char)}")

    def _quoted(self, end: str, kind: str, problem: str) -> Token:
        while True:
            char = self._next()
            if char == "\\":
                char = self._next()
                if char not in (_END, "\n"):
                    continue
            if char in (_END, "\n"):
                raise _Wrong(problem)
            if char == end:
                return self._token(kind)

    def _name(self, kind: str, alone: str) -> Token:
        """`.Field` or `$variable`, or only its first character."""
        if self._at_terminator():
            return self._token(alone)
        self._absorb_word()
        return self._token(kind)

    def _word(self) -> Token:
        self._absorb_word()
        word = self._text[self._start : self._at]
        if word in KEYWORDS:
            return self._token(word)
        return self._token("bool" if word in ("true", "false") else "identifier")

    def _absorb_word(self) -> None:
        while _is_word(self._peek()):
            self._at += 1
        if not self._at_terminator():
            raise _Wrong(f"bad character {_code_point(self._peek())}")

    def _at_terminator(self) -> bool:
        char = self._peek()
        return char == _END or char in _SPACES + ".,|:)(" or self._text.startswith(_RIGHT, self._at)

    def _number(self) -> Token:
        wrong = not self._scan_number()
        if not wrong and self._peek() in ("+", "-"):
            # A complex number, which nothing here could use.
            wrong = True
            self._scan_number()
        if wrong:
            raise _Wrong(f"bad number syntax: {quote(self._text[self._start : self._at])}")
        return self._token("number")

    def _scan_number(self) -> bool:
        self._accept("+-")
        digits = _DIGITS
        if self._accept("0") and self._peek() and self._peek().lower() in _BASES:
            digits = _BASES[self._next().lower()]
        self._accept_run(digits)
        if self._accept("."):
            self._accept_run(digits)
        if (digits == _DIGITS and self._accept("eE")) or (digits == _BASES["x"] and self._accept("pP")):
            self._accept("+-")
            self._accept_run(_DIGITS)
        self._accept("i")
        if _is_word(self._peek()):
            self._at += 1
            return False
        return True

    def _accept(self, chars: str) -> bool:
        char = self._peek()
        if char == _END or char not in chars:
            return False
        self._at += 1
        return True

    def _accept_run(self, chars: str) -> None:
        while self._accept(chars):
            pass


def _code_point(char: str) -> str:
    """Go's %#U: `U+0021 '!'`."""
    if char == _END:
        return "U+FFFFFFFFFFFFFFFF"
    shown = f" '{char}'" if char.isprintable() else ""
    return f"U+{ord(char):04X}{shown}"
