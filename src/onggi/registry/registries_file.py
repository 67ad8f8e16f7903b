"""`registries.toml`: our own file, read into values. docs/registries.md is its reference.

    default-registry = "docker.io"

    [registry."docker.io"]                   # a registry, `*.example.com`, `*`, or `registry/prefix` of repositories
    mirrors = ["https://mirror.example.com", {url = "https://other.example.com", capabilities = ["pull"]}]

The most specific entry counts, whole: nothing is inherited. A later file's entries go over those of an earlier one.
"""

import posixpath
import re
from typing import Any, Final

import msgspec

from onggi.base.errors import InvalidArgument
from onggi.spec.reference import (
    DEFAULT_DOMAIN,
    LEGACY_DEFAULT_DOMAIN,
    MAX_PATH_LENGTH,
    Reference,
    is_repository,
    looks_like_domain,
)
from onggi.spec.registry import EVERYTHING, Capability

from . import server_tables as tables
from .server_tables import ServerTable
from .servers import Registry, Rewrite, Server, is_host, parse_url

NAME: Final = "registries.toml"
MIRROR: Final[tuple[Capability, ...]] = ("pull", "resolve")
MAX_REPEATS: Final = 3
"""Of a rewrite's expression. Each multiplies the work by the length of a path, 255 at most."""

_ATOM: Final = r"(?:[a-z0-9/_-]|\\[.d]|\.|\[\^?[a-z0-9/._-]+\])[*+?]?"
_SAFE: Final = re.compile(rf"(?:{_ATOM}|\((?:{_ATOM})+\))*")
_TEMPLATE: Final = re.compile(r"(?:[a-z0-9/._-]|\$[1-9])*")


class _File(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    default_registry: str = DEFAULT_DOMAIN
    registry: dict[str, Any] = {}


class _Rewrite(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    to: str
    prefix: str | None = None
    match: str | None = None


class _Mirror(ServerTable, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    url: str = ""
    insecure: bool | None = None
    plain_http: bool | None = None
    rewrite: tuple[_Rewrite, ...] = ()
    connect_timeout: str = ""


class _Registry(_Mirror, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    mirrors: tuple[Any, ...] = ()
    blocked: bool = False


class RegistriesFile(msgspec.Struct, frozen=True, kw_only=True):
    """The registry of names without one, and what is configured for which registries."""

    default_registry: str = DEFAULT_DOMAIN
    registries: dict[str, Registry] = {}

    def find(self, reference: Reference) -> Registry | None:
        """Give the most specific entry for a repository: its own prefix, its host, `*.` of its domain, `*`."""
        for key in _keys(reference):
            if key in self.registries:
                return self.registries[key]
        return None


def parse_registries(data: bytes, path: str, earlier: RegistriesFile | None = None) -> RegistriesFile:
    """Read a file over what earlier ones say. Raises InvalidArgument with file, place and what is allowed there."""
    earlier = earlier or RegistriesFile()
    document = tables.read_toml(data, path)
    file = tables.convert(document, _File, path)
    if not (looks_like_domain(file.default_registry) and is_host(file.default_registry)):
        raise InvalidArgument(f"{path}: default-registry: {file.default_registry!r} is not a host such as docker.io")
    default = file.default_registry if "default-registry" in document else earlier.default_registry
    found: dict[str, Registry] = {}
    for key, table in file.registry.items():
        origin = f"{path}: registry.{tables.quoted(key)}"
        name = _checked_key(key, origin)
        if name in found:
            raise InvalidArgument(f"{origin}: {name} is there twice; make one entry of both")
        found[name] = _registry(table, origin, posixpath.dirname(path))
    return RegistriesFile(default_registry=default, registries={**earlier.registries, **found})


def _keys(reference: Reference) -> list[str]:
    host = _canonical(reference.domain)
    parts = reference.path.split("/")
    labels = host.split(".")
    return [
        *("/".join((host, *parts[:length])) for length in range(len(parts), -1, -1)),
        *("*." + ".".join(labels[start:]) for start in range(1, len(labels))),
        "*",
    ]


def _canonical(host: str) -> str:
    host = host.lower().removesuffix(":443")
    return DEFAULT_DOMAIN if host == LEGACY_DEFAULT_DOMAIN else host


def _checked_key(key: str, origin: str) -> str:
    host, slash, path = key.partition("/")
    if key == "*" or (key.startswith("*.") and is_host(key[2:])):
        return key.lower()
    if looks_like_domain(host) and is_host(host) and (is_repository(path) or not slash):
        return _canonical(host) + slash + path
    raise InvalidArgument(
        f'{origin}: not the name of a registry, which is quoted: [registry."registry.example.com:5000"]; '
        "or registry.example.com/prefix/of/repositories, *.example.com, *"
    )


def _registry(table: object, origin: str, directory: str) -> Registry:
    said = tables.convert(table, _Registry, origin)
    mirrors = []
    for number, entry in enumerate(said.mirrors):
        place = f"{origin}.mirrors[{number}]"
        mirror = tables.convert({"url": entry} if isinstance(entry, str) else entry, _Mirror, place)
        if not mirror.url:
            raise InvalidArgument(f'{place}: it has no url; write url = "https://mirror.example.com"')
        if mirror.capabilities and "push" in mirror.capabilities:
            raise InvalidArgument(f"{place}: capabilities: nothing is pushed to a mirror; set the registry's own url")
        mirrors.append(_server(mirror, place, directory, MIRROR))
    return Registry(
        origin=origin,
        server=_server(said, origin, directory, EVERYTHING),
        mirrors=tuple(mirrors),
        blocked=said.blocked,
    )


def _server(table: _Mirror, origin: str, directory: str, capabilities: tuple[Capability, ...]) -> Server:
    return Server(
        origin=origin,
        url=_base(table.url, f"{origin}.url") if table.url else "",
        capabilities=capabilities if table.capabilities is None else table.capabilities,
        insecure=table.insecure,
        plain_http=table.plain_http,
        ca_files=tables.ca_files(table, directory),
        client_certificates=tables.client_certificates(table, directory, origin),
        headers=tables.headers(table, origin),
        rewrites=tuple(_rewrite(entry, f"{origin}.rewrite[{n}]") for n, entry in enumerate(table.rewrite)),
        connect_timeout_s=tables.duration_s(table.connect_timeout, origin) if table.connect_timeout else None,
    )


def _base(url: str, origin: str) -> str:
    scheme, netloc, path = parse_url(url, origin)
    return f"{scheme}://{netloc}{path or '/v2'}"


def _rewrite(table: _Rewrite, origin: str) -> Rewrite:
    if (table.prefix is None) == (table.match is None):
        raise InvalidArgument(f"{origin}: give either prefix or match")
    if not _TEMPLATE.fullmatch(table.to):
        raise InvalidArgument(f"{origin}: to: {table.to!r} is not a path; in it $1 to $9 stand for groups of match")
    if table.prefix is not None:
        return Rewrite(pattern=re.compile(re.escape(table.prefix) + "(.*)"), to=f"{table.to}$1")
    return Rewrite(pattern=_expression(table.match or "", table.to, origin), to=table.to)


def _expression(text: str, to: str, origin: str) -> re.Pattern[str]:
    """Compile an expression of a form that cannot run away: no repeated groups, no alternatives, few repeats."""
    if len(text) > MAX_PATH_LENGTH:
        raise InvalidArgument(f"{origin}: match: it is longer than a path, which has {MAX_PATH_LENGTH} characters")
    if not _SAFE.fullmatch(text) or len(re.findall(r"[*+?]", text)) > MAX_REPEATS:
        raise InvalidArgument(
            f"{origin}: match: {text!r} is not of the form that is read here: characters of a path, `.`, `\\.`, `\\d`, "
            f"[classes], at most {MAX_REPEATS} of `*`, `+` and `?` after one of them, and (groups) that do not repeat"
        )
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise InvalidArgument(f"{origin}: match: {text!r}: {error}") from None
    if any(int(number) > pattern.groups for number in re.findall(r"\$([1-9])", to)):
        raise InvalidArgument(f"{origin}: to: {to!r} names a group that match does not have")
    return pattern
