"""The commands that show: what they print of real containers and images."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from onggi.host.launcher import Launcher
from onggi.spec.image_config import ContainerConfig
from tests.containers import TIMEOUT_S
from tests.homes import IMAGE, Home, Installed


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, launcher: Launcher, installed: Installed, base: Path
) -> Iterator[Home]:
    """Give a state root with one container that runs, one that has ended, and two images."""
    with Home(tmp_path_factory.mktemp("showing") / "state", launcher, installed, base) as home:
        with base.open("rb", buffering=0) as file:
            config = ContainerConfig(labels={"made": "here"}, exposed_ports={"80/tcp": {}}, cmd=("sleep", "1000"))
            home.engine.images.import_tree(file, name="example.org/other:2", message="a note", config=config)
        home.start("sh", "-c", "printf 12345 > /new; exit 3", name="ended", labels={"k": "v w"}).wait(timeout_s=30)
        home.start("sleep", "1000", name="alive", network="bridge")
        yield home


def test_ps(shared: Home) -> None:
    assert (
        shared.ok("ps", "--format", "{{.Names}} {{.Image}} {{.State}} {{.Networks}}")
        == f"alive {IMAGE} running bridge\n"
    )
    assert (
        shared.ok("ps", "-a", "-f", "exited=3", "--format", r"{{.Names}}\t{{.Label \"k\"}}".replace('\\"', '"'))
        == "ended\tv w\n"
    )
    header, line = shared.ok("ps", "-as", "--filter", "name=ended").splitlines()
    assert header.split() == ["CONTAINER", "ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES", "SIZE"]
    assert "5B (virtual" in line
    assert header.index("SIZE") == line.index("5B (virtual")


def test_sizes_by_the_template(shared: Home) -> None:
    assert shared.ok("ps", "-a", "--filter", "name=ended", "--format", "{{.Size}}").startswith("5B (virtual ")
    (line,) = shared.ok("ps", "-a", "--filter", "name=ended", "--format", "json").splitlines()
    assert json.loads(line)["Size"] == "0B"
    (entry,) = json.loads(shared.ok("ps", "-a", "-s", "--filter", "name=ended", "--json"))
    assert entry["Size"].startswith("5B (virtual ")
    assert entry["Labels"] == "k=v w"


def test_images(shared: Home) -> None:
    assert sorted(shared.ok("images", "--format", "{{.Repository}}:{{.Tag}}").split()) == [
        f"{IMAGE}:latest",
        "example.org/other:2",
    ]
    for arguments in (["example.org/other"], ["-f", "label=made=here"], ["-f", "reference=*/other:*"]):
        assert shared.ok("images", *arguments, "--format", "{{.Repository}}") == "example.org/other\n", arguments
    assert shared.ok("images", "-f", "dangling=true", "-q") == ""
    header = shared.ok("images", "--digests").splitlines()[0]
    assert header.split() == ["REPOSITORY", "TAG", "DIGEST", "IMAGE", "ID", "CREATED", "SIZE"]
    done = shared.onggi("images", "-f", "odd=1")
    assert (done.returncode, done.stderr) == (1, "onggi: invalid filter 'odd'\n")


def test_history(shared: Home) -> None:
    sizes = shared.ok("history", "--human=false", "--format", "{{.Size}} {{.Comment}}", "example.org/other:2").split()
    assert int(sizes[0]) > 100_000
    assert sizes[1:] == ["a", "note"]
    assert "CREATED AT" in shared.ok("history", "--human=false", IMAGE)
    assert shared.ok("history", "-q", "--no-trunc", IMAGE) == f"{shared.image.id}\n"


def test_inspect(shared: Home) -> None:
    assert (
        shared.ok("inspect", "-f", "{{.Name}} {{.State.ExitCode}} {{json .Config.Labels}}", "ended")
        == '/ended 3 {"k":"v w"}\n'
    )
    assert shared.ok("inspect", "-f", "{{.ID}}", "alive", IMAGE).split()[1] == str(shared.image.id)
    assert json.loads(shared.ok("inspect", "-f", "json", "alive"))[0]["Name"] == "/alive"
    done = shared.onggi("inspect", "-f", "{{.Nope}}", "alive")
    assert (done.returncode, done.stdout) == (1, "\n")
    assert (
        done.stderr
        == 'onggi: template parsing error: template: :1:2: executing "" at <.Nope>: map has no entry for key "Nope"\n'
    )
    done = shared.onggi("inspect", "-f", "{{.Nope", "alive")
    assert (done.returncode, done.stderr) == (64, "onggi: template parsing error: template: :1: unclosed action\n")


def test_inspect_of_a_kind(shared: Home) -> None:
    assert shared.ok("inspect", "--type", "image", "-f", "{{.Os}}", IMAGE) == "linux\n"
    done = shared.onggi("inspect", "--type", "container", IMAGE)
    assert (done.returncode, done.stdout, done.stderr) == (1, "[]\n", f"onggi: No such container: {IMAGE}\n")
    assert shared.ok("container", "inspect", "-f", "{{.Name}}", "alive") == "/alive\n"
    done = shared.onggi("container", "inspect", IMAGE)
    assert (done.returncode, done.stderr) == (1, f"onggi: No such container: {IMAGE}\n")
    done = shared.onggi("inspect", "nobody")
    assert (done.returncode, done.stdout, done.stderr) == (1, "[]\n", "onggi: No such object: nobody\n")
    done = shared.onggi("inspect", "--type", "odd", "alive")
    assert done.returncode == 1
    assert 'unknown type: "odd": must be one of "container"' in done.stderr
    (document,) = json.loads(shared.ok("inspect", "--size", "ended"))
    assert document["SizeRw"] == 5
    assert document["SizeRootFs"] > 100_000
    done = shared.onggi("inspect", "-s", "-f", "x", IMAGE)
    assert (done.stdout, done.stderr) == ("x\n", "WARNING: --size ignored for image\n")


def test_what_inspect_names_is_there(shared: Home) -> None:
    (document,) = json.loads(shared.ok("inspect", "alive"))
    for name in ("ResolvConfPath", "HostnamePath", "HostsPath", "LogPath"):
        assert Path(document[name]).is_file(), name
    storage = document["GraphDriver"]["Data"]
    assert Path(storage["UpperDir"]).is_dir()
    assert (Path(storage["LowerDir"]) / "bin" / "busybox").exists()
    assert Path(document["NetworkSettings"]["SandboxKey"]).exists()
    (image,) = json.loads(shared.ok("image", "inspect", "example.org/other:2"))
    assert image["GraphDriver"]["Data"]["LowerDir"].split(":")
    assert image["Config"]["ExposedPorts"] == {"80/tcp": {}}
    assert image["Comment"] == "a note"
    assert image["Metadata"]["LastTagTime"].startswith("20")


def test_stats(shared: Home) -> None:
    header, line = shared.ok("stats", "--no-stream").splitlines()
    assert " ".join(header.split()) == "CONTAINER ID NAME CPU % MEM USAGE / LIMIT MEM % NET I/O BLOCK I/O PIDS"
    assert line.split()[1] == "alive"
    assert line.split()[2].endswith("%")
    assert line.split()[-1] == "1"
    (ended,) = shared.ok("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}} {{.CPUPerc}}", "ended").splitlines()
    assert ended == "ended 0 0.00%"
    names = shared.ok("stats", "--no-stream", "-a", "--format", "{{.Name}}").split()
    assert sorted(names) == ["alive", "ended"]
    (entry,) = json.loads(shared.ok("stats", "--no-stream", "--json", "alive"))
    assert entry["Container"] == "alive"
    done = shared.onggi("stats", "nobody")
    assert (done.returncode, done.stderr) == (1, "onggi: No such container: nobody\n")


def test_stats_go_on_until_interrupted(shared: Home) -> None:
    command = shared.words("stats", "--format", "{{.Name}}", "alive")
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=shared.environment()) as process:
        assert process.stdout is not None
        screens = [process.stdout.readline() for _ in range(4)]
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) != 0
    assert screens == [b"\x1b[Halive \x1b[K\n", b" \x1b[K\n", b"\x1b[J\x1b[Halive \x1b[K\n", b" \x1b[K\n"]


def test_top(shared: Home) -> None:
    header, line = shared.ok("top", "alive").splitlines()
    assert header.split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert [header[20 * number :].split()[0] for number in range(8)] == header.split()
    pid = shared.engine.containers.get("alive").pid
    assert line.split()[:3] == ["root", str(pid), str(shared.supervisor("alive"))]
    assert line.endswith("sleep 1000")
    assert shared.ok("top", "alive", "-o", "pid,comm").split() == ["PID", "COMMAND", str(pid), "sleep"]
    done = shared.onggi("top", "alive", "-x")
    assert (done.returncode, done.stdout) == (1, "")
    assert "the option -x of ps is not supported" in done.stderr


def test_logs_of_a_time(home: Home) -> None:
    home.start("sh", "-c", "echo one; echo two >&2", name="said").wait(timeout_s=30)
    lines = list(home.engine.containers.logs("said"))
    assert home.ok("logs", "--until", lines[0].time, "said") == "one\n"
    assert home.ok("logs", "--until", "10m", "said") == ""
    assert home.ok("logs", "-f", "--until", "10m", "said") == ""
    done = home.onggi("logs", "--since", lines[1].time, "-t", "--details", "said")
    assert (done.stdout, done.stderr) == ("", f"{lines[1].time}  two\n")
    done = home.onggi("logs", "--since", "soon", "said")
    assert (done.returncode, done.stderr) == (1, 'onggi: failed to parse value as time or duration: "soon"\n')


def test_version_and_info(shared: Home) -> None:
    assert shared.ok("version", "-f", "{{.Client.Os}} {{.Server.Os}}") == "linux linux\n"
    assert json.loads(shared.ok("version", "-f", "json"))["Server"]["Platform"] == {"Name": "Onggi"}
    assert "OS/Arch:           linux/" in shared.ok("version")
    done = shared.onggi("version", "-f", "{{.X")
    problem = "onggi: template parsing error: template: version:1: unclosed action\n"
    assert (done.returncode, done.stderr) == (64, problem)
    assert shared.ok("info", "-f", "{{.ContainersRunning}} {{.Images}} {{.DockerRootDir}}") == f"1 2 {shared.root}\n"
    assert "Operating System: " in shared.ok("info")
    done = shared.onggi("info", "-f", "{{.Nope}}")
    assert (done.returncode, done.stdout) == (1, "")


def test_a_container_outlives_its_image(home: Home) -> None:
    home.start("true", name="orphan", labels={"k": "v"}).wait(timeout_s=30)
    assert home.ok("rmi", "-f", IMAGE).startswith(f"Untagged: {IMAGE}:latest\nDeleted: ")
    shown = home.ok("ps", "-a", "--format", "{{.Names}} {{.Image}} {{.Command}}")
    assert shown.split() == ["orphan", home.image.id.hex[:12], '"true"']
    assert "orphan" in home.ok("ps", "-as")
    assert home.ok("inspect", "-f", "{{.Name}}", "orphan") == "/orphan\n"
    assert home.ok("start", "orphan") == "orphan\n"
