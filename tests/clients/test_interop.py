"""Images that Onggi builds, in docker, podman and skopeo, and theirs in Onggi: the same ids, the same trees."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.homes import IMAGE, read_tree
from tests.interop import (
    DOCKERFILE,
    NAME,
    Site,
    attributes,
    exported,
    image_there,
    load,
    run_there,
    skopeo,
    tree_here,
    tree_there,
    without_engines,
)
from tests.peers import Docker, Podman, find

pytestmark = pytest.mark.root

# -- ours with them ----------------------------------------------------------------------------------------------------


def test_what_onggi_built_is_the_same_image_there(site: Site, peer: Docker | Podman) -> None:
    peer.run("load", "-i", str(site.archive))
    theirs = image_there(peer, NAME if isinstance(peer, Docker) else site.id)
    assert theirs["RootFS"]["Layers"] == site.diff_ids
    assert theirs["Id"].removeprefix("sha256:") == site.id.removeprefix("sha256:")
    ours = json.loads(site.here.ok("image", "inspect", NAME))[0]
    for field in ("Cmd", "Entrypoint", "Env", "Labels", "ExposedPorts", "WorkingDir", "StopSignal", "Healthcheck"):
        if field in theirs["Config"] or isinstance(peer, Docker):
            assert theirs["Config"][field] == ours["Config"][field], field
    assert (theirs["Architecture"], theirs["Os"]) == (ours["Architecture"], ours["Os"])
    assert NAME in "".join(theirs["RepoTags"])
    assert run_there(peer, site.id) == "last\nnew\n"


def test_what_onggi_built_has_the_same_tree_there(site: Site, peer: Docker | Podman) -> None:
    peer.run("load", "-i", str(site.archive))
    ours = tree_here(site.here, NAME)
    assert tree_there(peer, site.id) == ours
    text = "\n".join(ours)
    for line in ("./data/fifo fifo 640 82:29 1 0 0:0 ", "./data/null character special file 660 0:0 1 0 1:3 ",
                 "./data/loop block special file 600 0:0 1 0 7:12c ", "./suid regular file 6755 0:0 2 ",
                 "./data/linked regular file 644 70000:4000000 ", "./sticky directory 1777 0:0 ",
                 "'./soft' -> '../data/old' symbolic link 777 100000:100000 ", "./srv/directory regular file 644 ",
                 "./bb regular file 755 0:0 2 "):  # fmt: skip
        assert line in text, line
    for gone in ("./data/gone", "./data/old/a", "./data/sub", "./etc/group", "./srv/directory/in"):
        assert f"{gone} " not in text, gone


def test_extended_attributes_arrive_there(site: Site, peer: Docker | Podman, tmp_path: Path) -> None:
    peer.run("load", "-i", str(site.archive))
    container = site.here.ok("create", NAME).strip()
    ours = read_tree(site.here.engine, container, tmp_path / "ours.tar")
    site.here.ok("rm", container)
    prefix = "security." if isinstance(peer, Docker) else ""  # docker keeps no others
    with (
        tarfile.open(tmp_path / "ours.tar") as mine,
        tarfile.open(fileobj=io.BytesIO(exported(peer, site.id))) as theirs,
    ):
        assert "srv/ping" in (expected := attributes(mine, prefix))
        assert attributes(theirs, prefix) == expected
        theirs_names = theirs.getnames()
    assert without_engines(theirs_names) == without_engines(ours)


@pytest.mark.parametrize(
    ("peer", "form"),
    [("docker", ""), ("podman", "--format=docker-archive"), ("podman", "--format=oci-archive")],
    indirect=["peer"],
)
def test_ours_comes_back_from_them(site: Site, peer: Docker | Podman, form: str, tmp_path: Path) -> None:
    peer.run("load", "-i", str(site.archive))
    back = tmp_path / "back.tar"
    peer.run("save", *filter(None, [form]), "-o", str(back), NAME if isinstance(peer, Docker) else site.id)
    loaded = load(site.there, back)
    assert str(loaded.image.id) == site.id
    assert [str(layer.diff_id) for layer in site.there.engine.images.layers(loaded.image)] == site.diff_ids
    assert tree_here(site.there, site.id) == tree_here(site.here, NAME)
    site.there.ok("rmi", "-f", site.id)


# -- theirs with us ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("builder", ["docker", "podman", "buildah"])
def test_what_they_built_is_the_same_image_here(
    site: Site, builder: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    peer: Docker | Podman = request.getfixturevalue("docker" if builder == "docker" else "podman")
    base, archive, dockerfile = tmp_path / "base.tar", tmp_path / "theirs.tar", tmp_path / "Dockerfile"
    site.here.ok("save", "-o", str(base), IMAGE)
    peer.run("load", "-i", str(base))
    dockerfile.write_text(DOCKERFILE)
    words = ["--network=none", "-t", "theirs:1", "-f", str(dockerfile), str(site.context)]
    options = [
        "--ulimit",
        "nofile=1024:1024",
        "--ulimit",
        "nproc=1024:1024",
        "--format",
        "docker",
        "--cap-add",
        "MKNOD",
    ]
    name = "theirs:1" if isinstance(peer, Docker) else "localhost/theirs:1"
    if isinstance(peer, Docker):
        peer.run("build", *words)
        peer.run("save", "-o", str(archive), name)
    elif builder == "podman":
        peer.run("build", "--layers", *options, *words)
        peer.run("save", "-o", str(archive), name)
    else:
        peer.buildah("bud", "--layers", *options, *words)
        peer.buildah("push", name, f"oci-archive:{archive}")
    loaded = load(site.there, archive)
    theirs = image_there(peer, name)
    assert [str(layer.diff_id) for layer in site.there.engine.images.layers(loaded.image)] == theirs["RootFS"]["Layers"]
    if builder != "buildah":  # which writes another config as it pushes an OCI image
        assert str(loaded.image.id).removeprefix("sha256:") == theirs["Id"].removeprefix("sha256:")
    assert tree_here(site.there, str(loaded.image.id)) == tree_there(peer, name)
    said = site.there.ok("run", "--rm", "--network", "none", str(loaded.image.id))
    assert said == "last\nnew\n"
    site.there.ok("rmi", "-f", str(loaded.image.id))
    peer.run("rmi", "-f", name)


def flat(tree: list[str]) -> list[str]:
    """Leave out the file whose names an overlay counts as they were in the layer below."""
    return [line for line in tree if not line.startswith("./data/linked regular")]


def test_exported_trees_are_imported_both_ways(site: Site, peer: Docker | Podman, tmp_path: Path) -> None:
    peer.run("load", "-i", str(site.archive))
    container = site.here.ok("create", NAME).strip()
    site.here.ok("export", "-o", str(tmp_path / "ours.tar"), container)
    site.here.ok("rm", container)
    image = peer.run("import", str(tmp_path / "ours.tar"), "flat:1").stdout.decode().split()[-1]
    assert flat(tree_there(peer, image)) == flat(tree_here(site.here, NAME))
    (tmp_path / "theirs.tar").write_bytes(exported(peer, site.id))
    ours = site.there.ok("import", str(tmp_path / "theirs.tar"), "flat:1").strip()
    assert flat(tree_here(site.there, ours)) == flat(tree_there(peer, site.id))
    site.there.ok("rmi", "-f", ours)


# -- skopeo ------------------------------------------------------------------------------------------------------------


def untar(archive: Path, to: Path) -> Path:
    """Unpack an archive of ours: it is an OCI layout."""
    with tarfile.open(archive) as tar:
        tar.extractall(to, filter="data")
    return to


@pytest.mark.parametrize("transport", ["oci", "oci-archive", "docker-archive"])
def test_skopeo_reads_ours(site: Site, tmp_path: Path, transport: str) -> None:
    find("skopeo")
    place = untar(site.archive, tmp_path / "layout") if transport == "oci" else site.archive
    config = json.loads(skopeo("inspect", "--config", f"{transport}:{place}"))
    assert config["rootfs"]["diff_ids"] == site.diff_ids
    assert config["config"]["Env"][-2:] == ["A=1", "B=two words"]
    seen = json.loads(skopeo("inspect", f"{transport}:{place}"))
    assert seen["Layers"] == site.diff_ids  # they are not compressed
    assert seen["Labels"] == {"one": "1", "org.opencontainers.image.title": "An image"}


@pytest.mark.parametrize("source", ["oci-archive", "docker-archive"])
def test_skopeo_copies_ours_there_and_back(site: Site, tmp_path: Path, source: str) -> None:
    find("skopeo")
    skopeo("copy", f"{source}:{site.archive}", f"dir:{tmp_path}/dir")
    skopeo("copy", f"dir:{tmp_path}/dir", f"docker-archive:{tmp_path}/back.tar:back:9")
    loaded = load(site.there, tmp_path / "back.tar")
    assert str(loaded.image.id) == site.id
    assert [reference.familiar for reference in loaded.references] == ["back:9"]
    assert site.there.ok("run", "--rm", "--network", "none", "back:9") == "last\nnew\n"
    site.there.ok("rmi", "back:9")


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_layers_that_skopeo_compressed_stay_as_they_are(site: Site, tmp_path: Path, compression: str) -> None:
    find("skopeo")
    flags = ["--dest-compress", f"--dest-compress-format={compression}"]
    skopeo("copy", *flags, f"oci-archive:{site.archive}", f"oci-archive:{tmp_path}/theirs.tar:back:9")
    manifest = skopeo("inspect", "--raw", f"oci-archive:{tmp_path}/theirs.tar")
    assert {layer["mediaType"].rpartition("+")[2] for layer in json.loads(manifest)["layers"]} == {compression}
    loaded = load(site.there, tmp_path / "theirs.tar")
    assert str(loaded.image.id) == site.id
    assert tree_here(site.there, site.id) == tree_here(site.here, NAME)
    site.there.ok("save", "-o", str(tmp_path / "again.tar"), site.id)
    assert skopeo("inspect", "--raw", f"oci-archive:{tmp_path}/again.tar") == manifest
    site.there.ok("rmi", "-f", site.id)
