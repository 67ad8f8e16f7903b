"""The wire form of a plan: what the launcher reads from a sealed memfd.

    header   64 bytes: magic "ONGGIPL1", version, sizes, records per section, slots, build id
    records  88 bytes each: kind, op number, tolerated errnos, 4 slots, 4 numbers, 4 spans
    arena    bytes that spans point into; every span is followed by a NUL; its first byte is in none

All integers are native little endian. One op becomes one record, or a few (`Open`
of a new file system is one record per fsconfig call); records carry the number of
their op, so that errors name what a person reads in `--explain`. A span of several
strings has them NUL-separated. Holes are a span of (offset, kind, slot or link number) entries over
the data span before it. `launcher/plan.h` is generated from here
(`python -m onggi.plan.wire`), and a test keeps it current.
"""

import struct
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any, Final, NamedTuple, assert_never

from onggi.base.errors import InvalidArgument
from onggi.plan import ops

MAGIC: Final = b"ONGGIPL1"
VERSION: Final = 1
MAX_RECORDS: Final = 4096
MAX_SLOTS: Final = 1024
MAX_BYTES: Final = 4 << 20

# magic, version, total bytes, records per section, slots, reserved, build id (hex text)
HEADER: Final = struct.Struct("<8sII4IHHI16s8x")
# kind, op, tolerate, slots, numbers, spans
RECORD: Final = struct.Struct("<HH4H4hxxxx4Q8I")
HOLE: Final = struct.Struct("<IHh")

KINDS: Final = (
    "INHERIT", "OPEN_PATH", "CLOSE", "LOCK", "LISTEN", "PIPE", "MKDIR", "WRITE", "PUT", "REMOVE",
    "FS_OPEN", "FS_STRING", "FS_FLAG", "FS_FD", "FS_MOUNT", "TREE", "ATTRIBUTES", "ATTACH", "ATTACH_ROOT",
    "TARGET", "NODE", "SYMLINK", "MASK", "READONLY", "PROPAGATE", "PIVOT", "ENTER", "CLONE", "RECLONE", "ADOPT",
    "SETNS", "UNSHARE", "TELL", "AWAIT", "SEND", "RECEIVE", "HOSTNAME", "DOMAINNAME", "RLIMIT", "DEATHSIG",
    "UNDUMPABLE", "BOUNDING", "IDS", "CAPABILITIES", "NO_NEW_PRIVS", "SECCOMP", "CHDIR", "UMASK",
    "TERMINAL", "STDIO", "SESSION", "SEAL", "INIT", "EXEC",
    "NETLINK", "BIND", "DEVICES", "KILL", "SUPERVISE", "KEEP", "RECORD",
)  # fmt: skip
HOLES: Final = ("PID", "PID_U32", "NOW", "SLOT", "SLOT_U32", "LINK_U32")

_NUMBER: Final = {name: number for number, name in enumerate(KINDS, 1)}
_ZEROS: Final = (0,) * 4
_NOWHERE: Final = (-1,) * 4
_NO_SPANS: Final = (0,) * 8
_SECRET_CONTEXT: Final = "\0context"  # the fsopen descriptor between the records of one `Open`

Text = bytes | str | tuple[str, ...]


class Writer:
    """Collects records and the arena of one plan."""

    def __init__(self) -> None:
        self.records = bytearray()
        self.arena = bytearray(1)  # so that no span is at 0, which with length 0 means that there is none
        self.slots: dict[ops.Slot, int] = {}
        self.count = 0

    def slot(self, name: ops.Slot | None) -> int:
        """Give a slot its number, in order of first mention; None is -1."""
        return -1 if name is None else self.slots.setdefault(name, len(self.slots))

    def span(self, text: Text) -> tuple[int, int]:
        """Put bytes into the arena; strings keep arbitrary bytes by surrogateescape."""
        if isinstance(text, tuple):
            raw = b"".join(_bytes(part) + b"\0" for part in text)
        else:
            raw = text if isinstance(text, bytes) else _bytes(text)
        offset = len(self.arena)
        self.arena += raw + b"\0"
        return offset, len(raw)

    def add(
        self,
        kind: str,
        op: int,
        tolerate: tuple[int, ...],
        slots: tuple[ops.Slot | None, ...] = (),
        numbers: tuple[int, ...] = (),
        texts: tuple[Text, ...] = (),
    ) -> None:
        """Append one record."""
        spans = [number for text in texts for number in self.span(text)]
        self.records += RECORD.pack(
            _NUMBER[kind],
            op,
            *tolerate,
            *_ZEROS[len(tolerate) :],
            *map(self.slot, slots),
            *_NOWHERE[len(slots) :],
            *numbers,
            *_ZEROS[len(numbers) :],
            *spans,
            *_NO_SPANS[len(spans) :],
        )
        self.count += 1

    def holes(self, data: ops.Data) -> tuple[bytes, bytes]:
        """Split a template into its bytes (binary holes zeroed) and its hole table."""
        raw, table = bytearray(), bytearray()
        for part in data if isinstance(data, tuple) else (data,):
            match part:
                case bytes():
                    raw += part
                case ops.SlotHole():
                    table += HOLE.pack(len(raw), 5 if part.binary else 4, self.slot(part.slot))
                    raw += bytes(4) if part.binary else b""
                case ops.LinkHole():
                    table += HOLE.pack(len(raw), 6, part.number)
                    raw += bytes(4)
                case ops.Hole.PID:
                    table += HOLE.pack(len(raw), 1, -1)
                case ops.Hole.PID_U32:
                    table += HOLE.pack(len(raw), 2, -1)
                    raw += bytes(4)
                case ops.Hole.NOW:
                    table += HOLE.pack(len(raw), 3, -1)
                case _:
                    assert_never(part)
        return bytes(raw), bytes(table)


def encode_plan(plan: ops.Plan, build_id: str) -> bytes:
    """Encode a plan for the launcher of this build id (16 hex digits)."""
    writer, counts, number = Writer(), [], 0
    for _, section in plan.sections():
        before = writer.count
        for op in section:
            encode_op(writer, op, number)
            number += 1
        counts.append(writer.count - before)
    total = HEADER.size + len(writer.records) + len(writer.arena)
    if writer.count > MAX_RECORDS or len(writer.slots) > MAX_SLOTS or total > MAX_BYTES:
        raise InvalidArgument(
            f"the plan is too large: {writer.count} records, {len(writer.slots)} descriptors, {total} bytes "
            f"(at most {MAX_RECORDS}, {MAX_SLOTS}, {MAX_BYTES}); ask for fewer mounts, devices or arguments"
        )
    header = HEADER.pack(MAGIC, VERSION, total, *counts, len(writer.slots), 0, 0, build_id.encode())
    return header + bytes(writer.records) + bytes(writer.arena)


def encode_op(w: Writer, op: ops.Op, n: int) -> None:
    """Append the records of one op."""
    t = op.tolerate
    if (form := _FORMS.get(type(op))) is not None:
        w.add(form.kind, n, t, form.slots(op), form.numbers(op), form.texts(op))
        return
    match op:
        case ops.WriteFile():
            w.add("WRITE", n, t, (op.at,), (op.if_empty,), (op.path, *w.holes(op.data)))
        case ops.PutFile():
            w.add("PUT", n, t, (op.at,), (op.mode,), (op.path, *w.holes(op.data)))
        case ops.Open():
            _encode_open(w, op, n)
        case ops.Restrict():
            w.add("ATTRIBUTES", n, t, (op.slot, None), (op.set, 0, op.propagation, op.recursive))
        case ops.SetIds():
            groups = struct.pack(f"<{len(op.groups)}I", *op.groups) if op.groups else b""
            w.add("IDS", n, t, (), (op.uid, op.gid, op.groups is not None), (groups,))
        case ops.Netlink():
            w.add("NETLINK", n, t, (op.keep,), (op.family, op.count), w.holes(op.messages))
        case ops.Supervise():
            _encode_supervise(w, op, n)
        case _:
            raise TypeError(f"no wire form for {type(op).__name__}")


class _Form(NamedTuple):
    """The record of an op whose fields go into it as they are."""

    kind: str
    slots: Callable[[ops.Op], tuple[ops.Slot | None, ...]]
    numbers: Callable[[ops.Op], tuple[int, ...]]
    texts: Callable[[ops.Op], tuple[Text, ...]]


def _form(kind: str, *, slots: str = "", numbers: str = "", texts: str = "") -> _Form:
    """Make a form from the names of fields."""
    return _Form(kind, _getter(slots), _getter(numbers), _getter(texts))


def _getter(names: str) -> Callable[[ops.Op], tuple[Any, ...]]:
    match names.split():
        case []:
            return lambda _: ()
        case [name]:
            return lambda op: (getattr(op, name),)
        case several:
            return attrgetter(*several)


_FORMS: Final[dict[type[ops.Op], _Form]] = {
    ops.Inherit: _form("INHERIT", slots="slot", numbers="position"),
    ops.OpenPath: _form("OPEN_PATH", slots="slot at", numbers="flags mode", texts="path"),
    ops.Close: _form("CLOSE", slots="slot"),
    ops.Lock: _form("LOCK", slots="slot"),
    ops.Listen: _form("LISTEN", slots="slot at", texts="path"),
    ops.Pipe: _form("PIPE", slots="reader writer", numbers="uid"),
    ops.MakeDirectory: _form("MKDIR", slots="at", numbers="mode", texts="path"),
    ops.Remove: _form("REMOVE", slots="at", numbers="directory tree", texts="path"),
    ops.Attach: _form("ATTACH", slots="slot root", texts="target"),
    ops.AttachRoot: _form("ATTACH_ROOT", slots="slot"),
    ops.MakeTarget: _form("TARGET", slots="root like", numbers="directory mode", texts="path"),
    ops.MakeNode: _form("NODE", slots="root", numbers="mode device uid gid", texts="path"),
    ops.MakeLink: _form("SYMLINK", slots="root", texts="path text"),
    ops.Mask: _form("MASK", slots="root null empty", texts="path"),
    ops.MakeReadOnly: _form("READONLY", slots="root", texts="path"),
    ops.Propagate: _form("PROPAGATE", numbers="propagation recursive"),
    ops.PivotRoot: _form("PIVOT", slots="root"),
    ops.Clone: _form("CLONE", slots="pidfd proc cgroup", numbers="namespaces"),
    ops.EnterCgroup: _form("ENTER", slots="cgroup"),
    ops.Reclone: _form("RECLONE", numbers="namespaces"),
    ops.Adopt: _form("ADOPT", slots="pidfd proc"),
    ops.SetNamespace: _form("SETNS", slots="slot", numbers="types"),
    ops.Unshare: _form("UNSHARE", numbers="types"),
    ops.Tell: _form("TELL", texts="name"),
    ops.Await: _form("AWAIT", texts="name"),
    ops.Send: _form("SEND", slots="slot"),
    ops.Receive: _form("RECEIVE", slots="slot"),
    ops.SetHostname: _form("HOSTNAME", texts="name"),
    ops.SetDomainname: _form("DOMAINNAME", texts="name"),
    ops.SetResourceLimit: _form("RLIMIT", numbers="resource soft hard"),
    ops.SetDeathSignal: _form("DEATHSIG", numbers="signal"),
    ops.SetUndumpable: _form("UNDUMPABLE"),
    ops.DropBounding: _form("BOUNDING", numbers="keep"),
    ops.SetCapabilities: _form("CAPABILITIES", numbers="effective permitted inheritable ambient"),
    ops.SetNoNewPrivileges: _form("NO_NEW_PRIVS"),
    ops.LoadSeccomp: _form("SECCOMP", numbers="flags", texts="program"),
    ops.ChangeDirectory: _form("CHDIR", texts="path"),
    ops.SetUmask: _form("UMASK", numbers="mask"),
    ops.OpenTerminal: _form("TERMINAL", slots="master peer devpts", numbers="rows columns uid"),
    ops.SetStdio: _form("STDIO", slots="stdin stdout stderr", numbers="terminal"),
    ops.NewSession: _form("SESSION"),
    ops.SealDescriptors: _form("SEAL"),
    ops.ForkInit: _form("INIT"),
    ops.Exec: _form("EXEC", texts="candidates argv env"),
    ops.Bind: _form("BIND", slots="slot", numbers="datagram port", texts="address"),
    ops.FilterDevices: _form("DEVICES", slots="cgroup", texts="program"),
    ops.KillMembers: _form("KILL", slots="at", texts="path"),
    ops.Keep: _form("KEEP", slots="at", texts="path name"),
    ops.RecordExit: _form("RECORD", slots="at", texts="path"),
}


def _encode_open(w: Writer, op: ops.Open, n: int) -> None:
    t, origin = op.tolerate, op.origin
    match origin:
        case ops.NewFs():
            w.add("FS_OPEN", n, t, (_SECRET_CONTEXT,), (), (origin.type,))
            if origin.source is not None:
                w.add("FS_STRING", n, t, (_SECRET_CONTEXT,), (), ("source", origin.source))
            for key, value in origin.options:
                match value:
                    case None:
                        w.add("FS_FLAG", n, t, (_SECRET_CONTEXT,), (), (key,))
                    case str():
                        w.add("FS_STRING", n, t, (_SECRET_CONTEXT,), (), (key, value))
                    case tuple():
                        w.add("FS_STRING", n, t, (_SECRET_CONTEXT,), (), (key, *w.holes(value)))
                    case ops.SlotHole():
                        w.add("FS_FD", n, t, (_SECRET_CONTEXT, value.slot), (), (key,))
                    case _:
                        assert_never(value)
            w.add("FS_MOUNT", n, t, (op.slot, _SECRET_CONTEXT), origin.owner)
        case ops.Tree():
            w.add("TREE", n, t, (op.slot, origin.at), (origin.recursive, origin.follow), (origin.path,))
        case _:
            assert_never(origin)
    if op.recursive_set or op.recursive_clear or op.recursive_propagation:
        propagation = op.propagation if op.recursive_propagation else 0
        w.add("ATTRIBUTES", n, t, (op.slot, None), (op.recursive_set, op.recursive_clear, propagation, True))
    if op.set or op.clear or op.idmap or (op.propagation and not op.recursive_propagation):
        propagation = 0 if op.recursive_propagation else op.propagation
        w.add("ATTRIBUTES", n, t, (op.slot, op.idmap), (op.set, op.clear, propagation, False))


def _encode_supervise(w: Writer, op: ops.Supervise, n: int) -> None:
    pairs: Iterable[tuple[int, ops.Slot | None]] = enumerate(
        (op.stdin, op.stdout, op.stderr, op.terminal, op.listener, op.client, op.log)
    )
    table = b"".join(struct.pack("<Hh", index, w.slot(slot)) for index, slot in pairs)
    numbers = (op.log_size_bytes, op.log_files, op.stdin_once)
    w.add("SUPERVISE", n, op.tolerate, (op.child,), numbers, (table, op.log_name, op.lost))


def _bytes(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogateescape")
    if b"\0" in raw:
        raise InvalidArgument(f"{text!r} contains a NUL byte, which no path, argument or variable may have")
    return raw


def render_header() -> str:
    """Give the text of `launcher/plan.h`."""
    lines = [
        "/* Generated by `python -m onggi.plan.wire` from src/onggi/plan/wire.py. Do not edit. */",
        "#pragma once",
        "#include <stdint.h>",
        "",
        f'#define PLAN_MAGIC "{MAGIC.decode()}"',
        f"#define PLAN_VERSION {VERSION}",
        f"#define PLAN_MAX_RECORDS {MAX_RECORDS}",
        f"#define PLAN_MAX_SLOTS {MAX_SLOTS}",
        f"#define PLAN_MAX_BYTES {MAX_BYTES}",
        "",
        "enum plan_kind {",
        *[f"    OP_{name} = {number}," for name, number in _NUMBER.items()],
        f"    OP_COUNT = {len(KINDS) + 1},",
        "};",
        "",
        "enum plan_hole {",
        *[f"    HOLE_{name} = {number}," for number, name in enumerate(HOLES, 1)],
        "};",
        "",
        "struct plan_header {",
        "    char magic[8];",
        "    uint32_t version, total;",
        "    uint32_t records[4]; /* before, child, beside, after */",
        "    uint16_t slots, reserved0;",
        "    uint32_t reserved1;",
        "    char build_id[16];",
        "    char reserved2[8];",
        "};",
        "",
        "struct plan_span {",
        "    uint32_t offset, length;",
        "};",
        "",
        "struct plan_record {",
        "    uint16_t kind, op;",
        "    uint16_t tolerate[4];",
        "    int16_t slot[4];",
        "    uint32_t reserved;",
        "    uint64_t number[4];",
        "    struct plan_span text[4];",
        "};",
        "",
        "struct plan_hole_entry {",
        "    uint32_t offset;",
        "    uint16_t kind;",
        "    int16_t slot;",
        "};",
        "",
        f'_Static_assert(sizeof(struct plan_header) == {HEADER.size}, "header");',
        f'_Static_assert(sizeof(struct plan_record) == {RECORD.size}, "record");',
        f'_Static_assert(sizeof(struct plan_hole_entry) == {HOLE.size}, "hole");',
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    import sys

    sys.stdout.write(render_header())
