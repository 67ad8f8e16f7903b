"""Device rules: one meaning, said to two kernels. The program is run here by a small interpreter of eBPF."""

import struct
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onggi.base.errors import InvalidArgument, NotSupported
from onggi.plan.devices import (
    BLOCK,
    CHARACTER,
    DEFAULT_DEVICE_RULES,
    EVERYTHING,
    MKNOD,
    READ,
    WRITE,
    Rule,
    allows_everything,
    compile_device_filter,
    parse_device_rules,
    plan_device_lines,
)
from onggi.spec.runtime import LinuxDeviceCgroup

DENY_ALL = LinuxDeviceCgroup(allow=False, access="rwm")
ALLOW_ALL = LinuxDeviceCgroup(allow=True, access="rwm")


def rule(text: str) -> LinuxDeviceCgroup:
    """Read `allow c 1:3 rwm`."""
    verb, kind, numbers, access = text.split()
    major, minor = (None if number == "*" else int(number) for number in numbers.split(":"))
    return LinuxDeviceCgroup(allow=verb == "allow", type=kind, major=major, minor=minor, access=access)


def rules(*texts: str) -> tuple[Rule, ...]:
    return parse_device_rules(rule(text) for text in texts)


def is_allowed(said: Iterable[Rule], kind: int, major: int, minor: int, access: int) -> bool:
    """The meaning itself: for each access asked for, the last rule that matches decides; none denies."""

    def decide(bit: int) -> bool:
        verdicts = [r.allow for r in said if r.access & bit and r.matches(kind, major, minor)]
        return verdicts[-1] if verdicts else False

    return all(decide(bit) for bit in (MKNOD, READ, WRITE) if access & bit)


def run_program(program: bytes, kind: int, major: int, minor: int, access: int) -> int:
    """Execute eBPF (instruction set: RFC 9669) over a struct bpf_cgroup_dev_ctx."""
    code = [struct.unpack_from("<BBhi", program, offset) for offset in range(0, len(program), 8)]
    context = struct.pack("<III", access << 16 | kind, major, minor)
    registers: list[int | None] = [None] * 11
    registers[1] = 0  # the context; only loads use it
    at = 0
    for _ in range(len(code) + 1):
        opcode, operands, jump, value = code[at]
        target, source = operands & 15, operands >> 4
        immediate = value & 0xFFFFFFFF
        at += 1
        if opcode == 0x95:
            verdict = registers[0]
            assert verdict in (0, 1), "the verifier refuses anything else"
            return verdict
        if opcode == 0x61:
            assert source == 1
            assert jump + 4 <= len(context)
            (registers[target],) = struct.unpack_from("<I", context, jump)
        elif opcode == 0xB4:
            registers[target] = immediate
        elif opcode == 0xBC:
            assert registers[source] is not None
            registers[target] = registers[source]
        elif opcode == 0x05:
            at += jump
        else:
            held = registers[target]
            assert held is not None, "read before it was written"
            assert source == 0
            if opcode == 0x54:
                registers[target] = held & immediate
            elif opcode == 0x74:
                registers[target] = held >> immediate
            elif opcode in (0x56, 0x46):
                taken = held != immediate if opcode == 0x56 else bool(held & immediate)
                assert jump >= 0
                at += jump if taken else 0
            else:
                raise AssertionError(f"opcode {opcode:#x}")
    raise AssertionError("the program runs in a circle")


class V1Kernel:
    """What security/device_cgroup.c makes of writes to devices.allow and devices.deny."""

    def __init__(self) -> None:
        self.default = True
        self.exceptions: dict[tuple[str, str, str], set[str]] = {}

    def write(self, file: str, line: str) -> None:
        allow = file == "devices.allow"
        if line.startswith("a"):
            self.default, self.exceptions = allow, {}
            return
        kind, numbers, access = line.split()
        major, minor = numbers.split(":")
        key = (kind, major, minor)
        if allow is self.default:  # takes back an exception, and only one of exactly this pattern
            self.exceptions[key] = self.exceptions.get(key, set()) - set(access)
        else:
            self.exceptions[key] = self.exceptions.get(key, set()) | set(access)

    def is_allowed(self, kind: int, major: int, minor: int, access: int) -> bool:
        asked = {letter for letter, bit in (("r", READ), ("w", WRITE), ("m", MKNOD)) if access & bit}
        found = [
            letters
            for (k, a, b), letters in self.exceptions.items()
            if k == ("b" if kind == BLOCK else "c") and a in ("*", str(major)) and b in ("*", str(minor))
        ]
        if self.default:
            return not any(letters & asked for letters in found)
        return any(asked <= letters for letters in found)


# Few numbers, so that rules meet; and the greatest, where signs go wrong.
numbers = st.sampled_from([0, 1, 2, 2**31, 2**32 - 1])
device_rules = st.builds(
    LinuxDeviceCgroup,
    allow=st.booleans(),
    type=st.sampled_from(["a", "b", "c", None]),
    major=st.one_of(st.none(), st.just(-1), numbers),
    minor=st.one_of(st.none(), numbers),
    access=st.sampled_from(["r", "w", "m", "rw", "rm", "wm", "rwm", "mwr"]),
)
devices = st.tuples(st.sampled_from([BLOCK, CHARACTER]), numbers, numbers)


@given(st.lists(device_rules, max_size=8), devices, st.integers(0, 7))
@settings(max_examples=500)
def test_program_means_what_the_rules_mean(
    said: list[LinuxDeviceCgroup], device: tuple[int, int, int], access: int
) -> None:
    parsed = parse_device_rules(said)
    assert run_program(compile_device_filter(parsed), *device, access) == is_allowed(parsed, *device, access)


@given(st.lists(device_rules, max_size=8), devices, st.sampled_from([READ, WRITE, READ | WRITE, MKNOD]))
@settings(max_examples=500)
def test_v1_lines_mean_the_same_or_are_refused(
    said: list[LinuxDeviceCgroup], device: tuple[int, int, int], access: int
) -> None:
    parsed = parse_device_rules(said)
    try:
        lines = plan_device_lines(parsed)
    except NotSupported:
        return
    kernel = V1Kernel()
    for file, line in lines:
        kernel.write(file, line)
    assert kernel.is_allowed(*device, access) == is_allowed(parsed, *device, access)


@given(st.lists(device_rules, max_size=8), devices)
def test_what_allows_everything_does(said: list[LinuxDeviceCgroup], device: tuple[int, int, int]) -> None:
    parsed = parse_device_rules(said)
    assert not allows_everything(parsed) or is_allowed(parsed, *device, EVERYTHING)


@pytest.mark.parametrize(
    ("said", "lines"),
    [
        (["deny a *:* rwm", "allow c 1:3 rw", "allow c 1:3 m"], ["deny a", "allow c 1:3 rwm"]),
        (["allow c 1:3 rwm", "deny c *:* rwm"], ["deny a"]),
        (["allow c 1:3 rwm", "deny c 1:* w"], ["deny a", "allow c 1:3 rm"]),
        (["allow c 1:* r", "allow c 1:3 w"], ["deny a", "allow c 1:* r", "allow c 1:3 rw"]),
        (["allow c 1:* rwm", "allow c 1:3 w"], ["deny a", "allow c 1:* rwm"]),
        (["allow a *:* rwm", "deny b 8:0 w"], ["allow a", "deny b 8:0 w"]),
        (["allow a *:* rwm", "deny b *:* rwm"], ["deny a", "allow c *:* rwm"]),
        (["allow a 1:3 r"], ["deny a", "allow b 1:3 r", "allow c 1:3 r"]),
        (["deny a *:* rwm", "allow a *:* rwm"], ["allow a"]),
    ],
)
def test_v1_lines(said: list[str], lines: list[str]) -> None:
    assert [f"{file.removeprefix('devices.')} {line}" for file, line in plan_device_lines(rules(*said))] == lines


def test_default_rules_on_v1() -> None:
    lines = plan_device_lines(parse_device_rules((DENY_ALL, *DEFAULT_DEVICE_RULES)))
    assert lines[0] == ("devices.deny", "a")
    assert [line for _, line in lines[1:]] == [
        "b *:* m", "c *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm",
        "c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm",
    ]  # fmt: skip


def test_a_hole_in_a_wildcard_is_refused_on_v1_and_exact_on_v2() -> None:
    said = rules("allow c *:* rwm", "allow b 8:0 r", "deny c 1:1 rw")
    with pytest.raises(NotSupported, match=r"deny c 1:1 rw: an earlier rule allows the wider c \*:\* rwm.*cgroup v2"):
        plan_device_lines(said)
    program = compile_device_filter(said)
    assert run_program(program, CHARACTER, 1, 1, READ) == 0
    assert run_program(program, CHARACTER, 1, 1, MKNOD) == 1
    assert run_program(program, CHARACTER, 1, 2, READ | WRITE) == 1


def test_denying_one_access_also_holds_for_an_open_that_asks_for_two() -> None:
    """runc's filter lets such an open pass: it compares all accesses of the open with those of the rule."""
    program = compile_device_filter(rules("allow a *:* rwm", "deny b 8:0 w"))
    assert run_program(program, BLOCK, 8, 0, READ | WRITE) == 0
    assert run_program(program, BLOCK, 8, 0, READ) == 1


def test_nothing_is_allowed_without_a_rule() -> None:
    program = compile_device_filter(())
    assert run_program(program, CHARACTER, 1, 3, READ) == 0


def test_rules_before_a_catch_all_cost_nothing() -> None:
    many = [f"allow c 10:{minor} rwm" for minor in range(2000)]
    assert compile_device_filter(rules(*many, "deny a *:* rwm")) == compile_device_filter(rules("deny a *:* rwm"))
    with pytest.raises(InvalidArgument, match="2000 device rules make a program of 100"):
        compile_device_filter(rules(*many))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (LinuxDeviceCgroup(allow=True, type="u", access="r"), "'u' is no type"),
        (LinuxDeviceCgroup(allow=True, type="c", access=""), "its access is empty"),
        (LinuxDeviceCgroup(allow=True, type="c"), "its access is empty"),
        (LinuxDeviceCgroup(allow=True, type="c", access="rx"), "'rx' is not an access"),
        (LinuxDeviceCgroup(allow=True, type="c", major=2**32, access="r"), "4294967296 is no device number"),
    ],
)
def test_bad_rules(bad: LinuxDeviceCgroup, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        parse_device_rules((bad,))
