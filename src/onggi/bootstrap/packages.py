"""A Packages index and what is needed from it: deb822, versions, dependencies (Debian Policy 5, 7). Pure, bounded."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cmp_to_key
from typing import Final

import msgspec

from onggi.base.errors import Corrupt, NotFound

MAX_INDEX_BYTES: Final = 256 << 20
MAX_PACKAGES: Final = 500_000
_MAX_WANTED: Final = 5000


class Package(msgspec.Struct, frozen=True, kw_only=True):
    """One package of an archive; `filename` is below the archive's root. `depends` has alternatives of names."""

    name: str
    version: str
    filename: str
    size: int
    sha256: str
    priority: str = ""
    essential: bool = False
    depends: tuple[tuple[str, ...], ...] = ()
    provides: tuple[str, ...] = ()


def parse_stanzas(text: str) -> Iterator[dict[str, str]]:
    """Read deb822: stanzas of `Field: value`, continued by lines that begin with a space."""
    stanza: dict[str, str] = {}
    last = ""
    for line in text.split("\n"):
        if not line.strip():
            if stanza:
                yield stanza
            stanza, last = {}, ""
        elif line[0] in " \t":
            if last:
                stanza[last] += "\n" + line.strip()
        elif not line.startswith("#"):
            name, colon, value = line.partition(":")
            if not colon:
                raise Corrupt(f"a package index has a line without a field name: {line[:60]!r}")
            last = name
            stanza[last] = value.strip()
    if stanza:
        yield stanza


def parse_packages(text: str) -> dict[str, Package]:
    """Read a Packages index: of each package the newest version."""
    packages: dict[str, Package] = {}
    for number, stanza in enumerate(parse_stanzas(text)):
        if number >= MAX_PACKAGES:
            raise Corrupt(f"a package index has more than {MAX_PACKAGES} entries")
        package = _package(stanza)
        known = packages.get(package.name)
        if known is None or compare_versions(package.version, known.version) > 0:
            packages[package.name] = package
    return packages


def _package(stanza: Mapping[str, str]) -> Package:
    try:
        name, filename, sha256 = stanza["Package"], stanza["Filename"], stanza["SHA256"]
        size = int(stanza["Size"])
        version = stanza["Version"]
    except (KeyError, ValueError):
        raise Corrupt(f"a package index has an incomplete entry: {stanza.get('Package', '?')[:60]!r}") from None
    if filename.startswith("/") or ".." in filename.split("/") or size < 0 or len(sha256) != 64:
        raise Corrupt(f"a package index has an impossible entry for {name[:60]!r}: {filename[:120]!r}")
    depends = [*_relations(stanza.get("Pre-Depends", "")), *_relations(stanza.get("Depends", ""))]
    provides = [alternatives[0] for alternatives in _relations(stanza.get("Provides", ""))]
    return Package(
        name=name,
        version=version,
        filename=filename,
        size=size,
        sha256=sha256.lower(),
        priority=stanza.get("Priority", ""),
        essential=stanza.get("Essential", "") == "yes",
        depends=tuple(depends),
        provides=tuple(provides),
    )


def _relations(text: str) -> Iterator[tuple[str, ...]]:
    """Read `a (>= 1) | b, c:any`; versions are not looked at, since an index holds one version of each."""
    for group in text.replace("\n", " ").split(","):
        names = tuple(
            name
            for part in group.split("|")
            if (name := part.partition("(")[0].partition("[")[0].strip().partition(":")[0])
        )
        if names:
            yield names


def choose_minimal(packages: Mapping[str, Package], extra: Iterable[str] = ()) -> list[Package]:
    """Choose what a minimal system is made of: required and essential packages, `extra`, and all that they depend on.

    Sorted by name. Raises NotFound for a dependency that the archive cannot meet.
    """
    wanted = [p.name for p in packages.values() if p.essential or p.priority == "required"]
    return resolve(packages, [*sorted(wanted), *extra])


def resolve(packages: Mapping[str, Package], names: Iterable[str]) -> list[Package]:
    """Choose packages and all that they depend on. Of alternatives the first that is chosen already or there."""
    providers: dict[str, list[str]] = {}
    for package in packages.values():
        for name in package.provides:
            providers.setdefault(name, []).append(package.name)
    chosen: dict[str, Package] = {}
    pending: list[tuple[tuple[str, ...], str]] = [((name,), "the base system") for name in names]
    while pending:
        alternatives, by = pending.pop()
        picked = _pick(alternatives, packages, providers, chosen)
        if picked is None:
            raise NotFound(f"the archive has no package {' or '.join(alternatives)}, which {by} needs")
        if picked in chosen:
            continue
        if len(chosen) >= _MAX_WANTED:
            raise Corrupt("the dependencies of the base system have no end")
        chosen[picked] = packages[picked]
        pending += [(group, picked) for group in packages[picked].depends]
    return [chosen[name] for name in sorted(chosen)]


def _pick(
    alternatives: tuple[str, ...],
    packages: Mapping[str, Package],
    providers: Mapping[str, list[str]],
    chosen: Mapping[str, Package],
) -> str | None:
    for name in alternatives:
        if name in chosen:
            return name
        if (provider := next((p for p in providers.get(name, ()) if p in chosen), None)) is not None:
            return provider
    for name in alternatives:
        if name in packages:
            return name
        if providers.get(name):
            return sorted(providers[name])[0]
    return None


# -- versions (deb-version(7)) -------------------------------------------------------------------------


def compare_versions(a: str, b: str) -> int:
    """Compare two versions as dpkg does: negative, 0 or positive."""
    epoch_a, upstream_a, revision_a = _split(a)
    epoch_b, upstream_b, revision_b = _split(b)
    return (
        (epoch_a > epoch_b) - (epoch_a < epoch_b)
        or _compare(upstream_a, upstream_b)
        or _compare(revision_a, revision_b)
    )


version_key: Final = cmp_to_key(compare_versions)


def _split(version: str) -> tuple[int, str, str]:
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "")
    return int(epoch) if epoch.isdigit() else 0, upstream, revision


def _order(char: str) -> int:
    if char == "~":
        return -1
    if not char or char.isdigit():
        return 0
    return ord(char) if char.isalpha() else ord(char) + 256


def _compare(a: str, b: str) -> int:
    at_a = at_b = 0
    while at_a < len(a) or at_b < len(b):
        while (at_a < len(a) and not a[at_a].isdigit()) or (at_b < len(b) and not b[at_b].isdigit()):
            difference = _order(a[at_a : at_a + 1]) - _order(b[at_b : at_b + 1])
            if difference:
                return difference
            at_a += 1
            at_b += 1
        number_a, at_a = _number(a, at_a)
        number_b, at_b = _number(b, at_b)
        if number_a != number_b:
            return number_a - number_b
    return 0


def _number(text: str, at: int) -> tuple[int, int]:
    end = at
    while end < len(text) and text[end].isdigit():
        end += 1
    return int(text[at:end] or "0"), end
