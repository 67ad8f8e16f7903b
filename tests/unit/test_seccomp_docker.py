"""Docker's default profile and Docker's format."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onggi.base.errors import InvalidArgument
from onggi.plan.seccomp import compile_seccomp, docker_profile, resolve_profile
from onggi.plan.seccomp.tables import AARCH64, ARM, I386, X32, X86_64, Arch, syscall_numbers
from onggi.spec.runtime import LinuxSeccomp, LinuxSeccompArg
from tests.seccomp_machine import Machine

ALLOW, KILL, EPERM, ENOSYS = 0x7FFF_0000, 0, 0x0005_0001, 0x0005_0026
AF_INET, AF_CAIF, AF_ALG, AF_NFC, AF_VSOCK, AF_MCTP, AF_MAX = 2, 37, 38, 39, 40, 45, 46

DEFAULT_CAPABILITIES = tuple(
    f"CAP_{name}"
    for name in (
        *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE"),
        *("NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
    )
)


def resolve(
    document: object, *capabilities: str, arch: str = "x86_64", kernel: tuple[int, int] = (6, 18)
) -> LinuxSeccomp:
    return resolve_profile(json.dumps(document).encode(), capabilities=capabilities, arch=arch, kernel=kernel)


def docker(*extra: str, arch: str = "x86_64", kernel: tuple[int, int] = (6, 18)) -> Machine:
    capabilities = (*DEFAULT_CAPABILITIES, *extra)
    resolved = resolve_profile(docker_profile(), capabilities=capabilities, arch=arch, kernel=kernel)
    return Machine(compile_seccomp(resolved, arch).filter)


def call(machine: Machine, name: str, *args: int, arch: Arch = X86_64) -> int:
    return machine.run(arch.token, syscall_numbers(arch)[name], args)


# -- the default profile ---------------------------------------------------------------------------


def test_ordinary_calls_are_allowed_on_every_abi() -> None:
    for native, arches in (("x86_64", (X86_64, X32, I386)), ("aarch64", (AARCH64, ARM))):
        machine = docker(arch=native)
        for arch in arches:
            for name in ("read", "openat2", "landlock_restrict_self", "mseal", "futex_waitv", "chroot", "ptrace"):
                assert call(machine, name, arch=arch) == ALLOW, (arch.name, name)
            for name in ("io_uring_setup", "io_uring_enter", "io_uring_register", "keyctl", "add_key", "kexec_load"):
                assert call(machine, name, arch=arch) == EPERM, (arch.name, name)


@pytest.mark.parametrize(
    ("family", "verdict"),
    [
        *((family, ALLOW) for family in (1, AF_INET, 11, 13, 18, AF_NFC, AF_MCTP)),
        *((family, EPERM) for family in (12, 19, AF_CAIF, AF_ALG, AF_VSOCK, AF_MAX, (1 << 32) | AF_INET)),
    ],
)
def test_socket_families(family: int, verdict: int) -> None:
    assert call(docker(), "socket", family) == verdict


def test_clone_makes_processes_but_no_namespaces() -> None:
    machine = docker()
    assert call(machine, "clone", 0x0000_0011) == ALLOW
    for namespace in (0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000):
        assert call(machine, "clone", namespace | 0x11) == EPERM
    assert call(machine, "clone3") == ENOSYS
    assert call(machine, "unshare") == EPERM


def test_cap_sys_admin_opens_what_it_needs() -> None:
    machine = docker("CAP_SYS_ADMIN")
    for name in ("clone", "clone3", "unshare", "mount", "bpf", "setns"):
        assert call(machine, name, 0x1000_0000) == ALLOW
    assert call(machine, "reboot") == EPERM


@pytest.mark.parametrize(
    ("capability", "name"),
    [
        ("CAP_BPF", "bpf"),
        ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
        ("CAP_PERFMON", "perf_event_open"),
        ("CAP_SYSLOG", "syslog"),
        ("CAP_SYS_BOOT", "reboot"),
        ("CAP_SYS_MODULE", "finit_module"),
        ("CAP_SYS_NICE", "mbind"),
        ("CAP_SYS_PACCT", "acct"),
        ("CAP_SYS_PTRACE", "pidfd_getfd"),
        ("CAP_SYS_RAWIO", "iopl"),
        ("CAP_SYS_TIME", "clock_settime"),
        ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ],
)
def test_a_capability_opens_its_calls(capability: str, name: str) -> None:
    assert call(docker(), name) == EPERM
    assert call(docker(capability), name) == ALLOW


def test_architecture_and_kernel_conditions() -> None:
    assert call(docker(), "arch_prctl") == ALLOW
    assert call(docker(), "ptrace") == ALLOW
    assert call(docker(kernel=(4, 7)), "ptrace") == EPERM
    assert call(docker(arch="aarch64"), "cacheflush", arch=ARM) == ALLOW


@pytest.mark.parametrize("family", [0, 8, 0x20000, 0x20008, 0xFFFF_FFFF, 1, 0x40000, 0xFFFF_FFFF_FFFF_FFFF])
def test_personalities(family: int) -> None:
    allowed = family in (0, 8, 0x20000, 0x20008, 0xFFFF_FFFF)
    assert call(docker(), "personality", family) == (ALLOW if allowed else EPERM)


def test_calls_younger_than_the_profile_do_not_exist() -> None:
    machine = docker()
    for arch in (X86_64, I386):
        assert machine.run(arch.token, 466) == ALLOW
        assert machine.run(arch.token, 467) == ENOSYS
    assert machine.run(AARCH64.token, 63) == KILL


def test_every_name_in_the_profile_is_a_system_call_somewhere() -> None:
    known = set().union(*(syscall_numbers(arch) for arch in (X86_64, X32, I386, AARCH64, ARM)))
    assert {name for rule in json.loads(docker_profile())["syscalls"] for name in rule["names"]} <= known


@pytest.mark.parametrize(("arch", "most"), [("x86_64", 250), ("aarch64", 190), ("i386", 130)])
def test_the_default_filter_stays_short(arch: str, most: int) -> None:
    """A start pays for each instruction: 974 of them cost 0.8 ms more than 350."""
    resolved = resolve_profile(docker_profile(), capabilities=DEFAULT_CAPABILITIES, arch=arch, kernel=(6, 18))
    assert compile_seccomp(resolved, arch).instructions <= most


# -- the format ------------------------------------------------------------------------------------

RULE: dict[str, Any] = {"names": ["read"], "action": "SCMP_ACT_ALLOW"}


def profile(**rule: Any) -> dict[str, Any]:
    return {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [RULE | rule]}


@pytest.mark.parametrize(
    ("conditions", "applies"),
    [
        ({}, True),
        ({"includes": None, "excludes": {}}, True),
        ({"includes": {"caps": ["CAP_A"]}}, True),
        ({"includes": {"caps": ["CAP_A", "CAP_B"]}}, False),
        ({"excludes": {"caps": ["CAP_B"]}}, True),
        ({"excludes": {"caps": ["CAP_B", "CAP_A"]}}, False),
        ({"includes": {"arches": ["arm64", "amd64"]}}, True),
        ({"includes": {"arches": ["x86"]}}, False),
        ({"excludes": {"arches": ["amd64"]}}, False),
        ({"excludes": {"arches": ["s390"]}}, True),
        ({"includes": {"minKernel": "6.18"}}, True),
        ({"includes": {"minKernel": "6.19"}}, False),
        ({"includes": {"minKernel": "7.0"}}, False),
        ({"includes": {"minKernel": "5.200"}}, True),
        ({"excludes": {"minKernel": "6.18"}}, False),
        ({"excludes": {"minKernel": "6.19"}}, True),
        ({"includes": {"minKernel": ""}}, True),
        ({"includes": {"caps": ["CAP_A"], "arches": ["arm64"]}}, False),
        ({"includes": {"caps": ["CAP_A"]}, "excludes": {"minKernel": "4.8"}}, False),
    ],
)
def test_conditions(conditions: dict[str, Any], applies: bool) -> None:
    resolved = resolve(profile(**conditions), "CAP_A")
    assert [rule.names for rule in resolved.syscalls or ()] == ([("read",)] if applies else [])


def test_everything_else_is_carried_over() -> None:
    document = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "architectures": ["SCMP_ARCH_X86_64"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "listenerPath": "/run/agent",
        "listenerMetadata": "m",
        "syscalls": [RULE | {"errnoRet": 5, "args": [{"index": 1, "value": 2, "valueTwo": 3, "op": "SCMP_CMP_EQ"}]}],
    }
    resolved = resolve(document)
    assert (resolved.default_errno_ret, resolved.architectures) == (38, ("SCMP_ARCH_X86_64",))
    assert (resolved.flags, resolved.listener_path) == (("SECCOMP_FILTER_FLAG_LOG",), "/run/agent")
    assert resolved.listener_metadata == "m"
    (rule,) = resolved.syscalls or ()
    assert (rule.errno_ret, rule.args) == (5, (LinuxSeccompArg(index=1, value=2, value_two=3, op="SCMP_CMP_EQ"),))


@pytest.mark.parametrize(
    ("arch", "chosen"),
    [
        ("x86_64", ("SCMP_ARCH_X86_64", "SCMP_ARCH_X32")),
        ("aarch64", ("SCMP_ARCH_AARCH64",)),
        ("arm", ()),
    ],
)
def test_the_arch_map_is_read_for_the_native_architecture(arch: str, chosen: tuple[str, ...]) -> None:
    arch_map = [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X32"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": None},
    ]
    assert resolve(profile() | {"archMap": arch_map}, arch=arch).architectures == chosen


def test_one_name_as_old_profiles_have_it() -> None:
    resolved = resolve(profile(names=[], name="write", args=None))
    assert [rule.names for rule in resolved.syscalls or ()] == [("write",)]


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({}, "seccomp profile: defaultAction: missing"),
        ([], "seccomp profile: expected object, got array"),
        (profile(name="write"), r"syscalls\[0\]: it has both name and names"),
        (profile(names="read"), r"syscalls\[0\].names: expected array, got string"),
        (profile(args=[{"index": 0, "op": "SCMP_CMP_EQ"}]), r"syscalls\[0\].args\[0\].value: missing"),
        (profile(args=[{"index": 0, "value": 1 << 64, "op": "SCMP_CMP_EQ"}]), r"args\[0\].value"),
        (profile() | {"architectures": ["A"], "archMap": [{"architecture": "B"}]}, "both architectures and archMap"),
        (profile(includes={"minKernel": "6"}), r"syscalls\[0\].includes.minKernel: '6' is no kernel version"),
        (profile(includes={"minKernel": "6.1.2"}), "'6.1.2' is no kernel version"),
        (profile(excludes={"minKernel": "6.x"}), r"syscalls\[0\].excludes.minKernel: '6.x'"),
        (profile(excludes={"minKernel": "6.256"}), "'6.256' is no kernel version"),
    ],
)
def test_what_is_wrong_is_said(document: object, sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        resolve(document)


def test_what_is_not_json_is_said() -> None:
    with pytest.raises(InvalidArgument, match="seccomp profile: not valid JSON"):
        resolve_profile(b"unconfined", capabilities=(), arch="x86_64", kernel=(6, 18))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 1 << 70) | st.sampled_from(("SCMP_ACT_ALLOW", "6.1", "read", "é")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("names", "args", "caps")), inner),
)


RULES = st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys((*RULE, "args", "includes"), JSON)))


@given(default=JSON, rules=RULES)
def test_any_document_is_a_profile_or_an_invalid_argument(default: Any, rules: list[Any]) -> None:
    try:
        program = compile_seccomp(resolve({"defaultAction": default, "syscalls": rules}), "x86_64")
    except InvalidArgument:
        return
    assert program.instructions > 0


def test_what_is_the_same_is_compiled_once() -> None:
    """A warm process starts many containers with one profile, which costs milliseconds to compile."""
    profiles = [
        resolve_profile(docker_profile(), capabilities=held, arch="x86_64", kernel=(6, 1))
        for held in (["CAP_CHOWN", "CAP_KILL"], ("CAP_KILL", "CAP_CHOWN"), ["CAP_SYS_ADMIN"])
    ]
    assert profiles[0] is profiles[1]
    assert profiles[0] != profiles[2]
    assert compile_seccomp(profiles[0], "x86_64") is compile_seccomp(profiles[1], "x86_64")
    assert compile_seccomp(profiles[0], "x86_64") != compile_seccomp(profiles[2], "x86_64")
