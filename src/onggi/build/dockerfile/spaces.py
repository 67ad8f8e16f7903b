"""What is a space, as Go's unicode package and BuildKit's parser have it; Python's own methods think otherwise."""

import re
from typing import Final

SPACES: Final = "".join(
    ("\t\n\v\f\r \x85\xa0\u1680", *map(chr, range(0x2000, 0x200B)), "\u2028\u2029\u202f\u205f\u3000")
)
"""Everything that unicode.IsSpace accepts."""
_SPACE: Final = re.compile(f"[{SPACES}]")
_SEPARATORS: Final = "\t\v\f\r "
"""What separates the words of an instruction."""
_TO_BLANKS: Final = str.maketrans(dict.fromkeys(_SEPARATORS, " "))


def is_space(char: str) -> bool:
    """Tell whether unicode.IsSpace accepts a character."""
    return char in SPACES


def split_at_spaces(text: str) -> list[str]:
    """Split at every space."""
    return _SPACE.split(text)


def trim(text: str) -> str:
    """Take spaces away at both ends."""
    return text.strip(SPACES)


def trim_left(text: str) -> str:
    """Take spaces away at the beginning."""
    return text.lstrip(SPACES)


def split_words(text: str) -> list[str]:
    """Split at runs of blanks; a no-break space is none."""
    return [word for word in text.translate(_TO_BLANKS).split(" ") if word]


def split_first(text: str) -> tuple[str, str | None]:
    """Split off the first word; None as the rest if no blank follows it."""
    at = text.translate(_TO_BLANKS).find(" ")
    return (text, None) if at < 0 else (text[:at], text[at:].lstrip(_SEPARATORS))
