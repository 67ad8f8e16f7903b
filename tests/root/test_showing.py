"""The commands that show: what they print of real containers and images."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from onggi.host.launcher import Launcher
from onggi.spec.image_config import ContainerConfig
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
