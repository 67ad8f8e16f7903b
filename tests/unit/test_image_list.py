"""Which images `images` lists, under which names; and what `history` shows."""

from types import SimpleNamespace
from typing import Any, Final, cast

import pytest

from onggi.base.errors import InvalidArgument, NotFound
from onggi.cli.filters import parse_filters
from onggi.cli.history_list import COLUMNS as STEP_COLUMNS
from onggi.cli.history_list import list_history
from onggi.cli.image_list import COLUMNS, FILTERS, list_images
from onggi.engine.assemble import Engine
from onggi.spec.digest import Digest
from onggi.spec.image_config import ContainerConfig, History, ImageConfig, RootFS
from onggi.store.images import Image

DAY: Final = 86400 * 10**9
NOW: Final = 1714557600 * 10**9
UTC: Final = {"TZ": "UTC"}
DIGEST: Final = "sha256:" + "9" * 64


class Images:
    """Four images: with two names, with a name and a digest, with a digest only, without any name."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[Image, str | None, dict[str, str]]] = {}
        self.add("1", "2024-04-30T10:00:00Z", "docker.io/library/app:1", "docker.io/library/app:latest", tier="front")
        self.add("2", "2024-04-29T10:00:00Z", "example.org/team/db:3", f"example.org/team/db@{DIGEST}")
        self.add("3", "2024-04-28T10:00:00Z", f"example.org/team/old@{DIGEST}")
        self.add("4", None)

    def add(self, number: str, made: str | None, *names: str, **labels: str) -> None:
        image = Image(
            id=Digest(f"sha256:{number * 64}"),
            manifest=None,
            created_ns=0,
            references=names,
            layers=(),
            size_bytes=12_345_678,
            tagged_ns=0,
        )
        self.known[image.id] = (image, made, labels)

    def list(self) -> list[Image]:
        return [image for image, _, _ in reversed(self.known.values())]

    def get(self, ref: str) -> Image:
        for image, _, _ in self.known.values():
            if ref in (image.id, image.id.hex[0], *image.references):
                return image
        raise NotFound(f"No such image: {ref}")

    def config(self, id: str) -> ImageConfig:
        history = (
            History(created="2024-04-30T10:00:00Z", created_by="ADD\ta long instruction that goes on and on and on"),
            History(created="1970-01-01T00:00:00Z", created_by="CMD", empty_layer=True, comment="a note"),
        )
        return ImageConfig(created=self.known[self.get(id).id][1], rootfs=RootFS(type="layers"), history=history)

    def defaults(self, id: str) -> ContainerConfig:
        return ContainerConfig(labels=self.known[self.get(id).id][2])

    def layers(self, image: Image) -> "tuple[Any, ...]":
        return (SimpleNamespace(size_bytes=1_500_000),)


ENGINE: Final = cast(Engine, SimpleNamespace(images=Images()))
APP: Final = [("app", "1"), ("app", "latest")]
DB, OLD, BARE = ("example.org/team/db", "3"), ("example.org/team/old", "<none>"), ("<none>", "<none>")


def names(*filters: str) -> list[tuple[str, str]]:
    """Give repositories and tags of what is listed."""
    found = list_images(
        ENGINE, parse_filters(filters, FILTERS), digests=False, digest_rows=False, now_ns=NOW, env=UTC, truncate=True
    )
    return [(item.repository, item.tag) for item in found]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], [*APP, DB, OLD, BARE]),
        (["dangling=true"], [OLD, BARE]),
        (["dangling=false"], [*APP, DB, OLD]),
        (["label=tier"], APP),
        (["label=tier=back"], []),
        (["reference=app"], APP),
        (["reference=app:l*"], [("app", "latest")]),
        (["reference=example.org/*/db"], [DB]),
        (["reference=*/db"], []),
        (["reference=app:1", "reference=example.org/team/db:3"], [("app", "1"), DB]),
        (["reference=["], []),
        (["before=1"], [DB, OLD, BARE]),
        (["before=1", "before=2"], [OLD, BARE]),
        (["since=3"], [*APP, DB]),
        (["since=3", "before=1"], [DB]),
        (["until=47h"], [DB, OLD, BARE]),
        (["until=2024-04-28T12:00:00Z"], [OLD, BARE]),
    ],
    ids=str,
)
def test_filters(filters: list[str], expected: list[tuple[str, str]]) -> None:
    assert names(*filters) == expected


def test_wrong_filters() -> None:
    with pytest.raises(NotFound, match="No such image: nobody"):
        names("since=nobody")
    with pytest.raises(InvalidArgument, match="invalid filter 'dangling="):
        names("dangling=maybe")
    with pytest.raises(InvalidArgument, match="soon"):
        names("until=soon")


def test_digests() -> None:
    found = list_images(
        ENGINE, parse_filters([], FILTERS), digests=True, digest_rows=True, now_ns=NOW, env=UTC, truncate=False
    )
    assert [(item.repository, item.tag, item.digest) for item in found] == [
        ("app", "1", "<none>"),
        ("app", "latest", "<none>"),
        ("example.org/team/db", "3", DIGEST),
        ("example.org/team/old", "<none>", DIGEST),
        ("<none>", "<none>", "<none>"),
    ]
    columns = {name: column.value(found[0]) for name, column in COLUMNS.items()}
    assert columns == {
        "ID": "sha256:" + "1" * 64,
        "Repository": "app",
        "Tag": "1",
        "Digest": "<none>",
        "CreatedSince": "24 hours ago",
        "CreatedAt": "2024-04-30 10:00:00 +0000 UTC",
        "Size": "12.3MB",
        "VirtualSize": "12.35MB",
        "SharedSize": "N/A",
        "UniqueSize": "N/A",
        "Containers": "N/A",
    }
    assert COLUMNS["CreatedSince"].value(found[-1]) == "N/A"


def steps(*, human: bool, truncate: bool) -> list[dict[str, object]]:
    """Show the steps of an image."""
    found = list_history(ENGINE, "1", now_ns=NOW, env=UTC, truncate=truncate, human=human)
    return [{name: column.value(item) for name, column in STEP_COLUMNS.items()} for item in found]


def test_history() -> None:
    assert steps(human=True, truncate=True) == [
        {
            "ID": "1" * 12,
            "CreatedSince": "N/A",
            "CreatedAt": "1970-01-01T00:00:00Z",
            "CreatedBy": "CMD",
            "Size": "0B",
            "Comment": "a note",
        },
        {
            "ID": "<missing>",
            "CreatedSince": "24 hours ago",
            "CreatedAt": "2024-04-30T10:00:00Z",
            "CreatedBy": "ADD a long instruction that goes on and on a…",
            "Size": "1.5MB",
            "Comment": "",
        },
    ]
    last = steps(human=False, truncate=False)[1]
    assert (last["CreatedSince"], last["Size"]) == ("2024-04-30T10:00:00Z", "1500000")
    assert last["CreatedBy"] == "ADD a long instruction that goes on and on and on"
