"""What `onggi pull` draws on a terminal."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading

from tests.containers import wait_for
from tests.homes import Home
from tests.registry_server import Registry, cut, held
from tests.remote_images import add_image
from tests.root.test_pull import BIG, HERE

COLUMNS = 64


class Screen:
    """A terminal of the test's own, and a command on it; `text` is all that was written."""

    def __init__(self, home: Home, *words: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
        self.text = ""
        self.process = subprocess.Popen(
            home.words(*words),
            env=home.environment(warm=False, TERM="xterm"),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        with open(self._master, "rb", buffering=0) as master:
            try:
                while data := master.read(1 << 16):
                    self.text += data.decode(errors="replace")
            except OSError:  # how a terminal ends
                pass

    def press(self, key: bytes) -> None:
        """Press a key."""
        os.write(self._master, key)

    def end(self) -> int:
        """Wait for the command and for all it wrote; gives its exit code."""
        code = self.process.wait(60)
        self._reader.join(60)
        return code

    def lines(self) -> list[str]:
        """What was written last, without what moves the cursor."""
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.text)
        return [line.rpartition("\r")[2] for line in plain.replace("\r\n", "\n").split("\n")]


def test_bars_while_layers_come(home: Home, registry: Registry) -> None:
    add_image(registry, "app", "1", [{"a": b"1"}, BIG], architecture=HERE)
    big = max(registry.blobs["app"].items(), key=lambda item: len(item[1]))[0]
    go_on = threading.Event()
    registry.fault("GET", f"blobs/{big}", cut(1_500_000), times=1)
    registry.fault("GET", f"blobs/{big}", held(go_on))
    screen = Screen(home, "pull", f"{registry.host}/app:1")
    wait_for(lambda: re.search(r"Downloading \[=+> +\]  1\.\d+MB/3\.\d+MB", screen.text), "half a bar", 30)
    assert re.search(r"Pull complete", screen.text)
    go_on.set()
    assert screen.end() == 0, screen.text
    lines = screen.lines()
    assert lines[0] == "1: Pulling from app"
    assert f"{registry.host}/app:1" in lines[-2:]
    assert any(line.startswith("Status: Downloaded newer image") for line in lines)
    last = [line for line in lines if line.endswith("Pull complete")][-2:]
    assert {line.partition(":")[0] for line in last} == {name[7:19] for name in list(registry.blobs["app"])[1:]}
    drawn = re.findall(r"\w{12}: Downloading \[[=> ]+\]  \S+/\S+B  \S+B/s", screen.text)
    assert drawn
    assert max(map(len, drawn)) <= COLUMNS
    assert screen.text.count("\x1b[?25l") == screen.text.count("\x1b[?25h"), "the cursor is seen again"


def test_ctrl_c_leaves_a_sentence_and_a_cursor(home: Home, registry: Registry) -> None:
    add_image(registry, "app", "1", [{"a": b"1"}, BIG], architecture=HERE)
    big = max(registry.blobs["app"].items(), key=lambda item: len(item[1]))[0]
    registry.fault("GET", f"blobs/{big}", held(threading.Event()))
    screen = Screen(home, "pull", f"{registry.host}/app:1")
    wait_for(lambda: "Pull complete" in screen.text, "the small layer", 30)
    screen.press(b"\x03")
    code = screen.end()
    assert code in (130, -signal.SIGINT), (code, screen.text)
    assert "Traceback" not in screen.text
    assert screen.text.count("\x1b[?25l") == screen.text.count("\x1b[?25h")
    registry.heal()
    registry.asked.clear()
    assert home.onggi("pull", f"{registry.host}/app:1").returncode == 0
    assert len([line for line in registry.lines("blobs/") if line.startswith("GET")]) == 1
