"""The list of images: what `images` shows of each, and which its filters let through (moby's image_list.go)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from onggi.base.errors import InvalidArgument
from onggi.base.units import human_size, parse_time
from onggi.cli.filters import Filters
from onggi.cli.listing import Column
from onggi.cli.moments import parse_moment
from onggi.cli.render import age, go_time
from onggi.engine.assemble import Engine
from onggi.spec.reference import Reference, parse_reference
from onggi.store.images import Image

NONE: Final = "<none>"
FILTERS: Final = frozenset({"before", "dangling", "label", "reference", "since", "until"})


class Listed(msgspec.Struct, kw_only=True, eq=False):
    """An image under one of its names."""

    image: Image
    created_ns: int | None
    repository: str
    tag: str
    digest: str
    now_ns: int
    env: Mapping[str, str]
    truncate: bool

    def id(self) -> str:
        """Its id."""
        return self.image.id.hex[:12] if self.truncate else str(self.image.id)

    def created_since(self) -> str:
        """How old it is."""
        return "N/A" if self.created_ns is None else age(self.created_ns, self.now_ns)


COLUMNS: Final[Mapping[str, Column[Listed]]] = {
    "ID": Column("IMAGE ID", Listed.id),
    "Repository": Column("REPOSITORY", lambda item: item.repository),
    "Tag": Column("TAG", lambda item: item.tag),
    "Digest": Column("DIGEST", lambda item: item.digest),
    "CreatedSince": Column("CREATED", Listed.created_since),
    "CreatedAt": Column("CREATED AT", lambda item: go_time(item.created_ns or 0, item.env)),
    "Size": Column("SIZE", lambda item: human_size(item.image.size_bytes, 3)),
    "VirtualSize": Column("SIZE", lambda item: human_size(item.image.size_bytes)),
    "SharedSize": Column("SHARED SIZE", lambda item: "N/A"),
    "UniqueSize": Column("UNIQUE SIZE", lambda item: "N/A"),
    "Containers": Column("CONTAINERS", lambda item: "N/A"),
}
TABLE: Final = ("Repository", "Tag", "ID", "CreatedSince", "Size")
TABLE_WITH_DIGESTS: Final = ("Repository", "Tag", "Digest", "ID", "CreatedSince", "Size")
RAW: Final = (
    "repository: {{ .Repository }}\ntag: {{.Tag}}\nimage_id: {{.ID}}\n"
    "created_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n"
)
RAW_WITH_DIGESTS: Final = RAW.replace("image_id", "digest: {{.Digest}}\nimage_id")


def list_images(
    engine: Engine,
    filters: Filters,
    *,
    digests: bool,
    digest_rows: bool,
    now_ns: int,
    env: Mapping[str, str],
    truncate: bool,
) -> list[Listed]:
    """Give every wanted image under each of its wanted names, newest first.

    `digests`: the digests of names are shown; `digest_rows`: each of those that have no tag has a row.
    """
    found = [(image, created(engine, image)) for image in engine.images.list()]
    found.sort(key=lambda entry: -(entry[1] or 0))
    dangling_only = filters.flag("dangling")
    before, since = _limits(engine, filters, now_ns, env)
    listed = []
    for image, created_ns in found:
        if not since < (created_ns or 0) < before or not _has_labels(engine, image, filters):
            continue
        names = [parse_reference(name) for name in image.references]
        wanted = [name for name in names if _is_wanted(name, filters)]
        if not wanted and (names or "reference" in filters or dangling_only is False):
            continue
        if dangling_only and any(name.tag for name in wanted):
            continue
        listed += [
            Listed(
                image=image,
                created_ns=created_ns,
                repository=repository,
                tag=tag,
                digest=digest,
                now_ns=now_ns,
                env=env,
                truncate=truncate,
            )
            for repository, tag, digest in _rows(wanted, digests, digest_rows)
        ]
    return listed


def created(engine: Engine, image: Image) -> int | None:
    """When an image was made, as its config says; None where that does not say."""
    return parse_created(engine.images.config(str(image.id)).created)


def parse_created(text: str | None) -> int | None:
    """Read a time of a config; None for none."""
    try:
        return parse_time(text) if text else None
    except InvalidArgument:
        return None


def _limits(engine: Engine, filters: Filters, now_ns: int, env: Mapping[str, str]) -> tuple[int, int]:
    befores = [created(engine, engine.images.get(ref)) or 0 for ref in filters.values("before")]
    befores += [parse_moment(text, now_ns, env) for text in filters.values("until")]
    sinces = [created(engine, engine.images.get(ref)) or 0 for ref in filters.values("since")]
    return min(befores, default=1 << 64), max(sinces, default=-(1 << 64))


def _has_labels(engine: Engine, image: Image, filters: Filters) -> bool:
    return "label" not in filters or filters.admits_labels(engine.images.defaults(str(image.id)).labels or {})


def _is_wanted(name: Reference, filters: Filters) -> bool:
    if "reference" not in filters:
        return True
    from onggi.build.match import match

    patterns = filters.values("reference")
    return any(match(pattern, text) for pattern in patterns for text in (name.familiar, name.familiar_name))


def _rows(names: Sequence[Reference], digests: bool, digest_rows: bool) -> Iterator[tuple[str, str, str]]:
    if not names:
        yield NONE, NONE, NONE
    tagged = [name for name in names if name.tag]
    known = {
        name.name: [str(other.digest) for other in names if other.digest and other.name == name.name] for name in names
    }
    for name in tagged:
        for digest in (known[name.name] if digests else []) or [NONE]:
            yield name.familiar_name, name.tag or NONE, digest
    bare = [name for name in names if name.digest and all(name.name != other.name for other in tagged)]
    if digest_rows:
        yield from ((name.familiar_name, NONE, str(name.digest)) for name in bare)
    else:
        yield from ((name, NONE, "") for name in dict.fromkeys(name.familiar_name for name in bare))
