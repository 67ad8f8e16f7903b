"""Pulls from Debian's docker-registry over a wire that cuts, holds back and spoils."""

import io
import json
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from onggi.base.errors import OnggiError, Unavailable
from onggi.engine.assemble import Engine
from onggi.engine.pulling import Pulled
from onggi.host.http_client import Client
from onggi.host.launcher import Launcher
from onggi.host.machine import read_machine
from onggi.registry import pull
from onggi.registry.access import Registries
from onggi.registry.auth import Authentication
from onggi.registry.client import Repository
from onggi.spec import media
from onggi.spec.digest import Digest
from onggi.spec.platform import machine_platform
from tests.debian_registry import DebianRegistry, debian_registry
from tests.flaky_wire import FlakyWire, Spoil
from tests.remote_images import descriptor, tar_of
from tests.soak import times

pytestmark = pytest.mark.root

ROUNDS: Final = times(25)
LAYERS: Final = [{f"file{number}": os.urandom(700_000)} for number in range(4)]
BIG: Final = {"big": os.urandom(24 << 20)}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    """Give a registry with the images `app` and `big`."""
    with debian_registry(tmp_path_factory.mktemp("registry")) as registry:
        client = Client()
        for name, layers in (("app", LAYERS), ("big", [BIG])):
            put_image(Repository(registry.endpoint(name), client, Authentication(client, lambda *_: None)), layers)
        client.close()
        yield registry


def put_image(there: Repository, layers: list[dict[str, bytes]]) -> None:
    """Push an image of uncompressed layers, as `latest`."""

    def upload(data: bytes) -> Digest:
        digest = Digest.of(data)
        there.upload(digest, len(data), io.BytesIO(data))
        return digest

    tars = [tar_of(files) for files in layers]
    here = machine_platform(read_machine())
    rootfs = {"type": "layers", "diff_ids": [Digest.of(tar) for tar in tars]}
    config = json.dumps({"architecture": here.architecture, "os": "linux", "rootfs": rootfs}).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": media.OCI_MANIFEST,
        "config": descriptor(media.OCI_CONFIG, upload(config), len(config)),
        "layers": [descriptor(media.OCI_LAYER, upload(tar), len(tar)) for tar in tars],
    }
    there.put_manifest("latest", json.dumps(manifest).encode(), media.OCI_MANIFEST)


@pytest.fixture
def wire(registry: DebianRegistry) -> Iterator[FlakyWire]:
    """Give a wire to it."""
    with FlakyWire(registry.host) as wire:
        yield wire


@pytest.fixture
def engine(tmp_path: Path, launcher: Launcher, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """Give an engine that does not pause before it tries again."""
    monkeypatch.setattr(Client, "wait", lambda self, attempt: self.check())
    with Engine(tmp_path / "root", launcher=launcher) as engine:
        yield engine
        engine.system.reset()


def pull_from(engine: Engine, wire: FlakyWire, name: str) -> Pulled:
    """Pull over a wire."""
    with Registries.of({}, home="/nonexistent", uid=0) as registries:
        return engine.images.pull(f"{wire.host}/{name}", registries=registries)


def contents(engine: Engine, pulled: Pulled) -> list[dict[str, bytes]]:
    """Read the files of an image's layers."""
    places = [Path(place) for place in engine.images.places(pulled.image)]
    return [{path.name: path.read_bytes() for path in place.iterdir()} for place in places]


def trouble(chance: random.Random, lock: threading.Lock) -> Spoil:
    """Think of what happens to one connection: often nothing."""
    with lock:
        kind = chance.choice(["none", "none", "cut", "spoil", "hold", "deaf"])
        left = chance.randrange(1, 900_000)
    held = threading.Event()

    def spoil(data: bytes) -> bytes | None:
        nonlocal left
        before, left = left, left - len(data)
        if kind == "deaf":
            return None
        if before <= 0 or left > 0 or kind == "none":
            return data
        if kind == "hold":
            held.wait(0.01)
            return data
        if kind == "cut":
            return None
        at = min(before, len(data)) - 1
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    return spoil


def test_any_trouble_ends_in_the_right_image_or_an_error(
    engine: Engine, wire: FlakyWire, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = random.randrange(1 << 32)
    chance, lock = random.Random(seed), threading.Lock()
    wire.plan = lambda: trouble(chance, lock)
    good = 0
    said: set[str] = set()
    for _ in range(ROUNDS):
        try:
            pulled = pull_from(engine, wire, "app")
        except OnggiError as error:
            said.add(type(error).__name__)
        else:
            assert contents(engine, pulled) == LAYERS, seed
            good += 1
            engine.images.remove(str(pulled.image.id), force=True)
        assert engine.images.list() == [], seed
        assert {finding.kind for finding in engine.system.check()} <= {"staged"}, seed  # to go on from
    wire.plan = lambda: lambda data: data
    assert contents(engine, pull_from(engine, wire, "app")) == LAYERS
    assert engine.system.check() == []
    with capsys.disabled():
        print(f"\n{good} of {ROUNDS} pulls came through, the others ended as {' and '.join(sorted(said))}; seed {seed}")


@pytest.mark.parametrize("ranged", [False, True])
def test_after_a_cut_at_90_percent_little_is_fetched_again(
    engine: Engine, wire: FlakyWire, monkeypatch: pytest.MonkeyPatch, ranged: bool
) -> None:
    total = len(tar_of(BIG))
    monkeypatch.setattr(pull, "RANGED_BYTES", 1 << 20 if ranged else 1 << 40)
    open_until = total * 9 // 10

    def cut_all(data: bytes) -> bytes | None:
        return data if wire.received_bytes < open_until else None

    wire.plan = lambda: cut_all
    with pytest.raises(Unavailable):
        pull_from(engine, wire, "big")
    assert engine.images.list() == []
    assert open_until <= wire.received_bytes < total
    wire.received_bytes = 0
    wire.plan = lambda: lambda data: data
    pulled = pull_from(engine, wire, "big")
    assert contents(engine, pulled) == [BIG]
    assert wire.received_bytes < total * 15 // 100


def test_a_connection_that_ends_before_it_begins_is_tried_again(engine: Engine, wire: FlakyWire) -> None:
    seen: list[int] = []

    def plan() -> Spoil:
        seen.append(1)
        return (lambda data: data) if len(seen) > 1 else lambda data: None

    wire.plan = plan
    assert contents(engine, pull_from(engine, wire, "app")) == LAYERS


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="needs IPv6: boot without ipv6.disable=1")
def test_over_ipv6(engine: Engine, registry: DebianRegistry) -> None:
    with FlakyWire(registry.host, "::1") as wire:
        pulled = pull_from(engine, wire, "app")
        assert contents(engine, pulled) == LAYERS
        assert pulled.image.references == (f"{wire.host}/app:latest", f"{wire.host}/app@{pulled.digest}")


@pytest.mark.parametrize("host", ["LOCALHOST", "LocalHost"])
def test_hosts_in_upper_case(engine: Engine, registry: DebianRegistry, host: str) -> None:
    """Docker takes them; `localhost` is where plain HTTP may be."""
    port = registry.host.rpartition(":")[2]
    with Registries.of({}, home="/nonexistent", uid=0) as registries:
        pulled = engine.images.pull(f"{host}:{port}/app", registries=registries)
    assert contents(engine, pulled) == LAYERS
    assert pulled.image.references[0] == f"{host}:{port}/app:latest"
