"""Take away one thing after another and see whether a test fails: `./run mutate [--list] [NAME…]`.

All mutants are found in the sources, so that what is new is among them:

    op:X     the launcher has no handler for the op X (ENOSYS)
    idle:X   its handler does nothing and says that all is well
    parse:X  the builder does not know the instruction X of a Dockerfile
    graph:X  it knows it, and does not follow it
    step:X   the solver does not do what a step of kind X says

Each is made in a copy of the tree and tested in namespaces of its own, so that nothing of it
stays. A test is the one that noticed only if it passes without the mutation.
"""

import argparse
import ast
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parent.parent
IGNORED: Final = (".git", ".venv", "__pycache__", ".*_cache", ".hypothesis", "bin", "dist")
TIMEOUT_S: Final = 60
EVERYTHING: Final = ("tests/unit", "tests/contracts", "tests/host", "tests/root", "tests/clients")
FAILURES: Final = "tests/root/test_op_failures.py"
"""Its tests expect errors. That an idle handler gives none proves nothing about what it does."""

OP_TESTS: Final = ("tests/root/test_op_effects.py", "tests/root/test_container_plan.py", "tests/host")
BUILD_TESTS: Final = ("tests/unit/test_build_graph.py", "tests/root/test_truth.py", "tests/root/test_build.py")
FIRST: Final[dict[str, str]] = {
    **dict.fromkeys(("RECLONE", "ADOPT", "CLOSE", "SECCOMP"), "tests/root/test_container_plan.py"),
    **dict.fromkeys(("NETLINK", "BIND"), "tests/root/test_network_containers.py"),
    "INIT": "tests/host/test_init.py",
}
"""Files to look at before those."""

EQUIVALENT: Final[dict[str, str]] = {
    "idle:SEAL": "each descriptor is close-on-exec from its beginning (main.c, O_CLOEXEC): SEAL is a second lock",
}
"""Mutants that nothing can notice, and why."""

# A mutant that forgets to make a mount read-only reaches the node behind it: /dev/null is one of its own.
ENTER: Final = """
mknod -m 666 "$0" c 1 3 && mount --bind "$0" /dev/null && mount --make-rshared / && ip link set lo up && "$@"; exit $?
"""
SEALED: Final = ("unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--net")
_HANDLER: Final = re.compile(r"(\[OP_(?P<entry>\w+)\] = |case OP_(?P<case>\w+):\n\s+return )(?P<handler>op_\w+)\b")
_PARSER: Final = re.compile(r'^    "(?P<name>[A-Z]+)": _\w+,\n', re.M)
_IDLE: Final = """
struct side;
struct plan_record;
static int op_idle(struct side *self, const struct plan_record *r)
{
    (void)self, (void)r;
    return 0;
}
"""


class Mutant(NamedTuple):
    """A file as it would be, and the tests that look at it first."""

    name: str
    path: str
    text: str
    tests: tuple[str, ...]


# -- what is taken away ------------------------------------------------------------------------------------------------


def mutants() -> Iterator[Mutant]:
    """Make every mutant."""
    for path in sorted((ROOT / "launcher").glob("*.c")):
        yield from _ops(f"launcher/{path.name}")
    parser = "src/onggi/build/dockerfile/parser.py"
    text = (ROOT / parser).read_text()
    for found in _PARSER.finditer(text):
        yield _mutant("parse", found["name"], parser, _replaced(text, found.span(), ""), BUILD_TESTS)
    yield from _cases("graph", "src/onggi/build/graph.py", "apply")
    yield from _cases("step", "src/onggi/build/solver.py", "_act")


def _mutant(kind: str, name: str, path: str, text: str, tests: tuple[str, ...]) -> Mutant:
    return Mutant(f"{kind}:{name}", path, text, (*FIRST.get(name, "").split(), *tests))


def _ops(path: str) -> Iterator[Mutant]:
    text = (ROOT / path).read_text()
    for found in _HANDLER.finditer(text):
        name, place = found["entry"] or found["case"], found.span("handler")
        yield _mutant("idle", name, path, _IDLE + _replaced(text, place, "op_idle"), OP_TESTS)
        yield _mutant("op", name, path, _replaced(text, place, "NULL"), OP_TESTS)


def _cases(kind: str, path: str, function: str) -> Iterator[Mutant]:
    """Empty each case of the `match` of a function."""
    text = (ROOT / path).read_text()
    lines = text.splitlines(keepends=True)
    for case in _match_of(text, function).cases:
        if isinstance(case.pattern, ast.MatchClass):
            first, last = case.body[0], case.body[-1]
            rest = [*lines[: first.lineno - 1], " " * first.col_offset + "pass\n", *lines[last.end_lineno :]]
            yield _mutant(kind, ast.unparse(case.pattern.cls), path, "".join(rest), BUILD_TESTS)


def _match_of(text: str, function: str) -> ast.Match:
    for found in ast.walk(ast.parse(text)):
        if isinstance(found, ast.FunctionDef) and found.name == function:
            return next(node for node in ast.walk(found) if isinstance(node, ast.Match))
    raise LookupError(function)


def _replaced(text: str, place: tuple[int, int], new: str) -> str:
    return text[: place[0]] + new + text[place[1] :]


# -- who notices -------------------------------------------------------------------------------------------------------


class Tree:
    """A copy of the sources in which tests run."""

    def __init__(self, place: Path) -> None:
        """Copy into the new directory `place`."""
        self.place, self._scratch = place, place.with_name(f"{place.name}-scratch")
        shutil.copytree(ROOT, place, ignore=shutil.ignore_patterns(*IGNORED), symlinks=True)
        subprocess.run([sys.executable, "launcher/build.py"], cwd=place, stdout=subprocess.DEVNULL, check=True)

    def first_failure(self, *arguments: str) -> str | None:
        """Run tests, which compile what is newer than its program; gives the name of the first that fails."""
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir()
        options = ["-x", f"--timeout={TIMEOUT_S}", f"--basetemp={self._scratch}/tmp"]
        options += ["-o", f"cache_dir={self._scratch}/c"]
        # Mounts are shared, as hosts with systemd have them; the shell stays, since the first process reaps orphans.
        command = [
            *SEALED,
            "sh",
            "-c",
            ENTER,
            str(self._scratch / "null"),
            sys.executable,
            "-B",
            "-m",
            "pytest",
            *options,
            *arguments,
        ]
        done = subprocess.run(command, cwd=self.place, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if done.returncode == 0:
            return None
        if b"BuildFailed" in done.stdout:
            raise RuntimeError(f"a mutant that cannot be compiled: {done.stdout.decode()[-4000:]}")
        failed = self._scratch / "c/v/cache/lastfailed"
        names = list(json.loads(failed.read_text())) if failed.exists() else []
        return names[0] if names else f"the end of pytest itself ({done.returncode})"


class Hunt:
    """Two copies of the sources: one is mutated, in the other a test must pass."""

    def __init__(self, place: Path) -> None:
        """Make both in a directory."""
        self._mutated, self._whole = Tree(place / "mutated"), Tree(place / "whole")
        self._broken: list[str] = []  # tests that fail without any mutation, here
        self._killers: dict[str, str] = {}  # what noticed that an op or instruction was gone notices it again

    def killer(self, mutant: Mutant) -> str | None:
        """Find a test that notices."""
        file = self._mutated.place / mutant.path
        before = file.read_text()
        file.write_text(mutant.text)
        kind, name = mutant.name.split(":")
        ignored = (f"--ignore={FAILURES}",) if kind == "idle" else ()
        try:
            for tests in (self._killers.get(name, ""),), mutant.tests, EVERYTHING:
                if any(tests) and (found := self._first(*tests, *ignored)):
                    self._killers[name] = found
                    return found
            return None
        finally:
            file.write_text(before)

    def _first(self, *tests: str) -> str | None:
        while failed := self._mutated.first_failure(*tests, *(f"--deselect={name}" for name in self._broken)):
            if "::" not in failed or self._whole.first_failure(failed) is None:
                return failed
            self._broken.append(failed)
        return None


def main() -> int:
    """Hunt for all, or for those named on the command line."""
    parser = argparse.ArgumentParser(prog="./run mutate", description="Take away each op and instruction: a test fails")
    parser.add_argument("names", nargs="*", metavar="NAME", help="such as idle:SECCOMP, SECCOMP, or idle")
    parser.add_argument("--list", action="store_true", help="print the names of all mutants")
    asked = parser.parse_args()
    names = set(asked.names)
    chosen = [mutant for mutant in mutants() if not names or names & {mutant.name, *mutant.name.split(":")}]
    if asked.list or not chosen:
        print(*(mutant.name for mutant in chosen), sep="\n")
        return 0 if chosen else 1
    survivors = []
    with tempfile.TemporaryDirectory(prefix="onggi-mutate-") as place:
        hunt = Hunt(Path(place))
        for mutant in chosen:
            begun = time.monotonic()
            told = EQUIVALENT.get(mutant.name)
            if told is None:
                killer = hunt.killer(mutant)
                told = f"killed by {killer}" if killer else "SURVIVED"
            print(f"{mutant.name:24} {told} ({time.monotonic() - begun:.0f} s)", flush=True)
            if told == "SURVIVED":
                survivors.append(mutant.name)
    print(f"{len(chosen)} mutants, {len(survivors)} survived: {' '.join(survivors)}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
