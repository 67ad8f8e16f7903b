"""The runtime-spec types lose nothing, and say where a document is wrong."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import inspect as mi

import onggi.spec.runtime as runtime
from onggi.base.errors import InvalidArgument
from onggi.spec.runtime import (
    MAX_CONFIG_BYTES,
    LinuxPids,
    Mount,
    Process,
    Spec,
    State,
    User,
    parse_process,
    parse_spec,
    parse_state,
    print_spec,
    print_state,
    unknown_fields,
)
from onggi.spec.runtime.features import Features, FeaturesEnabled, FeaturesLinux, print_features
from tests.strategies import documents_of, runtime_specs

EVERYTHING = (Path(__file__).parent / "data" / "config.json").read_bytes()
TYPES = [value for name in runtime.__all__ if isinstance(value := getattr(runtime, name), type(Spec))]


def struct_types(type_: type[Any]) -> list[mi.StructType]:
    """All struct types that a document of this type can have."""
    found: dict[type[Any], mi.StructType] = {}

    def visit(info: Any) -> None:
        if isinstance(info, mi.StructType):
            if info.cls in found:
                return
            found[info.cls] = info
        for below in (
            *(field.type for field in getattr(info, "fields", ())),
            *getattr(info, "types", ()),
            *(getattr(info, name) for name in ("item_type", "value_type") if hasattr(info, name)),
        ):
            visit(below)

    visit(mi.type_info(type_))
    return list(found.values())


def present(value: Any) -> Iterator[tuple[type[Any], str]]:
    """(type, field) of everything that a parsed document has."""
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            if getattr(value, name) is not None:
                yield type(value), name
                yield from present(getattr(value, name))
    elif isinstance(value, tuple | dict):
        for below in value.values() if isinstance(value, dict) else value:
            yield from present(below)


def minimal(**fields: Any) -> bytes:
    return json.dumps({"ociVersion": "1.3.0", **fields}).encode()


def test_a_document_with_every_field_comes_back_equal() -> None:
    assert json.loads(print_spec(parse_spec(EVERYTHING, strict=True))) == json.loads(EVERYTHING)


def test_that_document_has_every_field_of_every_type() -> None:
    known = {(info.cls, field.name) for info in struct_types(Spec) for field in info.fields}
    assert known - set(present(parse_spec(EVERYTHING))) == set()


def test_json_names_are_those_of_the_spec() -> None:
    """Spot checks where plain camelCase would be wrong."""
    names = {info.cls.__name__: {field.encode_name for field in info.fields} for info in struct_types(Spec)}
    assert {"uidMappings", "gidMappings", "netDevices", "intelRdt"} <= names["Linux"]
    assert names["LinuxIDMapping"] == {"containerID", "hostID", "size"}
    assert {"kernelTCP", "disableOOMKiller", "useHierarchy"} <= names["LinuxMemory"]
    assert {"throttleReadBpsDevice", "throttleReadIOPSDevice"} <= names["LinuxBlockIO"]
    assert {"oomScoreAdj", "ioPriority", "execCPUAffinity", "selinuxLabel"} <= names["Process"]
    assert {"closID", "l3CacheSchema", "memBwSchema", "enableCMT"} <= names["LinuxIntelRdt"]
    assert "class" in names["LinuxIOPriority"]
    assert "blockIO" in names["LinuxResources"]
    assert "classID" in names["LinuxNetwork"]


@pytest.mark.parametrize("type_", TYPES, ids=lambda type_: type_.__name__)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_any_document_of_any_type_survives(type_: type[Any], data: st.DataObject) -> None:
    document = data.draw(documents_of(type_))
    value = msgspec.json.decode(json.dumps(document), type=type_)
    assert json.loads(msgspec.json.encode(value)) == document


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(spec=runtime_specs())
def test_print_then_parse_is_the_same_spec(spec: Spec) -> None:
    printed = print_spec(spec)
    assert parse_spec(printed, strict=True) == spec
    assert print_spec(parse_spec(printed)) == printed


@pytest.mark.parametrize(
    "fields",
    [
        {"mounts": []},
        {"hostname": ""},
        {"annotations": {}},
        {"linux": {}},
        {"linux": {"resources": {"pids": {}}}},
        {"linux": {"resources": {"pids": {"limit": 0}}}},
        {"process": {"cwd": "/"}},
        {"process": {"cwd": "/", "user": {}}},
        {"process": {"cwd": "/", "user": {"uid": 0}}},
        {"process": {"cwd": "/", "user": {"uid": 0, "gid": 0}}},
        {"process": {"cwd": "/", "terminal": False, "args": [], "oomScoreAdj": 0}},
    ],
    ids=json.dumps,
)
def test_absent_empty_false_and_zero_stay_apart(fields: dict[str, Any]) -> None:
    data = minimal(**fields)
    assert json.loads(print_spec(parse_spec(data))) == json.loads(data)


def test_null_is_absent() -> None:
    data = minimal(mounts=None, process={"cwd": "/", "args": None}, linux={"resources": None})
    assert json.loads(print_spec(parse_spec(data))) == {"ociVersion": "1.3.0", "process": {"cwd": "/"}, "linux": {}}


def test_absent_ids_are_root_and_equal_to_zero() -> None:
    """As in every runtime written in Go: `exec --process` documents often have no user."""
    process = parse_process(b'{"cwd": "/", "args": ["sh"]}')
    assert (process.user.uid, process.user.gid) == (0, 0)
    assert process == Process(cwd="/", args=("sh",), user=User(uid=0, gid=0))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (minimal(process={"cwd": "/", "rlimits": [{"type": "RLIMIT_CORE", "hard": "1", "soft": 0}]}),
         "process.rlimits[0].hard: expected integer, got string"),
        (minimal(process={"cwd": "/", "rlimits": [{"type": "RLIMIT_CORE", "hard": 2**64, "soft": 0}]}),
         "process.rlimits[0].hard: expected integer <= 18446744073709551615"),
        (minimal(process={"cwd": "/", "user": {"uid": -1}}), "process.user.uid: expected integer >= 0"),
        (minimal(process={"cwd": "/", "user": {"gid": 2**32}}), "process.user.gid: expected integer <= 4294967295"),
        (minimal(process={}), "process.cwd: missing"),
        (minimal(mounts=[{"destination": "/a"}, {}]), "mounts[1].destination: missing"),
        (minimal(mounts={}), "mounts: expected array, got object"),
        (minimal(hostname=5), "hostname: expected string, got integer"),
        (minimal(linux={"resources": {"cpu": {"shares": 1.5}}}),
         "linux.resources.cpu.shares: expected integer, got number"),
        (minimal(linux={"seccomp": {"defaultAction": "x", "syscalls": [
            {"names": ["a"], "action": "y", "args": [{"index": 0, "value": 0, "valueTwo": 2**64, "op": "z"}]}]}}),
         "linux.seccomp.syscalls[0].args[0].valueTwo: expected integer <= 18446744073709551615"),
        (b"{}", "ociVersion: missing"),
        (b"[]", "expected object, got array"),
        (b"", "not valid JSON: input data was truncated"),
        (b'{"ociVersion": "1.0.0"', "not valid JSON: input data was truncated"),
        (b'{"ociVersion": "1.0.0"} x', "not valid JSON: trailing characters (byte 25)"),
        (b'{"ociVersion": truth}', "not valid JSON: "),
        (b'{"ociVersion": "\xff"}', "not valid JSON: "),
        (b"\x00", "not valid JSON: "),
    ],
)  # fmt: skip
def test_errors_say_where(data: bytes, message: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        parse_spec(data)
    assert str(raised.value).startswith(f"config.json: {message}")


def test_nothing_but_invalid_argument_comes_out_of_deep_nesting() -> None:
    for data in (
        b"[" * 3_000_000,
        b'{"x":' * 1_000_000,
        b'{"ociVersion": "1", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ):
        with pytest.raises(InvalidArgument):
            parse_spec(data)
        with pytest.raises(InvalidArgument):
            unknown_fields(data)


def test_size_is_bounded() -> None:
    data = minimal(hostname="x" * 100)
    assert parse_spec(data + b" " * (MAX_CONFIG_BYTES - len(data))).hostname == "x" * 100
    with pytest.raises(InvalidArgument, match="16777217 bytes are more than the 16777216"):
        parse_spec(data + b" " * (MAX_CONFIG_BYTES + 1 - len(data)))


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=40) | st.text('{}[]":,ociVersion1.0 nulltruefalse', max_size=60).map(str.encode))
def test_arbitrary_bytes_parse_or_are_invalid(data: bytes) -> None:
    with suppress(InvalidArgument):
        assert isinstance(parse_spec(data), Spec)


def test_unknown_fields_are_ignored_unless_strict() -> None:
    data = minimal(
        future=1, windows=None, mounts=[{"destination": "/"}, {"destination": "/x", "also": {}}], solaris={"anet": []}
    )
    assert parse_spec(data) == Spec(oci_version="1.3.0", mounts=(Mount(destination="/"), Mount(destination="/x")))
    assert unknown_fields(data) == ("future", "mounts[1].also", "solaris")
    with pytest.raises(InvalidArgument, match=r"config.json: future: no such field"):
        parse_spec(data, strict=True)


def test_text_that_json_cannot_carry_is_refused_in_a_sentence() -> None:
    with pytest.raises(InvalidArgument, match="not valid UTF-8"):
        print_spec(Spec(oci_version="1.3.0", hostname="\udcff"))


def test_values_are_checked_when_made_in_python_too() -> None:
    with pytest.raises(ValueError, match="hard"):
        runtime.POSIXRlimit(type="RLIMIT_CORE", hard=2**64, soft=0)
    assert LinuxPids(limit=-1).limit == -1


RANGES = {
    (0, 2**16 - 1): "LinuxBlockIO.leafWeight LinuxBlockIO.weight LinuxWeightDevice.leafWeight LinuxWeightDevice.weight",
    (-(2**31), 2**31 - 1): "LinuxIOPriority.priority Scheduler.nice Scheduler.priority",
    (0, 2**32 - 1): (
        "LinuxDevice.fileMode LinuxDevice.gid LinuxDevice.uid LinuxIDMapping.containerID LinuxIDMapping.hostID "
        "LinuxIDMapping.size LinuxInterfacePriority.priority LinuxNetwork.classID LinuxRdma.hcaHandles "
        "LinuxRdma.hcaObjects LinuxSeccomp.defaultErrnoRet LinuxSeccompArg.index LinuxSyscall.errnoRet "
        "LinuxTimeOffset.nanosecs User.gid User.uid User.umask VMHWConfig.vcpus"
    ),
    (-(2**63), 2**63 - 1): (
        "Hook.timeout LinuxCPU.idle LinuxCPU.quota LinuxCPU.realtimeRuntime LinuxDevice.major LinuxDevice.minor "
        "LinuxDeviceCgroup.major LinuxDeviceCgroup.minor LinuxMemory.kernel LinuxMemory.kernelTCP LinuxMemory.limit "
        "LinuxMemory.reservation LinuxMemory.swap LinuxPids.limit LinuxThrottleDevice.major LinuxThrottleDevice.minor "
        "LinuxTimeOffset.secs LinuxWeightDevice.major LinuxWeightDevice.minor Process.oomScoreAdj"
    ),
    (0, 2**64 - 1): (
        "Box.height Box.width LinuxCPU.burst LinuxCPU.period LinuxCPU.realtimePeriod LinuxCPU.shares "
        "LinuxHugepageLimit.limit LinuxMemory.swappiness LinuxSeccompArg.value LinuxSeccompArg.valueTwo "
        "LinuxThrottleDevice.rate POSIXRlimit.hard POSIXRlimit.soft Scheduler.deadline Scheduler.period "
        "Scheduler.runtime VMHWConfig.memory VMIOMems.firstGFN VMIOMems.firstMFN VMIOMems.nrMFNs"
    ),
}


def integer_fields() -> dict[str, tuple[type[Any], str, dict[str, Any]]]:
    """Every integer field by `Type.name`, with a smallest document to put it into."""
    examples: dict[type[mi.Type], Any] = {mi.IntType: 0, mi.StrType: "", mi.BoolType: False, mi.VarTupleType: []}
    found = {}
    for info in struct_types(Spec):
        required = {field.encode_name: examples.get(type(field.type)) for field in info.fields if field.required}
        for field in info.fields:
            kinds = field.type.types if isinstance(field.type, mi.UnionType) else (field.type,)
            if any(isinstance(kind, mi.IntType) for kind in kinds):
                found[f"{info.cls.__name__}.{field.encode_name}"] = (info.cls, field.encode_name, required)
    return found


def test_every_integer_has_the_range_of_its_go_type() -> None:
    fields = integer_fields()
    assert set(fields) == {name for names in RANGES.values() for name in names.split()}
    for (low, high), names in RANGES.items():
        for cls, name, required in (fields[text] for text in names.split()):
            for good in (low, high):
                msgspec.convert({**required, name: good}, cls)
            for bad in (low - 1, high + 1):
                with pytest.raises(msgspec.ValidationError):
                    msgspec.json.decode(json.dumps({**required, name: bad}), type=cls)


def test_state_round_trips_and_keeps_a_runtimes_own_status() -> None:
    state = State(oci_version="1.3.0", id="pot", status="paused", pid=17, bundle="/b", annotations={"a": "b"})
    assert parse_state(print_state(state)) == state
    assert runtime.ContainerState("running") is runtime.ContainerState.RUNNING
    with pytest.raises(InvalidArgument, match="state: bundle: missing"):
        parse_state(b'{"ociVersion": "1.3.0", "id": "pot", "status": "created"}')


def test_seccomp_agents_get_their_document() -> None:
    state = State(oci_version="1.3.0", id="pot", status="creating", pid=17, bundle="/b")
    document = runtime.ContainerProcessState(oci_version="1.3.0", fds=("seccompFd",), pid=17, metadata="m", state=state)
    assert json.loads(msgspec.json.encode(document)) == {
        "ociVersion": "1.3.0",
        "fds": ["seccompFd"],
        "pid": 17,
        "metadata": "m",
        "state": {"ociVersion": "1.3.0", "id": "pot", "status": "creating", "pid": 17, "bundle": "/b"},
    }


def test_features_are_printed_under_their_names() -> None:
    features = Features(
        oci_version_min="1.0.0",
        mount_options=("ro",),
        linux=FeaturesLinux(selinux=FeaturesEnabled(enabled=False), net_devices=FeaturesEnabled(enabled=True)),
        potentially_unsafe_config_annotations=("bundle",),
    )
    assert json.loads(print_features(features)) == {
        "ociVersionMin": "1.0.0",
        "mountOptions": ["ro"],
        "linux": {"selinux": {"enabled": False}, "netDevices": {"enabled": True}},
        "potentiallyUnsafeConfigAnnotations": ["bundle"],
    }
