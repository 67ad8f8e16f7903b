"""From the bytes of a Dockerfile to its instructions as text: directives, comments, continuations, here-documents."""

from collections.abc import Iterator
from typing import Final

import msgspec

from .errors import DockerfileError, Wrong, error_at
from .heredocs import find_heredocs
from .instructions import Heredoc, Place, Warning_
from .quoting import without_surrogates
from .spaces import trim_left
from .words import parse_json, split_command

_BOM: Final = b"\xef\xbb\xbf"
_MAX_LINE: Final = 64 * 1024
_DIRECTIVES: Final = ("check", "escape", "syntax")
_BLANKS: Final = "\t\n\f\r "
_HAVE_HEREDOCS: Final = ("add", "copy", "run")


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """One instruction: its name as written, its flags, the rest of its line, and its here-documents."""

    place: Place
    command: str
    flags: tuple[str, ...]
    rest: str
    heredocs: tuple[Heredoc, ...] = ()


class Reader:
    """Reads the statements of one Dockerfile; `escape`, `directives` and `warnings` are whole at the end."""

    def __init__(self, data: bytes, name: str) -> None:
        """Read `data`; errors call it `name`."""
        self._name = name
        self._lines = data.removeprefix(_BOM).decode("utf-8", "surrogateescape").split("\n")
        if not self._lines[-1]:
            self._lines.pop()
        self._at = 0
        self._directives_over = False
        self.escape = "\\"
        self.directives: dict[str, str] = {}
        self.warnings: list[Warning_] = []

    def statements(self) -> Iterator[Statement]:
        """Give one statement after the other. Raises DockerfileError."""
        while self._at < len(self._lines):
            first = self._at
            line = self._plain(trim_left(self._take()))
            more, line = self._continues(line)
            if line or more:
                yield self._statement(first, self._join(line, more))

    def _take(self) -> str:
        """Take the next line, without its line end."""
        line = self._lines[self._at]
        self._at += 1
        if len(line) >= _MAX_LINE // 4 and len(line.encode("utf-8", "surrogateescape")) >= _MAX_LINE:
            raise DockerfileError(
                f"{self._name}:{self._at}: dockerfile line greater than max allowed size of {_MAX_LINE - 1}", self._at
            )
        return line.rstrip("\r")

    def _plain(self, line: str) -> str:
        """Give a line unless it is a directive or another comment."""
        self._directive(line)
        return "" if _is_comment(line) else line

    def _continues(self, line: str) -> tuple[bool, str]:
        """Tell whether a line goes on after it, and give it without the character that says so."""
        cut = line.rstrip(" \t")
        if cut.endswith(self.escape) and not cut[:-1].endswith(self.escape):
            return True, cut[:-1]
        return False, line

    def _join(self, line: str, more: bool) -> str:
        """Add the lines that continue one. Comments among them vanish; so do empty ones, with a warning."""
        parts = [line]
        empty = False
        while more and self._at < len(self._lines):
            line = self._take()
            self._directive(line)
            if _is_comment(line):
                continue
            if not trim_left(line):
                empty = True
                continue
            more, line = self._continues(line)
            parts.append(line)
        code = "".join(parts)
        if empty:
            self.warnings.append(
                Warning_(line=self._at, text=f"Empty continuation line found in: {without_surrogates(code)}")
            )
        return code

    def _statement(self, first: int, code: str) -> Statement:
        place = self._place(first, code)
        if "\0" in code:
            raise error_at(self._name, place, "the line has a NUL byte, which no command or value can hold")
        clean = without_surrogates(code)
        if clean != code:
            self.warnings.append(Warning_(line=place.first, text="the line is not UTF-8: what is not was replaced"))
        command, flags, rest = split_command(clean, self.escape)
        try:
            heredocs = find_heredocs(clean) if "<<" in clean and _has_heredocs(command, rest, self.escape) else []
        except Wrong as wrong:
            raise error_at(self._name, place, str(wrong)) from None
        filled = tuple(self._fill(heredoc, place) for heredoc in heredocs)
        place = self._place(first, clean)
        return Statement(place=place, command=command, flags=flags, rest=rest, heredocs=filled)

    def _place(self, first: int, code: str) -> Place:
        text = without_surrogates("\n".join(line.rstrip("\r") for line in self._lines[first : self._at]))
        return Place(first=first + 1, last=self._at, text=text, code=without_surrogates(code))

    def _fill(self, heredoc: Heredoc, place: Place) -> Heredoc:
        """Read the body of a here-document, line ends and all."""
        start = self._at
        while self._at < len(self._lines):
            line = self._take()
            if (line.lstrip("\t") if heredoc.chomp else line) == heredoc.name:
                content = "".join(f"{body}\n" for body in self._lines[start : self._at - 1])
                return msgspec.structs.replace(heredoc, content=content)
        raise error_at(self._name, place, f"unterminated heredoc: no line that is just {heredoc.name} follows")

    def _directive(self, line: str) -> None:
        """Take note of a directive; they stand before everything else, one of each kind."""
        if self._directives_over:
            return
        found = _parse_directive(line)
        if found is None:
            self._directives_over = True
            return
        key, value = found
        place = self._place(self._at - 1, line)
        if key in self.directives:
            raise error_at(self._name, place, f"only one {key} parser directive can be used")
        self.directives[key] = value
        if key == "escape":
            if value not in ("\\", "`"):
                raise error_at(self._name, place, f"invalid escape token '{value}' does not match ` or \\")
            self.escape = value


def _is_comment(line: str) -> bool:
    return trim_left(line).startswith("#")


def _parse_directive(line: str) -> tuple[str, str] | None:
    if not line.startswith("#"):
        return None
    key, equals, value = trim_left(line[1:]).partition("=")
    key, value = key.rstrip(_BLANKS).lower(), value.strip(_BLANKS)
    return (key, value) if equals and value and key in _DIRECTIVES else None


def _has_heredocs(command: str, rest: str, escape: str) -> bool:
    """Tell whether an instruction can have here-documents: not in its JSON form; ONBUILD as what follows it."""
    if command.lower() == "onbuild":
        command, _, rest = split_command(rest, escape)
    if command.lower() not in _HAVE_HEREDOCS:
        return False
    try:
        return parse_json(rest) is None
    except Wrong:
        return False
