"""Root file systems made of a distribution's packages: unpacked by our own code, configured in a container of them.

Nothing on the host follows a name in the new files: they are written beneath a
descriptor, and what their own programs do, they do inside.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Final

from onggi.base.errors import Cancelled, FailedPrecondition, NotFound
from onggi.bootstrap.deb import open_member
from onggi.bootstrap.packages import Package
from onggi.bootstrap.scripts import (
    BUSYBOX_DIRECTORIES,
    BUSYBOX_FILES,
    BUSYBOX_INSTALL,
    BUSYBOX_LINKS,
    DEBS,
    ENVIRONMENT,
)
from onggi.build.dockerfile.mounts import BuildMount
from onggi.build.graph import FromContext, RunStep
from onggi.build.roots import Context as Tree
from onggi.build.roots import Roots
from onggi.build.solver import Output
from onggi.engine.context import Context
from onggi.engine.running_steps import StepRunner
from onggi.host.planter import Planter
from onggi.host.reading import open_seekable
from onggi.store.leases import Lease
from onggi.store.tar.decompress import open_layer
from onggi.store.tar.entry import LIMITS, Entry, Kind
from onggi.store.tar.paths import clean
from onggi.store.tar.reader import TarReader
from onggi.store.tar.unpack import unpack_tree

_MERGED: Final = {"amd64": ("bin", "sbin", "lib", "lib64"), "arm64": ("bin", "sbin", "lib")}
_BUSYBOX: Final = (b"bin/busybox", b"usr/bin/busybox")
_MAX_BUSYBOX_BYTES: Final = 64 << 20
_NOBODY: Final = 65534
_LAST_LINES: Final = 12
_KEPT_BYTES: Final = 1 << 16


class BaseSystem:
    """A root file system on its way, in the snapshot `key`."""

    def __init__(self, context: Context, key: str, lease: Lease, *, debs: Mapping[str, str]) -> None:
        """Make it of `debs`: where the file of each package is, by the package's name."""
        self._context, self._key, self._lease, self._debs = context, key, lease, debs
        self.upper = context.root.place("snapshots", key, "fs")
        self.epoch = self._newest_s()
        """When the newest of the packages was built, in seconds: no time in the result is later.

        It follows from the packages alone, where the date of a Release does not: the
        same packages make the same layer whenever they are put together.
        """

    def _newest_s(self) -> int:
        newest = 0
        for name, path in self._debs.items():
            with open_seekable(path) as file:
                newest = max(newest, open_member(file, "data.tar", name).mtime_s)
        return newest

    # -- Debian and Ubuntu -------------------------------------------------------------------------

    def unpack(self, packages: Iterable[Package], architecture: str) -> None:
        """Unpack packages over each other, in a file system whose /bin, /sbin and /lib are those of /usr."""
        files = self._context.files
        root = files.open_directory(self.upper)
        try:
            self._plant_merged_usr(root, _MERGED[architecture])
            for package in packages:
                with open_seekable(self._debs[package.name]) as file:
                    data = open_member(file, "data.tar", package.filename)
                    unpack_tree(open_layer(data), root, keep_directory_links=True)
        finally:
            files.close(root)

    def _plant_merged_usr(self, root: int, names: Sequence[str]) -> None:
        with Planter(root) as planter:
            for name in ("usr", *(f"usr/{name}" for name in names)):
                planter.directory(name.encode(), self._entry(Kind.DIRECTORY, 0o755))
            for name in names:
                planter.symlink(name.encode(), self._entry(Kind.SYMLINK, 0o777), f"usr/{name}".encode())
            planter.finish()

    def configure(self, script: str, *, output: Output) -> None:
        """Run a script in it, which sees the packages. Raises FailedPrecondition with the script's last words."""
        context = self._context
        with ExitStack() as stack:
            # Hard links by the packages' names, as the cache has digests.
            place = stack.enter_context(context.root.scratch("the packages of a base image"))
            context.files.make_directory(place, 0o755)
            for name, path in self._debs.items():
                context.files.hard_link(path, f"{place}/{name}.deb")
            fd = context.files.open_directory(place)
            stack.callback(context.files.close, fd)
            self._run(("/bin/sh", "-c", script), output, debs=fd)

    # -- busybox -----------------------------------------------------------------------------------

    def make_busybox(self, package: Package, *, output: Output) -> None:
        """Make a system of one static program."""
        files = self._context.files
        root = files.open_directory(self.upper)
        try:
            with Planter(root) as planter:
                for name, mode in BUSYBOX_DIRECTORIES.items():
                    planter.directory(
                        name.encode(), self._entry(Kind.DIRECTORY, mode, _NOBODY if name == "home" else 0)
                    )
                for name, text in BUSYBOX_FILES.items():
                    data = memoryview(text.encode())
                    entry = self._entry(Kind.REGULAR, 0o600 if name == "etc/shadow" else 0o644)
                    planter.regular(name.encode(), entry, len(data), [(0, data)])
                for name, target in BUSYBOX_LINKS.items():
                    planter.symlink(name.encode(), self._entry(Kind.SYMLINK, 0o777), target.encode())
                self._plant_program(planter, package)
                planter.finish()
        finally:
            files.close(root)
        self._run(BUSYBOX_INSTALL, output)

    def _plant_program(self, planter: Planter, package: Package) -> None:
        with open_seekable(self._debs[package.name]) as file:
            reader = TarReader(open_layer(open_member(file, "data.tar", package.filename)))
            for entry in reader:
                if entry.kind is Kind.REGULAR and clean(entry.name, LIMITS) in _BUSYBOX:
                    if entry.size > _MAX_BUSYBOX_BYTES:
                        break
                    planter.regular(b"bin/busybox", entry, entry.size, reader.extents())
                    return
        raise NotFound(f"{package.filename} has no busybox in it")

    def _entry(self, kind: Kind, mode: int, owner: int = 0) -> Entry:
        """Describe a file that no package has."""
        return Entry(name=b"", kind=kind, mode=mode, uid=owner, gid=owner, mtime_ns=self.epoch * 1_000_000_000)

    # -- containers --------------------------------------------------------------------------------

    def _run(self, argv: tuple[str, ...], output: Output, *, debs: int | None = None) -> None:
        """Run a command in the files as they are, without a network."""
        mounts = ((BuildMount(target=DEBS), FromContext()),) if debs is not None else ()
        environment = {**ENVIRONMENT, "SOURCE_DATE_EPOCH": str(self.epoch)}
        step = RunStep(
            argv=argv,
            env=tuple(f"{name}={value}" for name, value in environment.items()),
            args=(),
            user="",
            workdir="/",
            network="none",
            mounts=mounts,
        )
        said = bytearray()

        def hear(stream: int, data: bytes) -> None:
            said.extend(data)
            del said[:-_KEPT_BYTES]
            output(stream, data)

        code = self._run_step(step, hear, Tree(-1 if debs is None else debs))
        if code != 0:
            last = said.decode("utf-8", "replace").strip().splitlines()[-_LAST_LINES:]
            lines = "".join(f"\n  {line}" for line in last)
            raise FailedPrecondition(f"the packages could not be configured (exit code {code}):{lines}")

    def _run_step(self, step: RunStep, output: Output, debs: Tree) -> int:
        """Run it beside this thread, which is the one that an interrupt reaches."""
        context = self._context
        runner = StepRunner(context, lease=self._lease, host_certs=False)
        roots = Roots(context.root, context.layers, context.files)

        def run() -> int:
            with context.snapshots.hold(self._key) as held, roots.mounts(step, lambda _: debs):
                return runner.run(held, step, roots, output)

        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(run)
            try:
                return running.result()
            except KeyboardInterrupt:
                runner.cancel()
                raise Cancelled("interrupted; what was fetched is kept for the next time") from None
