"""RUN steps: a command in a container of its own, in the root file system that a build holds.

A step has Docker's fourteen capabilities, as BuildKit's has, a host name of its own,
and the network that the build was asked for. Its supervisor is leashed: when the
build is gone, the next command ends it.
"""

import threading
from collections.abc import Iterable
from typing import Final

import msgspec

from onggi.base.errors import NotSupported
from onggi.build.graph import RunStep
from onggi.build.roots import OpenMount, Roots, find_user
from onggi.build.solver import Output
from onggi.engine.context import Context
from onggi.engine.networks import attach_lease, release
from onggi.engine.resolving import write_step_files
from onggi.engine.starting import ensure_refuge
from onggi.host.attach import STDERR, STDOUT, Attachment
from onggi.host.certs import host_certs_mount
from onggi.host.locks import take_lock
from onggi.host.reading import Stat
from onggi.host.selecting import find_missing, look
from onggi.host.tree import path_for_others
from onggi.plan.cgroup import plan_directories
from onggi.plan.container import Supervision, plan_container
from onggi.plan.network import Attachment as Place
from onggi.plan.network import NetworkPlan, plan_attachment
from onggi.plan.rootfs import Overlay
from onggi.runtime.bundle import Resolved, make_spec
from onggi.runtime.defaults import BUILD_CAPABILITIES, CAPABILITIES
from onggi.spec.container import ContainerRequest, LogRequest
from onggi.spec.image_config import ContainerConfig as ImageDefaults
from onggi.spec.passwd import Identity
from onggi.spec.runtime import Mount
from onggi.store.leases import Lease
from onggi.store.snapshots import Held

HOSTNAME: Final = "buildkitsandbox"
_STUBS: Final = (b"etc/resolv.conf", b"etc/hosts")


class StepRunner:
    """Runs the steps of one build."""

    def __init__(self, context: Context, *, lease: Lease, host_certs: bool) -> None:
        """Run in this state root; `host_certs` gives every step the host's certificate authorities."""
        self._context, self._lease, self._host_certs = context, lease, host_certs
        self._running: set[Attachment] = set()
        self._lock = threading.Lock()
        self._cancelled = False

    def cancel(self) -> None:
        """Kill every step that runs."""
        with self._lock:
            self._cancelled = True
            running = list(self._running)
        for attachment in running:
            attachment.kill_quietly()

    def run(self, held: Held, step: RunStep, roots: Roots, output: Output) -> int:
        """Run one step to its end; gives the exit code."""
        context = self._context
        id = context.root.new_id()
        run = context.run_directory(id)
        context.files.make_directory(run)
        with take_lock(f"{run}/owner", f"build step {id[:12]}", timeout_s=0):
            try:
                return self._run(id, run, held, step, roots, output)
            finally:
                self._finish(run)

    def _finish(self, run: str) -> None:
        """Wait until the supervisor has cleared away, so that the snapshot is free to become a layer."""
        context = self._context
        if context.files.look(f"{run}/lock") is not None:
            take_lock(f"{run}/lock", "the build step", timeout_s=30).close()
        context.root.discard(run)

    def _run(self, id: str, run: str, held: Held, step: RunStep, roots: Roots, output: Output) -> int:
        context = self._context
        facts = context.facts
        ensure_refuge(context, facts)
        cgroup = f"{context.cgroup_parent}/{id}"
        context.files.put_json(f"{run}/cgroups", plan_directories(cgroup, facts.cgroup))
        view = roots.view(held.snapshot.layers)
        with view:
            identity = find_user(view.fd, step.user)
            identity = msgspec.structs.replace(identity, groups=_with_own_group(identity))
            targets = (*(mount.target.encode() for mount, _ in step.mounts), *_STUBS)
            missing = self._not_yet(held, (find_missing(view.fd, target.strip(b"/")) for target in targets))
            etc = look(view.fd, b"etc")
        request = self._request(step)
        at = attach_lease(context, id, self._lease.id) if step.network == "default" else None
        mounts = self._mounts(run, step, roots.open_mounts(), at)
        resolved = Resolved(identity=identity, files=mounts, cgroups_path=cgroup)
        spec = make_spec(id, request, ImageDefaults(), resolved, facts)
        ours, theirs = Attachment.pair()
        inherited = [*held.lowers, theirs.fileno(), held.lock.fd]
        supervision = Supervision(
            run_directory=run,
            client=len(held.lowers),
            hold=len(held.lowers) + 1,
            supervisors=f"{context.cgroup_parent}/supervisors",
        )
        overlay = Overlay(lowers=tuple(range(len(held.lowers))), upper=held.upper, work=held.work, volatile=True)
        network = NetworkPlan() if at is None else plan_attachment(at)
        plan = plan_container(spec, overlay, supervision, facts, network=network)
        with ours:
            with theirs:
                ours.join(STDOUT | STDERR)
                context.launcher.run(plan, inherited, facts=facts)
            code = self._carry(ours, output)
        if at is not None:
            release(context, id)
        self._finish_stubs(held, run, missing, etc)
        return code

    def _carry(self, attachment: Attachment, output: Output) -> int:
        with self._lock:
            self._running.add(attachment)
            cancelled = self._cancelled
        try:
            if cancelled:
                attachment.kill_quietly()
            for stream, data in attachment.output():
                output(stream, data)
        finally:
            with self._lock:
                self._running.discard(attachment)
        end = attachment.end
        if end is None:
            return 137
        return 128 + end[1] if end[1] else end[0]

    def _finish_stubs(self, held: Held, run: str, missing: list[bytes], etc: Stat | None) -> None:
        """Take the empty files away that only were places to mount on: they never land in the layer."""
        assert held.upper is not None
        take_lock(f"{run}/lock", "the build step", timeout_s=30).close()
        self._context.files.remove_stubs(held.upper, missing, etc)

    def _not_yet(self, held: Held, places: Iterable[list[bytes]]) -> list[bytes]:
        """Leave out what the upper directory has: whoever unpacked a system into it wants those to stay."""
        assert held.upper is not None
        fd = self._context.files.open_directory(held.upper)
        try:
            return [place for found in places for place in found if look(fd, place) is None]
        finally:
            self._context.files.close(fd)

    def _request(self, step: RunStep) -> ContainerRequest:
        added = tuple(name for name in BUILD_CAPABILITIES if name not in CAPABILITIES)
        return ContainerRequest(
            entrypoint=(),
            command=step.argv,
            env=(*step.env, *step.proxies),
            user=step.user,
            workdir=step.workdir,
            hostname=HOSTNAME,
            network={"default": "bridge"}.get(step.network, step.network),
            cap_add=added,
            host_certs=self._host_certs,
            log=LogRequest(driver="none"),
        )

    def _mounts(self, run: str, step: RunStep, asked: tuple[OpenMount, ...], at: Place | None) -> tuple[Mount, ...]:
        """Give the mounts of a step. What is bound is named by its descriptor here."""
        mounts = list(write_step_files(self._context, run, self._request(step), step.hosts, at))
        if self._host_certs:
            mounts.append(host_certs_mount())
        if step.script is not None:
            target, content = step.script
            self._context.files.put(f"{run}/script", content.encode("utf-8", "surrogateescape"), mode=0o755)
            mounts.append(Mount(destination=target, type="bind", source=f"{run}/script", options=("rbind", "ro")))
        for item in asked:
            mount = item.mount
            mode = "ro" if mount.readonly else "rw"
            if mount.type == "tmpfs":
                size = (f"size={mount.size}",) if mount.size else ()
                options = ("nosuid", "nodev", "noexec", *size)
                mounts.append(Mount(destination=mount.target, type="tmpfs", source="tmpfs", options=options))
            elif item.fd is not None:
                source = path_for_others(item.fd)
                mounts.append(Mount(destination=mount.target, type="bind", source=source, options=("rbind", mode)))
            elif item.path is not None:
                mounts.append(Mount(destination=mount.target, type="bind", source=item.path, options=("rbind", mode)))
            else:
                raise NotSupported(f"a mount of type {mount.type} is not supported")
        return tuple(mounts)


def _with_own_group(identity: Identity) -> tuple[int, ...]:
    """The supplementary groups with the own one among them, as runc gets them (CVE-2022-36109)."""
    return (identity.gid, *(group for group in identity.groups if group != identity.gid))
