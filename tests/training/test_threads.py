"""The number of threads of a training, what uses it, and that no result depends on it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.errors import UsageError
from mtaw_fast.kernels.native import loss as native_loss
from mtaw_fast.training import threads as threads_module
from mtaw_fast.training import train
from mtaw_fast.training.threads import Threads, current_threads, training_threads
from tests.support.training.runs import same


@pytest.fixture(autouse=True)
def torch_on_six() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(6)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("usable", "expected"), [(2, 2), (64, 6)], ids=["this process's", "what torch is set to"])
def test_auto_takes_what_this_process_may(monkeypatch: pytest.MonkeyPatch, usable: int, expected: int) -> None:
    monkeypatch.setattr(threads_module, "usable_cpus", lambda: usable)
    assert Threads.of() == current_threads() == Threads(expected, 1)
    assert Threads.of(9, 3) == Threads(9, 3)  # explicit numbers are kept


@pytest.mark.parametrize("asked", [(0, 1), (-1, 1), (1, 0)])
def test_no_thread_is_refused(asked: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="threads must be at least 1"):
        Threads.of(*asked)


def test_torch_is_held_meanwhile_and_put_back(caplog: pytest.LogCaptureFixture) -> None:
    @training_threads(Threads(3, 2))
    def fails() -> None:
        assert (torch.get_num_threads(), current_threads()) == (2, Threads(3, 2))
        raise KeyError

    with caplog.at_level(logging.INFO, "mtaw_fast"), pytest.raises(KeyError):
        fails()
    assert torch.get_num_threads() == 6
    assert current_threads() != Threads(3, 2)
    assert "3 for the loss and the session memory, 2 for the encoder" in caplog.text


def test_the_loss_uses_them_the_records_have_them_and_no_bit_depends_on_them(
    ring: Dataset, remembering: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    right = native_loss.aw_loss

    def spy(*arrays: np.ndarray, **named: Any) -> None:
        counts.append(named["threads"])
        assert torch.get_num_threads() == 1
        right(*arrays, **named)

    monkeypatch.setattr(native_loss, "aw_loss", spy)
    config = remembering.replace(epochs=1, ranker_epochs=1)
    single, several = (train(ring, config, tmp_path / str(count), threads=count, refit=False) for count in (1, 3))
    assert list(dict.fromkeys(counts)) == [1, 3]
    records = [record for record in several.history if "threads" in record]
    assert {(record["threads"], record["encoder_threads"]) for record in records} == {(3, 1)}
    assert torch.get_num_threads() == 6
    assert same(single.model, several.model)
