"""Reads cases.txt: small Dockerfiles with their contexts, in the format that its head explains."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tests.truth.world import Case, Directory, Entry, File, Hard, Link, make_tar

ABC: Final[Mapping[str, Entry]] = {"a": "A\n", "b": "B\n", "c": "C\n"}
TREE: Final[Mapping[str, Entry]] = {
    "d": Directory(0o700),
    "d/one": File("1\n", 0o600),
    "d/two.txt": "2\n",
    "d/sub": Directory(0o711),
    "d/sub/three.txt": File("3\n", 0o755),
    "d/sub/deep/four": "4\n",
    "top.txt": "top\n",
}
_SHARED: Final = {"+abc": ABC, "+tree": TREE}
_MAPS: Final = {"arg": "args", "label": "labels", "context": "contexts"}


def read_cases(text: str) -> Iterator[tuple[str, Case]]:
    """Give the cases of a file in its order."""
    for part in f"\n{text}".split("\n==== ")[1:]:
        name, _, rest = part.partition("\n")
        body, *files = rest.rstrip("\n").split("\n---- ")
        lines = body.split("\n")
        options = [line.removeprefix(":: ") for line in lines if line.startswith(":: ")]
        dockerfile = "".join(f"{line}\n" for line in lines if not line.startswith(":: "))
        yield name, _case(dockerfile, options, files)


def _case(dockerfile: str, options: list[str], files: list[str]) -> Case:
    values: dict[str, Any] = {"args": {}, "labels": {}, "contexts": {}, "hosts": ()}
    entries: dict[str, Entry] = {}
    for option in options:
        kind, _, value = option.partition(" ")
        if kind in _SHARED:
            entries.update(_SHARED[kind])
        elif kind in _MAPS:
            values[_MAPS[kind]].update([value.partition("=")[::2]])
        elif kind == "host":
            values["hosts"] += (value,)
        elif kind == "crlf":
            dockerfile = dockerfile.replace("\n", "\r\n")
        elif kind == "rewrite":
            values[kind] = True
        elif kind == "bom":
            dockerfile = f"\ufeff{dockerfile}"
        else:
            assert kind in ("target", "file", "error"), f"unknown option {option!r}"
            values[kind] = value
    entries.update(_entry(file) for file in files)
    return Case(dockerfile=dockerfile, files=entries, **values)


def _entry(text: str) -> tuple[str, Entry]:
    head, _, body = text.partition("\n")
    if body:
        body += "\n"
    for sign, kind in ((" -> ", Link), (" == ", Hard)):
        name, found, target = head.partition(sign)
        if found:
            return name, kind(target)
    name, _, rest = head.rpartition('"') if head.startswith('"') else head.partition(" ")
    name, rest = name.strip('"'), rest.strip()
    if rest in ("tar", "tar.gz"):
        return name, make_tar(body.splitlines(), compress=rest == "tar.gz")
    if name.endswith("/"):
        return name.rstrip("/"), Directory(int(rest, 8))
    return name, File(body, int(rest, 8)) if rest else body


CASES: Final = dict(read_cases((Path(__file__).parent / "cases.txt").read_text()))
