"""`login` and `logout`: what is asked, said and kept."""

import json
import os
import pty
import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from onggi.base.errors import InvalidArgument, OnggiError, Unauthorized, Unavailable
from onggi.cli.app import State, run_command
from onggi.cli.caller import Caller
from onggi.cli.main import cli
from onggi.cli.registry_login import log_in_user
from onggi.cli.warm import is_served
from onggi.registry.credential_file import HUB_KEY
from onggi.spec.registry import Credential
from tests.callers import FakeCaller

INSECURE = "WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n"


class Registries:
    """Registries that know one password each, and may give a token for it."""

    def __init__(self, **passwords: str) -> None:
        self.passwords = {name.replace("_", "."): password for name, password in passwords.items()}
        self.token = ""
        self.asked: list[tuple[str, Credential]] = []

    def check(self, host: str, credential: Credential) -> str:
        self.asked.append((host, credential))
        if host not in self.passwords:
            raise Unavailable(f"{host} does not answer")
        if credential.password != self.passwords[host]:
            raise Unauthorized(f"{host}: incorrect username or password")
        return self.token


class Session:
    """A user, and what is kept of them."""

    def __init__(self, home: Path) -> None:
        self.config = home / ".docker" / "config.json"
        self.env = {"HOME": str(home), "XDG_RUNTIME_DIR": f"{home}/run", "PATH": "/nowhere"}
        self.registries = Registries(quay_io="right", docker_io="right")

    def log_in(self, server: str = "quay.io", *words: str | None, terminal: bool = False, **options: Any) -> FakeCaller:
        caller = FakeCaller(self.env, terminal=terminal)
        assert log_in_user(cast(Caller, caller), self.registries, server, *words, **options) == 0
        return caller

    def refused(self, *words: str | None, terminal: bool = False, **options: Any) -> tuple[OnggiError, FakeCaller]:
        caller = FakeCaller(self.env, terminal=terminal)
        with pytest.raises(OnggiError) as raised:
            log_in_user(cast(Caller, caller), self.registries, "quay.io", *words, **options)
        return raised.value, caller

    def log_out(self, *words: str) -> FakeCaller:
        caller = FakeCaller(self.env)
        state = State(cast(Caller, caller), lambda _root: pytest.fail("no engine is needed"))
        assert run_command(cli, ["logout", *words], state) == 0
        return caller

    def kept(self) -> Any:
        return json.loads(self.config.read_text())["auths"]


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(tmp_path)


class Terminal:
    """A terminal as standard input, at which somebody types once what is awaited is asked."""

    def __init__(self) -> None:
        self._master, self._slave = pty.openpty()
        self._stdin = os.dup(0)
        os.dup2(self._slave, 0)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self._slave)[3] & termios.ECHO)

    def close(self) -> None:
        os.dup2(self._stdin, 0)
        for fd in (self._stdin, self._master, self._slave):
            os.close(fd)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


class Asked(FakeCaller):
    """A caller who answers a question as soon as it is asked."""

    def __init__(self, env: dict[str, str], terminal: Terminal, **answers: str) -> None:
        super().__init__(env, terminal=True)
        self._terminal, self._answers = terminal, answers
        self.echoed: dict[str, bool] = {}

    def out(self, text: str) -> None:
        super().out(text)
        word = text.partition(" ")[0].rstrip(":")
        if text.endswith(": "):
            self.echoed[word] = self._terminal.echoes()
            self._terminal.type(self._answers[word] + "\n")


def piped(text: str) -> Any:
    """Give standard input this text."""

    class Piped:
        def __enter__(self) -> None:
            reader, self.writer = os.pipe()
            self.stdin = os.dup(0)
            os.dup2(reader, 0)
            os.close(reader)
            self.thread = threading.Thread(target=self.write)
            self.thread.start()

        def write(self) -> None:
            with open(self.writer, "wb") as file:
                file.write(text.encode("utf-8", "surrogateescape"))

        def __exit__(self, *_: object) -> None:
            os.dup2(self.stdin, 0)
            os.close(self.stdin)
            self.thread.join()

    return Piped()


def test_a_password_on_the_command_line(session: Session) -> None:
    caller = session.log_in("https://quay.io/v1/", "me", "right")
    assert caller.stdout == "Login Succeeded\n"
    assert caller.stderr == INSECURE + (
        f"\nWARNING! Your credentials are stored unencrypted in '{session.config}'.\n"
        "Configure a credential helper to remove this warning. See\n"
        "https://docs.docker.com/go/credential-store/\n\n"
    )
    assert session.registries.asked == [("quay.io", Credential(username="me", password="right"))]
    assert session.kept() == {"quay.io": {"auth": "bWU6cmlnaHQ="}}


@pytest.mark.parametrize("server", ["", "docker.io", "index.docker.io", HUB_KEY])
def test_docker_hub_is_the_default(session: Session, server: str) -> None:
    session.log_in(server, "me", "right")
    assert list(session.kept()) == [HUB_KEY]
    assert session.registries.asked[0][0] == "docker.io"
    assert session.log_out(*([server] if server else [])).stdout == f"Removing login credentials for {HUB_KEY}\n"


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_password_from_a_pipe(session: Session, end: str) -> None:
    with piped(f"right{end}"):
        caller = session.log_in("quay.io", "me", password_stdin=True)
    assert INSECURE not in caller.stderr
    assert caller.stdout == "Login Succeeded\n"


@pytest.mark.parametrize(("text", "problem"), [("\n", "password is empty"), ("a" * 70_000, "more than 65536 bytes")])
def test_what_is_no_password_from_a_pipe(session: Session, text: str, problem: str) -> None:
    with piped(text):
        error, _ = session.refused("me", password_stdin=True)
    assert problem in str(error)
    assert "aaa" not in str(error)


@pytest.mark.parametrize(
    ("username", "password", "stdin", "problem"),
    [
        ("", "x", False, "username is empty"),
        ("me", "", False, "password is empty"),
        (None, None, True, "the --password-stdin option requires --username to be set"),
        ("me", "x", True, "conflicting options: cannot specify both --password and --password-stdin"),
        ("me", None, False, "Cannot perform an interactive login from a non TTY device"),
        (None, None, False, "Cannot perform an interactive login from a non TTY device"),
    ],
)
def test_flags_that_do_not_fit(
    session: Session, username: str | None, password: str | None, stdin: bool, problem: str
) -> None:
    error, _ = session.refused(username, password, password_stdin=stdin)
    assert isinstance(error, InvalidArgument)
    assert str(error) == problem
    assert not session.registries.asked


@pytest.mark.parametrize(
    "server", ["https://", "a b", "a:b", "-a", "[quay.io]", "me:pw@quay.io", "/x", "quay.io?x", "a\n", "ftp://x@y"]
)
def test_a_server_that_is_none(session: Session, server: str) -> None:
    with pytest.raises(InvalidArgument, match="is no registry") as raised:
        session.log_in(server, "me", "right")
    assert "pw" not in str(raised.value)
    assert not session.registries.asked


def test_what_the_registry_does_not_take_is_not_kept(session: Session) -> None:
    error, caller = session.refused("me", "wrong")
    assert isinstance(error, Unauthorized)
    assert (caller.stdout, caller.stderr) == ("", INSECURE)
    assert not session.config.exists()


def test_an_identity_token_takes_the_place_of_the_password(session: Session) -> None:
    session.registries.token = "token"
    assert session.log_in("quay.io", "me", "right").stderr == INSECURE
    assert session.kept() == {"quay.io": {"auth": "bWU6", "identitytoken": "token"}}


def test_what_is_kept_is_tried_first(session: Session) -> None:
    session.log_in("quay.io", "me", "right")
    caller = session.log_in()
    assert caller.stdout == "Login Succeeded\n"
    assert caller.stderr == (
        "Authenticating with existing credentials... [Username: me]\n\n"
        "Info: To login with a different account, run 'onggi logout' followed by 'onggi login'\n\n"
    )
    assert session.registries.asked[1] == session.registries.asked[0]
    session.registries.token = "token"
    session.log_in()
    assert session.kept() == {"quay.io": {"auth": "bWU6", "identitytoken": "token"}}


def test_what_is_kept_but_wrong_is_asked_for_again(session: Session, terminal: Terminal) -> None:
    session.log_in("quay.io", "me", "right")
    session.registries.passwords["quay.io"] = "newer"
    caller = Asked(session.env, terminal, Username="", Password="newer")
    log_in_user(cast(Caller, caller), session.registries, "quay.io")
    assert "Stored credentials invalid or expired\n" in caller.stderr
    assert caller.stdout == "Username (me): Password: \nLogin Succeeded\n"
    assert session.kept() == {"quay.io": {"auth": "bWU6bmV3ZXI="}}


def test_a_registry_that_does_not_answer_asks_for_no_password(session: Session) -> None:
    session.log_in("quay.io", "me", "right")
    session.registries.passwords.clear()
    error, caller = session.refused(terminal=True)
    assert isinstance(error, Unavailable)
    assert "Username" not in caller.stdout


def test_a_terminal_shows_the_name_and_not_the_password(session: Session, terminal: Terminal) -> None:
    caller = Asked(session.env, terminal, Username=" me ", Password="right")
    log_in_user(cast(Caller, caller), session.registries, "quay.io")
    assert caller.echoed == {"Username": True, "Password": False}
    assert terminal.echoes()
    assert caller.stdout == "Username: Password: \nLogin Succeeded\n"


def test_for_docker_hub_it_is_said_where_an_account_is_to_be_had(session: Session, terminal: Terminal) -> None:
    caller = Asked(session.env, terminal, Username="me", Password="right")
    log_in_user(cast(Caller, caller), session.registries, "")
    assert caller.stdout.startswith("Log in with your Docker ID or email address to push and pull images")


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ({"Username": ""}, "Non-null Username Required"),
        ({"Username": "me", "Password": ""}, "Password Required"),
    ],
)
def test_nothing_typed(session: Session, terminal: Terminal, answers: dict[str, str], problem: str) -> None:
    caller = Asked(session.env, terminal, **answers)
    with pytest.raises(InvalidArgument, match=problem):
        log_in_user(cast(Caller, caller), session.registries, "quay.io")
    assert terminal.echoes()


def test_echo_comes_back_when_the_user_gives_up(session: Session, terminal: Terminal) -> None:
    class GivesUp(Asked):
        def out(self, text: str) -> None:
            super().out(text)
            if text == "Password: ":
                raise KeyboardInterrupt

    caller = GivesUp(session.env, terminal, Username="me", Password="")
    with pytest.raises(KeyboardInterrupt):
        log_in_user(cast(Caller, caller), session.registries, "quay.io")
    assert terminal.echoes()


def test_logging_out(session: Session) -> None:
    assert session.log_out("quay.io").stdout == "Not logged in to quay.io\n"
    session.log_in("quay.io", "me", "right")
    session.log_in("", "me", "right")
    assert session.log_out("https://quay.io/v1/").stdout == "Removing login credentials for quay.io\n"
    assert list(session.kept()) == [HUB_KEY]
    assert session.log_out().stdout == f"Removing login credentials for {HUB_KEY}\n"
    assert session.log_out().stdout == f"Not logged in to {HUB_KEY}\n"


def test_what_podman_keeps_stays_and_is_told(session: Session, tmp_path: Path) -> None:
    other = tmp_path / "run/containers/auth.json"
    other.parent.mkdir(parents=True)
    other.write_text('{"auths": {"quay.io": {"auth": "bWU6cHc="}}}')
    before = other.read_bytes()
    caller = session.log_out("quay.io")
    assert caller.stdout == "Not logged in to quay.io\n"
    assert caller.stderr == (
        f"WARNING: {other} has credentials for quay.io too, which stay; `podman logout` removes them\n"
    )
    assert other.read_bytes() == before


@pytest.mark.parametrize("verb", ["login", "logout"])
def test_no_onggid_reads_the_files_of_its_users(verb: str) -> None:
    assert not is_served([verb])


def test_without_home_it_is_that_of_the_user_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    def entry(uid: int) -> pwd.struct_passwd:
        assert uid == os.geteuid()
        return pwd.struct_passwd(("me", "x", uid, uid, "", str(tmp_path), "/bin/sh"))

    monkeypatch.setattr(pwd, "getpwuid", entry)
    session = Session(tmp_path)
    del session.env["HOME"]
    session.log_in("quay.io", "me", "right")
    assert list(session.kept()) == ["quay.io"]
