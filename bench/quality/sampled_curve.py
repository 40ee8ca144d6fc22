"""The AW loss over samples of the catalog: its error, and that of its gradients, against the number of draws.

python -m bench.quality.sampled_curve --data DIR [--dataset tmall,retailrocket] [--counts N,N,..] [--neighbors N,N,..]

The encoder is the preset paper's after one epoch on the training sessions without the validation ones (kept in
--work); the batches are the first of its next epoch. Each batch's loss and item gradient over the whole catalog, in
float32, are compared with those over several draws of samples. Each number of draws and of neighbors is a line of
--out, which replaces the lines of the same data sets.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.harness.comparison import limit_threads
from bench.harness.report import command, whole_numbers
from bench.quality.records import read_points, write_points
from bench.quality.reuse import encoder_of
from bench.quality.runs import ProgressLines, curve_parser, prepared
from mtaw_fast.config import Config, preset
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.kernels.aw_loss import aw_loss
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.steps.batch import Batch, epoch_batches, sample_counts
from mtaw_fast.training.steps.negative_sampling import CatalogSample, Occurrences
from mtaw_fast.training.steps.sampled_loss import sampled_aw_loss

OUT = Path("docs/results/sampled-softmax.jsonl")
_COUNTS = "256,512,1024,2048,4096,8192,16384"
_NEIGHBORS = "0,4,8"
_GAMMA = {"retailrocket": 6.0}  # the paper's; 2 elsewhere


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Measure the curves; return the exit status."""
    parser = curve_parser("sampled_curve", __doc__, f"draws a step (default: {_COUNTS})", _COUNTS, OUT)
    parser.add_argument(
        "--neighbors", default=_NEIGHBORS, metavar="N,..", help=f"clicks drawn on an item (default: {_NEIGHBORS})"
    )
    parser.add_argument("--batches", type=int, default=8, metavar="N", help="(default: 8)")
    parser.add_argument("--draws", type=int, default=8, metavar="N", help="samples a batch (default: 8)")
    options = parser.parse_args(argv)
    names = options.dataset.split(",")
    options.counts = whole_numbers("--counts", options.counts)
    options.neighbors = whole_numbers("--neighbors", options.neighbors, minimum=0)
    lines = [line for line in read_points(options.out) if line["dataset"] not in names]
    options.work.mkdir(parents=True, exist_ok=True)
    with limit_threads(options.threads):
        for name in names:
            config = preset("paper").replace(gamma=_GAMMA.get(name, 2.0), epochs=1)
            lines += curve(prepared(options.data, name, options.work), config, options)
    write_points(options.out, lines)
    return 0


def curve(dataset: Dataset, config: Config, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a line for each number of neighbors and of draws."""
    known = dataset.train.split_last(config.optimizer.validation_fraction)[0].keep_last(
        config.model.max_session_length + 1
    )
    weights = encoder_of(dataset, config, known, options.work, ProgressLines()).weights
    model = MTAW(config, dataset.n_items).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(np.array(weights[name])))
    samples = sample_counts(known, dataset.min_prefix, config.loss.targets)
    usable = np.flatnonzero(samples)
    cut = epoch_batches(samples[usable], config.optimizer.batch_prefixes, config.optimizer.seed, 2)[: options.batches]
    occurrences = Occurrences(known, dataset.n_items)
    results: dict[tuple[int, int], list[tuple[float, ...]]] = {
        (n_neighbors, count): [] for n_neighbors in options.neighbors for count in options.counts
    }
    for numbers in cut:
        batch = Batch.of(known.select(usable[numbers]), dataset.min_prefix, torch.device("cpu"), config.loss.targets)
        with torch.no_grad():
            queries = model(batch.clicks, batch.offsets)[batch.rows]
        items = model.item_embedding.detach().requires_grad_()
        exact = aw_loss(
            queries, items, batch.targets, scale=config.model.scale, gamma=config.loss.gamma, backend="chunked"
        )  # fmt: skip
        (gradient,) = torch.autograd.grad(exact, items)
        exact_loss = float(exact.detach())
        for n_neighbors, count in results:
            for draw in range(options.draws):
                rng = np.random.default_rng([config.optimizer.seed, count, draw])
                own_items, item_rows = np.unique(
                    np.concatenate([batch.clicks.numpy(), batch.targets.numpy()]), return_inverse=True
                )
                sure = np.union1d(own_items, occurrences.neighbors(own_items, n_neighbors, rng))
                sample = CatalogSample.drawn(sure, dataset.n_items, count, rng)
                targets = torch.from_numpy(np.searchsorted(sure, own_items)[item_rows[len(batch.clicks) :]])
                results[n_neighbors, count].append(
                    _error(config, queries, items, targets, sample, exact_loss, gradient)
                )
    lines = []
    for (n_neighbors, count), errors in results.items():
        bias, square, cosine, size, n_sure = np.mean(errors, axis=0)
        line = {
            "dataset": dataset.name, "gamma": config.loss.gamma, "items": dataset.n_items,
            "neighbours": n_neighbors,  # prose: ignore
            "sure": round(n_sure), "drawn": count, "loss_error_percent": round(100 * float(np.sqrt(square)), 3),
            "loss_bias_percent": round(100 * bias, 3), "gradient_cosine": round(cosine, 4),
            "gradient_size": round(size, 4),
        }  # fmt: skip
        print(line, file=sys.stderr, flush=True)
        lines.append(line)
    return lines


def _error(
    config: Config,
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    sample: CatalogSample,
    exact: float,
    gradient: Tensor,
) -> tuple[float, ...]:
    """Return (relative error of the mean loss, its square, cosine and size ratio of item gradients, sure items)."""
    rows = torch.from_numpy(sample.rows)
    sampled = items.detach()[rows].requires_grad_()
    loss = sampled_aw_loss(queries, sampled, targets, sample, scale=config.model.scale, gamma=config.loss.gamma)
    (sample_gradient,) = torch.autograd.grad(loss, sampled)
    error = float(loss.detach()) / exact - 1
    cosine = float((sample_gradient * gradient[rows]).sum() / (sample_gradient.norm() * gradient.norm()))
    return error, error**2, cosine, float(sample_gradient.norm() / gradient.norm()), float(sample.always)


if __name__ == "__main__":
    sys.exit(main())
