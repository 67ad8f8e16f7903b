"""What becomes of pulled images: listed, named again, saved, counted, removed."""

import json
import os
from pathlib import Path

from onggi.spec import media
from onggi.spec.digest import Digest
from tests.homes import Home
from tests.registry_server import Registry
from tests.remote_images import add_image
from tests.root.test_pull import HERE, OTHER, add_both

FILES = {"a": os.urandom(200_000), "b": bytes(300_000)}


def blobs_on_disk(home: Home) -> dict[str, int]:
    """The files of the content store and their sizes."""
    return {path.name: path.stat().st_size for path in Path(home.engine.root, "blobs").glob("*/*")}


def remove_all(home: Home) -> None:
    """Remove every image."""
    for image in home.engine.images.list():
        home.ok("rmi", "-f", str(image.id))


def test_listed_with_their_digests(home: Home, registry: Registry) -> None:
    _, _, top = add_both(registry)
    name = f"{registry.host}/app"
    home.ok("pull", "-q", f"{name}:1")
    row = home.ok("images", "--digests", name).splitlines()[1].split()
    assert row[:3] == [name, "1", top]
    home.ok("tag", f"{name}:1", "mine:2")
    (found,) = json.loads(home.ok("image", "inspect", "mine:2"))
    assert sorted(found["RepoTags"]) == sorted([f"{name}:1", "mine:2"])
    assert found["RepoDigests"] == [f"{name}@{top}"]
    by_digest = json.loads(home.ok("image", "inspect", f"{name}@{top}"))[0]
    assert by_digest["Id"] == found["Id"]
    assert home.ok("images", "-q", "--no-trunc", "--filter", f"reference={name}").split() == [found["Id"]]


def test_history_is_that_of_the_config(home: Home, registry: Registry) -> None:
    add_image(registry, "app", "1", [{"a": b"1"}, {"b": b"2"}], architecture=HERE)
    home.ok("pull", "-q", f"{registry.host}/app:1")
    rows = home.ok("history", "-q", f"{registry.host}/app:1").split()
    assert len(rows) == 2


def test_removed_with_all_that_came(home: Home, registry: Registry) -> None:
    remove_all(home)
    add_both(registry)
    name = f"{registry.host}/app:1"
    home.ok("pull", "-q", "--all-platforms", name)
    home.ok("image", "prune", "-f")
    home.ok("system", "prune", "-f")
    assert len(blobs_on_disk(home)) == 1 + 2 + 2 + 2 + 1  # index, manifests, configs, layers, the tar
    said = home.ok("rmi", name)
    assert "Deleted: sha256:" in said
    assert blobs_on_disk(home) == {}
    home.assert_consistent()


def test_a_tag_that_moved_frees_what_it_was(home: Home, registry: Registry) -> None:
    remove_all(home)
    name = f"{registry.host}/app:1"
    add_image(registry, "app", "1", [{"a": b"1"}], architecture=HERE)
    home.ok("pull", "-q", name)
    first = set(blobs_on_disk(home))
    add_image(registry, "app", "1", [{"a": b"2"}], architecture=HERE)
    home.ok("pull", "-q", name)
    assert first < set(blobs_on_disk(home))
    home.ok("image", "prune", "-a", "-f")
    assert blobs_on_disk(home) == {}


def test_disk_usage_counts_what_is_kept_beside_layers(home: Home, registry: Registry) -> None:
    remove_all(home)
    name = f"{registry.host}/app:1"
    add_image(registry, "app", "1", [FILES], architecture=HERE)
    home.ok("pull", "-q", name)
    usage = home.engine.system.disk_usage()
    assert usage.layers_bytes == 500_000
    assert usage.blobs_bytes == sum(blobs_on_disk(home).values())
    total = usage.sum_images()
    assert (total.size_bytes, total.reclaimable_bytes) == (usage.layers_bytes + usage.blobs_bytes,) * 2
    home.ok("create", name, "x")
    assert home.engine.system.disk_usage().sum_images().reclaimable_bytes == 0


def test_an_image_that_is_whole_stays_whole(home: Home, registry: Registry, tmp_path: Path) -> None:
    """The same image with layers of another compression: they are not fetched, so its first manifest stays its own."""
    add_image(registry, "app", "gzip", [FILES], architecture=HERE)
    add_image(registry, "app", "zstd", [FILES], architecture=HERE, layer_type=media.OCI_LAYER_ZSTD)
    top = Digest(registry.tags["app"]["gzip"])
    home.ok("pull", "-q", f"{registry.host}/app:gzip")
    home.ok("pull", "-q", f"{registry.host}/app:zstd")
    assert home.engine.images.get(f"{registry.host}/app:zstd").manifest == top
    home.ok("save", "-o", str(tmp_path / "saved.tar"), f"{registry.host}/app:zstd")
    home.ok("rmi", "-f", f"{registry.host}/app:gzip", f"{registry.host}/app:zstd")
    home.ok("load", "-i", str(tmp_path / "saved.tar"))
    assert home.engine.images.get(f"{registry.host}/app:zstd").manifest == top


def test_sha512_is_saved_and_loaded(home: Home, registry: Registry, tmp_path: Path) -> None:
    name = f"{registry.host}/app:1"
    top = add_image(registry, "app", "1", [FILES], architecture=HERE, algorithm="sha512")
    home.ok("pull", "-q", name)
    (found,) = json.loads(home.ok("image", "inspect", name))
    assert found["RepoDigests"] == [f"{registry.host}/app@{top}"]
    home.ok("save", "-o", str(tmp_path / "saved.tar"), name)
    home.ok("rmi", name)
    home.ok("load", "-i", str(tmp_path / "saved.tar"))
    image = home.engine.images.get(name)
    assert (str(image.id), image.manifest) == (found["Id"], top)
    remove_all(home)
    assert blobs_on_disk(home) == {}
    home.assert_consistent()


def test_a_name_with_tag_and_digest(home: Home, registry: Registry) -> None:
    top = add_image(registry, "app", "1", [{"a": b"1"}], architecture=HERE)
    add_image(registry, "app", "1", [{"a": b"2"}], architecture=HERE)
    name = f"{registry.host}/app"
    said = home.ok("pull", f"{name}:1@{top}")
    assert f"Digest: {top}\n" in said
    (found,) = json.loads(home.ok("image", "inspect", f"{name}@{top}"))
    assert (found["RepoTags"], found["RepoDigests"]) == ([], [f"{name}@{top}"])


def test_one_platform_then_the_other(home: Home, registry: Registry) -> None:
    mine, other, top = add_both(registry)
    name = f"{registry.host}/app"
    home.ok("pull", "-q", f"{name}:1")
    home.ok("pull", "-q", "--platform", f"linux/{OTHER}", f"{name}:1")
    assert home.engine.images.get(f"{name}:1").manifest == other
    home.ok("pull", "-q", f"{name}:1")
    assert home.engine.images.get(f"{name}:1").manifest == mine
    (found,) = json.loads(home.ok("image", "inspect", f"{name}:1"))
    assert found["RepoDigests"] == [f"{name}@{top}"]
