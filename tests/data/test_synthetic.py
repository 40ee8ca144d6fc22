"""Synthetic clicks against their law and its best ranker, and the log, written and read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pytest

from mtaw_fast.data import readers, synthetic_log
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.readers import ClickOptions
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.data.synthetic import ClickLaw, World, generate, workload
from mtaw_fast.data.synthetic_log import write_click_log
from mtaw_fast.data.synthetic_types import CART, PURCHASE, TYPES, VIEW, draw_typed_sessions
from mtaw_fast.errors import UsageError
from mtaw_fast.evaluation import ranks_of
from tests.support.data.oracle import oracle


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return generate(n_items=600, n_sessions=6000, seed=3)


def law_of(world: World, prefix: list[int]) -> np.ndarray:
    """The next-click law of one prefix, term by term as the module's docstring has it: float64[N]."""
    law = world.law
    n_items = len(world.popularity)
    if not prefix:
        return world.popularity
    chances = np.zeros(n_items)
    weights = [law.recency**age for age in range(len(prefix))]
    for weight, item in zip(weights, reversed(prefix), strict=True):
        chances[item] += law.repeat * weight / sum(weights)
    for weight, item in zip(world.weights, world.successors[prefix[-1]], strict=True):
        chances[item] += law.transition * weight
    same = world.cluster == world.cluster[prefix[-1]]
    chances[same] += law.cluster * world.popularity[same] / world.popularity[same].sum()
    return chances + (1 - law.repeat - law.transition - law.cluster) * world.popularity


LAWS = [
    ClickLaw(),
    ClickLaw(repeat=0, transition=0, cluster=0),
    ClickLaw(repeat=1, transition=0, cluster=0),
    ClickLaw(repeat=0, transition=0, cluster=1, clusters=7),
    ClickLaw(repeat=0.2, transition=0.8, cluster=0, successors=3, between=1),
    ClickLaw(repeat=0.1, transition=0.1, cluster=0.4, clusters=1000, recency=0.2),
]


@pytest.mark.parametrize("law", LAWS)
def test_the_oracle_ranks_by_the_true_law(law: ClickLaw) -> None:
    dataset = generate(90, 60, seed=1, law=law)
    best = oracle(dataset)
    prefixes = Sessions.concatenate([dataset.test.prefixes, Sessions.from_lists([[]])])
    for k in (3, 20, 100):
        ids, scores = best.rank(prefixes, k)
        for prefix, row, listed in zip(prefixes, ids, scores, strict=True):
            chances = law_of(best.world, prefix.tolist())
            assert chances.sum() == pytest.approx(1)
            kept = min(k, 90)
            # The list may stop early only where all that is left has no chance at all.
            shown = int(np.count_nonzero(row >= 0))
            assert listed[:shown] == pytest.approx(chances[row[:shown]], rel=1e-5, abs=1e-9)
            best_chances = np.sort(chances)[::-1][:kept]
            assert listed[:shown] == pytest.approx(best_chances[:shown], rel=1e-5, abs=1e-9)
            assert best_chances[shown:] == pytest.approx(np.zeros(kept - shown), abs=1e-9)


def test_every_part_of_the_law_is_drawn_as_often_as_it_says(dataset: Dataset) -> None:
    """The clicks' chances under the law against their frequencies, by rank of the oracle and repeat or not."""
    best = oracle(dataset)
    samples = Samples.from_sessions(dataset.train, 1)
    ids, scores = best.rank(samples.prefixes, 30)
    ranks = ranks_of(best, samples, max_k=30)
    hits = ranks[:, None] == np.arange(1, 31)
    repeats = np.stack(
        [Samples(samples.prefixes, column.copy(), samples.session).repeats() for column in ids.T], axis=1
    )
    chances = scores.astype(np.float64)
    errors = chances * (1 - chances)
    assert len(samples) > 20_000
    for part in (repeats, ~repeats):
        deviations = ((hits - chances) * part).sum(axis=0) / np.sqrt((errors * part).sum(axis=0))
        # 60 looks: 4 standard errors keep a right generator safe at odds of 1 in 250.
        assert np.abs(deviations[(errors * part).sum(axis=0) > 5]).max() < 4


def length_slope(lengths: np.ndarray) -> float:
    support = np.arange(2, 13)
    counts = np.array([np.count_nonzero(lengths == length) for length in support])
    return float(np.polyfit(np.log(support), np.log(counts), 1, w=np.sqrt(counts))[0])


@pytest.mark.parametrize("exponent", [1.5, 2.0, 3.0])
def test_session_lengths_follow_the_power_law(exponent: float) -> None:
    lengths = generate(500, 20_000, seed=0, law=ClickLaw(length_exponent=exponent)).train.lengths
    assert length_slope(lengths) == pytest.approx(-exponent, abs=0.12)
    assert lengths.max() <= 50
    lengths = workload(500, 20_000, seed=0, length_exponent=exponent).lengths
    assert length_slope(lengths) == pytest.approx(-exponent, abs=0.12)
    assert lengths.min() == 1


@pytest.mark.parametrize(
    "bad",
    [
        {"repeat": 0.9, "transition": 0.2}, {"cluster": -0.1}, {"recency": 1.0}, {"successors": 0}, {"between": 1.5},
        {"clusters": -1}, {"popularity_exponent": 1.0}, {"length_exponent": -1.0}, {"min_length": 0}, {"max_length": 1},
    ],
)  # fmt: skip
def test_laws_out_of_range_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="out of range"):
        ClickLaw(**bad)


def test_sizes_out_of_range_are_refused() -> None:
    sizes = (
        {"n_items": 0},
        {"n_sessions": 1},
        {"test_fraction": 0.0},
        {"seed": -1},
        {"min_prefix": 0},
        {"min_prefix": 2},
    )
    for bad in sizes:
        with pytest.raises(UsageError, match="synthetic log"):
            generate(**cast(Any, bad))


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


def test_types_are_a_fourth_column(tmp_path: Path) -> None:
    arguments = ["--items", "50", "--sessions", "120", "--seed", "2", "--types"]
    for name in ("clicks.csv", "clicks.parquet"):
        synthetic_log.main([str(tmp_path / name), *arguments])
    held = pl.read_parquet(tmp_path / "clicks.parquet")
    assert held.equals(pl.read_csv(tmp_path / "clicks.csv"))
    data: Any = readers.read(
        "clicks", tmp_path / "clicks.csv", options=ClickOptions(min_support=1, test_days=0, type="type")
    )
    drawn: Any = draw_typed_sessions(50, 120, 2)
    assert data.type_names == ("cart", "purchase", "view")
    names = np.array(data.type_names)[data.train.types]
    assert names.tolist() == [TYPES[code] for code in drawn.types.tolist()]


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


def test_types_follow_the_law() -> None:
    sessions: Any = draw_typed_sessions(300, 4000, 1)
    same: Any = draw_typed_sessions(300, 4000, 1)
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
    assert shares[CART] > 2 * shares[VIEW]
    assert shares[PURCHASE] < 0.7 * shares[VIEW]
