"""The wheel: one static program as package data and as the command, the embedded image, every module."""

import json
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from launcher import build
from tests.conftest import is_dynamic

PROJECT: Final = Path(__file__).parent.parent.parent
LAUNCHER: Final = "onggi/bin/onggi-launcher"
HELLO: Final = "onggi/data/hello/rootfs/hello"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """Build the wheel as pip does, with the build tools of this environment."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(command, cwd=PROJECT, check=True)
    (path,) = out.iterdir()
    with zipfile.ZipFile(path) as opened:
        yield opened


def script(wheel: zipfile.ZipFile) -> str:
    """Give the name that the command has in the wheel."""
    (name,) = (name for name in wheel.namelist() if ".data/scripts/" in name)
    return name


def mode(wheel: zipfile.ZipFile, name: str) -> int:
    """Give the permission bits of a file."""
    return stat.S_IMODE(wheel.getinfo(name).external_attr >> 16)


def test_it_is_for_this_machine_and_any_python(wheel: zipfile.ZipFile) -> None:
    assert str(wheel.filename).endswith(f"-py3-none-linux_{build.machine()}.whl")


def test_the_command_is_the_launcher(wheel: zipfile.ZipFile) -> None:
    assert script(wheel).endswith("/onggi")
    assert wheel.read(script(wheel)) == wheel.read(LAUNCHER)


def test_programs_are_executable(wheel: zipfile.ZipFile) -> None:
    assert [mode(wheel, name) for name in (script(wheel), LAUNCHER, HELLO)] == [0o755] * 3


@pytest.mark.parametrize("name", [LAUNCHER, HELLO])
def test_programs_are_static(wheel: zipfile.ZipFile, name: str, tmp_path: Path) -> None:
    assert not is_dynamic(Path(wheel.extract(name, tmp_path)))


def test_the_build_id_is_of_these_sources(wheel: zipfile.ZipFile) -> None:
    assert wheel.read("onggi/bin/build-id").decode() == build.build_id() + "\n"


def test_hello_greets(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    program = Path(wheel.extract(HELLO, tmp_path))
    program.chmod(0o755)
    done = subprocess.run([program], capture_output=True, env={}, check=False)
    assert done.returncode == 0
    assert done.stdout.decode().startswith("\nHello from Onggi!")
    with open("/dev/full", "wb") as full:
        assert subprocess.run([program], stdout=full, env={}, check=False).returncode == 1


def test_hello_is_an_image_for_this_machine(wheel: zipfile.ZipFile) -> None:
    config = json.loads(wheel.read("onggi/data/hello/config.json"))
    assert (config["os"], config["architecture"]) == ("linux", build.GOARCH[build.machine()])
    assert config["config"]["Cmd"] == ["/hello"]


def test_every_file_of_the_package_is_in_it(wheel: zipfile.ZipFile) -> None:
    package = {path for path in build.PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    expected = {str(path.relative_to(build.PACKAGE.parent)) for path in package}
    expected |= {f"onggi/{name}" for name in build.GENERATED}
    assert {name for name in wheel.namelist() if name.startswith("onggi/")} == expected
