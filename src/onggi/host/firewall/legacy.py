"""The chains of others where the old packet filter (iptables-legacy) is in use.

It has an interface of its own in the kernel, whose whole tables are replaced at each
change; so the program that belongs to it makes the changes.
"""

from typing import Final

from onggi.base.errors import FailedPrecondition, Unavailable

TABLE: Final = "filter"
_PLACES: Final = ("DOCKER-USER", "FORWARD")
_NAMES: Final = {"iptables-legacy": "/proc/net/ip_tables_names", "ip6tables-legacy": "/proc/net/ip6_tables_names"}
_PATH: Final = "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin"
_TIMEOUT_S: Final = 30.0
_WAYS: Final = ("-i", "-o")


def programs_in_use() -> list[str]:
    """List the programs whose table of filters exists in this network namespace; nothing is loaded by looking."""
    return [program for program, names in _NAMES.items() if TABLE in _read(names).split()]


def ensure(program: str, bridge: str) -> None:
    """Put our two accepts into DOCKER-USER or FORWARD, unless they are there or nothing is dropped."""
    for place, way in _missing(program, bridge):
        _run(program, "-I", *_rule(place, way, bridge).split()[1:])


def lacks(program: str, bridge: str) -> bool:
    """Tell whether an accept is needed that is not there."""
    return bool(_missing(program, bridge))


def remove(program: str, bridge: str) -> int:
    """Take our accepts out; gives how many there were."""
    found = _ours(program, bridge)
    for rule in found:
        _run(program, "-D", *rule.split()[1:])
    return len(found)


def has_any(program: str, bridge: str) -> bool:
    """Tell whether an accept of ours is there."""
    return bool(_ours(program, bridge))


def _ours(program: str, bridge: str) -> list[str]:
    ours = {_rule(place, way, bridge) for place in _PLACES for way in _WAYS}
    return [rule for rule in _rules(program) if rule in ours]


def _missing(program: str, bridge: str) -> list[tuple[str, str]]:
    rules = _rules(program)
    if not any(rule == "-P FORWARD DROP" or rule.startswith("-A FORWARD ") for rule in rules):
        return []
    place = "DOCKER-USER" if "-N DOCKER-USER" in rules else "FORWARD"
    return [(place, way) for way in _WAYS if _rule(place, way, bridge) not in rules]


def _rules(program: str) -> list[str]:
    return _run(program, "-S").splitlines()


def _rule(place: str, way: str, bridge: str) -> str:
    return f"-A {place} {way} {bridge} -m comment --comment {bridge} -j ACCEPT"


def _run(program: str, *words: str) -> str:
    import shutil
    import subprocess

    found = shutil.which(program, path=_PATH)
    if found is None:
        raise FailedPrecondition(
            f"the old packet filter is in use here (table {TABLE}), but the program {program} is not installed, so "
            "nothing could be let through it; install iptables, or use --network host"
        )
    done = subprocess.run(
        [found, "-w", "10", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT_S,
        env={"PATH": _PATH},
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
        raise Unavailable(f"{program} {' '.join(words)} failed: {reason[0]}")
    return done.stdout


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""
