"""Namespaces, their id maps, clock offsets and moved network devices (runtime-spec config-linux.md)."""

import msgspec

from ._base import Int64, Object, UInt32


class LinuxNamespace(Object, frozen=True, kw_only=True):
    """A namespace to make, or with `path` to join.

    `type`: pid, network, mount, ipc, uts, user, cgroup or time.
    """

    type: str
    path: str | None = None


class LinuxIDMapping(Object, frozen=True, kw_only=True):
    """`size` ids from `host_id` on appear in the container from `container_id` on."""

    container_id: UInt32 = msgspec.field(name="containerID")
    host_id: UInt32 = msgspec.field(name="hostID")
    size: UInt32


class LinuxTimeOffset(Object, frozen=True, kw_only=True):
    """Offset of one clock of a time namespace."""

    secs: Int64 | None = None
    nanosecs: UInt32 | None = None


class LinuxNetDevice(Object, frozen=True, kw_only=True):
    """A host's network device to move into the container, there called `name` (same name if absent)."""

    name: str | None = None
