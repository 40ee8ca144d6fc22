"""The feedback of a service in one SQLite file, which all its processes share.

    rankings     every ranking that was answered: the fields of a `RankingLine`, and keys
    reports      what clients reported: the fields of a `ReportLine`, and keys; `owner`, see `Report`
    forgotten    codes of sessions that were just deleted, so that a ranking that is still on its way is dropped

SQLite keeps a rollback journal that is emptied after each transaction, and overwrites what is deleted with zeros. But
where it merges or splits pages of its trees, copies of the rows that move stay in free parts of them. So rows are only
added at the end, what is forgotten is emptied and its row stays, and the indexes hold hashes.

SQLite waits for a lock by sleeping and trying again, which may take for ever: so writers take turns by a lock on a file
next to it. Readers keep it locked for a page of rows at most.
"""

from __future__ import annotations

import fcntl
import json as plain_json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from msgspec import MsgspecError, convert, json, structs, to_builtins

from mtaw_fast.errors import DataError
from mtaw_fast.experiment.lines import RankingLine, ReportLine

NAME = "feedback.sqlite"  # in a folder
IMPORT = "import them with 'mtaw-fast experiment NEW.sqlite --import LINES'"
PAGE_ROWS = 2000  # that a reader keeps locked at once
STEP_ROWS = 200  # that one transaction deletes, some tens of milliseconds of writing
_MAGIC, _FORMAT = 0x6D746177, 3
_WAIT = 10.0  # seconds for a lock of another program
_CACHE_KIB = 32 << 10
_KEPT_MS = 600_000  # for which a deleted session's code is known: far longer than a ranking is on its way
_SCHEMA = """
CREATE TABLE rankings (
    id INTEGER PRIMARY KEY, time INTEGER, recommendation TEXT, session TEXT, version TEXT, bundle TEXT, share REAL,
    placement TEXT, rules TEXT, rules_share REAL, route TEXT, fallback INTEGER, items TEXT, draws TEXT, clicks TEXT,
    id_key INTEGER, session_key INTEGER
);
CREATE UNIQUE INDEX ranking_ids ON rankings (id_key) WHERE id_key IS NOT NULL;
CREATE INDEX ranking_sessions ON rankings (session_key) WHERE session_key IS NOT NULL;
CREATE INDEX ranking_times ON rankings (time);
CREATE TABLE reports (
    id INTEGER PRIMARY KEY, time INTEGER, recommendation TEXT, version TEXT, session TEXT, what TEXT, items TEXT,
    positions TEXT, "values" TEXT, id_key INTEGER, session_key INTEGER, owner INTEGER
);
CREATE INDEX report_ids ON reports (id_key) WHERE id_key IS NOT NULL;
CREATE INDEX report_sessions ON reports (session_key) WHERE session_key IS NOT NULL;
CREATE INDEX report_owners ON reports (owner) WHERE owner IS NOT NULL;
CREATE INDEX report_times ON reports (time);
CREATE TABLE forgotten (owner INTEGER PRIMARY KEY, time INTEGER);
"""
_ADD_RANKING = "INSERT OR IGNORE INTO rankings VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_ADD_REPORT = """INSERT INTO reports SELECT NULL, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10,
    CASE WHEN EXISTS (SELECT 1 FROM rankings WHERE id_key = ?9) THEN NULL ELSE ?11 END"""
_ADD_IF_NEW = f"""{_ADD_REPORT} WHERE NOT EXISTS (
    SELECT 1 FROM reports WHERE id_key = ?9 AND time = ?1 AND what = ?5 AND items = ?6)"""
_EMPTY_REPORT = (
    "UPDATE reports SET recommendation = NULL, version = NULL, session = NULL, what = NULL, items = NULL, "
    'positions = NULL, "values" = NULL, id_key = NULL, session_key = NULL, owner = NULL WHERE id IN'
)
_EMPTY_RANKING = (
    "UPDATE rankings SET recommendation = NULL, session = NULL, version = NULL, bundle = NULL, share = NULL, "
    "placement = NULL, rules = NULL, rules_share = NULL, route = NULL, fallback = NULL, items = NULL, draws = NULL, "
    "clicks = NULL, id_key = NULL, session_key = NULL WHERE id IN"
)
# As many as a step may empty, so that it does not search all rankings of a long session for reports.
_RANKINGS_OF = "SELECT id, id_key FROM rankings WHERE session_key = ?1 AND session = ?2 ORDER BY id LIMIT ?4"
_OLD_RANKINGS = "SELECT id, id_key FROM rankings WHERE time < ?1 ORDER BY time LIMIT ?2"
_FORGET = (  # the reports first, because the rankings lead to them
    f"{_EMPTY_REPORT} (SELECT id FROM reports WHERE session_key = ?1 AND session = ?2 LIMIT ?4)",
    f"{_EMPTY_REPORT} (SELECT id FROM reports WHERE owner = ?3 LIMIT ?4)",
    f"{_EMPTY_REPORT} (SELECT reports.id FROM ({_RANKINGS_OF}) AS first JOIN reports ON reports.id_key = first.id_key "
    "LIMIT ?4)",
    f"{_EMPTY_RANKING} (SELECT id FROM ({_RANKINGS_OF}))",
)
_DROP = (
    f"DELETE FROM reports WHERE id IN (SELECT reports.id FROM ({_OLD_RANKINGS}) AS first "
    "JOIN reports ON reports.id_key = first.id_key LIMIT ?2)",
    "DELETE FROM reports WHERE id IN (SELECT id FROM reports WHERE time < ?1 LIMIT ?2)",
    f"DELETE FROM rankings WHERE id IN (SELECT id FROM ({_OLD_RANKINGS}))",
)


class Report(NamedTuple):
    """A report, and the code of its ranking's session if that is known: it finds a report whose ranking is not here."""

    line: ReportLine
    owner: int | None


class FeedbackFile:
    """A feedback log in a file, created with mode 0600 if missing.

    code_of: returns the code of a session, see `Report`. Methods raise sqlite3.Error or OSError and then change
    nothing; one thread at a time may call them. Raises DataError if the file is no feedback log.
    """

    def __init__(self, path: Path, code_of: Callable[[str], int] = lambda _: -1) -> None:
        self._path, self._code_of = path, code_of
        self._lock_path = path.with_name(f"{path.name}-lock")
        self._db: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None
        try:
            with self._locked():
                self._connected()
        except sqlite3.Error as error:
            raise DataError(f"{path} cannot be used ({error}); name another file") from None

    def append(self, rankings: Iterable[RankingLine], reports: Iterable[Report]) -> None:
        """Add lines, and return when they are on the disk. A ranking's id is added once."""
        with self._transaction() as db:
            late = dict(db.execute("SELECT owner, time FROM forgotten"))
            if late:
                rankings = (line for line in rankings if line.time > late.get(self._code_of(line.session), -1))
            db.executemany(_ADD_RANKING, map(_row, rankings))
            db.executemany(_ADD_REPORT, ((*_row(line), owner) for line, owner in reports))

    def add_lines(self, rankings: Iterable[RankingLine], reports: Iterable[Report]) -> None:
        """Add lines, like `append`, but leave out what is here already."""
        with self._transaction() as db:
            db.executemany(_ADD_RANKING, map(_row, rankings))
            db.executemany(_ADD_IF_NEW, ((*_row(line), owner) for line, owner in reports))

    def forget(self, sessions: Mapping[str, int]) -> set[str]:
        """Empty up to `STEP_ROWS` rows of sessions; return those of which nothing is left: call again for the others.

        sessions: Unix milliseconds of each deletion. What is deleted stays so after a loss of power.
        """
        left, done = STEP_ROWS, set()
        with self._transaction() as db:
            db.execute("DELETE FROM forgotten WHERE time < ?", (max(sessions.values()) - _KEPT_MS,))
            for session, time in sessions.items():
                owner = self._code_of(session)
                db.execute("INSERT OR REPLACE INTO forgotten VALUES (?, ?)", (owner, time))
                for step in _FORGET:
                    left -= db.execute(step, (_key(session), _text(session), owner, left)).rowcount
                if left <= 0:
                    break
                done.add(session)
        if left < STEP_ROWS:
            self._flush_journal()
        return done

    def drop_before(self, time: int) -> bool:
        """Delete up to `STEP_ROWS` rows from before a time, in Unix milliseconds; return whether there may be more.

        A ranking takes its reports along.
        """
        left = STEP_ROWS
        with self._transaction() as db:
            for step in _DROP:
                left -= db.execute(step, (time, left)).rowcount
        return left <= 0

    def close(self) -> None:
        """Close the file."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def _flush_journal(self) -> None:
        """Put the end of the last transaction on the disk: else a loss of power could undo it."""
        descriptor = os.open(self._path.with_name(f"{self._path.name}-journal"), os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Change the file as a whole or not at all."""
        with self._locked():
            try:
                db = self._connected()
                db.execute("BEGIN IMMEDIATE")
                yield db
                db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    if self._db is not None and self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                self.close()  # the next one opens it again, and repairs what a failing disk left
                raise

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _connected(self) -> sqlite3.Connection:
        """Return the connection; a new one if the file was moved away or removed. Call it with the lock."""
        with suppress(FileNotFoundError):
            found = self._path.stat()
            if self._db is not None and self._inode == (found.st_dev, found.st_ino):
                return self._db
        self.close()
        with suppress(FileExistsError):  # SQLite would make it readable for others
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        self._db = _open(self._path, "rwc")
        found = self._path.stat()
        if found.st_mode & 0o077:
            self._path.chmod(0o600)
        self._inode = found.st_dev, found.st_ino
        return self._db


class FeedbackReader:
    """A feedback log to read in pages, so that nobody who writes waits for it."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[FeedbackReader]:
        """Open the log in a file. Raises DataError if it is none, or cannot be read."""
        try:
            db = _open(path, "rw" if os.access(path, os.W_OK) else "ro")
            try:
                yield cls(db)
            finally:
                db.close()
        except (sqlite3.Error, OSError) as error:
            raise DataError(
                f"{path} cannot be read ({error}); name what 'mtaw-fast serve --feedback' was given"
            ) from None

    def last_report(self) -> int:
        """Return the row id of the newest report, 0 without one."""
        return self._db.execute("SELECT coalesce(max(id), 0) FROM reports").fetchone()[0]

    def pages(self, table: str, columns: str, since: int, until: int) -> Iterator[list[tuple[Any, ...]]]:
        """Yield rows of a table by time, up to `PAGE_ROWS` at once, from `since` to before `until` (Unix milliseconds).

        The rows begin with time and id.
        """
        query = (
            f"SELECT time, id, {columns} FROM {table} WHERE (time, id) > (?, ?) AND time < ? "
            f"ORDER BY time, id LIMIT {PAGE_ROWS}"
        )
        place = since, -1
        while rows := self._db.execute(query, (*place, until)).fetchall():
            yield rows
            place = rows[-1][:2]

    def reports_on(self, ids: Sequence[str], newest: int) -> list[tuple[Any, ...]]:
        """Return (ranking's id, time, what, items, values) of the reports on rankings, up to the row id `newest`."""
        marks = ",".join("?" * len(ids))
        return self._db.execute(
            f'SELECT recommendation, time, what, items, "values" FROM reports WHERE id_key IN ({marks}) AND id <= ? '
            "ORDER BY id",
            (*map(_key, ids), newest),
        ).fetchall()

    def unmatched(self, since: int, until: int, newest: int) -> int:
        """Return how many reports of a time, up to the row id `newest`, are on rankings that are not here."""
        known = "EXISTS (SELECT 1 FROM rankings WHERE rankings.id_key = reports.id_key)"
        pages = self.pages("reports", f"id_key IS NULL OR {known}", since, until)
        return sum(row[1] <= newest and not row[2] for rows in pages for row in rows)

    def lines(self, table: str) -> Iterator[RankingLine | ReportLine]:
        """Yield all lines of `rankings` or `reports`, by time."""
        kind: Any = RankingLine if table == "rankings" else ReportLine
        fields = kind.__struct_fields__
        columns = ", ".join(f'"{name}"' for name in fields)
        for rows in self.pages(table, columns, -(1 << 62), 1 << 62):
            for row in rows:
                if row[3] is None:
                    continue  # it was forgotten
                values = {name: _value(name, value) for name, value in zip(fields, row[2:], strict=True)}
                yield convert(values, kind, strict=False)


_LISTS = {"items", "draws", "clicks", "positions", "values"}


def _row(line: RankingLine | ReportLine) -> list[Any]:
    """Return the values of a line's columns; a list is JSON."""
    columns = [
        _text(value) if isinstance(value, str) else line_of(value).decode() if isinstance(value, list) else value
        for value in structs.astuple(line)
    ]
    return [*columns, _key(line.recommendation), _key(line.session) if line.session else None]


def _key(text: str) -> int:
    """Return a hash of an id as SQLite's integers are."""
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _value(name: str, column: Any) -> Any:
    if name in _LISTS:
        return list_of(column)
    return column.decode("utf-8", "surrogatepass") if isinstance(column, bytes) else column


def line_of(value: Any) -> bytes:
    """Return a line, or a list, as JSON."""
    try:
        return json.encode(value)
    except UnicodeEncodeError:  # half a surrogate pair: JSON can escape it, UTF-8 cannot encode it
        return plain_json.dumps(to_builtins(value), separators=(",", ":")).encode()


def list_of(text: str) -> list[Any]:
    """Return the list in a column."""
    try:
        return json.decode(text)
    except (MsgspecError, UnicodeDecodeError):  # half a surrogate pair
        return plain_json.loads(text)


def _text(text: str) -> str | bytes:
    """Return a text as SQLite takes it: one with half a surrogate pair is bytes there."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def _open(path: Path, mode: str) -> sqlite3.Connection:
    """Open the database in a file. Raises DataError if it holds something else, sqlite3.Error or OSError."""
    address = f"file:{quote(str(path))}?mode={mode}"
    db = sqlite3.connect(address, _WAIT, isolation_level=None, check_same_thread=False, uri=True)
    try:
        db.execute("PRAGMA mmap_size=0")
        db.execute("PRAGMA temp_store=MEMORY")
        db.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        if mode == "rwc":
            db.execute("PRAGMA secure_delete=ON")
            db.execute("PRAGMA journal_mode=TRUNCATE")
            db.execute("PRAGMA synchronous=NORMAL")  # before and after the file is written
            db.execute("BEGIN IMMEDIATE")
            if not db.execute("PRAGMA schema_version").fetchone()[0]:
                for statement in _SCHEMA.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA application_id={_MAGIC}")
                db.execute(f"PRAGMA user_version={_FORMAT}")
            db.execute("COMMIT")
        found = db.execute("PRAGMA application_id").fetchone()[0], db.execute("PRAGMA user_version").fetchone()[0]
        if found != (_MAGIC, _FORMAT):
            raise DataError(f"{path} is a database of another program or version; name another file")
    except BaseException as error:
        db.close()
        if getattr(error, "sqlite_errorname", "") == "SQLITE_NOTADB":
            raise DataError(f"{path} is not a feedback log; if it holds JSON lines, {IMPORT}") from None
        raise
    return db
