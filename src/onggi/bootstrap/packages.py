"""Package indices and what is chosen from them: the newest of each package, and all that it depends on. Pure, bounded.

Debian Policy 5 and 7. An index has tens of thousands of stanzas, of which a hundred
are looked at: they are found by name and read when they are asked for.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Final

import msgspec

from onggi.base.errors import Corrupt, NotFound

from .deb822 import parse_stanzas
from .versions import check_version, compare_versions, satisfies

MAX_INDEX_BYTES: Final = 256 << 20
MAX_PACKAGES: Final = 500_000
MAX_PACKAGE_BYTES: Final = 1 << 30
_MAX_CHOSEN: Final = 5000
_MAX_STANZA_CHARS: Final = 4 << 20
_PRIORITIES: Final = ("required", "important", "standard", "optional")
_HEX: Final = frozenset("0123456789abcdef")
_NAME: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789+-.")
_BEGIN: Final = "Package: "
_PROVIDES: Final = "\nProvides:"


class Relation(msgspec.Struct, frozen=True):
    """A package, perhaps of certain versions only: `libc6 (>= 2.36)`."""

    name: str
    op: str = ""
    version: str = ""

    def is_met_by(self, version: str) -> bool:
        """Say whether a package of this name and version will do."""
        return not self.op or satisfies(version, self.op, self.version)

    def is_provided_by(self, provided: "Relation") -> bool:
        """Say whether what a package provides will do: where versions are asked for, only a version is an answer."""
        return not self.op or (provided.op == "=" and self.is_met_by(provided.version))

    def __str__(self) -> str:
        """As people write it."""
        return f"{self.name} ({self.op} {self.version})" if self.op else self.name


class Package(msgspec.Struct, frozen=True, kw_only=True):
    """A package of an archive. `filename` is below `base`; of each group in `depends` one is needed."""

    name: str
    version: str
    base: str
    filename: str
    size: int
    sha256: str
    priority: str = ""
    essential: bool = False
    depends: tuple[tuple[Relation, ...], ...] = ()
    provides: tuple[Relation, ...] = ()


class Index:
    """The packages of several archives together."""

    def __init__(self) -> None:
        """Know no package."""
        self._stanzas: dict[str, list[tuple[str, str]]] = {}
        self._known: dict[str, Package | None] = {}
        self._count = 0
        self._minimal: set[str] = set()
        self._provides: list[tuple[str, str]] = []

    def add(self, pieces: Iterable[str], base: str) -> None:
        """Add a Packages file, in pieces of any size; its files are below the URL `base`. Raises Corrupt."""
        rest = ""
        for piece in pieces:
            *stanzas, rest = (rest + piece).split("\n\n")
            if len(rest) > _MAX_STANZA_CHARS:
                raise Corrupt(f"a package index has an entry of more than {_MAX_STANZA_CHARS} characters")
            for stanza in stanzas:
                self._add(stanza.strip("\n"), base)
        self._add(rest.strip("\n"), base)
        self._known.clear()
        self.__dict__.pop("_providers", None)

    def _add(self, stanza: str, base: str) -> None:
        if not stanza:
            return
        self._count += 1
        if self._count > MAX_PACKAGES:
            raise Corrupt(f"the package indices have more than {MAX_PACKAGES} entries")
        name = _name(stanza)
        self._stanzas.setdefault(name, []).append((base, stanza))
        if "\nPriority: required" in stanza or "\nEssential: yes" in stanza:
            self._minimal.add(name)
        if (at := stanza.find(_PROVIDES)) >= 0:
            self._provides.append((name, stanza[at + len(_PROVIDES) :].partition("\n")[0]))

    def find(self, name: str) -> Package | None:
        """Give the newest package of this name. Raises Corrupt for an entry that makes no sense."""
        if name not in self._known:
            newest: Package | None = None
            for base, stanza in self._stanzas.get(name, ()):
                package = parse_package(stanza, base)
                if newest is None or compare_versions(package.version, newest.version) > 0:
                    newest = package
            self._known[name] = newest
        return self._known[name]

    def providers(self, name: str) -> list[str]:
        """Give the names of the packages that provide something, those that a system is likeliest to have first."""
        return sorted(set(self._providers.get(name, ())), key=self._likeliest)

    def minimal(self) -> list[str]:
        """Name the packages that every system has: the essential and the required ones."""
        packages = [package for name in sorted(self._minimal) if (package := self.find(name)) is not None]
        return [package.name for package in packages if package.essential or package.priority == "required"]

    @cached_property
    def _providers(self) -> Mapping[str, list[str]]:
        """Map what is provided to those who might: names only, for an index has many more than anyone asks for."""
        providers: dict[str, list[str]] = {}
        for name, provides in self._provides:
            for part in provides.split(","):
                provided = part.strip().partition(" ")[0].partition("(")[0].partition(":")[0]
                providers.setdefault(provided, []).append(name)
        return providers

    def _likeliest(self, name: str) -> tuple[int, str]:
        stanza = self._stanzas[name][0][1]
        priority = stanza.partition("\nPriority:")[2].partition("\n")[0].strip()
        return (_PRIORITIES.index(priority) if priority in _PRIORITIES else len(_PRIORITIES)), name


def _name(stanza: str) -> str:
    """Find out quickly whose stanza this is."""
    at = 0 if stanza.startswith(_BEGIN) else stanza.find(f"\n{_BEGIN}") + 1
    if not at and not stanza.startswith(_BEGIN):
        raise Corrupt(f"a package index has an entry without a name: {stanza[:60]!r}")
    return stanza[at + len(_BEGIN) :].partition("\n")[0].strip()


def parse_package(stanza: str, base: str) -> Package:
    """Read one entry of an index. Raises Corrupt for one that is not whole, or impossible."""
    fields, *more = parse_stanzas(stanza)
    try:
        name, filename, sha256 = fields["Package"], fields["Filename"], fields["SHA256"].lower()
        size, version = int(fields["Size"]), check_version(fields["Version"])
    except (KeyError, ValueError):
        raise Corrupt(f"a package index has an incomplete entry: {fields.get('Package', '?')[:60]!r}") from None
    possible = (
        not more
        and set(name) <= _NAME
        and 2 <= len(name) <= 128
        and name[0].isalnum()
        and _is_below(filename)
        and 0 < size <= MAX_PACKAGE_BYTES
        and len(sha256) == 64
        and set(sha256) <= _HEX
    )
    if not possible:
        raise Corrupt(f"a package index has an impossible entry for {name[:60]!r}: {filename[:120]!r}")
    depends = [*parse_relations(fields.get("Pre-Depends", "")), *parse_relations(fields.get("Depends", ""))]
    return Package(
        name=name,
        version=version,
        base=base,
        filename=filename,
        size=size,
        sha256=sha256,
        priority=fields.get("Priority", ""),
        essential=fields.get("Essential", "") == "yes",
        depends=tuple(depends),
        provides=tuple(group[0] for group in parse_relations(fields.get("Provides", ""))),
    )


def _is_below(filename: str) -> bool:
    """Say whether a file's name stays below the archive's root, and means the same in a URL."""
    plain = filename.isascii() and filename.isprintable() and not set(filename) & set(" ?#%\\")
    return plain and not {"", ".", ".."} & set(filename.split("/")) and ":" not in filename.partition("/")[0]


def parse_relations(text: str) -> Iterator[tuple[Relation, ...]]:
    """Read `a (>= 1) | b, c:any`: groups of alternatives. Raises Corrupt."""
    for group in text.replace("\n", " ").split(","):
        alternatives = tuple(_relation(part.strip()) for part in group.split("|") if part.strip())
        if alternatives:
            yield alternatives


def _relation(text: str) -> Relation:
    head, bracket, inside = text.partition("(")
    name = head.partition("[")[0].strip().partition(":")[0]
    if not bracket:
        return Relation(name)
    inside = inside.partition(")")[0].strip()
    version = inside.lstrip("<>=")
    op = inside[: len(inside) - len(version)]
    wanted = check_version(version.strip())
    satisfies(wanted, op, wanted)  # raises for an operator that is none
    return Relation(name, op, wanted)


def choose(index: Index, names: Iterable[str], *, prefer: frozenset[str] = frozenset()) -> tuple[Package, ...]:
    """Choose packages and all that they depend on, sorted by name.

    Of alternatives one that is chosen already, else one in `prefer`, else the first that
    is there. Conflicts are not looked at: what a distribution calls required has none.
    Raises NotFound for what the archive does not have.
    """
    chosen: dict[str, Package] = {}
    pending: list[tuple[tuple[Relation, ...], str]] = []

    def take(alternatives: tuple[Relation, ...], by: str) -> None:
        package = _pick(index, alternatives, chosen, prefer)
        if package is None:
            wanted = " or ".join(str(relation) for relation in alternatives)
            raise NotFound(f"the archive has no package {wanted}, which {by} needs")
        if package.name not in chosen:
            if len(chosen) >= _MAX_CHOSEN:
                raise Corrupt(f"the base system would have more than {_MAX_CHOSEN} packages")
            chosen[package.name] = package
            pending.extend((group, package.name) for group in reversed(package.depends))

    for name in names:
        take((Relation(name),), "the base system")
    while pending:
        take(*pending.pop())
    return tuple(chosen[name] for name in sorted(chosen))


def _pick(
    index: Index, alternatives: tuple[Relation, ...], chosen: Mapping[str, Package], prefer: frozenset[str]
) -> Package | None:
    there = [package for relation in alternatives for package in _candidates(index, relation)]
    for wanted in (chosen, prefer):
        for package in there:
            if package.name in wanted:
                return package
    return there[0] if there else None


def _candidates(index: Index, relation: Relation) -> Iterator[Package]:
    """Give what meets one alternative: the package itself, then those that provide it."""
    package = index.find(relation.name)
    if package is not None and relation.is_met_by(package.version):
        yield package
    for name in index.providers(relation.name):
        provider = index.find(name)
        if provider is not None and any(
            provided.name == relation.name and relation.is_provided_by(provided) for provided in provider.provides
        ):
            yield provider
