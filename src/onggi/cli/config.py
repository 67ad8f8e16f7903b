"""Defaults of flags that a machine wants always: /etc/onggi/config.toml, or the file that ONGGI_CONFIG names.

host-certs = true        # as if every build, run and create had --host-certs
"""

import os
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from onggi.base.errors import InvalidArgument, NotFound
from onggi.cli.caller import Caller

PATH: Final = "/etc/onggi/config.toml"
_MAX_BYTES: Final = 1 << 16


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """What the file says."""

    host_certs: bool = False


def read_config(caller: Caller) -> Config:
    """Read it; without the default file all is as built in. Raises InvalidArgument, NotFound for a named file."""
    named = caller.env.get("ONGGI_CONFIG")
    path = os.path.join(caller.cwd, named) if named else PATH
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_BYTES)
    except FileNotFoundError:
        if named:
            raise NotFound(f"ONGGI_CONFIG: {path}: no such file") from None
        return Config()
    except OSError as error:
        raise NotFound(f"{path}: {(error.strerror or '').lower()}") from None
    import tomllib

    try:
        return msgspec.convert(tomllib.loads(data.decode()), type=Config)
    except (msgspec.ValidationError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{path}: {error}") from None


def wants_host_certs(options: Mapping[str, Any], caller: Caller) -> bool:
    """Take the flag, else what the machine's configuration says."""
    asked: bool | None = options["host_certs"]
    return read_config(caller).host_certs if asked is None else asked
