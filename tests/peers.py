"""Other people's container engines, each with everything of its own: a dockerd, a podman, a buildah."""

import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

import pytest

from onggi.host.cgroupfs import remove_cgroup
from onggi.host.probe import probe_facts
from onggi.plan.cgroup import plan_directories

WAIT_S: Final = 60.0
_PACKAGES: Final = {"docker": "docker.io", "dockerd": "docker.io", "htpasswd": "apache2-utils"}
NO_NETWORK: Final = ("--bridge=none", "--iptables=false", "--ip6tables=false")


def find(*programs: str) -> str:
    """Find the first of these programs; skips, and says where to get them, unless all are there."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        packages = sorted({_PACKAGES.get(name, name) for name in programs})
        pytest.skip(f"needs {' and '.join(missing)}: apt-get install {' '.join(packages)}")
    return programs[0]


def ask(*command: str | Path, data: bytes | None = None, check: bool = True) -> "subprocess.CompletedProcess[bytes]":
    """Run somebody else's program; what it must not fail at is shown with what it said."""
    done = subprocess.run(command, input=data or b"", capture_output=True, check=False, timeout=WAIT_S)
    assert not check or done.returncode == 0, (command, done.returncode, done.stderr.decode(errors="replace")[-2000:])
    return done


class Docker:
    """A dockerd with data, sockets and cgroups of its own."""

    def __init__(self, directory: Path, *options: str) -> None:
        """Use this directory; `options` are further ones of dockerd."""
        self.directory = directory
        self._socket = f"unix://{directory}/docker.sock"
        self._cgroup = f"/onggi-test-{uuid.uuid4().hex[:12]}"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, again or for the first time; skips where it does not start."""
        command = ["dockerd", "--data-root", f"{self.directory}/data", "--exec-root", f"{self.directory}/exec"]
        command += ["--pidfile", f"{self.directory}/pid", "-H", self._socket]
        command += ["--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", self._cgroup]
        command += ["--config-file", f"{self.directory}/none.json", *self._options]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + WAIT_S
        while self.run("version", check=False).returncode:
            text = (self.directory / "log").read_text()[-2000:]
            if self._process.poll() is not None:
                self._process = None
                pytest.skip(f"needs a dockerd that starts here: {text}")
            assert time.monotonic() < deadline, text
            time.sleep(0.1)

    def run(self, *words: str, check: bool = True, input: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        """Run a command of its client."""
        return ask("docker", "-H", self._socket, *words, data=input, check=check)

    @property
    def reads_zstd(self) -> bool:
        """Whether it takes layers that zstd has compressed."""
        return int(self.run("version", "-f", "{{.Server.Version}}").stdout.partition(b".")[0]) >= 23

    def stop(self) -> None:
        """End it, if it runs."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(WAIT_S)
            self._process = None
            remove_cgroup(plan_directories(self._cgroup, probe_facts().cgroup))


@contextmanager
def docker_in(directory: Path, *options: str) -> Iterator[Docker]:
    """Run a dockerd in the new directory."""
    find("dockerd", "docker")
    directory.mkdir()
    (directory / "none.json").write_text("{}")
    docker = Docker(directory, *options)
    try:
        docker.start()
        yield docker
    finally:
        docker.stop()


class Podman:
    """A podman, and a buildah over the same images, with storage of their own."""

    def __init__(self, directory: Path, runroot: str) -> None:
        """Use this directory; podman wants a short `runroot`."""
        self._storage = ("--root", f"{directory}/root", "--runroot", runroot)
        # crun refuses a hybrid host whose unified tree has controllers.
        self._runtime = ("--runtime", "runc" if shutil.which("runc") else "crun")
        own = ("--tmpdir", f"{runroot}/tmp", "--events-backend", "none", "--cgroup-manager", "cgroupfs")
        self._podman = ("podman", *self._storage, *own, *self._runtime)

    def run(self, *words: str, check: bool = True, input: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        """Run a command of podman."""
        return ask(*self._podman, *words, data=input, check=check)

    def buildah(self, command: str, *words: str) -> "subprocess.CompletedProcess[bytes]":
        """Run a command of buildah."""
        return ask(find("buildah"), *self._storage, command, *(self._runtime if command == "bud" else ()), *words)


@contextmanager
def podman_in(directory: Path) -> Iterator[Podman]:
    """Give a podman with storage in the new directory."""
    find("podman")
    directory.mkdir()
    runroot = mkdtemp(prefix="p")
    podman = Podman(directory, runroot)
    try:
        yield podman
    finally:
        podman.run("rm", "-a", "-f", check=False)
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for mount in reversed([mount for mount in mounts if mount.startswith(f"{directory}/")]):
            subprocess.run(["umount", mount], check=False)
        shutil.rmtree(directory)
        shutil.rmtree(runroot)
