"""What a day's log is refused for, and what its file keeps."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import polars as pl
import pytest

from mtaw_fast.data.readers import ClickOptions
from mtaw_fast.online.log import open_log
from mtaw_fast.online.log.events import Click, Forget
from mtaw_fast.online.settings import LearningSettings
from mtaw_fast.refreshing.config import DayChecks, LogSource
from mtaw_fast.refreshing.day_files import remove_forgotten
from mtaw_fast.refreshing.days import DayFacts, Period, PeriodReader, RefusedLogError, refusals
from tests.support.shop import BAD_DAYS, BEGIN, DAY, name_of, now_after, rows_of, write_day

OPTIONS = ClickOptions(min_support=2)


def period_of(day: int) -> Period:
    return Period((BEGIN + day * DAY) * 1000, (BEGIN + (day + 1) * DAY) * 1000)


def read(folder: Path, day: int, earlier: Path | None = None, source: LogSource | None = None) -> DayFacts:
    source = source or LogSource(f"{folder}/clicks/%Y-%m-%d.csv", options=OPTIONS)
    return PeriodReader(source, now_after(day)).read(period_of(day), folder / f"{day}.parquet", "auto", earlier)[0]


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[DayFacts]]:
    """Four days: their files, and their facts."""
    folder, facts = tmp_path_factory.mktemp("usual"), list[DayFacts]()
    for day in range(4):
        write_day(folder, day)
        facts.append(read(folder, day, folder / f"{day - 1}.parquet" if day else None))
        assert refusals(facts[-1], facts[:-1], DayChecks()) == []
    return folder, facts


@pytest.mark.parametrize("name", BAD_DAYS)
def test_a_bad_day_fails_the_check_of_its_name(name: str, usual: tuple[Path, list[DayFacts]], tmp_path: Path) -> None:
    folder, others = usual
    write_day(tmp_path, 4, BAD_DAYS[name](4))
    facts = read(tmp_path, 4, folder / "3.parquet")
    failed = [text.partition(":")[0] for text in refusals(facts, others, DayChecks())]
    assert name in failed
    assert refusals(dataclasses.replace(others[-1]), others, DayChecks()) == []


def test_a_day_without_a_readable_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedLogError, match="does not exist") as missing:
        read(tmp_path, 4)
    write_day(tmp_path, 4, head="visit,sku,when")
    with pytest.raises(RefusedLogError, match="no column 'session_id'") as columns:
        read(tmp_path, 4)
    (tmp_path / "clicks" / f"{name_of(5)}.csv").touch()
    with pytest.raises(RefusedLogError, match="is empty") as empty:
        read(tmp_path, 5)
    assert [error.value.check for error in (missing, columns, empty)] == ["missing", "unreadable", "empty"]


def test_a_period_takes_its_own_clicks_of_a_whole_log(tmp_path: Path) -> None:
    write_day(tmp_path, 0, [*rows_of(0), *rows_of(1), *rows_of(2)])
    facts = read(tmp_path, 1, source=LogSource(str(tmp_path / "clicks"), options=OPTIONS))
    assert (facts.clicks, facts.outside) == (len(rows_of(1)), 0.0)  # the day after it has passed too
    times = pl.read_parquet(tmp_path / "1.parquet")[":time"] // 1000
    assert times.to_list() == [int(row.split(",")[2]) for row in rows_of(1)]


def test_the_learning_log_is_a_source_without_forgotten_sessions(tmp_path: Path) -> None:
    begin = period_of(1).begin
    log = open_log(LearningSettings(tmp_path / "learned"))
    log.append([Click("s-1", "sku-1", begin + 5), Click("s-2", "sku-2", begin + 6), Click("s-1", "sku-3", begin - 1)])
    log.append(
        [Click("s-3", "sku-2", begin + 9, refused="origin"), Click("s-4", "sku-4", begin + 8), Forget("s-2", begin + 9)]
    )
    log.close()
    facts = read(tmp_path, 1, source=LogSource(learn=str(tmp_path / "learned"), options=OPTIONS))
    assert (facts.clicks, facts.sessions) == (2, 2)
    assert pl.read_parquet(tmp_path / "1.parquet").rows() == [("s-1", "sku-1", begin + 5), ("s-4", "sku-4", begin + 8)]


def test_clicks_up_to_a_request_to_forget_are_removed_from_a_period(tmp_path: Path) -> None:
    path = tmp_path / "1.parquet"
    rows = [("a", 1, 5), ("b", 2, 6), ("a", 3, 7), ("a", 4, 8)]
    pl.DataFrame(rows, schema=[":owner", ":item", ":time"], orient="row").write_parquet(path)
    remove_forgotten(path, {"a": 7, "c": 9})
    assert pl.read_parquet(path).rows() == [("b", 2, 6), ("a", 4, 8)]


def test_types_context_and_users_stay(tmp_path: Path) -> None:
    begin = period_of(1).begin
    frame = pl.DataFrame({
        "who": [7, 7, 8],
        "what": [1, 2, 3], "at": [begin + 1, begin + 2, begin + 3], "kind": ["view", "log-in", "cart"],
        "from": ["mail", None, "search"],
    })  # fmt: skip
    frame.write_parquet(tmp_path / "log.parquet")
    options = ClickOptions(user="who", item="what", time="at", type="kind", types=("view", "cart"), context=("from",))
    read(tmp_path, 1, source=LogSource(str(tmp_path / "log.parquet"), options=options))
    # A row that does not count as a click only bridges gaps: its item is not read.
    assert pl.read_parquet(tmp_path / "1.parquet").rows() == [
        ("7", 1, begin + 1, "view", "mail"), ("7", None, begin + 2, "-", None), ("8", 3, begin + 3, "cart", "search"),
    ]  # fmt: skip


def test_periods_have_the_names_of_their_begins() -> None:
    assert Period.newest(now_after(3), DAY, 0.0).name == name_of(3)
    assert Period.newest(now_after(3), DAY, 7200.0).name == name_of(2)
    assert Period.newest(now_after(3), 6 * 3600, 0.0).name == f"{name_of(3)}T18-00"
    assert Period.newest(time.time(), DAY, 0.0).before(2).end == Period.newest(time.time(), DAY, 0.0).before(1).begin
