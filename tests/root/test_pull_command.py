"""`onggi pull`, and what `run`, `create`, `build` and `rmi` make of images that come from a registry."""

import time
from pathlib import Path

import pytest

from onggi.spec.container import ContainerRequest
from onggi.spec.digest import Digest
from tests.homes import Home
from tests.registry_server import Registry, status
from tests.remote_images import add_image
from tests.root.test_pull import HERE, add_both


@pytest.fixture
def box(registry: Registry, rootfs: Path) -> Digest:
    """A small image that runs: busybox and a greeting."""
    files = {"bin/busybox": (rootfs / "bin" / "busybox").read_bytes()}
    layers = [files, {"greeting": b"hello from afar\n"}]
    return add_image(registry, "box", "1", layers, architecture=HERE, Cmd=["/bin/busybox", "cat", "/greeting"])


def test_pull_prints_dockers_lines(home: Home, registry: Registry, box: Digest) -> None:
    name = f"{registry.host}/box"
    result = home.onggi("pull", f"{name}:1")
    assert (result.returncode, result.stderr) == (0, "")
    first, *layers, digest, state, last = result.stdout.splitlines()
    assert first == "1: Pulling from box"
    assert digest == f"Digest: {box}"
    assert state == f"Status: Downloaded newer image for {name}:1"
    assert last == f"{name}:1"
    assert sum(line.endswith(": Pull complete") for line in layers) == 2
    again = home.onggi("pull", f"{name}:1").stdout.splitlines()
    assert again[-2] == f"Status: Image is up to date for {name}:1"
    quiet = home.onggi("pull", "-q", f"{name}:1")
    assert (quiet.stdout, quiet.stderr) == (f"{name}:1\n", "")
    digests = home.onggi("inspect", "-f", "{{json .RepoDigests}}", f"{name}:1").stdout
    assert digests == f'["{name}@{box}"]\n'


def test_without_a_tag_it_is_latest(home: Home, registry: Registry) -> None:
    add_image(registry, "app", "latest", [{"a": b"1"}], architecture=HERE)
    result = home.onggi("pull", f"{registry.host}/app")
    assert result.stdout.startswith("Using default tag: latest\nlatest: Pulling from app\n")


def test_every_tag(home: Home, registry: Registry) -> None:
    for tag in ("1", "2"):
        add_image(registry, "app", tag, [{"a": tag.encode()}], architecture=HERE)
    assert home.onggi("pull", "-q", "-a", f"{registry.host}/app").stdout.split() == [
        f"{registry.host}/app:1",
        f"{registry.host}/app:2",
    ]
    refused = home.onggi("pull", "-a", f"{registry.host}/app:1")
    assert refused.returncode == 1
    assert "tag can't be used with --all-tags/-a" in refused.stderr


def test_a_refusal_is_one_sentence(home: Home, registry: Registry) -> None:
    registry.fault("", "manifests/", status(401))
    result = home.onggi("pull", f"{registry.host}/secret")
    assert result.returncode == 1
    assert f"pull access denied for {registry.host}/secret, repository does not exist or may require" in result.stderr


@pytest.mark.parametrize("warm", [True, False])
def test_run_pulls_what_is_not_here(home: Home, registry: Registry, box: Digest, warm: bool) -> None:
    name = f"{registry.host}/box:1"
    if warm:
        home.onggi("ps")  # leaves an onggid
    result = home.onggi("run", "--rm", "--network", "none", name, warm=warm)
    assert (result.returncode, result.stdout) == (0, "hello from afar\n")
    lines = result.stderr.splitlines()
    assert lines[:2] == [f"Unable to find image '{name}' locally", "1: Pulling from box"]
    assert lines[-2:] == [f"Digest: {box}", f"Status: Downloaded newer image for {name}"]
    registry.asked.clear()
    again = home.onggi("run", "--rm", "--network", "none", name, warm=warm)
    assert (again.stdout, again.stderr) == ("hello from afar\n", "")
    assert registry.asked == []


def test_pull_policies(home: Home, registry: Registry, box: Digest) -> None:
    name = f"{registry.host}/box:1"
    never = home.onggi("run", "--pull", "never", name)
    assert never.returncode == 125
    assert f"No such image: {name}" in never.stderr
    assert registry.asked == []
    assert home.onggi("create", "-q", "--pull", "missing", name).stderr == ""
    registry.asked.clear()
    always = home.onggi("run", "--rm", "--network", "none", "--pull", "always", name)
    assert "Status: Image is up to date" in always.stderr
    assert registry.asked
    wrong = home.onggi("run", "--pull", "often", name)
    assert wrong.returncode == 125
    assert "invalid pull option" in wrong.stderr


def test_run_for_another_platform_pulls_that(home: Home, registry: Registry) -> None:
    _, other, _ = add_both(registry)
    platform = "linux/arm64" if HERE == "amd64" else "linux/amd64"
    home.onggi("pull", f"{registry.host}/app:1")
    created = home.onggi("create", "--platform", platform, f"{registry.host}/app:1", "x")
    assert created.returncode == 0, created.stderr
    assert home.engine.images.get(f"{registry.host}/app:1").manifest == other


def test_run_that_cannot_pull_fails_as_dockers(home: Home, registry: Registry) -> None:
    result = home.onggi("run", f"{registry.host}/nothing")
    assert result.returncode == 125
    assert f"Unable to find image '{registry.host}/nothing:latest' locally" in result.stderr
    assert "not found" in result.stderr


def test_build_pulls_its_base(home: Home, registry: Registry, box: Digest, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {registry.host}/box:1\nLABEL a=b\n")
    built = home.onggi("build", "-q", "-t", "built", str(tmp_path))
    assert built.returncode == 0, built.stderr
    registry.asked.clear()
    home.onggi("build", "-q", "-t", "built", str(tmp_path))
    assert registry.asked == []
    assert home.onggi("build", "-q", "--pull", "-t", "built", str(tmp_path)).stdout == built.stdout
    assert registry.asked
    (tmp_path / "Dockerfile").write_text(f"FROM {registry.host}/nothing:1\n")
    refused = home.onggi("build", "-q", str(tmp_path))
    assert refused.returncode == 1
    assert "not found" in refused.stderr


def test_the_last_tag_takes_its_digest_with_it(home: Home, registry: Registry, box: Digest) -> None:
    name = f"{registry.host}/box"
    home.onggi("pull", "-q", f"{name}:1")
    home.onggi("tag", f"{name}:1", "other")
    assert home.onggi("rmi", f"{name}:1").stdout.splitlines() == [f"Untagged: {name}:1", f"Untagged: {name}@{box}"]
    home.onggi("pull", "-q", f"{name}:1")
    home.onggi("rmi", "other")
    lines = home.onggi("rmi", f"{name}:1").stdout.splitlines()
    assert lines[:2] == [f"Untagged: {name}:1", f"Untagged: {name}@{box}"]
    assert lines[2].startswith("Deleted: sha256:")


def test_a_pull_is_an_event(home: Home, registry: Registry, box: Digest) -> None:
    home.onggi("pull", "-q", f"{registry.host}/box:1")
    told = list(home.engine.system.events(since_ns=1, until_ns=time.time_ns()))
    assert [event.attributes["name"] for event in told if event.action == "pull"] == [f"{registry.host}/box:1"]


def test_a_short_name_may_be_of_another_registry(
    home: Home, registry: Registry, box: Digest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onggi").mkdir()
    (tmp_path / "onggi" / "registries.toml").write_text(f'default-registry = "{registry.host}"\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    words = ("run", "--rm", "--network", "none", "box:1")
    assert home.onggi(*words).stdout == "hello from afar\n"
    registry.asked.clear()
    for warm in (True, False):
        again = home.onggi(*words, warm=warm)
        assert (again.returncode, again.stdout, again.stderr) == (0, "hello from afar\n", "")
    (tmp_path / "Dockerfile").write_text("FROM box:1\nLABEL a=b\n")
    assert home.onggi("build", "-q", str(tmp_path)).returncode == 0
    with home.engine.containers.run("box:1", request=ContainerRequest(network="none")) as container:
        container.wait()
    assert registry.asked == []  # it was here


def test_a_context_may_be_a_symbolic_link(home: Home, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    (tmp_path / "link").symlink_to("real")
    assert home.onggi("build", "-q", str(tmp_path / "link")).returncode == 0


def test_python_pulls_what_is_not_here(home: Home, registry: Registry, box: Digest) -> None:
    request = ContainerRequest(network="none")
    with home.engine.containers.run(f"{registry.host}/box:1", request=request) as container:
        container.wait()
        assert "".join(line.log for line in container.logs()) == "hello from afar\n"
    registry.asked.clear()
    with home.engine.containers.run(f"{registry.host}/box:1", request=request, pull="always") as container:
        container.wait()
    assert registry.asked
