"""Images that docker, podman, buildah and skopeo pushed into Debian's docker-registry, pulled by Onggi."""

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from onggi.host.http_client import Client
from onggi.registry.auth import Authentication
from onggi.registry.client import Repository
from onggi.spec import media
from onggi.spec.digest import Digest
from tests.certificates import Authority
from tests.connect_proxy import ConnectProxy
from tests.debian_registry import USER, DebianRegistry, Issuer, debian_registry, htpasswd
from tests.interop import NAME, Site, image_there, run_there, skopeo, tree_here, tree_there
from tests.peers import Docker, Podman
from tests.remote_images import descriptor, tar_of

pytestmark = pytest.mark.root

SAID: Final = "last\nnew\n"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    """Give a registry that is open to all."""
    with debian_registry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture(autouse=True)
def empty(site: Site) -> Iterator[None]:
    """Begin and end with nothing there."""
    clear(site)
    yield
    clear(site)
    assert site.there.engine.system.check() == []


def clear(site: Site) -> None:
    """Remove all images there, with everything that was pulled for them."""
    for image in site.there.engine.images.list():
        site.there.ok("rmi", "-f", str(image.id))
    assert not [*Path(site.there.engine.root, "blobs").glob("*/*")]


def manifest_at(registry: DebianRegistry, name: str) -> dict[str, Any]:
    """Read a manifest as skopeo gets it; `digest` is its own."""
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{registry.host}/{name}")
    document = json.loads(raw)
    assert isinstance(document, dict)
    return {**document, "digest": Digest.of(raw)}


def described(site: Site, name: str) -> dict[str, Any]:
    """Describe an image as Onggi does."""
    (found,) = json.loads(site.there.ok("image", "inspect", name))
    assert isinstance(found, dict)
    return found


def pull_and_compare(site: Site, registry: DebianRegistry, name: str) -> dict[str, Any]:
    """Pull, and find the image that was built, by all its digests; gives its manifest there."""
    full = f"{registry.host}/{name}"
    there = manifest_at(registry, name)
    said = site.there.ok("pull", full)
    assert f"Digest: {there['digest']}\n" in said
    found = described(site, full)
    assert found["RepoDigests"] == [f"{full.rpartition(':')[0]}@{there['digest']}"]
    assert found["RepoTags"] == [full]
    assert found["Id"] == there["config"]["digest"]
    assert found["RootFS"]["Layers"] == site.diff_ids
    assert tree_here(site.there, full) == tree_here(site.here, NAME)
    assert site.there.ok("run", "--rm", "--network", "none", full) == SAID
    return there


def saved_manifest(site: Site, name: str, archive: Path) -> Digest:
    """Save an image; gives the digest of the manifest in the archive."""
    site.there.ok("save", "-o", str(archive), name)
    return Digest.of(skopeo("inspect", "--raw", f"oci-archive:{archive}"))


def test_what_docker_pushed(site: Site, registry: DebianRegistry, docker: Docker, tmp_path: Path) -> None:
    docker.run("load", "-i", str(site.archive))
    name = f"{registry.host}/by/docker:1"
    docker.run("tag", NAME, name)
    docker.run("push", name)
    manifest = pull_and_compare(site, registry, "by/docker:1")
    assert manifest["mediaType"] == media.DOCKER_MANIFEST
    docker.run("rmi", NAME)
    theirs = image_there(docker, name)
    ours = described(site, name)
    for field in ("Id", "RepoDigests", "RepoTags", "Architecture", "Os"):
        assert ours[field] == theirs[field], field
    assert tree_here(site.there, name) == tree_there(docker, name)
    assert saved_manifest(site, name, tmp_path / "saved.tar") == manifest["digest"]
    docker.run("rmi", "-f", name)
    docker.run("load", "-i", str(tmp_path / "saved.tar"))
    assert image_there(docker, name)["Id"] == ours["Id"]
    assert run_there(docker, name) == SAID
    docker.run("rmi", "-f", name)


@pytest.mark.parametrize("form", ["oci", "v2s2"])
@pytest.mark.parametrize("tool", ["podman", "buildah"])
def test_what_podman_and_buildah_pushed(
    site: Site, registry: DebianRegistry, podman: Podman, tool: str, form: str, tmp_path: Path
) -> None:
    podman.run("load", "-i", str(site.archive))
    name = f"{registry.host}/by/{tool}:{form}"
    words = ("push", "--tls-verify=false", "--format", form, site.id.removeprefix("sha256:"), f"docker://{name}")
    podman.run(*words) if tool == "podman" else podman.buildah(*words)
    manifest = pull_and_compare(site, registry, f"by/{tool}:{form}")
    assert manifest["mediaType"] == (media.OCI_MANIFEST if form == "oci" else media.DOCKER_MANIFEST)
    assert saved_manifest(site, name, tmp_path / "saved.tar") == manifest["digest"]
    podman.run("pull", "--tls-verify=false", name)
    assert image_there(podman, name)["Id"] == described(site, name)["Id"].removeprefix("sha256:")
    assert tree_there(podman, name) == tree_here(site.there, name)
    podman.run("rmi", "-f", name)


def skopeo_push(site: Site, to: str, directory: Path, form: str, compression: str) -> None:
    """Compress what was built, then push that: skopeo would take blobs of other compressions that are there."""
    packed = f"dir:{directory}"
    flags = ("--format", form, "--dest-compress", "--dest-compress-format", compression)
    skopeo("copy", *flags, f"oci-archive:{site.archive}", packed)
    skopeo("copy", "--preserve-digests", "--dest-tls-verify=false", packed, to)


@pytest.mark.parametrize(("form", "compression"), [("oci", "gzip"), ("oci", "zstd"), ("v2s2", "gzip")])
def test_what_skopeo_pushed(site: Site, registry: DebianRegistry, form: str, compression: str, tmp_path: Path) -> None:
    place = f"by/skopeo:{form}-{compression}"
    skopeo_push(site, f"docker://{registry.host}/{place}", tmp_path / "image", form, compression)
    manifest = pull_and_compare(site, registry, place)
    kinds = {layer["mediaType"] for layer in manifest["layers"]}
    assert kinds == {media.DOCKER_LAYER_GZIP if form == "v2s2" else f"{media.OCI_LAYER}+{compression}"}
    assert saved_manifest(site, f"{registry.host}/{place}", tmp_path / "saved.tar") == manifest["digest"]


def test_zstd_chunked(site: Site, registry: DebianRegistry, busybox: Path, tmp_path: Path) -> None:
    """Its frames for tables are skipped. This skopeo loses what is after a tar's last file: it gets one without."""
    (tmp_path / "tree.tar").write_bytes(tar_of({"bin/busybox": busybox.read_bytes()}))
    site.here.ok("import", str(tmp_path / "tree.tar"), "one-file")
    site.here.ok("save", "-o", str(tmp_path / "one.tar"), "one-file")
    packed = f"dir:{tmp_path}/image"
    flags = ("--format", "oci", "--dest-compress", "--dest-compress-format", "zstd:chunked")
    skopeo("copy", *flags, f"oci-archive:{tmp_path}/one.tar", packed)
    name = f"{registry.host}/by/skopeo:chunked"
    skopeo("copy", "--preserve-digests", "--dest-tls-verify=false", packed, f"docker://{name}")
    manifest = manifest_at(registry, "by/skopeo:chunked")
    assert all("io.containers.zstd-chunked.manifest-position" in layer["annotations"] for layer in manifest["layers"])
    site.there.ok("pull", name)
    assert described(site, name)["Id"] == manifest["config"]["digest"] == site.here.engine.images.get("one-file").id
    said = site.there.ok("run", "--rm", "--network", "none", name, "/bin/busybox", "sha256sum", "/bin/busybox")
    assert said.split()[0] == hashlib.sha256(busybox.read_bytes()).hexdigest()
    assert saved_manifest(site, name, tmp_path / "saved.tar") == manifest["digest"]


def test_an_index_that_skopeo_copied(site: Site, registry: DebianRegistry, tmp_path: Path) -> None:
    """Of three platforms ours is taken; `--all-platforms` keeps the others."""
    layout = tmp_path / "layout"
    add_to_layout(site, layout)
    flags = ("--all", "--preserve-digests", "--dest-tls-verify=false")
    skopeo("copy", *flags, f"oci:{layout}:many", f"docker://{registry.host}/by/skopeo:many")
    name = f"{registry.host}/by/skopeo:many"
    index = manifest_at(registry, "by/skopeo:many")
    site.there.ok("pull", "--all-platforms", name)
    found = described(site, name)
    assert found["RepoDigests"] == [f"{registry.host}/by/skopeo@{index['digest']}"]
    assert found["Id"] == site.id
    site.there.ok("image", "prune", "-f")
    kept = {path.name for path in Path(site.there.engine.root, "blobs", "sha256").iterdir()}
    for entry in index["manifests"]:
        assert entry["digest"].partition(":")[2] in kept
    assert site.there.ok("run", "--rm", "--network", "none", name) == SAID
    other = site.there.ok("pull", "--platform", "linux/s390x", name)
    assert f"Digest: {index['digest']}" in other
    assert described(site, name)["Architecture"] == "s390x"
    missing = site.there.onggi("pull", "--platform", "windows/amd64", name)
    assert missing.returncode == 1
    assert "no matching manifest for windows/amd64 in the manifest list entries" in missing.stderr
    assert described(site, name)["Architecture"] == "s390x"


def add_to_layout(site: Site, layout: Path) -> None:
    """Make a layout with an index `many`: what was built, and the same said to be for other machines."""
    skopeo("copy", f"oci-archive:{site.archive}", f"oci:{layout}:one")
    blobs = layout / "blobs" / "sha256"

    def put(document: Any, kind: str, **more: Any) -> dict[str, Any]:
        data = json.dumps(document).encode()
        digest = Digest.of(data)
        (blobs / digest.hex).write_bytes(data)
        return descriptor(kind, digest, len(data), **more)

    (first,) = json.loads((layout / "index.json").read_text())["manifests"]
    manifest = json.loads((blobs / first["digest"][7:]).read_text())
    config = json.loads((blobs / manifest["config"]["digest"][7:]).read_text())
    entries = []
    for architecture in ("s390x", "ppc64le"):
        own = {**manifest, "config": put({**config, "architecture": architecture}, media.OCI_CONFIG)}
        entries.append(put(own, media.OCI_MANIFEST, platform={"os": "linux", "architecture": architecture}))
    mine = {"os": config["os"], "architecture": config["architecture"]}
    entries.append({**{key: first[key] for key in ("mediaType", "digest", "size")}, "platform": mine})
    many = {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": entries}
    top = put(many, media.OCI_INDEX, annotations={"org.opencontainers.image.ref.name": "many"})
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))


def test_a_manifest_list_that_podman_pushed(site: Site, registry: DebianRegistry, podman: Podman) -> None:
    podman.run("load", "-i", str(site.archive))
    name = f"{registry.host}/by/podman:list"
    podman.run("manifest", "create", "many:1", f"containers-storage:{site.id.removeprefix('sha256:')}")
    podman.run("manifest", "push", "--all", "--tls-verify=false", "--format", "v2s2", "many:1", f"docker://{name}")
    podman.run("manifest", "rm", "many:1")
    index = manifest_at(registry, "by/podman:list")
    assert index["mediaType"] == media.DOCKER_MANIFEST_LIST
    site.there.ok("pull", name)
    found = described(site, name)
    assert found["RepoDigests"] == [f"{registry.host}/by/podman@{index['digest']}"]
    assert found["RootFS"]["Layers"] == site.diff_ids
    by_digest = f"{registry.host}/by/podman@{index['manifests'][0]['digest']}"
    site.there.ok("pull", by_digest)
    assert described(site, by_digest)["Id"] == found["Id"]


def test_layers_that_need_not_be_distributed(site: Site, registry: DebianRegistry, tmp_path: Path) -> None:
    """They are fetched where the registry has them."""
    skopeo_push(site, f"docker://{registry.host}/by/foreign:0", tmp_path / "image", "oci", "gzip")
    manifest = json.loads((tmp_path / "image" / "manifest.json").read_text())
    for layer in manifest["layers"]:
        layer["mediaType"] = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    client = Client()
    repository = Repository(registry.endpoint("by/foreign"), client, Authentication(client, lambda *_: None))
    repository.put_manifest("1", json.dumps(manifest).encode(), media.OCI_MANIFEST)
    client.close()
    pull_and_compare(site, registry, "by/foreign:1")


# -- who may -----------------------------------------------------------------------------------------------------------


def docker_login(docker: Docker, host: str, home: Path) -> None:
    """Have the real docker log in, and write its config.json below `home`."""
    docker.run(
        "--config", str(home / ".docker"), "login", "-u", USER[0], "--password-stdin", host, input=USER[1].encode()
    )


def test_a_password_that_docker_wrote_down(site: Site, docker: Docker, tmp_path: Path) -> None:
    with debian_registry(tmp_path / "registry", auth=htpasswd(tmp_path)) as registry:
        auth = f"--dest-creds={USER[0]}:{USER[1]}"
        skopeo("copy", "--dest-tls-verify=false", auth, f"oci-archive:{site.archive}", f"docker://{registry.host}/a:1")
        refused = site.there.onggi("pull", f"{registry.host}/a:1", env=with_home(site, tmp_path))
        assert refused.returncode == 1
        assert "no basic auth credentials" in refused.stderr
        docker_login(docker, registry.host, tmp_path)
        said = site.there.onggi("pull", f"{registry.host}/a:1", env=with_home(site, tmp_path))
        assert said.returncode == 0, said.stderr
        assert tree_here(site.there, f"{registry.host}/a:1") == tree_here(site.here, NAME)
        assert USER[1] not in said.stdout + said.stderr + refused.stderr


def with_home(site: Site, home: Path) -> dict[str, str]:
    """Give an environment of somebody with this home."""
    return site.there.environment(HOME=str(home))


def test_tokens_after_onggi_login(site: Site, tmp_path: Path) -> None:
    issuer = Issuer(tmp_path / "issuer")
    with issuer.serving(), debian_registry(tmp_path / "registry", auth=issuer.auth) as registry:
        auth = f"--dest-creds={USER[0]}:{USER[1]}"
        for place in ("private/a", "public/a"):
            to = f"docker://{registry.host}/{place}:1"
            skopeo("copy", "--dest-tls-verify=false", auth, f"oci-archive:{site.archive}", to)
        env = with_home(site, tmp_path)
        assert site.there.onggi("pull", f"{registry.host}/public/a:1", env=env).returncode == 0
        refused = site.there.onggi("pull", f"{registry.host}/private/a:1", env=env)
        assert refused.returncode == 1
        assert f"pull access denied for {registry.host}/private/a" in refused.stderr
        words = ("login", "-u", USER[0], "--password-stdin", registry.host)
        login = subprocess.run(
            site.there.words(*words), input=USER[1], capture_output=True, text=True, env=env, check=False
        )
        assert login.returncode == 0, login.stderr
        said = site.there.onggi("pull", f"{registry.host}/private/a:1", env=env)
        assert said.returncode == 0, said.stderr
        run = site.there.onggi("run", "--rm", "--network", "none", f"{registry.host}/private/a:1", env=env)
        assert (run.stdout, run.stderr) == (SAID, "")


def test_tls_and_a_password(site: Site, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    pem = authority.issue("server")
    with debian_registry(tmp_path / "registry", auth=htpasswd(tmp_path), certificate=pem) as registry:
        auth = f"--dest-creds={USER[0]}:{USER[1]}"
        skopeo("copy", "--dest-tls-verify=false", auth, f"oci-archive:{site.archive}", f"docker://{registry.host}/a:1")
        env = with_home(site, tmp_path)
        env["SSL_CERT_FILE"] = str(authority.ca)
        words = ("login", "-u", USER[0], "--password-stdin", registry.host)
        login = subprocess.run(
            site.there.words(*words), input=USER[1], capture_output=True, text=True, env=env, check=False
        )
        assert login.returncode == 0, login.stderr
        said = site.there.onggi("pull", f"{registry.host}/a:1", env=env)
        assert said.returncode == 0, said.stderr
        assert tree_here(site.there, f"{registry.host}/a:1") == tree_here(site.here, NAME)


# -- through a proxy ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_registry_behind_a_proxy(site: Site, tmp_path: Path, spelling: str) -> None:
    """Its name is one that only the proxy knows."""
    authority = Authority(tmp_path / "authority")
    pem = authority.issue("server", "registry.test")
    with (
        debian_registry(tmp_path / "registry", auth=htpasswd(tmp_path), certificate=pem) as registry,
        ConnectProxy({"registry.test:443": registry.host}, "me:a b") as proxy,
    ):
        auth = f"--dest-creds={USER[0]}:{USER[1]}"
        skopeo("copy", "--dest-tls-verify=false", auth, f"oci-archive:{site.archive}", f"docker://{registry.host}/a:1")
        clean = {name: value for name, value in with_home(site, tmp_path).items() if "proxy" not in name.lower()}
        clean["SSL_CERT_FILE"] = str(authority.ca)
        unreachable = site.there.onggi("pull", "registry.test/a:1", env=clean)
        assert unreachable.returncode == 1
        assert "registry.test/v2/a/manifests/1 cannot be reached" in unreachable.stderr
        wrong = site.there.onggi("pull", "registry.test/a:1", env={**clean, spelling: f"http://me:b@{proxy.host}"})
        assert wrong.returncode == 1
        assert "the proxy does not let us through" in wrong.stderr
        env = {**clean, spelling: f"http://me:a%20b@{proxy.host}"}
        login = subprocess.run(
            site.there.words("login", "-u", USER[0], "--password-stdin", "registry.test"),
            input=USER[1], capture_output=True, text=True, env=env, check=False,
        )  # fmt: skip
        assert login.returncode == 0, login.stderr
        untrusted = {**env, "SSL_CERT_FILE": ""}
        refused = site.there.onggi("pull", "registry.test/a:1", env=untrusted)
        assert refused.returncode == 1
        assert "its certificate cannot be verified" in refused.stderr
        assert set(proxy.asked) == {"registry.test:443"}
        said = site.there.onggi("pull", "registry.test/a:1", env=env)
        assert said.returncode == 0, said.stderr
        assert tree_here(site.there, "registry.test/a:1") == tree_here(site.here, NAME)
        asked = len(proxy.asked)
        without = site.there.onggi("pull", "registry.test/a:1", env={**env, "NO_PROXY": ".test"})
        assert without.returncode == 1
        assert len(proxy.asked) == asked
