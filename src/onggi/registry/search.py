"""Repositories of a registry by a word: Docker's index API (`/v1/search`), else the registry's own catalogue.

The index API is Docker Hub's and that of a few others; `_catalog` (distribution-spec's
predecessors) lists every repository, of which those with the word in their name count.
"""

from collections.abc import Iterator
from typing import Annotated, Final
from urllib.parse import urlencode, urlsplit

import msgspec

from onggi.base.errors import Corrupt, InvalidArgument, NotFound, NotSupported, OnggiError, Unauthorized
from onggi.host.http_client import Response, origin
from onggi.spec.challenge import parse_error, parse_next_page, plain
from onggi.spec.image import MAX_MANIFEST_BYTES
from onggi.spec.json import json_decoder, parse_json
from onggi.spec.reference import (
    DEFAULT_DOMAIN,
    LEGACY_DEFAULT_DOMAIN,
    OFFICIAL_PREFIX,
    is_domain,
    is_repository,
    looks_like_domain,
)

from .access import Registries
from .answers import refusal
from .client import Repository
from .servers import HUB

DEFAULT_LIMIT: Final = 25
MAX_LIMIT: Final = 100
_MAX_PAGES: Final = 100
_PAGE: Final = 1000
_INDEX: Final = f"https://{LEGACY_DEFAULT_DOMAIN}"
_CATALOG: Final = "registry:catalog:*"


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A repository, and what its registry says of it. A catalogue has names only."""

    name: str
    description: str = ""
    stars: int = 0
    is_official: bool = False
    is_automated: bool = False


class _Result(msgspec.Struct, frozen=True):
    name: str
    description: str | None = None
    star_count: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0
    is_official: bool = False
    is_automated: bool = False


class _Results(msgspec.Struct, frozen=True):
    results: tuple[_Result, ...] | None = None


class _Catalog(msgspec.Struct, frozen=True):
    repositories: tuple[str, ...] | None = None


_RESULTS: Final = json_decoder(_Results)
_REPOSITORIES: Final = json_decoder(_Catalog)


def search(registries: Registries, term: str, limit: int) -> list[Found]:
    """Give at most `limit` repositories, best first as the registry has it; `term` may begin with `HOST/`.

    Raises InvalidArgument, with Docker's texts, and NotSupported where a registry has no way to search.
    """
    if "://" in term:
        raise InvalidArgument(f"invalid repository name: repository name ({term}) should not have a scheme")
    limit = limit or DEFAULT_LIMIT
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidArgument(f"limit {limit} is outside the range of [1, {MAX_LIMIT}]")
    host, word = _split(term, registries.default_domain)
    ask = _Asking(registries, host)
    return registries.itself(host).do("resolve", lambda registry: ask.about(registry, word, limit))


def _split(term: str, default: str) -> tuple[str, str]:
    first, slash, rest = term.partition("/")
    host, word = (first, rest) if slash and looks_like_domain(first) else (default, term)
    if not is_domain(host):
        raise InvalidArgument(f"{host!r} is no registry: give HOST or HOST:PORT before the term")
    if host in (DEFAULT_DOMAIN, LEGACY_DEFAULT_DOMAIN):
        return DEFAULT_DOMAIN, word.removeprefix(OFFICIAL_PREFIX)
    return host, word


class _Asking:
    def __init__(self, registries: Registries, host: str) -> None:
        self._registries, self._host = registries, host
        # What is not at the Hub has the name by which it can be pulled.
        self._prefix = "" if host == DEFAULT_DOMAIN else f"{host}/"

    def about(self, registry: Repository, word: str, limit: int) -> list[Found]:
        """Ask the index, and where there is none the catalogue; the Hub has no catalogue."""
        found = self._index(registry, word, limit)
        return self._catalog(registry, word, limit) if found is None else found

    def _index(self, registry: Repository, word: str, limit: int) -> list[Found] | None:
        url, what = registry.endpoint.url, f"what {self._host} finds"
        at_hub = urlsplit(url).hostname == HUB
        query = urlencode({"q": word, "n": limit})
        with self._send(registry, (), f"{_INDEX if at_hub else _root(url)}/v1/search?{query}") as response:
            if response.status != 200:
                if self._host == DEFAULT_DOMAIN:
                    raise self._refusal(response, what)
                return None
            data = response.read(MAX_MANIFEST_BYTES, what)
        try:
            results = parse_json(data, _RESULTS, what, MAX_MANIFEST_BYTES, Corrupt).results
        except Corrupt:
            if self._host == DEFAULT_DOMAIN:
                raise
            return None  # some page for people
        if results is None:
            return None
        return [
            Found(
                name=f"{self._prefix}{result.name}",
                description=plain(result.description),
                stars=result.star_count,
                is_official=result.is_official,
                is_automated=result.is_automated,
            )
            for result in results
            if is_repository(result.name)
        ][:limit]

    def _catalog(self, registry: Repository, word: str, limit: int) -> list[Found]:
        found: list[Found] = []
        for name in self._names(registry):
            if word.lower() in name and is_repository(name):
                found.append(Found(name=f"{self._prefix}{name}"))
                if len(found) == limit:
                    break
        return found

    def _names(self, registry: Repository) -> Iterator[str]:
        what = f"the catalogue of {self._host}"
        url: str | None = f"{registry.endpoint.url}/_catalog?n={_PAGE}"
        seen: set[str] = set()
        while url is not None:
            if url in seen or len(seen) >= _MAX_PAGES:
                raise Corrupt(f"{what}: its pages have no end")
            seen.add(url)
            with self._send(registry, (_CATALOG,), url) as response:
                if response.status != 200:
                    raise self._refusal(response, what)
                data = response.read(MAX_MANIFEST_BYTES, what)
                url = parse_next_page(response.headers("Link"), response.url)
            if url is not None and origin(url) != origin(registry.endpoint.url):
                raise Corrupt(f"{what}: the next page is at another server")
            yield from parse_json(data, _REPOSITORIES, what, MAX_MANIFEST_BYTES, Corrupt).repositories or ()

    def _send(self, registry: Repository, scopes: tuple[str, ...], url: str) -> Response:
        return self._registries.auth.send(registry.endpoint, scopes, "GET", url)

    def _refusal(self, response: Response, what: str) -> OnggiError:
        if response.status in (401, 403):
            with response:
                said = parse_error(response.error_body()).sentence
            return Unauthorized(f"{self._host} does not let us search it, 'onggi login' may help: {said or 'denied'}")
        problem = refusal(response, self._host, what)
        if isinstance(problem, NotFound):
            return NotSupported(f"{self._host} cannot be searched: it has no index and no catalogue")
        return problem


def _root(url: str) -> str:
    place = urlsplit(url)
    return f"{place.scheme}://{place.netloc}"
