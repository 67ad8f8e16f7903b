"""Keep records true: what supervisors wrote, and what they no longer could write, becomes rows.

A container's truth is in its run directory, since no supervisor knows the database.
Every command folds first, so nothing needs to watch. A container without a
living supervisor is over: what it left on the host is cleared away here.
"""

from typing import Final

import msgspec

from onggi.base.errors import FailedPrecondition, NotFound, OnggiError
from onggi.engine.context import Context
from onggi.engine.mounting import remove_anonymous
from onggi.engine.networks import release, release_left
from onggi.engine.sessions import PREFIX
from onggi.host.attach import Attachment
from onggi.host.cgroupfs import kill_members, remove_cgroup
from onggi.host.locks import probe_lock, take_lock
from onggi.plan.cgroup import plan_directories
from onggi.runtime.lifecycle import LIVE, State, Verb, legal_from, next_state
from onggi.runtime.records import LOST_EXIT_CODE, MAX_RECORD_BYTES, ExitRecord, parse_exit, parse_state
from onggi.spec.container import parse_request
from onggi.store.containers import Change, Container

RELEASE_TIMEOUT_S: Final = 30.0
_MANY_SESSIONS: Final = 16
LOST: Final = "the supervisor was lost; the container ended with it"
FAILED: Final = "a step of its start failed"
REBOOTED: Final = "the machine was restarted; the container ended with it"


class Folding:
    """Folds the containers of one state root."""

    def __init__(self, context: Context) -> None:
        """Work on this root."""
        self._context = context

    def fold_all(self) -> None:
        """Fold every container that has a run directory or counts as alive, and drop what killed commands staged."""
        context = self._context
        ids = set(context.files.entries(f"{context.run}/containers"))
        rows: dict[str, Container] = {container.id: container for container in context.containers.list()}
        ids |= {id for id, row in rows.items() if row.state in LIVE or (row.auto_remove and row.state == State.EXITED)}
        ids |= {id for id in release_left(context) if id in rows}
        for id in ids:
            try:
                self.fold(id)
                if id in rows:
                    self._fold_sessions(rows[id])
            except OnggiError as error:
                # One container that cannot be folded must not keep all commands from working.
                import logging

                logging.getLogger(__name__).warning("container %s: %s", id[:12], error)
        context.sweeper.sweep_staged()

    def fold(self, id: str, *, wait: bool = False) -> None:
        """Bring one container's row up to what its run directory says; harmless when nothing has changed.

        What another command is at work on is left to that one, or with `wait` waited for.
        """
        context = self._context
        run = context.run_directory(id)
        present = context.files.look(run) is not None
        alive = present and probe_lock(f"{run}/lock")
        record = self._read_exit(run) if present else None
        row = self._row(id)
        if row is None or record is not None or not alive:
            lock = context.containers.lock(id) if wait else context.root.locks("containers").attempt(id)
            if lock is None:
                return
            with lock:
                self._fold_ended(id, run)
        elif row.state in legal_from(Verb.START):
            self._fold_started(id, run)

    def tidy_sessions(self, row: Container) -> None:
        """Fold sessions only where many have ended and nobody has looked: one that begins need not wait for each."""
        names = self._context.files.entries(self._context.run_directory(row.id))
        if sum(name.startswith(PREFIX) for name in names) > _MANY_SESSIONS:
            self._fold_sessions(row)

    def _fold_sessions(self, row: Container, *, ended: bool = False) -> None:
        """Tell how exec sessions ended, and clear away what they left; with their container all have `ended`."""
        context, run = self._context, self._context.run_directory(row.id)
        for name in context.files.entries(run):
            place = f"{run}/{name}"
            if not name.startswith(PREFIX):
                continue
            record = self._read_exit(place)
            if not ended and (record is None or probe_lock(f"{place}/lock")):
                continue
            if claimed := context.files.trash(place, run):  # else another command was faster
                id, _, was_claimed = name.removeprefix(PREFIX).partition(".")
                at_ns, code = (record.at_ns, record.status) if record else (context.root.clock_ns(), LOST_EXIT_CODE)
                if not was_claimed:
                    context.journal.session_died(row, id, at_ns, code=code)
                context.root.discard(claimed)

    def clear_released(self, id: str) -> None:
        """Clear away the run directory of a container that has ended, once its supervisor is gone. Under its lock."""
        run = self._context.run_directory(id)
        take_lock(f"{run}/lock", f"container {id[:12]}", timeout_s=RELEASE_TIMEOUT_S).close()
        self._clear(id, run)

    def started_ns(self, id: str) -> int:
        """When a container that was just started began to run: its supervisor knows. It may have ended by now."""
        try:
            return parse_state(
                self._context.files.read(f"{self._context.run_directory(id)}/state", MAX_RECORD_BYTES)
            ).started_ns
        except NotFound:
            return self._context.root.clock_ns()

    def _row(self, id: str) -> Container | None:
        try:
            return self._context.containers.get(id)
        except NotFound:
            return None

    def _fold_started(self, id: str, run: str) -> None:
        """Record a start whose starter did not live to tell."""
        try:
            state = parse_state(self._context.files.read(f"{run}/state", MAX_RECORD_BYTES))
        except NotFound:
            return  # it is still on its way
        change = Change(
            state=State.RUNNING,
            pid=state.pid,
            started_ns=state.started_ns,
            finished_ns=0,
            exit_code=0,
            oom_killed=False,
            error="",
            boot_id=self._context.root.boot_id,
        )
        context = self._context
        try:
            with context.root.db.write():
                row = context.containers.change(id, legal_from(Verb.START), change)
                context.journal.started(row, parse_request(row.config), state.started_ns, attached=False)
        except FailedPrecondition:
            return

    def _fold_ended(self, id: str, run: str) -> None:
        """Look again under the container's lock: record the end, clear away, and remove what `--rm` promised."""
        context = self._context
        present = context.files.look(run) is not None
        alive = present and probe_lock(f"{run}/lock")
        record = self._read_exit(run) if present else None
        row = self._row(id)
        if record is None and alive:
            if row is None and not probe_lock(f"{run}/owner"):
                # A build step whose build is gone: nobody waits for it.
                with Attachment.connect(run) as attachment:
                    attachment.kill_quietly()
            return
        if row is None:
            if not alive and present and not probe_lock(f"{run}/owner"):
                self._clear(id, run)
            return
        if present:
            self._fold_sessions(row, ended=True)
        started = present and context.files.look(f"{run}/state") is not None
        if record is not None and record.failed:
            row = self._record_failure(row, record)
        elif (
            row.state in LIVE
            or (record is not None and row.state == State.CREATED)
            or (started and row.state == State.CREATED)
        ) or (record is not None and row.state == State.EXITED and record.at_ns > row.finished_ns):
            row = self._record_end(row, record, present)
        if not alive:
            if present:
                self._clear(id, run)
            release(context, id)  # by now nothing of it can use its address
            if row.auto_remove and (row.state in (State.EXITED, State.DEAD) or (record is not None and record.failed)):
                self._remove(row)

    def _record_end(self, row: Container, record: ExitRecord | None, present: bool) -> Container:
        context = self._context
        if record is not None:
            change = Change(
                state=State.EXITED,
                pid=0,
                exit_code=record.status,
                finished_ns=record.at_ns,
                oom_killed=record.oom_killed,
                error="",
            )
        else:
            same_boot = present and row.boot_id in ("", context.root.boot_id)
            change = Change(
                state=State.EXITED,
                pid=0,
                exit_code=LOST_EXIT_CODE,
                finished_ns=context.root.clock_ns(),
                error=LOST if same_boot else REBOOTED,
            )
        if row.auto_remove:
            # The name and the volumes are free from now on; files follow when the kernel has let them go.
            change = msgspec.structs.replace(change, name=None)
        if record is not None:
            release(context, row.id)
        with context.root.db.write():
            changed = context.containers.change(row.id, legal_from(Verb.EXIT), change)
            context.journal.died(
                row,
                changed.finished_ns,
                code=changed.exit_code,
                oom_killed=changed.oom_killed,
                was_running=row.state in LIVE,
            )
            if row.auto_remove and row.name is not None:
                context.journal.container(row, "destroy")
        if row.auto_remove and record is not None:
            remove_anonymous(context, parse_request(row.config))
        return changed

    def _record_failure(self, row: Container, record: ExitRecord) -> Container:
        """Record a start that failed, where its starter did not live to say how."""
        change = Change(pid=0, exit_code=row.exit_code or record.status, error=row.error or FAILED)
        change = msgspec.structs.replace(change, state=next_state(Verb.FAIL, row.state, row.id))
        if row.auto_remove:
            change = msgspec.structs.replace(change, name=None)
        context = self._context
        release(context, row.id)
        with context.root.db.write():
            if row.auto_remove and row.name is not None:
                context.journal.container(row, "destroy")
            return context.containers.change(row.id, legal_from(Verb.FAIL), change)

    def _clear(self, id: str, run: str) -> None:
        """Clear away what a supervisor did not get to: its processes, its cgroups, its run directory."""
        context = self._context
        try:
            directories = msgspec.json.decode(
                context.files.read(f"{run}/cgroups", MAX_RECORD_BYTES), type=dict[str, str]
            )
        except NotFound:
            directories = plan_directories(f"{context.cgroup_parent}/{id}", context.facts.cgroup)
        kill_members(directories)
        remove_cgroup(directories)
        context.root.discard(run)

    def _remove(self, row: Container) -> None:
        context = self._context
        if row.snapshot is not None and not context.snapshots.is_released(row.snapshot):
            return  # the next command, or onggid, comes by again
        remove_records(context, row)

    def exit_record(self, id: str) -> ExitRecord | None:
        """Read what a container's supervisor recorded at its end, before that is folded and cleared away."""
        return self._read_exit(self._context.run_directory(id))

    def _read_exit(self, run: str) -> ExitRecord | None:
        try:
            return parse_exit(self._context.files.read(f"{run}/exit", MAX_RECORD_BYTES))
        except NotFound:
            return None


def remove_records(context: Context, row: Container, *, volumes: bool = False) -> None:
    """Remove a container and its snapshot, both or none, under its lock. Raises Conflict while its files are in use.

    Its anonymous `volumes` go too; those of one that removes itself always do.
    """
    release(context, row.id)
    durable = not row.auto_remove

    def forget() -> None:
        context.containers.forget(row.id)
        if row.name is not None:  # else that was told when the name was given up
            context.journal.container(row, "destroy")

    if row.snapshot is None:
        context.root.make_room()
        with context.root.db.write(durable=durable):
            forget()
    else:
        context.snapshots.remove(row.snapshot, timeout_s=RELEASE_TIMEOUT_S, durable=durable, first=forget)
    context.root.discard(context.containers.directory(row.id))
    if volumes or row.auto_remove:
        remove_anonymous(context, parse_request(row.config))
