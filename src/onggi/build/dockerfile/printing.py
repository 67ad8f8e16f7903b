"""What BuildKit writes into an image's history for each instruction (`created_by`), from values already expanded."""

from collections.abc import Iterable, Sequence
from typing import Final

from onggi.base.units import format_duration
from onggi.spec.image_config import Healthcheck

from .heredocs import run_script
from .instructions import CommandForm, Copy, Heredoc
from .quoting import REPLACEMENT, quote, quote_list

_BUILDKIT: Final = " # buildkit"
Pairs = Iterable[tuple[str, str]]


def run(argv: Sequence[str], args: Pairs = (), *, shell: bool = False, heredocs: tuple[Heredoc, ...] = ()) -> str:
    """`RUN |1 a=b /bin/sh -c …`.

    `args`: every ARG declared so far, in the order of first declaration, "" for one
    without a value, and the value of the ENV of the same name where there is one.
    With here-documents the last of `argv` is the command line as written.
    """
    words = list(argv)
    if shell and heredocs:
        words[-1] = run_script(CommandForm(words=(argv[-1],), shell=True, heredocs=heredocs)).argument
    used = [f"{name}={value}" for name, value in args]
    if used:
        used = [f"|{len(used)}", *used]
    return f"RUN {' '.join((*used, *words))}{_BUILDKIT}"


def copy(
    instruction: Copy,
    sources: Sequence[str],
    destination: str,
    *,
    chown: str | None = None,
    chmod: str | None = None,
) -> str:
    """`COPY --chown=1:2 src … dst`, also for ADD; a here-document is a source `<<NAME`, after the files.

    `chown` and `chmod` are the flags expanded; without them they are as written.
    """
    owner, mode = chown or instruction.chown, chmod or instruction.chmod
    flags = [f"--chown={owner}"] if owner else []
    flags += [f"--chmod={mode}"] if mode else []
    verb = "ADD" if instruction.add else "COPY"
    return f"{' '.join((verb, *flags, *sources, destination))}{_BUILDKIT}"


def env(pairs: Pairs) -> str:
    """`ENV a=b c=d`."""
    return _pairs("ENV", pairs)


def label(pairs: Pairs) -> str:
    """`LABEL a=b c=d`."""
    return _pairs("LABEL", pairs)


def _pairs(verb: str, pairs: Pairs) -> str:
    return " ".join((verb, *(f"{key}={value}" for key, value in pairs)))


def arg(names: Iterable[tuple[str, str | None]]) -> str:
    """`ARG a=1 b`: with the value it has, be it the default, passed, or built in."""
    return " ".join(("ARG", *(name if value is None else f"{name}={value}" for name, value in names)))


def cmd(words: Sequence[str]) -> str:
    """`CMD ["/bin/sh" "-c" "x"]`."""
    return f"CMD {quote_list(words)}"


def entrypoint(words: Sequence[str]) -> str:
    """`ENTRYPOINT ["a" "b"]`."""
    return f"ENTRYPOINT {quote_list(words)}"


def shell(words: Sequence[str]) -> str:
    """`SHELL [/bin/bash -c]`."""
    return f"SHELL [{' '.join(words)}]"


def expose(ports: Sequence[str]) -> str:
    """`EXPOSE [80/tcp 443/udp]`."""
    return f"EXPOSE [{' '.join(ports)}]"


def volume(paths: Sequence[str]) -> str:
    """`VOLUME [/a /b]`."""
    return f"VOLUME [{' '.join(paths)}]"


def workdir(path: str) -> str:
    """`WORKDIR /a`: the absolute path."""
    return f"WORKDIR {path}"


def user(name: str) -> str:
    """`USER a:b`."""
    return f"USER {name}"


def stopsignal(signal: str) -> str:
    """`STOPSIGNAL SIGTERM`."""
    return f"STOPSIGNAL {signal}"


def maintainer(name: str) -> str:
    """`MAINTAINER me`."""
    return f"MAINTAINER {name}"


def healthcheck(check: Healthcheck) -> str:
    r"""`HEALTHCHECK &{["CMD-SHELL" "x"] "5s" "0s" "0s" "0s" '\x03'}`: Go's %q of the whole, the number a character."""
    times = (check.interval, check.timeout, check.start_period, check.start_interval)
    shown = " ".join(quote(format_duration(time or 0)) for time in times)
    return f"HEALTHCHECK &{{{quote_list(check.test or ())} {shown} {_quote_number(check.retries or 0)}}}"


def _quote_number(number: int) -> str:
    """Quote a number as the character of that code, as Go's %q does."""
    surrogate = 0xD800 <= number <= 0xDFFF
    char = REPLACEMENT if surrogate or not 0 <= number <= 0x10FFFF else chr(number)
    if char == "'":
        return "'\\''"
    return "'\"'" if char == '"' else f"'{quote(char)[1:-1]}'"
