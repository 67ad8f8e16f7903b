"""What a distribution's archive has, fetched and checked: signed Releases, their indices, the packages in those.

Nothing counts that is not vouched for from there, down to its size and SHA-256. What
was checked is kept in the state root's `downloads/` under its digest, and checked
again when it is used; what is wrong leaves no trace there.
"""

import codecs
import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Final

import msgspec

from onggi.base.errors import Corrupt, InvalidArgument, NotFound, NotSupported, Unavailable
from onggi.base.units import format_time
from onggi.bootstrap.packages import MAX_INDEX_BYTES, Index, Package
from onggi.bootstrap.release import (
    HOST_KEYRINGS,
    MAX_KEYRING_BYTES,
    MAX_RELEASE_BYTES,
    IndexFile,
    Release,
    pinned_keys,
    read_keyring,
    verify_release,
)
from onggi.bootstrap.sources import Archive
from onggi.engine.context import Context
from onggi.host.http import Downloads
from onggi.host.together import run_together
from onggi.store.tar.decompress import open_layer

_PARALLEL: Final = 4
_ATTEMPTS: Final = 3
_PIECE: Final = 1 << 18
_SECOND_NS: Final = 1_000_000_000

Note = Callable[[str], None]
"""Told what a user should know."""
Fetched = Callable[[Package], None]
"""Told of each package that was fetched; called from one thread."""


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """A suite that was read, and its Release."""

    archive: Archive
    release: Release


class Fetcher:
    """Fetches for one command. `keyring`: keys to trust instead of those of the distribution."""

    def __init__(self, context: Context, downloads: Downloads, *, keyring: bytes | None, note: Note) -> None:
        """Cache in this state root."""
        self._context, self._downloads, self._given, self._note = context, downloads, keyring, note

    # -- what there is -----------------------------------------------------------------------------

    def release(self, archive: Archive, distribution: str) -> Release:
        """Read the Release of a suite. Raises Unauthorized for a wrong signature, Corrupt for one out of date."""
        where = f"{archive.base}/dists/{archive.suite}/InRelease"
        data = self._downloads.get(where, max_bytes=MAX_RELEASE_BYTES)
        release = verify_release(data, self._keyring(distribution), where=where)
        if archive.suite not in _names(release):
            raise InvalidArgument(
                f"{where} is signed, but it is of {release.codename} ({release.suite}), not of {archive.suite}"
            )
        now_s = self._context.root.clock_ns() // _SECOND_NS
        if release.until_s is not None and release.until_s < now_s:
            until = format_time(release.until_s * _SECOND_NS)
            if archive.check_until:
                raise Corrupt(
                    f"{where} was valid until {until}: the mirror is out of date, or this host's clock is wrong; "
                    "use another mirror (--mirror)"
                )
            self._note(f"{where} was valid until {until}; this host's apt configuration says not to mind")
        return release

    def read(self, archives: Iterable[Archive], distribution: str, architecture: str) -> tuple[Index, list[Read]]:
        """Read all suites together. One that is `extra` may be missing, which is told."""
        index = Index()
        found: list[Read] = []
        for archive in archives:
            try:
                release = self.release(archive, distribution)
            except (NotFound, Unavailable) as error:
                if not archive.extra:
                    raise
                self._note(f"without {archive.suite}: {error}")
                continue
            index.add(self._packages(archive, release, architecture), archive.base)
            found.append(Read(archive=archive, release=release))
        return index, found

    def _packages(self, archive: Archive, release: Release, architecture: str) -> Iterator[str]:
        """Give the text of a suite's package index, piece by piece."""
        listed = release.packages("main", architecture)
        place = f"{archive.base}/dists/{archive.suite}"
        urls = [f"{place}/{listed.name}"]
        if release.by_hash:
            # A name means another file as soon as the archive moves on; a hash never does.
            urls.insert(0, f"{place}/{listed.name.rpartition('/')[0]}/by-hash/SHA256/{listed.sha256}")
        with self._context.files.open(self._cached(listed, urls)) as file:
            stream = open_layer(file)
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            buffer = memoryview(bytearray(_PIECE))
            while count := stream.readinto(buffer):
                if stream.size_bytes > MAX_INDEX_BYTES:
                    raise Corrupt(f"{urls[-1]} has more than {MAX_INDEX_BYTES} bytes, which no index has")
                yield decoder.decode(buffer[:count])

    def _keyring(self, distribution: str) -> bytes:
        """Give the archive keys: ours, or for Ubuntu the host's, as far as we know them."""
        if self._given is not None:
            return self._given
        path = HOST_KEYRINGS.get(distribution)
        if path is None:
            return read_keyring()
        if self._context.files.look(path) is None:
            raise NotSupported(f"{distribution} images can be made on {distribution} hosts only: {path} is not here")
        return pinned_keys(self._context.files.read(path, MAX_KEYRING_BYTES), distribution)

    # -- packages ----------------------------------------------------------------------------------

    def missing(self, packages: Iterable[Package]) -> list[Package]:
        """Say which packages are not here yet."""
        return [package for package in packages if not self._is_here(_file_of(package))]

    def fetch(self, packages: Sequence[Package], fetched: Fetched) -> None:
        """Fetch packages, several at once. The first that fails ends it all; so does an interrupt (Cancelled)."""
        stopped = threading.Event()

        def stop() -> None:
            stopped.set()
            self._downloads.stop()

        def task(package: Package, say: Fetched) -> None:
            self._cached(_file_of(package), [f"{package.base}/{package.filename}"], stopped)
            say(package)

        run_together([partial(task, package) for package in packages], width=_PARALLEL, heard=fetched, stop=stop)

    def place(self, package: Package) -> str:
        """Say where a package lies that was fetched."""
        return self._context.root.place("downloads", package.sha256)

    # -- the cache ---------------------------------------------------------------------------------

    def _cached(self, file: IndexFile, urls: Sequence[str], stop: threading.Event | None = None) -> str:
        """Give the path of a file, fetched from the first of the URLs that has it if it is not here."""
        context = self._context
        context.files.make_directory(context.root.place("downloads"))
        path = context.root.place("downloads", file.sha256)
        if self._is_here(file):
            return path
        for number, url in enumerate(urls, 1):
            try:
                self._download(url, path, file, stop or threading.Event())
            except NotFound:
                if number == len(urls):
                    raise
            else:
                break
        return path

    def _is_here(self, file: IndexFile) -> bool:
        """Say whether a file is here, whole and right; a wrong one is removed."""
        context = self._context
        path = context.root.place("downloads", file.sha256)
        seen = context.files.look(path)
        if seen is None:
            return False
        if seen.kind == "file" and seen.size_bytes == file.size:
            digest = hashlib.sha256()
            for chunk in context.files.chunks(path):
                digest.update(chunk)
            if digest.hexdigest() == file.sha256:
                return True
        context.root.discard(path)
        return False

    def _download(self, url: str, path: str, file: IndexFile, stop: threading.Event) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._receive(url, path, file, stop)
                return
            except Unavailable:
                # The library tries again where no answer came; here one broke off.
                if attempt == _ATTEMPTS or stop.is_set():
                    raise

    def _receive(self, url: str, path: str, file: IndexFile, stop: threading.Event) -> None:
        """Write a file under a name of its own, and give it its real one when it is what it must be."""
        root = self._context.root
        name = root.new_id()
        digest = hashlib.sha256()
        with root.lock("ingest", name, "a download"), root.files.stage(root.place("ingest", name)) as staged:
            try:
                for chunk in self._downloads.stream(url, max_bytes=file.size, stopped=stop.is_set):
                    digest.update(chunk)
                    staged.write(chunk)
                if staged.size_bytes != file.size or digest.hexdigest() != file.sha256:
                    raise Corrupt(
                        f"{url} is not what the archive's index says: {staged.size_bytes} of {file.size} bytes, "
                        f"SHA-256 {digest.hexdigest()[:12]} instead of {file.sha256[:12]}; "
                        "try again, or use another mirror"
                    )
            except BaseException:
                staged.discard()
                raise
            staged.publish(path)


def _names(release: Release) -> set[str]:
    """Give the names under which a suite may be asked for.

    Ubuntu's noble, noble-updates and noble-security all have the code name noble, which
    then is the name of the first only.
    """
    if release.suite.startswith(f"{release.codename}-"):
        return {release.suite}
    return {release.suite, release.codename}


def _file_of(package: Package) -> IndexFile:
    return IndexFile(package.filename, package.sha256, package.size)
