"""What a transfer tells while it runs. One stream feeds bars on a terminal, plain lines and JSON lines.

    pull   waiting → downloading → verifying → ready        or at once: here, shared
    push   waiting → (compressing →) uploading → ready      or at once: there, mounted, skipped

A state may come again with more bytes, or fewer: what was cut may have to begin again.
"""

import threading
from collections.abc import Callable
from enum import Enum

import msgspec


class State(Enum):
    """Where a blob is on its way."""

    WAITING = "waiting"
    COMPRESSING = "compressing"
    DOWNLOADING = "downloading"
    UPLOADING = "uploading"
    VERIFYING = "verifying"
    READY = "ready"
    HERE = "here"
    """Nothing was received: it was here before."""
    THERE = "there"
    """Nothing was sent: the repository had it before."""
    SHARED = "shared"
    """Nothing was received: `source`, an image that is here, has it too."""
    MOUNTED = "mounted"
    """Nothing was sent: the registry took it from the repository `source`."""
    SKIPPED = "skipped"
    """Nothing was sent: it is not for registries, its descriptor says where it is."""


class BlobProgress(msgspec.Struct, frozen=True, kw_only=True, tag="blob"):
    """Where one blob is: `bytes` of `total` are through, 0 of 0 where that says nothing.

    `blob` stays the same to the end: the blob's digest, in a push the DiffID of a layer
    whose blob may have to be made first.
    """

    blob: str
    state: State
    bytes: int = 0
    total: int = 0
    source: str = ""


class Note(msgspec.Struct, frozen=True, kw_only=True, tag="note"):
    """A warning or a remark about the whole."""

    text: str


Event = BlobProgress | Note
Tell = Callable[[Event], None]


def one_at_a_time(tell: Tell) -> Tell:
    """Let several threads tell, and the listener hear one after the other."""
    lock = threading.Lock()

    def told(event: Event) -> None:
        with lock:
            tell(event)

    return told
