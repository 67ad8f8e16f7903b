"""The whole of config.json (runtime-spec config.md, version 1.3.0)."""

from typing import Final

from ._base import Object
from .linux import Linux
from .process import Hooks, Mount, Process, Root
from .vm import VM

OCI_VERSION: Final = "1.3.0"
"""The runtime-spec that these types follow, `ociVersion` of what Onggi writes."""


class Spec(Object, frozen=True, kw_only=True):
    """A bundle's config.json; the sections of other systems than Linux are not kept."""

    oci_version: str
    process: Process | None = None
    root: Root | None = None
    hostname: str | None = None
    domainname: str | None = None
    mounts: tuple[Mount, ...] | None = None
    hooks: Hooks | None = None
    annotations: dict[str, str] | None = None
    linux: Linux | None = None
    vm: VM | None = None
