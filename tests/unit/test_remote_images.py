"""`image ls --remote` and `image inspect --remote`, against a registry that is honest or not."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.callers import Commands
from tests.registry_server import Registry, answer, corrupt, status
from tests.served_images import serve_image, serve_index, serve_referrer


class Session(Commands):
    """A user with a registry; no engine is ever asked for."""

    def __init__(self, registry: Registry, home: Path) -> None:
        super().__init__(home)
        self.registry = registry

    def inspect(self, name: str, *words: str) -> Any:
        (document,) = json.loads(self.run("image", "inspect", "--remote", *words, f"{self.registry.host}/{name}"))
        return document


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with Registry() as registry:
        yield Session(registry, tmp_path)


# -- tags ----------------------------------------------------------------------------------------


def test_tags_are_listed_as_a_table_quietly_by_template_and_as_json(session: Session) -> None:
    session.registry.page = 1
    first, second = (serve_image(session.registry, "a/app", tag, layers=(tag.encode(),)) for tag in ("1", "2"))
    name = f"{session.registry.host}/a/app"
    lines = [line.split() for line in session.run("image", "ls", "--remote", name).splitlines()]
    assert lines == [["REPOSITORY", "TAG"], [name, "1"], [name, "2"]]
    assert session.run("images", "--remote", "-q", name) == "1\n2\n"
    assert json.loads(session.run("image", "ls", "--remote", "--json", f"{name}:2")) == [
        {"Repository": name, "Tag": "2"}
    ]
    assert not session.registry.lines("manifests")
    template = "{{.Tag}} {{.Digest}}"
    expected = f"1 {first['digest']}\n2 {second['digest']}\n"
    assert session.run("image", "ls", "--remote", "--format", template, name) == expected
    assert session.run("image", "ls", "--remote", "--digests", name).split()[-1] == second["digest"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--remote",), "--remote requires the name of a repository"),
        (("--remote", "-a", "a"), "conflicting options: --all cannot be used with --remote"),
        (("--remote", "-f", "dangling=true", "a"), "conflicting options: --filter cannot be used with --remote"),
    ],
)
def test_what_makes_no_sense_at_a_registry_is_refused(session: Session, words: tuple[str, ...], said: str) -> None:
    session.run("image", "ls", *words, code=1)
    assert said in session.err


def test_a_repository_that_is_not_there_is_named(session: Session) -> None:
    session.run("image", "ls", "--remote", f"{session.registry.host}/nothing", code=1)
    assert "repository name not known to registry" in session.err


# -- documents -----------------------------------------------------------------------------------


def test_an_index_with_all_its_platforms_and_the_manifest_of_one(session: Session) -> None:
    registry = session.registry
    amd = serve_image(registry, "app", architecture="amd64", annotations={"who": "potter"})
    arm = serve_image(registry, "app", architecture="arm64", layers=(b"arm",))
    index = serve_index(registry, "app", "1", amd, arm)
    signature = serve_referrer(registry, "app", index, "application/vnd.example.signature", b"signed")

    document = session.inspect("app:1", "--platform", "linux/arm64")
    assert document["Name"] == f"{registry.host}/app:1"
    assert (document["Digest"], document["Size"]) == (index["digest"], index["size"])
    assert document["MediaType"].endswith("image.index.v1+json")
    assert [(one["Platform"], one["Digest"], one["Size"]) for one in document["Platforms"]] == [
        ("linux/amd64", amd["digest"], amd["size"]),
        ("linux/arm64", arm["digest"], arm["size"]),
    ]
    assert document["Manifest"]["Digest"] == arm["digest"]
    assert document["Manifest"]["Platform"] == "linux/arm64"
    layer = json.loads(registry.manifests["app"][arm["digest"]][0])["layers"][0]
    assert [(one["Digest"], one["Size"], one["MediaType"]) for one in document["Manifest"]["Layers"]] == [
        (layer["digest"], layer["size"], layer["mediaType"])
    ]
    assert document["Manifest"]["LayersSize"] == layer["size"]
    assert document["Image"]["Architecture"] == "arm64"
    assert document["Image"]["Config"]["Cmd"] == ["/bin/app"]
    assert [one["Digest"] for one in document["Referrers"]] == [signature["digest"]]
    assert session.inspect("app:1", "--platform=linux/amd64")["Manifest"]["Annotations"] == {"who": "potter"}
    assert not [line for line in registry.lines("blobs/") if layer["digest"] in line]


def test_a_platform_that_is_not_there_is_an_error_only_if_it_was_asked_for(session: Session) -> None:
    registry = session.registry
    serve_index(registry, "app", "1", serve_image(registry, "app", architecture="s390x"))
    document = session.inspect("app:1")
    assert (document["Manifest"], document["Image"]) == (None, None)
    name = f"{registry.host}/app:1"
    session.run("image", "inspect", "--remote", "--platform", "linux/amd64", name, code=1)
    assert "no matching manifest for linux/amd64 in the manifest list entries" in session.err
    serve_image(registry, "app", "2", architecture="s390x")
    session.run("image", "inspect", "--remote", "--platform", "linux/amd64", f"{registry.host}/app:2", code=1)
    assert "is for linux/s390x only, not for linux/amd64" in session.err


def test_an_artifact_is_described_without_being_taken_for_an_image(session: Session) -> None:
    registry = session.registry
    image = serve_image(registry, "app", "1")
    artifact = serve_referrer(registry, "app", image, "text/x-poem", b"a poem")
    document = session.inspect(f"app@{artifact['digest']}")
    assert document["ArtifactType"] == "text/x-poem"
    assert document["Image"] is None
    assert document["Manifest"]["Subject"]["Digest"] == image["digest"]
    assert document["Platforms"][0]["Platform"] == "unknown/unknown"


def test_raw_is_what_the_registry_has_byte_for_byte(session: Session) -> None:
    registry = session.registry
    image = serve_image(registry, "app")
    index = serve_index(registry, "app", "1", image)
    name = f"{registry.host}/app:1"
    data = session.run("image", "inspect", "--remote", "--raw", name)
    assert data.encode() == registry.manifests["app"][index["digest"]][0]
    data = session.run("image", "inspect", "--remote", "--raw", "--platform", "linux/amd64", name)
    assert data.encode() == registry.manifests["app"][image["digest"]][0]


def test_templates_reach_every_field(session: Session) -> None:
    image = serve_image(session.registry, "app", "1")
    words = ("image", "inspect", "--remote", f"{session.registry.host}/app:1", "--format")
    assert session.run(*words, "{{.Manifest.Config.MediaType}} {{len .Manifest.Layers}} {{.Digest}}") == (
        f"application/vnd.oci.image.config.v1+json 2 {image['digest']}\n"
    )
    assert session.run(*words, '{{index .Image.Config.Labels "tag"}}') == "1\n"


def test_one_that_is_missing_fails_after_the_others_are_shown(session: Session) -> None:
    serve_image(session.registry, "app", "1")
    names = [f"{session.registry.host}/app:{tag}" for tag in ("none", "1")]
    (document,) = json.loads(session.run("image", "inspect", "--remote", *names, code=1))
    assert document["Name"] == names[1]
    assert f"manifest for {names[0]} not found" in session.err


@pytest.mark.parametrize("path", ["/blobs/", "/manifests/sha256:"])
def test_a_document_that_is_another_one_is_refused(session: Session, path: str) -> None:
    registry = session.registry
    serve_index(registry, "app", "1", serve_image(registry, "app"))
    registry.fault("GET", path, corrupt)
    session.run("image", "inspect", "--remote", "--platform", "linux/amd64", f"{registry.host}/app:1", code=1)
    assert "something else" in session.err


def test_a_manifest_of_another_size_than_its_index_says_is_refused(session: Session) -> None:
    registry = session.registry
    image = serve_image(registry, "app")
    serve_index(registry, "app", "1", {**image, "size": image["size"] + 1})
    session.run("image", "inspect", "--remote", "--platform", "linux/amd64", f"{registry.host}/app:1", code=1)
    assert "its descriptor says" in session.err


def test_a_config_that_is_larger_than_any_may_be_is_not_fetched(session: Session) -> None:
    registry = session.registry
    image = serve_image(registry, "app")
    manifest = json.loads(registry.manifests["app"][image["digest"]][0])
    manifest["config"]["size"] = (8 << 20) + 1
    registry.add_manifest("app", "1", manifest)
    session.run("image", "inspect", "--remote", f"{registry.host}/app:1", code=1)
    assert "are more than the 8388608 that are accepted" in session.err
    assert not registry.lines("GET .*/blobs/")


def test_indexes_in_indexes_end_somewhere(session: Session) -> None:
    registry = session.registry
    entry = serve_image(registry, "app")
    for _ in range(4):
        entry = {**serve_index(registry, "app", "deep", entry), "platform": {"os": "linux", "architecture": "amd64"}}
    assert session.inspect("app:deep", "--platform", "linux/amd64")["Manifest"]
    serve_index(registry, "app", "deep", entry)
    session.run("image", "inspect", "--remote", "--platform", "linux/amd64", f"{registry.host}/app:deep", code=1)
    assert "indexes lie more than 4 deep" in session.err


def test_schema_1_is_refused_in_a_sentence(session: Session) -> None:
    body = b'{"schemaVersion": 1, "name": "app", "fsLayers": []}'
    kind = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    session.registry.fault("", "/manifests/", answer(200, body, Content_Type=kind))
    session.run("image", "inspect", "--remote", f"{session.registry.host}/app:1", code=1)
    assert "schema 1 is not supported" in session.err


def test_a_registry_that_refuses_is_heard(session: Session) -> None:
    session.registry.fault("", "/v2/", status(403))
    session.run("image", "inspect", "--remote", f"{session.registry.host}/app:1", code=1)
    assert "access denied" in session.err


def test_flags_of_registries_need_a_registry(session: Session) -> None:
    session.run("image", "inspect", "--raw", "app", code=1)
    assert "--raw requires --remote" in session.err
    session.run("image", "inspect", "--remote", "--raw", "--format", "{{.Digest}}", "app", code=1)
    assert "conflicting options" in session.err
