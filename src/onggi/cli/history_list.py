"""The list of steps that made an image: what `history` shows of each."""

from collections.abc import Mapping
from typing import Final

import msgspec

from onggi.base.units import human_size
from onggi.cli.image_list import parse_created
from onggi.cli.listing import Column
from onggi.cli.render import age, ellipsis, local_time
from onggi.engine.assemble import Engine
from onggi.spec.image_config import History

_YEAR_2000_NS: Final = 946684800 * 1_000_000_000
"""Times before are made up, and no age is shown."""


class Listed(msgspec.Struct, kw_only=True, eq=False):
    """One step; `size_bytes` is what its layer holds."""

    image: str
    entry: History
    size_bytes: int
    now_ns: int
    env: Mapping[str, str]
    truncate: bool
    human: bool

    def id(self) -> str:
        """The id of the image that ends with this step, where that is known."""
        return self.image.removeprefix("sha256:")[:12] if self.truncate else self.image

    def created_at(self) -> str:
        """When, as RFC 3339 in the caller's zone."""
        text = local_time(parse_created(self.entry.created) or 0, self.env).isoformat()
        return text.removesuffix("+00:00") + "Z" if text.endswith("+00:00") else text

    def created_since(self) -> str:
        """How long ago."""
        if not self.human:
            return self.created_at()
        made = parse_created(self.entry.created) or 0
        return age(made, self.now_ns) if made > _YEAR_2000_NS else "N/A"

    def created_by(self) -> str:
        """The instruction."""
        text = (self.entry.created_by or "").replace("\t", " ")
        return ellipsis(text, 45) if self.truncate else text

    def size(self) -> str:
        """The size of its layer."""
        return human_size(self.size_bytes, 3) if self.human else str(self.size_bytes)


COLUMNS: Final[Mapping[str, Column[Listed]]] = {
    "ID": Column("IMAGE", Listed.id),
    "CreatedSince": Column("CREATED", Listed.created_since),
    "CreatedAt": Column("CREATED AT", Listed.created_at),
    "CreatedBy": Column("CREATED BY", Listed.created_by),
    "Size": Column("SIZE", Listed.size),
    "Comment": Column("COMMENT", lambda item: item.entry.comment or ""),
}
TABLE: Final = ("ID", "CreatedSince", "CreatedBy", "Size", "Comment")
TABLE_WITH_TIMES: Final = ("ID", "CreatedAt", "CreatedBy", "Size", "Comment")


def list_history(
    engine: Engine, ref: str, *, now_ns: int, env: Mapping[str, str], truncate: bool, human: bool
) -> list[Listed]:
    """Give the steps of an image, the last first. Raises NotFound."""
    image = engine.images.get(ref)
    sizes = [layer.size_bytes for layer in engine.images.layers(image)]
    entries = engine.images.config(ref).history or tuple(History() for _ in sizes)
    left = iter(sizes)
    steps = [(entry, 0 if entry.empty_layer else next(left, 0)) for entry in entries]
    return [
        Listed(
            image="<missing>" if number else str(image.id),
            entry=entry,
            size_bytes=size,
            now_ns=now_ns,
            env=env,
            truncate=truncate,
            human=human,
        )
        for number, (entry, size) in enumerate(reversed(steps))
    ]
