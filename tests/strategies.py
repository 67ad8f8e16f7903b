"""Hypothesis strategies that several suites share.

`runtime_specs()` builds plausible Linux specs: what an engine could ask for and a
kernel could do. `documents_of(type)` builds any JSON document that a type of
`onggi.spec` accepts, plausible or not: every field, empty, zero, false, extreme.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from hypothesis import strategies as st
from msgspec import inspect as mi

from onggi.spec.runtime import (
    Hook,
    Hooks,
    Linux,
    LinuxBlockIO,
    LinuxCapabilities,
    LinuxCPU,
    LinuxDevice,
    LinuxDeviceCgroup,
    LinuxIDMapping,
    LinuxMemory,
    LinuxNamespace,
    LinuxPids,
    LinuxResources,
    LinuxSeccomp,
    LinuxSeccompArg,
    LinuxSyscall,
    LinuxThrottleDevice,
    Mount,
    POSIXRlimit,
    Process,
    Root,
    Spec,
    User,
)

T = TypeVar("T")

_CAPABILITIES = (
    "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_ADMIN NET_RAW "
    "SYS_CHROOT SYS_PTRACE SYS_ADMIN SYS_RESOURCE MKNOD AUDIT_WRITE SETFCAP BPF CHECKPOINT_RESTORE"
)
CAPABILITIES = tuple(f"CAP_{name}" for name in _CAPABILITIES.split())
NAMESPACES = ("pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time")
RLIMITS = ("RLIMIT_NOFILE", "RLIMIT_CORE", "RLIMIT_NPROC", "RLIMIT_MEMLOCK", "RLIMIT_STACK", "RLIMIT_AS")
SYSCALLS = ("read", "write", "openat", "clone3", "ptrace", "mount", "personality", "socket", "keyctl", "bpf")
SECCOMP_OPS = ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")
OPTIONS = ("ro", "rw", "nosuid", "nodev", "noexec", "relatime", "noatime", "rprivate", "rslave", "rro")

_names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.", min_size=1, max_size=8).filter(
    lambda name: name not in (".", "..")
)
_uint64 = st.integers(0, 2**64 - 1)
_ids = st.integers(0, 2**32 - 2)


def maybe(strategy: st.SearchStrategy[T]) -> st.SearchStrategy[T | None]:
    """The value or None."""
    return st.none() | strategy


def tuples_of(strategy: st.SearchStrategy[T], max_size: int = 3, **kwargs: Any) -> st.SearchStrategy[tuple[T, ...]]:
    """Short tuples of equal elements."""
    return st.lists(strategy, max_size=max_size, **kwargs).map(tuple)


def absolute_paths() -> st.SearchStrategy[str]:
    """Clean absolute paths below the root."""
    return st.lists(_names, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))


def id_mappings() -> st.SearchStrategy[tuple[LinuxIDMapping, ...]]:
    """Maps that begin at container id 0 and do not overlap."""

    def chain(extents: list[tuple[int, int]]) -> tuple[LinuxIDMapping, ...]:
        mappings: list[LinuxIDMapping] = []
        container, host = 0, 100_000
        for gap, size in extents:
            mappings.append(LinuxIDMapping(container_id=container, host_id=host + gap, size=size))
            container, host = container + size, host + gap + size
        return tuple(mappings)

    return st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 65536)), min_size=1, max_size=3).map(chain)


def mounts() -> st.SearchStrategy[Mount]:
    """A fresh filesystem, a bind or an overlay somewhere below the root."""
    options = maybe(tuples_of(st.sampled_from(OPTIONS), unique=True))
    fresh = st.builds(
        lambda destination, type_, options: Mount(destination=destination, type=type_, source=type_, options=options),
        absolute_paths(),
        st.sampled_from(("proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2")),
        options,
    )
    bind = st.builds(
        lambda destination, source, how, more: Mount(
            destination=destination, type="bind", source=source, options=(how, *(more or ()))
        ),
        absolute_paths(),
        absolute_paths(),
        st.sampled_from(("bind", "rbind")),
        options,
    )
    idmapped = st.builds(
        lambda mount, maps: msgspec.structs.replace(mount, uid_mappings=maps, gid_mappings=maps), bind, id_mappings()
    )
    return fresh | bind | idmapped


def capabilities() -> st.SearchStrategy[LinuxCapabilities]:
    """Sets as engines write them: effective within permitted within bounding, ambient within the inheritable."""

    def build(bounding: list[str], permitted: int, ambient: int) -> LinuxCapabilities:
        held = tuple(bounding[:permitted])
        raised = held[:ambient]
        return LinuxCapabilities(
            bounding=tuple(bounding), permitted=held, effective=held, inheritable=raised, ambient=raised
        )

    some = st.lists(st.sampled_from(CAPABILITIES), unique=True, max_size=6)
    return st.builds(build, some, st.integers(0, 6), st.integers(0, 6))


def processes() -> st.SearchStrategy[Process]:
    """A process with all that Linux can restrict."""
    limits = st.tuples(_uint64, _uint64).map(sorted)
    rlimits = st.builds(
        lambda type_, pair: POSIXRlimit(type=type_, soft=pair[0], hard=pair[1]), st.sampled_from(RLIMITS), limits
    )
    return st.builds(
        Process,
        terminal=maybe(st.booleans()),
        user=st.builds(
            User,
            uid=_ids,
            gid=_ids,
            umask=maybe(st.integers(0, 0o777)),
            additional_gids=maybe(tuples_of(_ids, unique=True)),
        ),
        args=tuples_of(st.text("abc -=/$\n\"'é", max_size=6), min_size=1),
        env=maybe(tuples_of(st.builds("{}={}".format, _names, _names))),
        cwd=st.just("/") | absolute_paths(),
        capabilities=maybe(capabilities()),
        rlimits=maybe(tuples_of(rlimits, unique_by=lambda limit: limit.type)),
        no_new_privileges=maybe(st.booleans()),
        oom_score_adj=maybe(st.integers(-1000, 1000)),
    )


def seccomps() -> st.SearchStrategy[LinuxSeccomp]:
    """A filter over a few syscalls, with argument comparisons."""
    action = st.sampled_from(("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_LOG"))
    comparison = st.builds(
        LinuxSeccompArg,
        index=st.integers(0, 5),
        value=_uint64,
        value_two=maybe(_uint64),
        op=st.sampled_from([f"SCMP_CMP_{op}" for op in SECCOMP_OPS]),
    )
    rule = st.builds(
        LinuxSyscall,
        names=tuples_of(st.sampled_from(SYSCALLS), min_size=1, unique=True),
        action=action,
        errno_ret=maybe(st.integers(0, 4095)),
        args=maybe(tuples_of(comparison, max_size=2)),
    )
    return st.builds(
        LinuxSeccomp,
        default_action=action,
        default_errno_ret=maybe(st.integers(0, 4095)),
        architectures=maybe(
            tuples_of(st.sampled_from(("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32")), unique=True)
        ),
        syscalls=maybe(tuples_of(rule)),
    )


def resources() -> st.SearchStrategy[LinuxResources]:
    """Limits as `docker run` and Kubernetes set them."""
    memory = st.integers(6 << 20, 1 << 40)
    throttle = st.builds(
        LinuxThrottleDevice, major=st.integers(1, 259), minor=st.integers(0, 255), rate=st.integers(1, 1 << 40)
    )
    device = st.builds(
        LinuxDeviceCgroup,
        allow=st.booleans(),
        type=maybe(st.sampled_from("abc")),
        major=maybe(st.integers(0, 259)),
        minor=maybe(st.integers(0, 255)),
        access=maybe(st.sampled_from(("r", "rw", "rwm"))),
    )
    return st.builds(
        LinuxResources,
        devices=maybe(tuples_of(device)),
        memory=maybe(st.builds(LinuxMemory, limit=maybe(memory), swap=maybe(st.just(-1)), reservation=maybe(memory))),
        cpu=maybe(
            st.builds(
                LinuxCPU,
                shares=maybe(st.integers(2, 262144)),
                quota=maybe(st.just(-1) | st.integers(1000, 10**6)),
                period=maybe(st.integers(1000, 10**6)),
                cpus=maybe(st.sampled_from(("0", "0-1", "0,1"))),
                idle=maybe(st.integers(0, 1)),
            )
        ),
        pids=maybe(st.builds(LinuxPids, limit=maybe(st.just(-1) | st.integers(1, 1 << 22)))),
        block_io=maybe(
            st.builds(
                LinuxBlockIO,
                weight=maybe(st.integers(10, 1000)),
                throttle_read_bps_device=maybe(tuples_of(throttle, max_size=2)),
            )
        ),
        unified=maybe(st.dictionaries(st.sampled_from(("memory.high", "cpu.weight", "pids.max")), _names)),
    )


def linuxes() -> st.SearchStrategy[Linux]:
    """The Linux section: each namespace at most once, id maps only with a user namespace."""
    device = st.builds(
        LinuxDevice,
        path=absolute_paths(),
        type=st.sampled_from("cbu"),
        major=st.integers(0, 259),
        minor=st.integers(0, 255),
        file_mode=maybe(st.integers(0, 0o777)),
        uid=maybe(_ids),
        gid=maybe(_ids),
    )

    def build(kinds: list[str], maps: tuple[LinuxIDMapping, ...], rest: Linux) -> Linux:
        return msgspec.structs.replace(
            rest,
            namespaces=tuple(LinuxNamespace(type=kind) for kind in kinds),
            uid_mappings=maps if "user" in kinds else None,
            gid_mappings=maps if "user" in kinds else None,
        )

    rest = st.builds(
        Linux,
        resources=maybe(resources()),
        cgroups_path=maybe(absolute_paths()),
        devices=maybe(tuples_of(device)),
        seccomp=maybe(seccomps()),
        sysctl=maybe(st.dictionaries(st.sampled_from(("net.ipv4.ip_forward", "kernel.shmmax")), st.just("1"))),
        rootfs_propagation=maybe(st.sampled_from(("private", "rprivate", "slave", "rslave", "shared"))),
        masked_paths=maybe(tuples_of(absolute_paths())),
        readonly_paths=maybe(tuples_of(absolute_paths())),
    )
    return st.builds(build, st.lists(st.sampled_from(NAMESPACES), unique=True), id_mappings(), rest)


def runtime_specs() -> st.SearchStrategy[Spec]:
    """Whole plausible specs; every part that a spec may leave out is sometimes absent, sometimes empty."""
    hooks = maybe(
        tuples_of(
            st.builds(Hook, path=absolute_paths(), args=maybe(tuples_of(_names)), timeout=maybe(st.integers(1, 60))),
            max_size=2,
        )
    )
    return st.builds(
        Spec,
        oci_version=st.sampled_from(("1.0.2", "1.1.0", "1.2.1", "1.3.0")),
        process=processes(),
        root=st.builds(Root, path=st.just("rootfs") | absolute_paths(), readonly=maybe(st.booleans())),
        hostname=maybe(_names),
        domainname=maybe(_names),
        mounts=maybe(tuples_of(mounts())),
        hooks=maybe(st.builds(Hooks, create_runtime=hooks, start_container=hooks, poststop=hooks)),
        annotations=maybe(st.dictionaries(_names, st.text(max_size=5), max_size=2)),
        linux=linuxes(),
    )


def documents_of(type_: type[Any], depth: int = 2) -> st.SearchStrategy[Any]:
    """JSON values that decode as `type_`; structs nested deeper than `depth` have only their required fields."""
    return _document(mi.type_info(type_), depth)


def _document(info: mi.Type, depth: int) -> st.SearchStrategy[Any]:
    return _BUILDERS[type(info)](info, depth)


def _object(info: mi.StructType, depth: int) -> st.SearchStrategy[Any]:
    required = {f.encode_name: _document(f.type, depth - 1) for f in info.fields if f.required}
    optional = {f.encode_name: _document(f.type, depth - 1) for f in info.fields if not f.required}
    return st.fixed_dictionaries(required, optional=optional if depth > 0 else {})


def _union(info: mi.UnionType, depth: int) -> st.SearchStrategy[Any]:
    # null decodes as None, which is absent: it would not be printed again.
    return st.one_of([_document(kind, depth) for kind in info.types if not isinstance(kind, mi.NoneType)])


def _integer(info: mi.IntType, depth: int) -> st.SearchStrategy[Any]:
    return st.integers(info.ge, 2**64 - 1 if info.le is None else info.le)


_BUILDERS: dict[type[mi.Type], Callable[[Any, int], st.SearchStrategy[Any]]] = {
    mi.StructType: _object,
    mi.UnionType: _union,
    mi.IntType: _integer,
    mi.StrType: lambda info, depth: st.text(max_size=4),
    mi.BoolType: lambda info, depth: st.booleans(),
    mi.VarTupleType: lambda info, depth: st.lists(_document(info.item_type, depth), max_size=2),
    mi.DictType: lambda info, depth: st.dictionaries(
        st.text(max_size=4), _document(info.value_type, depth), max_size=2
    ),
    mi.AnyType: lambda info, depth: st.just({}),
}
