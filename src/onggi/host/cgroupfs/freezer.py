"""Stops all processes of a cgroup, and lets them run again."""

import os
import time
from collections.abc import Mapping

from onggi.base.errors import FailedPrecondition, Unavailable
from onggi.plan.cgroup import UNIFIED

from .files import LONGEST_PAUSE_S, PATIENCE_S, PAUSE_S, read, wait_for_event, write_or_explain


def freeze(directories: Mapping[str, str], *, patience_s: float = PATIENCE_S) -> None:
    """Stop all members until `thaw`. Raises Unavailable, with all of them running on, when one does not stop."""
    deadline = time.monotonic() + patience_s
    if directory := _unified_freezer(directories):
        write_or_explain(f"{directory}/cgroup.freeze", b"1", "freeze")
        stopped = wait_for_event(directory, "frozen", 1, deadline)
    else:
        directory = _v1_freezer(directories)
        stopped = _freeze_v1(directory, deadline)
    if not stopped:
        thaw(directories)
        raise Unavailable(
            f"freeze {directory}: a process did not stop within {patience_s:g} s (it hangs in the kernel, or new ones "
            "come faster than they stop); all of them run on, try again"
        )


def thaw(directories: Mapping[str, str]) -> None:
    """Let all members run again; harmless when they do."""
    if directory := _unified_freezer(directories):
        write_or_explain(f"{directory}/cgroup.freeze", b"0", "thaw")
    if "freezer" in directories:
        write_or_explain(f"{directories['freezer']}/freezer.state", b"THAWED", "thaw")


def is_frozen(directories: Mapping[str, str]) -> bool:
    """Say whether this cgroup was told to freeze (and not only one above it)."""
    if (directory := _unified_freezer(directories)) and read(f"{directory}/cgroup.freeze").strip() == "1":
        return True
    return "freezer" in directories and read(f"{directories['freezer']}/freezer.self_freezing").strip() == "1"


def _unified_freezer(directories: Mapping[str, str]) -> str | None:
    """Give the v2 directory if it can freeze. It is used on hybrid hosts too: there a frozen task can be killed."""
    directory = directories.get(UNIFIED)
    return directory if directory is not None and os.path.exists(f"{directory}/cgroup.freeze") else None


def _v1_freezer(directories: Mapping[str, str]) -> str:
    if "freezer" not in directories:
        raise FailedPrecondition(
            "the container cannot be paused: its host has neither cgroup v2 nor the freezer controller of v1 mounted"
        )
    return directories["freezer"]


def _freeze_v1(directory: str, deadline: float) -> bool:
    """Freeze, again and again: a task that forks just then leaves the v1 freezer in FREEZING for good."""
    pause, tries = PAUSE_S, 0
    while True:
        write_or_explain(f"{directory}/freezer.state", b"FROZEN", "freeze")
        if read(f"{directory}/freezer.state").strip() == "FROZEN":
            return True
        if time.monotonic() > deadline:
            return False
        tries += 1
        if tries % 50 == 0:  # letting them run for a moment helps where forks come in between
            write_or_explain(f"{directory}/freezer.state", b"THAWED", "freeze")
            pause = min(pause * 2, LONGEST_PAUSE_S)
        time.sleep(pause)
