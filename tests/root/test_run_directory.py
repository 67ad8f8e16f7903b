"""The run directory on a file system of its own, as /run is one nearly everywhere: a tmpfs."""

import subprocess

import pytest

from tests.homes import IMAGE, Home

BEFORE = """
set -e
mount -t tmpfs -o mode=700 run "$ROOT/run"
onggi() { "$COMMAND" --root "$ROOT" "$@"; }
"""
AFTER = """
onggi system check
ls "$ROOT/run/containers"
"""


@pytest.mark.parametrize(
    "script",
    [
        f"onggi run --rm --network none {IMAGE} true",
        f"onggi run --name c --network none {IMAGE} true; onggi rm c",
        f"onggi run -d --name c --network none {IMAGE} sleep 60; onggi exec c true; onggi rm -f c",
        f"echo 'FROM {IMAGE}\nRUN true' | onggi build -q --network none -",
    ],
    ids=["run", "rm", "exec", "build"],
)
def test_nothing_of_a_container_stays_in_it(home: Home, script: str) -> None:
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f"{BEFORE}({script}) >&2{AFTER}"],
        env=home.environment(warm=False, ROOT=str(home.root), COMMAND=str(home.installed.onggi)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "cannot" not in done.stderr
