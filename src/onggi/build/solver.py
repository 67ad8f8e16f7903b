"""Runs what a graph asks for: stages side by side, steps in order, each only if its key is new.

The solver knows keys, layers and files, not containers: whoever can run a command in
a root file system is given as a `Runner`.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import msgspec

from onggi.base.errors import Cancelled, InvalidArgument, OnggiError
from onggi.build.bounds import NotCached
from onggi.build.cachekey import Key, base_key, explain_miss, step_key
from onggi.build.copying import copy_files, hash_sources
from onggi.build.digests import RememberedDigests
from onggi.build.dockerfile.errors import error_at
from onggi.build.dockerfile.quoting import quote
from onggi.build.events import StepCached, StepDone, StepOutput, StepStarted, Tell
from onggi.build.graph import (
    CopyStep,
    Files,
    FromContext,
    FromImage,
    FromNothing,
    FromStage,
    Graph,
    RunStep,
    StagePlan,
    Step,
    WorkdirStep,
)
from onggi.build.roots import Context, Roots
from onggi.host.clamping import clamp_times
from onggi.spec.digest import DiffID
from onggi.store.build_cache import BuildCache
from onggi.store.layers import Layer, Layers
from onggi.store.leases import Lease
from onggi.store.snapshots import Held, Snapshots

_TICK_S: Final = 0.2
Output = Callable[[int, bytes], None]


class Stack(msgspec.Struct, frozen=True):
    """The files at some point of a stage: its layers, lowest first, and the key that names them."""

    layers: tuple[str, ...]
    key: Key


class Runner(Protocol):
    """Whoever can run a command in a root file system that a snapshot holds."""

    def run(self, held: Held, step: RunStep, roots: Roots, output: Output) -> int:
        """Run it to its end; gives the exit code."""

    def cancel(self) -> None:
        """End everything that runs."""


class Settle(Protocol):
    """Finds and records the DiffID of a layer that was made here."""

    def __call__(self, layer: Layer) -> DiffID: ...


class StepFailed(OnggiError):
    """A step of the build failed. `stack` and `config` are what it ran on, `snapshot` what it left."""

    def __init__(self, text: str, *, code: int, step: Step, stack: Stack, snapshot: str | None) -> None:
        """Keep what is needed to look inside."""
        super().__init__(text)
        self.code, self.step, self.stack, self.snapshot = code, step, stack, snapshot


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """What came out: the target's layers, and for each of its steps the layer that it made."""

    stack: Stack
    made: Mapping[int, tuple[str, ...]]


class _Outcome:
    """What comes of a stage, for those who wait for it."""

    def __init__(self) -> None:
        self.known = threading.Event()
        self.stack: Stack | None = None
        self.error: BaseException | None = None

    def result(self) -> Stack:
        self.known.wait()
        if self.error is not None:
            raise self.error
        assert self.stack is not None
        return self.stack


class Solver:
    """One build."""

    def __init__(
        self,
        *,
        graph: Graph,
        snapshots: Snapshots,
        layers: Layers,
        cache: BuildCache,
        roots: Roots,
        contexts: Mapping[str, Context],
        digests: RememberedDigests,
        runner: Callable[[], Runner],
        lease: Lease,
        settle: Settle,
        tell: Tell,
        clock_ns: Callable[[], int],
        new_id: Callable[[], str],
        place: str,
        no_cache: bool,
        epoch: int | None,
        cached_only: bool = False,
    ) -> None:
        """Keep the parts.

        `runner` is asked for when a first command has to run; `place` names this Dockerfile among
        others, for the memory of what steps were made of. `cached_only`: nothing runs, and `solve`
        raises NotCached, having changed nothing, at the first step that would have to.
        """
        self._graph, self._snapshots, self._layers, self._cache = graph, snapshots, layers, cache
        self._roots, self._contexts, self._digests, self._make_runner = roots, contexts, digests, runner
        self._lease, self._settle, self._tell = lease, settle, tell
        self._clock_ns, self._new_id, self._place = clock_ns, new_id, place
        self._no_cache, self._epoch, self._cached_only = no_cache, epoch, cached_only
        self._stages: dict[int, _Outcome] = {}
        self._made: dict[int, list[str]] = {}
        self._parts: dict[str, dict[str, str]] = {}
        self._settling: list[threading.Thread] = []
        self._runner: Runner | None = None
        self._lock = threading.Lock()
        self._failed = threading.Event()

    def solve(self) -> Built:
        """Run everything. Raises StepFailed, or Cancelled after an interrupt; other stages end first."""
        for index in self._graph.stages:
            self._stages[index] = _Outcome()
        threads = [
            threading.Thread(target=self._run_stage, args=(plan,), name=f"stage {plan.index}", daemon=True)
            for plan in self._graph.stages.values()
        ]
        for thread in threads:
            thread.start()
        try:
            self._wait()
        except KeyboardInterrupt:
            self._failed.set()
            self._the_runner().cancel()
            self._wait()
            raise Cancelled("the build was interrupted; what finished stays in the cache") from None
        finally:
            for thread in self._settling:
                thread.join()
            if not (self._cached_only and self._failed.is_set()):
                self._cache.put_parts(self._parts)
            self._digests.flush()
        self._raise_first_failure()
        return Built(
            stack=self._stages[self._graph.target].result(),
            made={index: tuple(made) for index, made in self._made.items()},
        )

    def _wait(self) -> None:
        """Wait for all stages. Not by `join`: one that an interrupt ends takes its thread for ended (bpo-45274)."""
        for outcome in self._stages.values():
            while not outcome.known.wait(_TICK_S):
                continue

    def _raise_first_failure(self) -> None:
        """Raise what failed, rather than the cancellation of what waited for it; only its snapshot stays."""
        errors = [outcome.error for outcome in self._stages.values() if outcome.error is not None]
        errors.sort(key=lambda error: isinstance(error, Cancelled))
        kept = getattr(errors[0], "snapshot", None) if errors else None
        for error in errors[1:]:
            if isinstance(error, StepFailed) and error.snapshot not in (None, kept):
                self._snapshots.remove(error.snapshot or "")
        if errors:
            raise errors[0]

    def _run_stage(self, plan: StagePlan) -> None:
        outcome = self._stages[plan.index]
        try:
            stack = self._base(plan)
            made = self._made.setdefault(plan.index, [])
            for number, step in enumerate(plan.steps):
                if self._failed.is_set():
                    raise Cancelled("another step failed")
                layer, stack = self._step(plan, number, step, stack)
                made.append(layer)
        except BaseException as error:
            self._failed.set()
            outcome.error = error
        else:
            outcome.stack = stack
        finally:
            outcome.known.set()

    def _base(self, plan: StagePlan) -> Stack:
        match plan.base:
            case FromStage(stage=stage):
                return self._stages[stage].result()
            case FromImage(image=image):
                diff_ids = [str(diff_id) for diff_id in image.config.diff_ids]
                return Stack(image.layers, base_key(diff_ids, str(plan.platform)))
            case FromNothing():
                return Stack((), base_key((), str(plan.platform)))

    # -- one step ----------------------------------------------------------------------------------

    def _step(self, plan: StagePlan, number: int, step: Step, below: Stack) -> tuple[str, Stack]:
        name = self._name(plan, number)
        title = f"[{f'{plan.name} ' if plan.name else ''}{number + 2}/{len(plan.steps) + 1}] {step.title}"
        inputs = self._inputs(step, below)
        if self._epoch is not None:
            inputs["SOURCE_DATE_EPOCH"] = str(self._epoch)
        key = step_key(below.key.digest, step, str(plan.platform), inputs)
        slot = f"{self._place}\n{plan.name or plan.index}\n{number}"
        before = self._cache.last_parts(slot)
        with self._lock:
            self._parts[slot] = key.parts
        cached = None if self._no_cache else self._cache.find(key.digest, lease=self._lease)
        if self._cached_only and (cached is None or cached.diff_id is None):
            raise NotCached(f"{title} is not in the cache")
        if cached is not None:
            self._tell(StepCached(step=name, title=title, at_ns=self._clock_ns()))
            self._settle_later(cached)
            return cached.id, Stack((*below.layers, cached.id), key)
        why = "" if before is None or self._no_cache else explain_miss(before, key.parts)
        layer = self._execute(name, title, why, step, below)
        self._cache.put(key.digest, layer.id)
        self._settle_later(layer)
        return layer.id, Stack((*below.layers, layer.id), key)

    def _name(self, plan: StagePlan, number: int) -> str:
        return f"{plan.index}.{number}"

    def _settle_later(self, layer: Layer) -> None:
        """Hash the layer's tar while the next step already runs on it."""
        if layer.diff_id is not None:
            return
        thread = threading.Thread(target=self._settle, args=(layer,), daemon=True)
        thread.start()
        with self._lock:
            self._settling.append(thread)

    def _execute(self, name: str, title: str, why: str, step: Step, below: Stack) -> Layer:
        started = self._clock_ns()
        self._tell(StepStarted(step=name, title=title, at_ns=started, why=why))
        key = self._new_id()
        self._snapshots.prepare(key, below.layers, volatile=True, lease=self._lease)
        error = ""
        try:
            self._act(name, key, step, below)
            return self._snapshots.commit(key, lease=self._lease)
        except StepFailed as failure:
            error = str(failure)
            raise
        except OnggiError as failure:
            error = str(failure)
            self._snapshots.remove(key)
            raise self._placed(step, failure, below) from None
        except BaseException as failure:
            error = str(failure) or type(failure).__name__
            self._snapshots.remove(key)
            raise
        finally:
            now = self._clock_ns()
            self._tell(StepDone(step=name, title=title, at_ns=now, duration_ns=now - started, error=error))

    def _placed(self, step: Step, error: OnggiError, below: Stack) -> OnggiError:
        if isinstance(error, (StepFailed, Cancelled)):
            return error
        shown = str(error)
        if isinstance(step.action, RunStep):
            shown = f"process {quote(' '.join(step.action.argv))} did not complete successfully: {error}"
        text = str(error_at(self._graph.name, step.place, shown))
        return StepFailed(text, code=1, step=step, stack=below, snapshot=None)

    def _act(self, name: str, key: str, step: Step, below: Stack) -> None:
        with self._snapshots.hold(key) as held:
            match step.action:
                case RunStep():
                    self._run(name, key, held, step, step.action, below)
                case CopyStep():
                    with self._roots.writable(held) as root, self._open(step.action.files) as source:
                        copy_files(step.action, source, root, epoch=self._epoch, now_ns=self._clock_ns())
                case WorkdirStep():
                    with self._roots.writable(held) as root:
                        self._roots.make_workdir(root, step.action)
            if self._epoch is not None and held.upper is not None:
                clamp_times(held.upper, self._epoch)

    def _run(self, name: str, key: str, held: Held, step: Step, action: RunStep, below: Stack) -> None:
        def output(stream: int, data: bytes) -> None:
            self._tell(StepOutput(step=name, stream=stream, data=data))

        with self._roots.mounts(action, self._open):
            code = self._the_runner().run(held, action, self._roots, output)
        if self._failed.is_set() and code == 137:
            raise Cancelled("another step failed")
        if code != 0:
            text = f"process {quote(' '.join(action.argv))} did not complete successfully: exit code: {code}"
            text = str(error_at(self._graph.name, step.place, text))
            raise StepFailed(text, code=code, step=step, stack=below, snapshot=key)

    def _the_runner(self) -> Runner:
        """Make it for the first command: most builds find all in the cache."""
        with self._lock:
            if self._runner is None:
                self._runner = self._make_runner()
            return self._runner

    # -- what a step uses --------------------------------------------------------------------------

    def _open(self, files: Files) -> "Context":
        """Give the tree that a step copies from or mounts."""
        match files:
            case FromStage(stage=stage):
                return self._roots.view(self._stages[stage].result().layers)
            case FromImage(image=image):
                return self._roots.view(image.layers)
            case FromContext(name=name):
                if name not in self._contexts:
                    raise InvalidArgument("this build has no context: it was given a Dockerfile only")
                return self._contexts[name]
            case FromNothing():
                return self._roots.view(())

    def _inputs(self, step: Step, below: Stack) -> dict[str, str]:
        """Name the content of everything from elsewhere that the step uses."""
        del below
        match step.action:
            case CopyStep() as copy:
                with self._open(copy.files) as source:
                    try:
                        return hash_sources(copy, source, self._digests)
                    except OnggiError as error:
                        raise self._placed(step, error, Stack((), Key("", {}))) from None
            case RunStep() as run:
                inputs: dict[str, str] = {}
                for mount, files in run.mounts:
                    if mount.type == "bind" and files is not None:
                        with self._open(files) as source:
                            inputs[f"the files of the mount {mount.target}"] = source.hash_all(
                                mount.source, self._digests
                            )
                return inputs
            case WorkdirStep():
                return {}
