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
from mtaw_fast.errors import DataWarning, MtawError, TrainingError, UsageError, require
from mtaw_fast.evaluation.paired import HITS
from mtaw_fast.integrations.mlflow_tracking import MlflowRun, TrackingError, add_to_run
from mtaw_fast.recommender import Recommender
from mtaw_fast.refreshing.config import RefreshConfig
from mtaw_fast.refreshing.days import day_options, forgotten_in
from mtaw_fast.refreshing.judge import judged, replayed
from mtaw_fast.refreshing.plan import how_to
from mtaw_fast.refreshing.service import ServiceCounts, ServiceError, alarm_of, counts_from, counts_of, reload
from mtaw_fast.refreshing.state import RefreshState
from mtaw_fast.storage.files import remove_temporary, write_json
from mtaw_fast.workflow import prepare, run_folder_of, train, update

STEPS = (
    "measure", "plan", "prepare", "candidate", "judge", "final", "check", "before", "promote", "reload", "watch",
    "report", "clean",
)  # fmt: skip
PROMOTED, KEPT, ROLLED_BACK, FAILED = "promoted", "kept", "rolled back", "failed"
_SILENT = 5  # looks without an answer that are an alarm
_DAY_MS = 86_400_000
_TRIED = 20  # first items that a new bundle must answer


class Steps:
    """The steps of the run in progress of a state."""

    def __init__(self, config: RefreshConfig, state: RefreshState, say: Callable[[str], object]) -> None:
        assert state.run is not None
        self._config, self._state, self._say, self._run = config, state, say, state.run
        self._new = config.bundles / self._run["bundle"]

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
            self._state.save()
        outcome = ROLLED_BACK if done["watch"] and done["watch"]["alarm"] else done["promote"]["outcome"]
        record = {**self._run, "outcome": outcome, "time": time.time()}
        self._state.finish(record)
        return record

    @property
    def _trains(self) -> bool:
        return bool(self._run["done"]["plan"]["how"] == "train")

    @property
    def _judges(self) -> bool:
        return self._trains and self._run["incumbent"] is not None

    def _incumbent(self) -> Bundle:
        return Bundle.load(self._config.bundles / self._run["incumbent"])

    def _measure(self) -> dict[str, float] | None:
        """Measure the served bundle on the new period, which it has not seen."""
        if self._run["incumbent"] is None:
            return None
        incumbent = self._incumbent()
        if incumbent.memory is None or not incumbent.dataset.get("reader"):
            return None
        result, _ = replayed(incumbent, self._log(incumbent), self._run["begin"])
        metrics = result.metrics()
        hits = {name: round(metrics[name][HITS], 3) for name in ("frozen", "learning")}
        return {**hits, "samples": len(result.clicks)}

    def _plan(self) -> dict[str, str]:
        how, why = how_to(self._config, self._state, self._run)
        return {"how": how, "why": why}

    def _prepare(self) -> None:
        """Make the data set whose test split is the new period."""
        if self._judges:
            last = self._last_click()
            self._prepared("judge.dataset", (last - self._run["begin"] + 1) / _DAY_MS)

    def _candidate(self) -> None:
        """Train without the new period."""
        if self._judges:
            self._trained(self._state.work / "judge.dataset", self._state.work / "candidate.bundle")

    def _judge(self) -> dict[str, Any] | None:
        if not self._judges:
            return None
        incumbent, candidate = self._incumbent(), Bundle.load(self._state.work / "candidate.bundle")
        return judged(
            incumbent, candidate, self._state.work / "judge.dataset", self._log(incumbent), self._run["begin"],
            self._config.must_hold,
        )  # fmt: skip

    def _final(self) -> dict[str, Any] | None:
        """Make the winner with the new period. None: the served bundle won, and cannot be updated."""
        worse = (self._run["done"]["judge"] or {"worse": []})["worse"]
        if self._trains and not worse:
            self._prepared("final.dataset", 0.0)
            self._trained(self._state.work / "final.dataset", self._new)
            return {"made": "trained"}
        incumbent = self._incumbent()
        if incumbent.memory is None or not incumbent.dataset.get("reader"):
            return None
        rule, learn = self._config.train, self._config.log.learn
        refit: Any = rule.refit or None
        forget = list(forgotten_in(learn)) if learn else []
        updated = update(incumbent, self._log(incumbent), out=self._new, refit=refit, device=rule.device, forget=forget)
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
        if not self._config.service:
            return None
        with contextlib.suppress(ServiceError):
            return dataclasses.asdict(counts_of(self._config.service))
        return None

    def _reload(self) -> str | None:
        if not self._config.service or not self._is_promoted:
            return None
        try:
            return reload(self._config.service)
        except ServiceError as error:
            self._run["alarm"] = f"reload: {error}"
            return str(error)

    def _watch(self) -> dict[str, Any] | None:
        """Watch the promoted bundle, and go back to the one before on an alarm. Without one before, there is no way."""
        before, incumbent = self._run["done"]["before"], self._run["incumbent"]
        if not self._is_promoted or incumbent is None:
            return None
        if "alarm" not in self._run and before is not None:
            began = self._run.setdefault("watched_since", time.time())
            self._state.save()
            self._run["alarm"] = self._watched(counts_from(before), began + self._config.watch.seconds)
        alarm = self._run.get("alarm")
        if alarm:
            self._state.save()
            self._say(f"{self._run['day']}: back to {incumbent}, because of {alarm}")
            if current_in(self._config.bundles) == self._new.name:
                roll_back(self._config.bundles)
            with contextlib.suppress(ServiceError):  # it serves what it has
                reload(self._config.service)
        return {"alarm": alarm}

    def _watched(self, before: ServiceCounts, until: float) -> str | None:
        folders = (self._config.bundles / self._run["incumbent"], self._new)
        old, new = (version_of(Bundle.load(folder).manifest) for folder in folders)
        silent, limits = 0, self._config.watch
        while time.time() < until:
            time.sleep(min(limits.every, max(until - time.time(), 0.0)))
            if current_in(self._config.bundles) != self._new.name:
                return None  # someone promoted another one
            try:
                after = counts_of(self._config.service).since(before)
            except ServiceError as error:
                silent += 1
                if silent == _SILENT:
                    return f"silence: {error}"
                continue
            silent = 0
            if (alarm := alarm_of(before, after, (old, new), limits)) is not None:
                return alarm
        return None

    def _report(self) -> str | None:
        """Write the page about the new bundle, with the judged period's metrics where there are some."""
        if not self._config.report or self._run["done"]["final"] is None:
            return None
        out, dataset = Path(self._config.report), self._state.work / "judge.dataset"
        out.mkdir(parents=True, exist_ok=True)
        remove_temporary(out, f"{self._run['day']}.*")  # of an attempt that was killed
        record = out / f"{self._run['day']}.json"
        write_json(record, self._run)
        candidate = self._state.work / "candidate.bundle"
        bundle = candidate if self._judges else self._new
        try:
            page = write_report(bundle, out / f"{self._run['day']}.html", dataset=dataset if self._judges else None)
        except MtawError as error:  # such as a missing extra: the bundle is promoted in any case
            return f"no page: {error}"
        if self._config.mlflow and self._judges:
            judge = self._run["done"]["judge"]
            metrics = {
                f"judge/{name} {state}": values["difference"]
                for state in ("frozen", "learning")
                for name, values in judge[state].items()
            }
            with contextlib.suppress(TrackingError):
                add_to_run(self._config.mlflow, run_folder_of(candidate), (page, record), metrics)
        return str(page)

    def _clean(self) -> None:
        """Remove the work, and bundles of earlier runs but the last `keep` promoted ones and the current one."""
        shutil.rmtree(self._state.work, ignore_errors=True)
        shutil.rmtree(run_folder_of(self._new), ignore_errors=True)
        made = {run["bundle"] for run in self._state.runs}
        promoted = [run["bundle"] for run in self._state.runs if run["outcome"] == PROMOTED]
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
                    name=f"{self._run['day']} {bundle.name}",
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

    def _prepared(self, name: str, test_days: float) -> None:
        options = day_options(self._config.log.options, test_days)
        values = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
        item_options = dict(self._config.items)
        items = item_options.pop("source", None)
        self._state.work.mkdir(exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            prepare(
                self._state.days_folder, self._state.work / name, name=self._run["day"], overwrite=True, items=items,
                item_options=item_options, **values,
            )  # fmt: skip

    def _log(self, bundle: Bundle) -> Any:
        """Return the rows since a period before the bundle's last click, as a frame: sessions go on over midnight."""
        pl = require("polars", "train")
        length = self._run["end"] - self._run["begin"]
        known = self._run["begin"] if bundle.model.learned_until is None else bundle.model.learned_until
        days = [
            day for day in self._state.accepted()
            if day <= self._run["day"] and self._state.begin_of(day) > min(known, self._run["begin"]) - 2 * length
        ]  # fmt: skip
        return pl.concat([pl.read_parquet(self._state.file_of(day)) for day in days], how="vertical_relaxed")

    def _last_click(self) -> int:
        pl = require("polars", "train")
        return int(pl.read_parquet(self._state.file_of(self._run["day"]), columns=["timestamp"])["timestamp"].max())
