"""`image cp`: what arrives, what is not sent again, and that nothing wrong is ever published."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from onggi.host.http_client import Client
from onggi.registry import copying
from onggi.registry.auth import Authentication
from onggi.registry.relay import Relay
from onggi.registry.remote import Remote
from onggi.spec.image import Descriptor
from tests.callers import Commands
from tests.registry_server import Call, Registry, corrupt, cut, cut_upload, status, without_ranges
from tests.served_images import Entry, serve_image, serve_index, serve_referrer


class Copies(Commands):
    """A user between two registries."""

    def __init__(self, home: Path, source: Registry, target: Registry) -> None:
        super().__init__(home)
        self.source, self.target = source, target

    def copy(self, source: str, target: str, *words: str, code: int = 0) -> str:
        names = f"{self.source.host}/{source}", f"{self.target.host}/{target}"
        return self.run("image", "cp", *words, *names, code=code)

    def nothing_is_published(self) -> bool:
        return not any(self.target.tags.values()) and not any(self.target.manifests.values())


@pytest.fixture
def copies(tmp_path: Path) -> Iterator[Copies]:
    with Registry() as source, Registry() as target:
        yield Copies(tmp_path, source, target)


def platforms(registry: Registry, tag: str = "1") -> tuple[Entry, Entry, Entry]:
    """Have an index of two images; gives it, and them."""
    amd = serve_image(registry, "app", architecture="amd64", layers=(b"base", b"amd"))
    arm = serve_image(registry, "app", architecture="arm64", layers=(b"base", b"arm"))
    return serve_index(registry, "app", tag, amd, arm), amd, arm


def test_an_index_arrives_whole_and_byte_for_byte(copies: Copies) -> None:
    index, _, _ = platforms(copies.source)
    said = copies.copy("app:1", "new/app:2")
    assert copies.target.tags["new/app"] == {"2": index["digest"]}
    assert copies.target.manifests["new/app"] == copies.source.manifests["app"]
    assert copies.target.blobs["new/app"] == copies.source.blobs["app"]
    assert said.endswith(f"2: digest: {index['digest']} size: {index['size']}\n")
    assert "5 of 5 blobs sent" in said


def test_the_tag_comes_last_and_an_index_after_what_it_names(copies: Copies) -> None:
    _, amd, arm = platforms(copies.source)
    copies.copy("app:1", "app:1")
    puts = [line.rpartition("/")[2] for line in copies.target.lines("PUT .*/manifests/")]
    assert puts == [amd["digest"], arm["digest"], "1"]
    last_blob = copies.target.lines().index(copies.target.lines("PUT .*/blobs/uploads/")[-1])
    assert last_blob < copies.target.lines().index(copies.target.lines("PUT .*/manifests/")[0])


def test_one_platform_is_one_manifest(copies: Copies) -> None:
    _, _, arm = platforms(copies.source)
    assert copies.copy("app:1", "app:1", "-q", "--platform", "linux/arm64") == f"{arm['digest']}\n"
    assert list(copies.target.manifests["app"]) == [arm["digest"]]
    assert len(copies.target.blobs["app"]) == 3
    copies.copy("app:1", "app:2", "--platform", "linux/s390x", code=1)
    assert "no matching manifest for linux/s390x" in copies.err
    copies.copy("app:1", "app:2", "--platform", "linux/amd64", "--all-platforms", code=1)
    assert "conflicting options" in copies.err


def test_what_is_there_is_not_sent_again(copies: Copies) -> None:
    platforms(copies.source)
    copies.copy("app:1", "app:1")
    copies.source.sent_bytes = 0
    before = len(copies.target.lines("uploads"))
    assert "0 of 5 blobs sent, 0B; 0 mounted" in copies.copy("app:1", "app:2")
    assert len(copies.target.lines("uploads")) == before
    assert len(copies.target.lines("PUT .*/manifests/sha256:")) == 2
    assert not copies.source.lines("GET .*/blobs/.*")[5:]


def test_a_registry_takes_from_its_own_repositories(copies: Copies) -> None:
    index, _, _ = platforms(copies.source)
    copies.target = copies.source
    assert "0 of 5 blobs sent, 0B; 5 mounted" in copies.copy("app:1", "other:1")
    assert not copies.source.lines("GET .*/blobs/")
    assert copies.source.tags["other"] == {"1": index["digest"]}
    assert copies.source.blobs["other"] == copies.source.blobs["app"]


def test_a_registry_that_does_not_mount_is_sent_the_blobs(copies: Copies) -> None:
    platforms(copies.source)
    copies.target = copies.source

    def without_mounts(call: Call) -> None:
        call.error(405, "UNSUPPORTED") if "mount" in call.asked.query else call.registry.honest(call)

    copies.source.fault("POST", "other/blobs/uploads", without_mounts)
    copies.copy("app:1", "other:1")
    assert copies.source.blobs["other"] == copies.source.blobs["app"]


def test_a_digest_names_source_and_target(copies: Copies) -> None:
    index, amd, _ = platforms(copies.source)
    copies.copy(f"app@{amd['digest']}", f"app@{amd['digest']}")
    assert list(copies.target.manifests["app"]) == [amd["digest"]]
    assert not copies.target.tags
    copies.copy("app:1", f"app@{amd['digest']}", code=1)
    assert f"the image is {index['digest']}" in copies.err


def test_layers_that_are_not_for_registries_stay_where_they_are(copies: Copies) -> None:
    image = serve_image(copies.source, "app", "1")
    manifest = json.loads(copies.source.manifests["app"][image["digest"]][0])
    nowhere = f"sha256:{'0' * 64}"
    foreign = {
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "digest": nowhere,
        "size": 9,
        "urls": ["https://example.com/layer"],
    }
    manifest["layers"].append(foreign)
    copies.source.add_manifest("app", "2", manifest)
    assert "Skipped foreign layer" in copies.copy("app:2", "app:2")
    assert not copies.source.lines(nowhere)
    assert len(copies.target.blobs["app"]) == 3


def test_progress_is_told_as_json_lines_too(copies: Copies) -> None:
    platforms(copies.source)
    copies.copy("app:1", "app:1", "--progress", "json")
    events = [json.loads(line) for line in copies.err.splitlines()]
    states = {event["state"] for event in events}
    assert states == {"waiting", "uploading", "ready"}
    assert all(event["bytes"] == event["total"] > 0 for event in events if event["state"] == "ready")
    copies.copy("app:1", "app:1", "--progress", "loud", code=1)
    assert "invalid progress mode loud" in copies.err


# -- referrers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("api", [True, False])
def test_referrers_of_every_part_come_along(copies: Copies, api: bool) -> None:
    index, amd, _ = platforms(copies.source)
    signature = serve_referrer(copies.source, "app", index, "application/x-signature", b"signed")
    bill = serve_referrer(copies.source, "app", amd, "application/x-bill", b"parts")
    deeper = serve_referrer(copies.source, "app", bill, "application/x-signature", b"signed too")
    copies.copy("app:1", "without:1")
    assert signature["digest"] not in copies.target.manifests["without"]
    copies.target.referrers_api = api
    copies.copy("app:1", "app:1", "--referrers")
    assert {signature["digest"], bill["digest"], deeper["digest"]} < set(copies.target.manifests["app"])
    for subject, referrer in ((index, signature), (amd, bill), (bill, deeper)):
        name = f"{copies.target.host}/app@{subject['digest']}"
        (document,) = json.loads(copies.run("image", "inspect", "--remote", name))
        (found,) = document["Referrers"]
        assert (found["Digest"], found["ArtifactType"][:14]) == (referrer["digest"], "application/x-")
    tags = set(copies.target.tags["app"]) - {"1"}
    expected = {f"sha256-{one['digest'].partition(':')[2]}" for one in (index, amd, bill)}
    assert tags == (set() if api else expected)


# -- lies and cuts -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 3 << 20])
def test_a_blob_that_is_another_is_never_published(copies: Copies, size: int) -> None:
    serve_image(copies.source, "app", "1", layers=(os.urandom(size),))
    copies.source.fault("GET", "/blobs/", corrupt)
    copies.copy("app:1", "app:1", code=1)
    assert "sent something else" in copies.err
    assert copies.nothing_is_published()
    assert not copies.target.blobs.get("app")


def test_a_manifest_that_is_another_is_never_published(copies: Copies) -> None:
    platforms(copies.source)
    copies.source.fault("GET", "/manifests/sha256:", corrupt)
    copies.copy("app:1", "app:1", code=1)
    assert "something else" in copies.err
    assert copies.nothing_is_published()


def test_a_blob_that_is_missing_ends_all_without_a_trace(copies: Copies) -> None:
    platforms(copies.source)
    digest = next(iter(copies.source.blobs["app"]))
    del copies.source.blobs["app"][digest]
    copies.copy("app:1", "app:1", code=1)
    assert digest in copies.err
    assert copies.nothing_is_published()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_source_that_breaks_off_is_taken_up_where_it_broke(copies: Copies, ranges: bool) -> None:
    image = serve_image(copies.source, "app", "1", layers=(os.urandom(4 << 20),))
    (layer,) = json.loads(copies.source.manifests["app"][image["digest"]][0])["layers"]
    copies.source.fault("GET", layer["digest"], cut(1 << 20), times=1)
    if not ranges:
        copies.source.fault("GET", "/blobs/", without_ranges)
    copies.copy("app:1", "app:1")
    assert copies.target.blobs["app"] == copies.source.blobs["app"]
    assert len(copies.source.lines(f"GET .*{layer['digest']}")) == 2
    assert len(copies.target.lines("PATCH")) == 1  # which only waited
    if ranges:
        assert copies.source.sent_bytes < 5 << 20


def test_an_upload_that_breaks_off_goes_on_where_it_broke(copies: Copies) -> None:
    serve_image(copies.source, "app", "1", layers=(os.urandom(4 << 20),))
    copies.target.fault("PATCH", "/uploads/", cut_upload(1 << 20), times=1)
    copies.copy("app:1", "app:1")
    assert copies.target.blobs["app"] == copies.source.blobs["app"]
    sizes = sorted(len(asked.body) for asked in copies.target.asked if asked.method == "PATCH")
    assert sizes[0] < sizes[1]


def test_a_target_that_refuses_is_heard(copies: Copies) -> None:
    platforms(copies.source)
    copies.target.fault("POST", "/uploads/", status(403))
    copies.copy("app:1", "app:1", code=1)
    assert "push access denied for" in copies.err


def test_an_index_of_itself_without_end_is_refused(copies: Copies) -> None:
    entry = serve_image(copies.source, "app")
    for _ in range(6):
        entry = serve_index(copies.source, "app", "deep", entry)
    copies.copy("app:deep", "app:1", code=1)
    assert "deep in each other" in copies.err


def test_more_manifests_than_any_image_needs_are_refused(copies: Copies, monkeypatch: pytest.MonkeyPatch) -> None:
    platforms(copies.source)
    monkeypatch.setattr(copying, "MAX_DOCUMENTS", 2)
    copies.copy("app:1", "app:1", code=1)
    assert "has more manifests than are accepted" in copies.err
    monkeypatch.undo()
    monkeypatch.setattr(copying, "MAX_DOCUMENTS_BYTES", 1000)
    copies.copy("app:1", "app:1", code=1)
    assert "has more manifests than are accepted" in copies.err
    assert copies.nothing_is_published()


# -- the relay -----------------------------------------------------------------------------------


def test_a_relay_goes_back_and_gives_the_same_again() -> None:
    with Registry() as registry:
        data = os.urandom(40 << 20)
        digest = registry.add_blob("app", data)
        client = Client(pause=lambda _seconds: None)
        remote = Remote("app", [registry.endpoint("app")], client, Authentication(client))
        passed: list[int] = []
        relay = Relay(remote, Descriptor(media_type="x", digest=digest, size=len(data)), passed.append)
        while passed[-1:] != [len(data)]:
            assert relay.read(1 << 20)
        for offset in (39 << 20, 17 << 20, 5):
            before = registry.sent_bytes
            relay.seek(offset)
            pieces = []
            while piece := relay.read(1 << 20):
                pieces.append(piece)
            assert b"".join(pieces) == data[offset:]
            # It goes back to a mark, not to the beginning.
            assert registry.sent_bytes - before <= len(data) - offset + (17 << 20)
        relay.close()
        client.close()
