"""The long form of the tests of crashes and of growth: `./run soak [MINUTES]`.

ONGGI_SOAK, in minutes, is what these tests look at; without it they are as long as
everybody can wait for.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

MINUTES: Final = float(os.environ.get("ONGGI_SOAK") or 0)
USUAL: Final = 10.0
TESTS: Final = (
    "tests/root/test_growth.py",
    "tests/root/test_crash.py",
    "tests/root/test_network_crash.py",
    "tests/root/test_lifecycle_races.py",
    "tests/root/test_random_kills.py",
    "tests/root/test_pull_kills.py",
    "tests/clients/test_pull_wire.py",
)


def times(usual: int, factor: int = 10) -> int:
    """Say how often something is done: as usual, or as often as a soak does it."""
    return usual * factor if MINUTES else usual


def timeout(seconds: int) -> int:
    """Say when a test has hung: never in a soak."""
    return 0 if MINUTES else seconds


def main() -> int:
    """Run the tests with the long scale."""
    if len(sys.argv) > 2 or any(not word.replace(".", "", 1).isdigit() for word in sys.argv[1:]):
        sys.exit("usage: ./run soak [MINUTES]   (of commands killed at random; the rest takes half an hour)")
    minutes = float(sys.argv[1]) if sys.argv[1:] else USUAL
    command = [sys.executable, "-m", "pytest", "--timeout=0", "--durations=10", *TESTS]
    environment = {**os.environ, "ONGGI_SOAK": str(minutes)}
    return subprocess.run(command, cwd=Path(__file__).parent.parent, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
