"""Which files of a context are left out: `.dockerignore`, and the patterns of `--exclude`.

Exactly moby's patternmatcher under BuildKit's walk. The last pattern that matches a
path decides; `!` in front lets it in again, even below a directory that is left out:
that directory is then there too. A pattern that matches a directory matches all below
it. `*` and `?` stop at `/`, `**` does not; a slash at either end means nothing. The
names of symbolic links count, not what they point to. Where moby's translation to a
regular expression garbles a class (`[*]`) or an escaped letter (`\\d`), what is meant is done.
"""

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from onggi.base.errors import InvalidArgument

from .match import parse_glob

_BOM: Final = b"\xef\xbb\xbf"
_SPACES: Final = "\t\n\v\f\r \x85\xa0"
_ESCAPED: Final = frozenset(".+()|{}$")
_GLOBBING: Final = frozenset("*[]?^\\")
_Matcher = Callable[[str], bool]
_NOTHING_KNOWN: Final[tuple[bool, ...]] = ()


class Pattern(msgspec.Struct, frozen=True, kw_only=True):
    """One pattern, without its `!`."""

    text: str
    exception: bool
    matches: _Matcher


class Ignore:
    """The patterns, and what is known of the directories asked about so far."""

    def __init__(self, patterns: Iterable[str]) -> None:
        """Take patterns as patternmatcher does: first to last. Raises InvalidArgument for a malformed one."""
        self.patterns = tuple(pattern for text in patterns if (pattern := _pattern(text)) is not None)
        self._exceptions = tuple(pattern for pattern in self.patterns if pattern.exception)
        self._prefixes = tuple(f"{_without_glob(pattern.text)}/" for pattern in self._exceptions)
        self._plain = not any(_GLOBBING & set(prefix) for prefix in self._prefixes)
        self._known: dict[str, tuple[bool, tuple[bool, ...]]] = {}

    def matches(self, path: str, is_directory: bool) -> bool:
        """Tell whether a path, relative to the root and without a slash at its ends, is left out.

        A directory that is left out may hold files that are not (`may_have_more`).
        """
        if not path or not self.patterns:
            return False
        return self._directory(path)[0] if is_directory else self._evaluate(path)[0]

    def may_have_more(self, path: str) -> bool:
        """Tell whether a walk has to enter a directory that is left out: an exception may let in something below."""
        if not self._plain:
            return True
        return any(prefix.startswith(f"{path}/") for prefix in self._prefixes)

    def _directory(self, path: str) -> tuple[bool, tuple[bool, ...]]:
        found = self._known.get(path)
        if found is None:
            found = self._known[path] = self._evaluate(path)
        return found

    def _evaluate(self, path: str) -> tuple[bool, tuple[bool, ...]]:
        """Give the answer, and which patterns matched as far as they were asked: what is below inherits that."""
        parent = path.rpartition("/")[0]
        inherited = self._directory(parent)[1] if parent else _NOTHING_KNOWN
        out = False
        matched: list[bool] = []
        for number, pattern in enumerate(self.patterns):
            if inherited and inherited[number]:
                match = True
            elif pattern.exception is not out:
                match = False  # it could change nothing
            else:
                match = pattern.matches(path)
            matched.append(match)
            if match:
                out = not pattern.exception
        return out, tuple(matched)


def parse_ignore(data: bytes) -> Ignore:
    """Read a `.dockerignore`. Raises InvalidArgument for a malformed pattern."""
    return Ignore(read_patterns(data))


def read_patterns(data: bytes) -> list[str]:
    """Give the patterns of a `.dockerignore`: no comments, no empty lines, no leading slash."""
    patterns: list[str] = []
    for line in data.removeprefix(_BOM).decode("utf-8", "surrogateescape").split("\n"):
        if line.startswith("#") or not (text := line.strip(_SPACES)):
            continue
        exception = text.startswith("!")
        if exception:
            text = text[1:].strip(_SPACES)
        if text:
            text = clean(text)
            if len(text) > 1:
                text = text.removeprefix("/")
        patterns.append(f"!{text}" if exception else text)
    return patterns


def clean(path: str) -> str:
    """Make a path the shortest that means the same, by its text alone: Go's filepath.Clean."""
    rooted = path.startswith("/")
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if parts and parts[-1] != "..":
                parts.pop()
            elif not rooted:
                parts.append(part)
        elif part not in ("", "."):
            parts.append(part)
    return ("/" if rooted else "") + "/".join(parts) or "."


def _pattern(text: str) -> Pattern | None:
    text = text.strip(_SPACES)
    if not text:
        return None
    text = clean(text)
    exception = text.startswith("!")
    if exception:
        text = text[1:]
        if not text:
            raise InvalidArgument('illegal exclusion pattern: "!"; name after it what is to be let in again')
    if parse_glob(text) is None:
        raise InvalidArgument(f"syntax error in pattern {text!r}: a bracket or a backslash at the end is not closed")
    return Pattern(text=text, exception=exception, matches=_matcher(text))


def _without_glob(text: str) -> str:
    return text.removesuffix("/**").removesuffix("/*")


def _matcher(text: str) -> _Matcher:
    """Choose how a pattern is compared: whole, by its beginning or end, or as a regular expression."""
    if not _GLOBBING & set(text) - {"^"}:
        return lambda path: path == text
    start = text.removeprefix("**")
    if text.startswith("**") and not _GLOBBING & set(start) - {"^"}:
        short = start.removeprefix("/") if start.startswith("/") else None
        return lambda path: path.endswith(start) or path == short
    if text.endswith("**") and not _GLOBBING & set(text[:-2]) - {"^"}:
        prefix = text[:-2]
        return lambda path: path.startswith(prefix)
    return _expression(text)


def _expression(text: str) -> _Matcher:
    import re

    try:
        compiled = re.compile(_to_regex(text))
    except re.error:
        raise InvalidArgument(f"syntax error in pattern {text!r}") from None
    return lambda path: compiled.match(path) is not None


def _to_regex(text: str) -> str:
    """Translate a pattern as patternmatcher does; a class stays a class."""
    import re

    parts: list[str] = []
    at = 0
    while at < len(text):
        char = text[at]
        at += 1
        if char == "*":
            if not text.startswith("*", at):
                parts.append("[^/]*")
                continue
            at += 1
            if text.startswith("/", at):
                at += 1
            parts.append(".*" if at == len(text) else "(?:.*/)?")
        elif char == "?":
            parts.append("[^/]")
        elif char == "[":
            end = _class_end(text, at)
            parts.append(_to_class(text[at:end]))
            at = end + 1
        elif char == "\\":
            parts.append(re.escape(text[at : at + 1]))
            at += 1
        else:
            parts.append(char if char == "^" else re.escape(char))
    return "".join((*parts, r"\Z"))


def _class_end(text: str, at: int) -> int:
    at += text.startswith("^", at)
    while text[at] != "]":
        at += 2 if text[at] == "\\" else 1
    return at


def _to_class(text: str) -> str:
    negated = text.startswith("^")
    parts: list[str] = []
    at = int(negated)
    while at < len(text):
        char = text[at]
        at += 1
        if char == "\\":
            char = text[at]
            at += 1
        elif char == "-":
            parts.append("-")
            continue
        parts.append(f"\\{char}" if char in "\\]^[-&~|" else char)
    return f"[{'^' if negated else ''}{''.join(parts)}]"
