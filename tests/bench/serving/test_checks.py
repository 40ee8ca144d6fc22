"""The checks of a service's answers find wrong ones and accept right ones."""

from __future__ import annotations

import numpy as np

from bench.serving.checks import Answer, Versions, checked, parse_answer
from bench.serving.inputs import distinct_sessions
from mtaw_fast.bundle import Bundle
from mtaw_fast.recommender import Recommender
from mtaw_fast.service.snapshot import current_version
from tests.support.random_bundle import save_random


def test_wrong_and_mixed_answers_are_noticed(tmp_path):
    bundles = [tmp_path / "bundle-0", tmp_path / "bundle-1"]
    for seed, folder in enumerate(bundles):
        save_random(folder, n_items=3000, embedding_dim=32, seed=seed, text=False)
    sessions = distinct_sessions(3000, 5, seed=0)
    versions = Versions.of(bundles, sessions, 10)
    ranking = [Versions.of([folder], sessions, 10) for folder in bundles]
    names = [current_version(folder) for folder in bundles]
    assert names[0] != names[1]
    ids = Bundle.load(bundles[0]).ids

    def response(made_by: int, says: int, header: int | None = None, nudge: float = 0.0) -> bytes:
        items, scores = ranking[made_by]._rankings[names[made_by]]
        row = (np.array(scores[2], float) + nudge).tolist()
        head = f"HTTP/1.1 200 OK\r\nX-Bundle-Version: {names[says if header is None else header]}\r\n\r\n"
        return head.encode() + f'{{"version": "{names[says]}", "items": {items[2]}, "scores": {row}}}'.encode()

    assert ids.kind == "int"
    assert versions.error(2, parse_answer(response(0, 0))) is None
    assert versions.error(2, parse_answer(response(1, 1))) is None
    assert "its items are not those" in str(versions.error(2, parse_answer(response(0, 1))))
    assert "in the header" in str(versions.error(2, parse_answer(response(0, 0, header=1))))
    assert "its scores are not those" in str(versions.error(2, parse_answer(response(0, 0, nudge=1e-4))))
    assert "its items are not those" in str(versions.error(1, parse_answer(response(0, 0))))
    assert "never published" in str(ranking[1].error(2, parse_answer(response(0, 0))))


def test_an_answer_of_another_bundle_is_found_among_the_others(tmp_path):
    for seed in (0, 1):
        save_random(tmp_path / str(seed), n_items=300, embedding_dim=16, seed=seed)
    sessions = distinct_sessions(300, 20, seed=0)
    answers = {}
    for number, clicks in enumerate(sessions):
        rec = Recommender.load(tmp_path / str(int(number == 7)))
        out, version = rec.recommend(rec.bundle.ids.external(clicks), 10), current_version(tmp_path / "0")
        answers[number] = Answer(out.items, out.scores.tolist(), version, version)
    assert "session 7: its items are not those" in str(checked(tmp_path / "0", sessions, answers, 10)[0])
    del answers[7]
    assert checked(tmp_path / "0", sessions, answers, 10) == (None, 1.0, 0.0)
