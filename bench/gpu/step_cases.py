"""The training step on the GPU: encoder, Adam, the whole step (eager and as a CUDA graph), its parts, and an epoch."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.gpu.setting import Setting, WrongResultError, gate
from mtaw_fast.config import Config
from mtaw_fast.data.readers import npz
from mtaw_fast.data.sessions import Sessions, offsets_of
from mtaw_fast.kernels.adam import AdamGroup, AdamSettings, adam_step
from mtaw_fast.kernels.prefix_interest import PrefixInterestWeights, Tiles, prefix_interest
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.encoder.prefetch import made_ahead
from mtaw_fast.training.steps.batch import Batch, epoch_batches, sample_counts
from mtaw_fast.training.steps.choice import make_stepper
from mtaw_fast.training.steps.full_step import AnyStepper
from mtaw_fast.training.steps.static_step import StaticStep

_TOLERANCE = 5e-2  # bf16 against float32, of the largest entry
_CPU = torch.device("cpu")
_EPOCHS = 3  # the first compiles and captures


def encoder(setting: Setting) -> Iterator[dict[str, Any]]:
    """Time prefix_interest, forward alone and with the backward pass, in bf16 and float32."""
    lengths, d = np.array(setting.lengths), setting.d
    offsets = offsets_of(lengths)
    tiles, on_device = Tiles.of(offsets, setting.device), torch.from_numpy(offsets).to(setting.device)
    shapes = {name: (d, d) if name.endswith("_weight") and name != "norm_weight" else (d,) for name in _FIELDS}
    leaves = [setting.normal(int(offsets[-1]), d), *(setting.normal(*shape) / d**0.5 for shape in shapes.values())]
    for leaf in leaves:
        leaf.requires_grad_()

    def run(backend: str, dtype: torch.dtype) -> Tensor:
        weights = PrefixInterestWeights(*leaves[1:])
        return prefix_interest(leaves[0], on_device, weights, tiles=tiles, compute_dtype=dtype, backend=backend)

    def both(backend: str, dtype: torch.dtype) -> tuple[Tensor, ...]:
        output = run(backend, dtype)
        return output, *torch.autograd.grad(output.square().sum(), leaves)

    truth = both("reference", torch.float32)
    for dtype in (torch.bfloat16, torch.float32):
        result = both("triton", dtype)
        error = max(gate(f"result {k}", a, b, _TOLERANCE) for k, (a, b) in enumerate(zip(result, truth, strict=True)))
        for part, work in (("forward", run), ("forward and backward", both)):
            time = setting.time(lambda work=work, dtype=dtype: work("triton", dtype))
            facts = {"part": part, "dtype": str(dtype).removeprefix("torch."), "clicks": int(offsets[-1])}
            yield {**facts, "error": f"{error:.1e}", **time}


def adam(setting: Setting) -> Iterator[dict[str, Any]]:
    """Time one AdamW step over the item vectors, with its memory traffic."""
    size = setting.items * setting.d
    results = []
    for backend in ("reference", "triton"):
        moments = torch.zeros(2, size, device=setting.device)
        group = AdamGroup(setting.normal(size), setting.normal(size), *moments)
        state = [torch.tensor(value, device=setting.device) for value in (0.0, 1e-3)]
        apply = torch.tensor(True, device=setting.device)
        settings = AdamSettings(clip_norm=1.0)
        adam_step([group], *state, apply=apply, settings=settings, backend=backend)
        results.append(group.weights.clone())
    error = gate("the weights", results[1], results[0], 1e-5)
    time = setting.time(lambda: adam_step([group], *state, apply=apply, settings=settings, backend="triton"))
    rate = {"gb_s": round(32 * size / time["p50_us"] * 1e-3, 1)} if time else {}  # 4 + 3 arrays, gradients once more
    yield {"weights": size, "error": f"{error:.1e}", **time, **rate}


def step(setting: Setting) -> Iterator[dict[str, Any]]:
    """Time a whole step from a batch in host memory: operation by operation and, on a GPU, as a CUDA graph."""
    config = Config.of(
        embedding_dim=setting.d, dropout=0.0, clip_norm=1.0, compute_dtype="bfloat16", train_step="cuda-graph",
        batch_prefixes=setting.rows,
    )  # fmt: skip
    batch = Batch.of(drawn_sessions(setting), 1, _CPU)
    variants = {"operation by operation": StaticStep(_model(setting, config), config)}
    if not setting.dry:
        variants["as a CUDA graph"] = StaticStep(_model(setting, config), config, captures=True)
    losses = {name: torch.tensor([stepper.step(batch, 1.0), stepper.end_epoch()]) for name, stepper in variants.items()}
    plain = config.replace(compute_dtype="float32", loss_backend="reference")
    reference = StaticStep(MTAW(config, setting.items).draw_weights(0).train(), plain, "reference")
    truth = torch.tensor([reference.step(batch, 1.0), reference.end_epoch()])
    for name, stepper in variants.items():
        error = gate(f"the loss, {name}", losses[name], truth, 1e-2)
        time = setting.time(lambda stepper=stepper: stepper.step(batch, 1.0))
        yield {"step": name, "samples": len(batch.rows), "error": f"{error:.1e}", **time}
    if setting.dry:
        yield {"step": "as a CUDA graph", "skipped": "nothing can be captured without a GPU"}


def drawn_sessions(setting: Setting) -> Sessions:
    """Draw sessions of the setting's lengths, with a target each."""
    rng = np.random.default_rng(0)
    return Sessions.from_lists([rng.integers(0, setting.items, length + 1) for length in setting.lengths])


def _model(setting: Setting, config: Config) -> MTAW:
    return MTAW(config, setting.items).draw_weights(0).to(setting.device).train()


_FIELDS = PrefixInterestWeights._fields


def epoch(setting: Setting) -> Iterator[dict[str, Any]]:
    """Yield the seconds of each epoch, on $MTAW_DATA/tmall if it exists, else on similar drawn sessions."""
    name, sessions, n_items = _sessions(setting)
    config = Config.of(embedding_dim=setting.d, epochs=_EPOCHS, train_step="auto", batch_prefixes=setting.rows)
    torch.manual_seed(0)
    model = MTAW(config, n_items).draw_weights(0).to(setting.device).train()
    # StaticStep is what a GPU's graphs capture.
    stepper = StaticStep(model, config) if setting.dry else make_stepper(model, config, sessions)
    samples = sample_counts(sessions, 1)
    facts = {"data": name, "sessions": len(sessions), "samples": int(samples.sum()), "N": n_items, "d": setting.d}
    last_loss = math.inf
    for number in range(1, (1 if setting.dry else _EPOCHS) + 1):
        batches = epoch_batches(samples, config.optimizer.batch_prefixes, config.optimizer.seed, number)
        begin = time.perf_counter()
        loss = _run(stepper, sessions, batches, number)
        seconds = time.perf_counter() - begin
        if not loss < last_loss:
            raise WrongResultError(f"the mean loss of epoch {number} is {loss:.4f}, after {last_loss:.4f}")
        last_loss = loss
        figures = {} if setting.dry else {"epoch_s": round(seconds, 3), "loss": round(loss, 4)}
        details = {"steps": len(batches), "stepper": type(stepper).__name__, "error": "the loss falls"}
        yield {"epoch": number, **facts, **details, **figures}


def _run(stepper: AnyStepper, sessions: Sessions, batches: list[np.ndarray], number: int) -> float:
    """Train one epoch as `Fitting._epoch` does, without reports and checkpoints; return the mean loss."""

    def made(numbers: np.ndarray) -> Any:
        return stepper.stage(Batch.of(sessions.select(numbers), 1, stepper.input_device))

    for step, (_, batch) in enumerate(made_ahead(made, batches, stepper.ahead)):
        stepper.step(batch, number - 1 + step / len(batches))
    return stepper.end_epoch()


def _sessions(setting: Setting) -> tuple[str, Sessions, int]:
    folder = os.environ.get("MTAW_DATA")
    if folder and not setting.dry and (Path(folder) / "tmall" / "train.npz").exists():
        dataset = npz.read(Path(folder) / "tmall")
        return "tmall", dataset.train.select(np.flatnonzero(dataset.train.lengths > 1)), dataset.n_items
    count, n_items = setting.sessions, setting.items
    rng = np.random.default_rng(0)  # 6.4 clicks a session, as Tmall's
    lengths = np.minimum(2 + rng.geometric(1 / 4.4, count) - 1, 40)
    shares = 1 / np.arange(10, n_items + 10) ** 0.8
    items = rng.choice(n_items, int(lengths.sum()), p=shares / shares.sum())
    return "drawn", Sessions.from_lists(np.split(items, np.cumsum(lengths)[:-1])), n_items
