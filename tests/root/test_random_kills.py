"""kill -9 at any moment of any command, or of onggid in the middle of it: what is left is mended, and nothing more."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Final

import pytest

from onggi.host.ports import find_any_port
from tests.containers import wait_for
from tests.homes import IMAGE, Home, is_alive
from tests.soak import MINUTES, timeout

ROUNDS: Final = 15
LATEST_S: Final = 0.25
STATES: Final = ("created", "running", "paused", "exited")
COMMANDS: Final = (
    ("run", "-d", "--name", "c", "-p", "127.0.0.1:PORT:80", "-v", "v:/v", IMAGE, "sleep", "600"),
    ("run", "-d", "--name", "d", IMAGE, "sleep", "600"),
    ("run", "--rm", IMAGE, "sh", "-c", "echo x >/f"),
    ("create", "--name", "e", "-v", "/v", IMAGE, "true"),
    *(("start", name) for name in "cde"),
    *(("restart", "-t", "0", name) for name in "cd"),
    *(("stop", "-t", "0", name) for name in "cd"),
    *(("exec", name, "true") for name in "cd"),
    *(("rm", "-f", "-v", name) for name in "cde"),
    ("pause", "c"),
    ("unpause", "c"),
    ("kill", "d"),
    ("rename", "d", "e"),
    ("commit", "c", "made"),
    ("rmi", "made"),
    ("volume", "rm", "v"),
    ("system", "prune", "-f"),
)
MAY_END: Final = (0, 1, 125, 126, 127, 137, -signal.SIGKILL)


def rounds() -> Iterator[int]:
    """Count, as long as there is time."""
    end, number = time.monotonic() + MINUTES * 60, 0
    while number < ROUNDS or time.monotonic() < end:
        yield number
        number += 1


def kill_one(home: Home, chance: random.Random, port: str) -> list[str]:
    """Run a command, and kill it or its onggid at some moment."""
    words = [word.replace("PORT", port) for word in chance.choice(COMMANDS)]
    warm = chance.random() < 0.5
    command = subprocess.Popen(
        home.words(*words),
        env=home.environment(warm=warm),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    time.sleep(chance.uniform(0, LATEST_S))
    victim = home.onggid() if warm and chance.random() < 0.7 else command.pid
    if victim is not None:
        os.kill(victim, signal.SIGKILL)
    _, said = command.communicate(timeout=60)
    assert command.returncode in MAY_END, (words, command.returncode, said)
    assert b"Traceback" not in said, (words, said)
    return words


def is_whole(home: Home) -> bool:
    """Tell whether the store fits together, after a repair."""
    home.engine.system.check(repair=True)
    return not home.engine.system.check()


@pytest.mark.timeout(timeout(120))
def test_any_command_killed_at_any_moment(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    home.ok("run", "--rm", IMAGE, "true", warm=False)
    before = home.calm()
    port = str(find_any_port("tcp", ("127.0.0.1",), set()))
    seed = random.randrange(1 << 32)
    chance, done = random.Random(seed), 0
    for _ in rounds():
        words = kill_one(home, chance, port)
        wait_for(lambda: is_whole(home), f"a whole store after {words} (seed {seed}): {home.engine.system.check()}", 10)
        for container in home.engine.containers.list(every=True):
            assert container.state in STATES, (seed, words, container)
            assert (container.pid > 0) == (container.state in ("running", "paused")), (seed, words, container)
            assert not container.pid or is_alive(container.pid), (seed, words, container)
        done += 1
    with capsys.disabled():
        print(f"\n{done} commands killed, seed {seed}")
    home.end_onggid()
    for container in home.engine.containers.list(every=True):
        home.engine.containers.remove(container.id, force=True)
    home.onggi("system", "prune", "-f", "--volumes", warm=False)
    home.onggi("rmi", "made", warm=False)
    wait_for(lambda: home.calm() == before, f"everything as before (seed {seed}): {before} {home.calm()}", 10)
