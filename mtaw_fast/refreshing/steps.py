"""The steps of a run. Each is noted when it is done; a run that was killed repeats only the one it was at.

A step therefore may find what an earlier attempt of it left, and replaces or continues that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.versions import current_in, promote, roll_back, version_of, versions_in
from mtaw_fast.bundle_page import write_report
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.errors import DataWarning, MtawError, TrainingError, UsageError
from mtaw_fast.integrations.mlflow_tracking import MlflowRun, TrackingError, log_figures
from mtaw_fast.recommender import Recommender
from mtaw_fast.refreshing.config import RefreshConfig
from mtaw_fast.refreshing.day_files import as_logged, rows_of
from mtaw_fast.refreshing.days import forgotten_in
from mtaw_fast.refreshing.judge import STATES, judged
from mtaw_fast.refreshing.measure import (
    before,
    cannot_follow,
    judged_from,
    judging_bundle,
    measured,
    rows_for,
    split_at,
    test_days,
)
from mtaw_fast.refreshing.plan import how_to
from mtaw_fast.refreshing.service import ServiceError, reload
from mtaw_fast.refreshing.state import (
    IN_SERVICE,
    KEPT,
    NOT_RELOADED,
    NOT_WATCHED,
    PROMOTED,
    ROLLED_BACK,
    RefreshState,
)
from mtaw_fast.refreshing.watch import counted, reloaded, watched
from mtaw_fast.storage.files import remove_temporary, write_json
from mtaw_fast.system.memory_use import peak_memory
from mtaw_fast.workflow import change_items, prepare, run_folder_of, train, update

STEPS = (
    "measure", "plan", "prepare", "candidate", "judge", "final", "check", "before", "promote", "reload", "watch",
    "report", "clean",
)  # fmt: skip
_TRIED = 20  # first items that a new bundle must answer


class Steps:
    """The steps of the run in progress of a state."""

    def __init__(self, config: RefreshConfig, state: RefreshState, say: Callable[[str], object]) -> None:
        assert state.run is not None
        self._config, self._state, self._say, self._run = config, state, say, state.run
        self._new = config.bundles / self._run["bundle"]
        self._candidate_bundle, self._judge_data = state.work / self._new.name, state.work / "judge.dataset"

    def to_the_end(self) -> dict[str, Any]:
        """Do what is not done; return the record of the run. Raises MtawError if a step fails."""
        done = self._run["done"]
        for name in STEPS:
            if name in done:
                continue
            self._say(f"{self._run['day']}: {name}")
            began = time.perf_counter()
            done[name] = getattr(self, f"_{name}")()
            self._run["seconds"][name] = round(time.perf_counter() - began, 2)
            self._run["memory"] = max(self._run.get("memory", 0), peak_memory())
            self._state.save()
        record = {**self._run, "outcome": self._outcome, "time": time.time()}
        self._state.finish(record)
        return record

    @property
    def _outcome(self) -> str:
        done = self._run["done"]
        if not self._is_promoted:
            return str(done["promote"]["outcome"])
        if (done["watch"] or {}).get("alarm"):
            return ROLLED_BACK
        if (done["reload"] or {}).get("missed"):
            return NOT_RELOADED
        return NOT_WATCHED if (done["watch"] or {}).get("missed") else PROMOTED

    @property
    def _trains(self) -> bool:
        return bool(self._run["done"]["plan"]["how"] == "train")

    @property
    def _judges(self) -> bool:
        return self._run["done"]["plan"]["from"] is not None

    def _incumbent(self) -> Bundle:
        return Bundle.load(self._config.bundles / self._run["incumbent"])

    def _measure(self) -> dict[str, Any] | None:
        """Measure the served bundle on the new period, which it has not seen."""
        return measured(self._config, self._state, self._run)

    def _plan(self) -> dict[str, Any]:
        """Decide how to make the new bundle, and from which moment on clicks judge it; None: it is not judged."""
        how, why = how_to(self._config, self._state, self._run)
        against, begin = judging_bundle(self._config, self._run), None
        if against is not None and (how == "train" or self._config.judge == "all"):
            begin = judged_from(self._state, self._run, how == "train", against)
        return {"how": how, "why": why, "from": begin}

    @property
    def _from(self) -> int:
        return int(self._run["done"]["plan"]["from"])

    @property
    def _gap(self) -> float | None:
        options = self._config.log.options
        return None if options.user is None else options.gap

    def _prepare(self) -> None:
        """Make the data set whose test split judges."""
        if not self._judges:
            return
        if self._trains:
            rows, support = self._all_rows(), None
        else:
            rows, support = rows_for(self._state, self._run, self._incumbent()), 1
        rows = split_at(rows, self._gap, self._run["begin"], self._from)
        self._prepared("judge.dataset", rows, test_days(rows, self._from), support)

    def _candidate(self) -> None:
        """Make the new bundle without what judges it."""
        if not self._judges:
            return
        if self._trains:
            self._trained(self._judge_data, self._candidate_bundle)
        else:
            incumbent = self._incumbent()
            rows = before(rows_for(self._state, self._run, incumbent), self._gap, self._from)
            self._updated(incumbent, rows, self._candidate_bundle)

    def _judge(self) -> dict[str, Any] | None:
        """Compare both on the clicks that neither has seen."""
        against = judging_bundle(self._config, self._run)
        if not self._judges or against is None:
            return None
        rows = None if cannot_follow(self._config, against) else rows_for(self._state, self._run, against)
        candidate = Bundle.load(self._candidate_bundle)
        return judged(against, candidate, self._judge_data, rows, self._from, self._config.must_hold)

    @property
    def _lost(self) -> bool:
        return bool((self._run["done"]["judge"] or {"worse": []})["worse"])

    def _final(self) -> dict[str, Any] | None:
        """Make the winner with the new period. None: that is the served bundle, and it stays as it is."""
        if self._trains and not self._lost:
            self._prepared("final.dataset", self._all_rows(), 0.0)
            self._trained(self._state.work / "final.dataset", self._new)
            return {"made": "trained"}
        knows_it = self._run["against"] != self._run["incumbent"]  # as after a live drift
        if self._lost and (knows_it or not self._trains):
            return None
        incumbent = self._incumbent()
        if cannot_follow(self._config, incumbent):
            return None
        updated = self._updated(incumbent, rows_for(self._state, self._run, incumbent), self._new)
        return {"made": "updated", "clicks": updated.summary.learned_clicks, "new_items": updated.summary.new_items}

    def _check(self) -> None:
        """See that the new bundle is whole and answers."""
        if self._run["done"]["final"] is None:
            return
        recommender = Recommender.load(self._new)
        items = recommender.ids.external(recommender.bundle.most_clicked[:_TRIED])
        if not all(recommender.recommend([item], k=5).items for item in items):
            raise MtawError(f"{self._new} has no answer for some of its most clicked items; it is not promoted")

    def _promote(self) -> dict[str, Any]:
        current = current_in(self._config.bundles)
        if self._run["done"]["final"] is None:
            return {"outcome": KEPT, "why": "the served bundle won"}
        if current != self._new.name:
            if current != self._run["incumbent"]:
                return {"outcome": KEPT, "why": f"{current} was promoted meanwhile"}
            promote(self._config.bundles, self._new.name)
        return {"outcome": PROMOTED}

    @property
    def _is_promoted(self) -> bool:
        return bool(self._run["done"]["promote"]["outcome"] == PROMOTED)

    def _before(self) -> dict[str, Any] | None:
        """Note what the service counted with the bundle before."""
        return counted(self._config.service) if self._config.service else None

    def _reload(self) -> dict[str, Any] | None:
        if not self._config.service or not self._is_promoted:
            return None
        return reloaded(self._config.service, version_of(Bundle.load(self._new).manifest))

    def _watch(self) -> dict[str, Any] | None:
        """Watch the promoted bundle, and go back to the one before on an alarm. Without one before, there is no way."""
        counts, incumbent = self._run["done"]["before"], self._run["incumbent"]
        if not self._is_promoted or incumbent is None or not self._config.service:
            return None
        limits, result = self._config.watch, dict[str, Any](alarm=self._run["done"]["reload"].get("alarm"))
        if result["alarm"] is None and limits.seconds:
            if "counts" in counts:
                began = self._run.setdefault("watched_since", time.time())
                self._state.save()
                old, new = (
                    version_of(Bundle.load(folder).manifest) for folder in (self._config.bundles / incumbent, self._new)
                )
                result = watched(
                    self._config.service, counts["counts"], (old, new), began + limits.seconds, limits,
                    lambda: current_in(self._config.bundles) == self._new.name,
                )  # fmt: skip
            else:
                result["missed"] = counts["missed"]
        if result["alarm"]:
            self._say(f"{self._run['day']}: back to {incumbent}, because of {result['alarm']}")
            if current_in(self._config.bundles) == self._new.name:
                roll_back(self._config.bundles)
            with contextlib.suppress(ServiceError):  # it serves what it has
                reload(self._config.service)
        return result

    def _report(self) -> str | None:
        """Write the run's record, and a page about what was judged, or else the new bundle; log both to MLflow."""
        done, files, text = self._run["done"], list[Path](), None
        if self._config.report:
            out = Path(self._config.report)
            out.mkdir(parents=True, exist_ok=True)
            remove_temporary(out, f"{self._run['day']}.*")  # of an attempt that was killed
            record = out / f"{self._run['day']}.json"
            write_json(record, {**self._run, "outcome": self._outcome})
            files.append(record)
            bundle = self._candidate_bundle if self._judges else self._new
            if self._judges or done["final"] is not None:
                try:
                    page = out / f"{self._run['day']}.html"
                    files.append(write_report(bundle, page, dataset=self._judge_data if self._judges else None))
                    text = str(page)
                except MtawError as error:  # such as a missing extra: the bundle is promoted in any case
                    text = f"no page: {error}"
        if self._config.mlflow:
            about = {"how": done["plan"]["how"], "outcome": self._outcome}
            with contextlib.suppress(TrackingError):
                log_figures(self._config.mlflow, f"{self._run['day']} refresh", self._figures(), about, files)
        return text

    def _figures(self) -> dict[str, float]:
        """Return the numbers of the run by name."""
        done = self._run["done"]
        figures = {f"measure/{name}": value for name, value in (done["measure"] or {}).items()}
        for state in STATES if done["judge"] else ():
            for name, values in done["judge"][state]["metrics"].items():
                figures[f"judge/{name} {state}"] = values["difference"]
        return figures | {f"seconds/{name}": value for name, value in self._run["seconds"].items()}

    def _clean(self) -> None:
        """Remove the work, and bundles of earlier runs but the last `keep` promoted ones and the current one."""
        shutil.rmtree(self._state.work, ignore_errors=True)
        shutil.rmtree(run_folder_of(self._new), ignore_errors=True)
        made = {run["bundle"] for run in self._state.runs}
        promoted = [run["bundle"] for run in self._state.runs if run["outcome"] in IN_SERVICE]
        kept = {*promoted[-self._config.keep :], current_in(self._config.bundles), self._run["incumbent"]}
        for version in versions_in(self._config.bundles):
            if version.name in made - kept:
                shutil.rmtree(self._config.bundles / version.name)

    def _trained(self, dataset: Path, bundle: Path) -> None:
        begun = run_folder_of(bundle).exists()
        try:
            self._train(dataset, bundle, resume=begun)
        except (TrainingError, UsageError):
            if not begun:
                raise
            shutil.rmtree(run_folder_of(bundle))  # an earlier attempt left it, with other data or unreadable
            self._train(dataset, bundle, resume=False)

    def _train(self, dataset: Path, bundle: Path, resume: bool) -> None:
        rule, run = self._config.train, None
        with contextlib.ExitStack() as stack:
            if self._config.mlflow:
                run = MlflowRun(
                    self._config.mlflow, Dataset.load(dataset), rule.config, run_folder_of(bundle), resume=resume,
                    name=f"{self._run['day']} {'candidate' if bundle == self._candidate_bundle else 'final'}",
                )  # fmt: skip
                try:
                    stack.enter_context(run)
                except TrackingError as error:  # the bundle matters more than its record
                    self._say(str(error))
                    run = None
            trained = train(
                dataset, bundle, rule.config, device=rule.device, budget_minutes=rule.budget_minutes, resume=resume,
                overwrite=True, reporter=run,
            )  # fmt: skip
            if run is not None:
                with contextlib.suppress(TrackingError):
                    run.finish(trained)

    def _updated(self, bundle: Bundle, rows: Any, out: Path) -> Any:
        rule, learn = self._config.train, self._config.log.learn
        refit: Any = rule.refit or None
        forget = list(forgotten_in(learn)) if learn else []
        log = as_logged(rows, bundle.dataset["reader"])
        updated = update(bundle, log, out=out, refit=refit, device=rule.device, forget=forget)
        if self._config.items:
            options = dict(self._config.items)
            change_items(updated.bundle, options.pop("source"), **options)
        return updated

    def _all_rows(self) -> Any:
        return rows_of([self._state.file_of(day) for day in self._state.accepted() if day <= self._run["day"]])

    def _prepared(self, name: str, rows: Any, test_days: float, support: int | None = None) -> None:
        """Make a data set as the log's settings say. support: instead of their `min_support`."""
        options = dataclasses.replace(self._config.log.options, test_days=test_days)
        if support is not None:
            options = dataclasses.replace(options, min_support=support)
        values = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
        item_options = dict(self._config.items)
        items = item_options.pop("source", None)
        before = None if self._run["incumbent"] is None else self._incumbent()
        self._state.work.mkdir(exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            prepare(
                as_logged(rows, options), self._state.work / name, name=self._run["day"], overwrite=True, items=items,
                item_options=item_options, before=before, **values,
            )  # fmt: skip
