"""Snapshots: what a root file system is mounted from. One engine mounts it; nothing is mounted here.

A snapshot is a stack of layers and, if it is `active`, an upper directory. Its life:

    prepare ──> hold ──> (overlay mounted, used, gone) ──> hold … ──> commit ──> a layer
       │                                                    └───────> remove
       └ or view: the same without an upper, read-only

*Exited* and *released* are two events. A second overlay over an upper that is still
mounted succeeds and is undefined (overlayfs.rst), so whoever mounts takes the
snapshot's lock exclusively, makes it shared, and every process that has a descriptor
of the mount keeps a copy of the lock's descriptor. Released means that the exclusive
lock can be had; hold, commit and remove wait for that.

    snapshots/<key>/fs             the upper; it stays here when it becomes a layer
    snapshots/<key>/work-<random>  made anew at each mount: a `volatile` one refuses to be used again
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final, Literal, Self

import msgspec

from onggi.base.errors import Conflict, FailedPrecondition, InvalidArgument, NotFound
from onggi.host.locks import Lock

from .layers import COLUMNS, DIRECTORY, Layer, Layers, layer_of
from .leases import Lease, protect
from .root import StateRoot, is_hex_id

Kind = Literal["view", "active"]

RELEASE_TIMEOUT_S: Final = 30.0
_FEWEST_LOWERS: Final = {"active": 1, "view": 2}  # below that the kernel refuses the overlay


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot that is recorded; `layers` are ids, lowest first. `volatile`: nobody will ask for it after a crash."""

    key: str
    kind: Kind
    volatile: bool
    layers: tuple[str, ...]
    created_ns: int


class Held:
    """All that an overlay is mounted from, and the shared lock that says so.

    lowers      descriptors, top first, enough for the kernel
    upper, work paths on one file system; None for a view
    lock        `lock.fd` goes to every process that gets a descriptor of the mount

    Closing it closes our copies; it is released when the last copy is gone.
    """

    __slots__ = ("_stack", "lock", "lowers", "snapshot", "upper", "work")

    def __init__(
        self,
        stack: ExitStack,
        snapshot: Snapshot,
        lock: Lock,
        lowers: tuple[int, ...],
        upper: str | None,
        work: str | None,
    ) -> None:
        """Own what `stack` closes."""
        self._stack = stack
        self.snapshot = snapshot
        self.lock = lock
        self.lowers = lowers
        self.upper = upper
        self.work = work

    def __enter__(self) -> Self:
        """Give what is held."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of our copies."""
        self.close()

    def close(self) -> None:
        """Close our copies of the descriptors and of the lock."""
        self._stack.close()


class Snapshots:
    """The snapshots of a state root."""

    def __init__(self, root: StateRoot, layers: Layers) -> None:
        """Keep them in this state root, over these layers."""
        self._root, self._layers = root, layers

    def prepare(
        self, key: str, layers: Sequence[str], *, volatile: bool = False, lease: Lease | None = None
    ) -> Snapshot:
        """Make a writable snapshot over `layers` (ids, lowest first); `key` is a new random id, e.g. a container's.

        Nothing refers to it yet: protect it by a `lease`, or create its container in the same transaction.
        """
        return self._make(key, "active", layers, volatile, lease)

    def view(self, key: str, layers: Sequence[str], *, lease: Lease | None = None) -> Snapshot:
        """Make a read-only snapshot over `layers` (ids, lowest first)."""
        return self._make(key, "view", layers, False, lease)

    def get(self, key: str) -> Snapshot:
        """Give one snapshot; raises NotFound."""
        return self._read(key)[0]

    def hold(self, key: str, *, timeout_s: float = RELEASE_TIMEOUT_S) -> Held:
        """Wait until it is released, then give what to mount it from. Raises Conflict if it stays in use.

        A view has nothing that a second mount could harm: several may hold it.
        """
        with ExitStack() as stack:
            lock = stack.enter_context(self._lock(key, timeout_s, shared=self.get(key).kind == "view"))
            snapshot, layers = self._read(key)
            upper = work = None
            if snapshot.kind == "active":
                upper, work = self._root.place("snapshots", key, "fs"), self._fresh_work(key)
            lowers = self._layers.open_stack(layers, stack)
            for number in range(_FEWEST_LOWERS[snapshot.kind] - len(lowers)):
                # The same one twice is an overlapping layer: ELOOP.
                lowers.append(self._root.files.open_directory(self._root.place("empty", str(number))))
                stack.callback(self._root.files.close, lowers[-1])
            lock.share()
            return Held(stack.pop_all(), snapshot, lock, tuple(lowers), upper, work)

    def share(self, key: str, *, timeout_s: float = RELEASE_TIMEOUT_S) -> Lock:
        """Keep it from being released while others mount it too; for who has a descriptor of such a mount."""
        return self._lock(key, timeout_s, shared=True)

    def is_released(self, key: str) -> bool:
        """Tell whether nobody mounts it; takes nothing."""
        return not self._root.locks("snapshots").probe(key)

    def wait_released(self, key: str, *, timeout_s: float = RELEASE_TIMEOUT_S) -> None:
        """Return when nobody mounts it any more. Raises Conflict."""
        self._lock(key, timeout_s).close()

    def commit(self, key: str, *, lease: Lease | None = None, timeout_s: float = RELEASE_TIMEOUT_S) -> Layer:
        """Make a layer of its upper directory, where it is; the snapshot is no more.

        The layer's id is `key`; its DiffID follows by `Layers.settle`. Protect it by a
        `lease` until something refers to it. Raises FailedPrecondition for a view and
        for a snapshot that a container still uses.
        """
        root = self._root
        with self._lock(key, timeout_s):
            with root.db.write() as db:
                snapshot = self._read(key)[0]
                if snapshot.kind != "active":
                    raise FailedPrecondition(f"snapshot {key[:12]} is a view: it has nothing to make a layer of")
                self._refuse_if_used(key)
                db.execute("DELETE FROM snapshots WHERE key = ?", (key,))
                db.execute("DELETE FROM lease_items WHERE kind = 'snapshot' AND key = ?", (key,))
                db.execute(
                    "INSERT INTO layers (id, form, place, size, created_ns, unsynced) VALUES (?, ?, ?, 0, ?, ?)",
                    (key, DIRECTORY, f"snapshots/{key}", root.clock_ns(), root.boot_id),
                )
                protect(db, lease, "layer", key)
            self._discard_work(key)
        return self._layers.get(key)

    def remove(
        self,
        key: str,
        *,
        timeout_s: float = RELEASE_TIMEOUT_S,
        durable: bool = False,
        first: Callable[[], None] | None = None,
    ) -> None:
        """Remove it when it is released; one that is not there is fine. Raises Conflict if it stays in use.

        `first` forgets what it belongs to, in the same transaction.
        """
        self._root.make_room()
        with self._lock(key, timeout_s):
            with self._root.db.write(durable=durable) as db:
                if first is not None:
                    first()
                if db.execute("SELECT 1 FROM layers WHERE place = ?", (f"snapshots/{key}",)).fetchone():
                    return  # it is a layer by now
                self._refuse_if_used(key)
                db.execute("DELETE FROM snapshots WHERE key = ?", (key,))
                db.execute("DELETE FROM lease_items WHERE kind = 'snapshot' AND key = ?", (key,))
            self._root.discard(self._root.place("snapshots", key))

    def _make(self, key: str, kind: Kind, layers: Sequence[str], volatile: bool, lease: Lease | None) -> Snapshot:
        root = self._root
        if not is_hex_id(key):
            raise InvalidArgument(f"{key!r} cannot name a snapshot: at least 16 hexadecimal digits")
        place = root.place("snapshots", key)
        made = False
        try:
            with root.db.write() as db:
                if db.execute(
                    "SELECT key FROM snapshots WHERE key = ? UNION ALL SELECT id FROM layers WHERE id = ?", (key, key)
                ).fetchone():
                    raise Conflict(f"snapshot {key[:12]} exists already; take a new id")
                created_ns = root.clock_ns()
                db.execute(
                    "INSERT INTO snapshots (key, kind, volatile, created_ns) VALUES (?, ?, ?, ?)",
                    (key, kind, volatile, created_ns),
                )
                for position, layer in enumerate(layers):
                    added = db.execute(
                        "INSERT INTO snapshot_layers (snapshot, position, layer) "
                        "SELECT ?, ?, id FROM layers WHERE id = ?",
                        (key, position, layer),
                    ).rowcount
                    if not added:
                        raise NotFound(f"layer {layer[:12]} is not here any more; try again")
                protect(db, lease, "snapshot", key)
                if kind == "active":
                    made = root.files.make_directory(place)
                    root.files.make_directory(f"{place}/fs", 0o755)
        except BaseException:
            if made:
                root.discard(place)
            raise
        return Snapshot(key=key, kind=kind, volatile=volatile, layers=tuple(layers), created_ns=created_ns)

    def _read(self, key: str) -> tuple[Snapshot, list[Layer]]:
        with self._root.db.read() as db:
            row = db.execute("SELECT kind, volatile, created_ns FROM snapshots WHERE key = ?", (key,)).fetchone()
            if row is None:
                raise NotFound(f"snapshot {key[:12]} is not here")
            layers = db.execute(
                f"SELECT {COLUMNS} FROM snapshot_layers JOIN layers ON id = layer WHERE snapshot = ? ORDER BY position",
                (key,),
            ).fetchall()
        found = [layer_of(layer) for layer in layers]
        kind, volatile, created_ns = row
        ids = tuple(layer.id for layer in found)
        return Snapshot(key=key, kind=kind, volatile=bool(volatile), layers=ids, created_ns=created_ns), found

    def _refuse_if_used(self, key: str) -> None:
        with self._root.db.read() as db:
            row = db.execute("SELECT id FROM containers WHERE snapshot = ?", (key,)).fetchone()
        if row is not None:
            raise FailedPrecondition(f"snapshot {key[:12]} belongs to container {row[0][:12]}; remove that first")

    def _fresh_work(self, key: str) -> str:
        self._discard_work(key)
        work = self._root.place("snapshots", key, f"work-{self._root.new_id()[:16]}")
        self._root.files.make_directory(work)
        return work

    def _discard_work(self, key: str) -> None:
        place = self._root.place("snapshots", key)
        for name in self._root.files.entries(place):
            if name.startswith("work-"):
                self._root.discard(f"{place}/{name}")

    def _lock(self, key: str, timeout_s: float, *, shared: bool = False) -> Lock:
        what = f"the root file system {key[:12]}"
        return self._root.lock("snapshots", key, what, shared=shared, timeout_s=timeout_s)
