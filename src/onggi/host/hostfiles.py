"""What containers get a version of: the host's name, its /etc/hosts, its /etc/resolv.conf and where that leads."""

import os
from typing import Final

_MAX_BYTES: Final = 1 << 20


def read_host_name() -> str:
    """Give the host name of this process's uts namespace."""
    return os.uname().nodename


def read_host_file(path: str) -> str:
    """Read a small text of the host, following links; "" if it is not there or cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        return os.read(fd, _MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(fd)
