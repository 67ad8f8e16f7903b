"""`image bootstrap`: base images made from a distribution's archive, inside our own containers.

Packages are chosen, fetched and unpacked by our code; configured by their own scripts in a
container of the very files, with neither network nor dpkg on the host. Everything
that depends on the day is removed, and no time is later than the archive's Release:
the same package versions give the same layer.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Final

import msgspec

from onggi.base.errors import FailedPrecondition, InvalidArgument, NotFound, NotSupported, OnggiError
from onggi.base.units import format_time, human_size
from onggi.bootstrap.deb import open_member
from onggi.bootstrap.packages import MAX_INDEX_BYTES, Package, choose_minimal, parse_packages
from onggi.bootstrap.release import (
    HOST_KEYRINGS,
    MAX_RELEASE_BYTES,
    Release,
    pinned_keys,
    read_keyring,
    verify_release,
)
from onggi.build.graph import RunStep
from onggi.build.roots import Roots
from onggi.engine.context import Context
from onggi.engine.layering import settle_layer
from onggi.engine.running_steps import StepRunner
from onggi.host.apt import find_mirror
from onggi.host.clamping import clamp_times
from onggi.host.clock import monotonic_s
from onggi.host.http import Downloads
from onggi.host.reading import open_seekable
from onggi.spec.image_config import ContainerConfig, History, ImageConfig, RootFS, print_image_config
from onggi.spec.platform import machine_platform
from onggi.spec.reference import parse_reference
from onggi.store.images import Image
from onggi.store.leases import Lease
from onggi.store.tar.decompress import open_layer
from onggi.store.tar.unpack import unpack_tree

STABLE: Final = {"debian": "bookworm", "ubuntu": "noble"}
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PARALLEL: Final = 4
_MERGED: Final = ("bin", "sbin", "lib", "lib64")
_DEBS: Final = "onggi-debs"
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}

Tell = Callable[[str], None]
"""Shows one line of progress."""

_CONFIGURE: Final = f"""set -e
cd /
export DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true LC_ALL=C PATH={PATH}
[ -e /usr/bin/awk ] || ln -s mawk /usr/bin/awk
printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
mkdir -p /var/lib/dpkg/info /var/lib/dpkg/updates /var/lib/dpkg/triggers /var/lib/dpkg/parts /var/lib/dpkg/alternatives
: > /var/lib/dpkg/status
: > /var/lib/dpkg/available
install="dpkg --force-depends --force-unsafe-io --install"
$install /{_DEBS}/base-passwd_*.deb
$install /{_DEBS}/base-files_*.deb
dpkg --force-depends --force-unsafe-io --unpack /{_DEBS}/*.deb
dpkg --force-depends --force-configure-any --force-unsafe-io --configure --pending
dpkg --configure --pending
rm -rf /{_DEBS} /usr/sbin/policy-rc.d /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb
rm -rf /var/cache/ldconfig/aux-cache /var/cache/debconf/*-old /var/lib/dpkg/*-old /etc/passwd- /etc/group- /etc/shadow-
rm -rf /etc/gshadow- /var/lib/systemd/catalog/database /tmp/* /var/tmp/*
find /var/log -type f -delete
: > /etc/machine-id
"""
_SLIM: Final = """set -e
rm -rf /usr/share/man/* /usr/share/info/* /usr/share/lintian/* /usr/share/linda/*
find /usr/share/locale -mindepth 1 -maxdepth 1 ! -name locale.alias -exec rm -rf {} +
find /usr/share/doc -depth -type f ! -name copyright -delete
find /usr/share/doc -depth -type l -delete
find /usr/share/doc -mindepth 1 -type d -empty -delete
mkdir -p /etc/dpkg/dpkg.cfg.d
cat > /etc/dpkg/dpkg.cfg.d/docker <<'END'
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/man/*
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
path-include /usr/share/locale/locale.alias
path-exclude /usr/share/lintian/*
path-exclude /usr/share/linda/*
END
"""
_APT: Final = {
    "docker-clean": (
        'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb '
        '/var/cache/apt/*.bin || true"; };\n'
        'APT::Update::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb '
        '/var/cache/apt/*.bin || true"; };\nDir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n'
    ),
    "docker-no-languages": 'Acquire::Languages "none";\n',
    "docker-gzip-indexes": 'Acquire::GzipIndexes "true";\n',
    "docker-autoremove-suggests": 'Apt::AutoRemove::SuggestsImportant "false";\n',
}
_BUSYBOX: Final = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n",
    "etc/group": "root:x:0:\ntty:x:5:\nwww-data:x:33:\nnogroup:x:65534:\n",
}


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a name asks for: `kind` is debian, ubuntu or busybox."""

    kind: str
    suite: str
    slim: bool
    reference: str


def parse_name(name: str) -> Wanted | None:
    """Read `busybox`, `debian`, `debian:bookworm-slim`, `ubuntu:noble`; None for a name that nobody can make."""
    try:
        reference = parse_reference(name).with_default_tag()
    except OnggiError:
        return None
    kind, tag = reference.familiar_name, reference.tag or "latest"
    if kind == "busybox":
        return Wanted(kind=kind, suite=STABLE["debian"], slim=False, reference=reference.familiar)
    if kind not in STABLE:
        return None
    suite = tag.removesuffix("-slim")
    suite = STABLE[kind] if suite in ("latest", "stable") or tag == "slim" else suite
    return Wanted(kind=kind, suite=suite, slim=tag.endswith("slim"), reference=reference.familiar)


class Bootstrap:
    """Makes base images in a state root."""

    def __init__(self, context: Context, *, proxies: Mapping[str, str], tell: Tell) -> None:
        """Work on this root; progress goes to `tell`."""
        self._context, self._tell = context, tell
        self._downloads = Downloads(proxies)

    def make(self, name: str, *, mirror: str | None = None, tag: str | None = None) -> Image:
        """Make the image `name`. Raises InvalidArgument, Unavailable without a network, Unauthorized, Corrupt."""
        wanted = parse_name(name)
        if wanted is None:
            raise InvalidArgument(
                f"{name} cannot be bootstrapped: known are busybox, debian:SUITE, debian:SUITE-slim and ubuntu:SUITE"
            )
        machine = self._context.facts.arch
        if machine not in _ARCHITECTURES:
            raise NotSupported(f"bootstrap knows no archive architecture for {machine}")
        distribution = "ubuntu" if wanted.kind == "ubuntu" else "debian"
        base = (mirror or find_mirror(distribution)).rstrip("/")
        with self._context.leases.open(f"bootstrap of {name}") as lease:
            release, packages = self._index(base, wanted.suite, _ARCHITECTURES[machine], distribution)
            if wanted.kind == "busybox":
                chosen = [packages[n] for n in ("busybox-static",) if n in packages]
            else:
                chosen = choose_minimal(
                    packages,
                    ("apt", *(n for n in (f"{distribution}-archive-keyring", "ubuntu-keyring") if n in packages)),
                )
            if not chosen:
                raise NotFound(f"{base} has no busybox-static")
            debs = self._fetch(base, chosen)
            return self._image(wanted, base, release, chosen, debs, tag, lease)

    # -- fetching ----------------------------------------------------------------------------------

    def _index(self, base: str, suite: str, architecture: str, distribution: str) -> tuple[Release, dict[str, Package]]:
        """Fetch and check the Release and the Packages of main (with universe's absence in mind: main is enough)."""
        where = f"{base}/dists/{suite}/InRelease"
        self._tell(f"reading {where}")
        data = self._downloads.get(where, max_bytes=MAX_RELEASE_BYTES)
        now_s = self._context.root.clock_ns() // 1_000_000_000
        release = verify_release(data, self._keyring(distribution), now_s=now_s, where=where)
        if suite not in (release.codename, release.suite):
            raise InvalidArgument(f"{where} is signed, but for {release.codename} ({release.suite}), not for {suite}")
        for extension in ("xz", "gz"):
            name = f"main/binary-{architecture}/Packages.{extension}"
            listed = release.files.get(name)
            if listed is not None:
                break
        else:
            raise NotFound(f"{base} has no packages for {architecture} in {suite}")
        path = self._cached(listed.sha256)
        if self._context.files.look(path) is None:
            self._downloads.fetch(f"{base}/dists/{suite}/{name}", path, size=listed.size, sha256=listed.sha256)
        with self._context.files.open(path) as file:
            stream = open_layer(file)
            buffer, text = memoryview(bytearray(1 << 20)), bytearray()
            while count := stream.readinto(buffer):
                text += buffer[:count]
                if len(text) > MAX_INDEX_BYTES:
                    raise InvalidArgument(f"{name} of {base} is larger than {human_size(MAX_INDEX_BYTES)}")
        return release, parse_packages(text.decode("utf-8", "replace"))

    def _keyring(self, distribution: str) -> bytes:
        """Give the archive keys: ours, or for Ubuntu the host's, as far as we know them."""
        path = HOST_KEYRINGS.get(distribution)
        if path is None:
            return read_keyring(distribution)
        if self._context.files.look(path) is None:
            raise NotSupported(f"{distribution} images can be made on {distribution} hosts only: {path} is not here")
        return pinned_keys(self._context.files.read(path, MAX_RELEASE_BYTES), distribution)

    def _cached(self, sha256: str) -> str:
        place = self._context.root.place("downloads")
        self._context.files.make_directory(place)
        return f"{place}/{sha256}"

    def _fetch(self, base: str, packages: Sequence[Package]) -> dict[str, str]:
        """Fetch packages, several at once; gives where each lies. What was fetched before is not fetched again."""
        paths = {package.name: self._cached(package.sha256) for package in packages}
        missing = [package for package in packages if self._context.files.look(paths[package.name]) is None]
        total = sum(package.size for package in missing)
        self._tell(f"{len(packages)} packages, {len(missing)} to fetch ({human_size(total)})")
        started, done = monotonic_s(), 0

        def fetch(package: Package) -> Package:
            url = f"{base}/{package.filename}"
            self._downloads.fetch(url, paths[package.name], size=package.size, sha256=package.sha256)
            return package

        with ThreadPoolExecutor(_PARALLEL) as pool:
            for number, package in enumerate(pool.map(fetch, missing), 1):
                done += package.size
                if number % 20 == 0 or number == len(missing):
                    seconds = max(monotonic_s() - started, 0.001)
                    self._tell(f"fetched {number}/{len(missing)}, {human_size(done)}, {human_size(done / seconds)}/s")
        return paths

    # -- making ------------------------------------------------------------------------------------

    def _image(
        self,
        wanted: Wanted,
        base: str,
        release: Release,
        packages: Sequence[Package],
        debs: Mapping[str, str],
        tag: str | None,
        lease: Lease,
    ) -> Image:
        context = self._context
        key = context.root.new_id()
        context.snapshots.prepare(key, (), volatile=True, lease=lease)
        upper = context.root.place("snapshots", key, "fs")
        self._tell("unpacking")
        self._unpack(upper, packages, debs, merged=wanted.kind != "busybox")
        if wanted.kind == "busybox":
            self._finish_busybox(key, upper, lease)
        else:
            self._finish_system(key, upper, wanted, base, packages, debs, release, lease)
        clamp_times(upper, release.date_s)
        layer = context.snapshots.commit(key, lease=lease)
        diff_id = settle_layer(context, layer)
        created = format_time(release.date_s * 1_000_000_000)
        platform = machine_platform(context.facts.arch)
        command = ("sh",) if wanted.kind == "busybox" else ("bash",)
        config = ImageConfig(
            created=created,
            architecture=platform.architecture,
            os=platform.os,
            variant=platform.variant,
            config=ContainerConfig(env=(f"PATH={PATH}",), cmd=command),
            rootfs=RootFS(type="layers", diff_ids=(diff_id,)),
            history=(
                History(
                    created=created, created_by=f"onggi image bootstrap {wanted.reference} # {base} {release.codename}"
                ),
            ),
        )
        references = [parse_reference(tag or wanted.reference).with_default_tag()]
        return context.images.create(print_image_config(config), [layer.id], references=references, lease=lease)

    def _unpack(self, upper: str, packages: Iterable[Package], debs: Mapping[str, str], *, merged: bool) -> None:
        context = self._context
        files = context.files
        if merged:
            files.make_directory(f"{upper}/usr", 0o755)
            for name in _MERGED:
                files.make_directory(f"{upper}/usr/{name}", 0o755)
                files.link(f"usr/{name}", f"{upper}/{name}")
        root = files.open_directory(upper)
        try:
            for package in packages:
                with open_seekable(debs[package.name]) as file:
                    unpack_tree(
                        open_layer(open_member(file, "data.tar", package.filename)), root, keep_directory_links=True
                    )
        finally:
            files.close(root)

    def _finish_busybox(self, key: str, upper: str, lease: Lease) -> None:
        files = self._context.files
        for name in ("usr/share", "usr/lib"):
            files.remove_tree(f"{upper}/{name}")
        for name in ("bin", "etc", "home", "root", "tmp", "usr", "usr/bin", "usr/sbin", "sbin", "var", "var/tmp"):
            files.make_directory(
                f"{upper}/{name}", 0o1777 if name.endswith("tmp") else 0o700 if name == "root" else 0o755
            )
        for name, text in _BUSYBOX.items():
            files.put(f"{upper}/{name}", text.encode(), mode=0o644)
        self._run(key, ("/bin/busybox", "--install", "-s", "/bin"), 0, lease)

    def _finish_system(
        self,
        key: str,
        upper: str,
        wanted: Wanted,
        base: str,
        packages: Sequence[Package],
        debs: Mapping[str, str],
        release: Release,
        lease: Lease,
    ) -> None:
        files = self._context.files
        files.make_directory(f"{upper}/{_DEBS}", 0o755)
        for package in packages:
            files.copy(debs[package.name], f"{upper}/{_DEBS}/{package.name}_{package.version.replace(':', '%3a')}.deb")
        self._tell(f"configuring {len(packages)} packages")
        self._run(key, ("/bin/sh", "-c", _CONFIGURE), release.date_s, lease)
        if wanted.slim:
            self._run(key, ("/bin/sh", "-c", _SLIM), release.date_s, lease)
        files.make_directory(f"{upper}/etc/apt/apt.conf.d", 0o755)
        for name, text in _APT.items():
            files.put(f"{upper}/etc/apt/apt.conf.d/{name}", text.encode(), mode=0o644)
        files.put(f"{upper}/etc/dpkg/dpkg.cfg.d/docker-apt-speedup", b"force-unsafe-io\n", mode=0o644)
        files.remove_tree(f"{upper}/etc/apt/sources.list")
        files.put(f"{upper}/etc/apt/sources.list.d/{wanted.kind}.sources", _sources(wanted, base).encode(), mode=0o644)

    def _run(self, key: str, argv: tuple[str, ...], epoch: int, lease: Lease) -> None:
        """Run a command in the files that are being made."""
        context = self._context
        output = bytearray()
        step = RunStep(
            argv=argv,
            env=(f"PATH={PATH}", f"SOURCE_DATE_EPOCH={epoch}"),
            args=(),
            user="",
            workdir="/",
            network="none",
        )
        runner = StepRunner(context, lease=lease, host_certs=False)
        roots = Roots(context.root, context.layers, context.files)
        with ExitStack() as stack:
            held = stack.enter_context(context.snapshots.hold(key))
            code = runner.run(held, step, roots, lambda _stream, data: output.extend(data))
        if code != 0:
            last = output.decode("utf-8", "replace").strip().splitlines()[-8:]
            raise FailedPrecondition(
                "the packages could not be configured:\n" + "\n".join(f"  {line}" for line in last)
            )


def _sources(wanted: Wanted, base: str) -> str:
    """Write the sources of the image as Docker's images have them: the suite, its updates, and security."""
    if wanted.kind == "ubuntu":
        keyring = "/usr/share/keyrings/ubuntu-archive-keyring.gpg"
        suites = f"{wanted.suite} {wanted.suite}-updates {wanted.suite}-security"
        return f"Types: deb\nURIs: {base}\nSuites: {suites}\nComponents: main universe\nSigned-By: {keyring}\n"
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    suites = wanted.suite if wanted.suite in ("sid", "unstable") else f"{wanted.suite} {wanted.suite}-updates"
    text = f"Types: deb\nURIs: {base}\nSuites: {suites}\nComponents: main\nSigned-By: {keyring}\n"
    if wanted.suite not in ("sid", "unstable"):
        security = f"{base.removesuffix('/debian')}/debian-security"
        text += (
            f"\nTypes: deb\nURIs: {security}\nSuites: {wanted.suite}-security\nComponents: main\nSigned-By: {keyring}\n"
        )
    return text
