"""Builds that do not come to their end: interrupted, killed, failed in two places. Nothing of them stays."""

import json
import os
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from onggi.build.events import Event, StepStarted
from onggi.build.solver import StepFailed
from onggi.engine.builds import BuildRequest
from tests.containers import wait_for
from tests.homes import IMAGE, Home, command_of, is_alive, pack, pids


def sleepers(marker: str) -> list[int]:
    """Find the processes of steps that sleep for so long."""
    return [pid for pid in pids() if command_of(pid)[-1:] == [marker] and is_alive(pid)]


def start(home: Home, directory: Path, marker: str) -> "subprocess.Popen[str]":
    """Start a build whose two stages sleep, by the command; returns when both do."""
    directory.mkdir()
    (directory / "Dockerfile").write_text(
        f'FROM {IMAGE} AS one\nRUN echo kept >/kept\nRUN ["sleep", "{marker}"]\n'
        f'FROM {IMAGE}\nRUN ["sleep", "{marker}"]\nCOPY --from=one /kept /kept\n'
    )
    words = home.words("build", "--network=none", "--progress=json", str(directory))
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    build = subprocess.Popen(words, text=True, env=home.environment(warm=False), process_group=0, **options)
    wait_for(lambda: len(sleepers(marker)) == 2 or build.poll() is not None, "both steps sleep")
    assert build.poll() is None, build.communicate()
    return build


def test_ctrl_c_ends_the_steps_and_leaves_nothing(home: Home, tmp_path: Path) -> None:
    before = home.calm()
    build = start(home, tmp_path / "site", "4711.25")
    os.killpg(build.pid, signal.SIGINT)
    said = build.communicate(timeout=30)[1]
    assert build.returncode not in (0, -signal.SIGKILL), said
    assert "interrupted" in said
    assert "Traceback" not in said
    assert sleepers("4711.25") == []
    home.engine.images.collect()
    kept = home.calm()
    # What finished before is in the cache.
    assert len(kept.pop("snapshots")) == len(before.pop("snapshots")) + 1
    assert kept == before
    home.assert_consistent()


def test_after_kill_9_the_next_command_ends_the_steps(home: Home, tmp_path: Path) -> None:
    before = home.calm()
    build = start(home, tmp_path / "site", "4712.25")
    build.kill()
    build.communicate()
    home.ok("ps", warm=False)
    wait_for(lambda: not sleepers("4712.25"), "the steps end")
    home.calm()
    home.engine.images.collect()
    kept = home.traces()
    assert len(kept.pop("snapshots")) == len(before.pop("snapshots")) + 1
    assert kept == before
    home.assert_consistent()


def test_after_kill_9_nothing_staged_is_left(home: Home, tmp_path: Path) -> None:
    dockerfile = f'FROM {IMAGE}\nRUN --mount=type=bind,rw,target=/m ["sleep", "4713.25"]\n'
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "Dockerfile").write_text(dockerfile)
    archive = pack(tmp_path / "site", tmp_path / "site.tar")
    words = home.words("build", "--network=none", "-")
    with archive.open("rb") as stdin:
        build = subprocess.Popen(words, stdin=stdin, stderr=subprocess.PIPE, env=home.environment(warm=False))
    wait_for(lambda: sleepers("4713.25") or build.poll() is not None, "the step sleeps")
    staged = home.root / "ingest"
    assert len(os.listdir(staged)) == 2, build.communicate()  # the context, and what is written to the mount
    home.ok("ps", warm=False)
    assert len(os.listdir(staged)) == 2
    home.assert_consistent()
    build.kill()
    build.communicate()
    home.ok("ps", warm=False)
    assert os.listdir(staged) == []
    wait_for(lambda: not sleepers("4713.25"), "the step ends")
    wait_for(lambda: home.ok("ps", warm=False) and not os.listdir(home.run / "containers"), "the step is cleared away")
    home.engine.images.collect()
    home.assert_consistent()


def test_of_two_failures_one_is_kept_to_look_into(home: Home, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    wait = "until [ -e /m/go ]; do :; done; touch /m/$0; until [ -e /m/a -a -e /m/b ]; do :; done; exit 3"
    cache = "--mount=type=cache,target=/m"
    (tmp_path / "site" / "Dockerfile").write_text(
        f'FROM {IMAGE} AS one\nRUN {cache} ["sh", "-c", {json.dumps(wait)}, "a"]\n'
        f'FROM {IMAGE} AS two\nRUN {cache} ["sh", "-c", {json.dumps(wait)}, "b"]\n'
        f"FROM {IMAGE}\nRUN {cache} touch /m/go\nCOPY --from=one / /1\nCOPY --from=two / /2\n"
    )
    before = {image.id for image in home.engine.images.list()}
    events: list[Event] = []
    with pytest.raises(StepFailed):
        home.engine.builds.build(BuildRequest(context=str(tmp_path / "site"), network="none"), events.append)
    assert any(isinstance(event, StepStarted) for event in events)
    assert len({image.id for image in home.engine.images.list()} - before) == 1
    with closing(sqlite3.connect(home.root / "db.sqlite")) as db:
        assert db.execute("SELECT key FROM snapshots").fetchall() == []
    home.assert_consistent()
