"""What limits are written to: finds the home of a controller, or says why there is none."""

from collections.abc import Iterator
from typing import Final

import msgspec

from onggi.base.errors import NotSupported
from onggi.plan.cgroup.places import UNIFIED, Place
from onggi.plan.facts import CgroupFacts
from onggi.plan.ops import WriteFile


class Note(msgspec.Struct, frozen=True):
    """Something asked for that has no effect on this host, said in a sentence."""

    text: str


Wanted = Iterator[WriteFile | Note]
"""What a group of limits comes to: files to write, in order, and remarks."""


class Home(msgspec.Struct, frozen=True):
    """The directory in which one controller has its files for this cgroup."""

    version: int
    directory: str

    def write(self, file: str, value: int | str, *, tolerate: tuple[int, ...] = ()) -> WriteFile:
        """Say that a value goes into a file of the controller."""
        return WriteFile(path=f"{self.directory}/{file}", data=str(value).encode(), tolerate=tolerate)


class Host:
    """Facts and places together; `needed` collects the v2 controllers that limits were given to."""

    def __init__(self, facts: CgroupFacts, places: tuple[Place, ...]) -> None:
        self.facts = facts
        self.needed: set[str] = set()
        self._v1 = {key: place for place in places if place.version == 1 for key in place.keys}
        self._v2 = next((place for place in places if UNIFIED in place.keys), None)

    def home(self, controller: str, asked: str) -> Home:
        """Find where a controller's files are; `asked` is what the user wanted, for the refusal."""
        for name in (controller, _OTHER_NAME.get(controller, controller)):
            if name in self._v1:
                return Home(1, self._v1[name].directory)
            unified = self.facts.unified
            if self._v2 is not None and unified is not None and name in unified.controllers:
                if unified.occupied and name not in unified.delegated:
                    break
                self.needed.add(name)
                return Home(2, self._v2.directory)
        raise NotSupported(f"{asked} needs the {controller} controller, {self._why_missing(controller)}")

    def unified(self, asked: str) -> Home:
        """Find the v2 directory, for files that belong to no controller."""
        if self._v2 is None:
            raise NotSupported(f"{asked} needs cgroup v2, which cannot be written here; run Onggi as root on the host")
        return Home(2, self._v2.directory)

    def _why_missing(self, controller: str) -> str:
        facts, unified = self.facts, self.facts.unified
        other = _OTHER_NAME.get(controller, controller)
        hierarchy = facts.controllers.get(controller) or facts.controllers.get(other)
        mount = hierarchy.mount if hierarchy else unified.mount if unified else "/sys/fs/cgroup"
        if hierarchy is not None and unified is not None and unified.occupied:
            return (
                f"which cannot be handed down here: {mount} has processes of its own; move them into a cgroup "
                "beneath it, or start Onggi on the host itself"
            )
        if hierarchy is not None:
            return f"which is mounted read-only or belongs to somebody else ({mount}); run Onggi as root on the host"
        if facts.kernel.get(controller) is False:
            return f"which is switched off in this kernel; remove cgroup_disable={controller} from its command line"
        if facts.layout == "none":
            return f"and no cgroups are mounted on this host; mount -t cgroup2 none {mount}"
        if facts.layout == "v2":
            return f"which {mount}/cgroup.controllers does not have; ask for its delegation (systemd: Delegate=yes)"
        if controller not in facts.kernel:
            return "which this kernel was built without"
        return (
            "which is mounted nowhere on this host; the kernel has it: "
            f"mount -t cgroup -o {controller} {controller} /sys/fs/cgroup/{controller}"
        )


_OTHER_NAME: Final = {"blkio": "io"}
