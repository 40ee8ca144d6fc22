"""A training on a data set with an item table fits vectors to attributes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mtaw_fast.config import Config
from mtaw_fast.data.context import ContextColumns
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Samples
from mtaw_fast.items import ItemFrame, ItemTable
from mtaw_fast.training import train
from mtaw_fast.training.progress import Silent
from mtaw_fast.training.refit import refit_encoder
from tests.support.training.timed import A_SHIFT, shifting_dataset

HOURS = 9
CONFIG = Config.of(
    embedding_dim=8, epochs=2, batch_prefixes=64, lr=3e-2, validation_fraction=0.1, enabled=True, ranker_fraction=0.4,
    ranker_epochs=1, dense_candidates=10, cooccurrence_candidates=20, trend_candidates=20,
)  # fmt: skip


@pytest.mark.parametrize("context", [None, ContextColumns(("referrer",), (("search", "mail"),))], ids=["", "context"])
def test_the_trained_model_has_content_vectors(tmp_path: Path, context: ContextColumns | None) -> None:
    """Items of an hour are clicked together; the last one, without a click, gets the vector of its hour."""
    plain = shifting_dataset(count=400, hours=HOURS)
    if context is not None:
        parts = plain.train, plain.test.prefixes
        train_part, prefixes = (replace(part, context=np.full((part.n_clicks, 1), 2, np.uint16)) for part in parts)
        test = Samples(prefixes, plain.test.targets, plain.test.session, plain.test.target_times)
        plain = replace(plain, train=train_part, test=test, context=context)
    n = plain.n_items + 1
    frame = ItemFrame.of({"id": list(range(n)), "hour": [f"hour-{i // A_SHIFT % HOURS}" for i in range(n)]})
    dataset = replace(
        plain,
        ids=ItemIds.from_list(list(range(n))),
        items=ItemTable(n).replaced(frame, np.arange(n), n),
    )
    model = train(dataset, CONFIG, tmp_path, refit=False).model
    assert model.content is not None
    assert model.content.held_out["cosine"] > model.content.held_out["mean_vector"] + 0.2
    assert (model.context is None) == (context is None)
    similar = model.item_vectors[:-1] @ model.item_vectors[-1]
    assert {int(item) // A_SHIFT for item in np.argsort(-similar)[:3]} == {0}
    refitted, _ = refit_encoder(model, 1, tmp_path, torch.device("cpu"), Silent())
    kept = (refitted.item_vectors == model.item_vectors).all(axis=1)
    assert np.array_equal(kept, model.popularity == 0)
