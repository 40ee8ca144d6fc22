"""A shop's days from log to served bundle: what each run promotes, what a bad day and a kill leave."""

from __future__ import annotations

import errno
import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mtaw_fast import Recommender, refresh
from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.versions import current_in, promote
from mtaw_fast.cli import main
from mtaw_fast.errors import MtawError, UsageError
from mtaw_fast.evaluation.paired import Difference, SliceDifference
from mtaw_fast.online.log import open_log
from mtaw_fast.online.log.events import Click
from mtaw_fast.online.settings import LearningSettings
from mtaw_fast.refreshing.judge import lost
from mtaw_fast.refreshing.state import RefreshState, only_one
from mtaw_fast.refreshing.steps import STEPS, Steps
from tests.support.shop import BAD_DAYS, name_of, now_after, rows_of, write_config, write_day

pytestmark = pytest.mark.slow


class Killed(BaseException):
    """What no code catches."""


def state_of(shop: Path) -> RefreshState:
    return RefreshState(shop / "shop")


def known_until(shop: Path) -> int:
    until = Bundle.load(shop / "shop" / "current").model.learned_until
    assert until is not None
    return until // 1000


def last_click(day: int) -> int:
    return max(int(row.split(",")[2]) for row in rows_of(day))


def test_a_new_day_is_added_and_promoted_once(shop: Path) -> None:
    result = refresh(shop / "shop.toml", now=now_after(4))
    assert (result.outcome, result.bundle, result.refused) == ("promoted", "2026-03-06.bundle", {})
    assert result.run is not None
    assert result.run["done"]["plan"]["how"] == "update"
    assert known_until(shop) == last_click(4)
    assert Recommender.load(shop / "shop" / "current").recommend(["sku-64"], k=3).items  # an item of that day
    assert refresh(shop / "shop.toml", now=now_after(4)).outcome == "nothing"
    assert not state_of(shop).work.exists()
    metrics = (state_of(shop).folder / "metrics" / "refresh.prom").read_text()
    assert 'mtaw_refresh_last_seconds{what="refusal"} 0\n' in metrics
    assert 'mtaw_refresh_last_seconds{what="promotion"} 0\n' not in metrics


@pytest.mark.parametrize(
    ("days", "every", "bad"),
    [
        pytest.param(12, "5d", {6: "long", 8: "items", 10: "bots"}, id="twelve-days"),
        pytest.param(
            365, "60d", {100: "long", 200: "items", 300: "bots"}, id="a-year",
            marks=[pytest.mark.long(caught="here, by twelve days"), pytest.mark.timeout(3600)],
        ),
    ],
)  # fmt: skip
def test_a_shop_that_drifts_with_three_bad_days(days: int, every: str, bad: dict[int, str], shop: Path) -> None:
    config, trained, hits = write_config(shop, every), list[int](), list[float]()
    for day in range(4, days):
        write_day(shop, day, BAD_DAYS[bad[day]](day) if day in bad else None)
        result = refresh(config, now=now_after(day))
        if day in bad:
            assert result.outcome == "refused"
            assert any(text.startswith(f"{bad[day]}:") for text in result.refused[name_of(day)])
            assert result.bundle == f"{name_of(day - 1)}.bundle"
            continue
        assert (result.outcome, result.bundle) == ("promoted", f"{name_of(day)}.bundle")
        assert result.run is not None
        hits.append(result.run["done"]["measure"]["frozen"])
        trained += [day] if result.run["done"]["plan"]["how"] == "train" else []
        assert known_until(shop) == last_click(day)
    if days == 12:
        assert trained == [9]  # five days after the first training, on day 3, is a bad one
    assert min(hits) > 90  # the newest item is one of 60
    assert (Bundle.load(shop / "shop" / "current").ids.lookup(["other-1", "sku-5"]) >= 0).tolist() == [False, days < 60]
    state = state_of(shop)
    assert [day for day, known in state.days.items() if "refused" in known] == [
        name_of(day) for day in bad if day >= days - 30
    ]
    assert [path.stem for path in sorted(state.days_folder.iterdir())] == state.accepted()
    bundles = sorted(path.name for path in (shop / "shop").glob("*.bundle"))
    assert 3 <= len(bundles) <= 5
    promote(shop / "shop", bundles[0])  # the last good ones are there to go back to


def test_no_click_is_lost_between_learning_compaction_and_refresh(shop: Path) -> None:
    config = write_config(shop)
    config.write_text(config.read_text().replace('source = "clicks/%Y-%m-%d.csv"', 'learn = "learned"'))
    log = open_log(LearningSettings(shop / "learned"))

    def append(day: int) -> None:
        rows = [row.split(",") for row in rows_of(day)]
        log.append([Click(session, item, int(time) * 1000, trusted=True) for session, item, time in rows])

    for day in range(4, 7):
        append(day)
        with closing(Recommender.load(shop / "shop" / "current", learn=shop / "learned")) as serving:
            serving.catch_up()
            if day == 5:
                serving.forget(forgotten := rows_of(4)[0].split(",")[0])
                serving.compact()
        if day != 5:
            assert refresh(config, now=now_after(day)).outcome == "promoted"
    sessions = pl.read_parquet(state_of(shop).file_of(name_of(4)))[":owner"]
    assert len(sessions) > 100
    assert forgotten not in sessions
    with closing(Recommender.load(shop / "shop" / "current", learn=shop / "learned")) as serving:
        serving.catch_up()
        n_forgotten = sum(row.split(",")[0] == forgotten for row in rows_of(4))
        assert serving.bundle.model.sessions.n_clicks == sum(len(rows_of(day)) for day in range(7)) - n_forgotten
    log.close()


def test_a_day_that_was_late_or_repaired_is_taken_then(shop: Path) -> None:
    write_day(shop, 5, BAD_DAYS["short"](5))
    assert refresh(shop / "shop.toml", now=now_after(5)).outcome == "refused"
    assert known_until(shop) == last_click(4)  # the day before was new, too
    write_day(shop, 5)
    assert refresh(shop / "shop.toml", now=now_after(5)).outcome == "promoted"
    assert known_until(shop) == last_click(5)


@pytest.mark.parametrize("every", ["5d", "1d"])
def test_a_run_that_is_killed_goes_on_and_leaves_the_incumbent_served(
    every: str, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(shop, every)
    done = list[str]()

    def killed(name: str, after: bool) -> Any:
        step = getattr(Steps, f"_{name}")

        def die(self: Steps) -> Any:
            done.append(name)
            if after:
                step(self)
            raise Killed

        return die

    for name in STEPS:
        for after in (False, True):
            with monkeypatch.context() as patch:
                patch.setattr(Steps, f"_{name}", killed(name, after))
                with pytest.raises(Killed):
                    refresh(config, now=now_after(4))
            promoted = STEPS.index(name) + after > STEPS.index("promote")
            assert current_in(shop / "shop") == ("2026-03-06.bundle" if promoted else "2026-03-05.bundle")
            Bundle.load(shop / "shop" / "current")
    assert done == [name for name in STEPS for _ in range(2)]  # no step that was done is done again
    result = refresh(config, now=now_after(4))
    assert (result.outcome, result.bundle) == ("promoted", "2026-03-06.bundle")
    assert result.run is not None
    assert result.run["done"]["judge"]["samples"] > 100
    assert known_until(shop) == last_click(4)


def test_a_failing_step_starts_over_at_the_third_time(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise MtawError("cannot write shop: no space left on device; free some space")

    with monkeypatch.context() as patch:
        patch.setattr("mtaw_fast.refreshing.steps.update", full)
        for _ in range(3):
            with pytest.raises(MtawError, match="no space"):
                refresh(shop / "shop.toml", now=now_after(4))
            assert current_in(shop / "shop") == "2026-03-05.bundle"
    assert [run["outcome"] for run in state_of(shop).runs] == ["promoted", "failed"]
    assert refresh(shop / "shop.toml", now=now_after(4)).outcome == "promoted"


@pytest.mark.long(caught="test_a_refresh_on_a_full_disk_says_so_and_ends_in_the_same_bytes")
def test_a_full_disk_at_a_rename_leaves_a_bundle_served(
    begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = list[str]()  # `full_disk` has other writes, on hosts that let a user mount a disk
    for allowed in range(3, 100, 6):
        shop, left = Path(shutil.copytree(begun, tmp_path / f"{allowed}", symlinks=True)), [allowed]

        def replace(source: Path, target: Path, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            source.replace(target)

        with monkeypatch.context() as patch:
            patch.setattr("mtaw_fast.system.host.replace", replace)
            try:
                refresh(shop / "shop.toml", now=now_after(4))
            except MtawError as error:
                failed.append(str(error))
        Bundle.load(shop / "shop" / "current")
        assert refresh(shop / "shop.toml", now=now_after(4)).bundle == "2026-03-06.bundle"
        if left[0] >= 0:
            break
    assert len(failed) > 4
    assert not any("\n" in text for text in failed)


def test_two_at_once_the_second_says_so(shop: Path) -> None:
    with only_one(shop / "shop"), pytest.raises(UsageError, match="another refresh of"):
        refresh(shop / "shop.toml", now=now_after(4))


@pytest.mark.parametrize("every", ["1d", "5d"])
def test_each_run_takes_the_item_table_and_what_is_new_in_it(shop: Path, every: str) -> None:
    config = write_config(shop, every)
    config.write_text(config.read_text() + '[items]\nsource = "items.csv"\nid = "sku"\n')
    (shop / "items.csv").write_text("sku,color\nsku-7,red\nnever,red\n")
    assert refresh(config, now=now_after(4)).outcome == "promoted"
    write_day(shop, 5)
    (shop / "items.csv").write_text("sku,color\nsku-7,red\nnever,red\ntoday,red\n")
    assert refresh(config, now=now_after(5)).outcome == "promoted"
    items = Bundle.load(shop / "shop" / "current").items
    assert items is not None
    assert "color" in items.columns
    assert [*items.new] == ["today"]


@pytest.mark.parametrize("every", ["1d", "5d"], ids=["training", "update"])
def test_what_is_worse_is_not_promoted(every: str, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write_config(shop, every)
    with monkeypatch.context() as patch:
        patch.setattr(
            "mtaw_fast.refreshing.steps.judged",
            lambda *_: {"worse": ["P@20 -4.00, at most -2.00"], "verdict": "It is worse."},
        )
        result = refresh(config, now=now_after(4))
    assert result.run is not None
    if every == "1d":
        assert result.run["done"]["final"]["made"] == "updated"  # the winner, with the day
        assert known_until(shop) == last_click(4)
        return
    assert (result.outcome, result.bundle) == ("kept", "2026-03-05.bundle")
    write_day(shop, 5)
    result = refresh(config, now=now_after(5))
    assert result.run is not None
    assert result.run["done"]["plan"]["why"] == "the last update was worse than the bundle before it"
    assert (result.outcome, known_until(shop)) == ("promoted", last_click(5))


def test_an_update_is_judged_by_what_it_does_not_know(shop: Path) -> None:
    result = refresh(write_config(shop), now=now_after(4))
    assert result.run is not None
    done, begin = result.run["done"], result.run["begin"]
    assert begin < done["plan"]["from"] < result.run["end"]  # the day before is known: the day is halved
    judge = done["judge"]
    assert judge["samples"] > 100
    for state in ("frozen", "learning"):
        assert {"P@20", "MRR@20"} <= set(judge[state]["metrics"])
        assert {"session length", "hour (UTC)"} <= set(judge[state]["slices"])
    # A day that is added two days later is judged by all of the newest one.
    for day in (5, 6):
        write_day(shop, day, BAD_DAYS["bots"](day) if day == 5 else None)
    assert refresh(shop / "shop.toml", now=now_after(5)).outcome == "refused"
    write_day(shop, 5)
    result = refresh(shop / "shop.toml", now=now_after(6))
    assert result.run is not None
    assert result.run["done"]["plan"]["from"] == result.run["begin"]
    assert result.run["done"]["judge"]["frozen"]["metrics"]["P@20"]["difference"] != 0


def test_an_update_is_not_judged_where_the_settings_say_so(shop: Path) -> None:
    result = refresh(write_config(shop, more="judge = 'trainings'\n"), now=now_after(4))
    assert result.run is not None
    assert (result.outcome, result.run["done"]["judge"]) == ("promoted", None)


def test_an_old_bundle_starts_a_run_with_a_period_that_was_tried(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(
            "mtaw_fast.refreshing.steps.judged", lambda *_: {"worse": ["P@20 -4.00, at most -2.00"], "verdict": ""}
        )
        assert refresh(shop / "shop.toml", now=now_after(4)).outcome == "kept"
    write_day(shop, 5, BAD_DAYS["bots"](5))
    write_day(shop, 6, BAD_DAYS["bots"](6))
    assert refresh(shop / "shop.toml", now=now_after(5)).outcome == "refused"
    assert known_until(shop) == last_click(3)
    result = refresh(shop / "shop.toml", now=now_after(6))  # the last click is three days old
    assert result.run is not None
    assert (result.run["day"], result.run["outcome"]) == (name_of(4), "promoted")
    assert known_until(shop) == last_click(4)


def test_a_metric_is_worse_beyond_its_margin_where_that_is_shown() -> None:
    metrics = {
        "P@20": Difference(60.0, 57.0, -3.0, (-4.0, -2.0)), "MRR@20": Difference(30.0, 29.0, -1.0, (-3.0, 1.0)),
        "P@10": Difference(50.0, 40.0, -10.0), "coverage@20": Difference(50.0, 40.0, -10.0),
    }  # fmt: skip
    assert list(lost(metrics, {}, {"P@20": 2.5, "MRR@20": 0.0, "recall@20": 0.0})) == ["P@20 -3.00, at most -2.50"]
    # Too few sessions for an interval show nothing; a metric of the whole catalog never has one.
    assert list(lost(metrics, {}, {"P@20": 3.0, "P@10": 1.0, "coverage@20": 2.0})) == [
        "coverage@20 -10.00, at most -2.00"
    ]
    for holds, found in ((True, ["P@20 -3.00 where type is cart"]), (False, [])):
        slices = {"type": {"cart": SliceDifference(90, 30, {"P@20": metrics["P@20"]}, holds)}}
        assert list(lost({}, slices, {"P@20": 2.0})) == found


def test_a_bundle_that_someone_promotes_meanwhile_stays(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refresh(shop / "shop.toml", now=now_after(4))
    write_day(shop, 5)
    check = Steps._check

    def meanwhile(self: Steps) -> None:
        check(self)
        promote(shop / "shop", "2026-03-05.bundle")

    monkeypatch.setattr(Steps, "_check", meanwhile)
    result = refresh(shop / "shop.toml", now=now_after(5))
    assert (result.outcome, result.bundle) == ("kept", "2026-03-05.bundle")


def test_the_command_plans_refuses_and_promotes(
    shop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(path for path in (shop / "shop").rglob("*") if path.is_file())
    monkeypatch.setattr("time.time", lambda: now_after(4))
    assert main(["refresh", f"{write_config(shop, '1d')}", "--dry-run"]) == 0
    plan = capsys.readouterr().out
    assert "2026-03-06: train (the last training was 1 days ago)" in plan
    assert "memory about" in plan
    assert sorted(path for path in (shop / "shop").rglob("*") if path.is_file()) == before
    assert main(["refresh", f"{write_config(shop)}"]) == 0
    out = capsys.readouterr()
    assert "promoted: 2026-03-06.bundle is current" in out.out
    assert "2026-03-06: final\n" in out.err
    monkeypatch.setattr("time.time", lambda: now_after(5))
    assert main(["refresh", f"{shop}/shop.toml", "--json"]) == 1
    out = capsys.readouterr()
    assert json.loads(out.out)["outcome"] == "refused"
    assert "mtaw-fast: the log of 2026-03-07 is refused, and nothing was trained on it: missing" in out.err


def test_a_log_that_is_not_there_is_refused_once(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(shop)
    config.write_text(config.read_text().replace("clicks/%Y-%m-%d.csv", "clicks/*.tsv"))
    for more in (["--dry-run"], []):
        assert main(["refresh", f"{config}", "--at", f"{now_after(4) * 1000:.0f}", *more]) == (not more)
        lines = [line for line in capsys.readouterr().out.splitlines() if "clicks/*.tsv" in line]
        assert lines == [f"2026-03-06: refused, missing: no file matches the pattern {shop}/clicks/*.tsv; check it"]
    config.write_text(config.read_text().replace("clicks/*.tsv", "head.csv"))
    (shop / "head.csv").write_text("session_id,item_id,timestamp\n")
    result = refresh(config, now=now_after(4))
    assert [text.partition(":")[0] for text in result.refused["2026-03-06"]] == ["empty"]


def test_mlflow_has_the_trainings_and_the_judgment(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.chdir(tmp_path)  # artifacts go there
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    config = write_config(shop, "1d", f"mlflow = '{uri}'\nreport = 'reports'\n")
    assert refresh(config, now=now_after(4)).outcome == "promoted"
    client = mlflow.MlflowClient(uri)
    runs = {
        run.info.run_name: run for run in client.search_runs([it.experiment_id for it in client.search_experiments()])
    }
    assert set(runs) == {"2026-03-06 candidate", "2026-03-06 final", "2026-03-06 refresh"}
    record = runs["2026-03-06 refresh"]
    assert {"measure/frozen", "judge/P_at_20 frozen", "judge/P_at_20 learning"} <= set(record.data.metrics)
    assert (record.data.tags["how"], record.data.tags["outcome"]) == ("train", "promoted")
    files = {file.path for file in client.list_artifacts(record.info.run_id)}
    assert {"2026-03-06.html", "2026-03-06.json"} <= files
