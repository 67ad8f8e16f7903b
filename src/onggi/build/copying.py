"""COPY and ADD: which files, where they go, and what their content is."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import msgspec

from onggi.base.errors import Conflict, InvalidArgument, NotFound, OnggiError
from onggi.build.graph import CopyStep
from onggi.build.ignore import Ignore
from onggi.build.match import has_wildcard, match_component
from onggi.build.roots import Context, find_owner
from onggi.host.planter import Planter
from onggi.host.selecting import (
    Copier,
    Digests,
    Item,
    Match,
    choose,
    close,
    find_matches,
    hash_item,
    look,
    make_parents,
    open_directory,
    open_file,
    read_prefix,
    resolve_last,
    set_time,
)

_TAR_MAGIC_AT: Final = 257
_HEAD: Final = 512
_MAGICS: Final = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")


class _Text(msgspec.Struct, frozen=True):
    """The attributes of a here-document as a file."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    xattrs: dict[bytes, bytes]


def find_sources(step: CopyStep, source: Context) -> Iterator[tuple[bytes, bool]]:
    """Give the path of each source, and whether a wildcard found it. Raises NotFound if a plain one is not there."""
    for text in step.sources:
        parts = [part for part in text.split("/") if part not in ("", ".")]
        if ".." in parts:
            parts = _climb(parts)
        wild = any(has_wildcard(part) for part in parts)
        components: list[Match] = [_component(part) for part in parts]
        found = False
        for path in find_matches(source.fd, components, count=source.count):
            seen = look(source.fd, path, follow=True)
            directory = seen is not None and seen.st_mode & 0o170000 == 0o040000
            if seen is None or not source.has(path, directory):
                continue
            found = True
            yield path, wild
        if not found and not wild:
            raise NotFound(
                f'"/{"/".join(parts)}": not found in the build context'
                + ("; .dockerignore leaves it out" if _left_out(source, parts) else "")
            )


def _left_out(source: Context, parts: list[str]) -> bool:
    return source.ignore is not None and look(source.fd, "/".join(parts).encode()) is not None


def _climb(parts: list[str]) -> list[str]:
    """Resolve `..` by name: it never leads out of the context."""
    result: list[str] = []
    for part in parts:
        if part == "..":
            if result:
                result.pop()
        else:
            result.append(part)
    return result


def _component(part: str) -> Match:
    if not has_wildcard(part):
        return part.encode("utf-8", "surrogateescape")
    return lambda name: match_component(part, name.decode("utf-8", "surrogateescape"))


def _choose(step: CopyStep, source: Context, path: bytes) -> Iterator[Item]:
    """Give a source and what is below it; --exclude is about names relative to the source, never the source itself."""
    if not step.exclude:
        return choose(source.fd, path, skip=source.skips, enter=source.enters, count=source.count)
    excluded = Ignore(step.exclude)
    start = len(path) + 1 if path else 0

    def name(path: bytes) -> str:
        return path[start:].decode("utf-8", "surrogateescape")

    def skip(path: bytes, is_directory: bool) -> bool:
        return source.skips(path, is_directory) or excluded.matches(name(path), is_directory)

    def enter(path: bytes) -> bool:
        return (not source.skips(path, True) or source.enters(path)) and (
            not excluded.matches(name(path), True) or excluded.may_have_more(name(path))
        )

    return choose(source.fd, path, skip=skip, enter=enter, count=source.count)


def hash_sources(step: CopyStep, source: Context, digests: Digests) -> dict[str, str]:
    """Name the content of every file that the step would copy, by its path."""
    inputs: dict[str, str] = {}
    for path, _ in find_sources(step, source):
        for item in _choose(step, source, path):
            name = item.source.decode("utf-8", "backslashreplace") or "."
            kind = "the directory" if item.is_directory else "the file"
            inputs[f"{kind} {name}"] = hash_item(source.fd, item, owners=source.owners, digests=digests).hex()
    return inputs


def copy_files(step: CopyStep, source: Context, root: int, *, epoch: int | None, now_ns: int) -> None:
    """Copy into the root file system `root`. Raises InvalidArgument where a file and a directory meet."""
    owner = find_owner(root, step.chown) if step.chown else None if source.owners else (0, 0)
    parents = owner or (0, 0)
    change = parse_chmod(step.chmod) if step.chmod else None
    made = change(0, True) & 0o777 if change and step.chmod and step.chmod.isdigit() else 0o755
    found = list(find_sources(step, source))
    directory = step.destination.endswith("/") or len(found) + len(step.heredocs) > 1
    with Planter(root, replace_directories=False) as planter:
        epoch_ns = None if epoch is None else epoch * 1_000_000_000
        new_copier = partial(Copier, source.fd, planter, owner=owner, change_mode=change, epoch_ns=epoch_ns)
        copy = _Copying(step, source, root, planter, new_copier, parents, made, directory)
        try:
            for path, _ in found:
                copy.source(path)
            for doc in step.heredocs:
                copy.text(doc.name, doc.content, change, now_ns if epoch_ns is None else epoch_ns)
            planter.finish()
        except Conflict as error:
            raise InvalidArgument(f"cannot replace to directory with file: {error}") from None


class _Copying:
    def __init__(
        self,
        step: CopyStep,
        source: Context,
        root: int,
        planter: Planter,
        new_copier: Callable[[], Copier],
        parents: tuple[int, int],
        made: int,
        directory: bool,
    ) -> None:
        self.step, self.tree, self.root, self.planter, self.new_copier = step, source, root, planter, new_copier
        self.parents, self.made, self.directory = parents, made, directory

    def _parents(self, path: bytes) -> bytes:
        return make_parents(self.root, path or b"/", self.parents, mode=self.made)

    def source(self, path: bytes) -> None:
        items = _choose(self.step, self.tree, path)
        first = next(items, None)
        if first is None:
            return
        if first.is_directory:
            self._contents(first, items)
        elif self.step.unpack and self._unpack(first):
            return
        else:
            self.new_copier().copy(first, self._file_target(path.rpartition(b"/")[2]))

    def _contents(self, top: Item, items: Iterator[Item]) -> None:
        """Copy what is in a directory. The destination keeps its mode and owner, and gets the source's time.

        A context's own top has no time with BuildKit.
        """
        destination = self.step.destination.rstrip("/").encode() or b"/"
        seen = look(self.root, destination, follow=True)
        if seen is not None and seen.st_mode & 0o170000 != 0o040000:
            raise InvalidArgument(f"cannot copy to non-directory: {destination.decode('utf-8', 'replace')}")
        base = self._parents(destination)
        copier = self.new_copier()
        for item in items:
            target = base + b"/" + item.name if base else item.name
            if item.is_directory and seen is not None:
                there = look(self.root, target)
                if there is not None and there.st_mode & 0o170000 != 0o040000:
                    raise InvalidArgument(f"cannot copy to non-directory: /{target.decode('utf-8', 'replace')}")
            copier.copy(item, target)
        if top.source or self.tree.owners:
            set_time(self.root, base, top.mtime_ns)

    def _file_target(self, name: bytes) -> bytes:
        """Say where a single file goes: into a directory that is meant or there, else to the name itself."""
        destination = self.step.destination.rstrip("/").encode()
        seen = look(self.root, destination or b"/", follow=True)
        exists = seen is not None and seen.st_mode & 0o170000 == 0o040000
        if self.directory or exists or not destination:
            base = self._parents(destination)
        else:
            parent, _, name = destination.rpartition(b"/")
            target = resolve_last(self.root, self._parents(parent) + b"/" + name if parent else name)
            parent, _, name = target.rpartition(b"/")
            base = self._parents(parent)
        return base + b"/" + name if base else name

    def _unpack(self, item: Item) -> bool:
        """Unpack a local archive; False if it is none, and is to be copied as it is."""
        head = read_prefix(self.tree.fd, item.source, _HEAD)
        if not head.startswith(_MAGICS) and head[_TAR_MAGIC_AT : _TAR_MAGIC_AT + 5] != b"ustar":
            return False
        from onggi.store.tar.decompress import open_layer
        from onggi.store.tar.reader import TarReader
        from onggi.store.tar.unpack import unpack_tree

        with open_file(self.tree.fd, item.source) as file:
            try:
                next(iter(TarReader(open_layer(file))), None)
            except OnggiError:
                return False
            file.seek(0)
            base = self._parents(self.step.destination.rstrip("/").encode())
            fd = open_directory(self.root, base)
            try:
                owner = find_owner(self.root, self.step.chown) if self.step.chown else None
                unpack_tree(open_layer(file), fd, owner=owner)
            finally:
                close(fd)
        return True

    def text(self, name: str, content: str, change: Callable[[int, bool], int] | None, mtime_ns: int) -> None:
        """Copy a here-document as a file of its name."""
        target = self._file_target(name.encode())
        data = content.encode("utf-8", "surrogateescape")
        mode = change(0o644, False) if change else 0o644
        attributes = _Text(mode, *(self.parents), mtime_ns, {})
        self.planter.regular(target, attributes, len(data), [(0, memoryview(data))])


def parse_chmod(text: str) -> Callable[[int, bool], int]:
    """Read --chmod: octal, or symbolic as chmod(1) (`u=rwX,go=rX`). Raises InvalidArgument."""
    if text.isdigit():
        try:
            mode = int(text, 8)
        except ValueError:
            mode = -1
        if not 0 <= mode <= 0o7777:
            raise InvalidArgument(
                f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
            )
        return lambda _mode, _directory: mode
    clauses = [_parse_clause(clause, text) for clause in text.split(",")]

    def change(mode: int, directory: bool) -> int:
        for clause in clauses:
            mode = clause(mode, directory)
        return mode

    return change


def _parse_clause(clause: str, text: str) -> Callable[[int, bool], int]:
    at = next((n for n, char in enumerate(clause) if char in "+-="), None)
    who = clause[:at] if at is not None else ""
    permissions = clause[at + 1 :] if at is not None else ""
    if at is None or set(who) - set("ugoa") or set(permissions) - set("rwxXst"):
        raise InvalidArgument(f"invalid chmod parameter: '{text}': {clause!r} is neither octal nor like u=rwX")
    operator = clause[at]
    shifts = [shift for name, shift in (("u", 6), ("g", 3), ("o", 0)) if not who or "a" in who or name in who]

    def apply(mode: int, directory: bool) -> int:
        bits = 4 * ("r" in permissions) | 2 * ("w" in permissions) | ("x" in permissions)
        if "X" in permissions and (directory or mode & 0o111):
            bits |= 1
        value = sum(bits << shift for shift in shifts)
        if "s" in permissions:
            value |= 0o4000 * (6 in shifts) | 0o2000 * (3 in shifts)
        value |= 0o1000 * ("t" in permissions and shifts != [0])  # BSD: not for others alone
        mask = sum(7 << shift for shift in shifts)
        match operator:
            case "+":
                return mode | value
            case "-":
                return mode & ~value
            case _:
                return mode & ~mask | value

    return apply
