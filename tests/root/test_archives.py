"""Images as files: saved here and loaded there."""

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from onggi import Conflict, FailedPrecondition, NotFound, OnggiError
from onggi.build.events import Event
from onggi.engine.archives import Loaded
from onggi.engine.assemble import Engine
from onggi.engine.builds import BuildRequest
from onggi.spec.platform import machine_platform
from tests.archives import archive as members
from tests.archives import member
from tests.homes import IMAGE, Home, read_tree

DOCKERFILE: Final = f"""FROM {IMAGE} AS one
RUN echo one > /one && ln /one /linked && ln -s one /soft && mkdir -m 1777 /sticky && chown 82:29 /one
ENV A=1
CMD ["cat", "/one"]
FROM one AS two
RUN rm /etc/group && echo two > /two
CMD ["cat", "/one", "/two"]
"""


def save(engine: Engine, archive: Path, *refs: str) -> Path:
    """Save images to a file."""
    with archive.open("wb", buffering=0) as sink:
        engine.images.save(refs, sink)
    return archive


def load(engine: Engine, archive: Path) -> list[Loaded]:
    """Load an archive."""
    with archive.open("rb", buffering=0) as source:
        return list(engine.images.load(source))


def build(home: Home, target: str, *tags: str) -> str:
    """Build one of the stages."""
    events: list[Event] = []
    request = BuildRequest(text=DOCKERFILE.encode(), target=target, tags=tags, network="none")
    return str(home.engine.builds.build(request, events.append).id)


@pytest.fixture
def pair(new_home: Callable[[str], Home]) -> tuple[Home, Home]:
    """Give two state roots; the first has two images that share layers."""
    here, there = new_home("here"), new_home("there")
    build(here, "one", "my/one:1", "my/one:latest")
    build(here, "two", "two:2")
    there.engine.images.remove(IMAGE)
    return here, there


# -- between two of ours -----------------------------------------------------------------------------------


def test_there_and_back_with_equal_ids(pair: tuple[Home, Home], tmp_path: Path) -> None:
    here, there = pair
    archive = save(here.engine, tmp_path / "a.tar", "my/one:1", "two:2")
    loaded = load(there.engine, archive)
    assert [[ref.familiar for ref in item.references] for item in loaded] == [["my/one:1"], ["two:2"]]
    for name in ("my/one:1", "two:2"):
        assert there.engine.images.get(name).id == here.engine.images.get(name).id
        diff_ids = [
            [layer.diff_id for layer in home.engine.images.layers(home.engine.images.get(name))] for home in pair
        ]
        assert diff_ids[0] == diff_ids[1]
    container = there.start(image="two:2")
    assert there.output(container) == "one\ntwo\n"
    script = (
        "stat -c '%n %h %u:%g %a' /one; stat -c '%n %a' /sticky; readlink /soft; echo $A; test -e /etc/group; echo $?"
    )
    looked = there.start("sh", "-c", script, image="two:2")
    assert there.output(looked).splitlines() == ["/one 2 82:29 644", "/sticky 1777", "one", "1", "1"]
    # What was loaded is saved again byte for byte, and what is here already is not taken twice.
    again = save(there.engine, tmp_path / "b.tar", "my/one:1", "two:2")
    assert again.read_bytes() == archive.read_bytes()
    before = sorted(str(path) for path in (there.root / "blobs").rglob("*"))
    load(there.engine, archive)
    assert sorted(str(path) for path in (there.root / "blobs").rglob("*")) == before
    for home in pair:
        home.assert_consistent()


def test_an_output_may_take_less_than_it_is_given(pair: tuple[Home, Home], tmp_path: Path) -> None:
    class Slow(io.BytesIO):
        def write(self, data: object, /) -> int:
            return super().write(bytes(data)[:70_001])  # type: ignore[call-overload]

    here, _ = pair
    slow = Slow()
    here.engine.images.save(["two:2"], slow)
    assert slow.getvalue() == save(here.engine, tmp_path / "a.tar", "two:2").read_bytes()


def test_an_output_that_does_not_wait_is_refused(pair: tuple[Home, Home]) -> None:
    reader, writer = os.pipe2(os.O_NONBLOCK)
    with (
        os.fdopen(reader, "rb"),
        os.fdopen(writer, "wb", buffering=0) as pipe,
        pytest.raises(FailedPrecondition, match="the output is full and does not wait"),
    ):
        pair[0].engine.images.save(["two:2"], pipe)


def test_the_embedded_image_is_the_same_everywhere(pair: tuple[Home, Home]) -> None:
    ids = {str(home.engine.images.resolve("hello").id) for home in pair}
    assert len(ids) == 1


def test_shared_layers_are_in_the_archive_once(pair: tuple[Home, Home], tmp_path: Path) -> None:
    here, _ = pair
    both = save(here.engine, tmp_path / "both.tar", "my/one:1", "two:2")
    with tarfile.open(both) as tar:
        names = tar.getnames()
        manifest = json.load(tar.extractfile("manifest.json") or io.BytesIO())
        layout = json.load(tar.extractfile("oci-layout") or io.BytesIO())
    assert len(names) == len(set(names))
    assert layout == {"imageLayoutVersion": "1.0.0"}
    one, two = (set(entry["Layers"]) for entry in manifest)
    assert one < two
    assert [entry["RepoTags"] for entry in manifest] == [["my/one:1"], ["two:2"]]


@pytest.mark.parametrize("compress", ["gzip", "zstd", "xz"])
def test_compressed_archives(pair: tuple[Home, Home], tmp_path: Path, compress: str) -> None:
    here, there = pair
    archive = save(here.engine, tmp_path / "a.tar", "two:2")
    packed = tmp_path / "packed"
    if compress == "gzip":
        packed.write_bytes(gzip.compress(archive.read_bytes(), 1))
    elif shutil.which(compress) is None:
        pytest.skip(f"needs {compress}")
    else:
        with packed.open("wb") as out:
            subprocess.run([compress, "-1", "-c", archive], stdout=out, check=True)
    (item,) = load(there.engine, packed)
    assert item.image.id == here.engine.images.get("two:2").id


def test_a_damaged_archive_is_refused_and_leaves_nothing(pair: tuple[Home, Home], tmp_path: Path) -> None:
    here, there = pair
    archive = save(here.engine, tmp_path / "a.tar", "two:2")
    whole = archive.read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    at = whole.index(b"root:x:0:0")
    (tmp_path / "flipped").write_bytes(whole[:at] + b"ROOT" + whole[at + 4 :])
    (tmp_path / "text").write_text("no archive at all\n" * 100)
    (tmp_path / "empty").write_bytes(b"")
    for name in ("cut", "flipped", "text", "empty"):
        with pytest.raises(OnggiError):
            load(there.engine, tmp_path / name)
        assert there.engine.images.list() == []
    there.engine.images.collect()
    assert [path for path in (there.root / "blobs").rglob("*") if path.is_file()] == []
    there.engine.system.check(repair=True)
    there.assert_consistent()


def test_a_layer_whose_root_is_opaque_hides_all_below(home: Home, base: Path, busybox: Path, tmp_path: Path) -> None:
    """image-spec layer.md, opaque whiteout; overlayfs itself knows it of every directory but the root."""
    upper = members(
        member(b".wh..wh..opq"), member(b"bin/busybox", data=busybox.read_bytes(), mode=0o755),
        member(b"etc/passwd", data=b"new:x:5:6::/:\n"), member(b"new", data=b"1"),
    ).getvalue()  # fmt: skip
    layers = [base.read_bytes(), upper]
    digests = [hashlib.sha256(layer).hexdigest() for layer in layers]
    config = {
        "os": "linux",
        "architecture": machine_platform(home.engine.system.facts.arch).architecture,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
    }
    manifest = [{"Config": "config.json", "RepoTags": ["opaque:1"], "Layers": digests}]
    parts = [member(digest.encode(), data=layer) for digest, layer in zip(digests, layers, strict=True)]
    parts += [member(b"config.json", data=json.dumps(config).encode())]
    parts += [member(b"manifest.json", data=json.dumps(manifest).encode())]
    (tmp_path / "opaque.tar").write_bytes(members(*parts).getvalue())
    load(home.engine, tmp_path / "opaque.tar")

    script = "echo /* /bin/* /etc/p*"
    container = home.start("/bin/busybox", "sh", "-c", script, image="opaque:1", user="new")
    assert home.output(container) == "/bin /dev /etc /new /proc /sys /bin/busybox /etc/passwd\n"
    exported = read_tree(home.engine, container.id, tmp_path / "e.tar")
    assert "bin/busybox" in exported
    assert "bin/sh" not in exported
    assert b"/bin" not in {path for _, path in home.engine.containers.changes(container.id)}

    text = b'FROM opaque:1\nRUN ["/bin/busybox", "touch", "/built"]\nCOPY --from=opaque:1 / /all/\n'
    home.engine.builds.build(BuildRequest(text=text, network="none", tags=("built",)), lambda event: None)
    built = home.start("/bin/busybox", "sh", "-c", "echo /bu* /bin/* /all/bin/*", image="built")
    assert home.output(built) == "/built /bin/busybox /all/bin/busybox\n"
    with tarfile.open(save(home.engine, tmp_path / "again.tar", "built")) as tar:
        assert f"blobs/sha256/{digests[1]}" in tar.getnames()


def test_names_that_are_not_here(pair: tuple[Home, Home], tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nothing"):
        save(pair[0].engine, tmp_path / "x.tar", "nothing")


def test_what_a_container_uses_is_not_removed(pair: tuple[Home, Home]) -> None:
    here, _ = pair
    container = here.start("sleep", "60", image="two:2")
    with pytest.raises(Conflict, match="image is being used by running container"):
        here.engine.images.remove("two:2", force=True)
    container.remove(force=True)
    names, gone = here.engine.images.remove("two:2")
    assert names == ("two:2",)
    assert gone is not None
    with pytest.raises(NotFound):
        here.engine.images.get("two:2")
    assert here.output(here.start("cat", "/one", image="my/one")) == "one\n"


def test_the_command_line(pair: tuple[Home, Home], tmp_path: Path) -> None:
    here, there = pair
    here.ok("save", "-o", str(tmp_path / "a.tar"), "my/one:1")
    assert "Loaded image: my/one:1" in there.ok("load", "-i", str(tmp_path / "a.tar"))
    piped = subprocess.run(
        f"{here.installed.onggi} --root {here.root} save two:2 | {here.installed.onggi} --root {there.root} load",
        shell=True, capture_output=True, text=True, check=True, env=here.environment(),
    )  # fmt: skip
    assert "Loaded image: two:2" in piped.stdout
    ids = [set(home.ok("images", "-q").split()) for home in pair]
    assert ids[1] == ids[0] - {here.image.id.hex[:12]}
    exported = tmp_path / "e.tar"
    id = there.ok("create", "two:2").strip()
    there.ok("export", "-o", str(exported), id)
    assert there.ok("import", str(exported), "flat:1").startswith("sha256:")
    assert there.ok("run", "--rm", "--network", "none", "flat:1", "cat", "/two") == "two\n"
