"""Files that keep credentials: Docker's config.json and containers-auth.json(5), read, searched and edited as values.

    {"auths": {KEY: {"auth": base64(user:password), "identitytoken": …, "registrytoken": …}},
     "credsStore": HELPER, "credHelpers": {KEY: HELPER}}

A KEY is a host with or without a port (`quay.io`), a namespace beneath one (`quay.io/org/app`), or
a URL as older Dockers wrote it (`https://quay.io/v1/`); Docker Hub's is `https://index.docker.io/v1/`.
What we do not know in such a file stays as it is written, to the last digit.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Final

import msgspec

from onggi.base.errors import InvalidArgument
from onggi.spec.json import json_decoder, parse_json
from onggi.spec.reference import DEFAULT_DOMAIN
from onggi.spec.registry import Credential

HUB_KEY: Final = "https://index.docker.io/v1/"
MAX_BYTES: Final = 1 << 20

_HUB_HOSTS: Final = frozenset({DEFAULT_DOMAIN, "index.docker.io", "registry-1.docker.io"})
_SCHEME: Final = re.compile(r"https?://")
_INDENT: Final = re.compile(rb"^ +", re.MULTILINE)


class _Entry(msgspec.Struct):
    auth: str | None = None
    username: str | None = None
    password: str | None = None
    identitytoken: str | None = None
    registrytoken: str | None = None


class _Known(msgspec.Struct):
    auths: dict[str, _Entry | None] | None = None
    credsStore: str | None = None
    credHelpers: dict[str, str] | None = None


_KNOWN: Final = json_decoder(_Known)
_OBJECT: Final = json_decoder(dict[str, msgspec.Raw])


class Helper(msgspec.Struct, frozen=True, kw_only=True):
    """A credential helper, and the name that it knows the registry by."""

    name: str
    server: str


class CredentialFile:
    """One such file. `host` is a registry as in `Endpoint.host`: `docker.io`, `quay.io`, `localhost:5000`."""

    def __init__(self, path: str, data: bytes) -> None:
        """Parse; `path` names it in errors, which never have its content. Raises InvalidArgument."""
        self.path = path
        self._data = data if data.strip() else b"{}"
        self._known = parse_json(self._data, _KNOWN, path, MAX_BYTES)

    def helper_of(self, host: str) -> Helper | None:
        """Find the helper that keeps a registry's credential: its own, else the one of all. None: this file does."""
        helpers = self._known.credHelpers or {}
        for key in _nearest(helpers, host):
            if _meaning(key) == host:
                return Helper(name=helpers[key], server=key) if helpers[key] else None
        store = self._known.credsStore
        return Helper(name=store, server=key_of(host)) if store else None

    def find(self, host: str, repository: str = "") -> Credential | None:
        """Find what is in this file for a repository: of the longest namespace above it, else of its registry."""
        entries = self._known.auths or {}
        for name in _namespaces(host, repository):
            for key in _nearest(entries, host):
                entry = entries[key]
                if entry is not None and _meaning(key) == name and (found := self._credential(key, entry)):
                    return found
        return None

    def _credential(self, key: str, entry: _Entry) -> Credential | None:
        username, password = entry.username or "", entry.password or ""
        if entry.auth:
            try:
                username, password = decode_auth(entry.auth)
            except InvalidArgument as error:
                raise InvalidArgument(f"{self.path}: auths[{key}].auth: {error}; log in again") from None
        identity_token, registry_token = entry.identitytoken or "", entry.registrytoken or ""
        if not (username or password or identity_token or registry_token):
            return None
        return Credential(
            username=username, password=password, identity_token=identity_token, registry_token=registry_token
        )

    def has(self, host: str) -> bool:
        """Tell whether there is an entry of a registry, be it an empty one as Docker makes beside a helper."""
        return any(_meaning(key) == host for key in self._known.auths or {})

    def with_credential(self, host: str, credential: Credential) -> bytes:
        """Give the file with a credential; an empty one leaves the entry that Docker makes beside a helper."""
        entries = self._entries()
        key = key_of(host)
        older = _object(entries[key]) if (self._known.auths or {}).get(key) is not None else {}
        entry = {name: value for name, value in older.items() if name not in _Entry.__struct_fields__}
        new = {
            "auth": encode_auth(credential),
            "identitytoken": credential.identity_token,
            "registrytoken": credential.registry_token,
        }
        entry |= {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in new.items() if value}
        return self._print({**entries, key: msgspec.Raw(msgspec.json.encode(entry))})

    def without(self, host: str) -> bytes:
        """Give the file without any entry of a registry; those of namespaces stay."""
        return self._print({key: value for key, value in self._entries().items() if _meaning(key) != host})

    def _entries(self) -> dict[str, msgspec.Raw]:
        raw = _object(self._data).get("auths")
        return _object(raw) if raw is not None and self._known.auths is not None else {}

    def _print(self, entries: dict[str, msgspec.Raw]) -> bytes:
        """Write as Docker does: tabs, entries sorted, no newline at the end."""
        whole = {**_object(self._data), "auths": dict(sorted(entries.items()))}
        return _INDENT.sub(
            lambda spaces: b"\t" * len(spaces[0]), msgspec.json.format(msgspec.json.encode(whole), indent=1)
        )


def registry_of(server: str) -> str:
    """Give the host of a registry as a user names it: `https://quay.io/v1/` is quay.io; nothing is Docker Hub."""
    host = _SCHEME.sub("", server, count=1).partition("/")[0].lower() if server else DEFAULT_DOMAIN
    return DEFAULT_DOMAIN if host in _HUB_HOSTS else host


def key_of(host: str) -> str:
    """Give the key under which Docker keeps a registry's credential."""
    return HUB_KEY if host == DEFAULT_DOMAIN else host


def decode_auth(text: str) -> tuple[str, str]:
    """Read an `auth` field as user name and password, as Docker does. Raises InvalidArgument, without the text."""
    try:
        plain = base64.b64decode(text.replace("\r", "").replace("\n", ""), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidArgument("not valid base64") from None
    username, colon, password = plain.partition(b":")
    if not colon or not username:
        raise InvalidArgument("not the base64 of USER:PASSWORD")
    return username.decode("utf-8", "surrogateescape"), password.strip(b"\0").decode("utf-8", "surrogateescape")


def encode_auth(credential: Credential) -> str:
    """Write an `auth` field; nothing without a user name. Raises InvalidArgument for a name that it cannot carry."""
    if ":" in credential.username:
        raise InvalidArgument(f"user name {credential.username!r}: it must not contain a colon")
    if not credential.username:
        return ""
    plain = f"{credential.username}:{credential.password}"
    return base64.b64encode(plain.encode("utf-8", "surrogateescape")).decode("ascii")


def _meaning(key: str) -> str:
    """Say what a key is for: a host, or a namespace beneath one; URLs are of hosts."""
    host = registry_of(key)
    return host if _SCHEME.match(key) else host + key[len(key.partition("/")[0]) :].rstrip("/")


def _namespaces(host: str, repository: str) -> Iterator[str]:
    """Give a repository, all namespaces above it and its registry, the longest first."""
    name = f"{host}/{repository}" if repository else host
    while name != host:
        yield name
        name = name.rpartition("/")[0]
    yield host


def _nearest(keys: dict[str, str] | dict[str, _Entry | None], host: str) -> list[str]:
    """Order keys so that the one that Docker writes comes first, then that of others, then old URLs."""
    return sorted(keys, key=lambda key: (key != key_of(host), key != host))


def _object(raw: bytes | msgspec.Raw) -> dict[str, msgspec.Raw]:
    return _OBJECT.decode(raw)
