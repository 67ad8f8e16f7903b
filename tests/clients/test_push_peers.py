"""What Onggi pushes to a real registry, as others find it there: the same digests, the same files."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onggi.registry.access import Registries
from onggi.spec import media
from tests.debian_registry import USER, DebianRegistry, Issuer, debian_registry
from tests.interop import NAME, Site, image_there, skopeo, tree_here, tree_there
from tests.peers import Docker, Podman

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    with debian_registry(tmp_path_factory.mktemp("registry")) as started:
        yield started


def push(site: Site, name: str, *flags: str, **env: str) -> str:
    """Push what was built under a name; gives the digest that was printed."""
    site.here.engine.images.tag(NAME, name)
    options: dict[str, Any] = {"env": site.here.environment(warm=False, **env)} if env else {"warm": False}
    out = site.here.ok("push", *flags, name, **options)
    return out.splitlines()[-1].split()[2]


def inspect(name: str, *flags: str) -> Any:
    return json.loads(skopeo("inspect", "--tls-verify=false", *flags, f"docker://{name}"))


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_peers_pull_it(site: Site, registry: DebianRegistry, peer: Docker | Podman, compression: str) -> None:
    if compression == "zstd" and isinstance(peer, Docker) and not peer.reads_zstd:
        pytest.skip("Docker reads zstd since 23.0")
    name = f"{registry.host}/peers/{compression}:1"
    digest = push(site, name, "--compression", compression)
    options = () if isinstance(peer, Docker) else ("--tls-verify=false",)
    peer.run("pull", *options, name)
    found = image_there(peer, name)
    assert found["Id"].removeprefix("sha256:") == site.id.removeprefix("sha256:")
    assert f"{registry.host}/peers/{compression}@{digest}" in found["RepoDigests"]
    assert tree_there(peer, name) == tree_here(site.here, NAME)
    peer.run("rmi", "-f", name)


def test_skopeo_finds_it(site: Site, registry: DebianRegistry) -> None:
    name = f"{registry.host}/skopeo/app:1"
    digest = push(site, name, "--compression", "zstd")
    found = inspect(name)
    assert (found["Digest"], found["RepoTags"]) == (digest, ["1"])
    manifest = inspect(name, "--raw")
    assert manifest["config"]["digest"] == site.id
    assert {layer["mediaType"] for layer in manifest["layers"]} == {media.OCI_LAYER_ZSTD}
    assert found["Layers"] == [layer["digest"] for layer in manifest["layers"]]
    assert push(site, name, "--compression", "zstd") == digest


def test_to_another_repository_it_is_mounted(site: Site, registry: DebianRegistry) -> None:
    digest = push(site, f"{registry.host}/mount/one:1")
    name = f"{registry.host}/mount/two:1"
    site.here.engine.images.tag(f"{registry.host}/mount/one:1", name)
    lines = site.here.ok("push", name, warm=False).splitlines()
    mounted = [line for line in lines if "Mounted from " in line]
    assert len(mounted) == len(set(site.diff_ids))
    assert inspect(name)["Digest"] == digest


def test_what_skopeo_put_there_goes_on_with_its_digest(site: Site, registry: DebianRegistry, tmp_path: Path) -> None:
    """Docker's manifest, its gzip: pulled by one and pushed as another, byte for byte."""
    first, second = f"{registry.host}/from/app:1", f"{registry.host}/to/app:1"
    source = ("--format", "v2s2", f"docker-archive:{site.archive}:{NAME}")
    skopeo("copy", "--dest-tls-verify=false", *source, f"docker://{first}")
    home = site.there
    home.ok("pull", "-q", first, warm=False)
    home.engine.images.tag(first, second)
    digest = home.ok("push", second, warm=False).splitlines()[-1].split()[2]
    assert inspect(second)["Digest"] == inspect(first)["Digest"] == digest
    assert inspect(second, "--raw")["mediaType"] == media.DOCKER_MANIFEST
    assert tree_here(home, second) == tree_here(site.here, NAME)


def test_only_who_may_pushes(site: Site, tmp_path: Path) -> None:
    issuer = Issuer(tmp_path / "issuer")
    with issuer.serving(), debian_registry(tmp_path / "private", auth=issuer.auth) as registry:
        name = f"{registry.host}/public/app:1"
        site.here.engine.images.tag(NAME, name)
        config = tmp_path / "config.json"
        config.write_text("{}")
        env = site.here.environment(warm=False, DOCKER_CONFIG=str(tmp_path))
        done = site.here.onggi("push", name, env=env)
        assert done.returncode == 1
        assert "push access denied for" in done.stderr
        assert "'onggi login'" in done.stderr
        site.here.ok("login", "-u", USER[0], "--password-stdin", registry.host, input=USER[1], env=env, stdin=None)
        digest = site.here.ok("push", name, env=env).splitlines()[-1].split()[2]
        assert inspect(name)["Digest"] == digest


def test_an_index_goes_on_whole(site: Site, registry: DebianRegistry, tmp_path: Path) -> None:
    first, second = f"{registry.host}/index/one:1", f"{registry.host}/index/two:1"
    push(site, f"{registry.host}/index/one:amd64", "--compression", "zstd")
    push(site, f"{registry.host}/index/one:gzip", "--compression", "gzip")
    digests = [inspect(f"{registry.host}/index/one:{tag}")["Digest"] for tag in ("amd64", "gzip")]
    assert digests[0] != digests[1]
    home = site.there
    index = {
        "schemaVersion": 2,
        "mediaType": media.OCI_INDEX,
        "manifests": [
            {
                "mediaType": media.OCI_MANIFEST,
                "digest": digest,
                "size": len(
                    skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{registry.host}/index/one@{digest}")
                ),
                "platform": {"os": "linux", "architecture": architecture},
            }
            for digest, architecture in zip(digests, ("amd64", "arm64"), strict=True)
        ],
    }
    with Registries.of({}, home=str(tmp_path), uid=0) as registries:
        remote = registries.remote(registries.parse(first))
        data = json.dumps(index).encode()
        put = remote.do("push", lambda repository: repository.put_manifest("1", data, media.OCI_INDEX))
        home.engine.images.pull(first, registries=registries, every_platform=True, platform="linux/amd64")
        context = home.engine._context
        image, top = context.images.tagged(registries.parse(first)) or (None, None)
        assert image is not None
        assert top == put
        context.images.tag(registries.parse(second), image, manifest=top)
        assert home.engine.images.push(second, registries=registries).digest == put
    assert inspect(second, "--raw") == index
