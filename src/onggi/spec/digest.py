"""Digests: `algorithm:hex`, the names of all content (image-spec descriptor.md#digests).

Three types, because the three are easily taken for each other:

    Digest    of a blob's bytes as they are stored and sent
    DiffID    of a layer's uncompressed tar
    ChainID   of a stack of layers: ChainID(L0)         = DiffID(L0)
                                    ChainID(L0|...|Ln)  = sha256(ChainID(L0|...|Ln-1) + " " + DiffID(Ln))
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Self

from onggi.base.errors import InvalidArgument

if TYPE_CHECKING:
    from hashlib import _Hash

HEX_LENGTH: Final = {"sha256": 64, "sha512": 128}
"""The algorithms that image-spec registers and everyone accepts, with the length of their hex."""

_HEX: Final = frozenset("0123456789abcdef")


class Digest(str):
    """A validated digest. It is its text: it compares, sorts and stores as `sha256:...`."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Check and take over `text`; texts of errors are go-digest's, clients show them."""
        if problem := digest_problem(text):
            raise InvalidArgument(f"{problem}: {text!r}" if len(text) <= 200 else problem)
        return super().__new__(cls, text)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Self:
        """Name these bytes."""
        return cls.from_hash(_new_hash(algorithm, data), algorithm)

    @classmethod
    def from_hash(cls, hash: "_Hash", algorithm: str = "sha256") -> Self:
        """Name what a hashlib object has seen."""
        return cls(f"{algorithm}:{hash.hexdigest()}")

    @property
    def algorithm(self) -> str:
        """`sha256` or `sha512`."""
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        """The hash in lower-case hex, without the algorithm."""
        return self.partition(":")[2]

    def hasher(self) -> "_Hash":
        """A fresh hash of this digest's algorithm, to verify content with."""
        return _new_hash(self.algorithm)


class DiffID(Digest):
    """Digest of a layer's uncompressed tar, as `rootfs.diff_ids` of an image's config lists it."""

    __slots__ = ()


class ChainID(Digest):
    """Name of a stack of layers."""

    __slots__ = ()

    def child(self, diff_id: DiffID) -> "ChainID":
        """The stack with one more layer on top."""
        return ChainID.of(f"{self} {diff_id}".encode())


def chain_ids(diff_ids: Iterable[DiffID]) -> tuple[ChainID, ...]:
    """Names of all the stacks that these layers, lowest first, build up to; the last is the image's."""
    chain: list[ChainID] = []
    for diff_id in diff_ids:
        chain.append(chain[-1].child(diff_id) if chain else ChainID(diff_id))
    return tuple(chain)


def digest_problem(text: str) -> str | None:
    """Why `text` is no digest, in the words of go-digest; None if it is one."""
    algorithm, colon, hex_ = text.partition(":")
    if not colon or not algorithm or not hex_:
        return "invalid checksum digest format"
    if algorithm not in HEX_LENGTH:
        return "unsupported digest algorithm" if _is_algorithm(algorithm) else "invalid checksum digest format"
    if len(hex_) != HEX_LENGTH[algorithm]:
        return "invalid checksum digest length"
    if not _HEX.issuperset(hex_):
        return "invalid checksum digest format"
    return None


def _is_algorithm(text: str) -> bool:
    return all(part.isascii() and part.isalnum() and part.islower() for part in text.replace("+", ".").split("."))


def _new_hash(algorithm: str, data: bytes = b"") -> "_Hash":
    # Loading OpenSSL takes milliseconds that commands without content to check need not spend.
    import hashlib

    return hashlib.new(algorithm, data, usedforsecurity=False)
