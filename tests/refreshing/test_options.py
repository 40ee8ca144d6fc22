"""A bundle that `prepare` and `train` made is refreshed by the command, whatever options its log is read with.

`READINGS` has a log for each group of options; `ALONE`, of `make slow`, each option by itself.
"""

from __future__ import annotations

import datetime
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.cli import main
from mtaw_fast.data.readers import read_stream
from tests.support.shop import TRAINING, name_of, now_after, rows_of

pytestmark = pytest.mark.slow
Row = dict[str, Any]


@dataclass(frozen=True)
class Reading:
    """A log and how it is read. row: of a session, item, time (s) and number; ending: of its files; options: of
    `prepare` and of [log], without those of the item table; train: more options of `train`."""

    row: Callable[[str, str, int, int], Row]
    options: Mapping[str, Any]
    ending: str = "csv"
    separator: str = ","
    train: Sequence[str] = ()
    items: Mapping[str, Any] = field(default_factory=dict)


def number(text: str) -> int:
    return int(text.replace("-", "").removeprefix("sku"))


def plain(session: str, item: str, time: int, _: int) -> Row:
    return {"session_id": session, "item_id": item, "timestamp": time}


def named(session: str, item: str, time: int, _: int) -> Row:
    return {"visit": session, "sku": item, "ts": time}


def typed(session: str, item: str, time: int, count: int) -> Row:
    kind = ("view", "view", "cart", "log-in")[count % 4]
    origin = ("mail", "search", None)[len(session) % 3]
    return {"visit": session, "sku": None if kind == "log-in" else item, "ts": time, "kind": kind, "from": origin}


def numbered(session: str, item: str, time: int, count: int) -> Row:
    return {"who": number(session) // 3, "what": number(item), "at": time * 1000 + count % 1000}


def zoned(session: str, item: str, time: int, _: int) -> Row:
    moment = datetime.datetime.fromtimestamp(time, datetime.timezone(datetime.timedelta(hours=1)))
    return {"item_id": session, "session_id": item, "at": moment.isoformat(sep=" ")}  # names that mean another column


def merged(session: str, item: str, time: int, count: int) -> Row:
    return {"session_id": session, "item_id": item, "when": time, "kind": ("view", "buy")[count % 2]}


ITEMS = {"source": "items.csv", "id": "code", "public": ["color"], "kinds": {"group": "category"}}
READINGS = {
    "names, types, weights, context": Reading(
        typed, {"session": "visit", "item": "sku", "time": "ts", "type": "kind", "types": ["view", "cart"],
                "context": ["from"], "dedupe": 0, "time_unit": "s"},
        train=("--weights", "view=1,cart=3"),
    ),
    "users, numbers, milliseconds, JSON lines": Reading(
        numbered, {"user": "who", "gap": 900, "item": "what", "time": "at", "time_unit": "ms", "max_session": 60},
        "jsonl",
    ),
    "zones, Parquet, items": Reading(
        zoned, {"session": "item_id", "item": "session_id", "time": "at", "min_session": 3, "min_prefix": 2},
        "parquet", items=ITEMS,
    ),
    "merged types, another separator, bad rows": Reading(
        merged, {"time": "when", "type": "kind", "types": ["view", "buy"], "merge_types": True, "separator": ";",
                 "bad_rows": "skip", "support_rounds": "until-stable"},
        separator=";",
    ),
}  # fmt: skip
ALONE = {
    "defaults": Reading(plain, {}),
    "names": Reading(named, {"session": "visit", "item": "sku", "time": "ts"}),
    "type": Reading(merged, {"time": "when", "type": "kind"}),
    "types": Reading(typed, {**READINGS["names, types, weights, context"].options, "context": []}),
    "weights": Reading(merged, {"time": "when", "type": "kind"}, train=("--weights", "view=1,buy=8")),
    "context": Reading(
        lambda *cells: {**plain(*cells), "from": "mail"}, {"context": ["from"]}
    ),
    "user": Reading(lambda *cells: {**plain(*cells), "who": cells[0]}, {"user": "who"}),
    "gap": Reading(lambda *cells: {**plain(*cells), "who": cells[0]}, {"user": "who", "gap": 60}),
    "integers": Reading(numbered, {"session": "who", "item": "what", "time": "at"}),
    "milliseconds": Reading(
        lambda session, item, time, _: {**plain(session, item, time * 1000, 0)}, {"time_unit": "ms"}
    ),
    "dedupe": Reading(plain, {"dedupe": 60}),
    "merged types": Reading(merged, {"time": "when", "type": "kind", "merge_types": True}),
    "items": Reading(plain, {}, items=ITEMS),
    "JSON lines": Reading(named, {"session": "visit", "item": "sku", "time": "ts"}, "jsonl"),
    "Parquet": Reading(named, {"session": "visit", "item": "sku", "time": "ts"}, "parquet"),
    "zones": Reading(zoned, {"session": "item_id", "item": "session_id", "time": "at"}),
    "bad rows": Reading(plain, {"bad_rows": "skip"}),
    "separator": Reading(plain, {"separator": "\t"}, separator="\t"),
    "support": Reading(plain, {"min_support": 3, "support_rounds": "until-stable"}),
    "lengths": Reading(plain, {"min_session": 4, "max_session": 20, "min_prefix": 3}),
}  # fmt: skip


def write_log(folder: Path, day: int, reading: Reading) -> None:
    (folder / "clicks").mkdir(exist_ok=True)
    path, rows = folder / "clicks" / f"{name_of(day)}.{reading.ending}", []
    for count, text in enumerate(rows_of(day)):
        session, item, time = text.split(",")
        rows.append(reading.row(session, item, int(time), count))
    random.Random(day).shuffle(rows)  # files need no order
    frame = pl.DataFrame(rows, infer_schema_length=None)
    if reading.ending == "parquet":
        frame.write_parquet(path)
    elif reading.ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        bad = ("no id", *[""] * (len(rows[0]) - 1)) if "skip" in reading.options.values() else ()
        path.write_text(
            frame.write_csv(separator=reading.separator) + (reading.separator.join(bad) + "\n" if bad else "")
        )


def write_settings(folder: Path, reading: Reading, how: str) -> Path:
    log = {"source": f"clicks/%Y-%m-%d.{reading.ending}", "min_support": 2, **reading.options}
    lines = ['bundles = "shop"', "[log]", *(f"{name} = {json.dumps(value)}" for name, value in log.items())]
    if reading.items:
        table = {name: value for name, value in reading.items.items() if name != "kinds"}
        lines += ["[items]", *(f"{name} = {json.dumps(value)}" for name, value in table.items())]
        lines += ["[items.kinds]", *(f'{name} = "{kind}"' for name, kind in reading.items["kinds"].items())]
    (folder / "shop.toml").write_text(
        "\n".join([*lines, "[train]", f'how = "{how}"', "[train.set]", *TRAINING, "[must_hold]", '"P@20" = 100'])
        + "\n[watch]\nseconds = 0\n"
    )
    return folder / "shop.toml"


def flags_of(reading: Reading) -> list[str]:
    """The options of `prepare` as a command line has them."""
    flags = []
    for name, value in {"min_support": 2, **reading.options}.items():
        flag = f"--{name.replace('_', '-')}"
        flags += [flag] if value is True else [flag, ",".join(value) if isinstance(value, list) else str(value)]
        if value == []:
            del flags[-2:]
    for name, value in reading.items.items():
        texts = {"source": ["--items", value], "id": ["--item-id", value], "public": ["--public", ",".join(value)]}
        kinds = value.items() if name == "kinds" else ()
        flags += texts.get(name, [part for column, kind in kinds for part in ("--item-kind", f"{column}={kind}")])
    return flags


def run_through(reading: Reading, folder: Path, monkeypatch: pytest.MonkeyPatch, trains: bool) -> None:
    """Days 0 to 3 are prepared and trained by hand; day 4 updates that bundle, and day 5 may train."""
    monkeypatch.chdir(folder)
    (folder / "items.csv").write_text("code,color,group\n" + "".join(f"sku-{n},red,g{n % 3}\n" for n in range(70)))
    for day in range(4):
        write_log(folder, day, reading)
    prepared = ["prepare", "clicks", f"clicks/*.{reading.ending}", "first.dataset", "--test-days", "0"]
    assert main([*prepared, *flags_of(reading)]) == 0
    settings = [part for text in TRAINING for part in ("--set", text.replace(" ", ""))]
    assert main(["train", "first.dataset", "shop/first.bundle", *reading.train, *settings]) == 0
    assert main(["bundles", "shop", "--promote", "first.bundle"]) == 0
    for day, how in ((4, "update"), (5, "train"))[: 1 + trains]:
        write_log(folder, day, reading)
        config = write_settings(folder, reading, how)
        monkeypatch.setattr("time.time", lambda day=day: now_after(day))
        assert main(["refresh", f"{config}", "--dry-run"]) == 0
        assert main(["refresh", f"{config}"]) == 0
        state = json.loads((folder / "shop/refresh/state.json").read_text())
        run = state["runs"][-1]
        assert (run["outcome"], run["done"]["plan"]["how"]) == ("promoted", how)
        assert run["done"]["measure"]["samples"] > 50
        assert run["done"]["judge"]["learning"]["metrics"]["P@20"]["second"] > 50
        bundle = Bundle.load("shop/current")
        assert bundle.model.learned_until is not None
        assert abs(bundle.model.learned_until // 1000 - now_after(day)) < 2.5 * 3600
        # The bundle reads the log's own files.
        stream = read_stream(f"clicks/{name_of(day)}.{reading.ending}", bundle.dataset["reader"])
        known = bundle.ids.lookup(stream.item_ids) >= 0
        assert known.mean() > 0.8
        assert (bundle.items is not None) == bool(reading.items)
        assert bundle.dataset["reader"]["types"] == list(reading.options.get("types", []))


@pytest.mark.parametrize("name", READINGS)
def test_a_bundle_of_this_log_is_refreshed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_through(READINGS[name], tmp_path, monkeypatch, trains=name.startswith(("names", "users")))


@pytest.mark.long(caught="here, by logs with several options")
@pytest.mark.parametrize("name", ALONE)
def test_a_bundle_of_a_log_with_this_option_is_refreshed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_through(ALONE[name], tmp_path, monkeypatch, trains=True)
