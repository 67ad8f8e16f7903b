"""The database: transactions that join and undo, one owner at a time, a schema that only moves forward."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from onggi.base.errors import Corrupt, FailedPrecondition, NotSupported, Unavailable
from onggi.host.db import Database

SRC = Path(__file__).parents[2] / "src"
MIGRATIONS = ("CREATE TABLE counts (n INTEGER NOT NULL) STRICT;\nINSERT INTO counts VALUES (0);\n",)

CHILD = f"""
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from onggi.host.db import Database
db = Database(sys.argv[2], {MIGRATIONS!r})
if sys.argv[3] == "die":
    with db.write() as connection:
        connection.execute("UPDATE counts SET n = n + 1000")
        os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[3] == "hold":
    with db.write():
        print("held", flush=True)
        sys.stdin.read()
for _ in range(int(sys.argv[3])):
    with db.write() as connection:
        (n,) = connection.execute("SELECT n FROM counts").fetchone()
        connection.execute("UPDATE counts SET n = ?", (n + 1,))
db.close()
"""


def child(path: str, what: str) -> "subprocess.Popen[bytes]":
    """Do something with the database in another process."""
    command = [sys.executable, "-B", "-c", CHILD, str(SRC), path, what]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def count(db: Database) -> int:
    """Read the number."""
    with db.read() as connection:
        return int(connection.execute("SELECT n FROM counts").fetchone()[0])


def add(db: Database, n: int = 1, *, durable: bool = False) -> None:
    """Add to the number."""
    with db.write(durable=durable) as connection:
        connection.execute("UPDATE counts SET n = n + ?", (n,))


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Give the path of a database that is not there yet."""
    return f"{tmp_path}/db.sqlite"


@pytest.fixture
def db(path: str) -> Iterator[Database]:
    """Give a new database."""
    database = Database(path, MIGRATIONS, busy_timeout_s=5)
    yield database
    database.close()


def test_it_is_made_private_with_wal_and_foreign_keys(db: Database, path: str) -> None:
    old = os.umask(0)
    try:
        add(db)
    finally:
        os.umask(old)
    assert {os.stat(f"{path}{suffix}").st_mode & 0o777 for suffix in ("", "-wal", "-shm")} == {0o600}
    with db.read() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA foreign_keys").fetchone() == (1,)


def test_an_exception_undoes_everything(db: Database) -> None:
    def fail() -> None:
        with db.write() as connection:
            connection.execute("UPDATE counts SET n = 7")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert count(db) == 0


def test_inner_transactions_join_the_outer_one(db: Database) -> None:
    def fail() -> None:
        with db.write(durable=True):
            add(db)
            add(db, durable=True)
            assert count(db) == 2
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert count(db) == 0


def test_a_transaction_cannot_become_stronger(db: Database) -> None:
    with pytest.raises(RuntimeError, match="stronger"), db.write():
        add(db, durable=True)
    with pytest.raises(RuntimeError, match="stronger"), db.read():
        add(db)
    add(db)
    assert count(db) == 1


def test_durable_is_synchronous_full(db: Database) -> None:
    for durable, level in ((True, 2), (False, 1), (False, 1), (True, 2)):  # the connection stays the same
        with db.write(durable=durable) as connection:
            assert connection.execute("PRAGMA synchronous").fetchone() == (level,)


def test_a_reader_sees_one_state(db: Database) -> None:
    add(db)
    with db.read() as connection:
        assert connection.execute("SELECT n FROM counts").fetchone() == (1,)
        thread = threading.Thread(target=add, args=(db,))
        thread.start()
        thread.join()
        assert connection.execute("SELECT n FROM counts").fetchone() == (1,)
    assert count(db) == 2


def test_threads_wait_for_each_other(db: Database) -> None:
    def add_often() -> None:
        for _ in range(50):
            add(db)

    threads = [threading.Thread(target=add_often) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(db) == 400


def test_many_threads_leave_few_descriptors(db: Database) -> None:
    def run() -> None:
        threads = [threading.Thread(target=count, args=(db,)) for _ in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    run()
    once = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        run()
    assert len(os.listdir("/proc/self/fd")) <= max(once, 8 * 3 + 20)


def test_a_connection_in_use_while_it_is_closed_ends_too(db: Database) -> None:
    with db.read() as connection:
        db.close()
        assert connection.execute("SELECT n FROM counts").fetchone() == (0,)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")


def test_processes_may_all_be_the_first(db: Database, path: str) -> None:
    children = [child(path, "20") for _ in range(4)]
    assert [process.wait() for process in children] == [0] * 4
    for process in children:
        process.communicate()
    assert count(db) == 80


def test_a_killed_writer_changes_nothing_and_blocks_nobody(db: Database, path: str) -> None:
    add(db)
    process = child(path, "die")
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    add(db)
    assert count(db) == 2


def test_waiting_ends_in_a_sentence(db: Database, path: str) -> None:
    add(db)
    process = child(path, "hold")
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        hasty = Database(path, MIGRATIONS, busy_timeout_s=0.05)
        with pytest.raises(Unavailable, match=r"another command has held the database .* for 0\.05 s; try again"):
            add(hasty)
        assert count(hasty) == 1  # reading goes on
        hasty.close()
    finally:
        process.kill()
        process.communicate()
    add(db)
    assert count(db) == 2


def test_waiting_for_another_thread_ends_in_a_sentence(path: str) -> None:
    db = Database(path, MIGRATIONS, busy_timeout_s=0.05)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            add(db)
        except Unavailable as error:
            errors.append(error)

    with db.write():
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    assert len(errors) == 1
    db.close()


def test_the_schema_moves_forward(db: Database, path: str) -> None:
    add(db, 5)
    second = (
        "ALTER TABLE counts ADD COLUMN extra TEXT;\nCREATE TRIGGER t AFTER INSERT ON counts BEGIN\n  SELECT 1;\nEND;\n"
    )
    newer = Database(path, (*MIGRATIONS, second))
    with newer.read() as connection:
        assert connection.execute("SELECT n, extra FROM counts").fetchone() == (5, None)
    newer.close()
    older = Database(path, MIGRATIONS)
    with pytest.raises(NotSupported, match=r"written by a newer Onggi \(schema 2, this one knows 1\)"):
        count(older)


def test_a_migration_that_fails_changes_nothing(db: Database, path: str) -> None:
    add(db)
    broken = Database(path, (*MIGRATIONS, "CREATE TABLE other (a TEXT);\nINSERT INTO nowhere VALUES (1);\n"))
    with pytest.raises(Unavailable, match="no such table"):
        count(broken)
    with db.read() as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'other'").fetchone() == (0,)
    assert count(db) == 1


def test_the_database_of_another_program_is_left_alone(path: str) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (a TEXT)")
    other.close()
    with pytest.raises(Corrupt, match="database of another program"):
        count(Database(path, MIGRATIONS))


@pytest.mark.parametrize("garbage", [b"no database at all" * 400, b"SQLite format 3\0" + b"\xff" * 5000])
def test_garbage_is_corrupt(path: str, garbage: bytes) -> None:
    Path(path).write_bytes(garbage)
    with pytest.raises(Corrupt, match="is damaged"):
        count(Database(path, MIGRATIONS))


def test_damage_within_is_corrupt_and_listed(db: Database, path: str) -> None:
    with db.write() as connection:
        for n in range(3000):
            connection.execute("INSERT INTO counts VALUES (?)", (n,))
    assert db.problems() == []
    db.close()  # moves the log into the file
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096 * 3)
    with pytest.raises(Corrupt, match="is damaged"):
        count(db)
    db.close()


def test_a_directory_that_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"cannot create the database .*: it is not there"):
        count(Database(f"{tmp_path}/no/db.sqlite", MIGRATIONS))


def test_something_else_in_its_place_is_said(tmp_path: Path) -> None:
    (tmp_path / "db.sqlite").mkdir()
    with pytest.raises(FailedPrecondition, match="something else lies there"):
        count(Database(f"{tmp_path}/db.sqlite", MIGRATIONS))


def test_a_commit_is_announced_and_can_be_prevented(path: str) -> None:
    seen: list[tuple[str, str]] = []
    refuse = False

    def about_to(effect: str, at: str) -> None:
        seen.append((effect, at))
        if refuse:
            raise InterruptedError

    db = Database(path, MIGRATIONS, about_to=about_to)
    add(db)
    assert seen == [("commit", path)] * 2  # the migration and the addition
    refuse = True
    with pytest.raises(InterruptedError):
        add(db)
    refuse = False
    assert count(db) == 1
    add(db)
    assert count(db) == 2
    db.close()


def test_a_checkpoint_disturbs_nobody(db: Database, path: str) -> None:
    add(db)
    with db.read() as connection:
        connection.execute("SELECT n FROM counts").fetchone()
        db.checkpoint()
    add(db)
    assert count(db) == 2
