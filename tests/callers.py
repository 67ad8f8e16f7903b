"""A caller for tests of commands: it keeps what is printed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from onggi.cli.app import State, run_command
from onggi.cli.caller import Caller
from onggi.cli.main import cli


class FakeCaller:
    """A user in /here, with a terminal or without."""

    served = False

    def __init__(self, env: Mapping[str, str] | None = None, *, terminal: bool = False) -> None:
        """Keep what the user's surroundings are."""
        self.env: Mapping[str, str] = env or {}
        self.cwd, self.terminal, self.size = "/here", (terminal,) * 3, (0, 0)
        self.stdout = self.stderr = ""

    def out(self, text: str) -> None:
        """Keep it."""
        self.stdout += text

    def err(self, text: str) -> None:
        """Keep it."""
        self.stderr += text

    def only_in_process(self) -> None:
        """We are."""


class Commands:
    """Runs command lines of a user who has a home; `err` is what the last one said on stderr.

    `engine` is what they get as one; without it, nobody may ask.
    """

    def __init__(self, home: Path, engine: Any = None) -> None:
        """Use this home."""
        self.home, self.engine, self.err = home, engine, ""

    def run(self, *words: str, code: int = 0) -> str:
        """Run one command line, which ends with `code`; gives what it printed."""
        caller = FakeCaller({"HOME": str(self.home)})
        state = State(cast(Caller, caller), lambda _root: self.engine or pytest.fail("no engine is needed"))
        assert run_command(cli, list(words), state) == code, caller.stdout + caller.stderr
        self.err = caller.stderr
        return caller.stdout
