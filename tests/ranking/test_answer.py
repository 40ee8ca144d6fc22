"""Recommendations as Python objects: iteration, equality, print, frames."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast import Recommender
from mtaw_fast.errors import UsageError
from tests.support.random_bundle import bundle_parts, memory_parts, save_parts, save_random


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles with text ids (and a session memory) and with int ids."""
    folder = tmp_path_factory.mktemp("surface")
    save_parts(folder / "str", **bundle_parts(n_items=5000), **memory_parts(n_items=5000))
    save_random(folder / "int", n_items=50, text=False)
    return {"str": folder / "str", "int": folder / "int"}


@pytest.fixture(scope="module", params=["str", "int"])
def rec(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Recommender:
    return Recommender.load(str(folders[request.param]))


def some(rec: Recommender, *places: int) -> list[Any]:
    return rec.ids.external(np.array(places))


def test_recommendations_iterate_as_pairs(rec: Recommender) -> None:
    out = rec.recommend(some(rec, 3, 4), k=7)
    assert list(out) == list(zip(out.items, out.scores.tolist(), strict=True))
    assert dict(out)[out.items[2]] == out.scores[2]
    assert out[0] == (out.items[0], float(out.scores[0]))
    assert out[-1] == list(out)[-1]
    assert out[1:3] == list(out)[1:3]
    with pytest.raises(IndexError):
        out[7]


def test_recommendations_compare(rec: Recommender) -> None:
    session = some(rec, 3, 4)
    out = rec.recommend(session, k=7)
    assert out == rec.recommend(session, k=7, timings=True)
    assert out == pickle.loads(pickle.dumps(out)) == copy.deepcopy(out)
    assert out != rec.recommend(session, k=6)
    assert out != rec.recommend(session, k=7, repeats=True)
    assert out != rec.recommend(session, k=7, reasons=True)
    assert out != rec.recommend([*session, None], k=7)
    assert out != dataclasses.replace(out, scores=np.nextafter(out.scores, np.float32(9)))
    assert out != list(out)
    with pytest.raises(TypeError):
        hash(out)


def test_recommendations_print_well(rec: Recommender) -> None:
    item = some(rec, 3)[0]
    text = repr(rec.recommend([item, None], k=7))
    assert text.startswith("<Recommendations {")
    assert text.endswith(", .. 2 more}; unknown: [None]>")
    assert "\n" not in text
    assert repr(rec.recommend([], k=2)).endswith("; by popularity>")
    lines = str(rec.recommend([item], k=7)).splitlines()
    assert len(lines) == 7
    assert lines[0].split()[0] == "1"
    assert "no click" in str(rec.recommend([], k=2))
    assert str(rec.bundle.folder) in repr(rec)
    assert f"{rec.n_items:,} items" in repr(rec)


@pytest.mark.parametrize("library", ["polars", "pandas", "arrow"])
def test_recommendations_become_a_frame(rec: Recommender, library: Any) -> None:
    out = rec.recommend(some(rec, 3, 4), k=7, repeats=True, reasons=True)
    frame = out.to_frame(library)
    columns = frame.to_pydict() if library == "arrow" else {name: list(frame[name]) for name in frame.columns}
    assert list(columns) == ["item", "score", "repeat", "reason"]
    assert columns["item"] == out.items
    assert columns["score"] == out.scores.tolist()
    assert columns["repeat"] == out.repeats.tolist()
    assert columns["reason"] == [reason.kind for reason in out.reasons or []]
    assert len(rec.recommend([], k=3).to_frame()) == 3


def test_a_frame_of_another_library_is_refused(rec: Recommender) -> None:
    with pytest.raises(UsageError, match="choose polars, pandas or arrow"):
        rec.recommend([]).to_frame("excel")  # type: ignore[arg-type]


def test_a_field_with_the_name_of_a_column_is_no_part_of_a_frame(folders: dict[str, Path]) -> None:
    rec = Recommender.load(folders["int"])
    items = rec.recommend([], k=2).items
    rec.set_items({"id": items, "score": [1, 2], "price": [3, 4]})
    assert list(rec.recommend([], k=2, fields=["price"]).to_frame()["price"]) == [3, 4]
    out = rec.recommend([], k=2, fields=["price", "score"])
    assert out.fields == [{"price": 3, "score": 1}, {"price": 4, "score": 2}]
    with pytest.raises(UsageError, match="to_frame: the ranking has a column 'score' of its own"):
        out.to_frame()


@pytest.mark.parametrize("fields", ["price", 5, [["price"]], [None]])
def test_fields_are_names_of_columns(rec: Recommender, fields: Any) -> None:
    with pytest.raises(UsageError, match="fields must be"):
        rec.recommend([], fields=fields)
