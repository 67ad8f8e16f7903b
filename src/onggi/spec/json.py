"""Bounded JSON in and out: msgspec's errors become sentences that name the document and the field.

Texts with a type of their own (`Digest`, `ContainerID`) are plain strings in
JSON; the hooks here check and restore them.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from onggi.base.errors import InvalidArgument, OnggiError

T = TypeVar("T")

_WORDS: Final = {
    "`int`": "integer",
    "`str`": "string",
    "`bool`": "boolean",
    "`float`": "number",
    "`null`": "null",
    "`object`": "object",
    "`array`": "array",
    " | null`": "`",
}


def json_decoder(type_: type[T]) -> msgspec.json.Decoder[T]:
    """A decoder that also knows texts with a type of their own."""
    return msgspec.json.Decoder(type_, dec_hook=_typed_text)


def encode_json(value: object) -> bytes:
    """Encode on one line; equal values give equal bytes."""
    return _ENCODER.encode(value)


def parse_json(
    data: bytes, decoder: msgspec.json.Decoder[T], what: str, max_bytes: int, error: type[OnggiError] = InvalidArgument
) -> T:
    """Decode one document; `what` names it in errors (`config.json`).

    Raises `error`: too large, not JSON, too deep, or not of the type.
    """
    if len(data) > max_bytes:
        raise error(f"{what}: {len(data)} bytes are more than the {max_bytes} that are accepted")
    try:
        if not data.isascii():
            data.decode()  # msgspec does not look into what it skips, and whoever reads all of it later would stumble
        return decoder.decode(data)
    except msgspec.ValidationError as problem:
        raise error(f"{what}: {_explain(str(problem))}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        text = str(problem).removeprefix("JSON is malformed: ")
        raise error(f"{what}: not valid JSON: {_lower_first(text)}") from None
    except RecursionError:
        raise error(f"{what}: nested too deeply") from None


def print_json(value: object, what: str, indent: int = 2) -> bytes:
    """Encode one document, indented, without a final newline.

    Raises InvalidArgument for text that is not Unicode (a surrogate-escaped
    argument): JSON cannot carry it.
    """
    try:
        return msgspec.json.format(encode_json(value), indent=indent)
    except UnicodeEncodeError:
        raise InvalidArgument(f"{what}: a text is not valid UTF-8, which JSON cannot carry") from None


def unknown_paths(document: Any, known: Any, at: str = "") -> list[str]:
    """Paths of what `document` has and `known`, its typed and reprinted form, lost; nulls do not count."""
    if isinstance(document, dict) and isinstance(known, dict):
        lost: list[str] = []
        for key, value in document.items():
            path = f"{at}.{key}" if at else str(key)
            if key in known:
                lost += unknown_paths(value, known[key], path)
            elif value is not None:
                lost.append(path)
        return lost
    if isinstance(document, list) and isinstance(known, list):
        pairs = enumerate(zip(document, known, strict=True))
        return [path for index, (a, b) in pairs for path in unknown_paths(a, b, f"{at}[{index}]")]
    return []


def leftovers(document: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """What `document` has and `known`, its typed and reprinted form, lost, under the same nested keys."""
    left: dict[str, Any] = {}
    for key, value in document.items():
        if key not in known:
            if value is not None:
                left[key] = value
        elif isinstance(value, dict) and isinstance(known[key], dict) and (below := leftovers(value, known[key])):
            left[key] = below
    return left


def merge(known: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Put `leftovers` back; where both have a value, `known` wins."""
    merged = dict(known)
    for key, value in extra.items():
        if key not in merged:
            merged[key] = value
        elif isinstance(value, dict) and isinstance(merged[key], dict):
            merged[key] = merge(merged[key], value)
    return merged


def _explain(message: str) -> str:
    """``Expected `int`, got `str` - at `$.a[0]` `` becomes `a[0]: expected integer, got string`."""
    problem, _, path = message.partition(" - at `")
    path = path.rstrip("`").removeprefix("$").removeprefix(".")
    if problem.startswith("Object missing required field `"):
        field = problem.split("`")[1]
        return f"{path}.{field}: missing" if path else f"{field}: missing"
    if not problem.startswith(("Expected", "Invalid", "Object", "JSON")):
        # A __post_init__ names its own field first.
        field, _, problem = problem.partition(": ")
        path = f"{path}.{field}" if path else field
    for theirs, ours in reversed(_WORDS.items()):
        problem = problem.replace(theirs, ours)
    problem = _lower_first(problem)
    return f"{path}: {problem}" if path else problem


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _typed_text(type_: type[Any], value: Any) -> Any:
    if not issubclass(type_, str):
        raise NotImplementedError(type_)
    if not isinstance(value, str):
        raise ValueError("Expected `str`")
    try:
        return type_(value)
    except InvalidArgument as error:
        raise ValueError(f"Invalid value: {error}") from None


def _plain_text(value: Any) -> str:
    if isinstance(value, str):
        return str.__str__(value)
    raise NotImplementedError(type(value))


_ENCODER: Final = msgspec.json.Encoder(enc_hook=_plain_text)
