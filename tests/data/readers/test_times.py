"""Times of a log, and those that people write as options: their forms, zones and units."""

from __future__ import annotations

import dataclasses
import datetime
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mtaw_fast.data.moments import moment_of, text_of_age, warning_of_age
from mtaw_fast.data.readers import ClickOptions, read
from mtaw_fast.errors import DataError, UsageError
from tests.support.data.raw_logs import LOOSE, SKIP, csv


def times_of(source: Any, options: ClickOptions = LOOSE) -> list[int]:
    times: Any = read("clicks", source, options=options).train.times
    return times.tolist()


@pytest.mark.parametrize(
    ("texts", "millis"),
    [
        (["1700000000", "1700000001"], [1_700_000_000_000, 1_700_000_001_000]),
        (["1700000000999", "1700000001000"], [1_700_000_000_999, 1_700_000_001_000]),
        (["1700000000.9", "1700000001.0"], [1_700_000_000_900, 1_700_000_001_000]),
        (["1700000000.9", "1700000001"], [1_700_000_000_900, 1_700_000_001_000]),
        (["0", "1"], [0, 1000]),
        (["-1", "5"], [-1000, 5000]),
        (["2014-04-07T10:51:09.277Z", "2014-04-07T10:51:10Z"], [1_396_867_869_277, 1_396_867_870_000]),
        (["2014-04-07 10:51:09", "2014-04-07 10:51:10.5"], [1_396_867_869_000, 1_396_867_870_500]),
        (["2014-04-07T12:51:09+02:00", "2014-04-07T10:51:10+0000"], [1_396_867_869_000, 1_396_867_870_000]),
        (["2014-04-07 10:51", "2014-04-08"], [1_396_867_860_000, 1_396_915_200_000]),
        (["0", "1700000000000"], [0, 1_700_000_000_000]),
        (["2024-05-01 12:30:00 UTC", "2024-05-01 12:30:00.250 UTC"], [1_714_566_600_000, 1_714_566_600_250]),
        (["2024-05-01T12:30:00 GMT", "2024-05-01T12:30:01Z"], [1_714_566_600_000, 1_714_566_601_000]),
        (["2024-05-01 12:30 Europe/Berlin", "2024-05-01 13:30 UTC"], [1_714_559_400_000, 1_714_570_200_000]),
        # The hour that comes twice is the first one.
        (["2024-10-27 02:30:00 Europe/Berlin", "2024-10-27 03:30:00 Europe/Berlin"],
         [1_729_989_000_000, 1_729_996_200_000]),
        ([1_700_000_000_123_456, 1_700_000_000_999_999], [1_700_000_000_123, 1_700_000_000_999]),
        ([1_700_000_000_123_456_789, 1_700_000_001_000_000_000], [1_700_000_000_123, 1_700_000_001_000]),
        (["1700000000123456.5", 1_700_000_000_999_999], [1_700_000_000_123, 1_700_000_001_000]),
    ],
)  # fmt: skip
def test_times(tmp_path: Path, texts: list[Any], millis: list[int]) -> None:
    assert times_of(csv(tmp_path / "log.csv", texts)) == millis


def test_zones_past_the_rows_that_are_sampled(tmp_path: Path) -> None:
    texts = [f"2024-05-01T00:{k // 60 % 60:02}:{k % 60:02}Z" for k in range(2000)]
    assert times_of(csv(tmp_path / "log.csv", [*texts, "2024-05-02 02:00:00 Europe/Berlin"]))[-1] == 1_714_608_000_000


@pytest.mark.parametrize("text", ["2024-05-01 12:30:00 PST", "2024-03-31 02:30:00 Europe/Berlin", "12:30 PM"])
def test_a_time_of_no_zone_is_named(tmp_path: Path, text: str) -> None:
    """An unknown name, an hour that the clocks left out, no zone at all."""
    with pytest.raises(DataError, match=re.escape(f"holds '{text}' in data row 2")):
        read("clicks", csv(tmp_path / "log.csv", ["2024-05-01 12:30:00 UTC", text]), options=LOOSE)


@pytest.mark.parametrize("huge", [2**63, 2**64 - 1, "1e25"])
@pytest.mark.parametrize("others", [1_700_000_000, 1_700_000_000_000, 1_700_000_000_000_000_000])
def test_a_time_too_large_for_any_unit(tmp_path: Path, huge: Any, others: int) -> None:
    """Next to ordinary times, in a CSV and in a column of unsigned integers; and skipped with the bad rows."""
    path = csv(tmp_path / "log.csv", [others, others + 1, huge])
    expected = f"{re.escape(str(huge))} in data row 3 nanoseconds; write every time in one unit"
    if others >= 10**17:
        expected = r"column 'timestamp' reaches \d+, too large for nanoseconds since 1970"
    with pytest.raises(DataError, match=expected) as caught:
        read("clicks", path, options=LOOSE)
    assert "\n" not in str(caught.value)
    assert len(times_of(path, SKIP)) == 2
    if isinstance(huge, int):
        typed = pl.DataFrame(
            {
                "session_id": [1] * 3,
                "item_id": [1] * 3,
                "timestamp": pl.Series([others, others + 1, huge], dtype=pl.UInt64),
            }
        )
        with pytest.raises(DataError, match=expected):
            read("clicks", typed, options=LOOSE)
        assert len(times_of(typed, SKIP)) == 2


def test_most_rows_say_the_unit_where_it_is_not_named(tmp_path: Path) -> None:
    seconds, milliseconds = [1_700_000_000] * 1200, range(1_700_000_000_000, 1_700_002_000_000, 1000)
    path = csv(tmp_path / "mixed.csv", [*seconds, *milliseconds])
    counts: list[tuple[Any, int, int]] = [("auto", 2000, 1200), ("s", 1200, 2000)]
    for named, good, bad in counts:
        dataset = read("clicks", path, options=dataclasses.replace(SKIP, time_unit=named))
        assert (dataset.train.n_clicks, dataset.preparation["log"]["bad_rows"]) == (good, bad)

    since_the_start = [1 + 900_000 * day for day in range(100)]
    path = csv(tmp_path / "relative.csv", [*since_the_start, 99_999_999_999_999_999_999])
    units: list[tuple[Any, int]] = [("ms", 89_100_001), ("us", 89_100)]
    for unit, last in units:
        dataset = read("clicks", path, options=dataclasses.replace(SKIP, time_unit=unit))
        assert dataset.train.times is not None
        assert (dataset.train.n_clicks, dataset.preparation["log"]["bad_rows"]) == (100, 1)
        assert dataset.train.times.max() == last


@pytest.mark.parametrize(("named", "unit"), [("ms", "us"), ("ms", "s"), ("s", "ns")])
def test_a_unit_that_is_not_that_of_the_times_is_refused(tmp_path: Path, named: Any, unit: str) -> None:
    time = 1_700_000_000 * {"s": 1, "us": 10**6, "ns": 10**9}[unit]
    with pytest.raises(
        DataError, match=rf"reaches {time}, 2023-11-14 22:13 UTC in .*; set --time-unit {unit}, or leave"
    ):
        read("clicks", csv(tmp_path / "log.csv", [time]), options=dataclasses.replace(LOOSE, time_unit=named))


@pytest.mark.parametrize("time", ["2017-10-15", "20171015", "2017-10-15T02:00+02:00", "1508025600000", 1508025600000])
def test_forms_of_one_time(time: str | int) -> None:
    assert moment_of("since", time) == 1_508_025_600_000


def test_a_day_of_january_1970_has_a_text() -> None:
    assert moment_of("since", "1970-01-18T10:53:45.600") == 1_508_025_600


@pytest.mark.parametrize(
    ("time", "unit"), [("1508025600", "seconds"), (1508025600, "seconds"), ("1508025600000999", "microseconds")]
)
def test_other_units_are_refused(time: str | int, unit: str) -> None:
    """As milliseconds, seconds are in 1970, so that `since` would keep every click."""
    with pytest.raises(UsageError, match=rf"^since {time} is in {unit}; write it in milliseconds, 1508025600000$"):
        moment_of("since", time)


@pytest.mark.parametrize(
    "time", [datetime.datetime(2017, 10, 15), datetime.date(2017, 10, 15), 1.5e12, "soon", True, 1 << 63]
)
def test_what_is_no_text_and_no_number_is_refused(time: Any) -> None:
    """A data set's record, which is JSON, could not hold it: that was an error after the log was read."""
    with pytest.raises(UsageError, match=r"^since .* is not a time"):
        moment_of("since", time)


def test_old_clicks_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_700_000_000.0)
    day = 86_400_000
    assert warning_of_age(None, {}) is None
    assert warning_of_age(1_700_000_000_000 - day, {}) is None
    assert text_of_age(1_700_000_000_000 - day) == "2023-11-13 22:13 UTC, 24 hours ago"
    assert text_of_age(1_700_000_000_000 - day // 24) == "2023-11-14 21:13 UTC, 1 hour ago"
    measured = {"served_later": {"at once": 60.0, "a day": 58.5, "a week or more": 51.25}}
    for days, metrics, cost in (
        (3, {}, "'mtaw-fast evaluate' says what the age costs"),
        (3, {"served_later": None}, "'mtaw-fast evaluate' says what the age costs"),
        (3, measured, "On the validation clicks P@20 is 60.00 at once, and 58.50 served a day later"),
        (8, measured, "On the validation clicks P@20 is 60.00 at once, and 51.25 served a week or more later"),
    ):
        warning = warning_of_age(1_700_000_000_000 - days * day, metrics)
        assert warning is not None
        assert warning.endswith(f"rank at a time of the past (at). {cost}")
    warning = warning_of_age(1_700_000_000_000 - 3 * day, {})
    assert warning is not None
    assert warning.startswith("the learned clicks end 2023-11-11 22:13 UTC, 3 days ago, but for a few: ")
