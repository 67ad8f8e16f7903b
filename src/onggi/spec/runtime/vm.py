"""`vm` of config.json: containers behind a virtual machine (runtime-spec config-vm.md)."""

import msgspec

from ._base import Object, Strings, UInt32, UInt64, check_uint64


class VMHypervisor(Object, frozen=True, kw_only=True):
    """The hypervisor's program and its arguments."""

    path: str
    parameters: Strings | None = None


class VMKernel(Object, frozen=True, kw_only=True):
    """The guest's kernel."""

    path: str
    parameters: Strings | None = None
    initrd: str | None = None


class VMImage(Object, frozen=True, kw_only=True):
    """The guest's root image; `format` is raw, qcow2, vdi, vmdk or vhd."""

    path: str
    format: str


class VMIOMems(Object, frozen=True, kw_only=True):
    """Pages of I/O memory handed to the guest."""

    first_gfn: UInt64 | None = msgspec.field(default=None, name="firstGFN")
    first_mfn: UInt64 = msgspec.field(name="firstMFN")
    nr_mfns: UInt64 = msgspec.field(name="nrMFNs")

    def __post_init__(self) -> None:
        check_uint64(firstGFN=self.first_gfn, firstMFN=self.first_mfn, nrMFNs=self.nr_mfns)


class VMHWConfig(Object, frozen=True, kw_only=True):
    """The guest's hardware; `memory` in bytes."""

    device_tree: str | None = None
    vcpus: UInt32 | None = None
    memory: UInt64 | None = None
    dtdevs: Strings | None = None
    iomems: tuple[VMIOMems, ...] | None = None
    irqs: tuple[UInt32, ...] | None = None

    def __post_init__(self) -> None:
        check_uint64(memory=self.memory)


class VM(Object, frozen=True, kw_only=True):
    """The virtual machine around a container."""

    hypervisor: VMHypervisor | None = None
    kernel: VMKernel
    image: VMImage | None = None
    hw_config: VMHWConfig | None = None
