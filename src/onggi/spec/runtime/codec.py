"""Parse and print runtime-spec documents, bounded, with errors that say where."""

from typing import Final

import msgspec

from onggi.base.errors import InvalidArgument
from onggi.spec.json import parse_json, print_json, unknown_paths

from .config import Spec
from .process import Process
from .state import State

MAX_CONFIG_BYTES: Final = 16 << 20

_SPEC: Final = msgspec.json.Decoder(Spec)
_PROCESS: Final = msgspec.json.Decoder(Process)
_STATE: Final = msgspec.json.Decoder(State)
_ANY: Final = msgspec.json.Decoder()


def parse_spec(data: bytes, *, strict: bool = False) -> Spec:
    """Read a config.json. Fields that the spec does not define are dropped, or with `strict` refused.

    Raises InvalidArgument: `config.json: process.rlimits[0].hard: expected integer, got string`.
    """
    spec = parse_json(data, _SPEC, "config.json", MAX_CONFIG_BYTES)
    if strict and (unknown := unknown_fields(data)):
        raise InvalidArgument(f"config.json: {unknown[0]}: no such field in the runtime-spec")
    return spec


def print_spec(spec: Spec) -> bytes:
    """Write a config.json: indented, fields in the order of the types, so equal specs give equal bytes."""
    return print_json(spec, "config.json")


def parse_process(data: bytes) -> Process:
    """Read a process.json, as `exec --process` takes it."""
    return parse_json(data, _PROCESS, "process.json", MAX_CONFIG_BYTES)


def parse_state(data: bytes) -> State:
    """Read a container's state."""
    return parse_json(data, _STATE, "state", MAX_CONFIG_BYTES)


def print_state(state: State) -> bytes:
    """Write a container's state, as hooks read it."""
    return print_json(state, "state")


def unknown_fields(data: bytes) -> tuple[str, ...]:
    """Paths of a config.json's fields that these types do not keep: newer ones, extensions, other systems'."""
    spec = parse_json(data, _SPEC, "config.json", MAX_CONFIG_BYTES)
    document = parse_json(data, _ANY, "config.json", MAX_CONFIG_BYTES)
    return tuple(unknown_paths(document, _ANY.decode(msgspec.json.encode(spec))))
