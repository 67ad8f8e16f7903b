"""What pulls and pushes tell, for people and programs: bars on a terminal, Docker's lines elsewhere, JSON lines."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Protocol

from onggi.base.errors import InvalidArgument
from onggi.base.units import human_size
from onggi.cli.caller import Caller
from onggi.cli.progress import printable
from onggi.registry.progress import BlobProgress, Event, Note, State
from onggi.spec.json import encode_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

MODES: Final = ("auto", "tty", "plain", "json", "quiet")
_BAR: Final = 30
_MIN_BAR: Final = 8
_SHORT: Final = 12

PULL: Final[Mapping[State, str]] = {
    State.WAITING: "Pulling fs layer",
    State.DOWNLOADING: "Downloading",
    State.VERIFYING: "Verifying Checksum",
    State.READY: "Pull complete",
    State.HERE: "Already exists",
    State.SHARED: "Already exists (shared with {source})",
}
PUSH: Final[Mapping[State, str]] = {
    State.WAITING: "Preparing",
    State.COMPRESSING: "Compressing",
    State.UPLOADING: "Pushing",
    State.READY: "Pushed",
    State.THERE: "Layer already exists",
    State.MOUNTED: "Mounted from {source}",
    State.SKIPPED: "Skipped foreign layer",
}
"""Docker's words."""


class Transfers(Protocol):
    """Shows the events of one pull or push."""

    def tell(self, event: Event) -> None:
        """Show one; called by one thread at a time."""

    def finish(self) -> None:
        """The transfer is over."""


class PlainTransfers:
    """A line for each state that a blob comes to, as Docker prints where no terminal is."""

    def __init__(self, write: Callable[[str], None], words: Mapping[State, str]) -> None:
        """Write whole lines."""
        self._write, self._words = write, words
        self._last: dict[str, State] = {}

    def tell(self, event: Event) -> None:
        """Show one event."""
        match event:
            case Note():
                self._write(f"{printable(event.text)}\n")
            case BlobProgress():
                if self._last.get(event.blob) != event.state:
                    self._last[event.blob] = event.state
                    self._write(f"{short(event.blob)}: {_said(event, self._words)}\n")

    def finish(self) -> None:
        """Nothing is left to show."""


class JsonTransfers:
    """One JSON object a line."""

    def __init__(self, write: Callable[[str], None]) -> None:
        """Write whole lines."""
        self._write = write

    def tell(self, event: Event) -> None:
        """Show one event."""
        self._write(encode_json(event).decode() + "\n")

    def finish(self) -> None:
        """Nothing is left to show."""


class QuietTransfers:
    """Shows nothing."""

    def tell(self, event: Event) -> None:
        """Drop it."""

    def finish(self) -> None:
        """Nothing is left to show."""


class TerminalTransfers:
    """A line for each blob with its bar and rate, redrawn in place."""

    def __init__(
        self,
        words: Mapping[State, str],
        console: "Console",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin to draw."""
        from rich.live import Live

        self._words, self._console, self._clock = words, console, clock
        self._blobs: dict[str, BlobProgress] = {}
        self._since: dict[tuple[str, State], tuple[float, int]] = {}
        self._notes: list[str] = []
        self._lock = threading.Lock()
        self._live = Live(console=console, refresh_per_second=8, get_renderable=self._draw_last, transient=True)
        self._live.start()

    def tell(self, event: Event) -> None:
        """Take note of one event; the next redraw shows it."""
        with self._lock:
            match event:
                case Note():
                    self._notes.append(printable(event.text))
                case BlobProgress():
                    self._blobs[event.blob] = event
                    self._since.setdefault((event.blob, event.state), (self._clock(), event.bytes))

    def finish(self) -> None:
        """Leave the last picture on the screen."""
        self._live.stop()
        if (picture := self._draw()).plain:
            self._console.print(picture)

    def _draw_last(self) -> "Text":
        """Draw what fits on the screen, the newest at the bottom."""
        from rich.text import Text

        return Text("\n").join(self._draw().split("\n")[-max(1, self._console.height - 1) :])

    def _draw(self) -> "Text":
        from rich.text import Text

        with self._lock:
            blobs, notes = list(self._blobs.values()), list(self._notes)
        lines = [Text(note, style="yellow") for note in notes]
        lines += [Text(self._line(blob), no_wrap=True) for blob in blobs]
        return Text("\n").join(lines)

    def _line(self, blob: BlobProgress) -> str:
        text = f"{short(blob.blob)}: {_said(blob, self._words)}"
        if blob.state in (State.DOWNLOADING, State.UPLOADING, State.COMPRESSING) and blob.total:
            started, before = self._since[blob.blob, blob.state]
            seconds = self._clock() - started
            rate = (
                f"  {human_size((blob.bytes - before) / seconds, 3)}/s" if seconds > 0 and blob.bytes > before else ""
            )
            counts = f"  {human_size(blob.bytes)}/{human_size(blob.total)}{rate}"
            text += _bar(blob.bytes, blob.total, self._console.width - len(text) - len(counts)) + counts
        return text[: max(1, self._console.width)]


def _bar(count: int, total: int, room: int) -> str:
    """Draw how far something is, in a line that has so much room: numbers say more than a short bar."""
    width = min(_BAR, room - 3)
    if width < _MIN_BAR:
        return ""
    done = min(width, width * count // total)
    return f" [{'=' * done}{'>' * (done < width)}{' ' * (width - done - 1)}]"


def short(blob: str) -> str:
    """Name a blob as Docker does: the first digits of its digest."""
    return blob.partition(":")[2][:_SHORT] or blob


def _said(event: BlobProgress, words: Mapping[State, str]) -> str:
    return words.get(event.state, event.state.value.capitalize()).format(source=printable(event.source))


def check_mode(mode: str) -> None:
    """Raise InvalidArgument for a `--progress` that is not known."""
    if mode not in MODES:
        raise InvalidArgument(f"invalid progress mode {mode}: known are {', '.join(MODES[:-1])} and {MODES[-1]}")


def choose_transfers(mode: str, words: Mapping[State, str], caller: Caller) -> Transfers:
    """Choose how to show: `auto` is `tty` where stderr is a terminal and `plain` elsewhere; `plain` is for stdout."""
    check_mode(mode)
    if mode == "quiet":
        return QuietTransfers()
    if mode == "json":
        return JsonTransfers(caller.err)
    if mode == "tty" or (mode == "auto" and caller.terminal[2]):
        import sys

        from rich.console import Console

        return TerminalTransfers(words, Console(file=sys.stderr, highlight=False))
    return PlainTransfers(caller.out, words)
