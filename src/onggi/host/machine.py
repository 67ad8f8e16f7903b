"""What this machine is, as far as the cheapest commands need to know it."""

import os


def read_boot_id() -> str:
    """Read the id of this boot, by which what did not survive a restart is told."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def read_machine() -> str:
    """Give the architecture as uname(2) says it."""
    return os.uname().machine
