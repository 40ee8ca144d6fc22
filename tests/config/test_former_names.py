"""Settings by their former names."""

from __future__ import annotations

from mtaw_fast.config import Config
from mtaw_fast.config.former_names import FORMER_NAMES, to_former


def test_the_flat_form_of_former_bundles_is_read() -> None:
    config = Config.of(
        embedding_dim=64, enabled=True, train_step="cuda-graph", max_neighbors=9, excluded_features="own"
    )
    former = to_former(config.settings())
    newer = ["text_model", "batches", "ranked_candidates", "event_types"]
    assert list(former) == [*FORMER_NAMES, *newer]
    assert (former["d"], former["memory"], former["step"]) == (64, True, "graph")
    assert former["max_neighbours"] == 9  # prose: ignore
    assert Config.from_dict(former) == config
    assert Config.from_dict({"d": 64, "memory": False}) == Config.of(embedding_dim=64)
