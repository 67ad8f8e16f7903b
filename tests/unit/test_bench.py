"""The bench's arithmetic and its tables, on measurements that are made up."""

import random
from collections.abc import Callable

import pytest

from bench.cases import Case
from bench.report import table, targets
from bench.series import BURST, Failed, Series, Subject, measure_back_to_back, measure_idle, quantile, ratio


@pytest.fixture(autouse=True)
def without_idling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.series.IDLE_S", 0)


def recorded(log: list[str], name: str, word: str = "") -> Callable[[], float]:
    def measure() -> float:
        log.append(word + name)
        return float(len(log))

    return measure


def test_every_round_has_every_subject_once_after_its_preparation() -> None:
    log: list[str] = []
    subjects = [
        Subject(name=name, measure=recorded(log, name), before=lambda name=name: log.append(f"before {name}"))  # type: ignore[misc]
        for name in "abc"
    ]
    series = measure_idle(subjects, 5)
    assert {name: len(times) for name, times in series.times.items()} == {"a": 5, "b": 5, "c": 5}
    assert [log[i] for i in range(0, len(log), 2)] == [f"before {name}" for name in log[1::2]]
    rounds = [log[i + 1 : i + 6 : 2] for i in range(0, len(log), 6)]
    assert len(rounds) == 6
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds)


def test_the_order_is_drawn_for_every_round() -> None:
    random.seed(7)
    log: list[str] = []
    measure_idle([Subject(name=name, measure=recorded(log, name)) for name in "abcd"], 20)
    assert len({tuple(log[i : i + 4]) for i in range(0, len(log), 4)}) > 5


def test_the_first_round_only_warms_up() -> None:
    times = iter([1000.0, 1.0, 2.0, 3.0])
    assert measure_idle([Subject(name="a", measure=lambda: next(times))], 3).times == {"a": [1.0, 2.0, 3.0]}


def test_back_to_back_is_bursts_without_their_first() -> None:
    log: list[str] = []
    subjects = [Subject(name=name, measure=recorded(log, name)) for name in "ab"]
    series = measure_back_to_back(subjects, 5)
    bursts = [log[i : i + BURST] for i in range(0, len(log), BURST)]
    assert all(len(set(burst)) == 1 for burst in bursts)
    assert {name: len(times) for name, times in series.times.items()} == {"a": 6, "b": 6}
    assert {int(time - 1) % BURST for times in series.times.values() for time in times} == {1, 2, 3}


def test_who_fails_once_is_left_out_and_said() -> None:
    def fail() -> float:
        raise Failed("no such | thing")

    case = Case("a case")
    ours = case.add("ours", lambda: 2.0)
    case.add("broken", fail, beside=ours)
    case.promise(ours, "broken", 1)
    idle = measure_idle(case.subjects, 2)
    assert idle.failures == {"broken": "no such | thing"}
    assert list(idle.times) == ["ours"]
    assert "| broken |  | does not run here: no such / thing |" in table(case, idle, None)
    assert list(targets(case, idle, None)) == []


def test_quantile() -> None:
    assert quantile([3, 1, 2], 0) == 1
    assert quantile(range(100)) == 95
    assert quantile([5.0]) == 5


def test_a_ratio_of_medians_lies_in_its_interval() -> None:
    draw = random.Random(1)
    theirs = [100 + draw.random() * 20 for _ in range(40)]
    found = ratio([time / 10 for time in theirs], theirs)
    assert found.value == pytest.approx(0.1)
    assert found.low <= found.value <= found.high
    assert found.high - found.low < 0.001, "what disturbed a whole round disturbs no ratio"
    wide = ratio([draw.choice([1.0, 30.0]) for _ in range(40)], theirs)
    assert wide.high - wide.low > 0.05


@pytest.mark.parametrize(("limit", "verdict"), [(0.5, "met"), (0.49, "**not met**")])
def test_targets_are_compared_with_medians(limit: float, verdict: str) -> None:
    case = Case("a case")
    ours = case.add("ours", lambda: 0.0)
    theirs = case.add("theirs", lambda: 0.0, beside=ours)
    case.promise(ours, theirs, limit)
    case.promise(ours, theirs, limit, idle=False)
    case.promise(ours, None, 20 * limit)
    idle = Series({"ours": [1.0, 10.0, 11.0], "theirs": [1.0, 20.0, 500.0]})
    rows = list(targets(case, idle, None))
    assert [row[0] for row in rows] == ["a case", "a case"], "without its series a target is left out"
    assert [row[-1] for row in rows] == [verdict, verdict]
    assert rows[0][3].startswith("0.500 (")
    assert rows[1][1:4] == ["ours", f"≤ {20 * limit:g} ms", "10.0 ms"]
    bursts = Series({"ours": [1.0], "theirs": [100.0]})
    assert [row[-1] for row in targets(case, idle, bursts)] == [verdict, "met", verdict]
    assert "| theirs | 3 | 20.0 | 500.0 | 0.500 (" in table(case, idle, None)
