"""The report of a bundle: one page without other files, with the facts of the bundle, and with escaped text."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from mtaw_fast import evaluate, train
from mtaw_fast.bundle import Bundle
from mtaw_fast.cli import main
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Samples
from mtaw_fast.errors import MissingPackageError, UsageError
from mtaw_fast.report import write_report
from tests.support.html_page import Page
from tests.support.training.ring import N_ITEMS, TYPE_NAMES, memory_config, ring_dataset, ring_sessions, typed

EVIL = "<script>alert('&')</script>"


def typed_dataset() -> Dataset:
    """The ring with types, a report on its log, and an item whose id is code."""
    ring = ring_dataset()
    names = [f"sku-{number}" for number in range(N_ITEMS - 1)] + [EVIL]
    log = {
        "rows": 2000, "bad_rows": 3, "repeats": 0, "near_repeats": 1, "dropped_repeats": 0, "sessions": 340,
        "short_sessions": 2, "long_sessions": 0, "longest": 8, "items": N_ITEMS, "rare_items": 0, "test_clicks": 200,
        "unseen_clicks": 20, "days": {"2024-05-01": 900, "2024-05-03": 300}, "warnings": [f"looks wrong: {EVIL}"],
    }  # fmt: skip
    return replace(
        ring,
        name="ring",
        train=typed(ring.train),
        test=Samples.from_sessions(typed(ring_sessions(40, seed=2)), 1),
        ids=ItemIds.from_list(names),
        type_names=TYPE_NAMES,
        preparation={"log": log},
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(bundle, data set)."""
    folder = tmp_path_factory.mktemp("report")
    typed_dataset().save(folder / "set")
    config = memory_config().replace(epochs=1, ranker_epochs=1)
    train(folder / "set", folder / "bundle", config, refit=False)
    return folder / "bundle", folder / "set"


def read(path: Path) -> tuple[str, Page]:
    html = path.read_text(encoding="utf-8")
    return html, Page(html)


def test_with_a_data_set_the_page_has_the_metrics_of_evaluate(made: tuple[Path, Path], tmp_path: Path) -> None:
    bundle, dataset = made
    path = write_report(bundle, tmp_path / "page.html", dataset=dataset, weights={"cart": 3}, sessions=3)
    html, page = read(path)
    found = evaluate(bundle, dataset, baselines=True, weights={"cart": 3})
    for report in (found.report, *found.baselines.values()):
        for name, value in report.metrics.items():
            low, high = report.intervals[name]
            assert f"<b>{value:.2f}</b> <small>{low:.2f} to {high:.2f}</small>" in html
        assert f"<b>{report.weighted['MRR@20']:.2f}</b>" in html
    for name in (*found.baselines, "targets weighted by type (cart=3)", "repeats", "purchase ("):
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
        assert re.search(rf"<code>{name}</code></td><td class=\"number\">\{worth['MRR@20']:+.2f}", html)
    for phase in ("slice", "ranker", "search"):
        assert f"<tr><td>{phase}</td>" in html
    for text in ("training sessions", "300", "2,000, 3 bad", "10.0% of 200", "2024-05-01", "mtaw-fast report BUNDLE"):
        assert text in page.text
    assert "Sessions of the training: the memory has them" in page.text
    assert page.text.count("Session ") == 5


def test_the_page_needs_nothing_else_and_runs_nothing(made: tuple[Path, Path], tmp_path: Path) -> None:
    html, page = read(write_report(made[0], tmp_path / "page.html", dataset=made[1]))
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
    given = [text.format(set=made[1], folder=made[1].parent) for text in arguments]
    capsys.readouterr()
    assert main(["report", str(made[0]), *given]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert (made[1] / "manifest.json").read_bytes() == before


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
    history = [{key: value for key, value in one.items() if key != "losses"} for one in held.metrics["history"]]
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
