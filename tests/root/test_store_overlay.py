"""What a snapshot gives is what overlayfs takes: descriptors of layers, one upper, a fresh work directory."""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from onggi.base.errors import Conflict
from onggi.store.leases import Lease
from onggi.store.snapshots import Held
from tests.stores import Store, directory_form, new_id, receive

# One number on every architecture.
FSOPEN, FSCONFIG, FSMOUNT = 430, 431, 432
SET_FLAG, SET_STRING, SET_FD, CREATE = 0, 1, 5, 6
LIBC: Final = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Give an empty store with the real tar code."""
    with Store(tmp_path, forms=lambda files: {"directory": directory_form(files)}) as made:
        yield made


@pytest.fixture
def lease(store: Store) -> Iterator[Lease]:
    """Give a lease."""
    with store.leases.open("test") as made:
        yield made


def call(number: int, *arguments: object) -> int:
    """Make a system call or fail."""
    result: int = LIBC.syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def mount(held: Held) -> int:
    """Mount what is held, as the launcher does: detached; gives its descriptor."""
    context = call(FSOPEN, b"overlay", 1)
    try:
        for fd in held.lowers:
            call(FSCONFIG, context, SET_FD, b"lowerdir+", None, fd)
        if held.upper is not None and held.work is not None:
            call(FSCONFIG, context, SET_STRING, b"upperdir", os.fsencode(held.upper), 0)
            call(FSCONFIG, context, SET_STRING, b"workdir", os.fsencode(held.work), 0)
        if held.snapshot.volatile:
            call(FSCONFIG, context, SET_FLAG, b"volatile", None, 0)
        call(FSCONFIG, context, CREATE, None, None, 0)
        handle = call(FSMOUNT, context, 1, 0)  # as if by O_PATH
        try:
            return os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=handle)
        finally:
            os.close(handle)
    finally:
        os.close(context)


def read(directory: int, name: str) -> bytes:
    """Read a file beneath a descriptor."""
    with open(os.open(name, os.O_RDONLY, dir_fd=directory), "rb") as file:
        return file.read()


def write(directory: int, name: str, data: bytes) -> None:
    """Write a file beneath a descriptor."""
    with open(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644, dir_fd=directory), "wb") as file:
        file.write(data)


@pytest.mark.parametrize("volatile", [True, False])
def test_steps_build_on_each_other(store: Store, lease: Lease, volatile: bool) -> None:
    stack = [receive(store, {"etc/": b"", "etc/a": b"below", "etc/b": b"below"}, lease)]
    for step in (1, 2, 3):
        key = new_id()
        store.snapshots.prepare(key, stack, volatile=volatile, lease=lease)
        with store.snapshots.hold(key) as held:
            root = mount(held)
            assert read(root, "etc/a") == (b"below" if step == 1 else b"step %d" % (step - 1))
            write(root, "etc/a", b"step %d" % step)
            if step == 2:
                os.unlink("etc/b", dir_fd=root)
            os.close(root)
        stack.append(store.snapshots.commit(key, lease=lease).id)
    key = new_id()
    store.snapshots.view(key, stack, lease=lease)
    with store.snapshots.hold(key) as held:
        root = mount(held)
        assert read(root, "etc/a") == b"step 3"
        assert os.listdir(f"/proc/self/fd/{root}/etc") == ["a"]
        with pytest.raises(OSError, match="Read-only"):
            write(root, "etc/new", b"")
        os.close(root)


def test_a_container_is_started_again_after_an_unclean_stop(store: Store, lease: Lease) -> None:
    """`volatile` refuses a work directory that was not unmounted; each hold gives a new one."""
    key = new_id()
    store.snapshots.prepare(key, [], volatile=True, lease=lease)
    for _ in range(3):
        with store.snapshots.hold(key) as held:
            assert held.work is not None
            root = mount(held)
            write(root, "file", b"x")
            os.close(root)
            os.makedirs(f"{held.work}/work/incompat/volatile", exist_ok=True)
    with store.snapshots.hold(key) as held:
        root = mount(held)
        assert os.listdir(root) == ["file"]
        os.close(root)


@pytest.mark.parametrize("kind", ["active", "view"])
@pytest.mark.parametrize("layers", [0, 1, 127])
def test_few_and_many_layers_mount(store: Store, lease: Lease, kind: str, layers: int) -> None:
    ids = [receive(store, {"top": b"%d" % n, f"file{n}": b""}, lease) for n in range(layers)]
    key = new_id()
    make = store.snapshots.prepare if kind == "active" else store.snapshots.view
    make(key, ids, lease=lease)
    with store.snapshots.hold(key) as held:
        root = mount(held)
        assert sorted(os.listdir(root)) == sorted([*(f"file{n}" for n in range(layers)), *["top"][:layers]])
        if layers:
            assert read(root, "top") == b"%d" % (layers - 1)
        os.close(root)


def test_a_mounted_upper_is_not_mounted_again(store: Store, lease: Lease) -> None:
    key = new_id()
    store.snapshots.prepare(key, [], lease=lease)
    with store.snapshots.hold(key) as held:
        root = mount(held)
        with pytest.raises(Conflict):
            store.snapshots.hold(key, timeout_s=0)
        os.close(root)
    store.snapshots.hold(key, timeout_s=0).close()
