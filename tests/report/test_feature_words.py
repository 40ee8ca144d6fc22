"""Every feature of the ranker has words, and none has them in vain."""

from __future__ import annotations

from mtaw_fast.config import preset
from mtaw_fast.kernels.native.memory_query import feature_names
from mtaw_fast.memory.side_features import SideFeatures
from mtaw_fast.report.feature_words import _WORDS, words_of


def test_every_feature_has_words_of_its_own() -> None:
    side = SideFeatures(("referrer",), ("brand",), "created").names
    half_lives = preset("full").memory.half_lives.split(",")
    names = (*feature_names(trends=True), *side)
    words = [words_of(name, half_lives) for name in names]
    assert all(words)
    assert len(set(words)) == len(words)
    assert not set(_WORDS) - set(names)  # of features that are gone


def test_half_lives_and_columns_are_named() -> None:
    half_lives = ["1m", "5m", "15m", "1h", "4h", "24h", "168h"]
    assert words_of("t_all_2", half_lives) == "its share of all clicks lately (half-life 15m)"
    # Pairs have the last five half-lives.
    assert words_of("t_fwd_last_0", half_lives).endswith("(half-life 15m)")
    assert words_of("t_bwd_3", half_lives).endswith("(half-life 24h)")
    assert words_of("t_all_2") == "its share of all clicks lately"
    assert words_of("c_share_referrer") == "its share of the clicks of visits with the same referrer"
    assert words_of("of another release") == ""
