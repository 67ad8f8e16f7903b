"""Recorded hosts: `tests/unit/data/cgroup/*.host` laid out as a tree, and the facts that are read from it.

A line `=== /path` begins the content of a file; with a slash at its end it is a
directory, and the lines name files in it, which are empty. The cgroup `example` was
made for the recording. `hybrid` is a machine with Linux 6.18; the others are Linux
6.1 of Debian 12 in QEMU, with the hierarchies mounted as systemd mounts them, the
`-container` ones from inside a container as Docker makes it.
"""

import functools
import tempfile
from pathlib import Path
from typing import Final

from onggi.host.cgroupfs import probe_cgroups
from onggi.plan.facts import CgroupFacts

DATA: Final = Path(__file__).parent / "unit" / "data" / "cgroup"
HOSTS: Final = tuple(sorted(path.stem for path in DATA.glob("*.host")))


def lay_out(host: str, root: Path) -> None:
    """Make the tree of a recorded host beneath `root`."""
    for part in (DATA / f"{host}.host").read_text().split("=== ")[1:]:
        path, _, content = part.partition("\n")
        place = root / path.removeprefix("/")
        if path.endswith("/"):
            place.mkdir(parents=True, exist_ok=True)
            for name in content.split():
                (place / name).touch()
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(content)


@functools.cache
def facts_of(host: str) -> CgroupFacts:
    """Probe a recorded host."""
    with tempfile.TemporaryDirectory() as directory:
        lay_out(host, Path(directory))
        return probe_cgroups(directory)
