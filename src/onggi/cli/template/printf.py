"""Go's fmt for the functions print, println and printf."""

import re
from typing import Any, Final

from onggi.cli.quoting import quote
from onggi.cli.template.values import OperationError, check_size, float_text, to_text, type_name

MAX_WIDTH: Final = 1_000_000
_VERB: Final = re.compile(r"%([-+# 0]*)(\*|\d*)(?:(\.)(\*|\d*))?(.?)", re.DOTALL)


def sprint(*values: object) -> str:
    """Join with a space between two that are both no texts."""
    pieces = []
    for number, value in enumerate(values):
        if number and not isinstance(value, str) and not isinstance(values[number - 1], str):
            pieces.append(" ")
        pieces.append(to_text(value))
        check_size(sum(map(len, pieces)))
    return "".join(pieces)


def sprintln(*values: object) -> str:
    """Join with spaces, and end the line."""
    pieces = [to_text(value) for value in values]
    check_size(sum(map(len, pieces)))
    return " ".join(pieces) + "\n"


def sprintf(pattern: str, *values: object) -> str:
    """Fill in a pattern; what does not fit is said in the output, as Go does."""
    arguments = list(values)
    taken = size = 0

    def take() -> Any:
        nonlocal taken
        taken += 1
        return arguments[taken - 1] if taken <= len(arguments) else _MISSING

    def star(word: str, problem: str) -> tuple[int | None, str]:
        if word != "*":
            return (int(word) if word else None), ""
        value = take()
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_WIDTH:
            return value, ""
        return None, f"%!({problem})"

    def fill(found: re.Match[str]) -> str:
        nonlocal size
        text = fill_one(found)
        size += len(text)
        check_size(size)
        return text

    def fill_one(found: re.Match[str]) -> str:
        flags, width_word, dot, precision_word, verb = found.groups()
        if len(width_word) > 7 or len(precision_word or "") > 7:
            return "%!(NOVERB)"
        width, wrong = star(width_word, "BADWIDTH")
        precision, wrong_precision = star(precision_word or "", "BADPREC") if dot else (None, "")
        if dot and precision is None and not wrong_precision:
            precision = 0
        if (width or 0) > MAX_WIDTH or (precision or 0) > MAX_WIDTH:
            return "%!(BADWIDTH)"
        if not verb:
            return "%!(NOVERB)"
        if verb == "%":
            return "%"
        if width is not None and width < 0:
            flags, width = f"{flags}-", -width
        value = take()
        if value is _MISSING:
            return f"%!{verb}(MISSING)"
        return wrong + wrong_precision + _format(_Layout(flags, width or 0, precision), verb, value)

    out = _VERB.sub(fill, pattern)
    if taken < len(arguments):
        rest = ", ".join("<nil>" if v is None else f"{type_name(v)}={to_text(v)}" for v in arguments[taken:])
        out += f"%!(EXTRA {rest})"
    return out


_MISSING: Final = object()


class _Layout:
    def __init__(self, flags: str, width: int, precision: int | None) -> None:
        self.minus, self.plus, self.sharp, self.space = "-" in flags, "+" in flags, "#" in flags, " " in flags
        self.zero = "0" in flags and not self.minus
        self.width, self.precision = width, precision

    def pad(self, text: str, *, zeros: bool = False) -> str:
        if self.minus:
            return text.ljust(self.width)
        if zeros and self.zero:
            sign = text[:1] if text[:1] in "+-" else ""
            return sign + text[len(sign) :].rjust(self.width - len(sign), "0")
        return text.rjust(self.width)


def _format(layout: _Layout, verb: str, value: Any) -> str:
    if verb == "T":
        return layout.pad("<nil>" if value is None else type_name(value))
    if value is None:
        return layout.pad("<nil>") if verb == "v" else f"%!{verb}(<nil>)"
    if isinstance(value, list):
        return f"[{' '.join(_inner(layout, verb, item) for item in value)}]"
    if isinstance(value, dict):
        shown = (f"{_format(layout, verb, key)}:{_inner(layout, verb, value[key])}" for key in sorted(value))
        return f"map[{' '.join(shown)}]"
    shown_value = _scalar(layout, verb, value)
    return f"%!{verb}({type_name(value)}={to_text(value)})" if shown_value is None else shown_value


def _inner(layout: _Layout, verb: str, value: Any) -> str:
    return layout.pad("<nil>") if value is None else _format(layout, verb, value)


def _scalar(layout: _Layout, verb: str, value: Any) -> str | None:
    """Print one value, or None for a verb that is not for its type."""
    if isinstance(value, bool):
        return layout.pad("true" if value else "false") if verb in "tv" else None
    if isinstance(value, str):
        return _text(layout, verb, value)
    if isinstance(value, float):
        if verb not in "veEfFgG":
            return None
        text = float_text(value, "g" if verb == "v" else verb, layout.precision)
        return layout.pad(_signed(layout, text), zeros=True)
    if isinstance(value, int):
        return _integer(layout, verb, value)
    raise OperationError(f"cannot print {type_name(value)}")


def _signed(layout: _Layout, text: str) -> str:
    if text.startswith(("-", "+")):
        return text
    return f"+{text}" if layout.plus else f" {text}" if layout.space else text


def _text(layout: _Layout, verb: str, value: str) -> str | None:
    if verb in "xX":
        digits = value.encode("utf-8", "surrogateescape").hex()
        return layout.pad(digits.upper() if verb == "X" else digits)
    if verb not in "svq":
        return None
    cut = value if layout.precision is None else value[: layout.precision]
    if verb == "q" or (verb == "v" and layout.sharp):
        if layout.sharp and verb == "q" and "`" not in cut and cut.isprintable():
            return layout.pad(f"`{cut}`")
        return layout.pad(quote(cut, ascii_only=layout.plus and verb == "q"))
    return layout.pad(cut, zeros=True)


def _integer(layout: _Layout, verb: str, value: int) -> str | None:
    sign = "-" if value < 0 else ""
    match verb:
        case "v" | "d":
            digits = str(abs(value))
        case "x" | "X" | "o" | "b":
            prefix = {"x": "0x", "X": "0X", "o": "0", "b": "0b"}[verb] if layout.sharp else ""
            digits = prefix + format(abs(value), verb)
        case "O":
            digits = f"0o{abs(value):o}"
        case "c":
            return layout.pad(_character(value))
        case "q":
            text = quote(_character(value))[1:-1].replace('\\"', '"')
            return layout.pad(f"'{text}'" if text != "'" else "'\\''")
        case "U":
            return layout.pad(f"U+{value:04X}")
        case _:
            return None
    if layout.precision is not None:
        digits = digits.rjust(layout.precision, "0")
        return layout.pad(_signed(layout, sign + digits))
    return layout.pad(_signed(layout, sign + digits), zeros=True)


def _character(value: int) -> str:
    return chr(value) if 0 <= value <= 0x10FFFF and not 0xD800 <= value < 0xE000 else "\ufffd"
