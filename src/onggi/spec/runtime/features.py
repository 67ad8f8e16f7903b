"""What a runtime says it can do: `features` of its command line (runtime-spec features.md, features-linux.md).

Absent means unknown, not unsupported. The names are those of the Go package
`features`, with a prefix where `Linux…` types would collide.
"""

import msgspec

from ._base import Object, Strings


class FeaturesCgroup(Object, frozen=True, kw_only=True):
    """Which kinds of cgroups the runtime can drive."""

    v1: bool | None = None
    v2: bool | None = None
    systemd: bool | None = None
    systemd_user: bool | None = None
    rdma: bool | None = None


class FeaturesSeccomp(Object, frozen=True, kw_only=True):
    """Which seccomp words the runtime knows; `supported_flags` are those that this kernel takes too."""

    enabled: bool | None = None
    actions: Strings | None = None
    operators: Strings | None = None
    archs: Strings | None = None
    known_flags: Strings | None = None
    supported_flags: Strings | None = None


class FeaturesEnabled(Object, frozen=True, kw_only=True):
    """A feature that is only there or not: AppArmor, SELinux, idmapped mounts, network devices."""

    enabled: bool | None = None


class FeaturesIntelRdt(Object, frozen=True, kw_only=True):
    """Intel RDT, and whether `schemata` and `enableMonitoring` are honoured."""

    enabled: bool | None = None
    schemata: bool | None = None
    monitoring: bool | None = None


class FeaturesMemoryPolicy(Object, frozen=True, kw_only=True):
    """Modes (`MPOL_*`) and flags (`MPOL_F_*`) of NUMA memory policies."""

    modes: Strings | None = None
    flags: Strings | None = None


class FeaturesMountExtensions(Object, frozen=True, kw_only=True):
    """What mounts can do beyond the options."""

    idmap: FeaturesEnabled | None = None


class FeaturesLinux(Object, frozen=True, kw_only=True):
    """What only Linux has."""

    namespaces: Strings | None = None
    capabilities: Strings | None = None
    cgroup: FeaturesCgroup | None = None
    seccomp: FeaturesSeccomp | None = None
    apparmor: FeaturesEnabled | None = None
    selinux: FeaturesEnabled | None = None
    intel_rdt: FeaturesIntelRdt | None = None
    memory_policy: FeaturesMemoryPolicy | None = None
    mount_extensions: FeaturesMountExtensions | None = None
    net_devices: FeaturesEnabled | None = None


class Features(Object, frozen=True, kw_only=True):
    """The document that `features` prints."""

    oci_version_min: str | None = None
    oci_version_max: str | None = None
    hooks: Strings | None = None
    mount_options: Strings | None = None
    linux: FeaturesLinux | None = None
    annotations: dict[str, str] | None = None
    potentially_unsafe_config_annotations: Strings | None = None


def print_features(features: Features) -> bytes:
    """Write the document, indented."""
    return msgspec.json.format(msgspec.json.encode(features), indent=2)
