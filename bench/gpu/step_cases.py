"""The other parts of a training step on the GPU: encoder, Adam, and the whole step, eager and as a CUDA graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.gpu.setting import Setting, gate
from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Sessions, offsets_of
from mtaw_fast.kernels.adam import AdamGroup, AdamSettings, adam_step
from mtaw_fast.kernels.prefix_interest import PrefixInterestWeights, Tiles, prefix_interest
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.steps.batch import Batch
from mtaw_fast.training.steps.cuda_graph_step import GraphStep
from mtaw_fast.training.steps.static_step import StaticStep

_TOLERANCE = 5e-2  # bf16 against float32, of the largest entry
_CPU = torch.device("cpu")


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
        out = run(backend, dtype)
        return out, *torch.autograd.grad(out.square().sum(), leaves)

    truth = both("reference", torch.float32)
    for dtype in (torch.bfloat16, torch.float32):
        got = both("triton", dtype)
        error = max(gate(f"result {k}", a, b, _TOLERANCE) for k, (a, b) in enumerate(zip(got, truth, strict=True)))
        for part, work in (("forward", run), ("forward and backward", both)):
            time = setting.time(lambda work=work, dtype=dtype: work("triton", dtype))
            what = {"part": part, "dtype": str(dtype).removeprefix("torch."), "clicks": int(offsets[-1])}
            yield {**what, "error": f"{error:.1e}", **time}


def adam(setting: Setting) -> Iterator[dict[str, Any]]:
    """Time one AdamW step over the item vectors, with its memory traffic."""
    size = setting.items * setting.d
    results = []
    for backend in ("reference", "triton"):
        moments = torch.zeros(2, size, device=setting.device)
        group = AdamGroup(setting.normal(size), setting.normal(size), *moments)
        state = [torch.tensor(value, device=setting.device) for value in (0.0, 1e-3)]
        on = torch.tensor(True, device=setting.device)
        settings = AdamSettings(clip_norm=1.0)
        adam_step([group], *state, apply=on, settings=settings, backend=backend)
        results.append(group.weights.clone())
    error = gate("the weights", results[1], results[0], 1e-5)
    time = setting.time(lambda: adam_step([group], *state, apply=on, settings=settings, backend="triton"))
    rate = {"gb_s": round(32 * size / time["p50_us"] * 1e-3, 1)} if time else {}  # 4 + 3 arrays, gradients once more
    yield {"weights": size, "error": f"{error:.1e}", **time, **rate}


def step(setting: Setting) -> Iterator[dict[str, Any]]:
    """Time a whole step from a batch in host memory: operation by operation and, on a GPU, as a CUDA graph."""
    eager, batch = steppers(setting, dropout=0.0)
    taken = {"operation by operation": eager}
    config = eager._config
    if not setting.dry:
        taken["as a CUDA graph"] = GraphStep(_model(setting, config), config)
    losses = {name: torch.tensor([stepper.step(batch, 1.0), stepper.end_epoch()]) for name, stepper in taken.items()}
    plain = config.replace(compute_dtype="float32", loss_backend="reference")
    reference = StaticStep(MTAW(config, setting.items).draw_weights(0).train(), plain, "reference")
    truth = torch.tensor([reference.step(batch, 1.0), reference.end_epoch()])
    for name, stepper in taken.items():
        error = gate(f"the loss, {name}", losses[name], truth, 1e-2)
        time = setting.time(lambda stepper=stepper: stepper.step(batch, 1.0))
        yield {"step": name, "samples": len(batch.rows), "error": f"{error:.1e}", **time}
    if setting.dry:
        yield {"step": "as a CUDA graph", "skipped": "nothing can be captured without a GPU"}


def steppers(setting: Setting, dropout: float) -> tuple[StaticStep, Batch]:
    """Return a stepper that works operation by operation, and a batch in host memory for it."""
    config = Config.of(
        embedding_dim=setting.d,
        dropout=dropout,
        clip_norm=1.0,
        compute_dtype="bfloat16",
        train_step="cuda-graph",
        batch_prefixes=setting.rows,
    )
    return StaticStep(_model(setting, config), config), Batch.of(drawn_sessions(setting), 1, _CPU)


def drawn_sessions(setting: Setting) -> Sessions:
    """Draw sessions of the setting's lengths, with a target each."""
    rng = np.random.default_rng(0)
    return Sessions.from_lists([rng.integers(0, setting.items, length + 1) for length in setting.lengths])


def _model(setting: Setting, config: Config) -> MTAW:
    return MTAW(config, setting.items).draw_weights(0).to(setting.device).train()


_FIELDS = PrefixInterestWeights._fields
