"""`./run bench [CASE…] [--rounds N]`: measure Onggi beside every peer that is found, and print Markdown.

Needs root. Everything happens in namespaces of its own (bench/worlds.py) and on a fresh
ext4; each round measures every subject once, in random order.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, TypeVar

from bench import cases, report
from bench.cases import Case, Lineup
from bench.peers import IMAGE, Docker, Onggi, Peer, Podman, Runtime, processes, pss_bytes
from bench.series import Failed, Series, measure_back_to_back, measure_idle
from bench.worlds import DISK, World, Worlds, enter_namespaces, fresh_disk, remove_cgroups
from tests.debian_registry import debian_registry
from tests.record_truth import PEERS, make_tree
from tests.truth.world import BASE, base_archive

CASES: Final = ("run", "exec", "ps", "build", "images", "cold", "api", "memory")
ROUNDS: Final = 30
TREE: Final = PEERS / "sid"
BESIDE: Final = {
    "onggi-launcher": "onggi, supervisor of a container",
    "onggid": "onggi, onggid (leaves when idle)",
    "dockerd": "docker, dockerd",
    "containerd": "docker, containerd",
    "containerd-shim-runc-v2": "docker, shim of a container",
    "conmon": "podman, conmon of a container",
}
"""What stands beside containers, by the name of its program."""

SomePeer = TypeVar("SomePeer", bound=Peer)


def say(text: str) -> None:
    """Tell whoever waits."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


class Bench:
    """The peers that take part, from their start to their end."""

    def __init__(self, disk: Path, wanted: set[str], stack: ExitStack) -> None:
        """Start everything that is found; what fails is said and left out."""
        self._disk, self._stack = disk, stack
        self.contexts, self._rootfs, self._archive = disk / "contexts", disk / "rootfs", disk / "busybox.tar"
        self.worlds = Worlds()
        stack.callback(self.worlds.close)
        self.lineups = []
        for world in dict.fromkeys((self.worlds.host, self.worlds.v2)):
            onggi = Onggi(world, disk, Path(sys.executable).parent / "onggi")
            stack.callback(onggi.close)
            self.lineups.append(Lineup(onggi))
        self._make_images()
        if wanted - {"cold", "api"}:
            for lineup in self.lineups:
                self._fill(lineup)
        if wanted & {"build", "images"}:
            self._add_newest(self.lineups[0])

    def _make_images(self) -> None:
        base = self._disk / "base.tar"
        base.write_bytes(base_archive())
        cases.write_contexts(self.contexts)
        for lineup in self.lineups:
            lineup.onggi.do("load", "--input", str(base))
            lineup.onggi.do("tag", BASE, IMAGE)
            lineup.onggi.do("build", "--tag", "clock", str(self.contexts / "clock"))
        self.lineups[0].onggi.do("save", "--output", str(self._archive), IMAGE)
        self._rootfs.mkdir()
        subprocess.run(f"tar -xOf {base} layer.tar | tar -xC {self._rootfs}", shell=True, check=True)

    def _fill(self, lineup: Lineup) -> None:
        """Start the peers of a lineup. On a hybrid host crun wants to see version 1 alone, so it does."""
        world, disk = lineup.onggi.world, self._disk
        simple = self.worlds.v1 if world is self.worlds.host else world
        with self._attempt("docker", world):
            lineup.dockers.append(self._with_image(Docker(world, disk)))
        with self._attempt("podman", simple):
            lineup.podmans.append(self._with_image(Podman(simple, disk, "crun")))
        with self._attempt("runc", world):
            lineup.runtimes.append(self._kept(Runtime(world, disk, "runc", self._rootfs)))
        with self._attempt("crun", simple):
            lineup.runtimes.append(self._kept(Runtime(simple, disk, "crun", self._rootfs)))
        lineup.onggi.keep()

    def _add_newest(self, lineup: Lineup) -> None:
        with self._attempt("BuildKit", lineup.onggi.world):
            lineup.newest = self._with_image(Docker(self.worlds.tree(TREE, self._disk), self._disk, seen_as="/work"))

    def _with_image(self, peer: SomePeer) -> SomePeer:
        self._stack.callback(peer.close)
        peer.do("load", "--input", peer.sees(self._archive))
        return self._kept(peer)

    def _kept(self, peer: SomePeer) -> SomePeer:
        self._stack.callback(peer.close)
        peer.keep()
        return peer

    @contextmanager
    def _attempt(self, name: str, world: World) -> Iterator[None]:
        try:
            yield
        except (Failed, ChildProcessError) as error:
            say(f"without {name} ({world.name}): {error}")

    def cases(self, wanted: set[str]) -> Iterator[Case]:
        """Give what is measured, in turn."""
        if "run" in wanted:
            yield cases.run(self.lineups)
        if "exec" in wanted:
            yield cases.exec_(self.lineups)
        if "ps" in wanted:
            yield cases.ps(self.lineups)
        if "build" in wanted:
            yield cases.build_cached(self.lineups[:1], self.contexts)
            yield cases.build_ten(self.lineups[:1], self.contexts)
        if "images" in wanted:
            yield from self._images(self.lineups[0])
        if "cold" in wanted:
            yield cases.cold(self.lineups)
        if "api" in wanted:
            with cases.first_instruction(self.lineups) as case:
                yield case

    def _images(self, lineup: Lineup) -> Iterator[Case]:
        with debian_registry(self._disk / "registry") as registry:
            reference = f"{registry.host}/bench"
            size_bytes = cases.layers_of_this_host(self._disk / "layers")
            lineup.onggi.do("build", "--tag", reference, str(self._disk / "layers"))
            lineup.onggi.do("push", "--compression", "gzip", reference)
            lineup.onggi.do("builder", "prune", "--all", "--force")  # it has the layers, too
            yield from cases.pull(lineup, reference, size_bytes)

    def memory(self) -> dict[str, float]:
        """Measure what stands beside running containers, in bytes; the mean where there are several of a kind."""
        found: dict[str, list[int]] = {}
        for pid, words in processes():
            name = "onggid" if "onggi.cli.onggid" in " ".join(words) else os.path.basename(words[0])
            if name in BESIDE:
                found.setdefault(name, []).append(pss_bytes(pid))
        return {
            f"{BESIDE[name]} (mean of {len(sizes)})": sum(sizes) / len(sizes) for name, sizes in sorted(found.items())
        }


def measure(case: Case, rounds: int) -> tuple[Series, Series | None]:
    """Measure a case after idling, and back to back."""
    say(f"{case.title}: {len(case.subjects)} subjects")
    rounds = min(max(rounds, case.least_rounds), case.most_rounds)
    idle = measure_idle(case.subjects, rounds)
    return idle, measure_back_to_back(case.subjects, rounds) if case.back_to_back else None


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="./run bench", description="Measure Onggi beside its peers.")
    parser.add_argument("cases", nargs="*", metavar="CASE", choices=[[], *CASES], help=f"of: {' '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"measurements of each (default {ROUNDS})")
    options = parser.parse_args()
    wanted = set(options.cases or CASES)
    if wanted & {"build", "images"} and shutil.which("debootstrap"):
        make_tree(TREE)
    enter_namespaces()
    rows: list[list[str]] = []
    with fresh_disk(DISK) as disk, ExitStack() as stack:
        stack.callback(remove_cgroups)
        bench = Bench(disk, wanted, stack)
        print(f"{report.machine()}\n")
        for case in bench.cases(wanted):
            series = measure(case, options.rounds)
            print(report.table(case, *series), flush=True)
            rows += report.targets(case, *series)
        if "memory" in wanted:
            print(report.memory(bench.memory()))
    print(report.summary(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
