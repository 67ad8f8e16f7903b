"""What ops do on the real kernel, where the end-to-end tests would not show it."""

import ctypes
import errno
import os
import signal
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from onggi.host.launcher import Launcher
from onggi.host.locks import probe_lock
from onggi.plan import abi
from onggi.plan.facts import Facts
from onggi.plan.network import LOOPBACK_INDEX, link_up
from onggi.plan.ops import (
    Attach,
    Await,
    Clone,
    EnterCgroup,
    Exec,
    FilterDevices,
    Hole,
    Inherit,
    KillMembers,
    Listen,
    Lock,
    MakeNode,
    MakeReadOnly,
    MakeTarget,
    Mask,
    Netlink,
    NewFs,
    Op,
    Open,
    OpenPath,
    Pipe,
    Plan,
    PutFile,
    Remove,
    Restrict,
    SealDescriptors,
    SetIds,
    SetNamespace,
    SetStdio,
    SetUndumpable,
    SlotHole,
    Supervise,
    Tell,
    Tree,
    WriteFile,
)
from tests.containers import Room, wait_for
from tests.tiny_plans import (
    BUSYBOX,
    NOTHING,
    directory,
    done,
    end,
    failure,
    here,
    in_child,
    output_of,
    run_to_end,
    see_root,
)

SLEEP: Final = (SealDescriptors(), Exec(candidates=(BUSYBOX,), argv=("sleep", "60"), env=()))

# -- files -----------------------------------------------------------------------------------------


def test_put_replaces_a_file_whole(launcher: Launcher, tmp_path: Path) -> None:
    target = tmp_path / "state"
    target.write_text("old")
    (tmp_path / "state.new").write_text("what somebody did not finish")
    with target.open() as old:
        done(launcher, directory("run", tmp_path), PutFile(at="run", path="state", data=b"new", mode=0o640))
        assert old.read() == "old"
    assert target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["state"]


def test_what_says_something_is_written_to_only_if_that_is_wanted(launcher: Launcher, tmp_path: Path) -> None:
    texts = {"none": "", "line": "\n", "some": "0-1\n"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    done(launcher, *(WriteFile(path=f"{tmp_path}/{name}", data=b"5", if_empty=True) for name in texts))
    assert [(tmp_path / name).read_text().strip() for name in texts] == ["5", "5", "0-1"]
    done(launcher, WriteFile(path=f"{tmp_path}/some", data=b"7"))
    assert (tmp_path / "some").read_text() == "7-1\n"


def test_put_that_cannot_be_whole_leaves_the_old_one(launcher: Launcher, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", disk], check=True)
    try:
        (disk / "state").write_text("old")
        put = PutFile(path=f"{disk}/state", data=b"x" * 60000)
        error = failure(launcher, here(put))
        assert error.op == put
        assert (disk / "state").read_text() == "old"
        assert os.listdir(disk) == ["state"]
    finally:
        subprocess.run(["umount", disk], check=True)


def test_holes_are_filled_where_they_stand(launcher: Launcher, tmp_path: Path) -> None:
    text, raw = SlotHole(slot="run"), SlotHole(slot="run", binary=True)
    data = (b"pid ", Hole.PID, b" now ", Hole.NOW, b" fd ", text, b" raw ", raw, b"!")
    put = PutFile(at="run", path="text", data=data)
    pid = run_to_end(launcher, in_child(end(), before=(directory("run", tmp_path),), beside=(put,)))
    words = (tmp_path / "text").read_bytes().split(b" ")
    assert words[:4:2] == [b"pid", b"now"]
    assert int(words[1]) == pid
    assert abs(int(words[3]) - (tmp_path / "text").stat().st_mtime_ns) < 10**9
    assert words[7] == struct.pack("=I", int(words[5])) + b"!"


def test_remove_takes_everything_and_follows_nothing(launcher: Launcher, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "file").touch()
    (tree / "link").symlink_to(outside)
    (tree / "a" / "up").symlink_to("../../outside/precious")
    os.mkfifo(tree / "fifo")
    os.mknod(tree / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    (tree / "closed").mkdir(mode=0)
    done(launcher, Remove(path=str(tree), tree=True))
    assert not tree.exists()
    assert (outside / "precious").exists()
    linked = tmp_path / "linked"
    linked.symlink_to(outside)
    assert failure(launcher, here(Remove(path=str(linked), tree=True))).errno == errno.ENOTDIR
    assert (outside / "precious").exists()


def test_remove_does_not_cross_a_mount(launcher: Launcher, tmp_path: Path) -> None:
    """Not even a bind mount of the same file system, which has the same device number."""
    outside, tree = tmp_path / "outside", tmp_path / "tree"
    (tree / "mounted").mkdir(parents=True)
    (tree / "file").touch()
    outside.mkdir()
    (outside / "precious").touch()
    subprocess.run(["mount", "--bind", outside, tree / "mounted"], check=True)
    try:
        error = failure(launcher, here(Remove(path=str(tree), tree=True)))
        assert error.errno == errno.EXDEV
        assert (outside / "precious").exists()
        assert not (tree / "file").exists()
    finally:
        subprocess.run(["umount", tree / "mounted"], check=True)


def test_remove_goes_to_any_depth(launcher: Launcher, tmp_path: Path) -> None:
    """A container can make a tree that no path can name and no stack can walk."""
    tree = tmp_path / "tree"
    tree.mkdir()
    at = os.open(tree, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(os.open("f", os.O_CREAT, dir_fd=below))
        os.close(at)
        at = below
    os.close(at)
    done(launcher, Remove(path=str(tree), tree=True))
    assert os.listdir(tmp_path) == []


def test_the_lock_dies_with_the_launcher_only(launcher: Launcher, tmp_path: Path) -> None:
    """The child's copy of the descriptor is closed at its exec at the latest."""
    flags = abi.OPEN_READ | abi.OPEN_WRITE | abi.OPEN_CREATE
    plan = in_child(
        *SLEEP,
        before=(OpenPath(slot="lock", path=f"{tmp_path}/lock", flags=flags, mode=0o600), Lock(slot="lock")),
    )
    pid = launcher.run(plan)
    assert probe_lock(f"{tmp_path}/lock")
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not probe_lock(f"{tmp_path}/lock"), "the end of the lock")
    assert not Path(f"/proc/{pid}").exists()


def test_a_socket_is_named_in_a_directory_of_any_depth(launcher: Launcher, tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    done(launcher, directory("run", deep), Listen(slot="listener", at="run", path="attach"))
    seen = (deep / "attach").stat()
    assert stat.S_ISSOCK(seen.st_mode)
    assert stat.S_IMODE(seen.st_mode) == 0o600


# -- targets and mounts ----------------------------------------------------------------------------

LINKS: Final = {
    # link, its text, what is asked for, what must be there then
    "dangling": ("link", "far/away", "/link", "far/away"),
    "absolute": ("link", "/far/away", "/link", "far/away"),
    "climbing": ("link", "../../../../far", "/link/away", "far/away"),
    "in a directory": ("dir/link", "../far/away", "/dir/link", "far/away"),
    "absolute in a directory": ("dir/link", "/far", "/dir/link/away", "far/away"),
    "directory before it": ("dir/link", "/", "/dir/link/far/away", "far/away"),
    "with dots": ("link", "dir/./../far//away", "/link", "far/away"),
}


@pytest.mark.parametrize("kind", ["directory", "file"])
@pytest.mark.parametrize("name", LINKS)
def test_a_target_is_made_where_links_lead_inside_the_root(
    name: str, kind: str, launcher: Launcher, tmp_path: Path
) -> None:
    link, text, asked, expected = LINKS[name]
    root = tmp_path / "a" / "root"
    (root / "dir").mkdir(parents=True)
    (root / link).symlink_to(text)
    done(launcher, directory("root", root), MakeTarget(root="root", path=asked, directory=kind == "directory"))
    made = root / expected
    assert made.is_dir() if kind == "directory" else made.is_file()
    assert (root / link).is_symlink()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["root"]


def test_a_chain_of_links_has_an_end(launcher: Launcher, tmp_path: Path) -> None:
    for number in range(15):
        (tmp_path / f"l{number}").symlink_to(f"l{number + 1}")
    done(launcher, directory("root", tmp_path), MakeTarget(root="root", path="/l0"))
    assert (tmp_path / "l15").is_dir()


def test_a_target_that_is_there_stays_as_it_is(launcher: Launcher, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    (tmp_path / "dir").mkdir(mode=0o700)
    done(
        launcher,
        directory("root", tmp_path),
        MakeTarget(root="root", path="/file", directory=False),
        MakeTarget(root="root", path="/dir"),
        MakeTarget(root="root", path="/dir/new/newer", mode=0o711),
    )
    assert (tmp_path / "file").read_text() == "kept"
    modes = {path: stat.S_IMODE((tmp_path / path).stat().st_mode) for path in ("dir", "dir/new", "dir/new/newer")}
    assert modes == {"dir": 0o700, "dir/new": 0o755, "dir/new/newer": 0o711}


def test_a_target_is_like_its_source(launcher: Launcher, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done(
        launcher,
        directory("root", tmp_path),
        Open(slot="dir", origin=Tree(path="/tmp"), propagation=abi.MS_PRIVATE),
        Open(slot="one", origin=Tree(path=f"{tmp_path}/file"), propagation=abi.MS_PRIVATE),
        MakeTarget(root="root", path="/as-dir", like="dir", directory=False),
        MakeTarget(root="root", path="/as-file", like="one", directory=True),
    )
    assert (tmp_path / "as-dir").is_dir()
    assert (tmp_path / "as-file").is_file()


NULL: Final = Open(slot="null", origin=Tree(path="/dev/null"), set=abi.MOUNT_ATTR_RDONLY, propagation=abi.MS_PRIVATE)
EMPTY: Final = Open(slot="empty", origin=NewFs(type="tmpfs", source="tmpfs"), set=abi.MOUNT_ATTR_RDONLY)


def test_masks_hide_files_and_directories(launcher: Launcher, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "secrets").mkdir(parents=True)
    (root / "more").mkdir()
    for name in ("secrets/key", "secret", "third", "more/x"):
        (root / name).write_text("secret\n")
    paths = ("/secrets", "/secret", "/third", "/more")
    masks = [Mask(root="root", path=path, null="null", empty="empty") for path in paths]
    script = "bb=/bin/busybox; $bb cat /secret /third; $bb ls -A /secrets /more; "
    script += "$bb touch /secrets/x; $bb chmod 0 /secret"
    said = see_root(launcher, root, script, EMPTY, *masks, before=(NULL,))
    assert "secret\n" not in said
    assert "key" not in said
    assert said.count("Read-only file system") == 2
    assert (root / "secrets" / "key").read_text() == "secret\n"
    assert stat.S_IMODE(Path("/dev/null").stat().st_mode) == 0o666


def test_read_only_covers_what_is_mounted_below(launcher: Launcher, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "sys" / "below").mkdir(parents=True)
    fresh = Open(slot="fresh", origin=NewFs(type="tmpfs", source="tmpfs"))
    attach = (fresh, Attach(slot="fresh", root="root", target="/sys/below"))
    script = "/bin/busybox touch /sys/a /sys/below/b; /bin/busybox touch /c && /bin/busybox ls /c"
    said = see_root(launcher, root, script, *attach, MakeReadOnly(root="root", path="/sys"))
    assert said.count("Read-only file system") == 2
    assert said.endswith("/c\n")


def test_a_restriction_holds_for_the_mount_alone(launcher: Launcher, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "tmp").mkdir(parents=True)
    fresh = Open(slot="fresh", origin=NewFs(type="tmpfs", source="tmpfs"))
    script = "/bin/busybox touch /a; /bin/busybox touch /tmp/b && /bin/busybox ls /tmp"
    ops = (fresh, Attach(slot="fresh", root="root", target="/tmp"), Restrict(slot="root", set=abi.MOUNT_ATTR_RDONLY))
    said = see_root(launcher, root, script, *ops)
    assert said == "touch: /a: Read-only file system\nb\n"


def test_nodes_have_exactly_this_mode_and_owner(launcher: Launcher, tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    device = abi.makedev(4095, 1048575)
    node = MakeNode(root="root", path="/dev/x", mode=abi.S_IFBLK | 0o662, device=device, uid=7, gid=9)
    done(launcher, directory("root", tmp_path), node)
    seen = (tmp_path / "dev" / "x").stat()
    assert (seen.st_mode, seen.st_uid, seen.st_gid) == (stat.S_IFBLK | 0o662, 7, 9)
    assert (os.major(seen.st_rdev), os.minor(seen.st_rdev)) == (4095, 1048575)


# -- cgroups ---------------------------------------------------------------------------------------


@pytest.fixture
def cgroup(facts: Facts, tmp_path: Path) -> Iterator[Path]:
    """Give a v2 cgroup of the test's own."""
    if facts.cgroup.unified is None:
        pytest.skip("needs a cgroup2 mount")
    path = Path(facts.cgroup.unified.mount) / f"onggi-test-{tmp_path.name}-{os.getpid()}"
    path.mkdir()
    yield path
    (path / "cgroup.kill").write_text("1")
    for below in (*path.glob("*/"), path):
        wait_for(lambda below=below: "populated 0" in (below / "cgroup.events").read_text(), "cgroup empty")
        below.rmdir()


def test_a_child_is_born_in_its_cgroup(launcher: Launcher, cgroup: Path) -> None:
    said = Plan(
        before=(
            OpenPath(slot="cgroup", path=str(cgroup), flags=abi.OPEN_PATH | abi.OPEN_DIRECTORY),
            Clone(namespaces=0, pidfd="pidfd", proc="child", cgroup="cgroup"),
        ),
        child=SLEEP,
        beside=(Supervise(child="pidfd"),),
        after=(),
    )
    pid = launcher.run(said)
    assert (cgroup / "cgroup.procs").read_text() == f"{pid}\n"


def test_members_are_killed_wherever_they_hide(launcher: Launcher, cgroup: Path) -> None:
    """In cgroups beneath too, and in one that forks all the time."""
    (cgroup / "below").mkdir()
    fork = "while :; do /bin/busybox sleep 0.01 & done"
    processes = [
        subprocess.Popen(["/bin/busybox", "sleep", "60"]),
        subprocess.Popen(["/bin/busybox", "sh", "-c", f"echo $$ > {cgroup}/below/cgroup.procs; {fork}"]),
    ]
    (cgroup / "cgroup.procs").write_text(str(processes[0].pid))
    wait_for(lambda: str(processes[1].pid) in (cgroup / "below" / "cgroup.procs").read_text(), "member")
    done(launcher, KillMembers(path=f"{cgroup}/cgroup.procs"))
    assert [process.wait() for process in processes] == [-signal.SIGKILL] * 2
    assert (cgroup / "cgroup.procs").read_text() == (cgroup / "below" / "cgroup.procs").read_text() == ""


def test_the_launcher_goes_on_in_a_v2_cgroup(launcher: Launcher, cgroup: Path) -> None:
    opened = OpenPath(slot="cgroup", path=str(cgroup), flags=abi.OPEN_PATH | abi.OPEN_DIRECTORY)
    script = f"echo $PPID; /bin/busybox cat {cgroup}/cgroup.procs"
    parent, *members = output_of(launcher, script, before=(opened, EnterCgroup(cgroup="cgroup"))).split()
    assert parent in members


def test_devices_are_filtered_in_a_v2_cgroup(launcher: Launcher, cgroup: Path) -> None:
    opened = OpenPath(slot="cgroup", path=str(cgroup), flags=abi.OPEN_PATH | abi.OPEN_DIRECTORY)
    nothing = struct.pack("<BBhi", 0xB7, 0, 0, 0) + struct.pack("<BBhi", 0x95, 0, 0, 0)  # r0 = 0; exit
    script = "/bin/busybox cat /dev/zero | /bin/busybox head -c 0; echo in 0< /dev/null"
    enter = WriteFile(path=f"{cgroup}/cgroup.procs", data=(Hole.PID,))
    wait = (Await(name="in"),)
    before, beside = (opened, FilterDevices(cgroup="cgroup", program=nothing)), (enter, Tell(name="in"))
    said = output_of(launcher, script, *wait, before=before, beside=beside)
    assert said.count("Operation not permitted") == 2
    assert "in\n" in output_of(launcher, script)


# -- the kernel's tables ---------------------------------------------------------------------------


def test_netlink_reads_every_acknowledgement(launcher: Launcher) -> None:
    good, bad = link_up(LOOPBACK_INDEX), link_up(4242)
    op = Netlink(family=abi.NETLINK_ROUTE, messages=good + bad + good, count=3)
    error = failure(launcher, in_child(op, end(), namespaces=abi.CLONE_NEWNET))
    assert (error.op, error.errno) == (op, errno.ENODEV)
    both = Netlink(family=abi.NETLINK_ROUTE, messages=good + good, count=2)
    said = output_of(launcher, "/bin/busybox ip link", both, namespaces=abi.CLONE_NEWNET)
    assert "LOOPBACK,UP" in said


# -- namespaces ------------------------------------------------------------------------------------

KINDS: Final = {
    "mnt": ("--mount", abi.CLONE_NEWNS),
    "net": ("--net", abi.CLONE_NEWNET),
    "ipc": ("--ipc", abi.CLONE_NEWIPC),
    "uts": ("--uts", abi.CLONE_NEWUTS),
    "cgroup": ("--cgroup", abi.CLONE_NEWCGROUP),
    "user": ("--user", abi.CLONE_NEWUSER),
    "pid": ("--pid", abi.CLONE_NEWPID),
    "time": ("--time", abi.CLONE_NEWTIME),
}


@contextmanager
def holder(*flags: str) -> Iterator[int]:
    """Run a process in new namespaces; gives its pid."""
    process = subprocess.Popen(
        ["unshare", "--fork", "--kill-child", *flags, "/bin/busybox", "sh", "-c", "echo $PPID; read x"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    try:
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield int(child)
    finally:
        process.communicate("\n")


@pytest.mark.parametrize("kind", KINDS)
def test_a_namespace_is_joined_by_its_path(kind: str, launcher: Launcher) -> None:
    flag, types = KINDS[kind]
    with holder(flag) as pid:
        path = f"/proc/{pid}/ns/{kind}"
        opened = OpenPath(slot="ns", path=path, flags=abi.OPEN_READ)
        join = SetNamespace(slot="ns", types=types)
        if kind in ("pid", "time"):  # for children: the launcher joins
            said = output_of(launcher, f"/bin/busybox readlink /proc/self/ns/{kind}", before=(opened, join))
        else:
            said = output_of(launcher, f"/bin/busybox readlink /proc/self/ns/{kind}", join, before=(opened,))
        assert said.strip() == os.readlink(path) != os.readlink(f"/proc/self/ns/{kind}")


def test_a_pidfd_joins_several_at_once(launcher: Launcher) -> None:
    with holder("--net", "--uts", "--ipc") as pid:
        reader = os.pidfd_open(pid)
        types = abi.CLONE_NEWNET | abi.CLONE_NEWUTS | abi.CLONE_NEWIPC
        inherit = Inherit(slot="pid", position=0)
        plan = in_child(SetNamespace(slot="pid", types=types), *SLEEP, before=(inherit,))
        child = launcher.run(plan, (reader,))
        os.close(reader)
        for kind in ("net", "uts", "ipc"):
            assert os.readlink(f"/proc/{child}/ns/{kind}") == os.readlink(f"/proc/{pid}/ns/{kind}")
        os.kill(child, signal.SIGKILL)


def test_ids_change_together(launcher: Launcher) -> None:
    script = "/bin/busybox grep -E '^(Uid|Gid|Groups):' /proc/self/status"
    said = output_of(launcher, script, SetIds(uid=1234, gid=2345, groups=(5, 4294967294)))
    assert said.split() == ["Uid:", *["1234"] * 4, "Gid:", *["2345"] * 4, "Groups:", "5", "4294967294"]
    said = output_of(launcher, script, SetIds(uid=1234, gid=2345, groups=None))
    assert said.split()[11:] == [str(group) for group in os.getgroups()]


@pytest.mark.parametrize("ops", [(), (SetUndumpable(),)], ids=["dumpable", "undumpable"])
def test_what_is_undumpable_is_not_looked_into(launcher: Launcher, tmp_path: Path, ops: tuple[Op, ...]) -> None:
    """By a process of the same user, which has all rights that the child has: none."""
    gate, state = tmp_path / "gate", tmp_path / "state"
    os.mkfifo(gate)
    waits = (OpenPath(slot="gate", path=str(gate), flags=abi.OPEN_READ), Await(name="nobody says this"))
    plan = in_child(
        *(NOTHING, *ops, *waits),
        before=(directory("here", tmp_path),),
        beside=(PutFile(at="here", path="state", data=(Hole.PID,)),),
    )
    with ThreadPoolExecutor(1) as pool:
        failed = pool.submit(failure, launcher, plan)
        with gate.open("w"):  # the child has come as far as that
            wait_for(state.exists, "the child's pid")
            pid = state.read_text()
            look = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "readlink", f"/proc/{pid}/exe"]
            seen = subprocess.run(look, capture_output=True, text=True, check=False)
            os.kill(int(pid), signal.SIGKILL)
        failed.result()
    assert (seen.returncode == 0) == (not ops), seen


def test_a_pipe_can_be_opened_anew_by_its_owner(launcher: Launcher) -> None:
    """As in Docker: a server that runs as a user logs to /dev/stdout."""
    script = "echo one > /proc/self/fd/1"
    for uid, expected in ((1234, ""), (0, "Permission denied")):
        pipe = Pipe(reader="r", writer="w", uid=uid)
        stdio = SetStdio(stdin="out", stdout="w", stderr="out")
        run = Exec(candidates=(BUSYBOX,), argv=("sh", "-c", script), env=())
        said = output_of(launcher, "", SetIds(uid=1234, gid=1234), stdio, SealDescriptors(), run, before=(pipe,))
        assert expected in said
        assert bool(said) == bool(expected)


# -- what a caller leaves behind -------------------------------------------------------------------


def ignore(number: int, handler: int) -> None:
    """rt_sigaction(2), past libc, which keeps two signals to itself."""
    numbers = {"x86_64": 13, "aarch64": 134}
    action = (ctypes.c_uint64 * 8)(handler)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.syscall(numbers[os.uname().machine], number, ctypes.byref(action), None, 8) == 0


def test_a_caller_that_ignores_signals_ignores_none_of_the_containers(room: Room) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)}
    ignored = [number for number in range(1, 65) if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD)]
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    already = int(status["SigIgn"], 16)  # Python itself ignores SIGPIPE
    try:
        for number in ignored:
            ignore(number, 1)
        spec = room.spec("sh", "-c", "grep -E 'Sig(Ign|Blk)' /proc/self/status; exit 42")
        plan, run = room.plan(spec)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGALRM})
        running = room.launch(plan, run)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1, signal.SIGALRM})
        for number in ignored:
            ignore(number, already >> (number - 1) & 1)
        for number, handler in before.items():
            signal.signal(number, handler)
    ended = running.wait()
    assert ended.text.split() == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16]
    assert ended.code == 42


CALLER: Final = """
import os, signal, sys
from pathlib import Path
from onggi.host.launcher import Launcher
from tests.containers import BUILD_ID
from tests.tiny_plans import in_child, shell
from onggi.plan.ops import Inherit
signal.signal(signal.SIGCHLD, signal.SIG_IGN) if sys.argv[2] == "sigchld" else None
out = os.open(sys.argv[3], os.O_WRONLY)
for fd in (0, 1, 2) if sys.argv[2] == "closed" else ():
    os.close(fd)
out = os.dup(out) if sys.argv[2] == "closed" else out
plan = in_child(*shell("echo said"), before=(Inherit(slot="out", position=0),))
Launcher(Path(sys.argv[1]), BUILD_ID).run(plan, (out,))
"""


@pytest.mark.parametrize("how", ["usual", "closed", "sigchld"])
def test_a_caller_without_stdio_or_children(how: str, launcher: Launcher, tmp_path: Path) -> None:
    """Plan, status and inherited descriptors may be 0, 1 and 2; they are not taken for stdio."""
    said = tmp_path / "said"
    said.touch()
    done = subprocess.run(
        [sys.executable, "-c", CALLER, launcher.program, how, said],
        cwd=Path(__file__).parent.parent.parent,
        env={**os.environ, "PYTHONPATH": "src:."},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    wait_for(lambda: said.read_text() == "said\n", "the child's word")


def test_a_supervisor_keeps_no_descriptor_of_its_caller(launcher: Launcher) -> None:
    """Somebody's pipe that it held open would never end."""
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    pid = launcher.run(in_child(*SLEEP))
    os.close(writer)
    assert os.read(reader, 1) == b""
    os.close(reader)
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    assert all(os.readlink(f"/proc/{parent}/fd/{number}") == "/dev/null" for number in range(3))
    os.kill(pid, signal.SIGKILL)
