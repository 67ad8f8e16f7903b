"""Whole containers on the real kernel: what their processes see, and what is left of them."""

import errno
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from onggi.host.locks import probe_lock
from onggi.plan import abi
from onggi.plan.rootfs import Directory
from onggi.runtime import defaults
from onggi.spec.container import (
    IdMapRequest,
    MountRequest,
    ResourceRequest,
    Ulimit,
)
from onggi.spec.passwd import Identity
from onggi.spec.runtime import Linux, LinuxNamespace, Spec
from tests.containers import Room, Running, run_in, wait_for

MAPS: Final = (IdMapRequest(container=0, host=100000, size=65536),)
USERNS: Final[dict[str, Any]] = {"uid_map": MAPS, "gid_map": MAPS}
WWW: Final = Identity(uid=82, gid=82, groups=(29,), home="/var/www")
FILES: Final = {"mount": "mnt", "network": "net"}


def mask_of(*names: str) -> str:
    """The bits of capabilities as /proc/PID/status has them."""
    return f"{sum(1 << abi.CAPABILITIES.index(name) for name in names):016x}"


def status_of(text: str) -> dict[str, str]:
    """Read lines of /proc/PID/status."""
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {key: value.strip() for key, _, value in pairs}


def mountinfo(text: str) -> dict[str, tuple[str, set[str]]]:
    """Give file system type and attributes by mount point."""
    mounts = {}
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        mounts[left.split()[4]] = (right.split()[0], set(left.split()[5].split(",")))
    return mounts


# -- namespaces ------------------------------------------------------------------------------------


def test_namespaces_are_new(room: Room) -> None:
    kinds = ("mount", "pid", "network", "ipc", "uts", "cgroup", "user", "time")
    names = " ".join(FILES.get(kind, kind) for kind in kinds)
    script = f"for n in {names}; do readlink /proc/self/ns/$n; done"
    own = [os.readlink(f"/proc/self/ns/{name}") for name in names.split()]
    ended = room.shell(script, cgroupns="private", time_offsets={"boottime": 1}, **USERNS)
    seen = ended.text.split()
    assert [link.partition(":")[0] for link in seen] == [link.partition(":")[0] for link in own]
    assert not set(seen) & set(own)
    shared = room.shell(script, cgroupns="host", network="host", pid="host", ipc="host", uts="host").text.split()
    same = {link.partition(":")[0] for link in set(shared) & set(own)}
    assert same == {"pid", "net", "ipc", "uts", "cgroup", "user", "time"}


def test_the_network_namespace_has_its_loopback_up(room: Room) -> None:
    text = room.shell("ip -o link").text
    assert "lo: <LOOPBACK,UP,LOWER_UP>" in text
    assert text.count("\n") == 1


PING: Final = """
import os, socket, struct
os.setgroups([]), os.setgid(4242), os.setuid(4242)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
s.settimeout(10)
s.sendto(struct.pack("!BBHHH", 8, 0, 0, 0, 1), ("127.0.0.1", 0))
print(s.recv(100)[0])
"""


def test_ping_needs_no_capability(room: Room) -> None:
    running = waiting(room)
    assert run_in(running.pid, sys.executable, "-c", PING, flags=("-n",)) == "0\n"
    running.send(b"i", b"\n")
    running.wait()


def test_a_clock_is_shifted(room: Room) -> None:
    before = float(Path("/proc/uptime").read_text().split()[0])
    seen = float(room.shell("cat /proc/uptime", time_offsets={"boottime": 86400, "monotonic": 5}).text.split()[0])
    assert 86400 <= seen - before < 86500


def test_hostname_and_domainname(room: Room) -> None:
    text = room.shell("hostname; cat /proc/sys/kernel/domainname", hostname="onggi", domainname="example.org").text
    assert text == "onggi\nexample.org\n"
    assert os.uname().nodename != "onggi"


def waiting(room: Room, **request: Any) -> Running:
    """Start a container that waits for a line."""
    running = room.start(room.spec("sh", "-c", "echo up; read x", stdin_open=True, **request), stdin=True)
    running.read_until(b"up\n")
    return running


def joined_spec(room: Room, command: str, kinds: dict[str, int], made: tuple[str, ...] = ("mount",)) -> Spec:
    """A spec that joins namespaces of other processes, by pid."""
    spec = room.spec("sh", "-c", command, hostname="")
    assert spec.linux is not None
    paths = {kind: f"/proc/{pid}/ns/{FILES.get(kind, kind)}" for kind, pid in kinds.items()}
    namespaces = [LinuxNamespace(type=kind) for kind in made]
    namespaces += [LinuxNamespace(type=kind, path=path) for kind, path in paths.items()]
    linux = msgspec.structs.replace(spec.linux, namespaces=tuple(namespaces), sysctl=None)
    mounts = tuple(m for m in spec.mounts or () if m.type not in ("cgroup",))
    return msgspec.structs.replace(spec, linux=linux, mounts=mounts, hostname=None)


def test_namespaces_of_a_container_are_joined(room: Room) -> None:
    first = waiting(room, hostname="first")
    kinds = ("network", "ipc", "uts", "pid")
    script = "for n in net ipc uts pid mnt; do readlink /proc/self/ns/$n; done; hostname; ps"
    ended = room.start(joined_spec(room, script, dict.fromkeys(kinds, first.pid))).wait()
    lines = ended.text.splitlines()
    assert lines[:4] == [os.readlink(f"/proc/{first.pid}/ns/{name}") for name in ("net", "ipc", "uts", "pid")]
    assert lines[4] not in (os.readlink(f"/proc/{first.pid}/ns/mnt"), os.readlink("/proc/self/ns/mnt"))
    assert lines[5] == "first"
    assert "read x" in ended.text
    first.send(b"i", b"\n")
    assert first.wait().code == 0


def test_a_time_namespace_is_joined(room: Room) -> None:
    first = room.start(
        room.spec("sh", "-c", "echo up; read x", stdin_open=True, time_offsets={"boottime": 86400}), stdin=True
    )
    first.read_until(b"up\n")
    before = float(Path("/proc/uptime").read_text().split()[0])
    spec = joined_spec(room, "cat /proc/uptime; readlink /proc/self/ns/time", {"time": first.pid}, ("mount", "pid"))
    uptime, _, link = room.start(spec).wait().text.partition("\n")
    assert float(uptime.split()[0]) - before > 86000
    assert link.strip() == os.readlink(f"/proc/{first.pid}/ns/time")
    first.send(b"i", b"\n")
    assert first.wait().code == 0


def test_a_container_of_a_pod_with_a_user_namespace(room: Room) -> None:
    """It joins the pod's user namespace and makes the others in there, so that its root has the rights over them."""
    pod = waiting(room, **USERNS)
    kinds = dict.fromkeys(("user", "network", "ipc", "uts"), pod.pid)
    script = "for n in user net pid mnt; do readlink /proc/self/ns/$n; done; echo $$; touch /new; ls -ln /new; mount"
    spec = joined_spec(room, script, kinds, ("mount", "pid", "cgroup"))
    assert spec.linux is not None
    maps = room.spec("true", **USERNS).linux
    assert maps is not None
    linux = msgspec.structs.replace(spec.linux, uid_mappings=maps.uid_mappings, gid_mappings=maps.gid_mappings)
    plan, run = room.plan(msgspec.structs.replace(spec, linux=linux))
    ended = room.launch(plan, run).wait()
    assert ended.errors == b""
    lines = ended.text.splitlines()
    assert lines[:2] == [os.readlink(f"/proc/{pod.pid}/ns/{name}") for name in ("user", "net")]
    assert lines[2] not in (os.readlink(f"/proc/{pod.pid}/ns/pid"), os.readlink("/proc/self/ns/pid"))
    assert lines[4] == "1"
    assert lines[5].split()[2:4] == ["0", "0"]
    new = (run.parent / "upper" / "new").stat()
    assert (new.st_uid, new.st_gid) == (0, 0)
    pod.send(b"i", b"\n")
    assert pod.wait().code == 0


def test_a_mount_namespace_is_joined_as_it_is(room: Room) -> None:
    first = room.start(room.spec("sh", "-c", "echo mark > /mark; echo up; read x", stdin_open=True), stdin=True)
    first.read_until(b"up\n")
    kinds = dict.fromkeys(("mount", "network", "ipc", "uts", "pid"), first.pid)
    spec = joined_spec(room, "cat /mark; ls -d /proc/1", kinds, ())
    linux = Linux(
        namespaces=spec.linux.namespaces if spec.linux else None,
        cgroups_path=spec.linux.cgroups_path if spec.linux else None,
    )
    ended = room.start(msgspec.structs.replace(spec, linux=linux, mounts=None, root=None)).wait()
    assert (ended.text, ended.errors) == ("mark\n/proc/1\n", b"")
    first.send(b"i", b"\n")
    assert first.wait().code == 0


# -- files -----------------------------------------------------------------------------------------


def test_the_mounts_are_the_containers_own(room: Room) -> None:
    mounts = mountinfo(room.shell("cat /proc/self/mountinfo", unmask_system_paths=True).text)
    kinds = {point: kind for point, (kind, _) in mounts.items() if not point.startswith("/sys/fs/cgroup/")}
    assert kinds == {
        "/": "overlay",
        "/proc": "proc",
        "/dev": "tmpfs",
        "/dev/pts": "devpts",
        "/dev/shm": "tmpfs",
        "/dev/mqueue": "mqueue",
        "/sys": "sysfs",
        "/sys/fs/cgroup": "tmpfs" if room.facts.cgroup.layout != "v2" else "cgroup2",
    }
    assert {"ro", "nosuid", "nodev", "noexec"} <= mounts["/sys"][1] & mounts["/sys/fs/cgroup"][1]
    assert {"rw", "nosuid", "nodev", "noexec"} <= mounts["/proc"][1] & mounts["/dev/shm"][1]
    hierarchies = {point.rpartition("/")[2] for point in mounts if point.startswith("/sys/fs/cgroup/")}
    if room.facts.cgroup.layout != "v2":
        assert hierarchies == {*room.facts.cgroup.controllers, *room.facts.cgroup.named} - {
            name for name, h in room.facts.cgroup.controllers.items() if h.version == 2
        }
    for point in mounts:
        if point.startswith("/sys/fs/cgroup/"):
            assert "ro" in mounts[point][1]


def test_nothing_is_mounted_on_the_host(room: Room) -> None:
    def own() -> list[str]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [line for line in lines if str(room.directory) in line or str(room.rootfs) in line]

    assert own() == []
    running = waiting(room)
    assert own() == []
    assert str(room.directory) in Path(f"/proc/{running.pid}/mountinfo").read_text()
    running.send(b"i", b"\n")
    running.wait()


def test_system_paths_are_masked_and_read_only(room: Room) -> None:
    script = "cat /proc/keys /proc/timer_list /proc/interrupts; ls -A /proc/acpi /sys/firmware | grep -v :; "
    script += "for f in /proc/sysrq-trigger /proc/sys/kernel/hostname /proc/irq/default_smp_affinity /proc/bus/x; "
    script += "do echo 1 > $f; done; chmod 600 /proc/keys /proc/timer_list"
    ended = room.shell(script, privileged=False)
    assert ended.text.strip() == ""
    assert ended.errors.count(b"Read-only file system") + ended.errors.count(b"nonexistent directory") == 6
    assert stat.S_IMODE(Path("/dev/null").stat().st_mode) == 0o666
    assert room.shell("wc -l < /proc/interrupts", unmask_system_paths=True).text.strip() != "0"


def test_devices(room: Room) -> None:
    script = "cd /dev; stat -c '%n %F %t:%T %a' null zero full random urandom tty; "
    script += "for l in fd stdin stdout stderr ptmx; do readlink $l; done; "
    script += "head -c 4 /dev/zero | wc -c; echo x > /dev/full"
    ended = room.shell(script)
    assert ended.text.splitlines() == [
        *(
            f"{name} character special file {major:x}:{minor:x} 666"
            for name, major, minor in (
                ("null", 1, 3),
                ("zero", 1, 5),
                ("full", 1, 7),
                ("random", 1, 8),
                ("urandom", 1, 9),
                ("tty", 5, 0),
            )
        ),
        *("/proc/self/fd", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2", "pts/ptmx"),
        "4",
    ]
    assert b"No space left on device" in ended.errors


def test_a_device_that_was_not_given_is_refused(room: Room) -> None:
    """The node can be made with CAP_MKNOD; opening it is what the cgroup forbids."""
    script = (
        "mknod /dev/kmsg-of-mine c 1 11 && head -c 1 < /dev/kmsg-of-mine; mknod /dev/n c 1 3 && cat /dev/n && echo fine"
    )
    ended = room.shell(script, cap_add=("MKNOD",))
    assert b"Operation not permitted" in ended.errors
    assert ended.text == "fine\n"


def test_a_read_only_root(room: Room) -> None:
    mounts = (MountRequest(type="tmpfs", target="/tmp"),)
    script = "touch /x; touch /etc/x; touch /tmp/x /dev/shm/x && echo written"
    ended = room.shell(script, read_only=True, mounts=mounts)
    assert ended.errors.count(b"Read-only file system") == 2
    assert ended.text == "written\n"


def test_what_is_written_is_in_the_upper_directory(room: Room) -> None:
    plan, run = room.plan(room.spec("sh", "-c", "echo new > /new; rm /etc/group; echo more >> /etc/passwd"))
    assert room.launch(plan, run).wait().code == 0
    upper = run.parent / "upper"
    assert (upper / "new").read_text() == "new\n"
    assert stat.S_ISCHR((upper / "etc" / "group").stat().st_mode)
    assert (upper / "etc" / "passwd").read_text() == (room.rootfs / "etc" / "passwd").read_text() + "more\n"
    assert (room.rootfs / "etc" / "group").exists()


def test_binds(room: Room) -> None:
    source = room.place("source")
    (source / "file").write_text("from the host\n")
    (source / "below").mkdir()
    mounts = (
        MountRequest(type="bind", source=str(source), target="/rw"),
        MountRequest(type="bind", source=str(source), target="/new/ro", read_only=True),
        MountRequest(type="bind", source=f"{source}/file", target="/etc/one"),
    )
    script = "cat /etc/one; echo back > /rw/back; touch /new/ro/x; touch /new/ro/below/x; echo changed > /etc/one"
    ended = room.shell(script, mounts=mounts)
    assert ended.text == "from the host\n"
    assert ended.errors.count(b"Read-only file system") == 2
    assert (source / "back").read_text() == "back\n"
    assert (source / "file").read_text() == "changed\n"


@pytest.fixture
def shared(room: Room) -> Iterator[Path]:
    """Give a directory that is a shared mount, as everything is on a host with systemd."""
    path = room.place("shared")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", path], check=True)
    subprocess.run(["mount", "--make-shared", path], check=True)
    (path / "sub").mkdir()
    yield path
    subprocess.run(["umount", "-R", path], check=True)


@pytest.mark.parametrize("propagation", ["", "rprivate", "rslave", "rshared"])
def test_mounts_propagate_as_was_asked(propagation: str, room: Room, shared: Path) -> None:
    (shared / "later").mkdir()
    mounts = (MountRequest(type="bind", source=str(shared), target="/x", propagation=propagation),)
    script = "mount -t tmpfs tmpfs /x/sub && touch /x/sub/inside; echo up; read x; ls /x/later"
    running = room.start(room.spec("sh", "-c", script, privileged=True, mounts=mounts, stdin_open=True), stdin=True)
    running.read_until(b"up\n")
    assert (shared / "sub" / "inside").exists() == (propagation == "rshared")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", shared / "later"], check=True)
    (shared / "later" / "outside").touch()
    running.send(b"i", b"\n")
    assert ("outside" in running.wait().text) == (propagation in ("rslave", "rshared"))


def test_a_bundles_directory_as_the_root(room: Room) -> None:
    bundle = room.place("bundle")
    (bundle / "rootfs").mkdir()
    subprocess.run(["cp", "-a", f"{room.rootfs}/.", bundle / "rootfs"], check=True)
    spec = room.spec("sh", "-c", "touch /new; cat /proc/self/mountinfo")
    root = Directory(path=str(bundle / "rootfs"))
    ended = room.start(spec, root).wait()
    assert (bundle / "rootfs" / "new").exists()
    assert "/" in mountinfo(ended.text)
    assert {path.name for path in (bundle / "rootfs" / "dev").iterdir()} == set()


OLD_PROFILE: Final = """
{"defaultAction": "SCMP_ACT_ALLOW",
 "syscalls": [{"names": ["close_range"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}
"""


@pytest.mark.parametrize("profile", [None, OLD_PROFILE], ids=["default", "old"])
@pytest.mark.parametrize("init", [False, True], ids=["payload", "init"])
def test_no_descriptor_of_ours_reaches_the_container(init: bool, profile: str | None, room: Room) -> None:
    """CVE-2024-21626: not even for a moment, and whatever the container's seccomp profile knows."""
    for _ in range(5 if init else 1):
        text = room.shell("for p in 1 $$; do ls -l /proc/$p/fd; done", init=init, seccomp=profile).text
        links = [line.split()[-3:] for line in text.splitlines() if "->" in line]
        # A socket cannot be opened there; an init closes its own a moment after the payload runs.
        links = [link for link in links if not (init and link[-1].startswith("socket:"))]
        assert [number for number, _, _ in links] == ["0", "1", "2"] * 2
        assert {re.sub(r"\d+", "", link) for _, _, link in links} == {"/dev/null", "pipe:[]"}


def test_the_init_cannot_be_overwritten(room: Room) -> None:
    """CVE-2019-5736: a handle of /proc/PID/exe, reopened for writing once the program does not run any more."""
    script = "echo up; echo x > /proc/1/exe; read x"
    running = room.start(room.spec("sh", "-c", script, init=True, stdin_open=True), init=True, stdin=True)
    running.read_until(b"up\n")
    assert os.stat(f"/proc/{running.pid}/exe").st_ino == os.stat(room.launcher.program).st_ino
    handle = os.open(f"/proc/{running.pid}/exe", os.O_PATH)
    running.send(b"i", b"\n")
    running.wait()
    wait_for(lambda: not Path(f"/proc/{running.pid}").exists(), "the end of the init")
    with pytest.raises(OSError, match="Read-only") as caught:
        os.open(f"/proc/self/fd/{handle}", os.O_WRONLY)
    assert caught.value.errno == errno.EROFS
    assert os.stat(handle).st_ino == os.stat(room.launcher.program).st_ino  # it is the very file, not a copy
    os.close(handle)
    os.close(os.open(room.launcher.program, os.O_WRONLY | os.O_APPEND))


# -- identity and privileges -----------------------------------------------------------------------


def test_capabilities(room: Room) -> None:
    status = status_of(room.shell("cat /proc/self/status").text)
    own = mask_of(*defaults.CAPABILITIES)
    assert [status[key] for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")] == [
        "0" * 16,
        own,
        own,
        own,
        "0" * 16,
    ]
    status = status_of(room.shell("cat /proc/self/status", cap_drop=("ALL",), cap_add=("NET_RAW", "kill")).text)
    assert status["CapEff"] == status["CapBnd"] == mask_of("CAP_NET_RAW", "CAP_KILL")
    status = status_of(room.shell("cat /proc/self/status", identity=WWW).text)
    assert (status["CapEff"], status["CapPrm"], status["CapBnd"]) == ("0" * 16, "0" * 16, own)


def test_identity(room: Room) -> None:
    script = "id -u; id -g; id -G; echo $HOME; touch /tmp/mine && stat -c %u:%g /tmp/mine; echo err >> /dev/stderr"
    ended = room.shell(script, identity=WWW)
    assert ended.text.splitlines() == ["82", "82", "82 29", "/var/www", "82:82"]
    assert ended.errors == b"err\n"


def test_seccomp(room: Room) -> None:
    script = "grep Seccomp: /proc/self/status; unshare -U true; mount -t tmpfs t /mnt; ls > /dev/null && echo works"
    ended = room.shell(script, cap_add=("SYS_CHROOT",))
    assert ended.text.split() == ["Seccomp:", "2", "works"]
    assert ended.errors.lower().count(b"permi") == 2
    free = room.shell("grep Seccomp: /proc/self/status; unshare -U id -u", seccomp="unconfined")
    assert free.text.split() == ["Seccomp:", "0", "65534"]


@pytest.mark.parametrize("identity", [Identity(), WWW], ids=["root", "user"])
@pytest.mark.parametrize("confined", [False, True])
def test_no_new_privileges_and_seccomp(confined: bool, identity: Identity, room: Room) -> None:
    status = status_of(room.shell("cat /proc/self/status", no_new_privileges=confined, identity=identity).text)
    assert (status["NoNewPrivs"], status["Seccomp"]) == (str(int(confined)), "2")


def test_privileged(room: Room) -> None:
    status = room.shell("cat /proc/self/status; mount -t tmpfs t /tmp && echo mounted", privileged=True)
    fields = status_of(status.text)
    assert int(fields["CapEff"], 16) == room.facts.capabilities
    assert fields["Seccomp"] == "0"
    assert "mounted" in status.text


def test_limits(room: Room) -> None:
    ulimits = (Ulimit(name="nofile", soft=100, hard=200), Ulimit(name="core", soft=0, hard=0))
    ended = room.shell(
        "ulimit -Sn; ulimit -Hn; ulimit -c; cat /proc/self/oom_score_adj", ulimits=ulimits, oom_score_adj=500
    )
    assert ended.text.split() == ["100", "200", "0", "500"]


def test_sysctls(room: Room) -> None:
    files = "/proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax /proc/sys/net/ipv4/ping_group_range"
    host = Path("/proc/sys/kernel/shmmax").read_text()
    ended = room.shell(f"cat {files}", sysctls={"net.ipv4.ip_forward": "1", "kernel.shmmax": "12345678"})
    assert ended.text.split() == ["1", "12345678", "0", "2147483647"]
    assert Path("/proc/sys/kernel/shmmax").read_text() == host


def test_working_directory_umask_and_environment(room: Room) -> None:
    ended = room.shell("pwd; umask; env | sort", workdir="/var/tmp", env=("A=b c", "EMPTY=", "TERM"), hostname="h")
    assert ended.text.splitlines()[:2] == ["/var/tmp", "0022"]
    variables = dict(line.split("=", 1) for line in ended.text.splitlines()[2:])
    assert variables["A"] == "b c"
    assert variables["EMPTY"] == ""
    assert "TERM" not in variables
    assert not [name for name in variables if name.startswith("ONGGI")]


def test_a_user_namespace(room: Room) -> None:
    """Ids are mapped in the container, files are root's on disk, and the overlay is not silently read-only."""
    script = (
        "cat /proc/self/uid_map; id -u; touch /new && stat -c %u /new /etc/passwd; chown 82 /new; touch /etc/more; "
    )
    script += "rm -r /var/tmp && mkdir /var/tmp && ls -A /var/tmp; grep CapEff /proc/self/status"
    plan, run = room.plan(room.spec("sh", "-c", script, **USERNS))
    running = room.launch(plan, run)
    ended = running.wait()
    assert ended.errors == b""
    assert ended.text.split() == [*("0", "100000", "65536", "0", "0", "0"), "CapEff:", mask_of(*defaults.CAPABILITIES)]
    upper = run.parent / "upper"
    owners = {
        name: ((upper / name).stat().st_uid, (upper / name).stat().st_gid) for name in ("new", "etc/more", "var/tmp")
    }
    assert owners == {"new": (82, 0), "etc/more": (0, 0), "var/tmp": (0, 0)}
    opaque = os.getxattr(upper / "var" / "tmp", "trusted.overlay.opaque")
    assert opaque == b"y"


def test_a_user_of_a_user_namespace(room: Room) -> None:
    script = "id -u; id -G; touch /tmp/x && stat -c %u /tmp/x; cat /proc/self/uid_map; echo more >> /dev/stdout"
    ended = room.shell(script, identity=WWW, **USERNS)
    assert ended.text.split() == ["82", "82", "29", "82", "0", "100000", "65536", "more"]


def test_the_process_is_somebody_else_on_the_host(room: Room) -> None:
    running = waiting(room, **USERNS)
    assert Path(f"/proc/{running.pid}").stat().st_uid == 100000
    running.send(b"i", b"\n")
    running.wait()


# -- terminal, init, end ---------------------------------------------------------------------------


def test_a_terminal(room: Room) -> None:
    script = "tty; stty size; stat -c '%n %t:%T %u' /dev/console; test -t 2 && echo all; "
    script += "read line; echo got $line; stty size"
    spec = room.spec("sh", "-c", script, tty=True, console_size=(33, 77), stdin_open=True, identity=WWW)
    running = room.start(spec)
    running.read_until(b"all\r\n")
    running.send(b"r", b"\x14\x00\x50\x00")
    running.send(b"i", b"word\r")
    lines = running.wait().output.replace(b"\r\n", b"\n").decode().splitlines()
    assert lines == ["/dev/pts/0", "33 77", "/dev/console 88:0 82", "all", "word", "got word", "20 80"]


def test_a_terminal_is_the_sessions_own(room: Room) -> None:
    """Job control works: ^C reaches the foreground group through the terminal."""
    spec = room.spec("sh", "-c", "trap 'echo caught; exit 7' INT; echo up; while :; do sleep 0.01; done", tty=True)
    running = room.start(spec)
    running.read_until(b"up\r\n")
    running.send(b"i", b"\x03")
    ended = running.wait()
    assert (ended.code, b"caught" in ended.output) == (7, True)


def test_an_init_reaps_and_passes_signals_on(room: Room) -> None:
    orphans = "for i in 1 2 3 4 5; do (sh -c 'sleep 0.01' &); done; trap 'echo term; exit 9' TERM; "
    gone = "while grep -qs '^Name:.sleep\\|zombie' /proc/[0-9]*/status; do :; done; "
    script = f"{orphans} {gone} echo up $$; while :; do sleep 0.01; done"
    running = room.start(room.spec("sh", "-c", script, init=True), init=True)
    running.read_until(b"up 2\n")
    running.signal(signal.SIGTERM)
    ended = running.wait()
    assert (ended.code, ended.text) == (9, "up 2\nterm\n")


@pytest.mark.parametrize(
    ("script", "code", "number"),
    [("exit 0", 0, 0), ("exit 42", 42, 0), ("kill -TERM $$", 0, 0), ("exec kill-me", 127, 0)],
)
def test_exit_codes(script: str, code: int, number: int, room: Room) -> None:
    """The first process of a pid namespace does not see signals that it does not handle, not even its own."""
    ended = room.shell(script)
    assert (ended.code, ended.signal) == (code, number)
    assert (ended.record.code, ended.record.signal) == (code, number)


def test_a_signal_that_ends_it_is_recorded(room: Room) -> None:
    running = waiting(room)
    running.signal(signal.SIGKILL)
    ended = running.wait()
    assert (ended.code, ended.signal, ended.record.status) == (0, signal.SIGKILL, 137)
    assert ended.record.at_ns > 10**18


def test_the_out_of_memory_killer_is_noticed(room: Room) -> None:
    limits = ResourceRequest(memory_bytes=16 << 20, memory_swap_bytes=16 << 20)
    ended = room.shell("tail /dev/zero; echo $?", resources=limits)
    assert ended.text == "137\n"
    assert ended.record.oom_killed
    assert not room.shell("true", resources=limits).record.oom_killed


def test_the_end_takes_everything_along(room: Room) -> None:
    """Processes that would stay, cgroups, and what was to be removed."""
    extra = room.place("extra")
    (extra / "file").touch()
    spec = room.spec("sh", "-c", "sleep 60 & echo up", pid="host")
    plan, run = room.plan(spec, remove=(str(extra),))
    ended = room.launch(plan, run).wait()
    assert ended.text == "up\n"
    assert not extra.exists()
    assert spec.linux is not None
    assert list(Path("/sys/fs/cgroup").glob(f"*{spec.linux.cgroups_path}")) == []


def test_a_supervisor_that_is_killed_takes_its_container_along(room: Room) -> None:
    for identity in (Identity(), WWW):
        running = room.start(room.spec("sh", "-c", "echo up; sleep 60", identity=identity))
        running.read_until(b"up\n")
        supervisor = int(Path(f"/proc/{running.pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(supervisor, signal.SIGKILL)
        assert running.hear() == (b"", b"")
        running.close()
        wait_for(lambda running=running: not Path(f"/proc/{running.pid}").exists(), "the container's end")
        assert not probe_lock(f"{running.run}/lock")


def test_a_supervisor_holds_few_descriptors(room: Room) -> None:
    held = os.open(room.directory, os.O_RDONLY)
    plan, run = room.plan(room.spec("sh", "-c", "echo up; read x", stdin_open=True), stdin=True, hold=1)
    running = room.launch(plan, run, held)
    os.close(held)
    running.read_until(b"up\n")
    supervisor = int(Path(f"/proc/{running.pid}/stat").read_text().rpartition(")")[2].split()[1])
    links = [os.readlink(path) for path in Path(f"/proc/{supervisor}/fd").iterdir()]
    assert str(room.directory) in links
    assert not [link for link in links if "upper" in link or "rootfs" in link or link == "/"]
    # stdio, run directory, lock, socket, client, log directory and file, held, three pipes, pidfd, four namespaces
    assert len(links) <= 18, links
    running.send(b"i", b"\n")
    running.wait()


# -- cgroup v2 -------------------------------------------------------------------------------------

V2: Final = """
import sys
from pathlib import Path
from onggi.host.launcher import Launcher
from onggi.host.probe import probe_facts
from tests.containers import BUILD_ID, Room
facts = probe_facts()
assert facts.cgroup.layout == "v2", facts.cgroup
with Room(Launcher(Path(sys.argv[1]), BUILD_ID), facts, Path(sys.argv[2]), Path(sys.argv[3])) as room:
    script = "cat /proc/self/cgroup; grep ' cgroup2 ' /proc/self/mountinfo | cut -d' ' -f5; "
    script += "mknod /dev/k c 1 11; cat < /dev/k"
    ended = room.shell(script, cap_add=("MKNOD",))
    sys.stdout.buffer.write(ended.output)
    sys.stderr.buffer.write(ended.errors)
"""


def test_on_cgroup_v2(room: Room) -> None:
    """In a mount namespace that shows only the unified hierarchy: born in the cgroup, a namespace of its own, eBPF."""
    if room.facts.cgroup.unified is None:
        pytest.skip("needs cgroup2")
    command = [sys.executable, "-c", V2, room.launcher.program, str(room.place("v2")), str(room.rootfs)]
    script = 'umount -R /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *command],
        cwd=Path(__file__).parent.parent.parent,
        env={**os.environ, "PYTHONPATH": "src:."},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.splitlines()[-2:] == ["0::/", "/sys/fs/cgroup"], done.stderr
    assert "Operation not permitted" in done.stderr
