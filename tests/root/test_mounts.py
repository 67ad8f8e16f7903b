"""Mounts of containers on the real kernel: propagation, read-only trees, temporary file systems, --volumes-from."""

import os
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.homes import IMAGE, Home

RUN: Final = ("run", "--rm", "--network", "none")


def in_own_mounts(home: Home, directory: Path, script: str) -> "subprocess.CompletedProcess[str]":
    """Run a script in a mount namespace of its own: $D, in `directory`, is a shared mount, `onggi` works on this root.

    What it mounts is nowhere else, and goes with it.
    """
    directory = directory / "shared"
    directory.mkdir()
    words = " ".join(f"'{word!s}'" for word in home.words())
    begin = f'set -e; mount -t tmpfs shared $D; mount --make-shared $D; onggi() {{ {words} "$@"; }}\n'
    return subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", begin + script],
        env=home.environment(warm=False, D=str(directory)),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("mode", "seen"), [("rshared", "inside outside"), ("rslave", "inside"), ("rprivate", ""), ("", "")]
)
def test_propagation(home: Home, tmp_path: Path, mode: str, seen: str) -> None:
    """`inside`: a mount of the host is seen in the container; `outside`: one of the container on the host."""
    done = in_own_mounts(
        home,
        tmp_path,
        f"""
        mkdir $D/host $D/container
        onggi run -d --name c --privileged --network none -v $D:/x{mode and ":" + mode} {IMAGE} sleep 600 > /dev/null
        mount -t tmpfs of-the-host $D/host; touch $D/host/inside
        onggi exec c ls /x/host
        onggi exec --privileged c sh -c 'mount -t tmpfs of-the-container /x/container; touch /x/container/outside'
        ls $D/container
        """,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert " ".join(done.stdout.split()) == seen


@pytest.mark.parametrize(
    ("flags", "top", "said"),
    [
        ("-v $D:/x:ro", "", "Read-only"),
        ("--mount type=bind,src=$D,dst=/x,readonly", "", "Read-only"),
        ("--mount type=bind,src=$D,dst=/x,readonly,bind-recursive=readonly,bind-propagation=rprivate", "", "Read-only"),
        ("--mount type=bind,src=$D,dst=/x,readonly,bind-recursive=writable", "", "written"),
        ("--mount type=bind,src=$D,dst=/x,bind-recursive=disabled", "top", "No such file"),
        ("--mount type=bind,src=$D,dst=/x,bind-nonrecursive", "top", "No such file"),
        ("-v $D:/x", "top", "written"),
    ],
)
def test_what_is_mounted_in_a_bind_mount(home: Home, tmp_path: Path, flags: str, top: str, said: str) -> None:
    """The top can be written to exactly if it is not read-only; the tree below follows it unless asked otherwise."""
    done = in_own_mounts(
        home,
        tmp_path,
        f"""
        mkdir $D/below; mount -t tmpfs nested $D/below; touch $D/below/there
        onggi {" ".join(RUN)} {flags} {IMAGE} sh -c '
            touch /x/file && echo top
            cat /x/below/there && touch /x/below/file && echo written' 2>&1 || true
        """,
    )
    lines = done.stdout.splitlines()
    assert ("top" in lines) == bool(top)
    assert said in lines[-1]


def test_temporary_file_systems(home: Home) -> None:
    script = "stat -c '%a %U' /a /b; grep -E ' /(a|b) ' /proc/mounts; cp /bin/busybox /b/; /b/busybox echo ran"
    out = home.ok(
        *RUN,
        *("--mount", "type=tmpfs,dst=/a,tmpfs-size=1m,tmpfs-mode=1770"),
        *("--tmpfs", "/b:size=8m,exec,uid=82,mode=700"),
        *(IMAGE, "sh", "-c", script),
    )
    assert out.splitlines()[:2] == ["1770 root", "700 www"]
    first, second = out.splitlines()[2:4]
    assert all(word in first.split()[3].split(",") for word in ("rw", "nosuid", "nodev", "noexec", "size=1024k"))
    assert "noexec" not in second
    assert out.splitlines()[4] == "ran"
    assert home.onggi(*RUN, "--tmpfs", "/a:ro", IMAGE, "touch", "/a/x").returncode == 1


def test_a_volume_of_a_mount_gets_its_labels(home: Home) -> None:
    home.ok(*RUN, "--mount", "src=v,dst=/t,volume-label=a=b", IMAGE, "true")
    assert home.engine.volumes.get("v").labels == {"a": "b"}
    home.ok(*RUN, "--mount", "src=v,dst=/t,volume-label=c", IMAGE, "true")
    assert home.engine.volumes.get("v").labels == {"a": "b"}


def test_volumes_from_another_container(home: Home, tmp_path: Path) -> None:
    (tmp_path / "bound").mkdir()
    home.ok("create", "--name", "first", "-v", "named:/n", "-v", "/a", "-v", f"{tmp_path}/bound:/b:ro", IMAGE)
    named = Path(home.engine.volumes.get("named").path)
    (anonymous,) = (volume for volume in home.engine.volumes.list() if volume.anonymous)
    (Path(anonymous.path) / "here").touch()
    said = home.ok(*RUN, "--volumes-from", "first", IMAGE, "sh", "-c", "ls /a; touch /n/1; touch /b/1 || echo refused")
    assert said == "here\nrefused\n"
    assert os.listdir(named) == ["1"]
    read_only = home.onggi(*RUN, "--volumes-from", "first:ro", IMAGE, "touch", "/n/2", "/a/2")
    assert read_only.stderr.count("Read-only file system") == 2
    own = home.ok(*RUN, "--volumes-from", "first", "-v", "own:/n", IMAGE, "ls", "/n")
    assert own == ""
    home.ok("create", "--name", "second", "--volumes-from", "first", IMAGE)
    home.ok("rm", "-v", "first")
    assert home.engine.volumes.get(anonymous.name) == anonymous
    home.ok("rm", "-v", "second")
    assert [volume.name for volume in home.engine.volumes.list()] == ["named", "own"]


def test_volumes_from_nowhere(home: Home) -> None:
    refused = home.onggi("create", "--volumes-from", "nothing", IMAGE)
    assert (refused.returncode, refused.stderr) == (125, "onggi: No such container: nothing\n")
    refused = home.onggi("create", "--volumes-from", "nothing:copy", IMAGE)
    assert (refused.returncode, refused.stderr) == (125, "onggi: invalid mode: copy\n")
