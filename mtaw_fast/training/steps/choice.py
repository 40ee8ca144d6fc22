"""Which stepper trains a model: by device and settings, and said in the log."""

from __future__ import annotations

import logging

import torch

from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import UnsupportedError, UsageError
from mtaw_fast.kernels import triton_device
from mtaw_fast.kernels.prefix_interest.configs import MAX_D
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.steps.cuda_graph_step import GraphStep
from mtaw_fast.training.steps.full_step import AnyStepper, Stepper
from mtaw_fast.training.steps.sampled_step import SampledStepper


def make_stepper(model: MTAW, config: Config, sessions: Sessions) -> AnyStepper:
    """The stepper that config.softmax and config.step ask for; 'auto' takes CUDA graphs where nothing speaks against
    them, and the full softmax: when to sample is the plan's matter (`training.plan.plan`). sessions: all that are trained
    on.

    Raises UsageError where graphs are asked for on a CPU or for a sample, UnsupportedError where the GPU cannot have
    them.
    """
    if config.loss.softmax == "sampled":
        if config.optimizer.train_step == "cuda-graph":
            raise UsageError("setting train_step=cuda-graph cannot be had with softmax=sampled; choose auto or eager")
        logging.getLogger("mtaw_fast").info(
            "training step: eager, softmax over a batch's own items, those beside %d clicks on each, %d of the others",
            config.loss.cooccurrence_negatives, config.loss.negative_samples,
        )  # fmt: skip
        return SampledStepper(model, config, sessions)
    against = reasons_against_graphs(model)
    if config.optimizer.train_step == "cuda-graph" and against:
        kind = UsageError if model.item_embedding.device.type != "cuda" else UnsupportedError
        raise kind(f"setting train_step=cuda-graph cannot be had: {', '.join(against)}; choose auto or eager")
    chosen = "eager" if config.optimizer.train_step == "eager" or against else "cuda-graph"
    why = f" ({', '.join(against)})" if against and config.optimizer.train_step == "auto" else ""
    logging.getLogger("mtaw_fast").info("training step: %s%s", chosen, why)
    return GraphStep(model, config) if chosen == "cuda-graph" else Stepper(model, config)


def reasons_against_graphs(model: MTAW) -> list[str]:
    """Why the step cannot be captured; empty where it can."""
    items = model.item_embedding
    if items.device.type != "cuda":
        return [f"the model is on {items.device}, and CUDA graphs need a GPU"]
    reasons = triton_device.not_supported_reasons(items)
    if model.config.model.embedding_dim > MAX_D:
        reasons.append(
            f"embedding_dim={model.config.model.embedding_dim} is over {MAX_D}, and the eager encoder makes the GPU report lengths"
        )
    if items.dtype != torch.float32:
        reasons.append("weights must be float32")
    return reasons
