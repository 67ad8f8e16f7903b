"""The build hook of the wheel: compile launcher/ and ship it as package data and, verbatim, as the script `onggi`."""

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).parent))  # a build frontend does not put the project there

from launcher import build


class OnggiBuildHook(BuildHookInterface[BuilderConfig]):
    """Compile into a private directory for a wheel, into src/ for an editable installation."""

    scratch: tempfile.TemporaryDirectory[str] | None = None

    def dependencies(self) -> list[str]:
        """Ask for ziglang only where no installed compiler will do."""
        return ["ziglang"] if build.zig_is_needed() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the generated files and tell hatch where they belong."""
        package = build.PACKAGE
        if version != "editable":
            self.scratch = tempfile.TemporaryDirectory(prefix="onggi-build-")
            package = Path(self.scratch.name)
            build_data["force_include"].update({str(package / name): f"onggi/{name}" for name in build.GENERATED})
        build.build(package)
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-linux_{build.machine()}"
        build_data["shared_scripts"][str(package / "bin" / "onggi-launcher")] = "onggi"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Drop the private directory: the wheel has taken what it needs."""
        if self.scratch:
            self.scratch.cleanup()
