"""What a container gets when nobody says otherwise: Docker's defaults, with Podman's eleven capabilities."""

from typing import Final

from onggi.spec.runtime import Mount

# Without AUDIT_WRITE, MKNOD and NET_RAW: ping works by net.ipv4.ping_group_range instead.
CAPABILITIES: Final = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)
BUILD_CAPABILITIES: Final = (*CAPABILITIES, "CAP_AUDIT_WRITE", "CAP_MKNOD", "CAP_NET_RAW")
"""Docker's fourteen, which a RUN step has as BuildKit's does."""

MASKED_PATHS: Final = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READONLY_PATHS: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

PROC: Final = Mount(destination="/proc", type="proc", source="proc", options=("nosuid", "noexec", "nodev"))
DEV: Final = Mount(
    destination="/dev", type="tmpfs", source="tmpfs", options=("nosuid", "strictatime", "mode=755", "size=65536k")
)
DEVPTS: Final = Mount(
    destination="/dev/pts",
    type="devpts",
    source="devpts",
    options=("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
)
MQUEUE: Final = Mount(destination="/dev/mqueue", type="mqueue", source="mqueue", options=("nosuid", "noexec", "nodev"))


def sysfs(*, writable: bool) -> Mount:
    """Give the mount of /sys."""
    mode = "rw" if writable else "ro"
    return Mount(destination="/sys", type="sysfs", source="sysfs", options=("nosuid", "noexec", "nodev", mode))


def cgroup(*, writable: bool) -> Mount:
    """Give the mount of /sys/fs/cgroup."""
    mode = "rw" if writable else "ro"
    options = ("nosuid", "noexec", "nodev", mode)
    return Mount(destination="/sys/fs/cgroup", type="cgroup", source="cgroup", options=options)


def shm(size_bytes: int) -> Mount:
    """Give the mount of /dev/shm."""
    options = ("nosuid", "noexec", "nodev", "mode=1777", f"size={size_bytes}")
    return Mount(destination="/dev/shm", type="tmpfs", source="shm", options=options)
