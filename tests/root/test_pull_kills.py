"""kill -9 during a pull, an emptied run directory, a prune meanwhile, a full disk: the next pull completes."""

import os
import random
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Final

import pytest

from onggi.base.errors import OnggiError
from onggi.engine.assemble import Engine
from onggi.registry.access import Registries
from tests.containers import wait_for
from tests.homes import Home, pids
from tests.registry_server import Registry, held, slow
from tests.remote_images import add_image
from tests.root.test_pull import HERE
from tests.root.test_store_disk import fill, on_small_disk
from tests.soak import times

ROUNDS: Final = times(12)
LATEST_S: Final = 1.0
SEEDED: Final = random.Random(1)
LAYERS: Final = [{f"file{number}": SEEDED.randbytes(400_000)} for number in range(4)]


def contents(engine: Engine, name: str) -> list[dict[str, bytes]]:
    """The files of an image's layers."""
    places = [Path(place) for place in engine.images.places(engine.images.get(name))]
    return [{path.name: path.read_bytes() for path in place.iterdir()} for place in places]


def start_pull(home: Home, name: str) -> "subprocess.Popen[bytes]":
    """Begin to pull with the command, in a session of its own."""
    return subprocess.Popen(
        home.words("pull", "-q", name),
        env=home.environment(warm=False),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def kill_session(session: int) -> None:
    """Kill all processes of a session."""
    for pid in list(pids()):
        try:
            if os.getsid(pid) == session:
                os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def test_a_pull_killed_at_any_moment(home: Home, registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    add_image(registry, "app", "1", LAYERS, architecture=HERE)
    registry.fault("GET", "blobs/", slow(0.01))
    name = f"{registry.host}/app:1"
    home.calm()
    seed = random.randrange(1 << 32)
    chance, whole = random.Random(seed), 0
    for number in range(ROUNDS):
        pull = start_pull(home, name)
        time.sleep(chance.uniform(0, LATEST_S))
        kill_session(pull.pid)
        _, said = pull.communicate(timeout=60)
        assert pull.returncode in (0, -signal.SIGKILL), (seed, said)
        if number % 3 == 2:  # as after a boot
            for entry in home.run.iterdir():
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        if references := [image for image in home.engine.images.list() if name in image.references]:
            assert contents(home.engine, name) == LAYERS, seed
            whole += len(references)
            home.ok("rmi", "-f", name, warm=False)
    registry.heal()
    home.ok("pull", "-q", name, warm=False)
    assert contents(home.engine, name) == LAYERS, seed
    home.engine.images.collect()  # leases of the dead, and what they held
    home.assert_consistent()
    home.ok("rmi", name, warm=False)
    home.ok("rmi", "-f", "box", warm=False)
    home.assert_consistent()
    assert [*Path(home.engine.root, "blobs").glob("*/*"), *Path(home.engine.root, "layers").iterdir()] == [], seed
    assert list(Path(home.engine.root, "ingest").iterdir()) == []
    with capsys.disabled():
        print(f"\n{whole} of {ROUNDS} killed pulls were whole already, seed {seed}")


def test_a_prune_takes_nothing_from_a_pull(home: Home, registry: Registry) -> None:
    add_image(registry, "app", "1", LAYERS, architecture=HERE)
    last = next(reversed(registry.blobs["app"]))
    go_on = threading.Event()
    registry.fault("GET", f"blobs/{last}", held(go_on))
    name = f"{registry.host}/app:1"
    pull = start_pull(home, name)
    wait_for(lambda: registry.lines(f"blobs/{last}"), "the last layer is asked for")
    wait_for(lambda: len(list(Path(home.engine.root, "layers").iterdir())) >= len(LAYERS), "the other layers are here")
    for words in (
        ("system", "prune", "-a", "-f", "--volumes"),
        ("image", "prune", "-a", "-f"),
        ("builder", "prune", "-f"),
    ):
        home.ok(*words, warm=False)
    asked = len(registry.asked)
    go_on.set()
    _, said = pull.communicate(timeout=60)
    assert pull.returncode == 0, said
    assert contents(home.engine, name) == LAYERS
    assert len(registry.asked) == asked  # nothing had to be fetched again
    home.assert_consistent()


# -- a full disk -------------------------------------------------------------------------------------------------------


def pull_until_it_fits(disk: str) -> list[Any]:
    """Pull onto a disk that has a little more room each time; gives what was said, and what was left."""
    found: list[Any] = []
    with Registry() as registry, Engine(f"{disk}/root") as engine:
        add_image(registry, "app", "1", LAYERS, architecture=HERE)
        name = f"{registry.host}/app:1"
        for leave in [shift << 16 for shift in (0, 4, 12, 24, 48, 96)]:
            fill(disk, leave)
            said = ""
            try:
                with Registries.of({}, home="/nonexistent", uid=0) as registries:
                    engine.images.pull(name, registries=registries)
            except OnggiError as error:
                said = f"{type(error).__name__}: {error}"
            Path(disk, "ballast").unlink()
            images = len(engine.images.list())
            left = [finding.kind for finding in engine.system.check() if not finding.repairable]
            with Registries.of({}, home="/nonexistent", uid=0) as registries:
                engine.images.pull(name, registries=registries)
            whole = contents(engine, name) == LAYERS
            engine.images.remove(name, force=True)
            found.append([leave, said, images, left, whole, [finding.subject for finding in engine.system.check()]])
    return found


def test_a_full_disk_ends_a_pull_in_a_sentence(tmp_path: Path) -> None:
    found = on_small_disk(pull_until_it_fits, tmp_path / "disk", "24m")
    assert found[0][1]
    assert found[-1][1] == "", "the last has room enough"
    for leave, said, images, left, whole, after in found:
        assert not said or "no space left" in said, found
        assert (images, left, whole, after) == (0 if said else 1, [], True, []), (leave, said, found)
