"""From a seccomp profile to a classic BPF program.

    load arch ── one of ours? ── load nr ── bisect ── verdict
         └ no: kill                            └ load argument words, compare ── verdict

x86_64 and x32 share an arch token; x32 numbers have bit 30, so both live on one
line of numbers and one search decides both.
"""

from functools import lru_cache
from typing import Final

import msgspec

from onggi.base.errors import InvalidArgument
from onggi.spec.runtime import LinuxSeccomp

from .arguments import decide
from .bpf import JEQ, WORD_MAX, Graph, Node, Range
from .rules import (
    ENOSYS,
    RET_ALLOW,
    RET_ERRNO,
    RET_KILL_THREAD,
    RET_LOG,
    RET_NOTIFY,
    RET_TRACE,
    Entry,
    Rule,
    parse_entries,
    parse_verdict,
    rules_by_number,
)
from .tables import ARM_PRIVATE, X32_BIT, X86_64, Arch, chosen_arches, native_arch, syscall_numbers

# struct seccomp_data
_NR: Final = 0
_ARCH: Final = 4

FLAG_LOG: Final = 1 << 1
FLAG_SPEC_ALLOW: Final = 1 << 2
FLAG_NEW_LISTENER: Final = 1 << 3
FLAG_WAIT_KILLABLE_RECV: Final = 1 << 5

FLAGS: Final = {
    # Known and without effect, as in runc: the filter is loaded by a process of one thread.
    "SECCOMP_FILTER_FLAG_TSYNC": 0,
    "SECCOMP_FILTER_FLAG_LOG": FLAG_LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": FLAG_SPEC_ALLOW,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": FLAG_WAIT_KILLABLE_RECV,
}

_KEPT: Final = 16
"""Programs that a warm process remembers: most containers have the same profile, and it costs milliseconds."""
_ACTION: Final = 0xFFFF_0000
# Defaults that let an unknown call happen, or leave it to somebody who can answer ENOSYS himself.
_PERMISSIVE: Final = frozenset((RET_ALLOW, RET_LOG, RET_TRACE, RET_NOTIFY))


class SeccompProgram(msgspec.Struct, frozen=True, kw_only=True):
    """A filter ready for seccomp(2).

    `filter` is an array of struct sock_filter, `flags` are SECCOMP_FILTER_FLAG_*.
    With `notify` a rule asks a listener, and the flags ask for its descriptor.
    """

    filter: bytes
    flags: int
    instructions: int
    notify: bool


@lru_cache(maxsize=_KEPT)
def compile_seccomp(profile: LinuxSeccomp, arch: str) -> SeccompProgram:
    """Compile a profile for the kernel of an architecture (`uname -m` or OCI name).

    Raises InvalidArgument, naming the rule, for what the profile says wrong, and
    NotSupported for an architecture without a table of system calls.
    """
    native = native_arch(arch)
    default = parse_verdict(profile.default_action, profile.default_errno_ret, "seccomp profile, default")
    entries = parse_entries(profile)
    graph = Graph()
    # A call of another architecture is killed, as libseccomp has it.
    start = graph.give(RET_KILL_THREAD)
    for members in reversed(_by_token(chosen_arches(native, profile.architectures or ()))):
        numbers = graph.load(_NR, graph.search(_number_ranges(graph, members, entries, default)))
        start = graph.jump(JEQ, members[0].token, numbers, start)
    code, count = graph.assemble(graph.load(_ARCH, start))
    notify = default == RET_NOTIFY or any(entry.rules[0].verdict == RET_NOTIFY for entry in entries)
    return SeccompProgram(filter=code, flags=_flags(profile, notify), instructions=count, notify=notify)


def _flags(profile: LinuxSeccomp, notify: bool) -> int:
    if profile.flags is None:
        # As runc: who says nothing gets no Speculative Store Bypass mitigation (the kernel's default since 5.16).
        flags = FLAG_SPEC_ALLOW
    else:
        flags = 0
        for name in profile.flags:
            if name not in FLAGS:
                raise InvalidArgument(f"seccomp profile: flag {name!r} is not known; there are {', '.join(FLAGS)}")
            flags |= FLAGS[name]
    # The kernel refuses WAIT_KILLABLE_RECV without a listener.
    return flags | FLAG_NEW_LISTENER if notify else flags & ~FLAG_WAIT_KILLABLE_RECV


def _by_token(arches: tuple[Arch, ...]) -> list[tuple[Arch, ...]]:
    tokens: dict[int, tuple[Arch, ...]] = {}
    for arch in arches:
        tokens[arch.token] = (*tokens.get(arch.token, ()), arch)
    return list(tokens.values())


def _number_ranges(graph: Graph, members: tuple[Arch, ...], entries: list[Entry], default: int) -> list[Range]:
    """Cut the line of numbers into ranges with one fate each."""
    otherwise = graph.give(default)
    fates: dict[int, Node] = {}
    for arch in members:
        decided: dict[tuple[Rule, ...], Node] = {}
        for number, rules in rules_by_number(entries, arch, default).items():
            key = tuple(rules)
            if key not in decided:
                decided[key] = decide(graph, rules, arch, otherwise)
            fates[number] = decided[key]

    # What lies between the numbers that rules name.
    grounds: list[Range] = [(0, otherwise)]
    unknown = graph.give(RET_ERRNO | ENOSYS)
    for arch in members:
        grounds += [(arch.bit, otherwise)] if arch.bit else []
        highest = _highest_named(entries, arch)
        if highest is not None and default & _ACTION not in _PERMISSIVE:
            grounds.append((highest + 1, unknown))
    if members == (X86_64,):
        # x32 was not chosen. A tracer skips a call by making it number -1, which is not killed.
        grounds += [(X32_BIT, graph.give(RET_KILL_THREAD)), (WORD_MAX, otherwise)]

    ranges: list[Range] = []
    for (begin, ground), (end, _) in zip(grounds, [*grounds[1:], (WORD_MAX + 1, otherwise)], strict=True):
        at = begin
        for number in sorted(number for number in fates if begin <= number < end):
            if number > at:
                ranges.append((at, ground))
            ranges.append((number, fates[number]))
            at = number + 1
        if at < end:
            ranges.append((at, ground))
    return ranges


def _highest_named(entries: list[Entry], arch: Arch) -> int | None:
    """Give the highest number that the profile's author knew.

    A call above it is younger than the profile: ENOSYS lets programs fall back
    to older calls, where the errno of the default action would stop them (runc's
    patchbpf). The private calls of ARM are not counted: being far above the
    table, they would switch this off there, as they do in runc.
    """
    numbers = syscall_numbers(arch)
    named = [numbers[name] for entry in entries for name in entry.names if name in numbers]
    highest = max((number for number in named if number & ~arch.bit < ARM_PRIVATE), default=0)
    return highest or None
