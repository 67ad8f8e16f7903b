"""What a source of ADD is: a file of the context, or something to fetch, which this version does not do."""

from collections.abc import Iterable
from typing import Final

from .errors import NotDone, not_supported_at
from .instructions import Place

_HTTP: Final = ("http://", "https://")
_GIT: Final = ("git://", "ssh://", "git@")


def check_sources(sources: Iterable[str], place: Place, *, name: str = "Dockerfile") -> None:
    """Refuse to fetch: for the sources of an ADD after expansion. Raises NotSupported."""
    try:
        refuse_remote(sources)
    except NotDone as not_done:
        raise not_supported_at(name, place, str(not_done)) from None


def refuse_remote(sources: Iterable[str]) -> None:
    """Refuse to fetch. Raises NotDone."""
    for source in sources:
        if is_remote(source):
            raise NotDone(
                f"ADD {source}: sources from git and http are not supported by this version of Onggi; "
                "download it beforehand, or by a RUN"
            )


def is_remote(source: str) -> bool:
    """Tell whether ADD would fetch this: an http URL, or a git repository in any of its spellings."""
    return source.lower().startswith((*_HTTP, *_GIT)) or source.startswith("github.com/") or _is_scp(source)


def _is_scp(source: str) -> bool:
    """Tell whether this is `user@host:path`, as git and scp write it."""
    user, at, rest = source.partition("@")
    host, colon, path = rest.partition(":")
    return bool(at and colon and user and host and path) and not set("/ *?[\\$") & set(user + host)
