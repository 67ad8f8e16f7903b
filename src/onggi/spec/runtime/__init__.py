"""OCI runtime-spec 1.3.0 for Linux: its types under the names of its Go package, `parse_spec` and `print_spec`.

What the document had survives: None is absent, an empty list is `()`, false is
False and 0 is 0; `print_spec(parse_spec(data))` is the same JSON without the
fields that the spec does not define. Strings that stand for kernel names (a
namespace type, a seccomp action) are not judged here but by the planner that
knows them, so that a newer document still parses and prints.
"""

from .codec import MAX_CONFIG_BYTES, parse_process, parse_spec, parse_state, print_spec, print_state, unknown_fields
from .config import OCI_VERSION, Spec
from .linux import Linux, LinuxDevice, LinuxIntelRdt, LinuxMemoryPolicy, LinuxPersonality
from .namespace import LinuxIDMapping, LinuxNamespace, LinuxNetDevice, LinuxTimeOffset
from .process import (
    Box,
    CPUAffinity,
    Hook,
    Hooks,
    LinuxCapabilities,
    LinuxIOPriority,
    Mount,
    POSIXRlimit,
    Process,
    Root,
    Scheduler,
    User,
)
from .resources import (
    LinuxBlockIO,
    LinuxCPU,
    LinuxDeviceCgroup,
    LinuxHugepageLimit,
    LinuxInterfacePriority,
    LinuxMemory,
    LinuxNetwork,
    LinuxPids,
    LinuxRdma,
    LinuxResources,
    LinuxThrottleDevice,
    LinuxWeightDevice,
)
from .seccomp import LinuxSeccomp, LinuxSeccompArg, LinuxSyscall
from .state import ContainerProcessState, ContainerState, State
from .vm import VM, VMHWConfig, VMHypervisor, VMImage, VMIOMems, VMKernel

__all__ = [
    "MAX_CONFIG_BYTES",
    "OCI_VERSION",
    "VM",
    "Box",
    "CPUAffinity",
    "ContainerProcessState",
    "ContainerState",
    "Hook",
    "Hooks",
    "Linux",
    "LinuxBlockIO",
    "LinuxCPU",
    "LinuxCapabilities",
    "LinuxDevice",
    "LinuxDeviceCgroup",
    "LinuxHugepageLimit",
    "LinuxIDMapping",
    "LinuxIOPriority",
    "LinuxIntelRdt",
    "LinuxInterfacePriority",
    "LinuxMemory",
    "LinuxMemoryPolicy",
    "LinuxNamespace",
    "LinuxNetDevice",
    "LinuxNetwork",
    "LinuxPersonality",
    "LinuxPids",
    "LinuxRdma",
    "LinuxResources",
    "LinuxSeccomp",
    "LinuxSeccompArg",
    "LinuxSyscall",
    "LinuxThrottleDevice",
    "LinuxTimeOffset",
    "LinuxWeightDevice",
    "Mount",
    "POSIXRlimit",
    "Process",
    "Root",
    "Scheduler",
    "Spec",
    "State",
    "User",
    "VMHWConfig",
    "VMHypervisor",
    "VMIOMems",
    "VMImage",
    "VMKernel",
    "parse_process",
    "parse_spec",
    "parse_state",
    "print_spec",
    "print_state",
    "unknown_fields",
]
