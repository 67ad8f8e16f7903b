"""The caller's own end of `cp`: files of the host, which are resolved as the caller's shell would."""

import errno
import os
import stat
from typing import Final

import msgspec

from onggi.base.errors import InvalidArgument, NotFound

from .oserrors import explain_oserror

_MAX_LINKS: Final = 40


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One end of a copy, links followed as far as was asked for; nothing need be there unless it `exists`."""

    path: str
    exists: bool
    is_directory: bool


def find_source(path: str, *, follow: bool) -> Endpoint:
    """Look at what is to be copied: a link that is named itself counts as what it leads to with `follow` only.

    Raises NotFound.
    """
    try:
        if follow:
            resolved = os.path.realpath(path, strict=True)
        else:
            parent, name = os.path.split(path)
            resolved = os.path.join(os.path.realpath(parent, strict=True), name)
        seen = os.lstat(resolved)
    except OSError as error:
        raise NotFound(f"lstat {path}: {_words(error)}") from None
    return Endpoint(path=resolved, exists=True, is_directory=stat.S_ISDIR(seen.st_mode))


def find_destination(path: str) -> Endpoint:
    """Look at where something is to be copied to, through links, be they to nothing. Raises InvalidArgument."""
    parent = os.path.dirname(os.path.normpath(path))
    if not os.path.exists(parent):
        raise InvalidArgument(f'invalid output path: directory "{parent}" does not exist')
    for _ in range(_MAX_LINKS):
        try:
            seen = os.lstat(path)
        except FileNotFoundError:
            if not os.path.isdir(os.path.dirname(os.path.normpath(path))):
                raise InvalidArgument(f"{path}: not a directory") from None
            return Endpoint(path=path, exists=False, is_directory=False)
        except OSError as error:
            raise InvalidArgument(f"lstat {path}: {_words(error)}") from None
        if not stat.S_ISLNK(seen.st_mode):
            break
        path = os.path.join(os.path.dirname(path), os.readlink(path))
    else:
        raise InvalidArgument(f"{path}: {os.strerror(errno.ELOOP).lower()}")
    if not (stat.S_ISDIR(seen.st_mode) or stat.S_ISREG(seen.st_mode)):
        raise InvalidArgument(f'invalid output path: "{path}" must be a directory or a regular file')
    return Endpoint(path=path, exists=True, is_directory=stat.S_ISDIR(seen.st_mode))


def open_place(path: str) -> int:
    """Open a directory of the host through any links."""
    try:
        return os.open(path or "/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise explain_oserror(error, "open directory", path) from None


def _words(error: OSError) -> str:
    return os.strerror(error.errno or 0).lower()
