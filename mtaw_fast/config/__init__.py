"""All settings of a model and its training: one frozen dataclass, presets, and `key=value` overrides."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from mtaw_fast.errors import UsageError, shown
from mtaw_fast.type_weights import parsed

_HALF_LIVES = re.compile(r"[0-9.]+[smhd](,[0-9.]+[smhd]){6}")
Init = Literal["structured", "uniform"]
Schedule = Literal["cosine", "constant"]
ComputeDtype = Literal["auto", "float32", "bfloat16"]
LossBackend = Literal["auto", "reference", "chunked", "native", "triton"]
Step = Literal["auto", "eager", "graph"]
Targets = Literal["all", "new"]
Softmax = Literal["auto", "full", "sampled"]
_CHOICES = {
    "init": get_args(Init),
    "schedule": get_args(Schedule),
    "compute_dtype": get_args(ComputeDtype),
    "loss_backend": get_args(LossBackend),
    "step": get_args(Step),
    "targets": get_args(Targets),
    "softmax": get_args(Softmax),
}


_MOST = 2**31 - 1
_MOST_DIMENSIONS = 1 << 14  # of the exact scan's vectors
_MOST_CANDIDATES = 1 << 16  # of a memory query


def _is_kind(value: Any, kind: str) -> bool:
    """Whether a value is of the type that a setting is declared with; a whole number will do for a fraction."""
    kinds = {"bool": (bool,), "int": (int,), "float": (float, int)}.get(kind, (str,))  # what has choices is text
    return type(value) in kinds


def _check_features(leave_out: str) -> None:
    names = [name.strip() for name in leave_out.split(",") if name.strip()]
    if names:
        from mtaw_fast.kernels.native.memory_query import feature_names

        features = feature_names()
        for name in names:
            if name not in features:
                raise UsageError(
                    f"setting leave_out: there is no feature {shown(name)}; take from {', '.join(features)}"
                )


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of one training. The defaults are the preset `paper`.

    Parameters
    ----------
    **Model** (MTAW, SIGIR 2023)

    d : int, default 100
        Embedding size.
    positions : int, default 512
        Learned position rows P; click t uses row min(t, P - 1).
    max_len : int, default 512
        Clicks attended to, at most 512; of longer sessions the last ones count (and train).
    scale : float, default 16
        Factor on the cosine in the logits, in (0, 40].
    dropout : float, default 0.05
        Share of elements dropped, of the embeddings and of the FFN's output.
    init : {'structured', 'uniform'}, default 'structured'
        Starting weights; 'structured' ones are those of `training.initial`.
    spectral_share : float, default 0.65
        Of a structured item vector, the share that tells what the item co-occurs with; the rest is its own.
    itl_gain : float, default 80
        Structured: how much more a click attends to clicks like it than to others, in interest tracking.
    iel_gain : float, default 6
        The same in interest enhancing.
    recent : float, default 0
        Starting weight of the last clicks' own items in the query, o_t + recent * r_t (`model.recent_clicks`); learned.
        0 is the paper's o_t for good.
    recent_decay : float, default 0.5
        What a click counts in r_t, of the one after it, at the start; learned.

    **Loss**

    gamma : float, default 2
        Exponent of the adaptive weight (2 - 2p)^gamma; 0 is plain cross-entropy.
    negatives : bool, default False
        Whether to add the term over the other items: the loss's other reading (`kernels/aw_loss/README.md`).
    targets : {'all', 'new'}, default 'all'
        Samples that count: all, or those whose target is new to the session.
    type_weights : str, default none
        What targets count by the type of their event, such as 'view=1,cart=3,purchase=8', in the encoder's loss, the
        ranker's fit and the metrics on validation; types without one count 1.
    loss_backend : {'auto', 'reference', 'chunked', 'native', 'triton'}, default 'auto'
        Which implementation of the loss; auto takes the fastest that can.
    softmax : {'auto', 'full', 'sampled'}, default 'auto'
        Whether the encoder's loss sums over the whole catalog in every step or over a sample of it
        (`training.sampled_loss`); auto takes a sample where the plan says that the whole does not fit
        (`training.plan`).
    catalog_samples : int, default 4096
        Of softmax='sampled': items drawn in a step beside those that are surely in the sum.
    catalog_neighbours : int, default 4
        Of softmax='sampled': clicks drawn on each of the batch's items; what stands beside them is surely in the sum,
        as the batch's items are. 0: these alone.
    compute_dtype : {'auto', 'float32', 'bfloat16'}, default 'auto'
        Of the loss's matrix products; auto takes bfloat16 where the CPU has bf16 instructions.
    step : {'auto', 'eager', 'graph'}, default 'auto'
        A step operation by operation, or as captured CUDA graphs; auto takes graphs where their kernels run.

    **Optimisation**

    lr : float, default 0.002
        Adam's learning rate.
    weight_decay : float, default 0
        Decoupled decay, a step, times the learning rate.
    schedule : {'cosine', 'constant'}, default 'cosine'
        Of the learning rate; 'cosine' falls to 0 over `epochs`.
    warmup_epochs : float, default 0.1
        Linear warm-up, in epochs.
    batch_prefixes : int, default 1024
        Samples a step, at most (whole sessions).
    clip_norm : float, default 5
        Largest norm of the gradient; 0 does not clip.
    epochs : int, default 3
        At most.
    patience : int, default 2
        Epochs without a better validation MRR@20 before stopping; 0 never stops.
    validation : float, default 0.02
        Share of the last sessions that is held out.
    seed : int, default 0
        Of everything random.

    **Session memory** (`mtaw_fast.memory`)

    memory : bool, default False
        Whether to rank with one; the epochs are then not chosen on validation but taken as they are.
    window : int, default 10
        Clicks apart, at most, of a pair of items in the sequential statistics.
    span : int, default 40
        Clicks apart, at most, of a pair's first clicks in the session statistics.
    recency : float, default 0.1
        Share of the sessions after which a pair's weight has fallen to 1/e.
    max_neighbours : int, default 512
        Neighbours of an item that are kept, the strongest; 0 keeps all.
    max_postings : int, default 500
        Sessions of an item that are kept, the latest; 0 keeps all.
    near_candidates : int, default 80
        Candidates among the items that past sessions hold with the session's.
    dense_candidates : int, default 50
        Candidates of the encoder; 0 ranks without it.
    ranker_slice : float, default 0.25
        Share of the last sessions that the ranker is fitted on.
    ranker_epochs : int, default 4
        Passes of the ranker's fit; twice as many where it reads times.
    ranker_lr : float, default 0.006
        Learning rate of the ranker's fit.
    trends : bool, default True
        Whether to use when clicks were, where the data set says so (`mtaw_fast.memory.trends`).
    half_lives : str, default '1m,5m,15m,1h,4h,24h,168h'
        Seven times, rising, after which a click counts half: s, m, h or d.
    trend_candidates : int, default 140
        Candidates among the items that have lately been clicked with the session's; 50 popular ones come with them.
    prequential : bool, default True
        Whether the ranker's slice is learned while it is gone through, as it will be when serving.
    lesson_clicks : int, default 256
        Clicks of the slice, at most, that the ranker is asked for before they are learned.
    lesson_seconds : float, default 60
        The same in seconds of the log, where the data set has times.
    ranker_samples : int, default 150000
        Samples of the slice, at most, that the ranker is fitted on; of more so many, spread evenly.
    leave_out : str, default none
        Features that the ranker must do without, with commas between them.

    Raises
    ------
    UsageError
        Where a value is out of range or none of the choices.
    """

    d: int = 100
    positions: int = 512
    max_len: int = 512
    scale: float = 16.0
    dropout: float = 0.05
    init: Init = "structured"
    gamma: float = 2.0
    negatives: bool = False
    loss_backend: LossBackend = "auto"
    softmax: Softmax = "auto"
    catalog_samples: int = 4096
    catalog_neighbours: int = 4
    compute_dtype: ComputeDtype = "auto"
    step: Step = "auto"
    lr: float = 2e-3
    weight_decay: float = 0.0
    schedule: Schedule = "cosine"
    warmup_epochs: float = 0.1
    batch_prefixes: int = 1024
    clip_norm: float = 5.0
    epochs: int = 3
    patience: int = 2
    validation: float = 0.02
    seed: int = 0
    targets: Targets = "all"
    type_weights: str = ""
    spectral_share: float = 0.65
    itl_gain: float = 80.0
    iel_gain: float = 6.0
    recent: float = 0.0
    recent_decay: float = 0.5
    memory: bool = False
    window: int = 10
    span: int = 40
    recency: float = 0.1
    max_neighbours: int = 512
    max_postings: int = 500
    near_candidates: int = 80
    dense_candidates: int = 50
    ranker_slice: float = 0.25
    ranker_epochs: int = 4
    ranker_lr: float = 6e-3
    trends: bool = True
    half_lives: str = "1m,5m,15m,1h,4h,24h,168h"
    trend_candidates: int = 140
    prequential: bool = True
    lesson_clicks: int = 256
    lesson_seconds: float = 60.0
    ranker_samples: int = 150_000
    leave_out: str = ""

    def __post_init__(self) -> None:
        for name, kind in type(self).__annotations__.items():
            value = getattr(self, name)
            if not _is_kind(value, kind):
                named = "str" if name in _CHOICES else kind
                raise UsageError(f"setting {name} must be {named}, not {shown(value)}")
            if (kind == "int" and abs(value) > _MOST) or (kind == "float" and not math.isfinite(value)):
                raise UsageError(f"setting {name}={shown(value)} is out of range; see 'mtaw-fast train --help'")
        checks = {
            "d": 1 <= self.d <= _MOST_DIMENSIONS,
            "positions": self.positions >= 1,
            "max_len": 1 <= self.max_len <= 512,
            "scale": 0 < self.scale <= 40,
            "dropout": 0 <= self.dropout < 1,
            "gamma": self.gamma >= 0,
            "catalog_samples": self.catalog_samples >= 1,
            "catalog_neighbours": self.catalog_neighbours >= 0,
            "lr": self.lr > 0,
            "weight_decay": self.weight_decay >= 0,
            "warmup_epochs": self.warmup_epochs >= 0,
            "batch_prefixes": self.batch_prefixes >= 1,
            "clip_norm": self.clip_norm >= 0,
            "epochs": self.epochs >= 1,
            "patience": self.patience >= 0,
            "validation": 0 < self.validation < 1,
            "seed": self.seed >= 0,
            "spectral_share": 0 <= self.spectral_share <= 1,
            "itl_gain": self.itl_gain >= 0,
            "iel_gain": self.iel_gain >= 0,
            "recent": self.recent == 0 or 0.01 <= self.recent <= 100,
            "recent_decay": 0.01 <= self.recent_decay <= 0.99,
            "window": self.window >= 1,
            "span": self.span >= 1,
            "recency": self.recency > 0,
            "max_neighbours": self.max_neighbours >= 0,
            "max_postings": self.max_postings >= 0,
            "near_candidates": 1 <= self.near_candidates <= _MOST_CANDIDATES,
            "dense_candidates": 0 <= self.dense_candidates <= 1000,
            "ranker_slice": 0 < self.ranker_slice < 1,
            "ranker_epochs": self.ranker_epochs >= 1,
            "ranker_lr": self.ranker_lr > 0,
            "trend_candidates": 1 <= self.trend_candidates <= 1000,
            "half_lives": _HALF_LIVES.fullmatch(self.half_lives) is not None,
            "lesson_clicks": self.lesson_clicks >= 1,
            "lesson_seconds": 0.001 <= self.lesson_seconds <= 1e9,
            "ranker_samples": self.ranker_samples >= 1,
        }
        for name, fine in checks.items():
            if not fine:
                given = shown(getattr(self, name))
                raise UsageError(f"setting {name}={given} is out of range; see 'mtaw-fast train --help'")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise UsageError(f"setting {name}={shown(getattr(self, name))} is none of {', '.join(choices)}")
        if self.negatives and self.loss_backend == "chunked":
            raise UsageError(
                "setting negatives=true: loss_backend=chunked has no such term; take auto, native, triton or reference"
            )
        if self.negatives and self.softmax == "sampled":
            raise UsageError("setting softmax=sampled has no term over the other items; leave negatives out")
        if self.softmax == "sampled" and self.loss_backend != "auto":
            raise UsageError(
                f"setting softmax=sampled: loss_backend={self.loss_backend} computes the whole catalog; leave one out"
            )
        _check_features(self.leave_out)
        parsed(self.type_weights, "setting type_weights")

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        """The inverse of `as_dict`; raises UsageError on an unknown name or a wrong type."""
        return dataclasses.replace(cls(), **{name: _typed(name, value) for name, value in values.items()})

    def override(self, assignments: Iterable[str]) -> Config:
        """Apply `key=value` texts, later ones winning; raises UsageError naming the bad one."""
        changes = {}
        for assignment in assignments:
            name, equals, text = assignment.partition("=")
            if not equals:
                raise UsageError(f"--set {assignment!r}: write it as key=value")
            changes[name.strip()] = _parse(name.strip(), text.strip())
        return dataclasses.replace(self, **changes)


PRESETS: Mapping[str, Config] = {
    "full": Config(memory=True, targets="new", epochs=2, spectral_share=1.0, itl_gain=20.0, iel_gain=2.0, recent=2.0),
    "paper": Config(),
    # As the paper's text has it; scale, dropout and clipping, which it leaves open, by validation (docs/results.md).
    "paper-literal": Config(
        positions=50,
        init="uniform",
        lr=1e-3,
        schedule="constant",
        warmup_epochs=0.0,
        batch_prefixes=100,
        clip_norm=0.0,
        dropout=0.2,
        epochs=50,
    ),
}
DEFAULT_PRESET = "full"

_TYPES = {name: type(getattr(Config(), name)) for name in Config.__dataclass_fields__}


def preset(name: str) -> Config:
    """The named preset; raises UsageError where there is none."""
    if name not in PRESETS:
        raise UsageError(f"there is no preset {name!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def _known(name: str) -> type:
    if name not in _TYPES:
        raise UsageError(f"there is no setting {shown(name)}; the settings are {', '.join(_TYPES)}")
    return _TYPES[name]


def _typed(name: str, value: Any) -> Any:
    kind = _known(name)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
        raise UsageError(f"setting {name} must be {kind.__name__}, not {shown(value)}")
    return value


def _parse(name: str, text: str) -> Any:
    kind = _known(name)
    try:
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        return _typed(name, kind(text))
    except (ValueError, KeyError):
        raise UsageError(f"setting {name} must be {kind.__name__}, not {text!r}") from None
