"""From what configuration says of servers to the endpoints at which a reference is tried, in order. Pure.

A registry has any number of mirrors and the server itself, which is the last. Without configuration that is
`https://DOMAIN/v2`, for docker.io `https://registry-1.docker.io/v2`, and at loopback addresses also plain HTTP.
"""

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

import msgspec

from onggi.base.errors import InvalidArgument, PermissionDenied
from onggi.spec.reference import DEFAULT_DOMAIN, Reference, is_domain, is_repository
from onggi.spec.registry import EVERYTHING, Capability, ClientCertificate, Endpoint

HUB: Final = "registry-1.docker.io"
"""Where Docker Hub serves the repositories of docker.io."""

_URL: Final = re.compile(r"(?P<scheme>https?)://(?P<netloc>[^/]+)(?P<path>(?:/[A-Za-z0-9._~-]+)*)/*")


class Rewrite(msgspec.Struct, frozen=True, kw_only=True):
    """Another path for a repository: `pattern` must match all of it, `$1` to `$9` in `to` are its groups."""

    pattern: re.Pattern[str]
    to: str

    def apply(self, path: str) -> str | None:
        """Give the new path, None where the pattern does not match."""
        found = self.pattern.fullmatch(path)
        if found is None:
            return None
        return re.sub(r"\$([1-9])", lambda group: found[int(group[1])] or "", self.to)


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """One server as configured; `origin` says where, `url` is its base or empty for the registry's own.

    `insecure` and `plain_http` are None where nothing was said of them.
    """

    origin: str = ""
    url: str = ""
    capabilities: tuple[Capability, ...] = EVERYTHING
    insecure: bool | None = None
    plain_http: bool | None = None
    ca_files: tuple[str, ...] = ()
    client_certificates: tuple[ClientCertificate, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    rewrites: tuple[Rewrite, ...] = ()
    connect_timeout_s: float | None = None

    def __repr__(self) -> str:
        """Say where; headers may be secret."""
        return f"Server(origin={self.origin!r}, url={self.url!r})"


class Registry(msgspec.Struct, frozen=True, kw_only=True):
    """What is configured for a registry, or for a part of its repositories."""

    origin: str = ""
    server: Server = Server()
    mirrors: tuple[Server, ...] = ()
    blocked: bool = False


def plan_endpoints(registry: Registry, reference: Reference) -> tuple[Endpoint, ...]:
    """Give the endpoints of a reference in the order in which to try them.

    Raises PermissionDenied where configuration blocks it, InvalidArgument where a rewrite makes no repository of it.
    """
    if registry.blocked:
        raise PermissionDenied(f"{reference.name}: {registry.origin} blocks it; take `blocked` out there to allow it")
    servers = (*registry.mirrors, registry.server)
    return tuple(endpoint for server in servers for endpoint in _endpoints(server, reference))


def without_trust(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """Give the endpoints for somebody who needs no proof of who answers: any certificate, else plain HTTP."""
    found: list[Endpoint] = []
    for endpoint in (one for one in endpoints if not one.fallback):
        found.append(msgspec.structs.replace(endpoint, insecure=True))
        if endpoint.url.startswith("https:"):
            plain = f"http:{endpoint.url.removeprefix('https:')}"
            found.append(msgspec.structs.replace(found[-1], url=plain, fallback=True))
    return tuple(found)


def parse_url(text: str, origin: str) -> tuple[str, str, str]:
    """Split the URL of a server into scheme, host with port in lower case, and path without a slash at its end."""
    if "@" in text:
        raise InvalidArgument(f"{origin}: a URL with a user in it; take it out, and use `onggi login`")
    found = _URL.fullmatch(text)
    if found is None or not is_host(found["netloc"]) or {".", ".."} & set(found["path"].split("/")):
        raise InvalidArgument(f"{origin}: {text!r} is not a URL such as https://registry.example.com:5000/v2")
    return found["scheme"], found["netloc"].lower(), found["path"]


def is_host(text: str) -> bool:
    """Tell whether this can be a host with or without a port, and nothing else: it is safe as a name of a file."""
    name, port = split_port(text)
    if not is_domain(text) or (port and not 0 < int(port[:6]) < 1 << 16):
        return False
    return not name.startswith("[") or _address(name) is not None


def split_port(host: str) -> tuple[str, str]:
    """Split `host:port`; a literal IPv6 address keeps its brackets, no port is empty."""
    name, colon, port = host.rpartition(":")
    return (name, port) if colon and not port.endswith("]") else (host, "")


def is_loopback(host: str) -> bool:
    """Tell whether a host, with or without a port, is this machine by its very name."""
    name = split_port(host)[0].lower()
    address = _address(name)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return name == "localhost" or (address is not None and address.is_loopback)


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def _endpoints(server: Server, reference: Reference) -> tuple[Endpoint, ...]:
    domain = reference.domain.lower()
    if not is_host(domain):
        raise InvalidArgument(f"{reference.name}: {reference.domain} is not a host")
    own = HUB if domain == DEFAULT_DOMAIN else domain
    if server.url:
        scheme, netloc, path = parse_url(server.url, server.origin)
        loopback = False  # what is written out is meant
    else:
        scheme, netloc, path, loopback = "https", own, "/v2", is_loopback(domain)
    first = Endpoint(
        url=f"{scheme}://{netloc}{path}",
        host=DEFAULT_DOMAIN if netloc == HUB else netloc,
        repository=_rewritten(server, reference.path),
        capabilities=server.capabilities,
        insecure=loopback if server.insecure is None else server.insecure,
        ca_files=server.ca_files,
        client_certificates=server.client_certificates,
        headers=server.headers,
        namespace="" if netloc == own else domain,
        connect_timeout_s=server.connect_timeout_s,
    )
    plain_http = loopback if server.plain_http is None else server.plain_http
    if scheme == "http" or not plain_http:
        return (first,)
    return first, msgspec.structs.replace(first, url=f"http://{netloc}{path}", fallback=True)


def _rewritten(server: Server, path: str) -> str:
    for rewrite in server.rewrites:
        new = rewrite.apply(path)
        if new is not None:
            if not is_repository(new):
                raise InvalidArgument(f"{server.origin}: the rewrite of {path} is {new!r}, which is no repository")
            return new
    return path
