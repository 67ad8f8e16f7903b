"""What everything takes up on the disk, and clearing out what is not used, in Docker's words."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from onggi import ContainerRequest, MountRequest
from onggi.store.containers import Container
from tests.containers import wait_for
from tests.homes import IMAGE, TIMEOUT_S, Home

KIB = 1024


def build(home: Home, directory: Path, dockerfile: str, *flags: str) -> str:
    """Build an image; gives its id."""
    directory.mkdir(exist_ok=True)
    (directory / "Dockerfile").write_text(dockerfile)
    return home.ok("build", "-q", "--network", "none", *flags, str(directory)).strip()


def ended(home: Home, name: str, script: str = "true", **request: Any) -> str:
    """Have a container that has ended; gives its id."""
    container = home.start("sh", "-c", script, name=name, **request)
    container.wait(timeout_s=TIMEOUT_S)
    return str(container.id)


def ids(home: Home) -> set[str]:
    """List all containers by name."""
    return {container.name or "" for container in home.engine.containers.list(every=True)}


def test_disk_usage(home: Home, tmp_path: Path) -> None:
    build(home, tmp_path / "context", f"FROM {IMAGE}\nRUN head -c 3000 /dev/zero > /three\n", "-t", "three")
    mounts = (MountRequest(type="volume", source="vol", target="/v"),)
    ended(home, "done", "head -c 500 /dev/zero > /x; head -c 700 /dev/zero > /v/y", mounts=mounts)
    home.start("sh", "-c", "head -c 100 /dev/zero > /x; echo ready; sleep 600", name="runs", image="three")
    home.engine.volumes.create("unused")
    usage = home.engine.system.disk_usage()
    assert usage.layers_bytes == home.engine.images.get("three").size_bytes
    images = {item.image.references[0].rpartition("/")[2]: item for item in usage.images}
    assert images["three:latest"].unique_bytes == 3000
    assert images["three:latest"].shared_bytes == images["box:latest"].image.size_bytes
    assert (images["three:latest"].containers, images["box:latest"].containers) == (1, 1)
    assert (usage.sum_images().active, usage.sum_images().reclaimable_bytes) == (2, 0)
    containers = usage.sum_containers()
    assert (containers.total, containers.active, containers.reclaimable_bytes) == (2, 1, 500)
    volumes = usage.sum_volumes()
    assert (volumes.total, volumes.active, volumes.size_bytes, volumes.reclaimable_bytes) == (2, 1, 700, 0)
    assert [entry.shared for entry in usage.build_cache] == [True]
    lines = home.ok("system", "df").splitlines()
    assert lines[0].split() == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    assert lines[2].startswith("Containers      2         1         ")
    assert lines[3:] == [
        "Local Volumes   2         1         700B      0B (0%)",
        "Build Cache     1         1         0B        0B",
    ]
    assert home.ok("system", "df", "--format", "{{.Type}}={{.TotalCount}}").splitlines()[0] == "Images=2"
    home.ok("rm", "-f", "runs")
    home.ok("rmi", "three")
    assert home.engine.system.disk_usage().sum_images().total == 1


def test_disk_usage_in_detail(home: Home, tmp_path: Path) -> None:
    ended(home, "done", "head -c 500 /dev/zero > /x", mounts=(MountRequest(type="volume", target="/v"),))
    build(home, tmp_path / "context", f"FROM {IMAGE}\nRUN head -c 2000 /dev/zero > /two\n")
    said = home.ok("system", "df", "-v")
    titles = [line for line in said.splitlines() if "usage:" in line]
    assert titles == [
        *("Images space usage:", "Containers space usage:", "Local Volumes space usage:", "Build cache usage: 0B")
    ]
    headers = [" ".join(line.split()) for line in said.splitlines() if line.isupper()]
    assert headers == [
        "REPOSITORY TAG IMAGE ID CREATED SIZE SHARED SIZE UNIQUE SIZE CONTAINERS",
        "CONTAINER ID IMAGE COMMAND LOCAL VOLUMES SIZE CREATED STATUS NAMES",
        "VOLUME NAME LINKS SIZE",
        "CACHE ID CACHE TYPE SIZE CREATED LAST USED SHARED",
    ]
    found = msgspec.json.decode(home.ok("system", "df", "-v", "--format", "json"))
    assert [item["Size"] for item in found["Containers"]] == ["500B"]
    assert [item["UniqueSize"] for item in found["Images"] if item["Repository"] == "<none>"] == ["2kB"]
    assert found["Containers"][0]["ID"] == home.engine.containers.get("done").id
    assert "template parsing error" in home.onggi("system", "df", "-v", "--format", "{{.Nope}}").stderr


def test_container_prune(home: Home) -> None:
    old = ended(home, "old", "head -c 300 /dev/zero > /x", labels={"keep": "no"})
    home.start("sleep", "600", name="runs")
    home.engine.containers.create(ContainerRequest(image=IMAGE, network="none", labels={"keep": "yes"}), name="made")
    home.ok("container", "prune", "-f", "--filter", "until=1h")
    home.ok("container", "prune", "-f", "--filter", "label=other")
    assert ids(home) == {"old", "runs", "made"}
    said = home.ok("container", "prune", "-f", "--filter", "label!=keep=yes")
    assert said == f"Deleted Containers:\n{old}\n\nTotal reclaimed space: 300B\n"
    assert ids(home) == {"runs", "made"}
    assert home.ok("container", "prune", "-f", "--filter", f"until={int(time.time()) + 60}").startswith("Deleted Cont")
    assert home.ok("container", "prune", "-f") == "Total reclaimed space: 0B\n"
    assert ids(home) == {"runs"}
    home.assert_consistent()


def test_an_end_that_is_just_being_recorded_is_waited_for(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    container = home.start("sleep", "600")
    containers, listed = home.engine.containers, threading.Event()
    found = containers.list
    gone: list[str] = []

    def list_and_tell(*, every: bool = False) -> list[Container]:
        seen = found(every=every)
        listed.set()
        return seen

    monkeypatch.setattr(containers, "list", list_and_tell)
    thread = threading.Thread(target=lambda: gone.extend(home.engine.pruning.containers(lambda _: True).ids))
    with home.engine._context.containers.lock(container.id):
        os.kill(containers.recorded(("running",))[0].pid, signal.SIGKILL)
        wait_for((home.run / "containers" / container.id / "exit").exists, "its exit record")
        thread.start()
        assert listed.wait(TIMEOUT_S)
    thread.join(TIMEOUT_S)
    assert gone == [container.id]


@pytest.mark.parametrize("answer", ["n\n", "", "\n", "yesterday\n"])
def test_without_yes_nothing_goes(home: Home, answer: str) -> None:
    ended(home, "old")
    done = home.onggi("container", "prune", input=answer)
    assert (done.returncode, done.stdout) == (
        0,
        "WARNING! This will remove all stopped containers.\nAre you sure you want to continue? [y/N] ",
    )
    for words in (("system", "prune", "-a"), ("image", "prune", "-a"), ("builder", "prune")):
        assert home.onggi(*words, input=answer).stdout.endswith("[y/N] ")
    assert ids(home) == {"old"}
    assert home.ok("container", "prune", input="y\n").endswith("Total reclaimed space: 0B\n")
    assert ids(home) == set()


def test_image_prune(home: Home, tmp_path: Path) -> None:
    first = build(home, tmp_path / "context", f"FROM {IMAGE}\nLABEL k=v\nRUN head -c 5000 /dev/zero > /five\n")
    tagged = build(home, tmp_path / "context", f"FROM {IMAGE}\nRUN echo 2 > /two\n", "-t", "tagged")
    home.ok("image", "prune", "-f", "--filter", "label=other")
    home.ok("image", "prune", "-f", "--filter", "until=1h")
    assert len(home.engine.images.list()) == 3
    assert home.ok("image", "prune", "-f").startswith(f"Deleted Images:\ndeleted: {first}\n\nTotal reclaimed space: ")
    home.start("sleep", "600")
    said = home.ok("image", "prune", "-af")
    assert said.startswith(f"Deleted Images:\nuntagged: tagged:latest\ndeleted: {tagged}\n\nTotal reclaimed space: ")
    assert [image.id for image in home.engine.images.list()] == [home.image.id]
    home.assert_consistent()


def test_an_image_with_a_container_stays_nameless_or_not(home: Home, tmp_path: Path) -> None:
    id = build(home, tmp_path / "context", f"FROM {IMAGE}\nRUN echo 1 > /one\n")
    container = home.engine.containers.create(ContainerRequest(image=id, network="none"))
    assert home.ok("image", "prune", "-f") == "Total reclaimed space: 0B\n"
    home.engine.containers.remove(container.id)
    assert f"deleted: {id}" in home.ok("image", "prune", "-f")


def test_builder_prune(home: Home, tmp_path: Path) -> None:
    dockerfile = f"FROM {IMAGE}\nRUN head -c 4000 /dev/zero > /four\n"
    build(home, tmp_path / "context", dockerfile, "-t", "four")
    assert home.ok("builder", "prune", "-f") == "Total reclaimed space: 0B\n"  # the image has it
    home.ok("rmi", "four")
    (entry,) = home.engine.system.build_cache()
    assert home.ok("builder", "prune", "-f", "--filter", "until=1h") == "Total reclaimed space: 0B\n"
    assert home.ok("builder", "prune", "-f", "--keep-storage", "1g") == "Total reclaimed space: 0B\n"
    lines = home.ok("builder", "du").splitlines()
    assert lines[0].split() == ["ID", "RECLAIMABLE", "SIZE", "LAST", "ACCESSED"]
    assert lines[1].split()[:3] == [entry.key[:25], "true", "4kB"]
    assert lines[2:] == ["Shared:       0B", "Private:      4kB", "Reclaimable:  4kB", "Total:        4kB"]
    said = home.ok("builder", "prune", "-f")
    assert said == f"Deleted build cache objects:\n{entry.key}\n\nTotal reclaimed space: 4kB\n"
    assert home.engine.system.build_cache() == []
    home.assert_consistent()


def test_builder_prune_keeps_what_was_used_last(home: Home, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        id = build(home, tmp_path / "context", f"FROM {IMAGE}\nRUN head -c {number}000 /dev/zero > /x\n")
        home.ok("rmi", id)
    assert [entry.size_bytes for entry in home.engine.system.build_cache()] == [1000, 2000, 3000]
    home.ok("builder", "prune", "-f", "--keep-storage", "5kb")
    assert [entry.size_bytes for entry in home.engine.system.build_cache()] == [2000, 3000]


def test_system_prune(home: Home, tmp_path: Path) -> None:
    mounts = tuple(MountRequest(type="volume", source=name, target=f"/{name}x") for name in ("", "vol"))
    ended(home, "old", mounts=mounts)
    nameless = build(home, tmp_path / "context", f"FROM {IMAGE}\nRUN echo 1 > /one\n")
    said = home.ok("system", "prune", input="y\n")
    assert said.startswith(
        "WARNING! This will remove:\n  - all stopped containers\n  - all dangling images\n  - unused build cache\n\n"
        "Are you sure you want to continue? [y/N] Deleted Containers:\n"
    )
    assert f"\nDeleted Images:\ndeleted: {nameless}\n\nDeleted build cache objects:\n" in said
    assert [volume.anonymous for volume in home.engine.volumes.list()] != [False]
    assert home.engine.system.build_cache() == []
    said = home.ok("system", "prune", "-a", "--volumes", "--filter", "label!=x", input="y\n")
    assert "  - all anonymous volumes not used by at least one container\n  - all images without" in said
    assert "\n\n  Items to be pruned will be filtered with:\n  - label!=x\n\nAre you sure" in said
    assert "Deleted Volumes:\n" in said
    assert "untagged: box:latest\n" in said
    assert [volume.name for volume in home.engine.volumes.list()] == ["vol"]
    usage = home.engine.system.disk_usage()
    assert (usage.images, usage.containers, usage.build_cache) == ((), (), ())
    home.assert_consistent()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ("system", "prune", "--volumes", "--filter", "until=1h"),
            '"until" filter is not supported',
        ),
        (("system", "prune", "--filter", "bogus=1"), "invalid filter 'bogus'"),
        (("container", "prune", "--filter", "until=xx"), 'failed to parse value as time or duration: "xx"'),
        (("image", "prune", "--filter", "until=1h", "--filter", "until=2h"), "more than one until filter specified"),
        (("builder", "prune", "--keep-storage", "lots"), "invalid size: 'lots'"),
        (("builder", "prune", "--filter", "label=x"), "invalid filter 'label'"),
    ],
)
def test_what_is_wrong_is_said_before_anything_goes(home: Home, words: tuple[str, ...], text: str) -> None:
    ended(home, "old")
    done = home.onggi(*words, "-f")
    assert (done.returncode, done.stdout) == (1, "")
    assert text in done.stderr
    assert ids(home) == {"old"}
