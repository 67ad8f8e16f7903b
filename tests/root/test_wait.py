"""Waiting for an end: the exit code is the container's own, whoever else records and removes it meanwhile."""

import os
import signal
import threading
from pathlib import Path

import pytest

from onggi import NotFound
from onggi.base.errors import FailedPrecondition
from onggi.engine.handles import Handle
from onggi.host.attach import Attachment
from onggi.runtime.records import LOST_EXIT_CODE
from onggi.spec.container import ContainerRequest
from tests.containers import wait_for
from tests.homes import IMAGE, Home, is_alive


def start(home: Home, *, auto_remove: bool = False) -> Handle:
    """Start a container that ends with 7 when it gets SIGUSR1; it is ready for that."""
    script = "trap 'exit 7' USR1; echo ready; while :; do sleep 0.05; done"
    container = home.shell(script, auto_remove=auto_remove)
    wait_for(lambda: list(container.logs()), "the container is ready")
    return container


def wait_in_thread(home: Home, id: str) -> tuple[threading.Thread, list[object]]:
    """Wait for a container in a thread, which listens to its supervisor by now."""
    found: list[object] = []
    listening = threading.Event()

    def wait() -> None:
        with home.another() as engine:
            listening.set()
            try:
                found.append(engine.containers.wait(id))
            except Exception as error:
                found.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    listening.wait()
    return thread, found


def test_one_that_goes_with_its_end(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends just before its supervisor could be asked, and somebody else clears away at that moment."""
    container = start(home, auto_remove=True)
    run = Path(home.run, "containers", container.id)
    connect = Attachment.connect
    supervisor = home.supervisor(container.id)

    def too_late(directory: str) -> Attachment:
        monkeypatch.setattr(Attachment, "connect", connect)
        with connect(directory) as attachment:
            attachment.send_signal(signal.SIGUSR1)
            attachment.wait_end(30)
        wait_for(lambda: not is_alive(supervisor), "the supervisor has left")
        with home.another() as engine:
            engine.system.fold()
        raise FailedPrecondition("it is not running")

    monkeypatch.setattr(Attachment, "connect", too_late)
    assert home.engine.containers.wait(container.id) == 7
    home.engine.system.fold()
    assert not run.exists()
    with pytest.raises(NotFound):
        home.engine.containers.wait(container.id)


@pytest.mark.parametrize("auto_remove", [True, False])
def test_one_whose_supervisor_is_lost(home: Home, auto_remove: bool) -> None:
    container = start(home, auto_remove=auto_remove)
    thread, found = wait_in_thread(home, container.id)
    os.kill(home.supervisor(container.id), signal.SIGKILL)
    thread.join(60)
    assert found == [LOST_EXIT_CODE]


def test_several_wait_for_one(home: Home) -> None:
    container = start(home, auto_remove=True)
    waits = [wait_in_thread(home, container.id) for _ in range(4)]
    wait_for(lambda: not any(found for _, found in waits), "all wait")
    container.kill(signal=signal.SIGUSR1)
    for thread, found in waits:
        thread.join(60)
        # Who had not begun to wait by then finds none to wait for.
        assert found == [7] or isinstance(found[0], NotFound)
    assert container.wait() == 7


def test_what_does_not_run_is_not_waited_for(home: Home) -> None:
    made = home.engine.containers.create(ContainerRequest(image=IMAGE, network="none"), name="made")
    assert home.engine.containers.wait("made", timeout_s=0) == 0
    home.engine.containers.remove(made.id)
    ended = home.shell("exit 5")
    assert ended.wait(timeout_s=60) == 5
    assert home.engine.containers.wait(ended.id, timeout_s=60) == 5
    assert home.engine.containers.get(ended.id).exit_code == 5
    assert home.engine.containers.wait(ended.id, timeout_s=0) == 5
    with pytest.raises(NotFound, match="No such container: nothing"):
        home.engine.containers.wait("nothing")


def test_it_takes_no_longer_than_it_may(home: Home) -> None:
    container = start(home)
    with pytest.raises(TimeoutError):
        home.engine.containers.wait(container.id, timeout_s=0.1)
    with home.engine._context.containers.lock(container.id), pytest.raises(TimeoutError):
        home.another().containers.wait(container.id, timeout_s=0.1)
