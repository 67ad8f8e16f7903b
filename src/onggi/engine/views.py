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
        lowers = context.layers.open_stack(layers, stack)
        if upper is not None:
            lowers.insert(0, files.open_directory(upper))
            stack.callback(files.close, lowers[0])
        view = open_merged(lowers, context.root.place("empty"))
        stack.callback(files.close, view)
        yield view
