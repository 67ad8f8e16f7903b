"""Layers: each kept as what it is, each opened as a descriptor that overlayfs takes as a lower.

A layer has an id of its own. A *received* one has a DiffID from the start and keeps
its verified tar, the blob of that digest: whatever form is made of it can be made
again. A *made* one is an upper directory that a snapshot left behind
(snapshots.py); its DiffID follows when its tar has been hashed, while the next step
already runs on it.

How a layer lies on disk is its `form`, one per layer. `LayerForm` is the seam:
tests/contracts/test_layer_forms.py is what every form has to pass.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import BinaryIO, Final, Protocol

import msgspec

from onggi.base.errors import Conflict, Corrupt, NotFound, NotSupported
from onggi.host.db import Connection
from onggi.host.files import Files
from onggi.host.locks import Lock
from onggi.spec.digest import ChainID, DiffID, Digest

from .content import Content
from .leases import Lease, protect
from .root import StateRoot

DIRECTORY: Final = "directory"

Unpack = Callable[[BinaryIO, int], int]
"""Read a tar into an empty directory (a descriptor), whiteouts as overlayfs has them; gives the files' bytes."""

TreeDiffID = Callable[[int], DiffID]
"""Hash the canonical tar of an upper directory (a descriptor)."""


class LayerForm(Protocol):
    """A way to keep a layer below a directory of its own, its *place* (an absolute path).

    Removing a layer is removing its place, whatever the form.
    """

    @property
    def name(self) -> str:
        """What the database calls it."""

    def make(self, tar: BinaryIO, place: str) -> int:
        """Fill the empty directory `place` from an uncompressed, verified tar; gives the size of its files in bytes."""

    def open(self, place: str) -> int:
        """Give a descriptor for `lowerdir+`: a directory or a detached mount. The caller closes it.

        Raises Corrupt if what `make` left is not there.
        """

    def fingerprint(self, place: str) -> str:
        """Hash all that the layer shows: the same for the same tar, another after any change. May be slow.

        Of a layer that was made here it is the DiffID.
        """


class DirectoryForm:
    """Plain files below `place/fs`: a received layer unpacked, or a snapshot's upper directory."""

    name = DIRECTORY

    def __init__(self, files: Files, unpack: Unpack, diff_id: TreeDiffID) -> None:
        """Write by `files` and `unpack`; `diff_id` is how trees are compared."""
        self._files, self._unpack, self._diff_id = files, unpack, diff_id

    def make(self, tar: BinaryIO, place: str) -> int:
        """Unpack."""
        tree = f"{place}/fs"
        self._files.make_directory(tree, 0o755)
        self._files.about_to("unpack", tree)
        directory = self._files.open_directory(tree)
        try:
            return self._unpack(tar, directory)
        finally:
            self._files.close(directory)

    def open(self, place: str) -> int:
        """Open the directory."""
        try:
            return self._files.open_directory(f"{place}/fs")
        except NotFound:
            raise Corrupt(
                f"the files of a layer are gone from {place}; `onggi system check --repair` takes stock"
            ) from None

    def fingerprint(self, place: str) -> str:
        """Hash the canonical tar of the tree."""
        directory = self.open(place)
        try:
            return self._diff_id(directory)
        finally:
            self._files.close(directory)


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """A layer that is recorded; `lost`: its files are gone, and only receiving it again brings them back."""

    id: str
    diff_id: DiffID | None
    chain: ChainID | None
    form: str
    place: str
    tar: Digest | None
    size_bytes: int
    created_ns: int
    unsynced: str | None
    lost: bool


COLUMNS: Final = "id, diff_id, chain, form, place, tar, size, created_ns, unsynced, lost"


class Layers:
    """The layers of a state root."""

    def __init__(self, root: StateRoot, content: Content, forms: Mapping[str, LayerForm], default_form: str) -> None:
        """Know these forms; received layers take `default_form` unless told otherwise."""
        self._root, self._content, self._forms, self._default_form = root, content, forms, default_form

    def get(self, id: str) -> Layer:
        """Give one layer; raises NotFound."""
        with self._root.db.read() as db:
            row = db.execute(f"SELECT {COLUMNS} FROM layers WHERE id = ?", (id,)).fetchone()
        if row is None:
            raise NotFound(f"layer {id[:12]} is not here")
        return layer_of(row)

    def find(self, diff_id: DiffID, chain: ChainID | None = None, *, lease: Lease | None = None) -> Layer | None:
        """Give a layer that shows this tar and fits in the stack `chain`; protect it by `lease` in the same moment."""
        with self._root.db.write() if lease else self._root.db.read() as db:
            layer = _find(db, diff_id, chain)
            if layer is None or layer.lost:
                return None
            protect(db, lease, "layer", layer.id)
        return layer

    def receive(
        self, diff_id: DiffID, *, chain: ChainID | None = None, form: str | None = None, lease: Lease | None = None
    ) -> Layer:
        """Make a layer of the tar that is in the content store as blob `diff_id`. A second time is harmless.

        `chain`: give it if the layer's files depend on what lies below.
        A layer that was lost is healed, with all that refers to it.
        """
        form = form or self._default_form
        maker = self._form(form)
        with self._lock(diff_id.hex, f"layer {diff_id}"):
            if found := self.find(diff_id, chain, lease=lease):
                return found
            id = self._root.new_id()
            with self._lock(id, f"layer {id[:12]}"):
                place = f"layers/{id}"
                size = self._make(maker, diff_id, place)
                with self._root.db.write() as db:
                    lost = _find(db, diff_id, chain)
                    if lost is not None:
                        id = lost.id
                    self._record(db, id, diff_id, chain, form, place, size)
                    protect(db, lease, "layer", id)
            if lost is not None and lost.place != place:
                self._root.discard(self._root.place(lost.place))
            return self.get(id)

    def settle(self, id: str, diff_id: DiffID, size_bytes: int) -> None:
        """Record what the tar of a made layer turned out to be."""
        with self._root.db.write() as db:
            changed = db.execute(
                "UPDATE layers SET diff_id = ?, size = ? WHERE id = ? AND coalesce(diff_id, ?) = ?",
                (diff_id, size_bytes, id, diff_id, diff_id),
            ).rowcount
        if not changed:
            raise Conflict(f"layer {id[:12]} is not here or has another DiffID; build it again")

    def open(self, id: str) -> int:
        """Open a layer as a lower of an overlay; the caller closes the descriptor. Raises NotFound or Corrupt."""
        return self.open_found(self.get(id))

    def open_found(self, layer: Layer) -> int:
        """Open a layer whose row has been read already."""
        if layer.unsynced not in (None, self._root.boot_id):
            layer = self.recheck(layer.id)
        if layer.lost:
            raise Corrupt(
                f"layer {layer.diff_id or layer.id[:12]} was lost or damaged, probably in a power failure; "
                "load or build its image again"
            )
        return self._form(layer.form).open(self._root.place(layer.place))

    def open_stack(self, layers: Sequence[str] | Sequence[Layer], stack: ExitStack) -> list[int]:
        """Open layers (ids or rows, lowest first) as lowers of an overlay, topmost first; `stack` closes them.

        What is below a layer whose root is opaque is left out: overlayfs would show it all the same.
        """
        opened: list[int] = []
        for number in reversed(range(len(layers))):
            layer = layers[number]
            opened.append(self.open(layer) if isinstance(layer, str) else self.open_found(layer))
            stack.callback(self._root.files.close, opened[-1])
            if self._root.files.is_opaque(opened[-1]):
                break
        return opened

    def verify(self, id: str) -> bool:
        """Compare a layer's files with its digest; slow. False where they are gone or no digest is known.

        A received layer is made again from its tar beside the one that is here.
        """
        layer = self.get(id)
        if layer.lost or layer.diff_id is None or self._root.files.look(self._root.place(layer.place)) is None:
            return False
        form = self._form(layer.form)
        found = form.fingerprint(self._root.place(layer.place))
        if layer.tar is None:
            return found == layer.diff_id
        if not self._content.verify(layer.tar):
            return False
        with self._root.scratch(f"staged layer {layer.diff_id}") as staged:
            self._fill(form, layer.tar, staged)
            return found == form.fingerprint(staged)

    def recheck(self, id: str) -> Layer:
        """Make a layer that a former boot left unflushed trustworthy again, or record that it is lost.

        A received one is made again from its tar, whose digest says whether it survived;
        a made one is hashed, and lost if its DiffID was not known yet.
        """
        with self._lock(id, f"layer {id[:12]}"):
            layer = self.get(id)
            if layer.unsynced in (None, self._root.boot_id):
                return layer  # another command was faster
            place: str | None = layer.place
            if layer.tar is None:
                place = layer.place if self.verify(id) else None
            elif not self._content.recheck(layer.tar):
                place = None
            else:
                place = f"layers/{self._root.new_id()}"
            size = layer.size_bytes
            if place and place != layer.place and layer.diff_id:
                with self._lock(place.rpartition("/")[2], f"layer {id[:12]}"):
                    size = self._make(self._form(layer.form), layer.diff_id, place)
                    self._replace(layer, place, size)
            else:
                self._replace(layer, place, size)
        return self.get(id)

    def _replace(self, layer: Layer, place: str | None, size: int) -> None:
        with self._root.db.write() as db:
            db.execute(
                "UPDATE layers SET place = ?, size = ?, unsynced = ?, lost = ? WHERE id = ?",
                (place or layer.place, size, self._root.boot_id if place else None, place is None, layer.id),
            )
        if place != layer.place:
            self._root.discard(self._root.place(layer.place))

    def _make(self, form: LayerForm, diff_id: DiffID, place: str) -> int:
        """Make a form in the staging area and rename it to its place."""
        with self._root.scratch(f"staged layer {diff_id}") as staged:
            size = self._fill(form, diff_id, staged)
            self._root.files.rename(staged, self._root.place(place))
        return size

    def _fill(self, form: LayerForm, tar: Digest, staged: str) -> int:
        self._root.files.make_directory(staged)
        with self._content.open(tar) as file:
            return form.make(file, staged)

    def _record(
        self, db: Connection, id: str, diff_id: DiffID, chain: ChainID | None, form: str, place: str, size: int
    ) -> None:
        """Write the row of a received layer, or heal the one that is there."""
        db.execute(
            "INSERT INTO layers (id, diff_id, chain, form, place, tar, size, created_ns, unsynced) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET form = excluded.form, "
            "place = excluded.place, tar = excluded.tar, size = excluded.size, unsynced = excluded.unsynced, lost = 0",
            (id, diff_id, chain, form, place, diff_id, size, self._root.clock_ns(), self._root.boot_id),
        )

    def _form(self, name: str) -> LayerForm:
        try:
            return self._forms[name]
        except KeyError:
            raise NotSupported(f"layers of the form {name!r} cannot be used on this host") from None

    def _lock(self, name: str, what: str) -> Lock:
        return self._root.lock("layers", name, what, timeout_s=None)


def layer_of(row: tuple[str, str | None, str | None, str, str, str | None, int, int, str | None, int]) -> Layer:
    """Make a Layer of the `COLUMNS` of its row."""
    id, diff_id, chain, form, place, tar, size, created_ns, unsynced, lost = row
    return Layer(
        id=id,
        diff_id=DiffID(diff_id) if diff_id else None,
        chain=ChainID(chain) if chain else None,
        form=form,
        place=place,
        tar=Digest(tar) if tar else None,
        size_bytes=size,
        created_ns=created_ns,
        unsynced=unsynced,
        lost=bool(lost),
    )


def _find(db: Connection, diff_id: DiffID, chain: ChainID | None) -> Layer | None:
    """The best layer of this tar: one that is here before one that is lost."""
    row = db.execute(
        f"SELECT {COLUMNS} FROM layers WHERE diff_id = ? AND (chain IS NULL OR chain = ?) ORDER BY lost LIMIT 1",
        (diff_id, chain),
    ).fetchone()
    return layer_of(row) if row else None
