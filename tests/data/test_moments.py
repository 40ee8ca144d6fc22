"""Times that people write as options."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from mtaw_fast.data.moments import moment_of
from mtaw_fast.errors import UsageError


@pytest.mark.parametrize("time", ["2017-10-15", "20171015", "2017-10-15T02:00+02:00", "1508025600000", 1508025600000])
def test_forms_of_one_time(time: str | int) -> None:
    assert moment_of("since", time) == 1_508_025_600_000


def test_a_day_of_january_1970_has_a_text() -> None:
    assert moment_of("since", "1970-01-18T10:53:45.600") == 1_508_025_600


@pytest.mark.parametrize("time", ["1508025600", 1508025600])
def test_seconds_are_refused(time: str | int) -> None:
    """As milliseconds they are in 1970, so that `since` would keep every click."""
    with pytest.raises(UsageError, match=r"^since 1508025600 is in seconds; write it in milliseconds, 1508025600000$"):
        moment_of("since", time)


@pytest.mark.parametrize("time", [datetime.datetime(2017, 10, 15), datetime.date(2017, 10, 15), 1.5e12, "soon"])
def test_what_is_no_text_and_no_number_is_refused(time: Any) -> None:
    """A data set's record, which is JSON, could not hold it: that was an error after the log was read."""
    with pytest.raises(UsageError, match=r"^since .* is not a time"):
        moment_of("since", time)
