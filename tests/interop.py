"""An image with everything in it, and how it looks in a container of ours and of a docker or podman."""

import json
import tarfile
from pathlib import Path
from typing import Any, Final, NamedTuple

from onggi.engine.archives import Loaded
from tests.homes import IMAGE, Home
from tests.peers import Docker, Podman, ask, find

NAME: Final = "interop:1"
CAPABILITY: Final = bytes.fromhex("01000002 00200000 00000000 00000000 00000000")
"""security.capability of `setcap cap_net_raw=ep` (linux/capability.h, VFS_CAP_REVISION_2)."""

DOCKERFILE: Final = f"""FROM {IMAGE}
COPY files /srv
RUN mkdir -p /data/old /data/sub /data/empty && echo old > /data/old/a && echo 1 > /data/gone && \\
    ln /data/gone /data/linked && ln -s ../data/old /soft && ln -s /nowhere /dangling && \\
    cp /bin/busybox /suid && chmod 6755 /suid && ln /suid /suid2 && mkdir -m 1777 /sticky && \\
    mkfifo -m 640 /data/fifo && mknod -m 660 /data/null c 1 3 && mknod -m 600 /data/loop b 7 300 && \\
    chown 70000:4000000 /data/linked && chown -h 100000:100000 /soft && chown 82:29 /data/fifo && \\
    truncate -s 1M /data/sparse && echo end >> /data/sparse && touch "/data/a name with blanks" /data/옹기
RUN rm /data/gone /etc/group && rm -r /data/old && mkdir -m 750 /data/old && echo new > /data/old/b && \\
    rm -r /srv/directory && echo file > /srv/directory && ln /bin/busybox /bb && mv /data/sub /data/moved
RUN echo last > /last
ENV A=1 B="two words"
LABEL one=1 org.opencontainers.image.title="An image"
EXPOSE 80 53/udp
WORKDIR /srv
STOPSIGNAL SIGUSR1
HEALTHCHECK --interval=30s CMD true
ENTRYPOINT ["cat"]
CMD ["/last", "/data/old/b"]
"""

# What engines put into a root file system is left out, and the times of the directories that it is in.
TREE: Final = r"""
cd /
kept() {
    find . -xdev \( -path ./proc -o -path ./sys -o -path ./dev -o -path ./run -o -name .dockerenv -o -path ./etc/hosts \
        -o -path ./etc/hostname -o -path ./etc/resolv.conf -o -path ./etc/mtab \) -prune -o "$@"
}
kept ! -type d -exec stat -c '%N %F %a %u:%g %h %s %t:%T %Y' {} +
kept -type d ! -path . ! -path ./etc -exec stat -c '%N %F %a %u:%g %Y' {} +
kept -type f -exec sha256sum {} +
"""
MADE_BY_ENGINES: Final = ("proc", "sys", "dev", "run", ".dockerenv", "etc/hosts", "etc/hostname", "etc/resolv.conf",
                          "etc/mtab")  # fmt: skip


class Site(NamedTuple):
    """An Onggi that has built an image, another that has nothing, the image in an archive, and its context."""

    here: Home
    there: Home
    archive: Path
    context: Path

    @property
    def diff_ids(self) -> list[str]:
        """The DiffIDs of what was built."""
        return [str(id) for id in self.here.engine.images.config(NAME).diff_ids]

    @property
    def id(self) -> str:
        """The id of what was built."""
        return str(self.here.engine.images.get(NAME).id)


def load(home: Home, archive: Path) -> Loaded:
    """Load an archive with one image."""
    with archive.open("rb", buffering=0) as source:
        (item,) = home.engine.images.load(source)
    return item


def tree_here(home: Home, image: str) -> list[str]:
    """List the files that a container of Onggi sees."""
    return sorted(home.ok("run", "--rm", "--network", "none", "--entrypoint", "sh", image, "-c", TREE).splitlines())


def run_there(peer: Docker | Podman, *words: str) -> str:
    """Run a container of a peer."""
    # Podman would raise limits, which is not allowed everywhere.
    options = ["--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
    return peer.run("run", "--rm", *options, *words).stdout.decode()


def tree_there(peer: Docker | Podman, image: str) -> list[str]:
    """List the files that a container of a peer sees."""
    return sorted(run_there(peer, "--entrypoint", "sh", image, "-c", TREE).splitlines())


def image_there(peer: Docker | Podman, name: str) -> dict[str, Any]:
    """Describe an image as a peer does."""
    (found,) = json.loads(peer.run("image", "inspect", name).stdout)
    assert isinstance(found, dict)
    return found


def exported(peer: Docker | Podman, image: str) -> bytes:
    """Export a container of a peer that never ran."""
    id = peer.run("create", "--network", "none", image, "true").stdout.decode().strip()
    try:
        return peer.run("export", id).stdout
    finally:
        peer.run("rm", id)


def attributes(tar: tarfile.TarFile, prefix: str = "") -> dict[str, dict[str, str]]:
    """List the extended attributes in an archive, by name."""
    found: dict[str, dict[str, str]] = {}
    key = f"SCHILY.xattr.{prefix}"
    for entry in tar:
        if kept := {name: value for name, value in entry.pax_headers.items() if name.startswith(key)}:
            found[entry.name.removeprefix("./").strip("/")] = kept
    return found


def without_engines(names: Any) -> list[str]:
    """Leave out what engines add."""
    plain = (name.removeprefix("./").strip("/") for name in names)
    return sorted(name for name in plain if name and not name.startswith(MADE_BY_ENGINES))


def skopeo(*words: str | Path) -> bytes:
    """Run skopeo."""
    return ask(find("skopeo"), "--insecure-policy", *words).stdout
