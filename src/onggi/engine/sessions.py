"""Exec sessions: a further process in a running container. Folding clears away what they leave."""

from collections.abc import Mapping
from typing import Final

import msgspec

from onggi.engine.context import Context
from onggi.engine.identity import read_users_beneath
from onggi.host.processes import open_process_root, own_namespaces
from onggi.plan.container import Supervision
from onggi.plan.exec import Target, plan_session
from onggi.plan.facts import Facts
from onggi.plan.ops import Plan
from onggi.runtime.bundle import container_capabilities, environment_of, process_of, seccomp_of
from onggi.spec.container import ContainerRequest
from onggi.spec.image_config import ContainerConfig as ImageDefaults
from onggi.spec.passwd import resolve_identity
from onggi.store.containers import Container

PREFIX: Final = "exec-"


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """What to run in a container; absent things are as the container's own process has them."""

    command: tuple[str, ...]
    env: tuple[str, ...] = ()
    user: str | None = None
    workdir: str | None = None
    tty: bool = False
    console_size: tuple[int, int] | None = None
    stdin: bool = False
    privileged: bool = False


def prepare_session(
    context: Context,
    container: Container,
    request: ContainerRequest,
    image: ImageDefaults,
    session: Session,
    cgroups: Mapping[str, str],
    *,
    client: int | None,
    facts: Facts,
) -> tuple[Plan, tuple[int, ...], str]:
    """Plan a session; gives the plan, what it inherits, and its run directory, which is made."""
    request = msgspec.structs.replace(
        request,
        command=session.command,
        entrypoint=(),
        tty=session.tty,
        console_size=session.console_size,
        workdir=session.workdir or request.workdir,
        privileged=request.privileged or session.privileged,
        env=(*request.env, *session.env),
        oom_score_adj=request.oom_score_adj,
    )
    user = session.user if session.user is not None else request.user if request.user is not None else image.user or ""
    passwd, group = _read_running_users(context, container.pid)
    identity = resolve_identity(user, request.groups, passwd=passwd, group=group)
    hostname = request.hostname if request.hostname is not None else container.id[:12]
    capabilities = container_capabilities(request)
    env = environment_of(request, image, identity, hostname)
    process = process_of(request, image, identity, env, capabilities, facts)
    run = f"{context.run_directory(container.id)}/{PREFIX}{context.root.new_id()[:16]}"
    context.files.make_directory(run)
    target = Target(pid=container.pid, namespaces=own_namespaces(container.pid), cgroups=cgroups)
    supervision = Supervision(
        run_directory=run,
        stdin=session.stdin,
        stdin_once=session.stdin,
        client=None if client is None else 0,
        supervisors=f"{context.cgroup_parent}/supervisors",
    )
    try:
        plan = plan_session(process, target, supervision, facts, seccomp=seccomp_of(request, capabilities, facts))
    except BaseException:
        context.root.discard(run)
        raise
    return plan, () if client is None else (client,), run


def _read_running_users(context: Context, pid: int) -> tuple[str, str]:
    """Read passwd and group through the process's root; what the container has mounted over them is not followed."""
    root = open_process_root(pid)
    try:
        return read_users_beneath(root)
    finally:
        context.files.close(root)
