"""Write src/onggi/plan/data/syscalls.txt from the kernel's own user headers.

    pip download --no-deps ziglang && unzip -q ziglang-*.whl 'ziglang/lib/libc/include/*-linux-any/*'
    python tools/make_syscall_table.py ziglang/lib/libc/include

The PyPI package `ziglang` ships the headers of a recent kernel for all
architectures; nothing of it but the numbers is kept.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

X32_BIT = 0x4000_0000
ARM_PRIVATE = 0x000F_0000
COLUMNS = ("x86_64", "x32", "i386", "aarch64", "arm")
HEADERS = {
    "x86_64": ["x86-linux-any/asm/unistd_64.h"],
    "x32": ["x86-linux-any/asm/unistd_x32.h"],
    "i386": ["x86-linux-any/asm/unistd_32.h"],
    "aarch64": ["aarch64-linux-any/asm/unistd_64.h"],
    "arm": ["arm-linux-any/asm/unistd-eabi.h", "arm-linux-any/asm/unistd.h"],
}
BASES = {"__X32_SYSCALL_BIT": X32_BIT, "__NR_SYSCALL_BASE": 0, "__ARM_NR_BASE": ARM_PRIVATE}
TARGET = Path(__file__).parents[1] / "src/onggi/plan/data/syscalls.txt"


def defines(text: str) -> Iterator[tuple[str, str]]:
    """Find `#define __NR_name value`, the ARM private calls among them."""
    for line in text.splitlines():
        words = line.split(maxsplit=2)
        if len(words) == 3 and words[0] == "#define":
            for prefix in ("__NR_", "__ARM_NR_"):
                if words[1].startswith(prefix) and words[1][len(prefix)].islower() | (words[1][len(prefix)] == "_"):
                    yield words[1].removeprefix(prefix), words[2]


def evaluate(value: str, known: dict[str, int]) -> int:
    """Read a number, a base plus a number, or the name of another call."""
    value = value.split("/*")[0].strip().strip("()").replace(" ", "")
    base, plus, offset = value.partition("+")
    if plus:
        return BASES[base] + int(offset, 0)
    return known[value.removeprefix("__NR_")] if value.startswith("__NR_") else int(value, 0)


def table(include: Path, arch: str) -> dict[str, int]:
    """Read the numbers of one architecture, those of x32 without their bit."""
    numbers: dict[str, int] = {}
    for header in HEADERS[arch]:
        for name, value in defines((include / header).read_text()):
            if name not in ("syscalls", "arch_specific_syscall"):
                numbers[name] = evaluate(value, numbers) & ~X32_BIT
    return numbers


def kernel_version(include: Path) -> str:
    """Read the version of the kernel that the headers are from."""
    text = (include / "any-linux-any/linux/version.h").read_text()
    words = dict(line.split()[1:] for line in text.splitlines() if line.startswith("#define LINUX_VERSION_"))
    return f"{words['LINUX_VERSION_MAJOR']}.{words['LINUX_VERSION_PATCHLEVEL']}"


def main(include: Path) -> None:
    """Write the table."""
    tables = [table(include, arch) for arch in COLUMNS]
    names = sorted(set().union(*tables))
    lines = [
        f"# System call numbers of Linux {kernel_version(include)}; written by tools/make_syscall_table.py.",
        "# x32 numbers are without the bit 0x40000000.",
        " ".join(("name", *COLUMNS)),
        *(" ".join((name, *(str(numbers.get(name, "-")) for numbers in tables))) for name in names),
    ]
    TARGET.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
