"""The TOML file of a refresh."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

from mtaw_fast.errors import UsageError
from mtaw_fast.refreshing import RefreshConfig
from mtaw_fast.refreshing.config import DayChecks, LogSource, TrainRule, Watch

MINIMAL = 'bundles = "shop"\n[log]\nsource = "clicks/*.csv"\n'


def config_of(folder: Path, text: str) -> RefreshConfig:
    (folder / "shop.toml").write_text(text)
    return RefreshConfig.of(folder / "shop.toml")


def test_paths_are_from_the_files_folder_and_times_have_units(tmp_path: Path) -> None:
    config = config_of(tmp_path, f'every = "6h"\nkeep = 5\n{MINIMAL}types = ["view"]\ntype = "kind"\ndelay = "30m"')
    assert (config.bundles, config.log.source) == (tmp_path / "shop", f"{tmp_path}/clicks/*.csv")
    assert (config.every, config.log.delay, config.keep) == (21_600.0, 1800.0, 5)
    assert config.log.options.types == ("view",)
    config = config_of(tmp_path, 'bundles = "shop"\n[log]\nsource = "s3://logs/%Y-%m-%d.parquet"')
    assert config.log.source == "s3://logs/%Y-%m-%d.parquet"


def test_the_pages_example_and_its_defaults_are_configs(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "refresh.md").read_text()
    example, keys = re.findall(r"```toml\n(.*?)```", page, re.S)
    assert config_of(tmp_path, example).must_hold == {"P@20": 0.5}
    assert config_of(tmp_path, keys) == config_of(tmp_path, 'bundles = "shop"\n[log]\nsource = "clicks.csv"')
    written = tomllib.loads(keys)
    for kind, table in (
        (RefreshConfig, written), (LogSource, written["log"]), (TrainRule, written["train"]),
        (DayChecks, written["checks"]), (Watch, written["watch"]),
    ):  # fmt: skip
        assert {item.name for item in dataclasses.fields(kind)} - {"options", "config"} == set(table) - {
            "preset",
            "set",
        }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bundles =", "shop.toml: Invalid"),
        ('[log]\nsource = "a.csv"', "bundles is missing"),
        ('bundles = "shop"', "either log.source or log.learn"),
        (f'{MINIMAL}learn = "b"', "either log.source or log.learn"),
        (f"keeps = 3\n{MINIMAL}", "no key keeps; did you mean 'keep'"),
        (f'every = "1w"\n{MINIMAL}', "every = '1w'; write a number, or a time"),
        (f"every = 0\n{MINIMAL}", "every must be at least 60 seconds"),
        (f"keep = 0\n{MINIMAL}", "keep at least 1"),
        (f"{MINIMAL}[items]\nsauce = 'a'", "no key items.sauce; did you mean 'source'"),
        (f"{MINIMAL}[items]\nid = 'sku'", "items.source is missing"),
        (f"keep = 1.5\n{MINIMAL}", "keep = 1.5; write a whole number"),
        (f"{MINIMAL}tim = 'a'", "no key log.tim; did you mean 'time'"),
        (f"judge = 'never'\n{MINIMAL}", "judge = 'never' must be one of all, trainings"),
        (f"{MINIMAL}history = 1", "at least 2 periods"),
        (f"{MINIMAL}test_days = 2", "no key log.test_days"),
        (f"{MINIMAL}min_support = 'x'", "wrong type"),
        (f'{MINIMAL}[train]\nhow = "never"', "must be one of auto, train, update"),
        (f"{MINIMAL}[train.set]\nepoch = 1", "no setting 'epoch'"),
        (f'{MINIMAL}[must_hold]\n"P@21" = 1', "write a metric"),
        (f'{MINIMAL}[must_hold]\n"P@20" = -1', "from 0 on"),
        (f"{MINIMAL}[watch]\nseconds = -1", "watch.seconds = -1"),
        (f"checks = 1\n{MINIMAL}", r"\[checks\] must be a table"),
    ],
)
def test_a_wrong_key_or_value_is_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message) as error:
        config_of(tmp_path, text)
    assert "\n" not in str(error.value)
