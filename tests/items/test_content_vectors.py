"""Vectors of items from their attributes: fitted to trained vectors, chosen on items held out whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mtaw_fast.errors import DataError, UsageError
from mtaw_fast.items import ContentVectors, ItemFrame, ItemTable
from mtaw_fast.items.content_features import ContentFeatures
from mtaw_fast.items.content_vectors import fit_content_vectors

N, D = 400, 12
DAY = 86_400_000


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def shop(seed: int = 0) -> tuple[ItemTable, np.ndarray]:
    """Items whose vectors follow from category, tags and price, and from nothing else."""
    rng = np.random.default_rng(seed)
    kinds, tags, prices = rng.integers(0, 8, N), rng.integers(0, 6, (N, 2)), rng.random(N)
    of_kind, of_tag, of_price = rng.normal(size=(8, D)), 0.5 * rng.normal(size=(6, D)), rng.normal(size=D)
    vectors = of_kind[kinds] + of_tag[tags].sum(axis=1) + (prices > 0.5)[:, None] * of_price
    frame = ItemFrame.of(
        {
            "id": [f"sku-{i}" for i in range(N)],
            "kind": [f"kind-{k}" for k in kinds],
            "tags": [[f"tag-{t}" for t in sorted(set(row))] for row in tags.tolist()],
            "price": prices.tolist(),
            "noise": rng.random(N).tolist(),
        },
        kinds={"kind": "category", "tags": "categories"},
    )
    return ItemTable(N).replaced(frame, np.arange(N), N), unit(vectors + 0.2 * rng.normal(size=vectors.shape))


def test_vectors_of_items_held_out_whole_are_close_to_the_trained_ones() -> None:
    table, vectors = shop()
    clicks = np.where(np.arange(N) < 300, 20, 0)  # the last 100 items were never clicked
    content: Any = fit_content_vectors(table, vectors, clicks)
    predicted = content.vectors(table, np.arange(300, N))
    assert (predicted * vectors[300:]).sum(axis=1).mean() > 0.85
    assert content.held_out["cosine"] > 0.85 > content.held_out["mean_vector"]
    assert content.held_out["items"] == 60
    np.testing.assert_allclose(np.linalg.norm(predicted, axis=1), 1, rtol=1e-5)


def test_the_weight_against_clicks_is_chosen_on_held_out_items() -> None:
    table, vectors = shop()

    def evidence(noise: float):
        def of(items: np.ndarray, k: int) -> np.ndarray:
            rng = np.random.default_rng(k)
            return k * (vectors[items] + noise * rng.normal(size=(len(items), D)))

        return of

    exact, vague = (
        fit_content_vectors(table, vectors, np.full(N, 9), evidence=evidence(noise)) for noise in (0.0, 3.0)
    )
    assert exact is not None
    assert vague is not None
    assert exact.prior_clicks < 1 < vague.prior_clicks


def test_unknown_items_labels_and_values() -> None:
    table, vectors = shop()
    content: Any = fit_content_vectors(table, vectors, np.full(N, 9))
    odd = ItemFrame.of(
        {"id": ["a", "b", "c"], "kind": ["kind-1", "never seen", None], "other": [1.0, 2.0, 3.0]},
        kinds={"kind": "category"},
    )
    rows = ItemTable(3).replaced(odd, np.arange(3), 3)
    predicted = content.vectors(rows, np.arange(5))  # two of them after the last row
    assert predicted[0].any()
    assert not predicted[1:].any()


def test_few_items_or_constant_attributes_give_nothing() -> None:
    table, vectors = shop()
    assert fit_content_vectors(table, vectors, np.where(np.arange(N) < 40, 9, 0)) is None
    assert fit_content_vectors(ItemTable(N), vectors, np.full(N, 9)) is None
    constant = ItemFrame.of({"id": [f"sku-{i}" for i in range(N)], "price": [1.5] * N})
    assert fit_content_vectors(ItemTable(N).replaced(constant, np.arange(N), N), vectors, np.full(N, 9)) is None


def test_every_kind_becomes_features() -> None:
    frame = ItemFrame.of(
        {
            "id": list(range(40)),
            "number": [float(i) for i in range(40)],
            "time": [1_700_000_000_000 + i * DAY for i in range(40)],
            "flag": [i % 2 == 0 for i in range(39)] + [None],
            "title": ["red running shoe"] * 20 + ["blue boot"] * 19 + [None],
            "picture": [[float(i), 1.0, 2.0] for i in range(40)],
            "in_stock": [True] * 40,
        },
        kinds={"time": "time", "title": "text", "picture": "vector"},
    )
    table = ItemTable(40).replaced(frame, np.arange(40), 40, None, "in_stock")
    features = ContentFeatures.of(table, np.arange(40))
    assert [column["name"] for column in features.columns] == ["number", "time", "flag", "title", "picture"]
    values = features.of_rows(table, np.arange(40))
    assert values.shape == (40, features.count)
    assert np.isfinite(values).all()
    assert (values[:, :8].sum(axis=1) == 1).all()  # one part of the range of the number
    assert values[[39, 0, 1], 16].tolist() == [0, 1, -1]
    np.testing.assert_array_equal(values[0, 17:273], values[19, 17:273])
    assert not values[39, 17:273].any()


def test_stored_and_read(tmp_path) -> None:
    table, vectors = shop()
    content: Any = fit_content_vectors(table, vectors, np.full(N, 9))
    restored = ContentVectors.of(content.arrays())
    np.testing.assert_array_equal(restored.vectors(table, np.arange(N)), content.vectors(table, np.arange(N)))
    assert (restored.prior_clicks, restored.held_out) == (content.prior_clicks, content.held_out)


def test_texts_are_embedded_by_a_model_from_a_folder(tmp_path) -> None:
    """Words that no example has in common are close in the embedding."""
    model2vec, tokenizers = pytest.importorskip("model2vec"), pytest.importorskip("tokenizers")
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(60)]
    topics = rng.normal(size=(4, 16))
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({**{word: i for i, word in enumerate(words)}, "[UNK]": 60}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    embeddings = np.concatenate([topics[np.arange(60) % 4] + 0.1 * rng.normal(size=(60, 16)), np.zeros((1, 16))])
    model2vec.StaticModel(embeddings.astype(np.float32), tokenizer, {}).save_pretrained(tmp_path / "words")
    # Words 0 to 39 are in titles of clicked items, the others only in those of the last items.
    titles = [words[i % 40] for i in range(300)] + [words[40 + i % 20] for i in range(100)]
    frame = ItemFrame.of({"id": list(range(N)), "title": titles}, kinds={"title": "text"})
    table = ItemTable(N).replaced(frame, np.arange(N), N)
    centers = rng.normal(size=(4, D))
    topic = np.array([words.index(title) % 4 for title in titles])
    vectors, clicks = unit(centers[topic] + 0.1 * rng.normal(size=(N, D))), np.where(np.arange(N) < 300, 9, 0)
    content: Any = fit_content_vectors(table, vectors, clicks, text_model=str(tmp_path / "words"))
    restored = ContentVectors.of(content.arrays())
    assert (restored.vectors(table, np.arange(300, N)) * vectors[300:]).sum(axis=1).mean() > 0.9
    with pytest.raises(UsageError, match="is not a folder"):
        fit_content_vectors(table, vectors, clicks, text_model=str(tmp_path / "nothing"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no model of model2vec"):
        fit_content_vectors(table, vectors, clicks, text_model=str(tmp_path / "empty"))
