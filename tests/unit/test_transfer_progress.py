"""The stream of events of a transfer."""

import threading

from onggi.registry.progress import BlobProgress, Event, Note, State, one_at_a_time


def test_a_listener_hears_one_event_at_a_time() -> None:
    inside, most, heard = 0, 0, []
    gate = threading.Barrier(4)

    def tell(event: Event) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        heard.append(event)
        threading.Event().wait(0.001)
        inside -= 1

    told = one_at_a_time(tell)

    def talk() -> None:
        gate.wait()
        told(BlobProgress(blob="sha256:a", state=State.UPLOADING, bytes=1, total=2))
        told(Note(text="x"))

    threads = [threading.Thread(target=talk) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, len(heard)) == (1, 8)
