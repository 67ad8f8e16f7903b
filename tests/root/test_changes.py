"""`onggi diff`: an upper directory against the layers below it, made by hand and by containers."""

import os
import stat
from pathlib import Path
from typing import Final

import pytest

from onggi.base.errors import Conflict, OnggiError
from onggi.host.changes import list_changes
from onggi.spec.container import ContainerRequest, MountRequest
from tests.homes import Home

Pair = tuple[Path, Path]
DEEP: Final = 30


def changes(pair: Pair, **options: object) -> list[tuple[str, bytes]]:
    """Compare an upper directory with the one below."""
    fds = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in pair]
    try:
        return list_changes(*fds, **options)  # type: ignore[arg-type]
    finally:
        for fd in fds:
            os.close(fd)


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """Give an empty upper directory, and a lower one with /d/e/g, /d/f and /etc/conf."""
    upper, below = tmp_path / "upper", tmp_path / "below"
    upper.mkdir()
    (below / "d" / "e").mkdir(parents=True)
    (below / "etc").mkdir()
    for name in ("d/e/g", "d/f", "etc/conf"):
        (below / name).write_text(name)
    return upper, below


def copy_up(pair: Pair, name: str) -> Path:
    """Copy a file or directory up as overlayfs does."""
    upper, below = pair
    for part in [*reversed(Path(name).parents), Path(name)][1:]:
        if (upper / part).exists():
            continue
        if (below / part).is_dir():
            (upper / part).mkdir()
        else:
            (upper / part).write_bytes((below / part).read_bytes())
        seen = (below / part).stat()
        (upper / part).chmod(stat.S_IMODE(seen.st_mode))
        os.utime(upper / part, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    return upper / name


def whiteout(path: Path) -> None:
    """Leave overlayfs's mark of something that is gone."""
    os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))


def test_nothing_changed(pair: Pair) -> None:
    assert changes(pair) == []
    copy_up(pair, "d/f")  # opened for writing, and nothing written
    copy_up(pair, "d/e")
    assert changes(pair) == []


def test_added_changed_and_deleted_in_the_order_of_a_walk(pair: Pair) -> None:
    upper, _ = pair
    copy_up(pair, "d/f").write_text("another")
    whiteout(copy_up(pair, "etc") / "conf")
    (upper / "a").mkdir()
    (upper / "a" / "b").touch()
    (upper / "a-b").touch()
    (upper / "z").symlink_to("/etc")
    assert changes(pair) == [
        ("A", b"/a"),
        ("A", b"/a/b"),
        ("A", b"/a-b"),
        ("C", b"/d"),
        ("C", b"/d/f"),
        ("C", b"/etc"),
        ("D", b"/etc/conf"),
        ("A", b"/z"),
    ]


def test_only_the_mode_the_owner_or_the_time(pair: Pair) -> None:
    copy_up(pair, "d/f").chmod(0o600)
    os.chown(copy_up(pair, "d/e"), 7, 7)
    assert changes(pair) == [("C", b"/d"), ("C", b"/d/e"), ("C", b"/d/f")]
    os.utime(copy_up(pair, "etc/conf"), (1, 1))
    assert changes(pair)[-2:] == [("C", b"/etc"), ("C", b"/etc/conf")]


def test_only_a_capability(pair: Pair) -> None:
    value = bytes.fromhex("0100000200040000000000000000000000000000")
    os.setxattr(copy_up(pair, "d/f"), "security.capability", value)
    assert changes(pair) == [("C", b"/d"), ("C", b"/d/f")]


def test_a_directory_that_hides_what_was_in_it(pair: Pair) -> None:
    upper, below = pair
    (below / "d" / "e" / "deeper").mkdir()
    (below / "d" / "e" / "deeper" / "x").touch()
    made = upper / "d"
    (made / "e" / "deeper").mkdir(parents=True)
    os.setxattr(made, "trusted.overlay.opaque", b"y")
    (made / "n").touch()
    assert changes(pair) == [
        ("C", b"/d"),
        ("C", b"/d/e"),
        ("C", b"/d/e/deeper"),
        ("D", b"/d/e/deeper/x"),
        ("D", b"/d/e/g"),
        ("D", b"/d/f"),
        ("A", b"/d/n"),
    ]


def test_a_file_where_a_directory_was_and_the_other_way_round(pair: Pair) -> None:
    upper, _ = pair
    copy_up(pair, "d")
    (upper / "d" / "e").touch()
    (upper / "d" / "f").mkdir()
    (upper / "d" / "f" / "in").touch()
    assert changes(pair) == [("C", b"/d"), ("C", b"/d/e"), ("C", b"/d/f"), ("A", b"/d/f/in")]


def test_links_below_lead_nowhere(pair: Pair) -> None:
    upper, below = pair
    (below / "link").symlink_to("/etc")
    (below / "out").symlink_to("../../..")
    (upper / "link").mkdir()
    (upper / "link" / "conf").touch()
    (upper / "out").mkdir()
    (upper / "out" / "etc").mkdir()
    assert changes(pair) == [("C", b"/link"), ("A", b"/link/conf"), ("C", b"/out"), ("A", b"/out/etc")]


def test_whiteouts_of_nothing_say_nothing_and_devices_are_no_whiteouts(pair: Pair) -> None:
    upper, _ = pair
    whiteout(upper / "never-was")
    os.mknod(upper / "null", stat.S_IFCHR, os.makedev(1, 3))
    os.mkfifo(upper / "fifo")
    assert changes(pair) == [("A", b"/fifo"), ("A", b"/null")]


@pytest.mark.parametrize("name", [b"\xff\xfe", b"\x1b[31m", b"a\nb", b"-rf", b" ", b"..."])
def test_hostile_names(pair: Pair, name: bytes) -> None:
    upper = os.fsencode(pair[0])
    os.mkdir(upper + b"/" + name)
    os.close(os.open(upper + b"/" + name + b"/" + name, os.O_CREAT | os.O_WRONLY))
    assert changes(pair) == [("A", b"/" + name), ("A", b"/" + name + b"/" + name)]


def test_a_tree_too_deep_for_a_path_is_refused_in_a_sentence(pair: Pair) -> None:
    fd = os.open(pair[0], os.O_RDONLY)
    for _ in range(DEEP):
        os.mkdir("n" * 200, dir_fd=fd)
        inner = os.open("n" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    with pytest.raises(OnggiError, match=r"cannot compare with the image .*file name too long"):
        changes(pair)


def test_what_a_start_made_is_no_change_until_something_is_in_it(pair: Pair) -> None:
    upper, _ = pair
    made = {b"proc", b"new", b"new/hosts", b"full"}
    (upper / "proc").mkdir()
    (upper / "new").mkdir()
    (upper / "new" / "hosts").touch()
    (upper / "full").write_text("x")
    assert changes(pair, made=made) == [("C", b"/full")]
    (upper / "new" / "more").touch()
    assert changes(pair, made=made) == [("C", b"/full"), ("C", b"/new"), ("A", b"/new/more")]


SCRIPT: Final = """
mkdir /d /d/e; echo 1 > /d/f; echo 2 > /d/e/g; mkdir /old; echo 3 > /old/x; echo 4 > /gone; echo 5 > /conf
"""
CHANGE: Final = """
echo 2 > /d/f; rm /gone; rm -rf /d/e; mkdir /d/e; echo z > /d/e/n; chmod 600 /conf; mv /old /new; mkdir /a; touch /a/b
"""


@pytest.fixture
def changed(home: Home) -> str:
    """Give a container that has changed its image in every way, as real docker was asked to."""
    home.shell(SCRIPT).wait(timeout_s=30)
    (made,) = home.engine.containers.list(every=True)
    home.engine.containers.commit(made.id, name="trees")
    container = home.start("sh", "-c", CHANGE, image="trees", name="changed")
    assert container.wait(timeout_s=30) == 0
    return "changed"


def test_diff_of_a_container_as_docker_prints_it(home: Home, changed: str) -> None:
    """What dockerd 20.10 said of the same script, sorted."""
    assert home.ok("diff", changed).splitlines() == [
        "A /a",
        "A /a/b",
        "C /conf",
        "C /d",
        "C /d/e",
        "D /d/e/g",
        "A /d/e/n",
        "C /d/f",
        "D /gone",
        "A /new",
        "A /new/x",
        "D /old",
    ]
    assert ("D", b"/old") in home.engine.containers.handle(changed).changes()


@pytest.mark.parametrize("verb", [("diff",), ("container", "diff")])
def test_diff_of_a_running_container_and_of_none(home: Home, verb: tuple[str, ...]) -> None:
    container = home.shell("touch /tmp/new; echo ready; sleep 600", mounts=(MountRequest(type="volume", target="/v"),))
    lines = container.logs(stream=True)
    assert next(lines).log == "ready\n"
    assert home.ok(*verb, container.name, warm=False) == "C /tmp\nA /tmp/new\nA /v\n"
    done = home.onggi(*verb, "nope", warm=False)
    assert (done.returncode, done.stderr) == (1, "onggi: No such container: nope\n")
    assert home.onggi(*verb).returncode == 125


def test_diff_with_bytes_that_are_no_text(home: Home) -> None:
    container = home.shell("touch $(printf '/tmp/\\377\\033')")
    container.wait(timeout_s=30)
    assert home.ok("diff", container.name).encode(errors="surrogateescape") == b"C /tmp\nA /tmp/\xff\x1b\n"


def test_a_container_in_a_directory_has_nothing_to_compare_with(home: Home, rootfs: Path) -> None:
    container = home.engine.containers.create(ContainerRequest(rootfs=str(rootfs), command=("true",), network="none"))
    with pytest.raises(Conflict, match="nothing to compare with"):
        home.engine.containers.changes(container.id)
