"""What the kernel said, as a sentence: object, step, cause, what to do about it."""

import errno
import os

from onggi.base.errors import (
    Conflict,
    Corrupt,
    FailedPrecondition,
    NotFound,
    OnggiError,
    PermissionDenied,
    Unavailable,
)


def explain_oserror(error: OSError, step: str, path: str) -> OnggiError:
    """Make the error of a file operation an error of ours; `step` reads as in `cannot {step} {path}`."""
    what = f"cannot {step} {path}"
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            over = "the disk quota is used up" if error.errno == errno.EDQUOT else "no space left on its file system"
            return Unavailable(f"{what}: {over}; free some (`onggi system prune` helps) or move the state with --root")
        case errno.EROFS:
            return FailedPrecondition(f"{what}: its file system is read-only; remount it read-write or use --root")
        case errno.EACCES | errno.EPERM:
            return PermissionDenied(f"{what}: {_words(error)}; run as its owner or as root, or use another --root")
        case errno.ENOENT:
            return NotFound(f"{what}: it is not there; `onggi system check` tells what else is missing")
        case errno.EEXIST | errno.ENOTEMPTY:
            return Conflict(f"{what}: something is there already; `onggi system check` tells what it is")
        case errno.EBUSY | errno.ETXTBSY | errno.EXDEV:
            return Conflict(f"{what}: it is in use (mounted, or run by a process); try again when it is not")
        case errno.ENOTDIR | errno.EISDIR | errno.ELOOP | errno.ENXIO:
            return FailedPrecondition(f"{what}: something else lies there ({_words(error)}); move it away")
        case errno.EIO | errno.EUCLEAN | errno.EBADMSG:
            return Corrupt(f"{what}: {_words(error)}; the disk or its file system is damaged, see `dmesg`")
        case errno.EMFILE | errno.ENFILE:
            return Unavailable(f"{what}: {_words(error)}; raise the limit (`ulimit -n`) or try again later")
        case _:
            return Unavailable(f"{what}: {_words(error)}")


def _words(error: OSError) -> str:
    text = os.strerror(error.errno) if error.errno else str(error)
    return text[:1].lower() + text[1:]
