"""Parts of plans that neither the order nor the recorded plans would show: refusals, places, what is clamped."""

from typing import Any

import msgspec
import pytest

from onggi.base.errors import InvalidArgument, NotSupported, OnggiError
from onggi.plan import abi
from onggi.plan.container import Supervision, plan_container, plan_oom_score
from onggi.plan.explain import describe, explain_failure
from onggi.plan.mounts import ROOT, Shown, parse_options
from onggi.plan.namespaces import host_uid, read_namespaces
from onggi.plan.ops import (
    Bind,
    Close,
    Exec,
    Listen,
    MakeDirectory,
    Op,
    Open,
    OpenPath,
    Pipe,
    Plan,
    Supervise,
    Tree,
    WriteFile,
)
from onggi.plan.rootfs import Directory, Overlay
from onggi.plan.slots import plan_closes
from onggi.plan.wire import MAX_RECORDS, encode_plan
from onggi.spec.runtime import (
    Box,
    Linux,
    LinuxDevice,
    LinuxIDMapping,
    LinuxNamespace,
    Mount,
    Process,
    Root,
    Spec,
    User,
)
from tests.plans import FACTS

V2 = FACTS["v2"]
SUPERVISION = Supervision(run_directory="/run/c1")


def spec_of(*, namespaces: tuple[str, ...] = ("mount", "pid"), joined: tuple[str, ...] = (), **parts: Any) -> Spec:
    """A small spec; `parts` are fields of the spec, of its process or of its linux section."""
    of = {
        kind: {name: value for name, value in parts.items() if name in kind.__struct_fields__}
        for kind in (Spec, Process, Linux)
    }
    of[Process] = {name: value for name, value in of[Process].items() if name not in of[Spec]}
    kinds = (*(LinuxNamespace(type=n) for n in namespaces), *(LinuxNamespace(type=n, path=f"/ns/{n}") for n in joined))
    process = Process(**{"args": ("true",), "cwd": "/", **of[Process]})
    linux = Linux(**{"namespaces": kinds, "cgroups_path": "/c1", **of[Linux]})
    return Spec(**{"oci_version": "1.3.0", "process": process, "linux": linux, **of[Spec]})


def plan_of(spec: Spec, root: Overlay | Directory | None = None) -> Plan:
    """Plan it on cgroup v2."""
    return plan_container(spec, root or Directory(path="/rootfs"), SUPERVISION, V2)


MAPS = (LinuxIDMapping(container_id=0, host_id=1000, size=10), LinuxIDMapping(container_id=10, host_id=50, size=5))
REFUSED: dict[str, tuple[Spec, type[OnggiError], str]] = {
    "no process": (Spec(oci_version="1.3.0"), InvalidArgument, "the spec has no process"),
    "relative cwd": (spec_of(cwd="tmp"), InvalidArgument, "process.cwd 'tmp' must be an absolute path"),
    "no command": (spec_of(args=("",)), InvalidArgument, "no command specified"),
    "no uid": (spec_of(user=User(uid=2**32 - 1)), InvalidArgument, "process.user.uid 4294967295 is no id"),
    "no gid": (spec_of(user=User(gid=2**32 - 1)), InvalidArgument, "process.user.gid 4294967295 is no id"),
    "oom score": (spec_of(oom_score_adj=1001), InvalidArgument, "process.oomScoreAdj: 1001 is not between"),
    "host's mounts": (spec_of(namespaces=("pid",)), NotSupported, "without a mount namespace of its own"),
    "twice": (spec_of(namespaces=("mount", "mount")), InvalidArgument, "mount is listed twice"),
    "unknown": (spec_of(namespaces=("mount", "net")), InvalidArgument, "unknown type 'net'"),
    "no maps": (spec_of(namespaces=("mount", "user")), InvalidArgument, "needs linux.uidMappings and"),
    "maps for nothing": (spec_of(uid_mappings=MAPS), InvalidArgument, "need a user namespace in linux.namespaces"),
    "root is not mapped": (
        spec_of(namespaces=("mount", "user"), uid_mappings=MAPS[1:], gid_mappings=MAPS),
        InvalidArgument,
        "uid 0 of the container is not mapped",
    ),
    "host's name": (spec_of(hostname="h"), InvalidArgument, "hostname needs a uts namespace"),
    "host's sysctl": (spec_of(sysctl={"vm.swappiness": "1"}), InvalidArgument, "it would change the host"),
    "sysctl that climbs": (
        spec_of(
            namespaces=("mount", "network"),
            sysctl={"net/../vm/swappiness": "1"},
            mounts=(Mount(destination="/proc", type="proc"),),
        ),
        InvalidArgument,
        "is no name of a sysctl",
    ),
    "device number": (
        spec_of(devices=(LinuxDevice(path="/dev/x", type="c", major=4096, minor=0),)),
        InvalidArgument,
        "no device has the numbers 4096:0",
    ),
    "device path": (spec_of(devices=(LinuxDevice(path="/dev/", type="p"),)), InvalidArgument, "the path names no file"),
    "terminal without devpts": (spec_of(terminal=True), NotSupported, "a terminal needs a devpts mount"),
    "console size": (
        spec_of(
            terminal=True,
            console_size=Box(height=70000, width=1),
            mounts=(Mount(destination="/dev/pts", type="devpts"),),
        ),
        InvalidArgument,
        "no terminal has 70000 rows",
    ),
    "mount source": (
        spec_of(mounts=(Mount(destination="/x", type="ext4", source="/" + "d" * 255),)),
        InvalidArgument,
        "the option source is longer than the kernel's 255 bytes",
    ),
    "masks in somebody's mounts": (
        spec_of(namespaces=("pid",), joined=("mount",), masked_paths=("/proc/kcore",)),
        InvalidArgument,
        "takes it as it is; remove linux.maskedPaths",
    ),
    "read-only root of somebody's": (
        spec_of(namespaces=("pid",), joined=("mount",), root=Root(path="r", readonly=True)),
        InvalidArgument,
        "takes it as it is; remove root.readonly",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused(name: str) -> None:
    spec, kind, text = REFUSED[name]
    with pytest.raises(kind) as caught:
        plan_of(spec)
    assert text in str(caught.value)


def test_an_overlay_of_a_joined_user_namespace_needs_its_maps() -> None:
    overlay = Overlay(lowers=("/l",), upper="/s/u", work="/s/w")
    with pytest.raises(InvalidArgument, match="uid 0 of the container is not mapped"):
        plan_of(spec_of(joined=("user",)), overlay)
    plan = plan_of(spec_of(joined=("user",), uid_mappings=MAPS, gid_mappings=MAPS), overlay)
    assert [op.idmap for op in plan.before if isinstance(op, Open) and op.idmap] == ["ns-user", "ns-user"]


@pytest.mark.parametrize(
    ("mounts", "path", "place"),
    [
        ([], "/proc/kcore", (ROOT, "/proc/kcore")),
        ([("/proc", True)], "/proc/kcore", ("/proc", "kcore")),
        ([("/proc/", True)], "//proc/./sys/x", ("/proc/", "sys/x")),
        ([("/proc", True)], "/proc", (ROOT, "/proc")),
        ([("/proc", True)], "/procedure", (ROOT, "/procedure")),
        ([("/proc", True)], "/proc/../etc", (ROOT, "/proc/../etc")),
        ([("/dev", True), ("/dev/pts", True)], "/dev/pts/0", ("/dev/pts", "0")),
        ([("/dev", True), ("/dev/shm", False)], "/dev/shm/x", (ROOT, "/dev/shm/x")),
        ([("/dev/shm", True), ("/dev", False)], "/dev/shm/x", (ROOT, "/dev/shm/x")),
        ([("/dev/shm", True), ("/dev", True)], "/dev/shm/x", ("/dev", "shm/x")),
        ([("/a/../proc", True)], "/proc/kcore", (ROOT, "/proc/kcore")),
    ],
)
def test_what_lies_in_a_fresh_mount_is_found_beneath_it(
    mounts: list[tuple[str, bool]], path: str, place: tuple[str, str]
) -> None:
    shown = Shown()
    for destination, fresh in mounts:
        shown.add(destination, shown.name(destination), fresh=fresh)
    assert shown.find(path) == place


def test_mounts_over_each_other_have_names_of_their_own() -> None:
    shown = Shown()
    assert [shown.name("/x") for _ in range(3)] == ["/x", "/x#2", "/x#3"]


def test_options_are_sorted_and_the_last_one_counts() -> None:
    options = parse_options(
        ("ro", "nosuid", "rw", "rro", "rnoexec", "rslave", "shared", "size=1k", "noatime"), where="/x"
    )
    assert options.set == abi.MOUNT_ATTR_NOSUID | abi.MOUNT_ATTR_NOATIME
    assert options.clear == abi.MOUNT_ATTR_RDONLY | abi.MOUNT_ATTR__ATIME
    assert options.recursive_set == abi.MOUNT_ATTR_RDONLY | abi.MOUNT_ATTR_NOEXEC
    assert (options.propagation, options.recursive_propagation) == (abi.MS_SHARED, False)
    assert options.data == (("size", "1k"),)


def test_a_hosts_sysfs_is_read_only_whatever_was_asked() -> None:
    """The container's user namespace does not own the network namespace: the kernel gives no fresh one."""
    mounts = (Mount(destination="/sys", type="sysfs", options=("rw", "nosuid")),)
    spec = spec_of(namespaces=("mount", "user"), uid_mappings=MAPS, gid_mappings=MAPS, mounts=mounts)
    (opened,) = (op for op in plan_of(spec).before if isinstance(op, Open) and op.slot == "/sys")
    assert opened.origin == Tree(path="/sys", recursive=True)
    assert opened.recursive_set & abi.MOUNT_ATTR_RDONLY
    assert not opened.clear & abi.MOUNT_ATTR_RDONLY
    assert (opened.propagation, opened.recursive_propagation) == (abi.MS_PRIVATE, True)


@pytest.mark.parametrize(("held", "asked", "written"), [(True, -500, -500), (False, -500, 100), (False, 300, 300)])
def test_an_oom_score_below_ours_needs_a_right(held: bool, asked: int, written: int) -> None:
    right = 1 << abi.CAPABILITIES.index("CAP_SYS_RESOURCE")
    capabilities = V2.capabilities if held else V2.capabilities & ~right
    facts = msgspec.structs.replace(V2, capabilities=capabilities, oom_score_adj=100)
    (op,) = plan_oom_score(Process(cwd="/", oom_score_adj=asked), facts)
    assert op == WriteFile(at="child", path="oom_score_adj", data=str(written).encode())


def test_a_user_owns_its_pipes_by_the_hosts_id() -> None:
    linux = Linux(uid_mappings=MAPS)
    assert [host_uid(uid, linux) for uid in (0, 9, 10, 14, 15)] == [1000, 1009, 50, 54, 0]
    plan = plan_of(spec_of(user=User(uid=12), namespaces=("mount", "user"), uid_mappings=MAPS, gid_mappings=MAPS))
    assert {op.uid for op in plan.before if isinstance(op, Pipe)} == {52}
    plan = plan_of(spec_of(user=User(uid=12)))
    assert {op.uid for op in plan.before if isinstance(op, Pipe)} == {12}


def test_a_caller_in_a_user_namespace_makes_no_nodes() -> None:
    facts = msgspec.structs.replace(V2, cgroup=msgspec.structs.replace(V2.cgroup, user_namespace=True))
    plan = plan_container(spec_of(), Directory(path="/rootfs"), SUPERVISION, facts)
    assert "mknod" not in " ".join(describe(op) for op in plan.child)


def test_namespaces_know_who_owns_the_network() -> None:
    def owns(made: tuple[str, ...], joined: tuple[str, ...]) -> bool:
        spec = spec_of(namespaces=("mount", *made), joined=joined)
        assert spec.linux is not None
        maps = MAPS if "user" in made else None
        return read_namespaces(msgspec.structs.replace(spec.linux, uid_mappings=maps, gid_mappings=maps), V2).owns_netns

    assert owns((), ())
    assert owns(("network", "user"), ())
    assert owns((), ("network", "user"))
    assert not owns(("user",), ())
    assert not owns(("user",), ("network",))
    assert not owns((), ("user",))


def test_what_nobody_needs_any_more_is_closed() -> None:
    done: tuple[Op, ...] = (
        OpenPath(slot="run", path="/run", flags=0),
        OpenPath(slot="a", path="/a", flags=0),
        Close(slot="a"),
        Pipe(reader="take", writer="give"),
        Listen(slot="listener", at="run", path="attach"),
        Bind(slot="port", datagram=False, address="127.0.0.1", port=80),
        OpenPath(slot="lock", path="/lock", flags=0),
    )
    closed = plan_closes(done, (Supervise(child="pidfd", stdout="take", listener="listener"),), keep=("lock",))
    assert closed == (Close(slot="run"), Close(slot="give"))


def test_names_cannot_write_to_the_terminal() -> None:
    """Arguments, paths and hostnames are anybody's; a plan is read on a terminal, an op is one line."""
    run = Exec(candidates=("/x",), argv=("a\nb\x1b[2J", "\udcff\u202e"), env=())
    assert describe(run) == r"exec 'a\x0ab\x1b[2J' '\xff\u202e'"
    plan = Plan(before=(MakeDirectory(path="/a\rb"),), child=(), beside=(), after=())
    assert explain_failure(plan, 0, 2).startswith(r"mkdir /a\x0db mode 755: no such file")


def test_a_plan_that_no_launcher_would_take_is_refused_here() -> None:
    too_many = Plan(before=(Close(slot="x"),) * (MAX_RECORDS + 1), child=(), beside=(), after=())
    with pytest.raises(InvalidArgument, match="the plan is too large: 4097 records"):
        encode_plan(too_many, "0" * 16)
    with pytest.raises(InvalidArgument, match="contains a NUL byte"):
        encode_plan(Plan(before=(MakeDirectory(path="/a\0b"),), child=(), beside=(), after=()), "0" * 16)
