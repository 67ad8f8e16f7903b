"""The C program compiles everywhere without a warning: gcc and clang, glibc and musl, x86-64 and aarch64."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from launcher import build

ARM_HEADERS: Final = Path("/usr/aarch64-linux-gnu/include")
COMPILERS: Final = {
    "gcc": ("gcc",),
    "clang": ("clang",),
    "clang for aarch64": ("clang", "--target=aarch64-linux-gnu", "-isystem", str(ARM_HEADERS)),
}
BUILD: Final = "0" * 16
SOURCES: Final = [*build.launcher_sources(), build.SOURCES / "hello" / "hello.c"]


def test_there_is_a_program() -> None:
    assert len(SOURCES) > 1


@pytest.mark.parametrize("variant", [(), build.CRASH_TEST], ids=["as shipped", "crash test"])
@pytest.mark.parametrize("name", COMPILERS)
def test_no_compiler_warns(name: str, variant: tuple[str, ...]) -> None:
    if shutil.which(COMPILERS[name][0]) is None:
        pytest.skip(f"needs {COMPILERS[name][0]}: apt-get install {COMPILERS[name][0]}")
    if name.endswith("aarch64") and not ARM_HEADERS.is_dir():
        pytest.skip("needs the headers of aarch64: apt-get install libc6-dev-arm64-cross")
    flags = (*build.WARNINGS, "-Werror", *variant, f'-DONGGI_BUILD_ID="{BUILD}"', "-fsyntax-only")
    command = [*COMPILERS[name], *flags, *map(str, SOURCES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_compiler_that_builds_it_does_not_warn_either(tmp_path: Path) -> None:
    with build.compiler() as cc:
        if cc.name == "ziglang":
            pytest.skip("needs musl-gcc (the macros of ziglang's musl warn): apt-get install musl-tools")
        build.compile_launcher(cc, tmp_path / "launcher", build=BUILD, extra=("-Werror",))


def test_a_compiler_that_cannot_link_statically_is_passed_over(tmp_path: Path) -> None:
    broken = tmp_path / "cc"
    broken.write_text('#!/bin/sh\ncase " $* " in *" -static "*) exit 1;; esac\n')
    broken.chmod(0o755)
    with build.compiler({"CC": str(broken)}) as chosen:
        assert chosen.name != "$CC"


def test_a_compiler_of_ones_own_goes_first() -> None:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc: apt-get install gcc")
    with build.compiler({"CC": "gcc -g0"}) as chosen:
        assert chosen == build.Compiler("$CC", ("gcc", "-g0"))


def test_what_does_not_compile_leaves_the_old_program_in_place(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("old")
    with build.compiler() as cc, pytest.raises(build.BuildFailed, match="no-such-flag"):
        build.compile_launcher(cc, program, build=BUILD, extra=("--no-such-flag",))
    assert [path.name for path in tmp_path.iterdir()] == ["program"]
    assert program.read_text() == "old"


def test_the_build_id_follows_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("src/onggi/bin", "launcher"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr(build, "ROOT", tmp_path)
    monkeypatch.setattr(build, "PACKAGE", tmp_path / "src" / "onggi")
    monkeypatch.setattr(build, "SOURCES", tmp_path / "launcher")
    seen = [build.build_id()]
    for name, text in {"launcher/a.c": "a", "launcher/b.c": "a", "src/onggi/c.py": "", "src/onggi/d.txt": ""}.items():
        (tmp_path / name).write_text(text)
        seen.append(build.build_id())
    assert len(set(seen)) == 5
    (tmp_path / "launcher" / "a.c").rename(tmp_path / "launcher" / "c.c")
    assert build.build_id() not in seen
    (tmp_path / "launcher" / "c.c").rename(tmp_path / "launcher" / "a.c")
    (tmp_path / "src" / "onggi" / "bin" / "onggi-launcher").write_text("generated")
    assert build.build_id() == seen[-1]
