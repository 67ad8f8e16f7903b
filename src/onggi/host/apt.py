"""Which mirror the host itself uses: sources.list(5), in both of its forms."""

import os
from collections.abc import Iterator
from typing import Final

from onggi.base.errors import InvalidArgument

_MAX_BYTES: Final = 1 << 20


def find_mirror(distribution: str, root: str = "") -> str:
    """Find the host's mirror of `debian` or `ubuntu`. Raises InvalidArgument where it has none."""
    wanted = tuple(f"/{name}" for name in ((distribution,) if distribution == "debian" else ("ubuntu", "ubuntu-ports")))
    for uri in _uris(root):
        if uri.rstrip("/").endswith(wanted) and uri.startswith(("http://", "https://")):
            return uri.rstrip("/")
    raise InvalidArgument(
        f"this host's apt configuration names no mirror of {distribution}; say which one to use: --mirror URL"
    )


def _uris(root: str) -> Iterator[str]:
    directory = f"{root}/etc/apt/sources.list.d"
    names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    for path in (f"{root}/etc/apt/sources.list", *(f"{directory}/{name}" for name in names)):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read(_MAX_BYTES)
        except OSError:
            continue
        for line in text.splitlines():
            words = line.split()
            if words[:1] == ["URIs:"]:
                yield from words[1:]
            elif words[:1] == ["deb"]:
                yield from (word for word in words[1:] if "://" in word)
