"""Time that passes while we wait. What is recorded takes its clock as an argument instead."""

import time


def monotonic_s() -> float:
    """Seconds on a clock that only goes forward."""
    return time.monotonic()


def pause_s(seconds: float) -> None:
    """Wait."""
    time.sleep(seconds)
