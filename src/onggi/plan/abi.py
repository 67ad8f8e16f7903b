"""Kernel constants that plans are made of (uapi headers; the same on x86-64 and aarch64 unless said)."""

from typing import Final

# namespaces, clone(2)
CLONE_NEWTIME: Final = 0x0000_0080
CLONE_NEWNS: Final = 0x0002_0000
CLONE_NEWCGROUP: Final = 0x0200_0000
CLONE_NEWUTS: Final = 0x0400_0000
CLONE_NEWIPC: Final = 0x0800_0000
CLONE_NEWUSER: Final = 0x1000_0000
CLONE_NEWPID: Final = 0x2000_0000
CLONE_NEWNET: Final = 0x4000_0000

# open(2): O_NOFOLLOW, O_DIRECTORY differ on aarch64, so plans name them and the launcher's own headers decide
OPEN_READ: Final = 0x01
OPEN_WRITE: Final = 0x02
OPEN_CREATE: Final = 0x04
OPEN_PATH: Final = 0x08
OPEN_DIRECTORY: Final = 0x10
OPEN_NOFOLLOW: Final = 0x20
OPEN_MAGIC: Final = 0x40  # the last name may be a magic link of our own procfs (ns/mnt)

# mount_setattr(2)
MOUNT_ATTR_RDONLY: Final = 0x0000_0001
MOUNT_ATTR_NOSUID: Final = 0x0000_0002
MOUNT_ATTR_NODEV: Final = 0x0000_0004
MOUNT_ATTR_NOEXEC: Final = 0x0000_0008
MOUNT_ATTR__ATIME: Final = 0x0000_0070
MOUNT_ATTR_RELATIME: Final = 0x0000_0000
MOUNT_ATTR_NOATIME: Final = 0x0000_0010
MOUNT_ATTR_STRICTATIME: Final = 0x0000_0020
MOUNT_ATTR_NODIRATIME: Final = 0x0000_0080
MOUNT_ATTR_IDMAP: Final = 0x0010_0000
MOUNT_ATTR_NOSYMFOLLOW: Final = 0x0020_0000

# propagation, mount(2)
MS_UNBINDABLE: Final = 1 << 17
MS_PRIVATE: Final = 1 << 18
MS_SLAVE: Final = 1 << 19
MS_SHARED: Final = 1 << 20

# file types, mknod(2)
S_IFIFO: Final = 0o010000
S_IFCHR: Final = 0o020000
S_IFBLK: Final = 0o060000

# netlink(7) families
NETLINK_ROUTE: Final = 0
NETLINK_NETFILTER: Final = 12

SIGKILL: Final = 9
SIGTERM: Final = 15

ENOENT: Final = 2
ENXIO: Final = 6
EBADF: Final = 9
EACCES: Final = 13
EEXIST: Final = 17
ENOTDIR: Final = 20
EINVAL: Final = 22
EROFS: Final = 30
EOPNOTSUPP: Final = 95
ESRCH: Final = 3
EBUSY: Final = 16
ENODEV: Final = 19
ELOOP: Final = 40
EPERM: Final = 1


def makedev(major: int, minor: int) -> int:
    """Give the kernel's 64-bit dev_t of a device, as glibc's makedev does."""
    return (major & 0xFFF) << 8 | (major & ~0xFFF) << 32 | (minor & 0xFF) | (minor & ~0xFF) << 12


CAPABILITIES: Final = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
"""Names in bit order: `CAPABILITIES.index(name)` is the number of linux/capability.h."""

RLIMITS: Final = {
    "RLIMIT_CPU": 0,
    "RLIMIT_FSIZE": 1,
    "RLIMIT_DATA": 2,
    "RLIMIT_STACK": 3,
    "RLIMIT_CORE": 4,
    "RLIMIT_RSS": 5,
    "RLIMIT_NPROC": 6,
    "RLIMIT_NOFILE": 7,
    "RLIMIT_MEMLOCK": 8,
    "RLIMIT_AS": 9,
    "RLIMIT_LOCKS": 10,
    "RLIMIT_SIGPENDING": 11,
    "RLIMIT_MSGQUEUE": 12,
    "RLIMIT_NICE": 13,
    "RLIMIT_RTPRIO": 14,
    "RLIMIT_RTTIME": 15,
}
