"""Real cgroups for tests: a private parent, a small executor for the ops of a `CgroupPlan`, processes to put in."""

import os
import select
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from onggi.host.bpf import replace_device_filter
from onggi.host.cgroupfs import kill_members, probe_cgroups, remove_cgroup
from onggi.plan.cgroup import CgroupPlan, plan_directories
from onggi.plan.facts import CgroupFacts
from onggi.plan.ops import FilterDevices, Keep, KillMembers, MakeDirectory, Op, OpenPath, Remove, WriteFile

TIMEOUT_S: Final = 20.0


class Executor:
    """Does what the launcher would do with these ops, one by one."""

    def __init__(self) -> None:
        self.slots: dict[str, str] = {}
        self.kept: dict[str, bytes] = {}

    def run(self, ops: Iterable[Op]) -> None:
        """Execute ops; an error that is not tolerated says which."""
        for op in ops:
            try:
                self._execute(op)
            except OSError as error:
                if error.errno not in op.tolerate:
                    raise AssertionError(f"{op}: {error}") from error

    def _execute(self, op: Op) -> None:
        match op:
            case MakeDirectory():
                os.mkdir(op.path, op.mode)
            case WriteFile():
                assert isinstance(op.data, bytes)
                if op.if_empty and Path(op.path).read_text().strip():
                    return
                descriptor = os.open(op.path, os.O_WRONLY)
                try:
                    os.write(descriptor, op.data)
                finally:
                    os.close(descriptor)
            case OpenPath():
                assert os.path.isdir(op.path)
                self.slots[op.slot] = op.path
            case FilterDevices():
                replace_device_filter(self.slots[op.cgroup], op.program)
            case KillMembers():
                while pids := Path(op.path).read_text().split():
                    for pid in pids:
                        with suppress(ProcessLookupError):
                            os.kill(int(pid), 9)
            case Keep():
                self.kept[op.name] = Path(op.path).read_bytes()[:4096]
            case Remove():
                for current, _, _ in os.walk(op.path, topdown=False):
                    os.rmdir(current)
            case _:
                raise AssertionError(op)


def joined_by_writing(plan: CgroupPlan) -> list[str]:
    """Give the files into which a process writes 0 to be in the cgroup."""
    return [op.path for op in plan.join if op == WriteFile(path=getattr(op, "path", ""), data=b"0")]


class Member:
    """A process in a cgroup: born outside, it joins as a child of the launcher does, then runs its Python code.

    The code has `say(text)` and `hear()`, a line each.
    """

    _PRELUDE: Final = """
import sys
def say(t): print(t, flush=True)
def hear(): return sys.stdin.readline()
hear()
for path in sys.argv[1:]: open(path, "w").write("0")
"""

    def __init__(self, plan: CgroupPlan, code: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", self._PRELUDE + code, *joined_by_writing(plan)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        if plan.slot is not None:  # the launcher has its child born there
            Path(plan.directories["unified"], "cgroup.procs").write_text(str(self.process.pid))
        self.tell("go")

    @property
    def pid(self) -> int:
        return self.process.pid

    def tell(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def is_silent(self, seconds: float) -> bool:
        """Say whether nothing comes for so long."""
        assert self.process.stdout is not None
        return not select.select([self.process.stdout], [], [], seconds)[0]

    def wait(self) -> int:
        return self.process.wait(TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()


class World:
    """Cgroups of this host beneath one parent of the test's own."""

    def __init__(self, facts: CgroupFacts) -> None:
        self.facts = facts
        self.parent = f"/onggi-test-{uuid.uuid4().hex[:8]}"
        self._made: list[Mapping[str, str]] = []

    def path(self, name: str = "c1") -> str:
        """Give a path beneath the private parent; it is cleared away at the end."""
        path = f"{self.parent}/{name}"
        self._made.append(plan_directories(path, self.facts))
        return path

    def make(self, plan: CgroupPlan) -> CgroupPlan:
        """Execute what comes before the clone."""
        Executor().run(plan.before)
        return plan

    def clear(self) -> None:
        """End all members, remove the cgroups and the parent."""
        parent = plan_directories(self.parent, self.facts)
        for directories in (*self._made, parent):
            kill_members(directories)
            remove_cgroup(directories)


@contextmanager
def world(facts: CgroupFacts | None = None) -> Iterator[World]:
    """Give a world and clear it away."""
    made = World(facts or probe_cgroups())
    try:
        yield made
    finally:
        made.clear()


def read(plan: CgroupPlan, controller: str, file: str) -> str:
    """Read a file of a plan's cgroup, from whichever version has the controller."""
    directory = plan.directories.get(controller) or plan.directories["unified"]
    return Path(directory, file).read_text().strip()
