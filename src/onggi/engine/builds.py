"""Builds: a Dockerfile and a context in, an image out.

Everything that only the host knows is found here (contexts, images, the clock); what
the build is, is computed by build/graph.py, and done by build/solver.py.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from onggi.base.errors import InvalidArgument, NotFound, OnggiError
from onggi.base.units import format_time, parse_time
from onggi.build import bounds
from onggi.build.bounds import Bounds, NotCached
from onggi.build.cachekey import hash_words
from onggi.build.digests import BoundedDigests, RememberedDigests
from onggi.build.dockerfile.parser import parse_dockerfile
from onggi.build.events import Note, StepDone, StepOutput, StepStarted, Tell
from onggi.build.graph import EPOCH, BaseImage, Graph, Options, StagePlan, plan_graph
from onggi.build.ignore import Ignore, parse_ignore
from onggi.build.roots import Context as Tree
from onggi.build.roots import Roots
from onggi.build.solver import Built, Solver, StepFailed
from onggi.engine.context import Context
from onggi.engine.images import Images
from onggi.host.machine import read_machine
from onggi.host.tree import is_magic, read_small
from onggi.spec.digest import DiffID
from onggi.spec.image_config import ContainerConfig, History, ImageConfig, RootFS, print_image_config, unknown_config
from onggi.spec.platform import Platform, machine_platform, parse_platform
from onggi.spec.reference import Reference, parse_reference
from onggi.store.build_cache import BuildCache
from onggi.store.images import Image
from onggi.store.leases import Lease

if TYPE_CHECKING:
    from onggi.engine.running_steps import StepRunner
    from onggi.registry.progress import Event as TransferEvent
    from onggi.store.layers import Layer
    from onggi.store.tar.decompress import Source

MAX_DOCKERFILE_BYTES: Final = 16 << 20
MAX_IGNORE_BYTES: Final = 4 << 20


class BuildRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a build is asked for.

    `context` is a directory of the host; `archive` a tar of one instead. `dockerfile` is a
    path, absolute or in the context; `text` the Dockerfile itself. `contexts` gives
    further ones by name: a directory or an image. `pull` fetches base images even if
    they are here.
    """

    context: str | None = None
    archive: "Source | None" = None
    dockerfile: str = "Dockerfile"
    text: bytes | None = None
    tags: tuple[str, ...] = ()
    args: Mapping[str, str] = {}
    target: str | None = None
    labels: Mapping[str, str] = {}
    network: str = "default"
    hosts: tuple[str, ...] = ()
    contexts: Mapping[str, str] = {}
    platform: str | None = None
    no_cache: bool = False
    pull: bool = False
    epoch: int | None = None
    host_certs: bool = False


class Builds:
    """Builds in a state root."""

    def __init__(self, context: Context, images: Images) -> None:
        """Work on this root."""
        self._context, self._images = context, images
        self.cache = BuildCache(context.root)

    def build(self, request: BuildRequest, tell: Tell, *, cached_only: bool = False) -> Image:
        """Build an image. Raises StepFailed (with a way to look inside), InvalidArgument, NotFound, Cancelled.

        Base images that are not here are pulled. `cached_only` answers from the cache, or
        raises NotCached (or one of the others) and has changed nothing.
        """
        context = self._context
        references = [parse_reference(tag).with_default_tag() for tag in request.tags]
        with ExitStack() as stack:
            limit = Bounds() if cached_only else None
            trees, text, name = self._open(stack, request, limit)
            whole = _name_build(request, text, name)
            known = self.cache.was_whole(whole)
            if cached_only and not known:
                raise NotCached("this Dockerfile has not been built yet")
            lease = stack.enter_context(
                context.leases.open(f"build of {request.tags[0] if request.tags else 'an image'}")
            )
            dockerfile = parse_dockerfile(text, name=name)
            for warning in dockerfile.warnings:
                tell(Note(text=f"{name}:{warning.line}: {warning.text}"))
            host = machine_platform(read_machine())
            platform = parse_platform(request.platform, host) if request.platform else host
            epoch = self._epoch(request)
            options = Options(
                args=request.args,
                target=request.target,
                labels=request.labels,
                network=request.network,
                hosts=request.hosts,
                contexts=frozenset(trees) - {""},
                replaced=frozenset(request.contexts),
                platform=platform,
                build_platform=host,
                epoch=epoch,
                name=name,
            )
            pull = None if cached_only else partial(self._pull, host=host, tell=tell)
            graph = plan_graph(dockerfile, options, self._resolver(request, pull))
            if graph.unused:
                names = " ".join(graph.unused)
                tell(Note(text=f"[Warning] One or more build-args [{names}] were not consumed"))
            built = self._solve(graph, trees, request, lease, tell, epoch, limit)
            plan = graph.stages[graph.target]
            image = self._export(graph, plan, built, references, lease, epoch)
            context.journal.tagged(image.id, [reference.familiar for reference in references])
            if not known and len(text) <= bounds.MAX_DOCKERFILE_BYTES and bounds.is_small(graph):
                self.cache.put_whole(whole)
            return image

    def _epoch(self, request: BuildRequest) -> int | None:
        text = request.args.get(EPOCH)
        if text is None:
            return request.epoch
        if not text.isdigit():
            raise InvalidArgument(f"invalid {EPOCH} {text!r}: expected seconds since 1970")
        return int(text)

    # -- contexts ----------------------------------------------------------------------------------

    def _open(
        self, stack: ExitStack, request: BuildRequest, limit: Bounds | None
    ) -> tuple[dict[str, Tree], bytes, str]:
        """Open all contexts and read the Dockerfile; its own ignore file goes before .dockerignore."""
        context = self._context
        if limit is not None and any(is_magic(path) for path in _paths(request)):
            raise NotCached("the caller's own process sees something else there")
        count = None if limit is None else limit.look
        trees: dict[str, Tree] = {}
        fd: int | None = None
        if request.archive is not None:
            fd = self._unpack(stack, request.archive)
        elif request.context is not None:
            fd = context.files.open_directory(request.context, follow=True)
        if fd is not None:
            stack.callback(context.files.close, fd)
        text, name = self._dockerfile(
            request, fd, MAX_DOCKERFILE_BYTES if limit is None else bounds.MAX_DOCKERFILE_BYTES
        )
        most = MAX_IGNORE_BYTES if limit is None else bounds.MAX_IGNORE_BYTES
        if fd is not None:
            trees[""] = Tree(fd, ignore=self._ignore(fd, request, most), count=count)
        for key, value in request.contexts.items():
            if value.startswith("docker-image://"):
                continue
            seen = context.files.look(value)
            if seen is not None and seen.kind == "directory":
                other = context.files.open_directory(value)
                stack.callback(context.files.close, other)
                trees[key] = Tree(other, ignore=self._plain_ignore(other, most), count=count)
        return trees, text, name

    def _unpack(self, stack: ExitStack, archive: "Source") -> int:
        """Unpack a context from a tar into a place of its own, which goes with the build."""
        from onggi.store.tar.decompress import open_layer
        from onggi.store.tar.unpack import unpack_tree

        context = self._context
        place = stack.enter_context(context.root.scratch("the context of a build"))
        context.files.make_directory(place)
        fd = context.files.open_directory(place)
        unpack_tree(open_layer(archive), fd, devices=False)
        return fd

    def _dockerfile(self, request: BuildRequest, fd: int | None, most: int) -> tuple[bytes, str]:
        if request.text is not None:
            return request.text, "Dockerfile"
        path = request.dockerfile
        try:
            if path.startswith("/") and request.archive is None:
                return self._context.files.read(path, most), path.rsplit("/", 1)[-1]
            if fd is None:
                raise NotFound("")
            return read_small(fd, path.encode(), max_bytes=most, no_xdev=False), path.rsplit("/", 1)[-1]
        except NotFound:
            raise NotFound(
                f"failed to read dockerfile: open {path}: no such file or directory; name it with -f"
            ) from None

    def _ignore(self, fd: int, request: BuildRequest, most: int) -> Ignore | None:
        if request.text is None and not request.dockerfile.startswith("/"):
            own = f"{request.dockerfile}.dockerignore"
            try:
                return parse_ignore(read_small(fd, own.encode(), max_bytes=most, no_xdev=False))
            except NotFound:
                pass
        return self._plain_ignore(fd, most)

    def _plain_ignore(self, fd: int, most: int) -> Ignore | None:
        try:
            return parse_ignore(read_small(fd, b".dockerignore", max_bytes=most, no_xdev=False))
        except NotFound:
            return None

    def _resolver(
        self, request: BuildRequest, pull: "Callable[[str, Platform], str] | None"
    ) -> Callable[[str, Platform], BaseImage]:
        fresh: dict[str, str] = {}

        def resolve(name: str, platform: Platform) -> BaseImage:
            wanted = request.contexts.get(name, name).removeprefix("docker-image://")
            if request.pull and pull is not None and wanted not in fresh:
                fresh[wanted] = pull(wanted, platform)
            if pull is not None and wanted not in fresh:
                fresh[wanted] = self._images.known_as(wanted) or pull(wanted, platform)
            image = self._images.resolve(fresh.get(wanted, wanted))
            raw = self._images.raw_config(image)
            return BaseImage(
                name=wanted,
                id=str(image.id),
                config=self._context.images.config(image.id),
                layers=image.layers,
                unknown=unknown_config(raw),
            )

        return resolve

    def _pull(self, name: str, platform: Platform, *, host: Platform, tell: Tell) -> str:
        """Pull a base image, as a step of its own; gives its whole name."""
        from onggi.registry.progress import BlobProgress, State

        clock = self._context.root.clock_ns
        step, title, started = f"pull {name}", f"[internal] pull {name}", clock()
        tell(StepStarted(step=step, title=title, at_ns=started))

        def told(event: "TransferEvent") -> None:
            if isinstance(event, BlobProgress) and event.state in (State.READY, State.HERE, State.SHARED):
                line = f"{event.blob.partition(':')[2][:12]} {event.state.value} {event.total} bytes\n"
                tell(StepOutput(step=step, stream=1, data=line.encode()))

        error = ""
        try:
            wanted = None if platform == host else str(platform)
            return str(self._images.pull(name, platform=wanted, tell=told).reference)
        except OnggiError as refusal:
            error = str(refusal)
            raise
        finally:
            now = clock()
            tell(StepDone(step=step, title=title, at_ns=now, duration_ns=now - started, error=error))

    # -- solving and what comes of it --------------------------------------------------------------

    def _solve(
        self,
        graph: Graph,
        trees: Mapping[str, Tree],
        request: BuildRequest,
        lease: Lease,
        tell: Tell,
        epoch: int | None,
        limit: Bounds | None,
    ) -> Built:
        context = self._context
        now_ns = context.root.clock_ns()
        solver = Solver(
            graph=graph,
            snapshots=context.snapshots,
            layers=context.layers,
            cache=self.cache,
            roots=Roots(context.root, context.layers, context.files, count=None if limit is None else limit.look),
            contexts=trees,
            digests=RememberedDigests(self.cache, now_ns)
            if limit is None
            else BoundedDigests(self.cache, now_ns, limit),
            runner=lambda: _runner(context, lease, request),
            lease=lease,
            settle=lambda layer: _settle(context, layer),
            tell=tell,
            clock_ns=context.root.clock_ns,
            new_id=context.root.new_id,
            place=hash_words((request.context or "-", request.dockerfile)),
            no_cache=request.no_cache,
            epoch=epoch,
            cached_only=limit is not None,
        )
        try:
            return solver.solve()
        except StepFailed as failure:
            raise self._explain_failure(failure, lease) from None

    def _explain_failure(self, failure: StepFailed, lease: Lease) -> StepFailed:
        """Keep what a failed RUN left as an image without a name, and say how to look inside."""
        if failure.snapshot is None:
            return failure
        context = self._context
        layer = context.snapshots.commit(failure.snapshot, lease=lease)
        layers = [*failure.stack.layers, layer.id]
        diff_ids = tuple(_settle(context, context.layers.get(id)) for id in layers)
        host = machine_platform(read_machine())
        config = ImageConfig(
            architecture=host.architecture,
            os=host.os,
            config=failure.step.config,
            rootfs=RootFS(type="layers", diff_ids=diff_ids),
        )
        image = context.images.create(print_image_config(config), layers, lease=lease)
        text = f"{failure}\nTo look inside: onggi run --rm -it {image.id.hex[:12]} sh"
        return StepFailed(text, code=failure.code, step=failure.step, stack=failure.stack, snapshot=None)

    def _export(
        self,
        graph: Graph,
        plan: StagePlan,
        built: Built,
        references: Sequence[Reference],
        lease: Lease,
        epoch: int | None,
    ) -> Image:
        context = self._context
        layers = [context.layers.get(id) for id in built.stack.layers]
        diff_ids = tuple(_settle(context, layer) for layer in layers)
        times = [layer.created_ns for layer in layers]
        history = self._history(plan, times, epoch)
        config = ImageConfig(
            created=history[-1].created if history else format_time(context.root.clock_ns()),
            author=plan.author,
            architecture=plan.platform.architecture,
            os=plan.platform.os,
            variant=plan.platform.variant or None,
            config=None if plan.config == ContainerConfig() else plan.config,
            rootfs=RootFS(type="layers", diff_ids=diff_ids),
            history=history or None,
        )
        data = print_image_config(config, plan.unknown)
        return context.images.create(data, built.stack.layers, references=references, lease=lease)

    def _history(self, plan: StagePlan, times: Sequence[int], epoch: int | None) -> tuple[History, ...]:
        """Give every entry the time of its layer, else that of the entry before: a rebuild gives the same image."""
        entries: list[History] = []
        number = len(times) - sum(entry.empty_layer is not True for entry in plan.history)  # a base may have none
        last = _time(plan.base_config.created or "")
        for entry in plan.history:
            if entry.created is not None:
                last = max(last, _time(entry.created))
            elif entry.empty_layer is not True and number >= 0:
                last = max(last, times[number])
            number += entry.empty_layer is not True
            if entry.created is None:
                at = epoch * 1_000_000_000 if epoch is not None else last
                entry = msgspec.structs.replace(entry, created=format_time(at))
            entries.append(entry)
        return tuple(entries)


def _paths(request: BuildRequest) -> list[str]:
    paths = (request.context, request.dockerfile, *request.contexts.values())
    return [path for path in paths if path is not None and path.startswith("/")]


def _name_build(request: BuildRequest, text: bytes, name: str) -> str:
    """Name a build by all that decides what its Dockerfile becomes."""
    given = (request.args, request.labels, request.contexts)
    words = [repr(sorted(entries.items())) for entries in given]
    rest = (request.target, request.network, request.hosts, request.platform, request.epoch)
    return hash_words((text, name, *words, repr(rest)))


# What follows is loaded by builds that do more than find everything in their cache.


def _runner(context: Context, lease: Lease, request: BuildRequest) -> "StepRunner":
    from onggi.engine.running_steps import StepRunner

    return StepRunner(context, lease=lease, host_certs=request.host_certs)


def _settle(context: Context, layer: "Layer") -> DiffID:
    if layer.diff_id is not None:
        return layer.diff_id
    from onggi.engine.layering import settle_layer

    return settle_layer(context, layer)


def _time(text: str) -> int:
    try:
        return parse_time(text)
    except InvalidArgument:
        return 0
