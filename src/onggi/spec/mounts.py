"""What goes together about the mounts of a container, and what does not: moby's volume/mounts/linux_parser.go."""

from collections.abc import Sequence
from typing import Final

from onggi.base.errors import InvalidArgument
from onggi.spec.container import MountRequest

PROPAGATIONS: Final = frozenset({"private", "rprivate", "shared", "rshared", "slave", "rslave"})


def check_mounts(mounts: Sequence[MountRequest]) -> None:
    """Refuse mounts that make no sense. Raises InvalidArgument with Docker's texts."""
    seen: set[str] = set()
    for mount in mounts:
        problem = _problem(mount)
        if problem:
            raise InvalidArgument(f'invalid mount config for type "{mount.type}": {problem}')
        if mount.target in seen:
            raise InvalidArgument(f"Duplicate mount point: {mount.target}")
        seen.add(mount.target)


def _problem(mount: MountRequest) -> str:
    if not mount.target:
        return "field Target must not be empty"
    if not mount.target.startswith("/"):
        return f"invalid mount path: '{mount.target}' mount path must be absolute"
    if not mount.target.strip("/"):
        return "invalid specification: destination can't be '/'"
    if mount.propagation and mount.propagation not in PROPAGATIONS:
        return f"invalid propagation mode: {mount.propagation}"
    match mount.type:
        case "bind" if not mount.source:
            return "field Source must not be empty"
        case "bind" if not mount.source.startswith("/"):
            return f"invalid mount path: '{mount.source}' mount path must be absolute"
        case "tmpfs" if mount.source:
            return "field Source must not be specified"
        case "volume" if mount.read_only and not mount.source:
            return "must not set ReadOnly mode when using anonymous volumes"
        case _:
            return ""


def parse_volumes_from(text: str) -> tuple[str, bool]:
    """Read `CONTAINER[:MODE]` of --volumes-from; gives the container, and whether all of it is read-only."""
    if not text:
        raise InvalidArgument("volumes-from specification cannot be an empty string")
    ref, _, mode = text.partition(":")
    words = mode.split(",") if mode else []
    if len(words) > 2 or any(word not in ("ro", "rw", "z", "Z") for word in words) or {"ro", "rw"} <= set(words):
        raise InvalidArgument(f"invalid mode: {mode}")
    return ref, "ro" in words
