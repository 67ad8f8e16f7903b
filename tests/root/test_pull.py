"""`pull` against a registry that may lie, cut and wait."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import onggi
from onggi.base.errors import (
    Cancelled,
    Corrupt,
    NotFound,
    NotSupported,
    OnggiError,
    Unauthorized,
    Unavailable,
)
from onggi.engine.assemble import Engine
from onggi.engine.pulling import Pulled
from onggi.host.launcher import Launcher
from onggi.host.machine import read_machine
from onggi.registry import pull
from onggi.registry.access import Registries
from onggi.registry.progress import BlobProgress, Event, Note, State
from onggi.spec import media
from onggi.spec.digest import Digest
from onggi.spec.platform import machine_platform
from onggi.store.content import Ingest
from tests.certificates import Authority
from tests.registry_server import (
    Call,
    Registry,
    answer,
    corrupt,
    cut,
    endless,
    held,
    redirect,
    status,
    without_ranges,
)
from tests.remote_images import add_image, add_index, descriptor

HERE = machine_platform(read_machine()).architecture
OTHER = "arm64" if HERE == "amd64" else "amd64"
BIG = {f"file{number}": os.urandom(1 << 20) for number in range(3)}


class Puller:
    """An engine, a registry, and a user who pulls."""

    def __init__(self, engine: Engine, registry: Registry, home: Path) -> None:
        self.engine, self.registry, self.home = engine, registry, home
        self.events: list[Event] = []
        self.environment: dict[str, str] = {}

    def registries(self) -> Registries:
        return Registries.of(self.environment, home=str(self.home), uid=0)

    def name(self, rest: str) -> str:
        return f"{self.registry.host}/{rest}"

    def pull(self, rest: str, **options: object) -> Pulled:
        self.events.clear()
        with self.registries() as registries:
            return self.engine.images.pull(
                self.name(rest),
                registries=registries,
                tell=self.events.append,
                **options,  # type: ignore[arg-type]
            )

    def refused(self, rest: str, kind: type[OnggiError], match: str, **options: object) -> None:
        """Fail to pull, and leave nothing that could be used."""
        with pytest.raises(kind, match=match):
            self.pull(rest, **options)
        assert self.engine.images.list() == []
        self.engine.images.collect()
        assert not list(Path(self.engine.root, "blobs", "sha256").iterdir())

    def states(self) -> dict[str, list[State]]:
        """The states of each blob, without repetition."""
        states: dict[str, list[State]] = {}
        for event in self.events:
            if isinstance(event, BlobProgress):
                seen = states.setdefault(event.blob, [])
                if seen[-1:] != [event.state]:
                    seen.append(event.state)
        return states

    def gets(self) -> list[str]:
        """The blobs that were asked for."""
        return [line for line in self.registry.lines("blobs/") if line.startswith("GET")]


@pytest.fixture
def puller(tmp_path: Path, launcher: Launcher, registry: Registry) -> Iterator[Puller]:
    with Engine(tmp_path / "root", launcher=launcher) as engine:
        yield Puller(engine, registry, tmp_path)
        engine.system.reset()


@pytest.mark.parametrize(
    ("manifest", "config", "layer"),
    [
        (media.OCI_MANIFEST, media.OCI_CONFIG, media.OCI_LAYER_GZIP),
        (media.OCI_MANIFEST, media.OCI_CONFIG, media.OCI_LAYER),
        (media.DOCKER_MANIFEST, media.DOCKER_CONFIG, media.DOCKER_LAYER_GZIP),
    ],
)
def test_an_image_arrives(puller: Puller, manifest: str, config: str, layer: str) -> None:
    top = add_image(
        puller.registry, "org/app", "1", [{"a": b"1"}, {"b": b"2"}], architecture=HERE,
        manifest_type=manifest, config_type=config, layer_type=layer, Cmd=["/a"],
    )  # fmt: skip
    pulled = puller.pull("org/app:1")
    assert (pulled.digest, pulled.up_to_date, pulled.saved_bytes) == (top, False, 0)
    image = puller.engine.images.get(puller.name("org/app:1"))
    assert image.references == (puller.name("org/app:1"), puller.name(f"org/app@{top}"))
    assert image.manifest == top
    config_read = puller.engine.images.config(puller.name("org/app:1"))
    assert config_read.config is not None
    assert config_read.config.cmd == ("/a",)
    places = puller.engine.images.places(image)
    assert [sorted(os.listdir(place)) for place in places] == [["a"], ["b"]]
    assert set(map(tuple, puller.states().values())) == {
        (State.WAITING, State.DOWNLOADING, State.VERIFYING, State.READY)
    }


def test_a_digest_is_a_name(puller: Puller) -> None:
    top = add_image(puller.registry, "app", "1", [{"a": b"1"}], architecture=HERE)
    pulled = puller.pull(f"app@{top}")
    assert pulled.image.references == (puller.name(f"app@{top}"),)


def test_content_named_by_sha512_is_verified_too(puller: Puller) -> None:
    add_image(puller.registry, "app", "1", [{"a": b"1"}], architecture=HERE, algorithm="sha512")
    assert puller.pull("app:1").image.layers


def test_a_second_pull_asks_for_no_blob(puller: Puller) -> None:
    add_image(puller.registry, "app", "1", [{"a": b"1"}], architecture=HERE)
    puller.pull("app:1")
    puller.registry.asked.clear()
    again = puller.pull("app:1")
    assert (again.up_to_date, again.fetched_bytes) == (True, 0)
    assert puller.gets() == []


def test_a_layer_that_another_image_has_is_not_fetched(puller: Puller) -> None:
    add_image(puller.registry, "one", "1", [{"a": b"1"}, {"b": b"2"}], architecture=HERE)
    add_image(puller.registry, "two", "1", [{"a": b"1"}, {"c": b"3"}], architecture=HERE)
    puller.pull("one:1")
    puller.registry.asked.clear()
    pulled = puller.pull("two:1")
    shared = [e for e in puller.events if isinstance(e, BlobProgress) and e.state is State.SHARED]
    assert [event.source for event in shared] == [puller.name("one:1")]
    assert pulled.saved_bytes == shared[0].total > 0
    assert len(puller.gets()) == 2  # a config and a layer


def test_a_tag_that_moved_brings_the_new_image(puller: Puller) -> None:
    add_image(puller.registry, "app", "1", [{"a": b"1"}], architecture=HERE)
    first = puller.pull("app:1")
    add_image(puller.registry, "app", "1", [{"a": b"2"}], architecture=HERE)
    second = puller.pull("app:1")
    assert not second.up_to_date
    assert puller.engine.images.get(puller.name("app:1")).id == second.image.id != first.image.id


# -- platforms -------------------------------------------------------------------------------------


def add_both(registry: Registry) -> tuple[Digest, Digest, Digest]:
    mine = add_image(registry, "app", "", [{"a": b"mine"}], architecture=HERE)
    other = add_image(registry, "app", "", [{"a": b"other"}], architecture=OTHER)
    entries = [(other, f"linux/{OTHER}"), (mine, f"linux/{HERE}")]
    return mine, other, add_index(registry, "app", "1", entries)


def test_of_an_index_the_image_for_this_host_is_taken(puller: Puller) -> None:
    mine, other, top = add_both(puller.registry)
    pulled = puller.pull("app:1")
    assert (pulled.digest, pulled.image.manifest) == (top, mine)
    assert not puller.registry.lines(f"manifests/{other}")


def test_another_platform_can_be_asked_for(puller: Puller) -> None:
    _, other, _ = add_both(puller.registry)
    assert puller.pull("app:1", platform=f"linux/{OTHER}").image.manifest == other


def test_every_platform_is_fetched_and_kept(puller: Puller) -> None:
    mine, other, _ = add_both(puller.registry)
    pulled = puller.pull("app:1", every_platform=True)
    assert pulled.image.manifest == mine
    puller.engine.images.collect()
    kept = {path.name for path in Path(puller.engine.root, "blobs", "sha256").iterdir()}
    data, _ = puller.registry.manifests["app"][other]
    assert Digest.of(data).hex in kept
    layers = {digest.removeprefix("sha256:") for digest in puller.registry.blobs["app"]}
    assert layers <= kept


def test_every_platform_of_indexes_within_indexes(puller: Puller) -> None:
    _, _, inner = add_both(puller.registry)
    third = add_image(puller.registry, "app", "", [{"a": b"third"}], architecture="s390x")
    add_index(puller.registry, "app", "2", [(third, "linux/s390x"), (inner, ""), (inner, "")])
    puller.pull("app:2", every_platform=True)
    puller.engine.images.collect()
    kept = {path.name for path in Path(puller.engine.root, "blobs", "sha256").iterdir()}
    wanted = {*puller.registry.manifests["app"], *puller.registry.blobs["app"]}
    assert {digest.partition(":")[2] for digest in wanted} <= kept


def test_what_no_platform_fits_is_refused(puller: Puller) -> None:
    add_both(puller.registry)
    puller.refused("app:1", NotFound, "no matching manifest for linux/s390x", platform="linux/s390x")
    add_image(puller.registry, "single", "1", [{"a": b"1"}], architecture=OTHER)
    puller.refused("single:1", NotFound, "does not provide the specified platform", platform=f"linux/{HERE}")


def test_an_image_for_another_machine_is_taken_with_a_warning(puller: Puller) -> None:
    add_image(puller.registry, "app", "1", [{"a": b"1"}], architecture=OTHER if HERE != "arm64" else "s390x")
    puller.pull("app:1")
    assert any(isinstance(event, Note) and "does not match the detected host" in event.text for event in puller.events)


# -- what breaks ------------------------------------------------------------------------------------


def test_a_cut_connection_is_taken_up_where_it_broke(puller: Puller) -> None:
    add_image(puller.registry, "app", "1", [BIG], layer_type=media.OCI_LAYER, architecture=HERE)
    puller.registry.fault("GET", "blobs/", cut(1_000_000), times=2)
    puller.pull("app:1")
    ranges = [asked.headers["range"] for asked in puller.registry.asked if "range" in asked.headers]
    assert [text.partition("=")[0] for text in ranges] == ["bytes"] * len(ranges)
    assert ranges
    assert puller.registry.sent_bytes < 2 * sum(map(len, BIG.values()))


def test_a_registry_that_only_cuts_is_given_up(puller: Puller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onggi.registry.remote.Remote.wait", lambda *_: None)
    add_image(puller.registry, "app", "1", [BIG], layer_type=media.OCI_LAYER, architecture=HERE)
    puller.registry.fault("GET", "blobs/", cut(700))
    puller.refused("app:1", Unavailable, "broke")


_CHILD = """
import sys
from onggi.engine.assemble import Engine
from onggi.registry.access import Registries
with Engine(sys.argv[1]) as engine, Registries.of({}, home=sys.argv[1], uid=0) as registries:
    engine.images.pull(sys.argv[2], registries=registries)
"""


def test_after_sigkill_a_pull_goes_on_from_its_byte(puller: Puller) -> None:
    add_image(puller.registry, "app", "1", [{"small": b"1"}, BIG], layer_type=media.OCI_LAYER, architecture=HERE)
    big = max(puller.registry.blobs["app"].items(), key=lambda item: len(item[1]))[0]
    stopped = threading.Event()

    def stall(call: object) -> None:
        def pieces(body: bytes) -> Iterator[bytes]:
            yield body[: 2 << 20]
            stopped.wait(30)

        call.pieces = pieces  # type: ignore[attr-defined]
        call.close()  # type: ignore[attr-defined]
        puller.registry.honest(call)  # type: ignore[arg-type]

    puller.registry.fault("GET", f"blobs/{big}", stall, times=1)
    sources = {"PYTHONPATH": str(Path(onggi.__file__).parent.parent)}
    process = subprocess.Popen([sys.executable, "-c", _CHILD, puller.engine.root, puller.name("app:1")], env=sources)
    staged = Path(puller.engine.root, "ingest", f"blob-{Digest(big).hex}")
    while not staged.exists() or staged.stat().st_size < 1 << 20:
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    stopped.set()
    puller.registry.heal()
    there = staged.stat().st_size
    puller.registry.asked.clear()
    puller.pull("app:1")
    (range_,) = [asked.headers["range"] for asked in puller.registry.asked if "range" in asked.headers]
    assert range_ == f"bytes={there}-"


def test_a_partial_blob_that_was_spoiled_is_fetched_anew(puller: Puller) -> None:
    """As a power failure leaves it."""
    add_image(puller.registry, "app", "1", [BIG], layer_type=media.OCI_LAYER, architecture=HERE)
    big = max(puller.registry.blobs["app"].items(), key=lambda item: len(item[1]))[0]
    Path(puller.engine.root, "ingest", f"blob-{Digest(big).hex}").write_bytes(bytes(1 << 20))
    puller.pull("app:1")
    assert [asked.headers.get("range") for asked in puller.registry.asked if big in asked.path] == [
        f"bytes={1 << 20}-",
        None,
    ]


def test_two_pulls_fetch_each_blob_once(puller: Puller) -> None:
    add_image(puller.registry, "app", "1", [{"a": b"1"}, BIG], architecture=HERE)

    def one(_: int) -> Digest:
        with puller.registries() as registries:
            return puller.engine.images.pull(puller.name("app:1"), registries=registries).image.id

    with ThreadPoolExecutor(3) as pool:
        assert len(set(pool.map(one, range(3)))) == 1
    assert len(puller.gets()) == len(set(puller.gets())) == 3


def test_large_blobs_come_in_ranges(puller: Puller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull, "RANGED_BYTES", 1 << 20)
    monkeypatch.setattr(pull, "_RANGE_BYTES", (300_000, 300_000))
    add_image(puller.registry, "app", "1", [BIG], layer_type=media.OCI_LAYER, architecture=HERE)
    puller.registry.fault("GET", "blobs/", cut(100_000), times=1)
    puller.pull("app:1")
    assert len([asked for asked in puller.registry.asked if "range" in asked.headers]) > 10


def test_a_registry_without_ranges_sends_all(puller: Puller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull, "RANGED_BYTES", 1 << 20)
    add_image(puller.registry, "app", "1", [BIG], layer_type=media.OCI_LAYER, architecture=HERE)
    puller.registry.fault("GET", "blobs/", without_ranges)
    puller.pull("app:1")


def test_ranges_may_be_shorter_than_they_were_asked_for(puller: Puller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull, "RANGED_BYTES", 1 << 20)
    monkeypatch.setattr(pull, "_RANGE_BYTES", (300_000, 300_000))
    add_image(puller.registry, "app", "1", [BIG], layer_type=media.OCI_LAYER, architecture=HERE)
    shortened = []

    def short(call: Call) -> None:
        first, _, last = call.asked.headers.get("range", "").removeprefix("bytes=").partition("-")
        if last and int(first):
            shortened.append(first)
            call.asked.headers["range"] = f"bytes={first}-{(int(first) + int(last)) // 2}"
        call.registry.honest(call)

    puller.registry.fault("GET", "blobs/", short)
    puller.pull("app:1")
    assert shortened


def test_what_is_damaged_of_a_partial_blob_is_fetched_anew(puller: Puller) -> None:
    """Whoever cut it off lied before, or the power failed."""
    add_image(puller.registry, "app", "1", [BIG], layer_type=media.OCI_LAYER, architecture=HERE)
    big = max(puller.registry.blobs["app"].items(), key=lambda item: len(item[1]))[0]
    Path(puller.engine.root, "ingest").mkdir(parents=True, exist_ok=True)
    partial = Path(puller.engine.root, "ingest", f"blob-{Digest(big).hex}")
    partial.write_bytes(bytes(100_000))
    puller.pull("app:1")
    assert [asked.headers.get("range") for asked in puller.registry.asked if big in asked.path] == [
        "bytes=100000-",
        None,
    ]


def test_an_interrupt_ends_a_pull_and_keeps_what_is_whole(puller: Puller) -> None:
    add_image(puller.registry, "app", "1", [{"small": b"1"}, BIG], layer_type=media.OCI_LAYER, architecture=HERE)
    big = max(puller.registry.blobs["app"].items(), key=lambda item: len(item[1]))[0]
    puller.registry.fault("GET", f"blobs/{big}", held(threading.Event()))

    def interrupt(event: Event) -> None:
        if isinstance(event, BlobProgress) and event.state is State.READY:
            raise KeyboardInterrupt

    with puller.registries() as registries, pytest.raises(Cancelled, match="interrupted"):
        puller.engine.images.pull(puller.name("app:1"), registries=registries, tell=interrupt)
    puller.registry.heal()
    puller.pull("app:1")
    assert [states[0] for states in puller.states().values()].count(State.HERE) == 1


def test_what_fails_here_is_not_asked_for_again(puller: Puller, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up after a while, each time."""
    add_image(puller.registry, "app", "1", [BIG], layer_type=media.OCI_LAYER, architecture=HERE)
    write = Ingest.write

    def fill(ingest: Ingest, chunk: bytes | memoryview) -> None:
        if ingest.offset > 1 << 20:
            raise Unavailable("no space left")
        write(ingest, chunk)

    monkeypatch.setattr(Ingest, "write", fill)
    with pytest.raises(Unavailable, match="no space left"):
        puller.pull("app:1")
    assert len(puller.gets()) == 2  # the config and the layer


# -- lies ------------------------------------------------------------------------------------------


def test_a_blob_with_another_digest_leaves_nothing(puller: Puller) -> None:
    add_image(puller.registry, "app", "1", [{"a": b"1"}], architecture=HERE)
    puller.registry.fault("GET", "blobs/", corrupt)
    puller.refused("app:1", Corrupt, "has digest")
    assert not list(Path(puller.engine.root, "ingest").glob("blob-*"))


def test_an_endless_blob_is_cut_off(puller: Puller) -> None:
    add_image(puller.registry, "app", "1", [{"a": b"1"}], architecture=HERE)
    puller.registry.fault("GET", "blobs/", endless())
    puller.refused("app:1", Corrupt, "more than the")


def test_a_layer_whose_tar_is_another_one_is_refused(puller: Puller) -> None:
    add_image(puller.registry, "app", "1", [{"a": b"1"}], architecture=HERE)
    data, kind = puller.registry.manifests["app"][puller.registry.tags["app"]["1"]]
    other = add_image(puller.registry, "app", "2", [{"a": b"2"}], architecture=HERE)
    config = puller.registry.manifests["app"][other][0].split(b'"config": ')[1].split(b"}")[0]
    mine = data.split(b'"config": ')[1].split(b"}")[0]
    puller.registry.add_manifest("app", "1", data.replace(mine, config), kind)
    puller.refused("app:1", Corrupt, "but the image's config says")


@pytest.mark.parametrize("change", [1, -1, 1 << 40])
@pytest.mark.parametrize("part", ["config", "layers"])
def test_sizes_are_promises_even_of_what_is_here(puller: Puller, part: str, change: int) -> None:
    add_image(puller.registry, "app", "1", [{"a": b"1"}], architecture=HERE)
    puller.pull("app:1")
    data, kind = puller.registry.manifests["app"][puller.registry.tags["app"]["1"]]
    document = json.loads(data)
    entry = document["config"] if part == "config" else document["layers"][0]
    entry["size"] += change
    if part == "layers":  # not found by its DiffID, so that the blob is looked for
        puller.engine.images.remove(puller.name("app:1"))
        puller.engine.images.collect()
    puller.registry.add_manifest("app", "2", document, kind)
    with pytest.raises(Corrupt, match=r"its manifest says|it may have|manifest or range says|larger than any"):
        puller.pull("app:2")


def test_the_size_of_a_manifest_in_an_index_is_a_promise(puller: Puller) -> None:
    digest = add_image(puller.registry, "app", "", [{"a": b"1"}], architecture=HERE)
    add_index(puller.registry, "app", "1", [(digest, f"linux/{HERE}")])
    data, kind = puller.registry.manifests["app"][puller.registry.tags["app"]["1"]]
    document = json.loads(data)
    document["manifests"][0]["size"] += 1
    puller.registry.add_manifest("app", "1", document, kind)
    puller.refused("app:1", Corrupt, "its descriptor says")


def test_indexes_that_have_no_end_are_refused(puller: Puller) -> None:
    digest = add_image(puller.registry, "app", "", [{"a": b"1"}], architecture=HERE)
    for _ in range(6):
        digest = add_index(puller.registry, "app", "1", [(digest, f"linux/{HERE}")])
    puller.refused("app:1", Corrupt, "nested too deeply")


@pytest.mark.parametrize(
    ("document", "kind", "error", "text"),
    [
        ({"schemaVersion": 1, "fsLayers": []}, media.DOCKER_SCHEMA1, NotSupported, "schema 1 is not supported"),
        (b"{", media.OCI_MANIFEST, Corrupt, "manifest"),
        (b"x" * (5 << 20), media.OCI_MANIFEST, Corrupt, "larger|more"),
    ],
)
def test_manifests_that_are_none(
    puller: Puller, document: object, kind: str, error: type[OnggiError], text: str
) -> None:
    puller.registry.add_manifest("app", "1", document, kind)
    puller.refused("app:1", error, text)


def test_an_artifact_is_not_an_image(puller: Puller) -> None:
    empty = puller.registry.add_blob("app", b"{}")
    document = {
        "schemaVersion": 2,
        "mediaType": media.OCI_MANIFEST,
        "artifactType": "text/x-notes",
        "config": descriptor(media.OCI_EMPTY, empty, 2),
        "layers": [descriptor("text/plain", empty, 2)],
    }
    puller.registry.add_manifest("app", "1", document)
    puller.refused("app:1", NotSupported, "is an artifact of type text/x-notes")


@pytest.mark.parametrize(
    ("fault", "error", "text"),
    [
        (status(401), Unauthorized, "pull access denied for"),
        (status(404), NotFound, "not found"),
        (status(429, Retry_After="3600"), Unavailable, "toomanyrequests"),
        (redirect("file:///etc/passwd"), Unavailable, "redirect|not an http|refused|scheme"),
        (answer(200, b"<html>"), Corrupt, "manifest"),
    ],
)
def test_what_registries_answer(puller: Puller, fault: object, error: type[OnggiError], text: str) -> None:
    add_image(puller.registry, "app", "1", [{"a": b"1"}], architecture=HERE)
    puller.registry.fault("", "manifests/", fault)  # type: ignore[arg-type]
    puller.refused("app:1", error, text)


def test_nobody_there_is_said_with_what_to_do(puller: Puller) -> None:
    with puller.registries() as registries, pytest.raises(Unavailable, match="onggi image bootstrap"):
        puller.engine.images.pull("127.0.0.1:1/app", registries=registries)


def test_what_registries_do_not_carry_comes_from_where_the_manifest_says(puller: Puller, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "certificates")
    foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    add_image(puller.registry, "app", "1", [{"a": b"1"}], architecture=HERE)
    data, _ = puller.registry.manifests["app"][puller.registry.tags["app"]["1"]]
    document = json.loads(data)
    (layer,) = document["layers"]
    with Registry(certificate=authority.issue("elsewhere")) as elsewhere:
        elsewhere.add_blob("x", puller.registry.blobs["app"].pop(layer["digest"]))
        there = f"/v2/x/blobs/{layer['digest']}"
        urls = [f"http://{elsewhere.host}{there}", f"https://{elsewhere.host}/nothing", f"{elsewhere.url}{there}"]
        for number, chosen in ((1, urls), (2, urls[:1])):
            document["layers"] = [{**layer, "mediaType": foreign, "urls": chosen}]
            puller.registry.add_manifest("app", str(number), document)
        puller.environment = {"SSL_CERT_FILE": str(authority.ca)}
        puller.refused("app:2", NotSupported, "not to be had by https")
        assert puller.pull("app:1").image.layers
        assert all("authorization" not in asked.headers for asked in elsewhere.asked)
