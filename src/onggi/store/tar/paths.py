"""Names of archives as clean paths beneath a root.

As Go's filepath.Clean, which Docker uses: an absolute name is taken from the
root, where `..` stays; a relative one that leaves the root is refused. The
result has no leading slash, `.`, `..` or empty component; the root is `b""`.
"""

from onggi.base.errors import Corrupt, InvalidArgument

from .entry import Limits

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
AUFS = b".wh..wh."


def clean(name: bytes, limits: Limits) -> bytes:
    """Make a name of an archive a path beneath the root; raises Corrupt, InvalidArgument."""
    path = name[2:] if name[:2] == b"./" else name
    path = path[:-1] if path[-1:] == b"/" else path
    # Most names are clean; `/.` also finds hidden files, which take the longer way.
    if b"//" in path or b"/." in path or path[:1] in (b"", b".", b"/") or path[-1:] == b"/":
        path = _clean_slowly(path)
    check_bounds(path, limits)
    return path


def _clean_slowly(name: bytes) -> bytes:
    parts: list[bytes] = []
    absolute = name[:1] == b"/"
    for part in name.split(b"/"):
        if part == b"..":
            if parts:
                parts.pop()
            elif not absolute:
                raise Corrupt("its name leads out of the archive's root")
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)


def check_bounds(path: bytes, limits: Limits) -> None:
    """Raise InvalidArgument for a clean path that is deeper or has longer names than any layer needs."""
    if len(path) <= limits.component_bytes and len(path) <= 2 * limits.depth:
        return
    parts = path.split(b"/")
    if len(parts) > limits.depth:
        raise InvalidArgument(f"it lies {len(parts)} directories deep; at most {limits.depth} are taken")
    if max(len(part.removeprefix(WHITEOUT)) for part in parts) > limits.component_bytes:
        raise InvalidArgument(f"a part of its name is longer than {limits.component_bytes} bytes")
