"""Trains a sequential model of RecBole, unmodified: `driver.py` says how it is called.

Its model class computes loss and scores, by the library's properties/model/NAME.yaml where the job's "network" says
nothing else. Data, batches, optimizer and epochs are of the driver, so that all systems see the same samples.
"""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # RecBole 1.2.1 knows no torch.load of 2.6 and later

import driver
import numpy as np
import torch
from job import Job, Samples

# The width decides what these see: NextItNet reads the last position, and in STAMP's sums the padding's vector counts.
WHOLE_WIDTH = {"NextItNet", "STAMP"}
PAIRWISE = {"FPMC"}


def build(job: Job) -> driver.Peer:
    """Build the model, its optimizer, and their inputs."""
    del sys.argv[1:]  # RecBole would read them as its own
    from recbole.config import Config
    from recbole.data.interaction import Interaction
    from recbole.utils import get_model

    settings = job.settings
    name = settings["model"]
    options = {
        "use_gpu": False, "gpu_id": "", "seed": settings["seed"], "MAX_ITEM_LIST_LENGTH": job.max_len, "state": "ERROR",
        "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1} if name in PAIRWISE else None,
        **settings["network"],
    }  # fmt: skip
    config = Config(model=name, dataset="sessions", config_dict=options)
    torch.manual_seed(settings["seed"])
    # All that its models ask of a data set: how many items and users there are. A session has no user: all are user 1.
    sizes = {config["ITEM_ID_FIELD"]: job.n_items + 1, config["USER_ID_FIELD"]: 2}
    model = get_model(name)(config, SimpleNamespace(num=sizes.__getitem__, user_num=2, item_num=job.n_items + 1))
    generator = torch.Generator()

    def interaction(samples: Samples, rows: np.ndarray) -> Any:
        ids, lengths, targets = samples.padded(rows, job.max_len if name in WHOLE_WIDTH else None)
        fields = {
            model.ITEM_SEQ: ids,
            model.ITEM_SEQ_LEN: lengths,
            model.POS_ITEM_ID: targets,
            model.USER_ID: torch.ones(len(rows), dtype=torch.long),
        }
        if name in PAIRWISE:
            generator.manual_seed(int(torch.randint(1 << 62, ())))
            fields[model.NEG_ITEM_ID] = negatives(targets, job.n_items, generator)
        return Interaction(fields)

    def step(samples: Samples, rows: np.ndarray) -> torch.Tensor:
        loss = model.calculate_loss(interaction(samples, rows))
        return sum(loss) if isinstance(loss, tuple) else loss

    def scores(samples: Samples, rows: np.ndarray) -> torch.Tensor:
        return model.full_sort_predict(interaction(samples, rows)).view(len(rows), -1)[:, 1:]

    optimizer = torch.optim.Adam(
        model.parameters(), lr=settings["lr"], betas=(0.9, settings.get("beta2", 0.999)),
        weight_decay=settings.get("l2", 0.0),
    )  # fmt: skip
    after_epoch = driver.decay(optimizer, settings) if "lr_dc" in settings else None
    by_length = name not in WHOLE_WIDTH
    return driver.Peer(model, optimizer, settings["batch"], step, scores, after_epoch, by_length=by_length)


def negatives(targets: torch.Tensor, n_items: int, generator: torch.Generator) -> torch.Tensor:
    """Draw int64[B], an item each, uniform over all but the target."""
    items = torch.randint(1, n_items, targets.shape, generator=generator)
    return items + (items >= targets)


if __name__ == "__main__":
    driver.main(build)
