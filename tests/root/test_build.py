"""Builds with the real launcher: what is reused and why not, what COPY and RUN do, what does not get into a layer."""

import os
import shutil
import tarfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest

from onggi import InvalidArgument, OnggiError, Unavailable
from onggi.build.events import Event, Note, StepCached, StepDone, StepOutput, StepStarted
from onggi.build.solver import StepFailed
from onggi.engine.builds import BuildRequest
from onggi.store.images import Image
from tests.homes import IMAGE, Home, pack, read_tree

EPOCH: Final = 1_700_000_000


class Told:
    """A build and all it told."""

    def __init__(self, image: Image, events: list[Event]) -> None:
        self.image, self.events = image, events

    @property
    def cached(self) -> list[str]:
        """Titles of the steps that were reused."""
        return [event.title for event in self.events if isinstance(event, StepCached)]

    @property
    def why(self) -> list[str]:
        """Titles of the steps that ran, each with the reason."""
        return [f"{e.title}: {e.why}" for e in self.events if isinstance(e, StepStarted)]

    @property
    def output(self) -> str:
        """All that steps printed."""
        return b"".join(event.data for event in self.events if isinstance(event, StepOutput)).decode()


class Site:
    """A directory to build from."""

    def __init__(self, home: Home, directory: Path) -> None:
        self.home, self.directory = home, directory
        directory.mkdir()

    def write(self, files: Mapping[str, str]) -> None:
        """Write files of the context."""
        for name, text in files.items():
            place = self.directory / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)

    def build(self, dockerfile: str, *, home: Home | None = None, **options: Any) -> Told:
        """Build from this directory; `FROM box` and the file's own lines."""
        (self.directory / "Dockerfile").write_text(dockerfile)
        events: list[Event] = []
        request = BuildRequest(context=str(self.directory), **{"network": "none", **options})
        image = (home or self.home).engine.builds.build(request, events.append)
        return Told(image, events)

    def run(self, told: Told, script: str) -> str:
        """Run a script in what was built."""
        container = self.home.start("sh", "-c", script, image=str(told.image.id))
        said = self.home.output(container)
        container.remove(force=True)
        return said


@pytest.fixture
def site(home: Home, tmp_path: Path) -> Site:
    """Give an empty directory to build from."""
    return Site(home, tmp_path / "site")


def layer_names(home: Home, image: Image, number: int = -1) -> list[str]:
    """List what an image's layer has in it."""
    layer = home.engine.images.layers(image)[number]
    place = Path(home.root / "snapshots" / layer.id / "fs")
    return sorted(
        os.path.relpath(f"{at}/{name}", place) for at, dirs, files in os.walk(place) for name in (*dirs, *files)
    )


# -- the cache ------------------------------------------------------------------------------------------------

STEPS: Final = f"""FROM {IMAGE}
ARG WORD=none
COPY a b /src/
RUN cat /src/a /src/b > /both
RUN echo $WORD > /word
LABEL v=1
CMD ["cat", "/both"]
"""


def test_an_unchanged_rebuild_reuses_all_and_gives_the_same_image(site: Site) -> None:
    site.write({"a": "A\n", "b": "B\n", "unused": "1"})
    first = site.build(STEPS)
    assert first.cached == []
    assert site.run(first, "cat /both /word") == "A\nB\nnone\n"
    for name in ("a", "unused"):  # times count for nothing
        os.utime(site.directory / name, (1, 1))
    site.write({"unused": "2"})
    again = site.build(STEPS)
    assert (again.why, len(again.cached)) == ([], 3)
    assert again.image.id == first.image.id


def test_labels_do_not_miss(site: Site) -> None:
    site.write({"a": "A\n", "b": "B\n"})
    first = site.build(STEPS)
    other = site.build(STEPS.replace("v=1", "v=2").replace('"/both"', '"/word"'), labels={"more": "x"})
    assert other.why == []
    assert other.image.id != first.image.id
    assert other.image.layers == first.image.layers


@pytest.mark.parametrize(
    ("change", "ran", "reason"),
    [
        ({"files": {"a": "changed\n"}}, 3, "a"),
        ({"args": {"WORD": "x"}}, 2, "WORD"),
        ({"dockerfile": STEPS.replace("> /both", "> /elsewhere")}, 2, "the command changed"),
        ({"dockerfile": STEPS.replace("COPY a b", "RUN mkdir /src; touch /src/a /src/b #")}, 3, "another instruction"),
        ({"mode": 0o600}, 3, "a"),
        ({"no_cache": True}, 3, ""),
    ],
    ids=["file", "argument", "command", "instruction", "mode", "no-cache"],
)
def test_why_a_step_missed(site: Site, change: dict[str, Any], ran: int, reason: str) -> None:
    site.write({"a": "A\n", "b": "B\n"})
    site.build(STEPS)
    site.write(change.get("files", {}))
    if "mode" in change:
        (site.directory / "a").chmod(change["mode"])
    told = site.build(
        change.get("dockerfile", STEPS), args=change.get("args", {}), no_cache=change.get("no_cache", False)
    )
    assert len(told.why) == ran, told.why
    why = told.why[0].split(": ", 1)[1]
    assert reason in why if reason else why == ""


# -- COPY -----------------------------------------------------------------------------------------------------

FILES: Final = {"dir/x": "x\n", "dir/sub/y": "y\n", "file": "f\n", "other": "o\n", ".hidden": "h\n", "dir/.z": "z\n"}


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("COPY dir /to", "/to/.z /to/sub/y /to/x"),
        ("COPY dir /to/", "/to/.z /to/sub/y /to/x"),
        ("COPY dir/ file /to/", "/to/.z /to/file /to/sub/y /to/x"),
        ("COPY file /to", "/to"),
        ("COPY file /to/", "/to/file"),
        ("COPY file other /to/deep/", "/to/deep/file /to/deep/other"),
        ("COPY dir/* /to/", "/to/.z /to/x /to/y"),
        ("COPY --exclude=*.z --exclude=**/y dir /to", "/to/x"),
        ("COPY --exclude=**/.z --exclude=sub dir /to", "/to/x"),
        ("WORKDIR /to\nCOPY file .", "/to/file"),
        ("WORKDIR /to\nCOPY dir ./at", "/to/at/.z /to/at/sub/y /to/at/x"),
        ("RUN mkdir /to && echo old > /to/x && echo old > /to/kept\nCOPY dir /to", "/to/.z /to/kept /to/sub/y /to/x"),
        ("ADD file /to/", "/to/file"),
    ],
)
def test_what_copy_copies(site: Site, lines: str, found: str) -> None:
    site.write(FILES)
    told = site.build(f"FROM {IMAGE}\n{lines}\n")
    assert site.run(told, "find /to -type f | sort").split() == found.split()


def test_owner_and_mode_of_what_is_copied(site: Site) -> None:
    site.write(FILES)
    os.chown(site.directory / "file", 1234, 5678)
    (site.directory / "file").chmod(0o4751)
    told = site.build(
        f"FROM {IMAGE}\nCOPY file /plain\nCOPY --chown=www:audio file /named\nCOPY --chown=7:8 dir /dir\n"
        "COPY --chmod=640 file /mode\nCOPY --chmod=u=rwX,go=rX --chown=9 dir /both\n"
    )
    said = site.run(told, "stat -c '%n %u:%g %a' /plain /named /dir /dir/sub/y /mode /both /both/x")
    lines = dict(line.split(" ", 1) for line in said.splitlines())
    assert lines["/plain"] == "0:0 4751"
    assert lines["/named"] == "82:29 4751"
    assert lines["/dir"].split()[0] == lines["/dir/sub/y"].split()[0] == "7:8"
    assert lines["/mode"] == "0:0 640"
    assert (lines["/both"], lines["/both/x"]) == ("9:9 755", "9:9 644")


def test_dockerignore(site: Site) -> None:
    site.write(FILES)
    site.write({".dockerignore": "# all but\n*\n!dir\n!other\ndir/**/y\n.hidden\n"})
    told = site.build(f"FROM {IMAGE}\nCOPY . /to\n")
    assert site.run(told, "find /to -type f | sort").split() == ["/to/dir/.z", "/to/dir/x", "/to/other"]
    with pytest.raises(OnggiError, match="file"):
        site.build(f"FROM {IMAGE}\nCOPY file /to\n")
    site.write({"Dockerfile.dockerignore": "dir\n"})  # its own goes before
    told = site.build(f"FROM {IMAGE}\nCOPY file other /to/\n")
    assert site.run(told, "ls /to").split() == ["file", "other"]


def test_heredocs(site: Site) -> None:
    told = site.build(
        f"FROM {IMAGE}\nARG NAME=you\nCOPY <<EOF <<'RAW' /to/\nhello $NAME\nEOF\nraw $NAME\nRAW\n"
        "RUN <<EOF\nset -e\nx=inside\necho $x > /script\nEOF\n"
    )
    assert site.run(told, "cat /to/EOF /to/RAW /script") == "hello you\nraw $NAME\ninside\n"


def test_links_are_copied_as_links_and_lead_nowhere_outside(site: Site) -> None:
    site.write(FILES)
    (site.directory / "dir" / "link").symlink_to("/etc/shadow")
    (site.directory / "way-out").symlink_to("/etc")
    told = site.build(f"FROM {IMAGE}\nCOPY dir /to\n")
    assert site.run(told, "readlink /to/link") == "/etc/shadow\n"
    with pytest.raises(OnggiError, match="way-out/hostname"):
        site.build(f"FROM {IMAGE}\nCOPY way-out/hostname /to\n")


def test_a_link_in_the_image_is_followed_inside_the_image(site: Site, tmp_path: Path) -> None:
    site.write(FILES)
    outside = tmp_path / "outside"
    outside.mkdir()
    told = site.build(f"FROM {IMAGE}\nRUN mkdir -p {outside} && ln -s {outside} /l\nCOPY file /l/got\n")
    assert site.run(told, f"cat {outside}/got") == "f\n"
    assert list(outside.iterdir()) == []


def test_add_unpacks_archives(site: Site) -> None:
    site.write(FILES)
    with tarfile.open(site.directory / "a.tar.gz", "w:gz") as tar:
        tar.add(site.directory / "dir", "d")
    told = site.build(f"FROM {IMAGE}\nADD a.tar.gz /to/\nCOPY a.tar.gz /copied/\n")
    assert site.run(told, "cat /to/d/sub/y; ls /copied").split() == ["y", "a.tar.gz"]


# -- RUN ------------------------------------------------------------------------------------------------------


def test_mounts_of_run(site: Site) -> None:
    site.write(FILES)
    text = f"""FROM {IMAGE} AS made
RUN echo from-stage > /thing
FROM {IMAGE}
RUN --mount=type=bind,target=/ctx cat /ctx/file > /1 && ! touch /ctx/new
RUN --mount=type=bind,from=made,source=/thing,target=/thing cat /thing > /2
RUN --mount=type=cache,target=/cache,id=c touch /cache/n && echo $(($(cat /cache/n) + 1)) > /cache/n && cp /cache/n /3
RUN --mount=type=cache,target=/cache,id=c echo $(($(cat /cache/n) + 1)) > /cache/n && cp /cache/n /4
RUN --mount=type=tmpfs,target=/t grep -q ' /t tmpfs' /proc/mounts && touch /t/x
"""
    told = site.build(text)
    assert site.run(told, "cat /1 /2 /3 /4; ls -d /ctx/* /cache/* /t/* 2>/dev/null") == "f\nfrom-stage\n1\n2\n"
    again = site.build(text, no_cache=True)
    assert site.run(again, "cat /3 /4").split() == ["3", "4"]


def test_run_sees_what_the_dockerfile_says(site: Site) -> None:
    told = site.build(
        f"FROM {IMAGE}\nENV A=1 B=two\\ words\nARG C=3\nWORKDIR /w\nUSER www\n"
        "RUN echo $A,$B,$C,$(pwd),$(id -u),$HOME > /tmp/said\n"
    )
    assert site.run(told, "cat /tmp/said; echo C=$C; id -u; pwd") == "1,two words,3,/w,82,/var/www\nC=\n82\n/w\n"


def test_nothing_of_the_network_files_gets_into_a_layer(site: Site) -> None:
    for network in ("none", "host", "default"):
        told = site.build(f"FROM {IMAGE}\nRUN cat /etc/resolv.conf /etc/hosts > /dev/null; echo {network} > /made\n",
                          network=network, hosts=("here:10.1.2.3",))  # fmt: skip
        assert layer_names(site.home, told.image) == ["made"]
    told = site.build(f"FROM {IMAGE}\nRUN cat /etc/hosts; true\n", hosts=("here:10.1.2.3",))
    assert "10.1.2.3\there" in told.output.replace(" ", "\t")
    assert layer_names(site.home, told.image) == []


def test_a_run_that_changes_nothing_and_one_that_removes(site: Site, tmp_path: Path) -> None:
    told = site.build(f"FROM {IMAGE}\nRUN true\nRUN rm -r /var /etc/group\n")
    assert len(told.image.layers) == 3
    assert site.run(told, "ls -d /var /etc/group /etc/passwd 2>/dev/null") == "/etc/passwd\n"
    container = site.home.start("true", image=str(told.image.id))
    container.wait()
    names = {name.removeprefix("./") for name in read_tree(site.home.engine, container.id, tmp_path / "t.tar")}
    assert not {name for name in names if name.startswith(("var", "etc/group"))}


def test_a_failed_run_says_where_and_can_be_looked_into(site: Site) -> None:
    with pytest.raises(StepFailed) as caught:
        site.build(f"FROM {IMAGE}\nRUN echo fine > /fine\nRUN echo half > /half; echo why >&2; exit 9\nRUN true\n")
    assert caught.value.code == 9
    text = str(caught.value)
    assert "did not complete successfully: exit code: 9" in text
    assert "Dockerfile:3" in text
    assert "RUN echo half > /half" in text
    id = text.partition("onggi run --rm -it ")[2].split()[0]
    container = site.home.start("cat", "/fine", "/half", image=id)
    assert site.home.output(container) == "fine\nhalf\n"
    container.remove()
    told = site.build(f"FROM {IMAGE}\nRUN echo fine > /fine\nRUN true\n")
    assert len(told.cached) == 1
    site.home.assert_consistent()


def test_a_command_that_is_not_there(site: Site) -> None:
    with pytest.raises(StepFailed) as caught:
        site.build(f'FROM {IMAGE}\nRUN ["no-such-program", "x"]\n')
    assert "no-such-program" in str(caught.value)
    with pytest.raises(OnggiError, match="nothing-here"):
        site.build(f"FROM {IMAGE}\nCOPY nothing-here /\n")
    with pytest.raises(InvalidArgument, match="did you mean RUN"):
        site.build(f"FROM {IMAGE}\nRUNN true\n")
    with pytest.raises(Unavailable, match=r"debian.*onggi image bootstrap"):
        site.build("FROM debian:nowhere\n")
    site.home.assert_consistent()


# -- stages ---------------------------------------------------------------------------------------------------

STAGES: Final = f"""FROM {IMAGE} AS left
RUN echo left > /out
FROM {IMAGE} AS right
RUN echo right > /out
FROM {IMAGE} AS unused
RUN exit 1
FROM scratch
COPY --from=left /out /l
COPY --from=right /out /r
COPY --from={IMAGE} /bin/busybox /bin/busybox
"""


def test_stages_that_nobody_needs_are_skipped(site: Site) -> None:
    told = site.build(STAGES)
    container = site.home.start("/bin/busybox", "cat", "/l", "/r", image=str(told.image.id))
    assert site.home.output(container) == "left\nright\n"
    assert len(told.image.layers) == 3
    left = site.build(STAGES, target="left")
    assert left.why == []
    assert site.run(left, "cat /out") == "left\n"
    with pytest.raises(StepFailed):
        site.build(STAGES, target="unused")
    with pytest.raises(OnggiError, match="nowhere"):
        site.build(STAGES, target="nowhere")


def test_tags_config_and_history(site: Site) -> None:
    told = site.build(
        f'FROM {IMAGE}\nENV A=1\nEXPOSE 80/tcp\nVOLUME /v\nSTOPSIGNAL SIGUSR1\nENTRYPOINT ["/bin/sh", "-c"]\n'
        'CMD ["exit 4"]\nLABEL a=b\nHEALTHCHECK CMD true\n',
        tags=("mine:1", "mine:2"),
    )
    home = site.home
    assert home.engine.images.get("mine:1").id == home.engine.images.get("mine:2").id == told.image.id
    config = home.engine.images.config("mine:1").config
    assert config is not None
    assert (config.entrypoint, config.cmd) == (("/bin/sh", "-c"), ("exit 4",))
    assert config.stop_signal == "SIGUSR1"
    assert "A=1" in (config.env or ())
    assert home.start(image="mine:1").wait(timeout_s=20) == 4
    history = home.engine.images.config("mine:1").history or ()
    assert [entry.empty_layer for entry in history][-8:] == [True] * 8
    assert len(told.image.layers) == 1


# -- the same again -------------------------------------------------------------------------------------------


def test_the_same_image_in_two_state_roots(site: Site, new_home: Callable[[str], Home], tmp_path: Path) -> None:
    site.write(FILES)
    text = (
        f"FROM {IMAGE}\nWORKDIR /w\nCOPY . .\nRUN echo built > /built && mkdir /d && date > /dev/null\n"
        "COPY --chown=82 file /owned\nRUN rm /w/file\nLABEL x=y\n"
    )
    other = new_home("other")
    archive = tmp_path / "base-image.tar"  # the same base: its config has the time of its import
    with archive.open("wb", buffering=0) as sink:
        site.home.engine.images.save([IMAGE], sink)
    with archive.open("rb", buffering=0) as source:
        other.engine.images.load(source)
    homes = (site.home, site.home, other, other)
    ids = [site.build(text, home=home, epoch=EPOCH, no_cache=True).image.id for home in homes]
    assert len(set(ids)) == 1, ids
    config = site.home.engine.images.config(ids[0])
    assert config.created == "2023-11-14T22:13:20Z"


@pytest.mark.parametrize(("given", "variable"), [("variable", str(EPOCH)), ("argument", "1"), ("nothing", "")])
def test_the_epoch_is_an_argument_too(site: Site, given: str, variable: str) -> None:
    (site.directory / "Dockerfile").write_text(f"FROM {IMAGE}\nARG SOURCE_DATE_EPOCH\nLABEL at=$SOURCE_DATE_EPOCH\n")
    environment = site.home.environment(SOURCE_DATE_EPOCH=variable)
    words = ("--build-arg", f"SOURCE_DATE_EPOCH={EPOCH}") if given == "argument" else ()
    site.home.ok("build", "-t", "made", *words, str(site.directory), env=environment)
    config = site.home.engine.images.config("made")
    assert config.config is not None
    labels = config.config.labels or {}
    if given == "nothing":
        assert labels == {"at": ""}
    else:
        assert (labels, config.created) == ({"at": str(EPOCH)}, "2023-11-14T22:13:20Z")


def test_builds_at_the_same_time(site: Site) -> None:
    """Two builds of one Dockerfile at once: both succeed, with the same layers or each its own."""
    site.write(FILES)
    (site.directory / "Dockerfile").write_text(f"FROM {IMAGE}\nCOPY . /to\nRUN ls /to > /list\n")
    request = BuildRequest(context=str(site.directory), network="none", tags=("same:1",))

    def build(_: int) -> Image:
        return site.home.engine.builds.build(request, lambda event: None)

    with ThreadPoolExecutor(3) as pool:
        images = list(pool.map(build, range(3)))
    assert site.home.engine.images.get("same:1").id in {image.id for image in images}
    site.home.engine.images.collect()
    site.home.assert_consistent()


def test_warnings_reach_the_user(site: Site) -> None:
    told = site.build(f"FROM {IMAGE}\nRUN true\n", args={"NOT_USED": "1"})
    notes = [event.text for event in told.events if isinstance(event, Note)]
    assert any("NOT_USED" in note for note in notes)
    assert all(event.error == "" for event in told.events if isinstance(event, StepDone))


def test_heredocs_need_no_context(home: Home) -> None:
    text = f"FROM {IMAGE}\nCOPY <<EOF /to/file\nhello\nEOF\n".encode()
    image = home.engine.builds.build(BuildRequest(text=text, network="none"), lambda event: None)
    assert home.output(home.start("cat", "/to/file", image=str(image.id))) == "hello\n"
    with pytest.raises(InvalidArgument, match="this build has no context: it was given a Dockerfile only"):
        home.engine.builds.build(BuildRequest(text=f"FROM {IMAGE}\nCOPY a /\n".encode()), lambda event: None)


@pytest.mark.parametrize("made", ["before", "meanwhile"])
def test_a_step_that_leads_etc_out_reaches_nothing_of_the_host(
    home: Home, rootfs: Path, tmp_path: Path, made: str
) -> None:
    """The empty files that a step's mounts needed are taken away again, and only those."""
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("hosts", "resolv.conf"):
        (outside / name).touch()
    bare = tmp_path / "bare"
    shutil.copytree(rootfs, bare, symlinks=True)
    shutil.rmtree(bare / "etc")
    with pack(bare, tmp_path / "bare.tar").open("rb", buffering=0) as file:
        home.engine.images.import_tree(file, name="bare")
    link = f"{{ [ ! -e /etc ] || mv /etc /moved; }} && ln -s {outside} /etc"
    lines = {"before": f"RUN --network=none {link}\nRUN true\nRUN true", "meanwhile": f"RUN {link}"}
    Site(home, tmp_path / "site").build(f"FROM bare\n{lines[made]}\n")
    assert sorted(os.listdir(outside)) == ["hosts", "resolv.conf"]
