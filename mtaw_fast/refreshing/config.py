"""The settings of a refresh, as one TOML file (docs/refresh.md)."""

from __future__ import annotations

import dataclasses
import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtaw_fast.config import DEFAULT_PRESET, Config, preset
from mtaw_fast.data.readers import ClickOptions
from mtaw_fast.data.readers.options import LISTS
from mtaw_fast.errors import UsageError, nearest
from mtaw_fast.evaluation.measuring import COLUMNS

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_HOW = ("auto", "train", "update")
_JUDGED = ("all", "trainings")
_ITEM_OPTIONS = ("source", "id", "kinds", "public", "availability", "new_since")
_SHORTEST = 60.0  # seconds of a period
_OWN_OPTIONS = ("since", "until", "test_days")  # which a refresh sets


@dataclass(frozen=True, slots=True)
class LogSource:
    """Where the log comes from.

    source: a path, pattern or URL as `prepare` takes it; `%Y-%m-%d` and the like stand for the date of the period's
    begin (UTC), so that only its files are read. learn: instead, the `--learn` of a service. options: how to read it.
    history: periods to train on. delay: seconds after the end of a period at which its log is complete.
    """

    source: str = ""
    learn: str = ""
    options: ClickOptions = field(default_factory=ClickOptions)
    history: int = 60
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class TrainRule:
    """What each run makes, and what starts one besides a new period.

    how: 'update' adds each period to the bundle, 'train' trains each time, 'auto' trains when the training is older
    than `every` seconds, when P@20 on a new period is `drift` percentage points below its mean so far, or when the last
    update was worse. A run also starts, and trains, when P@20 of live clicks on the service falls so far; and when the
    last click that the served bundle knows is `age` seconds old, although a later period is there. refit: of an update,
    '' or 'ranker' or 'all'. config: of a training. device, budget_minutes: as of `train`.
    """

    how: str = "auto"
    every: float = 7 * 86400.0
    drift: float = 3.0
    age: float = 2 * 86400.0
    refit: str = ""
    config: Config = field(default_factory=lambda: preset(DEFAULT_PRESET))
    device: str = "auto"
    budget_minutes: float = 90.0


@dataclass(frozen=True, slots=True)
class DayChecks:
    """What a period's log may differ by from the median of the earlier ones, and shares that are refused.

    times: its clicks, clicks a session, and busiest item's share may be so many times the usual, and its clicks, hours
    with clicks and known items at least this part of it. bots: share of clicks by bots. outside: share of rows before
    or after the period, or in the future. repeats: share of clicks that repeat within a second, above the usual one.
    """

    times: float = 5.0
    bots: float = 0.3
    outside: float = 0.1
    repeats: float = 0.3


@dataclass(frozen=True, slots=True)
class Watch:
    """How a promoted bundle is watched, on the service's metrics.

    seconds: for how long; 0: not at all. every: seconds between two looks. errors: share of failed requests above the
    earlier one that is an alarm. latency: likewise times the earlier 95th percentile. hits: likewise the part of the
    earlier share of clicks that were among the first 20.
    """

    seconds: float = 3600.0
    every: float = 30.0
    errors: float = 0.01
    latency: float = 2.0
    hits: float = 0.7


@dataclass(frozen=True, slots=True)
class RefreshConfig:
    """The settings of `refresh`.

    bundles: folder of the bundles, whose `current` is served. items: the item table of each run as `source`, and the
    `item_options` of `prepare`. every: seconds of a period. keep: last promoted bundles that stay. judge: 'all' judges
    each run, 'trainings' only those that train. must_hold: percentage points of a metric that a new bundle may lose
    against the served one. service: address of the service, '' for none. report: folder of reports, '' for none.
    mlflow: tracking URI, '' for none.
    """

    bundles: Path
    log: LogSource
    items: Mapping[str, Any] = field(default_factory=dict)
    every: float = 86400.0
    keep: int = 3
    judge: str = "all"
    train: TrainRule = field(default_factory=TrainRule)
    must_hold: Mapping[str, float] = field(default_factory=lambda: {"P@20": 0.0, "MRR@20": 0.0})
    checks: DayChecks = field(default_factory=DayChecks)
    watch: Watch = field(default_factory=Watch)
    service: str = ""
    report: str = ""
    mlflow: str = ""

    @classmethod
    def of(cls, source: RefreshConfig | str | os.PathLike[str]) -> RefreshConfig:
        """Return a config, or read one from a TOML file; relative paths are from its folder.

        Raises UsageError, naming the key, if the file cannot be read or a value does not fit.
        """
        if isinstance(source, RefreshConfig):
            return source
        path = Path(source)
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:  # ValueError: not UTF-8, not TOML
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())
            raise UsageError(f"cannot read {path}: {reason}; name a TOML file, as in docs/refresh.md") from None
        return _config(values, path.absolute().parent)


def _config(values: dict[str, Any], folder: Path) -> RefreshConfig:
    parts = {name: values.pop(name, {}) for name in ("log", "items", "train", "must_hold", "checks", "watch")}
    for name, part in parts.items():
        if not isinstance(part, dict):
            raise UsageError(f"refresh config: [{name}] must be a table")
    if "bundles" not in values:
        raise UsageError('refresh config: bundles is missing; name the folder of bundles, as in bundles = "shop"')
    config = _filled(RefreshConfig, values, "", log=_log(parts["log"], folder), train=_train(parts["train"]))
    if config.every < _SHORTEST or not config.keep:
        raise UsageError(f"refresh config: every must be at least {_SHORTEST:g} seconds, and keep at least 1")
    if config.judge not in _JUDGED:
        raise UsageError(f"refresh config: judge = {config.judge!r} must be one of {', '.join(_JUDGED)}")
    for name in parts["items"]:
        if name not in _ITEM_OPTIONS:
            raise UsageError(f"refresh config: there is no key items.{name}{nearest(name, _ITEM_OPTIONS)}")
    if parts["items"] and not isinstance(parts["items"].get("source"), str):
        raise UsageError("refresh config: items.source is missing; name the file of the item table")
    items = parts["items"] and {**parts["items"], "source": str(folder / parts["items"]["source"])}
    for metric, margin in parts["must_hold"].items():
        if metric not in COLUMNS or not _is_number(margin) or margin < 0:
            raise UsageError(
                f"refresh config: must_hold.{metric} = {margin!r}; write a metric ({', '.join(COLUMNS)}) and the "
                "percentage points that it may lose, from 0 on"
            )
    return dataclasses.replace(
        config, bundles=folder / config.bundles, items=items, checks=_filled(DayChecks, parts["checks"], "checks."),
        watch=_filled(Watch, parts["watch"], "watch."), must_hold=parts["must_hold"] or config.must_hold,
        report=str(folder / config.report) if config.report else "",
    )  # fmt: skip


def _log(values: dict[str, Any], folder: Path) -> LogSource:
    reading = [item.name for item in dataclasses.fields(ClickOptions) if item.name not in _OWN_OPTIONS]
    options = {name: values.pop(name) for name in reading if name in values}
    for name in LISTS:
        if isinstance(options.get(name), list):
            options[name] = tuple(options[name])
    known = [item.name for item in dataclasses.fields(LogSource) if item.name != "options"]
    for name in values:
        if name not in known:
            raise UsageError(f"refresh config: there is no key log.{name}{nearest(name, [*known, *reading])}")
    source = _filled(LogSource, values, "log.", options=_click_options(options))
    if bool(source.source) == bool(source.learn):
        raise UsageError("refresh config: give either log.source or log.learn")
    if source.history < 2:
        raise UsageError(f"refresh config: log.history = {source.history} must be at least 2 periods")
    place = {
        name: str(folder / text)
        for name in ("source", "learn")
        if (text := getattr(source, name)) and "://" not in text
    }
    return dataclasses.replace(source, **place)


def _click_options(values: dict[str, Any]) -> ClickOptions:
    try:
        return ClickOptions(**values)
    except TypeError as error:  # from a comparison of a value of another type
        raise UsageError(f"refresh config: an option of [log] has a wrong type ({error})") from None


def _train(values: dict[str, Any]) -> TrainRule:
    name, settings = values.pop("preset", DEFAULT_PRESET), values.pop("set", {})
    if not isinstance(settings, dict):
        raise UsageError("refresh config: train.set must be a table of settings, as in set = {epochs = 1}")
    config = preset(name).override([f"{key}={value}" for key, value in settings.items()])
    rule = _filled(TrainRule, values, "train.", config=config)
    if rule.how not in _HOW or rule.refit not in ("", "ranker", "all"):
        raise UsageError(
            f"refresh config: train.how = {rule.how!r} must be one of {', '.join(_HOW)}, train.refit = "
            f"{rule.refit!r} '', 'ranker' or 'all'"
        )
    return rule


def _filled(kind: Any, values: dict[str, Any], where: str, **parts: Any) -> Any:
    """Return a dataclass of TOML values. Raises UsageError on an unknown key, and on a value of another type."""
    fields = {item.name: item for item in dataclasses.fields(kind) if item.name not in parts}
    filled = {}
    for name, value in values.items():
        if name not in fields:
            raise UsageError(f"refresh config: there is no key {where}{name}{nearest(name, fields)}")
        filled[name] = _value(str(fields[name].type), value, f"{where}{name}")
    return kind(**filled, **parts)


def _value(type_name: str, value: Any, name: str) -> Any:
    if type_name == "float":
        number = seconds_of(value) if isinstance(value, str) else value
        if number is not None and _is_number(number) and number >= 0:
            return float(number)
        raise UsageError(f"refresh config: {name} = {value!r}; write a number, or a time such as 1d, 6h, 30m or 90s")
    if type_name == "int":
        if type(value) is int and value >= 0:
            return value
        raise UsageError(f"refresh config: {name} = {value!r}; write a whole number from 0 on")
    if not isinstance(value, str):
        raise UsageError(f"refresh config: {name} = {value!r}; write a text")
    return Path(value) if type_name == "Path" else value


def seconds_of(text: str) -> float | None:
    """Return the seconds of a time such as 1d, 6h, 30m or 90s; None if it is none."""
    try:
        return float(text[:-1]) * _UNITS[text[-1:]]
    except (KeyError, ValueError):
        return None


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
