"""`onggi push` as a user runs it: what it prints, where, and how it ends."""

import json
import signal
import subprocess
import threading
from typing import Any, Final

import pytest

from tests.homes import IMAGE, Home
from tests.registry_server import Registry, held, status

TIMEOUT_S: Final = 60.0


@pytest.fixture
def name(home: Home, registry: Registry) -> str:
    """Give the name of an image for the registry."""
    made = f"{registry.host}/app"
    home.engine.images.tag(IMAGE, made)
    return made


def push(home: Home, *arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    return home.onggi("push", *arguments, warm=False, **options)


def test_what_docker_prints(home: Home, registry: Registry, name: str) -> None:
    done = push(home, name)
    digest = registry.tags["app"]["latest"]
    size = len(registry.manifests["app"][digest][0])
    short = home.engine.images.config(IMAGE).diff_ids[0].hex[:12]
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "Using default tag: latest",
        f"The push refers to repository [{name}]",
        f"{short}: Preparing",
        f"{short}: Compressing",
        f"{short}: Pushing",
        f"{short}: Pushed",
        f"latest: digest: {digest} size: {size}",
    ]
    again = home.onggi("image", "push", f"{name}:latest", warm=False).stdout.splitlines()
    assert again[0] == f"The push refers to repository [{name}]"
    assert again[2].endswith(": Layer already exists")
    assert again[3] == f"latest: digest: {digest} size: {size}"


def test_quiet_is_the_name(home: Home, registry: Registry, name: str) -> None:
    done = push(home, "-q", name)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{name}:latest\n", "")
    assert "latest" in registry.tags["app"]


def test_all_tags(home: Home, registry: Registry, name: str) -> None:
    for tag in ("1", "2"):
        home.engine.images.tag(IMAGE, f"{name}:{tag}")
    done = push(home, "-a", name)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == f"The push refers to repository [{name}]"
    ends = [line.partition(":")[0] for line in done.stdout.splitlines() if ": digest: sha256:" in line]
    assert ends == ["1", "2", "latest"]
    assert set(registry.tags["app"]) == {"1", "2", "latest"}
    assert len(set(registry.tags["app"].values())) == 1


def test_json_lines(home: Home, name: str) -> None:
    done = push(home, "--progress", "json", name)
    assert done.returncode == 0
    states = [json.loads(line)["state"] for line in done.stderr.splitlines()]
    assert [state for state, before in zip(states, [None, *states], strict=False) if state != before] == [
        "waiting",
        "compressing",
        "uploading",
        "ready",
    ]
    assert done.stdout.splitlines()[-1].startswith("latest: digest: sha256:")


def test_a_terminal_has_bars_on_stderr(home: Home, registry: Registry, name: str) -> None:
    done = push(home, "--progress", "tty", "--compression", "gzip", "--compression-level", "9", name)
    assert done.returncode == 0
    assert ": Pushed\n" in done.stderr
    assert "Pushed" not in done.stdout
    manifest = json.loads(registry.manifests["app"][registry.tags["app"]["latest"]][0])
    assert manifest["layers"][0]["mediaType"].endswith("tar+gzip")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("HOST/nothing",), "onggi: An image does not exist locally with the tag: HOST/nothing\n"),
        (("-a", "HOST/nothing"), "onggi: An image does not exist locally with the tag: HOST/nothing\n"),
        (("HOST/app:2",), "onggi: tag does not exist: HOST/app:2\n"),
        (("-a", "HOST/app:latest"), "onggi: tag can't be used with --all-tags/-a\n"),
        ((f"HOST/app@sha256:{'0' * 64}",), "onggi: cannot push a digest reference\n"),
        (("--platform", "linux/s390x", "HOST/app"), "does not provide the specified platform (linux/s390x)\n"),
        (("--compression", "xz", "HOST/app"), "onggi: unknown compression 'xz': there are gzip, zstd and none\n"),
        (("--compression-level", "3", "HOST/app"), "give gzip or zstd too\n"),
        (("--progress", "fancy", "HOST/app"), "onggi: invalid progress mode fancy: known are"),
        (("HOST/App",), "repository name (App) must be lowercase"),
    ],
)
def test_refusals(home: Home, registry: Registry, name: str, arguments: tuple[str, ...], says: str) -> None:
    assert name
    done = push(home, *(word.replace("HOST", registry.host) for word in arguments))
    assert done.returncode == 1
    assert says.replace("HOST", registry.host) in done.stderr
    assert not registry.tags


def test_who_may_not_push_is_told_to_log_in(home: Home, registry: Registry, name: str) -> None:
    registry.fault("POST", "uploads/", status(401))
    done = push(home, name)
    assert done.returncode == 1
    assert f"push access denied for {name}, repository does not exist or may require 'onggi login'" in done.stderr


def test_an_interrupt_ends_it_at_once(home: Home, registry: Registry, name: str) -> None:
    arrived, never = threading.Event(), threading.Event()

    def hold(call: Any) -> None:
        arrived.set()
        held(never)(call)

    registry.fault("PATCH", "uploads/", hold)
    registry.fault("PUT", "uploads/", hold)
    process = subprocess.Popen(
        home.words("push", name), env=home.environment(warm=False), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert arrived.wait(TIMEOUT_S)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130
    assert not registry.tags
    registry.heal()
    assert push(home, name).returncode == 0


def test_the_event_is_docker_s(home: Home, name: str) -> None:
    push(home, name)
    lines = home.ok("events", "--since", "0", "--until", "0s", "--filter", "event=push").splitlines()
    assert len(lines) == 1
    assert " image push " in lines[0]
    assert f"name={name}:latest" in lines[0]
