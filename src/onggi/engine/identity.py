"""Who a container's process is: the image's passwd and group, read from layers that nobody runs.

The answer for an untouched container depends only on its layers, so it is remembered.
"""

from typing import Final

from onggi.base.errors import NotFound
from onggi.engine.context import Context
from onggi.engine.views import open_view
from onggi.host.tree import read_small
from onggi.spec.container import ContainerRequest
from onggi.spec.passwd import Identity, resolve_identity
from onggi.store.containers import Container

MAX_PASSWD_BYTES: Final = 1 << 20
_REMEMBERED: Final = 64

_known: dict[tuple[str, ...], tuple[str, str]] = {}


def find_identity(
    context: Context, container: Container | None, layers: tuple[str, ...], request: ContainerRequest, user: str
) -> Identity:
    """Resolve `user` (`name|uid[:group|gid]`, "" is root) over `layers`, lowest first, and what a container wrote.

    The container does not run, or does not exist (None). Raises NotFound.
    """
    passwd, group = _read_users(context, container, layers, request)
    return resolve_identity(user, request.groups, passwd=passwd, group=group)


def read_users_beneath(root: int) -> tuple[str, str]:
    """Read /etc/passwd and /etc/group beneath a directory's descriptor; "" for a file that is not there."""
    return _read(root, b"etc/passwd"), _read(root, b"etc/group")


def _read(root: int, path: bytes) -> str:
    try:
        return read_small(root, path, max_bytes=MAX_PASSWD_BYTES).decode("utf-8", "replace")
    except (NotFound, FileNotFoundError, NotADirectoryError):
        return ""


def _read_users(
    context: Context, container: Container | None, layers: tuple[str, ...], request: ContainerRequest
) -> tuple[str, str]:
    files = context.files
    if request.rootfs:
        fd = files.open_directory(request.rootfs)
        try:
            return read_users_beneath(fd)
        finally:
            files.close(fd)
    written = container is not None and container.snapshot is not None and container.started_ns > 0
    if not written and layers in _known:
        return _known[layers]
    upper = None
    if written and container is not None and container.snapshot is not None:
        upper = context.root.place("snapshots", container.snapshot, "fs")
    with open_view(context, layers, upper=upper) as view:
        users = read_users_beneath(view)
    if not written:
        if len(_known) >= _REMEMBERED:
            _known.clear()
        _known[layers] = users
    return users
