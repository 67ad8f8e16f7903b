"""What tables of TOML say of a server, in the forms that containerd's hosts.toml and our registries.toml share.

    ca           "file" | ["file", ...]
    client       "file" | ["file" | ["certificate", "key"], ...]
    header       {name = "value" | ["value", ...]}

Files are absolute or relative to the directory of the file that names them. Every error says file, place in it and what
is allowed there.
"""

import posixpath
import re
from typing import Any, Final, TypeVar

import msgspec

from onggi.base.errors import InvalidArgument
from onggi.spec.registry import Capability, ClientCertificate

Header = tuple[tuple[str, str], ...]
T = TypeVar("T", bound=msgspec.Struct)

MAX_BYTES: Final = 256 << 10
_DOTS: Final = 200
"""In a line. tomllib needs memory and time by the square of a dotted key's length."""

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_NOT_HEADERS: Final = {"connection", "content-length", "host", "transfer-encoding", "upgrade"}
_DURATION: Final = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6}(?:\.\d{1,9})?)s)?(?:(\d{1,9})ms)?")


class ServerTable(msgspec.Struct, kw_only=True):
    """The keys that both files have for a server."""

    capabilities: tuple[Capability, ...] | None = None
    ca: str | tuple[str, ...] = ()
    client: str | tuple[str | tuple[str, ...], ...] = ()
    header: dict[str, str | tuple[str, ...]] = {}


def read_toml(data: bytes, path: str) -> dict[str, Any]:
    """Read TOML; raises InvalidArgument with file and line."""
    import tomllib

    for number, line in enumerate(data.split(b"\n"), 1):
        if line.count(b".") > _DOTS:
            raise InvalidArgument(f"{path}: line {number} has more than {_DOTS} dots; break it into several")
    try:
        return tomllib.loads(data.decode())
    except RecursionError:
        raise InvalidArgument(f"{path}: it is nested too deeply; write it flat") from None
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError, and int's for thousands of digits
        raise InvalidArgument(f"{path}: {error}; mend that line") from None


def convert(table: object, kind: type[T], origin: str) -> T:
    """Make one table a struct; `origin` is file and place. Raises InvalidArgument with the key and what is known."""
    try:
        return msgspec.convert(table, type=kind)
    except msgspec.ValidationError as error:
        known = ", ".join(sorted(field.encode_name for field in msgspec.structs.fields(kind)))
        text = str(error).replace(" - at `$.", " - at `").replace(" | null", "").removesuffix(" - at `$`")
        raise InvalidArgument(f"{origin}: {text}; known here: {known}") from None


def ca_files(table: ServerTable, directory: str) -> tuple[str, ...]:
    """Give the files of authorities."""
    listed = (table.ca,) if isinstance(table.ca, str) else table.ca
    return tuple(posixpath.join(directory, path) for path in listed)


def client_certificates(table: ServerTable, directory: str, origin: str) -> tuple[ClientCertificate, ...]:
    """Give the pairs of certificate and key."""
    pairs = []
    for entry in (table.client,) if isinstance(table.client, str) else table.client:
        pair = (entry, "") if isinstance(entry, str) else entry
        if len(pair) != 2 or not pair[0]:
            raise InvalidArgument(f"{origin}: client: {list(pair)} is not a pair of certificate and key")
        certificate, key = (posixpath.join(directory, path) if path else "" for path in pair)
        pairs.append(ClientCertificate(certificate=certificate, key=key))
    return tuple(pairs)


def headers(table: ServerTable, origin: str) -> Header:
    """Give the headers in their order; raises InvalidArgument for one that would change what a request is.

    Several values of one are sent as a list, which means the same (RFC 9110, 5.3).
    """
    return tuple(
        _checked(name, values if isinstance(values, str) else ", ".join(values), origin)
        for name, values in table.header.items()
    )


def duration_s(text: str, origin: str) -> float:
    """Read a time as Go writes it: `30s`, `1m30s`, `500ms`."""
    found = _DURATION.fullmatch(text)
    hours, minutes, seconds, milliseconds = (float(part or 0) for part in found.groups()) if found else (0.0,) * 4
    total = hours * 3600 + minutes * 60 + seconds + milliseconds / 1000
    if total <= 0:
        raise InvalidArgument(f"{origin}: {text!r} is not a time such as 30s or 500ms")
    return total


def quoted(key: str) -> str:
    """Write a key of a table as TOML does."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else msgspec.json.encode(key).decode()


def _checked(name: str, value: str, origin: str) -> tuple[str, str]:
    if not _HEADER_NAME.fullmatch(name) or name.lower() in _NOT_HEADERS:
        raise InvalidArgument(f"{origin}: header: {name!r} cannot be set; take it out")
    if not _HEADER_VALUE.fullmatch(value):
        raise InvalidArgument(f"{origin}: header: the value of {name} has a line break or other unprintable character")
    return name, value
