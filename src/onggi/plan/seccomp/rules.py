"""From a profile's rules to what happens to each system call of an architecture.

The meaning is libseccomp's, as runc uses it:

- A rule whose action is the default action is dropped.
- A rule with several arguments holds when all its comparisons hold; but if two
  of them look at the same argument, each comparison is a rule of its own.
- The first rule without comparisons decides alone, wherever it stands.
- Several rules with comparisons are alternatives. When more than one holds, the
  most telling decides: a later argument before an earlier one, `==` before an
  upper bound before a lower bound, the tighter bound first.
- A name that the architecture does not have is skipped.
- On i386 a rule for a socket or System V IPC call also speaks of socketcall(2)
  and ipc(2), where the first argument is the number of the call and the others
  are in memory, so that comparisons cannot see them.
"""

from typing import Final, NamedTuple

from onggi.base.errors import InvalidArgument
from onggi.spec.runtime import LinuxSeccomp, LinuxSeccompArg, LinuxSyscall

from .bpf import WORD_MAX
from .tables import Arch, syscall_numbers

EPERM: Final = 1
ENOSYS: Final = 38

RET_KILL_PROCESS: Final = 0x8000_0000
RET_KILL_THREAD: Final = 0x0000_0000
RET_TRAP: Final = 0x0003_0000
RET_ERRNO: Final = 0x0005_0000
RET_NOTIFY: Final = 0x7FC0_0000
RET_TRACE: Final = 0x7FF0_0000
RET_LOG: Final = 0x7FFC_0000
RET_ALLOW: Final = 0x7FFF_0000

ACTIONS: Final = {
    "SCMP_ACT_ALLOW": RET_ALLOW,
    "SCMP_ACT_ERRNO": RET_ERRNO,
    "SCMP_ACT_KILL": RET_KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": RET_KILL_PROCESS,
    "SCMP_ACT_KILL_THREAD": RET_KILL_THREAD,
    "SCMP_ACT_LOG": RET_LOG,
    "SCMP_ACT_NOTIFY": RET_NOTIFY,
    "SCMP_ACT_TRACE": RET_TRACE,
    "SCMP_ACT_TRAP": RET_TRAP,
}
OPERATORS: Final = {
    "SCMP_CMP_EQ": "==",
    "SCMP_CMP_GE": ">=",
    "SCMP_CMP_GT": ">",
    "SCMP_CMP_LE": "<=",
    "SCMP_CMP_LT": "<",
    "SCMP_CMP_MASKED_EQ": "&",
    "SCMP_CMP_NE": "!=",
}
_TELLING: Final = {"==": 0, "!=": 0, "&": 0, "<": 1, "<=": 1, ">": 2, ">=": 2}
_MAX_DATA: Final = {RET_ERRNO: 4095, RET_TRACE: 0xFFFF}  # the kernel's MAX_ERRNO; SECCOMP_RET_DATA
_ARGUMENTS: Final = 6
_FULL: Final = 0xFFFF_FFFF_FFFF_FFFF

_SOCKETCALL: Final = (
    "socket bind connect listen accept getsockname getpeername socketpair send recv sendto recvfrom"
    " shutdown setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg"
)
_IPC: Final = {
    "semop": 1,
    "semget": 2,
    "semctl": 3,
    "semtimedop": 4,
    "msgsnd": 11,
    "msgrcv": 12,
    "msgget": 13,
    "msgctl": 14,
    "shmat": 21,
    "shmdt": 22,
    "shmget": 23,
    "shmctl": 24,
}
MULTIPLEXED: Final = {
    **{name: ("socketcall", number) for number, name in enumerate(_SOCKETCALL.split(), 1)},
    **{name: ("ipc", number) for name, number in _IPC.items()},
}


class Condition(NamedTuple):
    """A comparison of an argument with a value; `&` compares what the mask leaves of it."""

    argument: int
    operator: str
    value: int
    mask: int


Conditions = tuple[Condition, ...]


class Rule(NamedTuple):
    """A verdict, and what must hold for it: comparisons in the order of their arguments."""

    verdict: int
    conditions: Conditions


class Entry(NamedTuple):
    """A rule of the profile, judged once for all architectures: its names, and its alternatives."""

    names: tuple[str, ...]
    where: str
    rules: tuple[Rule, ...]


def parse_verdict(action: str, errno_ret: int | None, where: str) -> int:
    """Give the filter's return value for an action; errno and trace data are 1 (EPERM) unless said."""
    verdict = ACTIONS.get(action)
    if verdict is None:
        raise InvalidArgument(f"{where}: action {action!r} is not known; there are {', '.join(ACTIONS)}")
    most = _MAX_DATA.get(verdict)
    if most is None:
        return verdict
    data = EPERM if errno_ret is None else errno_ret
    if data > most:
        raise InvalidArgument(f"{where}: errnoRet {data} is more than the {most} that {action} can carry")
    return verdict | data


def parse_entries(profile: LinuxSeccomp) -> list[Entry]:
    """Judge the rules of a profile. Raises InvalidArgument, naming the rule."""
    return [_parse_entry(number, call) for number, call in enumerate(profile.syscalls or (), 1)]


def _parse_entry(number: int, call: LinuxSyscall) -> Entry:
    where = f"seccomp rule {number} ({', '.join(call.names[:3])}{', …' if len(call.names) > 3 else ''})"
    if "" in call.names:
        raise InvalidArgument(f"{where}: an empty name is no system call")
    verdict = parse_verdict(call.action, call.errno_ret, where)
    conditions = tuple(sorted(_parse_condition(arg, where) for arg in call.args or ()))
    if len({condition.argument for condition in conditions}) < len(conditions):
        return Entry(call.names, where, tuple(Rule(verdict, (condition,)) for condition in conditions))
    return Entry(call.names, where, (Rule(verdict, conditions),))


def _parse_condition(arg: LinuxSeccompArg, where: str) -> Condition:
    operator = OPERATORS.get(arg.op)
    if operator is None:
        raise InvalidArgument(f"{where}: operator {arg.op!r} is not known; there are {', '.join(OPERATORS)}")
    if arg.index >= _ARGUMENTS:
        raise InvalidArgument(f"{where}: argument {arg.index} does not exist; there are 0 to {_ARGUMENTS - 1}")
    if arg.op == "SCMP_CMP_MASKED_EQ":
        return Condition(arg.index, operator, (arg.value_two or 0) & arg.value, arg.value)
    return Condition(arg.index, operator, arg.value, _FULL)


def rules_by_number(entries: list[Entry], arch: Arch, default: int) -> dict[int, list[Rule]]:
    """Give the rules for each system call number of an architecture, in the order in which they decide.

    A call that is decided without comparisons has one rule without conditions.
    Raises InvalidArgument when two rules say different things of the same calls.
    """
    numbers = syscall_numbers(arch)
    found: dict[int, list[tuple[Rule, str]]] = {}
    for names, where, rules in entries:
        if rules[0].verdict == default:
            continue
        fitted = [(_fit(rule, arch), where) for rule in rules]
        for name in names:
            number = numbers.get(name)
            if number is not None:
                found.setdefault(number, []).extend(fitted)
            if arch.multiplexed and name in MULTIPLEXED:
                outer, call = MULTIPLEXED[name]
                found.setdefault(numbers[outer], []).extend((_multiplex(rule, call), where) for rule, _ in fitted)
    return {number: _combine(alternatives) for number, alternatives in found.items()}


def _fit(rule: Rule, arch: Arch) -> Rule:
    """Cut comparisons to the width of the arguments, and drop those that an empty mask makes true of all."""
    width = _FULL if arch.wide else WORD_MAX
    cut = [each._replace(value=each.value & width, mask=each.mask & width) for each in rule.conditions]
    return Rule(rule.verdict, tuple(condition for condition in cut if condition.mask))


def _multiplex(rule: Rule, call: int) -> Rule:
    others = tuple(condition for condition in rule.conditions if condition.argument)
    return Rule(rule.verdict, (Condition(0, "==", call, WORD_MAX), *others))


def _combine(alternatives: list[tuple[Rule, str]]) -> list[Rule]:
    for rule, _ in alternatives:
        if not rule.conditions:
            return [rule]
    verdicts: dict[Conditions, int] = {}
    for rule, where in alternatives:
        if verdicts.setdefault(rule.conditions, rule.verdict) != rule.verdict:
            raise InvalidArgument(
                f"{where}: an earlier rule has the same comparisons and another action; remove one of the two"
            )
    return [Rule(verdicts[conditions], conditions) for conditions in sorted(verdicts, key=_precedence)]


def _precedence(conditions: Conditions) -> list[tuple[int, int, int]]:
    return [
        (-argument, _TELLING[operator], value if operator in ("<", "<=") else -value)
        for argument, operator, value, _ in conditions
    ]
