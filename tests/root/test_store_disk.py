"""A disk that is full, a disk that is read-only: a sentence each, and a consistent store.

Each test runs a child in a mount namespace of its own, with a small tmpfs as the state root's disk.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.stores import Store, directory_form, make_config, new_container, new_id, receive

PROJECT = Path(__file__).parents[2]


def on_small_disk(function: Callable[[str], Any], disk: Path, size: str) -> Any:
    """Run a function of a module on a fresh tmpfs; gives what it returns."""
    disk.mkdir()
    code = (
        f"import json, sys; sys.path[:0] = [{str(PROJECT)!r}, {str(PROJECT / 'src')!r}]\n"
        f"from {function.__module__} import {function.__name__} as run\n"
        f"print(json.dumps(run({str(disk)!r})))"
    )
    mount = f'mount -t tmpfs -o size={size} none "$0" && exec "$@"'
    unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-c", mount, str(disk)]
    command = [*unshare, sys.executable, "-B", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def fill(disk: str, leave: int = 0) -> None:
    """Use up all space but for some bytes."""
    with open(f"{disk}/ballast", "ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
        file.truncate(max(0, file.tell() - leave))


def open_store(disk: str) -> Store:
    """Open the store on the disk, with the real tar code."""
    return Store(f"{disk}/root", forms=lambda files: {"directory": directory_form(files)})


def attempt(action: Callable[[], object]) -> str:
    """Try something; gives the kind and sentence of the error, or nothing."""
    from onggi.base.errors import OnggiError

    try:
        action()
    except OnggiError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def use(store: Store) -> None:
    """Do a bit of everything that writes."""
    files = {"bin/": b"", "bin/sh": bytes(200_000)}
    with store.leases.open("load") as lease:
        layer = receive(store, files, lease)
        diff_id = store.layers.get(layer).diff_id
        assert diff_id is not None
        store.images.create(make_config(diff_id), [layer], lease=lease)
        id = new_id()
        with store.root.db.write(durable=True):
            store.snapshots.prepare(id, [layer])
            store.containers.create(new_container(id, snapshot=id), durable=True)
        store.snapshots.hold(id).close()


def run_out_of_space(disk: str) -> list[list[str]]:
    """Run out of space a little later each time; then make room and look."""
    found = []
    with open_store(disk) as store:
        use(store)
    for leave in [0, *(1 << shift for shift in range(12, 20)), *(size << 16 for size in range(3, 12)), 7 << 18]:
        fill(disk, leave)
        with open_store(disk) as store:
            store.files.remove_tree(store.root.place("reserve"))
            fill(disk, leave)
            said = attempt(partial(use, store))
        Path(disk, "ballast").unlink()
        with open_store(disk) as store:
            store.checker.repair()
            left = [f"{item.subject} {item.problem}" for item in store.checker.check()]
            use(store)
            for container in store.containers.list():
                store.containers.remove(container.id)
            store.collector.collect()
            found.append([str(leave), said, *left])
    return found


def test_a_full_disk_ends_in_a_sentence_and_a_consistent_store(tmp_path: Path) -> None:
    found = on_small_disk(run_out_of_space, tmp_path / "disk", "24m")
    assert all(left == [] for _, _, *left in found), found
    said = [text for _, text, *_ in found]
    assert said[0]
    assert said[-1] == "", "the last attempt has room enough"
    for text in said:
        assert not text or text.startswith(("Unavailable: cannot ", "DiskFull: cannot ")), said
        assert not text or ("no space left" in text and "free some" in text), said


def empty_a_full_disk(disk: str) -> list[object]:
    """Fill the disk to the last byte, then remove things."""
    with open_store(disk) as store:
        use(store)
        store.content.put([bytes(1_000_000)])
    fill(disk)
    with open_store(disk) as store:
        full = store.files.free_bytes(disk)
        containers = store.containers.list()
        for container in containers:
            store.containers.remove(container.id)
            store.snapshots.remove(container.id)
        for image in store.images.list():
            store.images.remove(image.id)
        size = store.collector.collect().size_bytes
        Path(disk, "ballast").unlink()
        store.collector.collect()
        reserved = store.files.look(store.root.place("reserve")) is not None
        return [full, len(containers), size, reserved, [item.subject for item in store.checker.check()]]


def test_a_full_disk_can_be_emptied(tmp_path: Path) -> None:
    full, containers, size, reserved, findings = on_small_disk(empty_a_full_disk, tmp_path / "disk", "24m")
    assert (full, containers, reserved, findings) == (0, 1, True, [])
    assert size > 1_400_000


def go_read_only(disk: str) -> list[str]:
    """Remount the disk read-only and try everything."""
    with open_store(disk) as store:
        use(store)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    said = [attempt(lambda: Store(f"{disk}/other"))]
    store = open_store(disk)
    for action in (
        store.containers.list,
        lambda: store.containers.create(new_container(), durable=True),
        lambda: store.content.put([b"x"]),
        lambda: store.leases.open("x"),
        store.collector.collect,
        store.checker.repair,
        lambda: store.volumes.create("volume"),
        store.events.read,
    ):
        said += [attempt(action)]
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    with open_store(disk) as store:
        said += [f"{item.subject} {item.problem}" for item in store.checker.check()]
    return said


def test_a_read_only_root_ends_in_a_sentence(tmp_path: Path) -> None:
    said = on_small_disk(go_read_only, tmp_path / "disk", "24m")
    assert len(said) == 9
    for text in said:
        assert text.startswith("FailedPrecondition: cannot ")
        assert text.endswith("its file system is read-only; remount it read-write or use --root")


def remove_beneath_a_mount(disk: str) -> list[str]:
    """Mount something below what is to be removed."""
    with open_store(disk) as store:
        Path(disk, "precious").mkdir()
        Path(disk, "precious/file").touch()
        place = Path(store.root.place("trash", "tree/mounted"))
        place.mkdir(parents=True)
        subprocess.run(["mount", "--bind", f"{disk}/precious", place], check=True)
        said = attempt(store.sweeper.sweep)
        kept = Path(disk, "precious/file").exists()
        subprocess.run(["umount", place], check=True)
        store.sweeper.sweep()
        return [said, str(kept), str(Path(disk, "precious/file").exists()), str(place.exists())]


def test_what_is_mounted_below_is_not_removed(tmp_path: Path) -> None:
    said, *rest = on_small_disk(remove_beneath_a_mount, tmp_path / "disk", "24m")
    assert said.startswith("Conflict: cannot remove ")
    assert rest == ["True", "True", "False"]
