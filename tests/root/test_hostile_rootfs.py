"""Images that would lead the set-up astray: the host stays as it is, and what was promised holds in the container."""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from onggi.host.launcher import LaunchFailed
from onggi.plan.rootfs import Directory
from onggi.runtime import defaults
from onggi.spec.container import MountRequest
from onggi.spec.runtime import Mount
from tests.containers import Room, make_small_rootfs

APPLETS = ("sh", "cat", "ls", "stat", "touch", "grep", "true", "test", "mount", "chmod")


@pytest.fixture
def hostile(tmp_path: Path, busybox: Path) -> Path:
    """Give a root file system that the test makes hostile."""
    return make_small_rootfs(tmp_path / "hostile", busybox, APPLETS)


def own_mounts(place: Path) -> list[str]:
    """List the host's mounts below a place, and those on what hostile links point to; others come and go."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if line.split()[4] in ("/", "/etc", "/dev", "/proc", "/sys") or str(place) in line]


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """Give a directory of the host, to which the image's links point; it must not change, nor the mounts."""
    place = tmp_path / "canary"
    place.mkdir()
    (place / "file").write_text("untouched\n")
    mounts, changed = own_mounts(tmp_path), place.stat().st_mtime_ns
    yield place
    assert place.stat().st_mtime_ns == changed
    assert (place / "file").read_text() == "untouched\n"
    assert os.listdir(place) == ["file"]
    assert own_mounts(tmp_path) == mounts
    assert [path for path in ("/far", "/vol", "/somewhere") if os.path.lexists(path)] == []
    null = Path("/dev/null").stat()
    assert (stat.S_IMODE(null.st_mode), os.major(null.st_rdev), os.minor(null.st_rdev)) == (0o666, 1, 3)


# Where the image's own /proc, /dev or /sys leads: a link's text, {canary} is a directory of the host.
LINKS = {
    "up": "../../../../../../..{canary}",
    "absolute": "{canary}",
    "etc": "/etc",
    "itself": "/",
    "nowhere": "no/such/place",
    "here": ".",
}


@pytest.mark.parametrize("text", LINKS)
@pytest.mark.parametrize("name", ["proc", "dev", "sys"])
def test_a_system_directory_that_is_a_link(name: str, text: str, room: Room, hostile: Path, canary: Path) -> None:
    (hostile / name).symlink_to(LINKS[text].format(canary=canary))
    room.rootfs = hostile
    script = "cat /proc/keys; echo x > /proc/sys/vm/drop_caches; echo y > /proc/sys/kernel/hostname; "
    script += "test -c /dev/null && echo z"
    ended = room.shell(script)
    over_root = text in ("itself", "here")  # then what was mounted has no name in the container
    assert ended.text == ("" if over_root and name == "dev" else "z\n")
    if not over_root:
        assert ended.errors.count(b"Read-only file system") == 2


def test_masks_hold_wherever_proc_is(room: Room, hostile: Path, canary: Path) -> None:
    """/proc of the image leads elsewhere; masks are put on the procfs that was mounted, not on what has the name."""
    (hostile / "proc").symlink_to("/somewhere")
    (hostile / "somewhere").mkdir()
    room.rootfs = hostile
    script = "cd /somewhere; cat keys timer_list; echo 1 > sys/vm/drop_caches; cat uptime"
    ended = room.shell(script)
    assert b"Read-only" in ended.errors
    assert ended.text.count("\n") == 1


def test_a_name_that_changes_meaning_during_the_set_up(room: Room, hostile: Path, canary: Path) -> None:
    """CVE-2019-19921: /proc leads into a volume, which is mounted later; nothing is masked in the volume's stead."""
    volume = room.place("volume")
    (volume / "proc").mkdir()
    (volume / "proc" / "keys").write_text("the volume's own\n")
    (hostile / "vol" / "proc").mkdir(parents=True)
    (hostile / "proc").symlink_to("/vol/proc")
    (hostile / "dev").symlink_to("/vol")
    room.rootfs = hostile
    spec = room.spec("sh", "-c", "cat /vol/proc/keys; ls /vol")
    mounts = (defaults.PROC, Mount(destination="/vol", type="bind", source=str(volume), options=("rbind",)))
    ended = room.start(msgspec.structs.replace(spec, mounts=mounts)).wait()
    assert ended.text.startswith("the volume's own\n")
    assert os.listdir(volume / "proc") == ["keys"]
    # There is no fresh /dev in this spec, so the volume is the container's /dev by its own choice.
    assert {name for name in os.listdir(volume) if stat.S_ISCHR(os.lstat(volume / name).st_mode)} == {
        *("null", "zero", "full", "random", "urandom", "tty")
    }


def test_devices_are_made_in_the_dev_that_was_mounted(room: Room, hostile: Path, canary: Path) -> None:
    """The image's /dev leads into a volume that is mounted over it in the end: no node lands in the volume."""
    volume = room.place("volume")
    (hostile / "vol").mkdir()
    (hostile / "dev").symlink_to("/vol")
    room.rootfs = hostile
    spec = room.spec("sh", "-c", "ls -A /vol")
    bind = Mount(destination="/vol", type="bind", source=str(volume), options=("rbind",))
    mounts = (defaults.PROC, defaults.DEV, bind)
    ended = room.start(msgspec.structs.replace(spec, mounts=mounts)).wait()
    assert (ended.text, ended.errors) == ("", b"")
    assert os.listdir(volume) == []


TARGETS = {
    "absolute": ("etc/hosts", "{canary}/file", "/etc/hosts"),
    "up": ("etc/hosts", "../../../../../../../../..{canary}/file", "/etc/hosts"),
    "parent": ("etc", "{canary}", "/etc/hosts"),
    "dots": ("data", "..", "/data/hosts"),
    "through proc": ("data", "/proc/1/root{canary}", "/data/hosts"),
    "through a descriptor": ("data", "/proc/self/fd/5", "/data/hosts"),
    "circle": ("data", "data", "/data/hosts"),
}


@pytest.mark.parametrize("name", TARGETS)
def test_a_mount_target_that_is_a_link(name: str, room: Room, hostile: Path, canary: Path) -> None:
    link, text, target = TARGETS[name]
    (hostile / link).parent.mkdir(exist_ok=True)
    (hostile / link).symlink_to(text.format(canary=canary))
    room.rootfs = hostile
    source = room.place("source") / "hosts"
    source.write_text("127.0.0.1 localhost\n")
    mounts = (MountRequest(type="bind", source=str(source), target=target, read_only=True),)
    script = f"cat {target}; echo x > {target}"
    if name in ("through proc", "through a descriptor", "circle"):
        with pytest.raises(LaunchFailed, match="too many levels of symbolic links"):
            room.shell(script, mounts=mounts)
        return
    ended = room.shell(script, mounts=mounts)
    assert ended.text == "127.0.0.1 localhost\n"
    assert b"Read-only file system" in ended.errors
    assert source.read_text() == "127.0.0.1 localhost\n"


@pytest.mark.parametrize("kind", ["link", "file", "directory", "fifo"])
def test_a_dev_null_that_is_something_else(kind: str, room: Room, hostile: Path, canary: Path) -> None:
    """CVE-2025-31133: what masks is the host's, opened before; the image's own /dev is covered."""
    (hostile / "dev").mkdir()
    null = hostile / "dev" / "null"
    if kind == "link":
        null.symlink_to(canary / "file")
    elif kind == "file":
        null.write_text("not null\n")
    elif kind == "directory":
        null.mkdir()
    else:
        os.mkfifo(null)
    room.rootfs = hostile
    ended = room.shell("cat /proc/keys /proc/timer_list; test -c /dev/null && echo device; chmod 0 /proc/keys")
    assert ended.text == "device\n"
    assert b"Read-only file system" in ended.errors
    # Without a /dev of its own the image's is used as it is: nothing of it is followed by anybody but the container.
    spec = room.spec("sh", "-c", "cat /proc/keys /proc/timer_list; echo end")
    mounts = tuple(mount for mount in spec.mounts or () if not mount.destination.startswith("/dev"))
    ended = room.start(msgspec.structs.replace(spec, mounts=mounts)).wait()
    assert ended.text == "end\n"


def test_nodes_of_the_image_do_not_count_as_devices(room: Room, hostile: Path, canary: Path) -> None:
    """A node of a disk in the image: the cgroup forbids it."""
    os.mknod(hostile / "disk", stat.S_IFBLK | 0o666, os.makedev(7, 0))
    room.rootfs = hostile
    ended = room.shell("cat /disk")
    assert b"Operation not permitted" in ended.errors


def test_a_root_that_is_a_link_is_followed_by_the_host_only(room: Room, hostile: Path, canary: Path) -> None:
    """The path of a bundle's root is the caller's own; inside there is no way up from it."""
    link = room.directory / "link"
    link.symlink_to(hostile)
    script = "cd /; cd ..; cd ../../..; pwd; ls -d bin; cat /../../../bin/../proc/self/mountinfo | grep -c canary"
    ended = room.start(room.spec("sh", "-c", script), Directory(path=str(link))).wait()
    assert ended.text == "/\nbin\n0\n"


def test_a_tree_that_is_deep_and_wide_is_taken_away(room: Room, hostile: Path, canary: Path) -> None:
    """What a container leaves in its upper directory is removed whatever it is."""
    room.rootfs = hostile
    upper = room.place("gone")
    script = "cd /x; for i in 0 1 2 3 4 5 6 7 8 9; do mkdir -p $i/a/b/c; done; i=0; "
    script += "while [ $i -lt 300 ]; do mkdir d && cd d; i=$((i+1)); done; echo done"
    shutil.copy(hostile / "bin" / "busybox", hostile / "bin" / "mkdir")
    mounts = (MountRequest(type="bind", source=str(upper), target="/x"),)
    plan, run = room.plan(room.spec("sh", "-c", script, mounts=mounts), remove=(str(upper),))
    assert room.launch(plan, run).wait().text == "done\n"
    assert not upper.exists()
