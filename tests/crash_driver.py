"""Kill a launcher or its child after each record of a plan, once each, and see what a sweep leaves.

Runs as the first process of a pid namespace (tests/root/test_crash.py starts it), so
that every process is its own and nobody else's is counted:

    python -m tests.crash_driver LAUNCHER DIRECTORY ROOTFS CASE
"""

import json
import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from onggi.base.errors import Unavailable
from onggi.host.files import Files
from onggi.host.launcher import Launcher, LaunchFailed
from onggi.host.probe import probe_facts
from onggi.host.sweep import begin_start, is_alive, sweep
from onggi.plan.cgroup import plan_directories
from onggi.plan.ops import Plan
from onggi.plan.wire import encode_plan
from onggi.runtime.records import parse_exit
from onggi.spec.container import IdMapRequest
from onggi.spec.runtime import LinuxNamespace, Spec
from tests.containers import BUILD_ID, Room
from tests.plans import decode_plan

DEADLINE_S: Final = 10.0
_MAP: Final = (IdMapRequest(container=0, host=100000, size=65536),)
CASES: Final[dict[str, dict[str, Any]]] = {
    "pipes": {"cgroupns": "private", "stdin_open": True},
    "terminal": {"tty": True, "init": True, "uid_map": _MAP, "gid_map": _MAP, "time_offsets": {"boottime": 1}},
    "v2": {},
    "pod": {},
}
_USERNS: Final[dict[str, Any]] = {"uid_map": _MAP, "gid_map": _MAP}


class World:
    """What a crash must not leave anything of."""

    def __init__(self, parent: str) -> None:
        self._parent = parent

    def look(self) -> dict[str, list[str]]:
        """Count processes, their namespaces, mounts, and cgroups of the test."""
        with suppress(ChildProcessError):  # orphans are ours: we are the first process
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        pids = [entry for entry in os.listdir("/proc") if entry.isdigit()]
        namespaces = set()
        for pid in pids:
            with suppress(OSError):
                namespaces |= {os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/ns")}
        cgroups: list[str] = []
        for hierarchy in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()):
            cgroups += [str(path) for path in (hierarchy / self._parent.strip("/")).glob("*/")]
        return {
            "processes": sorted(pids),
            "namespaces": sorted(namespaces),
            "mounts": Path("/proc/self/mountinfo").read_text().splitlines(),
            "cgroups": sorted(cgroups),
        }


def prepare(room: Room, case: str, pod: int) -> tuple[Spec, Plan, Path]:
    """Plan one container of a case; `pod` is the process whose namespaces it joins."""
    request = CASES[case]
    spec = room.spec("true", **request)
    if pod:
        files = {"user": "user", "network": "net", "ipc": "ipc", "uts": "uts"}
        joined = [LinuxNamespace(type=kind, path=f"/proc/{pod}/ns/{name}") for kind, name in files.items()]
        made = [LinuxNamespace(type=kind) for kind in ("mount", "pid", "cgroup")]
        maps = room.spec("true", **_USERNS).linux
        assert spec.linux is not None
        assert maps is not None
        linux = msgspec.structs.replace(
            spec.linux,
            namespaces=(*joined, *made),
            uid_mappings=maps.uid_mappings,
            gid_mappings=maps.gid_mappings,
            sysctl=None,
        )
        spec = msgspec.structs.replace(spec, linux=linux, hostname=None)
    plan, run = room.plan(spec, init=bool(request.get("init")), stdin=case == "pipes")
    return spec, plan, run


def records_of(plan: Plan) -> list[str]:
    """List where to kill: every record of the launcher, and every one of the child from its birth on."""
    before, child, beside, after = (len(section) for section in decode_plan(encode_plan(plan, BUILD_ID)).sections)
    parent = [*range(before), *range(before + child, before + child + beside + after)]
    return [*(f"parent:{n}" for n in parent), *(f"child:{n}" for n in range(before - 1, before + child))]


def start(launcher: Launcher, plan: Plan, room: Room) -> str:
    """Start it as a client would; gives what became of the start."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            try:
                launcher.run(plan, [theirs.fileno()], facts=room.facts)
            except Unavailable:
                return "killed"
            except LaunchFailed:
                return "failed"
        return "started"


def wait_until(condition: Callable[[], bool]) -> bool:
    """Wait at most the time that a sweep has."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


def crash(where: str, room: Room, program: Path, case: str, pod: int) -> dict[str, Any]:
    """Let one start end like that, sweep, and say what is different from before."""
    files, world = Files(), World(room.parent)
    before = world.look()
    spec, plan, run = prepare(room, case, pod)
    assert spec.linux is not None
    extra = room.place(f"tree-{where.replace(':', '-')}")
    (extra / "file").touch()
    directories = plan_directories(spec.linux.cgroups_path or "", room.facts.cgroup)
    with begin_start(files, str(run), directories, (str(extra),), now_ns=time.time_ns()):
        outcome = start(Launcher(program, BUILD_ID, {"ONGGI_CRASH_AT": where}), plan, room)
    begun = time.monotonic()
    ended = wait_until(lambda: not is_alive(str(run)))
    errors: list[str] = []

    def swept() -> bool:
        errors.extend(str(error) for error in sweep(files, str(run.parent), now_ns=time.time_ns())[1])
        return world.look() == before

    clean = wait_until(swept)
    seconds = time.monotonic() - begun
    after = world.look()
    left = {kind: sorted({*after[kind]} ^ {*before[kind]}) for kind in after if after[kind] != before[kind]}
    record = parse_exit((run / "exit").read_bytes())
    again = sweep(files, str(run.parent), now_ns=time.time_ns())
    return {
        "where": where,
        "outcome": outcome,
        "seconds": seconds,
        "left": left if not clean else {},
        "errors": errors,
        "status": record.status,
        "wrong": [
            *([] if ended else ["the supervisor lives on"]),
            *([] if again == ((), ()) else [f"a second sweep found something: {again}"]),
            *([] if not extra.exists() else ["the tree is still there"]),
            *([] if not (run / "cgroups").exists() else ["the record of the cgroups is still there"]),
        ],
    }


def main() -> None:
    """Crash everywhere; print the results as JSON."""
    program, directory, rootfs, case = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    with Room(Launcher(program, BUILD_ID), probe_facts(), directory, rootfs) as room:
        running = None
        if case == "pod":
            running = room.start(room.spec("sleep", "1000", **_USERNS))
        pod = running.pid if running else 0
        _, plan, run = prepare(room, case, pod)
        ended = room.launch(plan, run).wait()
        assert (ended.code, ended.signal) == (0, 0), ended
        # The supervisor's last steps are after the end of its lock.
        wait_until(lambda: len(World(room.parent).look()["processes"]) == (3 if running else 1))
        results = [crash(where, room, program, case, pod) for where in ["never", *records_of(plan)]]
        if running:
            running.close()
    print(json.dumps(results))


if __name__ == "__main__":
    main()
