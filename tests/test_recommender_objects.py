"""Recommenders, sessions and answers as Python objects: copies, ids, types, equality, print, frames."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest

from mtaw_fast import Recommender
from mtaw_fast.bundle import Bundle
from mtaw_fast.data.readers import ClickOptions
from mtaw_fast.errors import ItemTypeError, UsageError
from mtaw_fast.online.settings import LearningSettings
from mtaw_fast.ranking.answer import Recommendations
from mtaw_fast.ranking.encoders import ENCODERS, GRAPH_ENCODERS
from mtaw_fast.workflow import evaluate, prepare
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


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda original: pickle.loads(pickle.dumps(original))], ids=["copy", "pickle"]
)
@pytest.mark.parametrize(("encoder", "index"), [("native", "native"), ("numpy", "numpy")])
def test_recommenders_are_copied_by_their_folder(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, copied: Any, encoder: Any, index: Any
) -> None:
    monkeypatch.chdir(folders["str"].parent)
    rec = Recommender.load("str", encoder=encoder, index=index)
    monkeypatch.chdir("/")  # a relative folder must still work
    twin = copied(rec)
    assert (twin.encoder.name, twin.index.name) == (encoder, index)
    assert twin.recommend(["sku-3", "sku-4"]) == rec.recommend(["sku-3", "sku-4"])
    assert len(pickle.dumps(rec)) < 1000
    rec.remove_items(["sku-3"])
    with pytest.raises(UsageError, match="items were changed by hand is not pickled"):
        copied(rec)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda original: pickle.loads(pickle.dumps(original))], ids=["copy", "pickle"]
)
def test_sessions_are_copied_with_their_clicks(folders: dict[str, Path], copied: Any) -> None:
    rec = Recommender.load(folders["str"])
    visit = rec.session(["sku-1", "nobody", "sku-2"]).click(7, "sku-3")
    twin = copied(visit)
    assert twin.clicks == visit.clicks
    assert twin.recommend() == visit.recommend()
    assert twin.recommend().unknown == ["nobody", 7]
    twin.click("sku-9")
    assert len(visit) == 3
    assert twin.recommend() == rec.recommend(["sku-1", "sku-2", "nobody", 7, "sku-3", "sku-9"])
    first, second = copied([visit, visit])
    assert first is second


def test_a_copied_session_does_not_learn_again(folders: dict[str, Path], tmp_path: Path) -> None:
    rec = Recommender.load(folders["str"], learn=str(tmp_path / "learned"))
    restored = None
    try:
        visit = rec.session(["sku-1", "sku-2"], id="s")
        before = sum(path.stat().st_size for path in (tmp_path / "learned").rglob("*") if path.is_file())
        restored = pickle.loads(pickle.dumps(visit))
        after = sum(path.stat().st_size for path in (tmp_path / "learned").rglob("*") if path.is_file())
        assert after == before
        assert restored.clicks == ["sku-1", "sku-2"]
        restored.click("sku-3")
        assert sum(path.stat().st_size for path in (tmp_path / "learned").rglob("*") if path.is_file()) > before
    finally:
        rec.close()
        if restored is not None:
            restored._origin[0].close()


def test_a_password_is_not_pickled(folders: dict[str, Path], tmp_path: Path) -> None:
    rec = Recommender.load(folders["str"])
    rec._learns_by = LearningSettings(tmp_path, stream="redis://:secret@host/0?stream=x")
    with pytest.raises(UsageError, match="password"):
        pickle.dumps(rec)


def test_ids_have_in_and_iteration(rec: Recommender) -> None:
    names = list(rec.ids)
    assert names == some(rec, *range(len(rec.ids)))
    assert names[3] in rec.ids
    for value in ("nobody", -1, None, 2.5, True, [1], object()):
        assert value not in rec.ids
    assert (str(names[3]) if rec.ids.kind == "int" else 3) not in rec.ids


WRONG: dict[str, list[list[Any]]] = {
    "int": [["7"], ["7", "17"], [7.0], [None], [True, "7"]],
    "str": [[7], [b"sku-3"], [3, 4.0, None]],
}


@pytest.mark.parametrize("kind", ["int", "str"])
def test_ids_of_the_other_type_are_an_error(folders: dict[str, Path], kind: str) -> None:
    rec = Recommender.load(folders[kind])
    right: list[Any] = [-4] if kind == "int" else ["nobody"]
    for session in WRONG[kind]:
        with pytest.raises(ItemTypeError, match=f"the catalog's ids are {kind}") as caught:
            rec.recommend(session)
        assert "\n" not in str(caught.value)
        with pytest.raises(ItemTypeError, match=f"the catalog's ids are {kind}"):
            rec.session(session).recommend()
        with pytest.raises(ItemTypeError, match="session 1 has no id"):
            rec.recommend_batch([right, session])
        # With one id of the right type, known or not, the others are just unknown.
        out = rec.recommend([*session, *right])
        assert (out.fallback, out.unknown) == (True, [*session, *right])
        known = some(rec, 3)
        assert rec.recommend([*session, *known]).unknown == session
        assert rec.recommend([], k=2).fallback
        assert [answer.fallback for answer in rec.recommend_batch([right, []])] == [True, True]
    if kind == "int":
        assert rec.recommend([np.int32(17)]).unknown == []
        assert rec.recommend([2**70]).fallback


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
def test_fields_are_names_of_columns(folders: dict[str, Path], fields: Any) -> None:
    with pytest.raises(UsageError, match="fields must be"):
        Recommender.load(folders["int"]).recommend([], fields=fields)


def choices(function: Any, name: str) -> tuple[Any, ...]:
    hint = get_type_hints(function)[name]
    parts = [hint, *get_args(hint)]
    return next(get_args(part) for part in parts if get_origin(part) is Literal)


def test_choices_are_literals() -> None:
    assert choices(Recommender.similar_items, "by") == ("vectors", "sessions")
    assert choices(Recommender.load, "encoder") == ("auto", *ENCODERS, *GRAPH_ENCODERS)
    assert choices(Recommender.load, "index") == ("auto", "native", "numpy", "faiss-flat", "faiss-gpu", "ann")
    assert choices(evaluate, "encoder") == choices(Recommender.load, "encoder")
    assert choices(evaluate, "split") == ("test", "validation")
    assert choices(prepare, "format") == ("clicks", "npz", "pickle", "retailrocket", "tmall")
    assert choices(Bundle.load, "mapping") == ("copy", "map")
    assert choices(Recommendations.to_frame, "library") == ("polars", "pandas", "arrow")
    assert choices(ClickOptions, "time_unit") == ("auto", "s", "ms", "us", "ns")
    assert choices(ClickOptions, "bad_rows") == ("refuse", "skip")
    assert choices(ClickOptions, "support_rounds") == ("once", "until-stable")
    assert inspect.signature(Recommender.load).parameters["encoder"].default == "auto"
