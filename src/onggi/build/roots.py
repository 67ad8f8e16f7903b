"""Root file systems as the steps of a build see them: views of layers, writable ones, contexts, and what is mounted."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final, Self

import msgspec

from onggi.base.errors import NotFound
from onggi.build.cachekey import hash_words
from onggi.build.dockerfile.mounts import BuildMount
from onggi.build.graph import Files, RunStep, WorkdirStep
from onggi.build.ignore import Ignore
from onggi.host.files import Files as HostFiles
from onggi.host.mounts import mount_overlay, open_merged
from onggi.host.selecting import (
    Count,
    Digests,
    choose,
    hash_item,
    hide,
    is_chosen,
    is_directory,
    make_parents,
    open_anything,
)
from onggi.host.tree import read_small
from onggi.spec.passwd import Identity, resolve_identity
from onggi.store.layers import Layers
from onggi.store.root import StateRoot
from onggi.store.snapshots import Held

_MAX_PASSWD_BYTES: Final = 1 << 20


class Context:
    """A tree to take files from: a directory's descriptor, what of it counts, and whether owners count."""

    def __init__(
        self,
        fd: int,
        *,
        ignore: Ignore | None = None,
        owners: bool = False,
        close: Callable[[], None] | None = None,
        count: Count | None = None,
    ) -> None:
        """Use `fd`; `close` is called at the end of a `with` block, `count` for every entry that is looked at."""
        self.fd, self.ignore, self.owners, self.count = fd, ignore, owners, count
        self._close = close

    def __enter__(self) -> Self:
        """Give the tree itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let a view go; a context stays."""
        if self._close is not None:
            self._close()

    def skips(self, path: bytes, is_directory: bool) -> bool:
        """Tell whether .dockerignore leaves a path out."""
        return self.ignore is not None and self.ignore.matches(path.decode("utf-8", "surrogateescape"), is_directory)

    def enters(self, path: bytes) -> bool:
        """Tell whether an exception of .dockerignore may let in something below a directory that it leaves out."""
        return self.ignore is not None and self.ignore.may_have_more(path.decode("utf-8", "surrogateescape"))

    def has(self, path: bytes, is_directory: bool) -> bool:
        """Tell whether a path that is there counts: not left out, or a directory with something in it that is not."""
        if not path or self.ignore is None:
            return True
        return is_chosen(self.fd, path, is_directory, skip=self.skips, enter=self.enters, count=self.count)

    def hash_all(self, path: str, digests: Digests) -> str:
        """Hash everything below a path, as a bind mount would show it."""
        words: list[bytes] = []
        for item in choose(self.fd, path.strip("/").encode(), skip=self.skips, enter=self.enters, count=self.count):
            words += [item.name, hash_item(self.fd, item, owners=self.owners, digests=digests)]
        return hash_words(words)


class OpenMount(msgspec.Struct, frozen=True, kw_only=True):
    """A mount of a RUN step, ready: the descriptor of what is bound, or a directory of the host; None for tmpfs."""

    mount: BuildMount
    fd: int | None = None
    path: str | None = None


class Roots:
    """Makes the trees of one build."""

    def __init__(self, root: StateRoot, layers: Layers, files: HostFiles, *, count: Count | None = None) -> None:
        """Work in this state root; `count` is for the views."""
        self._root, self._layers, self._files, self._count = root, layers, files, count
        self._mounted = threading.local()

    def view(self, layers: tuple[str, ...]) -> Context:
        """Open the merged files of layers (lowest first), read-only."""
        stack = ExitStack()
        with ExitStack() as building:
            fd = open_merged(self._layers.open_stack(layers, building), self._root.place("empty"))
            stack.callback(self._files.close, fd)
        return Context(fd, owners=True, close=stack.close, count=self._count)

    @contextmanager
    def writable(self, held: Held) -> Iterator[int]:
        """Mount a snapshot for writing; gives its root."""
        assert held.upper is not None, "build steps write"
        assert held.work is not None, "build steps write"
        fd = mount_overlay(held.lowers, held.upper, held.work)
        try:
            yield fd
        finally:
            self._files.close(fd)

    def make_workdir(self, root: int, step: WorkdirStep) -> None:
        """Make the directory of a WORKDIR, owned by the user of the time."""
        identity = find_user(root, step.user)
        make_parents(root, step.path.encode(), (identity.uid, identity.gid))

    # -- mounts ------------------------------------------------------------------------------------

    @contextmanager
    def mounts(self, step: RunStep, open_files: Callable[[Files], Context]) -> Iterator[None]:
        """Open what a RUN step mounts, for the runner to ask for by `open_mounts`."""
        with ExitStack() as stack:
            ready: list[OpenMount] = []
            for mount, files in step.mounts:
                match mount.type:
                    case "bind":
                        assert files is not None
                        ready.append(OpenMount(mount=mount, fd=self._bind(stack, mount, open_files(files))))
                    case "cache":
                        ready.append(OpenMount(mount=mount, path=self._cache(stack, mount)))
                    case _:
                        ready.append(OpenMount(mount=mount))
            self._mounted.ready = tuple(ready)
            try:
                yield
            finally:
                self._mounted.ready = ()

    def open_mounts(self) -> tuple[OpenMount, ...]:
        """Give the mounts of the step that this thread is in."""
        ready: tuple[OpenMount, ...] = getattr(self._mounted, "ready", ())
        return ready

    def _bind(self, stack: ExitStack, mount: BuildMount, source: Context) -> int:
        """Resolve a bind mount's source inside its tree; what is written to a writable one is thrown away."""
        tree = stack.enter_context(source)
        path = mount.source.strip("/").encode()
        fd = open_anything(tree.fd, path)
        stack.callback(self._files.close, fd)
        directory = is_directory(fd)
        if not tree.has(path, directory):
            raise NotFound(f'"/{mount.source.strip("/")}": not found; .dockerignore leaves it out')
        if not directory:
            return fd
        lowers = [fd]
        if tree.ignore is not None:
            lowers.insert(0, self._cover(stack, tree, path))
        if mount.readonly and len(lowers) == 1:
            return fd
        scratch = self._scratch(stack)
        if len(lowers) == 1:
            lowers.append(self._open(stack, self._root.place("empty", "0")))
        merged = mount_overlay(lowers, f"{scratch}/fs", f"{scratch}/work")
        stack.callback(self._files.close, merged)
        return merged

    def _cover(self, stack: ExitStack, tree: Context, path: bytes) -> int:
        """Make a layer of whiteouts over what .dockerignore leaves out."""
        cover = self._open(stack, f"{self._scratch(stack)}/fs")
        hide(tree.fd, path, cover, skip=tree.skips, enter=tree.enters)
        return cover

    def _open(self, stack: ExitStack, path: str) -> int:
        fd = self._files.open_directory(path)
        stack.callback(self._files.close, fd)
        return fd

    def _scratch(self, stack: ExitStack) -> str:
        place = stack.enter_context(self._root.scratch("what a build step writes into its mounts"))
        self._files.make_directory(place)
        self._files.make_directory(f"{place}/fs", 0o755)
        self._files.make_directory(f"{place}/work")
        return place

    def _cache(self, stack: ExitStack, mount: BuildMount) -> str:
        """Find the directory of a cache mount: shared, private to this build, or locked against others."""
        name = hash_words((mount.id or mount.target,))[:32]
        self._files.make_directory(self._root.place("caches"))
        place = self._root.place("caches", name)
        if mount.sharing == "locked":
            stack.enter_context(self._root.lock("caches", name, f"the cache mount {mount.target}", timeout_s=None))
        elif mount.sharing == "private":
            number = 0
            while (lock := self._root.locks("caches").attempt(f"{name}-{number}")) is None:
                number += 1
            stack.enter_context(lock)
            place = f"{place}-{number}" if number else place
        if self._files.make_directory(place, mount.mode) and (mount.uid or mount.gid):
            self._files.own(place, mount.uid, mount.gid)
        return place


def find_user(root: int, user: str) -> Identity:
    """Find out who `user` is by the passwd and group of a root file system. Raises NotFound."""
    return resolve_identity(user, (), passwd=_read(root, b"etc/passwd"), group=_read(root, b"etc/group"))


def find_owner(root: int, chown: str) -> tuple[int, int]:
    """Read --chown: a user without a group has its own, a bare number the group of the same number.

    A name that is nobody's is root's: BuildKit says nothing then.
    """
    user, colon, group = chown.partition(":")
    try:
        identity = find_user(root, user or "0")
        uid, gid = identity.uid, identity.gid
    except NotFound:
        uid = gid = 0
    if not colon and user.isdigit():
        return uid, uid
    if group:
        try:
            gid = find_user(root, f"0:{group}").gid
        except NotFound:
            gid = 0
    return uid, gid


def _read(root: int, path: bytes) -> str:
    try:
        return read_small(root, path, max_bytes=_MAX_PASSWD_BYTES).decode("utf-8", "replace")
    except NotFound:
        return ""
