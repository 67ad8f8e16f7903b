"""Commands that ask registries, beside docker and skopeo at the same docker-registry: the same bytes and texts."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from onggi.host.files import Files
from onggi.store.manifest_lists import ManifestLists
from tests.callers import Commands
from tests.debian_registry import DebianRegistry, debian_registry
from tests.peers import ask, find
from tests.registry_server import Registry
from tests.served_images import serve_image, serve_index, serve_referrer


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    """Give a docker-registry that has `app` of both kinds: docker-amd64, docker-arm64, oci-…, and their indexes."""
    home = tmp_path_factory.mktemp("home")
    with Registry() as source, debian_registry(tmp_path_factory.mktemp("registry")) as registry:
        user = Commands(home)
        for kind in ("docker", "oci"):
            docker = kind == "docker"
            entries = [
                serve_image(
                    source, "app", f"{kind}-{name}", architecture=name, layers=(b"base", name.encode()), docker=docker
                )
                for name in ("amd64", "arm64")
            ]
            serve_index(source, "app", f"{kind}-all", *entries, docker=docker)
            for tag in ("amd64", "arm64", "all"):
                user.run("image", "cp", f"{source.host}/app:{kind}-{tag}", f"{registry.host}/app:{kind}-{tag}")
        yield registry


@pytest.fixture
def user(tmp_path: Path) -> Commands:
    lists = ManifestLists(f"{tmp_path}/manifests", f"{tmp_path}/lock", Files())
    return Commands(tmp_path, SimpleNamespace(manifest_lists=lists))


class DockerManifest:
    """`docker manifest` with a configuration of its own; it needs no dockerd."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.err = ""

    def run(self, verb: str, *words: str, code: int = 0) -> str:
        talks = ("--insecure",) if verb in ("create", "inspect", "push") else ()
        command = ("docker", "--config", str(self._directory), "manifest", verb, *talks, *words)
        done = ask(*command, check=False)
        self.err = done.stderr.decode()
        assert done.returncode == code, self.err
        return done.stdout.decode()


@pytest.fixture
def docker(tmp_path: Path) -> DockerManifest:
    find("docker")
    return DockerManifest(tmp_path / "docker")


def skopeo(*words: str) -> bytes:
    """Run skopeo without TLS."""
    return ask(find("skopeo"), words[0], "--tls-verify=false", *words[1:]).stdout


@pytest.mark.parametrize("kind", ["docker", "oci"])
def test_a_list_made_here_is_dockers_to_the_byte(
    registry: DebianRegistry, user: Commands, docker: DockerManifest, kind: str
) -> None:
    name = f"{registry.host}/app"
    images = [f"{name}:{kind}-arm64", f"{name}:{kind}-amd64"]
    target = f"{name}:{kind}-made"
    steps = (
        ("create", target, *images),
        ("inspect", target),
        ("inspect", "-v", target),
        ("annotate", "--variant", "v8", "--os-features", "a,b", "--os-version", "1", target, images[0]),
        ("inspect", target),
        ("inspect", target, images[0]),
        ("inspect", "--verbose", target, images[0]),
        ("push", target),
        ("push", "--purge", target),
        ("inspect", target),
        ("inspect", "-v", target),
        ("inspect", images[0]),
        ("inspect", "-v", images[0]),
    )
    for verb, *words in steps:
        assert user.run("manifest", verb, *words) == docker.run(verb, *words), (verb, words)


def test_what_goes_wrong_is_said_as_docker_says_it(
    registry: DebianRegistry, user: Commands, docker: DockerManifest
) -> None:
    name = f"{registry.host}/app"
    steps: tuple[tuple[str, ...], ...] = (
        ("create", f"{name}:made", f"{name}:none"),
        ("create", f"{name}:made", f"{name}:oci-all"),
        ("create", "Made", f"{name}:oci-all"),
        ("annotate", f"{name}:made", f"{name}:oci-amd64"),
        ("inspect", f"{name}:made", f"{name}:oci-amd64"),
        ("push", f"{name}:made"),
        ("rm", f"{name}:made", "other"),
    )
    for verb, *words in steps:
        user.run("manifest", verb, *words, code=1)
        docker.run(verb, *words, code=1)
        assert user.err == f"onggi: {docker.err}", (verb, words)
    for who in (lambda *words: user.run("manifest", *words), docker.run):
        who("create", f"{name}:made", f"{name}:oci-amd64")
    for verb, *words in (
        ("create", f"{name}:made", f"{name}:oci-arm64"),
        ("annotate", "--os", "plan9", "--arch", "s390x", f"{name}:made", f"{name}:oci-amd64"),
    ):
        user.run("manifest", verb, *words, code=1)
        docker.run(verb, *words, code=1)
        assert user.err == f"onggi: {docker.err}", (verb, words)


@pytest.mark.parametrize("kind", ["docker", "oci"])
def test_images_of_another_repository_are_mounted(
    registry: DebianRegistry, user: Commands, docker: DockerManifest, kind: str
) -> None:
    images = [f"{registry.host}/app:{kind}-{name}" for name in ("amd64", "arm64")]
    pushed = {}
    for who, run in (("onggi", lambda *words: user.run("manifest", *words)), ("docker", docker.run)):
        target = f"{registry.host}/{who}-{kind}:all"
        run("create", target, *images)
        pushed[who] = run("push", target).replace(f"{who}-{kind}", "target")
    assert pushed["onggi"] == pushed["docker"]


def test_tags_and_manifests_are_those_that_skopeo_sees(registry: DebianRegistry, user: Commands) -> None:
    name = f"{registry.host}/app"
    tags = json.loads(skopeo("list-tags", f"docker://{name}"))["Tags"]
    assert sorted(user.run("image", "ls", "--remote", "-q", name).split()) == sorted(tags)
    for tag in ("docker-all", "oci-all", "oci-amd64"):
        raw = user.run("image", "inspect", "--remote", "--raw", f"{name}:{tag}")
        assert raw.encode() == skopeo("inspect", "--raw", f"docker://{name}:{tag}")
    for kind in ("docker", "oci"):
        (ours,) = json.loads(user.run("image", "inspect", "--remote", "--platform=linux/amd64", f"{name}:{kind}-all"))
        theirs: Any = json.loads(skopeo("inspect", "--override-arch=amd64", f"docker://{name}:{kind}-all"))
        assert [layer["Digest"] for layer in ours["Manifest"]["Layers"]] == theirs["Layers"]
        assert (ours["Image"]["Architecture"], ours["Image"]["Created"]) == (theirs["Architecture"], theirs["Created"])
        assert ours["Digest"] == theirs["Digest"]


def test_a_copy_is_the_one_that_skopeo_makes(registry: DebianRegistry, user: Commands, tmp_path: Path) -> None:
    with debian_registry(tmp_path / "other") as other:
        for tag in ("docker-all", "oci-all", "oci-amd64"):
            source = f"{registry.host}/app:{tag}"
            skopeo_says = ask(
                "skopeo", "copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false",
                f"docker://{source}", f"docker://{other.host}/skopeo:{tag}",
            )  # fmt: skip
            assert skopeo_says.returncode == 0
            user.run("image", "cp", source, f"{other.host}/onggi:{tag}")
            ours, theirs = (
                skopeo("inspect", "--raw", f"docker://{other.host}/{who}:{tag}") for who in ("onggi", "skopeo")
            )
            assert ours == theirs
        # Within one registry nothing travels.
        assert "; 5 mounted" in user.run("image", "cp", f"{other.host}/onggi:oci-all", f"{other.host}/new:1")
        said = user.run("image", "cp", f"{other.host}/new:1", f"{other.host}/newer:1")
        assert "0 of 5 blobs sent, 0B; 5 mounted" in said
        skopeo("inspect", f"docker://{other.host}/newer:1", "--override-arch=arm64")


def test_referrers_go_by_a_tag_where_there_is_no_api(registry: DebianRegistry, user: Commands) -> None:
    with Registry() as source:
        image = serve_image(source, "signed", "1")
        signature = serve_referrer(source, "signed", image, "application/x-signature", b"signed")
        user.run("image", "cp", "--referrers", f"{source.host}/signed:1", f"{registry.host}/signed:1")
    (document,) = json.loads(user.run("image", "inspect", "--remote", f"{registry.host}/signed:1"))
    assert [one["Digest"] for one in document["Referrers"]] == [signature["digest"]]
    fallback = f"sha256-{image['digest'].partition(':')[2]}"
    assert sorted(user.run("image", "ls", "--remote", "-q", f"{registry.host}/signed").split()) == ["1", fallback]


def test_a_registry_is_searched_by_its_catalogue(registry: DebianRegistry, user: Commands) -> None:
    assert user.run("search", "--format", "{{.Name}}", f"{registry.host}/ap") == f"{registry.host}/app\n"
