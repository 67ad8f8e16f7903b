"""The host's own apt configuration, as text: what it means is for bootstrap/sources.py to say."""

import os
from typing import Final

_MAX_BYTES: Final = 1 << 20
_MAX_FILES: Final = 200


def read_apt_sources(root: str = "") -> list[tuple[str, str]]:
    """Read the host's sources as (name, text), in the order of sources.list(5); none on other distributions."""
    directory = f"{root}/etc/apt/sources.list.d"
    names = [name for name in _names(directory) if name.endswith((".list", ".sources"))]
    paths = [f"{root}/etc/apt/sources.list", *(f"{directory}/{name}" for name in names)]
    return [(path, text) for path in paths if (text := _read(path))]


def read_apt_configuration(root: str = "") -> str:
    """Read all files of apt.conf(5), one after the other as apt does."""
    directory = f"{root}/etc/apt/apt.conf.d"
    names = [name for name in _names(directory) if "." not in name or name.endswith(".conf")]
    paths = [*(f"{directory}/{name}" for name in names), f"{root}/etc/apt/apt.conf"]
    return "\n".join(_read(path) for path in paths)


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))[:_MAX_FILES]
    except OSError:
        return []


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_BYTES)
    except OSError:
        return ""
