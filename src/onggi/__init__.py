"""Onggi: a container platform in one wheel.

    from onggi import ContainerRequest, Engine

    with Engine() as engine, engine.containers.run("hello") as container:
        container.wait()
        print("".join(line.log for line in container.logs()))

Importing does nothing and loads little: names are looked up when they are used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onggi.base.errors import (
        Cancelled,
        Conflict,
        Corrupt,
        FailedPrecondition,
        InvalidArgument,
        NotFound,
        NotSupported,
        OnggiError,
        PermissionDenied,
        Unauthorized,
        Unavailable,
    )
    from onggi.engine.assemble import Engine
    from onggi.engine.handles import ExecResult
    from onggi.engine.handles import Handle as Container
    from onggi.host.launcher import LaunchFailed
    from onggi.spec.container import ContainerRequest, MountRequest, ResourceRequest
    from onggi.store.volumes import Volume

_ERRORS = (
    "Cancelled",
    "Conflict",
    "Corrupt",
    "FailedPrecondition",
    "InvalidArgument",
    "NotFound",
    "NotSupported",
    "OnggiError",
    "PermissionDenied",
    "Unauthorized",
    "Unavailable",
)
_PLACES = {
    **dict.fromkeys(_ERRORS, ("onggi.base.errors", "")),
    "Engine": ("onggi.engine.assemble", ""),
    "ExecResult": ("onggi.engine.handles", ""),
    "Container": ("onggi.engine.handles", "Handle"),
    "LaunchFailed": ("onggi.host.launcher", ""),
    "ContainerRequest": ("onggi.spec.container", ""),
    "MountRequest": ("onggi.spec.container", ""),
    "ResourceRequest": ("onggi.spec.container", ""),
    "Volume": ("onggi.store.volumes", ""),
}

__all__ = [
    "Cancelled",
    "Conflict",
    "Container",
    "ContainerRequest",
    "Corrupt",
    "Engine",
    "ExecResult",
    "FailedPrecondition",
    "InvalidArgument",
    "LaunchFailed",
    "MountRequest",
    "NotFound",
    "NotSupported",
    "OnggiError",
    "PermissionDenied",
    "ResourceRequest",
    "Unauthorized",
    "Unavailable",
    "Volume",
]


def __getattr__(name: str) -> Any:
    """Load what is asked for (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module 'onggi' has no attribute {name!r}")
    from importlib import import_module

    place, real = _PLACES[name]
    value = getattr(import_module(place), real or name)
    globals()[name] = value
    return value
