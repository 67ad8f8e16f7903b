"""containerd's `hosts.toml` (its docs/hosts.md): the mirrors and the server of one registry, read into values."""

from typing import Any, Final

import msgspec

from onggi.spec.registry import EVERYTHING

from . import server_tables as tables
from .server_tables import ServerTable
from .servers import Registry, Server, parse_url, split_port

NAME: Final = "hosts.toml"


class _Host(ServerTable, kw_only=True, forbid_unknown_fields=True):
    skip_verify: bool | None = None
    override_path: bool = False
    dial_timeout: str = ""


class _File(_Host, kw_only=True, forbid_unknown_fields=True):
    server: str = ""
    host: dict[str, Any] = msgspec.field(default_factory=dict)


def parse_hosts(data: bytes, path: str) -> Registry:
    """Read a file; its hosts stay in order. Raises InvalidArgument with file and place."""
    file = tables.convert(tables.read_toml(data, path), _File, path)
    directory = path.rpartition("/")[0]
    mirrors = []
    for url, table in file.host.items():
        origin = f"{path}: host.{tables.quoted(url.rpartition('@')[2])}"  # no password that is before the @
        mirrors.append(_server(url, tables.convert(table, _Host, origin), origin, directory))
    return Registry(origin=path, server=_server(file.server, file, path, directory), mirrors=tuple(mirrors))


def _server(url: str, table: _Host, origin: str, directory: str) -> Server:
    base, plain_http = _base(url, table, origin) if url else ("", None)
    return Server(
        origin=origin,
        url=base,
        capabilities=table.capabilities or EVERYTHING,
        insecure=table.skip_verify,
        plain_http=plain_http,
        ca_files=tables.ca_files(table, directory),
        client_certificates=tables.client_certificates(table, directory, origin),
        headers=tables.headers(table, origin),
        connect_timeout_s=tables.duration_s(table.dial_timeout, origin) if table.dial_timeout else None,
    )


def _base(url: str, table: _Host, origin: str) -> tuple[str, bool]:
    """Give the base, and whether plain HTTP is what is left where TLS fails.

    As in containerd, http with anything said of TLS means TLS first, unless the port is 80.
    """
    scheme, netloc, path = parse_url(url if "://" in url else f"https://{url}", origin)
    if not table.override_path and not path.endswith("/v2"):
        path += "/v2"
    speaks_of_tls = bool(table.ca or table.client or table.skip_verify is not None)
    if scheme == "http" and speaks_of_tls and split_port(netloc)[1] != "80":
        return f"https://{netloc}{path}", True
    return f"{scheme}://{netloc}{path}", False
