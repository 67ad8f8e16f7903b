"""Build every case of tests/truth by the real BuildKit and write down what came out: `record_truth.py [NAME…]`.

The newest Docker of Debian is put into a tree of its own by debootstrap (kept in
/var/tmp/onggi-peers), and its daemon runs there in a mount namespace of its own, with
its own data, without a bridge; nothing of the host is changed. Needs root and the archive.
With --check nothing is written: differences from what is recorded are shown.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.truth.cases import CASES
from tests.truth.world import Case, base_archive, essential, read_facts, run, write_context

PEERS: Final = Path(os.environ.get("ONGGI_PEERS", "/var/tmp/onggi-peers"))
FACTS: Final = Path(__file__).parent / "truth" / "facts.json"
PACKAGES: Final = ("docker.io", "docker-cli", "docker-buildx", "ca-certificates", "iptables")
START: Final = """
mount --make-rprivate / && mount --bind "$1" "$1" && cd "$1"
mount --rbind /proc proc && mount --rbind /sys sys && mount --rbind /dev dev
mount -t tmpfs tmpfs run && mount -t tmpfs tmpfs tmp
mkdir -p work && mount --bind "$2" work
exec chroot . /usr/sbin/dockerd --data-root /work/data --exec-root /work/exec --host unix:///work/docker.sock \
    --pidfile /work/pid --bridge=none --iptables=false --ip6tables=false --feature "containerd-snapshotter=$3"
"""


def make_tree(tree: Path) -> None:
    """Put Debian's newest Docker into a tree, once."""
    if (tree / "usr/bin/docker").exists():
        return
    shutil.rmtree(tree, ignore_errors=True)
    include = f"--include={','.join(PACKAGES)}"
    subprocess.run(["debootstrap", "--variant=minbase", include, "sid", str(tree)], check=True)


class Docker:
    """A client of the daemon in the tree."""

    def __init__(self, daemon: "subprocess.Popen[bytes]", work: Path) -> None:
        self._enter = ["nsenter", "--mount", "--root", "--wd=/", "-t", str(daemon.pid)]
        self.work = work

    def __call__(self, *words: str, data: bytes | None = None) -> "subprocess.CompletedProcess[bytes]":
        clean = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "DOCKER_BUILDKIT": "1"}
        command = [*self._enter, "docker", "--host", "unix:///work/docker.sock", *words]
        return run(command, data=data, env=clean)


@contextmanager
def docker(*, rewriting: bool = False) -> Iterator[Docker]:
    """Run the daemon; it ends with the block, and what it stored goes.

    `rewriting`: with containerd's store of images, the only one whose exporter can rewrite times.
    """
    tree, work = PEERS / "sid", PEERS / "work"
    make_tree(tree)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    with (PEERS / "dockerd.log").open("wb") as log:
        command = ["unshare", "--mount", "sh", "-c", START, "start", str(tree), str(work), str(rewriting).lower()]
        daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        client = Docker(daemon, work)
        deadline = time.monotonic() + 60
        while client("info").returncode:
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"dockerd did not start: see {PEERS}/dockerd.log")
            time.sleep(0.2)
        yield client
    finally:
        daemon.terminate()
        daemon.wait()
        shutil.rmtree(work, ignore_errors=True)


def build(client: Docker, name: str, case: Case) -> dict[str, Any]:
    """Build one case and read what came out."""
    write_context(client.work / "contexts" / name, case)
    place = f"/work/contexts/{name}"
    words = ["build", "--progress=plain", "--network=none", "-t", f"truth-{name}", "-f", f"{place}/{case.file}"]
    words += [word for key, value in case.args.items() for word in ("--build-arg", f"{key}={value}")]
    words += [word for key, value in case.labels.items() for word in ("--label", f"{key}={value}")]
    words += [word for entry in case.hosts for word in ("--add-host", entry)]
    for key, value in case.contexts.items():
        words += ["--build-context", f"{key}={value if ':' in value else f'{place}/{value}'}"]
    if case.target:
        words += ["--target", case.target]
    if case.rewrite:
        words += ["--output", "type=docker,dest=/work/rewritten.tar,rewrite-timestamp=true"]
    done = client(*words, place)
    if done.returncode:
        return {"error": essential(done.stderr.decode(errors="replace"))}
    rewritten = client.work / "rewritten.tar"
    return read_facts(rewritten.read_bytes() if case.rewrite else client("save", f"truth-{name}").stdout)


def build_all(client: Docker, names: list[str]) -> dict[str, Any]:
    """Build cases, each upon the base image."""
    version = client("version", "--format", "{{.Server.Version}}").stdout.decode().strip()
    print(f"BuildKit of Docker {version} builds {len(names)} Dockerfiles", flush=True)
    loaded = client("load", data=base_archive())
    assert loaded.returncode == 0, loaded.stderr
    return {name: build(client, name, CASES[name]) for name in names}


def dump(facts: dict[str, Any]) -> str:
    """Print facts with a line for each kind of fact, so that a change of one can be read."""
    cases = []
    for name, fact in sorted(facts.items()):
        lines = ",\n  ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in fact.items())
        cases.append(f"{json.dumps(name)}: {{\n  {lines}\n}}")
    return "{\n" + ",\n".join(cases) + "\n}\n"


def main() -> int:
    """Record, or with --check compare."""
    if unknown := {word for word in sys.argv[1:] if word != "--check"} - {*CASES}:
        raise SystemExit(f"no such case: {' '.join(sorted(unknown))}")
    names = [word for word in sys.argv[1:] if not word.startswith("--")] or sorted(CASES)
    known: dict[str, Any] = json.loads(FACTS.read_text()) if FACTS.exists() else {}
    found: dict[str, Any] = {}
    for rewriting in (False, True):
        if chosen := [name for name in names if CASES[name].rewrite == rewriting]:
            with docker(rewriting=rewriting) as client:
                found |= build_all(client, chosen)
    different = [name for name in names if found[name] != known.get(name)]
    for name in different:
        print(f"{name}: {'differs from' if name in known else 'is new in'} {FACTS.name}")
    known |= found
    if "--check" not in sys.argv:
        known = {name: facts for name, facts in known.items() if name in CASES}
        FACTS.write_text(dump(known))
        return 0
    print(f"{len(names)} built, {len(different)} different")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
