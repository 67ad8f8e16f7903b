"""`-v`, `--mount` and `--tmpfs`, as docker/cli's opts/mount.go and moby's volume/mounts read them."""

import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from onggi.base.errors import InvalidArgument, NotFound, NotSupported
from onggi.base.units import parse_size
from onggi.cli.caller import Caller
from onggi.spec.container import MountRequest
from onggi.spec.mounts import PROPAGATIONS

_TRUE: Final = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_MODES: Final[tuple[frozenset[str], ...]] = (
    frozenset({"rw", "ro"}),
    frozenset({"z", "Z"}),
    PROPAGATIONS,
    frozenset({"copy", "nocopy"}),
    frozenset({"consistent", "cached", "delegated"}),
)
"""Words of a mode: one of each kind at most. SELinux labels and consistency ask for what is so here anyway."""

_ALIASES: Final = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
_SWITCHES: Final = frozenset({"readonly", "volume-nocopy", "bind-nonrecursive", "bind-create-src"})
_KEYS: Final = _SWITCHES | {
    *("type", "source", "target", "consistency", "bind-propagation", "bind-recursive", "volume-label"),
    *("volume-driver", "tmpfs-size", "tmpfs-mode"),
}
_NOT_YET: Final = {
    "volume-opt": "the driver local has no options in this version of Onggi; type=bind or type=tmpfs does what they do",
    "volume-subpath": "this version of Onggi mounts whole volumes",
    "image-subpath": "this version of Onggi mounts no images",
}
_RECURSIVE: Final = ("enabled", "disabled", "writable", "readonly")


def parse_mounts(options: Mapping[str, Any], caller: Caller) -> tuple[MountRequest, ...]:
    """Read all three flags. Raises InvalidArgument and NotSupported, with Docker's texts where it has some."""
    volumes = [parse_volume(text, caller) for text in options["volume"]]
    mounts = [mount for mount in volumes if mount.source]
    mounts += [parse_mount(text, caller) for text in options["mount"]]
    mounts += [parse_tmpfs(text) for text in options["tmpfs"]]
    # One without a name is like VOLUME of an image: whatever else is asked for its place is there instead.
    taken = {mount.target for mount in mounts}
    anonymous = {mount.target: mount for mount in volumes if not mount.source and mount.target not in taken}
    return (*mounts, *anonymous.values())


def parse_volume(text: str, caller: Caller) -> MountRequest:
    """Read `TARGET`, `SOURCE:TARGET` or `SOURCE:TARGET:MODE`."""
    wrong = f"invalid volume specification: '{text}'"
    parts = text.split(":")
    if not 1 <= len(parts) <= 3 or not parts[0] or (len(parts) == 2 and _is_mode(parts[1])):
        raise InvalidArgument(wrong)
    mode = parts[2] if len(parts) == 3 else ""
    if not _is_mode(mode):
        raise InvalidArgument(f"invalid mode: {mode}")
    words = frozenset(mode.split(","))
    source, target = (parts[0], parts[1]) if len(parts) > 1 else ("", parts[0])
    kind = "bind" if source.startswith(("/", ".", "~")) else "volume"
    if not target.startswith("/"):
        reason = f"invalid mount path: '{target}' mount path must be absolute"
        raise InvalidArgument(f'{wrong}: invalid mount config for type "{kind}": {reason}')
    target = os.path.normpath("/" + target.lstrip("/"))
    if target == "/":
        reason = "invalid specification: destination can't be '/'"
        raise InvalidArgument(f'{wrong}: invalid mount config for type "{kind}": {reason}')
    if kind == "volume":
        return MountRequest(
            type="volume", source=source, target=target, read_only="ro" in words, copy="nocopy" not in words
        )
    return MountRequest(
        type="bind",
        source=_host_path(source, caller),
        target=target,
        read_only="ro" in words,
        propagation=next(iter(words & PROPAGATIONS), ""),
        create_source=True,
    )


def _is_mode(text: str) -> bool:
    words = text.split(",") if text else []
    kinds = [next((number for number, known in enumerate(_MODES) if word in known), -1) for word in words]
    return -1 not in kinds and len(set(kinds)) == len(kinds)


def _host_path(path: str, caller: Caller) -> str:
    if path == "~" or path.startswith("~/"):
        path = caller.env.get("HOME", "/root") + path[1:]
    return os.path.normpath(os.path.join(caller.cwd, path))


def parse_mount(text: str, caller: Caller) -> MountRequest:
    """Read `type=bind,source=…,target=…`; what is wrong about the whole is for `check_mounts`."""
    fields, labels = _fields(text)
    kind = fields.get("type", "volume").lower()
    if kind in ("npipe", "cluster", "image"):
        raise NotSupported(f"--mount {text}: mounts of type {kind} are not in this version of Onggi")
    if kind not in ("bind", "volume", "tmpfs"):
        raise InvalidArgument(f'invalid mount config for type "{kind}": mount type unknown')
    if not fields.get("target"):
        raise InvalidArgument("target is required")
    for prefix in ("volume", "bind", "tmpfs"):
        if prefix != kind and any(key.startswith(f"{prefix}-") for key in fields):
            raise InvalidArgument(f"cannot mix '{prefix}-*' options with mount type '{kind}'")
    if fields.get("volume-driver", "local") not in ("", "local"):
        driver = fields["volume-driver"]
        raise NotFound(f'error looking up volume plugin {driver}: plugin "{driver}" not found')
    read_only = _switch(fields, "readonly")
    recursive = _recursive(fields, read_only)
    source = fields.get("source", "")
    if kind == "bind" and (source.startswith(("./", "../")) or source in (".", "..")):
        source = os.path.join(caller.cwd, source)
    target = fields["target"]
    return MountRequest(
        type="bind" if kind == "bind" else "tmpfs" if kind == "tmpfs" else "volume",
        source=os.path.normpath(source) if kind == "bind" and source else source,
        target=os.path.normpath(target) if target.startswith("/") else target,
        read_only=read_only,
        recursive=recursive != "disabled",
        writable_below=recursive == "writable",
        propagation=fields.get("bind-propagation", "").lower(),
        create_source=_switch(fields, "bind-create-src"),
        copy=not _switch(fields, "volume-nocopy"),
        labels=labels,
        size_bytes=_number(fields, "tmpfs-size", parse_size),
        mode=_number(fields, "tmpfs-mode", lambda value: int(value, 8)),
    )


def _fields(text: str) -> tuple[dict[str, str], dict[str, str]]:
    fields: dict[str, str] = {}
    labels: dict[str, str] = {}
    for field in _split(text):
        key, equals, value = field.partition("=")
        if not equals and _ALIASES.get(key, key) not in _SWITCHES:
            raise InvalidArgument(f"invalid field '{field}' must be a key=value pair")
        key = _ALIASES.get(key, key)
        if key in _NOT_YET:
            raise NotSupported(f"--mount {text}: {key}: {_NOT_YET[key]}")
        if key not in _KEYS:
            raise InvalidArgument(f"unexpected key '{key}' in '{field}'")
        fields[key] = value if equals else "true"
        if key == "volume-label" and value.partition("=")[0]:
            labels[value.partition("=")[0]] = value.partition("=")[2]
    return fields, labels


def _split(text: str) -> list[str]:
    """Split at commas; a field in double quotes may have some."""
    if '"' not in text:
        return text.split(",")
    import csv

    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise InvalidArgument(f"invalid mount {text!r}: {error}") from None


def _switch(fields: Mapping[str, str], key: str) -> bool:
    value = fields.get(key, "false")
    if value not in _TRUE | _FALSE:
        raise InvalidArgument(f"invalid value for {key}: {value}")
    return value in _TRUE


def _recursive(fields: Mapping[str, str], read_only: bool) -> str:
    value = fields.get("bind-recursive", "enabled")
    if value not in _RECURSIVE:
        raise InvalidArgument(
            f'invalid value for bind-recursive: {value} (must be "enabled", "disabled", "writable", or "readonly")'
        )
    if value in ("writable", "readonly") and not read_only:
        raise InvalidArgument(f"option 'bind-recursive={value}' requires 'readonly' to be specified in conjunction")
    if value == "readonly" and fields.get("bind-propagation") != "rprivate":
        raise InvalidArgument(
            "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
        )
    return "disabled" if _switch(fields, "bind-nonrecursive") else value


def _number(fields: Mapping[str, str], key: str, parse: Callable[[str], int]) -> int | None:
    if key not in fields:
        return None
    try:
        return parse(fields[key])
    except (InvalidArgument, ValueError):
        raise InvalidArgument(f"invalid value for {key}: {fields[key]}") from None


def parse_tmpfs(text: str) -> MountRequest:
    """Read `TARGET` or `TARGET:OPTIONS`."""
    target, _, options = text.partition(":")
    words = tuple(word for word in options.split(",") if word)
    target = os.path.normpath(target) if target.startswith("/") else target
    return MountRequest(type="tmpfs", target=target, options=words, read_only="ro" in words)
