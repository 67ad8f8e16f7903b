"""Where everything is measured: namespaces of the bench's own, a fresh ext4, and views of the host's cgroups.

Processes, mounts and the network are private, so whatever the peers leave ends with the
bench and the host's own Docker never notices. A `World` is one more mount namespace within.
"""

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

CGROUP: Final = Path("/sys/fs/cgroup")
_INSIDE: Final = "ONGGI_BENCH_INSIDE"
NAME: Final = f"onggi-bench-{os.environ.get(_INSIDE, '')}"
"""Told apart from benches beside this one: cgroups are nobody's own, and Onggi's are named after the state root."""
CGROUP_PARENT: Final = NAME
"""Docker's cgroups are beneath it, since its daemon leaves the parent behind."""
DISK: Final = Path("/run", NAME)
_CLONE_NEWNS: Final = 0x00020000
_libc: Final = ctypes.CDLL(None, use_errno=True)
# The shell is process 1: it reaps what supervisors and shims leave behind. A new sysfs shows the new network.
_ENTER: Final = """
set -e
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /mnt && mkdir /mnt/cgroup && mount --rbind /sys/fs/cgroup /mnt/cgroup
mount -t sysfs sysfs /sys && mount --rbind /mnt/cgroup /sys/fs/cgroup && umount -l /mnt
ip link set lo up
"$@" || exit $?
"""
_ONLY_V1: Final = "umount /sys/fs/cgroup/unified"
_ONLY_V2: Final = "mount -t cgroup2 cgroup2 /sys/fs/cgroup"
_TREE: Final = """
mount --bind "$1" "$1" && cd "$1" && mkdir -p work
mount --rbind /proc proc && mount --rbind /sys sys && mount --rbind /dev dev
mount -t tmpfs tmpfs run && mount -t tmpfs tmpfs tmp && mount --rbind "$2" work
"""


def enter_namespaces() -> None:
    """Go on as the same program in namespaces of its own."""
    if os.environ.get(_INSIDE):
        return
    own = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation=private"]
    command = ["unshare", *own, "sh", "-c", _ENTER, "bench", sys.executable, *sys.orig_argv[1:]]
    os.execvpe("unshare", command, {**os.environ, _INSIDE: str(os.getpid())})


@contextmanager
def fresh_disk(place: Path, directory: str = "/var/tmp", size: int = 16 << 30) -> Iterator[Path]:
    """Mount a new ext4 from a sparse file in `directory`, which goes with it."""
    place.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(prefix="onggi-bench-", suffix=".ext4", dir=directory) as file:
        file.truncate(size)
        subprocess.run(["mkfs.ext4", "-q", "-F", file.name], check=True)
        subprocess.run(["mount", "-o", "loop", file.name, place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=False)


def remove_cgroups() -> None:
    """Remove what `CGROUP_PARENT` left in all hierarchies, once nothing runs there."""
    for parent in (*CGROUP.glob(CGROUP_PARENT), *CGROUP.glob(f"*/{CGROUP_PARENT}")):
        for directory, _, _ in os.walk(parent, topdown=False):
            with suppress(OSError):
                os.rmdir(directory)


class World:
    """A mount namespace, and the root directory in it. `name` is how the report calls it."""

    def __init__(self, name: str, script: str = "", *words: str, root: str = "/") -> None:
        """Make it: `script` mounts what it shows. Raises ChildProcessError."""
        self.name, self.root = name, root
        command = ["unshare", "--mount", "sh", "-ec", f"{script}\necho; exec sleep infinity", "world", *words]
        self._keeper = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert self._keeper.stdout is not None
        if not self._keeper.stdout.readline():
            raise ChildProcessError(f"no world {name}")
        self._fd = os.open(f"/proc/{self._keeper.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be there for a while: what is started meanwhile is there too."""
        home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _join(self._fd)
            if self.root != "/":
                os.chroot(self.root)
            os.chdir("/")
            yield
        finally:
            _join(home)
            os.close(home)

    def close(self) -> None:
        """Forget it; it lasts as long as its processes."""
        os.close(self._fd)
        self._keeper.kill()
        self._keeper.wait()
        assert self._keeper.stdout is not None
        self._keeper.stdout.close()


def _join(namespace: int) -> None:
    if _libc.setns(namespace, _CLONE_NEWNS) < 0:
        raise OSError(ctypes.get_errno(), "setns")


def _has_cgroup2(path: Path) -> bool:
    return (path / "cgroup.controllers").exists()


class Worlds:
    """The views of this host: as it is, with cgroup v1 only, with cgroup v2 only, and from a Debian tree."""

    def __init__(self) -> None:
        """Look what the host has."""
        self._stack = ExitStack()
        version = "v2" if _has_cgroup2(CGROUP) else "hybrid" if _has_cgroup2(CGROUP / "unified") else "v1"
        self.host = self._made(World(version))
        self.v1 = self._made(World("v1", _ONLY_V1)) if version == "hybrid" else self.host
        self.v2 = self.host if version == "v2" else self._made(World("v2", _ONLY_V2))

    def tree(self, tree: Path, work: Path) -> World:
        """Show a Debian tree as the root directory, with `work` as its /work."""
        return self._made(World(self.host.name, _TREE, str(tree), str(work), root=str(tree)))

    def _made(self, world: World) -> World:
        self._stack.callback(world.close)
        return world

    def close(self) -> None:
        """End them all."""
        self._stack.close()
