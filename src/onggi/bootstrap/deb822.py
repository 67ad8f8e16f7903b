"""deb822(5): stanzas of `Field: value`. What Release files, package indices and `*.sources` are written in. Pure."""

from collections.abc import Iterator

from onggi.base.errors import Corrupt


def parse_stanzas(text: str) -> Iterator[dict[str, str]]:
    """Read stanzas. A line that begins with a space continues the field before; names are as they are written.

    A continued value has its lines stripped and joined by newlines. Raises Corrupt
    for a line that is neither, and for a field that a stanza has twice.
    """
    stanza: dict[str, str] = {}
    lines: list[str] = []
    for line in text.split("\n"):
        if line[:1] in (" ", "\t") and line.strip():
            if not stanza:
                raise Corrupt(f"a stanza begins with a continuation line: {line[:60]!r}")
            lines.append(line.strip())
            continue
        if lines:
            last = next(reversed(stanza))
            stanza[last] = "\n".join([stanza[last], *lines])
            lines = []
        if not line.strip():
            if stanza:
                yield stanza
            stanza = {}
        elif not line.startswith("#"):
            name, colon, value = line.partition(":")
            if not colon or not name or name in stanza:
                raise Corrupt(f"a stanza has a line that is no new field: {line[:60]!r}")
            stanza[name] = value.strip()
    if lines:
        last = next(reversed(stanza))
        stanza[last] = "\n".join([stanza[last], *lines])
    if stanza:
        yield stanza
