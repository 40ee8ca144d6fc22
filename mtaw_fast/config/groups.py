"""The five groups of settings that make up a `Config`, with their defaults (preset `paper`) and ranges."""

from __future__ import annotations

import dataclasses
import math
import re
import sys
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args, get_origin

from mtaw_fast.config.type_weights import parsed
from mtaw_fast.errors import UsageError, shown

_HALF_LIVES = re.compile(r"[0-9.]+[smhd](,[0-9.]+[smhd]){6}")
_ABOVE_0, _BELOW_1 = math.ulp(0.0), math.nextafter(1.0, 0.0)
_LARGEST = {int: 2**31 - 1, float: sys.float_info.max}
_MAX_DIMENSIONS = 1 << 14  # limit of the native index
_MAX_CANDIDATES = 1 << 16  # limit of a memory query

Init = Literal["structured", "uniform"]
Schedule = Literal["cosine", "constant"]
ComputeDtype = Literal["auto", "float32", "bfloat16"]
LossBackend = Literal["auto", "reference", "chunked", "native", "triton"]
TrainStep = Literal["auto", "eager", "cuda-graph"]
Targets = Literal["all", "new"]
Softmax = Literal["auto", "full", "sampled"]
Batches = Literal["sessions", "random-sessions", "prefixes"]
_CHOICES = {name: get_args(kind) for name, kind in tuple(globals().items()) if get_origin(kind) is Literal}


def _within(default: float, low: float, high: float | None = None) -> Any:
    """Return the field of a number in low..high."""
    metadata = {"range": (low, _LARGEST[type(default)] if high is None else high)}
    return dataclasses.field(default=default, metadata=metadata)


def _out_of_range(name: str, value: Any) -> UsageError:
    return UsageError(f"setting {name}={shown(value)} is out of range; see 'mtaw-fast train --help'")


class Group:
    """A group of settings: a frozen dataclass that checks types, ranges and choices on creation."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]  # of the dataclasses below

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            name, value, kind = field.name, getattr(self, field.name), type(field.default)
            if type(value) is not kind and not (kind is float and type(value) is int):
                raise UsageError(f"setting {name} must be {kind.__name__}, not {shown(value)}")
            if kind in _LARGEST:
                low, high = field.metadata["range"]
                if not low <= value <= high:
                    raise _out_of_range(name, value)
            choices = _CHOICES.get(str(field.type))
            if choices and value not in choices:
                raise UsageError(f"setting {name}={shown(value)} is not one of {', '.join(choices)}")


@dataclass(frozen=True, slots=True)
class ModelConfig(Group):
    """Settings of the MTAW encoder (SIGIR 2023).

    Parameters
    ----------
    embedding_dim : int, default 100
        Size d of an item embedding.
    max_positions : int, default 512
        Learned position rows P; click t uses row min(t, P - 1).
    max_session_length : int, default 512
        Clicks that are attended to, at most 512. Of a longer session only the last ones are used, also in training.
    scale : float, default 16
        Factor on the cosine in the logits, in (0, 40].
    dropout : float, default 0.05
        Share of elements that are dropped from the embeddings and from the output of the FFN.
    init : {'structured', 'uniform'}, default 'structured'
        Starting weights; `training.encoder.initial_weights` makes the structured ones.
    spectral_share : float, default 0.65
        For structured weights: the share of an item vector that comes from co-occurrence; the rest is its own.
    itl_gain : float, default 80
        For structured weights: how much more a click attends to similar clicks in interest tracking (ITL).
    iel_gain : float, default 6
        The same for interest enhancing (IEL).
    recent_weight : float, default 0
        Starting weight of the last clicks' own items in the query, o_t + recent_weight * r_t
        (`model.mtaw.recent_clicks`). The weight is learned. 0 gives the paper's o_t.
    recent_decay : float, default 0.5
        Starting weight of a click in r_t relative to the click after it. It is learned.
    text_model : str, default none
        Folder of a model2vec model that embeds the texts of the item table (`training.content`). It must be there while
        serving too. Without it, words are hashed.

    Raises
    ------
    UsageError
        If a value is out of range or not one of the choices. The same applies to the other groups.
    """

    embedding_dim: int = _within(100, 1, _MAX_DIMENSIONS)
    max_positions: int = _within(512, 1)
    max_session_length: int = _within(512, 1, 512)
    scale: float = _within(16.0, _ABOVE_0, 40)
    dropout: float = _within(0.05, 0, _BELOW_1)
    init: Init = "structured"
    spectral_share: float = _within(0.65, 0, 1)
    itl_gain: float = _within(80.0, 0)
    iel_gain: float = _within(6.0, 0)
    recent_weight: float = _within(0.0, 0, 100)
    recent_decay: float = _within(0.5, 0.01, 0.99)
    text_model: str = ""

    def __post_init__(self) -> None:
        Group.__post_init__(self)
        if 0 < self.recent_weight < 0.01:
            raise _out_of_range("recent_weight", self.recent_weight)


@dataclass(frozen=True, slots=True)
class LossConfig(Group):
    """Settings of the adaptive-weight (AW) loss.

    Parameters
    ----------
    gamma : float, default 2
        Exponent of the adaptive weight (2 - 2p)^gamma; 0 is plain cross-entropy.
    negative_term : bool, default False
        Whether to add the term over the other items, the second reading of the paper (`kernels/aw_loss/README.md`).
    targets : {'all', 'new'}, default 'all'
        Samples that count: all, or those whose target is new to the session.
    type_weights : str, default none
        Weights of targets by the type of their event, such as 'view=1,cart=3,purchase=8'. They apply to the loss of
        the encoder, the fit of the ranker and the metrics on validation. Types without a weight count 1.
    loss_backend : {'auto', 'reference', 'chunked', 'native', 'triton'}, default 'auto'
        Implementation of the loss; auto takes the fastest one that runs.
    softmax : {'auto', 'full', 'sampled'}, default 'auto'
        Whether the loss sums over the whole catalog in every step or over a sample (`training.steps.sampled_loss`).
        auto samples if the plan says that the whole catalog takes too much time or memory (`training.plan`).
    negative_samples : int, default 4096
        For softmax='sampled': items drawn in a step, in addition to those that are always in the sum.
    cooccurrence_negatives : int, default 4
        For softmax='sampled': clicks drawn on each item of the batch. The items next to these clicks are always in the
        sum, like the items of the batch. 0: only the items of the batch.
    compute_dtype : {'auto', 'float32', 'bfloat16'}, default 'auto'
        Of the matrix products of the loss; auto takes bfloat16 if the hardware has it.
    """

    gamma: float = _within(2.0, 0)
    negative_term: bool = False
    targets: Targets = "all"
    type_weights: str = ""
    loss_backend: LossBackend = "auto"
    softmax: Softmax = "auto"
    negative_samples: int = _within(4096, 1)
    cooccurrence_negatives: int = _within(4, 0)
    compute_dtype: ComputeDtype = "auto"

    def __post_init__(self) -> None:
        Group.__post_init__(self)
        if self.negative_term and self.loss_backend == "chunked":
            raise UsageError(
                "setting negative_term=true: loss_backend=chunked does not have this term; choose auto, native, "
                "triton or reference"
            )
        if self.negative_term and self.softmax == "sampled":
            raise UsageError("setting softmax=sampled does not support negative_term=true; leave one out")
        if self.softmax == "sampled" and self.loss_backend != "auto":
            raise UsageError(
                f"setting softmax=sampled: loss_backend={self.loss_backend} computes the whole catalog; leave one out"
            )
        parsed(self.type_weights, "setting type_weights")


@dataclass(frozen=True, slots=True)
class OptimizerConfig(Group):
    """Settings of the optimizer and of the course of a training.

    Parameters
    ----------
    lr : float, default 0.002
        Adam's learning rate.
    weight_decay : float, default 0
        Decoupled decay per step, times the learning rate.
    schedule : {'cosine', 'constant'}, default 'cosine'
        Of the learning rate; 'cosine' falls to 0 over `epochs`.
    warmup_epochs : float, default 0.1
        Linear warm-up, in epochs.
    batch_prefixes : int, default 1024
        Largest number of samples in a step; with batches='random-sessions', the number of sessions.
    batches : {'sessions', 'random-sessions', 'prefixes'}, default 'sessions'
        What a batch holds: whole sessions of like length or drawn at random, whose samples share one pass, or samples
        drawn at random, each with a pass over its prefix, as in published code; this takes several times as long.
    clip_norm : float, default 5
        Largest norm of the gradient; 0 does not clip.
    train_step : {'auto', 'eager', 'cuda-graph'}, default 'auto'
        Whether a step runs operation by operation or as captured CUDA graphs; auto takes graphs if they run.
    epochs : int, default 3
        Largest number of epochs.
    patience : int, default 2
        Epochs without a better validation MRR@20 before the training stops; 0 never stops.
    validation_fraction : float, default 0.02
        Share of the last sessions that is held out for validation.
    seed : int, default 0
        Of all random numbers.
    """

    lr: float = _within(2e-3, _ABOVE_0)
    weight_decay: float = _within(0.0, 0)
    schedule: Schedule = "cosine"
    warmup_epochs: float = _within(0.1, 0)
    batch_prefixes: int = _within(1024, 1)
    batches: Batches = "sessions"
    clip_norm: float = _within(5.0, 0)
    train_step: TrainStep = "auto"
    epochs: int = _within(3, 1)
    patience: int = _within(2, 0)
    validation_fraction: float = _within(0.02, _ABOVE_0, _BELOW_1)
    seed: int = _within(0, 0)


@dataclass(frozen=True, slots=True)
class MemoryConfig(Group):
    """Settings of the session memory (`mtaw_fast.memory`) and of its candidates.

    Parameters
    ----------
    enabled : bool, default False
        Whether the model has a session memory. With one, the number of epochs is fixed, not chosen on validation.
    window : int, default 10
        Largest distance in clicks of a pair of items in the sequential statistics.
    span : int, default 40
        Largest distance in clicks of a pair's first clicks in the session statistics.
    recency : float, default 0.1
        Share of the sessions after which the weight of a pair has fallen to 1/e.
    max_neighbors : int, default 512
        Neighbors of an item that are kept, the strongest; 0 keeps all.
    max_postings : int, default 500
        Sessions of an item that are kept, the latest; 0 keeps all.
    cooccurrence_candidates : int, default 80
        Candidates among the items that past sessions hold together with those of the session.
    dense_candidates : int, default 50
        Candidates of the encoder; 0 ranks without the encoder.
    trends : bool, default True
        Whether to use the times of the clicks, if the data set has them (`mtaw_fast.memory.trends`).
    half_lives : str, default '1m,5m,15m,1h,4h,24h,168h'
        Seven rising times after which a click counts half: s, m, h or d.
    trend_candidates : int, default 140
        Candidates among the items that were recently clicked with those of the session. The 50 items that are clicked
        most at the moment are added.
    ranked_candidates : int, default 92
        Of a ranking with times: candidates apart from the session's own items that the ranker scores, the best by a
        quick score; 0 for all. The ranker learns from all.
    """

    enabled: bool = False
    window: int = _within(10, 1)
    span: int = _within(40, 1)
    recency: float = _within(0.1, _ABOVE_0)
    max_neighbors: int = _within(512, 0)
    max_postings: int = _within(500, 0)
    cooccurrence_candidates: int = _within(80, 1, _MAX_CANDIDATES)
    dense_candidates: int = _within(50, 0, 1000)
    trends: bool = True
    half_lives: str = "1m,5m,15m,1h,4h,24h,168h"
    trend_candidates: int = _within(140, 1, 1000)
    ranked_candidates: int = _within(92, 0, _MAX_CANDIDATES)

    def __post_init__(self) -> None:
        Group.__post_init__(self)
        if not _HALF_LIVES.fullmatch(self.half_lives):
            raise _out_of_range("half_lives", self.half_lives)


# Features of columns of the data set's context and item table, and of its types: checked when it is known.
_OF_COLUMNS = ("c_share_", "c_lift_", "i_same_", "i_part_", "i_age_", "e_last_", "e_near_", "e_own_")


@dataclass(frozen=True, slots=True)
class RankerConfig(Group):
    """Settings of the ranker over the candidates of the session memory, and of its fit.

    Parameters
    ----------
    ranker_fraction : float, default 0.25
        The share of the sessions, the last ones, that the ranker is fitted on. If they have more than 10,000,000
        clicks, only the last of them are used.
    ranker_epochs : int, default 0
        Passes of the fit. 0: 8 if the ranker reads times, else 4; the bundle's settings have the number.
    ranker_lr : float, default 0
        Highest learning rate of the fit. 0: 0.002 if the ranker reads times, else 0.006; the bundle's settings have it.
    ranker_samples : int, default 150000
        Largest number of samples of the fit. Of more, this many are used, evenly spread. If the ranker reads times, it
        gets up to half as many more, ranked as by a bundle that does not learn.
    prequential : bool, default True
        Whether the ranker's sessions are learned while the fit goes through them, as in online serving.
    prequential_chunk : int, default 256
        Largest number of clicks that the ranker ranks before it learns them.
    prequential_seconds : float, default 60
        The same in seconds of the log, if the data set has times.
    excluded_features : str, default none
        Features that the ranker does not use, separated by commas.
    event_types : bool, default True
        Whether the ranker reads the types of a session's clicks, if the data set has several.
    """

    ranker_fraction: float = _within(0.25, _ABOVE_0, _BELOW_1)
    ranker_epochs: int = _within(0, 0)
    ranker_lr: float = _within(0.0, 0.0)
    ranker_samples: int = _within(150_000, 1)
    prequential: bool = True
    prequential_chunk: int = _within(256, 1)
    prequential_seconds: float = _within(60.0, 0.001, 1e9)
    excluded_features: str = ""
    event_types: bool = True

    def __post_init__(self) -> None:
        Group.__post_init__(self)
        names = [name.strip() for name in self.excluded_features.split(",") if name.strip()]
        if names:
            from mtaw_fast.kernels.native.memory_query import feature_names

            features = feature_names(trends=True)
            for name in names:
                if name not in features and not name.startswith(_OF_COLUMNS):
                    known = ", ".join(features)
                    raise UsageError(
                        f"setting excluded_features: there is no feature {shown(name)}; choose from {known}"
                    )
