"""A state root of one test's own: an engine over it, the installed command, and what it leaves on the host."""

import os
import shutil
import signal
import site
import subprocess
import tarfile
import venv
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, NamedTuple, Self

import msgspec

import onggi
from onggi.base.errors import NotFound
from onggi.engine.assemble import Engine
from onggi.engine.handles import Handle
from onggi.host.files import Files
from onggi.host.launcher import Launcher
from onggi.spec.container import ContainerRequest
from tests.containers import BUILD_ID, wait_for

IMAGE: Final = "box"
TIMEOUT_S: Final = 60.0


class Installed(NamedTuple):
    """Onggi as a user has it: the command, and the Python that it becomes."""

    onggi: Path
    python: Path


def install(directory: Path, launcher: Path, build_id: str = BUILD_ID) -> Installed:
    """Install a copy of these sources with this launcher, as a wheel would be."""
    venv.create(directory, symlinks=True, with_pip=False)
    place = next((directory / "lib").glob("python3*/site-packages"))
    shutil.copytree(Path(onggi.__file__).parent, place / "onggi", ignore=shutil.ignore_patterns("bin", "__pycache__"))
    # What Onggi depends on comes from wherever the tests have it.
    (place / "dependencies.pth").write_text("".join(f"{path}\n" for path in site.getsitepackages()))
    (place / "onggi" / "bin").mkdir()
    shutil.copy(launcher, place / "onggi" / "bin" / "onggi-launcher")
    (place / "onggi" / "bin" / "build-id").write_text(build_id + "\n")
    shutil.copy(launcher, directory / "bin" / "onggi")
    return Installed(directory / "bin" / "onggi", directory / "bin" / "python3")


def pack(tree: Path, archive: Path) -> Path:
    """Write a tree as a tar owned by root."""

    def own(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        return entry

    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        tar.add(tree, ".", filter=own)
    return archive


class Home:
    """A state root, its engine, and the command over it."""

    def __init__(self, root: Path, launcher: Launcher, installed: Installed, base: Path) -> None:
        self.root, self.launcher, self.installed, self._base = root, launcher, installed, base
        self.engine = Engine(root, launcher=launcher)
        with base.open("rb", buffering=0) as file:
            self.image = self.engine.images.import_tree(file, name=IMAGE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end_onggid()
        if not (self.root / "db.sqlite").exists():  # the test has reset it
            self.engine.close()
            return
        for container in self.engine.containers.list(every=True):
            with suppress(NotFound):
                self.engine.containers.remove(container.id, force=True)
        self.engine.system.reset()
        self.engine.close()

    @property
    def run(self) -> Path:
        """The run directory."""
        return Path(self.engine.run)

    def another(self, **options: Any) -> Engine:
        """Open one more engine over this root."""
        return Engine(self.root, launcher=self.launcher, **options)

    def start(self, *command: str, image: str = IMAGE, name: str | None = None, **request: Any) -> Handle:
        """Run a container in the background, without a network unless one is asked for."""
        request = {"network": "none", **request}
        return self.engine.containers.run(image, command, name=name, request=ContainerRequest(**request))

    def shell(self, script: str, **request: Any) -> Handle:
        """Run a script of busybox's shell in the background."""
        return self.start("sh", "-c", script, **request)

    def output(self, container: Handle) -> str:
        """Wait for a container's end; gives all it printed."""
        container.wait(timeout_s=TIMEOUT_S)
        return "".join(line.log for line in container.logs())

    # -- the command -------------------------------------------------------------------------------

    def words(self, *arguments: str | bytes) -> list[str | bytes]:
        """Give a command line over this root."""
        return [str(self.installed.onggi), "--root", str(self.root), *arguments]

    def environment(self, *, warm: bool = True, **more: str) -> dict[str, str]:
        """Give an environment in which onggid is used or is not."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("ONGGI", "PYTHON"))}
        return {**clean, **({} if warm else {"ONGGI_NO_DAEMON": "1"}), **more}

    def onggi(self, *arguments: str | bytes, warm: bool = True, **options: Any) -> "subprocess.CompletedProcess[str]":
        """Run the command; gives its outcome with text."""
        options = {
            "stdin": subprocess.DEVNULL if "input" not in options else None,
            "env": self.environment(warm=warm),
            "timeout": TIMEOUT_S,
            **options,
        }
        options = {name: value for name, value in options.items() if value is not None}
        return subprocess.run(
            self.words(*arguments),
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
            **options,
        )

    def ok(self, *arguments: str | bytes, **options: Any) -> str:
        """Run the command, which must succeed; gives its stdout."""
        done = self.onggi(*arguments, **options)
        assert done.returncode == 0, (arguments, done.returncode, done.stdout, done.stderr)
        return str(done.stdout)

    def onggid(self) -> int | None:
        """Find the onggid of this root."""
        for pid in pids():
            words = command_of(pid)
            if words[-1:] == [str(self.root)] and any("onggi.cli.onggid" in word for word in words):
                return pid
        return None

    def warm_up(self) -> int:
        """Have an onggid that answers; gives its pid."""
        self.ok("ps")
        wait_for(lambda: (self.run / "onggid").exists(), "onggid")
        self.ok("ps")
        pid = self.onggid()
        assert pid is not None
        return pid

    def end_onggid(self) -> None:
        """Kill this root's onggid, if there is one."""
        while (pid := self.onggid()) is not None:
            end_process(pid)

    # -- what is on the host -----------------------------------------------------------------------

    def calm(self) -> dict[str, list[str]]:
        """Wait until all that has ended is cleared away; gives the traces of what is there."""

        def settled() -> bool:
            self.engine.system.fold()
            alive = {c.id for c in self.engine.containers.recorded(("running", "paused"))}
            return set(os.listdir(self.run / "containers")) <= alive and (bool(alive) or self.links() <= {self.bridge})

        wait_for(settled, "all that has ended is cleared away")
        return self.traces()

    @property
    def bridge(self) -> str:
        """The name of this root's bridge."""
        return self.engine.cgroup_parent.replace("/onggi", "onggi0")

    def links(self) -> set[str]:
        """Find the links of this root on the host: the bridge, and those at it."""
        every = json_of("ip", "-j", "link")
        return {link["ifname"] for link in every if self.bridge in (link["ifname"], link.get("master"))}

    def traces(self) -> dict[str, list[str]]:
        """List what containers of this root leave on the host while they are there."""
        name = self.engine.cgroup_parent.lstrip("/")
        staying = (name, "supervisors", "onggid")
        return {
            "mounts": [
                line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(self.root) in line
            ],
            "cgroups": [path for path in cgroups_named(name) if os.path.basename(path) not in staying],
            "links": sorted(self.links()),
            "nft": rules_of(self.engine.cgroup_parent.lstrip("/")),
            "run": files_below(self.run, but=("onggid", "onggid.lock", "onggid.log")),
            "snapshots": sorted(os.listdir(self.root / "snapshots")) if (self.root / "snapshots").exists() else [],
            "containers": sorted(os.listdir(self.root / "containers")) if (self.root / "containers").exists() else [],
        }

    def supervisor(self, container: str) -> int:
        """Find a container's supervisor: the parent of its first process."""
        return parent_of(self.engine.containers.get(container).pid)

    def assert_consistent(self) -> None:
        """Find nothing that is left over or does not fit together."""
        with self.another() as engine:
            found = engine.system.check()
            assert not found, [f"{finding.subject} {finding.problem}" for finding in found]


class Cut(Files):
    """Files that end this process, as kill -9 would, when the number-th effect is announced."""

    def __init__(self, number: int) -> None:
        self._left = number
        super().__init__(self._count)

    def _count(self, effect: str, path: str) -> None:
        self._left -= 1
        if self._left < 0:
            os.kill(os.getpid(), signal.SIGKILL)


def pids() -> Iterator[int]:
    """List all processes."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            yield int(entry)


def command_of(pid: int) -> list[str]:
    """Give a process's command line; nothing for one that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="surrogateescape").split("\0")[:-1]
    except OSError:
        return []


def parent_of(pid: int) -> int:
    """Give the parent of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def is_alive(pid: int) -> bool:
    """Tell whether a process runs still; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def end_process(pid: int) -> None:
    """Kill a process and wait until it is gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not is_alive(pid), f"the end of process {pid}")


def memory_kb(pid: int) -> int:
    """Give a process's proportional share of memory."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def files_below(directory: Path, but: Iterable[str] = ()) -> list[str]:
    """List everything below a directory."""
    found = []
    for at, directories, files in os.walk(directory):
        found += [os.path.relpath(f"{at}/{name}", directory) for name in (*directories, *files) if name not in but]
    return sorted(found)


def cgroups_named(name: str) -> Iterator[str]:
    """List the cgroups of this name, and those in them, in every hierarchy."""
    for at, _, _ in os.walk("/sys/fs/cgroup"):
        if f"/{name}/" in f"{at}/":
            yield at


def json_of(*command: str) -> Any:
    """Run a command that prints JSON."""
    return msgspec.json.decode(subprocess.run(command, capture_output=True, check=True).stdout)


def rules_of(table: str) -> list[str]:
    """List a table of nftables, without its counters; nothing where there is none."""
    command = ["nft", "-s", "list", "table", "inet", table]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()


def read_tree(engine: Engine, container: str, to: Path) -> dict[str, tarfile.TarInfo]:
    """Export a container; gives the entries of the tar by their names."""
    with to.open("wb", buffering=0) as sink:
        engine.containers.export(container, sink)
    with closing(tarfile.open(to)) as tar:
        return {entry.name: entry for entry in tar}


def raw(path: Path) -> BinaryIO:
    """Open a file as `load` and `import` want it."""
    return path.open("rb")
