"""Following a log from before its first line to after its last."""

from pathlib import Path

from onggi.host.logs import read_logs

RECORD = b'{"log":"ready\\n","stream":"stdout","time":"2026-01-01T00:00:00Z"}\n'


def test_a_log_that_is_followed_may_begin_later(tmp_path: Path) -> None:
    asked: list[None] = []

    def alive() -> bool:
        asked.append(None)
        if len(asked) == 2:
            (tmp_path / "log").write_bytes(RECORD)
        return len(asked) < 4

    assert [line.log for line in read_logs(str(tmp_path / "log"), tail=None, since_ns=0, alive=alive)] == ["ready\n"]


def test_a_log_that_never_begins_ends_with_its_container(tmp_path: Path) -> None:
    answers = iter([True, True, False])
    assert list(read_logs(str(tmp_path / "log"), tail=None, since_ns=0, alive=lambda: next(answers))) == []
    assert list(read_logs(str(tmp_path / "log"), tail=None, since_ns=0, alive=None)) == []
