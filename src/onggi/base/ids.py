"""Identities of containers: ids, short ids, names.

An id is 64 hex digits of randomness. A name is what the user gave, or two words
of `words.py`. Randomness is an argument (`os.urandom`), so that tests are exact
and nobody pays 20 ms for importing `secrets`.
"""

from collections.abc import Callable
from typing import Final, Self

from .errors import InvalidArgument
from .words import ADJECTIVES, MAKERS

RandomBytes = Callable[[int], bytes]
"""Gives that many random bytes, as `os.urandom` does."""

ID_LENGTH: Final = 64
SHORT_ID_LENGTH: Final = 12

_HEX: Final = frozenset("0123456789abcdef")
_ALNUM: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_NAME: Final = _ALNUM | frozenset("_.-")


class ContainerID(str):
    """64 lower-case hex digits. It is its text: it compares, sorts and stores as such."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Check and take over `text`; raises InvalidArgument."""
        if not is_full_id(text):
            raise InvalidArgument(f"{text[:80]!r} is not a container id: 64 hexadecimal digits")
        return super().__new__(cls, text)

    @property
    def short(self) -> str:
        """The first twelve digits, as `docker ps` shows them."""
        return self[:SHORT_ID_LENGTH]


def new_container_id(random: RandomBytes) -> ContainerID:
    """Make an id from 32 random bytes.

    An id whose short form is a plain number is drawn again: the short form
    becomes the host name, and programs take such a name for an address.
    """
    while True:
        text = random(ID_LENGTH // 2).hex()
        if not text[:SHORT_ID_LENGTH].isdigit():
            return ContainerID(text)


def is_full_id(text: str) -> bool:
    """Whether `text` has the form of a whole id."""
    return len(text) == ID_LENGTH and _HEX.issuperset(text)


def is_id_prefix(text: str) -> bool:
    """Whether `text` may be the beginning of an id."""
    return 0 < len(text) <= ID_LENGTH and _HEX.issuperset(text)


def short_id(text: str) -> str:
    """Twelve digits of an id or of a digest (`sha256:` is left out)."""
    return text.rpartition(":")[2][:SHORT_ID_LENGTH]


def random_name(random: RandomBytes, attempt: int = 0) -> str:
    """Make a name such as `glazed_curie`; from the second `attempt` on with a digit, to get out of collisions."""
    adjective, maker, digit = (int.from_bytes(random(8), "big") for _ in range(3))
    name = f"{ADJECTIVES[adjective % len(ADJECTIVES)]}_{MAKERS[maker % len(MAKERS)]}"
    return f"{name}{digit % 10}" if attempt else name


def check_container_name(text: str) -> str:
    """Give a name back without the slash that Docker's API puts before it.

    Raises InvalidArgument with Docker's text.
    """
    name = text.removeprefix("/")
    if not is_name(name):
        raise InvalidArgument(f"Invalid container name ({text}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    return name


def is_name(text: str) -> bool:
    """Whether this may name a container, volume or network: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, one letter too, as Podman."""
    return bool(text) and text[0] in _ALNUM and _NAME.issuperset(text)
