"""Observe the host: what it is and what it can do, as `Facts`.

Abilities are probed by doing, never by kernel version, except the floor of 5.14
that everything here stands on.
"""

import os
import resource
from typing import Final

from onggi.base.errors import NotSupported
from onggi.host.cgroupfs import probe_cgroups
from onggi.host.machine import parse_kernel, read_boot_id
from onggi.plan import abi
from onggi.plan.facts import OVERLAY_APPENDS, OVERLAY_DESCRIPTORS, Facts

OLDEST_KERNEL: Final = (5, 14)


def probe_facts() -> Facts:
    """Observe this host as the calling process sees it. Raises NotSupported on a kernel that is too old."""
    system = os.uname()
    kernel = parse_kernel(system.release)
    if kernel < OLDEST_KERNEL:
        raise NotSupported(
            f"Linux {system.release} is too old: Onggi needs 5.14 or newer "
            "(openat2, the new mount API, mount_setattr, pidfds, cgroup.kill)"
        )
    status = read_status()
    return Facts(
        kernel=kernel,
        arch=system.machine,
        boot_id=read_boot_id(),
        euid=os.geteuid(),
        capabilities=int(status.get("CapEff", "0"), 16) & int(status.get("CapBnd", "0"), 16),
        last_capability=int(_read("/proc/sys/kernel/cap_last_cap") or "40"),
        namespaces=tuple(kind for kind, name in _NAMESPACE_FILES if os.path.exists(f"/proc/self/ns/{name}")),
        rlimit_ceilings={name: _ceiling(number) for name, number in abi.RLIMITS.items()},
        oom_score_adj=int(_read("/proc/self/oom_score_adj") or "0"),
        # By version: what is told here is only which of two ways that both work is taken.
        overlay_descriptors=kernel >= OVERLAY_DESCRIPTORS,
        overlay_appends=kernel >= OVERLAY_APPENDS,
        proc_hidden=tuple(hidden_proc_paths()),
        cgroup=probe_cgroups(),
    )


_NAMESPACE_FILES: Final = (
    ("mount", "mnt"),
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("user", "user"),
    ("cgroup", "cgroup"),
    ("time", "time"),
)


def read_status() -> dict[str, str]:
    """Read /proc/self/status."""
    pairs = (line.partition(":") for line in _read("/proc/self/status").splitlines())
    return {key: value.strip() for key, _, value in pairs}


def hidden_proc_paths() -> list[str]:
    """List what is mounted over parts of /proc: then the kernel refuses a new procfs in a user namespace."""
    return [
        fields[4]
        for fields in (line.split() for line in _read("/proc/self/mountinfo").splitlines())
        if len(fields) > 4 and fields[4].startswith("/proc/") and not fields[4].startswith("/proc/sys/fs/binfmt_misc")
    ]


def _ceiling(number: int) -> int:
    hard = resource.getrlimit(number)[1]
    return 2**64 - 1 if hard == resource.RLIM_INFINITY else hard


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""
