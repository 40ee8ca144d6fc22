"""A training kept in MLflow (a database in a folder), resumed in the same run, and the bundle as a pyfunc model."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast import Recommender
from mtaw_fast.cli import main
from mtaw_fast.errors import UsageError
from mtaw_fast.integrations.mlflow_tracking import MlflowRun, TrackingError, shown_uri
from mtaw_fast.training import train
from mtaw_fast.training.progress import Several, Silent
from tests.support.training.ring import ring_dataset, small_config

mlflow = pytest.importorskip("mlflow")
CONFIG = small_config().replace(epochs=2)
RING = replace(ring_dataset(), reader={})


class Stop(Silent):
    """Ends the training as Ctrl-C does."""

    def epoch_ends(self, record: Mapping[str, Any]) -> None:
        raise KeyboardInterrupt


class Made:
    """A training that was cut off after its first epoch and resumed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uri = f"sqlite:///{folder}/mlflow.db"
        os.chdir(folder)  # a database keeps its artifacts in ./mlruns
        run_folder = folder / "bundle.training"
        with (
            pytest.raises(KeyboardInterrupt),
            MlflowRun(self.uri, RING, CONFIG, run_folder, name="ring") as cut,
        ):
            train(RING, CONFIG, run_folder, reporter=Several([cut, Stop()]))
        self.cut = cut.run_id
        self.client = mlflow.MlflowClient(tracking_uri=self.uri)
        self.status_then = self.client.get_run(cut.run_id).info.status
        with MlflowRun(self.uri, RING, CONFIG, run_folder, resume=True) as run:
            trained = train(RING, CONFIG, run_folder, resume=True, reporter=run)
            self.bundle = trained.save(folder / "bundle", RING)
            self.run_id = run.finish(self.bundle)
        self.run = self.client.get_run(self.run_id)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    before = Path.cwd()
    try:
        yield Made(tmp_path_factory.mktemp("mlflow"))
    finally:
        os.chdir(before)


def test_a_run_that_is_resumed_is_one_run(made: Made) -> None:
    assert made.run_id == made.cut
    assert made.status_then == "KILLED"
    assert made.run.info.status == "FINISHED"
    experiment = made.client.get_experiment_by_name("mtaw-fast")
    assert len(made.client.search_runs([experiment.experiment_id])) == 1


def test_the_run_holds_settings_and_metrics_by_epoch_and_final(made: Made) -> None:
    for name, value in CONFIG.settings().items():
        assert made.run.data.params[name] == str(value)
    assert made.run.data.params["dataset_fingerprint"] == RING.fingerprint
    assert (made.run.data.params["softmax"], made.run.data.tags["softmax"]) == ("auto", "full")
    for record in made.bundle.metrics["history"]:
        for name in ("loss", "seconds"):
            points = {
                point.step: point.value
                for point in made.client.get_metric_history(made.run_id, f"{record['phase']}/{name}")
            }
            assert points[record["epoch"]] == pytest.approx(record[name])
    history = made.client.get_metric_history(made.run_id, "search/MRR_at_20")
    assert [point.step for point in history] == [1, 2]  # each once, the cut-off run's too
    for name, value in made.bundle.metrics["validation"].items():
        assert made.run.data.metrics[f"validation/{name.replace('@', '_at_')}"] == pytest.approx(value)


def test_the_model_is_loaded_from_the_bundles_folder_and_answers_as_it_does(made: Made) -> None:
    pandas = pytest.importorskip("pandas")
    assert {artifact.path for artifact in made.client.list_artifacts(made.run_id)} == {"curves.png", "model"}
    local = Path(made.client.download_artifacts(made.run_id, "model", str(made.folder)))
    assert not [path for path in local.rglob("*") if path.suffix in (".pkl", ".pickle", ".joblib")]
    assert (local / "data" / "bundle" / "manifest.json").exists()
    model = mlflow.pyfunc.load_model(str(local))
    recommender = Recommender.load(made.folder / "bundle")
    sessions = [[1, 2, 3], [7], [59, 0]]
    out = model.predict(pandas.DataFrame({"session": sessions}, index=[5, 6, 7]), params={"k": 4})
    assert list(out.columns) == ["items", "scores"]
    assert list(out.index) == [5, 6, 7]
    for session, (_, row) in zip(sessions, out.iterrows(), strict=True):
        expected = recommender.recommend(session, k=4)
        assert row["items"] == list(expected.items)
        assert row["scores"] == pytest.approx(list(expected.scores))
    inner = model._model_impl
    assert len(inner.predict([[1, 2]])["items"][0]) == 20
    with pytest.raises(UsageError, match="the frame has no column 'session'"):
        inner.predict(pandas.DataFrame({"a": [[1]], "b": [[2]]}))


def test_a_server_that_stops_answering_does_not_stop_the_training(
    made: Made, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = CONFIG.replace(epochs=1)
    with MlflowRun(made.uri, RING, config, tmp_path / "run") as run, caplog.at_level(logging.WARNING, "mtaw_fast"):
        real = run._client

        class Dead:
            def __getattr__(self, name: str) -> Any:
                raise ConnectionError("gone")

        class Dying(Silent):
            def epoch_ends(self, record: Mapping[str, Any]) -> None:
                run._client = Dead()

        trained = train(RING, config, tmp_path / "run", reporter=Several([Dying(), run]))
        bundle = trained.save(tmp_path / "bundle", RING)
        with pytest.raises(
            TrackingError, match=r"is trained, but MLflow .* repeat the command with --resume --overwrite"
        ):
            run.finish(bundle)
        run._client = real
        run_id = run.finish(bundle)  # what it missed is sent
    assert caplog.text.count("does not answer") == 1
    assert [point.step for point in made.client.get_metric_history(run_id, "search/loss")] == [1]
    assert [point.step for point in made.client.get_metric_history(run_id, "refit/loss")] == [1]


def test_settings_that_the_server_did_not_take_are_sent_in_the_end(made: Made, tmp_path: Path) -> None:
    with MlflowRun(made.uri, RING, CONFIG, tmp_path) as run:
        real = run._client

        class Full:
            def __getattr__(self, name: str) -> Any:
                if name == "log_batch":
                    raise ConnectionError("gone")
                return getattr(real, name)

        run._client = Full()
        run.phase_starts("search", 1, 2)
        run._client = real
        assert run.run_id is not None
        assert made.client.get_run(run.run_id).data.params == {}
        run.finish(made.bundle)
    assert made.client.get_run(run.run_id).data.params == made.run.data.params


def test_a_run_that_the_server_no_longer_has_begins_again(made: Made, tmp_path: Path) -> None:
    (tmp_path / "mlflow.json").write_text(json.dumps({"run_id": "0" * 32}))
    with MlflowRun(made.uri, RING, CONFIG, tmp_path, resume=True) as run:
        run.phase_starts("search", 1, 2)
    assert run.run_id not in (None, "0" * 32)
    assert json.loads((tmp_path / "mlflow.json").read_text()) == {"run_id": run.run_id}


def test_a_server_that_is_not_there_is_one_line_without_its_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    RING.save(tmp_path / "set")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    capsys.readouterr()
    uri = "http://me:secret@127.0.0.1:9"
    assert main(["train", f"{tmp_path}/set", f"{tmp_path}/bundle", "--mlflow", uri]) == 1
    error = capsys.readouterr().err
    assert error.startswith("mtaw-fast: MLflow at http://127.0.0.1:9 cannot be used")
    assert error.count("\n") == 1
    assert "secret" not in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]
    assert shown_uri("sqlite:///a@b.db") == "sqlite:///a@b.db"
