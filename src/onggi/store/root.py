"""A state root: its directories, its database and its locks, as every part of the store gets them.

    db.sqlite                   records; *.lock: who may make or change the schema
    blobs/sha256/<hex>          content
    ingest/                     staged: blob-<hex> can be resumed, anything else has a random name
    layers/<id>/                received layers
    snapshots/<key>/fs, work-*  upper directories: of containers, and of the layers made from them
    containers/<id>/            what a container keeps outside its root file system
    volumes/<name>/_data        volumes
    manifests/<sha256>.json     manifest lists that are being made
    trash/                      renamed here, then unlinked
    downloads/<sha256>          indices and packages of distributions, verified; what is here is not fetched again
    locks/<area>                a LockTable per area: blobs layers snapshots containers ingest leases caches fillings;
                                locks/volumes and locks/manifests are one lock each
    empty/{0,1}                 the lowers of overlays that would have too few
    reserve                     a mebibyte that a full disk leaves for the work of emptying it

Whoever makes files for an object holds the object's lock until its row is committed,
or, where that is a matter of a directory or two, makes them inside the transaction
that writes the row. Whoever removes files without a row does it under that lock *and*
inside a write transaction: so nobody's half-made object is taken for litter.

Nothing here reads the environment or a clock: the assembler gives paths, the clock,
the maker of ids and the boot id.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from onggi.base.errors import InvalidArgument
from onggi.host.db import Database
from onggi.host.files import Files
from onggi.host.locks import Lock, LockTable

from .schema import MIGRATIONS

LOCK_TIMEOUT_S: Final = 30.0
MAX_ID_LENGTH: Final = 128
RESERVE_BYTES: Final = 1 << 20
_PLENTY: Final = 16
_AREAS: Final = ("blobs", "layers", "snapshots", "containers", "ingest", "leases", "caches", "fillings")
_DIRECTORIES: Final = (
    *("blobs", "blobs/sha256", "ingest", "layers", "snapshots", "containers", "volumes", "trash", "locks"),
    *("empty", "empty/0", "empty/1"),
)


class StateRoot:
    """What all parts of the store stand on."""

    def __init__(
        self,
        path: str,
        *,
        files: Files,
        clock_ns: Callable[[], int],
        new_id: Callable[[], str],
        boot_id: str,
    ) -> None:
        """Use the directory `path`, absolute; it and what belongs in it is made if missing.

        `clock_ns`: nanoseconds since the epoch. `new_id`: 64 random hex digits, a new
        one each time. `boot_id`: /proc/sys/kernel/random/boot_id.
        """
        if not path.startswith("/"):
            raise InvalidArgument(f"the state root must be an absolute path, got {path!r}")
        self.path = path.rstrip("/")
        self.files = files
        self.clock_ns = clock_ns
        self.new_id = new_id
        self.boot_id = boot_id
        self._locks = {area: LockTable(self.place("locks", area)) for area in _AREAS}
        self._make_directories()
        self.set_aside()
        self.db = Database(self.place("db.sqlite"), MIGRATIONS, about_to=files.about_to, make_room=self.make_room)

    def place(self, *parts: str) -> str:
        """Give the absolute path of something below the root."""
        return "/".join((self.path, *parts))

    def lock(
        self, area: str, name: str, what: str, *, shared: bool = False, timeout_s: float | None = LOCK_TIMEOUT_S
    ) -> Lock:
        """Lock one object; `what` names it in the sentence of the Conflict that a timeout raises."""
        return self._locks[area].take(name, what, shared=shared, timeout_s=timeout_s)

    def locks(self, area: str) -> LockTable:
        """Give the locks of one area, to probe or attempt."""
        return self._locks[area]

    @contextmanager
    def scratch(self, what: str) -> Iterator[str]:
        """Give the place of a new file or tree in ingest/ that lasts as long as the block.

        It is locked for so long: without its lock, as after kill -9, it is litter. `what` names it in errors.
        """
        name = self.new_id()
        with self.lock("ingest", name, what):
            place = self.place("ingest", name)
            try:
                yield place
            finally:
                self.discard(place)

    def discard(self, path: str) -> None:
        """Remove a file or tree: out of sight at once (on this file system), then unlinked; nothing there is fine."""
        if trashed := self.files.trash(path, self.place("trash")):
            self.files.remove_tree(trashed)

    def make_room(self) -> bool:
        """If the disk is full, give up what was set aside: removing needs a little space first.

        True if there is more space now.
        """
        reserve = self.place("reserve")
        if self.files.free_bytes(self.path) >= RESERVE_BYTES or self.files.look(reserve) is None:
            return False
        self.files.remove_tree(reserve)
        return True

    def set_aside(self) -> None:
        """Reserve space again, if it was given up and there is plenty by now."""
        reserve = self.place("reserve")
        if self.files.look(reserve) is not None or self.files.free_bytes(self.path) < _PLENTY * RESERVE_BYTES:
            return
        name = self.new_id()
        with self.lock("ingest", name, "the reserve"), self.files.stage(self.place("ingest", name)) as staged:
            staged.allocate(RESERVE_BYTES)
            staged.publish(reserve)

    def _make_directories(self) -> None:
        if self.files.look(self.place(_DIRECTORIES[-1])) is not None:  # the last one made
            return
        made = ""
        for part in self.path.split("/")[1:]:
            made += f"/{part}"
            if self.files.look(made) is None:
                self.files.make_directory(made)
        for directory in _DIRECTORIES:
            self.files.make_directory(self.place(directory), 0o755 if directory.startswith("empty/") else 0o700)


def is_hex_id(text: str) -> bool:
    """Tell whether `text` can be an id: lower-case hex, long enough to be a lock's name, short enough for a file's."""
    return 16 <= len(text) <= MAX_ID_LENGTH and not text.strip("0123456789abcdef")
