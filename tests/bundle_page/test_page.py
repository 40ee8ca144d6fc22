"""The report of a bundle: one page without other files, with the facts of the bundle, and with escaped text."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast import evaluate, train
from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle_page import write_report
from mtaw_fast.bundle_page.facts import day_bars
from mtaw_fast.bundle_page.feature_words import _WORDS, words_of
from mtaw_fast.cli import main
from mtaw_fast.config import preset
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.errors import MissingPackageError, UsageError
from mtaw_fast.kernels.native.memory_query import feature_names
from mtaw_fast.memory.side_features import SideFeatures
from tests.support.random_bundle import bundle_parts, memory_parts, save_parts
from tests.support.report import EVIL, read, typed_dataset
from tests.support.training.curves import undrawn
from tests.support.training.ring import memory_config

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(bundle, data set)."""
    folder = tmp_path_factory.mktemp("report")
    typed_dataset().save(folder / "set")
    config = memory_config().replace(epochs=1, ranker_epochs=1)
    with pytest.MonkeyPatch.context() as patch:  # the page draws its own
        patch.setattr("mtaw_fast.training.run_state.plot_curves", undrawn)
        train(folder / "set", folder / "bundle", config, refit=False)
    return folder / "bundle", folder / "set"


def test_with_a_data_set_the_page_has_the_metrics_of_evaluate(made: tuple[Path, Path], tmp_path: Path) -> None:
    bundle, dataset = made
    path = write_report(bundle, tmp_path / "page.html", dataset=dataset, weights={"cart": 3}, sessions=3)
    html, page = read(path)
    evaluation = evaluate(bundle, dataset, baselines=True, weights={"cart": 3})
    for report in (evaluation.report, *evaluation.baselines.values()):
        for name, value in report.metrics.items():
            low, high = report.intervals[name]
            assert f"<b>{value:.2f}</b> <small>{low:.2f} to {high:.2f}</small>" in html
        assert f"<b>{report.weighted['MRR@20']:.2f}</b>" in html
    for name in (*evaluation.baselines, "targets weighted by type (cart=3)", "repeats", "purchase ("):
        assert name in page.text
    assert page.text.count("Session ") == 3
    assert "Test sessions, which training has not seen" in page.text
    assert any(words in page.text for words in ("is in the session", "occurs in past sessions with"))


def test_without_one_the_page_has_what_the_bundle_keeps(made: tuple[Path, Path], tmp_path: Path) -> None:
    html, page = read(write_report(made[0], tmp_path / "page.html"))
    metrics = Bundle.load(made[0]).metrics
    for name, value in metrics["validation"].items():
        low, high = metrics["validation_intervals"][name]
        assert f"<b>{value:.2f}</b> <small>{low:.2f} to {high:.2f}</small>" in html
    for name, worth in metrics["feature_importance"]["features"].items():
        assert re.search(rf"<code>{name}</code></small></td><td class=\"number\">\{worth['MRR@20']:+.2f}", html)
    for phase in ("slice", "ranker", "search"):
        assert f"<tr><td>{phase}</td>" in html
    for text in (
        "training sessions",
        "300",
        "2,000, 3 bad",
        "200: 10.0% on items",
        "2024-05-01",
        "mtaw-fast report BUNDLE",
    ):
        assert text in page.text
    assert "Sessions of the training: the memory has them" in page.text
    assert page.text.count("Session ") == 5


def test_the_page_needs_nothing_else_and_runs_nothing(made: tuple[Path, Path], tmp_path: Path) -> None:
    html, page = read(write_report(made[0], tmp_path / "page.html", dataset=made[1]))
    assert "P@20 by slice" in page.text
    assert html.index("P@20 by slice") < html.index("all targets")  # pictures come first
    assert page.tags.count("figure") >= 4
    for row in re.findall(r'class="row" title="(.*?)"', html):
        assert re.fullmatch(r".+: (\d+\.\d\d|none)( \([\d.]+ to [\d.]+\))?, [\d,]+ samples", row)
    assert page.links
    assert all(link.startswith(("data:image/svg+xml;base64,", "#")) for link in page.links)
    assert "script" not in page.tags
    assert "url(" not in html
    assert "@import" not in html
    assert EVIL not in html
    assert "&lt;script&gt;" in html
    assert page.tags.count("img") == page.tags.count("source") == 3  # of both themes
    for link in page.links:
        if link.startswith("data:"):
            assert base64.b64decode(link.partition(",")[2]).startswith(b"<?xml")


def test_a_missing_package_names_the_extra(made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    real = importlib.import_module

    def absent(name: str, *rest: str) -> object:
        if name == "jinja2":
            raise ModuleNotFoundError(name="jinja2")
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(MissingPackageError, match=r"\[report\]"):
        write_report(made[0])


def test_a_bundle_with_few_facts_has_a_page_too(made: tuple[Path, Path], tmp_path: Path) -> None:
    """As earlier releases wrote them: no summary, no features, no losses within an epoch."""
    held = Bundle.load(made[0])
    history = [{key: value for key, value in record.items() if key != "losses"} for record in held.metrics["history"]]
    metrics = {"validation": dict(held.metrics["validation"]), "history": history}
    Bundle.save(tmp_path / "old", held.model, metrics=metrics, dataset={"name": "ring"})
    _, page = read(write_report(tmp_path / "old"))
    assert "Not known: this bundle has no session memory" in page.text
    Bundle.save(tmp_path / "bare", held.model, metrics={}, dataset={})
    _, page = read(write_report(tmp_path / "bare"))
    assert "has no record of its training" in page.text
    with pytest.raises(UsageError, match="sessions must be"):
        write_report(tmp_path / "bare", sessions=-2)
    with pytest.raises(UsageError, match="split=validation needs a data set"):
        write_report(tmp_path / "bare", split="validation")
    with pytest.raises(UsageError, match="slices need a data set"):
        write_report(tmp_path / "bare", slices=["brand"])


def test_an_id_with_half_a_surrogate_pair_is_shown(tmp_path: Path) -> None:
    parts = bundle_parts() | memory_parts() | {"metrics": {}}
    parts["ids"] = ItemIds.from_list([f"hat-{item}\ud800" for item in range(60)])
    save_parts(tmp_path / "bundle", **parts)
    assert "hat-7&#55296;" in write_report(tmp_path / "bundle", sessions=20).read_text()


def test_the_command_writes_next_to_the_bundle_and_over_an_earlier_report(
    made: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        capsys.readouterr()
        assert main(["report", str(made[0]), "--json", "--sessions", "0"]) == 0
        reported = json.loads(capsys.readouterr().out)
        assert Path(reported["report"]) == made[0].with_name("bundle.html")
    _, page = read(made[0].with_name("bundle.html"))
    assert "This bundle keeps no sessions" in page.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{set}/page.html/x.html"], "is not a folder"),
        (["{folder}"], "is a folder; name the HTML file"),
        (["{set}/manifest.json"], "is not a report"),
        (["--weights", "cart=2"], "weights need a data set"),
        (["--sessions", "-1"], "sessions must be at least 0"),
        (["--dataset", "{set}", "--weights", "buy=2"], "there is no type 'buy'"),
    ],
)
def test_misuse_is_one_line(
    made: tuple[Path, Path], arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (made[1] / "manifest.json").read_bytes()
    formatted = [text.format(set=made[1], folder=made[1].parent) for text in arguments]
    capsys.readouterr()
    assert main(["report", str(made[0]), *formatted]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert (made[1] / "manifest.json").read_bytes() == before


def test_days_without_a_click_count() -> None:
    bars = day_bars({"2024-05-01": 900, "2024-05-03": 300})
    assert [(bar["name"], bar["count"], bar["share"]) for bar in bars] == [
        ("2024-05-01", "900", 100.0), ("2024-05-02", "0", 0.0), ("2024-05-03", "300", pytest.approx(100 / 3)),
    ]  # fmt: skip
    long = {str(np.datetime64("2024-01-01") + day): 10 for day in range(365)}
    assert len(day_bars(long)) <= 40
    assert {bar["count"] for bar in day_bars(long)} == {"10"}
    assert day_bars({}) == []


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
