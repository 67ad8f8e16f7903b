"""What every LayerForm promises. A new form is one more line in `FORMS`."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from onggi.base.errors import Corrupt
from onggi.host.files import Files
from onggi.store.layers import DirectoryForm, LayerForm
from tests.stores import Store as AnyStore
from tests.stores import diff_id_of, directory_form, make_tar, new_container, receive, toy_diff_id, toy_unpack

TREE = {"bin/": b"", "bin/sh": b"#!shell", "etc/": b"", "etc/empty": b"", "big": b"0123456789" * 10_000}

FORMS: dict[str, Callable[[Files], LayerForm]] = {
    "directory": directory_form,
    "toy": lambda files: DirectoryForm(files, toy_unpack, toy_diff_id),
}


@pytest.fixture(params=sorted(FORMS))
def make_form(request: pytest.FixtureRequest) -> Callable[[Files], LayerForm]:
    """Give the maker of one form after the other."""
    return FORMS[request.param]


@pytest.fixture
def form(make_form: Callable[[Files], LayerForm]) -> LayerForm:
    """Give one form after the other."""
    return make_form(Files())


@pytest.fixture
def place(tmp_path: Path) -> str:
    """Give an empty directory for a layer."""
    (tmp_path / "place").mkdir()
    return f"{tmp_path}/place"


def content(directory: int) -> dict[str, bytes]:
    """Read all that a descriptor shows."""
    found = {}
    for path, directories, files, fd in os.fwalk(".", dir_fd=directory):
        for name in directories:
            found[os.path.normpath(f"{path}/{name}") + "/"] = b""
        for name in files:
            with open(os.open(name, os.O_RDONLY, dir_fd=fd), "rb") as file:
                found[os.path.normpath(f"{path}/{name}")] = file.read()
    return found


def show(form: LayerForm, place: str) -> dict[str, bytes]:
    """Open a layer and read it."""
    directory = form.open(place)
    try:
        return content(directory)
    finally:
        os.close(directory)


def test_it_shows_what_the_tar_had(form: LayerForm, place: str) -> None:
    size = form.make(io.BytesIO(make_tar(TREE)), place)
    assert show(form, place) == TREE
    assert size == sum(len(data) for data in TREE.values())


def test_an_empty_layer_is_a_layer(form: LayerForm, place: str) -> None:
    assert form.make(io.BytesIO(make_tar({})), place) == 0
    assert show(form, place) == {}


def test_its_root_may_be_entered_by_all(form: LayerForm, place: str) -> None:
    old = os.umask(0o077)
    try:
        form.make(io.BytesIO(make_tar(TREE)), place)
    finally:
        os.umask(old)
    directory = form.open(place)
    assert os.fstat(directory).st_mode & 0o777 == 0o755
    os.close(directory)


def test_each_opening_is_the_callers_and_survives_the_removal_of_names(form: LayerForm, place: str) -> None:
    form.make(io.BytesIO(make_tar(TREE)), place)
    first, second = form.open(place), form.open(place)
    os.close(first)
    assert not os.get_inheritable(second)
    os.rename(place, f"{place}.moved")
    assert content(second) == TREE
    os.close(second)


def test_it_may_be_moved_before_it_is_opened(form: LayerForm, place: str) -> None:
    form.make(io.BytesIO(make_tar(TREE)), place)
    os.rename(place, f"{place}.moved")
    assert show(form, f"{place}.moved") == TREE


def test_all_it_keeps_is_in_its_place(form: LayerForm, place: str) -> None:
    form.make(io.BytesIO(make_tar(TREE)), place)
    show(form, place)
    assert os.listdir(os.path.dirname(place)) == ["place"]
    Files().remove_tree(place)
    with pytest.raises(Corrupt):
        form.open(place)


def test_a_fingerprint_tells_layers_apart(form: LayerForm, tmp_path: Path) -> None:
    seen = []
    for number, tree in enumerate((TREE, TREE, {**TREE, "big": b"1"}, {**TREE, "more": b""}, {"bin/": b""})):
        place = f"{tmp_path}/{number}"
        os.mkdir(place)
        form.make(io.BytesIO(make_tar(tree)), place)
        seen.append(form.fingerprint(place))
    assert seen[0] == seen[1]
    assert len(set(seen)) == 4


def test_a_failure_leaves_its_mess_in_its_place(form: LayerForm, place: str) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 whatever the unpacker says
        form.make(io.BytesIO(make_tar(TREE)[:5000]), place)
    assert os.listdir(os.path.dirname(place)) == ["place"]


def test_the_store_needs_no_more_of_it(make_form: Callable[[Files], LayerForm], tmp_path: Path) -> None:
    def forms(files: Files) -> dict[str, LayerForm]:
        made = make_form(files)
        return {made.name: made}

    with AnyStore(tmp_path / "state", forms=forms) as store, store.leases.open("test") as lease:
        id = receive(store, TREE, lease)
        layer = store.layers.get(id)
        assert layer.diff_id == layer.tar == diff_id_of(TREE)
        assert store.layers.verify(id)
        key = new_container().id
        store.snapshots.prepare(key, [id], lease=lease)
        with store.snapshots.hold(key) as held:
            assert content(held.lowers[0]) == TREE
        assert store.checker.check() == []
