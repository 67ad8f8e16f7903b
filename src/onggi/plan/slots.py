"""Which slots an op writes and which it reads: what decides what the launcher may let go, and what tests check."""

from collections.abc import Iterable
from typing import Final

from onggi.plan import ops
from onggi.plan.ops import Close, Op, Slot, SlotHole

_WRITES: Final[dict[type[Op], tuple[str, ...]]] = {
    ops.Inherit: ("slot",),
    ops.OpenPath: ("slot",),
    ops.Listen: ("slot",),
    ops.Pipe: ("reader", "writer"),
    ops.Bind: ("slot",),
    ops.Netlink: ("keep",),
    ops.Open: ("slot",),
    ops.Clone: ("pidfd", "proc"),
    ops.Adopt: ("pidfd", "proc"),
    ops.Receive: ("slot",),
    ops.OpenTerminal: ("master", "peer"),
}
_READS: Final[dict[type[Op], tuple[str, ...]]] = {
    ops.OpenPath: ("at",),
    ops.Close: ("slot",),
    ops.Lock: ("slot",),
    ops.Listen: ("at",),
    ops.MakeDirectory: ("at",),
    ops.WriteFile: ("at",),
    ops.PutFile: ("at",),
    ops.Remove: ("at",),
    ops.Open: ("idmap",),
    ops.Attach: ("slot", "root"),
    ops.AttachRoot: ("slot",),
    ops.MakeTarget: ("root", "like"),
    ops.MakeNode: ("root",),
    ops.MakeLink: ("root",),
    ops.Mask: ("root", "null", "empty"),
    ops.MakeReadOnly: ("root",),
    ops.Restrict: ("slot",),
    ops.PivotRoot: ("root",),
    ops.Clone: ("cgroup",),
    ops.EnterCgroup: ("cgroup",),
    ops.SetNamespace: ("slot",),
    ops.Send: ("slot",),
    ops.OpenTerminal: ("devpts",),
    ops.SetStdio: ("stdin", "stdout", "stderr"),
    ops.FilterDevices: ("cgroup",),
    ops.KillMembers: ("at",),
    ops.Supervise: ("child", "stdin", "stdout", "stderr", "terminal", "listener", "client", "log"),
    ops.Keep: ("at",),
    ops.RecordExit: ("at",),
}


def written(op: Op) -> tuple[Slot, ...]:
    """List the slots that this op writes."""
    fields = _WRITES.get(type(op))
    if fields is None:
        return ()
    return tuple([slot for field in fields if (slot := getattr(op, field)) is not None])


def read(op: Op) -> tuple[Slot, ...]:
    """List the slots that this op reads, those in its templates and origins too."""
    named = [getattr(op, field) for field in _READS.get(type(op), ())]
    match op:
        case ops.WriteFile(data=data) | ops.PutFile(data=data) | ops.Netlink(messages=data):
            named += [part.slot for part in data if isinstance(part, SlotHole)] if isinstance(data, tuple) else []
        case ops.Open(origin=ops.Tree(at=at)):
            named.append(at)
        case ops.Open(origin=ops.NewFs(options=options)):
            values = [part for _, value in options for part in (value if isinstance(value, tuple) else (value,))]
            named += [part.slot for part in values if isinstance(part, SlotHole)]
    return tuple(slot for slot in named if slot is not None)


def plan_closes(done: Iterable[Op], later: Iterable[Op], *, keep: Iterable[Slot]) -> tuple[Close, ...]:
    """Close what `done` has opened and neither `later` nor anybody else (`keep`) needs.

    A supervisor lives long: the child's ends of pipes would hide the end of its output,
    and a mount stays busy for as long as somebody has a descriptor of it.
    """
    open_now: dict[Slot, None] = {}
    for op in done:
        if isinstance(op, Close):
            open_now.pop(op.slot, None)
        if not isinstance(op, ops.Bind):  # a port is held for as long as we live
            open_now.update(dict.fromkeys(written(op)))
    needed = {slot for op in later for slot in read(op)} | set(keep)
    return tuple(Close(slot=slot) for slot in open_now if slot not in needed)
