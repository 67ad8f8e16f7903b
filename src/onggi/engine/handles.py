"""Containers as Python objects: what `engine.containers.run` gives."""

from collections.abc import Iterator, Sequence
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Self

import msgspec

from onggi.base.errors import NotFound
from onggi.base.ids import ContainerID
from onggi.engine.sessions import Session
from onggi.host.attach import STDERR, STDIN, STDOUT, Attachment
from onggi.host.cgroupfs import Statistics
from onggi.host.logs import LogLine
from onggi.spec.container import ResourceRequest

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from onggi.engine.containers import Containers
    from onggi.engine.copying import ContainerFiles


class ExecResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a command in a container printed, and its exit code (128 and the signal for a killed one)."""

    exit_code: int
    stdout: bytes
    stderr: bytes


class Handle:
    """One container. It does not keep it alive; as a context manager it removes it at the end."""

    def __init__(self, containers: "Containers", id: ContainerID, attachment: Attachment | None = None) -> None:
        """Stand for the container with this id.

        `attachment` is a connection from before its start: of one that removes itself, only this still
        hears how it ended.
        """
        self._containers, self.id = containers, id
        self._attachment = attachment
        self._code: int | None = None
        self._waiting = Lock()

    def __del__(self) -> None:
        """Close the connection."""
        if self._attachment is not None:
            self._attachment.close()

    def __repr__(self) -> str:
        """Show the short id."""
        return f"<container {self.id.short}>"

    def __enter__(self) -> Self:
        """Give the handle itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the container, running or not, and its anonymous volumes."""
        try:
            self.remove(force=True, volumes=True)
        except NotFound:
            return

    @property
    def name(self) -> str:
        """Its name now."""
        return self._containers.get(self.id).name or ""

    @property
    def status(self) -> str:
        """created, running, paused, exited or dead."""
        return self._containers.get(self.id).state

    def start(self) -> None:
        """Start it."""
        self._containers.start(self.id)

    def wait(self, *, timeout_s: float | None = None) -> int:
        """Wait for its end; gives the exit code. Raises TimeoutError."""
        if self._attachment is None:
            return self._containers.wait(self.id, timeout_s=timeout_s)
        if not self._waiting.acquire(timeout=-1 if timeout_s is None else timeout_s):
            raise TimeoutError
        try:
            if self._code is None:
                code, signal = self._attachment.wait_end(timeout_s) or (0, 9)
                self._code = 128 + signal if signal else code
            return self._code
        finally:
            self._waiting.release()

    def stop(self, *, timeout_s: int | None = None) -> None:
        """Ask it to end, and kill it after `timeout_s`."""
        self._containers.stop(self.id, timeout_s=timeout_s)

    def kill(self, *, signal: int = 9) -> None:
        """Send a signal to its first process."""
        self._containers.kill(self.id, number=signal)

    def pause(self) -> None:
        """Freeze it."""
        self._containers.pause(self.id)

    def unpause(self) -> None:
        """Let it go on."""
        self._containers.unpause(self.id)

    def remove(self, *, force: bool = False, volumes: bool = False) -> None:
        """Remove it, with `force` where it runs too; `volumes` takes its anonymous ones along."""
        self._containers.remove(self.id, force=force, volumes=volumes)

    def logs(self, *, stream: bool = False, tail: int | None = None) -> Iterator[LogLine]:
        """Give what it printed so far; with `stream` go on until it ends."""
        return self._containers.logs(self.id, follow=stream, tail=tail)

    def statistics(self) -> Statistics:
        """Read what it uses now."""
        return self._containers.statistics(self.id)

    def changes(self) -> Sequence[tuple[str, bytes]]:
        """List what it has changed about its image: (A added, C changed or D deleted, path)."""
        return self._containers.changes(self.id)

    def update(self, limits: ResourceRequest) -> Sequence[str]:
        """Change its limits; what `limits` does not say stays. Gives notes on what this host ignores."""
        return self._containers.update(self.id, limits)

    def files(self) -> "AbstractContextManager[ContainerFiles]":
        """Open its files, to look at and to copy in and out; it need not run."""
        return self._containers.files(self.id)

    def exec(
        self,
        command: Sequence[str],
        *,
        stdin: bytes = b"",
        env: Sequence[str] = (),
        user: str | None = None,
        workdir: str | None = None,
        privileged: bool = False,
    ) -> ExecResult:
        """Run a further command in it, with `stdin` as input; waits for its end. Raises LaunchFailed."""
        session = Session(
            command=tuple(command), env=tuple(env), user=user, workdir=workdir, stdin=bool(stdin), privileged=privileged
        )
        ours, theirs = Attachment.pair()
        with ours:
            with theirs:
                ours.join(STDOUT | STDERR | (STDIN if stdin else 0))
                self._containers.start_session(self.id, session, client=theirs.fileno())
            return _communicate(ours, stdin)


def _communicate(attachment: Attachment, stdin: bytes) -> ExecResult:
    """Feed stdin and collect output at once, so that neither waits for the other."""
    import threading

    def feed() -> None:
        attachment.feed(stdin)

    feeder = threading.Thread(target=feed, daemon=True) if stdin else None
    if feeder is not None:
        feeder.start()
    output: dict[int, list[bytes]] = {STDOUT: [], STDERR: []}
    for stream, data in attachment.output():
        output[stream].append(data)
    if feeder is not None:
        attachment.hang_up()  # it may be sending still, what nobody will read
        feeder.join()
    code, signal = attachment.end or (0, 9)
    return ExecResult(
        exit_code=128 + signal if signal else code, stdout=b"".join(output[STDOUT]), stderr=b"".join(output[STDERR])
    )
