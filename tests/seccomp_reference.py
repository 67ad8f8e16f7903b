"""What a seccomp profile means, one call at a time: slow, plain, and written apart from the compiler."""

from onggi.plan.seccomp.tables import ARM, X32, X86_64, Arch, syscall_numbers
from onggi.spec.runtime import LinuxSeccomp, LinuxSeccompArg

from .seccomp_machine import family_of

KILL_THREAD = 0
ENOSYS = 0x0005_0026
_CODES = {
    "SCMP_ACT_ALLOW": 0x7FFF_0000,
    "SCMP_ACT_ERRNO": 0x0005_0000,
    "SCMP_ACT_KILL": KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": 0x8000_0000,
    "SCMP_ACT_KILL_THREAD": KILL_THREAD,
    "SCMP_ACT_LOG": 0x7FFC_0000,
    "SCMP_ACT_NOTIFY": 0x7FC0_0000,
    "SCMP_ACT_TRACE": 0x7FF0_0000,
    "SCMP_ACT_TRAP": 0x0003_0000,
}
_LETS_IT_HAPPEN = {"SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_NOTIFY"}
_SOCKETCALL = {"socket": 1}
_IPC = {"semget": 2}

Alternative = tuple[int, tuple[LinuxSeccompArg, ...]]


class ContradictionError(Exception):
    """Two rules with the same comparisons have different actions."""


def evaluate(profile: LinuxSeccomp, native: Arch, token: int, number: int, args: tuple[int, ...]) -> int:
    """Give the verdict on one call: `token` is what the kernel says of its architecture."""
    chosen = [arch for arch in family_of(native) if arch is native or arch.scmp in (profile.architectures or ())]
    members = [arch for arch in chosen if arch.token == token]
    if not members:
        return KILL_THREAD
    default = verdict(profile.default_action, profile.default_errno_ret)
    if members == [X86_64] and X32.bit <= number < 0xFFFF_FFFF:
        return KILL_THREAD
    arch = members[-1] if number >= X32.bit else members[0]
    alternatives = alternatives_of(profile, arch, number, default)
    for action, conditions in alternatives:
        if all(holds(condition, args[condition.index], arch.wide) for condition in conditions):
            return action
    if alternatives or profile.default_action in _LETS_IT_HAPPEN:
        return default
    named = [
        syscall_numbers(arch)[name]
        for call in profile.syscalls or ()
        for name in call.names
        if name in syscall_numbers(arch)
    ]
    named = [each for each in named if arch is not ARM or each < 0xF0000]
    if named and max(named) > 0 and number > max(named) and (members != [X86_64] or number != 0xFFFF_FFFF):
        return ENOSYS
    return default


def contradicts(profile: LinuxSeccomp, native: Arch) -> bool:
    """Say whether a profile has two rules with the same comparisons and different actions."""
    default = verdict(profile.default_action, profile.default_errno_ret)
    names = {"socketcall", "ipc"}.union(*(call.names for call in profile.syscalls or ()))
    try:
        for arch in family_of(native):
            if arch is native or arch.scmp in (profile.architectures or ()):
                for name in names & syscall_numbers(arch).keys():
                    alternatives_of(profile, arch, syscall_numbers(arch)[name], default)
    except ContradictionError:
        return True
    return False


def alternatives_of(profile: LinuxSeccomp, arch: Arch, number: int, default: int) -> list[Alternative]:
    """Give the rules that speak of a call, in the order in which they decide."""
    numbers = syscall_numbers(arch)
    found: list[Alternative] = []
    for call in profile.syscalls or ():
        action = verdict(call.action, call.errno_ret)
        if action == default:
            continue
        args = call.args or ()
        repeated = len({arg.index for arg in args}) < len(args)
        for name in call.names:
            for group in [(arg,) for arg in args] if repeated else [tuple(sorted(args, key=lambda arg: arg.index))]:
                if numbers.get(name) == number:
                    found.append((action, group))
                for outer, calls in (("socketcall", _SOCKETCALL), ("ipc", _IPC)):
                    if arch.multiplexed and numbers[outer] == number and name in calls:
                        which = LinuxSeccompArg(index=0, value=calls[name], op="SCMP_CMP_EQ")
                        found.append((action, (which, *(arg for arg in group if arg.index))))
    fitted = [(action, tuple(arg for arg in group if not vacuous(arg, arch.wide))) for action, group in found]
    for action, group in fitted:
        if not group:
            return [(action, ())]
    keyed = [(tuple(identity(arg, arch.wide) for arg in group), action) for action, group in fitted]
    if len(dict(keyed)) < len(set(keyed)):
        raise ContradictionError
    return sorted(fitted, key=lambda alternative: [rank(arg, arch.wide) for arg in alternative[1]])


def width(value: int, wide: bool) -> int:
    """Cut a number to what an argument of the architecture has."""
    return value if wide else value % 2**32


def vacuous(arg: LinuxSeccompArg, wide: bool) -> bool:
    """Say whether a comparison looks at no bit at all."""
    return arg.op == "SCMP_CMP_MASKED_EQ" and width(arg.value, wide) == 0


def identity(arg: LinuxSeccompArg, wide: bool) -> tuple[int, str, int, int]:
    """Two comparisons that are the same have the same."""
    value, second = width(arg.value, wide), width(arg.value_two or 0, wide)
    return (arg.index, arg.op, value, value & second if arg.op == "SCMP_CMP_MASKED_EQ" else 0)


def rank(arg: LinuxSeccompArg, wide: bool) -> tuple[int, int, int]:
    """Order comparisons: later arguments, then equalities, upper bounds, lower bounds; tighter ones first."""
    value = width(arg.value, wide)
    if arg.op == "SCMP_CMP_MASKED_EQ":
        return (-arg.index, 0, -(value & width(arg.value_two or 0, wide)))
    if arg.op in ("SCMP_CMP_LT", "SCMP_CMP_LE"):
        return (-arg.index, 1, value)
    return (-arg.index, 2 if arg.op in ("SCMP_CMP_GT", "SCMP_CMP_GE") else 0, -value)


def holds(arg: LinuxSeccompArg, given: int, wide: bool) -> bool:
    """Compare one argument."""
    given, value = width(given, wide), width(arg.value, wide)
    return {
        "SCMP_CMP_EQ": given == value,
        "SCMP_CMP_NE": given != value,
        "SCMP_CMP_LT": given < value,
        "SCMP_CMP_LE": given <= value,
        "SCMP_CMP_GE": given >= value,
        "SCMP_CMP_GT": given > value,
        "SCMP_CMP_MASKED_EQ": given & value == width(arg.value_two or 0, wide) & value,
    }[arg.op]


def verdict(action: str, errno_ret: int | None) -> int:
    """Give what a filter returns for an action."""
    carries = action in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
    return _CODES[action] | (1 if errno_ret is None else errno_ret) if carries else _CODES[action]
