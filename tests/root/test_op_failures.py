"""Each kind of op fails here once on the real kernel: the op that is reported, the errno, and the whole sentence."""

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec
import pytest

from onggi.host.launcher import Launcher, LaunchFailed
from onggi.host.locks import take_lock
from onggi.plan import abi
from onggi.plan.ops import (
    Adopt,
    Attach,
    AttachRoot,
    Await,
    Bind,
    ChangeDirectory,
    Clone,
    Close,
    DropBounding,
    EnterCgroup,
    Exec,
    FilterDevices,
    ForkInit,
    Inherit,
    Keep,
    KillMembers,
    Listen,
    LoadSeccomp,
    Lock,
    MakeDirectory,
    MakeLink,
    MakeNode,
    MakeReadOnly,
    MakeTarget,
    Mask,
    Netlink,
    NewFs,
    NewSession,
    Op,
    Open,
    OpenPath,
    OpenTerminal,
    Pipe,
    PivotRoot,
    Plan,
    Propagate,
    PutFile,
    Receive,
    Reclone,
    RecordExit,
    Remove,
    Restrict,
    SealDescriptors,
    Send,
    SetCapabilities,
    SetDeathSignal,
    SetDomainname,
    SetHostname,
    SetIds,
    SetNamespace,
    SetNoNewPrivileges,
    SetResourceLimit,
    SetStdio,
    SetUmask,
    SetUndumpable,
    Supervise,
    Tell,
    Tree,
    Unshare,
    WriteFile,
)
from onggi.plan.rootfs import Directory
from onggi.runtime.records import parse_exit
from tests.containers import Room
from tests.tiny_plans import (
    BUSYBOX,
    NOTHING,
    directory,
    end,
    failure,
    here,
    in_child,
    in_root,
    kill_at,
    refuse,
    run_to_end,
)

NR: Final = {"x86_64": {"prctl": 157, "close_range": 436, "clone": 56, "fork": 57, "vfork": 58}}.get(
    os.uname().machine, {"prctl": 167, "close_range": 436, "clone": 220}
)
ENDED: Final = (errno.ECANCELED,)
PATH: Final = abi.OPEN_PATH
ALLOW_ALL: Final = struct.pack("<BBhi", 0xB7, 0, 0, 1) + struct.pack("<BBhi", 0x95, 0, 0, 0)
"""r0 = 1; exit"""

NEVER_FAIL: Final = {SetUmask}
"""umask(2) cannot."""


class Fails(msgspec.Struct, frozen=True):
    """A plan, the op in it that fails, the errno, and the sentence; `{tmp}` is the test's directory."""

    plan: Plan
    op: Op
    error: int
    sentence: str


def shown(path: Path) -> Path:
    """Make a small tree: a file, a directory, links that lead nowhere and in circles."""
    path.mkdir()
    (path / "dir").mkdir()
    (path / "dir" / "inner").touch()
    (path / "file").write_text("here\n")
    (path / "circle").symlink_to("circle")
    return path


CASES: dict[str, Callable[[Path], Fails]] = {}


def case(make: Callable[[Path], Fails]) -> Callable[[Path], Fails]:
    """Register a failure."""
    CASES[make.__name__] = make
    return make


def launcher_case(op: Op, error: int, sentence: str, *before: Op, name: str = "") -> None:
    """Register a failure in the launcher that needs nothing of the file system."""
    CASES[name or type(op).__name__] = lambda tmp: Fails(here(*before, op), op, error, sentence)


def child_case(op: Op, error: int, sentence: str, *before: Op, namespaces: int = 0, name: str = "") -> None:
    """Register a failure in the child."""
    CASES[name or type(op).__name__] = lambda tmp: Fails(
        in_child(*before, op, end(), namespaces=namespaces), op, error, sentence
    )


# -- descriptors and files -------------------------------------------------------------------------

launcher_case(
    Inherit(slot="x", position=7),
    errno.EBADF,
    "take x from the caller (descriptor 7): bad file descriptor (op 0 of 1)",
)
launcher_case(
    OpenPath(slot="x", path="/no/such", flags=abi.OPEN_READ),
    errno.ENOENT,
    "open x = /no/such (read): no such file or directory (op 0 of 1)",
)
launcher_case(Close(slot="x"), errno.EBADF, "close %x: bad file descriptor (op 0 of 1)")
launcher_case(
    Pipe(reader="r", writer="w"),
    errno.EMFILE,
    "pipe w -> r: too many open files (op 1 of 2)",
    SetResourceLimit(resource=abi.RLIMITS["RLIMIT_NOFILE"], soft=4, hard=4),
)
launcher_case(
    MakeDirectory(path="/no/such/directory"),
    errno.ENOENT,
    "mkdir /no/such/directory mode 755: no such file or directory (op 0 of 1)",
)
launcher_case(
    WriteFile(path="/dev/full", data=b"1\n2\n"),
    errno.ENOSPC,
    "write /dev/full: 1; 2: no space left on device (op 0 of 1)",
)
launcher_case(
    PutFile(path="/no/such/file", data=b"x"),
    errno.ENOENT,
    "put /no/such/file: x: no such file or directory (op 0 of 1)",
)
launcher_case(
    Keep(name="memory.events", path="/no/such"),
    errno.ENOENT,
    "keep /no/such as memory.events: no such file or directory (op 0 of 1)",
)
launcher_case(
    RecordExit(at="run", path="exit"),
    errno.EBADF,
    "record the exit in %run/exit: bad file descriptor (op 0 of 1)",
)
launcher_case(
    KillMembers(path="/no/such/cgroup.procs"),
    errno.ENOENT,
    "kill what /no/such/cgroup.procs names: no such file or directory (op 0 of 1)",
)


@case
def lock(tmp: Path) -> Fails:
    (tmp / "lock").touch()
    op = Lock(slot="lock")
    flags = abi.OPEN_READ | abi.OPEN_WRITE
    plan = here(OpenPath(slot="lock", path=f"{tmp}/lock", flags=flags), op)
    sentence = "lock %lock: resource temporarily unavailable (op 1 of 2); another supervisor holds this container"
    return Fails(plan, op, errno.EAGAIN, sentence)


@case
def listen(tmp: Path) -> Fails:
    (tmp / "attach").touch()
    op = Listen(slot="listener", at="run", path="attach")
    sentence = "listen listener at %run/attach: address already in use (op 1 of 2)"
    return Fails(here(directory("run", tmp), op), op, errno.EADDRINUSE, sentence)


@case
def remove(tmp: Path) -> Fails:
    shown(tmp / "tree")
    op = Remove(path=f"{tmp}/tree/dir", directory=True)
    sentence = "remove directory {tmp}/tree/dir: directory not empty (op 0 of 1)"
    return Fails(here(op), op, errno.ENOTEMPTY, sentence)


# -- mounts ----------------------------------------------------------------------------------------

launcher_case(
    Open(slot="x", origin=NewFs(type="nosuchfs")),
    errno.ENODEV,
    "open x = new nosuchfs: no such device (op 0 of 1); this kernel has no file system nosuchfs",
    name="OpenUnknown",
)
launcher_case(
    Open(slot="x", origin=NewFs(type="tmpfs", options=(("colour", "blue"),))),
    errno.EINVAL,
    "open x = new tmpfs [colour=blue]: invalid argument (op 0 of 1); the file system does not know one of the options",
    name="OpenOption",
)
launcher_case(
    Open(slot="x", origin=Tree(path="/no/such", recursive=True), set=abi.MOUNT_ATTR_RDONLY),
    errno.ENOENT,
    "open x = tree of /no/such, ro: no such file or directory (op 0 of 1); "
    "the source of a bind mount must exist on the host; make it first, or check the path",
    name="OpenTree",
)
launcher_case(
    Open(slot="x", origin=NewFs(type="overlay", source="overlay", options=(("lowerdir+", "/no/such"),))),
    errno.ENOENT,
    "open x = new overlay [lowerdir+=/no/such]: no such file or directory (op 0 of 1); the layers or the upper "
    "directory lie on a file system that overlayfs refuses; move the state root (--root) to ext4, xfs or btrfs",
    name="OpenOverlay",
)
child_case(
    Open(slot="x", origin=NewFs(type="proc", source="proc")),
    errno.EPERM,
    "open x = new proc: operation not permitted (op 2 of 5); this host hides parts of /proc, so a new one is "
    "refused in a user namespace; run without a user namespace, or start Onggi where /proc is whole",
    NOTHING,
    name="OpenProc",
)
child_case(
    Open(slot="x", origin=NewFs(type="overlay", source="overlay")),
    errno.EPERM,
    "open x = new overlay: operation not permitted (op 2 of 5); that needs CAP_SYS_ADMIN: run Onggi as root on the "
    "host, or in a container that is --privileged",
    NOTHING,
    name="OpenOverlayUnprivileged",
)
child_case(
    Open(slot="x", origin=NewFs(type="devpts", source="devpts", options=(("newinstance", None), ("gid", "5")))),
    errno.EINVAL,
    "open x = new devpts [newinstance,gid=5]: invalid argument (op 1 of 4); the user namespace has no group 5 (tty), "
    "to which terminals belong; map it",
    namespaces=abi.CLONE_NEWUSER | abi.CLONE_NEWNS,
    name="OpenDevpts",
)
child_case(
    AttachRoot(slot="x"), errno.EBADF, "mount %x over /: bad file descriptor (op 1 of 4)", namespaces=abi.CLONE_NEWNS
)
child_case(
    Propagate(propagation=abi.MS_SLAVE),
    errno.EPERM,
    "set slave on / recursively: operation not permitted (op 2 of 5)",
    NOTHING,
)


@case
def open_idmapped(tmp: Path) -> Fails:
    own = OpenPath(slot="own", path="/proc/self/ns/user", flags=abi.OPEN_READ)
    op = Open(slot="x", origin=Tree(path=str(tmp)), idmap="own")
    sentence = "open x = mount of {tmp}, ids by %own: operation not permitted (op 1 of 2)"
    return Fails(here(own, op), op, errno.EPERM, sentence)


@case
def attach(tmp: Path) -> Fails:
    op = Attach(slot="x", root="root", target="/file")
    fresh = Open(slot="x", origin=NewFs(type="tmpfs", source="tmpfs"))
    sentence = (
        "mount %x on /file: invalid argument (op 5 of 7); "
        "a directory cannot be mounted on a file, nor a file on a directory"
    )
    return Fails(in_root(shown(tmp / "root"), fresh, op), op, errno.EINVAL, sentence)


@case
def target_in_file(tmp: Path) -> Fails:
    op = MakeTarget(root="root", path="/file/x")
    sentence = "make /file/x (directory) if it is missing: not a directory (op 1 of 2); "
    sentence += "a part of the path is a file in the image"
    return Fails(here(directory("root", shown(tmp / "root")), op), op, errno.ENOTDIR, sentence)


@case
def target(tmp: Path) -> Fails:
    op = MakeTarget(root="root", path="/circle/x")
    sentence = (
        "make /circle/x (directory) if it is missing: too many levels of symbolic links (op 1 of 2); "
        "a symbolic link of the image goes in circles or into procfs"
    )
    return Fails(here(directory("root", shown(tmp / "root")), op), op, errno.ELOOP, sentence)


@case
def target_read_only(tmp: Path) -> Fails:
    op = MakeTarget(root="root", path="/new")
    tree = Open(slot="root", origin=Tree(path=str(shown(tmp / "root"))), set=abi.MOUNT_ATTR_RDONLY)
    sentence = (
        "make /new (directory) if it is missing: read-only file system (op 1 of 2); the mount point is not in the "
        "image and the root file system is read-only; add it to the image"
    )
    return Fails(here(tree, op), op, errno.EROFS, sentence)


@case
def node(tmp: Path) -> Fails:
    op = MakeNode(root="root", path="/file", mode=abi.S_IFCHR | 0o666, device=abi.makedev(1, 3))
    sentence = "mknod /file c 1:3 mode 666: file exists (op 1 of 2)"
    return Fails(here(directory("root", shown(tmp / "root")), op), op, errno.EEXIST, sentence)


@case
def node_forbidden(tmp: Path) -> Fails:
    op = MakeNode(root="root", path="/new", mode=abi.S_IFBLK | 0o600, device=abi.makedev(8, 16), uid=5)
    sentence = (
        "mknod /new b 8:16 mode 600 owner 5:0: operation not permitted (op 2 of 3); "
        "device nodes cannot be made here; use a user namespace, which binds the host's instead"
    )
    return Fails(here(directory("root", shown(tmp / "root")), NOTHING, op), op, errno.EPERM, sentence)


@case
def link(tmp: Path) -> Fails:
    op = MakeLink(root="root", path="/file", text="elsewhere")
    sentence = "symlink /file -> elsewhere: file exists (op 1 of 2)"
    return Fails(here(directory("root", shown(tmp / "root")), op), op, errno.EEXIST, sentence)


@case
def mask(tmp: Path) -> Fails:
    op = Mask(root="root", path="/none", null="null", empty="empty")
    sentence = "mask /none: no such file or directory (op 1 of 2)"
    return Fails(here(directory("root", shown(tmp / "root")), op), op, errno.ENOENT, sentence)


@case
def read_only(tmp: Path) -> Fails:
    op = MakeReadOnly(root="root", path="/circle")
    sentence = (
        "make /circle read-only: too many levels of symbolic links (op 1 of 2); "
        "a symbolic link of the image goes in circles or into procfs"
    )
    return Fails(here(directory("root", shown(tmp / "root")), op), op, errno.ELOOP, sentence)


@case
def restrict(tmp: Path) -> Fails:
    op = Restrict(slot="root", set=abi.MOUNT_ATTR_RDONLY)
    sentence = "set ro on %root: invalid argument (op 1 of 2)"  # no mount: a directory in one
    return Fails(here(directory("root", shown(tmp / "root")), op), op, errno.EINVAL, sentence)


@case
def pivot(tmp: Path) -> Fails:
    op = PivotRoot(root="plain")
    plan = in_child(op, end(), namespaces=abi.CLONE_NEWNS, before=(directory("plain", shown(tmp / "root")),))
    return Fails(plan, op, errno.EINVAL, "pivot root to %plain: invalid argument (op 2 of 5)")


# -- namespaces and processes ----------------------------------------------------------------------


@case
def clone(tmp: Path) -> Fails:
    op = Clone(namespaces=abi.CLONE_NEWPID | abi.CLONE_NEWNET, pidfd="p", proc="c", cgroup="cgroup")
    sentence = "clone with new namespaces: pid,network in cgroup %cgroup: bad file descriptor (op 1 of 2)"
    return Fails(here(directory("cgroup", tmp), op), op, errno.EBADF, sentence)


launcher_case(
    Clone(namespaces=abi.CLONE_NEWNS, pidfd="p", proc="c"),
    errno.EPERM,
    "clone with new namespaces: mount: operation not permitted (op 1 of 2); "
    "making namespaces needs root (CAP_SYS_ADMIN) here",
    NOTHING,
    name="CloneForbidden",
)
launcher_case(
    EnterCgroup(cgroup="cgroup"),
    errno.EBADF,
    "go on in a new process in cgroup %cgroup: bad file descriptor (op 1 of 2)",
    OpenPath(slot="cgroup", path="/", flags=abi.OPEN_PATH | abi.OPEN_DIRECTORY),
)
child_case(
    Reclone(namespaces=abi.CLONE_NEWPID),
    errno.EPERM,
    "clone once more with new namespaces: pid: operation not permitted (op 2 of 5); "
    "making namespaces needs root (CAP_SYS_ADMIN) here",
    NOTHING,
)
GONE: Final = "; the other process ended before it came to this step; was it killed for want of memory?"


def beside_case(op: Op, sentence: str, *before: Op) -> None:
    """Register a failure of the launcher whose child is gone."""
    CASES[type(op).__name__] = lambda tmp: Fails(
        in_child(SealDescriptors(), end(), before=before, beside=(Await(name="the end", tolerate=ENDED), op)),
        op,
        errno.ECANCELED,
        sentence + GONE,
    )


beside_case(Adopt(pidfd="p", proc="c"), "take over the second clone as p: operation canceled (op 4 of 6)")
beside_case(Await(name="placed"), "await placed: operation canceled (op 4 of 6)")
beside_case(Receive(slot="x"), "receive x: operation canceled (op 4 of 6)")
beside_case(Tell(name="placed"), "tell placed: operation canceled (op 4 of 6)")
beside_case(Send(slot="r"), "send %r: operation canceled (op 5 of 7)", Pipe(reader="r", writer="w"))
child_case(
    Unshare(types=abi.CLONE_NEWCGROUP),
    errno.EPERM,
    "unshare namespaces: cgroup: operation not permitted (op 2 of 5)",
    NOTHING,
)
child_case(
    SetHostname(name="h" * 65),
    errno.EINVAL,
    f"set hostname {'h' * 65}: invalid argument (op 1 of 4)",
    namespaces=abi.CLONE_NEWUTS,
)
child_case(
    SetDomainname(name="d" * 65),
    errno.EINVAL,
    f"set domainname {'d' * 65}: invalid argument (op 1 of 4)",
    namespaces=abi.CLONE_NEWUTS,
)
child_case(
    SetResourceLimit(resource=abi.RLIMITS["RLIMIT_NOFILE"], soft=1 << 31, hard=1 << 31),
    errno.EPERM,
    "set limit RLIMIT_NOFILE 2147483648:2147483648: operation not permitted (op 2 of 5); "
    "raising a hard limit needs CAP_SYS_RESOURCE; ask for at most the current one",
    NOTHING,
)
child_case(SetDeathSignal(signal=99), errno.EINVAL, "die by signal 99 with the launcher: invalid argument (op 1 of 4)")
child_case(
    SetUndumpable(),
    errno.EACCES,
    "become undumpable: permission denied (op 2 of 5)",
    LoadSeccomp(program=refuse(errno.EACCES, NR["prctl"])),
)
child_case(
    DropBounding(keep=0),
    errno.EPERM,
    "keep bounding capabilities: none: operation not permitted (op 2 of 5); "
    "Onggi's own process does not hold these capabilities",
    NOTHING,
)
child_case(
    SetIds(uid=5, gid=6, groups=(7, 8)),
    errno.EPERM,
    "become uid 5 gid 6 groups 7,8: operation not permitted (op 2 of 5)",
    NOTHING,
)
child_case(
    SetIds(uid=2**32 - 1, gid=0),
    errno.EINVAL,
    "become uid 4294967295 gid 0 groups none: invalid argument (op 1 of 4); "
    "the user or group is not mapped into the container's user namespace",
    name="SetIdsNone",
)
child_case(
    SetCapabilities(effective=1, permitted=1, inheritable=0, ambient=0),
    errno.EPERM,
    "set capabilities: chown: operation not permitted (op 2 of 5); "
    "Onggi's own process does not hold these capabilities",
    NOTHING,
)
child_case(
    SetNoNewPrivileges(),
    errno.EACCES,
    "set no_new_privs: permission denied (op 2 of 5)",
    LoadSeccomp(program=refuse(errno.EACCES, NR["prctl"])),
)
child_case(
    LoadSeccomp(program=bytes(8)),
    errno.EINVAL,
    "load seccomp filter of 1 instructions: invalid argument (op 1 of 4); "
    "this kernel does not take the filter or one of its flags",
)
child_case(
    ChangeDirectory(path="/no/such"),
    errno.ENOENT,
    "chdir /no/such: no such file or directory (op 1 of 4); the working directory /no/such is not in the container",
)


@case
def chdir_forbidden(tmp: Path) -> Fails:
    (tmp / "private").mkdir(mode=0o700)
    tmp.chmod(0o755)
    op = ChangeDirectory(path=f"{tmp}/private/..")
    sentence = "chdir {tmp}/private/..: permission denied (op 2 of 5); "
    sentence += "the container's user may not enter the working directory"
    return Fails(in_child(SetIds(uid=4242, gid=4242), op, end()), op, errno.EACCES, sentence)


@case
def namespace(tmp: Path) -> Fails:
    (tmp / "file").touch()
    op = SetNamespace(slot="x", types=abi.CLONE_NEWNET)
    sentence = "join network namespace of %x: invalid argument (op 2 of 5); the path is not a namespace of this type"
    plan = in_child(op, end(), before=(OpenPath(slot="x", path=f"{tmp}/file", flags=abi.OPEN_READ),))
    return Fails(plan, op, errno.EINVAL, sentence)


@case
def terminal(tmp: Path) -> Fails:
    """What a joined container has at /dev/pts need not be a devpts."""
    (tmp / "ptmx").touch()
    op = OpenTerminal(master="m", peer="p", devpts="pts", rows=24, columns=80)
    sentence = "open terminal m, p in %pts 24x80: inappropriate ioctl for device (op 2 of 5); "
    sentence += "what the container has at /dev/pts is no devpts"
    return Fails(in_child(op, end(), before=(directory("pts", tmp),)), op, errno.ENOTTY, sentence)


child_case(
    SetStdio(stdin="r", stdout="w", stderr="w", terminal=True),
    errno.ENOTTY,
    "stdio %r %w %w as controlling terminal: inappropriate ioctl for device (op 2 of 5)",
    Pipe(reader="r", writer="w"),
)
child_case(NewSession(), errno.EPERM, "new session: operation not permitted (op 2 of 5)", NewSession())
child_case(
    SealDescriptors(),
    errno.EACCES,
    "close every descriptor from 3 on at exec: permission denied (op 2 of 5)",
    LoadSeccomp(program=refuse(errno.EACCES, NR["close_range"])),
)
child_case(
    ForkInit(),
    errno.EAGAIN,
    "fork; stay as init: resource temporarily unavailable (op 2 of 5); "
    "the limit of processes is reached: see ulimit -u, or pids.max of this cgroup",
    LoadSeccomp(program=refuse(errno.EAGAIN, *(NR[name] for name in ("clone", "fork", "vfork") if name in NR))),
)
CASES["Exec"] = lambda tmp: Fails(
    in_child(op := Exec(candidates=("/no/such", "/nor/this"), argv=("such", "a b", ""), env=())),
    op,
    errno.ENOENT,
    "exec such 'a b' '': no such file or directory (op 1 of 3); "
    "no such file in the container, or the interpreter that it names is missing",
)


@case
def exec_no_program(tmp: Path) -> Fails:
    (tmp / "text").write_text("no program\n")
    (tmp / "text").chmod(0o755)
    op = Exec(candidates=(f"{tmp}/text",), argv=("text",), env=())
    sentence = (
        "exec text: exec format error (op 1 of 3); the file is no program for this machine: a script needs a #! line, "
        "a binary the right architecture"
    )
    return Fails(in_child(op), op, errno.ENOEXEC, sentence)


@case
def exec_forbidden(tmp: Path) -> Fails:
    (tmp / "text").touch(0o644)
    op = Exec(candidates=(f"{tmp}/text", "/no/such"), argv=("te\x1b[31mxt",), env=())
    sentence = (
        r"exec 'te\x1b[31mxt': permission denied (op 1 of 3); "
        "the file is not executable by the container's user, or is a directory"
    )
    return Fails(in_child(op), op, errno.EACCES, sentence)


# -- kernel tables ---------------------------------------------------------------------------------

launcher_case(
    Netlink(
        family=abi.NETLINK_ROUTE,
        messages=struct.pack("=IHHIIBxHiII", 32, 16, 5, 1, 0, 0, 0, 4242, 1, 1),  # RTM_NEWLINK of a link that is not
        count=1,
        text="link 4242 up",
    ),
    errno.ENODEV,
    "netlink: link 4242 up: no such device (op 0 of 1)",
)


@case
def bind(tmp: Path) -> Fails:
    taken = tmp / "port"
    port = int(taken.read_text()) if taken.exists() else 0
    op = Bind(slot="port", datagram=False, address="127.0.0.1", port=port)
    sentence = (
        f"hold port 127.0.0.1:{port}/tcp: address already in use (op 0 of 1); port is already allocated: another "
        f"program of this host has it (ss -tulnp 'sport = :{port}' tells which); end that one, or publish another port"
    )
    return Fails(here(op), op, errno.EADDRINUSE, sentence)


@case
def devices(tmp: Path) -> Fails:
    op = FilterDevices(cgroup="cgroup", program=ALLOW_ALL)
    sentence = (
        "filter devices of %cgroup by 2 eBPF instructions: bad file descriptor (op 1 of 2); "
        "device rules on cgroup v2 need CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN"
    )
    return Fails(here(directory("cgroup", tmp), op), op, errno.EBADF, sentence)


# -- the tests -------------------------------------------------------------------------------------


@pytest.fixture
def held(tmp_path: Path) -> Iterator[None]:
    """Hold a lock and a port that others want."""
    with take_lock(f"{tmp_path}/lock", "the lock"), socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        port.listen()
        (tmp_path / "port").write_text(str(port.getsockname()[1]))
        yield


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize("name", CASES)
def test_the_failure_of_an_op_is_told(name: str, launcher: Launcher, tmp_path: Path) -> None:
    expected = CASES[name](tmp_path)
    error = failure(launcher, expected.plan)
    assert (error.op, error.errno) == (expected.op, expected.error), str(error)
    assert str(error) == expected.sentence.replace("{tmp}", str(tmp_path))


def test_every_kind_of_op_has_a_failure(tmp_path: Path) -> None:
    covered = set()
    for number, make in enumerate(CASES.values()):
        place = tmp_path / str(number)
        place.mkdir()
        covered.add(type(make(place).op))
    assert covered | NEVER_FAIL | {Supervise} == set(Op.__subclasses__())


def test_a_supervisor_that_cannot_begin_says_so_in_the_record(launcher: Launcher, tmp_path: Path) -> None:
    """The process was told to run by then; it is ended, and the record is the only place that tells."""
    (tmp_path / "log").touch()
    log = OpenPath(slot="log", path=f"{tmp_path}/log", flags=PATH)
    plan = Plan(
        before=(directory("run", tmp_path), log, Clone(namespaces=0, pidfd="pidfd", proc="child")),
        child=(SealDescriptors(), Exec(candidates=(BUSYBOX,), argv=("sleep", "60"), env=())),
        beside=(Supervise(child="pidfd", log="log", log_name="json.log"),),
        after=(RecordExit(at="run", path="exit"),),
    )
    pid = run_to_end(launcher, plan)
    assert not Path(f"/proc/{pid}").exists()
    text = (tmp_path / "exit").read_text()
    assert text.startswith("exit 125\nsignal 0\n")
    assert f"failed 5 {errno.ENOTDIR}\n" in text
    assert parse_exit(text.encode()).status == 125


def test_what_the_child_said_is_the_cause(launcher: Launcher, tmp_path: Path) -> None:
    """The launcher meets a process that is no more, and finds the reason in what that one had to say."""
    op = SetHostname(name="h" * 65)
    again = WriteFile(at="child", path="oom_score_adj", data=b"0")
    plan = in_child(op, namespaces=abi.CLONE_NEWUTS, beside=(Await(name="never", tolerate=(errno.EPROTO,)), again))
    error = failure(launcher, plan)
    assert (error.op, error.errno) == (op, errno.EINVAL)


def test_a_process_that_is_killed_before_it_is_placed(launcher: Launcher) -> None:
    """It has no last word; what the launcher finds is a process that is no more."""
    killed = (LoadSeccomp(program=kill_at(NR["close_range"])), SealDescriptors())
    look = OpenPath(slot="x", at="child", path="ns/mnt", flags=abi.OPEN_READ | abi.OPEN_MAGIC)
    for op, words in ((Tell(name="placed"), "tell placed"), (look, "open x = %child/ns/mnt")):
        error = failure(launcher, in_child(*killed, end(), beside=(Await(name="x", tolerate=ENDED), op)))
        assert (error.op, str(error).startswith(words)) == (op, True)
        assert str(error).endswith("was it killed for want of memory?")
    error = failure(launcher, in_child(*killed, end()))
    assert str(error) == (
        "supervise %pidfd over pipes, no log: operation canceled (op 4 of 5); "
        "the new process was killed before it came to its program; was that for want of memory?"
    )


def test_the_working_directory_is_beneath_the_root(launcher: Launcher, tmp_path: Path) -> None:
    """CVE-2024-21626: a path through a descriptor that was opened on the host. One of these numbers is it."""
    root = shown(tmp_path / "root")
    (root / "proc").mkdir()
    proc = Open(slot="proc", origin=NewFs(type="proc", source="proc"))
    steps = (proc, Attach(slot="proc", root="root", target="/proc"), PivotRoot(root="root"))
    seen = []
    for number in range(3, 20):
        op = ChangeDirectory(path=f"/proc/self/fd/{number}")
        error = failure(launcher, in_root(root, *steps, op, end(), before=(directory("outside", tmp_path),)))
        if error.errno == errno.EXDEV:
            seen.append(str(error))
        assert isinstance(error.op, Exec | ChangeDirectory)
    assert len(seen) == 1
    assert seen[0].endswith("; the working directory lies outside the container's root, which is never allowed")


def test_a_failed_plan_is_cleared_away(launcher: Launcher, tmp_path: Path) -> None:
    made = MakeDirectory(path=f"{tmp_path}/made")
    plan = Plan(
        before=(made, MakeDirectory(path="/no/such/directory")),
        child=(),
        beside=(),
        after=(Remove(path="/no/such", tree=True), Remove(path=made.path, directory=True)),
    )
    assert failure(launcher, plan).errno == errno.ENOENT
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("held")
def test_a_plan_that_has_not_got_its_lock_clears_nothing_away(launcher: Launcher, tmp_path: Path) -> None:
    """What its last section would remove belongs to whoever holds the lock."""
    (tmp_path / "theirs").touch()
    flags = abi.OPEN_READ | abi.OPEN_WRITE
    plan = Plan(
        before=(OpenPath(slot="lock", path=f"{tmp_path}/lock", flags=flags), Lock(slot="lock")),
        child=(),
        beside=(),
        after=(Remove(path=f"{tmp_path}/theirs"),),
    )
    assert failure(launcher, plan).errno == errno.EAGAIN
    early = msgspec.structs.replace(plan, before=(Close(slot="x"), *plan.before))
    assert failure(launcher, early).errno == errno.EBADF
    assert (tmp_path / "theirs").exists()


def test_a_tolerated_failure_is_a_success_of_the_whole_op(launcher: Launcher, tmp_path: Path) -> None:
    """An op of several records is over with the first that is tolerated: the others have nothing to work on."""
    absent = Open(slot="x", origin=NewFs(type="nosuchfs", source="x", options=(("a", "b"),)), tolerate=(errno.ENODEV,))
    made = MakeDirectory(path=f"{tmp_path}/made")
    run_to_end(launcher, in_child(end(), before=(absent, made)))
    assert (tmp_path / "made").is_dir()


def test_another_plan_than_this_build_reads_is_refused(launcher: Launcher) -> None:
    other = Launcher(Path(launcher.program), "fedcba9876543210")
    with pytest.raises(LaunchFailed, match=r"^the launcher refused the plan: protocol not supported; reinstall Onggi"):
        other.run(here(Close(slot="x")))


def test_a_start_that_fails_leaves_nothing(room: Room) -> None:
    """The whole of a container, up to a program that is not there: cgroups, processes and its record's word."""
    plan, run = room.plan(room.spec("no-such-program"))
    with pytest.raises(LaunchFailed, match="no such file in the container") as caught:
        room.launch(plan, run)
    assert caught.value.exit_code == 127
    assert f"failed {plan.ops().index(plan.child[-1])} {errno.ENOENT}\n" in (run / "exit").read_text()
    assert [p for p in Path("/sys/fs/cgroup").glob(f"*{room.parent}/*") if p.is_dir()] == []


def test_a_mount_source_that_is_missing_is_named(room: Room, tmp_path: Path) -> None:
    spec = room.spec("true")
    spec = msgspec.structs.replace(spec, root=None)
    with pytest.raises(LaunchFailed, match=rf"tree of {tmp_path}/none.*: no such file or directory"):
        room.start(spec, Directory(path=f"{tmp_path}/none"))
