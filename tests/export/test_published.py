"""What a page's bundle publishes: every file is read back."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import MANIFEST
from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.export.page import PageBundle, export_page
from mtaw_fast.export.published import (
    MAX_NEIGHBORS,
    published_memory,
    rounded,
    rounded_counts,
    strongest_pairs,
    trend_pairs_of,
)
from mtaw_fast.kernels.native.memory_tables import PAIR_KINDS
from mtaw_fast.memory import MemorySettings, MemoryTables
from mtaw_fast.memory.bfloat16 import from_bfloat16, to_bfloat16
from mtaw_fast.recommender import Recommender
from tests.support.export.shop import (
    HIDDEN,
    PUBLIC,
    REMOVED,
    SOLD_OUT,
    bytes_in,
    has_run,
    shop_bundle,
    tensors_in,
)
from tests.support.ranking.timed_model import END, N

SES, STRENGTH = PAIR_KINDS.index("ses"), ("fwd", "bwd", "ses", "rec")
MINUTE, HOUR = 60_000, 3_600_000
PRIVATE_TEXTS = (
    "supplier", "label-", "note", "margin", "price", "i_age_created", "in_stock", "secret", "upcoming", "hidden-sku",
    "boost", "log-of-the-shop", "61.8374", "2.71828", "0.1234", "P@20", "history", "fingerprint", "38127", "0011-2233",
    f"only-{REMOVED}", f"shown {HIDDEN}",
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return shop_bundle(tmp_path_factory.mktemp("published") / "whole")


@pytest.fixture(scope="module")
def page(whole: Bundle) -> PageBundle:
    return export_page(whole, whole.folder.with_name("page"))


def test_no_private_text_rule_or_metric_is_in_any_file(whole: Bundle, page: PageBundle) -> None:
    before, after = bytes_in(whole.folder), bytes_in(page.folder)
    for text in PRIVATE_TEXTS:
        assert text.encode() in before, text
        assert text.encode() not in after, text


def test_no_private_number_is_in_any_file(whole: Bundle, page: PageBundle) -> None:
    table = whole.items
    assert table is not None
    private = {name: table.columns[name].arrays()["values"] for name in ("price", "created", "margin")}
    before, after = (dict(tensors_in(folder)) for folder in (whole.folder, page.folder))
    for name, values in private.items():
        assert any(np.isin(values, array.astype(np.float64)).any() for array in before.values()), name
        for key, array in after.items():
            assert not np.isin(values.astype(np.float64), array.astype(np.float64)).any(), (name, key)


def test_no_session_is_in_any_file(whole: Bundle, page: PageBundle) -> None:
    long = [session for session in whole.model.sessions if len(session) >= 4]
    before, after = (
        [array for _, array in tensors_in(folder) if array.dtype.kind in "iu"] for folder in (whole.folder, page.folder)
    )
    assert all(any(has_run(array, session) for array in before) for session in long[:20])
    assert not any(has_run(array, session) for array in after for session in long)
    saved = Bundle.load(page.folder)
    assert saved.memory is not None
    assert saved.model.context is not None
    assert len(saved.memory.session_items) == len(saved.memory.postings) == len(saved.model.context.codes) == 0
    assert not saved.memory.session_offsets.any()
    assert {"times", "types", "content"}.isdisjoint(saved.manifest["files"])


def test_pairs_do_not_say_of_which_session_they_are(whole: Bundle, page: PageBundle) -> None:
    """An age is that of at least 100 sessions, so `latest` cannot join the pairs of one."""
    memory, saved = whole.memory, Bundle.load(page.folder).memory
    assert memory is not None
    assert saved is not None
    ages = np.unique(np.concatenate([saved.latest, saved.counts[saved.counts[:, 1] > 0, 4]]))
    assert len(ages) <= memory.n_sessions // 100
    shares = (saved.latest + 1) / saved.n_sessions
    rows = strongest_pairs(memory)
    exact = (memory.latest[np.sort(rows)] + 1) / memory.n_sessions
    assert np.abs(shares - exact).max() <= 1 / (memory.n_sessions // 100)


def test_no_exact_count_is_in_any_file(whole: Bundle, page: PageBundle) -> None:
    """Every number of a file is a rounded one, and a rounded count stands for several."""
    memory = whole.memory
    assert memory is not None
    after = dict(tensors_in(page.folder))
    assert np.array_equal(after["popularity/popularity"], rounded_counts(whole.popularity))
    assert np.array_equal(after["memory/counts"][:, :4], rounded_counts(memory.counts[:, :4]))
    for key in ("memory/totals", "trends/counts", "trends/totals", "trends/sums", "trends/context_sums",
                "trends/context_totals"):  # fmt: skip
        np.testing.assert_allclose(after[key], rounded(after[key]), rtol=1e-6, err_msg=key)
    for key in ("memory/values", "trends/values"):
        assert np.array_equal(after[key], to_bfloat16(rounded(from_bfloat16(after[key])))), key
    counts = np.arange(1, 200_000)
    assert min(Counter(rounded_counts(counts)[:190_000].tolist()).values()) > 1
    totals = {int(whole.popularity.sum()), len(whole.model.sessions), int(memory.counts[:, 1].max())}
    manifest = json.loads((page.folder / MANIFEST).read_text())
    assert totals.isdisjoint({len(array) - 1 for key, array in after.items() if key.endswith("session_offsets")})
    assert totals.isdisjoint(value for value in manifest.values() if isinstance(value, int))


def test_no_time_of_a_click_is_in_any_file(whole: Bundle, page: PageBundle) -> None:
    times = whole.model.clicked_at
    assert times is not None
    exact = times[times % MINUTE != 0]  # items have whole hours, and the clock has a whole minute
    assert len(exact) > 100
    for key, array in tensors_in(page.folder):
        assert not np.isin(exact, array.astype(np.float64)).any(), key
        if key == "trends/times":
            assert (array[array >= 0] % HOUR == 0).all()


def test_the_manifest_has_the_settings_of_the_model_alone(whole: Bundle, page: PageBundle) -> None:
    saved = Bundle.load(page.folder)
    assert (saved.metrics, saved.dataset) == ({}, {})
    assert saved.config == Config(model=whole.config.model, memory=whole.config.memory)
    assert set(saved.manifest) == {
        "format", "format_version", "config", "n_items", "d", "parameters", "metrics", "dataset", "git_commit",
        "versions", "created", "files",
    }  # fmt: skip
    files = {entry["file"] for entry in saved.manifest["files"].values()}
    assert {path.name for path in page.folder.iterdir()} == {MANIFEST, *files}


def test_public_columns_stay_but_for_items_that_are_not_ranked(whole: Bundle, page: PageBundle) -> None:
    saved, source = Bundle.load(page.folder), whole.items
    table = saved.items
    assert source is not None
    assert table is not None
    assert tuple(table.columns) == PUBLIC
    assert (table.placements, table.hidden, table.waiting.ids, table.made, table.changed) == ({}, frozenset(), [], 0, 0)
    expected = source.values_at(PUBLIC, np.arange(N))
    for item in (REMOVED, HIDDEN, SOLD_OUT):
        expected[item] = {}
    assert table.values_at(PUBLIC, np.arange(N)) == expected
    withheld = saved.ids.external(np.array([REMOVED, HIDDEN, SOLD_OUT]))
    first, second = Recommender.load(whole.folder), Recommender.load(page.folder)
    assert second.n_items == first.n_items == N - 3
    for session in ([], saved.ids.external(np.array([1, 2, 3]))):
        assert not set(withheld) & set(second.recommend(session, N, at=END).items)


def test_the_ranker_keeps_features_of_private_columns_without_their_names(whole: Bundle, page: PageBundle) -> None:
    net, before = Bundle.load(page.folder).ranker_net, whole.ranker_net
    assert net is not None
    assert before is not None
    assert [name.replace("i_age_ private 1", "i_age_created") for name in net.features] == list(before.features)
    for name, array in before.arrays().items():
        assert np.array_equal(net.arrays()[name], array)


def test_it_says_what_it_publishes_and_what_not(whole: Bundle, page: PageBundle) -> None:
    text = "\n".join(page.lines())
    for part, entry in Bundle.load(page.folder).manifest["files"].items():
        published = next(one for one in page.parts if one.part == part)
        assert published.n_bytes == entry["bytes"]
        assert f"  {part} " in text
        stored = {key.partition("/")[2]: array for key, array in tensors_in(page.folder) if key.startswith(f"{part}/")}
        if part != "item_table":  # whose arrays' names have slashes
            assert published.arrays == {name: f"{array.dtype}{list(array.shape)}" for name, array in stored.items()}
    assert whole.memory is not None
    for line in (
        f"{page.n_pairs:,} of {len(whole.memory.neighbors):,} pairs of items",
        "no sessions",
        f"ids of {N} items, in the order of their first clicks",
        "the public columns title, tags, category",
        "2 values of referrer",
        "types: view, cart, purchase",
        "which 3 items it never ranks",
        f"{whole.memory.n_sessions:,} sessions",
        "private columns of the item table: created, price, supplier, labels, note, margin, in_stock",
        "what the ranker reads in private columns: created",
        "1 placements",
        "1 rows of items that are not in the catalog",
        "metrics and data set",
        "vectors by attributes",
    ):
        assert line in text, line


def test_popularity_orders_the_most_clicked_items(whole: Bundle, page: PageBundle) -> None:
    """`Bundle.load` verifies this too, and that ties are in the order of the ids."""
    saved = Bundle.load(page.folder)
    exact = whole.popularity[saved.most_clicked]
    assert (np.diff(saved.popularity[saved.most_clicked]) <= 0).all()
    for before, after in pairwise(exact):
        assert before >= after or len(set(rounded_counts(np.array([before, after])).tolist())) == 1


def test_rounding_is_close_and_keeps_the_order() -> None:
    numbers = np.concatenate([[0.0], np.geomspace(1e-6, 1e7, 20_000)])
    result = rounded(numbers)
    assert result[0] == 0
    assert (np.diff(result) >= 0).all()
    assert (np.abs(result[1:] / numbers[1:] - 1) < 0.13).all()
    assert np.abs(result[numbers > 1000] / numbers[numbers > 1000] - 1).max() <= 0.05
    assert len(np.unique(result[(numbers >= 1) & (numbers < 10)])) == 11
    counts = np.arange(300)
    assert rounded_counts(counts).tolist()[:13] == [0, 3, 3, 3, 3, 5, 5, 7, 7, 10, 10, 10, 13]
    assert (np.diff(rounded_counts(counts)) >= 0).all()


def tables_of(n_sessions: int = 900, n_items: int = 40, seed: int = 0) -> MemoryTables:
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, n_items + 1)
    sessions = [rng.choice(n_items, rng.integers(2, 6), p=weights / weights.sum()).tolist() for _ in range(n_sessions)]
    return MemoryTables.build(Sessions.from_lists(sessions), n_items, MemorySettings(max_neighbors=0))


def test_pairs_come_in_the_order_of_the_formula() -> None:
    tables = tables_of()
    values, fwd_to_rec = from_bfloat16(tables.values).astype(float), [PAIR_KINDS.index(kind) for kind in STRENGTH]
    priorities = np.empty(len(values))
    for item in range(tables.n_items):
        totals, strengths = tables.totals[item] + 1.0, {}
        for pair in range(*tables.row_offsets[item : item + 2]):
            other = tables.totals[tables.neighbors[pair], SES] + 1.0
            cosine = values[pair, SES] / np.sqrt(totals[SES] * other)
            strengths[pair] = 2 * cosine + sum(values[pair, kind] / totals[kind] for kind in fwd_to_rec)
        for rank, pair in enumerate(sorted(strengths, key=lambda pair: (-round(strengths[pair], 6), pair)), 1):
            priorities[pair] = rank / np.sqrt(tables.counts[item, 0] * max(values[pair, SES], 1))
    found = strongest_pairs(tables)
    assert sorted(found.tolist()) == list(range(len(values)))
    assert (np.diff(priorities[found]) > -1e-9).all()


def test_pairs_of_few_sessions_can_stay_out(whole: Bundle, tmp_path: Path) -> None:
    memory, trends = whole.memory, whole.model.trends
    assert memory is not None
    assert trends is not None
    counts: Counter[tuple[int, int]] = Counter()
    for session in whole.model.sessions:
        distinct = sorted(set(session.tolist()))
        counts.update((a, b) for a in distinct for b in distinct if a != b)
    page = export_page(whole, tmp_path / "page", min_sessions=3)
    saved = Bundle.load(page.folder).model
    assert saved.memory is not None
    assert saved.trends is not None
    for tables in (saved.memory, saved.trends):
        rows = np.repeat(np.arange(N), np.diff(tables.row_offsets)).tolist()
        assert len(rows) > 100
        assert all(counts[pair] >= 3 for pair in zip(rows, tables.neighbors.tolist(), strict=True))
    assert ", 0 of a single session" in "\n".join(page.lines())
    assert len(trend_pairs_of(memory, trends)) == len(trends.neighbors)


def test_an_item_keeps_at_most_a_limit_of_neighbors() -> None:
    star = [[0, item] for item in range(1, 400)]
    tables = MemoryTables.build(Sessions.from_lists(star), 400)
    kept = published_memory(tables, np.sort(strongest_pairs(tables)))
    assert np.diff(kept.row_offsets).max() == MAX_NEIGHBORS


def test_tables_without_sessions_can_be_published() -> None:
    tables = MemoryTables.build(Sessions.from_lists([]), 5)
    kept = published_memory(tables, strongest_pairs(tables))
    assert (kept.n_sessions, len(kept.neighbors)) == (1, 0)
    assert (kept.counts[:, 4] == -1).all()


def test_ranking_reads_no_session(whole: Bundle, tmp_path: Path) -> None:
    """The same tables without their sessions and postings rank with the same bits."""
    model, memory = whole.model, whole.memory
    assert memory is not None
    bare = replace(
        memory, session_items=np.empty(0, np.int32), session_offsets=np.zeros_like(memory.session_offsets),
        postings=np.empty(0, np.int32), post_offsets=np.zeros_like(memory.post_offsets),
    )  # fmt: skip
    assert model.context is not None
    context = replace(model.context, codes=model.context.codes[:0])
    kept = replace(model, memory=bare, context=context, clicked_at=None, types=None, log_progress=None)
    Bundle.save(tmp_path / "bare", kept, metrics={}, dataset={})
    Bundle.save(tmp_path / "full", replace(model, log_progress=None), metrics={}, dataset={})
    first, second = Recommender.load(tmp_path / "full"), Recommender.load(tmp_path / "bare")
    for session in model.sessions.select(np.arange(30)):
        ids = model.ids.external(session)
        ours, theirs = (rec.recommend(ids, 20, at=END) for rec in (first, second))
        assert (ours.items, list(ours.scores)) == (theirs.items, list(theirs.scores))
