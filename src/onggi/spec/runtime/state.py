"""The state of a container, as `state` prints it and hooks and seccomp agents receive it (runtime.md#state)."""

from enum import StrEnum

from ._base import Int64, Object, Strings


class ContainerState(StrEnum):
    """Where in its life a container is."""

    CREATING = "creating"
    CREATED = "created"
    RUNNING = "running"
    STOPPED = "stopped"


class State(Object, frozen=True, kw_only=True):
    """One container; `status` is a ContainerState, but a runtime may add values (runc: `paused`)."""

    oci_version: str
    id: str
    status: str
    pid: Int64 | None = None
    bundle: str
    annotations: dict[str, str] | None = None


class ContainerProcessState(Object, frozen=True, kw_only=True):
    """What a seccomp agent gets with the descriptors; `fds` names them in order (config-linux.md)."""

    oci_version: str
    fds: Strings | None = None
    pid: Int64
    metadata: str | None = None
    state: State
