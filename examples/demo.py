"""What `./run demo` shows: the guide comes true, by the commands that a user would type.

Nothing here but the command line of Onggi, called as people call it and printed before
it runs. Containers and files of the demonstration are gone at its end; images stay.
"""

import argparse
import contextlib
import json
import os
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

EXAMPLES: Final = Path(__file__).resolve().parent
ONGGI: Final = Path(sys.executable).parent / "onggi"
CONTAINER: Final = "onggi-demo"
BASES: Final = ("busybox", "debian:bookworm")
BUNDLE: Final = Path("/etc/ssl/certs/ca-certificates.crt")
INDEX: Final = ("--build-arg", "PIP_INDEX_URL") if os.environ.get("PIP_INDEX_URL") else ()
RUNS: Final = 11
WITHOUT_LAYER: Final = ("ARG", "CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "STOPSIGNAL", "USER")
CAP_SYS_ADMIN: Final = 21


class Failed(Exception):
    """A command that had to work did not; it has said why."""


class Demo:
    """One demonstration over one state root."""

    def __init__(self, root: str | None, work: Path) -> None:
        """Use the state root `root` (None is the user's own) and the empty directory `work`."""
        self.root = ("--root", root) if root else ()
        self.work = work
        self.certs = ("--host-certs",) if BUNDLE.exists() else ()
        self.took: dict[str, str] = {}

    # -- commands ----------------------------------------------------------------------------------

    def onggi(self, *words: str) -> None:
        """Print a command and run it. Raises Failed."""
        say(f"$ onggi {shlex.join([*self.root, *words])}")
        done = subprocess.run(self.command(words), check=False, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise Failed(f"`onggi {words[0]}` ended with exit code {done.returncode}")

    def ask(self, *words: str) -> str | None:
        """Run a command unseen; gives what it prints, None when it fails."""
        done = subprocess.run(
            self.command(words), check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        return done.stdout if done.returncode == 0 else None

    def command(self, words: tuple[str, ...]) -> list[str]:
        """Give a whole command line."""
        return [str(ONGGI), *self.root, *words]

    def make(self, what: str, needs: str, *words: str) -> bool:
        """Run a command that may need the network and remember its time; False where there is none."""
        began = time.monotonic()
        try:
            self.onggi(*words)
        except Failed:
            if is_online():
                raise
            say(f"Left out: {what} needs the network, {needs}.")
            return False
        self.took[what] = f"{time.monotonic() - began:.1f} s"
        return True

    def build(self, image: str, context: str, needs: str, *words: str) -> bool:
        """Build an image from a base that may not be here; False where that takes a network."""
        if not self.has("debian:bookworm"):
            say(f"Left out: {image} needs debian:bookworm.")
            return False
        return self.make(f"build {image}", needs, "build", "-t", image, *self.certs, *words, context)

    def shell(self, script: str) -> None:
        """Print a line of shell and run it in the work directory. Raises Failed."""
        say(f"$ {script}")
        if subprocess.run(["/bin/sh", "-ec", script], check=False, cwd=self.work).returncode != 0:
            raise Failed("the command above failed")

    # -- the seven steps ---------------------------------------------------------------------------

    def hello(self) -> None:
        """An image that is part of Onggi: no network"""
        self.onggi("run", "--rm", "hello")

    def bases(self) -> None:
        """Base images without a registry, from the packages of Debian"""
        for image in BASES:
            if self.has(image):
                say(f"{image} is here already; `onggi image bootstrap {image}` makes it anew.")
            else:
                self.make(f"bootstrap {image}", "once, for its packages", "image", "bootstrap", image)

    def guide(self) -> None:
        """The guide's Dockerfile, examples/guide, built layer by layer"""
        if self.certs and self.has("debian:bookworm"):
            say("--host-certs: pip in the build trusts whom this host trusts; nothing of it stays in the image.")
        if INDEX:
            say("PIP_INDEX_URL: this host has an index of packages of its own, which pip in the build is to use.")
        self.build("guide", os.path.relpath(EXAMPLES / "guide"), "for apt and pip", *INDEX)

    def containers(self) -> None:
        """The image as a container: asked, looked at from all sides, ended"""
        if not self.has("guide"):
            say("Left out: there is no image guide.")
            return
        port = free_port()
        self.onggi("run", "-d", "--name", CONTAINER, "-p", f"{port}:5000", "guide")
        say(f"GET http://127.0.0.1:{port}/")
        say(fetch(f"http://127.0.0.1:{port}/"))
        self.onggi("ps")
        self.onggi("logs", CONTAINER)
        self.onggi("exec", CONTAINER, "sh", "-c", "echo from inside > /app/note.txt; ls -l /app; id")
        self.onggi("stats", "--no-stream", CONTAINER)
        self.onggi("top", CONTAINER)
        self.onggi("history", "guide")
        self.onggi("image", "inspect", "-f", "{{range .RootFS.Layers}}{{println .}}{{end}}", "guide")
        self.onggi(
            "inspect", "-f", "{{.State.Status}}, process {{.State.Pid}}, started {{.State.StartedAt}}", CONTAINER
        )
        self.onggi("diff", CONTAINER)
        self.onggi("stop", CONTAINER)
        self.onggi("rm", CONTAINER)

    def rebuild(self) -> None:
        """A change of app.py: what the next build reuses, and why it runs the rest again"""
        if not self.has("guide"):
            say("Left out: there is no image guide.")
            return
        if self.has("guide:changed"):
            self.onggi("rmi", "guide:changed")
        self.shell(f"cp -r {shlex.quote(str(EXAMPLES / 'guide'))} guide")
        say("The same files in another directory: what counts is what is in them.")
        if not self.build("guide:changed", str(self.work / "guide"), "for apt and pip", *INDEX):
            return
        if not is_online():
            say("Left out: after a change `pip install` runs again, since it stands below COPY, and needs the network.")
            return
        self.shell(f"sed -i 's/Hello from Flask/Hello since {time.strftime('%H:%M:%S')}/' guide/app.py")
        self.build("guide:changed", str(self.work / "guide"), "for pip", *INDEX)

    def advice(self) -> None:
        """The guide's advice, .dockerignore and stages, on a compiled program: sizes before and after"""
        context = str(self.work / "primes")
        self.shell(f"cp -r {shlex.quote(str(EXAMPLES / 'multistage'))} primes")
        self.shell("mkdir primes/data && yes 'an old result' | head -c 20000000 > primes/data/results.txt")
        self.shell("mv primes/.dockerignore kept")
        if not self.build("primes:all", context, "for its compiler", "--target", "build"):
            return
        self.shell("mv kept primes/.dockerignore")
        if not self.build("primes:ignoring", context, "for its compiler", "--target", "build"):
            return
        self.build("primes", context, "for its compiler")
        self.onggi("run", "--rm", "primes", "1000000")
        table(
            [
                ("one stage, the whole directory", self.size("primes:all")),
                ("one stage, with .dockerignore", self.size("primes:ignoring")),
                ("two stages", self.size("primes")),
            ]
        )

    def numbers(self) -> None:
        """The numbers of this machine"""
        self.onggi("system", "df")
        words = ("run", "--rm", "busybox", "true") if self.has("busybox") else ("run", "--rm", "hello")
        times = sorted(self.time(*words) for _ in range(RUNS))
        images = [name for name in (*BASES, "guide", "guide:changed", "primes:all", "primes") if self.has(name)]
        table(
            [
                (f"onggi {' '.join(words)}", f"{statistics.median(times):.1f} ms"),
                (f"  fastest of {RUNS}", f"{times[0]:.1f} ms"),
                *self.took.items(),
                *((f"size of {name}", self.size(name)) for name in images),
                *(self.sharing(images) if images else ()),
            ]
        )

    # -- looking -----------------------------------------------------------------------------------

    def has(self, image: str) -> bool:
        """Tell whether an image is here."""
        return self.ask("image", "inspect", image) is not None

    def inspect(self, image: str) -> dict[str, Any]:
        """Describe an image that is here."""
        described: list[dict[str, Any]] = json.loads(self.ask("image", "inspect", image) or "")
        return described[0]

    def size(self, image: str) -> str:
        """Say how large an image is."""
        return human(self.inspect(image)["Size"])

    def time(self, *words: str) -> float:
        """Measure a whole command, in milliseconds."""
        began = time.perf_counter()
        if self.ask(*words) is None:
            raise Failed(f"`onggi {shlex.join(words)}` failed")
        return (time.perf_counter() - began) * 1e3

    def sharing(self, images: list[str]) -> Iterator[tuple[str, str]]:
        """Count the layers of images, and say what is saved since each is kept once."""
        stacks = [dict(zip(self.inspect(name)["RootFS"]["Layers"], self.layers(name), strict=False)) for name in images]
        once = {layer: size for stack in stacks for layer, size in stack.items()}
        total = sum(sum(stack.values()) for stack in stacks)
        yield "layers of these images", f"{sum(map(len, stacks))}, kept: {len(once)}"
        yield "saved by keeping each once", f"{human(total - sum(once.values()))} of {human(total)}"

    def layers(self, image: str) -> list[int]:
        """List the sizes of an image's layers, the lowest first."""
        steps = self.ask("history", "--no-trunc", "--human=false", "--format", "{{.Size}} {{.CreatedBy}}", image) or ""
        pairs = (line.partition(" ") for line in reversed(steps.splitlines()))
        return [int(size) for size, _, made in pairs if made.split(" ")[0] not in WITHOUT_LAYER]


# -- this host -------------------------------------------------------------------------------------


def is_online() -> bool:
    """Tell whether the world answers: the first archive that apt has on this host, by its proxy if there is one."""
    files = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    lines = [line for file in files if file.is_file() for line in file.read_text().splitlines() if line[:1] != "#"]
    archives = [word for line in lines for word in line.split() if word.startswith(("http://", "https://"))]
    try:
        with urllib.request.urlopen(archives[0] if archives else "http://www.debian.org", timeout=10):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def free_port() -> int:
    """Find a port of the host that nobody has: 8080 if that can be."""
    for port in range(8080, 8180):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("", port))
                return port
        say(f"Port {port} of this host is taken.")
    raise Failed("no port from 8080 to 8179 is free")


def fetch(url: str) -> str:
    """Get a page as soon as its server is up. Raises Failed."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(200):
        with contextlib.suppress(OSError), direct.open(url, timeout=10) as answer:
            return str(answer.read(10_000), "utf-8").strip()
        time.sleep(0.05)
    raise Failed(f"nothing answers at {url}")


def explain_host() -> None:
    """Say what a host lacks on which no container runs, and what would work."""
    say("\nThis host lacks what containers need:")
    say("\n".join(f"  {text}" for text in list(missing()) or ["what Onggi says above"]))
    say("What works all the same: onggi info --facts, and onggi plan BUNDLE --facts FILE for another host.")


def missing() -> Iterator[str]:
    """List what a host lacks, each with what would work."""
    if os.geteuid() != 0:
        yield f"root (this is uid {os.geteuid()}): sudo ./run demo"
        return
    facts = json.loads(subprocess.run([ONGGI, "info", "--facts"], capture_output=True, check=False).stdout or "{}")
    if Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]:
        yield "the machine's own root, for this is a user namespace: run it outside"
    if not facts.get("capabilities", 0) >> CAP_SYS_ADMIN & 1:
        yield "CAP_SYS_ADMIN: run it on the host itself, or make the container that this seems to be --privileged"
    elif "\toverlay\n" not in Path("/proc/filesystems").read_text():
        yield "overlayfs: modprobe overlay"
    if not facts.get("cgroup", {}).get("controllers"):
        yield "cgroups: mount -t cgroup2 none /sys/fs/cgroup"


# -- words -----------------------------------------------------------------------------------------


def human(size_bytes: float) -> str:
    """Say a size as Docker does: in powers of a thousand."""
    for unit in ("B", "kB", "MB"):
        if size_bytes < 999.5:
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.3g} GB"


def say(text: str) -> None:
    """Print, before anything that a command prints afterwards."""
    print(text, flush=True)


def table(rows: list[tuple[str, str]]) -> None:
    """Print two columns."""
    width = max(len(name) for name, _ in rows)
    say("\n" + "\n".join(f"  {name:<{width}}  {value:>10}" for name, value in rows))


def main() -> int:
    """Run the demonstration; gives the exit code."""
    parser = argparse.ArgumentParser(prog="./run demo", description="Show what Onggi does, in seven steps.")
    parser.add_argument("--root", metavar="DIR", help="state root, instead of the user's own")
    options = parser.parse_args()
    say(f"onggi is {ONGGI}; its state is in {options.root or '/var/lib/onggi'}.")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="onggi-demo-") as work:
        demo = Demo(options.root and str(Path(options.root).resolve()), Path(work))
        demo.ask("rm", "-f", CONTAINER)  # of a demonstration that was killed
        steps = (demo.hello, demo.bases, demo.guide, demo.containers, demo.rebuild, demo.advice, demo.numbers)
        try:
            for number, step in enumerate(steps, 1):
                say(f"\n== {number} of {len(steps)}: {step.__doc__}\n")
                step()
        except Failed as failure:
            say(f"\ndemo: {failure}")
            if step == demo.hello:
                explain_host()
            return 1
        except KeyboardInterrupt:
            return 130
        finally:
            demo.ask("rm", "-f", CONTAINER)
    say(f"\nThat took {time.monotonic() - began:.0f} s. No container is left, images stay; onggid goes when idle.")
    say(f"onggi is {ONGGI}; `./run install` links it into /usr/local/bin.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
