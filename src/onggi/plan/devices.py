"""Device rules (runtime-spec config-linux.md#allowed-device-list), for both versions of cgroups.

One meaning for both: each kind of access is asked for by itself, and *the last rule
that matches decides*; what no rule matches is denied. The kernel of cgroup v2 runs
it as a program (BPF_PROG_TYPE_CGROUP_DEVICE), which can say exactly this. That of
v1 has a default and a set of exceptions; rules that cannot be said so are refused,
where the kernel would silently keep the wider rule.

This is runc's meaning wherever runc has one, with three holes closed: a deny rule
also takes away what narrower rules allowed before it, a rule that denies one kind of
access also holds for an open that asks for two, and rules of type `a` honour their
numbers and access.
"""

import struct
from collections.abc import Iterable
from typing import Final

import msgspec

from onggi.base.errors import InvalidArgument, NotSupported
from onggi.spec.runtime import LinuxDeviceCgroup

# struct bpf_cgroup_dev_ctx, linux/bpf.h
BLOCK: Final = 1
CHARACTER: Final = 2
MKNOD: Final = 1
READ: Final = 2
WRITE: Final = 4
EVERYTHING: Final = MKNOD | READ | WRITE

_KINDS: Final = {"a": None, "b": BLOCK, "c": CHARACTER}
_ACCESS: Final = {"r": READ, "w": WRITE, "m": MKNOD}


def _allow(major: int | None, minor: int | None, access: str = "rwm", kind: str = "c") -> LinuxDeviceCgroup:
    return LinuxDeviceCgroup(allow=True, type=kind, major=major, minor=minor, access=access)


DEFAULT_DEVICE_RULES: Final = (
    _allow(None, None, "m"),
    _allow(None, None, "m", "b"),
    _allow(1, 3),  # null
    _allow(1, 5),  # zero
    _allow(1, 7),  # full
    _allow(1, 8),  # random
    _allow(1, 9),  # urandom
    _allow(5, 0),  # tty
    _allow(5, 2),  # ptmx
    _allow(136, None),  # pts
)
"""What every container may use: nodes can be made, the harmless ones opened (runc's list since 1.2)."""


class Rule(msgspec.Struct, frozen=True):
    """One rule; None stands for any kind, major or minor."""

    allow: bool
    kind: int | None
    major: int | None
    minor: int | None
    access: int

    def matches(self, kind: int, major: int, minor: int) -> bool:
        """Say whether this rule is about that device."""
        return self.kind in (None, kind) and self.major in (None, major) and self.minor in (None, minor)

    def covers_all(self, kind: int | None) -> bool:
        """Say whether nothing of this kind escapes the rule, so that no earlier one matters."""
        unbound = self.major is None and self.minor is None and self.access == EVERYTHING
        return unbound and self.kind in (None, kind)


def parse_device_rules(rules: Iterable[LinuxDeviceCgroup]) -> tuple[Rule, ...]:
    """Check the rules of a bundle and bring them into one form."""
    return tuple(_parse(rule) for rule in rules)


def _parse(rule: LinuxDeviceCgroup) -> Rule:
    said = f"{'allow' if rule.allow else 'deny'} {rule.type or 'a'} {_number(rule.major)}:{_number(rule.minor)}"
    if (rule.type or "a") not in _KINDS:
        raise InvalidArgument(f"device rule {said}: {rule.type!r} is no type; use a (all), b (block) or c (character)")
    if not rule.access:
        raise InvalidArgument(f"device rule {said}: its access is empty; say which of r, w and m it is about")
    access = 0
    for letter in rule.access:
        if letter not in _ACCESS:
            raise InvalidArgument(f"device rule {said}: {rule.access!r} is not an access; use the letters r, w and m")
        access |= _ACCESS[letter]
    for number in (rule.major, rule.minor):
        if number is not None and number >= 1 << 32:
            raise InvalidArgument(f"device rule {said}: {number} is no device number (32 bits)")
    return Rule(rule.allow, _KINDS[rule.type or "a"], _wildcard(rule.major), _wildcard(rule.minor), access)


def _wildcard(number: int | None) -> int | None:
    return None if number is None or number < 0 else number


def _number(number: int | None) -> str:
    return "*" if _wildcard(number) is None else str(number)


def allows_everything(rules: tuple[Rule, ...]) -> bool:
    """Say whether the rules plainly allow all devices, as those of a privileged container do."""
    for rule in reversed(rules):
        if not rule.allow:
            return False
        if rule.covers_all(None):
            return True
    return False


# -- cgroup v2: a program ----------------------------------------------------------------------------

_MAX_INSTRUCTIONS: Final = 4096
_INSTRUCTION: Final = struct.Struct("<BBhi")  # code, source and destination register, jump, immediate

# linux/bpf_common.h, linux/bpf.h; all arithmetic and comparison is on 32 bits
_LOAD_WORD: Final = 0x61
_AND: Final = 0x54
_SHIFT_RIGHT: Final = 0x74
_MOVE: Final = 0xB4
_MOVE_REGISTER: Final = 0xBC
_JUMP: Final = 0x05
_JUMP_NOT_EQUAL: Final = 0x56
_JUMP_ANY_BIT: Final = 0x46
_EXIT: Final = 0x95

# registers: the verdict, the context, and what the context holds
_VERDICT, _CONTEXT, _KIND, _PENDING, _MAJOR, _MINOR = range(6)


def compile_device_filter(rules: tuple[Rule, ...]) -> bytes:
    """Compile to an array of struct bpf_insn.

    The program goes through the rules from the last to the first with the accesses
    still undecided in one register: an allowing rule takes its own away, a denying one
    that finds any ends it. Nothing left means allowed.
    """
    code = [
        _instruction(_LOAD_WORD, _KIND, _CONTEXT, jump=0),
        _instruction(_MOVE_REGISTER, _PENDING, _KIND),
        _instruction(_AND, _KIND, value=0xFFFF),
        _instruction(_SHIFT_RIGHT, _PENDING, value=16),
        _instruction(_LOAD_WORD, _MAJOR, _CONTEXT, jump=4),
        _instruction(_LOAD_WORD, _MINOR, _CONTEXT, jump=8),
        _instruction(_JUMP_NOT_EQUAL, _PENDING, jump=2, value=0),
        *_verdict(True),
    ]
    closed = set[int | None]()
    seen = set[tuple[int | None, int | None, int | None, int]]()
    for rule in reversed(rules):
        subject = (rule.kind, rule.major, rule.minor, rule.access)
        if rule.kind in closed or subject in seen:
            continue  # a later rule has decided it
        seen.add(subject)
        code += _rule_block(rule)
        if rule.covers_all(rule.kind):
            closed.add(rule.kind)
        if None in closed:
            break  # the verifier refuses what cannot be reached
    else:
        code += _verdict(False)
    if len(code) > _MAX_INSTRUCTIONS:
        raise InvalidArgument(
            f"{len(rules)} device rules make a program of {len(code)} instructions, and {_MAX_INSTRUCTIONS} are "
            "the most; use wildcards instead of single devices"
        )
    return b"".join(code)


def _rule_block(rule: Rule) -> list[bytes]:
    """Give the instructions of one rule; each failed condition jumps behind the block."""
    act = _allow_block(rule.access) if rule.allow else _deny_block(rule.access)
    conditions = [
        (register, value)
        for register, value in ((_KIND, rule.kind), (_MAJOR, rule.major), (_MINOR, rule.minor))
        if value is not None
    ]
    tests = [
        _instruction(_JUMP_NOT_EQUAL, register, jump=len(conditions) - index - 1 + len(act), value=value)
        for index, (register, value) in enumerate(conditions)
    ]
    return tests + act


def _allow_block(access: int) -> list[bytes]:
    if access == EVERYTHING:
        return _verdict(True)
    return [
        _instruction(_AND, _PENDING, value=EVERYTHING & ~access),
        _instruction(_JUMP_NOT_EQUAL, _PENDING, jump=2, value=0),
        *_verdict(True),
    ]


def _deny_block(access: int) -> list[bytes]:
    if access == EVERYTHING:
        return _verdict(False)
    return [
        _instruction(_JUMP_ANY_BIT, _PENDING, jump=1, value=access),
        _instruction(_JUMP, 0, jump=2),
        *_verdict(False),
    ]


def _verdict(allowed: bool) -> list[bytes]:
    return [_instruction(_MOVE, _VERDICT, value=int(allowed)), _instruction(_EXIT, 0)]


def _instruction(code: int, destination: int, source: int = 0, *, jump: int = 0, value: int = 0) -> bytes:
    signed = value - (1 << 32) if value >= 1 << 31 else value
    return _INSTRUCTION.pack(code, source << 4 | destination, jump, signed)


# -- cgroup v1: a default and exceptions ---------------------------------------------------------------

_Pattern = tuple[int, int | None, int | None]  # kind, major, minor


def plan_device_lines(rules: tuple[Rule, ...]) -> tuple[tuple[str, str], ...]:
    """Give the (file, line) pairs to write, in order, into a fresh cgroup of the v1 devices controller."""
    if allows_everything(rules):
        return (("devices.allow", "a"),)
    refusal = None
    for default in (False, True):
        try:
            exceptions = _exceptions(rules, default)
        except NotSupported as error:
            refusal = refusal or error
            continue
        first = ("devices.allow" if default else "devices.deny", "a")
        file = "devices.deny" if default else "devices.allow"
        return (first, *((file, _line(pattern, access)) for pattern, access in sorted(exceptions.items(), key=_order)))
    assert refusal is not None
    raise refusal


def _exceptions(rules: tuple[Rule, ...], default: bool) -> dict[_Pattern, int]:
    """Find the set of exceptions to a default that means the same as the rules."""
    found: dict[_Pattern, int] = {}
    for kind in (BLOCK, CHARACTER):
        base, rest = _split(rules, kind)
        if base is not default:
            found[kind, None, None] = EVERYTHING
        for rule in rest:
            pattern = (kind, rule.major, rule.minor)
            if rule.allow is default:
                _take_away(found, pattern, rule)
            else:
                found[pattern] = found.get(pattern, 0) | rule.access
    if not default:
        _complete(found)
    return {pattern: access for pattern, access in found.items() if not _is_implied(found, pattern)}


def _split(rules: tuple[Rule, ...], kind: int) -> tuple[bool, list[Rule]]:
    """Cut at the last rule for all devices of a kind: what it says, and the rules after it."""
    mine = [rule for rule in rules if rule.kind in (None, kind)]
    for index in range(len(mine) - 1, -1, -1):
        if mine[index].covers_all(kind):
            return mine[index].allow, mine[index + 1 :]
    return False, mine


def _take_away(found: dict[_Pattern, int], pattern: _Pattern, rule: Rule) -> None:
    for other, access in list(found.items()):
        if not access & rule.access or _meet(other, pattern) is None:
            continue
        if _meet(other, pattern) != other:
            verb, wider = ("allow", "denies") if rule.allow else ("deny", "allows")
            raise NotSupported(
                f"device rule {verb} {_line(pattern, rule.access)}: an earlier rule {wider} the wider "
                f"{_line(other, access)}, and cgroup v1 cannot except single devices from that; "
                "name the devices one by one, or use a host with cgroup v2"
            )
        if remaining := access & ~rule.access:
            found[other] = remaining
        else:
            del found[other]


def _complete(found: dict[_Pattern, int]) -> None:
    """Make every device's accesses stand in one exception.

    The kernel looks for a single exception that allows all that an open asks for:
    read by one and write by another would not allow to open for both.
    """
    changed = True
    while changed:
        changed = False
        items = list(found.items())
        for index, (one, first) in enumerate(items):
            for other, second in items[index + 1 :]:
                both = _meet(one, other)
                if both is not None and found.get(both, 0) | first | second != found.get(both, 0):
                    found[both] = found.get(both, 0) | first | second
                    changed = True


def _is_implied(found: dict[_Pattern, int], pattern: _Pattern) -> bool:
    access = found[pattern]
    return any(
        other != pattern and _meet(other, pattern) == pattern and found[other] & access == access for other in found
    )


def _meet(one: _Pattern, other: _Pattern) -> _Pattern | None:
    """Give the pattern of the devices that both match, None when there are none."""
    if one[0] != other[0]:
        return None
    numbers = []
    for mine, yours in zip(one[1:], other[1:], strict=True):
        if mine is not None and yours is not None and mine != yours:
            return None
        numbers.append(yours if mine is None else mine)
    return one[0], numbers[0], numbers[1]


def _line(pattern: _Pattern, access: int) -> str:
    kind = "b" if pattern[0] == BLOCK else "c"
    letters = "".join(letter for letter, bit in _ACCESS.items() if access & bit)
    return f"{kind} {_number(pattern[1])}:{_number(pattern[2])} {letters}"


def _order(item: tuple[_Pattern, int]) -> tuple[int, int, int]:
    kind, major, minor = item[0]
    return kind, -1 if major is None else major, -1 if minor is None else minor
