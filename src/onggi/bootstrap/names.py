"""The names that `image bootstrap` knows: `busybox`, `debian:bookworm-slim`, `ubuntu:noble`. Pure."""

from typing import Final

import msgspec

from onggi.base.errors import OnggiError
from onggi.spec.reference import parse_reference

_SLIM: Final = "-slim"
_DEBIAN: Final = {
    **{name: name for name in ("bookworm", "trixie", "forky", "sid", "unstable", "stable", "oldstable", "testing")},
    "latest": "stable",
    "12": "bookworm",
    "13": "trixie",
    "14": "forky",
}
_UBUNTU: Final = {
    **{name: name for name in ("jammy", "noble", "resolute", "devel")},
    "latest": "noble",
    "22.04": "jammy",
    "24.04": "noble",
    "26.04": "resolute",
}
SUITES: Final = {"busybox": {"latest": "stable"}, "debian": _DEBIAN, "ubuntu": _UBUNTU}
"""Tag → suite of the archive, by image. Suites like `stable` are what the archive says they are today."""
KNOWN: Final = "busybox, debian[:SUITE[-slim]] (bookworm, trixie, sid, …) and, on Ubuntu hosts, ubuntu[:SUITE]"


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a name asks for: `kind` is debian, ubuntu or busybox."""

    kind: str
    suite: str
    slim: bool
    reference: str

    @property
    def distribution(self) -> str:
        """Whose archive it is made from."""
        return "ubuntu" if self.kind == "ubuntu" else "debian"


def parse_name(name: str) -> Wanted | None:
    """Read a name; None for one that nobody can make."""
    try:
        reference = parse_reference(name).with_default_tag()
    except OnggiError:
        return None
    kind, tag = reference.familiar_name, reference.tag
    if tag is None or reference.digest is not None or kind not in SUITES:
        return None
    slim = kind == "debian" and tag.endswith(_SLIM)
    suite = SUITES[kind].get(tag.removesuffix(_SLIM) if slim else tag)
    return None if suite is None else Wanted(kind=kind, suite=suite, slim=slim, reference=reference.familiar)
