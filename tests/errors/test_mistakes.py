"""Mistakes that a new user makes: each gets one line that says what to do."""

from __future__ import annotations

import datetime
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from mtaw_fast import Dataset, Recommender, compare, evaluate, prepare
from mtaw_fast.cli import main
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import LearnError, UsageError
from mtaw_fast.items import ItemsReport
from mtaw_fast.online.settings import LearningSettings
from mtaw_fast.ranking.options import conditions_of
from tests.support.cli import failure
from tests.support.random_bundle import bundle_parts, contents, memory_parts, save_parts

LOG = "session_id,item_id,timestamp,event,empty\n" + "".join(
    f"{session},i{item},{1_700_000_000 + 1000 * session + item},view,\n" for session in range(20) for item in range(5)
)
PREPARE = ["prepare", "clicks", "log.csv", "out"]
ITEMS = ["items", "shop.bundle", "shop.csv"]
RECOMMEND = ["recommend", "shop.bundle", "sku-1"]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("log.csv").write_text(LOG)
    Path("utf16.csv").write_text(LOG, encoding="utf-16")
    Path("shop.csv").write_text("sku,stock\nsku-1,3\nsku-2,0\n")
    save_parts("shop.bundle", **bundle_parts() | memory_parts())
    return Path("shop.bundle")


@pytest.mark.parametrize(
    ("command", "status", "words"),
    [
        ([*PREPARE, "--type", "event", "--types", "View"], 1, "name some of its values with --types: 'view'"),
        ([*PREPARE, "--type", "event", "--types", "View"], 1, "'view'; did you mean 'view'?"),
        ([*PREPARE, "--type", "empty", "--types", "View"], 1, "is never 'View', it is empty; name the column"),
        (
            [*PREPARE, "--session", "session"],
            1,
            "has no column 'session'; it has 'session_id', 'item_id', 'timestamp', "
            "'event', 'empty'; did you mean 'session_id'?",
        ),
        ([*PREPARE, "--session", "visit"], 1, "'empty'; name the right column or the right separator"),
        (["train", "out", "shop2.bundle", "--set", "epoch=2"], 2, "no setting 'epoch'; did you mean 'epochs'?"),
        ([*RECOMMEND, "--explore", "1.5"], 2, "a share from 0 to 1, not 1.5; write 0.05 for one place in 20"),
        ([*RECOMMEND, "--session-id", "7"], 2, "name it with --placement"),
        ([*RECOMMEND, "--placement", "cart", "--state", "none"], 2, "--state 'none' does not exist"),
        (["why", "shop.bundle", "--placement", "two words"], 2, "a name has 1 to 64 letters"),
        (["serve", "shop.bundle", "--explore-share", "5"], 2, "not 5.0; write 0.05 for one place in 20"),
        (PREPARE, 1, "shorten it, as with --test-days 0.044"),
        ([*PREPARE, "--time", "session_id"], 1, "days from 1970-01-01 on, the test split takes"),
        ([*PREPARE, "--test-days", "0", "--items", "shop.csv"], 2, "in prepare --item-id COLUMN (columns: sku, stock)"),
        ([*PREPARE, "--test-days", "0", "--item-id", "sku"], 2, "give --items FILE, or leave --item-id out"),
        (["prepare", "clicks", "utf16.csv", "out"], 1, "is UTF-16 text; write it as UTF-8"),
        (ITEMS, 2, "--id COLUMN"),
        ([*ITEMS, "--id", "sku", "--availability", "stock"], 1, "--kind stock=boolean"),
        ([*RECOMMEND, "--rules", '{"limit": '], 2, "is not JSON"),
        ([*RECOMMEND, "--rules", "price < 3"], 2, "name a JSON file, or write {..}"),
        ([*RECOMMEND, "--rules", '{"filter": "price == 1"}'], 2, "'price'"),
    ],
)
def test_a_command_says_what_to_do(
    shop: Path, capsys: pytest.CaptureFixture[str], command: list[str], status: int, words: str
) -> None:
    assert words in failure(command, status, capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"top_k": 3}, "no option 'top_k'; its options are k,"),
        ({"rule": {}}, "no option 'rule'; did you mean 'rules'"),
        ({"at": datetime.datetime(2023, 12, 14)}, "has no zone; pass one"),
        ({"at": "2023-12-14"}, "or a datetime with a zone"),
        ({"rules": "{}"}, "json.loads"),
    ],
)
def test_recommend_says_what_to_do(shop: Path, options: dict[str, Any], words: str) -> None:
    recommender = Recommender.load(shop)
    with pytest.raises(UsageError, match=words):
        recommender.recommend(["sku-1"], **options)
    with pytest.raises(UsageError, match=words):
        recommender.session(["sku-1"]).recommend(**options)


@pytest.mark.parametrize(
    ("option", "words"), [("tim", "no option 'tim'; did you mean 'time'"), ("zone", "the options are session, item")]
)
def test_prepare_says_what_to_do(shop: Path, option: str, words: str) -> None:
    options: dict[str, Any] = {option: "timestamp"}
    with pytest.raises(UsageError, match=words):
        prepare("log.csv", "out", **options)


def test_a_moment_may_be_a_datetime_with_a_zone(shop: Path) -> None:
    catalog = Recommender.load(shop).catalog
    timed: Any = SimpleNamespace(model=SimpleNamespace(trends=object(), context=None))
    moment = datetime.datetime(2023, 12, 14, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=1)))
    assert conditions_of(timed, at=moment).at == 1_702_512_000_000
    assert conditions_of(catalog, at=moment).at is None


@pytest.mark.parametrize("option", ["learn", "state"])
def test_a_bundle_takes_no_log(shop: Path, option: Any) -> None:
    before = contents(shop)
    options: dict[str, Any] = {option: shop}
    with pytest.raises(LearnError, match="give a folder of its own"):
        Recommender.load(shop, **options)
    assert contents(shop) == before


def test_a_folder_of_learning_may_be_a_text(tmp_path: Path) -> None:
    assert LearningSettings(str(tmp_path)) == LearningSettings(tmp_path)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="folder=5 is not a path"):
        LearningSettings(5)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore::mtaw_fast.errors.DataWarning")
@pytest.mark.parametrize("measure", [evaluate, lambda bundle, data: compare(bundle, bundle, data)])
def test_another_catalog_is_not_measured(shop: Path, measure: Any) -> None:
    clicks = Sessions.from_lists([[1, 2, 3]] * 4)
    data = Dataset("news", clicks, Samples.from_sessions(clicks, 1), ItemIds.from_list([5, 6, 7, 8]))
    with pytest.raises(UsageError, match=r"knows none of the 4 items of news: its ids are like 'sku-0', .* like 5"):
        measure(shop, data)


def test_a_new_row_waits_and_a_new_column_is_said(shop: Path) -> None:
    recommender = Recommender.load(shop)
    report: ItemsReport = recommender.set_items([{"id": "new", "price": 3.0}], mode="patch")
    assert any("these rows wait for a first click" in note and "add_items" in note for note in report.notes)
    report = recommender.set_items([{"id": "sku-1", "prise": 3.0}], mode="patch")
    assert "column 'prise' is new in the table; did you mean 'price'?" in report.notes
    report = recommender.set_items([{"id": "sku-1", "price": 3.0}])
    assert "column 'prise' is not in the table any more" in report.notes


def test_new_items_are_those_of_services(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["items", str(shop), "--new"]) == 0
    assert capsys.readouterr().out == "0 new items: services count them; name the --learn or --state of yours\n"


@pytest.mark.parametrize(("zone", "said"), [(None, True), ("UTC", False), ("+01:00", False), ("Z", False)])
def test_times_without_a_zone_are_said_to_be_utc(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, zone: str | None, said: bool
) -> None:
    moments = np.datetime64("2023-11-14T00:00:00", "ms") + np.arange(100) * np.timedelta64(1, "m")
    times: Any = pl.Series(moments)
    if zone == "UTC":
        times = times.dt.replace_time_zone(zone)
    elif zone is not None:
        times = times.dt.strftime(f"%Y-%m-%dT%H:%M:%S{zone}")
    frame = pl.DataFrame({"session_id": np.arange(100) // 5, "item_id": np.arange(100) % 5, "timestamp": times})
    with caplog.at_level(logging.WARNING, "mtaw_fast.data"), pytest.warns(UserWarning, match="too few"):
        dataset = prepare(frame, tmp_path / "out", test_days=0)
    assert ("taken as UTC; if they are local times, add the offset" in caplog.text) == said
    assert dataset.train.times is not None
    hour = 3_600_000 if zone == "+01:00" else 0
    assert dataset.train.times.min() == moments[0].astype(np.int64) - hour
