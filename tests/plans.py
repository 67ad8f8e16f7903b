"""Plans for tests: recorded hosts, specs that can be planned, and the wire form read back."""

import struct
from pathlib import Path
from typing import Any, Final

import msgspec
from hypothesis import strategies as st

from onggi.plan import wire
from onggi.plan.container import Supervision, plan_container
from onggi.plan.facts import Facts
from onggi.plan.ops import Plan
from onggi.plan.rootfs import Directory, Overlay
from onggi.runtime import defaults
from onggi.runtime.bundle import Resolved, make_spec
from onggi.spec.container import ContainerRequest
from onggi.spec.image_config import ContainerConfig
from onggi.spec.passwd import Identity
from onggi.spec.runtime import (
    Linux,
    LinuxDevice,
    LinuxMemory,
    LinuxNamespace,
    LinuxPids,
    LinuxResources,
    LinuxTimeOffset,
    Mount,
    Root,
    Spec,
)
from tests.strategies import absolute_paths, id_mappings, maybe, mounts, processes, seccomps, tuples_of

DATA: Final = Path(__file__).parent / "unit" / "data"
FACTS: Final[dict[str, Facts]] = {
    path.stem: msgspec.json.decode(path.read_bytes(), type=Facts) for path in sorted((DATA / "facts").glob("*.json"))
}
"""Recorded hosts: cgroups v1, hybrid and v2; root with all capabilities."""

_KINDS: Final = ("pid", "network", "ipc", "uts", "user", "cgroup", "time")
_SYSCTLS: Final = {"network": "net.ipv4.ip_forward", "ipc": "kernel.shmmax"}


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """All that a plan is made from, and the plan."""

    spec: Spec
    root: Overlay | Directory
    supervision: Supervision
    facts: Facts
    plan: Plan

    @property
    def made(self) -> set[str]:
        """The kinds of namespaces that are new."""
        return {n.type for n in self.linux.namespaces or () if not n.path}

    @property
    def joined(self) -> set[str]:
        """The kinds of namespaces that are joined by path."""
        return {n.type for n in self.linux.namespaces or () if n.path}

    @property
    def linux(self) -> Linux:
        """The Linux section, which every planned spec has."""
        assert self.spec.linux is not None
        return self.spec.linux


@st.composite
def supervisions(draw: st.DrawFn) -> Supervision:
    """Ways to look after a container."""
    return Supervision(
        run_directory="/run/onggi/containers/c1",
        log_directory=draw(st.none() | st.just("/var/lib/onggi/containers/c1")),
        stdin=draw(st.booleans()),
        stdin_once=draw(st.booleans()),
        client=draw(st.none() | st.just(0)),
        hold=draw(st.none() | st.just(1)),
        supervisors=draw(st.none() | st.just("/onggi/supervisors")),
        init=draw(st.booleans()),
        remove=draw(st.sampled_from(((), ("/run/onggi/containers/c1/exec-1",)))),
    )


@st.composite
def roots(draw: st.DrawFn) -> Overlay | Directory:
    """An overlay of layers given by path or by descriptor, or a directory."""
    if draw(st.booleans()):
        return Directory(path="/bundle/rootfs")
    positions = draw(st.booleans())
    count = draw(st.integers(1, 4))
    writable = draw(st.booleans())
    return Overlay(
        lowers=tuple(range(2, 2 + count)) if positions else tuple(f"/layers/{number}" for number in range(count)),
        upper="/snapshots/s1/upper" if writable else None,
        work="/snapshots/s1/work" if writable else None,
        volatile=draw(st.booleans()),
    )


def _devices() -> st.SearchStrategy[LinuxDevice]:
    return st.builds(
        LinuxDevice,
        path=absolute_paths() | st.sampled_from(("/dev/fuse", "/dev/net/tun", "/dev/null")),
        type=st.sampled_from("cbup"),
        major=st.integers(0, 4095),
        minor=st.integers(0, 2**20 - 1),
        file_mode=maybe(st.integers(0, 0o777)),
        uid=maybe(st.integers(0, 2**32 - 2)),
        gid=maybe(st.integers(0, 2**32 - 2)),
    )


# Made once: building a strategy takes longer than drawing from it.
_BITS: Final = st.booleans()
_MAPS: Final = id_mappings()
_PROCESSES: Final = processes().filter(lambda process: bool(process.args and process.args[0]))
_SECCOMPS: Final = maybe(seccomps())
_MADE: Final = st.lists(st.sampled_from(_KINDS), unique=True)
_JOINED: Final = st.sets(st.sampled_from((*_KINDS, "mount")), max_size=3)
_OWN_MOUNTS: Final = tuples_of(mounts().filter(lambda mount: not mount.uid_mappings))
_DEVICES: Final = maybe(tuples_of(_devices()))
_PROPAGATION: Final = st.sampled_from((None, "private", "rprivate", "slave", "rslave", "shared"))
_MASKED: Final = maybe(tuples_of(absolute_paths() | st.sampled_from(defaults.MASKED_PATHS)))
_READONLY: Final = maybe(tuples_of(absolute_paths() | st.sampled_from(defaults.READONLY_PATHS)))
_RESOURCES: Final = st.sampled_from((None, LinuxResources(memory=LinuxMemory(limit=1 << 30), pids=LinuxPids(limit=9))))


@st.composite
def plannable_specs(draw: st.DrawFn) -> Spec:
    """Plausible specs, made such that every host can do what they ask."""
    process, kinds, joined = draw(_PROCESSES), draw(_MADE), draw(_JOINED)
    name = "host" if "uts" in kinds and draw(_BITS) else None
    spec = Spec(oci_version="1.3.0", process=process, root=Root(path="rootfs"), hostname=name, domainname=name)
    linux = _linux(draw, kinds, joined)
    if "mount" in joined:
        return msgspec.structs.replace(spec, linux=linux)
    terminal = draw(_BITS)
    system: tuple[Mount, ...] = (defaults.PROC, defaults.DEV, defaults.DEVPTS) if terminal or draw(_BITS) else ()
    system += (defaults.cgroup(writable=draw(_BITS)),) if draw(_BITS) else ()
    own = tuple(mount for mount in draw(_OWN_MOUNTS) if not terminal or mount.destination not in ("/dev", "/dev/pts"))
    sysctl = {_SYSCTLS[kind]: "1" for kind in kinds if kind in _SYSCTLS} if defaults.PROC in system else {}
    return msgspec.structs.replace(
        spec,
        process=msgspec.structs.replace(process, terminal=terminal),
        root=Root(path="rootfs", readonly=draw(_BITS)),
        mounts=(*system, *own),
        linux=msgspec.structs.replace(
            linux,
            sysctl=sysctl or None,
            devices=draw(_DEVICES),
            rootfs_propagation=draw(_PROPAGATION),
            masked_paths=draw(_MASKED),
            readonly_paths=draw(_READONLY),
        ),
    )


def _linux(draw: st.DrawFn, kinds: list[str], joined: set[str]) -> Linux:
    maps = draw(_MAPS) if "user" in kinds else None
    return Linux(
        namespaces=tuple(
            LinuxNamespace(type=kind, path=f"/run/ns/{kind}" if kind in joined else None) for kind in ("mount", *kinds)
        ),
        uid_mappings=maps,
        gid_mappings=maps,
        cgroups_path="/onggi/c1",
        resources=draw(_RESOURCES),
        seccomp=draw(_SECCOMPS),
        time_offsets={"monotonic": LinuxTimeOffset(secs=60)} if "time" in kinds and "time" not in joined else None,
    )


def make_case(
    spec: Spec, facts: Facts, root: Overlay | Directory | None = None, supervision: Supervision | None = None
) -> Case:
    """Plan it."""
    root = root or Directory(path="/bundle/rootfs")
    supervision = supervision or Supervision(run_directory="/run/onggi/containers/c1")
    plan = plan_container(spec, root, supervision, facts, bundle="/bundle")
    return Case(spec=spec, root=root, supervision=supervision, facts=facts, plan=plan)


class Recorded(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a plan in tests/unit/data/plans is made from: a request or an OCI spec, on one of the recorded hosts."""

    says: str
    facts: str
    request: ContainerRequest | None = None
    identity: Identity = Identity()
    spec: Spec | None = None
    overlay: Overlay | None = None
    directory: str | None = None
    supervision: Supervision

    def plan(self) -> Plan:
        """Plan it as the engine would."""
        facts = FACTS[self.facts]
        spec = self.spec
        if self.request is not None:
            resolved = Resolved(identity=self.identity, cgroups_path="/onggi/c1")
            spec = make_spec("c1" * 32, self.request, ContainerConfig(), resolved, facts)
        assert spec is not None
        root = self.overlay or Directory(path=self.directory or "")
        return plan_container(spec, root, self.supervision, facts, bundle="/bundle")


def recorded_cases() -> list[Path]:
    """List the files of the recorded plans' sources; the text lies beside each, as `.plan`."""
    return sorted((DATA / "plans").glob("*.json"))


def load_recorded(path: Path) -> Recorded:
    """Read one of them."""
    return msgspec.json.decode(path.read_bytes(), type=Recorded)


class WireRecord(msgspec.Struct, frozen=True):
    """One record as the launcher sees it; absent spans are None."""

    kind: str
    op: int
    tolerate: tuple[int, ...]
    slots: tuple[int, ...]
    numbers: tuple[int, ...]
    texts: tuple[bytes | None, ...]


class WirePlan(msgspec.Struct, frozen=True):
    """A decoded plan: records of the four sections."""

    build_id: str
    slots: int
    sections: tuple[tuple[WireRecord, ...], ...]


def decode_plan(data: bytes) -> WirePlan:
    """Read the wire form as the launcher does, by the documentation in plan/wire.py."""
    magic, version, total, *rest = struct.unpack_from("<8sII4IHHI16s8x", data)
    counts, slots, build_id = rest[:4], rest[4], rest[7]
    assert (magic, version, total) == (b"ONGGIPL1", 1, len(data))
    start = 64 + 88 * sum(counts)
    arena = data[start:]
    records = []
    for number in range(sum(counts)):
        fields = struct.unpack_from("<HH4H4hxxxx4Q8I", data, 64 + 88 * number)
        texts: list[bytes | None] = []
        for offset, length in zip(fields[14::2], fields[15::2], strict=True):
            absent = (offset, length) == (0, 0)
            assert absent or arena[offset + length] == 0
            texts.append(None if absent else arena[offset : offset + length])
        kind = wire.KINDS[fields[0] - 1]
        records.append(WireRecord(kind, fields[1], fields[2:6], fields[6:10], fields[10:14], tuple(texts)))
    sections, begin = [], 0
    for count in counts:
        sections.append(tuple(records[begin : begin + count]))
        begin += count
    return WirePlan(build_id.decode(), slots, tuple(sections))


def request_mounts(spec: Spec) -> tuple[Mount, ...]:
    """The mounts of a spec that are binds."""
    return tuple(m for m in spec.mounts or () if m.type == "bind" or {"bind", "rbind"} & set(m.options or ()))


def strings(data: bytes | None) -> list[Any]:
    """Split a span of several strings."""
    return (data or b"").split(b"\0")[:-1]
