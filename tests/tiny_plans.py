"""Plans of a few ops, made by hand, for tests of single ops of the launcher."""

import os
import select
import shutil
import struct
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from onggi.host.launcher import Launcher, LaunchFailed
from onggi.plan import abi
from onggi.plan.ops import (
    AttachRoot,
    Clone,
    Exec,
    Inherit,
    Op,
    Open,
    OpenPath,
    PivotRoot,
    Plan,
    Propagate,
    SealDescriptors,
    SetCapabilities,
    SetStdio,
    Supervise,
    Tree,
)
from tests.containers import TIMEOUT_S

BUSYBOX: Final = "/bin/busybox"
DIRECTORY: Final = abi.OPEN_READ | abi.OPEN_DIRECTORY
NOTHING: Final = SetCapabilities(effective=0, permitted=0, inheritable=0, ambient=0)
"""Gives up all rights; what needs one fails from then on."""

# Classic BPF (linux/filter.h, linux/seccomp.h)
_LOAD_NUMBER: Final = struct.pack("<HBBI", 0x20, 0, 0, 0)
_ERRNO: Final = 0x0005_0000
_ALLOW: Final = struct.pack("<HBBI", 0x06, 0, 0, 0x7FFF_0000)


def refuse(errno: int, *numbers: int) -> bytes:
    """Make a seccomp filter that answers these system calls with an errno and allows all others."""
    tests = b"".join(
        struct.pack("<HBBI", 0x15, 0, 1, number) + struct.pack("<HBBI", 0x06, 0, 0, _ERRNO | errno)
        for number in numbers
    )
    return _LOAD_NUMBER + tests + _ALLOW


def kill_at(number: int) -> bytes:
    """Make a seccomp filter that ends the process at a system call, without a word."""
    return _LOAD_NUMBER + struct.pack("<HBBI", 0x15, 0, 1, number) + struct.pack("<HBBI", 0x06, 0, 0, 1 << 31) + _ALLOW


def here(*ops: Op) -> Plan:
    """Run ops in the launcher itself."""
    return Plan(before=ops, child=(), beside=(), after=())


def in_child(
    *ops: Op, namespaces: int = 0, before: Iterable[Op] = (), beside: Iterable[Op] = (), after: Iterable[Op] = ()
) -> Plan:
    """Run ops in a child; `beside` goes on in the launcher meanwhile."""
    clone = Clone(namespaces=namespaces, pidfd="pidfd", proc="child")
    return Plan(
        before=(*before, clone),
        child=ops,
        beside=(*beside, Supervise(child="pidfd")),
        after=tuple(after),
    )


def in_root(root: Path, *ops: Op, before: Iterable[Op] = (), **more: Any) -> Plan:
    """Run ops in a child that has a mount namespace of its own with the slot `root` over its `/`."""
    tree = Open(slot="root", origin=Tree(path=str(root), recursive=True), propagation=abi.MS_PRIVATE)
    show: tuple[Op, ...] = (Propagate(propagation=abi.MS_SLAVE), AttachRoot(slot="root"))
    return in_child(*show, *ops, namespaces=abi.CLONE_NEWNS, before=(tree, *before), **more)


def end(code: int = 0) -> Exec:
    """Become a program that ends at once, found wherever the host's busybox can be seen."""
    return Exec(candidates=(BUSYBOX,), argv=("sh", "-c", f"exit {code}"), env=())


def run_to_end(launcher: Launcher, plan: Plan, inherited: Sequence[int] = ()) -> int:
    """Execute a plan and wait until its launcher is gone, which is when the last copy of a pipe's end closes."""
    reader, writer = os.pipe()
    try:
        try:
            pid = launcher.run(plan, [*inherited, writer])
        finally:
            os.close(writer)
        assert select.select([reader], [], [], TIMEOUT_S)[0], "the launcher does not end"
        assert os.read(reader, 1) == b""
    finally:
        os.close(reader)
    return pid


def done(launcher: Launcher, *ops: Op, inherited: Sequence[int] = ()) -> None:
    """Execute ops in a launcher, which starts a program that ends at once."""
    run_to_end(launcher, in_child(end(), before=ops), inherited)


def failure(launcher: Launcher, plan: Plan, inherited: Sequence[int] = ()) -> LaunchFailed:
    """Execute a plan that fails; gives the error."""
    try:
        pid = launcher.run(plan, inherited)
    except LaunchFailed as error:
        return error
    raise AssertionError(f"nothing failed; pid {pid}")


def directory(slot: str, path: Path) -> OpenPath:
    """Open a directory of the test's."""
    return OpenPath(slot=slot, path=str(path), flags=DIRECTORY)


def shell(script: str) -> tuple[Op, ...]:
    """Become the host's busybox shell with this script; its output goes to the slot `out`."""
    return (
        SetStdio(stdin="out", stdout="out", stderr="out"),
        SealDescriptors(),
        Exec(candidates=(BUSYBOX,), argv=("sh", "-c", script), env=()),
    )


def output_of(
    launcher: Launcher,
    script: str,
    *child: Op,
    before: Iterable[Op] = (),
    beside: Iterable[Op] = (),
    namespaces: int = 0,
) -> str:
    """Run a script in a child after some ops; gives what it printed."""
    with tempfile.TemporaryFile() as file:
        inherit = Inherit(slot="out", position=0)
        plan = in_child(*child, *shell(script), namespaces=namespaces, before=(inherit, *before), beside=beside)
        run_to_end(launcher, plan, (file.fileno(),))
        file.seek(0)
        return file.read().decode()


def see_root(launcher: Launcher, root: Path, script: str, *ops: Op, before: Iterable[Op] = ()) -> str:
    """Run a script of the host's busybox beneath `root`, after some ops that found it as the slot `root`."""
    program = root / "bin" / "busybox"
    program.parent.mkdir(exist_ok=True)
    if not program.exists():
        shutil.copy(BUSYBOX, program)
    tree = Open(slot="root", origin=Tree(path=str(root), recursive=True), propagation=abi.MS_PRIVATE)
    show: tuple[Op, ...] = (Propagate(propagation=abi.MS_SLAVE), AttachRoot(slot="root"), *ops, PivotRoot(root="root"))
    return output_of(launcher, script, *show, before=(tree, *before), namespaces=abi.CLONE_NEWNS)
