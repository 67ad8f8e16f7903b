"""Where credentials are looked for and kept: the files of Docker and Podman, and helpers."""

import json
import os
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from onggi.base.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, Unavailable
from onggi.host import credential_helper
from onggi.host.credential_helper import erase_credential, get_credential, list_credentials, store_credential
from onggi.registry.credential_file import HUB_KEY, MAX_BYTES
from onggi.registry.credentials import Credentials
from onggi.spec.registry import Credential

ME = Credential(username="me", password="pw")
AUTH = "bWU6cHc="

TOY = (
    f"#!{sys.executable} -I"
    + """
import json, os, sys
kept_in = os.environ["TOY"]
kept = json.load(open(kept_in)) if os.path.exists(kept_in) else {}
given, verb = sys.stdin.read(), sys.argv[1]
with open(kept_in + ".log", "a") as log:
    print(json.dumps([sys.argv[1:], given, dict(os.environ)]), file=log)
missing = "credentials not found in native keychain"
if verb == "store":
    kept[json.loads(given)["ServerURL"]] = json.loads(given)
elif verb == "list":
    print(json.dumps({server: entry["Username"] for server, entry in kept.items()}))
elif given not in kept:
    sys.exit(print(missing) or 1)
elif verb == "get":
    print(json.dumps(kept[given]))
elif verb == "erase":
    del kept[given]
json.dump(kept, open(kept_in, "w"))
"""
)


class User:
    """A user with a home and a PATH of one's own."""

    def __init__(self, base: Path) -> None:
        self.home, self.bin = base / "home", base / "bin"
        self.home.mkdir()
        self.bin.mkdir()
        self.env = {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "XDG_RUNTIME_DIR": str(base / "run"),
            "TOY": str(base / "toy.json"),
        }
        self.kept = base / "toy.json"
        self.config = self.home / ".docker" / "config.json"

    def credentials(self, **env: str) -> Credentials:
        return Credentials({**self.env, **env}, home=str(self.home), uid=4_000_000)

    def write(self, path: Path, **document: Any) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document))
        return path

    def auth(self, path: Path, name: str) -> Path:
        """Write a file that knows quay.io by this name."""
        return self.write(path, auths={"quay.io": {"username": name, "password": "x"}})

    def helper(self, name: str, text: str = TOY) -> None:
        path = self.bin / f"docker-credential-{name}"
        path.write_text(text)
        path.chmod(0o755)

    def log(self) -> list[tuple[list[str], str, dict[str, str]]]:
        return [tuple(json.loads(line)) for line in Path(f"{self.kept}.log").read_text().splitlines()]


@pytest.fixture
def user(tmp_path: Path) -> User:
    return User(tmp_path)


# -- files -----------------------------------------------------------------------------------------


def test_nobody_is_known_anywhere(user: User) -> None:
    assert user.credentials().find("quay.io", "org/repo") is None
    assert user.credentials().erase("quay.io") is False
    assert os.listdir(user.home) == []


def test_files_are_searched_in_order(user: User, tmp_path: Path) -> None:
    places = [user.config, tmp_path / "run/containers/auth.json", user.home / ".config/containers/auth.json"]
    for number in reversed(range(3)):
        user.auth(places[number], f"user{number}")
        found = user.credentials().locate("quay.io")
        assert found is not None
        assert (found.credential.username, found.path) == (f"user{number}", str(places[number]))
    assert user.credentials().find("ghcr.io") is None


def test_the_environment_says_where_files_are(user: User, tmp_path: Path) -> None:
    user.auth(user.config, "home")
    user.auth(tmp_path / "run/containers/auth.json", "runtime")
    docker, chosen, xdg = str(tmp_path / "docker"), str(tmp_path / "chosen.json"), str(tmp_path / "xdg")

    def name(**env: str) -> str:
        found = user.credentials(**env).find("quay.io")
        return found.username if found else ""

    assert name(DOCKER_CONFIG=docker) == "runtime"
    assert name(DOCKER_CONFIG="") == "home"
    assert name(DOCKER_CONFIG=docker, REGISTRY_AUTH_FILE=chosen) == ""
    user.auth(Path(chosen), "chosen")
    assert name(DOCKER_CONFIG=docker, REGISTRY_AUTH_FILE=chosen) == "chosen"
    user.auth(Path(xdg) / "containers/auth.json", "xdg")
    assert name(DOCKER_CONFIG=docker, XDG_RUNTIME_DIR=xdg) == "xdg"
    assert name(DOCKER_CONFIG=docker, XDG_RUNTIME_DIR="", XDG_CONFIG_HOME=xdg) == "xdg"
    user.auth(Path(docker) / "config.json", "docker")
    assert name(DOCKER_CONFIG=docker, REGISTRY_AUTH_FILE=chosen) == "docker"


def test_without_a_runtime_directory_that_of_podman_is_looked_at(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    monkeypatch.setattr("onggi.registry.credentials.read_private", lambda path, _max: looked.append(path))
    del user.env["XDG_RUNTIME_DIR"]
    user.credentials().find("quay.io")
    assert "/run/containers/4000000/auth.json" in looked


def test_what_is_saved_is_private_and_found(user: User) -> None:
    before = os.umask(0)
    try:
        assert user.credentials().save("docker.io", ME) == str(user.config)
    finally:
        os.umask(before)
    assert json.loads(user.config.read_text()) == {"auths": {HUB_KEY: {"auth": AUTH}}}
    assert stat.S_IMODE(user.config.stat().st_mode) == 0o600
    assert stat.S_IMODE(user.config.parent.stat().st_mode) == 0o700
    assert os.listdir(user.config.parent) == ["config.json"]
    assert user.credentials().find("docker.io") == ME


def test_a_file_that_others_could_read_is_private_afterwards(user: User) -> None:
    user.write(user.config, auths={}).chmod(0o644)
    user.credentials().save("quay.io", ME)
    assert stat.S_IMODE(user.config.stat().st_mode) == 0o600


@pytest.mark.root
def test_its_owner_stays(user: User) -> None:
    user.write(user.config, auths={})
    os.chown(user.config, 1234, 2345)
    user.credentials().save("quay.io", ME)
    assert (user.config.stat().st_uid, user.config.stat().st_gid) == (1234, 2345)


def test_a_link_stays_a_link(user: User, tmp_path: Path) -> None:
    target = user.write(tmp_path / "dotfiles/docker.json", currentContext="x")
    user.config.parent.mkdir()
    user.config.symlink_to("../../dotfiles/docker.json")
    user.credentials().save("quay.io", ME)
    assert user.config.is_symlink()
    assert json.loads(target.read_text()) == {"currentContext": "x", "auths": {"quay.io": {"auth": AUTH}}}
    assert user.credentials().erase("quay.io") is True
    assert user.config.is_symlink()
    assert json.loads(target.read_text()) == {"currentContext": "x", "auths": {}}
    assert user.credentials().erase("quay.io") is False


def test_a_link_to_nothing_yet_is_followed(user: User, tmp_path: Path) -> None:
    user.config.parent.mkdir()
    user.config.symlink_to(tmp_path / "dotfiles/docker.json")
    user.credentials().save("quay.io", ME)
    assert user.config.is_symlink()
    assert (tmp_path / "dotfiles/docker.json").is_file()


def test_a_write_that_fails_leaves_the_file_and_nothing_else(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    user.auth(user.config, "me")
    before = user.config.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for call in ("fsync", "rename", "fchmod"):
        with monkeypatch.context() as broken:
            broken.setattr(os, call, full)
            with pytest.raises(Unavailable, match=rf"cannot write {user.config}: no space left"):
                user.credentials().save("quay.io", ME)
        assert user.config.read_bytes() == before
        assert os.listdir(user.config.parent) == ["config.json"]


def test_changes_at_once_lose_nothing(user: User) -> None:
    hosts = [f"host{number}.example" for number in range(12)]
    threads = [threading.Thread(target=user.credentials().save, args=(host, ME)) for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(json.loads(user.config.read_text())["auths"]) == sorted(hosts)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def large(path: Path) -> None:
    path.write_bytes(b" " * (MAX_BYTES + 1))


def loop(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (fifo, "it is not a regular file"),
        (endless, "it is not a regular file"),
        (Path.mkdir, "it is not a regular file"),
        (large, "it is larger than the 1048576 bytes"),
        (loop, "too many levels of symbolic links"),
        (lambda path: path.write_text('{"auths": {"quay.io": {"auth": "c2VjcmV0'), "not valid JSON"),
    ],
)
def test_what_cannot_be_a_configuration_is_refused_and_stays(
    user: User, make: Callable[[Path], None], problem: str
) -> None:
    user.config.parent.mkdir()
    make(user.config)
    for act in (
        lambda: user.credentials().find("quay.io"),
        lambda: user.credentials().save("quay.io", ME),
        lambda: user.credentials().erase("quay.io"),
    ):
        with pytest.raises((FailedPrecondition, InvalidArgument)) as raised:
            act()
        assert str(user.config) in str(raised.value)
        assert problem in str(raised.value)
        assert "c2Vj" not in str(raised.value)
    assert os.listdir(user.config.parent) == ["config.json"]


def test_a_home_that_is_a_file(user: User) -> None:
    (user.home / ".docker").write_text("")
    assert user.credentials().find("quay.io") is None
    with pytest.raises(FailedPrecondition, match=r"cannot write .*config\.json"):
        user.credentials().save("quay.io", ME)


@pytest.mark.parametrize(
    ("number", "kind"), [(1, PermissionDenied), (2, NotFound), (30, FailedPrecondition), (5, Unavailable)]
)
def test_what_the_kernel_says_has_a_kind(
    user: User, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "makedirs", fail)
    with pytest.raises(kind, match=r"^cannot write .*config\.json: "):
        user.credentials().save("quay.io", ME)


# -- helpers ---------------------------------------------------------------------------------------


def test_a_helper_keeps_what_the_file_would(user: User) -> None:
    user.helper("toy")
    user.write(user.config, credsStore="toy")
    credentials = user.credentials()
    assert credentials.find("docker.io") is None
    assert credentials.save("docker.io", ME) == ""
    assert json.loads(user.config.read_text()) == {"credsStore": "toy", "auths": {HUB_KEY: {}}}
    assert credentials.find("docker.io") == ME
    token = Credential(username="me", identity_token="t")
    credentials.save("quay.io", token)
    assert credentials.find("quay.io") == Credential(identity_token="t")
    assert json.loads(user.kept.read_text())["quay.io"] == {
        "ServerURL": "quay.io",
        "Username": "<token>",
        "Secret": "t",
    }
    assert list_credentials("toy", user.env) == {HUB_KEY: "me", "quay.io": "<token>"}
    assert credentials.erase("docker.io") is True
    assert credentials.erase("docker.io") is False
    assert credentials.find("docker.io") is None
    assert json.loads(user.config.read_text())["auths"] == {"quay.io": {}}


def test_a_registry_may_have_a_helper_or_none_of_its_own(user: User) -> None:
    user.helper("toy")
    user.write(user.config, credsStore="nonesuch", credHelpers={"quay.io": "toy", "plain.io": ""})
    assert user.credentials().save("quay.io", ME) == ""
    assert user.credentials().find("quay.io") == ME
    assert user.credentials().save("plain.io", ME) == str(user.config)
    assert user.credentials().find("plain.io") == ME
    with pytest.raises(FailedPrecondition, match="nonesuch"):
        user.credentials().find("other.io")


def test_what_a_helper_does_not_know_is_looked_for_in_the_next_file(user: User, tmp_path: Path) -> None:
    user.helper("toy")
    user.write(user.config, credsStore="toy", auths={"quay.io": {"auth": AUTH}})
    assert user.credentials().find("quay.io") is None
    user.auth(tmp_path / "run/containers/auth.json", "podman")
    found = user.credentials().find("quay.io")
    assert found is not None
    assert found.username == "podman"


def test_secrets_are_in_no_argument_and_no_environment(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONGGI", "the environment of this process is not that of the user")
    user.helper("toy")
    store_credential("toy", "quay.io", ME, user.env)
    get_credential("toy", "quay.io", user.env)
    list_credentials("toy", user.env)
    erase_credential("toy", "quay.io", user.env)
    assert [(words, given) for words, given, _ in user.log()] == [
        (["store"], '{"ServerURL":"quay.io","Username":"me","Secret":"pw"}\n'),
        (["get"], "quay.io"),
        (["list"], "unused"),
        (["erase"], "quay.io"),
    ]
    for _, _, env in user.log():
        assert user.env.items() <= env.items()
        assert "ONGGI" not in env
        assert "pw" not in env.values()


def test_a_helper_gets_no_descriptor_of_ours(user: User, tmp_path: Path) -> None:
    user.helper("look", "#!/bin/sh\nls /proc/self/fd > $TOY; echo '{}'\n")
    with open(tmp_path / "other", "w") as other:
        os.set_inheritable(other.fileno(), True)
        assert get_credential("look", "quay.io", user.env) is None
    assert len(user.kept.read_text().split()) == 4  # the three of stdio, and the directory that ls reads


@pytest.mark.parametrize("name", ["", "../toy", "a/b", ".toy", "a b", "a;b", "toy\n", "é", "a" * 101, "-x", "a\0b"])
def test_a_name_that_is_none_starts_nothing(user: User, name: str) -> None:
    with pytest.raises(InvalidArgument, match="is no name of a credential helper"):
        get_credential(name, "quay.io", user.env)


def test_a_helper_that_is_not_there(user: User) -> None:
    text = 'error getting credentials - err: exec: "docker-credential-toy": executable file not found in $PATH, out: ``'
    (user.bin / "docker-credential-toy").write_text(TOY)  # may not be executed
    for path in (str(user.bin), "", f":{user.bin}/none"):
        with pytest.raises(FailedPrecondition) as raised:
            get_credential("toy", "quay.io", {"PATH": path})
        assert str(raised.value).startswith(text)


def test_relative_directories_of_the_path_do_not_count(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    user.helper("toy")
    monkeypatch.chdir(user.bin)
    with pytest.raises(FailedPrecondition, match="not found"):
        get_credential("toy", "quay.io", {**user.env, "PATH": ".::bin"})


def test_a_helper_that_is_no_program(user: User) -> None:
    user.helper("toy", "\0")
    with pytest.raises(FailedPrecondition, match=r"exec: .*docker-credential-toy: Exec format error"):
        get_credential("toy", "quay.io", user.env)


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("echo it is locked; exit 3", "err: exit status 3, out: `it is locked`"),
        ("kill -9 $$", "err: killed by signal 9, out: ``"),
        ("printf 'a\\033[2Jb\\n'; exit 1", "out: `a [2Jb`"),
        ("""echo '{"Secret": "hidden"}'; exit 1""", "out: `***`"),
        ("exec yes", "it printed more than 1048576 bytes"),
        ("yes | head -c 100000; exit 1", "exit status 1"),
    ],
)
def test_a_helper_that_fails_is_said_as_docker_does(user: User, script: str, problem: str) -> None:
    user.helper("toy", f"#!/bin/sh\n{script}\n")
    with pytest.raises(FailedPrecondition) as raised:
        get_credential("toy", "quay.io", user.env)
    assert str(raised.value).startswith("error getting credentials - err: ")
    assert problem in str(raised.value)
    assert "hidden" not in str(raised.value)
    assert len(str(raised.value)) < 600


FAILING: Final[dict[str, Callable[[User], object]]] = {
    "storing": lambda user: store_credential("toy", "quay.io", ME, user.env),
    "erasing": lambda user: erase_credential("toy", "quay.io", user.env),
    "listing": lambda user: list_credentials("toy", user.env),
}


@pytest.mark.parametrize("verb", FAILING)
def test_each_verb_fails_by_its_name(user: User, verb: str) -> None:
    user.helper("toy", "#!/bin/sh\necho wrong; exit 1\n")
    with pytest.raises(FailedPrecondition, match=f"^error {verb} credentials - err: exit status 1, out: `wrong`"):
        FAILING[verb](user)


def test_a_helper_that_repeats_the_secret_is_not_repeated(user: User) -> None:
    user.helper("toy", "#!/bin/sh\necho cannot keep hunter2hunter2; exit 1\n")
    with pytest.raises(FailedPrecondition) as raised:
        store_credential("toy", "quay.io", Credential(username="me", password="hunter2hunter2"), user.env)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("output", ["hidden", '{"Username": 5, "Secret": "hidden"}', '["hidden"]', ""])
def test_an_answer_that_is_none(user: User, output: str) -> None:
    user.helper("toy", f"#!/bin/sh\ncat <<'END'\n{output}\nEND\n")
    with pytest.raises(Unavailable, match=r"^docker-credential-toy get: ") as raised:
        get_credential("toy", "quay.io", user.env)
    assert "hidden" not in str(raised.value)


def test_a_helper_that_does_not_end_is_ended(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credential_helper, "TIMEOUT_S", 0.3)
    for script in ("exec sleep 1000", "exec >&-; exec sleep 1000"):
        user.helper("toy", f"#!/bin/sh\necho $$ > $TOY; {script}\n")
        with pytest.raises(FailedPrecondition, match=r"it did not answer within 0\.3 seconds"):
            get_credential("toy", "quay.io", user.env)
        if user.kept.exists():  # it came as far as that
            assert not Path(f"/proc/{user.kept.read_text().strip()}").exists()


def test_a_password_that_is_no_text_is_refused(user: User) -> None:
    user.helper("toy")
    with pytest.raises(InvalidArgument, match="not UTF-8"):
        store_credential("toy", "quay.io", Credential(username="u", password="\udcff"), user.env)


def test_a_helper_that_fails_changes_no_file(user: User) -> None:
    user.helper("toy", "#!/bin/sh\nexit 1\n")
    user.write(user.config, credsStore="toy", auths={"quay.io": {}})
    before = user.config.read_bytes()
    for act in (lambda: user.credentials().save("quay.io", ME), lambda: user.credentials().erase("quay.io")):
        with pytest.raises(FailedPrecondition):
            act()
    assert user.config.read_bytes() == before
