"""The numbers as Markdown."""

import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench.cases import Case
from bench.series import Series, quantile, ratio


def machine() -> str:
    """Say what this was measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    uname = os.uname()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), uname.machine)
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 2**20
    return f"{os.cpu_count()} CPUs ({model}), {memory:.0f} GB, Linux {uname.release}"


def table(case: Case, idle: Series, bursts: Series | None) -> str:
    """Show a case: medians and 95th percentiles in ms of both series, and Onggi's median as part of each peer's."""
    heads = ["", "n", "median ms", "p95", "Onggi / it"]
    if bursts:
        heads += ["n", "back to back", "p95", "Onggi / it"]
    rows = []
    for subject in case.subjects:
        if reason := idle.failures.get(subject.name):
            rows.append([subject.name, "", f"does not run here: {_cell(reason)}", *[""] * (len(heads) - 3)])
            continue
        rows.append([subject.name, *_figures(case, idle, subject.name)])
        if bursts:
            rows[-1] += _figures(case, bursts, subject.name)
    load = f"The machine's load average meanwhile: {os.getloadavg()[0]:.1f}\n\n"
    return f"### {case.title}\n\n{load}" + _markdown(heads, rows)


def _figures(case: Case, series: Series, name: str) -> list[str]:
    if not (times := series.times.get(name)):
        return ["0", _cell(series.failures.get(name, "")), "", ""]
    ours = series.times.get(case.beside.get(name, ""))
    compared = _ratio(ours, times) if ours else ""
    return [str(len(times)), f"{statistics.median(times):.1f}", f"{quantile(times):.1f}", compared]


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    found = ratio(ours, theirs)
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def targets(case: Case, idle: Series, bursts: Series | None) -> Iterator[list[str]]:
    """Compare what was reached with what was promised, a row each."""
    for target in case.targets:
        series = idle if target.idle else bursts
        ours = series and series.times.get(target.ours)
        theirs = series and series.times.get(target.theirs or "")
        title = case.title + ("" if target.idle else ", back to back")
        if not ours or (target.theirs and not theirs):
            continue
        if theirs:
            value = statistics.median(ours) / statistics.median(theirs)
            row = [f"{target.ours} / {target.theirs}", f"≤ {target.limit:g}", _ratio(ours, theirs)]
        else:
            value = statistics.median(ours)
            row = [target.ours, f"≤ {target.limit:g} ms", f"{value:.1f} ms"]
        yield [title, *row, "met" if value <= target.limit else "**not met**"]


def summary(rows: Sequence[Sequence[str]]) -> str:
    """Show all targets."""
    return "### Targets\n\n" + _markdown(["case", "who", "target", "reached (95 % interval)", ""], rows)


def memory(sizes: Mapping[str, float]) -> str:
    """Show what the processes beside the containers take."""
    return "### Memory\n\n" + _markdown(["", "PSS, KB"], [[name, f"{size / 1024:.0f}"] for name, size in sizes.items()])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "/")


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
