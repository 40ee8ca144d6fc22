"""Trains RecTools' eSASRec (SASRec's objective, LiGR layers, sampled softmax), unmodified: see `driver.py`.

The library builds the network, draws negatives, pads batches and computes the loss; the loop is the driver's, in place
of Lightning's. A batch is padded to its own longest session, which changes nothing: padding is masked as a key, and
positions are counted from the end. A step takes whole sessions, with a loss at every position where the data set has a
sample.
"""

from __future__ import annotations

import warnings
from typing import Any

import driver
import numpy as np
import torch
from job import Job, Samples


def build(job: Job) -> driver.Peer:
    """Build the network, its optimizer, and their inputs."""
    warnings.filterwarnings("ignore")
    import pandas as pd
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel
    from rectools.models.nn.transformers.ligr import LiGRLayers

    settings = job.settings
    items, offsets = job.data["train_items"], job.data["train_offsets"]
    lengths = np.diff(offsets)
    log = pd.DataFrame({
        Columns.User: np.repeat(np.arange(len(lengths)), lengths),
        Columns.Item: items,
        Columns.Weight: 1.0,
        Columns.Datetime: pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(len(items)), unit="s"),
    })  # fmt: skip
    library = SASRecModel(
        transformer_layers_type=LiGRLayers, loss="sampled_softmax", n_negatives=settings["n_negatives"],
        n_blocks=settings["n_blocks"], n_heads=settings["n_heads"], n_factors=settings["n_factors"],
        dropout_rate=settings["dropout_rate"], lr=settings["lr"], session_max_len=job.max_len,
        batch_size=settings["batch"], use_key_padding_mask=True, recommend_torch_device="cpu",
    )  # fmt: skip
    library._build_model_from_dataset(Dataset.construct(log))
    module, preparator = library.lightning_model, library.data_preparator
    module._xavier_normal_init()  # what it does on the start of a training
    converted = preparator.item_id_map.convert_to_internal(np.arange(job.n_items), strict=False, return_missing=True)
    inner = np.zeros(job.n_items, np.int64)
    missing = np.zeros(job.n_items, bool)
    missing[np.asarray(converted[1], np.int64)] = True
    inner[~missing] = converted[0]
    internal_ids, absent = torch.from_numpy(inner), torch.from_numpy(missing)
    item_vectors: list[torch.Tensor] = []  # all items' vectors, until a step moves them
    sessions = Samples(items, np.maximum(offsets[:-1], offsets[1:] - job.max_len - 1), offsets[1:], items[:1])

    def elements(samples: Samples, rows: np.ndarray, min_prefix: int) -> list[Any]:
        """Return sessions with weights: 0 at clicks that are no targets, or that the session only begins with."""
        triples = []
        for row in rows:
            begin, end = int(samples.begins[row]), int(samples.ends[row])
            clicks = inner[samples.items[begin:end]]
            weights = np.ones(len(clicks))
            weights[: max(min_prefix - (begin - first_of(samples, row)), 0)] = 0.0
            triples.append((clicks[clicks > 0].tolist(), weights[clicks > 0].tolist(), {}))
        return triples

    def first_of(samples: Samples, row: int) -> int:
        return int(offsets[row]) if samples is sessions else int(samples.begins[row])

    def step(samples: Samples, rows: np.ndarray) -> torch.Tensor:
        item_vectors.clear()
        triples = elements(samples, rows, settings["min_prefix"])
        preparator.session_max_len = max(len(triple[0]) for triple in triples) - 1
        batch = preparator._collate_fn_train(triples)
        return module.loss_calculator(module.get_batch_logits(batch), batch["y"], batch["yw"])

    def scores(samples: Samples, rows: np.ndarray) -> torch.Tensor:
        triples = elements(samples, rows, 0)
        preparator.session_max_len = max(1, *(len(triple[0]) for triple in triples))
        # A session of clicks that training never saw is one position of padding.
        batch = preparator._collate_fn_recommend([triple if triple[0] else ([0], [0.0], {}) for triple in triples])
        if not item_vectors:
            item_vectors.append(network.item_model.get_all_embeddings())
        last = network.encode_sessions(batch, item_vectors[0])[:, -1]
        item_scores = (last @ item_vectors[0].T)[:, internal_ids]
        return item_scores.masked_fill(absent, -torch.inf)  # an item that training never saw is never found

    network = module.torch_model
    optimizer = module.configure_optimizers()
    return driver.Peer(network, optimizer, settings["batch"], step, scores, samples=sessions)


if __name__ == "__main__":
    driver.main(build)
