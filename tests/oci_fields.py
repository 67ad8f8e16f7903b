"""Every field of the runtime-spec (1.3, Linux), tried: what does a plan get from it?

`SAMPLES` has a value for each field, and what that value needs beside it. The verdict is
not written down anywhere: a spec is planned with and without the field, and compared.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args, get_origin, get_type_hints

import msgspec

from onggi.base.errors import InvalidArgument, NotSupported, OnggiError
from onggi.plan.explain import describe
from onggi.plan.facts import Facts
from onggi.plan.ops import Op
from onggi.spec.json import merge
from onggi.spec.runtime import Spec, parse_spec
from tests.plans import FACTS, make_case

BASE: Final[dict[str, Any]] = {
    "ociVersion": "1.3.0",
    "root": {"path": "rootfs"},
    "process": {"args": ["/bin/true"], "cwd": "/"},
    "linux": {"namespaces": [{"type": "mount"}], "cgroupsPath": "/onggi/c1"},
}
_TERMINAL: Final = {
    "process": {"terminal": True},
    "mounts": [
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts"},
    ],
}
_PROC: Final = {"mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}]}
_IDS: Final = [{"containerID": 0, "hostID": 100000, "size": 65536}]
_HOOK: Final = [{"path": "/bin/hook"}]
_THROTTLE: Final = [{"major": 8, "minor": 0, "rate": 1048576}]
_SYSCALL: Final = {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}
_SECCOMP: Final = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [_SYSCALL]}
_RDT: Final = "linux.intelRdt"


def _namespaces(*kinds: str) -> dict[str, Any]:
    return {"linux": {"namespaces": [{"type": kind} for kind in ("mount", *kinds)]}}


class Sample(msgspec.Struct, frozen=True):
    """A value of one field; `beside` is merged into the spec first, with and without the field."""

    value: Any
    beside: Mapping[str, Any] = {}


def _sample(value: Any, beside: Mapping[str, Any] | None = None) -> Sample:
    return Sample(value, beside or {})


# Where a field is an object or a list of objects, the sample has all of it; its own fields follow the same verdict.
SAMPLES: Final[Mapping[str, Sample]] = {
    "process.terminal": _sample(True, {"mounts": _TERMINAL["mounts"]}),
    "process.consoleSize": _sample({"height": 24, "width": 80}, _TERMINAL),
    "process.user.uid": _sample(1000),
    "process.user.gid": _sample(1000),
    "process.user.umask": _sample(0o27),
    "process.user.additionalGids": _sample([20, 30]),
    "process.user.username": _sample("somebody"),
    "process.args": _sample(["/bin/sh", "-c", "true"]),
    "process.commandLine": _sample("cmd /c dir"),
    "process.env": _sample(["A=1"]),
    "process.cwd": _sample("/srv"),
    "process.capabilities.bounding": _sample(["CAP_KILL"]),
    "process.capabilities.effective": _sample(["CAP_KILL"], {"process": {"capabilities": {"permitted": ["CAP_KILL"]}}}),
    "process.capabilities.inheritable": _sample(["CAP_KILL"]),
    "process.capabilities.permitted": _sample(["CAP_KILL"]),
    "process.capabilities.ambient": _sample(
        ["CAP_KILL"], {"process": {"capabilities": {"permitted": ["CAP_KILL"], "inheritable": ["CAP_KILL"]}}}
    ),
    "process.rlimits": _sample([{"type": "RLIMIT_NOFILE", "soft": 512, "hard": 1024}]),
    "process.noNewPrivileges": _sample(True),
    "process.apparmorProfile": _sample("docker-default"),
    "process.oomScoreAdj": _sample(500),
    "process.scheduler": _sample({"policy": "SCHED_BATCH"}),
    "process.selinuxLabel": _sample("system_u:system_r:container_t:s0"),
    "process.ioPriority": _sample({"class": "IOPRIO_CLASS_IDLE"}),
    "process.execCPUAffinity": _sample({"initial": "0"}),
    "root.readonly": _sample(True),
    "hostname": _sample("jar", _namespaces("uts")),
    "domainname": _sample("example", _namespaces("uts")),
    "mounts": _sample([{"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "size=1m"]}]),
    "mounts[].uidMappings": _sample([{"destination": "/srv", "type": "bind", "source": "/srv", "options": ["bind"],
                                      "uidMappings": _IDS, "gidMappings": _IDS}]),
    "hooks.prestart": _sample(_HOOK),
    "hooks.createRuntime": _sample(_HOOK),
    "hooks.createContainer": _sample(_HOOK),
    "hooks.startContainer": _sample(_HOOK),
    "hooks.poststart": _sample(_HOOK),
    "hooks.poststop": _sample(_HOOK),
    "annotations": _sample({"org.example.key": "value"}),
    "linux.uidMappings": _sample(
        _IDS, {"linux": {"namespaces": [{"type": "mount"}, {"type": "user"}], "gidMappings": _IDS}}),
    "linux.gidMappings": _sample(
        _IDS, {"linux": {"namespaces": [{"type": "mount"}, {"type": "user"}], "uidMappings": _IDS}}),
    "linux.sysctl": _sample({"net.ipv4.ip_forward": "1"}, {**_PROC, **_namespaces("network")}),
    "linux.resources.devices": _sample([{"allow": False, "access": "rwm"}]),
    "linux.resources.memory.limit": _sample(64 << 20),
    "linux.resources.memory.reservation": _sample(32 << 20),
    "linux.resources.memory.swap": _sample(128 << 20, {"linux": {"resources": {"memory": {"limit": 64 << 20}}}}),
    "linux.resources.memory.kernel": _sample(64 << 20),
    "linux.resources.memory.kernelTCP": _sample(64 << 20),
    "linux.resources.memory.swappiness": _sample(10),
    "linux.resources.memory.disableOOMKiller": _sample(True),
    "linux.resources.memory.useHierarchy": _sample(True),
    "linux.resources.memory.checkBeforeUpdate": _sample(True),
    "linux.resources.cpu.shares": _sample(512),
    "linux.resources.cpu.quota": _sample(50000),
    "linux.resources.cpu.burst": _sample(10000, {"linux": {"resources": {"cpu": {"quota": 50000}}}}),
    "linux.resources.cpu.period": _sample(50000, {"linux": {"resources": {"cpu": {"quota": 50000}}}}),
    "linux.resources.cpu.realtimeRuntime": _sample(5000),
    "linux.resources.cpu.realtimePeriod": _sample(100000),
    "linux.resources.cpu.cpus": _sample("0"),
    "linux.resources.cpu.mems": _sample("0"),
    "linux.resources.cpu.idle": _sample(1),
    "linux.resources.pids.limit": _sample(64),
    "linux.resources.blockIO.weight": _sample(100),
    "linux.resources.blockIO.leafWeight": _sample(100),
    "linux.resources.blockIO.weightDevice": _sample([{"major": 8, "minor": 0, "weight": 100}]),
    "linux.resources.blockIO.throttleReadBpsDevice": _sample(_THROTTLE),
    "linux.resources.blockIO.throttleWriteBpsDevice": _sample(_THROTTLE),
    "linux.resources.blockIO.throttleReadIOPSDevice": _sample(_THROTTLE),
    "linux.resources.blockIO.throttleWriteIOPSDevice": _sample(_THROTTLE),
    "linux.resources.hugepageLimits": _sample([{"pageSize": "2MB", "limit": 2 << 20}]),
    "linux.resources.network.classID": _sample(0x100001),
    "linux.resources.network.priorities": _sample([{"name": "lo", "priority": 5}]),
    "linux.resources.rdma": _sample({"mlx5_0": {"hcaHandles": 2, "hcaObjects": 200}}),
    "linux.resources.unified": _sample({"memory.high": "64M"}),
    "linux.cgroupsPath": _sample("/elsewhere/c2"),
    "linux.namespaces": _sample([{"type": kind} for kind in ("mount", "pid", "ipc")]),
    "linux.devices": _sample([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666}]),
    "linux.netDevices": _sample({"eth7": {"name": "eth0"}}, _namespaces("network")),
    "linux.seccomp.defaultAction": _sample("SCMP_ACT_ERRNO", {"linux": {"seccomp": _SECCOMP}}),
    "linux.seccomp.defaultErrnoRet": _sample(
        38, {"linux": {"seccomp": {**_SECCOMP, "defaultAction": "SCMP_ACT_ERRNO"}}}),
    "linux.seccomp.architectures": _sample(["SCMP_ARCH_X86"], {"linux": {"seccomp": _SECCOMP}}),
    "linux.seccomp.flags": _sample(["SECCOMP_FILTER_FLAG_LOG"], {"linux": {"seccomp": _SECCOMP}}),
    "linux.seccomp.listenerPath": _sample("/run/listener", {"linux": {"seccomp": _SECCOMP}}),
    "linux.seccomp.listenerMetadata": _sample("x", {"linux": {"seccomp": {**_SECCOMP, "listenerPath": "/run/l"}}}),
    "linux.seccomp.syscalls": _sample([{**_SYSCALL, "names": ["rmdir"]}], {"linux": {"seccomp": _SECCOMP}}),
    "linux.rootfsPropagation": _sample("slave"),
    "linux.maskedPaths": _sample(["/proc/kcore"], _PROC),
    "linux.readonlyPaths": _sample(["/proc/sys"], _PROC),
    "linux.mountLabel": _sample("system_u:object_r:container_file_t:s0"),
    **{f"{_RDT}.{name}": _sample(value) for name, value in (
        ("closID", "guaranteed"), ("schemata", ["L3:0=f"]), ("l3CacheSchema", "L3:0=f"), ("memBwSchema", "MB:0=20"),
        ("enableMonitoring", True), ("enableCMT", True), ("enableMBM", True))},
    "linux.memoryPolicy": _sample({"mode": "MPOL_BIND", "nodes": "0"}),
    "linux.personality": _sample({"domain": "LINUX32"}),
    "linux.timeOffsets": _sample({"monotonic": {"secs": 60}}, _namespaces("time")),
    "vm": _sample({"kernel": {"path": "/boot/vmlinuz"}}),
}  # fmt: skip
NO_VERDICT: Final = {"ociVersion", "root.path"}
"""What every spec has."""


def verdict(path: str, facts: Facts) -> str:
    """Say in a few words what a plan on this host gets from one field."""
    sample = SAMPLES[path]
    without = merge(sample.beside, BASE)
    field: Any = sample.value
    for name in reversed(path.partition("[]")[0].split(".")):
        field = {name: field}
    try:
        after = _effects(merge(field, without), facts)
    except NotSupported as error:
        return f"refused: {error}"
    try:
        before = _effects(without, facts)
    except InvalidArgument:  # the two kinds of id mappings need each other
        before = _effects(BASE, facts)
    new = [text for text, op in after if (text, op) not in before]
    if not new:
        gone = len(before) - len(after)
        return f"{gone} ops fewer" if gone > 0 else "kept, and nothing follows from it"
    telling = next((text for text in new if "subtree_control" not in text), new[0])
    return f"`{telling}`" + (f" and {len(new) - 1} more" if len(new) > 1 else "")


def _effects(document: Mapping[str, Any], facts: Facts) -> list[tuple[str, Op]]:
    """Give each op with its line of `--explain`."""
    spec = parse_spec(msgspec.json.encode(document), strict=True)
    plan = make_case(spec, facts).plan
    return [(describe(op), op) for op in (*plan.before, *plan.child, *plan.beside, *plan.after)]


def fields(type_: Any = Spec, at: str = "") -> Iterator[str]:
    """Give the path of every field: down to what a sample or a plain value stands for."""
    hints = get_type_hints(type_, include_extras=False)
    for field in msgspec.structs.fields(type_):
        path = f"{at}.{field.encode_name}" if at else field.encode_name
        inner = [part for part in get_args(hints[field.name]) or (hints[field.name],) if _is_object(part)]
        if path in SAMPLES or path in NO_VERDICT or not inner:
            yield path
        else:
            yield from fields(inner[0], path)


def _is_object(type_: Any) -> bool:
    return get_origin(type_) is None and isinstance(type_, type) and issubclass(type_, msgspec.Struct)


def oci_table() -> str:
    """The field table, as Markdown."""
    lines = [
        "# The fields of an OCI runtime-spec, and what Onggi does with each",
        "",
        "Written by `python -m tests.record_docs`: each field is put into a spec which is planned with and without it.",
        "The right columns have the first op that is new then, or why it is refused. Runtime-spec 1.3, Linux.",
        "",
        "| field | value tried | plan on cgroup v1 | plan on cgroup v2 |",
        "|---|---|---|---|",
    ]
    for path, sample in SAMPLES.items():
        value = msgspec.json.encode(sample.value).decode()
        results = [_cell(path, FACTS[host]) for host in ("v1", "v2")]
        if results[0] == results[1]:
            results[1] = "the same"
        lines.append(f"| {path} | `{_short(value)}` | {' | '.join(results)} |")
    return "\n".join(lines) + "\n"


def _cell(path: str, facts: Facts) -> str:
    try:
        return _short(verdict(path, facts), 120).replace("|", "\\|")
    except OnggiError as error:
        return f"refused: {error}"


def _short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 1] + ("…`" if text.startswith("`") else "…")
