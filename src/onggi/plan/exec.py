"""A further process in a running container (`exec`): join what it has, then the same way down.

The launcher of an exec session is its supervisor, as for a container; the process
is born in the container's cgroup and joins its namespaces by descriptors that were all
opened before the first join, through one open directory of /proc, so that a
recycled pid can never be joined by half.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from onggi.base.errors import NotSupported
from onggi.plan import abi
from onggi.plan.cgroup import plan_entry
from onggi.plan.container import (
    Supervision,
    plan_handover,
    plan_oom_score,
    plan_sign_of_life,
    plan_stdio,
    plan_supervise,
)
from onggi.plan.facts import Facts
from onggi.plan.namespaces import FLAGS, namespace_file
from onggi.plan.ops import (
    Await,
    Clone,
    Close,
    Hole,
    NewSession,
    Op,
    OpenPath,
    Plan,
    PutFile,
    Receive,
    RecordExit,
    Remove,
    SetIds,
    SetNamespace,
    SetStdio,
    SetUndumpable,
    Tell,
)
from onggi.plan.process import plan_exec, plan_limits, plan_privileges
from onggi.plan.rootfs import plan_pty
from onggi.spec.runtime import LinuxSeccomp, Process

# The user namespace first, since it gives the rights for the others; the mount namespace last, since it changes `/`.
_ORDER: Final = ("user", "network", "ipc", "uts", "cgroup", "mount")


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """The container: the host pid of its first process, the namespaces that are its own, its cgroup directories."""

    pid: int
    namespaces: tuple[str, ...]
    cgroups: Mapping[str, str]


def plan_session(
    process: Process, target: Target, supervision: Supervision, facts: Facts, *, seccomp: LinuxSeccomp | None
) -> Plan:
    """Plan one exec session."""
    if "time" in target.namespaces:
        raise NotSupported("exec into a container with a time namespace is not supported by this version of Onggi")
    entry = plan_entry(target.cgroups)
    directory = abi.OPEN_PATH | abi.OPEN_DIRECTORY
    joined = [kind for kind in _ORDER if kind in target.namespaces]
    before: list[Op] = [
        *plan_sign_of_life(supervision, facts),
        *plan_stdio(process, supervision, owner=0 if "user" in target.namespaces else process.user.uid),
        *entry.before,
        OpenPath(slot="target", path=f"/proc/{target.pid}", flags=directory),
    ]
    flags = abi.OPEN_READ | abi.OPEN_MAGIC
    before += [
        OpenPath(slot=f"ns-{kind}", at="target", path=f"ns/{namespace_file(kind)}", flags=flags)
        for kind in (*joined, *(("pid",) if "pid" in target.namespaces else ()))
    ]
    back: tuple[Op, ...] = ()
    if "pid" in target.namespaces:
        before.append(OpenPath(slot="own-pid", path="/proc/self/ns/pid", flags=abi.OPEN_READ))
        before.append(SetNamespace(slot="ns-pid", types=FLAGS["pid"]))
        back = (SetNamespace(slot="own-pid", types=FLAGS["pid"]),)
    before.append(Clone(namespaces=0, pidfd="pidfd", proc="child", cgroup=entry.slot))

    child: list[Op] = [Close(slot="lock"), SetUndumpable(), *entry.join, NewSession()]
    for kind in joined:
        child.append(SetNamespace(slot=f"ns-{kind}", types=FLAGS[kind]))
        if kind == "user":
            child.append(SetIds(uid=0, gid=0, groups=None))
    if process.terminal:
        child += [OpenPath(slot="devpts", path="/dev/pts", flags=directory), *plan_pty(process, "devpts")]
        stdio = SetStdio(stdin="terminal", stdout="terminal", stderr="terminal", terminal=True)
    else:
        stdio = SetStdio(stdin="stdin", stdout="stdout", stderr="stderr")
    child += [
        Await(name="placed"),
        *plan_limits(process, facts),
        stdio,
        *plan_privileges(process, seccomp, facts, set_groups=True),
        *plan_exec(process, init=False),
    ]
    beside: list[Op] = [*back, *plan_oom_score(process, facts)]
    if process.terminal:
        beside.append(Receive(slot="master"))
    beside += [
        PutFile(at="run", path="state", data=(b"pid ", Hole.PID, b"\nstarted ", Hole.NOW, b"\n")),
        Tell(name="placed"),
    ]
    after: list[Op] = [
        RecordExit(at="run", path="exit"),
        *(Remove(path=path, tree=True, tolerate=(abi.ENOENT,)) for path in supervision.remove),
    ]
    beside += plan_handover(before, beside, plan_supervise(process, supervision), after)
    return Plan(before=tuple(before), child=tuple(child), beside=tuple(beside), after=tuple(after))
