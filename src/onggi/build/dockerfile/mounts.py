"""The mounts of RUN: their keys, checked after expansion, with BuildKit's defaults and texts.

A bind mount is read-only unless it says `rw`, and what is written to it then is
thrown away; cache and tmpfs are writable. A mount's keys are read in order: `size`
must come after `type=tmpfs`.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from onggi.base.errors import InvalidArgument
from onggi.base.units import parse_size

from .errors import NotDone, Wrong, error_at, not_supported_at
from .instructions import MountSpec, Run
from .quoting import quote
from .suggest import did_you_mean

BIND: Final = "bind"
CACHE: Final = "cache"
TMPFS: Final = "tmpfs"
_TYPES: Final = (BIND, CACHE, TMPFS, "secret", "ssh")
_LATER: Final = ("secret", "ssh")
_SHARING: Final = ("shared", "private", "locked")
_ALIASES: Final = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite"}
_KEYS: Final = (
    *("type", "from", "source", "target", "readonly", "id", "sharing", "required", "size", "mode", "uid", "gid"),
    *("src", "dst", "destination", "ro", "rw", "readwrite", "env"),
)
_TRUE: Final = ("1", "t", "T", "TRUE", "true", "True")
_FALSE: Final = ("0", "f", "F", "FALSE", "false", "False")
_UINT32: Final = 2**32


class BuildMount(msgspec.Struct, frozen=True, kw_only=True):
    """A mount of a RUN step.

    `from_` is a stage, an image or a named context; "" the build context for bind,
    nothing for cache. `size` in bytes, 0 for no limit. `id` names a cache: what it says, or
    its target. `mode`, `uid` and `gid` are of a cache's directory when it is made.
    """

    type: str = BIND
    source: str = ""
    target: str = ""
    from_: str = ""
    readonly: bool = True
    id: str = ""
    sharing: str = ""
    size: int = 0
    mode: int = 0o755
    uid: int = 0
    gid: int = 0


Expand = Callable[[str], str]


def parse_mounts(
    run: Run, expand: Expand, *, workdir: str | None = None, name: str = "Dockerfile"
) -> tuple[BuildMount, ...]:
    """Read the mounts of a RUN. With `workdir`, targets become absolute. Raises DockerfileError, NotSupported."""
    try:
        return tuple(_Mount(spec, expand).read(workdir) for spec in run.mounts)
    except Wrong as wrong:
        raise error_at(name, run.place, str(wrong)) from None
    except NotDone as not_done:
        raise not_supported_at(name, run.place, str(not_done)) from None


def parse_mount_spec(text: str) -> MountSpec:
    """Split the value of --mount into its fields. Raises Wrong."""
    fields: list[tuple[str, str | None]] = []
    for field in _split_csv(text):
        key, equals, value = field.partition("=")
        fields.append((key, value if equals else None))
        if key.lower() == "from" and _has_variable(value):
            raise Wrong(f"'{key.lower()}' doesn't support variable expansion, define alias stage instead")
        if key.lower() == "type" and value.lower() in _LATER:
            raise NotDone(_later(value.lower()))
    return MountSpec(fields=tuple(fields))


def mount_origin(spec: MountSpec) -> str | None:
    """Give the stage, image or context that a mount is from, as far as is known before expansion."""
    return next((value for key, value in reversed(spec.fields) if key.lower() == "from" and value), None)


def _later(kind: str) -> str:
    return f"RUN --mount=type={kind} is not supported by this version of Onggi; remove the mount to build without it"


def _has_variable(value: str) -> bool:
    at = value.find("$")
    while 0 <= at < len(value) - 1:
        if value[at + 1] != "\n":
            return True
        at = value.find("$", at + 1)
    return False


class _Mount:
    """Reads one mount, field by field."""

    def __init__(self, spec: MountSpec, expand: Expand) -> None:
        self._spec, self._expand = spec, expand
        self._values: dict[str, object] = {}
        self._type = BIND
        self._readonly: bool | None = None

    def read(self, workdir: str | None) -> BuildMount:
        for key, value in self._spec.fields:
            self._field(key, value)
        return self._checked(workdir)

    def _field(self, written: str, value: str | None) -> None:
        key = written.lower()
        name = _ALIASES.get(key, key)
        if value is None:
            self._switch(written, key, name)
            return
        text = self._expand(value)
        match name:
            case "type":
                self._set_type(text)
            case "from":
                self._values["from_"] = text
            case "source" | "target" | "id":
                self._values[name] = text
            case "readonly" | "readwrite":
                self._readonly = _parse_bool(key, text) is (name == "readonly")
            case "sharing":
                if text.lower() not in _SHARING:
                    raise Wrong(did_you_mean(f"unsupported sharing value {quote(text)}", text, _SHARING))
                self._values["sharing"] = text.lower()
            case "size":
                self._values["size"] = self._size(key, text)
            case "mode" | "uid" | "gid":
                self._values[name] = _parse_number(name, text)
            case "required":
                raise Wrong(f"unexpected key '{key}' for mount type '{self._type}'")
            case "env":
                pass  # only a secret has use for it; BuildKit lets it be elsewhere
            case _:
                raise Wrong(did_you_mean(f"unexpected key '{key}' in '{written}={value}'", key, _KEYS))

    def _switch(self, written: str, key: str, name: str) -> None:
        if name in ("readonly", "readwrite"):
            self._readonly = name == "readonly"
        elif name == "required":
            raise Wrong(f"unexpected key '{key}' for mount type '{self._type}'")
        else:
            raise Wrong(f"invalid field '{written}' must be a key=value pair")

    def _set_type(self, text: str) -> None:
        kind = text.lower()
        if kind in _LATER:
            raise NotDone(_later(kind))
        if kind not in _TYPES:
            raise Wrong(did_you_mean(f"unsupported mount type {quote(text)}", text, _TYPES))
        self._type = kind

    def _size(self, key: str, text: str) -> int:
        if self._type != TMPFS:
            raise Wrong(f"unexpected key '{key}' for mount type '{self._type}'")
        try:
            return parse_size(text)
        except InvalidArgument:
            raise Wrong(f"invalid value for {key}: {text}") from None

    def _checked(self, workdir: str | None) -> BuildMount:
        for key in ("mode", "uid", "gid"):
            if key in self._values and self._type != CACHE:
                raise Wrong(f"{key} not allowed for {quote(self._type)} type mounts")
        if "sharing" in self._values and self._type != CACHE:
            raise Wrong(f"invalid cache sharing set for {self._type} mount")
        readonly = self._type == BIND if self._readonly is None else self._readonly
        mount = msgspec.convert({**self._values, "type": self._type, "readonly": readonly}, BuildMount)
        if self._type == CACHE and not mount.id:
            mount = msgspec.structs.replace(mount, id=_cache_id(mount.target))
        if workdir is None:
            return mount
        target = _clean("/" if mount.target.startswith("/") else workdir, mount.target)
        if target == "/":
            raise Wrong('invalid mount target "/"')
        return msgspec.structs.replace(mount, target=target)


def _cache_id(target: str) -> str:
    """Name a cache by its target as it is written, whatever WORKDIR is: BuildKit does."""
    path = _clean("", target)
    return path if target.startswith("/") else path[1:] or "."


def _clean(base: str, path: str) -> str:
    parts: list[str] = []
    for part in f"{base}/{path}".split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def _parse_bool(key: str, text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise Wrong(f"invalid value for {key}: {text}")


def _parse_number(key: str, text: str) -> int:
    digits = "01234567" if key == "mode" else "0123456789"
    if text and not set(text) - set(digits) and len(text) <= 32:
        number = int(text, len(digits))
        if number < _UINT32:
            return number
    raise Wrong(f"invalid value {text} for {key}")


def _split_csv(text: str) -> list[str]:
    """Split at commas, except inside of quotes that begin a field: one record of Go's encoding/csv. Raises Wrong."""
    line = text.split("\n", 1)[0]
    if not line:
        raise Wrong("failed to parse csv mounts: EOF")
    fields: list[str] = []
    at = 0
    while True:
        if not line.startswith('"', at):
            end = line.find(",", at)
            field = line[at:] if end < 0 else line[at:end]
            if '"' in field:
                raise _csv_error(line, at + field.index('"'), 'bare " in non-quoted-field')
        else:
            field, end = _quoted(line, at)
        fields.append(field)
        if end < 0:
            return fields
        at = end + 1


def _quoted(line: str, start: int) -> tuple[str, int]:
    """Read a quoted field; gives it and where its comma is, -1 if it is the last."""
    parts: list[str] = []
    at = start + 1
    while True:
        end = line.find('"', at)
        if end < 0:
            raise _csv_error(line, len(line), 'extraneous or missing " in quoted-field')
        parts.append(line[at:end])
        if line.startswith('""', end):
            parts.append('"')
            at = end + 2
            continue
        if end + 1 == len(line):
            return "".join(parts), -1
        if line[end + 1] != ",":
            raise _csv_error(line, end, 'extraneous or missing " in quoted-field')
        return "".join(parts), end + 1


def _csv_error(line: str, at: int, text: str) -> Wrong:
    column = len(line[:at].encode()) + 1
    return Wrong(f"failed to parse csv mounts: parse error on line 1, column {column}: {text}")
