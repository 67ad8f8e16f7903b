"""`cp` between the host and containers that run or do not, and what a hostile root file system cannot do with it."""

import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from onggi import (
    ContainerRequest,
    FailedPrecondition,
    InvalidArgument,
    MountRequest,
    NotFound,
    NotSupported,
    OnggiError,
)
from onggi.engine.copying import ContainerFiles
from onggi.engine.handles import Handle
from onggi.host.locks import take_lock
from onggi.spec.container import IdMapRequest
from onggi.store.containers import Change
from tests.containers import wait_for
from tests.homes import IMAGE, Home

TIME_NS = 1_500_000_000_000_000_000
WAIT = "echo ready; sleep 600"


def volume(target: str, source: str, **more: Any) -> MountRequest:
    """Ask for a volume."""
    return MountRequest(type="volume", source=source, target=target, **more)


@pytest.fixture(params=["running", "stopped", "created"])
def make(request: pytest.FixtureRequest, home: Home) -> Callable[..., Handle]:
    """Make containers that ran a script: they run still, have ended, or have never been started (without a script)."""

    def made(script: str = "true", **options: Any) -> Handle:
        options = {"network": "none", **options}
        if request.param == "created":
            if script != "true":
                pytest.skip("nothing has run in it")
            found = home.engine.containers.create(ContainerRequest(image=IMAGE, command=("true",), **options))
            return home.engine.containers.handle(found.id)
        running = request.param == "running"
        container = home.shell(f"set -e; {script}" + (f"; {WAIT}" if running else ""), **options)
        if running:
            wait_for(lambda: list(container.logs()), "its first line")
        else:
            assert container.wait() == 0
        return container

    return made


def files_of(home: Home, container: Handle) -> Any:
    """Open its files."""
    return home.engine.containers.files(container.id)


def read(home: Home, container: Handle, path: str) -> bytes:
    """Read a file of a container by way of a tar."""
    sink = io.BytesIO()
    with files_of(home, container) as files:
        files.pack(path, sink)
    with closing(tarfile.open(fileobj=io.BytesIO(sink.getvalue()))) as tar:
        content = tar.extractfile(tar.getmembers()[0])
        assert content is not None
        return content.read()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Give a directory of the host with one of everything."""
    top = tmp_path / "tree"
    (top / "sub").mkdir(parents=True)
    (top / "file").write_bytes(b"content")
    (top / "sub" / "again").hardlink_to(top / "file")
    (top / "link").symlink_to("/etc/passwd")
    os.chown(top / "file", 5, 6)
    os.chmod(top / "file", 0o640)
    os.utime(top / "file", ns=(TIME_NS, TIME_NS))
    os.setxattr(top / "file", "user.note", b"kept")
    return top


# -- in and out ------------------------------------------------------------------------------------------


def test_a_tree_comes_back_as_it_went(home: Home, make: Callable[..., Handle], tree: Path, tmp_path: Path) -> None:
    container = make()
    with files_of(home, container) as files:
        files.copy_in(str(tree), "/srv")
        files.copy_out("/srv", str(tmp_path / "back"), archive=True)
    back = tmp_path / "back"
    file = (back / "file").stat()
    assert (back / "file").read_bytes() == b"content"
    assert (file.st_uid, file.st_gid, stat.S_IMODE(file.st_mode), file.st_mtime_ns) == (5, 6, 0o640, TIME_NS)
    assert os.getxattr(back / "file", "user.note") == b"kept"
    assert (back / "sub" / "again").stat().st_ino == file.st_ino
    assert os.readlink(back / "link") == "/etc/passwd"
    container.remove(force=True)
    home.assert_consistent()


def test_what_comes_out_belongs_to_the_caller(
    home: Home, make: Callable[..., Handle], tree: Path, tmp_path: Path
) -> None:
    with files_of(home, make()) as files:
        files.copy_in(str(tree / "file"), "/")
        files.copy_out("/file", str(tmp_path))
        files.copy_in(str(tree / "file"), "/root/own", archive=True)
        files.copy_out("/root/own", str(tmp_path), archive=True)
    for name in ("file", "own"):
        seen = (tmp_path / name).stat()
        assert (seen.st_uid, seen.st_gid, stat.S_IMODE(seen.st_mode), seen.st_mtime_ns) == (0, 0, 0o640, TIME_NS)


def test_archive_gives_all_to_the_containers_user(
    home: Home, make: Callable[..., Handle], tree: Path, tmp_path: Path
) -> None:
    with files_of(home, make(user="www")) as files:
        files.copy_in(str(tree), "/tmp/tree", archive=True)
        files.copy_out("/tmp/tree/.", str(tmp_path / "out"), archive=True)
    assert ((tmp_path / "out" / "file").stat().st_uid, (tmp_path / "out" / "file").stat().st_gid) == (82, 82)


def test_what_a_container_wrote_is_there(home: Home, make: Callable[..., Handle]) -> None:
    container = make("echo written > /tmp/x; rm /etc/group")
    assert read(home, container, "/tmp/x") == b"written\n"
    with files_of(home, container) as files, pytest.raises(NotFound) as caught:
        files.stat("/etc/group")
    assert str(caught.value) == f"Could not find the file /etc/group in container {container.id}"


def test_what_was_copied_in_is_seen_by_the_container(home: Home, tree: Path) -> None:
    container = home.start("cat", "/srv/file", "/data/file", mounts=(volume("/data", "v"),), network="none")
    container.wait()
    with files_of(home, container) as files:
        files.copy_in(str(tree), "/srv")
        files.copy_in(f"{tree}/.", "/data")
    container.start()
    assert container.wait() == 0
    assert [line.log for line in container.logs()][-1].endswith("contentcontent")


def test_volumes_and_binds_are_in_their_places(
    home: Home, make: Callable[..., Handle], tree: Path, tmp_path: Path
) -> None:
    (tmp_path / "bound").mkdir()
    (tmp_path / "bound" / "here").write_text("bound\n")
    bind = MountRequest(type="bind", source=str(tmp_path / "bound"), target="/data/sub/bind")
    container = make(mounts=(volume("/data", "v"), bind))
    with files_of(home, container) as files:
        files.copy_in(str(tree / "file"), "/data/in")
        files.copy_in(str(tree / "file"), "/data/sub/bind/in")
        files.copy_out("/data", str(tmp_path / "out"))
    assert Path(home.engine.volumes.get("v").path, "in").read_bytes() == b"content"
    assert (tmp_path / "bound" / "in").read_bytes() == b"content"
    assert sorted(os.listdir(tmp_path / "out" / "sub" / "bind")) == ["here", "in"]
    upper = home.root / "snapshots" / container.id / "fs"
    assert not list(upper.rglob("in"))


def test_what_is_read_only_stays_so(home: Home, make: Callable[..., Handle], tree: Path) -> None:
    mounts = (volume("/ro", "v", read_only=True), volume("/rw", "w"))
    container = make(mounts=mounts, read_only=True)
    with files_of(home, container) as files:
        with pytest.raises(InvalidArgument, match="container rootfs is marked read-only"):
            files.copy_in(str(tree), "/etc")
        with pytest.raises(InvalidArgument, match="mounted volume is marked read-only"):
            files.copy_in(str(tree), "/ro")
        files.copy_in(str(tree), "/rw")
    assert os.listdir(home.engine.volumes.get("v").path) == []
    assert os.listdir(home.engine.volumes.get("w").path) == ["tree"]


def test_the_files_by_which_names_are_resolved_are_seen(home: Home, make: Callable[..., Handle]) -> None:
    container = make("echo line >> /etc/hosts")
    assert read(home, container, "/etc/hosts").endswith(b"line\n")


def test_file_systems_of_the_running_one_are_not_seen(home: Home, tmp_path: Path) -> None:
    container = home.shell(f"echo x > /scratch/x; {WAIT}", mounts=(MountRequest(type="tmpfs", target="/scratch"),))
    wait_for(lambda: list(container.logs()), "its first line")
    with files_of(home, container) as files:
        for path in ("/proc/1", "/scratch/x", "/sys/kernel", "/dev/null"):
            with pytest.raises(NotFound):
                files.stat(path)
        files.copy_out("/", str(tmp_path / "all"))
    assert os.listdir(tmp_path / "all" / "proc") == []
    assert (tmp_path / "all" / "bin" / "busybox").exists()


# -- where things go -------------------------------------------------------------------------------------


@pytest.fixture
def stopped(home: Home) -> Iterator[ContainerFiles]:
    """Give the files of a container that has /d/file, /d/sub/, /f, and links /to-d, /to-f, /to-nothing."""
    script = (
        "mkdir -p /d/sub; echo d > /d/file; echo f > /f; chmod 700 /d;"
        "ln -s /d /to-d; ln -s f /to-f; ln -s /d/new /to-nothing; mkfifo /fifo"
    )
    container = home.shell(script)
    assert container.wait() == 0
    with files_of(home, container) as files:
        yield files


def listing(top: Path) -> list[str]:
    """List all below a directory."""
    return sorted(str(path.relative_to(top)) for path in top.rglob("*"))


@pytest.mark.parametrize(
    ("source", "destination", "follow", "found"),
    [
        ("/d", "there", False, ["d", "d/file", "d/sub", "mine"]),
        ("/d/", "there", False, ["d", "d/file", "d/sub", "mine"]),
        ("/d/.", "there", False, ["file", "mine", "sub"]),
        ("d", "there/new", False, ["mine", "new", "new/file", "new/sub"]),
        ("/d/.", "there/new", False, ["mine", "new", "new/file", "new/sub"]),
        ("/f", "there", False, ["f", "mine"]),
        ("/f", "there/", False, ["f", "mine"]),
        ("/f", "there/mine", False, ["mine"]),
        ("/f", "there/new", False, ["mine", "new"]),
        ("/to-f", "there", False, ["mine", "to-f"]),
        ("/to-f", "there", True, ["mine", "to-f"]),
        ("/to-d", "there", True, ["mine", "to-d", "to-d/file", "to-d/sub"]),
        ("/to-d/.", "there", False, ["file", "mine", "sub"]),
        ("/to-d/../f", "there", False, ["f", "mine"]),
        ("/fifo", "there", False, ["fifo", "mine"]),
    ],
)
def test_where_it_goes_on_the_host(
    stopped: ContainerFiles, tmp_path: Path, source: str, destination: str, follow: bool, found: list[str]
) -> None:
    there = tmp_path / "there"
    there.mkdir(0o711)
    (there / "mine").write_text("mine\n")
    stopped.copy_out(source, f"{tmp_path}/{destination}", follow=follow)
    assert listing(there) == found
    assert stat.S_IMODE(there.stat().st_mode) == 0o711
    if "to-f" in found:
        assert (there / "to-f").is_symlink() != follow
    if destination == "there/mine":
        assert (there / "mine").read_text() == "f\n"


@pytest.mark.parametrize(
    ("source", "destination", "text"),
    [
        ("/d", "mine", "cannot copy directory"),
        ("/f", "new/", "no such directory"),
        ("/f", "no/such/place", "invalid output path: directory"),
        ("/f", "fifo", "must be a directory or a regular file"),
        ("/f", "clash", "cannot overwrite directory 'f' with non-directory"),
        ("/d", "clash", "cannot overwrite non-directory 'd/sub' with directory"),
        ("/nothing", "mine", "Could not find the file /nothing in container"),
    ],
)
def test_what_does_not_fit_on_the_host(
    stopped: ContainerFiles, tmp_path: Path, source: str, destination: str, text: str
) -> None:
    (tmp_path / "mine").touch()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "clash" / "f").mkdir(parents=True)
    (tmp_path / "clash" / "d").mkdir()
    (tmp_path / "clash" / "d" / "sub").touch()
    with pytest.raises(Exception, match=text):
        stopped.copy_out(source, f"{tmp_path}/{destination}")
    assert (tmp_path / "mine").read_bytes() == b""
    assert (tmp_path / "clash" / "f").is_dir()


@pytest.mark.parametrize(
    ("source", "destination", "follow", "at"),
    [
        ("tree", "/d", False, "/d/tree/file"),
        ("tree/.", "/d/new", False, "/d/new/file"),
        ("tree/.", "/d", False, "/d/sub/again"),
        ("tree/file", "/to-nothing", False, "/d/new"),
        ("tree/file", "/to-f", False, "/f"),
        ("tree/file", "/to-d", False, "/d/file"),
        ("tree/file", "d/sub/", False, "/d/sub/file"),
        ("to-file", "/d", True, "/d/to-file"),
        ("to-tree", "/d", True, "/d/to-tree/file"),
        ("to-tree/", "/d", False, "/d/to-tree/file"),
    ],
)
def test_where_it_goes_in_a_container(
    stopped: ContainerFiles, tree: Path, source: str, destination: str, follow: bool, at: str
) -> None:
    (tree.parent / "to-file").symlink_to("tree/file")
    (tree.parent / "to-tree").symlink_to(tree)
    stopped.copy_in(f"{tree.parent}/{source}", destination, follow=follow)
    found = stopped.stat(at)
    assert (found.size_bytes, found.mode & 0o7777, found.mtime_ns) == (7, 0o640, TIME_NS)
    assert stopped.stat("/d").mode & 0o7777 == 0o700


@pytest.mark.parametrize(
    ("source", "destination", "text"),
    [
        ("tree", "/f", "cannot copy directory"),
        ("tree/file", "/new/", "no such directory"),
        ("tree/file", "/no/such", "Could not find the file /no in container"),
        ("tree/file", "/f/x", "extraction point is not a directory"),
        ("tree/file", "/fifo", "must be a directory or a regular file"),
        ("nothing", "/d", "no such file or directory"),
    ],
)
def test_what_does_not_fit_in_a_container(
    stopped: ContainerFiles, tree: Path, source: str, destination: str, text: str
) -> None:
    with pytest.raises(Exception, match=text):
        stopped.copy_in(f"{tree.parent}/{source}", destination)
    assert stopped.stat("/f").size_bytes == 2


# -- hostile ---------------------------------------------------------------------------------------------


def test_links_of_a_container_lead_nowhere_on_the_host(
    home: Home, make: Callable[..., Handle], tree: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "secret").write_text("of the host")
    up = "../" * 40
    container = make(f"ln -s {up}{victim} /rel; ln -s {victim} /abs; mkdir /d; ln -s {victim} /d/inner")
    with files_of(home, container) as files:
        for link in ("/rel", "/abs"):
            with pytest.raises(NotFound):
                files.stat(f"{link}/secret")
            with pytest.raises((NotFound, InvalidArgument)):
                files.copy_in(str(tree / "file"), f"{link}/")
            files.copy_out(link, str(tmp_path / "out"))
            assert (tmp_path / "out").is_symlink()
            (tmp_path / "out").unlink()
        (tree / "inner").mkdir()
        (tree / "inner" / "file").touch()
        with pytest.raises(Exception, match="cannot overwrite non-directory"):
            files.copy_in(f"{tree}/.", "/d")
    assert os.listdir(victim) == ["secret"]


def test_a_mount_point_that_is_a_link_stays_inside(home: Home, tree: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    made = home.shell(f"ln -s {'../' * 40}{victim} /data")
    assert made.wait() == 0
    home.engine.containers.commit(made.id, name="hostile")
    found = home.engine.containers.create(
        ContainerRequest(image="hostile", command=("true",), network="none", mounts=(volume("/data", "v"),))
    )
    with home.engine.containers.files(found.id) as files:
        files.copy_in(str(tree / "file"), "/data/in")
    assert os.listdir(victim) == []
    assert os.listdir(home.engine.volumes.get("v").path) == ["in"]


def test_directories_that_become_links_meanwhile(home: Home, tree: Path, tmp_path: Path) -> None:
    """CVE-2018-15664: a container exchanges a directory and a link while its files are copied in and out."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("secret of the host")
    (victim / "file").chmod(0o600)
    before = (victim / "file").stat()
    container = home.shell(
        f"mkdir /d /e; echo mine > /d/file; ln -s {'../' * 40}{victim} /link; cp -a /link /e; echo ready;"
        "while :; do mv /d /e/d; cp -a /link /d; rm /d; mv /e/d /d; done"
    )
    wait_for(lambda: list(container.logs()), "its first line")
    with files_of(home, container) as files:
        for number in range(60):
            out = tmp_path / f"out{number}"
            with suppress(OnggiError):
                files.copy_in(str(tree / "file"), "/d/file")
            with suppress(OnggiError):
                files.copy_out("/d/file", str(out))
                assert out.is_symlink() or out.read_bytes() in (b"mine\n", b"content", b"")
            with suppress(OnggiError):
                files.copy_in(f"{tree}/.", "/d")
    after = (victim / "file").stat()
    assert os.listdir(victim) == ["file"]
    assert (after.st_ino, after.st_mtime_ns, after.st_mode) == (before.st_ino, before.st_mtime_ns, before.st_mode)


def test_devices_do_not_come_out(home: Home, tmp_path: Path) -> None:
    container = home.shell("mkdir /d; mknod /d/disk b 7 0; echo > /d/file", cap_add=("MKNOD",))
    assert container.wait() == 0
    with files_of(home, container) as files:
        assert files.copy_out("/d", str(tmp_path / "out")).skipped_devices == 1
    assert os.listdir(tmp_path / "out") == ["file"]


def test_one_with_other_owners_is_refused(home: Home) -> None:
    mapped = (IdMapRequest(container=0, host=100000, size=65536),)
    request = ContainerRequest(image=IMAGE, network="none", uid_map=mapped, gid_map=mapped)
    found = home.engine.containers.create(request)
    with pytest.raises(NotSupported, match="user namespace of its own"), home.engine.containers.files(found.id):
        pass


def test_another_process_under_its_number_is_not_taken_for_it(home: Home) -> None:
    """Between the record of a process and a look at it, it may end and its number be given away."""
    container = home.shell(WAIT)
    wait_for(lambda: list(container.logs()), "its first line")
    home.engine.containers._context.containers.change(container.id, ("running",), Change(pid=os.getpid()))
    with pytest.raises(FailedPrecondition, match="has ended just now"), files_of(home, container):
        pass


# -- beside other commands -------------------------------------------------------------------------------


def test_a_start_waits_and_nothing_is_left_mounted(home: Home, make: Callable[..., Handle], tree: Path) -> None:
    container = make(mounts=(volume("/data", "v"),))
    before = Path("/proc/self/mountinfo").read_text()
    with files_of(home, container) as files:
        files.copy_in(str(tree), "/data")
        assert not home.engine.containers._context.snapshots.is_released(container.id)
        assert Path("/proc/self/mountinfo").read_text() == before
    if container.status != "running":
        assert home.engine.containers._context.snapshots.is_released(container.id)
        container.start()
        container.wait()


def test_its_end_does_not_release_what_is_copied_from(home: Home, tmp_path: Path) -> None:
    container = home.shell(f"echo there > /x; {WAIT}")
    wait_for(lambda: list(container.logs()), "its first line")
    snapshots = home.engine.containers._context.snapshots
    with files_of(home, container) as files:
        container.kill()
        take_lock(f"{home.run}/containers/{container.id}/lock", "its supervisor", timeout_s=30).close()
        assert not snapshots.is_released(container.id)
        files.copy_out("/x", str(tmp_path / "x"))
    assert (tmp_path / "x").read_text() == "there\n"
    assert snapshots.is_released(container.id)


# -- the command -----------------------------------------------------------------------------------------


def test_the_command(home: Home, tmp_path: Path) -> None:
    container = home.shell(WAIT)
    ref = container.name
    (tmp_path / "a:b").write_text("hello\n")
    assert home.onggi("cp", "./a:b", f"{ref}:/tmp/x", cwd=tmp_path).stderr == ""
    said = home.onggi("cp", "--no-quiet", str(tmp_path / "a:b"), f"{ref}:/tmp/x")
    assert (said.returncode, said.stderr) == (0, f"Successfully copied 2.05kB to {ref}:/tmp/x\n")
    said = home.onggi("cp", "--no-quiet", f"{ref}:/tmp/x", "out", cwd=tmp_path)
    assert said.stderr == f"Successfully copied 2.05kB to {tmp_path}/out\n"
    assert (tmp_path / "out").read_text() == "hello\n"
    events = home.ok("events", "--since", "1h", "--until", "0s").splitlines()
    assert [line.split()[2] for line in events][-3:] == ["extract-to-dir", "extract-to-dir", "archive-path"]
    assert home.onggi("container", "cp", f"{ref}:/tmp/x", "again", cwd=tmp_path).returncode == 0
    assert (tmp_path / "again").read_text() == "hello\n"


def test_tars_by_the_command(home: Home, tree: Path, tmp_path: Path) -> None:
    home.engine.containers.create(ContainerRequest(image=IMAGE, network="none"), name="c")
    subprocess.run(["tar", "-czf", tmp_path / "in.tgz", "-C", tree, "."], check=True)
    with (tmp_path / "in.tgz").open("rb") as file:
        home.ok("cp", "-", "c:/tmp", stdin=file)
    with (tmp_path / "out.tar").open("wb") as file:
        done = subprocess.run(
            home.words("cp", "c:/tmp/", "-"), stdout=file, env=home.environment(), check=False, timeout=60
        )
    assert done.returncode == 0
    with closing(tarfile.open(tmp_path / "out.tar")) as tar:
        found = {entry.name: entry for entry in tar}
    assert sorted(found) == ["tmp", "tmp/file", "tmp/link", "tmp/sub", "tmp/sub/again"]
    assert found["tmp"].mode == 0o1777
    first, second = found["tmp/file"], found["tmp/sub/again"]
    assert (first.uid, first.mode, first.mtime, second.linkname) == (5, 0o640, TIME_NS / 1e9, "tmp/file")
    refused = home.onggi("cp", "-", "c:/etc/passwd")
    assert (refused.returncode, refused.stderr) == (1, 'onggi: destination "c:/etc/passwd" must be a directory\n')


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("a", "b"), "must specify at least one container source"),
        (("a:/x", "b:/y"), "copying between containers is not supported"),
        (("", "b:/y"), "source can not be empty"),
        (("a:/x", ""), "destination can not be empty"),
        (("nothing:/x", "y"), "No such container: nothing"),
    ],
)
def test_what_the_command_refuses(home: Home, arguments: tuple[str, str], text: str) -> None:
    refused = home.onggi("cp", *arguments)
    assert (refused.returncode, refused.stderr) == (1, f"onggi: {text}\n")
