"""A recommender that learns: clicks reach others, survive restarts, and end in tables as a training builds them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast import Recommender
from mtaw_fast.bundle import Bundle, Model
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import DataError, UsageError
from mtaw_fast.memory import MemorySettings, MemoryTables
from mtaw_fast.online.compaction.compaction import compacted
from mtaw_fast.online.compaction.compactor import compact_folder
from mtaw_fast.online.log.event_log import Stamped
from mtaw_fast.online.log.events import Click, Event, Forget
from mtaw_fast.online.log.file_log import FileLog
from mtaw_fast.online.settings import LearningLimits, LearningSettings
from mtaw_fast.online.state.online_state import OnlineState
from mtaw_fast.ranking.pipeline import Pipeline
from tests.online.rankers import plain_ranker
from tests.support.random_bundle import bundle_parts

N, D = 40, 8
NOON = 1_764_150_000_000
HOUR = 3_600_000


def parts(seed: int = 3) -> Model:
    """A random model whose memory holds far more than the tests add, as it is where something is served."""
    made = bundle_parts(n_items=N, embedding_dim=D, seed=seed)
    made.pop("metrics"), made.pop("dataset")
    rng = np.random.default_rng(seed)
    past = Sessions.from_lists([(N * rng.random(rng.integers(2, 9)) ** 3).astype(int) for _ in range(4000)])
    return Model.of(**made, memory=MemoryTables.build(past, N), ranker_net=plain_ranker())


MODEL = parts()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Bundle.save(tmp_path / "bundle", MODEL, metrics={}, dataset={"name": "x", "fingerprint": "y"})
    return tmp_path / "bundle"


@pytest.fixture
def learning(folder: Path, tmp_path: Path) -> Iterator[Callable[..., Recommender]]:
    """Makes recommenders that learn in one folder, and ends them."""
    made: list[Recommender] = []

    def make(**settings: object) -> Recommender:
        rec = Recommender.load(folder, learn=LearningSettings(tmp_path / "learned", compact=False, **settings))
        made.append(rec)
        return rec

    yield make
    for rec in made:
        rec.close()


def until_learned(rec: Recommender, position: str, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while rec.log_position is None or rec.log_position < position:
        assert time.monotonic() < deadline, "a click was not learned in time"
        time.sleep(0.005)


def answers(rec: Recommender, sessions: list[list[str]]) -> list[tuple[list[str], bytes]]:
    found = [rec.recommend(session, k=15) for session in sessions]
    return [(one.items, one.scores.tobytes()) for one in found]


def drawn(seed: int, count: int = 60) -> list[list[str]]:
    rng = np.random.default_rng(seed)
    return [[f"sku-{i}" for i in rng.integers(0, N, rng.integers(1, 6))] for _ in range(count)]


def stream(seed: int, sessions: int = 80, new_items: int = 5) -> list[Event]:
    """Sessions that grow interleaved, one starting a minute, some on items that nobody knows."""
    rng = np.random.default_rng(seed)
    clicks = []
    for session in range(sessions):
        names = [f"sku-{i}" if i < N else f"new-{i - N}" for i in rng.integers(0, N + new_items, rng.integers(1, 8))]
        for place, name in enumerate(names):
            time = NOON + session * 60_000 + place * int(rng.integers(1_000, 90_000))
            clicks.append(Click(f"s{session}", name, time))
    return sorted(clicks, key=lambda click: click.time)


def stamped(events: list[Event]) -> list[Stamped]:
    return [Stamped(event, f"{place:010d}-000000000000") for place, event in enumerate(events)]


def test_it_learns_on_wherever_the_process_goes(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rec = Recommender.load(folder.name, learn=LearningSettings(Path("learned"), compact=False))
    monkeypatch.chdir("/")
    until_learned(rec, rec.observe("s", ["sku-1", "newest"]))
    rec.learner.compact(wait=True)
    assert "newest" in rec.bundle.ids
    rec.close()


def test_a_click_reaches_the_rankings_of_others(learning: Callable[..., Recommender]) -> None:
    rec, other = learning(), learning()
    before = other.recommend(["sku-1"], k=N)
    for visitor in range(30):
        position = rec.observe(f"v{visitor}", ["sku-1", "sku-2"])
    for one in (rec, other):
        until_learned(one, position)
    after = other.recommend(["sku-1"], k=N)
    assert after.scores.tolist() != before.scores.tolist()
    assert after.log_position is not None
    assert after.log_position >= position
    assert answers(rec, drawn(1)) == answers(other, drawn(1)), "two processes' worth of state differ"


def test_an_unknown_item_enters_the_catalog_and_is_recommended(learning: Callable[..., Recommender]) -> None:
    rec = learning()
    for visitor in range(20):
        position = rec.observe(f"v{visitor}", ["sku-1", "brand-new", "sku-2"])
    until_learned(rec, position)
    deadline = time.monotonic() + 10
    while "brand-new" not in rec.ids.external(np.arange(len(rec.ids), dtype=np.int32)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert "brand-new" in rec.recommend(["sku-1"], k=N + 1).items
    assert rec.recommend(["brand-new"]).unknown == []
    assert rec.similar_items("brand-new", k=3).items
    vector = rec._pipeline.catalog.vector(N)[0]
    assert np.isclose(np.linalg.norm(vector), 1, atol=1e-5)


def test_live_sessions_teach_and_come_to_know_what_they_clicked(learning: Callable[..., Recommender]) -> None:
    rec = learning()
    visit = rec.session(["sku-1", "fresh", "sku-2"], id="visitor")
    rec.observe("x", ["sku-3"])
    until_learned(rec, rec.observe("y", ["sku-1"]))
    deadline = time.monotonic() + 10
    while visit.recommend(k=3).unknown:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert visit.clicks == ["sku-1", "fresh", "sku-2"]
    whole = rec.recommend(["sku-1", "fresh", "sku-2"], k=10)
    assert visit.recommend(k=10).items == whole.items
    assert rec.learner.state.event_processor.learned_clicks == 5


def test_what_was_learned_is_there_after_a_restart(learning: Callable[..., Recommender]) -> None:
    rec = learning()
    for place, session in enumerate(drawn(4)):
        position = rec.observe(f"s{place}", [*session, "late-comer"])
    rec.add_items(["by-hand"], neighbors=[["sku-7", "sku-8"]])
    rec.remove_items(["sku-9"])
    position = rec.forget("s3")
    until_learned(rec, position)
    rec.close()
    again = learning()
    assert again.log_position == position
    questions = drawn(5)
    until_learned(rec, position)
    assert answers(again, questions) == answers(rec, questions)
    assert "by-hand" in again.recommend(["sku-7", "sku-8"], k=N + 2).items
    assert "sku-9" not in again.recommend(["sku-7"], k=N + 2).items


def test_tables_after_a_compaction_are_those_of_a_rebuild() -> None:
    assert MODEL.memory is not None
    events = stream(6)
    grown = compacted(MODEL, "log", [stamped(events)], LearningLimits(), all_over=True)
    assert grown.memory is not None
    new_items = [name for name in dict.fromkeys(event.item for event in events) if str(name).startswith("new")]
    places = {**{f"sku-{i}": i for i in range(N)}, **{name: N + i for i, name in enumerate(new_items)}}
    sessions: dict[str, list[Click]] = {}
    for event in events:
        sessions.setdefault(event.session, []).append(event)
    ordered = sorted(sessions.values(), key=lambda clicks: (clicks[-1].time, clicks[0].time))
    packed = Sessions.from_lists([[places[click.item] for click in clicks] for clicks in ordered])
    rebuilt = MemoryTables.build(
        Sessions.concatenate([MODEL.memory.sessions, packed]), N + len(new_items), MODEL.memory.settings
    )
    for name, array in rebuilt.arrays().items():
        assert np.array_equal(getattr(grown.memory, name), array), name
    assert grown.ids.lookup(new_items).tolist() == list(range(N, N + len(new_items)))
    known = np.bincount(packed.items, minlength=N + len(new_items))
    known[:N] += MODEL.popularity
    assert np.array_equal(grown.popularity, known)


@pytest.mark.parametrize("cut", [0, 40, 111, 200])
def test_compacting_in_pieces_or_at_once_is_the_same(cut: int) -> None:
    events = stream(7)
    cut = min(cut, len(events))
    events.insert(cut // 2, Forget("s2", NOON))
    limits = LearningLimits(session_gap=HOUR // 6)
    at_once = compacted(MODEL, "log", [stamped(events)], limits, all_over=True)
    first = compacted(MODEL, "log", [stamped(events)[:cut]], limits)
    both = compacted(first, "log", [stamped(events)[cut:]], limits, all_over=True)
    for name, array in at_once.memory.arrays().items():
        assert np.array_equal(getattr(both.memory, name), array), name
    assert np.array_equal(both.popularity, at_once.popularity)
    assert both.ids.external(np.arange(both.n_items, dtype=np.int32)) == at_once.ids.external(
        np.arange(at_once.n_items, dtype=np.int32)
    )
    assert both.log_progress.position == at_once.log_progress.position
    assert np.array_equal(both.log_progress.keys, at_once.log_progress.keys)
    assert np.array_equal(both.log_progress.sessions, at_once.log_progress.sessions)


def test_forgetting_leaves_tables_without_the_session() -> None:
    events = stream(8)
    name = events[len(events) // 2].session
    with_it = [*events, Forget(name, NOON)]
    without = [event for event in events if event.session != name]
    forgotten = compacted(MODEL, "log", [stamped(with_it)], LearningLimits(), all_over=True)
    later = compacted(
        compacted(MODEL, "log", [stamped(events)], LearningLimits(), all_over=True),
        "log", [[Stamped(Forget(name, NOON), "9")]], LearningLimits(), all_over=True,
    )  # fmt: skip
    if {event.item for event in without} == {event.item for event in events}:
        never = compacted(MODEL, "log", [stamped(without)], LearningLimits(), all_over=True)
        for one in (forgotten, later):
            for part, array in never.memory.arrays().items():
                assert np.array_equal(getattr(one.memory, part), array), part
            assert np.array_equal(one.popularity, never.popularity)


def test_old_sessions_are_dropped() -> None:
    events = stream(9)
    limits = LearningLimits()
    first = compacted(MODEL, "log", [stamped(events)], limits, all_over=True)
    last = Click("z", "sku-1", events[-1].time + 10 * HOUR)
    some = [Click("z", "sku-1", events[-1].time + step * HOUR // 2) for step in range(1, 21)]
    after = compacted(first, "log", [stamped([*some, last])], limits, keep=5 * HOUR, all_over=True)
    assert len(first.log_progress.sessions) > 0
    assert after.memory.n_sessions < first.memory.n_sessions + 21
    assert all(after.log_progress.last >= after.log_progress.clock - 5 * HOUR)
    assert after.memory.n_sessions >= MODEL.memory.n_sessions, "sessions of the training are not from the log"


@pytest.mark.parametrize("seed", range(3))
def test_a_live_state_ranks_as_the_compacted_model_does(seed: int) -> None:
    """But for roundings: sums of tables and delta are rounded apart, those of a rebuild together.

    Clicks are independent here, so that the last places are near ties: as many change places as ever will.
    """
    n = 1000
    rng = np.random.default_rng([10, seed])

    def sessions(count: int) -> list[np.ndarray]:
        return [(n * rng.random(rng.integers(1, 9)) ** 3).astype(int) for _ in range(count)]

    made = bundle_parts(n_items=n, embedding_dim=D)
    made.pop("metrics"), made.pop("dataset")
    past = MemoryTables.build(Sessions.from_lists(sessions(4000)), n, MemorySettings(max_neighbors=0))
    model = Model.of(**made, memory=past, ranker_net=plain_ranker())
    events: list[Event] = [
        Click(f"s{number}", f"sku-{item}", NOON + number * 60_000 + place * 1_000)
        for number, session in enumerate(sessions(200))
        for place, item in enumerate(session)
    ]
    state = OnlineState(model, LearningLimits())
    state.apply(stamped(events))
    grown = compacted(model, "log", [stamped(events)], LearningLimits(), all_over=True)
    live = Pipeline.of(state.newest(), *_parts(model))
    built = Pipeline.of(OnlineState(grown, LearningLimits()).newest(), *_parts(grown))
    _, items, offsets = state.delta.ordered()
    taught = [one.tolist() for one in Sessions(items, offsets)]  # such a query would be taken for the session itself
    asked = Sessions.from_lists([one for one in sessions(400) if one.tolist() not in taught])
    (mine, scores), (theirs, wanted) = live.rank(asked, 20), built.rank(asked, 20)
    assert np.abs(scores - wanted).max() < 0.02, "2^-8 of a sum, as the plain ranker weighs it"
    assert np.mean(mine == theirs) >= 0.985


def _parts(model: Model) -> tuple:
    from mtaw_fast.kernels.native.scan import quantize
    from mtaw_fast.ranking.encoders import NativeEncoder
    from mtaw_fast.ranking.retrieval import NativeIndex

    return NativeEncoder(model.config, model.weights), NativeIndex(model.item_vectors, quantize(model.item_vectors))


def test_a_compaction_is_taken_over_while_serving(folder: Path, tmp_path: Path) -> None:
    settings = LearningSettings(tmp_path / "learned", compact=False, limits=LearningLimits(session_gap=1000))
    rec = Recommender.load(folder, learn=settings)
    for event in stream(12):
        position = rec.learner.append([event])
    until_learned(rec, position)
    before = answers(rec, drawn(13))
    prepared = rec.filter(exclude=["sku-1"])
    rec.learner.compact(wait=True)
    until_learned(rec, position)
    assert rec.bundle.folder == tmp_path / "learned" / "bundle"
    assert rec.bundle.model.log_progress is not None
    after = answers(rec, drawn(13))
    places = [
        mine == theirs
        for old, new in zip(before, after, strict=True)
        for mine, theirs in zip(old[0], new[0], strict=True)
    ]
    assert np.mean(places) > 0.99
    until_learned(rec, rec.observe("s", ["sku-1", "newer still"]))
    assert "sku-1" not in rec.recommend(["sku-2"], k=N, filter=prepared).items
    rec.close()
    again = Recommender.load(folder, learn=settings)
    until_learned(again, position)
    assert len(answers(again, drawn(13))) == 60
    again.close()


def test_killed_at_any_moment_nothing_acknowledged_is_lost_or_counted_twice(folder: Path, tmp_path: Path) -> None:
    learned = tmp_path / "learned"
    script = (
        "import sys\nfrom mtaw_fast import Recommender\nfrom mtaw_fast.online.settings import LearningSettings\n"
        "from pathlib import Path\n"
        "rec = Recommender.load(sys.argv[1], learn=LearningSettings(Path(sys.argv[2]), compact=False))\n"
        "n = int(sys.argv[3])\n"
        "while True:\n"
        "    rec.observe(f's{n // 4}', [f'sku-{n % 40}'], ids=[f'e{n}'])\n"
        "    print(n, flush=True)\n    n += 1\n"
    )
    rng = np.random.default_rng(14)
    sent = 0
    for turn in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(folder), str(learned), str(sent)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for _ in range(int(rng.integers(5, 60))):
            sent = int(process.stdout.readline()) + 1
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate()
        said = [int(line) for line in rest.split("\n")[:-1] if line]
        sent = max([sent, *(one + 1 for one in said)])
        if turn == 1:  # the client cannot know whether its last events arrived, and sends some again
            sent = max(0, sent - 3)
        compact_folder(folder, LearningSettings(learned))
    rec = Recommender.load(folder, learn=LearningSettings(learned, compact=False))
    event_processor = rec.learner.state.event_processor
    events = {one.event.id for one in FileLog(learned).read("", 100_000)}
    counted = int(event_processor.clicks.sum() - MODEL.popularity.sum())
    rec.close()
    assert {f"e{n}" for n in range(sent)} <= events
    assert counted == len(events)


def test_without_a_memory_or_learn_it_says_so(folder: Path, tmp_path: Path) -> None:
    made = bundle_parts(n_items=N, embedding_dim=D)
    made.pop("metrics"), made.pop("dataset")
    Bundle.save(tmp_path / "plain", Model.of(**made), metrics={}, dataset={})
    with pytest.raises(UsageError, match="has no session memory, so it cannot learn"):
        Recommender.load(tmp_path / "plain", learn=tmp_path / "learned")
    rec = Recommender.load(folder)
    assert rec.log_position is None
    with pytest.raises(UsageError, match="does not learn; load it with learn=FOLDER"):
        rec.observe("s", ["sku-1"])
    with pytest.raises(UsageError, match="does not learn"):
        rec.forget("s")
    assert rec.recommend(["sku-1"]).log_position is None


def test_bad_clicks_teach_nothing(learning: Callable[..., Recommender]) -> None:
    rec = learning()
    for arguments in (("", ["sku-1"]), ("s", [None]), ("s", ["sku-1"], -5), ("s", ["sku-1", "sku-2"], [NOON])):
        with pytest.raises(DataError, match="observe"):
            rec.observe(*arguments)
    assert rec.learner.log.read("") == []
