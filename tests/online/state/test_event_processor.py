"""Events become clicks, items and removals, and every reader decides the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from mtaw_fast.bundle import Model
from mtaw_fast.memory.log_progress import LogProgress
from mtaw_fast.online.log.event_log import LogEntry
from mtaw_fast.online.log.events import AddItems, Click, Event, RemoveItems
from mtaw_fast.online.settings import LearningLimits
from mtaw_fast.online.state.event_processor import EventProcessor
from mtaw_fast.online.state.log_clock import LogClock
from mtaw_fast.online.state.session_tracker import event_key
from tests.support.online.recommenders import model_fields
from tests.support.random_bundle import memory_parts

NOON = 1_764_150_000_000
N = 20


class Recorder:
    """A sink that records its calls."""

    def __init__(self) -> None:
        self.clicks: list[tuple[int, int, int]] = []
        self.calls: list[tuple[str, Any]] = []
        self.refreshes = 0

    def click(
        self, handles: np.ndarray, items: np.ndarray, times: np.ndarray, context: object = None, types: object = None
    ) -> None:
        self.clicks += list(zip(handles.tolist(), items.tolist(), times.tolist(), strict=True))

    def forget(self, handle: int) -> None:
        self.calls.append(("forget", handle))

    def forget_in_tables(self, place: int) -> None:
        self.calls.append(("forget in tables", place))

    def add_prior(self, item: int, neighbor: int, sessions: int, time: int | None = None) -> None:
        self.calls.append(("prior", (item, neighbor)))

    def refresh_vectors(self) -> None:
        self.refreshes += 1

    def recompute_vectors(self, places: Sequence[int]) -> None:
        self.calls.append(("renew", tuple(places)))


def model_of(text: bool = True, learned: LogProgress | None = None) -> Model:
    model = Model.of(**model_fields(N, 4, text=text), **memory_parts(N))
    object.__setattr__(model, "log_progress", learned)
    return model


def entries(events: Sequence[Event], first: int = 0) -> list[LogEntry]:
    return [LogEntry(event, f"{place:04d}") for place, event in enumerate(events, first)]


def run(
    events: list[Event], model: Model | None = None, since: int | None = None, **limits: Any
) -> tuple[EventProcessor, Recorder]:
    event_processor, sink = EventProcessor(model or model_of(), LearningLimits(**limits), since), Recorder()
    event_processor.start(sink)
    event_processor.process(entries(events), sink)
    return event_processor, sink


def click(session: str, item: int | str, after: int = 0) -> Click:
    return Click(session, item, NOON + after)


def test_what_the_training_knew_is_not_learned_twice() -> None:
    event_processor, sink = run([click("a", f"sku-{after}", after) for after in range(4)], since=NOON + 1)
    assert [call[1] for call in sink.clicks] == [2, 3]
    assert event_processor.tracker.refused == {"trained": 2}
    repeats = [Click("a", "sku-0", NOON + 1, id="e-0"), Click("a", "sku-0", NOON + 9, id="e-0")]
    event_processor.process(entries(repeats, 4), sink)
    assert len(sink.clicks) == 2
    assert event_processor.tracker.refused == {"trained": 3, "duplicate": 1}


def test_a_full_catalog_and_ids_of_the_other_type_are_refused_and_counted() -> None:
    event_processor, sink = run([click("a", name) for name in ("x", "y", "z", "x", "sku-1")], new_items=2)
    assert [call[1] for call in sink.clicks] == [N, N + 1, N, 1]
    assert event_processor.tracker.refused == {"catalog_full": 1}
    event_processor, sink = run([click("a", "5"), click("a", 5), click("a", 17)], model_of(text=False))
    assert [call[1] for call in sink.clicks] == [N, 1]
    assert event_processor.items.new_items.ids == (5,)
    assert event_processor.tracker.refused == {"wrong_type": 1}


def test_what_a_model_carries_is_learned_whatever_the_limits() -> None:
    lines = b"\n".join(click("s", item, after).line() for after, item in enumerate(["sku-1", "x", "sku-2"]))
    learned = LogProgress(
        "log", "0007", LogClock(LearningLimits()).state() | {"now": NOON}, carried=np.frombuffer(lines, np.uint8),
        open={"s": (NOON + 2, NOON, 3, False, ())}, seen=np.array([event_key("s", "e")], np.uint64),
        removed=np.array([7], np.int32), hidden=np.array([8], np.int32), seed_items=np.array([1], np.int32),
        seed_neighbors=np.array([2], np.int32), seed_times=np.array([5], np.int64),
    )  # fmt: skip
    event_processor, sink = run([], model_of(learned=learned), session_clicks=1, item_floor=0, item_share=0.01)
    assert [call[1] for call in sink.clicks] == [1, N, 2]
    assert sink.calls == [("prior", (1, 2))]
    assert event_processor.position == "0007"
    assert np.flatnonzero(event_processor.items.unavailable).tolist() == [7, 8]
    event_processor.process(entries([Click("s", "sku-3", NOON + 3, id="e"), click("s", "sku-3", 4)], 8), sink)
    assert event_processor.tracker.refused == {"duplicate": 1, "session_full": 1}


@pytest.mark.parametrize("lost", [False, True])
def test_a_rebuilt_state_knows_a_kept_item_from_where_the_log_adds_it(lost: bool) -> None:
    """Earlier events on it have no effect. Those after the other processor's position do, whatever the log has lost."""
    addition = AddItems(("z",), (("x",),), None, NOON)
    events: list[Event] = [addition, click("a", "x"), click("a", "sku-3")]
    other, first = run(events)
    event_processor, sink = run([])
    event_processor.keep_items(other)
    later = entries([*events, RemoveItems(("x",), NOON)])
    event_processor.process(later[2:-1] if lost else later[:-1], sink)
    place = event_processor.items.new_items.internal_id_of("x")
    assert place == other.items.new_items.internal_id_of("x")
    assert not event_processor.items.unavailable[place]
    if not lost:
        assert sink.calls == first.calls
        assert np.array_equal(event_processor.items.clicks, other.items.clicks)
    event_processor.process(later[-1:], sink)
    assert event_processor.items.unavailable[place]
