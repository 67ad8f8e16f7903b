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
from collections.abc import Iterable
from typing import Final, assert_never

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
    match op:
        case ops.Inherit():
            w.add("INHERIT", n, t, (op.slot,), (op.position,))
        case ops.OpenPath():
            w.add("OPEN_PATH", n, t, (op.slot, op.at), (op.flags, op.mode), (op.path,))
        case ops.Close():
            w.add("CLOSE", n, t, (op.slot,))
        case ops.Lock():
            w.add("LOCK", n, t, (op.slot,))
        case ops.Listen():
            w.add("LISTEN", n, t, (op.slot, op.at), (), (op.path,))
        case ops.Pipe():
            w.add("PIPE", n, t, (op.reader, op.writer), (op.uid,))
        case ops.MakeDirectory():
            w.add("MKDIR", n, t, (op.at,), (op.mode,), (op.path,))
        case ops.WriteFile():
            w.add("WRITE", n, t, (op.at,), (op.if_empty,), (op.path, *w.holes(op.data)))
        case ops.PutFile():
            w.add("PUT", n, t, (op.at,), (op.mode,), (op.path, *w.holes(op.data)))
        case ops.Remove():
            w.add("REMOVE", n, t, (op.at,), (op.directory, op.tree), (op.path,))
        case ops.Open():
            _encode_open(w, op, n)
        case ops.Attach():
            w.add("ATTACH", n, t, (op.slot, op.root), (), (op.target,))
        case ops.AttachRoot():
            w.add("ATTACH_ROOT", n, t, (op.slot,))
        case ops.MakeTarget():
            w.add("TARGET", n, t, (op.root, op.like), (op.directory, op.mode), (op.path,))
        case ops.MakeNode():
            w.add("NODE", n, t, (op.root,), (op.mode, op.device, op.uid, op.gid), (op.path,))
        case ops.MakeLink():
            w.add("SYMLINK", n, t, (op.root,), (), (op.path, op.text))
        case ops.Mask():
            w.add("MASK", n, t, (op.root, op.null, op.empty), (), (op.path,))
        case ops.MakeReadOnly():
            w.add("READONLY", n, t, (op.root,), (), (op.path,))
        case ops.Restrict():
            w.add("ATTRIBUTES", n, t, (op.slot, None), (op.set, 0, op.propagation, op.recursive))
        case ops.Propagate():
            w.add("PROPAGATE", n, t, (), (op.propagation, op.recursive))
        case ops.PivotRoot():
            w.add("PIVOT", n, t, (op.root,))
        case ops.Clone():
            w.add("CLONE", n, t, (op.pidfd, op.proc, op.cgroup), (op.namespaces,))
        case ops.EnterCgroup():
            w.add("ENTER", n, t, (op.cgroup,))
        case ops.Reclone():
            w.add("RECLONE", n, t, (), (op.namespaces,))
        case ops.Adopt():
            w.add("ADOPT", n, t, (op.pidfd, op.proc))
        case ops.SetNamespace():
            w.add("SETNS", n, t, (op.slot,), (op.types,))
        case ops.Unshare():
            w.add("UNSHARE", n, t, (), (op.types,))
        case ops.Tell():
            w.add("TELL", n, t, (), (), (op.name,))
        case ops.Await():
            w.add("AWAIT", n, t, (), (), (op.name,))
        case ops.Send():
            w.add("SEND", n, t, (op.slot,))
        case ops.Receive():
            w.add("RECEIVE", n, t, (op.slot,))
        case ops.SetHostname():
            w.add("HOSTNAME", n, t, (), (), (op.name,))
        case ops.SetDomainname():
            w.add("DOMAINNAME", n, t, (), (), (op.name,))
        case ops.SetResourceLimit():
            w.add("RLIMIT", n, t, (), (op.resource, op.soft, op.hard))
        case ops.SetDeathSignal():
            w.add("DEATHSIG", n, t, (), (op.signal,))
        case ops.SetUndumpable():
            w.add("UNDUMPABLE", n, t)
        case ops.DropBounding():
            w.add("BOUNDING", n, t, (), (op.keep,))
        case ops.SetIds():
            groups = struct.pack(f"<{len(op.groups)}I", *op.groups) if op.groups else b""
            w.add("IDS", n, t, (), (op.uid, op.gid, op.groups is not None), (groups,))
        case ops.SetCapabilities():
            w.add("CAPABILITIES", n, t, (), (op.effective, op.permitted, op.inheritable, op.ambient))
        case ops.SetNoNewPrivileges():
            w.add("NO_NEW_PRIVS", n, t)
        case ops.LoadSeccomp():
            w.add("SECCOMP", n, t, (), (op.flags,), (op.program,))
        case ops.ChangeDirectory():
            w.add("CHDIR", n, t, (), (), (op.path,))
        case ops.SetUmask():
            w.add("UMASK", n, t, (), (op.mask,))
        case ops.OpenTerminal():
            w.add("TERMINAL", n, t, (op.master, op.peer, op.devpts), (op.rows, op.columns, op.uid))
        case ops.SetStdio():
            w.add("STDIO", n, t, (op.stdin, op.stdout, op.stderr), (op.terminal,))
        case ops.NewSession():
            w.add("SESSION", n, t)
        case ops.SealDescriptors():
            w.add("SEAL", n, t)
        case ops.ForkInit():
            w.add("INIT", n, t)
        case ops.Exec():
            w.add("EXEC", n, t, (), (), (op.candidates, op.argv, op.env))
        case ops.Netlink():
            w.add("NETLINK", n, t, (op.keep,), (op.family, op.count), w.holes(op.messages))
        case ops.Bind():
            w.add("BIND", n, t, (op.slot,), (op.datagram, op.port), (op.address,))
        case ops.FilterDevices():
            w.add("DEVICES", n, t, (op.cgroup,), (), (op.program,))
        case ops.KillMembers():
            w.add("KILL", n, t, (op.at,), (), (op.path,))
        case ops.Supervise():
            _encode_supervise(w, op, n)
        case ops.Keep():
            w.add("KEEP", n, t, (op.at,), (), (op.path, op.name))
        case ops.RecordExit():
            w.add("RECORD", n, t, (op.at,), (), (op.path,))
        case _:
            raise TypeError(f"no wire form for {type(op).__name__}")


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
