"""What this machine is, for people and for shares of it: processors, memory, system."""

import os
from typing import Final

import msgspec

_RELEASES: Final = ("/etc/os-release", "/usr/lib/os-release")


class MachineInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A machine. `system` is its distribution's name; `boot_s` is when it started, in seconds since 1970."""

    name: str
    kernel: str
    system: str
    processors: int
    memory_bytes: int
    boot_s: int


def read_machine_info() -> MachineInfo:
    """Look at the machine as it is now."""
    found = os.uname()
    return MachineInfo(
        name=found.nodename,
        kernel=found.release,
        system=_system(),
        processors=os.sysconf("SC_NPROCESSORS_ONLN"),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        boot_s=_boot_s(),
    )


def _boot_s() -> int:
    with open("/proc/stat", encoding="ascii") as file:
        return next((int(line.split()[1]) for line in file if line.startswith("btime ")), 0)


def _system() -> str:
    for path in _RELEASES:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                fields = dict(line.rstrip("\n").split("=", 1) for line in file if "=" in line)
        except OSError:
            continue
        if name := fields.get("PRETTY_NAME", "").strip("\"'"):
            return name
    return "Linux"
