"""What tests ask of every client: a call for each feature, random calls, and one list of wrong ones.

A call is JSON: `call`, and the arguments of the clients for JavaScript by their names. `rules` and `filter` of the
options are what the clients' functions of these names get, unless the call is `raw`; `types` of a batch are those of
all its sessions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mtaw_fast.recommender import Recommender
from tests.support.ranking.timed_model import END, HOUR

Call = dict[str, Any]
RULES: tuple[Any, ...] = (
    {"filter": "price < 8", "pin": {"sku-5": 2}},
    {"filter": 'brand in ("own", "x") or missing(brand)', "limit": {"per": "maker", "most": 3}},
    {
        "boost": [{"when": "sale and price <= current.price", "by": 2.5}, {"when": "not new", "by": -1}],
        "pin": {"sku-7": 1},
    },
)
PLACEMENTS: dict[str, Any] = {
    "cart": {
        "sets": [
            {"name": "campaign", "rules": RULES[1], "from": END + 24 * HOUR, "until": END + 30 * HOUR},
            {"name": "half", "rules": RULES[0], "share": 0.5},
            {"rules": RULES[2]},
        ]
    },
    "default": {"sets": [{"name": "base", "rules": RULES[1], "until": END + 24 * HOUR}]},
}
_CLICKS = ["sku-9", "sku-4", "nobody"]


def ask(call: str = "recommend", *, session: Any = ("sku-9", "sku-4"), raw: bool = False, **options: Any) -> Call:
    """Return a call with options that goes on from two clicks."""
    return {"call": call, "session": session, "options": options} | ({"raw": True} if raw else {})


def _similar(item: Any = "sku-9", **options: Any) -> Call:
    return {"call": "similar", "item": item, "options": options}


def _batch(sessions: Any, **options: Any) -> Call:
    return {"call": "batch", "sessions": sessions, "options": options}


def _opened(folder: Any, **options: Any) -> Call:
    return {"call": "open", "folder": folder, "options": options}


def _logged(folder: str, **event: Any) -> Call:
    return {"call": "log", "folder": folder, "events": [event], "options": {}}


def features(log: str) -> dict[str, list[Call]]:
    """Return calls by the feature that they need, as docs/c-api.md names it. log: a folder."""
    return {
        "`k`, `exclude`, `allow`, `exclude_seen`, `at`": [
            ask(k=5, exclude=["sku-1"], allow=["sku-1", "sku-2", "sku-9"], excludeSeen=True, at=END),
            ask(allow=[], at=END),
            ask(session=[], at=END),
        ],
        "types of clicks, context": [
            ask(session=_CLICKS, types=["cart", None, "never"], context={"referrer": "mail", "region": ""}, at=END)
        ],
        "reasons": [ask(session=_CLICKS, reasons=True, k=60, at=END)],
        "prepared filters": [ask(filter={"exclude": ["sku-3"], "allow": [f"sku-{i}" for i in range(40)]}, at=END)],
        "rules, placements": [
            *(ask(rules=rules, reasons=True, at=END) for rules in RULES),
            *(ask(placement="cart", sessionId=f"s-{number}", reasons=True, at=END) for number in range(6)),
            *(ask("session", placement=name, at=END + 24 * HOUR) for name in ("cart", "home")),
            _batch([_CLICKS, []], placement="home", at=END),
            _similar(placement="cart", sessionId="s-1"),
        ],
        "similar items": [_similar(k=7), _similar(by="sessions", rules=RULES[1], exclude=["sku-1"])],
        "sessions that grow": [
            ask("session", session=[*_CLICKS, "sku-1"], types=["view", "cart", None, "cart"], at=END)
        ],
        "batches": [_batch([_CLICKS, [], ["sku-1"]], types=["view", None, "cart", "purchase"], at=END)],
        "the learning log": [
            _logged(log, session="s-1", item="sku-9", type="cart", id="e-1", context={"referrer": "mail"})
        ],
    }


def random_calls(rec: Recommender, count: int) -> Iterator[Call]:
    """Yield calls for `count` sessions of up to 12 clicks in all ways, a tenth of the clicks on unknown items.

    They ask for what the recommender's bundle has.
    """
    rng = np.random.default_rng(3)
    items, table = list(rec.ids), rec.bundle.model.items
    rules = RULES if table is not None else ()
    types = ["view", "cart", "purchase", "never", None]

    def some(most: int) -> list[Any]:
        return [items[place] for place in rng.integers(0, len(items), rng.integers(1, most))]

    def session() -> list[Any]:
        unknown = type(items[0])(10**9)
        places = rng.integers(0, len(items) * 10 // 9, rng.integers(0, 13)).tolist()
        return [items[place] if place < len(items) else unknown for place in places] if rng.random() > 0.02 else []

    while count > 0:
        options: dict[str, Any] = {"at": END + int(rng.integers(0, 48)) * HOUR, "k": int(rng.integers(1, 40))}
        way = str(rng.choice(["recommend", "batch", "session", "similar"], p=[0.45, 0.1, 0.4, 0.05]))
        if rng.random() < 0.3:
            options["exclude"] = some(20)
        if rng.random() < 0.2:
            options["allow"] = some(60)
        if rng.random() < 0.2:
            options["filter"] = {"exclude": items[:5]} if rng.random() < 0.5 else {"allow": items[: len(items) // 2]}
        if rules and rng.random() < 0.2:
            options["rules"] = rules[rng.integers(0, len(rules))]
        elif rng.random() < 0.2:
            options["placement"] = str(rng.choice(["cart", "home"]))
            if rng.random() < 0.8:
                options["sessionId"] = f"sé-{rng.integers(0, 1000)}"
        if way == "similar":
            del options["at"]
            if rec.bundle.memory is not None and rng.random() < 0.5:
                options["by"] = "sessions"
            yield {"call": way, "item": items[rng.integers(0, len(items))], "options": options}
            count -= 1
            continue
        options |= {"excludeSeen": bool(rng.integers(2)), "reasons": bool(rng.random() < 0.3)}
        if rec.bundle.model.context is not None and rng.random() < 0.5:
            options["context"] = {"referrer": str(rng.choice(["mail", "search", "new"]))}
        sessions = [session() for _ in range(min(count, 16) if way == "batch" else 1)]
        if rng.random() < 0.7:
            options["types"] = [types[place] for place in rng.integers(0, 5, sum(map(len, sessions))).tolist()]
        asked = {"sessions": sessions} if way == "batch" else {"session": sessions[0]}
        yield {"call": way, **asked, "options": options}
        count -= len(sessions)


_EVENT = {"session": "s", "item": "sku-1"}


def wrong_calls(log: str) -> dict[str, tuple[Call, str]]:
    """Return wrong calls by their names, with a part of the line that says so where a client can be asked them."""
    return {
        "a text as the session": (ask(session="sku-1"), "must be a list"),
        "no session": (ask(session=None), "must be a list"),
        "a text as a batch": (_batch("ab"), "must be a list"),
        "a text as a session of a batch": (_batch(["ab"]), "must be a list"),
        "exclude: a text": (ask(exclude="sku-1"), "exclude must be a list"),
        "allow: a text": (ask(allow="sku-1"), "allow must be a list"),
        "exclude_seen for excludeSeen": (ask(exclude_seen=True), "there is no 'exclude_seen'"),
        "excludes": (ask(excludes=["sku-1"]), "there is no 'excludes'"),
        "k instead of options": ({**ask(), "options": 10}, "must be an object"),
        "a list as options": ({**ask(), "options": [10]}, "must be an object"),
        "k: 0": (ask(k=0), "k must be"),
        "k: -1": (ask(k=-1), "k must be"),
        "k: 1.5": (ask(k=1.5), "k must be"),
        "k: a text": (ask(k="7"), "k must be"),
        "an id with a fraction": (ask(session=[1.5]), "an id is"),
        "an id that is true": (ask(session=[True]), "an id is"),
        "an id of null": (ask(session=[None]), "an id is"),
        "an id that is a list": (ask(session=[["sku-1"]]), "an id is"),
        "numbers for a catalog of texts": (ask(session=[5, 7]), "catalog's ids are texts"),
        "at: a text": (ask(at="2026-01-01"), "at must be"),
        "at: seconds": (ask(at=1_764_150_000), "is in seconds; write it in milliseconds, 1764150000000"),
        "at: before 1970": (ask(at=-1), "at must be"),
        "at: true": (ask(at=True), "at must be"),
        "excludeSeen: a text": (ask(excludeSeen="false"), "excludeSeen must be true or false"),
        "reasons: a number": (ask(reasons=1), "reasons must be true or false"),
        "context: a text": (ask(context="mail"), "context must be an object"),
        "context: a list": (ask(context=["mail"]), "context must be an object"),
        "context: an unknown column": (ask(context={"referrers": "mail"}), "not a context column"),
        "context: an object as value": (ask(context={"referrer": {"a": 1}}), "must be a text"),
        "context: a zero byte": (ask(context={"referrer": "a\0b"}), "zero byte"),
        "types: a text": (ask(types="view"), "types must be a list"),
        "types: one for two clicks": (ask(types=["view"]), "1 types for 2 clicks"),
        "types: none for two clicks": (ask(types=[]), "0 types for 2 clicks"),
        "types: a number": (ask(types=[1, 2]), "a type must be a text"),
        "types: a zero byte": (ask(types=["view", "a\0"]), "zero byte"),
        "filter: excludes": (ask(filter={"excludes": ["sku-1"]}), "there is no 'excludes'"),
        "filter: a text as exclude": (ask(filter={"exclude": "sku-1"}), "exclude must be a list"),
        "filter: not prepared": (ask(filter={"exclude": ["sku-1"]}, raw=True), "filter must be what"),
        "rules: not prepared": (ask(rules={"filter": "price < 8"}, raw=True), "rules must be what"),
        "rules: a text": (ask(rules="winter"), "rules are an object"),
        "rules: filtre": (ask(rules={"filtre": "price < 8"}), "there is no 'filtre'"),
        "rules: an unknown column": (ask(rules={"filter": "pricee < 8"}), "no column 'pricee' (character 1)"),
        "rules: no condition": (ask(rules={"filter": "price <"}), "invalid syntax at character 8"),
        "rules: a list": (ask(rules=["price < 8"]), "rules are an object"),
        "rules: a number": (ask(rules=5), "rules are an object"),
        "placement: a number": (ask(placement=5), "placement must be a text"),
        "placement: no name": (ask(placement="a b"), "a name has 1 to 64 letters"),
        "placement: a zero byte": (ask(placement="a\0"), "zero byte"),
        "placement: rules too": (ask(placement="cart", rules=RULES[0]), "a call has one of them"),
        "sessionId: a number": (ask(placement="cart", sessionId=5), "sessionId must be a text"),
        "similar: an unknown item": (_similar("nobody"), "does not know"),
        "similar: by the wrong way": (_similar(by="names"), "by must be"),
        "similar: reasons": (_similar(reasons=True), "there is no"),
        "similar: excludeSeen": (_similar(excludeSeen=True), "there is no"),
        "similar: at": (_similar(at=END), "there is no"),
        "open: no name": (_opened(""), "folder must not be empty"),
        "open: nothing there": (_opened("/nowhere"), "manifest.json"),
        "open: a number": (_opened(5), "folder must be a text"),
        "open: a zero byte": (_opened("a\0b"), "zero byte"),
        "open: verifies": (_opened("/nowhere", verifies=False), "there is no 'verifies'"),
        "open: verify as a text": (_opened("/nowhere", verify="no"), "verify must be true or false"),
        "log: no name": (_logged("", **_EVENT), "folder must not be empty"),
        "log: sesion": (_logged(log, sesion="s", item="sku-1"), "there is no 'sesion'"),
        "log: no session": (_logged(log, item="sku-1"), "session must be a text"),
        "log: no item": (_logged(log, session="s"), "item"),
        "log: an item with a fraction": (_logged(log, session="s", item=1.5), "an id is"),
        "log: a zero byte": (_logged(log, **_EVENT, type="view\0"), "zero byte"),
        "log: a time in seconds": (_logged(log, **_EVENT, time=1_764_150_000), "is in seconds"),
        "log: a time as a text": (_logged(log, **_EVENT, time="now"), "time must be"),
    }  # fmt: skip
