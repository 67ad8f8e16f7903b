"""The supervisor's log is what Docker's json-file driver writes, is rotated as it does, and says what it lost."""

import itertools
import json
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.supervisor import LOST, LogWriter, logged, read_log

LINE = 16384


ESCAPES = {
    **{code: f"\\u{code:04x}" for code in (*range(0x20), *map(ord, "<>&\u2028\u2029"))},
    **str.maketrans({"\n": "\\n", "\r": "\\r", '"': '\\"', "\\": "\\\\"}),
    **dict.fromkeys(range(0xDC80, 0xDD00), "\\ufffd"),  # a byte that is part of no character
}


def go_escape(data: bytes) -> str:
    """Say `data` as moby's jsonlog does: encoding/json's HTML-safe escapes, but a tab has no short form."""
    return data.decode("utf-8", "surrogateescape").translate(ESCAPES)


def docker_records(data: bytes) -> list[bytes]:
    """Cut a stream as moby's copier does, but never inside a character."""
    records = []
    for line in re.findall(rb"[^\n]*\n|[^\n]+", data):
        while len(line) > LINE or (len(line) == LINE and not line.endswith(b"\n")):
            cut = LINE - unfinished(line[:LINE])
            records.append(line[:cut])
            line = line[cut:]
        if line:
            records.append(line)
    return records


def unfinished(line: bytes) -> int:
    """Count the bytes at the end that may be the beginning of a character."""
    found = re.search(rb"(?:[\xc2-\xf4]|[\xe0-\xf4][\x80-\xbf]|[\xf0-\xf4][\x80-\xbf]{2})\Z", line)
    return len(found[0]) if found else 0


def write_log(chunks: Iterable[bytes], limit: int = 0, files: int = 1) -> list[bytes]:
    """Write a log of stdout; give its lines."""
    with tempfile.TemporaryDirectory() as directory:
        log = LogWriter(Path(directory), limit, files)
        for chunk in chunks:
            log.take(chunk)
        assert log.finish() == 0
        return (Path(directory) / "c.log").read_bytes().splitlines(keepends=True)


SHAPE = re.compile(
    rb'\{"log":"(.*)","stream":"stdout","time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.(\d{0,8}[1-9]))?Z"\}\n', re.DOTALL
)

text_like = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from([b"\n", b"\r\n", b'\t<&>"\\', b"\xe2\x80\xa8", b"\xe2\x80\xa9", b"\xef\xbf\xbd", b"\x7f\x00\x1f"]),
    st.sampled_from([b"\xc0\x80", b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80", b"\xf5"]),
    st.sampled_from([b"\xc3\xa9", b"x\xf0\x9f\x98\x80", b"\xf0\x9f", b"\xe2\x82"]),
)
times = st.sampled_from([1, 1, 1, 2, 800, 5461, 5462, 8191, LINE - 2, LINE])


@settings(max_examples=120)
@given(chunks=st.lists(st.tuples(text_like, times), max_size=5))
def test_records_are_byte_for_byte_dockers(chunks: list[tuple[bytes, int]]) -> None:
    data = [(piece * count)[:20_000] for piece, count in chunks]
    texts = []
    for line in write_log(data):
        match = SHAPE.fullmatch(line)
        assert match
        texts.append(match[1].decode())
    assert texts == [go_escape(record) for record in docker_records(b"".join(data))]


@pytest.mark.parametrize("size", [1, LINE - 1, LINE, LINE + 1, 2 * LINE - 1, 2 * LINE, 100_000])
def test_long_lines_are_cut_where_docker_cuts_them(size: int) -> None:
    line = b"x" * size + b"\n"
    lengths = [len(json.loads(record)["log"]) for record in write_log([line])]
    assert lengths == [len(record) for record in docker_records(line)]
    assert lengths[:-1] == [LINE] * (len(lengths) - 1)


def test_a_record_of_the_largest_size() -> None:
    (record, end) = write_log([b"\0" * LINE, b"\n"])
    assert len(record) > 6 * LINE
    assert json.loads(record)["log"] == "\0" * LINE
    assert json.loads(end)["log"] == "\n"


def test_streams_do_not_mix(tmp_path: Path) -> None:
    log = LogWriter(tmp_path)
    for text in "abc":
        log.take(text.encode(), "stdout")
        log.take(text.upper().encode(), "stderr")
    log.take(b"\n", "stderr")
    assert log.finish() == 0
    assert [(r.log, r.stream) for r in read_log(tmp_path / "c.log")] == [("ABC\n", "stderr"), ("abc", "stdout")]


# -- rotation -----------------------------------------------------------------------------------------


def rotated(directory: Path) -> list[str]:
    """Name the files of a log, the youngest first."""
    return sorted(path.name for path in directory.iterdir())


def test_rotation_keeps_so_many_files(tmp_path: Path) -> None:
    log = LogWriter(tmp_path, limit=1000, files=3)
    for number in range(100):
        log.take(b"line %d\n" % number)
    assert log.finish() == 0
    assert rotated(tmp_path) == ["c.log", "c.log.1", "c.log.2"]
    texts = [record.log for name in ("c.log.2", "c.log.1", "c.log") for record in read_log(tmp_path / name)]
    assert texts == [f"line {number}\n" for number in range(100 - len(texts), 100)]
    assert all(1000 <= (tmp_path / name).stat().st_size < 1100 for name in ("c.log.1", "c.log.2"))


def test_rotation_happens_within_one_read(tmp_path: Path) -> None:
    log = LogWriter(tmp_path, limit=1000, files=4)
    log.take(b"".join(b"line %d\n" % number for number in range(40)))
    assert log.finish() == 0
    texts = [record.log for name in reversed(rotated(tmp_path)) for record in read_log(tmp_path / name)]
    assert len(rotated(tmp_path)) == 4
    assert texts == [f"line {number}\n" for number in range(40)]


def test_one_file_starts_anew(tmp_path: Path) -> None:
    log = LogWriter(tmp_path, limit=1000, files=1)
    for number in range(30):
        log.take(b"line %d\n" % number)
    assert log.finish() == 0
    assert rotated(tmp_path) == ["c.log"]
    assert read_log(tmp_path / "c.log")[-1].log == "line 29\n"
    assert len(read_log(tmp_path / "c.log")) < 20


def test_a_log_is_continued(tmp_path: Path) -> None:
    for number in range(3):
        log = LogWriter(tmp_path, limit=100, files=9)
        log.take(b"line %d\n" % number)
        assert log.finish() == 0
    assert rotated(tmp_path) == ["c.log", "c.log.1"]
    assert logged(tmp_path / "c.log.1") + logged(tmp_path / "c.log") == "line 0\nline 1\nline 2\n"


def test_a_log_may_be_truncated_from_outside(tmp_path: Path) -> None:
    log = LogWriter(tmp_path)
    log.take(b"before\n")
    (tmp_path / "c.log").write_bytes(b"")
    log.take(b"after\n")
    assert log.finish() == 0
    assert logged(tmp_path / "c.log") == "after\n"


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 5000])
@pytest.mark.parametrize("whole", [b"", b'{"log":"a\\n","stream":"stdout","time":"2026-11-25T03:30:00Z"}\n'])
def test_a_torn_record_of_the_last_run_is_cut_off(tmp_path: Path, whole: bytes, size: int) -> None:
    (tmp_path / "c.log").write_bytes(whole + b"x" * size)
    log = LogWriter(tmp_path)
    log.take(b"b\n")
    assert log.finish() == 0
    assert logged(tmp_path / "c.log") == ("a\n" if whole else "") + "b\n"


def test_a_log_is_no_link_and_no_device(tmp_path: Path) -> None:
    (tmp_path / "c.log").symlink_to("/dev/null")
    log = LogWriter(tmp_path)
    log.process.communicate()
    assert log.process.returncode == 125


# -- full disks ----------------------------------------------------------------------------------------


def told(path: Path) -> list[int]:
    """Give the sizes of the gaps that a log tells of."""
    return [int(record.log.removeprefix(LOST)) for record in read_log(path) if record.log.startswith(LOST)]


def test_a_gap_is_told_once_there_is_room(tmp_path: Path) -> None:
    log = LogWriter(tmp_path)
    path = tmp_path / "c.log"
    log.take(b"one\ntwo\n")
    log.room(path.stat().st_size + 100)
    log.take(b"three\nfour\nfive\n")  # the first of them fits
    assert logged(path) == "one\ntwo\nthree\n"
    log.take(b"six\n")
    log.room(None)
    log.take(b"seven\neight\n")
    assert log.finish() == 3
    assert [record.log for record in read_log(path)][3:] == [f"{LOST}3\n", "seven\n", "eight\n"]
    assert read_log(path)[3].stream == "stderr"


def test_a_gap_at_the_end_is_counted(tmp_path: Path) -> None:
    log = LogWriter(tmp_path)
    log.room(0)
    log.take(b"one\ntwo\nthr")
    assert log.finish() == 3
    assert read_log(tmp_path / "c.log") == []


def test_telling_of_gaps_does_not_fill_the_disk(tmp_path: Path) -> None:
    log = LogWriter(tmp_path)
    log.room(1000)
    for _ in range(50):
        log.take(b"x" * 2000 + b"\n")
    assert (tmp_path / "c.log").stat().st_size == 0
    log.room(None)
    log.take(b"y\n")
    assert log.finish() == 50
    assert [record.log for record in read_log(tmp_path / "c.log")] == [f"{LOST}50\n", "y\n"]


@settings(max_examples=60)
@given(
    sizes=st.lists(st.sampled_from([0, 1, 20, 3000, 15000, 40000]), min_size=1, max_size=6),
    rooms=st.lists(st.one_of(st.none(), st.integers(0, 90_000)), min_size=1, max_size=6),
    byte=st.sampled_from([b"a", b"\0"]),
)
def test_every_record_is_there_or_counted(sizes: list[int], rooms: list[int | None], byte: bytes) -> None:
    """Whatever the room, the log holds whole records in order, and gaps whose sizes are true."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "c.log"
        log = LogWriter(Path(directory))
        made = []
        for number, room in enumerate(rooms):
            log.room(room)
            data = b"".join(b"%d.%d:" % (number, i) + byte * size + b"\n" for i, size in enumerate(sizes))
            made += [json.dumps(record.decode()) for record in docker_records(data)]
            log.take(data)
        log.room(None)
        log.take(b"end\n")
        lost = log.finish()
        found = read_log(path)
        kept = [json.dumps(record.log) for record in found if not record.log.startswith(LOST)]
        assert kept.pop() == '"end\\n"'
        assert len(kept) + lost == len(made)
        assert sum(told(path)) == lost
        # In order, and each gap as large as it says.
        source = iter(made)
        for record in found[:-1]:
            if record.log.startswith(LOST):
                assert len(list(itertools.islice(source, int(record.log.removeprefix(LOST))))) > 0
            else:
                assert next(source) == json.dumps(record.log)
