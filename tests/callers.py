"""A caller for tests of commands: it keeps what is printed."""

from collections.abc import Mapping


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
