"""The directories that a state root begins with."""

import contextlib
import os
import stat

from onggi.base.errors import PermissionDenied

from .oserrors import explain_oserror


def make_private_directory(path: str) -> None:
    """Make a directory of mode 0700, parents too; one that is there must be ours and closed to others.

    Raises PermissionDenied: a directory that somebody else can write to would let them steer containers.
    """
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        seen = os.lstat(path)
    except OSError as error:
        raise explain_oserror(error, "make the directory", path) from None
    if not stat.S_ISDIR(seen.st_mode):
        raise PermissionDenied(f"{path} is not a directory; move it away, or choose another --root")
    if seen.st_uid != os.geteuid() or seen.st_mode & 0o022:
        raise PermissionDenied(
            f"{path} belongs to uid {seen.st_uid} with mode {stat.S_IMODE(seen.st_mode):o}: others could change it; "
            "it must be ours, and writable by nobody else"
        )
