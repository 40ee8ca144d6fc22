"""The options of a call: the moment of a ranking."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mtaw_fast import Recommender
from mtaw_fast.bundle import Bundle
from mtaw_fast.errors import UsageError
from mtaw_fast.ranking import options
from tests.support.ranking.timed_model import END, HOUR, timed_model


@pytest.fixture(scope="module")
def rec(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    folder = tmp_path_factory.mktemp("timed") / "bundle"
    Bundle.save(folder, timed_model(), metrics={}, dataset={})
    return Recommender.load(folder)


def test_by_default_it_is_now(rec: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    session, now = ["sku-12", "sku-13"], END + 5 * HOUR
    monkeypatch.setattr(options.time, "time_ns", lambda: now * 1_000_000)
    by_default = rec.recommend(session, k=9)
    assert by_default == rec.recommend(session, k=9, at=now)
    assert by_default != rec.recommend(session, k=9, at=END)


class Compared(int):
    """A whole number that tells if it is looked for in a range, number by number: that takes minutes."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared with one number after another")

    __hash__ = int.__hash__


def test_any_type_of_whole_numbers_is_a_moment(rec: Recommender) -> None:
    expected = rec.recommend(["sku-12"], k=9, at=END)
    assert rec.recommend(["sku-12"], k=9, at=Compared(END)) == expected
    assert rec.recommend(["sku-12"], k=9, at=np.int64(END)) == expected  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="at must be Unix milliseconds"):
        rec.recommend(["sku-12"], at=Compared(END // 1000))


@pytest.mark.parametrize("at", [1.5, "now", True, -1, 10**15, 1_764_150_000])
def test_what_is_no_moment_is_refused(rec: Recommender, at: Any) -> None:
    with pytest.raises(UsageError, match="at must be Unix milliseconds"):
        rec.recommend(["sku-1"], at=at)
