"""A build's events for people and programs: live on a terminal, a line each elsewhere, JSON lines for tools."""

import re
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from onggi.build.events import Event, Note, StepCached, StepDone, StepOutput, StepStarted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_TAIL_LINES: Final = 6
_TIME_WIDTH: Final = 9
_CONTROL: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)


class Progress(Protocol):
    """Shows the events of one build."""

    def tell(self, event: Event) -> None:
        """Show one; called from several threads."""

    def finish(self) -> None:
        """The build is over."""


class PlainProgress:
    """As `docker build --progress plain`: steps are numbered as they come."""

    def __init__(self, write: Callable[[str], None]) -> None:
        """Write whole lines."""
        self._write = write
        self._numbers: dict[str, int] = {}
        self._rest: dict[tuple[str, int], bytes] = {}
        self._started: dict[str, int] = {}
        self._lock = threading.Lock()

    def tell(self, event: Event) -> None:
        """Show one event."""
        with self._lock:
            match event:
                case Note():
                    self._write(f"{event.text}\n")
                case StepCached():
                    number = self._number(event.step)
                    self._write(f"#{number} {event.title}\n#{number} CACHED\n\n")
                case StepStarted():
                    number = self._number(event.step)
                    self._started[event.step] = event.at_ns
                    why = f"#{number} (runs again: {event.why})\n" if event.why else ""
                    self._write(f"#{number} {event.title}\n{why}")
                case StepOutput():
                    self._output(event)
                case StepDone():
                    self._done(event)

    def finish(self) -> None:
        """Nothing is left to show."""

    def _number(self, step: str) -> int:
        return self._numbers.setdefault(step, len(self._numbers) + 1)

    def _output(self, event: StepOutput) -> None:
        key = (event.step, event.stream)
        *lines, rest = (self._rest.get(key, b"") + event.data).split(b"\n")
        self._rest[key] = rest
        since = (time.time_ns() - self._started.get(event.step, time.time_ns())) / 1e9
        for line in lines:
            self._write(f"#{self._number(event.step)} {since:.3f} {line.decode('utf-8', 'replace')}\n")

    def _done(self, event: StepDone) -> None:
        number = self._number(event.step)
        for stream in (2, 4):
            if rest := self._rest.pop((event.step, stream), b""):
                self._write(f"#{number} {rest.decode('utf-8', 'replace')}\n")
        if event.error:
            self._write(f"#{number} ERROR: {event.error.splitlines()[0]}\n\n")
        else:
            self._write(f"#{number} DONE {event.duration_ns / 1e9:.1f}s\n\n")


class JsonProgress:
    """One JSON object a line."""

    def __init__(self, write: Callable[[str], None]) -> None:
        """Write whole lines."""
        self._write = write
        self._lock = threading.Lock()

    def tell(self, event: Event) -> None:
        """Show one event."""
        with self._lock:
            self._write(msgspec.json.encode(event).decode() + "\n")

    def finish(self) -> None:
        """Nothing is left to show."""


class _Line(msgspec.Struct):
    title: str
    started_ns: int
    duration_ns: int | None = None
    cached: bool = False
    error: bool = False
    why: str = ""
    tail: list[str] = []


class TerminalProgress:
    """A line per step, those that run with their time and last output, redrawn in place."""

    def __init__(self, console: "Console | None" = None) -> None:
        """Begin to draw, on stderr unless a console is given."""
        from rich.console import Console
        from rich.live import Live

        self._lines: dict[str, _Line] = {}
        self._notes: list[str] = []
        self._lock = threading.Lock()
        self._started_ns = time.time_ns()
        self._console = console or Console(file=sys.stderr, highlight=False)
        self._live = Live(console=self._console, refresh_per_second=8, get_renderable=self._draw_last, transient=True)
        self._live.start()

    def tell(self, event: Event) -> None:
        """Take note of one event; the next redraw shows it."""
        with self._lock:
            match event:
                case Note():
                    self._notes.append(event.text)
                case StepCached():
                    self._lines[event.step] = _Line(
                        title=event.title, started_ns=event.at_ns, cached=True, duration_ns=0
                    )
                case StepStarted():
                    self._lines[event.step] = _Line(title=event.title, started_ns=event.at_ns, why=event.why)
                case StepOutput():
                    line = self._lines[event.step]
                    text = printable(event.data.decode("utf-8", "replace").replace("\r", "\n"))
                    line.tail = [*line.tail, *(part for part in text.split("\n") if part.strip())][-_TAIL_LINES:]
                case StepDone():
                    line = self._lines[event.step]
                    line.duration_ns, line.error = event.duration_ns, bool(event.error)

    def finish(self) -> None:
        """Leave the last picture on the screen."""
        self._live.stop()
        self._console.print(self._draw())

    def _draw_last(self) -> "Text":
        """Draw what fits on the screen, the newest at the bottom."""
        from rich.text import Text

        head, *rest = self._draw().split("\n")
        return Text("\n").join([head, *rest[-max(1, self._console.height - 2) :]])

    def _draw(self) -> "Text":
        from rich.text import Text

        with self._lock:
            lines, notes = list(self._lines.values()), list(self._notes)
        now = time.time_ns()
        done = sum(1 for line in lines if line.duration_ns is not None)
        text = Text(f"[+] Building {(now - self._started_ns) / 1e9:.1f}s ({done}/{len(lines)})", style="blue")
        for note in notes:
            text.append(f"\n {note}", style="yellow")
        width = max(1, self._console.width - _TIME_WIDTH)
        for line in lines:
            running = line.duration_ns is None
            spent = (now - line.started_ns if running else line.duration_ns or 0) / 1e9
            mark = "CACHED " if line.cached else "ERROR " if line.error else ""
            title = f" => {mark}{printable(line.title)}".replace("\n", " ")[:width]
            style = "red" if line.error else "default" if running else "blue"
            text.append(f"\n{title:<{width}}{spent:>{_TIME_WIDTH - 1}.1f}s", style=style)
            if line.why:
                text.append(f"\n => => runs again: {printable(line.why)}"[:width], style="dim")
            if running or line.error:
                for part in line.tail:
                    text.append(f"\n => => # {part}"[:width], style="dim")
        return text


def printable(text: str) -> str:
    """Take out what would move the cursor or change the terminal: what builds and registries say is not ours."""
    return _CONTROL.sub("", text).expandtabs()


def choose_progress(kind: str, *, terminal: bool, write: Callable[[str], None]) -> Progress:
    """Choose how to show: `auto` is `tty` on a terminal and `plain` elsewhere."""
    if kind == "json":
        return JsonProgress(write)
    if kind == "tty" or (kind == "auto" and terminal):
        return TerminalProgress()
    if kind == "quiet":
        return PlainProgress(lambda _text: None)
    return PlainProgress(write)
