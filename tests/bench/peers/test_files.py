"""The contract with a driver: its job, and its stream of scores, ranked as everything else is."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from bench.peers.files import ranks_of_scores, score_blocks, write_job
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import DataError, UsageError
from mtaw_fast.evaluation import ranks_of, report_of
from tests.support.training.ring import ring_dataset

SETTINGS = {"epochs": 3, "patience": 3, "seed": 0, "max_len": 5, "source": "/one"}


class Listed:
    """An `Evaluated` whose scores are rows of a matrix, by the first click of a session."""

    def __init__(self, scores: np.ndarray) -> None:
        self.scores = scores

    def rank(self, sessions: Sessions, k: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = self.scores[sessions.items[sessions.offsets[:-1]]]
        order = np.argsort(-np.nan_to_num(chosen, nan=np.inf), axis=1, kind="stable")[:, :k].astype(np.int32)
        return order, np.take_along_axis(chosen, order, axis=1)


def stream_of(scores: np.ndarray, **said: int) -> io.BytesIO:
    head = {"rows": len(scores), "items": scores.shape[1], **said}
    return io.BytesIO(json.dumps(head).encode() + b"\n" + scores.astype(np.float32).tobytes())


def test_a_job_is_of_one_set_and_of_settings_that_stay(tmp_path: Path) -> None:
    dataset = ring_dataset()
    write_job(tmp_path, SETTINGS, dataset, 0.1)
    before = (tmp_path / "data.npz").read_bytes()
    write_job(tmp_path, {**SETTINGS, "epochs": 9, "source": "/two"}, dataset, 0.1)
    assert json.loads((tmp_path / "job.json").read_text())["epochs"] == 9
    assert (tmp_path / "data.npz").read_bytes() == before
    for settings, share in (({**SETTINGS, "seed": 1}, 0.1), (SETTINGS, 0.2)):
        with pytest.raises(UsageError, match="other settings or data; move it away"):
            write_job(tmp_path, settings, dataset, share)


def test_scores_that_are_read_back_have_the_ranks_of_our_evaluation() -> None:
    generator = np.random.default_rng(0)
    scores = generator.integers(0, 30, (1100, 40)).astype(np.float32)  # many ties; more rows than one block
    scores[::3] += generator.random((len(scores[::3]), 40), np.float32)
    scores[::11, ::7] = -np.inf
    targets = generator.integers(0, 40, 1100).astype(np.int32)
    samples = Samples(
        Sessions.from_lists([[row] for row in range(1100)]), targets, np.arange(1100, dtype=np.int32) // 3
    )
    ranks = ranks_of_scores(score_blocks(stream_of(scores), 1100, 40, "peer"), targets)
    expected = ranks_of(Listed(scores), samples)
    assert ranks.tolist() == expected.tolist()
    assert report_of(ranks, samples) == report_of(expected, samples)


@pytest.mark.parametrize(
    ("stream", "says"),
    [
        (io.BytesIO(b"Epoch 1: done\n"), "do not begin with their size"),
        (io.BytesIO(b""), "do not begin with their size"),
        (stream_of(np.zeros((4, 6))), "scored 4 x 6, and 4 samples x 7 items were asked for"),
        (stream_of(np.zeros((3, 7)), rows=4), "end at sample 0 of 4"),
    ],
)
def test_a_stream_that_is_not_what_was_asked_for_is_refused(stream: io.BytesIO, says: str) -> None:
    with pytest.raises(DataError, match=says):
        list(score_blocks(stream, 4, 7, "peer"))
