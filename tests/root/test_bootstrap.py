"""Base images: from a tiny archive on loopback, hostile in every way that an archive can be, and from the real one."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pysequoia
import pytest

from onggi.base.errors import (
    Cancelled,
    Corrupt,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    NotSupported,
    OnggiError,
    Unauthorized,
    Unavailable,
)
from onggi.bootstrap.names import parse_name
from onggi.bootstrap.release import HOST_KEYRINGS
from onggi.bootstrap.sources import parse_host, plan_archives
from onggi.build.events import Event, Note, StepDone, StepOutput, StepStarted
from onggi.engine.assemble import Engine
from onggi.host.apt import read_apt_sources
from onggi.host.http import Downloads
from onggi.host.launcher import Launcher, LaunchFailed
from onggi.spec.container import ContainerRequest
from onggi.store.images import Image
from tests.debian_archive import BUILT_S, Archive, Files, Mirror, broken_off, endless, public_key, sha256

TINY: Final = "debian:bookworm"
_APPLETS: Final = ("sh", "chmod", "mkdir", "rm", "ln", "find", "cat", "env", "ls", "touch", "id", "sleep")

# Stands for dpkg: notes how it was called, and leaves what a clean image does not have.
_DPKG: Final = """#!/bin/sh
echo "dpkg $*" >>/var/lib/dpkg/calls
echo "Unpacking all"
echo "dpkg: warning: not configured yet" >&2
case "$*" in
*--unpack*)
    { ls /mnt; id -u; env | grep -e ^SOURCE -e ^DEBIAN; } >/var/lib/dpkg/seen ;;
*--configure*)
    touch /var/lib/dpkg/status-old /etc/passwd- /var/log/dpkg.log /tmp/x
    echo 1234 >/etc/machine-id
    echo noise >/var/log/wtmp
    ls /sys/class/net | tr '\\n' ' ' >/var/lib/dpkg/links
    if [ -e /etc/slow ]; then echo waiting; while :; do sleep 1000; done; fi
    if [ -e /etc/broken ]; then echo "postinst: this does not work" >&2; exit 3; fi ;;
esac
"""


class Base:
    """A state root that makes base images of one mirror."""

    def __init__(self, root: Path, launcher: Launcher) -> None:
        self.root = root
        self.engine = Engine(root, launcher=launcher)
        self.events: list[Event] = []

    def make(self, mirror: Mirror | str, name: str = TINY, *, keyring: bytes | None = None, **options: str) -> Image:
        """Bootstrap an image, with the key of the tests."""
        url = mirror if isinstance(mirror, str) else mirror.url
        maker = self.engine.bootstrap(tell=self.events.append, keyring=keyring or public_key())
        return maker.make(name, mirror=url, **options)

    def files(self, image: Image) -> Path:
        """Give the directory of an image's only layer."""
        (layer,) = self.engine.images.layers(image)
        return self.root / layer.place / "fs"

    def notes(self) -> list[str]:
        """Give the remarks that were told."""
        return [event.text for event in self.events if isinstance(event, Note)]

    def run(self, image: str, *command: str, **request: object) -> str:
        """Run a container to its end; gives what it printed."""
        asked = ContainerRequest(**{"network": "none", **request})  # type: ignore[arg-type]
        container = self.engine.containers.run(image, command, request=asked)
        container.wait(timeout_s=60)
        said = "".join(line.log for line in container.logs())
        self.engine.containers.remove(container.id, force=True)
        return said

    def assert_clean(self) -> None:
        """Find nothing that a bootstrap that failed has left."""
        assert self.engine.system.check() == []
        assert os.listdir(self.root / "ingest") == []
        assert os.listdir(self.root / "snapshots") == []
        assert self.engine.images.list() == []


@pytest.fixture
def new_base(tmp_path: Path, launcher: Launcher) -> Iterator[Callable[[str], Base]]:
    """Make state roots by name, which are gone afterwards."""
    with ExitStack() as stack:

        def make(name: str) -> Base:
            base = Base(tmp_path / name, launcher)
            stack.callback(base.engine.close)
            stack.callback(base.engine.system.reset)
            return base

        yield make


@pytest.fixture
def base(new_base: Callable[[str], Base]) -> Base:
    """Make a state root."""
    return new_base("root")


@pytest.fixture
def archive(busybox: Path) -> Archive:
    """Make an archive with the least that a system is configured by."""
    return tiny_archive(busybox).publish()


def tiny_archive(busybox: Path, distribution: str = "debian", suite: str = "bookworm") -> Archive:
    """Fill an archive."""
    made = Archive(distribution, suite)
    tools: Files = {
        "usr/bin/busybox": busybox.read_bytes(),
        **{f"usr/bin/{name}": ("link", 0, b"busybox") for name in ("grep", "tr", *_APPLETS)},
        "bin/of-merged-usr": b"#!/bin/sh\n",
    }
    skeleton: Files = {
        **{f"{name}/": ("dir", 0o755, b"") for name in ("etc", "mnt", "proc", "sys", "dev", "var/log", "var/lib")},
        "tmp/": ("dir", 0o1777, b""),
        "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
        "etc/group": b"root:x:0:\n",
        "usr/share/doc/tiny/copyright": b"yours\n",
        "usr/share/doc/tiny/changelog": b"none\n",
        "usr/share/man/man1/sh.1": b"a manual\n",
        "usr/share/locale/ko/x.mo": b"words\n",
        "usr/share/locale/locale.alias": b"aliases\n",
    }
    made.add("base-files", skeleton, Essential="yes", Pre_Depends="awk")
    made.add("tools", tools, Priority="required", Provides="awk")
    made.add("dpkg", {"usr/bin/dpkg": _DPKG.encode()}, Priority="required", mtime_s=BUILT_S + 50)
    made.add("apt", {"etc/apt/sources.list": b"deb nowhere\n"}, Depends="libapt (>= 2) | missing")
    made.add("libapt", {"usr/lib/libapt": b"old"}, version="1")
    made.add("libapt", {"usr/lib/libapt": b"new"}, version="2")
    made.add("debian-archive-keyring", {"usr/share/keyrings/debian-archive-keyring.gpg": b"keys"})
    made.add("unused", {"usr/bin/unused": b""})
    return made


def interrupt_main() -> None:
    """Press Ctrl-C."""
    ident = threading.main_thread().ident
    assert ident is not None
    signal.pthread_kill(ident, signal.SIGINT)


# -- a system ---------------------------------------------------------------------------------------


def test_a_system_is_made(base: Base, archive: Archive) -> None:
    with Mirror(archive) as mirror:
        image = base.make(mirror)
        url = mirror.url
    assert image.references == ("docker.io/library/debian:bookworm",)
    root = base.files(image)
    config = base.engine.images.config(TINY)
    assert config.config is not None
    assert config.config.cmd == ("bash",)
    assert config.created == "2024-01-02T03:04:05Z"
    assert config.history is not None
    assert [entry.created_by for entry in config.history] == [
        f"onggi image bootstrap {TINY} # {url} 2024-01-02T03:04:05Z"
    ]
    assert [os.readlink(root / name) for name in ("bin", "lib", "sbin")] == ["usr/bin", "usr/lib", "usr/sbin"]
    assert (root / "usr/bin/of-merged-usr").exists()
    assert (root / "usr/lib/libapt").read_text() == "new"
    assert not (root / "usr/bin/unused").exists()
    assert (root / "usr/share/man/man1/sh.1").exists()
    sources = list(parse_host([("x.sources", (root / "etc/apt/sources.list.d/debian.sources").read_text())]))
    assert [(source.uri, source.suite) for source in sources] == [(url, "bookworm")]
    assert not (root / "etc/apt/sources.list").exists()
    assert (root / "usr/sbin/policy-rc.d").stat().st_mode & 0o777 == 0o755


def test_it_is_configured_by_its_own_programs(base: Base, archive: Archive) -> None:
    with Mirror(archive) as mirror:
        root = base.files(base.make(mirror))
    calls = (root / "var/lib/dpkg/calls").read_text()
    assert [line.split(" /mnt/")[0].split()[-1] for line in calls.splitlines()] == [
        *("--install", "--unpack", "--pending", "--pending", "--audit"),
    ]
    names = ["apt", "base-files", "debian-archive-keyring", "dpkg", "libapt", "tools"]
    assert (root / "var/lib/dpkg/seen").read_text().splitlines() == [
        *(f"{name}.deb" for name in names),
        "0",
        f"SOURCE_DATE_EPOCH={BUILT_S + 50}",
        "DEBIAN_FRONTEND=noninteractive",
    ]
    assert (root / "var/lib/dpkg/links").read_text() == "lo "
    assert list((root / "mnt").iterdir()) == []


def test_nothing_of_the_day_is_left(base: Base, archive: Archive) -> None:
    with Mirror(archive) as mirror:
        root = base.files(base.make(mirror))
    for gone in ("etc/passwd-", "var/lib/dpkg/status-old", "var/log/dpkg.log", "tmp/x", "etc/hosts", "etc/resolv.conf"):
        assert not (root / gone).exists(), gone
    assert (root / "etc/machine-id").read_bytes() == (root / "var/log/wtmp").read_bytes() == b""
    times = {path.lstat().st_mtime_ns for path in (root, *root.rglob("*"))}
    assert max(times) == (BUILT_S + 50) * 1_000_000_000


def test_the_same_packages_make_the_same_layer(new_base: Callable[[str], Base], archive: Archive) -> None:
    one, other = new_base("one"), new_base("other")
    with Mirror(archive) as mirror:
        first = one.make(mirror)
        # The archive moved on, but not these packages.
        archive.date += timedelta(days=7)
        archive.add("more", {"x": b""})
        archive.publish()
        second = other.make(mirror)
    assert one.engine.images.layers(first)[0].diff_id == other.engine.images.layers(second)[0].diff_id
    assert one.engine.images.config(TINY).created != other.engine.images.config(TINY).created


def test_what_is_here_is_not_fetched_again(base: Base, archive: Archive) -> None:
    with Mirror(archive) as mirror:
        first = base.make(mirror)
        assert len(mirror.debs()) == 6
        assert sum("by-hash" in path for path in mirror.asked) == 1
        mirror.asked.clear()
        second = base.make(mirror, tag="again")
        assert [path for path in mirror.asked if not path.endswith("InRelease")] == []
    assert first.id == second.id
    assert base.engine.images.get("again").id == first.id


def test_slim_leaves_manuals_out_now_and_later(base: Base, archive: Archive) -> None:
    with Mirror(archive) as mirror:
        root = base.files(base.make(mirror, "debian:bookworm-slim"))
    shown = sorted(str(path.relative_to(root / "usr/share")) for path in (root / "usr/share").rglob("*"))
    assert [path for path in shown if path.startswith(("doc", "man", "locale"))] == [
        *("doc", "doc/tiny", "doc/tiny/copyright", "locale", "locale/locale.alias", "man"),
    ]
    assert "path-exclude /usr/share/man/*" in (root / "etc/dpkg/dpkg.cfg.d/docker").read_text()


def test_progress_is_told_step_by_step(base: Base, archive: Archive) -> None:
    with Mirror(archive) as mirror:
        base.make(mirror)
    started = [event.title.split()[0] for event in base.events if isinstance(event, StepStarted)]
    done = [event for event in base.events if isinstance(event, StepDone)]
    assert started == ["read", "fetch", "unpack", "configure", "make"]
    assert [event.title.split()[0] for event in done] == started
    assert not any(event.error for event in done)
    told = b"".join(event.data for event in base.events if isinstance(event, StepOutput))
    assert b"6/6 packages" in told
    assert told.count(b"Unpacking all") == told.count(b"warning") + 4, "only --audit may warn where all goes well"


def test_ubuntu_is_made_likewise(base: Base, busybox: Path) -> None:
    archive = tiny_archive(busybox, "ubuntu", "noble")
    archive.names = {"Suite": "noble", "Codename": "noble"}
    archive.add("ubuntu-keyring", {"usr/share/keyrings/ubuntu-archive-keyring.gpg": b"keys"})
    updates = Archive("ubuntu", "noble-updates")
    updates.names = {"Suite": "noble-updates", "Codename": "noble"}
    updates.add("libapt", {"usr/lib/libapt": b"updated"}, version="3")
    with Mirror(archive.publish(), updates.publish()) as mirror:
        root = base.files(base.make(f"{mirror.host}/ubuntu", "ubuntu:24.04"))
        # One that has the same code name is another suite all the same.
        archive.files["ubuntu/dists/noble/InRelease"] = updates.files["ubuntu/dists/noble-updates/InRelease"]
        with pytest.raises(InvalidArgument, match="not of noble"):
            base.make(f"{mirror.host}/ubuntu", "ubuntu:noble")
    assert (root / "usr/lib/libapt").read_text() == "updated"
    text = (root / "etc/apt/sources.list.d/ubuntu.sources").read_text()
    assert "Suites: noble noble-updates\nComponents: main universe restricted multiverse\n" in text


def test_ubuntu_needs_the_keys_of_a_host(base: Base, archive: Archive) -> None:
    if os.path.exists(HOST_KEYRINGS["ubuntu"]):
        pytest.skip("needs a host without Ubuntu's keys")
    archive.base = "ubuntu"
    archive.suite = "noble"
    with Mirror(archive.publish()) as mirror, pytest.raises(NotSupported, match="on ubuntu hosts only"):
        base.engine.bootstrap(tell=base.events.append).make("ubuntu:noble", mirror=f"{mirror.host}/ubuntu")


# -- several archives -------------------------------------------------------------------------------


def test_fixes_come_from_where_they_are(base: Base, archive: Archive) -> None:
    security = Archive("debian-security", "bookworm-security")
    security.names = {"Suite": "oldstable-security", "Codename": "bookworm-security"}
    security.add("libapt", {"usr/lib/libapt": b"fixed"}, version="2+deb12u1")
    security.date = archive.date + timedelta(days=1)
    with Mirror(archive, security.publish()) as mirror:
        root = base.files(base.make(mirror))
        assert mirror.debs().count("debian-security/pool/libapt_2+deb12u1.deb") == 1
    assert (root / "usr/lib/libapt").read_text() == "fixed"
    assert base.engine.images.config(TINY).created == "2024-01-03T03:04:05Z"
    text = (root / "etc/apt/sources.list.d/debian.sources").read_text()
    assert "Suites: bookworm-security" in text
    assert [note.partition(":")[0] for note in base.notes()] == ["without bookworm-updates"]


def test_security_that_is_there_must_be_signed(base: Base, archive: Archive) -> None:
    security = Archive("debian-security", "bookworm-security")
    security.names = {"Suite": "oldstable-security", "Codename": "bookworm-security"}
    security.publish(pysequoia.Tsk.generate("Stranger <stranger@test.example>"))
    with Mirror(archive, security) as mirror, pytest.raises(Unauthorized, match="bookworm-security/InRelease"):
        base.make(mirror)
    base.assert_clean()


def test_a_name_like_stable_is_what_the_archive_says_today(base: Base, archive: Archive) -> None:
    archive.files["debian/dists/oldstable/InRelease"] = archive.files["debian/dists/bookworm/InRelease"]
    with Mirror(archive) as mirror:
        root = base.files(base.make(mirror, "debian:oldstable"))
    assert "Suites: bookworm\n" in (root / "etc/apt/sources.list.d/debian.sources").read_text()


# -- hostile archives -------------------------------------------------------------------------------


def refuse(base: Base, mirror: Mirror, kind: type[OnggiError], match: str, name: str = TINY) -> None:
    """Expect a refusal that leaves nothing."""
    with pytest.raises(kind, match=match):
        base.make(mirror, name)
    base.assert_clean()


def test_a_release_of_a_stranger_is_refused(base: Base, archive: Archive) -> None:
    archive.publish(pysequoia.Tsk.generate("Stranger <stranger@test.example>"))
    with Mirror(archive) as mirror:
        refuse(base, mirror, Unauthorized, "not signed by an archive key|no valid signature")
        assert mirror.asked == ["debian/dists/bookworm/InRelease"]


def test_the_keys_of_debian_do_not_count_for_others(base: Base, archive: Archive) -> None:
    with Mirror(archive) as mirror, pytest.raises(Unauthorized):
        base.engine.bootstrap(tell=base.events.append).make(TINY, mirror=mirror.url)


def test_a_release_of_another_suite_is_refused(base: Base, archive: Archive) -> None:
    archive.names = {"Suite": "stable", "Codename": "trixie"}
    with Mirror(archive.publish()) as mirror:
        refuse(base, mirror, InvalidArgument, "it is of trixie")


def test_an_old_release_is_refused(base: Base, archive: Archive) -> None:
    archive.until = datetime(2024, 1, 9, tzinfo=UTC)
    with Mirror(archive.publish()) as mirror:
        refuse(base, mirror, Corrupt, "was valid until 2024-01-09")
    archive.until = datetime.now(UTC) + timedelta(days=1)
    with Mirror(archive.publish()) as mirror:
        base.make(mirror)


def test_an_index_that_is_not_what_was_signed_is_refused(base: Base, archive: Archive) -> None:
    for path in archive.files:
        if f"binary-{archive.architecture}" in path:
            archive.files[path] = archive.files[path][:-1] + b"x"
    with Mirror(archive) as mirror:
        refuse(base, mirror, Corrupt, "not what the archive's index says")
    assert os.listdir(base.root / "downloads") == []


def test_an_archive_without_by_hash_is_read_by_names(base: Base, archive: Archive) -> None:
    for path in [path for path in archive.files if "by-hash" in path]:
        del archive.files[path]
    with Mirror(archive) as mirror:
        base.make(mirror)


@pytest.mark.parametrize("change", ["longer", "shorter", "other", "gone"])
def test_a_package_that_is_not_what_was_signed_is_refused(change: str, base: Base, archive: Archive) -> None:
    path = "debian/pool/apt_1.deb"
    data = archive.files[path]
    changed = {"longer": data + b"x", "shorter": data[:-1], "other": b"x" + data[1:]}
    kind: type[OnggiError] = NotFound if change == "gone" else Corrupt
    if change == "gone":
        del archive.files[path]
    else:
        archive.files[path] = changed[change]
    with Mirror(archive) as mirror:
        refuse(base, mirror, kind, "apt_1.deb")
    for kept in (base.root / "downloads").iterdir():
        assert sha256(kept.read_bytes()) == kept.name
    archive.files[path] = data
    with Mirror(archive) as mirror:
        base.make(mirror)


def test_a_package_without_an_end_is_cut(base: Base, archive: Archive) -> None:
    with Mirror(archive) as mirror:
        mirror.answers["debian/pool/apt_1.deb"] = endless
        refuse(base, mirror, Corrupt, "larger than the")


def test_a_connection_that_breaks_is_made_again(base: Base, archive: Archive) -> None:
    path = "debian/pool/apt_1.deb"
    with Mirror(archive) as mirror:

        def once(write: Callable[[bytes], object]) -> None:
            del mirror.answers[path]
            broken_off(write)

        mirror.answers[path] = once
        base.make(mirror)
        assert mirror.asked.count(path) == 2


def test_a_connection_that_always_breaks_is_told(base: Base, archive: Archive) -> None:
    with Mirror(archive) as mirror:
        mirror.answers["debian/pool/apt_1.deb"] = broken_off
        refuse(base, mirror, Unavailable, "apt_1.deb cannot be fetched")


def test_a_broken_file_in_the_cache_is_fetched_again(base: Base, archive: Archive) -> None:
    with Mirror(archive) as mirror:
        first = base.make(mirror)
        for path in (base.root / "downloads").iterdir():
            data = path.read_bytes()
            path.write_bytes(b"x" + data[1:])
        mirror.asked.clear()
        assert base.make(mirror).id == first.id
        assert len(mirror.debs()) == 6


@pytest.mark.parametrize(
    ("files", "kind", "match"),
    [
        ({"../outside": b"x"}, Corrupt, "leads out of the archive"),
        ({"etc/evil": ("link", 0, b"/tmp/onggi-outside"), "etc/evil/x": b"x"}, Corrupt, "is not a directory"),
        ({"bin": ("link", 0, b"/")}, LaunchFailed, "no such file in the container"),
    ],
)
def test_nothing_is_written_outside(
    files: Files, kind: type[OnggiError], match: str, base: Base, archive: Archive
) -> None:
    archive.add("evil", files, Priority="required")
    before = set(os.listdir("/")) | set(os.listdir("/tmp")) | set(os.listdir(base.root))
    with Mirror(archive.publish()) as mirror:
        refuse(base, mirror, kind, match)
    after = set(os.listdir("/")) | set(os.listdir("/tmp")) | set(os.listdir(base.root))
    assert not {"outside", "onggi-outside", "x"} & (after - before)


def test_a_package_that_is_no_package_is_refused(base: Base, archive: Archive) -> None:
    path = archive.add("odd", {}, Priority="required")
    archive.add("odd", {}, Priority="required", Size="7", SHA256=sha256(b"nothing"))
    archive.files[path] = b"nothing"
    with Mirror(archive.publish()) as mirror:
        refuse(base, mirror, Corrupt, "no Debian package")


def test_an_interrupt_while_something_is_fetched_ends_it_at_once(base: Base, archive: Archive) -> None:
    done = threading.Event()

    def silent(write: Callable[[bytes], object]) -> None:
        write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx")
        interrupt_main()
        done.wait()

    with Mirror(archive) as mirror:
        mirror.answers["debian/pool/apt_1.deb"] = silent
        started = time.monotonic()
        refuse(base, mirror, Cancelled, "interrupted")
        assert time.monotonic() - started < 30
        done.set()


def test_an_interrupt_while_packages_are_configured_ends_the_container(base: Base, archive: Archive) -> None:
    archive.add("slow", {"etc/slow": b""}, Priority="required")

    def interrupt(event: Event) -> None:
        base.events.append(event)
        if isinstance(event, StepOutput) and b"waiting" in event.data:
            interrupt_main()

    with Mirror(archive.publish()) as mirror:
        maker = base.engine.bootstrap(tell=interrupt, keyring=public_key())
        with pytest.raises(Cancelled, match="interrupted"):
            maker.make(TINY, mirror=mirror.url)
    base.assert_clean()


def test_two_at_once_do_not_mind_each_other(base: Base, archive: Archive) -> None:
    with Mirror(archive) as mirror, ThreadPoolExecutor(2) as pool:
        images = list(pool.map(lambda tag: base.make(mirror, tag=tag), ["one", "other"]))
    assert images[0].id == images[1].id
    assert {len(base.engine.images.get(tag).layers) for tag in ("one", "other")} == {1}


def test_what_cannot_be_configured_says_its_last_words(base: Base, archive: Archive) -> None:
    archive.add("broken", {"etc/broken": b""}, Priority="required")
    with Mirror(archive.publish()) as mirror:
        refuse(base, mirror, FailedPrecondition, r"(?s)exit code 3.*postinst: this does not work$")
    assert [event.error for event in base.events if isinstance(event, StepDone)][-1]


def test_what_depends_on_nothing_there_is_told(base: Base, archive: Archive) -> None:
    archive.add("needy", {}, Priority="required", Depends="libnothing (>= 3)")
    with Mirror(archive.publish()) as mirror:
        refuse(base, mirror, NotFound, r"no package libnothing \(>= 3\), which needy needs")


@pytest.mark.parametrize("name", ["alpine", "debian:bookwrm", "debian@sha256:" + "0" * 64])
def test_a_name_that_nobody_can_make_is_refused(name: str, base: Base) -> None:
    with pytest.raises(InvalidArgument, match="cannot be bootstrapped: known are busybox, debian"):
        base.make("http://127.0.0.1:1/debian", name)


def test_an_image_that_is_not_here_names_the_command(base: Base) -> None:
    for name, command in (("debian:bookworm-slim",) * 2, ("ubuntu", "ubuntu:latest"), ("debian:12", "debian:12")):
        with pytest.raises(NotFound, match=f"`onggi image bootstrap {command}` makes it"):
            base.engine.images.resolve(name)
    with pytest.raises(NotFound, match="`onggi image bootstrap` makes busybox, debian"):
        base.engine.images.resolve("debian:bookwrm")


# -- busybox ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["bin/busybox", "usr/bin/busybox"])
def test_busybox_is_made(place: str, base: Base, busybox: Path) -> None:
    archive = Archive()
    archive.add("busybox-static", {place: busybox.read_bytes(), "usr/share/doc/busybox/copyright": b"x"})
    archive.names = {"Suite": "stable", "Codename": "bookworm"}
    archive.publish()
    archive.files["debian/dists/stable/InRelease"] = archive.files["debian/dists/bookworm/InRelease"]
    with Mirror(archive) as mirror:
        image = base.make(mirror, "busybox")
    config = base.engine.images.config("busybox").config
    assert config is not None
    assert config.cmd == ("sh",)
    root = base.files(image)
    programs = {path.stat().st_ino for path in (root / "bin").iterdir()}
    assert len(programs) == 1
    assert len(list((root / "bin").iterdir())) > 100
    assert not (root / "usr/share").exists()
    assert (root / "tmp").stat().st_mode & 0o7777 == 0o1777
    script = "id; id nobody; ls -d /tmp; echo $PATH; /usr/bin/env true && cat /proc/self/cmdline | tr '\\0' ' '"
    said = base.run("busybox", "sh", "-c", script)
    assert said.splitlines()[:3] == [
        "uid=0(root) gid=0(root) groups=10(wheel)", "uid=65534(nobody) gid=65534(nobody) groups=65534(nobody)", "/tmp",
    ]  # fmt: skip


def test_an_archive_without_busybox_says_so(base: Base) -> None:
    archive = Archive()
    archive.names = {"Suite": "stable", "Codename": "bookworm"}
    archive.add("other", {})
    archive.publish()
    archive.files["debian/dists/stable/InRelease"] = archive.files["debian/dists/bookworm/InRelease"]
    with Mirror(archive) as mirror:
        refuse(base, mirror, NotFound, "bookworm has no package busybox-static", "busybox")


# -- the real thing ---------------------------------------------------------------------------------


@pytest.fixture
def real() -> str:
    """Give the mirror of this machine, if it answers."""
    wanted = parse_name(TINY)
    assert wanted is not None
    try:
        main = plan_archives(wanted, parse_host(read_apt_sources()))[0]
        Downloads().get(f"{main.base}/dists/{main.suite}/InRelease", max_bytes=1 << 24)
    except OnggiError as error:
        pytest.skip(f"needs a mirror of Debian that answers: {error}")
    return main.base


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["busybox", TINY])
def test_the_real_archive_makes_the_same_image_twice(
    name: str, real: str, new_base: Callable[[str], Base], tmp_path: Path
) -> None:
    one, other = new_base("one"), new_base("other")
    made = one.engine.bootstrap(tell=one.events.append).make(name)
    (tmp_path / "other" / "downloads").mkdir(mode=0o700)
    for path in (tmp_path / "one" / "downloads").iterdir():
        shutil.copy(path, tmp_path / "other" / "downloads")
    again = other.engine.bootstrap(tell=other.events.append).make(name)
    assert one.engine.images.layers(made)[0].diff_id == other.engine.images.layers(again)[0].diff_id
    assert one.engine.system.check() == []
    if name == "busybox":
        assert one.run(name, "echo", "it works") == "it works\n"
        return
    script = ". /etc/os-release; echo $VERSION_CODENAME; apt-get --version | head -1; dpkg --audit"
    codename, version, *broken = one.run(name, "sh", "-c", script).splitlines()
    assert (codename, version[:6], broken) == ("bookworm", "apt 2.", [])
    said = one.run(
        name,
        "sh",
        "-c",
        "apt-get update -qq && apt-get install -qq -y --no-install-recommends hello >/dev/null 2>&1; hello",
        network="host",
    )
    assert said.splitlines()[-1:] == ["Hello, world!"]
