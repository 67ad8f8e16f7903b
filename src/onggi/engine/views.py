"""Root file systems to look into that nobody runs: their layers merged, read-only and mounted nowhere."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from onggi.engine.context import Context
from onggi.host.mounts import open_merged


@contextmanager
def open_view(context: Context, layers: Sequence[str], *, upper: str | None = None) -> Iterator[int]:
    """Show `layers` (ids, lowest first) together, and above them what the upper directory `upper` has."""
    files = context.files
    with ExitStack() as stack:
        lowers: list[int] = []

        def keep(fd: int) -> int:
            stack.callback(files.close, fd)
            return fd

        if upper is not None:
            lowers.append(keep(files.open_directory(upper)))
        lowers.extend(keep(context.layers.open(layer)) for layer in reversed(layers))
        yield keep(open_merged(lowers, context.root.place("empty")))
