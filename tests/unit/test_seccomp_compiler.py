"""Compiled filters, run by a BPF machine, do what the profile says."""

import operator
import random
from itertools import product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from onggi.base.errors import InvalidArgument, NotSupported
from onggi.plan.seccomp import ACTIONS, FLAGS, OPERATORS, compile_seccomp
from onggi.plan.seccomp.bpf import AND, JEQ, JGE, JGT, LOAD, Graph
from onggi.plan.seccomp.tables import AARCH64, ARM, I386, X32, X86_64, Arch, syscall_numbers
from onggi.spec.runtime import LinuxSeccomp, LinuxSeccompArg, LinuxSyscall
from tests.seccomp_machine import ALL_ARCHES, VALUES, WORD, Machine, profiles
from tests.seccomp_reference import contradicts, evaluate

ALLOW, KILL, EPERM, ENOSYS = 0x7FFF_0000, 0, 0x0005_0001, 0x0005_0026
READ, WRITE, SOCKET, GETPID = (syscall_numbers(X86_64)[name] for name in ("read", "write", "socket", "getpid"))


def rule(name: str, *args: LinuxSeccompArg, action: str = "SCMP_ACT_ALLOW", errno: int | None = None) -> LinuxSyscall:
    return LinuxSyscall(names=(name,), action=action, errno_ret=errno, args=args)


def arg(index: int, op: str, value: int, value_two: int | None = None) -> LinuxSeccompArg:
    return LinuxSeccompArg(index=index, op=f"SCMP_CMP_{op}", value=value, value_two=value_two)


def profile(
    *rules: LinuxSyscall, default: str = "SCMP_ACT_ERRNO", errno: int | None = None, arches: tuple[Arch, ...] = ()
) -> LinuxSeccomp:
    return LinuxSeccomp(
        default_action=default,
        default_errno_ret=errno,
        architectures=tuple(arch.scmp for arch in arches),
        syscalls=rules,
    )


def machine(
    *rules: LinuxSyscall,
    arches: tuple[Arch, ...] = (),
    native: str = "x86_64",
    default: str = "SCMP_ACT_ERRNO",
    errno: int | None = None,
) -> Machine:
    return Machine(compile_seccomp(profile(*rules, arches=arches, default=default, errno=errno), native).filter)


# -- against the reference -------------------------------------------------------------------------

EDGES = sorted({value + step & (1 << 64) - 1 for value in VALUES for step in (-1, 0, 1)})
NUMBERS = sorted(
    {
        arch.bit | number + step & WORD
        for arch in ALL_ARCHES
        for name in ("read", "clone", "ioctl", "socket", "semget", "stat64", "socketcall", "ipc", "futex_waitv")
        for number in [syscall_numbers(arch).get(name, 0) & ~arch.bit]
        for step in (-1, 0, 1)
    }
    | {1000, 0xF0001, X32.bit - 1, X32.bit, X32.bit | 1000, 0x8000_0000, WORD - 1, WORD}
)
CALLS = st.tuples(
    st.sampled_from(sorted({arch.token for arch in ALL_ARCHES} | {0x1234})),
    st.sampled_from(NUMBERS),
    st.tuples(*(st.sampled_from(EDGES) for _ in range(6))),
)


@settings(max_examples=150)
@given(filter=profiles(), native=st.sampled_from((X86_64, AARCH64)), calls=st.lists(CALLS, min_size=20, max_size=60))
def test_a_filter_decides_as_the_reference_does(
    filter: LinuxSeccomp, native: Arch, calls: list[tuple[int, int, tuple[int, ...]]]
) -> None:
    if contradicts(filter, native):
        with pytest.raises(InvalidArgument, match="the same comparisons and another action"):
            compile_seccomp(filter, native.name)
    else:
        compiled = Machine(compile_seccomp(filter, native.name).filter)
        assert [compiled.run(*call) for call in calls] == [evaluate(filter, native, *call) for call in calls]


@settings(max_examples=200)
@given(
    argument=st.integers(0, 5),
    tests=st.lists(st.tuples(st.sampled_from(("EQ", "NE", "LT", "LE", "GE", "GT")), st.integers(0, 2**64 - 1))),
    near=st.integers(-2, 2),
)
@example(argument=0, tests=[("LT", 0), ("GE", 2**64 - 1), ("LE", WORD), ("GT", WORD)], near=0)
def test_many_bounds_of_one_argument_are_alternatives(argument: int, tests: list[tuple[str, int]], near: int) -> None:
    rules = [rule("read", arg(argument, op, value)) for op, value in tests]
    compiled = machine(*rules)
    for value in [0, WORD, 2**64 - 1, *(max(0, min(value + near, 2**64 - 1)) for _, value in tests)]:
        given = tuple(value if index == argument else 0 for index in range(6))
        assert compiled.run(X86_64.token, READ, given) == evaluate(profile(*rules), X86_64, X86_64.token, READ, given)


@pytest.mark.parametrize("op", ["EQ", "NE", "LT", "LE", "GE", "GT"])
def test_a_comparison_sees_both_words(op: str) -> None:
    for value in VALUES:
        # With a second comparison it is not the search for ranges but a chain of tests.
        for extra in ((), (arg(1, "EQ", 9),)):
            compiled = machine(rule("read", arg(0, op, value), *extra))
            for seen in EDGES:
                passes = {
                    "EQ": seen == value,
                    "NE": seen != value,
                    "LT": seen < value,
                    "LE": seen <= value,
                    "GE": seen >= value,
                    "GT": seen > value,
                }[op]
                assert compiled.run(X86_64.token, READ, (seen, 9)) == (ALLOW if passes else EPERM)


def test_a_masked_comparison_sees_both_words_and_ignores_what_the_mask_does_not_cover() -> None:
    for mask, value in product(VALUES, VALUES):
        compiled = machine(rule("read", arg(0, "MASKED_EQ", mask, value)))
        for seen in EDGES:
            assert (compiled.run(X86_64.token, READ, (seen,)) == ALLOW) == (seen & mask == value & mask)


def test_the_32_bit_abis_compare_the_low_word() -> None:
    compiled = machine(rule("read", arg(0, "EQ", 5)), arches=(X32, I386))
    for arch in (X32, I386):
        assert compiled.run(arch.token, syscall_numbers(arch)["read"], ((7 << 32) + 5,)) == ALLOW
    assert compiled.run(X86_64.token, READ, ((7 << 32) + 5,)) == EPERM


# -- architectures ---------------------------------------------------------------------------------


def test_a_call_of_another_architecture_kills() -> None:
    compiled = machine(rule("read"))
    assert compiled.run(X86_64.token, READ) == ALLOW
    for arch in (I386, AARCH64, ARM):
        assert compiled.run(arch.token, syscall_numbers(arch)["read"]) == KILL


def test_the_native_architecture_is_always_in() -> None:
    compiled = machine(rule("read"), arches=(I386,))
    assert compiled.run(X86_64.token, READ) == ALLOW
    assert compiled.run(I386.token, syscall_numbers(I386)["read"]) == ALLOW


def test_without_x32_its_calls_kill_and_the_skipped_call_does_not() -> None:
    compiled = machine(rule("read"), rule("write"))
    assert compiled.run(X86_64.token, X32.bit | READ) == KILL
    assert compiled.run(X86_64.token, X32.bit) == KILL
    assert compiled.run(X86_64.token, WORD - 1) == KILL
    assert compiled.run(X86_64.token, WORD) == EPERM


def test_with_x32_its_calls_have_their_own_numbers() -> None:
    compiled = machine(rule("ioctl"), rule("futex_waitv"), arches=(X32,))
    assert compiled.run(X86_64.token, X32.bit | 514) == ALLOW
    assert compiled.run(X86_64.token, 16) == ALLOW
    assert compiled.run(X86_64.token, X32.bit | 16) == EPERM


def test_arm_beside_aarch64() -> None:
    compiled = machine(rule("cacheflush"), rule("futex_waitv"), arches=(ARM,), native="aarch64")
    assert compiled.run(ARM.token, 0xF0002) == ALLOW
    assert compiled.run(ARM.token, 0xF0001) == ENOSYS
    assert compiled.run(ARM.token, 450) == ENOSYS
    assert compiled.run(ARM.token, 448) == EPERM
    assert compiled.run(X86_64.token, READ) == KILL


@pytest.mark.parametrize(("name", "arch"), [("amd64", X86_64), ("arm64", AARCH64), ("i686", I386), ("armv7l", ARM)])
def test_an_architecture_goes_by_its_other_names(name: str, arch: Arch) -> None:
    compiled = machine(rule("getpid"), native=name)
    assert compiled.run(arch.token, syscall_numbers(arch)["getpid"]) == ALLOW


def test_an_architecture_without_a_table_is_said() -> None:
    with pytest.raises(NotSupported, match="no table of system calls for the architecture riscv64"):
        compile_seccomp(profile(), "riscv64")


@pytest.mark.parametrize(
    ("arch", "names"), [(X86_64, "clone3 mseal"), (X32, "ioctl"), (I386, "socketcall"), (ARM, "ipc")]
)
def test_the_tables_have_what_they_should(arch: Arch, names: str) -> None:
    numbers = syscall_numbers(arch)
    assert set(names.split()) <= numbers.keys() or arch is ARM
    assert all(number & arch.bit == arch.bit for number in numbers.values())
    assert 300 < len(numbers) < 600


# -- rules -----------------------------------------------------------------------------------------


def test_comparisons_of_one_rule_must_all_hold() -> None:
    compiled = machine(rule("read", arg(0, "EQ", 1), arg(2, "GT", 5)))
    assert compiled.run(X86_64.token, READ, (1, 0, 6)) == ALLOW
    assert compiled.run(X86_64.token, READ, (1, 0, 5)) == EPERM
    assert compiled.run(X86_64.token, READ, (2, 0, 6)) == EPERM


def test_comparisons_of_one_argument_in_one_rule_are_alternatives_as_in_runc() -> None:
    compiled = machine(rule("read", arg(0, "EQ", 1), arg(0, "EQ", 2), arg(1, "EQ", 9)))
    assert compiled.run(X86_64.token, READ, (1, 0)) == ALLOW
    assert compiled.run(X86_64.token, READ, (2, 0)) == ALLOW
    assert compiled.run(X86_64.token, READ, (0, 9)) == ALLOW
    assert compiled.run(X86_64.token, READ, (3, 3)) == EPERM


def test_the_first_rule_without_comparisons_decides_alone() -> None:
    compiled = machine(
        rule("read", arg(0, "EQ", 1), action="SCMP_ACT_TRAP"),
        rule("read"),
        rule("read", action="SCMP_ACT_LOG"),
        rule("read", arg(0, "EQ", 2), action="SCMP_ACT_TRAP"),
    )
    assert {compiled.run(X86_64.token, READ, (given,)) for given in (0, 1, 2)} == {ALLOW}


def test_a_rule_with_the_default_action_is_as_if_it_were_not_there() -> None:
    compiled = machine(rule("read", action="SCMP_ACT_ERRNO"), rule("read", arg(0, "EQ", 1)))
    assert compiled.run(X86_64.token, READ, (1,)) == ALLOW


TRAP = 0x0003_0000


@pytest.mark.parametrize(
    ("allowed", "trapped", "call", "verdict"),
    [
        ((0, "GE", 5), (0, "GE", 9), (9,), TRAP),
        ((0, "GE", 5), (0, "GE", 9), (8,), ALLOW),
        ((0, "LE", 5), (0, "LE", 9), (5,), ALLOW),
        ((0, "LT", 5), (0, "LT", 9), (5,), TRAP),
        ((0, "LE", 5), (0, "GE", 5), (5,), ALLOW),
        ((0, "NE", 4), (0, "LE", 9), (5,), ALLOW),
        ((0, "EQ", 5), (1, "EQ", 6), (5, 6), TRAP),
        ((0, "EQ", 5), (1, "GE", 6), (5, 5), ALLOW),
    ],
)
def test_of_overlapping_rules_the_most_telling_decides(
    allowed: tuple[int, str, int], trapped: tuple[int, str, int], call: tuple[int, ...], verdict: int
) -> None:
    rules = [rule("read", arg(*allowed)), rule("read", arg(*trapped), action="SCMP_ACT_TRAP")]
    for order in (rules, rules[::-1]):
        assert machine(*order).run(X86_64.token, READ, call) == verdict


def test_a_contradiction_is_refused() -> None:
    first, second = rule("read", arg(0, "EQ", 1)), rule("read", arg(0, "EQ", 1), action="SCMP_ACT_TRAP")
    with pytest.raises(InvalidArgument, match=r"seccomp rule 2 \(read\): an earlier rule has the same comparisons"):
        compile_seccomp(profile(first, second), "x86_64")


def test_names_of_other_architectures_and_of_none_are_skipped() -> None:
    known = compile_seccomp(profile(rule("read")), "x86_64")
    assert compile_seccomp(profile(rule("read"), rule("mmap2"), rule("no_such_call")), "x86_64") == known


def test_a_socket_rule_covers_socketcall_on_i386() -> None:
    compiled = machine(rule("socket", arg(0, "EQ", 2)), rule("bind", arg(2, "EQ", 7)), rule("semget"), arches=(I386,))
    numbers = syscall_numbers(I386)
    socketcall, ipc = numbers["socketcall"], numbers["ipc"]
    assert compiled.run(I386.token, numbers["socket"], (2,)) == ALLOW
    assert compiled.run(I386.token, numbers["socket"], (3,)) == EPERM
    assert compiled.run(I386.token, socketcall, (1, 3)) == ALLOW  # the family is in memory, where no filter looks
    assert compiled.run(I386.token, socketcall, (2, 0, 7)) == ALLOW
    assert compiled.run(I386.token, socketcall, (2, 0, 8)) == EPERM
    assert compiled.run(I386.token, ipc, (2,)) == ALLOW
    assert compiled.run(I386.token, ipc, (1,)) == EPERM


@pytest.mark.parametrize("action", sorted(ACTIONS))
def test_every_action(action: str) -> None:
    compiled = machine(rule("read", action=action, errno=7), default="SCMP_ACT_KILL_PROCESS", errno=3)
    data = 7 if action in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE") else 0
    assert compiled.run(X86_64.token, READ) == ACTIONS[action] | data
    assert len(set(ACTIONS.values())) == len(ACTIONS) - 1  # KILL is KILL_THREAD


# -- ENOSYS ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("default", ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"])
def test_calls_younger_than_the_profile_do_not_exist(default: str) -> None:
    compiled = machine(rule("read"), rule("socket", action=default), default=default)
    otherwise = ACTIONS[default] | (1 if default == "SCMP_ACT_ERRNO" else 0)
    assert compiled.run(X86_64.token, SOCKET) == otherwise
    assert compiled.run(X86_64.token, SOCKET - 1) == otherwise
    assert compiled.run(X86_64.token, SOCKET + 1) == ENOSYS
    assert compiled.run(X86_64.token, X32.bit - 1) == ENOSYS


@pytest.mark.parametrize("default", ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_NOTIFY"])
def test_a_default_that_lets_calls_happen_lets_younger_ones_happen_too(default: str) -> None:
    compiled = machine(rule("socket", action="SCMP_ACT_ERRNO", errno=13), default=default)
    assert compiled.run(X86_64.token, SOCKET + 1) & 0xFFFF_0000 == ACTIONS[default]


def test_each_architecture_has_its_own_youngest_call() -> None:
    compiled = machine(rule("socket"), arches=(X32, I386))
    for arch in (X86_64, X32, I386):
        number = syscall_numbers(arch)["socket"]
        assert compiled.run(arch.token, number) == ALLOW
        assert compiled.run(arch.token, number - 1) == EPERM
        assert compiled.run(arch.token, number + 1) == ENOSYS


# -- the program -----------------------------------------------------------------------------------


COMPARE = {JEQ: operator.eq, JGE: operator.ge, JGT: operator.gt}


@pytest.mark.parametrize("seed", range(30))
def test_any_graph_is_laid_out_as_it_was_built(seed: int) -> None:
    """Each node leads to the last one and some to any earlier one, so that jumps of all lengths occur."""
    dice, graph = random.Random(seed), Graph()
    nodes = [graph.give(value) for value in range(4)]
    built: dict[int, tuple[int, int, int, int]] = {}
    for _ in range(dice.randint(200, 1500)):
        code, k = dice.choice((LOAD, AND, JEQ, JEQ, JGE, JGT)), dice.randint(0, 7)
        yes, no = dice.sample((nodes[-1], dice.choice(nodes)), 2)
        if code == LOAD:
            node = graph.load(0, nodes[-1])
            built[node] = (code, 0, nodes[-1], -1)
        elif code == AND:
            node = graph.mask(k, nodes[-1])
            built[node] = (code, k, nodes[-1], -1)
        elif yes == no:
            continue
        else:
            node = graph.jump(code, k, yes, no)
            built[node] = (code, k, yes, no)
        nodes.append(node)
    program, count = graph.assemble(graph.load(0, nodes[-1]))
    compiled = Machine(program)
    assert len(compiled.code) == count
    for word in range(16):
        at, held = nodes[-1], word
        while at in built:
            code, k, yes, no = built[at]
            if code == LOAD:
                at, held = yes, word
            elif code == AND:
                at, held = yes, held & k
            else:
                at = yes if COMPARE[code](held, k) else no
        assert compiled.run(0, word) == nodes.index(at)


@pytest.mark.parametrize("between", range(245, 260))
def test_both_exits_of_a_jump_may_be_just_too_far(between: int) -> None:
    """Bringing one closer takes an instruction, by which the other is farther away."""
    graph = Graph()
    farther = graph.mask(1, graph.give(10))
    far = graph.jump(JEQ, 1, farther, graph.give(20))
    chain = far
    for _ in range(between):
        chain = graph.mask(15, chain)
    for yes, no in ((far, farther), (farther, far)):
        compiled = Machine(graph.assemble(graph.load(0, graph.jump(JEQ, 5, graph.jump(JEQ, 5, yes, no), chain)))[0])
        assert compiled.run(0, 5) == (20 if yes == far else 10)


def test_far_jumps_find_their_way() -> None:
    names = sorted(syscall_numbers(X86_64), key=lambda name: syscall_numbers(X86_64)[name])
    rules = [
        rule(name, arg(0, "EQ", at), arg(1, "NE", at << 33), action="SCMP_ACT_ERRNO", errno=at + 2)
        for at, name in enumerate(names)
    ]
    compiled = machine(*rules)
    assert len(compiled.code) > 2000
    for at, name in enumerate(names):
        number = syscall_numbers(X86_64)[name]
        assert compiled.run(X86_64.token, number, (at, 1)) == 0x50000 | at + 2
        assert compiled.run(X86_64.token, number, (at, at << 33)) == EPERM


def test_the_kernels_limit_is_said() -> None:
    rules = [rule("read", arg(0, "EQ", value), arg(1, "EQ", value << 32)) for value in range(1500)]
    with pytest.raises(InvalidArgument, match=r"needs \d+ instructions, the kernel takes 4096"):
        compile_seccomp(profile(*rules), "x86_64")


def test_the_number_of_instructions_is_said() -> None:
    program = compile_seccomp(profile(rule("read")), "x86_64")
    assert len(program.filter) == 8 * program.instructions


# -- flags and listener ----------------------------------------------------------------------------

LOG, SPEC_ALLOW, NEW_LISTENER, WAIT_KILLABLE = 2, 4, 8, 32


@pytest.mark.parametrize(
    ("flags", "value"),
    [
        (None, SPEC_ALLOW),
        ((), 0),
        (("SECCOMP_FILTER_FLAG_TSYNC",), 0),
        (("SECCOMP_FILTER_FLAG_LOG",), LOG),
        (("SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_LOG"), LOG | SPEC_ALLOW),
        (("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",), 0),
    ],
)
def test_flags_without_a_listener(flags: tuple[str, ...] | None, value: int) -> None:
    program = compile_seccomp(LinuxSeccomp(default_action="SCMP_ACT_ALLOW", flags=flags), "x86_64")
    assert (program.flags, program.notify) == (value, False)


def test_a_rule_that_notifies_asks_for_a_listener() -> None:
    asks = LinuxSeccomp(
        default_action="SCMP_ACT_ALLOW",
        flags=("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",),
        syscalls=(rule("read", action="SCMP_ACT_NOTIFY"),),
    )
    program = compile_seccomp(asks, "x86_64")
    assert (program.flags, program.notify) == (NEW_LISTENER | WAIT_KILLABLE, True)


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (profile(rule("read", action="SCMP_ACT_MAYBE")), r"rule 1 \(read\): action 'SCMP_ACT_MAYBE' is not known"),
        (profile(default="ALLOW"), "profile, default: action 'ALLOW' is not known"),
        (profile(rule("read", arg(0, "IN", 1))), r"rule 1 \(read\): operator 'SCMP_CMP_IN' is not known"),
        (profile(rule("read", arg(6, "EQ", 1))), "argument 6 does not exist"),
        (profile(rule("read"), rule("")), "rule 2 .*an empty name"),
        (profile(rule("read", action="SCMP_ACT_ERRNO", errno=4096)), "errnoRet 4096 is more than the 4095"),
        (profile(errno=70000), "profile, default: errnoRet 70000"),
        (LinuxSeccomp(default_action="SCMP_ACT_ALLOW", architectures=("SCMP_ARCH_VAX",)), "'SCMP_ARCH_VAX' is not"),
        (LinuxSeccomp(default_action="SCMP_ACT_ALLOW", flags=("NOW",)), "flag 'NOW' is not known"),
    ],
)
def test_what_is_wrong_is_said(bad: LinuxSeccomp, sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        compile_seccomp(bad, "x86_64")


def test_architectures_that_this_kernel_cannot_run_are_no_error() -> None:
    other = LinuxSeccomp(default_action="SCMP_ACT_ALLOW", architectures=("SCMP_ARCH_MIPS", "SCMP_ARCH_ARM"))
    plain = LinuxSeccomp(default_action="SCMP_ACT_ALLOW")
    assert compile_seccomp(other, "x86_64") == compile_seccomp(plain, "x86_64")


def test_the_words_of_the_runtime_spec_are_all_known() -> None:
    assert len(ACTIONS) == 9
    assert len(OPERATORS) == 7
    assert len(FLAGS) == 4
