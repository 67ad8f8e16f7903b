"""The values of templates: what of Go's type system plain data need, and how Go prints them (fmt, encoding/json).

None bool int float str          as they are; texts count in bytes where Go's do
list                             a slice, of texts where all are
dict, Object                     an object: a name that it does not have is an error
Map                              a Go map: a key that it does not have is nothing
Row                              an object of a list, with methods
NIL                              a pointer to nothing
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

MAX_OUTPUT: Final = 16 << 20
"""How much one execution may print, in characters."""
MAX_TEXT: Final = 4 << 20
"""How long one value may become."""


class TemplateError(Exception):
    """A template is wrong, or does not fit the data: `str()` is Go's text."""


class OperationError(Exception):
    """A function cannot do this with these arguments."""


def check_size(characters: int) -> None:
    """Refuse a text that is too long before it is made. Raises OperationError."""
    if characters > MAX_TEXT:
        raise OperationError(f"more than {MAX_TEXT} characters")


class Map(dict[str, Any]):
    """A map with keys that the user chose; `zero` is what `index` gives for one that is not there."""

    def __init__(self, items: Mapping[str, Any], zero: object = "") -> None:
        """Hold these."""
        super().__init__(items)
        self.zero = zero


class NilMap(Map):
    """A map that was never made: empty, and null in JSON."""

    def __init__(self) -> None:
        """Hold nothing."""
        super().__init__({})


class NilList(list[Any]):
    """A slice that was never made: empty, and null in JSON."""


class Nil:
    """A pointer to nothing."""

    def __bool__(self) -> bool:
        """Be false."""
        return False


NIL: Final = Nil()


class Object(dict[str, Any]):
    """An object; `silent` are fields that it has, but that JSON does not show since they are empty."""

    def __init__(self, items: Mapping[str, Any], silent: Mapping[str, Any]) -> None:
        """Hold these."""
        super().__init__(items)
        self.silent = silent


class Method:
    """A function that belongs to an object, as `Label` of a container; `parameters` are `string` or `int`."""

    def __init__(self, function: Callable[..., object], *parameters: str) -> None:
        """Call this."""
        self.function, self.parameters = function, parameters


class Row(dict[str, Any]):
    """One line of a list; `kind` names it in errors."""

    def __init__(self, items: Mapping[str, Any], kind: str) -> None:
        """Hold these."""
        super().__init__(items)
        self.kind = kind


def type_name(value: object) -> str:
    """Name a type as Go's errors do."""
    match value:
        case bool():
            return "bool"
        case int():
            return "int"
        case float():
            return "float64"
        case str():
            return "string"
        case Row():
            return value.kind
        case Map(zero=str()):
            return "map[string]string"
        case dict():
            return "map[string]interface {}"
        case list():
            return "[]string" if is_texts(value) else "[]interface {}"
    return "nil"


def is_texts(value: object) -> bool:
    """Whether this is a list of texts."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value) and bool(value)


def is_true(value: object) -> bool:
    """Go's truth: not nothing, not zero, not empty."""
    return isinstance(value, Row) or bool(value)


def to_text(value: object) -> str:
    """Print a value as %v does."""
    match value:
        case None | Nil():
            return "<nil>"
        case bool():
            return "true" if value else "false"
        case float():
            return float_text(value, "g", None)
        case str():
            return value
        case list():
            return f"[{' '.join(to_text(item) for item in value)}]"
        case dict():
            shown = (f"{key}:{to_text(value[key])}" for key in _data_keys(value))
            return f"map[{' '.join(shown)}]" if value or isinstance(value, Map) else "{}"
    return str(value)


def float_text(value: float, verb: str, precision: int | None) -> str:
    """Print a number as Go's %e, %f and %g do; without a precision with as few digits as tell it apart."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    if verb in "eE" or (precision is not None and verb in "fF"):
        return f"{value:.{6 if precision is None else precision}{verb}}"
    if verb in "fF":
        return f"{value:.6f}"
    if precision is not None:
        return f"{value:.{max(precision, 1)}{verb}}"
    digits = repr(value)
    mantissa, _, exponent = f"{value:.{max(len(_significant(digits)) - 1, 0)}e}".partition("e")
    if -4 <= int(exponent) < 6:
        return format(value, ".0f") if value == int(value) else _plain(digits)
    return f"{mantissa}e{exponent}"


def _significant(digits: str) -> str:
    return digits.partition("e")[0].replace(".", "").lstrip("-0").rstrip("0")


def _plain(digits: str) -> str:
    """Write a small number without an exponent."""
    if "e" not in digits:
        return digits
    mantissa, _, exponent = digits.partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    return f"{sign}0.{'0' * (-int(exponent) - 1)}{mantissa.lstrip('-').replace('.', '')}"


def _data_keys(value: dict[Any, Any]) -> list[Any]:
    return sorted(key for key in value if not isinstance(value[key], Method))


def to_json(value: object) -> str:
    """Encode as Docker's function `json` does: an object in its own order, maps and rows sorted."""
    return "".join(_json(value, html=False))


_JSON_ESCAPES: Final = re.compile('[\x00-\x1f"\\\\\u2028\u2029\ud800-\udfff]')
_JSON_HTML_ESCAPES: Final = re.compile('[\x00-\x1f"\\\\\u2028\u2029\ud800-\udfff<>&]')
_JSON_SHORT: Final = {"\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\", '"': '\\"'}


def _json(value: object, *, html: bool) -> Iterator[str]:
    match value:
        case None | Nil() | NilList() | NilMap():
            yield "null"
        case bool():
            yield "true" if value else "false"
        case int():
            yield str(value)
        case float():
            yield _json_float(value)
        case str():
            pattern = _JSON_HTML_ESCAPES if html else _JSON_ESCAPES
            yield f'"{pattern.sub(_json_escape, value)}"'
        case list():
            yield "["
            for number, item in enumerate(value):
                yield "," if number else ""
                yield from _json(item, html=html)
            yield "]"
        case dict():
            # A row encodes itself, with Go's default escapes.
            html = html or isinstance(value, Row)
            keys = _data_keys(value) if isinstance(value, Map | Row) else list(value)
            yield "{"
            for number, key in enumerate(keys):
                yield "," if number else ""
                yield from _json(str(key), html=html)
                yield ":"
                yield from _json(value[key], html=html)
            yield "}"
        case _:
            raise OperationError(f"json: unsupported type: {type_name(value)}")


def _json_escape(found: re.Match[str]) -> str:
    char = found[0]
    if "\ud800" <= char <= "\udfff":
        return "\\ufffd"
    return _JSON_SHORT.get(char) or f"\\u{ord(char):04x}"


def _json_float(value: float) -> str:
    if not math.isfinite(value):
        raise OperationError(f"json: unsupported value: {float_text(value, 'g', None)}")
    if value and not 1e-6 <= abs(value) < 1e21:
        text = float_text(value, "g", None)
        return re.sub(r"e-0(\d)$", r"e-\1", text)
    return format(value, ".0f") if value == int(value) else _plain(repr(value))
