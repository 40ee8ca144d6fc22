"""What a group of processes cannot train."""

from __future__ import annotations

import pytest

from mtaw_fast.config import Config
from mtaw_fast.errors import UsageError
from mtaw_fast.training.group.runner import check_settings


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train_step": "cuda-graph"}, "train_step=cuda-graph"),
        ({"negative_term": True}, "negative_term=true"),
        ({"softmax": "sampled"}, "softmax=sampled"),
        ({"loss_backend": "native"}, "loss_backend=native"),
        ({"batch_prefixes": 3}, "batch_prefixes=3 is below the 4 processes"),
    ],
    ids=str,
)
def test_settings_that_a_group_does_not_support(changes: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check_settings(Config.of(**changes), 100, 4)


def test_a_catalog_smaller_than_the_group() -> None:
    with pytest.raises(UsageError, match="a catalog of 3 items is too small for 4 processes"):
        check_settings(Config(), 3, 4)
