"""The rules themselves: each complains about a small tree that breaks it, and only then."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rules import checks
from tests.rules.source import Module, Use, imports, read_modules, uses

FLOOR = {"low": 0, "left": 1, "right": 1, "high": 2, "onggi": 3}

MakeTree = Callable[..., list[Module]]


@pytest.fixture
def tree(tmp_path: Path) -> MakeTree:
    """Write files, given as path=text beneath the root package, and read them as modules."""

    def make(files: dict[str, str]) -> list[Module]:
        for name, text in {"__init__.py": '"""Root."""', **files}.items():
            path = tmp_path / "onggi" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return read_modules(tmp_path)

    return make


@pytest.mark.parametrize(
    ("file", "text", "target"),
    [
        ("low/a.py", "from onggi.high.b import thing", "onggi.high.b.thing"),
        ("low/a.py", "import onggi.high", "onggi.high"),
        ("low/a.py", "from onggi import high", "onggi.high"),
        ("low/a.py", "from ..high import b", "onggi.high.b"),
        ("low/__init__.py", "from ..high.b import thing", "onggi.high.b.thing"),
        ("low/a.py", "def late():\n    from onggi.high import b", "onggi.high.b"),
        ("low/a.py", "import typing\nif typing.TYPE_CHECKING:\n    from onggi.high import b", "onggi.high.b"),
        ("left/a.py", "from onggi.right import b", "onggi.right.b"),
        ("high/a.py", "from onggi import Engine", "onggi.Engine"),
        ("high/a.py", "import onggi", "onggi"),
    ],
)
def test_imports_that_go_up_or_aside(tree: MakeTree, file: str, text: str, target: str) -> None:
    (complaint,) = checks.floor_violations(tree({file: text}), FLOOR)
    assert f" imports {target}: " in complaint


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("high/a.py", "from onggi.low import b\nfrom onggi.left import c\nimport os"),
        ("high/a.py", "from . import b\nfrom .b import c"),
        ("high/__init__.py", "from . import b"),
        ("__init__.py", "from onggi.high import Engine"),
    ],
)
def test_imports_that_go_down_or_stay(tree: MakeTree, file: str, text: str) -> None:
    assert checks.floor_violations(tree({file: text}), FLOOR) == []


def test_relative_imports_are_resolved(tree: MakeTree) -> None:
    modules = {
        module.name: module for module in tree({"low/__init__.py": "from . import a", "low/a.py": "from .b import c"})
    }
    assert list(imports(modules["onggi.low"])) == [Use("onggi.low.a", 1)]
    assert list(imports(modules["onggi.low.a"])) == [Use("onggi.low.b.c", 1)]


def test_packages_without_a_floor(tree: MakeTree) -> None:
    assert checks.without_floor(tree({"attic/a.py": ""}), FLOOR) == ["attic has no floor"]


@pytest.mark.parametrize(
    "text",
    [
        "import os\nos.environ['A']",
        "import os as o\no.environ.get('A')",
        "from os import environ",
        "from os import environ as e",
        "import os.path\nos.environ",
        "def f():\n    import os\n    return os.environ",
    ],
)
def test_a_name_is_found_whatever_it_is_called(tree: MakeTree, text: str) -> None:
    found = list(checks.forbidden_uses(tree({"low/a.py": text}), {"os.environ"}))
    assert found
    assert all(module.name == "onggi.low.a" for module, _, _ in found)


@pytest.mark.parametrize(
    "text", ["import os\nos.open", "class A:\n    environ = 1", "import posix\nposix.environ", "self.os.environ"]
)
def test_other_names_are_left_alone(tree: MakeTree, text: str) -> None:
    assert list(checks.forbidden_uses(tree({"low/a.py": text}), {"os.environ"})) == []


def test_builtins_are_found_and_methods_of_that_name_are_not(tree: MakeTree) -> None:
    (module,) = [
        module for module in tree({"low/a.py": "print(1)\nself.print(2)\nf().print(3)"}) if "low" in module.name
    ]
    assert [use for use in uses(module) if use.name == "print"] == [Use("print", 1)]


def test_a_program_may_act_beneath_its_main_guard(tree: MakeTree) -> None:
    modules = tree({"low/a.py": "if __name__ == '__main__':\n    print(1)", "low/b.py": "if True:\n    print(1)"})
    assert [module.name for module, _, _ in checks.forbidden_uses(modules, {"print"})] == ["onggi.low.b"]


def test_effects_but_not_what_only_computes(tree: MakeTree) -> None:
    modules = tree({"low/a.py": "import os\nimport os.path\nfrom os import fsencode, open\nimport oscar"})
    found = [name for _, name, _ in checks.forbidden_imports(modules, {"os"}, {"os.path", "os.fsencode"})]
    assert found == ["os", "os.open"]


def test_exceptions_are_by_module_and_name_and_must_be_needed(tree: MakeTree) -> None:
    found = list(checks.forbidden_imports(tree({"low/a.py": "import os", "low/b.py": "import os"}), {"os"}))
    bad, needed = checks.complaints(found, {("onggi.low.a", "os"): "", ("onggi.low.c", "os"): ""}, "no")
    assert bad == ["onggi.low.b:1 os: no"]
    assert needed == {("onggi.low.a", "os")}


def test_pure_packages_import_from_a_short_list(tree: MakeTree) -> None:
    modules = tree(
        {"low/a.py": "import struct, time\nfrom pathlib import Path, PurePath\nimport msgspec\nfrom . import b"}
    )
    complaints = checks.not_among(modules, {"struct", "pathlib.PurePath"})
    assert [complaint.split()[2] for complaint in complaints] == ["time:", "pathlib.Path:"]


def test_dependencies_outside_the_allow_list(tree: MakeTree) -> None:
    modules = tree({"low/a.py": "import click, msgspec.json, os\nfrom onggi.low import b", "high/a.py": "import click"})
    (complaint,) = checks.outside_allow_list(modules, {"low": {"msgspec"}, "high": {"click"}})
    assert complaint == "onggi.low.a:1 imports click: not a dependency of low/"


def test_docstrings_packages_and_names(tree: MakeTree) -> None:
    modules = tree({"low/a.py": "x = 1", "low/b/__init__.py": '"""Fine."""', "low/b/_utils.py": '"""Fine."""'})
    assert checks.without_docstring(modules) == ["onggi.low.a"]
    assert [path.rpartition("/")[2] for path in checks.without_init(modules)] == ["low"]
    assert checks.bad_names(modules, {"utils"}) == ["onggi.low.b._utils"]
