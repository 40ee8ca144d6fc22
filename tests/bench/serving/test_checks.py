"""The checks of a service's answers find wrong ones and accept right ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.serving.checks import Answer, Versions, check_sample, parse_answer
from bench.serving.inputs import distinct_sessions
from mtaw_fast.bundle import Bundle
from mtaw_fast.recommender import Recommender
from mtaw_fast.service.snapshot import current_version
from tests.support.random_bundle import save_random


def answers_of(folder: Path, sessions, k: int) -> dict[int, Answer]:
    recommender = Recommender.load(folder)
    answers = {}
    for number, clicks in enumerate(sessions):
        out = recommender.recommend(recommender.bundle.ids.external(clicks), k)
        answers[number] = Answer(out.items, out.scores.tolist(), "", "")
    return answers


def test_the_check_passes_right_answers_and_no_others(tmp_path):
    save_random(tmp_path, n_items=300, embedding_dim=16)
    sessions = distinct_sessions(300, 20, seed=0)
    answers = answers_of(tmp_path, sessions, 10)
    verdict = check_sample(tmp_path, sessions, answers, 10, exact=True)
    assert (verdict.error, verdict.checked, verdict.recall) == (None, 20, 1.0)
    assert check_sample(tmp_path, sessions, answers, 10, exact=False).recall == 1.0

    good = answers[7]
    swapped = Answer([good.items[1], good.items[0], *good.items[2:]], good.scores, "", "")
    shifted = Answer(good.items, [score + 0.01 for score in good.scores], "", "")
    short = Answer(good.items[:9], good.scores[:9], "", "")
    unknown = Answer(["nobody", *good.items[1:]], good.scores, "", "")
    for wrong in (swapped, shifted, short, unknown):
        for exact in (True, False):
            error = check_sample(tmp_path, sessions, {**answers, 7: wrong}, 10, exact).error
            assert error is not None
            assert "session 7" in error


def test_missed_items_fail_an_exact_check_and_otherwise_lower_recall(tmp_path):
    save_random(tmp_path, n_items=300, embedding_dim=16)
    sessions = distinct_sessions(300, 20, seed=0)
    longer = answers_of(tmp_path, sessions, 11)
    missed = {
        number: Answer(answer.items[1:], answer.scores[1:], "", "") if number < 5 else
        Answer(answer.items[:10], answer.scores[:10], "", "")
        for number, answer in longer.items()
    }  # fmt: skip
    assert check_sample(tmp_path, sessions, missed, 10, exact=True).error is not None
    verdict = check_sample(tmp_path, sessions, missed, 10, exact=False)
    assert verdict.error is None
    assert verdict.recall == pytest.approx(1 - 5 / 200)
    assert 0 < verdict.recall_error < 0.05


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
