"""What the compiler knows of architectures: AUDIT_ARCH tokens, families, and the numbers of system calls.

The numbers are data (`plan/data/syscalls.txt`, written by `tools/make_syscall_table.py`),
read once and only for the architectures that are asked for.
"""

from functools import cache
from typing import Final

import msgspec

from onggi.base.errors import InvalidArgument, NotSupported

X32_BIT: Final = 0x4000_0000
ARM_PRIVATE: Final = 0x000F_0000  # cacheflush, set_tls and their like: no part of the growing table

_DATA: Final = f"{__file__.rpartition('/')[0]}/../data"


class Arch(msgspec.Struct, frozen=True, kw_only=True):
    """One system call ABI.

    `token` is what seccomp_data.arch holds. `bit` is set in every number.
    `wide`: arguments are compared as 64 bits; the others count as 32, x32
    among them, as in libseccomp. `multiplexed`: socketcall(2) and ipc(2).
    """

    name: str
    scmp: str
    docker: str
    token: int
    wide: bool
    bit: int = 0
    multiplexed: bool = False


X86_64: Final = Arch(name="x86_64", scmp="SCMP_ARCH_X86_64", docker="amd64", token=0xC000_003E, wide=True)
X32: Final = Arch(name="x32", scmp="SCMP_ARCH_X32", docker="x32", token=0xC000_003E, wide=False, bit=X32_BIT)
I386: Final = Arch(name="i386", scmp="SCMP_ARCH_X86", docker="x86", token=0x4000_0003, wide=False, multiplexed=True)
AARCH64: Final = Arch(name="aarch64", scmp="SCMP_ARCH_AARCH64", docker="arm64", token=0xC000_00B7, wide=True)
ARM: Final = Arch(name="arm", scmp="SCMP_ARCH_ARM", docker="arm", token=0x4000_0028, wide=False)

# What programs one kernel runs, the kernel's own ABI first. A call of any other
# architecture cannot happen there, so a profile's rules for it are not compiled.
_FAMILIES: Final = {"x86_64": (X86_64, X32, I386), "aarch64": (AARCH64, ARM), "i386": (I386,), "arm": (ARM,)}
_ALIASES: Final = {
    "amd64": "x86_64",
    "arm64": "aarch64",
    "386": "i386",
    "i686": "i386",
    "armv7l": "arm",
    "armv8l": "arm",
}
_OTHERS: Final = frozenset(
    (
        *("SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS64N32"),
        *("SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32"),
        *("SCMP_ARCH_PPC", "SCMP_ARCH_PPC64", "SCMP_ARCH_PPC64LE", "SCMP_ARCH_S390", "SCMP_ARCH_S390X"),
        *("SCMP_ARCH_PARISC", "SCMP_ARCH_PARISC64", "SCMP_ARCH_RISCV64", "SCMP_ARCH_LOONGARCH64"),
        *("SCMP_ARCH_M68K", "SCMP_ARCH_SH", "SCMP_ARCH_SHEB"),
    )
)
_KNOWN: Final = _OTHERS | {arch.scmp for family in _FAMILIES.values() for arch in family}


def native_arch(name: str) -> Arch:
    """Give the architecture that `uname -m` or an OCI platform calls `name`.

    Raises NotSupported where there is no table of its system calls.
    """
    family = _FAMILIES.get(_ALIASES.get(name, name))
    if family is None:
        raise NotSupported(
            f"seccomp: there is no table of system calls for the architecture {name}; "
            f"{', '.join(_FAMILIES)} have one (run with seccomp=unconfined here)"
        )
    return family[0]


def chosen_arches(native: Arch, names: tuple[str, ...]) -> tuple[Arch, ...]:
    """Give what a profile's `architectures` open on this kernel; the native one is always open.

    Raises InvalidArgument for a name that is no architecture at all.
    """
    for name in names:
        if name not in _KNOWN and name != "SCMP_ARCH_NATIVE":
            raise InvalidArgument(f"seccomp profile: architecture {name!r} is not known; names look like {native.scmp}")
    return tuple(arch for arch in _FAMILIES[native.name] if arch is native or arch.scmp in names)


@cache
def syscall_numbers(arch: Arch) -> dict[str, int]:
    """Give name and number, with the architecture's bit, of every system call of an architecture."""
    lines = read_data("syscalls.txt").decode().splitlines()
    head = next(index for index, line in enumerate(lines) if line[0] != "#")
    column = lines[head].split().index(arch.name)
    numbers = {}
    for line in lines[head + 1 :]:
        fields = line.split()
        if fields[column] != "-":
            numbers[fields[0]] = int(fields[column]) | arch.bit
    return numbers


def read_data(name: str) -> bytes:
    """Read a file of this package: a constant that is too long to be code."""
    with open(f"{_DATA}/{name}", "rb") as file:
        return file.read()
