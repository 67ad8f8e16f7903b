"""Manifests, indexes and image configs of both families; hostile ones are refused."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onggi.base.errors import Corrupt, NotFound, NotSupported
from onggi.spec import media
from onggi.spec.digest import DiffID, Digest
from onggi.spec.image import (
    MAX_MANIFEST_BYTES,
    Index,
    Manifest,
    check_layers,
    parse_manifest,
    print_manifest,
    select_manifest,
)
from onggi.spec.image_config import (
    MAX_IMAGE_CONFIG_BYTES,
    ContainerConfig,
    ImageConfig,
    parse_image_config,
    print_image_config,
    unknown_config,
)
from onggi.spec.json import encode_json
from onggi.spec.platform import Platform, machine_platform

A, B = DiffID.of(b"a"), DiffID.of(b"b")
CONFIG: dict[str, Any] = {
    "created": "2024-05-01T10:00:00.5Z",
    "author": "potter",
    "architecture": "arm",
    "os": "linux",
    "os.version": "1",
    "os.features": ["f"],
    "variant": "v7",
    "config": {
        "Hostname": "h",
        "Domainname": "",
        "User": "1000:1000",
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": True,
        "ExposedPorts": {"80/tcp": {}},
        "Tty": False,
        "OpenStdin": False,
        "StdinOnce": False,
        "Env": ["PATH=/bin"],
        "Cmd": ["sh"],
        "Healthcheck": {
            "Test": ["CMD-SHELL", "true"],
            "Interval": 5_000_000_000,
            "Timeout": 0,
            "StartPeriod": 1,
            "StartInterval": 2,
            "Retries": 3,
        },
        "ArgsEscaped": True,
        "Image": "sha256:x",
        "Volumes": {"/data": {}},
        "WorkingDir": "/",
        "Entrypoint": [],
        "NetworkDisabled": True,
        "MacAddress": "",
        "OnBuild": ["RUN x"],
        "Labels": {"a": "b"},
        "StopSignal": "SIGTERM",
        "StopTimeout": 10,
        "Shell": ["/bin/sh", "-c"],
    },
    "rootfs": {"type": "layers", "diff_ids": [A, B]},
    "history": [
        {"created": "2024-05-01T10:00:00Z", "created_by": "COPY", "author": "x", "comment": "c"},
        {"empty_layer": True},
    ],
}


def descriptor(media_type: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": Digest.of(json.dumps(more).encode()), "size": 5, **more}


def manifest(**changes: Any) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": media.OCI_MANIFEST,
        "config": descriptor(media.OCI_CONFIG),
        "layers": [descriptor(media.OCI_LAYER_GZIP, urls=["https://e.com"], annotations={"k": "v"})],
        **changes,
    }


def index(*entries: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": list(entries), **changes}


def dumps(document: Any) -> bytes:
    return json.dumps(document).encode()


def entry(platform: str | None, media_type: str = media.OCI_MANIFEST, **more: Any) -> dict[str, Any]:
    if platform is None:
        return descriptor(media_type, **more)
    os, architecture, variant = (*platform.split("/"), "")[:3]
    return descriptor(
        media_type,
        platform={"os": os, "architecture": architecture} | ({"variant": variant} if variant else {}),
        **more,
    )


# -- config -----------------------------------------------------------------------------------------


def test_a_config_with_every_field_comes_back_equal() -> None:
    config = parse_image_config(dumps(CONFIG))
    assert json.loads(print_image_config(config)) == CONFIG
    assert config.config is not None
    missing = [name for name in ContainerConfig.__struct_fields__ if getattr(config.config, name) is None]
    assert missing == []


def test_what_engines_ask_of_a_config() -> None:
    config = parse_image_config(dumps(CONFIG))
    assert config.diff_ids == (A, B)
    assert all(type(diff_id) is DiffID for diff_id in config.diff_ids)
    assert config.chain_id == Digest.of(f"{A} {B}".encode())
    assert str(config.platform) == "linux/arm/v7"


def test_an_image_without_layers() -> None:
    for rootfs in ({"type": "layers"}, {"type": "layers", "diff_ids": None}, {"type": "layers", "diff_ids": []}):
        config = parse_image_config(dumps({"os": "linux", "architecture": "amd64", "rootfs": rootfs}))
        assert (config.diff_ids, config.chain_id) == ((), None)


def test_go_writes_null_for_nothing() -> None:
    config = parse_image_config(
        dumps(CONFIG | {"config": {"Env": None, "Cmd": None, "Volumes": None, "Healthcheck": None}, "history": None})
    )
    assert config.config == ContainerConfig()


def test_unknown_keys_are_kept_for_a_child() -> None:
    document = CONFIG | {
        "docker_version": "20.10",
        "container_config": {"Cmd": ["x"]},
        "config": CONFIG["config"] | {"Memory": 5, "Odd": {"a": [1]}},
        "nothing": None,
    }
    unknown = unknown_config(dumps(document))
    assert unknown == {
        "docker_version": "20.10",
        "container_config": {"Cmd": ["x"]},
        "config": {"Memory": 5, "Odd": {"a": [1]}},
    }
    config = parse_image_config(dumps(document))
    assert json.loads(print_image_config(config, unknown)) == {k: v for k, v in document.items() if k != "nothing"}


def test_known_fields_win_over_kept_ones() -> None:
    config = parse_image_config(dumps(CONFIG))
    printed = json.loads(print_image_config(config, {"author": "mallory", "config": {"User": "root", "X": 1}}))
    assert printed == CONFIG | {"config": CONFIG["config"] | {"X": 1}}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "image config: rootfs: missing"),
        ({"rootfs": {"type": "x"}}, "image config: rootfs.type: expected layers, got 'x'"),
        ({"rootfs": {"type": "layers", "diff_ids": ["sha256:1"]}},
         "image config: rootfs.diff_ids[0]: invalid value: invalid checksum digest length: 'sha256:1'"),
        (CONFIG | {"config": {"Env": ["A=b", 5]}}, "image config: config.Env[1]: expected string, got integer"),
        (CONFIG | {"config": {"Healthcheck": {"Interval": 2**70}}},
         "image config: config.Healthcheck.Interval: expected integer <= 9223372036854775807"),
    ],
)  # fmt: skip
def test_broken_configs_say_where(document: dict[str, Any], message: str) -> None:
    with pytest.raises(Corrupt) as raised:
        parse_image_config(dumps(document))
    assert str(raised.value) == message


# -- manifests --------------------------------------------------------------------------------------


def test_a_manifest_comes_back_equal() -> None:
    document = manifest(
        artifactType="a/b",
        annotations={"k": ""},
        subject=descriptor(media.OCI_MANIFEST, data="aGVsbG8=", artifactType="x/y"),
    )
    parsed = parse_manifest(dumps(document), media.OCI_MANIFEST)
    assert isinstance(parsed, Manifest)
    assert json.loads(print_manifest(parsed)) == document
    assert parsed.subject is not None
    assert parsed.subject.data == b"hello"


def test_an_index_comes_back_equal() -> None:
    document = index(
        descriptor(
            media.DOCKER_MANIFEST,
            platform={
                "os": "linux",
                "architecture": "arm",
                "variant": "v7",
                "os.version": "1",
                "os.features": ["x"],
                "features": ["sse4"],
            },
        ),
        annotations={},
        artifactType="a/b",
    )
    parsed = parse_manifest(dumps(document))
    assert isinstance(parsed, Index)
    assert json.loads(print_manifest(parsed)) == document


@pytest.mark.parametrize(
    ("document", "media_type", "kind"),
    [
        (manifest(mediaType=media.DOCKER_MANIFEST), media.DOCKER_MANIFEST, Manifest),
        (manifest(mediaType=media.DOCKER_MANIFEST), f"{media.DOCKER_MANIFEST}; charset=utf-8", Manifest),
        (manifest(mediaType=None), media.OCI_MANIFEST, Manifest),
        (manifest(mediaType=None), None, Manifest),
        (manifest(), "application/octet-stream", Manifest),
        (index(mediaType=media.DOCKER_MANIFEST_LIST), media.DOCKER_MANIFEST_LIST, Index),
        (index(mediaType=None), None, Index),
    ],
)
def test_kinds(document: dict[str, Any], media_type: str | None, kind: type[Any]) -> None:
    assert type(parse_manifest(dumps(document), media_type)) is kind


@pytest.mark.parametrize(
    ("document", "media_type"),
    [
        (manifest(manifests=[]), None),
        (index(layers=[]), None),
        (index(config=descriptor(media.OCI_CONFIG)), None),
        ({"schemaVersion": 2}, None),
        (manifest(mediaType=media.OCI_INDEX), None),
        (index(mediaType=media.OCI_MANIFEST), None),
        (manifest(mediaType=None), media.OCI_INDEX),
        (manifest(), media.DOCKER_MANIFEST_LIST),
        (index(), media.OCI_MANIFEST),
        (manifest(schemaVersion=3), None),
        ({k: v for k, v in manifest().items() if k != "schemaVersion"}, None),
        (manifest(layers=[descriptor(media.OCI_LAYER, size=-1)]), None),
        (manifest(layers=[descriptor(media.OCI_LAYER) | {"digest": "sha256:../../x"}]), None),
        (manifest(layers={}), None),
        ([], None),
    ],
)
def test_ambiguous_or_broken_documents_are_refused(document: Any, media_type: str | None) -> None:
    with pytest.raises(Corrupt):
        parse_manifest(dumps(document), media_type)


def test_schema_1_gets_a_sentence() -> None:
    for document, media_type in (({"schemaVersion": 1, "fsLayers": []}, None), ({}, media.DOCKER_SCHEMA1_SIGNED)):
        with pytest.raises(NotSupported, match="schema 1 is not supported"):
            parse_manifest(dumps(document), media_type)


def test_sizes_are_bounded() -> None:
    assert parse_manifest(dumps(manifest()).ljust(MAX_MANIFEST_BYTES))
    with pytest.raises(Corrupt, match="are more than"):
        parse_manifest(dumps(manifest()).ljust(MAX_MANIFEST_BYTES + 1))
    with pytest.raises(Corrupt, match="are more than"):
        parse_image_config(b" " * (MAX_IMAGE_CONFIG_BYTES + 1))
    for parse in (parse_manifest, parse_image_config, unknown_config):
        with pytest.raises(Corrupt, match="nested too deeply"):
            parse(b'{"x":' + b"[" * 1_000_000)


def test_layers_and_diff_ids_must_agree() -> None:
    config = parse_image_config(dumps(CONFIG))
    one, two = (parse_manifest(dumps(manifest(layers=[descriptor(media.OCI_LAYER)] * n))) for n in (1, 2))
    assert isinstance(one, Manifest)
    assert isinstance(two, Manifest)
    check_layers(two, config)
    with pytest.raises(Corrupt, match="the manifest has 1 layers, the config names 2"):
        check_layers(one, config)


# -- choosing ---------------------------------------------------------------------------------------


def choose(wanted: str, *entries: dict[str, Any]) -> int:
    parsed = parse_manifest(dumps(index(*entries)))
    assert isinstance(parsed, Index)
    os, architecture, variant = (*wanted.split("/"), "")[:3]
    platform = Platform(os=os, architecture=architecture, variant=variant or None)
    return parsed.manifests.index(select_manifest(parsed, platform))


ATTESTATION = entry("unknown/unknown", annotations={"vnd.docker.reference.type": "attestation-manifest"})


def test_the_entry_for_the_platform_is_chosen() -> None:
    entries = [entry("linux/amd64"), ATTESTATION, entry("linux/arm/v6"), entry("linux/arm/v7"), entry("linux/arm64/v8")]
    assert choose("linux/amd64", *entries) == 0
    assert choose("linux/arm/v7", *entries) == 3
    assert choose("linux/arm/v6", *entries) == 2
    assert choose("linux/arm64", *entries) == 4


def test_an_entry_without_platform_is_the_last_resort() -> None:
    assert choose("linux/amd64", entry(None), entry("linux/amd64")) == 1
    assert choose("linux/s390x", entry(None), entry("linux/amd64")) == 0


def test_what_is_no_image_is_never_chosen() -> None:
    with pytest.raises(NotFound):
        choose("linux/amd64", entry("linux/amd64", media_type="application/vnd.example+json"), ATTESTATION)


def test_no_match_has_dockers_text() -> None:
    with pytest.raises(NotFound) as raised:
        choose("linux/s390x", entry("linux/amd64"), ATTESTATION)
    assert str(raised.value) == "no matching manifest for linux/s390x in the manifest list entries"


# -- media types ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("media_type", "compression", "distributable"),
    [
        (media.OCI_LAYER, "none", True),
        (media.OCI_LAYER_GZIP, "gzip", True),
        (media.OCI_LAYER_ZSTD, "zstd", True),
        (media.DOCKER_LAYER_GZIP, "gzip", True),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "gzip", False),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", "zstd", False),
        ("application/vnd.in-toto+json", None, True),
        (f"{media.OCI_LAYER_GZIP.upper()}; x=y", "gzip", True),
    ],
)
def test_layer_media_types(media_type: str, compression: str | None, distributable: bool) -> None:
    assert media.layer_compression(media_type) == compression
    assert media.is_distributable(media_type) is distributable


# -- anything ---------------------------------------------------------------------------------------


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3) | st.just(str(A)),
    lambda below: st.lists(below, max_size=2) | st.dictionaries(st.sampled_from(
        ("schemaVersion", "mediaType", "config", "layers", "manifests", "rootfs", "type", "diff_ids", "digest", "size")
    ), below, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(json_values)
def test_strangers_documents_parse_or_are_refused(document: Any) -> None:
    for parse in (parse_manifest, parse_image_config):
        with suppress(Corrupt, NotSupported):
            parsed = parse(dumps(document))
            assert parse(encode_json(parsed)) == parsed


def test_a_made_config_is_small_and_parses() -> None:
    config = ImageConfig(
        os="linux",
        architecture=machine_platform("x86_64").architecture,
        rootfs=parse_image_config(dumps(CONFIG)).rootfs,
        config=ContainerConfig(cmd=("sh",)),
    )
    printed = print_image_config(config)
    assert parse_image_config(printed) == config
    assert b"null" not in printed
