"""SOURCE_DATE_EPOCH for trees: no time later than a given second."""

import os

from .tree import OPEN_DIRECTORY, walk


def clamp_times(path: str, epoch: int) -> None:
    """Set every time beneath a directory, and its own, that is later than `epoch` to `epoch`."""
    limit = epoch * 1_000_000_000
    root = os.open(path, OPEN_DIRECTORY)
    try:
        for directory in walk(root):
            for name, _ in directory.files:
                seen = os.lstat(name, dir_fd=directory.fd)
                if seen.st_mtime_ns > limit:
                    os.utime(name, ns=(limit, limit), dir_fd=directory.fd, follow_symlinks=False)
            # Its own time changes with what is in it, so it comes after that; children are visited later,
            # but changing their times does not change ours.
            if os.fstat(directory.fd).st_mtime_ns > limit:
                os.utime(directory.fd, ns=(limit, limit))
    finally:
        os.close(root)
