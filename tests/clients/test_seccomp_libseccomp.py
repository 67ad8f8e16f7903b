"""Our filters and libseccomp's give the same verdicts.

Where they differ, it is meant:

- *ENOSYS above the highest number that a profile names.* runc adds that in front
  of libseccomp's filter (patchbpf), we have it in the filter. Below, libseccomp's
  default verdict counts as equal to our ENOSYS there, and only there.
- *System calls that the installed libseccomp does not know.* Our table is
  younger: their names are taken out of the profile, their numbers passed over.
- *Direct numbers below zero.* For a socket call that i386 has only inside
  socketcall(2) libseccomp also makes a rule for its own pseudo number (-105 and
  the like), which no kernel ever shows a filter.
- *Several 64-bit bounds, or chains of comparisons, for one call.* libseccomp
  merges them into one tree, in which some combinations come out wrong
  (`FAULTS` has examples: it allows what no rule does, forgets a rule, or looks
  at another argument), and for some it never comes back. We try the rules as they
  are written. So random profiles are compared where libseccomp is right: one
  rule of any shape; single comparisons, of any kind with 32 bits, without upper
  bounds with 64; chains of equalities.
- *Overlapping rules with different actions.* libseccomp's tree decides, by an
  order that partly depends on the order of insertion, and refuses some orders
  (EEXIST). We have one order for all (`rules.py`) and refuse only equal
  comparisons. Random profiles have one action for each call.
"""

import random
from collections.abc import Callable

import msgspec
import pytest

from onggi.plan.seccomp import compile_seccomp, docker_profile, resolve_profile
from onggi.plan.seccomp.tables import AARCH64, ARM, I386, X32, X86_64, Arch, syscall_numbers
from onggi.spec.runtime import LinuxSeccomp, LinuxSeccompArg, LinuxSyscall
from tests.clients.libseccomp import Libseccomp
from tests.seccomp_machine import VALUES, WORD, Machine

ENOSYS = 0x0005_0026
NATIVES = {"x86_64": (X86_64, X32, I386), "aarch64": (AARCH64, ARM)}
HIGH = (0xF0002, 0xF0005, X32.bit - 1, 0x8000_0000, WORD - 1, WORD)

DEFAULT = (
    "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID SETPCAP SETUID"
)
CAPABILITIES = {
    "none": "",
    "default": f"{DEFAULT} SYS_CHROOT",
    "admin": f"{DEFAULT} SYS_CHROOT SYS_ADMIN",
    "many": f"{DEFAULT} BPF PERFMON SYSLOG SYS_BOOT SYS_MODULE SYS_NICE SYS_PTRACE SYS_RAWIO SYS_TIME SYS_TTY_CONFIG",
}

# For every call, and for those whose arguments Docker's profile compares: socket's families, personalities and
# clone's flags, on both sides of each bound, and in the high word.
FEW = ((), (2,), (38,), (0x20008,), (WORD,), (1 << 28,), (WORD << 32, 1, 2, 3, 4, 5))
MANY = (
    *((value,) for value in (*range(48), 0x11, 0x20000, 0x20008, WORD - 1, WORD, 1 << 32, (1 << 32) + 2)),
    *((1 << bit,) for bit in range(24, 32)),
    (WORD << 32, 1, 2, 3, 4, 5),
)


@pytest.fixture(scope="module")
def peer() -> Libseccomp:
    return Libseccomp()


def known_to(peer: Libseccomp, profile: LinuxSeccomp) -> LinuxSeccomp:
    """Leave out the names that this libseccomp has never heard of."""
    calls = [
        msgspec.structs.replace(call, names=tuple(name for name in call.names if peer.knows(name)))
        for call in profile.syscalls or ()
    ]
    return msgspec.structs.replace(profile, syscalls=tuple(calls))


def newer(peer: Libseccomp, arch: Arch) -> set[int]:
    """Give the numbers that this libseccomp does not know on this architecture, and we do."""
    numbers = syscall_numbers(arch)
    multiplexed = {name for name in numbers if arch.multiplexed and -300 < peer.number(name, arch) <= -100}
    return {number for name, number in numbers.items() if peer.number(name, arch) < 0 and name not in multiplexed}


def numbers_of(arch: Arch) -> set[int]:
    """Give the table of an architecture, what lies above, and some that are far off; x86_64 and x32 share a line."""
    far = {number for number in HIGH if arch not in (X86_64, X32) or number & X32.bit == arch.bit}
    return {arch.bit | number for number in range(600)} | far


@pytest.mark.parametrize("capabilities", CAPABILITIES)
@pytest.mark.parametrize("native", NATIVES)
def test_dockers_profile(peer: Libseccomp, native: str, capabilities: str) -> None:
    held = [f"CAP_{name}" for name in CAPABILITIES[capabilities].split()]
    resolved = resolve_profile(docker_profile(), capabilities=held, arch=native, kernel=(6, 18))
    profile = known_to(peer, resolved)
    ours = Machine(compile_seccomp(profile, native).filter)
    theirs = Machine(peer.compile(profile, NATIVES[native]))
    default = 0x0005_0001
    differing = set()
    for arch in NATIVES[native]:
        highest = max(
            number
            for call in profile.syscalls or ()
            for name in call.names
            if (number := syscall_numbers(arch).get(name, 0)) & ~arch.bit < 0xF0000
        )
        compared = {syscall_numbers(arch).get(name) for name in ("socket", "personality", "clone", "socketcall", "ipc")}
        for number in sorted(numbers_of(arch) - newer(peer, arch)):
            for vector in MANY if number in compared else FEW:
                mine, others = ours.run(arch.token, number, vector), theirs.run(arch.token, number, vector)
                if mine != others and not (number > highest and (mine, others) == (ENOSYS, default)):
                    differing.add((arch.name, number, vector, hex(mine), hex(others)))
    assert differing == set()


def test_a_filter_for_one_architecture(peer: Libseccomp) -> None:
    """Here libseccomp kills calls with the x32 bit, but not number -1."""
    profile = LinuxSeccomp(
        default_action="SCMP_ACT_ALLOW",
        syscalls=(LinuxSyscall(names=("mkdir", "mkdirat"), action="SCMP_ACT_ERRNO", errno_ret=100),),
    )
    ours, theirs = Machine(compile_seccomp(profile, "x86_64").filter), Machine(peer.compile(profile, (X86_64,)))
    tokens = [arch.token for arch in (X86_64, I386, AARCH64, ARM)]
    for token in tokens:
        for number in (*range(600), *HIGH, X32.bit, X32.bit | 83):
            assert ours.run(token, number) == theirs.run(token, number), (hex(token), hex(number))


@pytest.mark.parametrize("native", NATIVES)
def test_libseccomps_own_binary_tree_agrees_too(peer: Libseccomp, native: str) -> None:
    """runc asks for it when there are more than 32 rules."""
    profile = known_to(peer, resolve_profile(docker_profile(), capabilities=(), arch=native, kernel=(6, 18)))
    ours = Machine(compile_seccomp(profile, native).filter)
    theirs = Machine(peer.compile(profile, NATIVES[native], optimize=True))
    assert len(ours.code) * 3 < len(theirs.code)
    for arch in NATIVES[native]:
        for number in sorted({arch.bit | each for each in range(450)} - newer(peer, arch)):
            assert ours.run(arch.token, number, (2,)) == theirs.run(arch.token, number, (2,)), (arch.name, number)


def test_every_number_that_libseccomp_knows_is_ours(peer: Libseccomp) -> None:
    for arch in (X86_64, X32, I386, AARCH64, ARM):
        for name, number in syscall_numbers(arch).items():
            theirs = peer.number(name, arch)
            assert theirs in (number, -1) or theirs < -99, (arch.name, name)


# -- random profiles -------------------------------------------------------------------------------

PLAIN = ("EQ", "NE", "GE", "GT")
ALL = (*PLAIN, "LT", "LE", "MASKED_EQ")
NAMES = ("read", "ioctl", "futex", "getpid")
ACTIONS = ("SCMP_ACT_ALLOW", "SCMP_ACT_TRAP", "SCMP_ACT_LOG")
EDGES = sorted({value + step & (1 << 64) - 1 for value in VALUES for step in (-1, 0, 1)})

Shape = Callable[[random.Random], list[tuple[LinuxSeccompArg, ...]]]


def comparison(dice: random.Random, index: int, operators: tuple[str, ...]) -> LinuxSeccompArg:
    operator, value, second = dice.choice(operators), dice.choice(VALUES), dice.choice(VALUES)
    return LinuxSeccompArg(index=index, op=f"SCMP_CMP_{operator}", value=value, value_two=second)


def one_rule(dice: random.Random) -> list[tuple[LinuxSeccompArg, ...]]:
    return [tuple(comparison(dice, index, ALL) for index in dice.sample(range(6), dice.randint(0, 4)))]


def chains_of_equalities(dice: random.Random) -> list[tuple[LinuxSeccompArg, ...]]:
    return [
        tuple(comparison(dice, index, ("EQ",)) for index in dice.sample(range(3), dice.randint(1, 3)))
        for _ in range(dice.randint(1, 5))
    ]


def single_comparisons(dice: random.Random) -> list[tuple[LinuxSeccompArg, ...]]:
    return [(comparison(dice, dice.randrange(3), (*PLAIN, "MASKED_EQ")),) for _ in range(dice.randint(1, 6))]


def any_single_comparisons(dice: random.Random) -> list[tuple[LinuxSeccompArg, ...]]:
    return [(comparison(dice, dice.randrange(3), ALL),) for _ in range(dice.randint(1, 6))]


def one_argument_repeated(dice: random.Random) -> list[tuple[LinuxSeccompArg, ...]]:
    return [tuple(comparison(dice, 1, PLAIN) for _ in range(dice.randint(2, 4)))]


@pytest.mark.parametrize(
    ("shape", "arches"),
    [
        (one_rule, (X86_64,)),
        (one_rule, (X86_64, X32, I386)),
        (chains_of_equalities, (X86_64, I386)),
        (single_comparisons, (X86_64, X32, I386)),
        (any_single_comparisons, (I386,)),
        (one_argument_repeated, (X86_64, I386)),
    ],
    ids=lambda value: value.__name__ if callable(value) else "+".join(arch.name for arch in value),
)
def test_random_profiles(peer: Libseccomp, shape: Shape, arches: tuple[Arch, ...]) -> None:
    for seed in range(150):
        dice = random.Random(seed)
        calls = [
            LinuxSyscall(names=(name,), action=action, args=args)
            for name in NAMES
            for action in (dice.choice(ACTIONS),)
            for args in shape(dice)
        ]
        profile = LinuxSeccomp(
            default_action=dice.choice(("SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS")),
            architectures=tuple(arch.scmp for arch in arches),
            syscalls=tuple(calls),
        )
        native = arches[0].name
        ours, theirs = Machine(compile_seccomp(profile, native).filter), Machine(peer.compile(profile, arches))
        for arch in arches:
            for name in NAMES:
                number = syscall_numbers(arch)[name]
                for _ in range(25):
                    vector = tuple(dice.choice(EDGES) for _ in range(6))
                    expected = theirs.run(arch.token, number, vector)
                    assert ours.run(arch.token, number, vector) == expected, (seed, arch.name, name, vector, calls)


# -- where libseccomp is wrong ---------------------------------------------------------------------


def allow(*comparisons: tuple[int, str, int]) -> LinuxSyscall:
    args = tuple(LinuxSeccompArg(index=index, op=f"SCMP_CMP_{op}", value=value) for index, op, value in comparisons)
    return LinuxSyscall(names=("read",), action="SCMP_ACT_ALLOW", args=args)


ALLOW, EPERM = 0x7FFF_0000, 0x0005_0001

FAULTS = {
    # Both rules share the comparison of the high word with 0, which the larger bound should not end.
    "forgets the wider of two upper bounds": (
        X86_64,
        (allow((1, "LT", WORD + 6)), allow((1, "LT", 7))),
        (0, WORD),
        ALLOW,
    ),
    "allows what neither bound has": (X86_64, (allow((1, "GE", (1 << 64) - 1)), allow((1, "LE", 1))), (0, WORD), EPERM),
    # Behind the first rule's second comparison the accumulator is taken for argument 0, and is argument 1.
    "compares the wrong argument": (
        I386,
        (allow((1, "EQ", WORD), (0, "NE", 5)), allow((0, "GT", 5), (1, "NE", 5))),
        (6, 1),
        ALLOW,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_where_libseccomp_errs_we_do_what_the_rules_say(fault: str) -> None:
    arch, calls, vector, expected = FAULTS[fault]
    profile = LinuxSeccomp(default_action="SCMP_ACT_ERRNO", syscalls=calls)
    ours = Machine(compile_seccomp(profile, arch.name).filter)
    assert ours.run(arch.token, syscall_numbers(arch)["read"], vector) == expected
