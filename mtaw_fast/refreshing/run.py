"""Refresh a folder of bundles: read the new periods, and take each to its end step by step (`steps`)."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import MANIFEST
from mtaw_fast.bundle.versions import current_in
from mtaw_fast.errors import MtawError, UsageError
from mtaw_fast.refreshing.config import RefreshConfig
from mtaw_fast.refreshing.day_files import remove_forgotten
from mtaw_fast.refreshing.days import DayFacts, Period, PeriodReader, RefusedLogError, is_by_date, refusals
from mtaw_fast.refreshing.live import live_drift
from mtaw_fast.refreshing.measure import measured, tried
from mtaw_fast.refreshing.plan import plan_lines
from mtaw_fast.refreshing.state import FAILED, IN_SERVICE, RefreshState, only_one
from mtaw_fast.refreshing.steps import Steps

_TRIES = 3  # of a run that fails; then it starts over
_REREAD = 7  # periods back for which a refused log is read again


@dataclass(frozen=True, slots=True)
class RefreshResult:
    """What a refresh did.

    outcome: 'promoted', 'not reloaded' (promoted, but the service was not told and serves another one), 'not watched'
    (promoted, but the service did not answer), 'kept' (the served bundle stays), 'rolled back', 'refused' (the newest
    log failed a check), 'nothing' (nothing is new) or 'planned'. day: the newest period. bundle: the name that
    `current` has now. refused: the failed checks of each period that was read. run: the record of the run, if there was
    one. plan: the lines of a dry run.
    """

    outcome: str
    day: str
    bundle: str | None
    refused: dict[str, list[str]] = field(default_factory=dict)
    run: dict[str, Any] | None = None
    plan: list[str] = field(default_factory=list)


def refresh(
    config: RefreshConfig | str | os.PathLike[str],
    *,
    dry_run: bool = False,
    now: float | None = None,
    progress: Callable[[str], object] | None = None,
) -> RefreshResult:
    """Bring the served bundle of a folder up to the newest complete period of its log.

    A run that was killed, or failed, continues at the step where it was; until its last step the served bundle stays.

    Parameters
    ----------
    config : RefreshConfig or path
        The settings, or their TOML file.
    dry_run : bool, default False
        Check the log, plan the run with its time and memory, and change nothing.
    now : float, optional
        Unix seconds; by default the clock's.
    progress : callable, optional
        Called as progress(line) before each step.

    Returns
    -------
    RefreshResult

    Raises
    ------
    UsageError
        On wrong settings, or if another refresh of the folder is running.
    MtawError
        If a step fails: call again to continue.
    """
    settings, say = RefreshConfig.of(config), progress or (lambda _: None)
    moment = time.time() if now is None else now
    with only_one(settings.bundles):
        state = RefreshState(settings.bundles)
        if dry_run:
            return _planned(settings, state, moment)
        last = None
        if state.run is not None:
            last = _taken_to_the_end(settings, state, say)
        newest = Period.newest(moment, settings.every, settings.log.delay)
        refused = _read_new(settings, state, newest, moment, say)
        drift = live_drift(settings, state)
        state.save()
        if (day := _next_day(settings, state, moment, drift)) is not None:
            state.run = _new_run(settings, state, day, newest, moment, drift)
            state.save()
            last = _taken_to_the_end(settings, state, say)
        outcome = "refused" if newest.name in refused else "nothing" if last is None else last["outcome"]
        return RefreshResult(outcome, newest.name, current_in(settings.bundles), refused, last)


def _taken_to_the_end(config: RefreshConfig, state: RefreshState, say: Callable[[str], object]) -> dict[str, Any]:
    """Do the steps of the run in progress that are not done; return its record."""
    run = state.run
    assert run is not None
    try:
        return Steps(config, state, say).to_the_end()
    except MtawError as error:
        run["failures"] = [*run.get("failures", []), str(error)]
        state.save()
        if len(run["failures"]) >= _TRIES:
            shutil.rmtree(state.work, ignore_errors=True)
            state.finish({**run, "outcome": FAILED, "time": time.time()})
        raise


def _read_new(
    config: RefreshConfig, state: RefreshState, newest: Period, now: float, say: Callable[[str], object]
) -> dict[str, list[str]]:
    """Read and check the periods that have no accepted log yet; return the failed checks by period.

    Before the first accepted one, periods without a log are none.
    """
    state.days_folder.mkdir(parents=True, exist_ok=True)
    _keep_reading(config, state)
    reader = PeriodReader(config.log, now)
    found, refused = dict[str, DayFacts](), dict[str, list[str]]()
    accepted = state.accepted()
    begun = bool(accepted)
    for back in reversed(range(config.log.history)):
        period = newest.before(back)
        name = period.name
        if name in accepted or (begun and (name < accepted[0] or (name in state.days and back >= _REREAD))):
            continue
        say(f"reading {name}")
        before = [state.file_of(day) for day in accepted if day < name] or [_draft(state, day) for day in found]
        try:
            facts, kind = reader.read(period, _draft(state, name), state.item_ids, before[-1] if before else None)
        except RefusedLogError as error:
            if not is_by_date(config.log):  # it is that of all periods
                refused = {newest.name: [f"{error.check}: {error}"]}
                break
            if begun or found or not back:
                refused[name] = [f"{error.check}: {error}"]
            continue
        if facts.clicks or found or begun or not back:
            found[name] = facts
            state.item_ids = kind if facts.clicks else state.item_ids
    if reader.forgotten:
        for day in accepted:
            remove_forgotten(state.file_of(day), reader.forgotten)
    usual = {day: DayFacts(**state.days[day]["facts"]) for day in accepted} | found
    for name, facts in found.items():
        others = [other for day, other in sorted(usual.items()) if day != name and other.clicks]
        if failed := refusals(facts, others, config.checks):
            refused[name] = failed
            usual.pop(name)
            _draft(state, name).unlink(missing_ok=True)
        else:
            _draft(state, name).replace(state.file_of(name))
            state.days[name] = {"facts": dataclasses.asdict(facts)}
    for name, failed in refused.items():
        state.days[name] = {"refused": failed, "time": state.days.get(name, {}).get("time", now)}
    _forget_old(state, newest.before(config.log.history - 1).name)
    state.save()
    return refused


def _keep_reading(config: RefreshConfig, state: RefreshState) -> None:
    """Note how the log is read, and the kind of item ids that its catalog has. Raises UsageError on another reading."""
    options = config.log.options
    reading = {
        "user": options.user is not None, "type": options.type is not None, "types": list(options.types),
        "context": list(options.context),
    }  # fmt: skip
    for name, value in reading.items():
        if state.accepted() and state.reading is not None and state.reading[name] != value:
            raise UsageError(
                f"refresh config: log.{name} is not what the periods in {state.folder} were read with; set it back, or "
                "move that folder away, so that all periods are read again"
            )
    state.reading = reading
    if state.item_ids == "auto" and (current := current_in(config.bundles)) is not None:
        state.item_ids = Bundle.load(config.bundles / current).ids.kind


def _draft(state: RefreshState, name: str) -> Path:
    return state.days_folder / f".{name}.draft"


def _forget_old(state: RefreshState, oldest: str) -> None:
    for day in [day for day in state.days if day < oldest]:
        state.file_of(day).unlink(missing_ok=True)
        del state.days[day]


def _next_day(config: RefreshConfig, state: RefreshState, now: float, drift: str | None) -> str | None:
    """Return the newest accepted period, if a run with it has a reason: it is new, live clicks drift, or the served
    bundle's last click is old. now: Unix seconds."""
    days, current = state.accepted(), current_in(config.bundles)
    if not days or current is None or drift is not None:
        return days[-1] if days else None
    day = days[-1]
    known = Bundle.load(config.bundles / current).model.learned_until
    if known is not None and known >= state.begin_of(day):
        return None
    ended = [run for run in state.runs if run["outcome"] != FAILED]
    if not ended or day > max(run["day"] for run in ended):
        return day
    oldest = now - config.train.age
    is_old = known is not None and known < oldest * 1000 and ended[-1]["started"] <= oldest
    return day if is_old else None


def _new_run(
    config: RefreshConfig, state: RefreshState, day: str, newest: Period, now: float, drift: str | None
) -> dict[str, Any]:
    """Return the record of a run that begins: `against` is the bundle that it measures and judges by."""
    begin, current = state.begin_of(day), current_in(config.bundles)
    name, number = f"{day}.bundle", 2
    while (config.bundles / name).exists():
        name, number = f"{day}-{number}.bundle", number + 1
    earlier = [run["bundle"] for run in reversed(state.runs) if run["outcome"] in IN_SERVICE]
    candidates = [] if current is None else [current, *earlier]
    return {
        "day": day, "begin": begin, "end": begin + newest.end - newest.begin, "bundle": name, "started": now,
        "incumbent": current, "drift": drift, "done": {}, "seconds": {},
        "against": next((it for it in candidates if _is_new_to(config.bundles / it, begin)), None),
    }  # fmt: skip


def _is_new_to(bundle: Path, begin: int) -> bool:
    """Whether a bundle is there and knows no click from `begin` on."""
    return (bundle / MANIFEST).is_file() and (Bundle.load(bundle).model.learned_until or 0) < begin


def _planned(config: RefreshConfig, state: RefreshState, now: float) -> RefreshResult:
    """Read into a scratch folder, and plan what would follow."""
    newest = Period.newest(now, config.every, config.log.delay)
    with tempfile.TemporaryDirectory(prefix="mtaw-fast-refresh-") as scratch:
        trial = RefreshState(config.bundles)
        trial.folder = Path(scratch)
        if state.days_folder.is_dir():
            shutil.copytree(state.days_folder.absolute(), trial.days_folder, copy_function=os.symlink)
        refused = _read_new(config, trial, newest, now, lambda _: None)
        lines = [f"{day}: refused, {'; '.join(failed)}" for day, failed in sorted(refused.items())]
        run = state.run
        drift = live_drift(config, trial)
        if run is None and (day := _next_day(config, trial, now, drift)) is not None:
            run = _new_run(config, trial, day, newest, now, drift)
        if run is not None:
            run["done"].setdefault("measure", measured(config, trial, run))
            lines += plan_lines(config, trial, run)
        else:
            if (current := current_in(config.bundles)) is not None:
                tried(config, trial, Bundle.load(config.bundles / current))
            lines += [] if refused else ["nothing to do"]
        return RefreshResult("planned", newest.name, current_in(config.bundles), refused, None, lines)
