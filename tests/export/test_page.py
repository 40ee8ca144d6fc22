"""The bundle for a web page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.cli import main
from mtaw_fast.errors import UsageError
from mtaw_fast.export import page
from mtaw_fast.export.page import export_page
from mtaw_fast.export.published import strongest_pairs
from mtaw_fast.memory.log_progress import LogProgress
from mtaw_fast.recommender import Recommender
from tests.support.random_bundle import save_random
from tests.support.ranking.timed_model import END
from tests.support.ranking.typed_model import typed_model


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """With times, trends, context and types, and a long record of its training."""
    folder = tmp_path_factory.mktemp("page") / "whole"
    return Bundle.save(
        folder, typed_model(), metrics={"history": ["x" * 98] * 1000}, dataset={"name": "x", "fingerprint": "y"}
    )


def bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_all_pairs_fit(whole: Bundle, tmp_path: Path) -> None:
    result = export_page(whole.folder, tmp_path / "page")
    assert result.n_bytes == bytes_of(tmp_path / "page") < bytes_of(whole.folder)
    saved, model = Bundle.load(tmp_path / "page"), whole.model
    assert model.memory is not None
    assert model.trends is not None
    assert saved.memory is not None
    assert saved.model.trends is not None
    assert result.n_pairs == result.n_before == len(model.memory.neighbors)
    for tables, source in ((saved.memory, model.memory), (saved.model.trends, model.trends)):
        assert np.array_equal(tables.row_offsets, source.row_offsets)
        assert np.array_equal(tables.neighbors, source.neighbors)
    # Half floats and rounded numbers change scores a little.
    first, second = Recommender.load(whole.folder), Recommender.load(saved.folder)
    session = first.ids.external(np.array([1, 2, 3]))
    answer, other = (rec.recommend(session, 10, at=END) for rec in (first, second))
    assert len(set(answer.items) & set(other.items)) >= 7


def test_items_that_a_log_removed_stay_out(tmp_path: Path) -> None:
    removed, hidden = np.array([7, 22], np.int32), np.array([33], np.int32)
    progress = LogProgress("log", "0", removed=removed, hidden=hidden, untrained=np.array([40], np.int32))
    learned = Bundle.save(
        tmp_path / "learned", replace(typed_model(), log_progress=progress), metrics={}, dataset={"name": "x"}
    )
    result = export_page(learned, tmp_path / "page")
    assert result.n_bytes == bytes_of(tmp_path / "page")
    first, second = Recommender.load(learned.folder), Recommender.load(result.folder)
    assert second.n_items == first.n_items == learned.n_items - 3
    listed = second.recommend([], learned.n_items).items
    assert not set(learned.ids.external(np.concatenate([removed, hidden]))) & set(listed)
    kept = second.bundle.model.log_progress
    assert kept is not None
    assert (kept.log, len(kept.untrained)) == ("", 0)  # nothing that only learning reads


def test_the_strongest_pairs_and_trends_fit(whole: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "_HEADERS", 30_000)
    roomy = export_page(whole, tmp_path / "roomy")
    model = whole.model
    assert model.memory is not None
    assert model.trends is not None
    limit = (roomy.n_bytes - len(model.trends.neighbors) * 24 * 2 // 3) / 1e6
    tight = export_page(whole, tmp_path / "tight", megabytes=limit)
    assert limit * 1e6 - 30_000 < bytes_of(tmp_path / "tight") <= limit * 1e6
    assert 0 < tight.n_pairs < tight.n_before
    saved = Bundle.load(tmp_path / "tight").model
    assert saved.memory is not None
    assert saved.trends is not None
    kept = np.sort(strongest_pairs(model.memory)[: tight.n_pairs])
    assert np.array_equal(saved.memory.neighbors, model.memory.neighbors[kept])
    for item in range(model.n_items):
        row = model.memory.neighbors[kept[np.searchsorted(kept, model.memory.row_offsets[item]) :]]
        span = slice(*saved.memory.row_offsets[item : item + 2])
        assert np.array_equal(saved.memory.neighbors[span], row[: span.stop - span.start])
    assert tight.trend_neighbors is not None
    lengths = np.minimum(np.diff(model.trends.row_offsets), tight.trend_neighbors)
    assert np.array_equal(np.diff(saved.trends.row_offsets), lengths)
    for item in range(model.n_items):
        rows = slice(model.trends.row_offsets[item], model.trends.row_offsets[item] + lengths[item])
        span = slice(*saved.trends.row_offsets[item : item + 2])
        assert np.array_equal(saved.trends.neighbors[span], model.trends.neighbors[rows])


def test_a_model_without_a_memory_needs_no_pairs(tmp_path: Path) -> None:
    save_random(tmp_path / "plain")
    result = export_page(tmp_path / "plain", tmp_path / "page")
    assert (result.n_pairs, result.n_before, result.trend_neighbors) == (0, 0, None)
    assert {part.part for part in result.parts} == {"weights", "items", "popularity", "manifest"}
    assert result.left_out == ("metrics and data set of the training",)


def test_the_command_writes_it(whole: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["export", str(whole.folder), "--page", str(tmp_path / "page")]
    assert main(command) == 0
    assert export_page(whole, tmp_path / "again").lines()[1:] == capsys.readouterr().out.splitlines()[1:]
    assert main(command) == 2
    assert "pass --overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite", "--json"]) == 0
    written = json.loads(capsys.readouterr().out)["page"]
    assert written["n_bytes"] == bytes_of(tmp_path / "page")
    assert written["parts"][0]["arrays"]["item_embedding"] == "float16[50, 8]"
    assert main([*command, "--overwrite", "--min-sessions", "0"]) == 2
    assert "--min-sessions 0 must be at least 1" in capsys.readouterr().err
    assert main(["export", str(whole.folder), "--onnx", "--min-sessions", "2"]) == 2
    assert "--min-sessions needs --page FOLDER" in capsys.readouterr().err


def test_what_cannot_be_is_refused(whole: Bundle, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"0\.01 MB are too few for this catalog"):
        export_page(whole, tmp_path / "page", megabytes=0.01)
    with pytest.raises(UsageError, match="is the bundle itself"):
        export_page(whole, whole.folder)
    room = page._bytes_without_pairs(whole.model) + 100
    with pytest.raises(UsageError, match="too few for trends of 999 neighbors; give a smaller --trend-neighbors"):
        export_page(whole, tmp_path / "page", megabytes=room / 1e6, trend_neighbors=999)
    for megabytes, trend_neighbors, min_sessions in ((0, 1, 1), (1, 0, 1), (1, 1, 0), (float("inf"), 1, 1)):
        with pytest.raises(UsageError, match="give positive numbers"):
            export_page(
                whole, tmp_path / "page",
                megabytes=megabytes, trend_neighbors=trend_neighbors, min_sessions=min_sessions,
            )  # fmt: skip
    folder = tmp_path / "page"
    assert main(["export", str(whole.folder), "--page", str(folder), "--dataset", str(tmp_path / "mistyped")]) == 1
    assert not folder.exists()  # nothing was written before the data set was read
