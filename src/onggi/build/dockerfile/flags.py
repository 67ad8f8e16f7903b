"""The flags of instructions: which there are, and what they may say."""

from collections.abc import Mapping
from typing import Final, Literal

from .errors import Wrong
from .suggest import did_you_mean

Kind = Literal["text", "switch", "list"]

COPY_FLAGS: Final[Mapping[str, Kind]] = {
    "chmod": "text",
    "chown": "text",
    "exclude": "list",
    "from": "text",
    "link": "switch",
    "parents": "switch",
}
ADD_FLAGS: Final[Mapping[str, Kind]] = {
    "checksum": "text",
    "chmod": "text",
    "chown": "text",
    "exclude": "list",
    "keep-git-dir": "switch",
    "link": "switch",
    "unpack": "switch",
}
FROM_FLAGS: Final[Mapping[str, Kind]] = {"platform": "text"}
RUN_FLAGS: Final[Mapping[str, Kind]] = {"device": "list", "mount": "list", "network": "text", "security": "text"}
HEALTHCHECK_FLAGS: Final[Mapping[str, Kind]] = {
    "interval": "text",
    "retries": "text",
    "start-interval": "text",
    "start-period": "text",
    "timeout": "text",
}
NO_FLAGS: Final[Mapping[str, Kind]] = {}


class Flags:
    """The flags of one instruction, checked."""

    def __init__(self, words: tuple[str, ...], known: Mapping[str, Kind]) -> None:
        """Check the words. Raises Wrong with BuildKit's text."""
        self._values: dict[str, list[str]] = {}
        for word in words:
            name, equals, value = word[2:].partition("=")
            if name not in known:
                raise Wrong(did_you_mean(f"unknown flag: --{name}", name, sorted(known)))
            if name in self._values and known[name] != "list":
                raise Wrong(f"duplicate flag specified: --{name}")
            if known[name] == "switch":
                if (equals and not value) or value.lower() not in ("", "true", "false"):
                    raise Wrong(
                        f"expecting boolean value for flag --{name}, not: {value}"
                        if value
                        else f"missing a value on flag: --{name}"
                    )
                value = value.lower() or "true"
            elif not equals:
                raise Wrong(f"missing a value on flag: --{name}")
            self._values.setdefault(name, []).append(value)

    def text(self, name: str) -> str | None:
        """Give the value of a flag, None if it is empty or not there."""
        return self._values.get(name, [""])[0] or None

    def switch(self, name: str) -> bool | None:
        """Tell whether a switch is on or off; None if it is not there."""
        values = self._values.get(name)
        return None if values is None else values[0] == "true"

    def every(self, name: str) -> tuple[str, ...]:
        """Give all values of a flag that may stand more than once."""
        return tuple(self._values.get(name, ()))
