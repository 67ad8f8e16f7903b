"""The signals that STOPSIGNAL may name: moby's table for Linux."""

from typing import Final

_NAMES: Final = """
    ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT STOP SYS TERM TRAP TSTP
    TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ
"""
_MIN_OFFSETS: Final = 15
_MAX_OFFSETS: Final = 14


def is_signal(text: str) -> bool:
    """Tell whether this is a number but 0, or a name with or without `SIG`, `RTMIN+3` and the like."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    if digits.isascii() and digits.isdigit():
        return int(digits[:20]) != 0
    name = text.upper().removeprefix("SIG")
    if name in _NAMES.split() or name in ("RTMIN", "RTMAX"):
        return True
    offset = name[6:]
    most = {"RTMIN+": _MIN_OFFSETS, "RTMAX-": _MAX_OFFSETS}.get(name[:6], 0)
    return offset.isascii() and offset.isdigit() and offset == str(int(offset)) and 1 <= int(offset) <= most
