"""The documents of `inspect`: what they say, and what templates find in them."""

import json
from typing import Any, cast

import pytest

from onggi.base.errors import NotFound
from onggi.cli.app import State
from onggi.cli.documents import ALIASES, show_documents, typed
from onggi.cli.host_config_document import config_of, host_config_document
from onggi.cli.image_document import config_document
from onggi.cli.network_document import network_document
from onggi.cli.render import json_document
from onggi.cli.template import parse_template
from onggi.plan.facts import CgroupFacts, Facts
from onggi.spec.container import (
    ContainerRequest,
    DeviceRequest,
    LogRequest,
    MountRequest,
    ResourceRequest,
    ThrottleRequest,
    Ulimit,
)
from onggi.spec.image_config import ContainerConfig, Healthcheck
from onggi.spec.ports import parse_publish
from tests.callers import FakeCaller
from tests.plans import FACTS

ANONYMOUS = "0123456789abcdef" * 4
SILENT = {
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "Domainname": "",
    "OnBuild": None,
    "OpenStdin": False,
    "StdinOnce": False,
    "Tty": False,
}


def host_config(**request: Any) -> dict[str, Any]:
    """Describe a request."""
    return host_config_document(ContainerRequest(**request), FACTS["v2"])


def test_nothing_asked_for() -> None:
    document = host_config()
    expected: dict[str, Any] = {
        "Binds": None,
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "CapAdd": None,
        "SecurityOpt": None,
        "MemorySwap": 0,
        "PidsLimit": None,
        "Ulimits": [],
        "LogConfig": {"Type": "json-file", "Config": {"max-file": "3", "max-size": "10000000"}},
        "IpcMode": "private",
    }
    assert {name: document[name] for name in expected} == expected
    assert {"Tmpfs", "Sysctls", "Init"} & set(document) == set()
    assert "/proc/kcore" in document["MaskedPaths"]


def test_what_was_asked_for() -> None:
    document = host_config(
        init=True,
        privileged=True,
        cap_add=("net_admin", "all"),
        cap_drop=("CAP_KILL",),
        oom_score_adj=5,
        groups=("audio",),
        volumes_from=("other:ro",),
        no_new_privileges=True,
        seccomp="unconfined",
        unmask_system_paths=True,
        sysctls={"net.ipv4.ip_forward": "1"},
        devices=(DeviceRequest(source="/dev/fuse", target="/dev/f", access="rw"),),
        device_rules=("c 1:3 mr",),
        ulimits=(Ulimit(name="nofile", soft=10, hard=2**64 - 1),),
        log=LogRequest(driver="none"),
        console_size=(24, 80),
        cgroupns="private",
        resources=ResourceRequest(
            memory_bytes=100,
            nano_cpus=5,
            cpu_quota_us=6,
            pids=7,
            blkio_weight_device=(ThrottleRequest(path="/dev/sda", rate=8),),
            read_bps=(ThrottleRequest(path="/dev/sda", rate=9),),
        ),
    )
    expected = {
        "Init": True,
        "Privileged": True,
        "CapAdd": ["CAP_NET_ADMIN", "ALL"],
        "GroupAdd": ["audio"],
        "CapDrop": ["CAP_KILL"],
        "OomScoreAdj": 5,
        "VolumesFrom": ["other:ro"],
        "SecurityOpt": ["no-new-privileges", "seccomp=unconfined", "systempaths=unconfined"],
        "Sysctls": {"net.ipv4.ip_forward": "1"},
        "Devices": [{"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/f", "CgroupPermissions": "rw"}],
        "DeviceCgroupRules": ["c 1:3 mr"],
        "Ulimits": [{"Name": "nofile", "Hard": -1, "Soft": 10}],
        "LogConfig": {"Type": "none", "Config": {}},
        "ConsoleSize": [24, 80],
        "CgroupnsMode": "private",
        "Memory": 100,
        "MemorySwap": 200,
        "NanoCpus": 5,
        "CpuQuota": 6,
        "PidsLimit": 7,
        "BlkioWeightDevice": [{"Path": "/dev/sda", "Weight": 8}],
        "BlkioDeviceReadBps": [{"Path": "/dev/sda", "Rate": 9}],
        "MaskedPaths": None,
        "ReadonlyPaths": None,
    }
    assert {name: document[name] for name in expected} == expected


def test_mounts_that_were_asked_for() -> None:
    document = host_config(
        mounts=(
            MountRequest(type="bind", source="/a", target="/b", read_only=True, propagation="rslave"),
            MountRequest(type="volume", source="data", target="/data"),
            MountRequest(type="volume", source="data", target="/raw", copy=False),
            MountRequest(type="volume", source=ANONYMOUS, target="/anonymous", anonymous=True),
            MountRequest(type="tmpfs", target="/tmp", size_bytes=64, mode=0o1777, options=("noexec",)),
        )
    )
    assert document["Binds"] == ["/a:/b:ro,rslave", "data:/data", "data:/raw:nocopy"]
    assert document["Tmpfs"] == {"/tmp": "noexec,size=64,mode=1777"}


@pytest.mark.parametrize(("layout", "expected"), [("v2", "private"), ("hybrid", "host")])
def test_the_cgroup_namespace_that_is_the_hosts_default(layout: Any, expected: str) -> None:
    facts = cast(Facts, type("Host", (), {"cgroup": CgroupFacts(layout=layout)})())
    assert host_config_document(ContainerRequest(), facts)["CgroupnsMode"] == expected


def config(image: ContainerConfig, **request: Any) -> dict[str, Any]:
    """Describe how a container runs."""
    document = config_document(config_of(ContainerRequest(**request), image, id=ANONYMOUS, image_ref="app"))
    found: dict[str, Any] = json.loads(json_document(document))
    return found


def test_how_a_container_runs() -> None:
    health = Healthcheck(test=("CMD", "true"), interval=5)
    image = ContainerConfig(
        env=("PATH=/bin", "A=image"),
        cmd=("serve",),
        entrypoint=("/init",),
        labels={"a": "1", "b": "2"},
        exposed_ports={"80/tcp": {}},
        volumes={"/var": {}},
        healthcheck=health,
        stop_signal="SIGQUIT",
        user="www",
    )
    document = config(
        image,
        env=("A=mine",),
        labels={"b": "3"},
        exposed=("81",),
        ports=parse_publish("8080:82/udp"),
        mounts=(MountRequest(type="volume", source=ANONYMOUS, target="/anonymous", anonymous=True),),
        stop_timeout_s=3,
    )
    assert document == {
        **SILENT,
        "Hostname": ANONYMOUS[:12],
        "User": "www",
        "ExposedPorts": {"80/tcp": {}, "81/tcp": {}, "82/udp": {}},
        "Env": ["A=mine", "PATH=/bin"],
        "Cmd": ["serve"],
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5},
        "Image": "app",
        "Volumes": {"/var": {}, "/anonymous": {}},
        "WorkingDir": "/",
        "Entrypoint": ["/init"],
        "Labels": {"a": "1", "b": "3"},
        "StopSignal": "SIGQUIT",
        "StopTimeout": 3,
    }


def test_an_entrypoint_of_ones_own_takes_the_command_away() -> None:
    image = ContainerConfig(cmd=("serve",), entrypoint=("/init",))
    assert [config(image, entrypoint=("sh",))[name] for name in ("Entrypoint", "Cmd")] == [["sh"], None]
    assert [config(image, command=("x",))[name] for name in ("Entrypoint", "Cmd")] == [["/init"], ["x"]]


def test_exposed_ports_are_there_while_it_runs() -> None:
    assert network_document(None, "none", exposed=["80/tcp"])["Ports"] == {}
    assert network_document(None, "container:x")["Networks"] == {}
    assert network_document(None, "host", pid=7)["SandboxKey"] == "/proc/7/ns/net"


# -- templates -------------------------------------------------------------------------------------


DOCUMENT: dict[str, Any] = {
    "Id": "1",
    "State": {"ExitCode": 0},
    "HostConfig": {"CapAdd": None, "PidsLimit": None, "NanoCpus": 3, "Dns": []},
    "Config": {"Labels": {"a": "b"}, "Volumes": None, "Env": ["A=1"]},
    "NetworkSettings": {"Ports": {"80/tcp": [{"HostIp": "::", "HostPort": "1"}], "81/tcp": None}},
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{.ID}} {{.Id}} {{.HostConfig.NanoCPUs}} {{.HostConfig.DNS}}", "1 1 3 []"),
        ("{{.Config.Labels.a}} {{.Config.Labels.b}} {{index .Config.Labels \"b\"}}", "b <no value> "),
        ("{{.HostConfig.CapAdd}} {{len .HostConfig.CapAdd}} {{json .HostConfig.CapAdd}}", "[] 0 null"),
        ("{{.Config.Volumes}} {{json .Config.Volumes}} {{.Config.Volumes.x}}", "map[] null <no value>"),
        ("{{.HostConfig.PidsLimit}}{{if .HostConfig.PidsLimit}}x{{end}} {{json .HostConfig.PidsLimit}}", "<nil> null"),
        ("{{eq .HostConfig.PidsLimit nil}} {{ne .State.Health nil}} {{.Config.Healthcheck}}", "true false <nil>"),
        ("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}", "none"),
        ("{{.Config.ExposedPorts}} {{.Config.StopSignal}}|{{.HostConfig.Tmpfs}}", "map[] |map[]"),
        ("{{json .State}} {{json .Config.Labels}}", '{"ExitCode":0} {"a":"b"}'),
        ("{{range $p, $c := .NetworkSettings.Ports}}{{$p}}{{range $c}} {{.HostIP}}{{.HostPort}}{{end}};{{end}}",
         "80/tcp ::1;81/tcp;"),
        ("{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}", "1"),
        ("{{.NetworkSettings.Ports}}", "map[80/tcp:[map[HostIp::: HostPort:1]] 81/tcp:[]]"),
    ],
)  # fmt: skip
def test_what_templates_find(template: str, expected: str) -> None:
    assert parse_template(template).execute(typed(DOCUMENT), aliases=ALIASES) == expected


def show(refs: list[str], format: str) -> tuple[int, str, str]:
    """Show documents of `a` and `b`."""

    def find(ref: str) -> dict[str, Any]:
        if ref not in "ab":
            raise NotFound(f"No such pot: {ref}")
        return {"Name": ref, "Odd": {"a": 1}} if ref == "a" else {"Name": ref}

    caller = FakeCaller()
    code = show_documents(State(cast(Any, caller), cast(Any, None)), refs, find, format)
    return code, caller.stdout, caller.stderr


def test_documents() -> None:
    code, out, err = show(["a", "nobody", "b"], "")
    assert (code, err) == (1, "onggi: No such pot: nobody\n")
    assert json.loads(out) == [{"Name": "a", "Odd": {"a": 1}}, {"Name": "b"}]
    assert out.startswith('[\n    {\n        "Name"')
    assert show(["b"], "json") == (0, '[{"Name":"b"}]\n', "")
    assert show(["nobody"], "") == (1, "[]\n", "onggi: No such pot: nobody\n")


def test_documents_by_template() -> None:
    assert show(["a", "b"], "{{.Name}}") == (0, "a\nb\n", "")
    assert show(["nobody"], "{{.Name}}") == (1, "\n", "onggi: No such pot: nobody\n")
    problem = 'onggi: template parsing error: template: :1:2: executing "" at <.Odd>: map has no entry for key "Odd"\n'
    assert show(["a", "b"], "{{.Odd}}") == (1, "map[a:1]\n", problem)
    assert show(["a"], "{{.Odd") == (64, "", "onggi: template parsing error: template: :1: unclosed action\n")
