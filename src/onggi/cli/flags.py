"""The flags of `run` and `create`, under Docker's names, and what they mean as a request."""

import os
from collections.abc import Mapping
from typing import Any, Final

import click

from onggi.base.errors import InvalidArgument, NotFound, NotSupported
from onggi.base.units import parse_size
from onggi.cli.caller import Caller
from onggi.cli.config import wants_host_certs
from onggi.cli.limits import LIMIT_OPTIONS, STARTING_LIMIT_OPTIONS, make_limits
from onggi.cli.mount_flags import parse_mounts
from onggi.cli.options import flag, repeated, single
from onggi.plan.abi import RLIMITS
from onggi.spec.container import (
    DEFAULT_SHM_BYTES,
    ContainerRequest,
    DeviceRequest,
    IdMapRequest,
    LogRequest,
    Ulimit,
)
from onggi.spec.ports import parse_publish

Options = Mapping[str, Any]
_UNLIMITED: Final = 2**64 - 1


RUN_OPTIONS: Final = (
    single("--name", help="Name of the container"),
    single("-h", "--hostname", help="Host name inside the container"),
    single("--domainname", help="NIS domain name inside the container"),
    repeated("-l", "--label", help="Label, NAME=VALUE"),
    repeated("--label-file", help="File with a label in each line", metavar="FILE"),
    single("--pull", help="Pull the image: missing (the default), always or never", metavar="POLICY"),
    single("--platform", help="Platform of the image, such as linux/arm64"),
    flag("-q", "--quiet", help="Do not show a pull"),
    single("--cidfile", help="Write the container's id to this file", metavar="FILE"),
    single("--entrypoint", help="Run this instead of the image's entrypoint"),
    single("-w", "--workdir", help="Working directory inside the container", metavar="DIR"),
    single("-u", "--user", help="User: name or uid, with :group or :gid"),
    repeated("--group-add", help="Further group of the process"),
    repeated("-e", "--env", help="Variable, NAME=VALUE, or NAME to take the caller's"),
    repeated("--env-file", help="File with a variable in each line", metavar="FILE"),
    flag("--init", help="Run a small init that forwards signals and reaps processes"),
    flag("-t", "--tty", help="Give the container a terminal"),
    flag("-i", "--interactive", help="Keep stdin open"),
    single("--stop-signal", help="Signal that asks the container to end"),
    single("--stop-timeout", help="Seconds until it is killed", kind=int, metavar="SECONDS"),
    flag("--rm", help="Remove the container when it ends"),
    repeated("--ulimit", help="Resource limit, NAME=SOFT[:HARD]"),
    *LIMIT_OPTIONS,
    *STARTING_LIMIT_OPTIONS,
    single("--oom-score-adj", help="Preference of the OOM killer, -1000 to 1000", kind=int, metavar="INT"),
    single("--shm-size", help="Size of /dev/shm", metavar="BYTES"),
    single("--cgroup-parent", help="Cgroup to make the container's in"),
    single("--cgroupns", help="Cgroup namespace: host or private"),
    repeated("--sysctl", help="Kernel parameter of the container, NAME=VALUE"),
    repeated("-v", "--volume", help="Mount, SOURCE:TARGET[:OPTIONS]; a name is a volume, a path a bind mount"),
    repeated("--mount", help="Mount, type=bind|volume|tmpfs,source=…,target=…"),
    repeated("--volumes-from", help="Mount what another container has, CONTAINER[:ro]"),
    repeated("--tmpfs", help="Mount a tmpfs, TARGET[:OPTIONS]"),
    flag("--read-only", help="Make the root file system read-only"),
    repeated("--cap-add", help="Add a capability, or ALL"),
    repeated("--cap-drop", help="Drop a capability, or ALL"),
    flag("--privileged", help="Give all capabilities and devices, hide nothing"),
    repeated("--security-opt", help="no-new-privileges, seccomp=FILE|unconfined, systempaths=unconfined"),
    repeated("--device", help="Device of the host, SOURCE[:TARGET[:rwm]]"),
    repeated("--device-cgroup-rule", help="Allow devices, such as 'c 1:3 rwm'"),
    single("--ipc", help="IPC: private, host, none or container:NAME"),
    single("--pid", help="Processes: host or container:NAME"),
    single("--uts", help="Host name: host"),
    single("--network", "--net", help="Network: bridge (the default), none, host or container:NAME"),
    repeated("-p", "--publish", help="Publish a port, [[IP:]HOST:]CONTAINER[/PROTOCOL], ranges too"),
    flag("-P", "--publish-all", help="Publish every exposed port at a free port of the host"),
    repeated("--expose", help="Port that the container listens on"),
    repeated("--dns", help="Name server", metavar="IP"),
    repeated("--dns-search", help="Search domain"),
    repeated("--dns-option", "--dns-opt", help="Option of resolv.conf"),
    repeated("--add-host", help="Line of /etc/hosts, NAME:IP; the IP may be host-gateway"),
    repeated("--uidmap", help="User ids, CONTAINER:HOST:SIZE; gives the container a user namespace"),
    repeated("--gidmap", help="Group ids, CONTAINER:HOST:SIZE"),
    repeated("--time-offset", help="Offset of a clock in seconds, boottime=N or monotonic=N; gives a time namespace"),
    single("--log-driver", help="Log: json-file or none"),
    repeated("--log-opt", help="max-size=BYTES, max-file=NUMBER"),
    flag("--rootfs", help="IMAGE is a directory to run in instead"),
    click.option(
        "--host-certs/--no-host-certs", default=None, help="Give it the host's certificate authorities, by a bind mount"
    ),
    single("--isolation", help="Wall around the container: namespaces"),
)


def make_request(
    image: str, command: tuple[str, ...], options: Options, caller: Caller, *, attached: bool
) -> ContainerRequest:
    """Turn flags into a request. Raises InvalidArgument with Docker's texts where it has some."""
    _refuse(options)
    network = "bridge" if options["network"] in (None, "default") else options["network"]
    security = _security(options["security_opt"], caller)
    tty, stdin = options["tty"], options["interactive"]
    rootfs = os.path.normpath(os.path.join(caller.cwd, image)) if options["rootfs"] else ""
    return ContainerRequest(
        image="" if rootfs else image,
        rootfs=rootfs,
        entrypoint=None if options["entrypoint"] is None else (options["entrypoint"],),
        command=command or None,
        env=environment(options, caller),
        labels=_labels(options, caller),
        workdir=_absolute(options["workdir"], "working directory"),
        user=options["user"],
        groups=options["group_add"],
        hostname=options["hostname"],
        domainname=options["domainname"] or "",
        tty=tty,
        console_size=caller.size if tty and any(caller.size) else None,
        stdin_open=stdin,
        stdin_once=stdin and attached,
        init=options["init"],
        auto_remove=options["rm"],
        stop_signal=options["stop_signal"],
        stop_timeout_s=options["stop_timeout"],
        mounts=parse_mounts(options, caller),
        volumes_from=options["volumes_from"],
        read_only=options["read_only"],
        shm_bytes=parse_size(options["shm_size"]) if options["shm_size"] else DEFAULT_SHM_BYTES,
        privileged=options["privileged"],
        cap_add=options["cap_add"],
        cap_drop=options["cap_drop"],
        devices=tuple(parse_device(text) for text in options["device"]),
        device_rules=options["device_cgroup_rule"],
        ulimits=tuple(parse_ulimit(text) for text in options["ulimit"]),
        sysctls=dict(_pair(text, "sysctl") for text in options["sysctl"]),
        resources=make_limits(options),
        oom_score_adj=options["oom_score_adj"],
        network=network,
        ports=tuple(port for text in options["publish"] for port in parse_publish(text)),
        publish_all=options["publish_all"],
        exposed=options["expose"],
        dns=options["dns"],
        dns_search=options["dns_search"],
        dns_options=options["dns_option"],
        extra_hosts=options["add_host"],
        pid=_namespace("pid", options["pid"], ("host",)),
        ipc=_namespace("ipc", options["ipc"], ("private", "host", "none")),
        uts=_namespace("uts", options["uts"], ("host",), joins=False),
        cgroupns=_namespace("cgroupns", options["cgroupns"], ("host", "private"), joins=False),
        time_offsets=_time_offsets(options["time_offset"]),
        uid_map=tuple(_id_map(text) for text in options["uidmap"]),
        gid_map=tuple(_id_map(text) for text in options["gidmap"] or options["uidmap"]),
        cgroup_parent=options["cgroup_parent"] or "",
        host_certs=wants_host_certs(options, caller),
        log=_log(options),
        **security,
    )


def _refuse(options: Options) -> None:
    isolation = options["isolation"]
    if isolation not in (None, "namespaces"):
        raise NotSupported(f"--isolation {isolation}: this version of Onggi has the wall `namespaces` only")


def _absolute(path: str | None, what: str) -> str | None:
    if path is not None and not path.startswith("/"):
        raise InvalidArgument(f"the {what} '{path}' is invalid, it needs to be an absolute path")
    return path


def _pair(text: str, what: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise InvalidArgument(f"invalid {what} {text!r}: expected NAME=VALUE")
    return name, value


def _lines(path: str, caller: Caller) -> list[str]:
    try:
        with open(os.path.join(caller.cwd, path), encoding="utf-8", errors="surrogateescape") as file:
            lines = [line.rstrip("\n").lstrip() for line in file]
    except OSError as error:
        raise NotFound(f"open {path}: {(error.strerror or '').lower()}") from None
    return [line for line in lines if line and not line.startswith("#")]


def environment(options: Options, caller: Caller) -> tuple[str, ...]:
    """Variables of files first, then those of flags; a bare name takes the caller's value, if there is one."""
    entries = [line for path in options["env_file"] for line in _lines(path, caller)]
    result = []
    for entry in (*entries, *options["env"]):
        name, equals, _ = entry.partition("=")
        if not name:
            raise InvalidArgument(f"invalid environment variable: {entry}")
        if equals:
            result.append(entry)
        elif name in caller.env:
            result.append(f"{name}={caller.env[name]}")
    return tuple(result)


def _labels(options: Options, caller: Caller) -> dict[str, str]:
    lines = [line for path in options["label_file"] for line in _lines(path, caller)]
    pairs = (entry.partition("=") for entry in (*lines, *options["label"]))
    return {name: value for name, _, value in pairs if name}


def _namespace(flag: str, value: str | None, known: tuple[str, ...], *, joins: bool = True) -> str:
    if value is None or value in known or (joins and value.startswith("container:") and len(value) > 10):
        return value or ""
    choices = ", ".join(known) + (" or container:NAME" if joins else "")
    raise InvalidArgument(f"--{flag}: invalid {flag} mode: {value} (known are {choices})")


def _time_offsets(texts: tuple[str, ...]) -> dict[str, int]:
    offsets = {}
    for text in texts:
        clock, seconds = _pair(text, "time offset")
        if clock not in ("boottime", "monotonic") or not seconds.lstrip("-").isdigit():
            raise InvalidArgument(f"invalid time offset {text!r}: expected boottime=SECONDS or monotonic=SECONDS")
        offsets[clock] = int(seconds)
    return offsets


def _id_map(text: str) -> IdMapRequest:
    parts = text.split(":")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        raise InvalidArgument(f"invalid id mapping {text!r}: expected CONTAINER:HOST:SIZE, three numbers")
    container, host, size = map(int, parts)
    return IdMapRequest(container=container, host=host, size=size)


def parse_ulimit(text: str) -> Ulimit:
    """Read `nofile=1024:2048`; -1 is unlimited. Raises InvalidArgument with Docker's texts."""
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidArgument(f"invalid ulimit argument: {text}")
    if f"RLIMIT_{name.upper()}" not in RLIMITS:
        raise InvalidArgument(f"invalid ulimit type: {name}")
    soft, _, hard = value.partition(":")
    try:
        limits = [int(part) for part in (soft, hard or soft)]
    except ValueError:
        raise InvalidArgument(f"invalid ulimit value {value!r} of {name}: expected SOFT[:HARD], numbers") from None
    soft_number, hard_number = (_UNLIMITED if number == -1 else number for number in limits)
    if soft_number > hard_number:
        raise InvalidArgument(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
    return Ulimit(name=name, soft=soft_number, hard=hard_number)


def parse_device(text: str) -> DeviceRequest:
    """Read `SOURCE[:TARGET[:ACCESS]]`, as Docker does."""
    parts = text.split(":")
    access = "rwm"
    if len(parts) > 1 and parts[-1] and set(parts[-1]) <= set("rwm"):
        access = parts.pop()
    if not 1 <= len(parts) <= 2 or not all(part.startswith("/") for part in parts):
        raise InvalidArgument(f"invalid device {text!r}: expected SOURCE[:TARGET[:rwm]] with absolute paths")
    return DeviceRequest(source=parts[0], target=parts[-1], access=access)


def _security(texts: tuple[str, ...], caller: Caller) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            key, _, value = text.partition(":")
        if key == "no-new-privileges":
            result["no_new_privileges"] = value.lower() in ("", "true", "1")
        elif key == "seccomp":
            result["seccomp"] = "unconfined" if value == "unconfined" else _read_profile(value, caller)
        elif key == "systempaths" and value == "unconfined":
            result["unmask_system_paths"] = True
        else:
            raise NotSupported(
                f"--security-opt {text}: not supported; known are no-new-privileges, seccomp and systempaths=unconfined"
            )
    return result


def _read_profile(path: str, caller: Caller) -> str:
    try:
        with open(os.path.join(caller.cwd, path), encoding="utf-8") as file:
            return file.read(1 << 20)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"opening seccomp profile ({path}) failed: {error}") from None


def _log(options: Options) -> LogRequest:
    driver = options["log_driver"] or "json-file"
    if driver not in ("json-file", "none"):
        raise NotSupported(f"--log-driver {driver}: this version of Onggi has json-file and none")
    default = LogRequest()
    size, files = default.size_bytes, default.files
    for text in options["log_opt"]:
        key, value = _pair(text, "log option")
        if key == "max-size":
            size = parse_size(value)
        elif key == "max-file" and value.isdigit() and int(value) > 0:
            files = int(value)
        else:
            raise InvalidArgument(f"unknown log opt '{key}' for {driver} log driver")
    return LogRequest(driver="none" if driver == "none" else "json-file", size_bytes=size, files=files)
