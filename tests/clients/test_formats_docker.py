"""What the showing commands print, beside a real docker: the same image, the same containers, the same words."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from onggi.host.launcher import Launcher
from onggi.spec.image_config import ContainerConfig, Healthcheck
from tests.conftest import make_rootfs
from tests.homes import Home, install, pack
from tests.peers import NO_NETWORK, Docker, docker_in

pytestmark = pytest.mark.root

IMAGE: Final = "box:1"
CREATE: Final = (
    *("create", "--name", "made", "--network", "none", "-m", "64m", "--label", "k=v", "--label", "a.b-c=d"),
    *("-v", "vol:/data", "-v", "/srv:/mnt:ro", "--tmpfs", "/t:size=1m", "-e", "A=1", "--cap-add", "NET_ADMIN"),
    *("--cap-drop", "CHOWN", "--sysctl", "kernel.shmmax=100000", "--ulimit", "nofile=10:20", "--device", "/dev/null"),
    *("--dns", "1.1.1.1", "--add-host", "x:1.2.3.4", "--group-add", "5", "--init", "--security-opt"),
    *("no-new-privileges", "--pids-limit", "50", "--cpus", "1.5", "--read-only", "--stop-timeout", "3"),
    *("--stop-signal", "SIGUSR1", "--user", "5:5", "--workdir", "/tmp", "--hostname", "hn", "--shm-size", "1m"),
    *("--expose", "90", IMAGE, "sh", "-c", "sleep 1000"),
)


_MOUNT: Final = "(?:vol|data|/srv|ID…?)"


def _in_order(docker: Docker) -> bool:
    binds: list[str] = json.loads(docker.run("inspect", "-f", "{{json .HostConfig.Binds}}", "made").stdout)
    return binds == ["vol:/data", "/srv:/mnt:ro"]


SAID_OTHERWISE: Final = (
    r" \((health: starting|healthy|unhealthy)\)",  # nobody runs the checks of an image here yet
    r'"Platform":("[^"]*"|null),',  # which daemons of before 28 do not tell
    r"Error: |template parsing error: |failed to (parse|execute) template: ",
)


class Both(NamedTuple):
    """An Onggi and a docker with the same things in them."""

    home: Home
    docker: Docker

    def say(self, *words: str) -> list[tuple[int, str, str]]:
        """Run a command on both; gives what each said, without ids, times and who said it."""
        ours = self.home.onggi(*words)
        theirs = self.docker.run(*words, check=False)
        said = [(theirs.returncode, theirs.stdout.decode(), theirs.stderr.decode())]
        said.append((ours.returncode, ours.stdout, ours.stderr))
        return [(code, plain(out), plain(problem)) for code, out, problem in said]


def plain(text: str) -> str:
    """Take out what differs between any two runs."""
    text = re.sub(r"^(onggi|docker|Error response from daemon): ", "", text, flags=re.MULTILINE)
    text = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( \+0000 UTC|Z)", "TIME", text)
    text = re.sub(r"(Less than a second|1 second|\d+ seconds|About a minute|\d+ minutes)", "AGE", text)
    text = re.sub(r"\b([0-9a-f]{12}|[0-9a-f]{64})\b|\b[0-9a-f]{14}(?=…)", "ID", text)
    # Docker's daemon has the mounts of a container in an order of chance, anew each time.
    text = re.sub(rf"{_MOUNT}(?:,{_MOUNT})+", lambda found: ",".join(sorted(found[0].split(","))), text)
    for pattern in SAID_OTHERWISE:
        text = re.sub(pattern, "", text)
    return re.sub(r"(?<=\S) {2,}(?=\S)", "  ", text)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, launcher: Launcher, busybox: Path) -> Iterator[Both]:
    """Give both, each with an image and three containers."""
    place = tmp_path_factory.mktemp("formats")
    base = pack(make_rootfs(place / "rootfs", busybox), place / "base.tar")
    installed = install(place / "installed", Path(launcher.program), launcher.build_id)
    config = ContainerConfig(
        env=("PATH=/bin",),
        cmd=("sh",),
        labels={"made": "here", "by": "us"},
        exposed_ports={"80/tcp": {}, "53/udp": {}},
        volumes={"/var/data": {}},
        working_dir="/tmp",
        user="www",
        stop_signal="SIGQUIT",
        healthcheck=Healthcheck(test=("CMD", "true"), interval=10**9),
    )
    with Home(place / "state", launcher, installed, base) as home:
        with base.open("rb", buffering=0) as file:
            home.engine.images.import_tree(file, name=IMAGE, message="a note", config=config)
        home.engine.images.remove("box:latest")
        archive = place / "box.tar"
        home.ok("save", "-o", str(archive), IMAGE)
        with docker_in(place / "docker", "--storage-driver", "vfs", *NO_NETWORK) as docker:
            docker.run("load", "-i", str(archive))
            found = Both(home, docker)
            run = ("--network", "none", "--label", "k=v", IMAGE, "sh", "-c")
            if (
                docker.run("run", "--name", "ended", *run, "echo out; echo err >&2; exit 3", check=False).returncode
                != 3
            ):
                pytest.skip("needs a docker that can run containers here")
            assert home.onggi("run", "--name", "ended", *run, "echo out; echo err >&2; exit 3").returncode == 3
            alive = ("run", "-d", "--name", "alive", "-v", "data:/data", *run, "sleep 1000")
            for command in (alive, CREATE):
                docker.run(*command)
                home.ok(*command)
            while not _in_order(docker):  # its client has them in an order of chance
                docker.run("rm", "-v", "made")
                docker.run(*CREATE)
            yield found
            docker.run("rm", "-f", "alive", check=False)


@pytest.mark.parametrize(
    "words",
    [
        ["ps"],
        ["ps", "-a"],
        ["ps", "-a", "--no-trunc"],
        ["ps", "-as"],
        ["ps", "-aq"],
        ["ps", "-aq", "--format", "x"],
        ["ps", "-a", "--format", "json"],
        ["ps", "-a", "--format", "raw"],
        ["ps", "-aq", "--format", "raw"],
        ["ps", "-a", "--format", "{{json .Names}} {{.Size}} {{.Mounts}} {{.LocalVolumes}} {{.Networks}} {{.State}}"],
        ["ps", "-a", "--format", r'table {{.Names}}\t{{.Label "k"}}\t{{upper .State}}\t{{.Label "a.b-c"}}'],
        ["ps", "-a", "--format", r'table {{.Names | printf "%-10s|"}}\t{{pad .Image 1 1}}'],
        ["ps", "--format", "{{range .}}"],
        ["ps", "-a", "-f", "exited=3", "--format", "{{.Names}}"],
        ["ps", "-a", "-f", "label=k", "-f", "name=e", "--format", "{{.Names}}"],
        ["ps", "-f", "status=created", "--format", "{{.Names}}"],
        ["ps", "-a", "-f", "volume=data", "--format", "{{.Names}}"],
        ["ps", "-a", "-f", "volume=/mnt", "--format", "{{.Names}}"],
        ["ps", "-a", "-f", "ancestor=box:1", "--format", "{{.Names}}"],
        ["ps", "-a", "-f", "before=made", "--format", "{{.Names}}"],
        ["ps", "-a", "-f", "since=ended", "--format", "{{.Names}}"],
        ["ps", "-a", "-f", "network=none", "--format", "{{.Names}}"],
        ["ps", "-a", "-f", "expose=80", "--format", "{{.Names}}"],
        ["ps", "-n", "2", "--format", "{{.Names}}"],
        ["ps", "-l", "--format", "{{.Names}}"],
        ["ps", "-f", "publish=1:2"],
        ["images"],
        ["images", "--digests"],
        ["images", "-q", "--no-trunc"],
        ["images", "--format", "json"],
        ["images", "--format", "raw"],
        ["images", "--format", "table {{.Repository}}\\t{{.ID}}\\t{{.Size}}"],
        ["images", "--format", "{{.Repository}}:{{.Tag}} {{.Digest}} {{.VirtualSize}} {{.Containers}} {{.UniqueSize}}"],
        ["images", "--format", "{{.ID"],
        ["images", "-f", "reference=b*:?"],
        ["images", "-f", "label=made=here", "-q"],
        ["images", "-f", "dangling=true"],
        ["images", "box"],
        ["images", "nothing"],
        ["images", "-f", "since=nothing"],
        ["history", IMAGE],
        ["history", "--human=false", IMAGE],
        ["history", "-q", IMAGE],
        ["history", "--no-trunc", "--format", "{{.ID}} {{.CreatedBy}} {{.Size}} {{.Comment}}", IMAGE],
        ["history", "nothing"],
        ["image", "inspect", "-f", "{{.Id}} {{.RepoTags}} {{json .Config.Labels}} {{.Size}} {{.RootFS.Layers}}", IMAGE],
        ["image", "inspect", "-f", "{{.Config.ExposedPorts}} {{.Config.Healthcheck.Test}} {{.Comment}}", IMAGE],
        ["inspect", "-f", "{{.State.Status}} {{.Name}} {{json .Config.Cmd}} {{.HostConfig.CapAdd}}", "made", "alive"],
        ["inspect", "-f", "{{.HostConfig.PidsLimit}} {{.HostConfig.Init}} {{.HostConfig.Binds}}", "made", "alive"],
        ["inspect", "-f", "{{.Config.Volumes}} {{.Config.ExposedPorts}} {{.Config.StopTimeout}}", "made", "alive"],
        [
            "inspect",
            "-f",
            "{{range $p, $c := .NetworkSettings.Ports}}{{$p}}{{end}}{{json .NetworkSettings.Ports}}",
            "made",
        ],
        ["inspect", "-f", "{{.Foo}}", "made"],
        ["inspect", "-f", "{{.State.Foo}}", "made"],
        ["inspect", "-f", "{{.Foo", "made"],
        ["inspect", "-f", "json", "nothing"],
        ["inspect", "-s", "-f", "{{.SizeRw}} {{.SizeRootFs}}", "ended"],
        ["inspect", "--type", "image", "-f", "{{.Os}}", IMAGE],
        ["logs", "ended"],
        ["logs", "--details", "ended"],
        ["logs", "-t", "-n", "2", "ended"],
        ["logs", "--until", "10m", "ended"],
        ["top", "alive", "-o", "comm"],
        ["stats", "--no-stream", "--format", "{{.Name}} {{.NetIO}}", "alive"],
        ["stats", "--no-stream", "--format", "{{.Name}} {{.CPUPerc}} {{.MemUsage}} {{.MemPerc}} {{.BlockIO}}", "ended"],
        ["stats", "--no-stream", "nothing"],
        ["port", "alive"],
        ["wait", "ended"],
        ["version", "-f", "{{.X"],
        ["version", "-f", "{{.Client.Os}} {{.Client.Arch}} {{.Server.Os}}"],
        [
            "info",
            "-f",
            "{{.Containers}} {{.ContainersRunning}} {{.Images}} {{.NCPU}} {{.OSType}}",
        ],
        ["info", "-f", "{{.MemTotal}} {{.KernelVersion}} {{.Architecture}} {{.OperatingSystem}} {{.Name}}"],
        ["info", "-f", "{{.CgroupVersion}} {{.CgroupDriver}} {{.LoggingDriver}}"],
    ],
    ids=" ".join,
)
def test_the_same_words(both: Both, words: list[str]) -> None:
    theirs, ours = both.say(*words)
    assert ours == theirs


DIFFERENT: Final = {
    *("Id", "Created", "Driver", "GraphDriver.Name", "GraphDriver.Data", "LogPath", "HostConfig.LogConfig.Config"),
    *("HostConfig.Runtime", "HostConfig.MaskedPaths", "Mounts", "Config.AttachStdout", "Config.AttachStderr"),
    *("ResolvConfPath", "HostnamePath", "HostsPath", "NetworkSettings.SandboxID", "NetworkSettings.SandboxKey"),
    *("NetworkSettings.Networks.none.NetworkID", "NetworkSettings.Networks.none.EndpointID", "State.Pid"),
    *("State.StartedAt", "State.FinishedAt", "State.Health", "Metadata.LastTagTime", "Config.Hostname"),
    *("HostConfig.KernelMemory", "HostConfig.KernelMemoryTCP", "DockerVersion", "Container", "ContainerConfig"),
    "VirtualSize",
}
"""What is each one's own, or was taken out of Docker's documents since the daemons of today's distributions."""


def differences(theirs: Any, ours: Any, at: str = "") -> Iterator[str]:
    """Give the places at which Docker's document has something that ours has not, or something else."""
    if at in DIFFERENT:
        return
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for name, value in theirs.items():
            place = f"{at}.{name}" if at else name
            if name in ours:
                yield from differences(value, ours[name], place)
            elif place not in DIFFERENT:
                yield f"{place} = {value!r} is missing"
    elif theirs != ours:
        yield f"{at}: {ours!r}, not {theirs!r}"


@pytest.mark.parametrize("name", ["made", "alive", "ended", IMAGE])
def test_the_same_document(both: Both, name: str) -> None:
    (theirs,) = json.loads(both.docker.run("inspect", name).stdout)
    (ours,) = json.loads(both.home.ok("inspect", name))
    assert list(differences(theirs, ours)) == []


def test_the_same_mounts(both: Both) -> None:
    def mounts(text: str | bytes) -> dict[str, dict[str, Any]]:
        (document,) = json.loads(text)
        return {mount["Destination"]: mount for mount in document["Mounts"] if mount["Type"] != "tmpfs"}

    theirs, ours = mounts(both.docker.run("inspect", "made").stdout), mounts(both.home.ok("inspect", "made"))
    assert set(theirs) == set(ours) == {"/data", "/mnt", "/var/data"}
    for place, mount in theirs.items():
        own = {"Source", "Mode"} | ({"Name"} if place == "/var/data" else set())
        assert {name: value for name, value in ours[place].items() if name not in own} == {
            name: value for name, value in mount.items() if name not in own
        }


def test_top(both: Both) -> None:
    theirs = both.docker.run("top", "alive").stdout.decode().splitlines()
    ours = both.home.ok("top", "alive").splitlines()
    assert ours[0] == theirs[0]
    assert [line[120:] for line in ours] == [line[120:] for line in theirs]
    assert ours[1][:20] == theirs[1][:20]
