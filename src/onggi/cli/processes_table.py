"""`top`: the processes of a container in the columns of ps(1), which is not run for it."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from onggi.base.errors import InvalidArgument, NotSupported
from onggi.host.machine_info import MachineInfo
from onggi.host.proctable import TICKS, Process, user_name


class Moment(NamedTuple):
    """When the processes were looked at, and where; `now` is in the caller's zone."""

    now: datetime
    machine: MachineInfo

    def age_s(self, process: Process) -> float:
        """How long a process has run."""
        return max(self.now.timestamp() - self.machine.boot_s - process.started / TICKS, 0)


Show = Callable[[Process, Moment], str]


def _user(process: Process, _: Moment) -> str:
    name = user_name(process.uid)
    return name if len(name) <= 8 else f"{name[:7]}+"


def _share(process: Process, at: Moment) -> float:
    age = at.age_s(process)
    return 100 * process.used / TICKS / age if age else 0.0


def _started(process: Process, at: Moment) -> str:
    moment = datetime.fromtimestamp(at.machine.boot_s + process.started / TICKS, at.now.tzinfo)
    if moment.year != at.now.year:
        return moment.strftime("%Y")
    return moment.strftime("%H:%M" if moment.date() == at.now.date() else "%b%d")


def _clock(seconds: int) -> str:
    days, rest = divmod(seconds, 86400)
    text = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{text}" if days else text


def _elapsed(process: Process, at: Moment) -> str:
    return _clock(int(at.age_s(process))).removeprefix("00:")


def _used(process: Process, _: Moment) -> str:
    return _clock(process.used // TICKS)


def _used_short(process: Process, _: Moment) -> str:
    minutes, seconds = divmod(process.used // TICKS, 60)
    return f"{minutes}:{seconds:02}"


def _command(process: Process, _: Moment) -> str:
    text = " ".join(process.command) or f"[{process.name}]"
    return f"{text} <defunct>" if process.state == "Z" else text


def _memory_share(process: Process, at: Moment) -> str:
    return f"{100 * process.resident_bytes / at.machine.memory_bytes:.1f}"


def _state(process: Process, _: Moment) -> str:
    marks = ("<" if process.nice < 0 else "N" if process.nice > 0 else "") + (
        "s" if process.session == process.pid else ""
    )
    return process.state + marks + ("l" if process.threads > 1 else "")


_COLUMNS: Final[dict[str, tuple[str, Show]]] = {
    "uid": ("UID", lambda process, _: str(process.uid)),
    "user": ("USER", _user),
    "pid": ("PID", lambda process, _: str(process.pid)),
    "ppid": ("PPID", lambda process, _: str(process.parent)),
    "pgid": ("PGID", lambda process, _: str(process.group)),
    "sid": ("SID", lambda process, _: str(process.session)),
    "c": ("C", lambda process, at: str(min(int(_share(process, at)), 99))),
    "%cpu": ("%CPU", lambda process, at: f"{_share(process, at):.1f}"),
    "%mem": ("%MEM", _memory_share),
    "vsz": ("VSZ", lambda process, _: str(process.virtual_bytes >> 10)),
    "rss": ("RSS", lambda process, _: str(process.resident_bytes >> 10)),
    "tty": ("TT", lambda process, _: process.tty),
    "stat": ("STAT", _state),
    "state": ("S", lambda process, _: process.state),
    "stime": ("STIME", _started),
    "etime": ("ELAPSED", _elapsed),
    "time": ("TIME", _used),
    "ni": ("NI", lambda process, _: str(process.nice)),
    "nlwp": ("NLWP", lambda process, _: str(process.threads)),
    "comm": ("COMMAND", lambda process, _: process.name),
    "cmd": ("CMD", _command),
    "args": ("COMMAND", _command),
}
_OTHER_NAMES: Final = {
    "euser": "user", "euid": "uid", "tgid": "pid", "pgrp": "pgid", "sess": "sid", "session": "sid", "pcpu": "%cpu",
    "pmem": "%mem", "vsize": "vsz", "rssize": "rss", "rsz": "rss", "tt": "tty", "tname": "tty", "s": "state",
    "start_time": "stime", "cputime": "time", "nice": "ni", "thcount": "nlwp", "ucmd": "comm", "ucomm": "comm",
    "command": "args",
}  # fmt: skip
_FULL: Final = (
    ("UID", _user), *(_COLUMNS[name] for name in ("pid", "ppid", "c", "stime")), ("TTY", _COLUMNS["tty"][1]),
    *(_COLUMNS[name] for name in ("time", "cmd")),
)  # fmt: skip
_BY_USER: Final = (
    *(_COLUMNS[name] for name in ("user", "pid", "%cpu", "%mem", "vsz", "rss")), ("TTY", _COLUMNS["tty"][1]),
    _COLUMNS["stat"], ("START", _started), ("TIME", _used_short), _COLUMNS["args"],
)  # fmt: skip
_EVERY: Final = frozenset({"-e", "-A", "-ef", "-fe", "-f"})
_AUX: Final = frozenset({"aux", "-aux", "axu", "ax", "u"})


def choose_columns(options: Sequence[str]) -> Sequence[tuple[str, Show]]:
    """Understand the options of ps that are known here: `-ef`, `aux`, `-o FIELD[=HEADER],…`. Raises NotSupported."""
    chosen: list[tuple[str, Show]] = []
    plain: Sequence[tuple[str, Show]] = _FULL
    words = list(options)
    while words:
        word = words.pop(0)
        if word in ("-o", "-eo", "-Ao", "o") and words:
            chosen += _fields(words.pop(0))
        elif word.startswith("-o"):
            chosen += _fields(word[2:])
        elif word in _AUX:
            plain = _BY_USER
        elif word not in _EVERY:
            raise NotSupported(f"top: the option {word} of ps is not supported; known are -ef, aux and -o FIELD,…")
    if chosen and all(show is not _COLUMNS["pid"][1] for _, show in chosen):
        raise InvalidArgument("Couldn't find PID field in ps output")
    return chosen or plain


def _fields(text: str) -> list[tuple[str, Show]]:
    found = []
    for word in text.replace(" ", ",").split(","):
        name, equals, title = word.partition("=")
        name = name.lower()
        if (column := _COLUMNS.get(_OTHER_NAMES.get(name, name))) is None:
            raise NotSupported(f"top: the field {word} of ps is not supported; known are {', '.join(sorted(_COLUMNS))}")
        found.append((title if equals else column[0], column[1]))
    return found


def process_rows(processes: Sequence[Process], columns: Sequence[tuple[str, Show]], at: Moment) -> list[list[str]]:
    """Show processes."""
    return [[show(process, at) for _, show in columns] for process in processes]
