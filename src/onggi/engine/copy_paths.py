"""What `cp` makes of its paths, as Docker does: a trailing `/` or `/.` means something (moby's archive/copy.go)."""

import posixpath

import msgspec

from onggi.base.errors import InvalidArgument


class Extraction(msgspec.Struct, frozen=True, kw_only=True):
    """Into which directory something is unpacked, and under which name it is packed for that."""

    directory: str
    name: str


def is_contents(path: str) -> bool:
    """Whether a path ends in `/.`: what is in a directory, not the directory itself."""
    return base_of(path) == "."


def keep_ending(clean: str, path: str) -> str:
    """Give a cleaned path the trailing `/` or `/.` of the one that was asked for."""
    if is_contents(path) and not is_contents(clean):
        clean = f"{clean.rstrip('/')}/."
    return f"{clean}/" if path.endswith("/") and not clean.endswith("/") else clean


def inside(path: str) -> str:
    """Make a path one from the root of a container, cleaned by its text alone."""
    return keep_ending(posixpath.normpath("/" + path.lstrip("/")), path)


def base_of(path: str) -> str:
    """Give the last name of a path, whatever slashes follow; `.` of none, `/` of the root."""
    if not path:
        return "."
    return posixpath.basename(path.rstrip("/")) or "/"


def parent_of(path: str) -> str:
    """Give the directory that a path is in; that of `a/.` is `a`."""
    clean = posixpath.normpath(path)
    return clean if is_contents(path) else posixpath.dirname(clean)


def entry_name(path: str) -> str:
    """Give the name under which a path is packed."""
    name = base_of(path)
    return "." if name == "/" else name


def plan_extraction(
    name: str, destination: str, *, from_directory: bool, exists: bool, is_directory: bool
) -> Extraction:
    """Say where what is called `name` is unpacked. Raises InvalidArgument with Docker's texts."""
    if exists and is_directory:
        return Extraction(directory=destination, name=name)
    if exists and from_directory:
        raise InvalidArgument("cannot copy directory")
    if not exists and not from_directory and (destination.endswith("/") or is_contents(destination)):
        raise InvalidArgument("no such directory")
    clean = posixpath.normpath(destination)
    return Extraction(directory=posixpath.dirname(clean) or ".", name=posixpath.basename(clean))
