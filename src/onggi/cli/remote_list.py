"""`image ls --remote`: the tags of a repository at its registry."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from onggi.base.errors import InvalidArgument
from onggi.base.units import human_size
from onggi.cli.app import State
from onggi.cli.listing import Column, Listing, needs, render_listing
from onggi.cli.registries import registries_of
from onggi.registry.client import Repository
from onggi.registry.remote import Remote
from onggi.spec.image import Descriptor

_PARALLEL: Final = 4


class Tag(msgspec.Struct, frozen=True, kw_only=True):
    """A tag, and what it points to where that was asked for."""

    repository: str
    name: str
    target: Descriptor | None = None


def _of_target(show: Callable[[Descriptor], str]) -> Callable[[Tag], str]:
    return lambda tag: show(tag.target) if tag.target else ""


COLUMNS: Final[Mapping[str, Column[Tag]]] = {
    "Repository": Column("REPOSITORY", lambda tag: tag.repository),
    "Tag": Column("TAG", lambda tag: tag.name),
}
DIGEST_COLUMNS: Final[Mapping[str, Column[Tag]]] = {
    **COLUMNS,
    "Digest": Column("DIGEST", _of_target(lambda target: str(target.digest))),
    "MediaType": Column("MEDIA TYPE", _of_target(lambda target: target.media_type)),
    "Size": Column("MANIFEST SIZE", _of_target(lambda target: human_size(target.size, 3))),
}
TABLE: Final = ("Repository", "Tag")
TABLE_WITH_DIGESTS: Final = ("Repository", "Tag", "Digest")


def list_remote(
    state: State, repository: str | None, *, digests: bool, format: str, quiet: bool, as_json: bool, refused: str
) -> int:
    """Print the tags of a repository; `refused` is a flag of the local list that was given too, if one was."""
    caller = state.caller
    if repository is None:
        raise InvalidArgument("--remote requires the name of a repository: onggi image ls --remote REPOSITORY")
    if refused:
        raise InvalidArgument(f"conflicting options: {refused} cannot be used with --remote")
    caller.only_in_process()
    digests = digests or any(needs(format, name) for name in ("Digest", "MediaType", "Size"))
    with registries_of(caller) as registries:
        reference = registries.parse(repository)
        if reference.digest:
            raise InvalidArgument(f"{repository}: tags belong to a repository, not to a digest")
        remote = registries.remote(reference)
        tags = remote.do("resolve", Repository.tags)
        if reference.tag:
            tags = [tag for tag in tags if tag == reference.tag]
        found = [Tag(repository=remote.name, name=tag) for tag in tags]
        if digests:
            found = _resolve(remote, found)
    listing = Listing(
        kind="tag",
        columns=DIGEST_COLUMNS if digests else COLUMNS,
        default=TABLE_WITH_DIGESTS if digests else TABLE,
        items=found,
        quiet="Tag",
    )
    caller.out(render_listing(listing, format=format, quiet=quiet, as_json=as_json))
    return 0


def _resolve(remote: Remote, tags: Sequence[Tag]) -> list[Tag]:
    from concurrent.futures import ThreadPoolExecutor

    def resolve(tag: Tag) -> Tag:
        return msgspec.structs.replace(tag, target=remote.do("resolve", lambda one: one.resolve(tag.name)))

    with ThreadPoolExecutor(_PARALLEL) as pool:
        return list(pool.map(resolve, tags))
