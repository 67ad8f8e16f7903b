"""Waiting for a container's end: its exit code is found even where the container is gone with it.

Who ends a container records it, clears its run directory and, for `--rm`, removes the row, all under the
container's lock. So under that lock one of three is there: a supervisor to listen to, its exit record, or
a row that says how it ended; what is held then outlives the rest.
"""

import msgspec

from onggi.base.errors import Conflict, FailedPrecondition, NotFound
from onggi.engine.context import Context
from onggi.engine.folding import Folding
from onggi.host.attach import Attachment
from onggi.host.clock import monotonic_s
from onggi.runtime.lifecycle import LIVE, State
from onggi.runtime.records import LOST_EXIT_CODE, ExitRecord
from onggi.store.containers import Container


class _Seen(msgspec.Struct, frozen=True):
    """What was there under the lock."""

    row: Container
    attachment: Attachment | None
    record: ExitRecord | None


def wait_end(context: Context, folding: Folding, id: str, *, timeout_s: float | None) -> int:
    """Wait until a container does not run; gives its exit code. Raises TimeoutError, and NotFound if it is not there.

    One that does not run ends the wait at once, as Docker's; of one that was never started the code is 0.
    """
    deadline = None if timeout_s is None else monotonic_s() + timeout_s

    def remaining() -> float | None:
        return None if deadline is None else max(0.0, deadline - monotonic_s())

    while True:
        seen = _look(context, folding, id, remaining())
        if seen.attachment is not None:
            with seen.attachment:
                end = seen.attachment.wait_end(remaining())
            if end is not None:
                return 128 + end[1] if end[1] else end[0]
        elif seen.record is not None and not seen.record.failed:
            return seen.record.status
        elif seen.row.state not in LIVE:
            return seen.row.exit_code
        # Its supervisor is gone without a word.
        folding.fold(id, wait=True)
        try:
            row = context.containers.get(id)
        except NotFound:
            return LOST_EXIT_CODE
        if row.state not in LIVE:
            return row.exit_code


def _look(context: Context, folding: Folding, id: str, timeout_s: float | None) -> _Seen:
    try:
        lock = context.containers.lock(id, timeout_s=timeout_s)
    except Conflict:
        raise TimeoutError from None
    with lock:
        row = context.containers.get(id)
        if row.state not in (*LIVE, State.CREATED):  # of one that runs, its starter may not have recorded it
            return _Seen(row, None, None)
        try:
            return _Seen(row, Attachment.connect(context.run_directory(id)), None)
        except FailedPrecondition:
            return _Seen(row, None, folding.exit_record(id))
