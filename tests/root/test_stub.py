"""The command as people start it: the stub, onggid, and what of the user's own surroundings holds in a container."""

import fcntl
import os
import pty
import resource
import select
import signal
import socket
import stat
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import pytest

from tests.containers import wait_for
from tests.homes import IMAGE, Home, command_of, install, is_alive, parent_of

RUN: Final = ("run", "--rm", "--network", "none", IMAGE)
OTHER_BUILD: Final = "fedcba9876543210"
TIMEOUT_S: Final = 30.0


class Terminal:
    """A command on a terminal of its own, as a shell would start it."""

    def __init__(
        self, home: Home, *arguments: str, rows: int = 24, columns: int = 80, under_shell: bool = False
    ) -> None:
        self.said = b""
        words = [os.fsdecode(word) for word in home.words(*arguments)]
        if under_shell:
            words = ["bash", "--norc", "-i"]
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(words[0], words, {**home.environment(), "PS1": "shell> ", "TERM": "dumb"})
        self.resize(rows, columns)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        os.close(self.fd)

    def resize(self, rows: int, columns: int) -> None:
        """Change the terminal's size."""
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def write(self, text: str) -> None:
        """Type something."""
        os.write(self.fd, text.encode())

    def read_until(self, text: str) -> str:
        """Read until this is there; gives all up to there and takes it away."""
        deadline = time.monotonic() + TIMEOUT_S
        while text.encode() not in self.said:
            assert time.monotonic() < deadline, (text, self.said)
            if select.select([self.fd], [], [], 0.5)[0]:
                try:
                    self.said += os.read(self.fd, 65536)
                except OSError:
                    raise AssertionError((text, self.said)) from None
        before, _, self.said = self.said.partition(text.encode())
        return before.decode(errors="replace")

    def wait(self) -> int:
        """Wait for the end; gives the exit code, minus the signal for one that was killed."""
        end = time.monotonic() + TIMEOUT_S
        while time.monotonic() < end:
            if select.select([self.fd], [], [], 0.02)[0]:
                with suppress(OSError):
                    self.said += os.read(self.fd, 65536)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
        raise AssertionError(("it does not end", self.said))

    def is_raw(self) -> bool:
        """Tell whether the terminal is in raw mode."""
        return not termios.tcgetattr(self.fd)[3] & termios.ICANON


@pytest.fixture(params=["warm", "cold"])
def warm(request: pytest.FixtureRequest, home: Home) -> bool:
    """Go through onggid, or in process."""
    if request.param == "warm":
        home.warm_up()
    return bool(request.param == "warm")


# -- surroundings ------------------------------------------------------------------------------------------


def test_working_directory(home: Home, warm: bool, tmp_path: Path) -> None:
    place = tmp_path / "p\udcffl ace"
    place.mkdir()
    (place / "file").write_text("here\n")
    assert home.ok("run", "--rm", "-v", "./file:/f", IMAGE, "cat", "/f", warm=warm, cwd=place) == "here\n"
    home.ok("run", "--rm", "--cidfile", "id", IMAGE, "true", warm=warm, cwd=place)
    assert len((place / "id").read_text()) == 64


def test_umask_is_not_the_callers_in_a_container(home: Home, warm: bool) -> None:
    for mask in (0o077, 0o000):
        script = "umask; touch /f; stat -c %a /f; stat -c %a /etc /tmp /dev/null"
        said = home.ok(*RUN, "sh", "-c", script, warm=warm, umask=mask)
        assert said.split() == ["0022", "644", "755", "1777", "666"]


def test_what_onggi_keeps_is_private_whatever_the_umask(home: Home, warm: bool) -> None:
    home.ok("run", "-d", IMAGE, "true", warm=warm, umask=0)
    for name in ("", "run", "run/containers", "containers", "snapshots", "blobs"):
        assert stat.S_IMODE((home.root / name).stat().st_mode) == 0o700, name
    assert stat.S_IMODE((home.root / "db.sqlite").stat().st_mode) & 0o077 == 0


def test_environment_is_the_callers_own(home: Home, warm: bool) -> None:
    home.ok("ps", warm=warm, env=home.environment(warm=warm, SECRET="first"))
    environment = home.environment(warm=warm, SECRET="second", HOME="/elsewhere")
    said = home.ok(
        "run", "--rm", "-e", "SECRET", "-e", "ABSENT", "-e", "X=$SECRET", IMAGE, "env", warm=warm, env=environment
    )
    variables = dict(line.split("=", 1) for line in said.splitlines())
    assert (variables["SECRET"], variables["HOME"], variables["X"]) == ("second", "/root", "$SECRET")
    assert "ABSENT" not in variables
    assert not [name for name in variables if name.startswith(("ONGGI", "PYTHON"))]


def test_a_lowered_hard_limit_holds_in_the_container(home: Home, warm: bool) -> None:
    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 100))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    assert home.ok(*RUN, "sh", "-c", "ulimit -Hn; ulimit -Hc", warm=warm, preexec_fn=lower).split() == ["100", "0"]
    free = int(home.ok(*RUN, "sh", "-c", "ulimit -Hn", warm=warm))
    assert free > 100


def test_nice_and_affinity_are_the_callers(home: Home, warm: bool) -> None:
    cpu = min(os.sched_getaffinity(0))

    def change() -> None:
        os.nice(7)
        os.sched_setaffinity(0, {cpu})

    said = home.ok(*RUN, "sh", "-c", "cut -d' ' -f19 /proc/self/stat; grep Cpus_allowed_list /proc/self/status",
                   warm=warm, preexec_fn=change)  # fmt: skip
    assert said.split() == [str(os.nice(0) + 7), "Cpus_allowed_list:", str(cpu)]


def test_standard_input_and_its_end(home: Home, warm: bool) -> None:
    text = "".join(f"line {number}\n" for number in range(20000))
    assert home.ok("run", "--rm", "-i", IMAGE, "cat", warm=warm, input=text) == text
    assert home.ok("run", "--rm", IMAGE, "cat", warm=warm, input="not passed on") == ""


def test_streams_stay_apart_and_exit_codes_come_through(home: Home, warm: bool) -> None:
    done = home.onggi(*RUN, "sh", "-c", "echo out; echo err >&2; exit 42", warm=warm)
    assert (done.returncode, done.stdout, done.stderr) == (42, "out\n", "err\n")
    assert home.onggi(*RUN, "sh", "-c", "sh -c 'kill -9 $$'; exit $?", warm=warm).returncode == 137
    done = home.onggi(*RUN, "no-such-thing", warm=warm)
    assert (done.returncode, done.stdout) == (127, "")
    assert "no-such-thing" in done.stderr
    assert home.onggi(*RUN, "/etc/passwd", warm=warm).returncode == 126
    assert home.onggi("run", "--no-such-flag", IMAGE, warm=warm).returncode == 125
    assert home.onggi("run", "not-here", warm=warm).returncode == 125
    assert home.engine.containers.list(every=True) == []


def test_arguments_that_are_no_utf8(home: Home, warm: bool) -> None:
    word = b"\xff\xfe-\x80 \n"
    said = home.onggi(*RUN, "printf", "%s", word, warm=warm).stdout
    assert os.fsencode(said) == word
    id = home.ok(
        "run", "-d", "--network", "none", "-e", b"V=\xfe", IMAGE, "sh", "-c", b"sleep 60 # \xff", warm=warm
    ).strip()
    assert id[:12] in home.ok("ps", warm=warm)
    assert "sleep 60" in home.ok("inspect", id, warm=warm)
    said = home.onggi("exec", id, "sh", "-c", b"printf '%s' $V \xfd", warm=warm).stdout
    assert os.fsencode(said) == b"\xfe\xfd"


def test_a_reader_that_leaves(home: Home, warm: bool) -> None:
    home.ok("run", "--name", "many", "--network", "none", IMAGE, "seq", "100000", warm=warm)
    for verb in (("logs", "many"), (*RUN, "seq", "200000")):
        with subprocess.Popen(
            home.words(*verb), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=home.environment(warm=warm)
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == b"1\n"
            process.stdout.close()
            assert process.wait(TIMEOUT_S) in (128 + signal.SIGPIPE, -signal.SIGPIPE)
            assert process.stderr.read() == b""
    wait_for(lambda: len(home.engine.containers.list(every=True)) == 1, "the end of the container that nobody reads")


def test_signals_are_passed_on(home: Home, warm: bool) -> None:
    script = "trap 'echo int; exit 5' INT; trap 'echo usr' USR1; echo ready; while :; do sleep 0.02; done"
    with subprocess.Popen(
        home.words("run", "--rm", "--network", "none", IMAGE, "sh", "-c", script),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=home.environment(warm=warm),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.readline() == b"usr\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == b"int\n"
        assert process.wait(TIMEOUT_S) == 5


# -- terminals -----------------------------------------------------------------------------------------------

IT: Final = ("run", "--rm", "-it", "--network", "none", IMAGE)


def test_control_c_goes_to_the_container(home: Home) -> None:
    home.warm_up()
    with Terminal(
        home, *IT, "sh", "-c", "trap 'echo caught; exit 3' INT; echo ready; while :; do sleep 0.02; done"
    ) as tty:
        tty.read_until("ready")
        assert tty.is_raw()
        tty.write("\x03")
        tty.read_until("caught")
        assert tty.wait() == 3
        assert not tty.is_raw()


def test_the_terminal_has_its_size_and_follows(home: Home) -> None:
    home.warm_up()
    script = "trap 'stty size' WINCH; stty size; while :; do sleep 0.02; done"
    with Terminal(home, *IT, "sh", "-c", script, rows=31, columns=97) as tty:
        tty.read_until("\n")
        wait_for(lambda: command_of(tty.pid) != [], "the stub")
        tty.resize(40, 123)
        tty.read_until("40 123")
        os.kill(tty.pid, signal.SIGTERM)
        tty.wait()


def test_control_z_and_fg(home: Home) -> None:
    """In raw mode ctrl-z is the container's; a stub that is stopped gives the terminal back, and takes it again."""
    home.warm_up()
    with Terminal(home, under_shell=True) as shell:
        shell.read_until("shell> ")
        words = " ".join(f"'{os.fsdecode(word)}'" for word in home.words(*IT, "sh", "-c", "echo up; cat"))
        shell.write(words + "\n")
        shell.read_until("\nup")
        stub = next(pid for pid in _children(shell.pid) if "-it" in command_of(pid))
        wait_for(shell.is_raw, "raw mode")
        os.kill(stub, signal.SIGTSTP)
        shell.read_until("Stopped")
        shell.read_until("shell> ")
        shell.write("echo $((40+2))\n")
        shell.read_until("\n42")
        shell.write("fg\n")
        wait_for(lambda: _state(stub) != "T" and shell.is_raw(), "the stub goes on")
        shell.write("typed\r")
        shell.read_until("typed")
        shell.write("\x04")
        shell.read_until("shell> ")
        assert not is_alive(stub)
        shell.write("exit\n")


def test_detach_and_attach(home: Home) -> None:
    home.warm_up()
    with Terminal(home, "run", "-it", "--name", "d", "--network", "none", IMAGE, "sh", "-c", "echo up; cat") as tty:
        tty.read_until("up")
        tty.write("\x10\x11")
        assert tty.wait() == 0
        assert not tty.is_raw()
    assert home.engine.containers.get("d").state == "running"
    with Terminal(home, "attach", "--detach-keys", "ctrl-x,x", "d") as tty:
        wait_for(tty.is_raw, "raw mode")
        tty.write("again\r")
        tty.read_until("again\r\nagain")
        tty.write("\x10\x11")  # goes to the container this time
        tty.write("\x18x")
        assert tty.wait() == 0
    assert home.engine.containers.get("d").state == "running"


def test_exec_on_a_terminal(home: Home) -> None:
    home.warm_up()
    home.ok("run", "-d", "--name", "e", "--network", "none", IMAGE, "sleep", "60")
    with Terminal(home, "exec", "-it", "e", "sh", "-c", "tty; stty size; read x; exit $x", rows=33, columns=66) as tty:
        tty.read_until("/dev/pts/")
        tty.read_until("33 66")
        tty.write("9\r")
        assert tty.wait() == 9
    refused = home.onggi("exec", "-it", "e", "true")
    assert "the input device is not a TTY" in refused.stderr


def test_onggid_killed_meanwhile_is_not_noticed(home: Home) -> None:
    home.warm_up()
    with Terminal(home, *IT, "sh", "-c", "echo up; cat; exit 6") as tty:
        tty.read_until("up")
        home.end_onggid()
        tty.write("still here\r")
        tty.read_until("still here\r\nstill here")
        tty.write("\x04")
        assert tty.wait() == 6
    wait_for(lambda: home.engine.containers.list(every=True) == [], "--rm holds without onggid")


# -- whom onggid serves, and how long --------------------------------------------------------------------------


def test_the_socket_is_private(home: Home) -> None:
    home.warm_up()
    seen = (home.run / "onggid").stat()
    assert (stat.S_ISSOCK(seen.st_mode), stat.S_IMODE(seen.st_mode)) == (True, 0o600)
    assert stat.S_IMODE(home.run.stat().st_mode) == 0o700


def test_a_second_onggid_gives_way(home: Home) -> None:
    first = home.warm_up()
    environment = home.environment()
    code = "from onggi.cli.onggid import main; main()"
    second = subprocess.run(
        [home.installed.python, "-I", "-c", code, home.root], env=environment, check=False, timeout=30
    )
    assert second.returncode == 0
    assert home.onggid() == first
    assert is_alive(first)


def test_an_onggid_that_nobody_can_reach_makes_room(home: Home) -> None:
    first = home.warm_up()
    (home.run / "onggid").unlink()
    wait_for(lambda: not is_alive(first), "the end of an onggid without its socket")
    assert home.warm_up() != first


def test_onggid_is_detached_and_clean(home: Home) -> None:
    pid = home.warm_up()
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert os.getsid(pid) == pid
    variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
    assert {variable.partition("=")[0] for variable in variables if variable} <= {
        "PATH",
        "LANG",
        "LC_CTYPE",
        "MALLOC_ARENA_MAX",
    }
    assert "Umask:\t0022" in Path(f"/proc/{pid}/status").read_text()
    cgroups = Path(f"/proc/{pid}/cgroup").read_text()
    assert f"{home.engine.cgroup_parent}/onggid" in cgroups


def test_a_host_whose_mounts_are_shared_sees_none_of_the_containers(home: Home) -> None:
    """As systemd makes them. `pivot_root` refuses a shared root, and what is mounted would come out."""
    words = [os.fsdecode(word) for word in home.words("run", "--rm", "--network", "none", IMAGE, "true")]
    script = 'mount --make-rshared / && cat /proc/self/mountinfo && "$@" && cat /proc/self/mountinfo >&2'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *words],
        capture_output=True, text=True, check=False, env=home.environment(warm=False), timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == done.stdout


@pytest.mark.parametrize("flags", [["--mount"], ["--net"], ["--uts", "--mount", "--net"], ["--cgroup"]], ids=" ".join)
def test_a_caller_in_other_namespaces_acts_there(home: Home, flags: Sequence[str], tmp_path: Path) -> None:
    home.warm_up()
    (tmp_path / "over").mkdir()
    (tmp_path / "over" / "file").write_text("seen only there")
    (tmp_path / "at").mkdir()
    mount = f"mount --bind {tmp_path}/over {tmp_path}/at &&" if "--mount" in flags else ""
    words = [os.fsdecode(word) for word in home.words("run", "--rm", "--network", "host",
             "-v", f"{tmp_path}/at:/at", IMAGE, "sh", "-c", "cat /at/file 2>/dev/null; ls /sys/class/net")]  # fmt: skip
    done = subprocess.run(
        ["unshare", *flags, "sh", "-c", f'{mount} exec "$@"', "sh", *words],
        capture_output=True, text=True, check=False, env=home.environment(), timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert ("seen only there" in done.stdout) == ("--mount" in flags)
    assert ("eth0" in done.stdout) == ("--net" not in flags and "eth0" in os.listdir("/sys/class/net"))


def test_a_caller_with_fewer_rights_plans_for_itself(home: Home) -> None:
    home.warm_up()
    words = [os.fsdecode(word) for word in home.words(*RUN, "grep", "CapBnd", "/proc/self/status")]
    done = subprocess.run(
        ["setpriv", "--bounding-set", "-net_bind_service", "--inh-caps", "-net_bind_service", *words],
        capture_output=True, text=True, check=False, env=home.environment(), timeout=60,
    )  # fmt: skip
    if done.returncode == 0:
        assert not int(done.stdout.split()[1], 16) & (1 << 10)
    else:
        assert done.stderr.startswith("onggi: ")


def test_another_build_makes_onggid_leave(home: Home, tmp_path: Path, launcher_of: Callable[[str], Path]) -> None:
    old = home.warm_up()
    home.ok("run", "-d", "--name", "through", "--network", "none", IMAGE, "sleep", "60")
    newer = install(tmp_path / "newer", launcher_of(OTHER_BUILD), OTHER_BUILD)
    home.installed = newer
    said = home.ok("ps", "--no-trunc")
    assert "through" in said
    wait_for(lambda: not is_alive(old), "the old onggid's end")
    new = home.warm_up()
    assert new != old
    assert home.ok("exec", "through", "echo", "hello") == "hello\n"
    home.ok("stop", "-t", "0", "through")
    assert home.ok("ps", "-aq") != ""


@pytest.fixture
def launcher_of(tmp_path: Path) -> Callable[[str], Path]:
    """Compile a launcher of another build."""
    from launcher import build

    def compile_it(build_id: str) -> Path:
        program = tmp_path / build_id
        with build.compiler() as cc:
            build.compile_launcher(cc, program, build=build_id, extra=())
        return program

    return compile_it


def test_a_deep_state_root(new_home: Callable[[str], Home], tmp_path: Path) -> None:
    deep = "/".join(["deep" * 10] * 5)
    (tmp_path / deep).parent.mkdir(parents=True)
    home = new_home(deep)
    assert len(str(home.run / "onggid")) > 108
    home.warm_up()
    assert home.ok(*RUN, "echo", "deep") == "deep\n"
    home.ok("run", "-d", "--name", "x", "--network", "none", IMAGE, "sleep", "60")
    assert home.ok("exec", "x", "echo", "in") == "in\n"


def test_a_broken_onggid_does_not_hang_anybody(home: Home) -> None:
    """A socket that nobody answers at, a file in its place: the command does it itself."""
    home.ok("ps", warm=False)
    place = home.run / "onggid"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        at = os.open(home.run, os.O_PATH)
        dead.bind(f"/proc/self/fd/{at}/onggid")
        os.close(at)
    assert home.ok(*RUN, "echo", "one", warm=True) == "one\n"
    home.end_onggid()
    with suppress(FileNotFoundError):
        place.unlink()
    place.write_text("no socket")
    assert home.ok(*RUN, "echo", "two", warm=True) == "two\n"


def test_many_at_once(home: Home) -> None:
    home.warm_up()
    processes = [
        subprocess.Popen(home.words(*RUN, "echo", str(number)), stdout=subprocess.PIPE, env=home.environment())
        for number in range(12)
    ]
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert said == [f"{number}\n".encode() for number in range(12)]
    assert {process.returncode for process in processes} == {0}
    wait_for(lambda: home.engine.containers.list(every=True) == [], "all are removed")
    home.calm()
    home.assert_consistent()


def _children(pid: int) -> Iterator[int]:
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError):
                if parent_of(int(entry)) == pid:
                    yield int(entry)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
