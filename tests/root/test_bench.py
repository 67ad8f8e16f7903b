"""The bench as a whole, where no other program is needed: its namespaces, its disk, and that it leaves nothing."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.homes import Installed

PROJECT = Path(__file__).parent.parent.parent


def traces() -> set[str]:
    """List what a bench could leave on the host."""
    cgroups = {str(path) for path in Path("/sys/fs/cgroup").glob("**/onggi-bench-*")}
    return cgroups | {str(path) for path in Path("/var/tmp").glob("onggi-bench-*")}


def test_a_cold_start_is_measured(installed: Installed) -> None:
    if shutil.which("mkfs.ext4") is None or shutil.which("gcc") is None:
        pytest.skip("needs mkfs.ext4 and gcc: apt-get install e2fsprogs gcc")
    before = traces()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ONGGI", "PYTHON"))}
    done = subprocess.run(
        [installed.python, "-m", "bench.run", "cold", "--rounds", "2"],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^\| (.*?) \| 2 \| (\d+\.\d) \|", done.stdout, re.MULTILINE)
    names = [name for name, _ in rows]
    assert names[0].startswith("onggi, ")
    assert names[0].endswith(", leaves one warm")
    assert names[-1] == "`python3 -I -c pass`"
    assert float(rows[0][1]) > float(rows[-1][1])
    assert "≤ 150 ms" in done.stdout
    assert traces() == before
