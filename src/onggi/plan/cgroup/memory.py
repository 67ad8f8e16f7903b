"""Memory limits (runtime-spec config-linux.md#memory): memory and swap together on v1, swap alone on v2."""

from typing import Final

from onggi.base.errors import InvalidArgument, NotSupported
from onggi.plan.cgroup.host import Home, Host, Note, Wanted
from onggi.spec.runtime import LinuxMemory

_UNSET_SWAPPINESS: Final = (1 << 64) - 1  # what "-1" becomes on its way through an unsigned field


def plan_memory(memory: LinuxMemory, host: Host) -> Wanted:
    """Say what goes into the memory controller. 0 means unset and -1 unlimited, as for runc."""
    if memory.kernel or memory.kernel_tcp:
        yield Note("kernel memory limits have no effect: kernels since 5.11 count kernel memory with the rest")
    limit, reservation, swap = memory.limit or 0, memory.reservation or 0, memory.swap or 0
    swappiness = None if memory.swappiness == _UNSET_SWAPPINESS else memory.swappiness
    if not (limit or reservation or swap or swappiness is not None or memory.disable_oom_killer):
        return
    _check(limit, reservation, swap)
    if swappiness is not None and swappiness > 100:
        raise InvalidArgument(f"memory swappiness {swappiness}: the range is 0 to 100")
    home = host.home("memory", "a memory limit (--memory, linux.resources.memory)")
    if home.version == 1:
        yield from _version1(home, host, limit, reservation, swap)
        if memory.disable_oom_killer:
            yield home.write("memory.oom_control", 1)
        if swappiness is not None:
            yield home.write("memory.swappiness", swappiness)
        return
    yield from _version2(home, host, limit, reservation, swap)
    if memory.disable_oom_killer:
        yield Note("disabling the OOM killer has no effect: cgroup v2 does not have it")
    if swappiness is not None:
        yield Note("memory swappiness has no effect: cgroup v2 has it for the whole host only (vm.swappiness)")


def _check(limit: int, reservation: int, swap: int) -> None:
    for name, value in (("limit", limit), ("reservation", reservation), ("swap", swap)):
        if value < -1:
            raise InvalidArgument(f"memory {name} {value}: give bytes, or -1 for no limit")
    if swap > 0 and limit == 0:
        raise InvalidArgument(
            f"memory+swap limit {swap}: it needs a memory limit too (--memory), as it counts memory and swap together"
        )
    if limit > 0 and 0 < swap < limit:
        raise InvalidArgument(
            f"memory+swap limit should be >= memory limit: {swap} is less than {limit}, and it counts both together"
        )


def _version1(home: Home, host: Host, limit: int, reservation: int, swap: int) -> Wanted:
    # No limit on memory alone would be none at all while memory and swap together keep theirs.
    if limit == -1 and swap == 0 and host.facts.swap:
        swap = -1
    # The kernel wants limit <= memsw at any time. A fresh cgroup has none, so the smaller one goes first.
    if limit:
        yield home.write("memory.limit_in_bytes", limit)
    if swap and not host.facts.swap:
        yield from _without_swap(swap == -1 or swap == limit)
    elif swap:
        yield home.write("memory.memsw.limit_in_bytes", swap)
    if reservation:
        yield home.write("memory.soft_limit_in_bytes", reservation)


def _version2(home: Home, host: Host, limit: int, reservation: int, swap: int) -> Wanted:
    swap_only = _swap_only(limit, swap)
    if swap_only is not None and not host.facts.swap:
        yield from _without_swap(swap_only in ("max", "0"))
    elif swap_only is not None:
        yield home.write("memory.swap.max", swap_only)
    if limit:
        yield home.write("memory.max", _or_max(limit))
    if reservation:
        yield home.write("memory.low", _or_max(reservation))


def _swap_only(limit: int, swap: int) -> str | None:
    if swap == 0:
        return "max" if limit == -1 else None
    if swap == -1 or limit == -1:
        return _or_max(swap)
    return str(swap - limit)


def _or_max(value: int) -> str:
    return "max" if value == -1 else str(value)


def _without_swap(harmless: bool) -> Wanted:
    if not harmless:
        raise NotSupported(
            "a memory+swap limit (--memory-swap, linux.resources.memory.swap) needs swap accounting, which this kernel "
            "does not have; boot with swapaccount=1, or leave the swap limit out"
        )
    yield Note("the memory+swap limit has no effect: this kernel does not account for swap")
