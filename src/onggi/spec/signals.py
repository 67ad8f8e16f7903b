"""Names of signals as `kill`, `--stop-signal` and STOPSIGNAL take them: signal(7); the same on x86-64 and aarch64."""

from typing import Final

_NAMES: Final = [
    "HUP",
    "INT",
    "QUIT",
    "ILL",
    "TRAP",
    "ABRT",
    "BUS",
    "FPE",
    "KILL",
    "USR1",
    "SEGV",
    "USR2",
    "PIPE",
    "ALRM",
    "TERM",
    "STKFLT",
    "CHLD",
    "CONT",
    "STOP",
    "TSTP",
    "TTIN",
    "TTOU",
    "URG",
    "XCPU",
    "XFSZ",
    "VTALRM",
    "PROF",
    "WINCH",
    "IO",
    "PWR",
    "SYS",
]
_NUMBERS: Final = {name: number for number, name in enumerate(_NAMES, 1)} | {"IOT": 6, "CLD": 17, "POLL": 29}
RTMIN: Final = 34
"""The first that libc leaves to programs."""
RTMAX: Final = 64


def parse_signal(text: str) -> int | None:
    """Read `KILL`, `SIGKILL`, `9`, `RTMIN+3`, `RTMAX-2`; None if it is none."""
    if text.isascii() and text.isdigit():
        return int(text) if 0 < int(text[:4]) <= RTMAX and len(text) < 4 else None
    name = text.upper().removeprefix("SIG")
    if name[:5] in ("RTMIN", "RTMAX"):
        base, offset = (RTMIN if name[:5] == "RTMIN" else RTMAX), name[5:]
        if not offset:
            return base
        sign, digits = offset[0], offset[1:]
        if sign not in "+-" or not (digits.isascii() and digits.isdigit() and len(digits) < 3):
            return None
        number = base + int(offset)
        return number if RTMIN <= number <= RTMAX else None
    return _NUMBERS.get(name)
