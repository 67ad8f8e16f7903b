"""Which commands an onggid serves, and how one is left warm for the next command."""

import os
import sys
from collections.abc import Sequence
from typing import Final

from onggi.base.errors import OnggiError
from onggi.engine.assemble import DEFAULT_RUN
from onggi.host.locks import probe_lock

_SERVED: Final = frozenset(
    {"run", "create", "start", "stop", "kill", "restart", "pause", "unpause", "rm", "ps", "logs", "exec", "attach",
     "inspect", "stats", "top", "port", "rename", "update", "images", "history", "container", "volume", "build"}
)  # fmt: skip
_WRITING: Final = frozenset({"load", "import", "commit", "image", "builder", "pull", "push"})
"""What is not served, but writes what an onggid flushes to disk when all is quiet."""

_ENVIRONMENT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    # A thread a command, and glibc would give each an arena of its own: memory never full and never free.
    "MALLOC_ARENA_MAX": "1",
}


def is_served(arguments: Sequence[str]) -> bool:
    """Tell whether an onggid runs this command line."""
    verb, following = _verb_of(arguments)
    return verb in _SERVED or (verb in ("image", "builder") and following == "build")


def leave_warm(arguments: list[str]) -> None:
    """Start an onggid for the next command, after one that it serves or whose writes it flushes, unless one runs."""
    root = _root_of(arguments)
    if os.geteuid() == 0 and _verb_of(arguments)[0] in _SERVED | _WRITING and not _has_onggid(root):
        _start_onggid(root)


def _has_onggid(root: str | None) -> bool:
    try:
        return probe_lock(f"{DEFAULT_RUN if root is None else f'{root}/run'}/onggid.lock")
    except OnggiError:
        return True  # nothing could be left there


def _root_of(arguments: list[str]) -> str | None:
    """Find --root where the stub finds it too: as the first argument."""
    if arguments[:1] == ["--root"] and len(arguments) > 1:
        return os.path.abspath(arguments[1])
    if arguments and arguments[0].startswith("--root="):
        return os.path.abspath(arguments[0].removeprefix("--root="))
    return None


def _verb_of(arguments: Sequence[str]) -> tuple[str, str]:
    """Give the first word that is no global flag, and the one after it."""
    words = iter(arguments)
    for word in words:
        if word == "--root":
            next(words, None)
        elif not word.startswith("-"):
            return word, next(words, "")
    return "", ""


def _start_onggid(root: str | None) -> None:
    """Start it; one that was faster wins."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-c", "from onggi.cli.onggid import main; main()", root or ""],
            _ENVIRONMENT,
            file_actions=[(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1, 2)],
            setsid=True,
        )
    finally:
        os.close(null)
