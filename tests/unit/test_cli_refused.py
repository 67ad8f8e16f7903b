"""Flags and commands of Docker that are refused by name, and those that nobody knows."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import click
import pytest

from onggi.cli import app, refused
from onggi.cli.app import State, run_command
from onggi.cli.main import cli


class Listener:
    """A caller who only hears what is said."""

    def __init__(self) -> None:
        self.env: dict[str, str] = {}
        self.cwd = "/"
        self.said = ""

    def out(self, text: str) -> None:
        self.said += text

    def err(self, text: str) -> None:
        self.said += text

    def only_in_process(self) -> None:
        """It is."""


class NoEngine(Exception):
    """The command line was taken, and the engine is asked for."""


@pytest.fixture
def say() -> Callable[..., tuple[int | None, str]]:
    """Run a command line without an engine; gives the code and what was said."""

    def run(*words: str) -> tuple[int | None, str]:
        listener = Listener()

        def no_engine(_root: str | None) -> Any:
            raise NoEngine

        state = State(listener, no_engine)  # type: ignore[arg-type]
        code = run_command(cli, list(words), state)
        return code, listener.said

    return run


Say = Callable[..., tuple[int | None, str]]


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("run", "--restart", "always", "box"), 125, "--restart always: restart policies are not in this version"),
        (("run", "--restart=on-failure:3", "box"), 125, "--restart on-failure:3: restart policies"),
        (("container", "run", "--gpus", "all", "box"), 125, "--gpus all: GPUs are not in this version"),
        (("create", "--health-cmd", "true", "box"), 125, "--health-cmd true: health checks are not in this version"),
        (("run", "-d", "--link", "a:b", "box"), 125, "--link a:b: names in a network"),
        (("create", "-a", "stdin", "box"), 125, "--attach stdin: a container is attached when it is started"),
        (("start", "--checkpoint", "x", "box"), 125, "--checkpoint x: checkpoints"),
        (("update", "--restart", "always", "box"), 1, "--restart always: restart policies"),
        (("rm", "-l", "box"), 1, "--link: links between containers"),
        (("build", "--secret", "id=x", "."), 1, "--secret id=x: secrets and agents for build steps"),
        (("image", "build", "--push", "."), 1, "--push: `onggi push` sends an image that was built"),
        (("builder", "build", "-o", "x", "."), 1, "--output x: other outputs"),
        (("trust", "sign", "busybox"), 1, "trust: signatures by Notary are not in this version"),
        (("network", "create", "x"), 1, "network: networks of one's own are not in this version"),
        (("swarm", "init"), 1, "swarm: swarms are not in this version"),
    ],
)
def test_what_is_known_is_refused_by_name(say: Say, words: Sequence[str], code: int, text: str) -> None:
    assert say(*words)[0] == code
    assert say(*words)[1].startswith(f"onggi: {text}")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("run", "--foo", "box"), "onggi: unknown flag: --foo\nSee 'onggi run --help'.\n"),
        (("run", "--interactve", "box"), "onggi: unknown flag: --interactve; did you mean --interactive?\n"),
        (("run", "--restrt", "no", "box"), "onggi: unknown flag: --restrt; did you mean --restart?\n"),
        (("rm", "--foce", "box"), "onggi: unknown flag: --foce; did you mean --force?\n"),
        (("run", "-z", "box"), "onggi: unknown shorthand flag: -z\n"),
        (("update", "--network-alias", "x", "box"), "onggi: unknown flag: --network-alias\n"),
        (("run", "--memory"), "onggi: flag needs an argument: --memory\n"),
        (("run", "--restart"), "onggi: flag needs an argument: --restart\n"),
        (("sart", "box"), "onggi: 'sart' is not an onggi command; did you mean start?\n"),
        (("container", "nonsense"), "onggi: 'nonsense' is not an onggi container command\n"),
    ],
)
def test_what_is_not_known_is_said_as_docker_does(say: Say, words: Sequence[str], text: str) -> None:
    code, said = say(*words)
    assert code == 125
    assert said.startswith(text)


@pytest.mark.parametrize(
    "flags",
    [
        ("--restart", "no"),
        ("--userns", "host", "--volume-driver=local"),
        ("--disable-content-trust", "--no-healthcheck"),
    ],
)
@pytest.mark.parametrize("verb", ["run", "create"])
def test_what_is_so_anyway_is_taken(say: Say, verb: str, flags: Sequence[str]) -> None:
    """And the rest of the line is read as ever: flags before and behind, and the command's own."""
    with pytest.raises(NoEngine):
        say(verb, "--name", "a", *flags, "--network", "none", "box", "sh", "--restart", "always")
    code, said = say(verb, *flags, "--network", "bogus", "--bogus", "box")
    assert (code, said.splitlines()[0]) == (125, "onggi: unknown flag: --bogus")
    assert say(verb, *flags)[1].startswith("onggi: missing argument")


def test_a_platform_is_taken_if_it_is_this_machines(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    class Machine:
        machine = "x86_64"

    monkeypatch.setattr("os.uname", lambda: Machine)
    with pytest.raises(NoEngine):
        say("history", "--platform", "linux/amd64", "box")
    for other in ("linux/arm64", "windows/amd64", "nonsense/"):
        assert f"--platform {other}: this version" in say("history", "--platform", other, "box")[1]


def commands() -> dict[str, list[click.Command]]:
    """Give every command by its own name."""
    found: dict[str, list[click.Command]] = {}

    def walk(group: click.Group) -> None:
        for command in group.commands.values():
            if isinstance(command, click.Group):
                walk(command)
            else:
                found.setdefault(command.name or "", []).append(command)

    walk(cli)
    return found


def test_every_refused_flag_belongs_to_a_command_that_does_not_have_it() -> None:
    known = commands()
    for name in refused.FLAGS:
        assert name in known, f"{name} is no command"
        for command in known[name]:
            assert isinstance(command, app.Command)
            have = {flag for option in command.params for flag in option.opts}
            assert have.isdisjoint(refused.refused_names(name)), f"{name} has what it refuses"


def test_no_refused_command_is_there() -> None:
    cli.load()
    assert set(cli.commands).isdisjoint(refused.COMMANDS)


RUN: Final = """
add-host annotation attach blkio-weight blkio-weight-device cap-add cap-drop cgroup-parent cgroupns cidfile cpu-count
cpu-percent cpu-period cpu-quota cpu-rt-period cpu-rt-runtime cpu-shares cpus cpuset-cpus cpuset-mems detach
detach-keys device device-cgroup-rule device-read-bps device-read-iops device-write-bps device-write-iops
disable-content-trust dns dns-option dns-search domainname entrypoint env env-file expose gpus group-add health-cmd
health-interval health-retries health-start-interval health-start-period health-timeout help hostname init interactive
io-maxbandwidth io-maxiops ip ip6 ipc isolation kernel-memory label label-file link link-local-ip log-driver log-opt
mac-address memory memory-reservation memory-swap memory-swappiness mount name network network-alias no-healthcheck
oom-kill-disable oom-score-adj pid pids-limit platform privileged publish publish-all pull quiet read-only restart rm
runtime security-opt shm-size sig-proxy stop-signal stop-timeout storage-opt sysctl tmpfs tty ulimit use-api-socket
user userns uts volume volume-driver volumes-from workdir
"""
BUILD: Final = """
add-host allow annotation attest build-arg build-context builder cache-from cache-to call cgroup-parent check compress
cpu-period cpu-quota cpu-shares cpuset-cpus cpuset-mems disable-content-trust file force-rm iidfile isolation label
load memory memory-swap metadata-file network no-cache no-cache-filter output platform progress provenance pull push
quiet rm sbom secret security-opt shm-size squash ssh tag target ulimit
"""


@pytest.mark.parametrize(
    ("verb", "flags"),
    [
        ("run", RUN),
        ("create", RUN.replace(" detach\ndetach-keys", "").replace(" sig-proxy", "")),
        ("build", BUILD),
        ("exec", "detach detach-keys env env-file interactive privileged tty user workdir"),
        ("update", "blkio-weight cpu-period cpu-quota cpu-rt-period cpu-rt-runtime cpu-shares cpus cpuset-cpus "
                   "cpuset-mems memory memory-reservation memory-swap pids-limit restart"),
        ("start", "attach checkpoint checkpoint-dir detach-keys interactive"),
        ("commit", "author change message pause"),
        ("rm", "force link volumes"),
        ("attach", "detach-keys no-stdin sig-proxy"),
        ("import", "change message platform"),
        ("save", "output platform"),
        ("load", "input platform quiet"),
    ],
)  # fmt: skip
def test_every_flag_of_docker_is_there_or_refused(verb: str, flags: str) -> None:
    """As `docker VERB --help` of 28.2 lists them, and buildx's for `build`."""
    (command, *_) = commands()[verb]
    have = {flag for option in command.params for flag in option.opts} | set(refused.refused_names(verb))
    assert {f"--{name}" for name in flags.split()} - have == {"--help"} & {f"--{name}" for name in flags.split()}


@pytest.mark.parametrize(
    ("group", "verbs"),
    [
        ("container", "attach commit cp create diff exec export inspect kill list logs ls pause port prune ps rename "
                      "remove restart rm run start stats stop top unpause update wait"),
        ("image", "build history import inspect list load ls prune remove rm save tag"),
        ("volume", "create inspect list ls prune remove rm"),
        ("system", "df events info prune"),
        ("builder", "build prune"),
    ],
)  # fmt: skip
def test_management_forms_are_complete(group: str, verbs: str) -> None:
    """As `docker GROUP --help` of 28.2 lists them, but for registries."""
    cli.load()
    found = cli.commands[group]
    assert isinstance(found, click.Group)
    assert set(verbs.split()) <= set(found.commands)
    shared = set(verbs.split()) & set(cli.commands) - {"inspect", "rm"} if group in ("container", "image") else set()
    for verb in shared:
        assert found.commands[verb] is cli.commands[verb]
