"""What a build shows while it runs: on terminals of any size, and whatever its steps print."""

import io
import time
from typing import Any, cast

import click
from rich.console import Console

from onggi.base.errors import NotSupported
from onggi.build.events import Event, Note, StepCached, StepDone, StepOutput, StepStarted
from onggi.cli.app import State, run_command
from onggi.cli.progress import PlainProgress, TerminalProgress, printable
from onggi.cli.render import each
from tests.callers import FakeCaller


def drawn(*events: Event, width: int = 60, height: int = 25) -> list[str]:
    """Tell a terminal everything; gives the picture that is left."""
    screen = io.StringIO()
    progress = TerminalProgress(Console(file=screen, width=width, height=height, force_terminal=False))
    for event in events:
        progress.tell(event)
    progress.finish()
    return screen.getvalue().splitlines()


def started(step: str, title: str, why: str = "") -> StepStarted:
    return StepStarted(step=step, title=title, at_ns=time.time_ns(), why=why)


def test_a_line_for_each_step_with_its_time() -> None:
    head, *lines = drawn(
        Note(text="a warning"),
        StepCached(step="a", title="[2/4] COPY a /a", at_ns=0),
        started("b", "[3/4] RUN true", "the command changed"),
        StepDone(step="b", title="", duration_ns=1_500_000_000, at_ns=0),
    )
    assert head.startswith("[+] Building ")
    assert head.endswith("s (2/2)")
    assert lines == [
        " a warning",
        f"{' => CACHED [2/4] COPY a /a':<51}     0.0s",
        f"{' => [3/4] RUN true':<51}     1.5s",
        " => => runs again: the command changed",
    ]


def test_no_line_is_wider_than_the_terminal() -> None:
    output = StepOutput(step="a", data=b"x" * 500 + b"\n", stream=1)
    for width in (20, 60, 200):
        lines = drawn(started("a", "[2/2] RUN " + "y" * 300), output, width=width)
        assert max(map(len, lines)) <= width


def test_output_cannot_draw_on_the_terminal() -> None:
    data = b"\x1b[2J\x1b]0;title\x07red \x1b[31mhot\x1b[0m\x9b1A\ttab\x08\n"
    lines = drawn(started("a", "RUN echo \x1b[1A\n&& true"), StepOutput(step="a", data=data, stream=1))
    assert lines[1].startswith(" => RUN echo  && true ")
    assert lines[2] == " => => # red hot\ufffd1A      tab"
    assert printable("\x1b]8;;http://x\x1b\\link") == "link"
    assert printable("safe\u202etxt.exe\u2066") == "safetxt.exe"


def test_errors_cannot_draw_on_the_terminal() -> None:
    """Registries, archives and files of others put their words into them."""

    @click.command()
    def fail() -> None:
        raise NotSupported("layers of type \x1b[2J\x1b]0;title\x07x\x9b1A\r\nare not supported")

    caller = FakeCaller()
    state = State(cast("Any", caller), cast("Any", None))
    assert run_command(click.Group(commands={"fail": fail}), ["fail"], state) == 1
    assert each(state, ["a"], lambda _: fail.callback(), echo=False) == 1  # type: ignore[misc]
    assert caller.stderr == "onggi: layers of type x1A\nare not supported\n" * 2


def test_a_screen_that_is_too_low_shows_the_newest() -> None:
    screen = io.StringIO()
    progress = TerminalProgress(Console(file=screen, width=60, height=8, force_terminal=False))
    for number in range(20):
        progress.tell(StepCached(step=str(number), title=f"step {number}", at_ns=0))
    shown = progress._draw_last().plain.splitlines()
    progress.finish()
    assert len(shown) == 7
    assert "step 19" in shown[-1]
    assert len(screen.getvalue().splitlines()) == 21


def test_plain_lines_are_numbered_as_they_come() -> None:
    said: list[str] = []
    progress = PlainProgress(said.append)
    progress.tell(started("a", "[2/2] RUN x"))
    progress.tell(StepOutput(step="a", data=b"half", stream=1))
    progress.tell(StepOutput(step="a", data=b" a line\n", stream=1))
    progress.tell(StepDone(step="a", title="", duration_ns=100_000_000, at_ns=0))
    text = "".join(said)
    assert text.startswith("#1 [2/2] RUN x\n")
    assert "half a line\n" in text
    assert text.rstrip().endswith("#1 DONE 0.1s")
