"""The feedback that a service keeps, read as one row per session.

    rankings-2026-11-28.jsonl    one line for each ranking that was answered
    feedback-2026-11-28.jsonl    what clients reported of rankings

In a single file, feedback is in FILE and rankings in FILE.rankings; in Redis, in the streams NAME and NAME:rankings.

A report counts once for each ranking, kind and item, however often it was sent. A click counts for its ranking only
within a window after it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

import numpy as np

from mtaw_fast.errors import DataError, require

RANKINGS, FEEDBACK = "rankings", "feedback"
DEFAULT_STREAM = "mtaw:feedback"
WINDOW_MS = 24 * 3_600_000
_DAY_MS = 86_400_000
_CODE_DIGITS = 16  # at the end of a ranking's id
_TIME_BITS = 42
_REDIS = ("redis://", "rediss://", "unix://")
_READ_ENTRIES = 5_000
_PASSWORD_VARIABLE = "MTAW_REDIS_PASSWORD"
_SHOWN, _CLICKED = 1, 2
_LEFT_OUT = -1  # the row of a ranking whose reports do not count
_ROUNDING = 1e-9  # of the sum of the shares


@dataclass(slots=True, eq=False)
class SessionTable:
    """Sessions of the log, S of them, in the order of their first ranking.

    Attributes
    ----------
    arm, began : int64[S]
        The session's arm, and Unix milliseconds of its first ranking.
    rankings, shown, clicked : float64[S]
        Its rankings; those reported as shown, or clicked; those with a click.
    carted, bought, value : float64[S]
        Items put into the cart, and bought, and the value of what was bought.
    arms : list of str
        The bundles, in the order in which they first answered.
    shares : list of float
        The share of the sessions that each was last given.
    reports_shown : bool
        Whether the log says which rankings were shown at all.
    without_session, moved, unmatched, duplicates, late : int
        Left out: rankings without a session's id, sessions that two arms answered, reports on no known ranking,
        reports that were sent before, reports after the window.
    changed : int or None
        Unix milliseconds at which the shares last changed, if they did.
    """

    arms: list[str] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    arm: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    began: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    rankings: np.ndarray = field(default_factory=lambda: np.empty(0))
    shown: np.ndarray = field(default_factory=lambda: np.empty(0))
    clicked: np.ndarray = field(default_factory=lambda: np.empty(0))
    carted: np.ndarray = field(default_factory=lambda: np.empty(0))
    bought: np.ndarray = field(default_factory=lambda: np.empty(0))
    value: np.ndarray = field(default_factory=lambda: np.empty(0))
    reports_shown: bool = False
    without_session: int = 0
    moved: int = 0
    unmatched: int = 0
    duplicates: int = 0
    late: int = 0
    changed: int | None = None

    def __len__(self) -> int:
        return len(self.arm)

    @property
    def opportunities(self) -> np.ndarray:
        """float64[S]: the rankings that could be clicked: those shown, or all if the log does not say which."""
        return self.shown if self.reports_shown else self.rankings


def read_feedback(
    where: str, since: int | None = None, until: int | None = None, window: int = WINDOW_MS
) -> SessionTable:
    """Read a feedback log, as `mtaw-fast serve --feedback` was given it: a file, a folder or an address of Redis.

    since, until: Unix milliseconds: only rankings from then on, and before then. window: milliseconds after its ranking
    in which a report counts. Raises DataError if there is no log, Redis cannot be read, or a whole line is not of it.
    Lines that a crash cut off are left out.
    """
    reader = _Reader(since, until, window)
    if where.startswith(_REDIS):
        parts = urlsplit(where)
        name = parse_qs(parts.query).get("stream", [DEFAULT_STREAM])[0]
        address = urlunsplit(parts._replace(query=""))
        newest = _newest(address, name)  # as for files, below
        reader.read(
            (f"{name}:{RANKINGS}", _entries(address, f"{name}:{RANKINGS}")), (name, _entries(address, name, newest))
        )
        return reader.table()
    path = Path(where)
    if path.is_dir():
        days = sorted({file.stem.partition("-")[2] for file in path.glob("*-*.jsonl")})
        pairs = [(path / f"{RANKINGS}-{day}.jsonl", path / f"{FEEDBACK}-{day}.jsonl") for day in days]
    else:
        pairs = [(path.with_name(f"{path.name}.{RANKINGS}"), path)]
    pairs = [pair for pair in pairs if pair[0].exists() or pair[1].exists()]
    if not pairs:
        raise DataError(f"{where} holds no feedback; name what 'mtaw-fast serve --feedback' was given")
    for rankings, feedback in pairs:
        size = feedback.stat().st_size if feedback.exists() else 0  # later reports are on rankings that are not read
        reader.read((rankings, _lines(rankings)), (feedback, _lines(feedback, size)))
    return reader.table()


def _lines(path: Path, size: int | None = None) -> Iterator[bytes]:
    """Yield the lines of a file, if it exists; only those that begin in its first `size` bytes."""
    if path.exists():
        with path.open("rb") as file:
            offset = 0
            for line in file:
                if size is not None and offset >= size:
                    return
                offset += len(line)
                yield line


def _newest(address: str, stream: str) -> Any:
    """Return the id of a stream's last entry; one before all ids if it has none."""
    with _connected(address, stream) as client:
        entries = client.xrevrange(stream, count=1)
        return entries[0][0] if entries else "-"


def _entries(address: str, stream: str, newest: Any = "+") -> Iterator[bytes]:
    """Yield the lines in a stream, up to the one of the id `newest`."""
    with _connected(address, stream) as client:
        start: Any = "-"
        while entries := client.xrange(stream, min=start, max=newest, count=_READ_ENTRIES):
            yield from (values[b"f"] for _, values in entries if b"f" in values)
            start = b"(" + entries[-1][0]


@contextmanager
def _connected(address: str, stream: str) -> Iterator[Any]:
    """Yield a client of Redis. Raises DataError, which names a stream, where Redis cannot be read."""
    redis = require("redis", "serve")
    password = os.environ.get(_PASSWORD_VARIABLE, "").strip()
    try:
        with redis.Redis.from_url(address, **({"password": password} if password else {})) as client:
            yield client
    except (redis.RedisError, ValueError) as error:  # ValueError: not an address
        raise DataError(
            f"the stream {stream} cannot be read ({error}); check the address, and ${_PASSWORD_VARIABLE}"
        ) from None


class _Reader:
    """Collects sessions. Rankings that are too old for any later report are dropped after each pair of files."""

    def __init__(self, since: int | None, until: int | None, window: int) -> None:
        msgspec = require("msgspec", "serve")

        from mtaw_fast.experiment.lines import ReadRanking, ReadReport

        self._ranking, self._report = msgspec.json.Decoder(ReadRanking), msgspec.json.Decoder(ReadReport)
        self._broken = (msgspec.MsgspecError, UnicodeDecodeError)
        self._since, self._until, self._window = since or 0, until or 1 << 62, window
        self._arms: dict[str, int] = {}
        self._shares: list[float] = []
        self._sessions: dict[str, int] = {}
        self._columns: dict[str, list[float]] = {
            name: [] for name in ("arm", "began", "rankings", "shown", "clicked", "carted", "bought", "value")
        }
        self._moved: set[int] = set()
        self._known: dict[int, int] = {}  # by the code of a ranking: its session's row and its time
        self._reported: dict[int, tuple[set[Any], list[int]]] = {}
        self._result = SessionTable()

    def read(self, rankings: tuple[object, Iterable[bytes]], reports: tuple[object, Iterable[bytes]]) -> None:
        """Add rankings, then reports: the name of what has them, and the lines."""
        latest = 0
        for ranking in self._decoded(*rankings, "ranking", self._ranking):
            latest = max(latest, ranking.time)
            if self._since <= ranking.time < self._until:
                self._add_ranking(ranking)
            else:
                self._leave_out(ranking)
        for report in self._decoded(*reports, "report", self._report):
            latest = max(latest, report.time)
            self._add_report(report)
        oldest = latest - self._window - _DAY_MS
        self._known = {code: packed for code, packed in self._known.items() if packed & _TIMES >= oldest}
        self._reported = {code: seen for code, seen in self._reported.items() if code in self._known}

    def _decoded(self, name: object, lines: Iterable[bytes], what: str, decoder: Any) -> Iterator[Any]:
        for line in lines:
            try:
                yield decoder.decode(line)
            except self._broken as error:
                if line.rstrip().endswith(b"}"):
                    raise DataError(f"{name} has a line that is no {what} ({error}); remove the line") from None
                # else it is what a crash left of a line, or the begin of one that is being written

    def _add_ranking(self, ranking: Any) -> None:
        if not ranking.session:
            self._result.without_session += 1
            self._leave_out(ranking)
            return
        name = ranking.bundle or ranking.version
        arm = self._arms.setdefault(name, len(self._arms))
        if arm == len(self._shares):
            self._shares.append(ranking.share)
            has_changed = sum(self._shares) > 1 + _ROUNDING  # it took the share of an arm that answers no more
        else:
            has_changed = self._shares[arm] != ranking.share
            self._shares[arm] = ranking.share
        if has_changed:
            self._result.changed = ranking.time
        columns = self._columns
        row = self._sessions.setdefault(ranking.session, len(self._sessions))
        if row == len(columns["arm"]):
            for column in columns.values():
                column.append(0.0)
            columns["arm"][row], columns["began"][row] = arm, ranking.time
        elif columns["arm"][row] != arm:
            self._moved.add(row)
        columns["rankings"][row] += 1
        self._known[_code(ranking.recommendation)] = row << _TIME_BITS | ranking.time

    def _leave_out(self, ranking: Any) -> None:
        self._known[_code(ranking.recommendation)] = _LEFT_OUT << _TIME_BITS | ranking.time

    def _add_report(self, report: Any) -> None:
        code = _code(report.recommendation)
        packed = self._known.get(code)
        if packed is None:
            if self._since <= report.time < self._until:
                self._result.unmatched += 1
            return
        row, time = packed >> _TIME_BITS, packed & _TIMES
        if row == _LEFT_OUT:
            return
        if report.time - time > self._window:
            self._result.late += 1
            return
        seen, state = self._reported.setdefault(code, (set(), [0]))
        columns, kind = self._columns, report.what
        for item, value in zip(report.items, report.values, strict=False):
            if (kind, item) in seen:
                self._result.duplicates += 1
                continue
            seen.add((kind, item))
            self._result.reports_shown |= kind == "shown"
            if not state[0] & _SHOWN:
                state[0] |= _SHOWN
                columns["shown"][row] += 1
            if kind == "clicked" and not state[0] & _CLICKED:
                state[0] |= _CLICKED
                columns["clicked"][row] += 1
            elif kind in ("carted", "bought"):
                columns[kind][row] += 1
                columns["value"][row] += value if kind == "bought" else 0.0

    def table(self) -> SessionTable:
        """Return the sessions of one arm each, by their first ranking."""
        table = self._result
        table.arms, table.shares, table.moved = list(self._arms), self._shares, len(self._moved)
        is_kept = np.ones(len(self._sessions), dtype=bool)
        is_kept[list(self._moved)] = False
        order = np.argsort(np.array(self._columns["began"], np.int64), kind="stable")
        order = order[is_kept[order]]
        for name, column in self._columns.items():
            kind = np.int64 if name in ("arm", "began") else np.float64
            setattr(table, name, np.array(column, kind)[order])
        return table


_TIMES = (1 << _TIME_BITS) - 1


def _code(recommendation: str) -> int:
    """Return the code at the end of a ranking's id as a number, which takes a third of the memory."""
    try:
        return int(recommendation[-_CODE_DIGITS:], 16)
    except ValueError:
        return -1
