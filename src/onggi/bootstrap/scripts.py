"""What is done in the new files, by their own programs in a container: shell scripts, and texts of images. Pure.

As debootstrap, then debuerreotype (which makes Docker's Debian images) do it. The
packages lie at /mnt, where the files have an empty directory already; no network,
nothing of the host. At the end all is removed that depends on the day or the machine.
"""

import shlex
from collections.abc import Iterable, Mapping
from typing import Final

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEBS: Final = "/mnt"
DPKG: Final = "/usr/bin/dpkg"
FIRST: Final = ("base-passwd", "base-files")
"""Packages that are configured before all others: without users and directories nothing is."""

ENVIRONMENT: Final = {
    "PATH": PATH,
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBCONF_NONINTERACTIVE_SEEN": "true",
    "DEBCONF_NOWARNINGS": "yes",
    "LC_ALL": "C",
    "HOME": "/root",
    "PERL_HASH_SEED": "0",
}

_PREPARE: Final = """
set -e
umask 022
cd /
[ -e /usr/bin/awk ] || ln -s mawk /usr/bin/awk
for directory in info updates triggers parts alternatives; do mkdir -p /var/lib/dpkg/$directory; done
: >/var/lib/dpkg/status
: >/var/lib/dpkg/available
"""
# In this order dpkg warns a hundred times that something is not configured yet: that counts only if it fails.
_INSTALL: Final = """
quietly() {{
    {dpkg} --force-unsafe-io "$@" 2>>/tmp/dpkg.log || {{ code=$?; cat /tmp/dpkg.log >&2; exit $code; }}
}}
for name in {first}; do
    if [ -e {debs}/$name.deb ]; then quietly --force-depends --install {debs}/$name.deb; fi
done
quietly --force-depends --unpack {debs}/*.deb
quietly --force-depends --force-configure-any --configure --pending
quietly --configure --pending
{dpkg} --audit
"""
_SLIM: Final = """
find /usr/share/doc ! -type d ! -name copyright -exec rm -f {} +
find /usr/share/doc -mindepth 1 -depth -type d -exec rmdir {} + 2>/dev/null || :
for directory in groff info linda lintian man; do rm -rf /usr/share/$directory/*; done
if [ -d /usr/share/locale ]; then
    find /usr/share/locale -mindepth 1 -maxdepth 1 ! -name locale.alias -exec rm -rf {} +
fi
"""
_CLEAN: Final = """
rm -f /etc/apt/sources.list /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/subuid- /etc/subgid-
rm -f /var/lib/dpkg/*-old /var/cache/debconf/*-old /var/cache/ldconfig/aux-cache
rm -f /var/log/*.log /var/log/apt/*
find /var/log -type f -exec sh -c 'for file; do : >"$file"; done' sh {} +
rm -rf /tmp/* /var/tmp/* /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb
if [ -e /etc/machine-id ]; then : >/etc/machine-id; fi
"""

_REMOVE: Final = "/var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin"
_FILES: Final = {
    "/etc/apt/apt.conf.d/docker-autoremove-suggests": 'Apt::AutoRemove::SuggestsImportant "false";\n',
    "/etc/apt/apt.conf.d/docker-clean": (
        f'DPkg::Post-Invoke {{ "rm -f {_REMOVE} || true"; }};\n'
        f'APT::Update::Post-Invoke {{ "rm -f {_REMOVE} || true"; }};\n'
        'Dir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n'
    ),
    "/etc/apt/apt.conf.d/docker-gzip-indexes": 'Acquire::GzipIndexes "true";\n',
    "/etc/apt/apt.conf.d/docker-no-languages": 'Acquire::Languages "none";\n',
    "/etc/dpkg/dpkg.cfg.d/docker-apt-speedup": "force-unsafe-io\n",
}
_POLICY: Final = {
    "/usr/sbin/policy-rc.d": "#!/bin/sh\n# Nothing starts services while packages are installed.\nexit 101\n"
}
_EXCLUDES: Final = {
    "/etc/dpkg/dpkg.cfg.d/docker": "".join(
        [
            *(f"path-exclude /usr/share/{name}/*\n" for name in ("doc", "groff", "info", "linda", "lintian")),
            *(f"path-exclude /usr/share/{name}/*\n" for name in ("locale", "man")),
            "path-include /usr/share/doc/*/copyright\npath-include /usr/share/locale/locale.alias\n",
        ]
    )
}


def configure_script(*, kind: str, sources: str, slim: bool) -> str:
    """Write the script that makes a system of unpacked packages; `sources` is what its apt is to use."""
    files = {**_FILES, f"/etc/apt/sources.list.d/{kind}.sources": sources}
    parts = [
        _PREPARE,
        *_write(_POLICY, mode="755"),
        _INSTALL.format(dpkg=DPKG, first=" ".join(FIRST), debs=DEBS),
        *_write({**files, **_EXCLUDES} if slim else files),
        *((_SLIM,) if slim else ()),
        _CLEAN,
    ]
    return "".join(parts)


def _write(files: Mapping[str, str], mode: str = "644") -> Iterable[str]:
    for path, text in files.items():
        directory = path.rpartition("/")[0]
        yield f"mkdir -p {directory}\nprintf %s {shlex.quote(text)} >{path}\nchmod {mode} {path}\n"


# -- busybox ---------------------------------------------------------------------------------------------

BUSYBOX_INSTALL: Final = ("/bin/busybox", "--install", "/bin")
"""Every applet becomes a hard link, as in Docker's image."""

BUSYBOX_DIRECTORIES: Final = {
    **dict.fromkeys(("bin", "dev", "etc", "home", "lib", "proc", "sbin", "sys", "usr", "usr/bin", "usr/sbin"), 0o755),
    **dict.fromkeys(("var", "var/spool", "var/spool/mail", "var/www"), 0o755),
    **dict.fromkeys(("tmp", "var/tmp"), 0o1777),
    "root": 0o700,
}
BUSYBOX_LINKS: Final = {"usr/bin/env": "../../bin/env"}
BUSYBOX_FILES: Final = {
    "etc/passwd": (
        "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nbin:x:2:2:bin:/bin:/bin/false\n"
        "sys:x:3:3:sys:/dev:/bin/false\nsync:x:4:100:sync:/bin:/bin/sync\nmail:x:8:8:mail:/var/spool/mail:/bin/false\n"
        "www-data:x:33:33:www-data:/var/www:/bin/false\noperator:x:37:37:Operator:/var:/bin/false\n"
        "nobody:x:65534:65534:nobody:/home:/bin/false\n"
    ),
    "etc/group": "".join(
        f"{name}:x:{gid}:{'root' if name == 'wheel' else ''}\n"
        for name, gid in (
            *(("root", 0), ("daemon", 1), ("bin", 2), ("sys", 3), ("adm", 4), ("tty", 5), ("disk", 6), ("lp", 7)),
            *(("mail", 8), ("kmem", 9), ("wheel", 10), ("cdrom", 11), ("dialout", 18), ("floppy", 19), ("video", 28)),
            *(("audio", 29), ("tape", 32), ("www-data", 33), ("operator", 37), ("utmp", 43), ("plugdev", 46)),
            *(("staff", 50), ("lock", 54), ("netdev", 82), ("users", 100), ("nobody", 65534)),
        )
    ),
    "etc/shadow": "root:*:::::::\n"
    + "".join(
        f"{name}:*:::::::\n" for name in ("daemon", "bin", "sys", "sync", "mail", "www-data", "operator", "nobody")
    ),
}
