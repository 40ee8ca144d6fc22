"""Rules by placement: against the same rules of a call, and where they are kept."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.cli import main
from mtaw_fast.data.session_point import point_of
from mtaw_fast.errors import UsageError
from mtaw_fast.items.placements import MAX_REVISIONS
from mtaw_fast.recommender import Recommender
from mtaw_fast.rules.placement import MAX_PLACEMENTS, PlacementTable
from tests.support.random_bundle import bundle_parts, memory_parts, save_parts

RULES = {"filter": 'brand == "own"', "limit": {"per": "brand", "most": 3}}
PIN = {"pin": {"sku-9": 2}}
WRONG_PIN = '{"sets": [{"rules": {"pin": {"nobody": 1}}}]}'
TABLE = [{"id": f"sku-{i}", "brand": ("own", "x")[i % 2]} for i in range(60)]
SESSION = ["sku-1", "sku-2"]
DAY = 86_400_000
NOON = 1_796_169_600_000 + DAY // 2  # of 2026-12-02


def only(rules: Any, **more: Any) -> dict[str, Any]:
    return {"sets": [{"rules": rules}], **more}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_parts(tmp_path / "bundle", **(bundle_parts() | memory_parts()))
    return tmp_path / "bundle"


@pytest.fixture
def rec(folder: Path) -> Recommender:
    recommender = Recommender.load(folder)
    recommender.set_items(TABLE)
    return recommender


def test_labels_that_no_item_has_are_said(rec: Recommender) -> None:
    rec.set_items([{"id": "sku-1", "tags": ["new", "sale"]}], "patch")
    filters = ['brand == "own" or "new" in tags', 'brand in ("x", "oun") or not "sales" in tags', 'tags == "sale"']
    assert rec.set_placement("cart", only({"filter": filters, "boost": {"when": 'brand != "z"', "by": 1}})) == [
        "placement 'cart', set 'set-1': no item has 'oun' in 'brand'; did you mean 'own'?",
        "placement 'cart', set 'set-1': no item has 'sales' in 'tags'; did you mean 'sale'?",
        "placement 'cart', set 'set-1': no item has 'z' in 'brand'",
    ]
    assert rec.set_placement("cart", only(RULES)) == []
    assert len(rec.undo_placement("cart")) == 3


def test_pins_that_nobody_is_shown_are_said(rec: Recommender) -> None:
    rec.hide(["sku-2"])
    rec.remove_items(["sku-4"])
    rec.set_items([{"id": "sku-3", "in stock": False}], "patch", availability="in stock")
    pins = {"nobody's": 1, "sku-1": 2, "sku-2": 3, "sku-3": 4, "sku-4": 5}
    note = "pinned, but shown only once they can be: \"nobody's\" (unknown), 'sku-2' (hidden), 'sku-3' (not available)"
    expected = [f"placement 'cart', set 'set-1': {note}, 'sku-4' (removed)"]
    assert rec.set_placement("cart", only({"pin": pins})) == expected
    assert rec.placements["cart"][-1].content == only({"pin": pins})
    assert rec.set_placement("cart", only(PIN)) == []
    assert rec.undo_placement("cart") == expected
    many = rec.set_placement("cart", only({"pin": {f"new-{number}": number + 1 for number in range(7)}}))
    assert [note.split("be: ")[1] for note in many] == [
        ", ".join(f"'new-{number}' (unknown)" for number in range(5)) + " and 2 more"
    ]


def test_a_pin_of_an_id_that_is_no_number_is_unknown(tmp_path: Path) -> None:
    save_parts(tmp_path / "bundle", **(bundle_parts(text=False) | memory_parts()))
    rec = Recommender.load(tmp_path / "bundle")
    known = next(iter(rec.ids))
    pins = {"sku": 1, str(known): 2, "9" * 30: 3}
    (note,) = rec.set_placement("cart", only({"pin": pins}))
    assert [name in note for name in ("'sku' (unknown)", str(known), "'999")] == [True, False, True]
    assert rec.why([known], [known], 3, placement="cart").items[0].position == 2


def test_the_commands_say_them(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("polars")
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, TABLE)))
    assert main(["items", str(folder), str(tmp_path / "t.jsonl")]) == 0
    rules = {"filter": "brand == 'oun'"}
    (tmp_path / "state").mkdir()
    kept = ["--state", str(tmp_path / "state"), "--set", json.dumps(only(rules))]
    ranked = ["recommend", str(folder), "sku-1", "--rules", json.dumps(rules)]
    for words in (ranked, ["placements", str(folder), "cart", *kept]):
        assert main(words) == 0
        assert "no item has 'oun' in 'brand'; did you mean 'own'?" in capsys.readouterr().err


def test_every_call_that_ranks_gets_the_rules(rec: Recommender, tmp_path: Path) -> None:
    rec.set_placement("cart", only(RULES))
    expected = rec.recommend(SESSION, 9, rules=RULES)
    assert expected.short == "rules"
    assert rec.recommend(SESSION, 9, placement="cart") == expected
    assert rec.recommend_batch([SESSION], 9, placement="cart")[0].items == expected.items
    assert rec.session(SESSION).recommend(9, placement="cart").items == expected.items
    similar = rec.similar_items("sku-1", 9, rules=RULES)
    assert rec.similar_items("sku-1", 9, placement="cart").items == similar.items
    # A bundle can hold them.
    save_parts(tmp_path / "other", **(bundle_parts() | memory_parts()), items=rec.items)
    assert Bundle.load(tmp_path / "other").items.placements == rec.placements
    assert Recommender.load(tmp_path / "other").recommend(SESSION, 9, placement="cart").items == expected.items


def test_an_unknown_placement_gets_the_default(rec: Recommender) -> None:
    assert rec.recommend(SESSION, 9, placement="cart") == rec.recommend(SESSION, 9)
    rec.set_placement("default", only(RULES))
    assert rec.recommend(SESSION, 9, placement="cart") == rec.recommend(SESSION, 9, rules=RULES)
    assert rec.recommend(SESSION, 9) != rec.recommend(SESSION, 9, rules=RULES)
    with pytest.raises(UsageError, match="placement: a name has 1 to 64 letters"):
        rec.recommend(SESSION, 9, placement="the cart")


@pytest.mark.parametrize("together", [False, True])
def test_with_rules_of_the_call(rec: Recommender, together: bool) -> None:
    boost = {"when": 'brand == "x"', "by": 5}
    rec.set_placement("cart", only({**PIN, "boost": boost}, together=together))
    own: dict[str, Any] = {"filter": 'brand == "x"', "boost": [boost], "pin": {"sku-3": 2, "sku-5": 1}}
    both = {"filter": 'brand == "x"', "boost": [boost, boost], "pin": {"sku-3": 2, "sku-5": 1}}
    for rules, merged in ((own, both), (RULES, {**RULES, **PIN, "boost": boost})):
        answer = rec.recommend(SESSION, 9, rules=rules, placement="cart", reasons=True)
        assert answer == rec.recommend(SESSION, 9, rules=merged if together else rules, reasons=True)
    rec.set_placement("cart", only({"filter": ["brand == 'x'"] * 30}, together=together))
    many = {"filter": ["brand == 'x'"] * 3}
    if together:
        with pytest.raises(UsageError, match=r"placement 'cart', set 'set-1' and the request: .*32"):
            rec.recommend(SESSION, 9, rules=many, placement="cart")
    else:
        assert rec.recommend(SESSION, 9, rules=many, placement="cart").items


def test_campaigns_begin_and_end(rec: Recommender) -> None:
    window = {"from": "2026-12-02", "until": "2026-12-03T00:00:00Z"}
    rec.set_placement("home", {"sets": [{"name": "day", "rules": RULES, **window}, {"name": "base", "rules": PIN}]})
    begin, end = NOON - DAY // 2, NOON + DAY // 2
    for at, rules in ((begin - 1, PIN), (begin, RULES), (NOON, RULES), (end - 1, RULES), (end, PIN)):
        assert rec.recommend(SESSION, 9, at=at, placement="home") == rec.recommend(SESSION, 9, at=at, rules=rules)
    moment = datetime.fromtimestamp(NOON / 1000, UTC)
    assert rec.recommend(SESSION, 9, at=moment, placement="home") == rec.recommend(SESSION, 9, rules=RULES)
    rec.set_placement("home", {"sets": [{"rules": RULES, "until": "2026-01-01"}]})  # without `at` it is now
    assert rec.recommend(SESSION, 9, placement="home") == rec.recommend(SESSION, 9)


def test_sets_share_the_sessions(rec: Recommender) -> None:
    arms = [{"name": "a", "rules": RULES, "share": 0.25}, {"name": "b", "rules": {}, "share": 0.25}]
    rec.set_placement("home", {"sets": [*arms, {"name": "rest", "rules": PIN}]})
    placements = PlacementTable(rec.items)
    names = [f"visitor-{number}" for number in range(2000)]
    placed = {name: placements.placed("home", None, name) for name in names}
    for name, share in (("a", 0.25), ("b", 0.25), ("rest", 0.5)):
        mine = [session for session, one in placed.items() if one.name == name]
        assert len(mine) / len(names) == pytest.approx(share, abs=0.04)
        assert {placed[session].share for session in mine} == {share}
    answers = {"a": RULES, "b": None, "rest": PIN}
    for name in names[:20]:
        answer = rec.recommend(SESSION, 9, placement="home", session_id=name)
        assert answer == rec.recommend(SESSION, 9, rules=answers[placed[name].name])
    assert placements.placed("home").name == "rest"  # without an id
    # A test of a placement splits the sessions of a test of bundles evenly.
    low = [name for name in names if point_of(name) < 0.5]
    assert sum(placed[name].name == "rest" for name in low) / len(low) == pytest.approx(0.5, abs=0.05)


def test_history_and_undo(rec: Recommender) -> None:
    for most in range(1, MAX_REVISIONS + 3):
        rec.set_placement("cart", only({"limit": {"per": "brand", "most": most}}))
    numbers = [revision.number for revision in rec.placements["cart"]]
    assert numbers == list(range(3, MAX_REVISIONS + 3))
    rec.undo_placement("cart")
    rec.undo_placement("cart", 5)
    *_, second, last = rec.placements["cart"]
    assert second.content == only({"limit": {"per": "brand", "most": MAX_REVISIONS + 1}})
    assert (last.number, last.content) == (MAX_REVISIONS + 4, only({"limit": {"per": "brand", "most": 5}}))
    assert last.time >= second.time > 1_700_000_000_000
    with pytest.raises(UsageError, match=r"placement 'cart': it has no revision 2 any more; there are: 5, 6"):
        rec.undo_placement("cart", 2)
    rec.set_placement("cart", None)
    assert rec.placements == {}
    with pytest.raises(UsageError, match="there is no placement 'cart'; there are: none"):
        rec.set_placement("cart", None)
    with pytest.raises(UsageError, match="placement 'cart': it has no earlier revision any more; there are: none"):
        rec.undo_placement("cart")


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ([], "placement 'cart': it is an object with 'sets', not"),
        ({"set": []}, "placement 'cart': there is no 'set'; the keys are sets, together"),
        ({"sets": [{}] * 17}, "`sets` is a list of at most 16 rule sets"),
        ({"sets": [], "together": 1}, "`together` is true or false, not 1"),
        (only(5), "placement 'cart', set 'set-1': rules are an object such as .* not 5"),
        (only({"filter": "brnd == 1"}), "placement 'cart', set 'set-1': filter: the items have no column 'brnd'"),
        (only({"filter": "brand =="}), "set 'set-1': filter: invalid syntax at character 9"),
        (only({"filter": "brand == 'x'" * 400}), "set 'set-1': the rules have .* bytes, the most is 4096"),
        ({"sets": [{"name": "a b", "rules": {}}]}, "placement 'cart', set 1: a name has 1 to 64 letters"),
        ({"sets": [{"name": "a", "rules": {}}] * 2}, "two sets have one name"),
        ({"sets": [{"rules": {}, "from": "soon"}]}, "set 'set-1': from 'soon' is not a time"),
        ({"sets": [{"rules": {}, "from": 1764150000}]}, "set 'set-1': from 1764150000 is in seconds"),
        ({"sets": [{"rules": {}, "from": 5, "until": 5}]}, "`until` is not after `from`"),
        ({"sets": [{"rules": {}, "share": 0}]}, "above 0 and at most 1, not 0; write 0.5 for half of"),
        ({"sets": [{"rules": {}, "share": 1.5}]}, "`share` must be a number above 0 and at most 1, not 1.5"),
        ({"sets": [{"rules": {}, "share": 0.6}] * 2}, "two sets have one name|sum to 1.2, the most is 1; lower some"),
        (only({"pin": {"sku-1": float("nan")}}), "placement 'cart': not JSON"),
        ({"sets": [{"rules": {"filter": f"brand == '{i}{'x' * 3500}'"}} for i in range(5)]}, "the most is 16384"),
    ],
)  # fmt: skip
def test_wrong_ones_are_refused_in_one_line(rec: Recommender, content: Any, error: str) -> None:
    with pytest.raises(UsageError, match=error) as refused:
        rec.set_placement("cart", content)
    assert "\n" not in str(refused.value)
    assert rec.placements == {}


def test_limits_of_names_and_numbers(rec: Recommender) -> None:
    with pytest.raises(UsageError, match="placement: a name has 1 to 64 letters"):
        rec.set_placement("../x", only(RULES))
    for number in range(MAX_PLACEMENTS):
        rec.set_placement(f"p{number}", only({}))
    with pytest.raises(UsageError, match=f"placement 'one': there are {MAX_PLACEMENTS} already, the most"):
        rec.set_placement("one", only({}))
    rec.set_placement("p0", only(RULES))


def test_a_column_goes_and_comes_back(rec: Recommender) -> None:
    rec.set_placement("cart", only(RULES))
    report = rec.set_items([{"id": "sku-1", "price": 3.0}])
    reason = "placement 'cart', set 'set-1': filter: the items have no column 'brand'"
    assert any(note.startswith(reason) for note in report.notes)
    assert rec.broken_placements["cart"].startswith(reason)
    with pytest.raises(UsageError, match=reason):
        rec.recommend(SESSION, 9, placement="cart")
    rec.set_items(TABLE)
    assert rec.recommend(SESSION, 9, placement="cart").items
    assert rec.broken_placements == {}


@pytest.mark.parametrize("keeper", ["learn", "state"])
def test_over_a_restart_and_in_another_process(folder: Path, tmp_path: Path, keeper: str) -> None:
    options: dict[str, Any] = {keeper: tmp_path / "kept"}
    rec, other = Recommender.load(folder, **options), Recommender.load(folder, **options)
    rec.set_items(TABLE)
    rec.set_placement("cart", only(PIN))
    other.set_placement("cart", only(RULES))  # knows the revision of the first one
    other.set_placement("home", only(PIN))
    rec.set_placement("home", None)
    assert [revision.content for revision in rec.placements["cart"]] == [only(PIN), only(RULES)]
    expected = rec.recommend(SESSION, 9, placement="cart")
    kept = rec.placements
    rec.close()
    other.close()
    restarted = Recommender.load(folder, **options)
    assert restarted.placements == kept
    assert set(kept) == {"cart"}
    assert restarted.recommend(SESSION, 9, placement="cart").items == expected.items
    restarted.close()


def test_on_the_command_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "state").mkdir()

    def said(*words: str) -> str:
        assert main(["placements", str(folder), *words, "--state", str(tmp_path / "state")]) == 0
        return capsys.readouterr().out

    (tmp_path / "cart.json").write_text(json.dumps({"sets": [{"name": "sale", "rules": PIN, "until": "2027-01-01"}]}))
    said("cart", "--set", str(tmp_path / "cart.json"))
    said("cart", "--set", '{"sets": []}')
    assert said().splitlines()[0].startswith("cart 2  20")
    assert main(["placements", str(folder), "home", "--state", str(tmp_path / "state"), "--set", WRONG_PIN]) == 0
    assert "note: placement 'home', set 'set-1': pinned, but" in capsys.readouterr().err
    said("home", "--remove")
    lines = said("cart", "--undo", "1").splitlines()
    assert [line.split(" UTC  ")[1] for line in lines] == [one := "sale until 2027-01-01", "no rules", one]
    shown = json.loads(said("cart", "--json"))
    assert [revision["number"] for revision in shown["placements"]["cart"]] == [1, 2, 3]
    assert said("cart", "--remove") == ""
    for words, error in (
        (["cart", "--state", str(tmp_path / "state")], "there is no placement 'cart'; there are: none"),
        (["cart", "--set", "{}"], "with --state or --learn the services that keep it"),
        (["cart", "--set", "{", "--state", str(tmp_path / "state")], "--set '{' is not JSON"),
    ):
        assert main(["placements", str(folder), *words]) == 2
        assert error in capsys.readouterr().err


def test_calls_on_the_command_line_take_a_placement(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    rec = Recommender.load(folder, state=state)
    sets = [{"name": "half", "rules": PIN, "share": 0.5}, {"name": "rest", "rules": {"pin": {"sku-7": 1}}}]
    rec.set_placement("cart", {"sets": sets})
    kept, shares = ["--state", str(state), "-k", "5"], {"half": "", "rest": ""}
    for number in range(20):
        shares[rec.catalog.placements.placed("cart", None, f"s{number}").name] = f"s{number}"
    for name, session in shares.items():
        asked = ["--placement", "cart", "--session-id", session, *kept, "--json"]
        answer = rec.recommend(SESSION, 5, placement="cart", session_id=session)
        assert main(["recommend", str(folder), *SESSION, *asked]) == 0
        said = capsys.readouterr()
        assert json.loads(said.out)["items"] == answer.items
        assert f"note: placement 'cart' has the rule set '{name}' for this call" in said.err
        assert main(["why", str(folder), "--session", *SESSION, *asked]) == 0
        assert [line["item"] for line in json.loads(capsys.readouterr().out)] == answer.items
        moves = ["why", str(folder), "--session", *SESSION, *asked, "--other-bundle", str(folder)]
        assert main(moves) == 0
        assert json.loads(capsys.readouterr().out)["after"]["items"] == answer.items
    for words, note in (
        (["--placement", "cart"], "there is no placement 'cart' here, so it gets no rules; there are: none"),
        (["--placement", "car", *kept], "there is no placement 'car' here, so it gets no rules; there are: cart"),
    ):
        assert main(["recommend", str(folder), *SESSION, *words]) == 0
        assert note in capsys.readouterr().err
    asked = ["--placement", "cart", "--learn", str(tmp_path), "--other-bundle", str(folder)]
    assert main(["why", str(folder), *asked]) == 2
    assert "leave one of the two out" in capsys.readouterr().err
    rec.close()


def test_rules_on_the_command_line(rec: Recommender, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_parts(tmp_path / "b", **(bundle_parts() | memory_parts()), items=rec.items)
    (tmp_path / "rules.json").write_text(json.dumps(RULES))
    arguments = ["recommend", str(tmp_path / "b"), *SESSION, "--rules", str(tmp_path / "rules.json"), "-k", "9"]
    assert main([*arguments, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["items"] == rec.recommend(SESSION, 9, rules=RULES).items
    assert answer["short"] == "rules"
    assert main([*arguments, "--reasons"]) == 0
    assert "the rules leave no more than 3 items of 9" in capsys.readouterr().out
    (tmp_path / "rules.json").write_text('{"filter": "brnd == 3"}')
    assert main(arguments) == 2
    assert "no column 'brnd' (character 1)" in capsys.readouterr().err
