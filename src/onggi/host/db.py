"""A SQLite database that many processes and threads share: WAL, foreign keys, short transactions.

- A connection belongs to one thread at a time and is opened when first needed;
  one that is free again is kept for the next thread (opening costs three commits).
- `write` is BEGIN IMMEDIATE: whoever is inside is alone, so what it reads stays
  true until its commit. Nested on one thread, it joins the outer transaction.
- `durable` is synchronous=FULL: the commit, and all before it, survive a power
  loss. Without it they survive any kill, which WAL alone gives.
- No network, hashing or fsync belongs inside a transaction: everybody waits.
- The schema moves forward only. Each migration is one transaction; a file that a
  newer Onggi wrote is refused.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from onggi.base.errors import Corrupt, FailedPrecondition, NotSupported, OnggiError, Unavailable

from .locks import take_lock
from .oserrors import explain_oserror

Connection = sqlite3.Connection

APPLICATION_ID: Final = 0x6F6E6767  # "ongg"
_IDLE_CONNECTIONS: Final = 8
_NEEDED_BYTES: Final = 256 << 10
_CORRUPT: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_NOT_WRITABLE: Final = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH)
_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)


class DiskFull(Unavailable):
    """There is no room for what SQLite has to write."""


class _Current(threading.local):
    """The transaction that this thread is in."""

    connection: Connection | None = None
    writes: bool = False
    durable: bool = False


class Database:
    """One database file."""

    def __init__(
        self,
        path: str,
        migrations: Sequence[str],
        *,
        about_to: Callable[[str, str], None] | None = None,
        make_room: Callable[[], bool] | None = None,
        busy_timeout_s: float = 10.0,
    ) -> None:
        """Use the file at `path`; it is made or brought forward by the first transaction.

        `migrations`: the n-th script leads from schema n to n + 1. `about_to(effect,
        path)` is called before each commit, as files.py does before its effects.
        `make_room` is called when the disk is full: even a reader needs a few pages of
        it. If it gives true, opening is tried again.
        """
        self.path = path
        self._migrations = tuple(migrations)
        self._about_to = about_to
        self._make_room = make_room
        self._busy_timeout_s = busy_timeout_s
        self._idle: list[Connection] = []
        self._closed = False
        # Threads of one process queue here; SQLite's own waiting is a sleep that grows.
        self._writer = threading.Lock()
        self._current = _Current()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """See one state of the database, whatever others commit meanwhile."""
        if (joined := self._current.connection) is not None:
            yield joined
            return
        with self._transaction("BEGIN", writes=False, durable=False) as connection:
            yield connection

    @contextmanager
    def write(self, *, durable: bool = False) -> Iterator[Connection]:
        """Change the database, alone; an exception undoes all of it."""
        current = self._current
        if current.connection is not None:
            if not current.writes or durable > current.durable:
                raise RuntimeError("a transaction cannot become stronger than the outer one it joins")
            yield current.connection
            return
        if not self._writer.acquire(timeout=self._busy_timeout_s):
            raise self._busy()
        try:
            with self._transaction("BEGIN IMMEDIATE", writes=True, durable=durable) as connection:
                yield connection
        finally:
            self._writer.release()

    def problems(self) -> list[str]:
        """What SQLite itself finds wrong in the file (quick_check, foreign_key_check); slow on a large one."""
        with self.read() as connection:
            found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(20)") if row[0] != "ok"]
            broken = connection.execute("PRAGMA foreign_key_check").fetchmany(20)
        return found + [
            f"a row of {table} refers to a row of {parent} that is not there" for table, _, parent, _ in broken
        ]

    def checkpoint(self) -> None:
        """Move what was committed from the log into the file, as far as nobody is disturbed; for idle moments."""
        connection = self._take()
        try:
            with self._sentences():
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        finally:
            self._give_back(connection)

    def close(self) -> None:
        """Close every connection; one that a thread is using closes when it is given back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    # -- connections -------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self, begin: str, *, writes: bool, durable: bool) -> Iterator[Connection]:
        current = self._current
        with self._sentences():
            connection = self._take()
            try:
                if writes:
                    connection.execute("PRAGMA synchronous=FULL" if durable else "PRAGMA synchronous=NORMAL")
                connection.execute(begin)
                current.connection, current.writes, current.durable = connection, writes, durable
                try:
                    yield connection
                    if writes and self._about_to is not None:
                        self._about_to("commit", self.path)
                    connection.execute("COMMIT")
                finally:
                    current.connection = None
            except BaseException as error:
                _abandon(connection, reusable=not isinstance(error, sqlite3.Error))
                if isinstance(error, sqlite3.Error):
                    connection.close()
                else:
                    self._give_back(connection)
                raise
            self._give_back(connection)

    def _take(self) -> Connection:
        try:
            return self._idle.pop()
        except IndexError:
            pass
        try:
            return self._open()
        except DiskFull:
            if self._make_room is None or not self._make_room():
                raise
            return self._open()

    def _give_back(self, connection: Connection) -> None:
        if len(self._idle) < _IDLE_CONNECTIONS:
            self._idle.append(connection)
        else:
            connection.close()
        if self._closed:
            self.close()

    def _open(self) -> Connection:
        with self._sentences():
            if not os.path.exists(self.path):
                self._create()
            connection = sqlite3.connect(
                self.path, timeout=self._busy_timeout_s, isolation_level=None, check_same_thread=False
            )
            try:
                connection.execute("PRAGMA foreign_keys=ON")
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                if version < len(self._migrations):
                    self._migrate(connection)
                elif version > len(self._migrations):
                    raise NotSupported(
                        f"{self.path} was written by a newer Onggi (schema {version}, this one knows "
                        f"{len(self._migrations)}); upgrade Onggi or use another --root"
                    )
            except BaseException:
                connection.close()
                raise
            return connection

    def _create(self) -> None:
        # SQLite would make it with the caller's umask, and gives its log the file's mode.
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        except OSError as error:
            raise explain_oserror(error, "create the database", self.path) from None

    # -- schema ------------------------------------------------------------------------------------

    def _migrate(self, connection: Connection) -> None:
        # The lock, since switching to WAL does not wait for others and the first of two commands would fail.
        with take_lock(f"{self.path}.lock", f"the database {self.path}", timeout_s=self._busy_timeout_s):
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                self._claim(connection)
            connection.execute("PRAGMA synchronous=FULL")
            for number in range(version, len(self._migrations)):
                connection.execute("BEGIN IMMEDIATE")
                try:
                    for statement in _statements(self._migrations[number]):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA user_version={number + 1}")
                    if self._about_to is not None:
                        self._about_to("commit", self.path)
                    connection.execute("COMMIT")
                except BaseException:
                    _abandon(connection, reusable=True)
                    raise

    def _claim(self, connection: Connection) -> None:
        """Make sure that the file is empty or ours, and make it so."""
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        (owner,) = connection.execute("PRAGMA application_id").fetchone()
        if owner not in (0, APPLICATION_ID) or (tables and owner != APPLICATION_ID):
            raise Corrupt(f"{self.path} is the database of another program; use another --root")
        (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        if mode != "wal":
            raise NotSupported(
                f"{self.path}: its file system cannot share memory between processes, which the database needs; "
                "use a local file system (--root)"
            )
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")

    # -- errors ------------------------------------------------------------------------------------

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise  # the caller broke a promise to the schema: a bug, not a condition
        except sqlite3.DatabaseError as error:
            raise self._explain(error) from error

    def _explain(self, error: sqlite3.DatabaseError) -> OnggiError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _BUSY:
            return self._busy()
        if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and self._is_full()):
            return DiskFull(f"cannot write {self.path}: no space left; free some (`onggi system prune` helps)")
        if code in _CORRUPT:
            return Corrupt(
                f"{self.path} is damaged ({error}); move it away to begin with an empty one, "
                "then `onggi system check --repair` removes the files it knew, volumes excepted"
            )
        if code in _NOT_WRITABLE:
            return self._why_not_writable(error)
        return Unavailable(f"{self.path}: {error}; see `dmesg` for errors of the disk")

    def _why_not_writable(self, error: sqlite3.DatabaseError) -> OnggiError:
        try:  # SQLite does not keep the errno
            os.close(os.open(self.path, os.O_RDWR | os.O_CLOEXEC))
            probe = f"{self.path}.{os.urandom(8).hex()}"
            os.close(os.open(probe, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            os.unlink(probe)
        except OSError as reason:
            return explain_oserror(reason, "write the database", self.path)
        return FailedPrecondition(f"cannot write the database {self.path}: {error}; is it owned by somebody else?")

    def _is_full(self) -> bool:
        """SQLite calls it an I/O error if its shared memory does not fit."""
        try:
            seen = os.statvfs(os.path.dirname(self.path))
        except OSError:
            return False
        return seen.f_bavail * seen.f_frsize < _NEEDED_BYTES

    def _busy(self) -> OnggiError:
        return Unavailable(
            f"another command has held the database {self.path} for {self._busy_timeout_s:g} s; try again"
        )


def _abandon(connection: Connection, *, reusable: bool) -> None:
    """Roll back what is open; SQLite has often done it already after an error of its own."""
    try:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    except sqlite3.Error:
        if reusable:
            raise


def _statements(script: str) -> Iterator[str]:
    """Split a script: `executescript` would commit on its own, and a migration must be one transaction."""
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        raise ValueError(f"unfinished statement in a migration: {statement.strip()!r}")
