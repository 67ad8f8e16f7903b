"""Read a source tree as modules, their imports and the dotted names that they use. Knows no rule."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = "onggi"


class Module(NamedTuple):
    """One file of Python."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def package(self) -> str:
        """The first name beneath the root package: what has a floor."""
        return package_of(self.name)

    @property
    def is_package(self) -> bool:
        """Whether this is the `__init__.py` of a package."""
        return self.path.name == "__init__.py"


class Use(NamedTuple):
    """A dotted name and the line that has it."""

    name: str
    line: int


def read_modules(src: Path) -> list[Module]:
    """Parse every file beneath `src`, a directory that holds the root package."""
    return [
        Module(module_name(path.relative_to(src)), path, ast.parse(path.read_text(), str(path)))
        for path in sorted((src / ROOT).rglob("*.py"))
    ]


def module_name(path: Path) -> str:
    """`onggi/plan/wire.py` is onggi.plan.wire, `onggi/plan/__init__.py` is onggi.plan."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_of(name: str) -> str:
    """`onggi.plan.wire` belongs to plan, `onggi` itself to onggi."""
    return name.split(".")[1] if "." in name else name


def imports(module: Module) -> Iterator[Use]:
    """Give everything that a module imports anywhere in it, absolute; `from a import b` gives a.b."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (Use(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = _origin(module, node)
            yield from (Use(f"{origin}.{alias.name}", node.lineno) for alias in node.names)


def _origin(module: Module, node: ast.ImportFrom) -> str:
    """Resolve the dots of a relative import."""
    if not node.level:
        return node.module or ""
    here = module.name.split(".")
    above = here[: len(here) - node.level + module.is_package]
    return ".".join([*above, node.module] if node.module else above)


def uses(module: Module) -> Iterator[Use]:
    """Give the dotted names a module uses, as absolute as its imports tell; builtins as they are.

    What stands beneath `if __name__ == "__main__":` is a program's edge and is left out.
    """
    known = _known_names(module)
    pending: list[ast.AST] = [module.tree]
    while pending:
        node = pending.pop()
        if _is_main_guard(node):
            continue
        if isinstance(node, ast.ImportFrom):
            origin = _origin(module, node)
            yield from (Use(f"{origin}.{alias.name}", node.lineno) for alias in node.names)
        name = _dotted(node)
        if name is None:
            pending.extend(ast.iter_child_nodes(node))
            continue
        head, dot, rest = name.partition(".")
        yield Use(known.get(head, head) + dot + rest, getattr(node, "lineno", 0))


def _known_names(module: Module) -> dict[str, str]:
    """Map each name that an import binds to what it stands for."""
    known = {}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                head = alias.name.partition(".")[0]
                known[alias.asname or head] = alias.name if alias.asname else head
        elif isinstance(node, ast.ImportFrom):
            origin = _origin(module, node)
            known.update({alias.asname or alias.name: f"{origin}.{alias.name}" for alias in node.names})
    return known


def _is_main_guard(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def _dotted(node: ast.AST) -> str | None:
    """Give `a.b.c` for a chain of attributes that begins at a name, otherwise None."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = _dotted(node.value)
        return inner and f"{inner}.{node.attr}"
    return None
