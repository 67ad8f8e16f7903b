"""`push` to a registry that may refuse, cut and wait."""

import io
import json
import os
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from onggi.base.errors import (
    Cancelled,
    Corrupt,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OnggiError,
    Unauthorized,
    Unavailable,
)
from onggi.engine.assemble import Engine
from onggi.engine.builds import BuildRequest
from onggi.engine.pushing import Pushed
from onggi.host.launcher import Launcher
from onggi.host.machine import read_machine
from onggi.registry.access import Registries
from onggi.registry.progress import BlobProgress, Event, Note, State
from onggi.spec import media
from onggi.spec.digest import Digest
from onggi.spec.platform import machine_platform
from onggi.store.tar.decompress import open_layer
from tests.archives import END, member
from tests.registry_server import Registry, answer, cut_upload, held, status
from tests.remote_images import add_image, add_index, descriptor

HERE = machine_platform(read_machine()).architecture
OTHER = "arm64" if HERE == "amd64" else "amd64"
BIG = {f"file{number}": os.urandom(1 << 20) for number in range(3)}


def tar_of(files: dict[str, bytes]) -> io.BytesIO:
    """Make the tar of a tree."""
    return io.BytesIO(b"".join(member(name.encode(), b"0", data) for name, data in files.items()) + END)


class Pusher:
    """An engine, a registry, and a user who pushes."""

    def __init__(self, engine: Engine, registry: Registry, home: Path) -> None:
        self.engine, self.registry, self.home = engine, registry, home
        self.events: list[Event] = []

    def registries(self) -> Registries:
        return Registries.of({}, home=str(self.home), uid=0)

    def name(self, rest: str) -> str:
        return f"{self.registry.host}/{rest}"

    def have(self, rest: str, files: dict[str, bytes] | None = None) -> str:
        """Have an image of one layer; gives its id."""
        return str(self.engine.images.import_tree(tar_of(files or {"a": b"content"}), name=self.name(rest)).id)

    def build(self, rest: str, dockerfile: str) -> str:
        """Build an image."""
        request = BuildRequest(text=dockerfile.encode(), tags=(self.name(rest),), network="none")
        return str(self.engine.builds.build(request, lambda event: None).id)

    def pull(self, rest: str, **options: Any) -> None:
        with self.registries() as registries:
            self.engine.images.pull(self.name(rest), registries=registries, **options)

    def push(self, rest: str, **options: Any) -> Pushed:
        self.events.clear()
        self.registry.asked.clear()
        with self.registries() as registries:
            return self.engine.images.push(self.name(rest), registries=registries, tell=self.events.append, **options)

    def refused(self, rest: str, kind: type[OnggiError], match: str, **options: Any) -> None:
        """Fail to push, and have nothing to be seen there."""
        with pytest.raises(kind, match=match):
            self.push(rest, **options)
        assert not self.registry.tags.get(rest.partition(":")[0])

    def states(self) -> list[list[State]]:
        """The states of each blob, without repetition."""
        states: dict[str, list[State]] = {}
        for event in self.events:
            if isinstance(event, BlobProgress):
                seen = states.setdefault(event.blob, [])
                if seen[-1:] != [event.state]:
                    seen.append(event.state)
        return list(states.values())

    def notes(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Note)]

    def manifest(self, rest: str) -> dict[str, Any]:
        """What a name stands for in the registry."""
        repository, _, tag = rest.partition(":")
        document: dict[str, Any] = json.loads(
            self.registry.manifests[repository][self.registry.tags[repository][tag]][0]
        )
        return document

    def uploads(self) -> list[str]:
        """The requests that carried something."""
        return [line for line in self.registry.lines("uploads/") if line.startswith(("PATCH", "PUT"))]

    def give_up_blobs(self, *repositories: str) -> None:
        """Let the engine lose the compressed blobs that a registry has."""
        for repository in repositories:
            for digest, (data, _) in self.registry.manifests[repository].items():
                del digest
                for layer in json.loads(data).get("layers", ()):
                    self.engine._context.content.delete(Digest(layer["digest"]))


@pytest.fixture
def new_pusher(tmp_path: Path, launcher: Launcher, registry: Registry) -> Iterator[Callable[[str], Pusher]]:
    engines: list[Engine] = []

    def make(name: str) -> Pusher:
        engines.append(Engine(tmp_path / name, launcher=launcher))
        return Pusher(engines[-1], registry, tmp_path)

    yield make
    for engine in engines:
        engine.system.reset()
        engine.close()


@pytest.fixture
def pusher(new_pusher: Callable[[str], Pusher]) -> Pusher:
    return new_pusher("root")


# -- made here -------------------------------------------------------------------------------------


def test_an_image_made_here_becomes_one_there(pusher: Pusher) -> None:
    id = pusher.have("app:1", {"a": b"content" * 1000})
    pushed = pusher.push("app:1")
    manifest = pusher.manifest("app:1")
    assert pushed.digest == pusher.registry.tags["app"]["1"]
    assert (manifest["mediaType"], manifest["config"]["mediaType"]) == (media.OCI_MANIFEST, media.OCI_CONFIG)
    assert (manifest["config"]["digest"], pushed.image) == (id, id)
    [layer] = manifest["layers"]
    assert layer["mediaType"] == media.OCI_LAYER_ZSTD
    blob = pusher.registry.blobs["app"][layer["digest"]]
    assert layer["size"] == len(blob) == pushed.sent_bytes - manifest["config"]["size"]
    stream = open_layer(io.BytesIO(blob))
    assert [stream.drain()] == list(pusher.engine.images.config(pusher.name("app:1")).diff_ids)
    assert pusher.states() == [[State.WAITING, State.COMPRESSING, State.UPLOADING, State.READY]]
    assert pusher.registry.lines("PUT.*/manifests/")[-1] == pusher.registry.asked[-1].line  # last of all


def test_a_second_time_nothing_is_sent(pusher: Pusher) -> None:
    pusher.have("app:1")
    first = pusher.push("app:1")
    second = pusher.push("app:1")
    assert (second.digest, second.sent_bytes) == (first.digest, 0)
    assert pusher.uploads() == []
    assert pusher.states() == [[State.WAITING, State.THERE]]
    assert pusher.notes() == []


def test_what_was_pushed_outlives_a_collection_and_is_saved_with_its_digest(pusher: Pusher, tmp_path: Path) -> None:
    pusher.have("app:1")
    pushed = pusher.push("app:1")
    pusher.engine.images.collect()
    with (tmp_path / "saved.tar").open("wb", buffering=0) as sink:
        pusher.engine.images.save([pusher.name("app:1")], sink)
    with tarfile.open(tmp_path / "saved.tar") as archive:
        assert f"blobs/sha256/{pushed.digest.hex}" in archive.getnames()
    pusher.registry.blobs.clear()
    assert pusher.push("app:1").digest == pushed.digest
    assert [State.COMPRESSING] not in pusher.states()


def test_two_roots_make_the_same(new_pusher: Callable[[str], Pusher], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content" * 10000)
    dockerfile = b"FROM scratch\nCOPY file /\nWORKDIR /work\n"
    digests = []
    for root in ("one", "two"):
        pusher = new_pusher(root)
        request = BuildRequest(
            context=str(tmp_path), text=dockerfile, tags=(pusher.name("app:1"),), args={"SOURCE_DATE_EPOCH": "0"}
        )
        pusher.engine.builds.build(request, lambda event: None)
        digests += [pusher.push("app:1").digest, pusher.push("app:1", compression="gzip").digest]
        pusher.registry.blobs.clear()
    assert digests[:2] == digests[2:]
    assert digests[0] != digests[1]


def test_layers_of_two_images_are_compressed_and_sent_once(pusher: Pusher) -> None:
    pusher.have("base:1")
    pusher.build("one:1", f"FROM {pusher.name('base:1')}\nWORKDIR /one\n")
    pusher.build("two:1", f"FROM {pusher.name('base:1')}\nWORKDIR /two\n")
    pusher.push("one:1")
    pusher.push("two:1")
    assert sorted(pusher.states(), key=len)[0] == [State.WAITING, State.MOUNTED]
    assert sorted(pusher.states(), key=len)[1] == [State.WAITING, State.COMPRESSING, State.UPLOADING, State.READY]
    assert pusher.manifest("two:1")["layers"][0] == pusher.manifest("one:1")["layers"][0]


@pytest.mark.parametrize(
    ("compression", "level", "kind"),
    [("gzip", None, media.OCI_LAYER_GZIP), ("gzip", 9, media.OCI_LAYER_GZIP), ("zstd", 9, media.OCI_LAYER_ZSTD),
     ("none", None, media.OCI_LAYER)],
)  # fmt: skip
def test_compression_is_as_asked_for(pusher: Pusher, compression: str, level: int | None, kind: str) -> None:
    pusher.have("app:1", {"a": b"content" * 10000})
    first = pusher.push("app:1", compression=compression, level=level)
    [layer] = pusher.manifest("app:1")["layers"]
    assert layer["mediaType"] == kind
    stream = open_layer(io.BytesIO(pusher.registry.blobs["app"][layer["digest"]]))
    assert [stream.drain()] == list(pusher.engine.images.config(pusher.name("app:1")).diff_ids)
    assert stream.compression == compression
    assert pusher.push("app:1", compression=compression, level=level).sent_bytes == 0
    assert pusher.push("app:1").digest == first.digest


def test_another_compression_makes_another_digest_and_says_so(pusher: Pusher) -> None:
    pusher.have("app:1", {"a": b"content" * 10000})
    first = pusher.push("app:1")
    second = pusher.push("app:1", compression="zstd", level=19)
    assert first.digest != second.digest
    assert pusher.notes() == [
        f"{pusher.name('app:1')}: the digest changes from {first.digest} to {second.digest}: as it was asked for"
    ]
    assert pusher.push("app:1").digest == second.digest


def test_what_was_received_is_still_known_after_another_compression(pusher: Pusher) -> None:
    digest = add_image(pusher.registry, "from", "1", [{"a": b"a" * 5000}])
    pusher.pull("from:1")
    pusher.engine.images.tag(pusher.name("from:1"), pusher.name("to:zstd"))
    assert pusher.push("to:zstd", compression="zstd").digest != digest
    pusher.engine.images.tag(pusher.name("from:1"), pusher.name("to:1"))
    assert pusher.push("to:1").digest == digest


def test_wrong_compressions_are_refused(pusher: Pusher) -> None:
    pusher.have("app:1")
    pusher.refused("app:1", InvalidArgument, "unknown compression 'xz'", compression="xz")
    pusher.refused("app:1", InvalidArgument, "gzip has levels 1 to 9, not 12", compression="gzip", level=12)
    pusher.refused("app:1", InvalidArgument, "give gzip or zstd too", level=3)


def test_a_layer_that_changed_on_disk_is_not_pushed(pusher: Pusher) -> None:
    pusher.have("base:1")
    pusher.build("app:1", f"FROM {pusher.name('base:1')}\nWORKDIR /one\n")
    image = pusher.engine.images.get(pusher.name("app:1"))
    Path(pusher.engine.images.places(image)[-1], "more").write_text("x")
    pusher.refused("app:1", Corrupt, "has changed on disk")


# -- received --------------------------------------------------------------------------------------


def test_what_was_received_goes_out_as_it_came(pusher: Pusher) -> None:
    digest = add_image(pusher.registry, "from", "1", [{"a": b"a"}, {"b": b"b"}])
    pusher.pull("from:1")
    pusher.engine.images.tag(pusher.name("from:1"), pusher.name("to:2"))
    assert pusher.push("to:2").digest == digest
    assert pusher.registry.manifests["to"][digest] == pusher.registry.manifests["from"][digest]
    assert pusher.states() == [[State.WAITING, State.MOUNTED]] * 2
    assert pusher.uploads() == []
    assert pusher.notes() == []


def test_a_registry_that_does_not_mount_is_sent_the_blobs(pusher: Pusher) -> None:
    digest = add_image(pusher.registry, "from", "1", [{"a": b"a"}, {"b": b"b"}])
    pusher.pull("from:1")
    pusher.engine.images.tag(pusher.name("from:1"), pusher.name("to:2"))
    del pusher.registry.blobs["from"]
    assert pusher.push("to:2").digest == digest
    assert pusher.states() == [[State.WAITING, State.UPLOADING, State.READY]] * 2
    # A neighbour that gave nothing is not asked again.
    for layer in pusher.manifest("to:2")["layers"]:
        digest = Digest(layer["digest"])
        assert pusher.engine._context.sources.repositories(digest, pusher.registry.host) == ["to"]
    pusher.engine.images.tag(pusher.name("from:1"), pusher.name("other:2"))
    pusher.push("other:2")
    layers = {layer["digest"] for layer in pusher.manifest("other:2")["layers"]}
    asked = [one.query["from"] for one in pusher.registry.asked if one.query.get("mount", [""])[0] in layers]
    assert asked == [["to"]] * 2


def test_an_image_with_docker_s_manifest_stays_one(pusher: Pusher) -> None:
    digest = add_image(
        pusher.registry, "from", "1", [{"a": b"a"}], layer_type=media.DOCKER_LAYER_GZIP,
        manifest_type=media.DOCKER_MANIFEST, config_type=media.DOCKER_CONFIG,
    )  # fmt: skip
    pusher.pull("from:1")
    pusher.engine.images.tag(pusher.name("from:1"), pusher.name("to:2"))
    assert pusher.push("to:2").digest == digest
    pusher.give_up_blobs("from")
    del pusher.registry.blobs["from"], pusher.registry.blobs["to"]
    pushed = pusher.push("to:2")
    manifest = pusher.manifest("to:2")
    assert pushed.digest != digest
    assert manifest["mediaType"] == media.DOCKER_MANIFEST
    assert [layer["mediaType"] for layer in manifest["layers"]] == [media.DOCKER_LAYER_GZIP]
    assert pusher.push("to:2", compression="zstd").digest != pushed.digest
    manifest = pusher.manifest("to:2")
    assert (manifest["mediaType"], manifest["config"]["mediaType"]) == (media.OCI_MANIFEST, media.OCI_CONFIG)
    assert [layer["mediaType"] for layer in manifest["layers"]] == [media.OCI_LAYER_ZSTD]


def test_blobs_that_were_given_up_are_looked_for_there(pusher: Pusher) -> None:
    digest = add_image(pusher.registry, "from", "1", [{"a": b"a"}, {"b": b"b"}])
    pusher.pull("from:1")
    pusher.engine.images.tag(pusher.name("from:1"), pusher.name("to:2"))
    pusher.give_up_blobs("from")
    assert pusher.push("from:1").digest == digest
    assert pusher.states() == [[State.THERE]] * 2
    assert pusher.push("to:2").digest == digest
    assert pusher.states() == [[State.MOUNTED]] * 2
    assert pusher.notes() == []


def test_blobs_that_were_given_up_are_made_again_and_the_digest_changes(pusher: Pusher) -> None:
    digest = add_image(pusher.registry, "from", "1", [{"a": b"a"}, {"b": b"b"}])
    pusher.pull("from:1")
    id = pusher.engine.images.get(pusher.name("from:1")).id
    pusher.give_up_blobs("from")
    pusher.registry.blobs.clear()
    pushed = pusher.push("from:1")
    assert pushed.digest != digest
    assert (pushed.image, pusher.manifest("from:1")["config"]["digest"]) == (id, id)
    assert pusher.notes() == [
        f"{pusher.name('from:1')}: the digest changes from {digest} to {pushed.digest}: its layers were compressed anew"
    ]
    assert (pusher.push("from:1").digest, pusher.notes()) == (pushed.digest, [])


def test_layers_of_a_base_that_was_pulled_go_as_they_came(pusher: Pusher) -> None:
    add_image(pusher.registry, "base", "1", [{"a": b"a"}])
    pusher.pull("base:1")
    pusher.build("app:1", f"FROM {pusher.name('base:1')}\nWORKDIR /one\n")
    pusher.push("app:1")
    layers = pusher.manifest("app:1")["layers"]
    assert layers[0] == pusher.manifest("base:1")["layers"][0]
    assert [layer["mediaType"] for layer in layers] == [media.OCI_LAYER_GZIP, media.OCI_LAYER_ZSTD]
    assert sorted(pusher.states(), key=len)[0] == [State.WAITING, State.MOUNTED]


def test_layers_that_are_not_for_registries_are_not_sent(pusher: Pusher) -> None:
    foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar"
    pusher.have("app:1")
    context = pusher.engine._context
    image = pusher.engine.images.get(pusher.name("app:1"))
    config = pusher.engine.images.raw_config(image)
    [layer] = pusher.engine.images.layers(image)
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": media.OCI_MANIFEST,
            "config": descriptor(media.OCI_CONFIG, image.id, len(config)),
            "layers": [descriptor(foreign, Digest.of(b"elsewhere"), 9, urls=["https://example.com/layer"])],
        }
    ).encode()
    assert layer.tar
    with context.leases.open("test") as lease:
        digest = context.content.put([manifest], lease=lease).digest
        context.images.create(config, image.layers, manifest=digest, lease=lease)
    assert pusher.push("app:1").digest == digest
    assert pusher.states() == [[State.WAITING, State.SKIPPED]]
    assert list(pusher.registry.blobs["app"]) == [image.id]


# -- several platforms -----------------------------------------------------------------------------


@pytest.fixture
def two(pusher: Pusher) -> tuple[Digest, Digest, Digest]:
    """Have an index of two platforms there; gives its digest, and those of ours and the other."""
    ours = add_image(pusher.registry, "from", "", [{"a": b"ours"}], architecture=HERE)
    other = add_image(pusher.registry, "from", "", [{"a": b"other"}], architecture=OTHER)
    index = add_index(pusher.registry, "from", "1", [(ours, f"linux/{HERE}"), (other, f"linux/{OTHER}")])
    return index, ours, other


def retag(pusher: Pusher, old: str, new: str) -> None:
    """Give a name with all that it stands for."""
    images = pusher.engine._context.images
    with pusher.registries() as registries:
        found = images.tagged(registries.parse(pusher.name(old)))
        assert found is not None
        images.tag(registries.parse(pusher.name(new)), found[0], manifest=found[1])


def test_an_index_of_which_all_is_here_is_pushed_whole(pusher: Pusher, two: tuple[Digest, Digest, Digest]) -> None:
    pusher.pull("from:1", every_platform=True)
    retag(pusher, "from:1", "to:1")
    assert pusher.push("to:1").digest == two[0]
    assert set(pusher.registry.manifests["to"]) == set(two)
    puts = pusher.registry.lines("PUT.*/manifests/")
    assert puts[-1] == "PUT /v2/to/manifests/1"
    assert sorted(puts[:2]) == sorted(f"PUT /v2/to/manifests/{digest}" for digest in two[1:])
    assert set(pusher.registry.blobs["to"]) == set(pusher.registry.blobs["from"])


def test_of_an_index_that_is_not_whole_our_image_is_pushed(pusher: Pusher, two: tuple[Digest, Digest, Digest]) -> None:
    pusher.pull("from:1")
    retag(pusher, "from:1", "to:1")
    assert pusher.push("to:1").digest == two[1]


def test_one_platform_of_an_index(pusher: Pusher, two: tuple[Digest, Digest, Digest]) -> None:
    pusher.pull("from:1", every_platform=True)
    for number, platform in enumerate((HERE, OTHER), 1):
        retag(pusher, "from:1", f"to:{number}")
        assert pusher.push(f"to:{number}", platform=f"linux/{platform}").digest == two[number]
    with pytest.raises(NotFound, match="no matching manifest for linux/s390x"):
        pusher.push("to:1", platform="linux/s390x")
    with pytest.raises(InvalidArgument, match=f"image for linux/{OTHER} is here as it was received"):
        pusher.push("to:1", platform=f"linux/{OTHER}", compression="gzip")
    assert pusher.push("to:1", platform=f"linux/{HERE}", compression="zstd").digest not in two


def test_a_platform_whose_blobs_are_not_here_is_not_replaced_by_ours(
    pusher: Pusher, two: tuple[Digest, Digest, Digest]
) -> None:
    pusher.pull("from:1", every_platform=True)
    retag(pusher, "from:1", "to:1")
    for digest in list(pusher.registry.blobs["from"]):
        if digest not in json.dumps(json.loads(pusher.registry.manifests["from"][two[1]][0])):
            pusher.engine._context.content.delete(Digest(digest))
    pusher.registry.blobs.clear()
    pusher.refused("to:1", NotFound, "does not provide the specified platform", platform=f"linux/{OTHER}")
    assert pusher.push("to:1").digest == two[1]


def test_a_platform_that_an_image_is_not_for_is_refused(pusher: Pusher) -> None:
    pusher.have("app:1")
    pusher.push("app:1", platform=f"linux/{HERE}")
    with pytest.raises(NotFound, match=r"was found but does not provide the specified platform \(linux/s390x\)"):
        pusher.push("app:1", platform="linux/s390x")


# -- registries that refuse, cut and wait ----------------------------------------------------------


def test_an_upload_goes_on_where_it_was_cut(pusher: Pusher) -> None:
    pusher.have("app:1", BIG)
    pusher.registry.fault("PATCH", "uploads/", cut_upload(1 << 20), times=1)
    pusher.push("app:1")
    told = [one for one in pusher.events if isinstance(one, BlobProgress) and one.state is State.UPLOADING]
    assert max(event.bytes for event in told) == told[-1].bytes == told[-1].total
    patches = [asked for asked in pusher.registry.asked if asked.method == "PATCH"]
    assert len(patches[1].body) == len(patches[0].body) - (1 << 20)
    [layer] = pusher.manifest("app:1")["layers"]
    assert Digest.of(pusher.registry.blobs["app"][layer["digest"]]) == layer["digest"]


def test_a_registry_that_takes_small_requests_only(pusher: Pusher) -> None:
    pusher.have("app:1", {"a": os.urandom(20 << 20)})
    pusher.registry.max_body = 17 << 20
    pusher.push("app:1")
    assert [len(asked.body) > 0 for asked in pusher.registry.asked if asked.method == "PATCH"] == [True] * 3


@pytest.mark.parametrize("code", [401, 403])
@pytest.mark.parametrize("where", ["HEAD", "POST", "PUT"])
def test_who_may_not_push_is_told_to_log_in(pusher: Pusher, code: int, where: str) -> None:
    pusher.have("app:1")
    pusher.registry.fault(where, "/v2/app/", status(code))
    pusher.refused("app:1", Unauthorized, "push access denied for .*/app, .* may require 'onggi login'")


def test_a_token_for_pulling_only_is_no_token_for_pushing(pusher: Pusher) -> None:
    pusher.registry.auth = "bearer"
    pusher.have("app:1")
    pusher.refused("app:1", Unauthorized, "push access denied|unauthorized|denied")
    assert not pusher.registry.lines("^(PATCH|PUT)")


def test_too_many_requests_are_made_again_later(pusher: Pusher) -> None:
    pusher.have("app:1")
    pusher.registry.fault("POST", "uploads/", status(429, Retry_After="0"), times=2)
    pusher.push("app:1")
    pusher.registry.tags.clear()
    pusher.have("app:1", {"a": b"other"})
    pusher.registry.fault("POST", "uploads/", status(429, Retry_After="7200"))
    pusher.refused("app:1", Unavailable, "toomanyrequests")


def test_a_registry_that_stores_something_else_is_not_believed(pusher: Pusher) -> None:
    pusher.have("app:1")
    other = Digest.of(b"other")
    pusher.registry.fault("PUT", "uploads/", answer(201, Docker_Content_Digest=other), times=1)
    pusher.refused("app:1", Corrupt, "stored something else")
    pusher.registry.fault("PUT", "manifests/", answer(201, Docker_Content_Digest=other), times=1)
    pusher.refused("app:1", Corrupt, "stored something else")


def test_a_manifest_that_is_refused_leaves_no_name(pusher: Pusher) -> None:
    pusher.have("app:1")
    pusher.registry.fault("PUT", "manifests/", status(413))
    pusher.refused("app:1", FailedPrecondition, "413")
    pusher.registry.heal()
    pusher.push("app:1")
    assert pusher.states() == [[State.WAITING, State.THERE]]


def test_nobody_there(pusher: Pusher) -> None:
    pusher.have("app:1")
    with socket.create_server(("127.0.0.1", 0)) as unused:
        name = f"127.0.0.1:{unused.getsockname()[1]}/app:1"
    pusher.engine.images.tag(pusher.name("app:1"), name)
    with pytest.raises(Unavailable, match="cannot be reached"), pusher.registries() as registries:
        pusher.engine.images.push(name, registries=registries)


def test_four_at_once(pusher: Pusher) -> None:
    files = "".join(f"WORKDIR /{name}\n" for name in "bcdefg")
    pusher.have("base:1")
    pusher.build("app:1", f"FROM {pusher.name('base:1')}\n{files}")
    gate, lock, inside, most = threading.Event(), threading.Lock(), 0, 0

    def counted(call: Any) -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
            if inside == 4:
                gate.set()
        held(gate)(call)
        with lock:
            inside -= 1

    config = pusher.engine.images.get(pusher.name("app:1")).id
    pusher.registry.fault("HEAD", f"blobs/(?!{config})", counted)
    pusher.push("app:1")
    assert most == 4


def test_stopping_ends_at_once(pusher: Pusher) -> None:
    pusher.have("app:1", BIG)
    never = threading.Event()
    pusher.registry.fault("PATCH", "uploads/", held(never))
    registries = pusher.registries()

    def tell(event: Event) -> None:
        if isinstance(event, BlobProgress) and event.state is State.UPLOADING and event.bytes == event.total:
            raise KeyboardInterrupt

    with pytest.raises(Cancelled), registries:
        pusher.engine.images.push(pusher.name("app:1"), registries=registries, tell=tell)
    assert not pusher.registry.tags


def test_a_collection_meanwhile_takes_nothing(pusher: Pusher) -> None:
    pusher.have("app:1", BIG)

    def tell(event: Event) -> None:
        if isinstance(event, BlobProgress) and event.state is State.UPLOADING:
            pusher.engine.images.collect()

    with pusher.registries() as registries:
        pusher.engine.images.push(pusher.name("app:1"), registries=registries, tell=tell)
    [layer] = pusher.manifest("app:1")["layers"]
    assert pusher.engine._context.content.verify(Digest(layer["digest"]))
    pusher.registry.blobs.clear()
    pusher.push("app:1")
    assert pusher.states() == [[State.WAITING, State.UPLOADING, State.READY]]


def test_a_name_that_moved_meanwhile_stays_where_it_is(pusher: Pusher) -> None:
    first = pusher.have("app:1")
    other = pusher.have("other:1", {"b": b"b"})

    def tell(event: Event) -> None:
        if isinstance(event, BlobProgress) and event.state is State.UPLOADING:
            pusher.engine.images.tag(pusher.name("other:1"), pusher.name("app:1"))

    with pusher.registries() as registries:
        pushed = pusher.engine.images.push(pusher.name("app:1"), registries=registries, tell=tell)
    assert pushed.image == first
    assert pusher.engine.images.get(pusher.name("app:1")).id == other


# -- names and events ------------------------------------------------------------------------------


def test_names(pusher: Pusher) -> None:
    pusher.have("app:1")
    pusher.refused("nothing", NotFound, f"^An image does not exist locally with the tag: {pusher.name('nothing')}$")
    pusher.refused("app:2", NotFound, f"^tag does not exist: {pusher.name('app:2')}$")
    pusher.refused(f"app@{Digest.of(b'')}", InvalidArgument, "cannot push a digest reference")


def test_the_push_is_told_as_an_event(pusher: Pusher) -> None:
    id = pusher.have("app:1")
    pusher.push("app:1")
    [event] = [event for event in pusher.engine._context.events.read() if event.action == "push"]
    assert (event.type, event.actor, event.attributes["name"]) == ("image", id, pusher.name("app:1"))


def test_the_image_is_known_by_its_digest_then(pusher: Pusher) -> None:
    pusher.have("app:1")
    pushed = pusher.push("app:1")
    assert pusher.engine.images.get(f"{pusher.name('app')}@{pushed.digest}").id == pushed.image
