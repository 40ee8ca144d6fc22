"""Example sessions are ranked as an evaluation ranks them, and show what the item table knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mtaw_fast.assessment.inputs import rankable_by
from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle_page.examples import examples_of
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.evaluation import ranks_of
from mtaw_fast.recommender import Recommender
from tests.support.random_bundle import bundle_parts, memory_parts, save_parts
from tests.support.ranking.timed_model import END, N
from tests.support.ranking.typed_model import typed_model


def test_an_example_has_the_rank_that_an_evaluation_gives_its_target(tmp_path: Path) -> None:
    """With the times, the types and the context of its clicks; the data set has other codes of the types."""
    model = typed_model()
    Bundle.save(tmp_path / "b", model, metrics={}, dataset={})
    recommender, rng = Recommender.load(tmp_path / "b"), np.random.default_rng(0)
    assert model.context is not None
    lists = [rng.integers(0, N, rng.integers(2, 7)) for _ in range(30)]
    plain = Sessions.from_lists(lists)
    sessions = Sessions(
        plain.items, plain.offsets, END + 40_000 * np.arange(plain.n_clicks),
        rng.integers(0, 3, plain.n_clicks).astype(np.uint8),
        np.stack([rng.integers(0, size + 1, plain.n_clicks) for size in model.context.columns.sizes], axis=1).astype(
            np.uint16
        ),
    )  # fmt: skip
    data = Dataset(
        "typed", sessions, Samples.from_sessions(sessions, 1), model.ids, type_names=("purchase", "view", "cart"),
        context=model.context.columns,
    )  # fmt: skip
    longest = np.append(data.test.session[1:] != data.test.session[:-1], True) & (data.test.prefixes.lengths > 1)
    ranks = ranks_of(recommender, rankable_by(recommender, data.test, data), max_k=N)[longest]
    shown = examples_of(recommender, data, int(longest.sum()))["shown"]
    assert [example["rank"] for example in shown] == [f"rank {rank}" for rank in ranks]


def test_titles_and_pictures_of_items(tmp_path: Path) -> None:
    save_parts(tmp_path / "b", **bundle_parts(n_items=60), **memory_parts(60))
    rec = Recommender.load(tmp_path / "b")
    plain = examples_of(rec, None, 2)["shown"]
    assert all(row["item"] | {"title": "", "image": ""} == {"id": row["item"]["title"], "title": "", "image": ""}
               for example in plain for row in example["rows"])  # fmt: skip
    picture = "https://shop.example/1.jpg"
    rows = [
        {"id": f"sku-{i}", "title": f"Shoe <{i}>", "image": picture if i % 2 else "javascript:x"} for i in range(59)
    ]
    rec.set_items(rows)
    for example in examples_of(rec, None, 2)["shown"]:
        for look in [*(row["item"] for row in example["rows"]), *example["clicks"], example["target"]]:
            number = int(look["id"].removeprefix("sku-"))
            known = number < 59
            assert look["title"] == (f"Shoe <{number}>" if known else "sku-59")
            assert look["image"] == (picture if known and number % 2 else "")
