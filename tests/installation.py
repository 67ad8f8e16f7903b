"""Onggi as people have it: the command `onggi` beside a `python3` that knows the package, in a directory of its own.

The package is copied and the launcher compiled anew, so that nothing depends on how these
tests are run, and so that an upgrade can be played: a second installation of another build.
"""

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from launcher import build
from onggi.host.launcher import Launcher


class Installation:
    """One installation. `onggi` is the command, `launcher` executes plans for an engine of this process."""

    def __init__(self, directory: Path, build_id: str) -> None:
        """Install into the new directory."""
        site = directory / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
        binaries = directory / "bin"
        package = site / "onggi"
        self.onggi, self.python = binaries / "onggi", binaries / "python3"
        self.package, self.build_id = package, build_id
        shutil.copytree(build.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__", "bin", "hello"))
        binaries.mkdir()
        with build.compiler() as cc:
            build.compile_launcher(cc, package / "bin" / "onggi-launcher", build=build_id)
            build.compile_hello(cc, package / "data" / "hello" / "rootfs" / "hello")
        (package / "bin" / "build-id").write_text(f"{build_id}\n")
        (package / "data" / "hello" / "config.json").write_text(build.hello_config())
        os.link(package / "bin" / "onggi-launcher", self.onggi)
        # What makes a virtual environment (PEP 405), and the dependencies of this one.
        base = Path(getattr(sys, "_base_executable", sys.executable))
        (directory / "pyvenv.cfg").write_text(f"home = {base.parent}\ninclude-system-site-packages = false\n")
        self.python.symlink_to(base)
        (site / "dependencies.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n")
        self.launcher = Launcher(package / "bin" / "onggi-launcher", build_id)
