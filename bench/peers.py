"""Onggi and the programs beside it, each with state of its own on the bench's disk."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL
from typing import Final

from bench.series import Failed, whole_process
from bench.worlds import CGROUP_PARENT, World

IMAGE: Final = "busybox"
KEPT: Final = "bench-kept"
"""The container that stays, for exec and ps."""
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_START_S: Final = 60


class Peer:
    """A program in a world. `name` has its version; commands are words after `prefix`."""

    def __init__(self, name: str, world: World, prefix: tuple[str, ...], env: Mapping[str, str] | None = None) -> None:
        """Describe it."""
        self.name, self.world, self.prefix = name, world, prefix
        self.env = {"PATH": _PATH, "HOME": "/root", **(env or {})}

    @property
    def label(self) -> str:
        """Its name and the cgroups that it sees."""
        return f"{self.name}, {self.world.name}"

    def sees(self, path: Path) -> str:
        """Say how it calls a path of the bench's disk."""
        return str(path)

    def keep(self) -> None:
        """Start the container that stays. Raises Failed."""
        self.do("run", "--detach", "--name", KEPT, IMAGE, "sleep", "86400")

    def do(self, *words: str, env: Mapping[str, str] | None = None) -> str:
        """Run a command, not measured; gives what it printed. Raises Failed."""
        with self.world.entered():
            command = [*self.prefix, *words]
            try:
                done = subprocess.run(
                    command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env={**self.env, **(env or {})}
                )
            except OSError as error:
                raise Failed(f"{command[0]}: {error.strerror}") from None
        if done.returncode:
            raise Failed(f"{' '.join(words[:2])}: {done.stderr.strip()[-300:]}")
        return done.stdout

    def timed(self, *words: str, env: Mapping[str, str] | None = None) -> Callable[[], float]:
        """Prepare to measure a command as a whole process."""
        return whole_process(self.world, (*self.prefix, *words), {**self.env, **(env or {})})

    def close(self) -> None:
        """End what it runs."""
        with suppress(Failed):
            self.do("rm", "-f", KEPT)


class Onggi(Peer):
    """Onggi as installed beside this Python."""

    def __init__(self, world: World, disk: Path, command: Path) -> None:
        """Use a state root of its own."""
        self.root = disk / f"onggi-{world.name}"
        super().__init__("onggi", world, (str(command), "--root", str(self.root)))

    def onggid(self) -> int | None:
        """Find the warm process of this root."""
        return next((pid for pid, words in processes() if words[-1] == str(self.root)), None)

    def leave_cold(self) -> None:
        """End the warm process, if there is one."""
        while pid := self.onggid():
            with suppress(ProcessLookupError):
                os.kill(pid, SIGKILL)
            time.sleep(0.01)

    def close(self) -> None:
        """Remove everything of the state root."""
        self.do("system", "reset", "--force")


class Docker(Peer):
    """A Docker daemon of the bench's own, and its client; from a Debian tree where one is given."""

    def __init__(self, world: World, disk: Path, *, seen_as: str = "") -> None:
        """Start the daemon; `seen_as` is where its world has the disk. Raises Failed."""
        self._disk, self._seen_as = disk, seen_as or str(disk)
        place = disk / f"docker-{len(list(disk.glob('docker-*')))}"
        place.mkdir()
        inside = self.sees(place)
        socket = f"unix://{inside}/docker.sock"
        own = ["--data-root", f"{inside}/data", "--exec-root", f"{inside}/exec", "--host", socket]
        daemon = ["dockerd", *own, "--pidfile", f"{inside}/pid", "--cgroup-parent", f"/{CGROUP_PARENT}"]
        self.log = place / "dockerd.log"
        with self.log.open("wb") as log, world.entered():
            clean = {"PATH": _PATH}
            self.daemon = subprocess.Popen(daemon, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=clean)
        super().__init__("docker", world, ("docker",), {"DOCKER_HOST": socket, "DOCKER_CONFIG": f"{inside}/config"})
        deadline = time.monotonic() + _START_S
        while True:
            try:
                version = json.loads(self.do("version", "--format", "{{json .}}"))
                break
            except (Failed, ValueError) as error:
                if self.daemon.poll() is not None or time.monotonic() > deadline:
                    raise Failed(f"dockerd did not start: {error}: {self._last_words()}") from None
                time.sleep(0.1)
        self.name = f"docker {version['Server']['Version'].partition('+')[0]}"

    def sees(self, path: Path) -> str:
        """Its world may have the disk elsewhere."""
        return f"{self._seen_as}/{path.relative_to(self._disk)}"

    def _last_words(self) -> str:
        return self.log.read_text(errors="replace").strip()[-300:]

    def close(self) -> None:
        """Stop the daemon and what it runs."""
        super().close()
        self.daemon.terminate()
        self.daemon.wait()


class Podman(Peer):
    """Podman with roots of its own."""

    def __init__(self, world: World, disk: Path, runtime: str) -> None:
        """Use `disk`; `runtime` executes the containers."""
        place = disk / f"podman-{world.name}"
        own = ("--root", f"{place}/root", "--runroot", f"{place}/run", "--tmpdir", f"{place}/tmp")
        how = ("--cgroup-manager", "cgroupfs", "--events-backend", "file", "--runtime", runtime)
        super().__init__("podman", world, ("podman", *own, *how))
        self.name = f"podman {self.do('version', '--format', '{{.Client.Version}}').strip()} with {runtime}"


class Runtime(Peer):
    """An OCI runtime, and the bundle that its `spec` writes, with the image's root file system."""

    def __init__(self, world: World, disk: Path, program: str, rootfs: Path) -> None:
        """Make the bundle. Raises Failed."""
        super().__init__(program, world, (program, "--root", f"/run/bench-{program}-{world.name}"))
        self.name = f"{program} {self.do('--version').split()[2].partition('+')[0]}"
        self.bundle = disk / f"{program}-{world.name}"
        self.bundle.mkdir()
        (self.bundle / "rootfs").symlink_to(rootfs)
        self.do("spec", "--bundle", str(self.bundle))
        self.write("true")
        self.kept = disk / f"{program}-{world.name}-kept"
        shutil.copytree(self.bundle, self.kept, symlinks=True)

    def write(self, *command: str, bundle: Path | None = None) -> None:
        """Let the bundle run this command, without a terminal; the rest stays as `spec` wrote it."""
        path = (bundle or self.bundle) / "config.json"
        config = json.loads(path.read_text())
        config["process"].update(terminal=False, args=command)
        config["root"]["path"] = str((path.parent / "rootfs").resolve())
        path.write_text(json.dumps(config))

    def keep(self) -> None:
        """Start the container that stays."""
        self.write("sleep", "86400", bundle=self.kept)
        # Its stdio is the container's: a pipe would not see an end.
        with self.world.entered():
            command = [*self.prefix, "run", "--detach", "--bundle", str(self.kept), KEPT]
            null = subprocess.DEVNULL
            if subprocess.run(command, stdin=null, stdout=null, stderr=null, env=self.env).returncode:
                raise Failed(f"{self.name} cannot run {KEPT}")

    def close(self) -> None:
        """Remove the container that stays."""
        with suppress(Failed):
            self.do("delete", "--force", KEPT)


def processes() -> Iterator[tuple[int, list[str]]]:
    """Give the pid and command line of every process of the bench's pid namespace."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError):
                words = Path("/proc", entry, "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
                if words:
                    yield int(entry), words


def pss_bytes(pid: int) -> int:
    """Read how much memory a process has, what it shares counted in parts."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise Failed(f"no Pss of {pid}")
