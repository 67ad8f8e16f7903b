"""Names of images, as Docker writes them (github.com/distribution/reference).

    reference  := [domain "/"] path [":" tag] ["@" digest]
    domain     := host [":" port]     only if it has a "." or ":" or capitals, or is "localhost"
    path       := component {"/" component}

A name without a domain is docker.io's, and there without a "/" it is in
`library/`: `ubuntu` means `docker.io/library/ubuntu`. Texts of errors are
Docker's, because its clients match them.
"""

import re
from typing import Final

import msgspec

from onggi.base.errors import InvalidArgument

from .digest import Digest, digest_problem

DEFAULT_DOMAIN: Final = "docker.io"
LEGACY_DEFAULT_DOMAIN: Final = "index.docker.io"
OFFICIAL_PREFIX: Final = "library/"
DEFAULT_TAG: Final = "latest"
MAX_PATH_LENGTH: Final = 255

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN: Final = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_PATH: Final = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")
_IDENTIFIER: Final = re.compile(r"[a-f0-9]{64}")


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """A whole name: `docker.io/library/ubuntu:24.04`; tag and digest may both be absent or both be there."""

    domain: str
    path: str
    tag: str | None = None
    digest: Digest | None = None

    @property
    def name(self) -> str:
        """Domain and path: `docker.io/library/ubuntu`."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """The shortest name that means this repository: `ubuntu`."""
        for short in (self.path.removeprefix(OFFICIAL_PREFIX), self.path):
            # `docker.io/my.org/app` must not turn into the registry my.org, nor a name into an id.
            if _split_domain(short) == (self.domain, self.path) and not _IDENTIFIER.fullmatch(short):
                return short
        return self.name

    @property
    def familiar(self) -> str:
        """The whole reference as people write it: `ubuntu:24.04`."""
        return self.familiar_name + self._suffix

    def __str__(self) -> str:
        """The whole reference in full: `docker.io/library/ubuntu:24.04`."""
        return self.name + self._suffix

    @property
    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def with_default_tag(self) -> "Reference":
        """`latest` where neither tag nor digest say more."""
        return self if self.tag or self.digest else self.with_tag(DEFAULT_TAG)

    def with_tag(self, tag: str) -> "Reference":
        """The same repository under this tag, without a digest."""
        return Reference(domain=self.domain, path=self.path, tag=check_tag(tag))

    def with_digest(self, digest: Digest) -> "Reference":
        """The same repository at exactly this content, without a tag."""
        return Reference(domain=self.domain, path=self.path, digest=digest)


def parse_reference(text: str, default_domain: str = DEFAULT_DOMAIN) -> Reference:
    """Read a name as users write it and complete domain and path, but not the tag.

    Raises InvalidArgument with Docker's text.
    """
    if _IDENTIFIER.fullmatch(text):
        raise InvalidArgument(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    if default_domain != DEFAULT_DOMAIN and not _names_domain(text):
        text = f"{default_domain}/{text}"
    domain, rest = _split_domain(text)
    before_colon = rest.partition(":")[0]
    if before_colon.lower() != before_colon:
        raise InvalidArgument(f"invalid reference format: repository name ({before_colon}) must be lowercase")
    named, at, digest = rest.partition("@")
    path, colon, tag = named.partition(":")
    if (
        not _DOMAIN.fullmatch(domain)
        or not _PATH.fullmatch(path)
        or (colon and not _TAG.fullmatch(tag))
        or (at and not _DIGEST.fullmatch(digest))
    ):
        raise InvalidArgument("invalid reference format")
    if len(path) > MAX_PATH_LENGTH:
        raise InvalidArgument(f"repository name must not be more than {MAX_PATH_LENGTH} characters")
    if at and (problem := digest_problem(digest)):
        raise InvalidArgument(problem)
    return Reference(domain=domain, path=path, tag=tag if colon else None, digest=Digest(digest) if at else None)


def check_tag(tag: str) -> str:
    """Give `tag` back if it is one; raises InvalidArgument."""
    if not _TAG.fullmatch(tag):
        raise InvalidArgument("invalid tag format")
    return tag


def is_domain(text: str) -> bool:
    """Tell whether this can be the domain of a reference: a host, with or without a port."""
    return _DOMAIN.fullmatch(text) is not None


def is_repository(text: str) -> bool:
    """Tell whether this can be the path of a reference."""
    return len(text) <= MAX_PATH_LENGTH and _PATH.fullmatch(text) is not None


def _split_domain(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    if not slash:
        return DEFAULT_DOMAIN, OFFICIAL_PREFIX + text
    if first == LEGACY_DEFAULT_DOMAIN:
        first = DEFAULT_DOMAIN
    elif not looks_like_domain(first):
        return DEFAULT_DOMAIN, text
    if first == DEFAULT_DOMAIN and "/" not in rest:
        rest = OFFICIAL_PREFIX + rest
    return first, rest


def _names_domain(text: str) -> bool:
    first, slash, _ = text.partition("/")
    return bool(slash) and looks_like_domain(first)


def looks_like_domain(first: str) -> bool:
    """Tell whether what stands before the first slash of a name is a domain, and no part of the path."""
    return first == "localhost" or "." in first or ":" in first or first.lower() != first
