"""What a build tells while it runs. One stream feeds the terminal, plain lines and JSON."""

from collections.abc import Callable

import msgspec


class StepStarted(msgspec.Struct, frozen=True, kw_only=True, tag="started"):
    """A step begins to run. `why` says what made it miss the cache, if it ran before."""

    step: str
    title: str
    at_ns: int
    why: str = ""


class StepCached(msgspec.Struct, frozen=True, kw_only=True, tag="cached"):
    """A step was found in the cache."""

    step: str
    title: str
    at_ns: int


class StepOutput(msgspec.Struct, frozen=True, kw_only=True, tag="output"):
    """A step printed something; `stream` is 1 or 2."""

    step: str
    stream: int
    data: bytes


class StepDone(msgspec.Struct, frozen=True, kw_only=True, tag="done"):
    """A step is over; with `error` it failed."""

    step: str
    title: str
    at_ns: int
    duration_ns: int
    error: str = ""


class Note(msgspec.Struct, frozen=True, kw_only=True, tag="note"):
    """A warning or a remark about the whole."""

    text: str


Event = StepStarted | StepCached | StepOutput | StepDone | Note
Tell = Callable[[Event], None]
