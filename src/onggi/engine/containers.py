"""Containers as users know them: made, started, stopped, looked at, removed.

The store keeps the rows, supervisors keep the processes; this joins the two under each
container's lock and in the order that a kill at any moment forgives.
"""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from onggi.base.errors import (
    Conflict,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OnggiError,
)
from onggi.base.ids import ContainerID, random_name
from onggi.engine.committing import changes_of, commit_container, export_container, size_of
from onggi.engine.context import Context
from onggi.engine.folding import Folding, remove_records
from onggi.engine.handles import Handle
from onggi.engine.images import Images
from onggi.engine.mounting import complete_mounts, fill_volumes, make_bind_sources, new_volumes
from onggi.engine.networks import NetworkSettings, describe
from onggi.engine.places import Places, container_places
from onggi.engine.sessions import PREFIX, Session, prepare_session
from onggi.engine.starting import (
    LOG_NAME,
    Spawn,
    decode_request,
    expand_devices,
    explain_launch,
    find_devices,
    launch,
    spawning,
)
from onggi.engine.waiting import wait_end
from onggi.host.attach import Attachment
from onggi.host.cgroupfs import Statistics, freeze, processes, read_statistics, thaw, update_limits
from onggi.host.hostfiles import read_host_name
from onggi.host.launcher import LaunchFailed
from onggi.host.logs import LogLine, read_logs
from onggi.plan.cgroup import parse_parent, plan_directories, plan_update
from onggi.plan.facts import Facts
from onggi.plan.namespaces import namespace_file
from onggi.plan.ops import Plan
from onggi.runtime.bundle import merge_resources, resources_of
from onggi.runtime.fitting import fit_limits
from onggi.runtime.lifecycle import LIVE, State, Verb, is_done, legal_from, next_state
from onggi.spec import signals
from onggi.spec.container import (
    ContainerRequest,
    ResourceRequest,
    check_limits,
    check_limits_change,
    check_network,
    print_request,
)
from onggi.spec.image_config import ContainerConfig as ImageDefaults
from onggi.spec.reference import parse_reference
from onggi.store.containers import Change, Container
from onggi.store.images import Image

if TYPE_CHECKING:
    from onggi.engine.copying import ContainerFiles
    from onggi.store.tar.pack import Sink

STOP_TIMEOUT_S: Final = 10
_NAME_ATTEMPTS: Final = 8
_KILL_TIMEOUT_S: Final = 10
_REMOVE_TIMEOUT_S: Final = 30
_REMOVE_ATTEMPTS: Final = 10


class Containers:
    """The containers of an engine. Every `ref` is a name, an id, or the beginning of one."""

    def __init__(self, context: Context, folding: Folding, images: Images) -> None:
        """Work on this root."""
        self._context, self._folding, self._images = context, folding, images

    # -- looking -----------------------------------------------------------------------------------

    def get(self, ref: str) -> Container:
        """Find one. Raises NotFound or InvalidArgument with Docker's texts."""
        found = self._context.containers.get(ref)
        # An end that somebody else is recording at this moment is waited for: who saw it may act on it.
        self._folding.fold(found.id, wait=found.state in LIVE)
        now = self._context.containers.get(found.id)
        if now.state not in LIVE or found.state in LIVE:
            return now
        # Its start was recorded just now, by somebody who had its lock; it may be over already.
        self._folding.fold(found.id, wait=True)
        return self._context.containers.get(found.id)

    def list(self, *, every: bool = False) -> list[Container]:
        """List running and paused containers, or with `every` all that have a name, newest first."""
        self._folding.fold_all()
        states = None if every else LIVE
        return [c for c in self._context.containers.list(states) if c.name is not None]

    def recorded(self, states: tuple[str, ...]) -> tuple[Container, ...]:
        """List what the records say, without looking whether it is still true."""
        return tuple(self._context.containers.list(states))

    def is_settled(self, id: str) -> bool:
        """Fold a container that has ended; False while there is still something to clear away. Raises NotFound."""
        self._folding.fold(id)
        container = self._context.containers.get(id)
        cleared = self._context.files.look(self._context.run_directory(id)) is None
        return container.state in LIVE or (cleared and not container.auto_remove)

    def connect_any(self, id: str) -> Attachment:
        """Connect to a container's supervisor, whatever its state."""
        return Attachment.connect(self._context.run_directory(id))

    def request(self, ref: str) -> ContainerRequest:
        """Give the request that a container was created with."""
        return decode_request(self.get(ref))

    def image_defaults(self, container: Container) -> ImageDefaults:
        """Give what the container's image says on how to run it."""
        return self._images.defaults(container.image) if container.image else ImageDefaults()

    def pids(self, ref: str) -> tuple[int, ...]:
        """List the host pids of all processes of a running container."""
        return self._pids_of(self._require_alive(self.get(ref)))

    def _pids_of(self, container: Container) -> tuple[int, ...]:
        directory = next(iter(self._cgroups(container).values()), None)
        return () if directory is None else processes(directory)

    def statistics(self, ref: str) -> Statistics:
        """Read what a running container uses now."""
        return read_statistics(self._cgroups(self._require_alive(self.get(ref))))

    def logs(
        self,
        ref: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since_ns: int = 0,
        until_ns: int | None = None,
    ) -> Iterator[LogLine]:
        """Give the log from its start or its last `tail` records; with `follow` until the container has ended."""
        container = self.get(ref)
        if decode_request(container).log.driver == "none":
            raise NotFound("configured logging driver does not support reading")
        place = self._context.containers.directory(container.id)

        def alive() -> bool:
            try:
                return self.get(container.id).state in (*LIVE, State.CREATED)
            except NotFound:
                return False

        return read_logs(
            f"{place}/{LOG_NAME}", tail=tail, since_ns=since_ns, until_ns=until_ns, alive=alive if follow else None
        )

    # -- life --------------------------------------------------------------------------------------

    def create(self, request: ContainerRequest, *, name: str | None = None) -> Container:
        """Make a container, not started. A random name is given where none is asked for."""
        self._folding.fold_all()
        context = self._context
        check_network(request)
        check_limits(request.resources)
        parent = parse_parent(request.cgroup_parent, context.cgroup_parent)
        request = msgspec.structs.replace(request, devices=expand_devices(request.devices), cgroup_parent=parent)
        if request.rootfs:
            image, layers, defaults = "", None, ImageDefaults()
            seen = context.files.look(request.rootfs)
            if seen is None or seen.kind != "directory":
                raise InvalidArgument(f"rootfs {request.rootfs}: no such directory")
        else:
            found = self._images.resolve(request.image)
            image, layers, defaults = str(found.id), found.layers, self._images.defaults(str(found.id))
        request = complete_mounts(context, _with_host_name(request), defaults)
        id = ContainerID(context.root.new_id())
        # Nobody starts it before its volumes are filled.
        with context.containers.lock(id):
            container = self._claim(id, name, request, image, layers)
            try:
                fill_volumes(context, container, decode_request(container), first=True)
            except BaseException:
                remove_records(context, container, volumes=True)
                raise
        return container

    def _claim(
        self, id: ContainerID, name: str | None, request: ContainerRequest, image: str, layers: Sequence[str] | None
    ) -> Container:
        """Record a container under its name, or a random one that is free."""
        for attempt in range(_NAME_ATTEMPTS):
            chosen = name or random_name(self._context.random, attempt)
            try:
                return self._record(id, chosen, request, image, layers)
            except Conflict:
                if attempt == _NAME_ATTEMPTS - 1 or (name and not self._is_free_now(name)):
                    raise
        raise Conflict("no free name was found; give one with --name")

    def _record(
        self, id: ContainerID, name: str, request: ContainerRequest, image: str, layers: Sequence[str] | None
    ) -> Container:
        context = self._context
        snapshot = None if layers is None else str(id)
        # One transaction: a collection in between would take a snapshot that nothing refers to yet.
        durable = not request.auto_remove
        try:
            with new_volumes(context, request) as request, context.root.db.write(durable=durable):
                container = Container(
                    id=id,
                    name=name,
                    image=image,
                    image_ref=request.image,
                    created_ns=context.root.clock_ns(),
                    config=print_request(request),
                    auto_remove=request.auto_remove,
                    snapshot=snapshot,
                    state=State.CREATED,
                    pid=0,
                    started_ns=0,
                    finished_ns=0,
                    exit_code=0,
                    oom_killed=False,
                    error="",
                    boot_id="",
                )
                if layers is not None:
                    context.snapshots.prepare(id, layers, volatile=request.auto_remove)
                volumes = [mount.source for mount in request.mounts if mount.type == "volume"]
                context.containers.create(container, volumes=volumes, durable=durable)
                context.journal.container(container, "create", at_ns=container.created_ns)
        except BaseException:
            # The rows are undone; what was made for them is not.
            for area in ("snapshots", "containers"):
                context.root.discard(context.root.place(area, id))
            raise
        return container

    def _is_free_now(self, name: str) -> bool:
        """Tell whether a name that was taken is free, once all that has ended is recorded: `--rm` promises that."""
        try:
            owner = self._context.containers.get(name)
            if owner.auto_remove:
                self._folding.fold(owner.id, wait=True)
            return self._context.containers.get(owner.id).name != name
        except NotFound:
            return True

    def run(
        self,
        image: str,
        command: Sequence[str] = (),
        *,
        name: str | None = None,
        request: ContainerRequest | None = None,
        pull: Literal["missing", "always", "never"] = "missing",
    ) -> Handle:
        """Make a container of `image` and start it; `request` says everything else.

        An image that is not here is pulled (`engine.images.pull`, which may raise too), unless
        `pull` says otherwise. Raises LaunchFailed.
        """
        wanted = msgspec.structs.replace(request or ContainerRequest(), image=image, command=tuple(command) or None)
        if not wanted.rootfs and pull != "never":
            wanted = msgspec.structs.replace(wanted, image=self._images.have(image, again=pull == "always"))
        container = self.create(wanted, name=name)
        ours, theirs = Attachment.pair() if wanted.auto_remove else (None, None)
        handle = Handle(self, container.id, ours)
        try:
            self.start(container.id, client=None if theirs is None else theirs.fileno())
        except BaseException:
            with suppress(NotFound):
                self.remove(container.id, force=True, volumes=True)
            raise
        finally:
            if theirs is not None:
                theirs.close()
        return handle

    def handle(self, ref: str) -> Handle:
        """Give a container as an object. Raises NotFound."""
        return Handle(self, self.get(ref).id)

    def start(
        self, ref: str, *, client: int | None = None, spawn: Spawn | None = None, facts: Facts | None = None
    ) -> Container:
        """Start a container; one that runs already stays as it is.

        `client` is the supervisor's end of an attach connection (`Attachment.pair`), which
        then misses no output. `spawn` executes the plan where this process should not;
        `facts` are those of whoever executes it. Raises LaunchFailed, and Conflict where
        its state forbids it.
        """
        context = self._context
        found = self.get(ref)
        request = decode_request(found)
        image = self.image_defaults(found)
        joined = self._joined(request)
        with spawning(context, spawn) as spawn, context.containers.lock(found.id):
            container = context.containers.get(found.id)
            if is_done(Verb.START, container.state):
                return container
            next_state(Verb.START, container.state, container.id)
            make_bind_sources(context, request)
            fill_volumes(context, container, request, first=not container.started_ns)
            try:
                pid = launch(
                    context,
                    container,
                    request,
                    image,
                    client=client,
                    spawn=spawn,
                    facts=facts or context.facts,
                    joined=joined,
                )
            except LaunchFailed as error:
                self._record_failure(container, error)
                raise
            change = Change(
                state=State.RUNNING,
                pid=pid,
                started_ns=self._folding.started_ns(container.id),
                finished_ns=0,
                exit_code=0,
                oom_killed=False,
                error="",
                boot_id=context.root.boot_id,
            )
            # Another command's folding may have noticed already that it runs.
            with context.root.db.write():
                known = context.containers.get(container.id).state == State.RUNNING
                started = context.containers.change(container.id, {*legal_from(Verb.START), State.RUNNING}, change)
                if not known:
                    context.journal.started(started, request, started.started_ns, attached=client is not None)
            return started

    def _record_failure(self, container: Container, error: LaunchFailed) -> None:
        change = self._moved(Verb.FAIL, container, Change(exit_code=error.exit_code, error=str(error)))
        self._context.containers.change(container.id, legal_from(Verb.FAIL), change)

    def _joined(self, request: ContainerRequest) -> dict[str, str]:
        """Find the namespace files of the containers whose namespaces are shared."""
        joined: dict[str, str] = {}
        for kind, value in (("network", request.network), ("pid", request.pid), ("ipc", request.ipc)):
            if not value.startswith("container:"):
                continue
            other = self.get(value.removeprefix("container:"))
            if other.state not in LIVE:
                raise Conflict(f"cannot join {kind} of a non running container: {other.id}")
            joined[kind] = f"/proc/{other.pid}/ns/{namespace_file(kind)}"
        return joined

    def wait(self, ref: str, *, timeout_s: float | None = None) -> int:
        """Wait until a container does not run; gives its exit code (128 and the signal for a killed one).

        Raises TimeoutError.
        """
        id = self._context.containers.get(ref).id
        return wait_end(self._context, self._folding, id, timeout_s=timeout_s)

    def kill(self, ref: str, *, number: int = signal.SIGKILL) -> None:
        """Send a signal to a container's first process."""
        container = self.get(ref)
        next_state(Verb.KILL, container.state, container.id)
        with Attachment.connect(self._context.run_directory(container.id)) as attachment:
            self._context.journal.container(container, "kill", more={"signal": str(number)})
            attachment.send_signal(number)
        if number == signal.SIGKILL and container.state == State.PAUSED:
            thaw(self._cgroups(container))

    def stop(self, ref: str, *, timeout_s: int | None = None, number: int | None = None) -> None:
        """Ask a container to end, and kill it after `timeout_s` (its own, else 10; -1 waits for ever)."""
        container = self.get(ref)
        if is_done(Verb.STOP, container.state):
            return
        request = decode_request(container)
        image = self.image_defaults(container)
        if number is None:
            number = parse_signal(request.stop_signal or image.stop_signal or "SIGTERM")
        if timeout_s is None:
            timeout_s = request.stop_timeout_s if request.stop_timeout_s is not None else STOP_TIMEOUT_S
        if container.state == State.PAUSED:
            self.unpause(container.id)
        for attempt, patience in ((number, timeout_s), (signal.SIGKILL, _KILL_TIMEOUT_S)):
            if self._end(container, attempt, patience):
                self._context.journal.container(container, "stop")
                return
        raise _undying(container)

    def _end(self, container: Container, number: int, patience_s: float) -> bool:
        """Send a signal to a container as it runs now, and wait for the end of just that run; -1 waits for ever.

        False if it did not end in time.
        """
        try:
            with Attachment.connect(self._context.run_directory(container.id)) as attachment:
                self._context.journal.container(container, "kill", more={"signal": str(number)})
                attachment.send_signal(number)
                if number == signal.SIGKILL:
                    with suppress(OnggiError):  # its cgroup may be gone already
                        thaw(self._cgroups(container))
                attachment.wait_end(None if patience_s < 0 else patience_s)
        except TimeoutError:
            return False
        except FailedPrecondition:
            pass  # it has ended already
        self._folding.fold(container.id, wait=True)
        return True

    def restart(
        self,
        ref: str,
        *,
        timeout_s: int | None = None,
        number: int | None = None,
        spawn: Spawn | None = None,
        facts: Facts | None = None,
    ) -> Container:
        """Stop a container where it runs, and start it."""
        container = self.get(ref)
        self.stop(container.id, timeout_s=timeout_s, number=number)
        started = self.start(container.id, spawn=spawn, facts=facts)
        self._context.journal.container(started, "restart")
        return started

    def pause(self, ref: str) -> None:
        """Freeze all processes of a container."""
        container = self.get(ref)
        with self._context.containers.lock(container.id):
            container = self._context.containers.get(container.id)
            next_state(Verb.PAUSE, container.state, ref)
            try:
                freeze(self._cgroups(container))
            except OnggiError:
                if self._pids_of(container):
                    raise
                raise Conflict(f"container {container.id} is not running") from None
            self._change(container, self._moved(Verb.PAUSE, container), "pause")

    def unpause(self, ref: str) -> None:
        """Let a paused container go on."""
        container = self.get(ref)
        with self._context.containers.lock(container.id):
            container = self._context.containers.get(container.id)
            next_state(Verb.UNPAUSE, container.state, ref)
            thaw(self._cgroups(container))
            self._change(container, self._moved(Verb.UNPAUSE, container), "unpause")

    def _change(self, container: Container, change: Change, action: str, *, durable: bool = False) -> None:
        """Change what nobody else has changed meanwhile, and write the event that it is."""
        with self._context.root.db.write(durable=durable):
            changed = self._context.containers.change(container.id, (container.state,), change, durable=durable)
            self._context.journal.container(changed, action)

    def rename(self, ref: str, name: str) -> None:
        """Give a container another name."""
        context, id = self._context, self.get(ref).id
        with context.root.db.write(durable=True):
            old = context.containers.get(id)
            next_state(Verb.RENAME, old.state, id)
            context.containers.rename(id, name)
            context.journal.container(context.containers.get(id), "rename", more={"oldName": f"/{old.name}"})

    def remove(self, ref: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove a container that does not run, or with `force` any; `volumes` takes its anonymous ones along."""
        container = self.get(ref)
        for _ in range(_REMOVE_ATTEMPTS):
            if container.state in LIVE:
                if not force:
                    next_state(Verb.REMOVE, container.state, container.name or container.id)
                if not self._end(container, signal.SIGKILL, _REMOVE_TIMEOUT_S):
                    raise _undying(container)
            found = self._remove_ended(container.id, volumes)
            if found is None:
                break
            container = self.get(found.id)
        else:
            raise Conflict(f"container {container.name} is started again and again; stop whoever does that")

    def _remove_ended(self, id: str, volumes: bool) -> Container | None:
        """Remove a container that does not run; gives one that runs again by now."""
        context = self._context
        with context.containers.lock(id):
            try:
                container = context.containers.get(id)
            except NotFound:
                return None
            if container.state not in legal_from(Verb.REMOVE):
                return container
            if context.files.look(context.run_directory(id)) is not None:
                self._folding.clear_released(id)
            remove_records(context, container, volumes=volumes)
        return None

    # -- sessions ----------------------------------------------------------------------------------

    def connect(self, ref: str) -> Attachment:
        """Connect to the supervisor of a running container."""
        container = self.get(ref)
        next_state(Verb.ATTACH, container.state, container.id)
        attachment = Attachment.connect(self._context.run_directory(container.id))
        self._context.journal.container(container, "attach")
        return attachment

    def start_session(
        self, ref: str, session: Session, *, client: int | None, spawn: Spawn | None = None, facts: Facts | None = None
    ) -> str:
        """Run a further process in a running container; gives the session's run directory. Raises LaunchFailed."""
        context = self._context
        container = self.get(ref)
        next_state(Verb.EXEC, container.state, container.id)
        facts = facts or context.facts
        request, image = decode_request(container), self.image_defaults(container)
        with spawning(context, spawn) as spawn:
            plan, inherited, run = prepare_session(
                context, container, request, image, session, self._cgroups(container), client=client, facts=facts
            )
            self._folding.tidy_sessions(container)
            id = run.rpartition(PREFIX)[2]
            context.journal.session_started(container, id, session.command)
            try:
                spawn(plan, inherited, facts)
            except BaseException as error:
                context.root.discard(run)
                if isinstance(error, LaunchFailed):
                    context.journal.session_died(container, id, context.root.clock_ns(), code=error.exit_code)
                raise
        return run

    def export(self, ref: str, sink: "Sink") -> None:
        """Write the whole root file system of a container as a tar."""
        container = self.get(ref)
        export_container(self._context, container, sink)
        self._context.journal.container(container, "export")

    def changes(self, ref: str) -> Sequence[tuple[str, bytes]]:
        """List what a container has changed about its image: (A added, C changed or D deleted, path)."""
        return changes_of(self._context, self.get(ref))

    def size(self, ref: str) -> tuple[int, int]:
        """Measure what a container has written, and that together with its image, in bytes."""
        return size_of(self._context, self._context.containers.get(ref))

    def update(self, ref: str, limits: ResourceRequest) -> tuple[str, ...]:
        """Change the limits of a container; what `limits` does not say stays. Gives notes on what the host ignores."""
        context = self._context
        id = self.get(ref).id
        with context.containers.lock(id):
            container = context.containers.get(id)
            next_state(Verb.UPDATE, container.state, container.id)
            request = decode_request(container)
            check_limits_change(request.resources, limits)
            changed = msgspec.structs.replace(request, resources=merge_resources(request.resources, limits))
            check_limits(changed.resources)
            directories = self._cgroups(container)
            cgroup = context.facts.cgroup
            ops, notes = plan_update(resources_of(changed, find_devices(changed), cgroup), directories, cgroup)
            if container.state in LIVE:
                update_limits(ops, directories)
            self._change(container, Change(config=print_request(changed)), "update", durable=True)
        return (*fit_limits(changed.resources, cgroup)[1], *notes)

    def warnings(self, request: ContainerRequest) -> tuple[str, ...]:
        """Say what of a request this host discards."""
        return fit_limits(request.resources, self._context.facts.cgroup)[1]

    def commit(
        self, ref: str, *, name: str | None = None, author: str = "", message: str = "", pause: bool = True
    ) -> Image:
        """Make an image of what a container has changed; a running one is paused meanwhile unless told otherwise."""
        container = self.get(ref)
        next_state(Verb.COMMIT, container.state, container.id)
        paused = pause and container.state == State.RUNNING
        if paused:
            self.pause(container.id)
        try:
            reference = parse_reference(name).with_default_tag() if name else None
            image = commit_container(
                self._context, container, decode_request(container), reference=reference, author=author, message=message
            )
            names = [reference.familiar] if reference else []
            self._context.journal.tagged(image.id, names)
            more = {"comment": message, "imageID": str(image.id), "imageRef": "".join(names)}
            self._context.journal.container(container, "commit", more=more)
            return image
        finally:
            if paused:
                self.unpause(container.id)

    def explain(self, request: ContainerRequest, *, facts: Facts | None = None) -> Plan:
        """Plan a container that is not made; its id is zeros."""
        context = self._context
        layers = () if request.rootfs else self._images.resolve(request.image).layers
        image = (
            ImageDefaults() if request.rootfs else self._images.defaults(str(self._images.resolve(request.image).id))
        )
        parent = parse_parent(request.cgroup_parent, context.cgroup_parent)
        request = msgspec.structs.replace(_with_host_name(request), cgroup_parent=parent)
        request = complete_mounts(context, request, image)
        return explain_launch(context, request, image, layers, facts or context.facts, self._joined(request))

    def network(self, ref: str) -> NetworkSettings | None:
        """Say where a container is in the bridge network; None for one that is not."""
        return describe(self._context, self._context.containers.get(ref).id)

    def log_path(self, ref: str) -> str:
        """Where the log of a container is, "" without one."""
        container = self._context.containers.get(ref)
        if decode_request(container).log.driver == "none":
            return ""
        return f"{self._context.containers.directory(container.id)}/{LOG_NAME}"

    def places(self, ref: str) -> Places:
        """Say where a container's files are."""
        container = self._context.containers.get(ref)
        return container_places(self._context, container, decode_request(container))

    @contextmanager
    def files(self, ref: str) -> "Iterator[ContainerFiles]":
        """Open the files of a container, running or not, with its volumes: to look at, to copy in and out.

        Raises NotSupported for one in a user namespace of its own.
        """
        from onggi.engine.opening import open_files

        container = self.get(ref)

        def is_member(now: Container) -> bool:
            return now.pid in self._pids_of(now)

        with open_files(self._context, container, ref, is_member=is_member) as files:
            yield files

    # -- inside ------------------------------------------------------------------------------------

    def _require_alive(self, container: Container) -> Container:
        next_state(Verb.TOP, container.state, container.id)
        return container

    def _moved(self, verb: Verb, container: Container, change: Change | None = None) -> Change:
        """Add to a change where the verb leads. Raises Conflict where it is not legal."""
        state = next_state(verb, container.state, container.id)
        return msgspec.structs.replace(change or Change(), state=state)

    def _cgroups(self, container: Container) -> dict[str, str]:
        path = self._context.cgroup_of(container.id, decode_request(container).cgroup_parent)
        return plan_directories(path, self._context.facts.cgroup)


def _with_host_name(request: ContainerRequest) -> ContainerRequest:
    """Give a container in the host's network the host's name, for good, unless it asks for another; as Docker does."""
    if request.network != "host" or request.hostname:
        return request
    return msgspec.structs.replace(request, hostname=read_host_name())


def _undying(container: Container) -> FailedPrecondition:
    return FailedPrecondition(f"container {container.id[:12]} did not end, even when killed; is it waiting for a disk?")


def parse_signal(text: str) -> int:
    """Read `KILL`, `SIGKILL` or `9`. Raises InvalidArgument with Docker's text."""
    number = signals.parse_signal(text)
    if number is None:
        raise InvalidArgument(f"invalid signal: {text}")
    return number
