"""Answers of libmtaw equal those of the package: items, scores to the bit, unknown clicks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle, Model
from mtaw_fast.bundle.versions import version_of
from mtaw_fast.errors import MtawError
from mtaw_fast.export.page import export_page
from mtaw_fast.items.placements import Revision
from mtaw_fast.kernels.native.scan import quantize
from mtaw_fast.memory.log_progress import LogProgress
from mtaw_fast.memory.trends import TrendTables
from mtaw_fast.recommender import Recommender
from tests.support.libmtaw import MAP, NO_VERIFY, USAGE, CallError, Client, library
from tests.support.random_bundle import bundle_parts, memory_parts, replace_part
from tests.support.ranking.timed_model import END, timed_model
from tests.support.ranking.typed_model import typed_model
from tests.support.rules.random_rules import random_rows, table_of

KINDS = ("text", "int", "memory", "withheld", "times", "context", "once", "page", "nested")
_WITHDRAWN = LogProgress("log", "0", removed=np.array([7, 22], np.int32), hidden=np.array([33], np.int32))
_PLACEMENT = {
    "sets": [
        {"name": "half", "share": 0.5, "rules": {"filter": "price < 9 or missing(price)", "pin": {"sku-5": 2}}},
        {"rules": {"boost": {"when": "brand == current.brand", "by": 0.5}}, "from": "1970-01-01T00:00", "until": None},
    ]
}


class Pair(NamedTuple):
    """One bundle in both."""

    python: Recommender
    c: Client
    items: list[Any]


def saved(folder: Path, kind: str) -> Path:
    """Save a bundle of this kind."""
    if kind == "times":
        return _saved(folder, timed_model(ranked_candidates=5))
    if kind == "context":  # it also reads types of clicks
        return _saved(folder, replace(typed_model(), log_progress=_WITHDRAWN))
    if kind == "once":  # as a compacted bundle, whose later sessions count a pair once
        model = timed_model()
        assert model.memory is not None
        assert model.clicked_at is not None
        n, sessions = model.n_items, model.sessions
        memory = type(model.memory).build(sessions, n, replace(model.memory.settings, once_from=200))
        trends = TrendTables.build(sessions, model.clicked_at, n, once_from=200)
        return _saved(folder, replace(model, memory=memory, trends=trends))
    if kind == "page":
        export_page(saved(folder.with_name("of-the-page"), "context"), folder)
        return folder
    parts = bundle_parts(n_items=90, embedding_dim=20, max_session_length=8, text=kind != "int", recent_weight=2.0)
    if kind in ("memory", "withheld"):
        parts |= memory_parts(90)
    if kind == "withheld":  # items that are removed, hidden, or not available
        rows = random_rows(np.random.default_rng(4), 90)
        rows = [{**row, "stock": bool(number % 5)} for number, row in enumerate(rows)]
        parts["items"] = replace(
            table_of(parts["ids"].external(np.arange(90)), rows), availability="stock",
            hidden=frozenset(["sku-3", "sku-61", "never-seen"]), placements={"cart": (Revision(1, 5, _PLACEMENT),)},
        )  # fmt: skip
    metrics, dataset = parts.pop("metrics"), parts.pop("dataset")
    progress = _WITHDRAWN if kind == "withheld" else None
    model = replace(Model.of(**parts), log_progress=progress)
    bundle = Bundle.save(folder, model, metrics=metrics, dataset=dataset)
    if kind == "nested":  # as bundles of large catalogs store their codes
        replace_part(folder, "scan", quantize(bundle.item_vectors, nested=True))
    return folder


def _saved(folder: Path, model: Model) -> Path:
    Bundle.save(folder, model, metrics={"P@20": 0.1, "odd": 1e-07}, dataset={"name": "Zoë 日本"})
    return folder


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = saved(tmp_path_factory.mktemp("libmtaw") / "bundle", request.param)
    rec = Recommender.load(folder, encoder="native", index="native")
    with Client(folder) as client:
        yield Pair(rec, client, list(rec.ids))


def sessions_of(pair: Pair, count: int, seed: int, longest: int = 12) -> list[list[Any]]:
    rng = np.random.default_rng(seed)
    items = pair.items
    return [
        [items[rng.integers(len(items))] if rng.random() < 0.9 else type(items[0])(10**9 + int(rng.integers(9)))
         for _ in range(rng.integers(0, longest))]
        for _ in range(count)
    ]  # fmt: skip


def test_items_that_a_log_removed_are_never_recommended(pair: Pair) -> None:
    progress = pair.python.bundle.model.log_progress
    if progress is None:
        return
    withdrawn = {pair.items[place] for place in (7, 22, 33)}
    for session in ([], [pair.items[7]], pair.items[:5]):
        answer = pair.c.recommend(session, len(pair.items), at=END)
        assert answer.equals(pair.python.recommend(session, len(pair.items), at=END), session)
        assert withdrawn.isdisjoint(answer.items)


def test_sessions(pair: Pair) -> None:
    for number, session in enumerate(sessions_of(pair, 60, 1)):
        k, at = 1 + number % 30, END + number * 60_000
        assert pair.c.recommend(session, k, at=at).equals(pair.python.recommend(session, k, at=at), session)
    faded = END + 100 * 86_400_000  # no item rises any more
    assert pair.c.recommend([], 20, at=faded).equals(pair.python.recommend([], 20, at=faded), [])


def test_conditions(pair: Pair) -> None:
    rng = np.random.default_rng(2)
    for number, session in enumerate(sessions_of(pair, 40, 3)):
        items = [pair.items[place] for place in rng.integers(0, len(pair.items), rng.integers(1, 40))]
        options: dict[str, Any] = {"at": END, "exclude_seen": bool(number % 2)}
        options["exclude"] = [*items[:9], items[0]] if number % 3 else ()
        options["allow"] = [] if number == 20 else None if number % 4 else items
        prepared: dict[str, Any] = {"exclude": items[:5], "allow": None if number % 5 else [*items, *pair.items[:30]]}
        filters = (pair.python.filter(**prepared), pair.c.filter(**prepared)) if number % 2 else (None, None)
        expected = pair.python.recommend(session, 20, filter=filters[0], **options)
        assert pair.c.recommend(session, 20, filter=filters[1], **options).equals(expected, session)
        library().mtaw_filter_close(filters[1])


def test_growing_sessions(pair: Pair) -> None:
    visit, twin = pair.c.session(), pair.python.session()
    clicked: list[Any] = []
    for number, part in enumerate(sessions_of(pair, 12, 7, longest=4)):
        clicked += part
        visit.click(*part)
        twin.click(*part)
        options: dict[str, Any] = {"at": END, "exclude_seen": number % 3 == 0}
        answer = visit.recommend(10, **options)
        assert answer.equals(twin.recommend(10, **options), clicked)
        assert answer.equals(pair.python.recommend(clicked, 10, **options), clicked)
    visit.close()


def test_similar_items(pair: Pair) -> None:
    ways: tuple[Any, ...] = ("vectors", "sessions") if pair.python.bundle.memory is not None else ("vectors",)
    for item in pair.items[::7]:
        for by in ways:
            expected = pair.python.similar_items(item, 8, by=by, exclude=pair.items[:4], allow=pair.items[:60])
            assert pair.c.similar(item, 8, by, exclude=pair.items[:4], allow=pair.items[:60]).equals(expected)
            assert pair.c.similar(item, 90, by).equals(pair.python.similar_items(item, 90, by=by))


def test_contexts(pair: Pair) -> None:
    columns = pair.python.bundle.model.context
    if columns is None:
        with pytest.raises(CallError, match="not a context column"):
            pair.c.recommend(pair.items[:2], context={"referrer": "mail"})
        return
    for session in sessions_of(pair, 20, 9):
        for context in ({}, {"referrer": "mail"}, {"referrer": "new", "region": "north"}, {"region": ""}):
            expected = pair.python.recommend(session, 10, at=END, context=context)
            assert pair.c.recommend(session, 10, at=END, context=context).equals(expected, session)


def test_types_of_clicks(pair: Pair) -> None:
    rng = np.random.default_rng(6)
    names = [*pair.python.bundle.model.click_types.names, "never seen", None]
    sessions = sessions_of(pair, 30, 11)
    types = [[names[place] for place in rng.integers(0, len(names), len(session))] for session in sessions]
    for session, session_types in zip(sessions, types, strict=True):
        expected = pair.python.recommend(session, 10, at=END, types=session_types)
        assert pair.c.recommend(session, 10, at=END, types=session_types).equals(expected, session)
        visit = pair.c.session()
        for place, item in enumerate(session, 1):
            visit.click(item)
            grown = visit.recommend(10, at=END, types=session_types[:place])
        assert not session or grown.equals(expected, session)
        visit.close()
    all_types = [kind for kinds in types for kind in kinds]
    answers = pair.c.recommend_batch(sessions, 10, at=END, types=all_types)
    wanted = pair.python.recommend_batch(sessions, 10, at=END, types=types)
    assert all(
        answer.equals(*arguments) for answer, arguments in zip(answers, zip(wanted, sessions, strict=True), strict=True)
    )
    with pytest.raises(CallError, match="types: there are 1 types for 2 clicks; give one for each"):
        pair.c.recommend(pair.items[:2], types=[None])
    with pytest.raises(CallError, match="clicks; give one for each"):
        pair.c.recommend_batch(sessions, types=all_types[1:])


def test_reasons_in_a_batch_alone_and_of_a_session(pair: Pair) -> None:
    sessions = sessions_of(pair, 40, 13)
    options: dict[str, Any] = {"at": END, "reasons": True, "exclude_seen": True}
    expected = pair.python.recommend_batch(sessions, 12, **options)
    answers = pair.c.recommend_batch(sessions, 12, **options)
    for ours, answer, session in zip(answers, expected, sessions, strict=True):
        assert ours.equals(answer, session)
        assert pair.c.recommend(session, 12, **options).equals(answer, session)
        visit = pair.c.session().click(*session)
        assert visit.recommend(12, **options).equals(answer, session)
        visit.close()


def test_sessions_of_the_other_kind_are_refused(pair: Pair) -> None:
    foreign = [5] if isinstance(pair.items[0], str) else ["5"]
    for session in (foreign, foreign * 3):
        with pytest.raises(CallError, match="catalog's kind") as refused:
            pair.c.recommend(session)
        assert refused.value.status == USAGE
        with pytest.raises(MtawError):
            pair.python.recommend(session)
    mixed = [*foreign, pair.items[5]]
    assert pair.c.recommend(mixed, 5, at=END).equals(pair.python.recommend(mixed, 5, at=END), mixed)


def test_what_a_bundle_is(pair: Pair) -> None:
    info, bundle = pair.c.info(), pair.python.bundle
    assert (info.n_items, info.catalog_size) == (pair.python.n_items, bundle.n_items)
    assert info.dimensions == bundle.config.model.embedding_dim
    assert (bool(info.has_memory), bool(info.has_times)) == (bundle.memory is not None, bundle.model.trends is not None)
    assert info.version.decode() == version_of(bundle.manifest)
    context = bundle.model.context
    assert pair.c.names("click_type") == list(bundle.model.click_types.names)
    assert pair.c.names("context_column") == ([] if context is None else list(context.columns.names))


def test_mapped_and_unverified_files(pair: Pair) -> None:
    session = pair.items[3:7]
    for flags in (MAP, NO_VERIFY, MAP | NO_VERIFY):
        with Client(pair.python.bundle.folder, flags) as client:
            assert client.recommend(session, 9, at=END).equals(pair.python.recommend(session, 9, at=END), session)
