"""`./run demo` where there is no network, and on hosts that lack a power: it goes as far as it can, and says why."""

import subprocess
from pathlib import Path

import pytest

from tests.homes import IMAGE, Home

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"
WEB = f"""
FROM {IMAGE}
RUN mkdir /app && echo Hello from busybox > /app/index.html
EXPOSE 5000
STOPSIGNAL SIGKILL
CMD ["httpd", "-f", "-v", "-p", "5000", "-h", "/app"]
"""


def demo(home: Home, *around: str) -> "subprocess.CompletedProcess[str]":
    """Run the demonstration over a home, by a command around it."""
    words = [*around, str(home.installed.python), str(DEMO), "--root", str(home.root)]
    return subprocess.run(
        words,
        env=home.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )


def without_network(home: Home) -> "subprocess.CompletedProcess[str]":
    """Run it in a network namespace that has loopback only."""
    return demo(home, "unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh")


def test_without_network_it_says_what_is_left_out(home: Home) -> None:
    done = without_network(home)
    assert done.returncode == 0, done.stdout
    assert "Hello from Onggi!" in done.stdout
    for line in (
        "Left out: bootstrap busybox needs the network, once, for its packages.",
        "Left out: guide needs debian:bookworm.",
        "Left out: there is no image guide.",
        "Left out: primes:all needs debian:bookworm.",
        "onggi run --rm hello",
    ):
        assert f"{line}\n" in done.stdout or f"  {line} " in done.stdout, done.stdout
    assert (
        done.stdout.splitlines()[-1]
        == f"onggi is {home.installed.onggi}; `./run install` links it into /usr/local/bin."
    )


def test_with_images_of_before_their_steps_go_on(home: Home, tmp_path: Path) -> None:
    """The images are stand-ins: what counts is that every command of every step is one that Onggi has."""
    (tmp_path / "Dockerfile").write_text(WEB)
    home.ok("build", "-t", "guide", "--network", "none", str(tmp_path), warm=False)
    for name in ("busybox", "debian:bookworm"):
        home.ok("tag", IMAGE, name, warm=False)
    done = without_network(home)
    assert done.returncode == 0, done.stdout
    for line in (
        "busybox is here already; `onggi image bootstrap busybox` makes it anew.",
        "Hello from busybox",
        "A /app/note.txt",
        "uid=0(root) gid=0(root)",
        "Left out: build guide:changed needs the network, for apt and pip.",
        "Left out: build primes:all needs the network, for its compiler.",
    ):
        assert f"\n{line}" in done.stdout, done.stdout
    assert "size of debian:bookworm" in done.stdout
    assert not home.engine.containers.list(every=True)


@pytest.mark.parametrize(
    ("around", "lacks"),
    [
        (("setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"), "CAP_SYS_ADMIN: run it on the host"),
        (("unshare", "--user", "--map-root-user"), "the machine's own root, for this is a user namespace"),
        (("unshare", "--mount", "sh", "-c", 'umount -l /sys/fs/cgroup; exec "$@"', "sh"), "cgroups: mount -t cgroup2"),
    ],
    ids=["unprivileged", "user-namespace", "no-cgroups"],
)
def test_a_host_that_lacks_a_power(around: tuple[str, ...], lacks: str, home: Home) -> None:
    done = demo(home, *around)
    assert done.returncode == 1
    assert "demo: `onggi run` ended with exit code 125\n\nThis host lacks what containers need:\n" in done.stdout
    said = done.stdout.partition("containers need:\n")[2].splitlines()
    assert said[0].startswith(f"  {lacks}"), done.stdout
    assert len(said) == 2, "one reason, then what works all the same"
    assert (
        said[-1] == "What works all the same: onggi info --facts, and onggi plan BUNDLE --facts FILE for another host."
    )
