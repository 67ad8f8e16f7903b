"""A build that finds all in its cache is a short verb: onggid answers it as the caller's own process would."""

import os
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest

from tests.containers import wait_for
from tests.homes import IMAGE, Home, memory_kb

STEPS: Final = f"""FROM {IMAGE}
LABEL v=1
WORKDIR /app
COPY one .
RUN cat one > two
COPY sub ./sub
CMD ["cat", "two"]
"""
LOST: Final = 125
GROWTH: Final = 1.02


class Site:
    """A context, built by the command: by itself, through onggid, or by onggid alone."""

    def __init__(self, home: Home, directory: Path, lone: Path) -> None:
        self.home, self.directory = home, directory
        # A stub with no Python beside it: what onggid does not answer fails.
        lone.mkdir()
        self._lone = shutil.copy(home.installed.onggi, lone / "onggi")
        (directory / "sub").mkdir(parents=True)
        self.write("Dockerfile", STEPS)
        self.write("one", "1\n")
        self.write("sub/three", "3\n")

    def write(self, name: str, text: str) -> None:
        """Write a file of the context."""
        (self.directory / name).write_text(text)

    def build(self, *flags: str, context: str = ".", warm: bool = True) -> "subprocess.CompletedProcess[str]":
        """Build from the context's own directory."""
        return self.home.onggi("build", "--network=none", *flags, context, warm=warm, cwd=self.directory)

    def ask(
        self, *flags: str, context: str = ".", verb: tuple[str, ...] = ("build",), **options: object
    ) -> "subprocess.CompletedProcess[str]":
        """Let onggid build, or nobody: without it this is LOST."""
        words: list[str | bytes] = [str(self._lone), *self.home.words(*verb, "--network=none", *flags, context)[1:]]
        return subprocess.run(  # type: ignore[call-overload,no-any-return]
            words,
            **{"cwd": self.directory, "env": self.home.environment(), "stdin": subprocess.DEVNULL, **options},
            capture_output=True,
            text=True,
            check=False,
        )

    def is_served(self, *flags: str, context: str = ".") -> bool:
        """Tell whether onggid answers; if not, it has said nothing."""
        done = self.ask(*flags, context=context)
        assert done.returncode == 0 or (done.returncode, done.stdout) == (LOST, ""), done
        assert done.returncode == 0 or done.stderr.count("\n") == 1, done.stderr
        return done.returncode == 0


@pytest.fixture
def site(home: Home, tmp_path: Path) -> Site:
    """Give a context that was built once, and an onggid."""
    site = Site(home, tmp_path / "site", tmp_path / "lone")
    assert site.build(warm=False).returncode == 0
    home.warm_up()
    return site


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("-q",),
        ("-t", "a", "-t", "b:2"),
        ("--progress", "plain"),
        ("--progress", "quiet"),
        ("-f", "Dockerfile"),
        ("--build-arg", "UNUSED=1"),
        ("--label", "x=y"),
    ],
    ids=" ".join,
)
def test_it_answers_as_the_callers_own_process(site: Site, flags: tuple[str, ...]) -> None:
    local = site.build(*flags, warm=False)
    served = site.ask(*flags)
    assert (served.returncode, served.stdout, served.stderr) == (0, local.stdout, local.stderr)


def test_json_says_the_same_but_for_times(site: Site) -> None:
    local, served = site.build("--progress=json", warm=False), site.ask("--progress=json")
    assert served.returncode == 0
    shapes = [[line.partition("at_ns")[0] for line in done.stderr.splitlines()] for done in (local, served)]
    assert shapes[0] == shapes[1]
    assert len(shapes[0]) == 5


def test_tags_and_events_are_those_of_a_build(site: Site) -> None:
    id = site.ask("-q", "-t", "new:1").stdout.strip()
    assert site.home.ok("images", "-q", "--no-trunc", "new").strip() == id
    events = site.home.ok("events", "--since", "1", "--until", "0s", "--filter", "type=image", warm=False)
    assert "new:1" in events
    site.home.assert_consistent()


def test_management_forms_are_served_too(site: Site) -> None:
    for form in ("image", "builder"):
        assert site.ask(verb=(form, "build")).returncode == 0
    assert site.ask(verb=("image", "save")).returncode == LOST


@pytest.mark.parametrize(
    "change",
    [
        lambda site: site.write("one", "changed\n"),
        lambda site: site.write("sub/new", ""),
        lambda site: site.write("Dockerfile", STEPS + "LABEL w=2\n"),
        lambda site: site.write(".dockerignore", "sub/three\n"),
        lambda site: (site.directory / "one").unlink(),
    ],
    ids=["a file", "a further file", "the Dockerfile", "the ignore file", "a file that is gone"],
)
def test_what_changed_is_built_by_the_caller(site: Site, change: Callable[[Site], None]) -> None:
    assert site.is_served()
    change(site)
    assert not site.is_served()
    served = site.build()
    local = site.build(warm=False)
    assert served.returncode == local.returncode
    if served.returncode == 0:
        assert site.is_served()


def test_a_miss_in_the_last_step_is_told_once_and_explained(site: Site) -> None:
    site.write("sub/three", "changed\n")
    done = site.build("-t", "a")
    assert done.stderr.count("CACHED") == 3
    assert done.stderr.count("COPY sub") == 1
    assert "runs again: the file sub/three changed" in done.stderr
    assert done.stderr.count("writing image") == 1


def test_the_ignore_file_counts(site: Site) -> None:
    site.write(".dockerignore", "sub/*\n!sub/three\n")
    site.build(warm=False)
    site.write("sub/left-out", "")
    assert site.is_served()
    site.write("sub/three", "changed\n")
    assert not site.is_served()


def test_a_large_ignore_file_is_not_followed(site: Site) -> None:
    site.write(".dockerignore", "none\n" + "#\n" * 5000)
    site.build(warm=False)
    assert not site.is_served()


def test_what_was_pruned_is_built_again(site: Site) -> None:
    assert site.is_served()
    site.home.ok("builder", "prune", "-a", "-f")
    assert not site.is_served()
    assert "CACHED" not in site.build().stderr
    assert site.is_served()


def test_errors_are_those_of_the_callers_own_process(site: Site, tmp_path: Path) -> None:
    def same(*flags: str, context: str = ".") -> str:
        local, served = site.build(*flags, context=context, warm=False), site.build(*flags, context=context)
        assert (served.returncode, served.stdout, served.stderr) == (local.returncode, local.stdout, local.stderr)
        assert served.returncode != 0
        return served.stderr

    assert "not found" in same(context=str(tmp_path / "nowhere"))
    assert "invalid progress mode" in same("--progress=loud")
    assert "unknown flag" in same("--no-such")
    assert "target stage" in same("--target", "none")
    assert "failed to read dockerfile" in same("-f", "absent")
    site.write("Dockerfile", "RUNN true\n")
    assert "unknown instruction" in same()
    site.write("Dockerfile", f"FROM {IMAGE}\nRUN exit 3\n")
    assert "exit code: 3" in site.build().stderr


def test_stages_and_their_files(site: Site) -> None:
    site.write(
        "Dockerfile",
        f"FROM {IMAGE} AS made\nRUN mkdir /d && echo 1 > /d/f\nFROM {IMAGE}\nCOPY --from=made /d /d\n"
        "RUN --mount=type=bind,source=sub,target=/m cat /m/three\n",
    )
    local = site.build("-q", warm=False)
    served = site.ask("-q")
    assert (served.returncode, served.stdout) == (0, local.stdout)
    site.write("sub/three", "changed\n")
    assert not site.is_served()


# -- what belongs into the caller's own process ----------------------------------------------------------------


@pytest.mark.parametrize("flags", [("--iidfile", "id"), ("--no-cache",), ("--progress", "tty")], ids=" ".join)
def test_flags_that_need_the_callers_own_process(site: Site, flags: tuple[str, ...]) -> None:
    assert not site.is_served(*flags)
    assert site.build(*flags).returncode == 0


def test_stdin_is_the_callers(site: Site) -> None:
    for flags, context in ((("-f", "-"), "."), ((), "-"), (("-f", "/dev/stdin"), ".")):
        done = site.ask(*flags, context=context, stdin=None, input=f"FROM {IMAGE}\nLABEL stdin=1\n")
        assert (done.returncode, done.stdout) == (LOST, ""), flags


def test_paths_through_proc_are_the_callers(site: Site) -> None:
    site.write("Dockerfile", f"FROM {IMAGE}\n")
    assert site.build(warm=False).returncode == 0
    assert site.is_served()
    assert not site.is_served(context=f"/proc/self/root{site.directory}")
    assert not site.is_served("-f", "/proc/self/cwd/Dockerfile")


def test_relative_paths_and_environment_are_the_callers(site: Site) -> None:
    site.write("Dockerfile", f"FROM {IMAGE}\nARG WORD\nRUN echo $WORD\nCOPY --from=more three /\n")
    flags = ("--build-arg", "WORD", "--build-context", "more=sub")

    def environment(word: str) -> dict[str, str]:
        return site.home.environment(WORD=word)

    words = ("build", "--network=none", *flags, ".")
    site.home.ok(*words, cwd=site.directory, env={**environment("first"), "ONGGI_NO_DAEMON": "1"})
    assert site.ask(*flags, env=environment("first")).returncode == 0
    assert site.ask(*flags, env=environment("second")).returncode == LOST


def test_only_what_was_built_whole_before_is_followed(site: Site) -> None:
    """That Dockerfile's arguments, too, may make it something that does not end."""
    for flags in (("--label", "x=y"), ("--build-arg", "UNUSED=1"), ("--target", "last"), ("--build-context", "m=sub")):
        site.write("Dockerfile", STEPS.replace(IMAGE, f"{IMAGE} AS last"))
        site.build(warm=False)
        assert site.is_served()
        assert not site.is_served(*flags), flags
        site.build(*flags, warm=False)
        assert site.is_served(*flags), flags


def test_too_large_a_context_is_not_looked_through(site: Site) -> None:
    large = site.directory / "sub" / "large"
    with large.open("wb") as file:
        file.truncate(9 << 20)
    assert site.build().returncode == 0
    assert not site.is_served()  # too new for its digest to be trusted
    large.unlink()
    for number in range(1100):
        site.write(f"sub/{number}", "")
    assert site.build().returncode == 0
    assert not site.is_served()
    site.write(".dockerignore", "sub/1*\n")
    assert site.build().returncode == 0
    assert not site.is_served()  # what is left out is looked at too


@pytest.mark.parametrize(
    "copy", ["COPY --from=made /d /d", "RUN --mount=type=bind,from=made,target=/m true", "COPY --from=made /d/1?0 /"]
)
def test_files_of_other_stages_count_too(site: Site, copy: str) -> None:
    made = f"FROM {IMAGE} AS made\nRUN mkdir /d && cd /d && touch $(seq 1100)\nFROM {IMAGE}\n"
    site.write("Dockerfile", f"{made}{copy}\n")
    assert site.build().returncode == 0
    assert not site.is_served()
    site.write("Dockerfile", f"{made}COPY --from=made /d/1 /\n")
    assert site.build().returncode == 0
    assert site.is_served()


def test_a_dockerfile_that_becomes_large_is_not_followed(site: Site) -> None:
    site.write("Dockerfile", f"FROM {IMAGE}\n" + "LABEL a=b\n" * 600)
    assert site.build().returncode == 0
    assert not site.is_served()


def test_many_at_once(site: Site) -> None:
    with ThreadPoolExecutor(8) as pool:
        tags = [f"a:{number}" for number in range(24)]
        done = list(pool.map(lambda tag: site.ask("-q", "-t", tag), tags))
    assert {(one.returncode, one.stdout) for one in done} == {(0, done[0].stdout)}
    assert len(site.home.ok("images", "-q", "a").split()) == len(tags)
    site.home.assert_consistent()


def test_builds_leave_nothing_in_onggid(site: Site) -> None:
    pid = site.home.onggid()
    assert pid is not None

    def stock() -> tuple[int, int]:
        return len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task"))

    def build(times: int) -> None:
        for number in range(times):
            if number % 10 == 0:
                site.write("sub/three", f"{times} {number}\n")
                assert not site.is_served()
                site.build()
            assert site.is_served("-t", f"a:{number}")

    def settle() -> None:
        wait_for(lambda: stock()[1] <= threads, "what the last command left to do is done")

    _, threads = stock()
    for number in range(500):
        site.write(f"sub/{number}", "")
    build(20)
    # Commands that overlap have connections of their own, which are kept: a few at once make as many as there will be.
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: site.ask("-q", "-t", f"b:{number}"), range(8)))
    settle()
    before, sizes_kb = stock(), [memory_kb(pid)]
    for times in (21, 22, 23):
        build(times)
        sizes_kb.append(memory_kb(pid))
    wait_for(lambda: stock() <= before, "onggid is as it was")
    assert site.home.onggid() == pid
    # What is loaded once is no leak; a leak shows each time.
    assert any(after < earlier * GROWTH for earlier, after in pairwise(sizes_kb)), sizes_kb
    site.home.assert_consistent()
