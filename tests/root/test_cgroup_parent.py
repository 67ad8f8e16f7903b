"""--cgroup-parent: where a container goes that its user chose a place for, and that nothing else goes with it."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from onggi import Conflict, InvalidArgument
from onggi.host.cgroupfs import freeze, kill_members, processes, remove_cgroup, thaw
from onggi.plan.cgroup import plan_directories
from onggi.plan.facts import CgroupFacts, Facts
from onggi.spec.container import ContainerRequest
from tests.homes import IMAGE, Home
from tests.root.test_network_containers import wait_until


@pytest.fixture
def parent(facts: Facts) -> Iterator[str]:
    """Give the name of a cgroup that is not there; whatever is made of it goes with the test."""
    name = f"onggi-test-{uuid.uuid4().hex[:12]}"
    yield name
    directories = plan_directories(f"/{name}", facts.cgroup)
    thaw(directories) if all(map(os.path.exists, directories.values())) else None
    kill_members(directories)
    remove_cgroup(directories)


def make(directories: dict[str, str], cgroup: CgroupFacts) -> None:
    """Make a cgroup as anybody might."""
    for directory in dict.fromkeys(directories.values()):
        os.makedirs(directory, exist_ok=True)
        for name, online in (("cpuset.cpus", cgroup.online_cpus), ("cpuset.mems", cgroup.online_mems)):
            file = Path(directory, name)
            if file.exists() and not file.read_text().strip():
                file.write_text(online)


@pytest.mark.parametrize("spelled", ["/{}", "{}", "/x/../{}/", "//{}//."])
def test_it_counts_from_the_top_for_every_command(home: Home, facts: Facts, parent: str, spelled: str) -> None:
    container = home.start("sleep", "600", cgroup_parent=spelled.format(parent))
    directories = plan_directories(f"/{parent}/{container.id}", facts.cgroup)
    (pid,) = home.engine.containers.pids(container.id)
    for directory in directories.values():
        assert processes(directory) == (pid,)
    assert home.engine.containers.request(container.id).cgroup_parent == f"/{parent}"
    assert container.exec(["true"]).exit_code == 0
    container.remove(force=True)
    # Only what was the container's is gone.
    for directory in directories.values():
        assert not os.path.exists(directory)
        assert os.path.isdir(os.path.dirname(directory))


def test_its_neighbours_stay(home: Home, facts: Facts, parent: str) -> None:
    neighbour = plan_directories(f"/{parent}/neighbour", facts.cgroup)
    make(neighbour, facts.cgroup)
    home.start("true", cgroup_parent=parent, auto_remove=True).wait()
    lost = home.start("sleep", "600", cgroup_parent=parent)
    os.kill(home.supervisor(lost.id), 9)
    wait_until(lambda: lost.status == "exited", "the container is over")
    lost.remove()
    for directory in neighbour.values():
        assert os.listdir(os.path.dirname(directory)).count("neighbour") == 1
        assert [name for name in os.listdir(os.path.dirname(directory)) if len(name) == 64] == []


@pytest.mark.parametrize("inside", ["{own}/supervisors", "{own}/" + 64 * "a", "{own}/any", "/x/..{own}/onggid"])
def test_onggis_own_are_not_taken(home: Home, inside: str) -> None:
    path = inside.format(own=home.engine.cgroup_parent)
    with pytest.raises(InvalidArgument, match=f"is among Onggi's own in {home.engine.cgroup_parent}"):
        home.engine.containers.create(ContainerRequest(image=IMAGE, cgroup_parent=path))
    said = home.onggi("run", "--explain", "--cgroup-parent", path, IMAGE)
    assert (said.returncode, "is among Onggi's own" in said.stderr) == (125, True)


@pytest.mark.parametrize("name", ["a\nb", "a\0b", "x" * 256])
def test_what_can_be_no_path_is_refused(home: Home, name: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid cgroup parent"):
        home.engine.containers.create(ContainerRequest(image=IMAGE, cgroup_parent=name))


def test_a_cgroup_that_others_use_is_not_joined(home: Home, facts: Facts, parent: str) -> None:
    request = ContainerRequest(image=IMAGE, command=("true",), network="none", cgroup_parent=parent)
    made = home.engine.containers.create(request)
    taken = plan_directories(f"/{parent}/{made.id}", facts.cgroup)
    make(taken, facts.cgroup)
    pid = os.fork()
    if not pid:
        os.execvp("sleep", ["sleep", "600"])
    try:
        for directory in dict.fromkeys(taken.values()):
            Path(directory, "cgroup.procs").write_text(str(pid))
        with pytest.raises(Conflict, match="container's cgroup is not empty: 1 process"):
            home.engine.containers.start(made.id)
        home.engine.containers.remove(made.id)
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        for directory in taken.values():
            assert processes(directory) == (pid,)
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_a_frozen_one_is_refused(home: Home, facts: Facts, parent: str) -> None:
    directories = plan_directories(f"/{parent}", facts.cgroup)
    make(directories, facts.cgroup)
    freeze(directories)
    with pytest.raises(Conflict, match=f"cgroup parent /{parent} is frozen"):
        home.start("true", cgroup_parent=parent)
    thaw(directories)
    assert home.start("true", cgroup_parent=parent).wait() == 0
