r"""Here-documents: which an instruction begins, and what RUN makes of them.

`<<EOF` or `<< EOF`, `<<-EOF` (leading tabs are cut), `<<"EOF"` (nothing is expanded), `3<<EOF`;
several on one line follow each other. The name is quoted and escaped with `\`
whatever the `escape` directive says.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from .errors import Wrong
from .expand import Lexer
from .instructions import CommandForm, Heredoc

SCRIPT_DIRECTORY: Final = "/dev/pipes/"
"""Where the script of a RUN here-document that begins with `#!` is seen."""
_DIGITS: Final = "0123456789"


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """What a RUN in shell form hands to its shell, and the file (mode 0755, read-only) that must be there then."""

    argument: str
    file: str | None = None
    content: str = ""


def find_heredocs(code: str) -> list[Heredoc]:
    """Find the here-documents that an instruction begins; their content is still empty."""
    words = Lexer(code, {}, raw_quotes=True, raw_escapes=True, skip_unset=True).words_or_none()
    found = (parse_heredoc(word) for word in _joined(words or []))
    return [heredoc for heredoc in found if heredoc is not None]


def _joined(words: Iterable[str]) -> Iterator[str]:
    """Join `<<` to the word after it: the name may stand apart, though not from `<<-`."""
    following = iter(words)
    for word in following:
        yield f"{word} {next(following, '')}" if word.endswith("<<") else word


def parse_heredoc(word: str) -> Heredoc | None:
    """Read `<<NAME`; None if the word is something else. Raises Wrong."""
    rest = word.lstrip(_DIGITS)
    if not rest.startswith("<<") or "<" in rest[2:]:
        return None
    chomp = rest.startswith("<<-")
    name = rest[3:] if chomp else rest[2:]
    if not name:
        return None
    plain = Lexer(name, {}, skip_unset=True).words_or_none()
    raw = Lexer(name, {}, skip_unset=True, raw_quotes=True).words_or_none()
    if plain is None or raw is None:
        raise Wrong(f"the name of the here-document {word} has an open quote or brace")
    if len(plain) != 1 or len(raw) != 1:
        return None
    return Heredoc(name=plain[0], content="", expand=_quotes(plain[0]) == _quotes(raw[0]), chomp=chomp)


def is_heredoc(word: str) -> bool:
    """Tell whether a word of COPY or ADD is a here-document."""
    try:
        return parse_heredoc(word) is not None
    except Wrong:
        return False


def _quotes(text: str) -> int:
    return text.count("'") + text.count('"')


def chomped(content: str) -> str:
    """Cut the leading tabs of each line, as `<<-` does."""
    return "".join(line.lstrip("\t") for line in _lines(content))


def _lines(text: str) -> list[str]:
    lines = text.split("\n")
    return [f"{line}\n" for line in lines[:-1]] + lines[-1:]


def run_script(form: CommandForm) -> Script:
    """Say what the shell gets of a RUN in shell form.

    A lone here-document is the script itself: a file of its own if it begins with
    `#!`. Otherwise the shell gets line and bodies as written, and does the rest.
    """
    text = form.words[0] if form.words else ""
    if not form.heredocs:
        return Script(argument=text)
    first = form.heredocs[0]
    if not is_heredoc(text):
        return Script(argument=text + "".join(f"\n{doc.content}{doc.name}" for doc in form.heredocs))
    content = chomped(first.content) if first.chomp else first.content
    if first.content.startswith("#!"):
        return Script(argument=SCRIPT_DIRECTORY + first.name, file=first.name, content=content)
    return Script(argument=content)
