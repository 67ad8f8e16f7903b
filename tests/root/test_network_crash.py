"""SIGKILL after every step of a start that concerns the network: the next command leaves nothing of it.

The launcher of a test build kills itself after a chosen record of its plan. Links,
elements of the packet filter, rows and held ports are looked at afterwards.
"""

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from launcher import build
from onggi.base.errors import NotFound, OnggiError
from onggi.engine.assemble import Engine
from onggi.host.launcher import Launcher
from onggi.host.locks import probe_lock
from onggi.plan import ops
from onggi.plan.wire import HEADER, RECORD, encode_plan
from onggi.spec.container import ContainerRequest
from tests.conftest import make_rootfs
from tests.containers import BUILD_ID, compile_launcher
from tests.netns import is_taken, private_host, run
from tests.root.test_network_containers import SWEPT_S, World, wait_until

CONCERNED: Final = (ops.Bind, ops.Clone, ops.Netlink, ops.SetNamespace, ops.PutFile, ops.Tell, ops.RecordExit)


class Recording(Launcher):
    """A launcher that keeps the last plan."""

    plan: ops.Plan

    def encode(self, plan: ops.Plan) -> int:
        """Encode it too."""
        self.plan = plan
        return super().encode(plan)


@pytest.fixture(scope="module")
def crashing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_launcher(tmp_path_factory.mktemp("crash"), *build.CRASH_TEST)


@pytest.fixture(autouse=True)
def host() -> Iterator[None]:
    with private_host():
        yield


def records_of(plan: ops.Plan) -> list[int]:
    """List the records of the ops that concern the network, as the launcher counts them."""
    every, data = plan.ops(), encode_plan(plan, BUILD_ID)
    count = sum(HEADER.unpack_from(data)[3:7])
    numbers = [RECORD.unpack_from(data, HEADER.size + index * RECORD.size)[1] for index in range(count)]
    ports = {op.slot for op in every if isinstance(op, ops.Bind)}
    child = range(len(plan.before), len(plan.before) + len(plan.child))
    return [
        index
        for index, number in enumerate(numbers)
        if number not in child
        and (isinstance(op := every[number], CONCERNED) or (isinstance(op, ops.Close) and op.slot in ports))
    ]


def is_free(lock: str) -> bool:
    return not probe_lock(lock)


def run_once(engine: Engine, request: ContainerRequest) -> None:
    started = engine.containers.start(engine.containers.create(request).id)
    with suppress(NotFound):  # over and removed before we look
        engine.containers.wait(started.id, timeout_s=20)


def left() -> str:
    """Show links and elements of the packet filter; those of the bridge itself stay."""
    lines = [line for line in run("ip", "-o", "link").splitlines() if "veth" in line.split(":")[1]]
    lines += [line for line in run("nft", "list", "ruleset").splitlines() if "elements" in line]
    return "\n".join(lines)


def test_nothing_is_left_wherever_the_launcher_dies(tmp_path: Path, busybox: Path, crashing: Path) -> None:
    rootfs = make_rootfs(tmp_path / "rootfs", busybox)
    whole = Recording(crashing, BUILD_ID)
    engine = Engine(tmp_path / "state", launcher=whole)
    world = World(engine, rootfs)
    try:
        request = world.request("true", publish=("8080:80", "127.0.0.1:8081:53/udp"), auto_remove=True)
        run_once(engine, request)
        records = records_of(whole.plan)
        assert len(records) > 15
        for record in records:
            dying = Launcher(crashing, BUILD_ID, {"ONGGI_CRASH_AT": f"parent:{record}"})
            with Engine(tmp_path / "state", launcher=dying) as crash:
                made = crash.containers.create(request)
                with suppress(OnggiError):
                    crash.containers.start(made.id)
                    crash.containers.wait(made.id, timeout_s=20)
            # It may crash after it has told how the container ended: the next command comes once it is dead.
            lock = f"{engine._context.run_directory(made.id)}/lock"
            wait_until(partial(is_free, lock), f"the end of the launcher at record {record}")
            engine.system.fold()
            wait_until(lambda: left() == "", f"after record {record} there is left: {left()}", seconds=SWEPT_S)
            assert engine._context.networks.owners() == [], record
            assert not is_taken("0.0.0.0", 8080), record
            assert not is_taken("127.0.0.1", 8081, udp=True), record
        print(f"{len(records)} crashes")
        run_once(engine, request)
        assert engine.system.check() == []
    finally:
        world.close()
