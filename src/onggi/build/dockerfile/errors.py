"""What is wrong with a Dockerfile, said with its name, the line, the instruction, and the line itself."""

from typing import Final

from onggi.base.errors import InvalidArgument, NotSupported

from .instructions import Place
from .quoting import without_surrogates

_WIDTH: Final = 120
"""Characters of a line that are shown."""


class DockerfileError(InvalidArgument):
    """A Dockerfile that cannot be built as it stands; `line` counts from 1, 0 where no line is to blame."""

    def __init__(self, text: str, line: int = 0) -> None:
        """Say `text`, which names the line already."""
        super().__init__(text)
        self.line = line


class DockerfileNotSupported(NotSupported):
    """A legal Dockerfile with something that this version does not do."""

    def __init__(self, text: str, line: int = 0) -> None:
        """Say `text`, which names the line already."""
        super().__init__(text)
        self.line = line


class Wrong(Exception):
    """A complaint that does not know its place yet: what parses a piece raises it, who knows the line catches it."""


class NotDone(Exception):
    """As `Wrong`, for what is right but not supported."""


def error_at(name: str, place: Place, text: str) -> DockerfileError:
    """Make the error `text` about the instruction at `place` of the file `name`."""
    return DockerfileError(_located(name, place, text), place.first)


def not_supported_at(name: str, place: Place, text: str) -> DockerfileNotSupported:
    """Say that the instruction at `place` asks for something that this version does not do."""
    return DockerfileNotSupported(_located(name, place, text), place.first)


def _located(name: str, place: Place, text: str) -> str:
    first = without_surrogates(place.text).split("\n", 1)[0].rstrip("\r")
    words = first.split(None, 1)
    instruction = words[0].upper() if words else ""
    if instruction.isalpha() and instruction not in text.upper():
        text = f"{instruction}: {text}"
    shown = first if len(first) <= _WIDTH else f"{first[:_WIDTH]}…"
    return f"{name}:{place.first}: {text}" + (f"\n  {place.first} | {shown}" if shown.strip() else "")
