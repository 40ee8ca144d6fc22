"""The synthetic log, written and read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mtaw_fast.data import readers, synthetic_log
from mtaw_fast.data.readers import ClickOptions
from mtaw_fast.data.synthetic import generate
from mtaw_fast.data.synthetic_log import write_click_log
from mtaw_fast.data.synthetic_types import CART, PURCHASE, TYPES, VIEW, TypeLaw, draw_typed_sessions


def test_what_is_read_back_is_what_was_generated(tmp_path: Path) -> None:
    path = tmp_path / "clicks.csv"
    clicks = write_click_log(path, n_items=200, n_sessions=500, seed=4)
    expected = generate(200, 500, seed=4)
    options = ClickOptions(min_support=1, test_days=0)
    dataset = readers.read("clicks", path, options=options)
    assert dataset.train.n_clicks == clicks
    assert len(dataset.train) == 500
    item = {f"item-{i + 1}": i for i in range(200)}
    names = dataset.ids.external(dataset.train.items)
    n = expected.train.n_clicks
    assert np.array_equal([item[name] for name in names[:n]], expected.train.items)
    longest = {s: k for k, s in enumerate(expected.test.session.tolist())}
    tail = [np.append(expected.test.prefixes[k], expected.test.targets[k]) for k in longest.values()]
    assert np.array_equal([item[name] for name in names[n:]], np.concatenate(tail))


def test_parquet_holds_the_same_rows(tmp_path: Path) -> None:
    for name in ("clicks.csv", "clicks.parquet"):
        assert write_click_log(tmp_path / name, n_items=50, n_sessions=120, seed=2) > 240
    held = pl.read_parquet(tmp_path / "clicks.parquet")
    assert held.equals(pl.read_csv(tmp_path / "clicks.csv"))
    assert held["timestamp"].min() == 1_700_000_000


def test_types_are_a_fourth_column(tmp_path: Path) -> None:
    arguments = ["--items", "50", "--sessions", "120", "--seed", "2", "--types"]
    for name in ("clicks.csv", "clicks.parquet"):
        synthetic_log.main([str(tmp_path / name), *arguments])
    held = pl.read_parquet(tmp_path / "clicks.parquet")
    assert held.equals(pl.read_csv(tmp_path / "clicks.csv"))
    data = readers.read(
        "clicks", tmp_path / "clicks.csv", options=ClickOptions(min_support=1, test_days=0, type="type")
    )
    drawn = draw_typed_sessions(50, 120, 2)
    assert data.train.types is not None
    assert drawn.types is not None
    assert data.type_names == ("cart", "purchase", "view")
    names = np.array(data.type_names)[data.train.types]
    assert names.tolist() == [TYPES[code] for code in drawn.types.tolist()]


def test_blocks_change_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_click_log(tmp_path / "one.csv", n_items=50, n_sessions=120, seed=2)
    monkeypatch.setattr(synthetic_log, "_BLOCK", 7)
    write_click_log(tmp_path / "many.csv", n_items=50, n_sessions=120, seed=2)
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "many.csv").read_bytes()


def test_items_are_renewed_every_day(tmp_path: Path) -> None:
    write_click_log(tmp_path / "still.csv", n_items=50, n_sessions=3000, seed=2, days=3.0)
    write_click_log(tmp_path / "clicks.csv", n_items=50, n_sessions=3000, seed=2, days=3.0, renewed=0.1)
    still, log = (pl.read_csv(tmp_path / name) for name in ("still.csv", "clicks.csv"))
    day = (log["timestamp"].to_numpy() - 1_700_000_000) // 86_400
    same = (still["item_id"] == log["item_id"]).to_numpy()
    assert same[day == 0].all()
    numbers = log["item_id"].str.slice(5).cast(pl.Int64).to_numpy()
    for number in (1, 2):
        later = numbers[day == number]
        assert 50 + 5 * (number - 1) < later.max() <= 50 + 5 * number
        assert len(np.unique(later)) <= 50 + 5  # sessions that began the day before keep their items
    renamed = pl.DataFrame({"was": still["item_id"], "is": log["item_id"]}).filter(pl.Series(day) == 2).unique()
    assert renamed["was"].n_unique() == renamed["is"].n_unique() == len(renamed)


@pytest.mark.parametrize("steers", [True, False])
def test_types_follow_the_law(steers: bool) -> None:
    law = TypeLaw(steers=steers)
    sessions = draw_typed_sessions(300, 4000, 1, types=law)
    same = draw_typed_sessions(300, 4000, 1, types=law)
    assert sessions.types is not None
    assert (sessions.items.tobytes(), sessions.types.tobytes()) == (same.items.tobytes(), same.types.tobytes())
    repeats, total = np.zeros(3), np.zeros(3)
    for row in range(len(sessions)):
        bounds = slice(sessions.offsets[row], sessions.offsets[row + 1])
        strongest: dict[int, int] = {}
        for item, kind in zip(sessions.items[bounds].tolist(), sessions.types[bounds].tolist(), strict=True):
            before = strongest.get(item)
            if before is not None:
                assert kind in ((VIEW, CART), (VIEW, PURCHASE), (VIEW,))[before]  # no item is bought twice
            for other, of_other in strongest.items():
                total[of_other] += 1
                repeats[of_other] += other == item
            strongest[item] = max(kind, strongest.get(item, VIEW))
    shares = repeats / total
    assert (shares[CART] > 2 * shares[VIEW]) == steers
    assert (shares[PURCHASE] < 0.7 * shares[VIEW]) == steers
