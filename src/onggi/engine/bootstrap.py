"""`image bootstrap`: base images made from a distribution's archive, inside our own containers.

Packages are chosen, fetched and unpacked by our code; configured by their own scripts in a
container of the very files, with neither network nor dpkg on the host. Everything
that depends on the day is removed, and no time is later than the newest package:
the same packages give the same layer.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

import msgspec

from onggi.base.errors import InvalidArgument, NotFound, NotSupported, OnggiError
from onggi.base.units import format_time, human_size
from onggi.bootstrap.names import KNOWN, Wanted, parse_name
from onggi.bootstrap.packages import Index, Package, choose
from onggi.bootstrap.scripts import PATH, configure_script
from onggi.bootstrap.sources import Archive, checks_dates, parse_host, plan_archives, print_sources
from onggi.build.events import Note, StepDone, StepOutput, StepStarted, Tell
from onggi.engine.base_systems import BaseSystem
from onggi.engine.context import Context
from onggi.engine.fetching import Fetcher, Read
from onggi.engine.layering import settle_layer
from onggi.host.apt import read_apt_configuration, read_apt_sources
from onggi.host.clamping import clamp_times
from onggi.host.http import Downloads, Proxies
from onggi.spec.image_config import ContainerConfig, History, ImageConfig, RootFS, print_image_config
from onggi.spec.platform import machine_platform
from onggi.spec.reference import Reference, parse_reference
from onggi.store.images import Image
from onggi.store.leases import Lease

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_ALIASES: Final = frozenset({"stable", "oldstable", "testing", "unstable", "devel"})
_SECOND_NS: Final = 1_000_000_000
_PREFERRED: Final = frozenset({"usr-is-merged"})
"""What is taken where there is a choice: the new files have a merged /usr from the start (debootstrap does so too)."""
_ALSO: Final = {"debian": ("apt", "debian-archive-keyring"), "ubuntu": ("apt", "ubuntu-keyring")}
_TOLD_EVERY_NS: Final = _SECOND_NS // 2


class Bootstrap:
    """Makes base images in a state root."""

    def __init__(
        self, context: Context, *, tell: Tell, proxies: Proxies | None = None, keyring: bytes | None = None
    ) -> None:
        """Work on this root. `keyring`: keys to trust for this archive instead of the distribution's."""
        self._context, self._tell = context, tell
        self._fetcher = Fetcher(context, Downloads(proxies), keyring=keyring, note=lambda text: tell(Note(text=text)))
        self._steps = 0

    def make(self, name: str, *, mirror: str | None = None, tag: str | None = None) -> Image:
        """Make the image `name`. Raises InvalidArgument, Unavailable without a network, Unauthorized, Corrupt."""
        wanted = parse_name(name)
        if wanted is None:
            raise InvalidArgument(f"{name} cannot be bootstrapped: known are {KNOWN}")
        reference = parse_reference(tag or wanted.reference).with_default_tag()
        architecture = _ARCHITECTURES.get(self._context.facts.arch)
        if architecture is None:
            raise NotSupported(f"bootstrap knows no archive architecture for {self._context.facts.arch}")
        with self._context.leases.open(f"bootstrap of {name}") as lease:
            archives = self._plan(wanted, mirror)
            wanted = msgspec.structs.replace(wanted, suite=archives[0].suite)
            index, reads = self._read(wanted, archives, architecture)
            packages = _choose(wanted, index)
            self._fetch(packages)
            return self._image(wanted, architecture, reads, packages, reference, lease)

    # -- fetching ----------------------------------------------------------------------------------

    def _plan(self, wanted: Wanted, mirror: str | None) -> tuple[Archive, ...]:
        """Choose the archives; a name like `stable` becomes that of the suite it means today."""
        sources = [] if mirror else parse_host(read_apt_sources())
        check = bool(mirror) or checks_dates(read_apt_configuration())
        archives = plan_archives(wanted, sources, mirror)
        if wanted.suite in _ALIASES:
            alias = msgspec.structs.replace(archives[0], check_until=check and archives[0].check_until)
            named = self._fetcher.release(alias, wanted.distribution).codename
            archives = plan_archives(msgspec.structs.replace(wanted, suite=named), sources, mirror)
        return tuple(
            msgspec.structs.replace(archive, check_until=check and archive.check_until) for archive in archives
        )

    def _read(self, wanted: Wanted, archives: Sequence[Archive], architecture: str) -> tuple[Index, list[Read]]:
        with self._step(f"read {wanted.suite} of {archives[0].base}"):
            return self._fetcher.read(archives, wanted.distribution, architecture)

    def _fetch(self, packages: Sequence[Package]) -> None:
        missing = self._fetcher.missing(packages)
        if not missing:
            return
        total = sum(package.size for package in missing)
        with self._step(f"fetch {len(missing)} of {len(packages)} packages, {human_size(total)}") as say:
            started = told = self._context.root.clock_ns()
            count = size = 0

            def fetched(package: Package) -> None:
                nonlocal count, size, told
                count, size = count + 1, size + package.size
                now = self._context.root.clock_ns()
                if now - told > _TOLD_EVERY_NS or count == len(missing):
                    told = now
                    rate = size * _SECOND_NS / max(now - started, 1)
                    done = f"{human_size(size)} of {human_size(total)}, {human_size(rate)}/s"
                    say(f"{count}/{len(missing)} packages, {done}\n")

            self._fetcher.fetch(missing, fetched)

    # -- making ------------------------------------------------------------------------------------

    def _image(
        self,
        wanted: Wanted,
        architecture: str,
        reads: Sequence[Read],
        packages: Sequence[Package],
        reference: Reference,
        lease: Lease,
    ) -> Image:
        context = self._context
        key = context.root.new_id()
        context.snapshots.prepare(key, (), volatile=True, lease=lease)
        try:
            system = BaseSystem(
                context, key, lease, debs={package.name: self._fetcher.place(package) for package in packages}
            )
            if wanted.kind == "busybox":
                with self._step("unpack busybox-static") as say:
                    system.make_busybox(packages[0], output=say.raw)
            else:
                self._make_system(wanted, architecture, reads, packages, system)
            with self._step("make the layer"):
                clamp_times(system.upper, system.epoch)
                layer = context.snapshots.commit(key, lease=lease)
                diff_id = settle_layer(context, layer)
        except BaseException:
            with suppress(OnggiError):  # what went wrong first is what counts; the lease lets the rest go
                context.snapshots.remove(key)
            raise
        created = format_time(max(read.release.date_s for read in reads) * _SECOND_NS)
        platform = machine_platform(context.facts.arch)
        made = f"onggi image bootstrap {wanted.reference} # {reads[0].archive.base} {created}"
        config = ImageConfig(
            created=created,
            architecture=platform.architecture,
            os=platform.os,
            variant=platform.variant,
            config=ContainerConfig(env=(f"PATH={PATH}",), cmd=("sh" if wanted.kind == "busybox" else "bash",)),
            rootfs=RootFS(type="layers", diff_ids=(diff_id,)),
            history=(History(created=created, created_by=made),),
        )
        image = context.images.create(print_image_config(config), [layer.id], references=[reference], lease=lease)
        context.journal.tagged(image.id, [reference.familiar])
        return image

    def _make_system(
        self,
        wanted: Wanted,
        architecture: str,
        reads: Sequence[Read],
        packages: Sequence[Package],
        system: BaseSystem,
    ) -> None:
        with self._step(f"unpack {len(packages)} packages"):
            system.unpack(packages, architecture)
        sources = print_sources(wanted.distribution, [read.archive for read in reads])
        script = configure_script(kind=wanted.kind, sources=sources, slim=wanted.slim)
        with self._step(f"configure {len(packages)} packages") as say:
            system.configure(script, output=say.raw)

    # -- telling -----------------------------------------------------------------------------------

    @contextmanager
    def _step(self, title: str) -> "Iterator[_Say]":
        """Tell of one step, from its beginning to its end."""
        self._steps += 1
        step, clock_ns = str(self._steps), self._context.root.clock_ns
        started = clock_ns()
        self._tell(StepStarted(step=step, title=title, at_ns=started))
        error = ""
        try:
            yield _Say(step, self._tell)
        except BaseException as failure:
            error = str(failure) or type(failure).__name__
            raise
        finally:
            now = clock_ns()
            self._tell(StepDone(step=step, title=title, at_ns=now, duration_ns=now - started, error=error))


class _Say:
    """Takes what belongs to a step: text of ours, or what a container prints."""

    def __init__(self, step: str, tell: Tell) -> None:
        self._step, self._tell = step, tell

    def __call__(self, text: str) -> None:
        self.raw(1, text.encode())

    def raw(self, stream: int, data: bytes) -> None:
        self._tell(StepOutput(step=self._step, stream=stream, data=data))


def _choose(wanted: Wanted, index: Index) -> tuple[Package, ...]:
    """Choose what the image is made of. Raises NotFound."""
    if wanted.kind == "busybox":
        package = index.find("busybox-static")
        if package is None:
            raise NotFound(f"{wanted.suite} has no package busybox-static")
        return (package,)
    return choose(index, [*index.minimal(), *_ALSO[wanted.distribution]], prefer=_PREFERRED)
