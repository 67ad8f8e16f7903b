"""Extended attributes: which ones belong to an image, and reading them.

An image keeps file capabilities and what users attach; everything else is of
the machine that made it (SELinux labels, ACLs with its ids, IMA signatures) or
steers overlayfs. `trusted.overlay.*` and `user.overlay.*` in a received layer
could bring deleted files back or point elsewhere (`kernel-facts`: redirect), so
they never go in or out. Docker and BuildKit write the capability only.
"""

import errno
import os
from typing import Final

CAPABILITY: Final = b"security.capability"
_NONE: Final[dict[bytes, bytes]] = {}
_UNSUPPORTED: Final = (errno.EOPNOTSUPP, errno.ENOSYS)


def belongs_to_image(name: bytes) -> bool:
    """Whether the attribute is kept when a tree becomes a layer, or a layer a tree."""
    return name == CAPABILITY or (name.startswith(b"user.") and not name.startswith(b"user.overlay."))


def read_xattrs(fd: int) -> dict[bytes, bytes]:
    """Read all attributes of an open file or directory, sorted by name.

    One that disappears meanwhile is left out; a file system without attributes has none.
    """
    try:
        names = os.listxattr(fd)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return _NONE
        raise
    if not names:
        return _NONE
    found: dict[bytes, bytes] = {}
    for name in sorted(map(os.fsencode, names)):
        try:
            found[name] = os.getxattr(fd, name)
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.EACCES, errno.EPERM, *_UNSUPPORTED):
                raise
    return found
