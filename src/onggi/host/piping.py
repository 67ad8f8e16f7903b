"""A pipe in one process: what one thread writes, another one reads."""

import fcntl
import io
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

_PIPE_BYTES: Final = 1 << 20

Written = TypeVar("Written")


def pour(write: Callable[[io.FileIO], Written], read: Callable[[io.FileIO], object]) -> Written:
    """Run `write` in a thread of its own and `read` at its other end; gives what `write` gave.

    Raises what either raised; of both, what came first.
    """
    source, sink = os.pipe2(os.O_CLOEXEC)
    with suppress(OSError):  # it is only faster
        fcntl.fcntl(sink, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    result: list[Written] = []
    failures: list[BaseException] = []

    def run() -> None:
        with io.FileIO(sink, "wb") as file:
            try:
                result.append(write(file))
            except BaseException as error:
                failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        with io.FileIO(source, "rb") as file:
            try:
                read(file)
                while file.read(_PIPE_BYTES):
                    pass
            except BaseException:
                # The writer's end is closed after its failure is noted, so this is what came first.
                if failures:
                    raise failures[0] from None
                raise
    finally:
        thread.join()
    if failures:
        raise failures[0]
    return result[0]
