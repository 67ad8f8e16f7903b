"""`linux` of config.json (runtime-spec config-linux.md), apart from namespaces, resources and seccomp."""

import msgspec

from ._base import Int64, Object, Strings, UInt32
from .namespace import LinuxIDMapping, LinuxNamespace, LinuxNetDevice, LinuxTimeOffset
from .resources import LinuxResources
from .seccomp import LinuxSeccomp


class LinuxDevice(Object, frozen=True, kw_only=True):
    """A device node to make; `type` is b, c, u or p; only a fifo (p) goes without numbers."""

    path: str
    type: str
    major: Int64 | None = None
    minor: Int64 | None = None
    file_mode: UInt32 | None = None
    uid: UInt32 | None = None
    gid: UInt32 | None = None


class LinuxIntelRdt(Object, frozen=True, kw_only=True):
    """Intel resource director: cache and memory bandwidth through resctrl.

    `schemata` and `enable_monitoring` came with 1.3.0, which dropped `enable_cmt` and `enable_mbm`.
    """

    clos_id: str | None = msgspec.field(default=None, name="closID")
    schemata: Strings | None = None
    l3_cache_schema: str | None = None
    mem_bw_schema: str | None = None
    enable_monitoring: bool | None = None
    enable_cmt: bool | None = msgspec.field(default=None, name="enableCMT")
    enable_mbm: bool | None = msgspec.field(default=None, name="enableMBM")


class LinuxPersonality(Object, frozen=True, kw_only=True):
    """personality(2): `domain` is LINUX or LINUX32."""

    domain: str
    flags: Strings | None = None


class LinuxMemoryPolicy(Object, frozen=True, kw_only=True):
    """set_mempolicy(2): `mode` is `MPOL_*`, `nodes` a list as `0-3,7`, `flags` are `MPOL_F_*`."""

    mode: str
    nodes: str | None = None
    flags: Strings | None = None


class Linux(Object, frozen=True, kw_only=True):
    """What only Linux has."""

    uid_mappings: tuple[LinuxIDMapping, ...] | None = None
    gid_mappings: tuple[LinuxIDMapping, ...] | None = None
    sysctl: dict[str, str] | None = None
    resources: LinuxResources | None = None
    cgroups_path: str | None = None
    namespaces: tuple[LinuxNamespace, ...] | None = None
    devices: tuple[LinuxDevice, ...] | None = None
    net_devices: dict[str, LinuxNetDevice] | None = None
    seccomp: LinuxSeccomp | None = None
    rootfs_propagation: str | None = None
    masked_paths: Strings | None = None
    readonly_paths: Strings | None = None
    mount_label: str | None = None
    intel_rdt: LinuxIntelRdt | None = None
    memory_policy: LinuxMemoryPolicy | None = None
    personality: LinuxPersonality | None = None
    time_offsets: dict[str, LinuxTimeOffset] | None = None
