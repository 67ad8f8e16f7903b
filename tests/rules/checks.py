"""The rules as functions from modules to complaints: empty lists are good."""

import ast
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping

from tests.rules.source import ROOT, Module, imports, package_of, uses

NEWER_STDLIB = frozenset({"compression"})
"""Modules of the standard library that the oldest supported Python does not have yet."""


def none(found: Collection[str]) -> None:
    """Fail with every complaint on a line of its own."""
    assert not found, "\n" + "\n".join(found)


def floor_violations(modules: Iterable[Module], floor: Mapping[str, int]) -> list[str]:
    """Imports go down only, and packages on one floor do not know each other."""
    return [
        f"{module.name}:{line} imports {target}: {package} is on floor {floor[package]}, {other} on {floor[other]}"
        for module in modules
        for target, line in imports(module)
        if (other := _package(target, floor)) and (package := module.package) != other
        if floor[package] <= floor[other]
    ]


def _package(target: str, floor: Mapping[str, int]) -> str | None:
    """Say which package of ours an import reaches; `from onggi import Engine` reaches the root itself."""
    if target != ROOT and not target.startswith(f"{ROOT}."):
        return None
    package = package_of(target)
    return package if package in floor else ROOT


def without_floor(modules: Iterable[Module], floor: Mapping[str, int]) -> list[str]:
    """Every package has a floor."""
    return sorted({f"{module.package} has no floor" for module in modules if module.package not in floor})


def matches(name: str, patterns: Collection[str]) -> bool:
    """Whether a dotted name is one of the patterns or lies beneath one."""
    parts = name.split(".")
    return any(".".join(parts[:end]) in patterns for end in range(1, len(parts) + 1))


def forbidden_imports(
    modules: Iterable[Module], forbidden: Collection[str], harmless: Collection[str] = ()
) -> Iterator[tuple[Module, str, int]]:
    """Give the imports of what is `forbidden`, but for the names in `harmless`."""
    for module in modules:
        for name, line in imports(module):
            if matches(name, forbidden) and not matches(name, harmless):
                yield module, name, line


def forbidden_uses(modules: Iterable[Module], forbidden: Collection[str]) -> Iterator[tuple[Module, str, int]]:
    """Give the uses of names in `forbidden`, whatever they were imported as."""
    for module in modules:
        for name, line in uses(module):
            if matches(name, forbidden):
                yield module, name, line


def complaints(
    found: Iterable[tuple[Module, str, int]], allowed: Mapping[tuple[str, str], str], why: str
) -> tuple[list[str], set[tuple[str, str]]]:
    """Give what is not allowed as sentences, and which of the `allowed` (module, name) were needed."""
    bad, needed = [], set()
    for module, name, line in found:
        key = next((key for key in allowed if key[0] == module.name and matches(name, {key[1]})), None)
        if key:
            needed.add(key)
        else:
            bad.append(f"{module.name}:{line} {name}: {why}")
    return bad, needed


def third_party(module: Module) -> Iterator[tuple[str, int]]:
    """Give what a module imports that is neither ours nor in the standard library."""
    for name, line in imports(module):
        head = name.partition(".")[0]
        if head and head != ROOT and head not in sys.stdlib_module_names | NEWER_STDLIB:
            yield head, line


def outside_allow_list(modules: Iterable[Module], allowed: Mapping[str, Collection[str]]) -> list[str]:
    """Dependencies are few, and each is known to few packages."""
    return [
        f"{module.name}:{line} imports {name}: not a dependency of {module.package}/"
        for module in modules
        for name, line in third_party(module)
        if name not in allowed.get(module.package, ())
    ]


def not_among(modules: Iterable[Module], stdlib: Collection[str]) -> list[str]:
    """What is pure imports from a short list of the standard library only."""
    return [
        f"{module.name}:{line} imports {name}: not on the list of what is pure"
        for module in modules
        for name, line in imports(module)
        if name.partition(".")[0] in sys.stdlib_module_names and not matches(name, stdlib)
    ]


def without_docstring(modules: Iterable[Module]) -> list[str]:
    """Each module says what it owns."""
    return [module.name for module in modules if not (ast.get_docstring(module.tree) or "").strip()]


def without_init(modules: Iterable[Module]) -> list[str]:
    """Each directory of code is a package that says so."""
    listed = list(modules)
    packages = {module.path.parent for module in listed if module.is_package}
    return sorted({str(module.path.parent) for module in listed if module.path.parent not in packages})


def bad_names(modules: Iterable[Module], banned: Collection[str]) -> list[str]:
    """No module is named after nothing in particular."""
    return [module.name for module in modules if module.name.rpartition(".")[2].strip("_") in banned]


def beneath(modules: Iterable[str], packages: Collection[str]) -> list[str]:
    """List the modules that are one of these packages or are in one."""
    return [name for name in modules if any(name == top or name.startswith(f"{top}.") for top in packages)]
