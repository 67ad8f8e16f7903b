"""Images: a config, the layers it names, and the references that stand for it.

An image's id is the digest of its config's raw bytes. Names and texts are Docker's:
a reference first, then an id, then the beginning of one. An image stays until it is
removed, also without a tag; what it needs stays with it.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from onggi.base.errors import InvalidArgument, NotFound
from onggi.base.ids import is_id_prefix
from onggi.host.db import Connection
from onggi.spec.digest import Digest, digest_problem
from onggi.spec.image_config import MAX_IMAGE_CONFIG_BYTES, ImageConfig, parse_image_config
from onggi.spec.reference import Reference, parse_reference

from .content import Content
from .layers import COLUMNS, Layer, layer_of
from .leases import Lease
from .root import StateRoot

_BLOBS: Final = """
WITH RECURSIVE wanted(id) AS (SELECT value FROM json_each(?)),
kept(digest) AS (
    SELECT id FROM wanted
    UNION SELECT manifest FROM images JOIN wanted USING (id)
    UNION SELECT manifest FROM tags WHERE image IN (SELECT id FROM wanted)
    UNION SELECT tar FROM image_layers JOIN layers ON layers.id = layer WHERE image IN (SELECT id FROM wanted)
    UNION SELECT child FROM blob_links JOIN kept ON parent = kept.digest
)
SELECT digest, size FROM blobs JOIN kept USING (digest) WHERE NOT lost
"""


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """An image that is here; `layers` are ids, lowest first; `size_bytes` is what they hold together.

    `tagged_ns` is when it got its newest name, 0 without one.
    """

    id: Digest
    manifest: Digest | None
    created_ns: int
    references: tuple[str, ...]
    layers: tuple[str, ...]
    size_bytes: int
    tagged_ns: int


class Images:
    """The images of a state root and their tags."""

    def __init__(self, root: StateRoot, content: Content) -> None:
        """Keep them in this state root, their configs in `content`."""
        self._root, self._content = root, content

    def create(
        self,
        config: bytes,
        layers: Sequence[str],
        *,
        manifest: Digest | None = None,
        references: Iterable[Reference] = (),
        lease: Lease,
    ) -> Image:
        """Record an image of `layers` (ids, lowest first, settled) and give it names, in one durable commit.

        The same image again only adds names. `lease` protects the layers and the
        manifest until then. Raises InvalidArgument if the layers are not those that
        the config names.
        """
        wanted = parse_image_config(config).diff_ids
        id = self._content.put([config], Digest.of(config), lease=lease, durable=True).digest
        with self._root.db.write(durable=True) as db:
            _check_layers(db, id, layers, wanted)
            _check_manifest(db, manifest)
            now = self._root.clock_ns()
            db.execute(
                "INSERT INTO images (id, manifest, created_ns) VALUES (?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET manifest = coalesce(excluded.manifest, manifest)",
                (id, manifest, now),
            )
            db.execute("DELETE FROM image_layers WHERE image = ?", (id,))
            db.executemany(
                "INSERT INTO image_layers (image, position, layer) VALUES (?, ?, ?)",
                [(id, position, layer) for position, layer in enumerate(layers)],
            )
            for reference in references:
                _tag(db, reference, id, manifest, now)
            return _image(db, id)

    def tag(self, reference: Reference, id: Digest, *, manifest: Digest | None = None) -> None:
        """Let a reference stand for an image, and no longer for the one it stood for before."""
        with self._root.db.write(durable=True) as db:
            _image(db, id)
            _check_manifest(db, manifest)
            _tag(db, reference, id, manifest, self._root.clock_ns())

    def untag(self, reference: Reference) -> Digest:
        """Take a reference away; gives the id it stood for. Raises NotFound."""
        name = reference_key(reference)
        self._root.make_room()
        with self._root.db.write(durable=True) as db:
            row = db.execute("DELETE FROM tags WHERE reference = ? RETURNING image", (name,)).fetchone()
        if row is None:
            raise NotFound(f"No such image: {reference.with_default_tag().familiar}")
        return Digest(row[0])

    def resolve(self, text: str) -> Image:
        """Find an image by reference, id, or the beginning of an id.

        Raises NotFound or InvalidArgument, with Docker's texts.
        """
        with self._root.db.read() as db:
            return _image(db, _resolve(db, text))

    def find(self, id: Digest) -> Image | None:
        """Give an image by its id, None if it is not here."""
        try:
            return self.get(id)
        except NotFound:
            return None

    def get(self, id: Digest) -> Image:
        """Give an image by its id."""
        with self._root.db.read() as db:
            return _image(db, id)

    def config(self, id: Digest) -> ImageConfig:
        """Read an image's config: its defaults, its history."""
        return parse_image_config(self._content.read(id, MAX_IMAGE_CONFIG_BYTES))

    def layers(self, id: Digest) -> tuple[Layer, ...]:
        """Give an image's layers, lowest first."""
        with self._root.db.read() as db:
            _image(db, id)
            rows = db.execute(
                f"SELECT {COLUMNS} FROM image_layers JOIN layers ON id = layer WHERE image = ? ORDER BY position",
                (id,),
            ).fetchall()
        return tuple(layer_of(row) for row in rows)

    def tagged(self, reference: Reference) -> tuple[Digest, Digest | None] | None:
        """Give the id and the manifest that a reference stands for, None for one that nobody gave."""
        with self._root.db.read() as db:
            row = db.execute(
                "SELECT image, manifest FROM tags WHERE reference = ?", (reference_key(reference),)
            ).fetchone()
        return None if row is None else (Digest(row[0]), Digest(row[1]) if row[1] else None)

    def with_layer(self, layer: str) -> list[str]:
        """Tags, in full, of the images that have a layer."""
        with self._root.db.read() as db:
            rows = db.execute(
                "SELECT DISTINCT reference FROM tags JOIN image_layers USING (image) WHERE layer = ? ORDER BY 1",
                (layer,),
            ).fetchall()
        return [row[0] for row in rows]

    def blobs(self, ids: Iterable[Digest]) -> dict[Digest, int]:
        """Give the blobs that images keep beside their layers' files, and how large each is.

        Those are configs, manifests and all that these list, and tars.
        """
        with self._root.db.read() as db:
            rows = db.execute(_BLOBS, (msgspec.json.encode([str(id) for id in ids]).decode(),)).fetchall()
        return {Digest(digest): size for digest, size in rows}

    def users(self, id: Digest) -> list[str]:
        """Ids of the containers made from an image."""
        with self._root.db.read() as db:
            return [row[0] for row in db.execute("SELECT id FROM containers WHERE image = ? ORDER BY id", (id,))]

    def remove(self, id: Digest) -> tuple[str, ...]:
        """Remove an image and its references, which it gives. Its files go at the next collection.

        Containers made from it go on: their layers are theirs too. Whether to refuse for
        their sake is the caller's policy, in one transaction with `users`.
        """
        self._root.make_room()
        with self._root.db.write(durable=True) as db:
            image = _image(db, id)
            db.execute("DELETE FROM tags WHERE image = ?", (id,))
            db.execute("DELETE FROM images WHERE id = ?", (id,))
        return image.references

    def list(self) -> list[Image]:
        """All images, newest first."""
        with self._root.db.read() as db:
            ids = db.execute("SELECT id FROM images ORDER BY created_ns DESC, id").fetchall()
            return [_image(db, Digest(id)) for (id,) in ids]


def reference_key(reference: Reference) -> str:
    """How a reference is recorded: in full, with a digest or else a tag, never both."""
    if reference.digest:
        return str(reference.with_digest(reference.digest))
    return str(reference.with_default_tag())


def _check_layers(db: Connection, id: Digest, layers: Sequence[str], wanted: Sequence[Digest]) -> None:
    found: list[str | None] = []
    for layer in layers:
        row = db.execute("SELECT diff_id, lost FROM layers WHERE id = ?", (layer,)).fetchone()
        if row is None or row[1]:
            raise NotFound(f"layer {layer[:12]} of image {id} is not here any more; try again")
        found.append(row[0])
    if found != list(wanted):
        raise InvalidArgument(f"image {id}: its config names the layers {_shorts(wanted)}, given are {_shorts(found)}")


def _check_manifest(db: Connection, manifest: Digest | None) -> None:
    if manifest and not db.execute("SELECT 1 FROM blobs WHERE digest = ?", (manifest,)).fetchone():
        raise NotFound(f"manifest {manifest} is not here any more; try again")


def _tag(db: Connection, reference: Reference, id: Digest, manifest: Digest | None, now: int) -> None:
    db.execute(
        "INSERT INTO tags (reference, image, manifest, created_ns) VALUES (?, ?, ?, ?) ON CONFLICT (reference) "
        "DO UPDATE SET image = excluded.image, manifest = excluded.manifest, created_ns = excluded.created_ns",
        (reference_key(reference), id, manifest, now),
    )


def _resolve(db: Connection, text: str) -> Digest:
    full = text if text.startswith("sha256:") else f"sha256:{text}"
    if digest_problem(full) is None:
        return Digest(full)
    reference = parse_reference(text)
    row = db.execute("SELECT image FROM tags WHERE reference = ?", (reference_key(reference),)).fetchone()
    if row is not None:
        return Digest(row[0])
    prefix = text.removeprefix("sha256:")
    if is_id_prefix(prefix):
        ids = db.execute(
            "SELECT id FROM images WHERE id >= ? AND id < ? LIMIT 2", (f"sha256:{prefix}", f"sha256:{prefix}g")
        ).fetchall()
        if len(ids) > 1:
            raise InvalidArgument(f"Multiple IDs found with provided prefix: {text}")
        if ids:
            return Digest(ids[0][0])
    raise NotFound(f"No such image: {reference.with_default_tag().familiar}")


def _image(db: Connection, id: Digest) -> Image:
    row = db.execute("SELECT manifest, created_ns FROM images WHERE id = ?", (id,)).fetchone()
    if row is None:
        raise NotFound(f"No such image: {id}")
    tags = db.execute("SELECT reference, created_ns FROM tags WHERE image = ? ORDER BY reference", (id,)).fetchall()
    layers = db.execute(
        "SELECT layer, size FROM image_layers JOIN layers ON layers.id = layer WHERE image = ? ORDER BY position", (id,)
    ).fetchall()
    return Image(
        id=id,
        manifest=Digest(row[0]) if row[0] else None,
        created_ns=row[1],
        references=tuple(reference for reference, _ in tags),
        layers=tuple(layer for layer, _ in layers),
        size_bytes=sum(size for _, size in layers),
        tagged_ns=max((created_ns for _, created_ns in tags), default=0),
    )


def _shorts(digests: Sequence[str | None]) -> str:
    return ", ".join(digest[7:19] if digest else "one that is not hashed yet" for digest in digests) or "none"
