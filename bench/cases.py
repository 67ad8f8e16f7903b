"""What is measured: for each case its subjects, and the targets that they should reach."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from bench.peers import IMAGE, KEPT, Docker, Onggi, Peer, Podman, Runtime
from bench.series import Failed, Subject

HERE: Final = Path(__file__).parent
IN_PROCESS: Final = {"ONGGI_NO_DAEMON": "1"}
CACHED: Final = """\
FROM busybox
LABEL org.opencontainers.image.title=bench
ENV LANG=C.UTF-8
WORKDIR /app
COPY one.txt .
RUN echo one > made
COPY two.txt three.txt ./
RUN cat *.txt > all
ENV READY=yes
EXPOSE 8080
CMD ["cat", "all"]
"""
TEN: Final = "FROM busybox\n" + "RUN true\n" * 10
CLOCK: Final = 'FROM scratch\nCOPY clock /\nCMD ["/clock"]\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A promise: the median of `ours` is at most `limit` times that of `theirs`, or without these so many ms."""

    ours: str
    theirs: str | None
    limit: float
    idle: bool = True
    """Which series counts: after idling, or back to back."""


@dataclass(slots=True)
class Case:
    """Subjects that are measured together. `beside` says which of Onggi's each peer is compared with."""

    title: str
    subjects: list[Subject] = field(default_factory=list)
    beside: dict[str, str] = field(default_factory=dict)
    targets: list[Target] = field(default_factory=list)
    least_rounds: int = 0
    most_rounds: int = 1000
    back_to_back: bool = True

    def add(
        self,
        name: str,
        measure: Callable[[], float],
        *,
        beside: str | None = None,
        before: Callable[[], None] | None = None,
    ) -> str:
        """Add a subject; gives its name."""
        self.subjects.append(Subject(name=name, measure=measure, before=before))
        if beside is not None:
            self.beside[name] = beside
        return name

    def promise(self, ours: str, theirs: str | None, limit: float, *, idle: bool = True) -> None:
        """Add a target."""
        self.targets.append(Target(ours=ours, theirs=theirs, limit=limit, idle=idle))


@dataclass(slots=True)
class Lineup:
    """Onggi and those who are measured beside it, with the same cgroups. `newest` is the Docker that has BuildKit."""

    onggi: Onggi
    dockers: list[Docker] = field(default_factory=list)
    podmans: list[Podman] = field(default_factory=list)
    runtimes: list[Runtime] = field(default_factory=list)
    newest: Docker | None = None

    @property
    def engines(self) -> tuple[Peer, ...]:
        """The peers that have images."""
        return (*self.dockers, *self.podmans)

    @property
    def is_v2(self) -> bool:
        """Whether they see cgroup v2 only."""
        return self.onggi.world.name == "v2"


def run(lineups: Sequence[Lineup]) -> Case:
    """Measure a whole container."""
    case = Case(f"`run --rm {IMAGE} true`")
    words = ("run", "--rm", IMAGE, "true")
    without_network = ("run", "--rm", "--network", "none", IMAGE, "true")
    for lineup in lineups:
        ours = case.add(lineup.onggi.label, lineup.onggi.timed(*words))
        alone = case.add(f"{lineup.onggi.label}, `--network none`", lineup.onggi.timed(*without_network))
        for peer in lineup.engines:
            theirs = case.add(peer.label, peer.timed(*words), beside=ours)
            case.add(f"{peer.label}, `--network none`", peer.timed(*without_network), beside=alone)
            if peer in lineup.dockers:
                case.promise(ours, theirs, 0.1)
        for runtime in lineup.runtimes:
            bundle = ("run", "--bundle", str(runtime.bundle), "bench")
            theirs = case.add(f"{runtime.label}, its `spec`", runtime.timed(*bundle), beside=ours)
            if runtime.name.startswith("runc"):
                case.promise(ours, theirs, 1)
    return case


def exec_(lineups: Sequence[Lineup]) -> Case:
    """Measure a further command in a running container."""
    case = Case("`exec CONTAINER true`")
    words = ("exec", KEPT, "true")
    for lineup in lineups:
        ours = case.add(lineup.onggi.label, lineup.onggi.timed(*words))
        for peer in (*lineup.engines, *lineup.runtimes):
            theirs = case.add(peer.label, peer.timed(*words), beside=ours)
            if peer in lineup.dockers:
                case.promise(ours, theirs, 0.1, idle=False)
                # On v1 the write that joins a cgroup waits for RCU, unless another one was a moment ago.
                case.promise(ours, theirs, 0.1 if lineup.is_v2 else 0.2)
    return case


def ps(lineups: Sequence[Lineup]) -> Case:
    """Measure the list of containers."""
    case = Case("`ps`, one container running")
    for lineup in lineups:
        ours = case.add(lineup.onggi.label, lineup.onggi.timed("ps"))
        for peer in lineup.engines:
            theirs = case.add(peer.label, peer.timed("ps"), beside=ours)
            if peer in lineup.dockers:
                case.promise(ours, theirs, 1)
    return case


def build_cached(lineups: Sequence[Lineup], contexts: Path) -> Case:
    """Measure an unchanged build."""
    case = Case("build of eleven instructions, all cached")
    context = contexts / "cached"
    for lineup in lineups:
        ours = _add_build(case, lineup.onggi, "", context)
        for docker in lineup.dockers:
            theirs = _add_build(case, docker, "classic builder", context, beside=ours)
            case.promise(ours, theirs, 1)
        if lineup.newest is not None:
            theirs = _add_build(case, lineup.newest, "BuildKit", context, beside=ours)
            case.promise(ours, theirs, 1)
    return case


def build_ten(lineups: Sequence[Lineup], contexts: Path) -> Case:
    """Measure ten steps that do nothing."""
    case = Case("build of ten `RUN true`, nothing cached", back_to_back=False)
    context = contexts / "ten"
    for lineup in lineups:
        ours = _add_build(case, lineup.onggi, "", context, "--no-cache")
        alone = _add_build(case, lineup.onggi, "", context, "--no-cache", "--network=none")
        if lineup.newest is not None:
            theirs = _add_build(case, lineup.newest, "BuildKit", context, "--no-cache", beside=ours)
            _add_build(case, lineup.newest, "BuildKit", context, "--no-cache", "--network=none", beside=alone)
            case.promise(ours, theirs, 0.5)
    return case


def _add_build(case: Case, peer: Peer, kind: str, context: Path, *flags: str, beside: str | None = None) -> str:
    name = ", ".join((peer.label, *filter(None, (kind,)), *(f"`{flag}`" for flag in flags if "=" in flag)))
    env = {"DOCKER_BUILDKIT": "1" if kind == "BuildKit" else "0"}
    words = ("build", *flags, "--tag", f"bench-{context.name}", peer.sees(context))
    return case.add(name, peer.timed(*words, env=env), beside=beside)


def cold(lineups: Sequence[Lineup]) -> Case:
    """Measure a first command, when no onggid runs."""
    case = Case(f"cold `onggi run --rm {IMAGE} true`: no onggid runs", back_to_back=False)
    words = ("run", "--rm", IMAGE, "true")
    for lineup in lineups:
        onggi = lineup.onggi
        name = case.add(f"{onggi.label}, leaves one warm", onggi.timed(*words), before=onggi.leave_cold)
        case.promise(name, None, 150)
        in_process = onggi.timed(*words, env=IN_PROCESS)
        case.add(f"{onggi.label}, ONGGI_NO_DAEMON=1", in_process, before=onggi.leave_cold)
    python = Peer("python", lineups[0].onggi.world, (sys.executable,))
    case.add("`python3 -I -c pass`", python.timed("-I", "-c", "pass"))
    return case


def pull(lineup: Lineup, reference: str, size_bytes: int) -> Iterator[Case]:
    """Measure how long it takes until an image can be run that is only in a registry of this machine."""
    size = f"{size_bytes / 1e6:.0f} MB unpacked, gzip"
    case = Case(f"pull of three layers, {size}, from a registry on loopback", most_rounds=5, back_to_back=False)
    again = Case("pull of the same image, which is here", most_rounds=15, back_to_back=False)
    ours = ""
    for peer in (lineup.onggi, *lineup.engines, *((lineup.newest,) if lineup.newest else ())):
        flags = ("--tls-verify=false",) if peer in lineup.podmans else ()
        words = ("pull", "--quiet", *flags, reference)
        beside = ours or None
        name = case.add(peer.label, peer.timed(*words), beside=beside, before=partial(_forget, peer, reference))
        again.add(peer.label, peer.timed(*words), beside=beside, before=partial(_have, peer, words))
        ours = ours or name
    yield case
    yield again


def _forget(peer: Peer, reference: str) -> None:
    with suppress(Failed):  # it was not here
        peer.do("rmi", "--force", reference)
    os.sync()


def _have(peer: Peer, words: Sequence[str]) -> None:
    peer.do(*words)


def layers_of_this_host(place: Path) -> int:
    """Write a Dockerfile and the tars of its three layers, real files of this host; gives their size together."""
    place.mkdir()
    lines = ["FROM scratch"]
    size = 0
    for number, directory in enumerate(("usr/share/doc", "usr/include", "usr/lib/gcc"), 1):
        subprocess.run(["tar", "-C", "/", "-cf", place / f"{number}.tar", directory], check=True)
        lines.append(f"ADD {number}.tar /")
        size += (place / f"{number}.tar").stat().st_size
    (place / "Dockerfile").write_text("\n".join(lines) + "\n")
    return size


@contextmanager
def first_instruction(lineups: Sequence[Lineup]) -> Iterator[Case]:
    """Measure from a call of the Python API until a static program looks at the clock."""
    case = Case("Python API: from the call to the container's first instruction", least_rounds=50)
    programs = []
    try:
        for lineup in lineups:
            with lineup.onggi.world.entered():
                command = [sys.executable, str(HERE / "first_instruction.py"), str(lineup.onggi.root), "clock"]
                program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            programs.append(program)
            name = case.add(lineup.onggi.label, lambda program=program: _ask(program))  # type: ignore[misc]
            case.promise(name, None, 6 if lineup.is_v2 else 20)
        yield case
    finally:
        for program in programs:
            program.communicate()


def _ask(program: "subprocess.Popen[str]") -> float:
    assert program.stdin is not None
    assert program.stdout is not None
    program.stdin.write("\n")
    program.stdin.flush()
    if not (answer := program.stdout.readline()):
        raise Failed("the program has ended")
    return int(answer) / 1e6


def write_contexts(place: Path) -> None:
    """Write what is built: the two builds that are measured, and the image of the clock."""
    for name, dockerfile in {"cached": CACHED, "ten": TEN, "clock": CLOCK}.items():
        (place / name).mkdir(parents=True)
        (place / name / "Dockerfile").write_text(dockerfile)
    for number in ("one", "two", "three"):
        (place / "cached" / f"{number}.txt").write_text(f"{number}\n")
    subprocess.run(["gcc", "-O2", "-static", "-o", place / "clock" / "clock", HERE / "clock.c"], check=True)
