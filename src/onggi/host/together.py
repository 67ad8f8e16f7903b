"""Several tasks at once in threads of one process, of which the first failure, or an interrupt, ends all."""

import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Final, TypeVar

from onggi.base.errors import Cancelled

_PATIENCE_S: Final = 2.0

Said = TypeVar("Said")
Task = Callable[[Callable[[Said], None]], None]
"""Does its work and says what the caller should hear, from whatever thread."""


def run_together(
    tasks: Sequence[Task[Said]], *, width: int, heard: Callable[[Said], None], stop: Callable[[], None]
) -> None:
    """Run tasks, at most `width` at once, in order; what they say is `heard` in the caller's thread.

    The first failure is raised after `stop` was called, which ends what the others wait
    for; an interrupt as Cancelled.
    """
    waiting: SimpleQueue[Task[Said]] = SimpleQueue()
    for task in tasks:
        waiting.put(task)
    news: SimpleQueue[tuple[Said] | BaseException | None] = SimpleQueue()
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            try:
                task = waiting.get_nowait()
            except Empty:
                return
            try:
                task(lambda said: news.put((said,)))
            except BaseException as error:
                news.put(error)
                return
            news.put(None)

    # Not an executor's: a process does not wait at its end for a server that says nothing.
    threads = [threading.Thread(target=work, name="task", daemon=True) for _ in range(min(width, len(tasks)))]
    left = len(tasks)
    try:
        for thread in threads:
            thread.start()
        while left:
            match news.get():
                case None:
                    left -= 1
                case BaseException() as error:
                    raise error
                case (said,):
                    heard(said)
    except KeyboardInterrupt:
        raise Cancelled("interrupted; what came to its end stays for the next time") from None
    finally:
        over.set()
        if left:
            stop()
        for thread in threads:
            if thread.ident is not None:
                thread.join(_PATIENCE_S)
