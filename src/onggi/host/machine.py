"""What this machine is, as far as the cheapest commands need to know it."""

import os


def read_boot_id() -> str:
    """Read the id of this boot, by which what did not survive a restart is told."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def read_machine() -> str:
    """Give the architecture as uname(2) says it."""
    return os.uname().machine


def parse_kernel(release: str) -> tuple[int, int]:
    """Read major and minor of a release such as `6.18.44-fc-v669`."""
    major, _, rest = release.partition(".")
    minor = rest.partition(".")[0].partition("-")[0]
    return int(major), int(minor)
