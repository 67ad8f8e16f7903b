"""Measuring in turn, and what the numbers say."""

import os
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from bench.worlds import World

IDLE_S: Final = 0.3
BURST: Final = 4
_RESAMPLES: Final = 4000
_QUANTILE: Final = 0.95
_ERRORS: Final = "/run/bench.err"


class Failed(Exception):
    """A subject that did not do what it should; its measurements are worth nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Something that is measured. `measure` gives milliseconds; `before` is not measured."""

    name: str
    measure: Callable[[], float]
    before: Callable[[], None] | None = None


@dataclass(slots=True)
class Series:
    """What was measured: milliseconds in the order of the rounds, by subject, and the subjects that failed."""

    times: dict[str, list[float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def whole_process(world: World, command: Sequence[str], env: Mapping[str, str]) -> Callable[[], float]:
    """Measure a command from its start until its end is known."""

    def measure() -> float:
        with world.entered():
            errors = os.open(_ERRORS, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            actions = [(os.POSIX_SPAWN_DUP2, fd, to) for fd, to in ((null, 0), (null, 1), (errors, 2))]
            try:
                started = time.perf_counter_ns()
                pid = os.posix_spawnp(command[0], list(command), env, file_actions=actions)
                _, status = os.waitpid(pid, 0)
                ended = time.perf_counter_ns()
                if status:
                    text = os.pread(errors, 4000, 0).decode(errors="replace").strip()
                    raise Failed(f"exit status {os.waitstatus_to_exitcode(status)}: {text[-300:]}")
            finally:
                os.close(errors)
                os.close(null)
        return (ended - started) / 1e6

    return measure


def measure_idle(subjects: Sequence[Subject], rounds: int) -> Series:
    """Measure each once a round, in random order, each after a while of idling."""
    return _measure(subjects, rounds, burst=1, idle_s=IDLE_S)


def measure_back_to_back(subjects: Sequence[Subject], rounds: int) -> Series:
    """Measure bursts of each in random order; a burst's first one only follows another subject and does not count."""
    return _measure(subjects, -(-rounds // (BURST - 1)), burst=BURST, idle_s=0)


def _measure(subjects: Sequence[Subject], rounds: int, *, burst: int, idle_s: float) -> Series:
    series = Series({subject.name: [] for subject in subjects})
    for number in range(rounds + 1):  # the first round only warms up
        for subject in random.sample(subjects, len(subjects)):
            if subject.name in series.failures:
                continue
            try:
                times = [_once(subject, idle_s) for _ in range(burst)]
            except Failed as error:
                series.failures[subject.name] = str(error)
                del series.times[subject.name]
                continue
            if number:
                series.times[subject.name] += times if burst == 1 else times[1:]
    return series


def _once(subject: Subject, idle_s: float) -> float:
    if subject.before is not None:
        subject.before()
    time.sleep(idle_s)
    return subject.measure()


def quantile(times: Sequence[float], share: float = _QUANTILE) -> float:
    """Give the value that this share of the measurements does not exceed."""
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio of medians, with its 95 % bootstrap confidence interval."""

    value: float
    low: float
    high: float


def ratio(ours: Sequence[float], theirs: Sequence[float], *, seed: int = 1) -> Ratio:
    """Compare two series of the same rounds: whole rounds are drawn, so what disturbed both counts for both."""
    draw = random.Random(seed)
    rounds = range(min(len(ours), len(theirs)))
    seen = []
    for _ in range(_RESAMPLES):
        drawn = draw.choices(rounds, k=len(rounds))
        seen.append(statistics.median(ours[i] for i in drawn) / statistics.median(theirs[i] for i in drawn))
    value = statistics.median(ours) / statistics.median(theirs)
    return Ratio(value, quantile(seen, 0.025), quantile(seen, 0.975))
