"""Waiting requests are ranked in batches under load; each answer is the same as without a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mtaw_fast.recommender import Recommender
from tests.support.random_bundle import save_random
from tests.support.service.running import eventually, running
from tests.support.service.traffic import traffic


def test_answers_are_the_same_to_the_bit(tmp_path: Path) -> None:
    # Large enough that requests arrive faster than they are ranked one by one.
    folder = tmp_path / "bundle"
    save_random(folder, n_items=150_000, embedding_dim=48, text=False)
    rec = Recommender.load(folder)
    sessions = [[7 + 10 * (31 * n + 977 * t) for t in range(3)] for n in range(32)] + [[], [5]]

    def make(client: int, number: int) -> tuple[str, Any]:
        body = {"session": sessions[(client + 3 * number) % len(sessions)], "k": 5 + 5 * (client % 2)}
        return "/v1/recommend", {**body, "exclude_seen": number % 9 == 0, "repeats": client % 2 == 1}

    with running(folder) as service:
        with traffic(service, make, clients=12) as records:
            eventually(lambda: service.metric("mtaw_batched_answers_total") > 100, 60)
        assert service.metric('mtaw_stage_seconds_count{stage="batched"}') > 5
    for record in records:
        assert not record.lost
        for body, reply in record.replies:
            out = rec.recommend(body["session"], body["k"], exclude_seen=body["exclude_seen"], repeats=True)
            answer = reply.json
            assert (answer["items"], answer["scores"]) == (out.items, out.scores.tolist())
            assert (answer["unknown"], answer["fallback"]) == (out.unknown, out.fallback)
            if body["repeats"]:
                assert out.repeats is not None
                assert answer["repeats"] == out.repeats.tolist()
