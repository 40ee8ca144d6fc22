"""The bench of readings: each is trained, goes on where it stopped with the same bits, and differs as it says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="bench.quality needs the extra 'train'")

import torch

from bench.quality import readings
from bench.quality.readings import PLAIN, READINGS, Decaying, QueryOfClicks, Reversed, Run, WeightStopped
from mtaw_fast.data.synthetic import generate
from mtaw_fast.kernels.aw_loss import aw_loss
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.encoder.validation import validation_metrics
from mtaw_fast.training.steps.batch import Batch
from tests.support.bench.quality import write_ring

SETTINGS = ["embedding_dim=8"]
DATASET = generate(60, 300)


@pytest.mark.parametrize("name", READINGS)
def test_a_reading_goes_on_where_it_stopped(name: str, tmp_path: Path) -> None:
    whole = Run(name, DATASET, 0, tmp_path / "whole", SETTINGS).epochs(2)
    assert Run(name, DATASET, 0, tmp_path / "parts", SETTINGS).epochs(1) == [
        {**whole[0], "seconds": pytest.approx(0, abs=60)}
    ]
    parts = Run(name, DATASET, 0, tmp_path / "parts", SETTINGS).epochs(2)
    assert [epoch["loss"] for epoch in parts] == [epoch["loss"] for epoch in whole]
    assert Run(name, DATASET, 0, tmp_path / "parts", SETTINGS).epochs(3, deadline=0) == parts


def _models(kind: type[MTAW]) -> tuple[MTAW, MTAW, Batch]:
    """Return the plain model, another one with its weights, and a batch of sessions."""
    config = readings.LITERAL.replace(embedding_dim=8)
    plain, other = MTAW(config, 60).draw_weights(1).eval(), kind(config, 60).draw_weights(1).eval()
    return plain, other, Batch.of(DATASET.train.select(np.arange(20)), 1, torch.device("cpu"))


def test_reversed_positions_count_from_the_last_click() -> None:
    plain, other, _ = _models(Reversed)
    single = torch.tensor([5]), torch.tensor([0, 1])
    assert torch.equal(plain(*single), other(*single))
    clicks, offsets = torch.tensor([5, 7, 9]), torch.tensor([0, 3])
    with torch.no_grad():
        plain.position_embedding[:3] = plain.position_embedding[:3].flip(0)
    assert torch.equal(plain(clicks, offsets), other(clicks, offsets))


def test_the_query_of_clicks_is_the_preset_but_for_its_query() -> None:
    plain, other, batch = _models(QueryOfClicks)
    assert not torch.allclose(plain(batch.clicks, batch.offsets), other(batch.clicks, batch.offsets))
    for model in (plain, other):
        torch.nn.init.zeros_(model.iel_query_weight)  # then both ask with the bias
    expected = plain(batch.clicks, batch.offsets)
    assert torch.allclose(other(batch.clicks, batch.offsets), expected, rtol=1e-5, atol=1e-6)


def test_no_gradient_passes_through_a_stopped_weight() -> None:
    plain, _, batch = _models(MTAW)
    stepper = WeightStopped(plain, plain.config.replace(compute_dtype="float32"))
    clicked = plain.item_embedding.detach()[batch.clicks].requires_grad_()
    loss = stepper._loss(clicked, batch)
    (found,) = torch.autograd.grad(loss, clicked)
    queries = plain.interests(clicked, batch.offsets)[batch.rows]
    cosines = torch.nn.functional.normalize(queries) @ torch.nn.functional.normalize(plain.item_embedding).T
    entropy = torch.nn.functional.cross_entropy(16 * cosines, batch.targets, reduction="none")
    expected = ((2 - 2 * (-entropy).exp()).detach() ** 2 * entropy).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(found, torch.autograd.grad(expected, clicked)[0], rtol=1e-3, atol=1e-6)
    whole = aw_loss(queries.detach(), plain.item_embedding, batch.targets, scale=16, gamma=2, backend="reference")
    assert loss.item() == pytest.approx(whole.item(), rel=1e-5)  # the same loss, another gradient


def test_the_rate_falls_every_three_epochs_and_weights_decay_in_the_gradient() -> None:
    plain, _, batch = _models(MTAW)
    stepper = Decaying(plain, plain.config)
    for progress, lr in ((0.0, 1e-3), (2.9, 1e-3), (3.0, 1e-4), (6.5, 1e-5)):
        stepper.step(batch, progress)
        assert float(stepper._adam.rate) == pytest.approx(lr)
    parameter = plain.norm_bias
    torch.nn.init.constant_(parameter, 3.0)
    parameter.grad = None
    (2 * parameter).sum().backward()
    assert parameter.grad is not None
    assert torch.allclose(parameter.grad, torch.full_like(parameter, 2 + 3e-5))


def test_the_metrics_are_those_of_the_training(tmp_path: Path) -> None:
    run = Run(PLAIN, DATASET, 0, tmp_path / "run", SETTINGS)
    model = MTAW(run.config, DATASET.n_items).draw_weights(3)
    found = readings.prefix_metrics(model, run.config, run._held_out, DATASET.min_prefix)
    expected = validation_metrics(model, run._held_out, DATASET.min_prefix)
    assert found == {name: round(expected[name], 2) for name in found}


def test_each_run_has_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_ring(tmp_path / "data")
    out = tmp_path / "out.jsonl"
    call = ["--data", str(tmp_path / "data"), "--work", str(tmp_path / "work"), "--out", str(out), "--only", PLAIN]
    tiny = [part for one in SETTINGS for part in ("--set", one)]
    assert readings.main([*call, *tiny, "--stages", "ring:0:1,ring:1:2,ring:0:2"]) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(line["seed"], len(line["epochs"])) for line in lines] == [(0, 2), (1, 2)]
    mean = np.mean([line["epochs"][1]["P@20"] for line in lines])
    assert f"{mean:.2f} / " in capsys.readouterr().out
