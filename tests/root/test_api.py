"""`import onggi`: the Python API as README shows it, from threads, and without anything left to the caller."""

import ast
import os
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

import onggi
from onggi import ContainerRequest, Engine, InvalidArgument, NotFound, OnggiError, Unavailable
from tests.containers import wait_for
from tests.homes import IMAGE, Home

SOURCES: Final = Path(__file__).parent.parent.parent
PRIVATE: Final = """
import functools, sys
import onggi
onggi.Engine = functools.partial(onggi.Engine, sys.argv[1])
exec(compile(sys.stdin.read(), "README.md", "exec"), {"__name__": "__main__"})
"""


def example(page: str) -> str:
    """Give the Python example of a page."""
    text = (SOURCES / page).read_text()
    (block,) = [part.partition("```")[0] for part in text.split("```python\n")[1:]]
    return block


def python(home: Home, code: str, *arguments: str, stdin: str = "") -> str:
    """Run code in the installed Python."""
    done = subprocess.run(
        [home.installed.python, "-I", "-W", "error", "-c", code, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("page", ["README.md", "README.ko.md"])
def test_the_example_of_the_readme(home: Home, page: str) -> None:
    code = example(page)
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    said = python(home, PRIVATE, str(home.root), stdin=code)
    assert said.startswith("stdout ")
    assert said.rstrip().endswith(" ended with 0")
    assert home.engine.containers.list(every=True) == []


def test_the_korean_readme_has_the_same_example() -> None:
    assert ast.dump(ast.parse(example("README.ko.md"))) == ast.dump(ast.parse(example("README.md")))


def test_exported_names() -> None:
    for name in onggi.__all__:
        assert getattr(onggi, name) is not None
    errors = [getattr(onggi, name) for name in onggi.__all__ if isinstance(getattr(onggi, name), type)]
    kinds = [kind for kind in errors if issubclass(kind, OnggiError)]
    assert len(kinds) >= 12  # the root, ten kinds, LaunchFailed
    assert sorted(onggi.__all__) == list(onggi.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        onggi.Nothing  # noqa: B018 - looking is the test
    assert (Path(onggi.__file__).parent / "py.typed").exists()


def test_importing_does_nothing_and_loads_little(home: Home) -> None:
    code = """
import os, sys
state = lambda: (os.getcwd(), os.listdir("/proc/self/fd"), os.listdir("/proc/self/task"), dict(os.environ))
import signal, threading
first = state(), [signal.getsignal(n) for n in range(1, 32)]
before = set(sys.modules)
import onggi
assert (state(), [signal.getsignal(n) for n in range(1, 32)]) == first
print(*sorted(set(sys.modules) - before))
"""
    loaded = python(home, code).split()
    assert [name for name in loaded if name.startswith("onggi")] == ["onggi"]
    assert len(loaded) < 20
    assert not {"msgspec", "os", "socket", "sqlite3", "threading"} & set(loaded)
    loaded = python(home, "import sys; from onggi import Engine; print(*sys.modules)").split()
    heavy = {
        "click",
        "rich",
        "asyncio",
        "urllib3",
        "onggi.cli",
        "onggi.build",
        "onggi.engine.builds",
        "onggi.engine.bootstrap",
    }
    assert not heavy & set(loaded)


def test_no_child_is_left_to_the_caller(home: Home) -> None:
    with home.start("sleep", "60") as container:
        container.exec(["true"])
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    with pytest.raises(NotFound):
        container.remove()


def test_a_caller_that_ignores_sigchld(home: Home) -> None:
    code = """
import signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
from onggi import ContainerRequest, Engine
with Engine(sys.argv[1]) as engine:
    request = ContainerRequest(network="none")
    with engine.containers.run(sys.argv[2], ["sh", "-c", "true & wait; exit 3"], request=request) as container:
        print(container.wait(), container.exec if False else "")
"""
    assert python(home, code, str(home.root), IMAGE).split() == ["3"]


def test_containers_go_on_without_their_engine(home: Home) -> None:
    with home.another() as engine:
        id = engine.containers.run(IMAGE, ["sleep", "60"], request=ContainerRequest(network="none")).id
    assert home.engine.containers.get(id).state == "running"


def test_logs_as_a_stream(home: Home) -> None:
    script = (
        "trap 'echo end >&2; printf rest; exit' USR1; for i in 1 2 3; do echo $i; done; while :; do sleep 0.02; done"
    )
    container = home.shell(script)
    lines = []
    for line in container.logs(stream=True):
        lines.append((line.stream, line.log))
        if line.log == "3\n":  # it comes as it is printed: the rest is only asked for now
            container.kill(signal=signal.SIGUSR1)
    assert [text for stream, text in lines if stream == "stdout"] == ["1\n", "2\n", "3\n", "rest"]
    assert [text for stream, text in lines if stream == "stderr"] == ["end\n"]
    assert [line.log for line in container.logs(tail=1)] == [lines[-1][1]]


def test_a_stream_may_be_left_early(home: Home) -> None:
    container = home.shell("while :; do echo x; sleep 0.01; done")
    for line in container.logs(stream=True):
        assert line.log == "x\n"
        break
    assert container.status == "running"


def test_exec_with_standard_input(home: Home) -> None:
    container = home.start("sleep", "60")
    data = os.urandom(1 << 20)
    done = container.exec(["cat"], stdin=data)
    assert (done.exit_code, done.stdout, done.stderr) == (0, data, b"")
    # A command that reads nothing, and one that says much before it reads.
    assert container.exec(["true"], stdin=data).exit_code == 0
    done = container.exec(["sh", "-c", "seq 100000; cat >/dev/null; echo done"], stdin=data)
    assert done.stdout.endswith(b"100000\ndone\n")
    assert container.exec(["cat"]).stdout == b""


def test_many_threads(home: Home) -> None:
    def life(number: int) -> tuple[int, str, bytes]:
        container = home.start("sh", "-c", f"echo {number}; sleep 60", name=f"t{number}")
        said = container.exec(["echo", "in", str(number)]).stdout
        wait_for(lambda: list(container.logs()), "its line")
        text = "".join(line.log for line in container.logs())
        container.kill()
        code = container.wait(timeout_s=30)
        container.remove()
        return code, text, said

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(life, range(16)))
    assert found == [(137, f"{number}\n", f"in {number}\n".encode()) for number in range(16)]
    assert home.engine.containers.list(every=True) == []
    home.assert_consistent()


def test_many_threads_wait_for_one(home: Home) -> None:
    container = home.shell("sleep 60")
    codes: list[int] = []
    threads = [threading.Thread(target=lambda: codes.append(container.wait(timeout_s=30))) for _ in range(8)]
    for thread in threads:
        thread.start()
    container.kill()
    for thread in threads:
        thread.join(30)
    assert codes == [137] * 8


def test_descriptors_do_not_pile_up(home: Home) -> None:
    def life() -> None:
        with home.start("sleep", "60") as container:
            container.exec(["true"], stdin=b"x")
            container.statistics()
            list(container.logs())

    life()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        life()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_handle_removes_its_container_on_an_exception_too(home: Home) -> None:
    container = home.start("sleep", "60")
    with pytest.raises(TimeoutError), container:
        container.wait(timeout_s=0)
    assert home.engine.containers.list(every=True) == []
    assert container.id.short in repr(container)


def test_mistakes_are_sentences(home: Home) -> None:
    engine = home.engine
    with pytest.raises(NotFound, match="nothing"):
        engine.containers.run("nothing", pull="never")
    with pytest.raises(Unavailable, match="onggi image bootstrap"):
        engine.containers.run("nothing")
    with pytest.raises(InvalidArgument):
        engine.containers.run("Not A Name")
    with pytest.raises(NotFound, match="No such container: none"):
        engine.containers.handle("none")
    with pytest.raises(OnggiError, match="network"):
        home.start("true", network="nowhere")
    assert engine.containers.list(every=True) == []


def test_a_root_that_is_no_directory(tmp_path: Path, home: Home) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OnggiError, match="file"):
        Engine(tmp_path / "file", launcher=home.launcher)


def test_without_root_it_says_so(home: Home) -> None:
    code = """
import os
from onggi import Engine, NotSupported
os.setresuid(65534, 65534, 65534)
try:
    Engine("/nowhere")
except NotSupported as error:
    print(error)
"""
    assert python(home, code).startswith("Onggi needs root in this version")


def test_the_end_of_one_that_removes_itself_is_heard(home: Home) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for number in range(5):
        container = home.shell(f"exit {number}", auto_remove=True)
        wait_for(lambda: home.engine.containers.list(every=True) == [], "its removal")
        assert [container.wait(timeout_s=20), container.wait()] == [number, number]
    container = home.start("sleep", "60", auto_remove=True)
    with pytest.raises(TimeoutError):
        container.wait(timeout_s=0)
    container.kill()
    assert container.wait() == 137
    del container
    assert len(os.listdir("/proc/self/fd")) <= before
