"""Where a cgroup lies: one directory in each mounted hierarchy.

An absolute path counts from the mount of each hierarchy, a relative one from the
caller's own cgroup. On cgroup v2 that is the parent of it: a cgroup with processes
of its own cannot hand controllers down ("no internal processes", cgroups(7)).
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from onggi.base.errors import InvalidArgument, NotSupported
from onggi.plan.facts import CgroupFacts, Hierarchy

_MAX_NAME_BYTES: Final = 255
UNIFIED = "unified"
"""Key of the cgroup2 directory among `CgroupPlan.directories`; the others are v1 controllers."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """The directory of a cgroup in one hierarchy.

    `keys` are its v1 controllers, "name=systemd" or "unified". `parents` are the
    directories above it, from the one that is there already; all but that one are
    made when they are missing. `mount` is the top of the hierarchy.
    """

    keys: tuple[str, ...]
    version: int
    directory: str
    parents: tuple[str, ...]
    mount: str = ""

    @property
    def made(self) -> tuple[str, ...]:
        """The directories to make, from the top."""
        return (*self.parents[1:], self.directory)


def find_places(path: str, facts: CgroupFacts) -> tuple[Place, ...]:
    """Find the directories of a cgroup in all hierarchies in which the caller can make one."""
    steps = _steps(path)
    if not steps:
        raise InvalidArgument(f"cgroups path {path!r} names no cgroup; give one like /onggi/<id>")
    places = []
    for mount, keys in _by_mount(facts).items():
        hierarchy = facts.controllers.get(keys[0]) or facts.named[keys[0].removeprefix("name=")]
        if hierarchy.writable:
            places.append(_place(tuple(keys), 1, mount, _base(path, hierarchy.path, keys[0], up=False), steps))
    unified = facts.unified
    if unified is not None and unified.writable:
        places.append(_place((UNIFIED,), 2, unified.mount, _base(path, unified.path, "cgroup2", up=True), steps))
    return tuple(places)


def parse_parent(text: str, own: str) -> str:
    """Read `--cgroup-parent`: an absolute path, "" for none. One that is relative counts from the top, as in Docker.

    `own` is where Onggi keeps its containers and supervisors; nothing goes into those.
    """
    if not text:
        return ""
    if not text.isprintable() or any(len(step.encode()) > _MAX_NAME_BYTES for step in text.split("/")):
        raise InvalidArgument(f"invalid cgroup parent {text!r}: it must be a path like /batch/night")
    path = "/" + "/".join(_steps(text))
    if path.startswith(f"{own}/"):
        raise InvalidArgument(
            f"cgroup parent {path} is among Onggi's own in {own}, which go with the containers that they belong to; "
            "give another path"
        )
    return path


def known_places(directories: Mapping[str, str]) -> tuple[Place, ...]:
    """Turn what a `CgroupPlan` had as `directories` into places again."""
    keys: dict[str, list[str]] = {}
    for key, directory in directories.items():
        keys.setdefault(directory, []).append(key)
    return tuple(
        Place(keys=tuple(names), version=2 if UNIFIED in names else 1, directory=directory, parents=())
        for directory, names in keys.items()
    )


def directories_of(places: Iterable[Place]) -> dict[str, str]:
    """Give the directory of each controller, as kept in a container's record."""
    return {key: place.directory for place in places for key in place.keys}


def _by_mount(facts: CgroupFacts) -> dict[str, list[str]]:
    mounts: dict[str, list[str]] = {}
    for name, hierarchy in _version1(facts):
        mounts.setdefault(hierarchy.mount, []).append(name)
    return mounts


def _version1(facts: CgroupFacts) -> Iterable[tuple[str, Hierarchy]]:
    yield from ((name, hierarchy) for name, hierarchy in sorted(facts.controllers.items()) if hierarchy.version == 1)
    yield from ((f"name={name}", hierarchy) for name, hierarchy in sorted(facts.named.items()))


def _steps(path: str) -> list[str]:
    """Split a path; `..` ends at the top and leads nowhere above it."""
    steps: list[str] = []
    for step in path.split("/"):
        if step == "..":
            steps = steps[:-1]
        elif step not in ("", "."):
            steps.append(step)
    return steps


def _base(path: str, own: str, hierarchy: str, *, up: bool) -> list[str]:
    if path.startswith("/"):
        return []
    if not own:
        raise NotSupported(
            f"cgroups path {path!r} is relative, and this process is in a part of the {hierarchy} hierarchy that is "
            "not mounted here; give an absolute path"
        )
    steps = _steps(own)
    return steps[:-1] if up else steps


def _place(keys: tuple[str, ...], version: int, mount: str, base: list[str], steps: list[str]) -> Place:
    top = "/".join([mount, *base])
    parents = tuple("/".join([top, *steps[:depth]]) for depth in range(len(steps)))
    return Place(keys=keys, version=version, directory="/".join([top, *steps]), parents=parents, mount=mount)
