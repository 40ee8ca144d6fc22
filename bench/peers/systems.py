"""The compared systems: their origin, and their settings with the source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_LEN = 50  # clicks that a system sees of a session: RecBole's MAX_ITEM_LIST_LENGTH; 99% of the sessions are shorter

_RECBOLE = "RecBole 1.2.1's class; "
_SRGNN_LOOP = {"epochs": 30, "patience": 10, "batch": 100, "lr": 1e-3, "l2": 1e-5, "lr_dc": 0.1, "lr_dc_step": 3}
_GCE = "the authors' main.py: Adam 1e-3, x 0.1 every 3 epochs, l2 1e-5, batch 100, d 100, 20 epochs, patience 3; {}"
_DHCN = "the authors' main.py: Adam 1e-3, batch 100, d 100, 3 layers, 30 epochs; beta {}"


@dataclass(frozen=True, slots=True)
class System:
    """A system of the bench.

    name: on the command line and in file names. title: in tables and published rows. environment: of
    `environments.ENVIRONMENTS`; None: ours. driver: the script in `drivers/` that trains it; None: `knn`. settings: of
    its driver, for every data set. source: where the settings come from. authors: the GitHub repository whose checkout
    it needs. by_dataset: settings and source that differ by data set; "" is for all others.
    """

    name: str
    title: str
    environment: str | None
    driver: str | None
    settings: Mapping[str, Any]
    source: str
    authors: str | None = None
    by_dataset: Mapping[str, tuple[Mapping[str, Any], str]] = field(default_factory=dict)

    def settings_for(self, dataset: str) -> tuple[dict[str, Any], str]:
        """Return the driver's settings on a data set, and their source."""
        extra, source = self.by_dataset.get(dataset, self.by_dataset.get("", ({}, "")))
        return {"max_len": MAX_LEN, "seed": 0, **self.settings, **extra}, self.source.format(source, **self.settings)


def _recbole(title: str, model: str, source: str, network: Mapping[str, Any], **loop: float) -> System:
    """Return a class of RecBole. network: changes to its properties/model/NAME.yaml. loop: settings of the driver."""
    settings = {"model": model, "network": dict(network), **loop}
    return System(title.lower(), title, "recbole", "recbole_models.py", settings, _RECBOLE + source)


SYSTEMS = (
    System(
        "item-knn", "Item-KNN", None, None, {"neighbors": 100, "shrink": 20, "alpha": 0.5},
        "baselines.py of GRU4Rec: cosine with the last click, 100 neighbors, lambda 20, alpha 0.5",
    ),
    _recbole(
        "FPMC", "FPMC",
        "its property files: d 64, Adam 1e-3, batch 2048, at most 300 epochs, 10 without a better validation; BPR with "
        "one uniform negative; a session has no user, so all share one",
        {}, epochs=300, patience=10, batch=2048, lr=1e-3,
    ),
    _recbole(
        "GRU4Rec", "GRU4Rec",
        "the authors' retailrocket_bprmax_shared_best.py: 224 units, batch 80, dropout 0.5 on the clicks' vectors, 10 "
        "epochs; cross-entropy and Adam 1e-3 are RecBole's (theirs: bpr-max, Adagrad)",
        {"embedding_size": 224, "hidden_size": 224, "dropout_prob": 0.5}, epochs=10, patience=10, batch=80, lr=1e-3,
    ),
    _recbole(
        "NARM", "NARM",
        "the authors' NARM.py: d 50, 100 units, dropout 0.25 and 0.5, batch 512, Adam 1e-3, 30 epochs",
        {"embedding_size": 50, "hidden_size": 100}, epochs=30, patience=10, batch=512, lr=1e-3,
    ),
    _recbole(
        "STAMP", "STAMP", "the authors' nn_param.conf: d 100, batch 512, rate 3e-3, 10 epochs; Adam is RecBole's",
        {"embedding_size": 100}, epochs=10, patience=10, batch=512, lr=3e-3,
    ),
    _recbole(
        "SASRec", "SASRec",
        "the authors' main.py and model.py: d 50, 2 blocks, 1 head, dropout 0.5, ReLU, batch 128, Adam 1e-3 with beta2 "
        "0.98, 201 epochs; cross-entropy at the last click is RecBole's (theirs: a negative for each click)",
        {"hidden_size": 50, "inner_size": 50, "n_heads": 1, "hidden_act": "relu"},
        epochs=201, patience=10, batch=128, lr=1e-3, beta2=0.98,
    ),
    _recbole(
        "NextItNet", "NextItNet",
        "the authors' nextitrec.py: 100 channels, dilations 1 and 2, kernel 3, batch 32, Adam 1e-3, 400 epochs; the "
        "loss at the last click alone is RecBole's",
        {"embedding_size": 100, "dilations": [1, 2], "block_num": 1}, epochs=400, patience=10, batch=32, lr=1e-3,
    ),
    _recbole(
        "SR-GNN", "SRGNN",
        "the authors' main.py: d 100, batch 100, Adam 1e-3, x 0.1 every 3 epochs, l2 1e-5, 30 epochs, patience 10",
        {"embedding_size": 100}, **_SRGNN_LOOP,
    ),
    _recbole(
        "GC-SAN", "GCSAN",
        "its property files (d 64, 2 layers, weight 0.6), trained as SR-GNN's authors do: batch 100, Adam 1e-3, x 0.1 "
        "every 3 epochs, l2 1e-5, 30 epochs, patience 10; its authors' own code was not found",
        {}, **_SRGNN_LOOP,
    ),
    System(
        "s2-dhcn", "S2-DHCN", "recbole", "dhcn.py",
        {"epochs": 30, "patience": 30, "batch": 100, "lr": 1e-3, "l2": 1e-5, "layers": 3}, _DHCN, "xiaxin1998/DHCN",
        {
            "tmall": ({"beta": 0.02, "dataset": "Tmall"}, "0.02, of its README for Tmall"),
            "": ({"beta": 0.01, "dataset": "other"}, "0.01, its default"),
        },
    ),
    System(
        "gce-gnn", "GCE-GNN", "recbole", "gce_gnn.py",
        {"epochs": 20, "patience": 3, "batch": 100, "lr": 1e-3, "l2": 1e-5, "lr_dc": 0.1, "lr_dc_step": 3},
        _GCE, "CCIIPLab/GCE-GNN",
        {
            "tmall": (
                {"n_iter": 1, "dropout_gcn": 0.6, "dropout_local": 0.5, "dropout_global": 0.5},
                "1 hop, dropouts 0.6, 0.5 and 0.5, as there for Tmall",
            ),
            "": (
                {"n_iter": 1, "dropout_gcn": 0.0, "dropout_local": 0.0, "dropout_global": 0.5},
                "1 hop, dropouts 0, 0 and 0.5, its defaults",
            ),
        },
    ),
    System(
        "esasrec", "eSASRec", "rectools", "esasrec.py",
        {
            "epochs": 100, "patience": 10, "batch": 128, "lr": 1e-3, "n_negatives": 256, "n_blocks": 2, "n_heads": 4,
            "n_factors": 256, "dropout_rate": 0.2,
        },
        "RecTools 0.19.0, SASRecModel's defaults with LiGR layers and sampled softmax, which make it eSASRec; 256 "
        "negatives, 100 epochs and patience 10 are ours (the library's defaults are 1 and 3)",
    ),
)  # fmt: skip


def system_of(name: str) -> System:
    """Return the system of that name."""
    return next(system for system in SYSTEMS if system.name == name)
