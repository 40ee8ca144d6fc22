"""Choose the stepper of a training by device and settings."""

from __future__ import annotations

import logging

import torch

from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import UnsupportedError, UsageError
from mtaw_fast.kernels import triton_device
from mtaw_fast.kernels.prefix_interest.configs import MAX_D
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.steps.full_step import AnyStepper, Stepper
from mtaw_fast.training.steps.sampled_step import SampledStepper
from mtaw_fast.training.steps.static_step import StaticStep


def make_stepper(model: MTAW, config: Config, sessions: Sessions) -> AnyStepper:
    """Return the stepper for `loss.softmax` and `optimizer.train_step`, and log the choice.

    train_step='auto' takes CUDA graphs if they run. softmax='auto' takes the full one: the plan decides when to sample
    (`training.plan.plan`). sessions: all that the model trains on.

    Raises UsageError for CUDA graphs on a CPU or with a sample, UnsupportedError if the GPU does not support them.
    """
    log, train_step = logging.getLogger("mtaw_fast"), config.optimizer.train_step
    if config.loss.softmax == "sampled":
        if train_step == "cuda-graph":
            raise UsageError("setting train_step=cuda-graph does not work with softmax=sampled; choose auto or eager")
        log.info(
            "training step: eager, softmax over a batch's own items, those next to %d clicks on each, %d of the others",
            config.loss.cooccurrence_negatives, config.loss.negative_samples,
        )  # fmt: skip
        return SampledStepper(model, config, sessions)
    reasons = reasons_against_graphs(model)
    if train_step == "cuda-graph" and reasons:
        kind = UsageError if model.item_embedding.device.type != "cuda" else UnsupportedError
        raise kind(f"setting train_step=cuda-graph does not work: {', '.join(reasons)}; choose auto or eager")
    chosen = "eager" if train_step == "eager" or reasons else "cuda-graph"
    log.info("training step: %s%s", chosen, f" ({', '.join(reasons)})" if reasons and train_step == "auto" else "")
    return StaticStep(model, config, captures=True) if chosen == "cuda-graph" else Stepper(model, config)


def reasons_against_graphs(model: MTAW) -> list[str]:
    """Return why the step cannot be captured; empty if it can."""
    items, d = model.item_embedding, model.config.model.embedding_dim
    if items.device.type != "cuda":
        return [f"the model is on {items.device}, and CUDA graphs need a GPU"]
    reasons = triton_device.not_supported_reasons(items)
    if d > MAX_D:
        reasons.append(f"embedding_dim={d} is over {MAX_D}, and the torch encoder makes the GPU report lengths")
    if items.dtype != torch.float32:
        reasons.append("weights must be float32")
    return reasons
