"""Nothing grows: containers come and go, and from the twentieth on the host and onggid stay as they were."""

import os
from typing import Any, Final

import pytest

from tests.containers import wait_for
from tests.homes import IMAGE, Home, files_below, json_of, memory_kb
from tests.soak import timeout, times

ROUNDS: Final = times(200)
SETTLED: Final = times(20)
RUNNING: Final = 20
SUPERVISOR_KB: Final = 200
GROWTH: Final = 1.05


def stock(home: Home, onggid: int) -> dict[str, Any]:
    """Count all that could pile up."""
    home.ok("system", "check")
    wait_for(lambda: os.listdir(home.run / "containers") == [], "all containers are cleared away")
    ours = home.traces()
    links = {link["ifname"] for link in json_of("ip", "-j", "link")}
    return {
        **{name: len(ours[name]) for name in ("mounts", "cgroups", "nft", "snapshots", "containers")},
        "veths": sorted(link for link in links if link.startswith("veth") and link in ours["links"]),
        # The write-ahead log grows to its limit, and locks are named once.
        "files": [name for name in files_below(home.root) if not name.startswith("db.sqlite")],
        "descriptors": len(os.listdir(f"/proc/{onggid}/fd")),
        "threads": len(os.listdir(f"/proc/{onggid}/task")),
    }


def settle(home: Home, onggid: int) -> dict[str, Any]:
    """Wait until onggid has ended the threads and connections of the last command."""
    seen: list[dict[str, Any]] = [{}, stock(home, onggid)]

    def same() -> bool:
        seen.append(stock(home, onggid))
        return seen[-1] == seen[-2]

    wait_for(same, f"a stock that stays: {seen[-2:]}")
    return seen[-1]


@pytest.mark.timeout(timeout(240))
def test_two_hundred_containers_leave_nothing(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    onggid = home.warm_up()
    first: dict[str, Any] = {}
    before_kb = 0
    for number in range(ROUNDS):
        if number == SETTLED:
            first, before_kb = settle(home, onggid), memory_kb(onggid)
        if number % 3 == 0:
            id = home.ok("run", "-d", IMAGE, "sleep", "60").strip()
            home.ok("exec", id, "true")
            home.ok("rm", "-f", id)
        elif number % 3 == 1:
            home.ok("run", "--name", "n", "-v", "/v", IMAGE, "sh", "-c", "echo x > /f")
            home.ok("logs", "n")
            home.ok("rm", "-v", "n")
        else:
            home.ok("run", "--rm", IMAGE, "true")
    assert home.onggid() == onggid
    last, after_kb = settle(home, onggid), memory_kb(onggid)
    with capsys.disabled():
        print(
            f"\nonggid: {before_kb} KB after {SETTLED} containers, {after_kb} KB after {ROUNDS}, "
            f"{last['descriptors']} descriptors"
        )
    assert last == first
    assert after_kb < before_kb * GROWTH


def test_supervisors_are_small(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    containers = [home.start("sleep", "60", network="bridge") for _ in range(RUNNING)]
    supervisors = [home.supervisor(container.id) for container in containers]
    assert len(set(supervisors)) == RUNNING
    sizes = sorted(memory_kb(pid) for pid in supervisors)
    with capsys.disabled():
        print(f"\n{RUNNING} supervisors: PSS {sizes[0]} to {sizes[-1]} KB each")
    assert sizes[-1] < SUPERVISOR_KB
