"""Compile the launcher, the `hello` image and the build id: used by the wheel (hatch_build.py) and by the tests.

Needs nothing but the standard library and a C compiler that links statically against musl. glibc would do, but a
static glibc program takes 0.4 ms longer to start and 60 KB more memory, once for every command and every container.
So: $CC where it is set, musl-gcc, a `cc` that is a musl one, and otherwise ziglang from PyPI.

    python3 launcher/build.py             everything, into src/onggi/, for work without an installation
    python3 launcher/build.py --as FILE   the launcher alone; `--crash-test` makes the one that can be told to die
"""

import argparse
import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parent.parent
SOURCES: Final = ROOT / "launcher"
PACKAGE: Final = ROOT / "src" / "onggi"

GENERATED: Final = ("bin/onggi-launcher", "bin/build-id", "data/hello/config.json", "data/hello/rootfs/hello")
"""What a build adds to the package, as paths beneath it."""

WARNINGS: Final = ("-std=gnu11", "-Wall", "-Wextra")
"""Errors in tests/rules, not here: tomorrow's compiler, with a new warning, still builds what was released."""

FLAGS: Final = (
    *("-O2", "-static", *WARNINGS, "-fstack-protector-strong", "-D_FORTIFY_SOURCE=2"),
    *("-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections", "-s"),
)
HELLO_FLAGS: Final = (
    *("-Os", "-static", *WARNINGS, "-nostdlib", "-ffreestanding", "-fno-stack-protector"),
    *("-fno-asynchronous-unwind-tables", "-Wl,--build-id=none", "-s"),
)

CRASH_TEST: Final = ("-DONGGI_CRASH_TEST",)
"""The launcher of the crash tests dies when it is told to."""

GOARCH: Final = {"x86_64": "amd64", "aarch64": "arm64"}
"""Machines that Onggi is built for, and their names in an OCI image."""

_PROBE: Final = "#include <linux/openat2.h>\n#include <unistd.h>\nint main(void) { return getpid() == 0; }\n"


class BuildFailed(Exception):
    """The build cannot go on; the text says why and what would help."""


class Compiler(NamedTuple):
    """A C compiler as the words that call it."""

    name: str
    command: tuple[str, ...]


def machine() -> str:
    """Name the machine that we build on and for."""
    found = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    if found not in GOARCH or sys.platform != "linux":
        raise BuildFailed(f"Onggi runs on Linux on {' and '.join(GOARCH)}; this is {sys.platform} on {found}")
    return found


def zig() -> Compiler:
    """Give ziglang's C compiler, with the musl and the kernel headers that it brings along."""
    return Compiler("ziglang", (sys.executable, "-m", "ziglang", "cc", "-target", f"{machine()}-linux-musl"))


@contextmanager
def compiler(environ: Mapping[str, str] = os.environ) -> Iterator[Compiler]:
    """Give the compiler to build with."""
    with tempfile.TemporaryDirectory(prefix="onggi-cc-") as scratch:
        found = _installed(environ, Path(scratch))
        if found is None and find_spec("ziglang") is None:
            raise BuildFailed(
                "no C compiler that links statically against musl: set CC to one, install musl-tools "
                "(Debian, Ubuntu), or pip install ziglang"
            )
        yield found or zig()


def zig_is_needed(environ: Mapping[str, str] = os.environ) -> bool:
    """Say whether ziglang must be fetched, since nothing installed will do."""
    with tempfile.TemporaryDirectory(prefix="onggi-cc-") as scratch:
        return _installed(environ, Path(scratch)) is None


def _installed(environ: Mapping[str, str], scratch: Path) -> Compiler | None:
    return next((candidate for candidate in _candidates(environ, scratch) if _links(candidate, scratch)), None)


def _candidates(environ: Mapping[str, str], scratch: Path) -> Iterator[Compiler]:
    if chosen := shlex.split(environ.get("CC", "")):
        yield Compiler("$CC", tuple(chosen))
    if shutil.which("musl-gcc"):
        yield Compiler("musl-gcc", ("musl-gcc", "-idirafter", str(_kernel_headers(scratch))))
    if shutil.which("cc") and "musl" in _output("cc", "-dumpmachine"):
        yield Compiler("cc", ("cc",))


def _kernel_headers(scratch: Path) -> Path:
    """Give musl-gcc, which sees no header but musl's, those of the kernel and none of glibc's."""
    include, shown = Path("/usr/include"), scratch / "kernel"
    shown.mkdir(exist_ok=True)
    for name, homes in {
        "linux": [include / "linux"],
        "asm-generic": [include / "asm-generic"],
        "asm": [include / f"{machine()}-linux-gnu" / "asm", include / "asm"],
    }.items():
        home = next((home for home in homes if home.is_dir()), None)
        if home and not (shown / name).exists():
            (shown / name).symlink_to(home)
    return shown


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _links(candidate: Compiler, scratch: Path) -> bool:
    """Try the compiler on a small static program that needs the kernel's headers."""
    source, program = scratch / "probe.c", scratch / "probe"
    source.write_text(_PROBE)
    try:
        done = subprocess.run(
            [*candidate.command, "-static", str(source), "-o", str(program)], capture_output=True, check=False
        )
    except OSError:
        return False
    return done.returncode == 0


def launcher_sources() -> list[Path]:
    """List the files of the one program, in an order that does not depend on the directory's."""
    return sorted(SOURCES.glob("*.c"))


def newest_source() -> float:
    """Say when (mtime) anything that the launcher is compiled from last changed."""
    return max(path.stat().st_mtime for path in (*SOURCES.glob("*.[ch]"), Path(__file__)))


def build_id() -> str:
    """Name this state of the sources: what stub, `onggid`, launcher and database compare after an upgrade."""
    seen = hashlib.sha256()
    generated = {PACKAGE / name for name in GENERATED}
    for path in sorted((*PACKAGE.rglob("*"), *SOURCES.rglob("*"))):
        if path.is_file() and path.suffix != ".pyc" and path not in generated:
            content = path.read_bytes()
            seen.update(f"{path.relative_to(ROOT)}\0{len(content)}\0".encode() + content)
    return seen.hexdigest()[:16]


def compile_launcher(cc: Compiler, out: Path, *, build: str, extra: tuple[str, ...] = ()) -> None:
    """Compile the launcher into the file `out`."""
    sources = launcher_sources()
    if not sources:
        raise BuildFailed(f"{SOURCES} holds no C source: this checkout is not whole")
    _compile(cc, (*FLAGS, *extra, f'-DONGGI_BUILD_ID="{build}"'), sources, out)


def compile_hello(cc: Compiler, out: Path) -> None:
    """Compile the program of the embedded image into the file `out`."""
    _compile(cc, HELLO_FLAGS, [SOURCES / "hello" / "hello.c"], out)


def _compile(cc: Compiler, flags: tuple[str, ...], sources: list[Path], out: Path) -> None:
    """Compile, and put the program in its place whole: what runs from the old file goes on."""
    out.parent.mkdir(parents=True, exist_ok=True)
    staged = out.with_name(f".{out.name}.{os.getpid()}")
    command = [*cc.command, *flags, "-o", str(staged), *map(str, sources)]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            raise BuildFailed(f"{cc.name} cannot compile {out.name}:\n{shlex.join(command)}\n{done.stdout}")
        staged.chmod(0o755)
        staged.rename(out)
    finally:
        staged.unlink(missing_ok=True)


def hello_config() -> str:
    """Describe the embedded image (OCI image-spec, config.md). Whoever makes its layer knows the diff_ids."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    config = {
        "architecture": GOARCH[machine()],
        "os": "linux",
        "config": {"Env": [f"PATH={path}"], "Cmd": ["/hello"]},
        "rootfs": {"type": "layers", "diff_ids": []},
    }
    return json.dumps(config, indent=2) + "\n"


def build(package: Path) -> None:
    """Make everything in GENERATED beneath `package`, a directory."""
    name = build_id()
    with compiler() as cc:
        print(f"onggi: compiling the launcher with {cc.name}, build {name}", flush=True)
        compile_launcher(cc, package / "bin" / "onggi-launcher", build=name)
        compile_hello(cc, package / "data" / "hello" / "rootfs" / "hello")
    (package / "bin" / "build-id").write_text(name + "\n")
    (package / "data" / "hello" / "config.json").write_text(hello_config())


def main() -> None:
    """Build from the command line."""
    parser = argparse.ArgumentParser(description="Compile Onggi's launcher.")
    parser.add_argument("--as", dest="out", type=Path, metavar="FILE", help="compile the launcher alone, into FILE")
    parser.add_argument("--crash-test", action="store_true", help="with --as: the launcher that can be told to die")
    asked = parser.parse_args()
    if asked.crash_test and not asked.out:
        parser.error("--crash-test needs --as FILE: such a launcher is never installed")
    try:
        if not asked.out:
            return build(PACKAGE)
        with compiler() as cc:
            extra = CRASH_TEST if asked.crash_test else ()
            compile_launcher(cc, asked.out, build=build_id(), extra=extra)
    except BuildFailed as error:
        sys.exit(f"onggi: {error}")


if __name__ == "__main__":
    main()
