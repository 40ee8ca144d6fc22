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
from mtaw_fast.memory.log_progress import LogProgress
from mtaw_fast.recommender import Recommender
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


def test_all_sessions_fit(whole: Bundle, tmp_path: Path) -> None:
    result = export_page(whole.folder, tmp_path / "page")
    assert result.n_bytes == bytes_of(tmp_path / "page") < bytes_of(whole.folder)
    assert result.n_sessions == result.n_before == len(whole.model.sessions)
    saved = Bundle.load(tmp_path / "page")
    assert saved.manifest["page"] == {"sessions": result.n_sessions, "of": result.n_before}
    assert saved.memory is not None
    assert saved.memory.settings.max_neighbors == page.MAX_NEIGHBORS
    # Half floats change scores a little, and rarely a list.
    first, second = Recommender.load(whole.folder), Recommender.load(saved.folder)
    session = first.ids.external(np.array([1, 2, 3]))
    answer, other = (rec.recommend(session, 10, at=END) for rec in (first, second))
    assert len(set(answer.items) & set(other.items)) >= 8


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


def test_the_latest_sessions_and_the_strongest_trends_fit(
    whole: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "_HEADERS", 30_000)
    roomy = export_page(whole, tmp_path / "roomy")
    model, context = whole.model, whole.model.context
    assert model.memory is not None
    assert model.trends is not None
    assert context is not None
    limit = (roomy.n_bytes - model.trends.n_bytes // 2) / 1e6
    tight = export_page(whole, tmp_path / "tight", megabytes=limit)
    assert bytes_of(tmp_path / "tight") <= limit * 1e6
    assert 0 < tight.n_sessions < tight.n_before
    saved = Bundle.load(tmp_path / "tight").model
    assert saved.memory is not None
    assert saved.trends is not None
    assert saved.context is not None
    begin = model.memory.session_offsets[tight.n_before - tight.n_sessions]
    assert np.array_equal(saved.memory.session_items, model.memory.session_items[begin:])
    assert np.array_equal(saved.context.codes, context.codes[begin:])
    assert tight.trend_neighbors is not None
    lengths = np.minimum(np.diff(model.trends.row_offsets), tight.trend_neighbors)
    assert np.array_equal(np.diff(saved.trends.row_offsets), lengths)
    for item in range(model.n_items):
        rows = slice(model.trends.row_offsets[item], model.trends.row_offsets[item] + lengths[item])
        span = slice(*saved.trends.row_offsets[item : item + 2])
        assert np.array_equal(saved.trends.neighbors[span], model.trends.neighbors[rows])
        assert np.array_equal(saved.trends.values[span], model.trends.values[rows])


def test_the_command_writes_it(whole: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["export", str(whole.folder), "--page", str(tmp_path / "page")]
    assert main(command) == 0
    assert "MB, with " in capsys.readouterr().out
    assert main(command) == 2
    assert "pass --overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["page"]["n_bytes"] == bytes_of(tmp_path / "page")


def test_what_cannot_be_is_refused(whole: Bundle, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"0\.01 MB are too few for this catalog"):
        export_page(whole, tmp_path / "page", megabytes=0.01)
    with pytest.raises(UsageError, match="is the bundle itself"):
        export_page(whole, whole.folder)
    trends = whole.model.trends
    assert trends is not None
    room = page._fixed_bytes(whole.model) + page._record_bytes(whole) + trends.n_bytes  # for trends, and no session
    with pytest.raises(UsageError, match="too few for trends of 999 neighbors; give a smaller --trend-neighbors"):
        export_page(whole, tmp_path / "page", megabytes=room / 1e6, trend_neighbors=999)
    folder = tmp_path / "page"
    assert main(["export", str(whole.folder), "--page", str(folder), "--dataset", str(tmp_path / "mistyped")]) == 1
    assert not folder.exists()  # nothing was written before the data set was read
