"""Fold containers the moment they end, while an onggid happens to be there.

Nothing depends on it: every command folds first. It only makes what `--rm` promised come
true at once.
"""

import logging
import os
import selectors
import threading
from typing import Final

from onggi.base.errors import NotFound, OnggiError
from onggi.engine.assemble import Engine
from onggi.host.attach import Attachment

_RETRY_S: Final = 0.05
_QUIET_S: Final = 5.0  # so long after the last command what it wrote is made to survive a power loss
_log: Final = logging.getLogger("onggid")


class Watcher:
    """One thread over a connection to each running container's supervisor."""

    def __init__(self, engine: Engine) -> None:
        """Watch the containers of this engine."""
        self._engine = engine
        self._selector = selectors.DefaultSelector()
        self._wake, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._watched: set[str] = set()
        self._ended: set[str] = set()
        self._unflushed = True

    def start(self) -> None:
        """Begin, and look for containers that run already."""
        threading.Thread(target=self._run, daemon=True, name="watcher").start()
        self.look()

    def look(self) -> None:
        """Look for containers that are not watched yet; returns at once."""
        try:
            os.write(self._waker, b".")
        except BlockingIOError:
            return

    def _run(self) -> None:
        while True:
            events = self._selector.select(_RETRY_S if self._ended else _QUIET_S if self._unflushed else None)
            if not events and not self._ended:
                self._flush()
            for key, _ in events:
                if key.fileobj == self._wake:
                    os.read(self._wake, 4096)
                    self._unflushed = True
                    self._find()
                else:
                    self._hear(key.fileobj, key.data)
            for id in list(self._ended):
                self._fold(id)

    def _flush(self) -> None:
        self._unflushed = False
        try:
            self._engine.system.flush()
        except OnggiError as error:
            _log.warning("flushing: %s", error)

    def _find(self) -> None:
        for container in self._engine.containers.recorded(("running", "paused")):
            if container.id in self._watched:
                continue
            try:
                attachment = self._engine.containers.connect_any(container.id)
            except OnggiError:
                self._ended.add(container.id)
                continue
            self._watched.add(container.id)
            self._selector.register(attachment, selectors.EVENT_READ, container.id)

    def _hear(self, attachment: object, id: str) -> None:
        assert isinstance(attachment, Attachment)
        if attachment.skip():
            return
        self._selector.unregister(attachment)
        attachment.close()
        self._watched.discard(id)
        self._ended.add(id)

    def _fold(self, id: str) -> None:
        try:
            if self._engine.containers.is_settled(id):
                self._ended.discard(id)
        except NotFound:
            self._ended.discard(id)
        except OnggiError as error:
            _log.warning("container %s: %s", id[:12], error)
            self._ended.discard(id)
