"""The feedback log as sessions: against a plain count of the same lines."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import convert

from mtaw_fast.cli import main
from mtaw_fast.data.moments import moment_of
from mtaw_fast.errors import DataError, UsageError
from mtaw_fast.experiment import Question, analyze, read_feedback
from mtaw_fast.experiment.feedback_file import FeedbackFile, Report
from mtaw_fast.experiment.feedback_log import NO_RULES, _Counting
from mtaw_fast.experiment.lines import RankingLine, ReportLine
from tests.support.redis_server import Redis
from tests.support.redis_server import redis as redis

HOUR, DAY = 3_600_000, 86_400_000
BEGIN = 1_764_288_000_000  # the begin of a day


def ranking(number: int, session: str, time: int, bundle: str = "old", **more: Any) -> dict[str, Any]:
    """Return a line of an answered ranking."""
    return {
        "time": time, "recommendation": f"0123456789abcdef-{number:036x}", "session": session,
        "version": "0123456789abcdef", "bundle": bundle, "share": 0.5, "placement": "", "rules": "",
        "rules_share": 1.0, "route": "recommend",
        "fallback": False, "items": ["sku-1", "sku-2"], "draws": [], "clicks": [], **more,
    }  # fmt: skip


def report(number: int, what: str, time: int, *items: str, values: list[float] | None = None) -> dict[str, Any]:
    """Return a line of a report."""
    return {
        "time": time, "recommendation": f"0123456789abcdef-{number:036x}", "version": "0123456789abcdef",
        "session": "", "what": what, "items": list(items), "positions": [0] * len(items),
        "values": values or [0.0] * len(items),
    }  # fmt: skip


def written(folder: Path, rankings: list[dict[str, Any]], reports: list[dict[str, Any]]) -> Path:
    """Write the lines by day."""
    folder.mkdir(exist_ok=True)
    for name, lines in (("rankings", rankings), ("feedback", reports)):
        for line in lines:
            day = np.datetime64(line["time"], "ms").astype("datetime64[D]")
            with (folder / f"{name}-{day}.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
    return folder


def test_sessions_are_those_of_a_plain_count(tmp_path: Path) -> None:
    """Random rankings and reports, some sent twice, over three days."""
    rng = random.Random(3)
    rankings, reports = [], []
    counts: dict[str, dict[str, Any]] = {}
    for number in range(600):
        session = f"s-{rng.randrange(150)}"
        arm = ("old", "new")[int(session[2:]) % 2]
        time = BEGIN + rng.randrange(3 * DAY - 2 * HOUR)
        rankings.append(ranking(number, session, time, arm))
        totals = counts.setdefault(
            session, {"arm": arm, "rankings": 0, "shown": 0, "clicked": 0, "bought": 0, "value": 0.0}
        )
        totals["rankings"] += 1
        if rng.random() < 0.8:
            reports.append(report(number, "shown", time + 5, "sku-1", "sku-2"))
            totals["shown"] += 1
            if rng.random() < 0.4:
                reports += [report(number, "clicked", time + HOUR, "sku-2")] * rng.choice((1, 1, 3))
                totals["clicked"] += 1
                if rng.random() < 0.5:
                    reports.append(report(number, "bought", time + HOUR, "sku-2", values=[19.5]))
                    totals["bought"] += 1
                    totals["value"] += 19.5
    rankings.sort(key=lambda line: line["time"])
    reports.sort(key=lambda line: line["time"])
    table = read_feedback(str(written(tmp_path / "kept", rankings, reports)))
    assert len(table) == len(counts)
    assert table.duplicates == len(reports) - len({json.dumps(line) for line in reports})
    began: dict[str, int] = {}
    for line in rankings:
        began.setdefault(line["session"], line["time"])
    for row, session in enumerate(sorted(began, key=lambda name: began[name])):
        totals = counts[session]
        values = {name: getattr(table, name)[row] for name in ("rankings", "shown", "clicked", "bought", "value")}
        assert values == {name: totals[name] for name in values}
        assert table.arms[table.arm[row]] == totals["arm"]
        assert table.began[row] == began[session]
    assert table.reports_shown
    assert table.opportunities is table.shown


def test_what_does_not_count_is_named(tmp_path: Path) -> None:
    rankings = [
        ranking(1, "a", BEGIN), ranking(2, "", BEGIN), ranking(3, "b", BEGIN), ranking(4, "b", BEGIN + 1, "new"),
        ranking(5, "c", BEGIN + 2, "new"), ranking(6, "d", BEGIN + 3 * DAY, "new", share=0.3),
    ]  # fmt: skip
    reports = [
        report(1, "clicked", BEGIN + HOUR, "x"), report(9, "clicked", BEGIN + HOUR, "x"),
        report(5, "clicked", BEGIN + 30 * HOUR, "x"),
    ]  # fmt: skip
    folder = written(tmp_path / "kept", rankings, reports)
    for kind in ("rankings", "feedback"):
        (folder / f"{kind}-2026-01-01.jsonl").write_bytes(b'\n{"time": 17642\n')
    table = read_feedback(str(folder))
    assert (len(table), table.without_session, table.moved, table.unmatched, table.late) == (3, 1, 1, 1, 1)
    assert table.changed == BEGIN + 3 * DAY
    notes = " ".join(analyze(table).notes)
    for words in ("without a session's id", "two arms", "does not have", "after the window", "weights changed at"):
        assert words in notes
    since = read_feedback(str(folder), since=BEGIN + 2, until=BEGIN + DAY)
    assert (since.clicked.tolist(), since.without_session, since.unmatched) == ([0.0], 0, 1), "1 is left out, and known"
    with pytest.raises(DataError, match="holds no feedback"):
        read_feedback(str(tmp_path / "nothing"))
    (folder / "rankings-2026-01-01.jsonl").write_bytes(b"{}\n")
    with pytest.raises(DataError, match="no ranking"):
        read_feedback(str(folder))
    single = tmp_path / "shop.feedback"  # with rankings next to it
    (tmp_path / "shop.feedback.rankings").write_text(json.dumps(rankings[0]) + "\n")
    single.write_text(json.dumps(reports[0]) + "\n")
    assert read_feedback(str(single)).clicked.tolist() == [1.0]
    single.write_text('{"time": 5, "recommendation": "0", "clicked": ["x"]}\n')
    with pytest.raises(DataError, match=r"feedback has a line that is no report .*`version`.*; remove the line"):
        read_feedback(str(single))


def experiment(tmp_path: Path, effect: float, n: int = 1_500) -> Path:
    """Write an experiment over four days: B's sessions click with a higher probability."""
    rng = random.Random(5)
    rankings, reports = [], []
    for number in range(n):
        arm, time = rng.choice(("A", "B")), BEGIN + number * 4 * DAY // n
        rankings.append(ranking(number, f"s-{number}", time, arm))
        if rng.random() < 0.3 + effect * (arm == "B"):
            reports.append(report(number, "clicked", time + 9, "sku-1"))
    return written(tmp_path / "kept", rankings, reports)


def test_the_command_says_which_arm_is_better(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = experiment(tmp_path, 0.2)
    assert main(["experiment", str(folder), "--planned", "1500", "--effect", "20%"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("B has ")
    assert "more clicked rankings of 100 than A" in text
    assert "as expected" in text
    assert main(["experiment", str(folder), "--json", "--planned", "1500", "--control", "B"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [arm["name"] for arm in result["arms"]] == ["B", "A"]
    assert result["differences"][0]["interval"][1] < 0
    assert [day["day"] for day in result["days"]] == ["2025-11-28", "2025-11-29", "2025-11-30", "2025-12-01"]
    assert result["days"][-1]["differences"][0] == result["differences"][0]
    assert main(["experiment", str(folder), "--json", "--shares", "B=.5,A=.5"]) == 0  # the first is the control
    assert json.loads(capsys.readouterr().out)["arms"][0]["name"] == "B"
    assert main(["experiment", str(folder), "--shares", "A=.8,B=.2"]) == 0
    assert "not split as the weights say" in capsys.readouterr().out
    assert main(["experiment", str(folder), "--shares", "A=.8,C=.2"]) == 2
    assert "no arm 'C'" in capsys.readouterr().err


def test_a_day_without_an_arm_is_plain_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second arm begins on the second day: on the first there is no difference, and no relative one."""
    rankings = [ranking(number, f"s-{number}", BEGIN + number * HOUR, "A") for number in range(24)]
    rankings += [ranking(number, f"s-{number}", BEGIN + number * HOUR, "AB"[number % 2]) for number in range(24, 48)]
    reports = [report(number, "clicked", BEGIN + number * HOUR + 9, "sku-1") for number in range(0, 48, 3)]
    assert main(["experiment", str(written(tmp_path / "kept", rankings, reports)), "--json"]) == 0
    result = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert result["days"][0]["differences"][0]["relative"] is None
    assert result["days"][1]["differences"][0]["relative"] is not None


def test_no_arm_is_better_without_a_difference_or_enough_sessions(tmp_path: Path) -> None:
    table = read_feedback(str(experiment(tmp_path, 0.0)))
    assert analyze(table).verdict.startswith("No arm is better so far")
    few = read_feedback(str(tmp_path / "kept"), until=BEGIN + 2 * HOUR)
    assert analyze(few).verdict.startswith("It is too early")
    rankings = [ranking(1, "a", BEGIN, "A"), ranking(2, "a", BEGIN + 1, "B"), ranking(3, "c", BEGIN + 2, "C")]
    moved = read_feedback(str(written(tmp_path / "moved", rankings, [])))
    result = analyze(moved, Question(shares={"A": 1, "B": 1}))
    assert result.verdict.startswith("It is too early")
    assert result.shares["observed"] == {"A": 0, "B": 0}
    with pytest.raises(UsageError, match="no session to compare"):
        analyze(read_feedback(str(tmp_path / "kept"), since=BEGIN + 90 * DAY))
    with pytest.raises(UsageError, match="no metric"):
        Question(metric="clicks")


def test_polars_reads_a_folder_at_once(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    folder = experiment(tmp_path, 0.1)
    rankings = polars.read_ndjson(folder / "rankings-*.jsonl")
    reports = polars.read_ndjson(folder / "feedback-*.jsonl")
    joined = reports.explode("items", "positions", "values").join(rankings, on="recommendation")
    rates = joined.group_by("bundle").len().sort("bundle")["len"].to_list()
    table = read_feedback(str(folder))
    assert rates == [table.clicked[table.arm == table.arms.index(arm)].sum() for arm in ("A", "B")]


def test_reports_that_come_while_the_log_is_read_wait_for_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their rankings may have come after the rankings were read. And nobody waits who stores meanwhile."""
    path = tmp_path / "kept"
    file = FeedbackFile(path)

    def add(number: int) -> None:
        file.append([convert(ranking(number, "a", BEGIN), RankingLine)], [])
        file.append([], [Report(convert(report(number, "clicked", BEGIN + 5, "x"), ReportLine), None)])

    add(1)
    plain = _Counting.add

    def later(self: _Counting, *arguments: Any) -> None:
        monkeypatch.undo()
        add(2)
        file.append([], [Report(convert(report(9, "clicked", BEGIN + 9, "x"), ReportLine), None)])
        plain(self, *arguments)

    monkeypatch.setattr(_Counting, "add", later)
    table = read_feedback(str(path))
    assert (table.clicked.tolist(), table.unmatched) == ([1.0], 0)
    assert read_feedback(str(path)).unmatched == 1


def test_reports_that_come_to_redis_while_it_is_read_wait_for_the_next_look(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = pytest.importorskip("redis").Redis.from_url(redis.url)

    def add(number: int) -> None:
        client.xadd("mtaw:feedback:rankings", {"f": json.dumps(ranking(number, "a", BEGIN))})
        client.xadd("mtaw:feedback", {"f": json.dumps(report(number, "clicked", BEGIN + 5, "x"))})

    add(1)
    plain = FeedbackFile.add_lines

    def later(self: FeedbackFile, *lines: Any) -> None:
        add(2)
        plain(self, *lines)

    monkeypatch.setattr(FeedbackFile, "add_lines", later)
    table = read_feedback(redis.url)
    assert (table.clicked.tolist(), table.unmatched) == ([1.0], 0)


def test_lines_are_exported_and_imported_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Twice too; with ids that are no UTF-8, and a file and Redis as sources."""
    odd = "\udcff"
    rankings = [ranking(number, f"s-{number % 7}", BEGIN + number * HOUR, items=["a", 5, odd]) for number in range(60)]
    rankings.append(ranking(60, "t\0ü", BEGIN + 3 * DAY, fallback=True, rules="sale"))
    rankings[7]["draws"] = [{"position": 2, "candidates": [5, "b", odd], "chance": 0.25}]
    rankings[7]["clicks"] = [odd, 3]
    reports = [report(number, "clicked", BEGIN + number * HOUR + 5, "x", odd) for number in range(61)]
    lines, kept = written(tmp_path / "lines", rankings, reports), tmp_path / "kept"
    kept.mkdir()
    for _ in range(2):
        assert main(["experiment", str(kept), "--import", str(lines)]) == 0
        assert "61 rankings and 61 reports" in capsys.readouterr().out
    assert main(["experiment", str(kept), "--export", str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in lines.iterdir())
    for path in lines.iterdir():
        copy = tmp_path / "out" / path.name
        assert list(map(json.loads, copy.open())) == list(map(json.loads, path.open()))
        assert copy.stat().st_mode & 0o777 == 0o600
    results = [read_feedback(str(where)) for where in (lines, kept, tmp_path / "out")]
    assert len({repr(result) for result in results}) == 1
    assert main(["experiment", str(kept), "--export", str(tmp_path / "out")]) == 2
    assert "it holds JSON lines already; name another folder" in capsys.readouterr().err
    assert main(["experiment", str(tmp_path / "new"), "--import", str(kept)]) == 2
    assert "it holds no JSON lines; export it first" in capsys.readouterr().err
    (lines / "feedback-2025-11-28.jsonl").open("a").write("{}\n")
    assert main(["experiment", str(tmp_path / "new"), "--import", str(lines)]) == 1
    assert "a line that is no report" in capsys.readouterr().err
    assert not (tmp_path / "new").exists(), "an import that fails adds nothing"


def test_which_arms_change_the_weights(tmp_path: Path) -> None:
    """Not one that answers late; but one in place of another, whose share it takes, though the other arm's stays."""
    rankings = [ranking(number, f"s-{number}", BEGIN + number * HOUR, "A", share=0.98) for number in range(30)]
    rankings.append(ranking(30, "s-30", BEGIN + 30 * HOUR, "B", share=0.02))
    folder = str(written(tmp_path / "late", rankings, []))
    assert read_feedback(folder).changed is None
    assert read_feedback(folder, window=HOUR).changed is None
    rankings = [ranking(number, f"s-{number}", BEGIN + number, "AB"[number % 2]) for number in range(20)]
    rankings += [ranking(20 + number, f"t-{number}", BEGIN + HOUR + number, "CA"[number % 2]) for number in range(20)]
    assert read_feedback(str(written(tmp_path / "kept", rankings, []))).changed == BEGIN + HOUR


def test_the_time_of_a_change_leaves_out_what_was_before(tmp_path: Path) -> None:
    """Also with several rankings in a second."""
    before = [ranking(number, f"s-{number}", BEGIN + 100 + number, "AB"[number % 2]) for number in range(100)]
    shares = {"A": 0.9, "B": 0.1}
    after = [
        ranking(200 + number, f"t-{number}", BEGIN + 900 + number, arm, share=shares[arm])
        for number, arm in enumerate("ABABA")
    ]
    folder = str(written(tmp_path / "kept", before + after, []))
    (note,) = [note for note in analyze(read_feedback(folder)).notes if "weights changed" in note]
    since = moment_of("--since", note.rpartition("--since ")[2].removesuffix("."))
    table = read_feedback(folder, since)
    assert table.changed is None
    assert len(table) == 4  # B's share is seen to change with its first ranking


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--control", "B", "--shares", "A=1"), "the control B has no weight"),
        (("--shares", "A=-1,B=2"), "the weight of A must be 0 or above"),
        (("--shares", "A=nan,B=1"), "the weight of A must be 0 or above"),
        (("--shares", "A=.5,A=.5"), "with each arm once"),
        (("--window", "nan"), "--window nan must be above 0"),
        (("--window", "-1"), "--window -1 must be above 0"),
        (("--effect", "inf"), "effect inf must be above 0 and finite"),
    ],
)
def test_options_without_a_meaning_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], words: str
) -> None:
    folder = experiment(tmp_path, 0.1, 200)
    assert main(["experiment", str(folder), *options]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("address", ["redis://127.0.0.1:1/0", "redis://127.0.0.1:port/0"])
def test_a_redis_that_cannot_be_read_is_one_line(capsys: pytest.CaptureFixture[str], address: str) -> None:
    pytest.importorskip("redis", reason="redis is not installed")
    assert main(["experiment", address]) == 1
    assert "the stream mtaw:feedback cannot be read" in capsys.readouterr().err


def test_the_days_that_are_left_count_the_arms_that_are_compared(tmp_path: Path) -> None:
    rankings = [
        ranking(number, f"s-{number}", BEGIN + number * DAY // 300, "ABC"[number % 3], share=1 / 3)
        for number in range(900)
    ]
    reports = [report(number, "clicked", rankings[number]["time"] + 5, "x") for number in range(0, 900, 4)]
    table = read_feedback(str(written(tmp_path / "kept", rankings, reports)))
    assert analyze(table).plan["sessions_a_day"] == pytest.approx(300, rel=0.01)
    plan = analyze(table, Question(shares={"A": 1.0, "B": 1.0})).plan
    assert plan["sessions_a_day"] == pytest.approx(200, rel=0.01)
    assert plan["days"] == pytest.approx(plan["sessions"] / 200, rel=0.01)


def test_less_than_a_day_says_nothing_of_days(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rankings = [ranking(number, f"s-{number}", BEGIN + number, "AB"[number % 2]) for number in range(900)]
    reports = [report(number, "clicked", rankings[number]["time"] + 5, "x") for number in range(0, 900, 5)]
    folder = str(written(tmp_path / "kept", rankings, reports))
    plan = analyze(read_feedback(folder)).plan
    assert plan["sessions"] is not None
    assert (plan["sessions_a_day"], plan["days"]) == (None, None)
    assert main(["experiment", folder]) == 0
    assert "(the log has less than a day to estimate how many days that takes)" in capsys.readouterr().out


def test_a_placement_and_its_rule_sets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rankings, reports = [], []
    for number in range(400):
        bundle, arm = ("old", "new")[number // 2 % 2], ("", "bury")[number % 2]
        at = {"placement": "cart", "rules": arm, "rules_share": 0.5}
        rankings.append(ranking(3 * number, f"s-{number}", BEGIN + number, bundle, **at))
        rankings.append(ranking(3 * number + 1, f"s-{number}", BEGIN + number, bundle, placement="home", rules="base"))
        rankings.append(ranking(3 * number + 2, f"s-{number}", BEGIN + number, bundle, **{**at, "rules": "#0a1b2c3d"}))
        reports.append(report(3 * number, "shown", BEGIN + number + 5, "sku-1"))
        if number % 2 or number % 4 == 0:
            reports.append(report(3 * number, "clicked", BEGIN + number + 6, "sku-1"))
    folder = str(written(tmp_path / "log", rankings, reports))
    whole, cart = read_feedback(folder), read_feedback(folder, placement="cart")
    assert (whole.arms, whole.rankings.sum(), cart.rankings.sum()) == (["old", "new"], 1200, 800)
    table = read_feedback(folder, placement="cart", by_rules=True)
    assert (table.arms, table.shares, table.moved) == ([NO_RULES, "bury"], [0.5, 0.5], 0)
    assert (table.rankings.sum(), table.shown.sum()) == (400, 400)
    assert main(["experiment", folder, "--placement", "cart", "--arms", "rules", "--control", NO_RULES, "--json"]) == 0
    clicked = {arm["name"]: arm["clicked"] for arm in json.loads(capsys.readouterr().out)["arms"]}
    assert clicked == {NO_RULES: 100, "bury": 200}
    assert main(["experiment", folder, "--arms", "rules"]) == 2
    assert "--arms rules compares the rule sets of one placement; name it" in capsys.readouterr().err
