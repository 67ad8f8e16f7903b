"""The functions of templates: Go's own (text/template/funcs.go) and those of Docker's client (templates.go)."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from onggi.cli.template.printf import sprint, sprintf, sprintln
from onggi.cli.template.values import (
    Map,
    Nil,
    NilList,
    NilMap,
    Object,
    OperationError,
    Row,
    check_size,
    is_true,
    to_json,
    to_text,
    type_name,
)


class Function(NamedTuple):
    """A function: the types of its parameters (`any`, `string`, `int`, `[]string`); more of the last one if open."""

    call: Callable[..., Any]
    parameters: tuple[str, ...]
    is_open: bool = False


def _index(item: object, *indexes: object) -> object:
    if item is None:
        raise OperationError("index of untyped nil")
    for key in indexes:
        if item is None:
            raise OperationError("index of nil pointer")
        match item:
            case str():
                item = _bytes(item)[_position(key, len(_bytes(item)), inside="reflect: string index out of range")]
            case list():
                item = item[_position(key, len(item), inside="reflect: slice index out of range")]
            case Row():
                raise OperationError(f"can't index item of type {item.kind}")
            case dict():
                if not isinstance(key, str):
                    what = (
                        "value is nil; should be of type"
                        if key is None
                        else f"value has type {type_name(key)}; should be"
                    )
                    raise OperationError(f"{what} string")
                missing = (
                    item.zero if isinstance(item, Map) else item.silent.get(key) if isinstance(item, Object) else None
                )
                item = item.get(key, missing)
            case _:
                raise OperationError(f"can't index item of type {type_name(item)}")
    return item


def _absent(item: dict[str, Any], key: str) -> object:
    if isinstance(item, Map):
        return item.zero
    return item.silent.get(key) if isinstance(item, Object) else None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _position(key: object, size: int, *, inside: str | None = None) -> int:
    """Check an index: up to `size`, which is too far for an element (`inside` is Go's word for that)."""
    if key is None:
        raise OperationError("cannot index slice/array with nil")
    if not isinstance(key, int) or isinstance(key, bool):
        raise OperationError(f"cannot index slice/array with type {type_name(key)}")
    if not 0 <= key <= size:
        raise OperationError(f"index out of range: {key}")
    if key == size and inside:
        raise OperationError(inside)
    return key


def _slice(item: object, *indexes: object) -> object:
    if item is None:
        raise OperationError("slice of untyped nil")
    if len(indexes) > 3:
        raise OperationError(f"too many slice indexes: {len(indexes)}")
    if not isinstance(item, str | list):
        raise OperationError(f"can't slice item of type {type_name(item)}")
    if isinstance(item, str) and len(indexes) == 3:
        raise OperationError("cannot 3-index slice a string")
    whole = _bytes(item) if isinstance(item, str) else item
    places = [_position(key, len(whole)) for key in indexes]
    first, last = [*places, *(0, len(whole))[len(places) :]][:2]
    if first > last or (len(places) == 3 and last > places[2]):
        low, high = (first, last) if first > last else (last, places[2])
        raise OperationError(f"invalid slice index: {low} > {high}")
    part = whole[first:last]
    return part.decode("utf-8", "surrogateescape") if isinstance(part, bytes) else part


def _len(item: object) -> int:
    if isinstance(item, str):
        return len(_bytes(item))
    if isinstance(item, list | dict) and not isinstance(item, Row):
        return len(item)
    if item is None:
        raise OperationError("len of nil pointer")
    raise OperationError(f"len of type {type_name(item)}")


# -- comparisons -----------------------------------------------------------------------------------


def _basic(value: object) -> str | None:
    return type_name(value) if isinstance(value, bool | int | float | str) else None


def _eq(first: object, *others: object) -> bool:
    if not others:
        raise OperationError("missing argument for comparison")
    return any(_is_equal(first, other) for other in others)


def _is_equal(first: object, other: object) -> bool:
    if _basic(first) != _basic(other):
        if _is_something(first) and _is_something(other):
            raise OperationError(f"incompatible types for comparison: {type_name(first)} and {type_name(other)}")
        return False
    if _basic(first):
        return first == other
    if not _is_something(first) or not _is_something(other):
        return all(value is None or isinstance(value, Nil | NilList | NilMap) for value in (first, other))
    raise OperationError(f"non-comparable type {to_text(other)}: {type_name(other)}")


def _is_something(value: object) -> bool:
    return value is not None and not isinstance(value, Nil)


def _ne(first: object, other: object) -> bool:
    return not _eq(first, other)


def _lt(first: object, other: object) -> bool:
    if not (_basic(first) and _basic(other)):
        raise OperationError("invalid type for comparison")
    if _basic(first) != _basic(other):
        raise OperationError(f"incompatible types for comparison: {type_name(first)} and {type_name(other)}")
    if isinstance(first, bool):
        raise OperationError("invalid type for comparison")
    if isinstance(first, str) and isinstance(other, str):
        return _bytes(first) < _bytes(other)
    return bool(first < other)  # type: ignore[operator]  # both are int, or both float


def _le(first: object, other: object) -> bool:
    return _lt(first, other) or _eq(first, other)


def _gt(first: object, other: object) -> bool:
    return not _le(first, other)


def _ge(first: object, other: object) -> bool:
    return not _lt(first, other)


# -- Docker's --------------------------------------------------------------------------------------


def _split(text: str, separator: str) -> list[str]:
    return text.split(separator) if separator else list(text)


def _join(texts: list[str], separator: str) -> str:
    check_size(len(separator) * len(texts) + sum(map(len, texts)))
    return separator.join(texts)


def _title(text: str) -> str:
    """Go's strings.Title: a letter after none is made big."""
    return "".join(
        char.upper() if _separates(before) and len(char.upper()) == 1 else char
        for before, char in zip(" " + text, text, strict=False)
    )


def _separates(char: str) -> bool:
    return not (char.isalnum() or char == "_") if char.isascii() else char.isspace()


def _pad(text: str, before: int, after: int) -> str:
    if not text:
        return text
    if before < 0 or after < 0:
        raise OperationError("strings: negative Repeat count")
    check_size(len(text) + before + after)
    return " " * before + text + " " * after


def _truncate(text: str, length: int) -> str:
    data = _bytes(text)
    if len(data) < length:
        return text
    if length < 0:
        raise OperationError(f"runtime error: slice bounds out of range [:{length}]")
    return data[:length].decode("utf-8", "surrogateescape")


def _lazily(*_: object) -> None:
    """Stand for `and` and `or`, which the evaluator does itself: they do not look at what they do not need."""


FUNCTIONS: Final[dict[str, Function]] = {
    "and": Function(_lazily, ("any",), is_open=True),
    "or": Function(_lazily, ("any",), is_open=True),
    "not": Function(lambda value: not is_true(value), ("any",)),
    "index": Function(_index, ("any", "any"), is_open=True),
    "slice": Function(_slice, ("any", "any"), is_open=True),
    "len": Function(_len, ("any",)),
    "print": Function(sprint, ("any",), is_open=True),
    "printf": Function(sprintf, ("string", "any"), is_open=True),
    "println": Function(sprintln, ("any",), is_open=True),
    "eq": Function(_eq, ("any", "any"), is_open=True),
    "ne": Function(_ne, ("any", "any")),
    "lt": Function(_lt, ("any", "any")),
    "le": Function(_le, ("any", "any")),
    "gt": Function(_gt, ("any", "any")),
    "ge": Function(_ge, ("any", "any")),
    "json": Function(to_json, ("any",)),
    "split": Function(_split, ("string", "string")),
    "join": Function(_join, ("[]string", "string")),
    "lower": Function(str.lower, ("string",)),
    "upper": Function(str.upper, ("string",)),
    "title": Function(_title, ("string",)),
    "truncate": Function(_truncate, ("string", "int")),
    "pad": Function(_pad, ("string", "int", "int")),
}
"""By name. An open function takes none or more of its last parameter."""

HEADER_FUNCTIONS: Final[dict[str, Function]] = {
    **FUNCTIONS,
    "json": Function(lambda text: text, ("string",)),
    "split": Function(lambda text, _: text, ("string", "string")),
    "join": Function(lambda text, _: text, ("string", "string")),
    "lower": Function(lambda text: text, ("string",)),
    "upper": Function(lambda text: text, ("string",)),
    "title": Function(lambda text: text, ("string",)),
    "truncate": Function(lambda text, _: text, ("string", "int")),
}
"""The same for the line of headers, which stay whole."""
