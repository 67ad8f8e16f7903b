"""Facts about cgroups, read from recorded hosts and from made-up lines of /proc."""

from pathlib import Path

import msgspec
import pytest

from onggi.host.cgroupfs import probe_cgroups
from onggi.plan.facts import CgroupFacts, Hierarchy
from tests.cgroup_hosts import HOSTS, facts_of, lay_out

V2_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc")


@pytest.mark.parametrize("host", HOSTS)
def test_facts_are_json(host: str) -> None:
    facts = facts_of(host)
    assert msgspec.json.decode(msgspec.json.encode(facts), type=CgroupFacts) == facts


def test_layouts() -> None:
    assert {host: facts_of(host).layout for host in HOSTS} == {
        "hybrid": "hybrid",
        "v1": "v1",
        "v1-container": "v1",
        "v2-container": "v2",
        "v2-delegated": "v2",
        "v2-fresh": "v2",
        "v2-privileged-container": "v2",
    }


def test_hybrid() -> None:
    facts = facts_of("hybrid")
    memory = facts.controllers["memory"]
    assert memory.mount == "/sys/fs/cgroup/memory"
    assert memory.path.startswith("/process_api/")
    assert facts.controllers["hugetlb"] == Hierarchy(version=2, mount="/sys/fs/cgroup/unified")
    assert {name for name, hierarchy in facts.controllers.items() if hierarchy.version == 1} == {
        "blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids",
    }  # fmt: skip
    assert facts.named == {"systemd": Hierarchy(version=1, mount="/sys/fs/cgroup/systemd")}
    assert facts.unified is not None
    assert (facts.unified.mount, facts.unified.controllers) == ("/sys/fs/cgroup/unified", ("hugetlb",))
    assert (facts.unified.kill, facts.unified.freeze, facts.unified.occupied) == (True, True, False)
    assert (facts.online_cpus, facts.online_mems) == ("0-1", "0")
    assert facts.hugepage_sizes == ("2MB", "1GB")
    assert facts.weight_file == "blkio.bfq.weight"
    assert (facts.swap, facts.cpu_idle, facts.cpu_burst, facts.cpu_realtime) == (True, True, True, True)


def test_v1_as_systemd_mounts_it() -> None:
    facts = facts_of("v1")
    assert facts.unified is None
    assert facts.controllers["cpu"] == facts.controllers["cpuacct"]
    assert facts.controllers["cpu"].mount == "/sys/fs/cgroup/cpu,cpuacct"
    assert facts.controllers["memory"].path == "/user.slice"
    assert facts.named["systemd"].path == "/user.slice/user-0.slice/session-1.scope"
    assert (facts.swap, facts.cpu_realtime, facts.hugepage_reservations) == (True, False, True)


def test_v1_in_a_container_shows_its_own_part_read_only() -> None:
    facts = facts_of("v1-container")
    assert facts.controllers["memory"] == Hierarchy(version=1, mount="/sys/fs/cgroup/memory", path="/", writable=False)
    assert not any(hierarchy.writable for hierarchy in facts.controllers.values())


@pytest.mark.parametrize("host", ["v2-fresh", "v2-delegated"])
def test_v2(host: str) -> None:
    facts = facts_of(host)
    assert facts.unified is not None
    assert facts.unified.mount == "/sys/fs/cgroup"
    assert facts.unified.controllers == V2_CONTROLLERS
    assert facts.unified.delegated == (V2_CONTROLLERS if host == "v2-delegated" else ())
    assert not facts.unified.occupied
    assert set(facts.controllers) == set(V2_CONTROLLERS)
    # bfq was loaded, as a cgroup with the io controller shows; without one, only io.cost is to be seen.
    assert facts.weight_file == ("io.bfq.weight" if host == "v2-delegated" else "io.weight")
    assert (facts.swap, facts.cpu_idle, facts.cpu_burst, facts.cpu_realtime) == (True, True, True, False)
    assert facts.hugepage_reservations


def test_v2_in_containers() -> None:
    plain, privileged = facts_of("v2-container").unified, facts_of("v2-privileged-container").unified
    assert plain is not None
    assert privileged is not None
    assert (plain.writable, plain.occupied) == (False, True)
    assert (privileged.writable, privileged.occupied) == (True, True)


def test_a_host_without_cgroups(tmp_path: Path) -> None:
    assert probe_cgroups(str(tmp_path)) == CgroupFacts(
        layout="none", online_cpus="0", hugepage_reservations=True, swap=False
    )


@pytest.mark.parametrize("missing", ["memory.memsw.limit_in_bytes", "cpu.idle", "blkio.bfq.weight"])
def test_what_the_kernel_lacks(tmp_path: Path, missing: str) -> None:
    lay_out("v1", tmp_path)
    for path in list(tmp_path.rglob(missing)):
        path.unlink()
    facts = probe_cgroups(str(tmp_path))
    lacks = {
        "memory.memsw.limit_in_bytes": not facts.swap,
        "cpu.idle": not facts.cpu_idle,
        "blkio.bfq.weight": facts.weight_file == "",
    }
    assert lacks == {name: name == missing for name in lacks} | {"blkio.bfq.weight": facts.weight_file == ""}
    assert lacks[missing]


def test_a_caller_in_a_user_namespace(tmp_path: Path) -> None:
    lay_out("v2-delegated", tmp_path)
    (tmp_path / "proc/self/uid_map").write_text("         0       1000          1\n")
    assert probe_cgroups(str(tmp_path)).user_namespace
    assert not facts_of("v2-delegated").user_namespace


def mountinfo(tmp_path: Path, lines: str, own: str = "0::/\n") -> CgroupFacts:
    """Probe a host that consists of these mounts."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text(lines)
    (tmp_path / "proc/self/cgroup").write_text(own)
    for line in lines.splitlines():
        (tmp_path / line.split()[4].removeprefix("/").replace("\\040", " ")).mkdir(parents=True, exist_ok=True)
    return probe_cgroups(str(tmp_path))


def test_mounts_that_others_hide_do_not_count(tmp_path: Path) -> None:
    """A cgroup2 over everything, as in a private mount namespace; what is under it cannot be reached."""
    facts = mountinfo(
        tmp_path,
        "20 1 0:5 / / rw - ext4 /dev/vda rw\n"
        "31 20 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
        "32 31 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "33 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
        "40 31 0:38 / /sys/fs/cgroup rw - cgroup2 none rw\n",
        "4:memory:/\n0::/\n",
    )
    assert facts.layout == "v2"
    assert facts.unified is not None
    assert facts.unified.mount == "/sys/fs/cgroup"
    assert facts.controllers == {}


def test_the_root_of_an_initramfs_is_its_own_parent(tmp_path: Path) -> None:
    facts = mountinfo(
        tmp_path,
        "1 1 0:2 / / rw - rootfs rootfs rw\n31 1 0:38 / /sys/fs/cgroup rw - cgroup2 none rw\n",
    )
    assert facts.layout == "v2"


def test_a_mount_over_another_at_the_same_place_wins(tmp_path: Path) -> None:
    facts = mountinfo(
        tmp_path,
        "20 1 0:5 / / rw - ext4 /dev/vda rw\n"
        "31 20 0:38 /a /sys/fs/cgroup rw - cgroup2 none rw\n"
        "32 31 0:38 /b /sys/fs/cgroup ro - cgroup2 none rw\n",
        "0::/b/c\n",
    )
    assert facts.unified is not None
    assert (facts.unified.path, facts.unified.writable) == ("/c", False)


@pytest.mark.parametrize(
    ("mounted", "own", "seen"),
    [
        ("/", "/user.slice/x", "/user.slice/x"),
        ("/docker/1", "/docker/1", "/"),
        ("/docker/1", "/docker/1/sub", "/sub"),
        ("/docker/1", "/docker/12", ""),
        ("/", "/../other", ""),
        ("/../..", "/", ""),
    ],
)
def test_where_the_caller_is(tmp_path: Path, mounted: str, own: str, seen: str) -> None:
    facts = mountinfo(
        tmp_path,
        f"20 1 0:5 / / rw - ext4 /dev/vda rw\n31 20 0:38 {mounted} /sys/fs/cgroup rw - cgroup2 none rw\n",
        f"0::{own}\n",
    )
    assert facts.unified is not None
    assert facts.unified.path == seen


def test_odd_mount_points_and_names(tmp_path: Path) -> None:
    facts = mountinfo(
        tmp_path,
        "20 1 0:5 / / rw shared:1 - ext4 /dev/vda rw\n"
        "31 20 0:29 / /cg\\040roups/cpu rw shared:9 master:2 - cgroup my\\040cgroup rw,cpu,cpuacct,name=both\n",
        "1:cpu,cpuacct,name=both:/a:b\n",
    )
    expected = Hierarchy(version=1, mount="/cg roups/cpu", path="/a:b")
    assert facts.controllers == {"cpu": expected, "cpuacct": expected}
    assert facts.named == {"both": expected}
