"""The process itself: identity, privileges, and the exec (runtime-spec config.md#process).

The order is the safety argument: bounding set, ids, capabilities only ever go down;
seccomp comes before capabilities are dropped where the process may still gain
privileges, since then it needs CAP_SYS_ADMIN to load, and after no_new_privs otherwise,
so that the filter need not allow what set-up does.
"""

from typing import Final

import msgspec

from onggi.base.errors import InvalidArgument, NotSupported
from onggi.plan import abi
from onggi.plan.facts import Facts
from onggi.plan.ops import (
    ChangeDirectory,
    DropBounding,
    Exec,
    ForkInit,
    LoadSeccomp,
    Op,
    SealDescriptors,
    SetCapabilities,
    SetDeathSignal,
    SetIds,
    SetNoNewPrivileges,
    SetResourceLimit,
    SetUmask,
)
from onggi.plan.seccomp import compile_seccomp
from onggi.spec.runtime import LinuxCapabilities, LinuxSeccomp, Process

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MAX_GROUPS: Final = 1024
NO_ID: Final = 2**32 - 1


class Sets(msgspec.Struct, frozen=True):
    """The five capability sets as bit masks."""

    bounding: int
    effective: int
    permitted: int
    inheritable: int
    ambient: int


def capability_mask(names: tuple[str, ...] | None, facts: Facts) -> int:
    """Give the bits of capability names; those this kernel does not know are left out, as runc does."""
    mask = 0
    for name in names or ():
        if name not in abi.CAPABILITIES:
            raise InvalidArgument(f"unknown capability {name!r}; see capabilities(7) for the names")
        number = abi.CAPABILITIES.index(name)
        mask |= 1 << number if number <= facts.last_capability else 0
    return mask


def capability_sets(capabilities: LinuxCapabilities | None, facts: Facts) -> Sets:
    """Compute the sets; without any, the process has none (runtime-spec: absent means empty).

    What the caller itself does not hold cannot be given: asking for it is refused by name.
    """
    wanted = capabilities or LinuxCapabilities()
    bounding = capability_mask(wanted.bounding, facts)
    effective, permitted = capability_mask(wanted.effective, facts), capability_mask(wanted.permitted, facts)
    inheritable, ambient = capability_mask(wanted.inheritable, facts), capability_mask(wanted.ambient, facts)
    if missing := (effective | permitted) & ~facts.capabilities:
        names = ", ".join(name for number, name in enumerate(abi.CAPABILITIES) if missing >> number & 1)
        raise NotSupported(f"cannot give the container {names}: Onggi's own process does not hold it on this host")
    return Sets(bounding, effective & permitted, permitted, inheritable, ambient & permitted & inheritable)


def plan_limits(process: Process, facts: Facts) -> tuple[Op, ...]:
    """Plan the resource limits. A hard limit above the caller's own needs CAP_SYS_RESOURCE."""
    ops: list[Op] = []
    may_raise = facts.capabilities >> abi.CAPABILITIES.index("CAP_SYS_RESOURCE") & 1
    for limit in process.rlimits or ():
        if limit.type not in abi.RLIMITS:
            raise InvalidArgument(f"process.rlimits: unknown limit {limit.type!r}; see getrlimit(2) for the names")
        if limit.soft > limit.hard:
            raise InvalidArgument(f"process.rlimits: {limit.type}: soft limit {limit.soft} is above hard {limit.hard}")
        ceiling = facts.rlimit_ceilings.get(limit.type, 2**64 - 1)
        if limit.hard > ceiling and not may_raise:
            raise NotSupported(
                f"process.rlimits: {limit.type} {limit.hard} is above this process's own hard limit {ceiling}, "
                "and raising it needs CAP_SYS_RESOURCE, which this host does not give; ask for at most that"
            )
        ops.append(SetResourceLimit(resource=abi.RLIMITS[limit.type], soft=limit.soft, hard=limit.hard))
    return tuple(ops)


def plan_privileges(
    process: Process, seccomp: LinuxSeccomp | None, facts: Facts, *, set_groups: bool
) -> tuple[Op, ...]:
    """Plan the way from set-up rights down to the process's own, after the last descriptor is opened.

    `set_groups` is False where the user namespace forbids setgroups(2).
    """
    _refuse_unplanned(process)
    sets = capability_sets(process.capabilities, facts)
    filters: tuple[Op, ...] = ()
    if seccomp is not None:
        program = compile_seccomp(seccomp, facts.arch)
        if program.notify:
            raise NotSupported("linux.seccomp: SCMP_ACT_NOTIFY is not supported by this version of Onggi")
        filters = (LoadSeccomp(program=program.filter, flags=program.flags),)
    for name, id in (("uid", process.user.uid), ("gid", process.user.gid)):
        if id == NO_ID:
            raise InvalidArgument(f"process.user.{name} {id} is no id: to the kernel it means `none`")
    groups = process.user.additional_gids or ()
    if len(groups) > MAX_GROUPS:
        raise InvalidArgument(f"process.user.additionalGids: {len(groups)} groups; at most {MAX_GROUPS} are possible")
    confined = bool(process.no_new_privileges)
    return (
        SealDescriptors(),
        *(() if confined else filters),
        DropBounding(keep=sets.bounding),
        SetIds(uid=process.user.uid, gid=process.user.gid, groups=groups if set_groups else None),
        SetDeathSignal(signal=abi.SIGKILL),
        ChangeDirectory(path=process.cwd),
        SetUmask(mask=0o022 if process.user.umask is None else process.user.umask),
        SetCapabilities(
            effective=sets.effective, permitted=sets.permitted, inheritable=sets.inheritable, ambient=sets.ambient
        ),
        *((SetNoNewPrivileges(), *filters) if confined else ()),
    )


def plan_exec(process: Process, *, init: bool) -> tuple[Op, ...]:
    """Plan the end of the child; what it has open but stdio was sealed before."""
    argv = process.args
    if not argv or not argv[0]:
        raise InvalidArgument("no command specified: process.args is empty")
    return (
        *((ForkInit(),) if init else ()),
        Exec(candidates=exec_candidates(argv[0], process.env or ()), argv=argv, env=process.env or ()),
    )


def exec_candidates(command: str, env: tuple[str, ...]) -> tuple[str, ...]:
    """List what execvp would try: the command itself where it has a slash, else one path per entry of PATH."""
    if "/" in command:
        return (command,)
    path = DEFAULT_PATH
    for variable in env:
        if variable.startswith("PATH="):
            path = variable.removeprefix("PATH=")
    # An empty entry would mean the working directory: Go's LookPath, hence Docker, refuses to use it.
    return tuple(f"{directory.rstrip('/')}/{command}" for directory in path.split(":") if directory.startswith("/"))


def _refuse_unplanned(process: Process) -> None:
    """Name what the spec asks for and this version does not do, rather than ignore it."""
    for name, value in (
        ("apparmorProfile", process.apparmor_profile),
        ("selinuxLabel", process.selinux_label),
        ("scheduler", process.scheduler),
        ("ioPriority", process.io_priority),
        ("execCPUAffinity", process.exec_cpu_affinity),
        ("commandLine", process.command_line),
    ):
        if value:
            raise NotSupported(f"process.{name} is not supported by this version of Onggi; remove it from the spec")
