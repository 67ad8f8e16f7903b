"""`onggi plan` of a bundle, by itself: no root, no engine."""

import json
from pathlib import Path
from typing import Any, cast

import pytest

from onggi.cli.app import State, run_command
from onggi.cli.caller import Caller
from onggi.cli.main import cli

CONFIG: dict[str, Any] = {
    "ociVersion": "1.2.0",
    "process": {"user": {"uid": 0, "gid": 0}, "args": ["sh"], "cwd": "/"},
    "root": {"path": "rootfs", "readonly": True},
    "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
    "linux": {"namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")]},
}


class Listener:
    """A caller who keeps what is said."""

    def __init__(self, cwd: Path) -> None:
        self.env: dict[str, str] = {}
        self.cwd, self.said = str(cwd), ""

    def out(self, text: str) -> None:
        self.said += text

    err = out


@pytest.mark.parametrize(
    ("linux", "cgroup"), [({}, "/onggi/<id>"), ({"cgroupsPath": "/mine/c"}, "/mine/c")], ids=["as-runc-spec", "named"]
)
def test_a_bundle_is_explained(tmp_path: Path, linux: dict[str, str], cgroup: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "linux": {**CONFIG["linux"], **linux}}))
    listener = Listener(tmp_path)
    code = run_command(cli, ["plan", "."], State(cast("Caller", listener), cast("Any", None)))
    assert code == 0, listener.said
    assert f"{cgroup} " in listener.said
    assert f"{tmp_path}/rootfs" in listener.said
