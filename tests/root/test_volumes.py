"""Volumes with real containers and the real command: made, filled from the image, listed, removed."""

import json
import os
import signal
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from onggi import Conflict, ContainerRequest, InvalidArgument, MountRequest, NotFound
from onggi.spec.container import IdMapRequest
from onggi.spec.image_config import ContainerConfig
from tests.containers import wait_for
from tests.homes import IMAGE, Home, pack

TIME_NS = 1_500_000_000_000_000_000
STOCKED = "stocked"


def volume(target: str, source: str = "", **more: Any) -> MountRequest:
    """Ask for a volume."""
    return MountRequest(type="volume", source=source, target=target, **more)


@pytest.fixture
def stocked(home: Home, tmp_path: Path) -> Home:
    """Give a home with an image that has content in /data, a link to it, and declares it a volume."""
    tree = tmp_path / "stocked"
    (tree / "data" / "sub").mkdir(parents=True)
    (tree / "data" / "file").write_text("of the image\n")
    (tree / "data" / "sub" / "again").hardlink_to(tree / "data" / "file")
    (tree / "link").symlink_to("/../../data")
    (tree / "out").symlink_to("/../../../../../../.." + str(tmp_path))
    (tree / "plain").write_text("no directory")
    os.chmod(tree / "data", 0o2770)
    os.utime(tree / "data" / "file", ns=(TIME_NS, TIME_NS))
    with pack(tree, tmp_path / "stocked.tar").open("rb", buffering=0) as file:
        config = ContainerConfig(volumes={"/data/": {}}, cmd=("true",))
        home.engine.images.import_tree(file, name=STOCKED, config=config)
    return home


def create(home: Home, *mounts: MountRequest, image: str = STOCKED, **request: Any) -> str:
    """Create a container; gives its id."""
    return home.engine.containers.create(
        ContainerRequest(image=image, mounts=mounts, network="none", command=("true",), **request)
    ).id


def names(home: Home) -> list[str]:
    """List the volumes."""
    return [found.name for found in home.engine.volumes.list()]


def settled_names(home: Home) -> list[str]:
    """List the volumes, once what has ended is recorded."""
    home.engine.system.fold()
    return names(home)


# -- filling ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/data", "/link"])
def test_an_empty_volume_is_filled_with_what_the_image_has(stocked: Home, target: str) -> None:
    create(stocked, volume(target, "v"))
    data = Path(stocked.engine.volumes.get("v").path)
    assert (data / "file").read_text() == "of the image\n"
    assert (data / "file").stat().st_mtime_ns == TIME_NS
    assert (data / "sub" / "again").stat().st_ino == (data / "file").stat().st_ino
    assert stat.S_IMODE(data.stat().st_mode) == 0o2770
    (data / "file").unlink()
    create(stocked, volume(target, "v"))
    assert os.listdir(data) == ["sub"]
    stocked.assert_consistent()


def test_a_volume_on_a_disk_of_its_own_is_filled(stocked: Home) -> None:
    data = stocked.engine.volumes.create("v").path
    subprocess.run(["mount", "-t", "tmpfs", "disk", data], check=True)
    try:
        create(stocked, volume("/data", "v"))
        assert Path(data, "file").read_text() == "of the image\n"
        assert Path(data, "sub", "again").stat().st_ino == Path(data, "file").stat().st_ino
        assert stat.S_IMODE(os.stat(data).st_mode) == 0o2770
    finally:
        subprocess.run(["umount", data], check=True)
    assert os.listdir(data) == []


def test_nocopy_leaves_it_empty(stocked: Home) -> None:
    create(stocked, volume("/data", "v", copy=False))
    data = Path(stocked.engine.volumes.get("v").path)
    assert os.listdir(data) == []
    assert stat.S_IMODE(data.stat().st_mode) == 0o755


@pytest.mark.parametrize("target", ["/data", "/nothing/there"])
def test_a_volume_belongs_to_the_containers_own_users(stocked: Home, target: str) -> None:
    """In a user namespace of its own: root of the container owns what was root's, and can write."""
    mapped = (IdMapRequest(container=0, host=100000, size=1000),)
    create(stocked, volume(target, "v"), uid_map=mapped, gid_map=mapped)
    data = Path(stocked.engine.volumes.get("v").path)
    for path in (data, *data.iterdir()):
        assert (path.lstat().st_uid, path.lstat().st_gid) == (100000, 100000)


def test_nothing_of_the_host_is_copied(stocked: Home) -> None:
    """A link of the image that leads out of it ends at its root."""
    create(stocked, volume("/out", "v"))
    assert os.listdir(stocked.engine.volumes.get("v").path) == []


def test_a_volume_over_a_file_is_refused(stocked: Home) -> None:
    with pytest.raises(InvalidArgument, match="cannot mount volume over existing file, file exists /plain"):
        create(stocked, volume("/plain"))
    assert names(stocked) == []
    assert stocked.engine.containers.list(every=True) == []
    stocked.assert_consistent()


def test_a_create_that_was_killed_is_made_up_for_at_the_first_start(stocked: Home) -> None:
    handle = stocked.engine.containers.handle(create(stocked, volume("/data", "v"), image=IMAGE))
    data = Path(stocked.engine.volumes.get("v").path)
    assert os.listdir(data) == []
    (data.parent / "filled").mkdir()
    (data.parent / "filled" / "late").touch()
    handle.start()
    assert handle.wait() == 0
    assert os.listdir(data) == ["late"]


def test_a_create_that_is_killed_while_it_fills(stocked: Home, tmp_path: Path) -> None:
    """Whenever the kill comes, the volume has nothing of the image or all of it; the next container fills it."""
    script = "mkdir /many; i=0; while [ $i -lt 500 ]; do echo $i > /many/$i; i=$((i+1)); done"
    assert stocked.shell(script).wait() == 0
    (made,) = stocked.engine.containers.list(every=True)
    stocked.engine.containers.commit(made.id, name="many")
    seen = set()
    for number in range(2):
        name = f"v{number}"
        place = stocked.root / "volumes" / name
        words = stocked.words("create", "-v", f"{name}:/many", "many", "true")
        with subprocess.Popen(words, env=stocked.environment(warm=False), stdout=subprocess.DEVNULL) as process:
            wait_for((place / ("filling", "filled")[number % 2]).exists, "the copy has begun")
            process.kill()
        assert stocked.engine.volumes.get(name).path == f"{place}/_data"
        half = set(os.listdir(place)) - {"_data"}
        seen |= half
        count = len(os.listdir(place / "_data"))
        assert count in (0, 500) or half == {"filled"}
        create(stocked, volume("/many", name), image="many")
        assert len(os.listdir(place / "_data")) == 500
        assert os.listdir(place) == ["_data"]
    assert seen, "every kill came too late"
    stocked.assert_consistent()


# -- anonymous ones --------------------------------------------------------------------------------------


def test_an_image_gives_its_containers_anonymous_volumes(stocked: Home) -> None:
    id = create(stocked)
    (name,) = names(stocked)
    found = stocked.engine.volumes.get(name)
    assert (found.anonymous, found.labels) == (True, {"com.docker.volume.anonymous": ""})
    assert (Path(found.path) / "file").read_text() == "of the image\n"
    assert stocked.engine.volumes.users(name) == [id]
    stocked.engine.containers.remove(id)
    assert names(stocked) == [name]


def test_inspect_says_what_is_mounted(stocked: Home, tmp_path: Path) -> None:
    bind = MountRequest(type="bind", source=str(tmp_path), target="/b", read_only=True)
    (document,) = json.loads(stocked.ok("inspect", create(stocked, volume("/v", "named"), bind)))
    found = {mount["Destination"]: mount for mount in document["Mounts"]}
    assert set(found) == {"/v", "/b", "/data"}
    assert found["/v"] | {"Name": "named", "Driver": "local", "RW": True, "Type": "volume"} == found["/v"]
    assert found["/v"]["Source"] == stocked.engine.volumes.get("named").path
    assert found["/b"] | {"Source": str(tmp_path), "RW": False, "Propagation": "rprivate"} == found["/b"]


def test_rm_v_takes_anonymous_volumes_along_and_leaves_named_ones(stocked: Home) -> None:
    named = stocked.engine.volumes.create().name
    id = create(stocked, volume("/named", named), volume("/further"))
    assert len(names(stocked)) == 3
    stocked.engine.containers.remove(id, volumes=True)
    assert names(stocked) == [named]


def test_a_context_manager_takes_them_along(home: Home) -> None:
    with home.shell("true", mounts=(volume("/a"), volume("/k", "kept"))) as container:
        assert container.wait() == 0
        assert len(names(home)) == 2
    assert names(home) == ["kept"]


def test_rm_takes_the_anonymous_volumes_of_what_removes_itself(home: Home) -> None:
    container = home.shell("true", auto_remove=True, mounts=(volume("/a"), volume("/k", "kept")))
    container.wait()
    wait_for(lambda: settled_names(home) == ["kept"], "the end of its anonymous volume")
    assert home.onggi("run", "--rm", "--network", "none", "-v", "/a", IMAGE, "no-such-program").returncode == 127
    wait_for(lambda: settled_names(home) == ["kept"], "the end of its anonymous volume")


def test_a_lost_supervisor_leaves_no_anonymous_volume(home: Home) -> None:
    container = home.shell("sleep 600", auto_remove=True, mounts=(volume("/a"),))
    os.kill(home.supervisor(container.id), signal.SIGKILL)
    wait_for(lambda: settled_names(home) == [], "the end of its anonymous volume")


def test_a_volume_is_free_once_run_rm_is_back(home: Home) -> None:
    """What it ran on may be let go of later, as its name is free at once."""
    for _ in range(6):
        home.ok("run", "--rm", "--network", "none", "-v", "v:/v", "-v", "/a", IMAGE, "touch", "/v/x", "/a/x")
        assert home.ok("volume", "ls", "-q") == "v\n"
        assert home.ok("volume", "rm", "v") == "v\n"
    wait_for(lambda: settled_names(home) == [] and not os.listdir(home.root / "containers"), "its end")
    home.assert_consistent()


def test_a_name_that_is_taken_leaves_no_volume(home: Home) -> None:
    home.engine.containers.create(ContainerRequest(image=IMAGE, network="none"), name="taken")
    request = ContainerRequest(image=IMAGE, network="none", mounts=(volume("/a"),))
    with pytest.raises(Conflict):
        home.engine.containers.create(request, name="taken")
    assert names(home) == []
    home.assert_consistent()


# -- removing --------------------------------------------------------------------------------------------


def test_a_volume_in_use_stays(home: Home) -> None:
    id = create(home, volume("/v", "v"), image=IMAGE)
    with pytest.raises(Conflict) as caught:
        home.engine.volumes.remove("v", force=True)
    assert str(caught.value) == f"remove v: volume is in use - [{id}]"
    assert home.engine.volumes.prune(every=True).names == ()
    home.engine.containers.remove(id, volumes=True)
    assert names(home) == ["v"]
    home.engine.volumes.remove("v")
    home.engine.volumes.remove("v", force=True)
    with pytest.raises(NotFound, match="get v: no such volume"):
        home.engine.volumes.remove("v")


def test_prune_removes_what_nobody_uses(home: Home) -> None:
    anonymous, labelled = home.engine.volumes.create(), home.engine.volumes.create("l", labels={"a": "b"})
    home.engine.volumes.create("named")
    create(home, volume("/v", "used"), image=IMAGE)
    (Path(anonymous.path) / "file").write_bytes(b"0123456789")
    pruned = home.engine.volumes.prune()
    assert (pruned.names, pruned.size_bytes) == ((anonymous.name,), 10)
    assert home.engine.volumes.prune(every=True, chosen=lambda v: "a" in v.labels).names == (labelled.name,)
    assert home.engine.volumes.prune(every=True).names == ("named",)
    assert names(home) == ["used"]
    home.assert_consistent()


# -- the command -----------------------------------------------------------------------------------------


def test_the_volume_commands(home: Home) -> None:
    assert home.ok("volume", "create", "--label", "a=b", "-l", "c", "data") == "data\n"
    (document,) = json.loads(home.ok("volume", "inspect", "data"))
    assert document == {
        "CreatedAt": document["CreatedAt"],
        "Driver": "local",
        "Labels": {"a": "b", "c": ""},
        "Mountpoint": f"{home.root}/volumes/data/_data",
        "Name": "data",
        "Options": None,
        "Scope": "local",
    }
    random = home.ok("volume", "create").strip()
    assert len(random) == 64
    lines = home.ok("volume", "ls").splitlines()
    assert [line.split() for line in lines] == [
        ["DRIVER", "VOLUME", "NAME"],
        *(["local", name] for name in sorted(["data", random])),
    ]
    assert home.ok("volume", "ls", "-q").split() == sorted(["data", random])
    assert json.loads(home.ok("inspect", "data")) == json.loads(home.ok("inspect", "--type", "volume", "data"))
    assert home.ok("volume", "inspect", "-f", "{{.Name}} {{.Labels.a}}", "data") == "data b\n"
    missing = home.onggi("volume", "inspect", "nothing")
    assert (missing.returncode, missing.stdout) == (1, "[]\n")
    assert missing.stderr == "onggi: get nothing: no such volume\n"
    gone = home.onggi("volume", "rm", "nothing", "data")
    assert (gone.returncode, gone.stdout) == (1, "data\n")
    assert gone.stderr == "onggi: get nothing: no such volume\n"
    assert home.ok("volume", "rm", "-f", "nothing") == "nothing\n"


def test_ls_filters_and_formats(home: Home) -> None:
    home.engine.volumes.create("web-data", labels={"a": "b"})
    home.engine.volumes.create("other", labels={"a": "c"})
    create(home, volume("/v", "used"), image=IMAGE)

    def ls(*arguments: str) -> list[str]:
        return home.ok("volume", "ls", "-q", *(word for one in arguments for word in ("--filter", one))).split()

    assert ls("dangling=true") == ["other", "web-data"]
    assert ls("dangling=false") == ["used"]
    assert ls("name=web") == ls("label=a=b") == ls("label=a", "label=a=b") == ["web-data"]
    assert ls("driver=nfs") == []
    text = home.ok(
        "volume", "ls", "--filter", "label=a", "--format", '{{.Name}} {{.Driver}} {{.Label "a"}} {{.Labels}}'
    )
    assert text == "other local c a=c\nweb-data local b a=b\n"
    assert json.loads(home.ok("volume", "ls", "--json"))[1]["Mountpoint"] == f"{home.root}/volumes/used/_data"
    refused = home.onggi("volume", "ls", "--filter", "size=1")
    assert (refused.returncode, refused.stderr) == (1, "onggi: invalid filter 'size'\n")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("-d", "nfs", "v"), 'create v: error looking up volume plugin nfs: plugin "nfs" not found'),
        (("-o", "type=tmpfs", "v"), "the option type of the driver local is not supported"),
        (("a/b",), "includes invalid characters for a local volume name"),
    ],
)
def test_what_is_not_there_is_refused_by_name(home: Home, arguments: tuple[str, ...], text: str) -> None:
    refused = home.onggi("volume", "create", *arguments)
    assert refused.returncode == 1
    assert text in refused.stderr
    assert names(home) == []


def prune(home: Home, *arguments: str, answer: str = "") -> "subprocess.CompletedProcess[str]":
    """Run `volume prune` with an answer on stdin."""
    return home.onggi("volume", "prune", *arguments, input=answer, stdin=None)


def test_prune_asks_first(home: Home) -> None:
    name = home.ok("volume", "create").strip()
    home.ok("volume", "create", "--label", "keep", "named")
    question = (
        "WARNING! This will remove anonymous local volumes not used by at least one container.\n"
        "Are you sure you want to continue? [y/N] "
    )
    for answer in ("", "n\n", "\n"):
        asked = prune(home, answer=answer)
        assert (asked.returncode, asked.stdout) == (0, question)
    assert prune(home, answer="y\n").stdout == f"{question}Deleted Volumes:\n{name}\n\nTotal reclaimed space: 0B\n"
    assert prune(home, "-f").stdout == "Total reclaimed space: 0B\n"
    assert prune(home, "-af", "--filter", "label!=keep").stdout == "Total reclaimed space: 0B\n"
    assert "This will remove all local volumes" in prune(home, "-a").stdout
    assert "named\n" in prune(home, "-af", "--filter", "label=keep").stdout
    events = home.ok("events", "--since", "1h", "--until", "0s", "--filter", "type=volume")
    assert events.count(" volume prune ") == 4
    refused = prune(home, "-f", "--filter", "until=1h")
    assert (refused.returncode, refused.stderr) == (1, "onggi: invalid filter 'until'\n")


def test_the_command_makes_a_missing_directory_for_v_and_refuses_it_for_mount(home: Home, tmp_path: Path) -> None:
    place = tmp_path / "made" / "here"
    home.ok("run", "--rm", "--network", "none", "-v", f"{place}:/x", IMAGE, "touch", "/x/file")
    assert os.listdir(place) == ["file"]
    missing = tmp_path / "missing"
    refused = home.onggi("run", "--mount", f"type=bind,source={missing},target=/x", IMAGE, "true")
    assert refused.returncode == 125
    assert f'invalid mount config for type "bind": bind source path does not exist: {missing}' in refused.stderr
    assert not missing.exists()
    under = home.onggi("run", "--rm", "-v", f"{place}/file/below:/x", IMAGE, "true")
    assert under.returncode == 125
    assert f"error while creating mount source path '{place}/file/below'" in under.stderr
    assert home.engine.containers.list(every=True) == []
