"""Log a training as a run in MLflow: settings, metrics by epoch, final metrics, curves, and the bundle as a model.

MLflow's process-wide state (active run, tracking URI) is not used. If the server stops answering, the training goes on,
and the missing records are sent at the end.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from mtaw_fast.bundle import Bundle
from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.errors import MtawError, UsageError, require
from mtaw_fast.integrations.mlflow_model import save_model
from mtaw_fast.storage.files import read_json, write_json

EXPERIMENT = "mtaw-fast"
MODEL = "model"  # the artifact's name
NOTE = "mlflow.json"  # in the run folder: the MLflow run that a resumed training continues
# MLflow's own defaults would make the training wait for minutes.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
_USER_INFO = re.compile(r"://[^/@\s]*@")
_log = logging.getLogger("mtaw_fast")


class TrackingError(MtawError):
    """The MLflow server or store cannot be used."""


class MlflowRun:
    """A training Reporter that logs to an MLflow run. Use it as a context manager, and `finish` it with the bundle.

    uri: the tracking server or store: http://host:5000, sqlite:///mlflow.db, .. folder: the run folder
    (`workflow.run_folder_of`), which keeps the id of the MLflow run. resume: continue the run that the folder names, if
    the server still has it. experiment: created if it is missing. name: of the run.

    Raises MissingPackageError without the extra `mlflow`, and on entering TrackingError if the server or store cannot
    be used.
    """

    def __init__(
        self,
        uri: str,
        dataset: Dataset,
        config: Config,
        folder: str | os.PathLike[str],
        *,
        resume: bool = False,
        experiment: str = EXPERIMENT,
        name: str | None = None,
    ) -> None:
        require("mlflow", "mlflow")
        self._uri, self._experiment, self._name = uri, experiment, name
        self._dataset, self._config, self._folder = dataset, config, Path(folder)
        self._earlier = _noted(self._folder / NOTE) if resume else None
        self._client: Any = None
        self._experiment_id = ""
        self._stack = contextlib.ExitStack()
        self._missed = False  # whether the server stopped answering
        self.run_id: str | None = None

    def __enter__(self) -> MlflowRun:
        self._stack.enter_context(_quiet())
        self._stack.enter_context(_impatient())
        try:
            self._experiment_id = self._connect()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if self.run_id is not None and kind is not None:
                status = "KILLED" if issubclass(kind, KeyboardInterrupt) else "FAILED"
                self._try(lambda: self._client.set_terminated(self.run_id, status))

    def phase_starts(self, phase: str, number: int, phases: int) -> None:
        """Begin the run with the first phase, or continue the earlier one."""
        if self.run_id is None and not self._missed:
            self._try(self._begin)
        self._try(lambda: self._client.set_tag(self.run_id, "phase", f"{number} of {phases}: {phase}"))

    def epoch_starts(self, phase: str, epoch: int, epochs: int, sessions: int) -> None: ...

    def step_done(self, sessions: int, loss: float) -> None: ...

    def epoch_ends(self, record: Mapping[str, Any]) -> None:
        """Log the epoch's metrics."""
        self._try(lambda: self._log_records([record]))

    def finish(self, bundle: Bundle) -> str:
        """Log the final metrics, the curves and the bundle, end the run, and return its id.

        Raises TrackingError if the server cannot be used; the bundle is complete in any case.
        """
        try:
            if self.run_id is None:
                self._begin()
            self._log_parameters()
            self._catch_up(bundle.metrics.get("history") or [])
            self._log(_final(bundle), 0)
            self._client.set_tag(self.run_id, "softmax", bundle.config.loss.softmax)  # the setting may say auto
            curves = self._folder / "curves.png"
            if curves.is_file():
                self._client.log_artifact(self.run_id, str(curves))
            with tempfile.TemporaryDirectory(prefix="mtaw-fast-mlflow-") as scratch:
                save_model(bundle, Path(scratch) / MODEL)
                self._client.log_artifacts(self.run_id, str(Path(scratch) / MODEL), MODEL)
            self._client.set_terminated(self.run_id, "FINISHED")
        except MtawError:
            raise
        except Exception as error:
            raise TrackingError(
                f"{bundle.folder} is trained, but MLflow at {shown_uri(self._uri)} did not accept it "
                f"({self._why(error)}); when it works again, repeat the command with --resume --overwrite"
            ) from None
        assert self.run_id is not None
        return self.run_id

    def _connect(self) -> str:
        """Return the experiment's id; create the experiment if it is missing."""
        from mlflow import MlflowClient

        try:
            self._client = MlflowClient(tracking_uri=self._uri)
            experiment = self._client.get_experiment_by_name(self._experiment)
            if experiment is not None and experiment.lifecycle_stage == "deleted":
                raise UsageError(f"--mlflow: the experiment {self._experiment!r} was deleted there; restore it")
            return self._client.create_experiment(self._experiment) if experiment is None else experiment.experiment_id
        except MtawError:
            raise
        except Exception as error:
            raise TrackingError(
                f"MLflow at {shown_uri(self._uri)} cannot be used ({self._why(error)}); check the address and the "
                "server, or leave --mlflow out"
            ) from None

    def _begin(self) -> None:
        """Continue the earlier run if the server has it, else begin one; log the settings and earlier epochs."""
        if self._earlier is not None:
            with contextlib.suppress(Exception):
                self._client.update_run(self._earlier, status="RUNNING")
                self.run_id = self._earlier
        if self.run_id is None:
            if self._earlier is not None:
                _log.warning("MLflow no longer has the run %s; a new one begins", self._earlier)
            run = self._client.create_run(self._experiment_id, run_name=self._name)
            self.run_id = run.info.run_id
            write_json(self._folder / NOTE, {"run_id": self.run_id})
        self._log_parameters()
        self._catch_up(_history(self._folder))

    def _log_parameters(self) -> None:
        """Log the settings that the run lacks."""
        from mlflow.entities import Param

        values = {
            **self._config.settings(),
            "dataset": self._dataset.name,
            "dataset_fingerprint": self._dataset.fingerprint,
            "dataset_items": self._dataset.n_items,
            "dataset_train_samples": self._dataset.n_train_samples,
        }
        logged = self._client.get_run(self.run_id).data.params
        missing = [Param(key, str(value)) for key, value in values.items() if key not in logged]
        if missing:
            self._client.log_batch(self.run_id, params=missing)

    def _catch_up(self, history: list[dict[str, Any]]) -> None:
        """Log the epochs that the run lacks."""
        logged: set[tuple[str, int]] = set()
        for phase in dict.fromkeys(record["phase"] for record in history):
            logged |= {(phase, metric.step) for metric in self._client.get_metric_history(self.run_id, f"{phase}/loss")}
        self._log_records([record for record in history if (record["phase"], record["epoch"]) not in logged])

    def _log_records(self, records: list[Mapping[str, Any]] | list[dict[str, Any]]) -> None:
        for record in records:
            values = {
                f"{record['phase']}/{_named(name)}": value
                for name, value in record.items()
                if isinstance(value, (int, float)) and name not in ("epoch", "threads", "encoder_threads")
            }
            self._log(values, int(record["epoch"]))

    def _log(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        self._client.log_batch(
            self.run_id, metrics=[Metric(key, float(value), now, step) for key, value in values.items()]
        )

    def _why(self, error: Exception) -> str:
        """Return the first line of MLflow's message, which may be a page long, without a password."""
        lines = str(error).replace(self._uri, shown_uri(self._uri)).strip().splitlines()
        text = _USER_INFO.sub("://", lines[0]) if lines else ""
        return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__

    def _try(self, call: Callable[[], object]) -> None:
        """Call; if MLflow does not answer, log a warning and skip all further calls until `finish`."""
        if self._missed:
            return
        try:
            call()
        except Exception as error:
            self._missed = True
            _log.warning(
                "MLflow at %s does not answer (%s); the training goes on, and missing records are sent at the end",
                shown_uri(self._uri),
                self._why(error),
            )


def log_figures(
    uri: str, name: str, metrics: Mapping[str, float], tags: Mapping[str, str], files: Iterable[Path]
) -> None:
    """Log figures, tags and files as a run of this name, or to it if it is there.

    Raises MissingPackageError without the extra `mlflow`, TrackingError if the server or store cannot be used.
    """
    require("mlflow", "mlflow")
    from mlflow import MlflowClient

    with _quiet(), _impatient():
        try:
            client = MlflowClient(tracking_uri=uri)
            experiment = client.get_experiment_by_name(EXPERIMENT)
            experiment_id = client.create_experiment(EXPERIMENT) if experiment is None else experiment.experiment_id
            found = client.search_runs([experiment_id], f"attributes.run_name = '{name}'", max_results=1)
            run_id = (found[0] if found else client.create_run(experiment_id, run_name=name)).info.run_id
            for metric, value in metrics.items():
                client.log_metric(run_id, _named(metric), value)
            for tag, text in tags.items():
                client.set_tag(run_id, tag, text)
            for file in files:
                client.log_artifact(run_id, str(file))
            client.set_terminated(run_id, "FINISHED")
        except Exception as error:
            raise TrackingError(f"MLflow at {shown_uri(uri)} cannot be used ({type(error).__name__})") from None


def shown_uri(uri: str) -> str:
    """Return a URI without user and password."""
    return _USER_INFO.sub("://", uri)


def _final(bundle: Bundle) -> dict[str, float]:
    metrics = bundle.metrics
    values = {f"validation/{_named(name)}": value for name, value in (metrics.get("validation") or {}).items()}
    return values | {"best_epoch": metrics["best_epoch"], "seconds": metrics["seconds"]}


def _named(metric: str) -> str:
    """Return a metric name that MLflow accepts: 'P_at_20' for 'P@20'."""
    return metric.replace("@", "_at_")


def _noted(path: Path) -> str | None:
    """Return the MLflow run that a run folder names, or None."""
    if not path.exists():
        return None
    note = read_json(path, TrackingError)
    return str(note["run_id"]) if isinstance(note, dict) and "run_id" in note else None


def _history(folder: Path) -> list[dict[str, Any]]:
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """Set few retries and a short timeout, unless the environment sets them."""
    variables = {name: value for name, value in _PATIENCE.items() if name not in os.environ}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name, None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide MLflow's info logs (creating its database, retries, ..) and keep its warnings."""
    levels = {"mlflow": logging.WARNING, "alembic": logging.WARNING, "urllib3.connectionpool": logging.ERROR}
    old_levels = {name: logging.getLogger(name).level for name in levels}
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        for name, level in old_levels.items():
            logging.getLogger(name).setLevel(level)
