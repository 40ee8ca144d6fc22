"""What the parts of MTAW and of the preset `full` are worth: P@20 and MRR@20 without each, as paired differences.

python -m bench.quality.ablations --data DATA [--dataset NAMES] [--seeds N]
python -m bench.quality.ablations --table

Everything is trained on the first 93% of the training sessions and ranks the clicks of the last 7%; test sets are not
read. Encoders are those of the preset `paper` with the paper's gamma. An attention is removed by keeping its query
weights at zero, which weighs all clicks alike; positions, by keeping their rows at zero. Rankers of `full` share the
encoder and, if only features are left out, their samples. Ranks of a variant and seed are kept in --work, so a run that
was stopped goes on. Each line of --out holds the means over seeds, and the difference from the whole model with its 95%
bootstrap interval over sessions and its standard deviation over seeds.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.harness.comparison import limit_threads
from bench.harness.machine import machine_class, machine_record, usable_cores
from bench.harness.records import commit
from bench.harness.register import read_json_lines
from bench.harness.report import command
from bench.quality.runs import ProgressLines, prepared
from bench.quality.table import ablations as table
from mtaw_fast.config import Config, preset
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import UsageError
from mtaw_fast.kernels.native.memory_query import feature_names
from mtaw_fast.memory import RankerNet
from mtaw_fast.model.model import Model
from mtaw_fast.storage.files import atomic_path, folder_lock
from mtaw_fast.training.checkpoints import RunFolder
from mtaw_fast.training.encoder.fit_encoder import Fitting, weights_of
from mtaw_fast.training.encoder.runner import FitRequest, Runner
from mtaw_fast.training.memory_tables import build_tables
from mtaw_fast.training.progress import Reporter
from mtaw_fast.training.ranker.fit_ranker import Candidates
from mtaw_fast.training.ranker.train_ranker import fit_samples, ranker_samples
from mtaw_fast.training.run_state import RunState
from mtaw_fast.training.steps.full_step import AnyStepper
from mtaw_fast.training.trained_model import served_ranks

OUT = Path("docs/results/ablations.jsonl")
GAMMAS = {"tmall": 2.0, "retailrocket": 6.0}  # the paper's
ENCODER, RANKER = "paper", "full"  # the whole models
_HELD_OUT, _STEPS, _RESAMPLES, _METRICS = 0.07, 20, 1000, ("P@20", "MRR@20")


@dataclass(frozen=True, slots=True)
class Variant:
    """A variant of the encoder or the ranker.

    settings: overrides, as `Config.override` takes. fixed: the encoder's parameters that stay at zero. excluded: the
    ranker's features that get no weight. learns: whether the tables learn the ranked sessions.
    """

    settings: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    learns: bool = False


_OWN = tuple(name for name in feature_names() if name.startswith("own"))
_PAIRS = ("next_last", "next_dec", "fwd_dec", "fwd_last", "fwd_prev", "bwd_dec", "ses_dec", "ses_all", "ses_last",
          "cos_dec", "cos_all", "rec_dec", "rec_all", "aa_dec", "reached", "reach_near", "latest", "second",
          "pre")  # fmt: skip
ENCODERS = {
    ENCODER: Variant(),
    "interest tracking (ITL) by plain means": Variant(fixed=("itl_query_weight", "itl_query_bias")),
    "interest enhancing (IEL) by plain means": Variant(fixed=("iel_query_weight", "iel_query_bias")),
    "no positions": Variant(fixed=("position_embedding",)),
    "cross-entropy for the AW loss": Variant(("gamma=0",)),
}
RANKERS = {
    RANKER: Variant(),
    "no encoder": Variant(("dense_candidates=0",)),
    "no features of pairs of items": Variant(excluded=_PAIRS),
    "no features of recency": Variant(excluded=("rec_dec", "rec_all", "latest", "newest")),
    "no features of popularity and age": Variant(excluded=("clicks", "sessions", "newest", "last_sessions")),
    "no features of own items": Variant(excluded=_OWN),
    "no features of the encoder": Variant(excluded=("logit", "logit_gap", "dense_rank")),
    "a quarter of the candidates": Variant(("cooccurrence_candidates=20", "dense_candidates=12")),
    "samples from tables that stand still": Variant(("prequential=false",)),
    "learning": Variant(learns=True),
}


class FixedAtZero(Runner):
    """Trains a model some of whose parameters are zero and stay so."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(torch.device("cpu"))
        self._names = names

    def begin(self, request: FitRequest) -> AnyStepper:
        """See `Runner.begin`."""
        stepper = super().begin(request)
        for name in self._names:
            parameter = getattr(stepper.model, name)
            with torch.no_grad():
                parameter.zero_()
            parameter.register_hook(torch.zeros_like)  # Adam without decay leaves what has no gradient
        return stepper


class Study:
    """The measurements on one data set. Raises UsageError for click times: the models made here have no trends.

    work: folder that keeps encoders and ranks. settings: overrides for all variants, for tests.
    """

    def __init__(self, dataset: Dataset, work: Path, settings: Sequence[str] = ()) -> None:
        if dataset.train.times is not None:
            raise UsageError(f"{dataset.name} has click times: ablations are measured on sets without times")
        self.dataset, self.settings = dataset, tuple(settings)
        self._folder = work / "ablations"
        self.train_sessions, self._ranked_sessions = dataset.train.split_last(_HELD_OUT)
        self.samples = Samples.from_sessions(self._ranked_sessions, dataset.min_prefix)
        # Variants that differ in the ranker's fit alone share the samples of the last one.
        self._latest: tuple[Config, Candidates] | None = None

    def gains(self, name: str, seed: int) -> np.ndarray:
        """Return hit and reciprocal rank of each sample in percent, float64[S, 2]; measured once."""
        model, variant = (ENCODER, ENCODERS[name]) if name in ENCODERS else (RANKER, RANKERS[name])
        measured = [self.dataset.fingerprint, self.settings, preset(model).as_dict(), asdict(variant)]
        path = self._folder / f"{self.dataset.name}-{name.replace(' ', '-')}-{_digest(measured)}-{seed}.npy"
        if not path.exists():
            ranks = self._encoder_ranks(name, seed) if name in ENCODERS else self._ranker_ranks(name, seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                np.save(file, np.where(ranks > 20, 0, ranks))
        return gains_of(np.load(path))

    def _encoder_ranks(self, name: str, seed: int) -> np.ndarray:
        variant = ENCODERS[name]
        config = preset(ENCODER).replace(gamma=GAMMAS.get(self.dataset.name, 2.0), seed=seed)
        config = config.override([*self.settings, *variant.settings])
        weights = self._encoder(config, self.train_sessions, variant.fixed)
        return served_ranks(self._model(config, weights), self.samples)

    def _ranker_ranks(self, name: str, seed: int) -> np.ndarray:
        variant, plain = RANKERS[name], preset(RANKER).override(self.settings).replace(seed=seed)
        config = plain.override(variant.settings).replace(excluded_features=",".join(variant.excluded))
        before = self.train_sessions.split_last(config.ranker.ranker_fraction)[0]
        past_weights, weights = (self._encoder(plain, sessions) for sessions in (before, self.train_sessions))
        net = self._ranker(config, past_weights if config.memory.dense_candidates else None)
        model = self._model(config, weights, net)
        return self._learning_ranks(model) if variant.learns else served_ranks(model, self.samples)

    def _learning_ranks(self, model: Model) -> np.ndarray:
        """Return the ranks when the tables learn: sessions are ranked in twenty parts, and learned after each part."""
        ranks = []
        for numbers in np.array_split(np.arange(len(self._ranked_sessions)), _STEPS):
            sessions = self._ranked_sessions.select(numbers)
            ranks.append(served_ranks(model, Samples.from_sessions(sessions, self.dataset.min_prefix)))
            assert model.memory is not None
            model = replace(model, memory=model.memory.update(sessions))
        return np.concatenate(ranks)

    def _encoder(self, config: Config, sessions: Sessions, fixed: Sequence[str] = ()) -> Mapping[str, np.ndarray]:
        """Return the weights of the encoder of `sessions`, from the work folder if it is there."""
        data = self.dataset
        identity = {"config": config.settings(), "fixed": [*fixed], "data": data.fingerprint, "sessions": len(sessions)}
        folder = self._folder / f"encoder-{_digest(identity)}"
        return fit_encoder(
            config, sessions, data.n_items, data.min_prefix, folder, identity, ProgressLines(), FixedAtZero(fixed)
        )

    def _ranker(self, config: Config, past_weights: Mapping[str, np.ndarray] | None) -> RankerNet:
        """Train a ranker. past_weights: of the encoder of the sessions before the ranker's; None without candidates."""
        key = config.replace(excluded_features="")
        if self._latest is None or self._latest[0] != key:
            self._latest = None  # two at a time would take the memory and disk of both
            n_items, min_prefix = self.dataset.n_items, self.dataset.min_prefix
            self._latest = key, ranker_samples(
                config, self.train_sessions, n_items, min_prefix, past_weights, self._folder, "ranker", ProgressLines()
            )  # fmt: skip
        return fit_samples(self._latest[1], config, "ranker", ProgressLines())[0]

    def _model(self, config: Config, weights: Mapping[str, np.ndarray], net: RankerNet | None = None) -> Model:
        n_items = self.dataset.n_items
        return Model.of(
            config=config,
            weights=dict(weights),
            ids=self.dataset.ids,
            popularity=np.bincount(self.train_sessions.items, minlength=n_items).astype(np.int64),
            memory=None if net is None else build_tables(config, self.train_sessions, n_items),
            ranker_net=net,
        )


def _digest(identity: object) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def lines_of(study: Study, seeds: int, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Measure the variants with each seed; yield a line for each."""
    gains: dict[str, list[np.ndarray]] = {}
    for seed in range(seeds):
        for name in names:
            gains.setdefault(name, []).append(study.gains(name, seed))
            print(study.dataset.name, name, seed, gains[name][-1].mean(axis=0).round(2), file=sys.stderr, flush=True)
    samples = study.samples
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    made = {"at": today, "commit": commit(), "machine": machine_class(machine_record())}
    for name, seed_gains in gains.items():
        mean = np.mean(seed_gains, axis=0)
        line: dict[str, Any] = {
            "dataset": study.dataset.name, "model": ENCODER if name in ENCODERS else RANKER, "variant": name,
            "samples": len(samples), "seeds": seeds,
            **dict(zip(_METRICS, mean.mean(axis=0).round(2).tolist(), strict=True)),
            "deviation": _over_seeds(seed_gains),
            "made": made,
        }  # fmt: skip
        if name != line["model"]:
            whole = gains[line["model"]]
            line["difference"] = difference_of(mean - np.mean(whole, axis=0), samples.session)
            differences = [values - whole_values for values, whole_values in zip(seed_gains, whole, strict=True)]
            line["difference_deviation"] = _over_seeds(differences)
        yield line


def gains_of(ranks: np.ndarray) -> np.ndarray:
    """Return hit and reciprocal rank in percent, float64[S, 2]. ranks: int[S], 0 for a miss."""
    hit = ranks > 0
    return np.stack([100.0 * hit, np.where(hit, 100 / np.maximum(ranks, 1), 0)], axis=1)


def difference_of(values: np.ndarray, session: np.ndarray, digits: int = 2) -> dict[str, list[float]]:
    """Return mean, low and high of each metric's differences, float64[S, 2], resampled by session (int[S])."""
    _, owner = np.unique(session, return_inverse=True)
    counts = np.bincount(owner)
    sums = np.stack([np.bincount(owner, values[:, k]) for k in range(2)], axis=1)
    draws = np.random.default_rng(0).integers(0, len(counts), (_RESAMPLES, len(counts)))
    means = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)[:, None]
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    ends = np.stack([values.mean(axis=0), low, high], axis=1).round(digits)
    return {name: ends[k].tolist() for k, name in enumerate(_METRICS)}


def _over_seeds(gains: Sequence[np.ndarray]) -> dict[str, float]:
    """Return the standard deviation over seeds of each metric; 0 of one seed."""
    means = np.array([seed.mean(axis=0) for seed in gains])
    spread = means.std(axis=0, ddof=1) if len(means) > 1 else np.zeros(2)
    return dict(zip(_METRICS, spread.round(2).tolist(), strict=True))


def study_parser(program: str, text: str | None, out: Path) -> argparse.ArgumentParser:
    """Return the parser of a program over studies, with their options. text: its docstring; out: of its records."""
    parser = argparse.ArgumentParser(prog=program, description=(text or "").splitlines()[0])
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with the data sets")
    parser.add_argument("--dataset", default="tmall,retailrocket", metavar="NAMES", help="with commas")
    parser.add_argument("--work", type=Path, default=Path("runs/quality"), metavar="DIR", help="keeps what is done")
    parser.add_argument("--threads", type=int, default=usable_cores(), metavar="N", help="(default: all cores)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting of all")
    parser.add_argument("--out", type=Path, default=out)
    parser.add_argument("--table", action="store_true", help="print the table of --out instead")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the lines, and print their table; return the exit status."""
    parser = study_parser("python -m bench.quality.ablations", __doc__, OUT)
    parser.add_argument("--only", default="", metavar="MODEL", choices=("", ENCODER, RANKER), help="one model's rows")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args(argv)
    if not options.table:
        if options.data is None:
            parser.error("give --data, or --table for what is recorded")
        names = [*(ENCODERS if options.only != RANKER else ()), *(RANKERS if options.only != ENCODER else ())]
        with limit_threads(options.threads):
            for name in options.dataset.split(","):
                study = Study(prepared(options.data, name, options.work), options.work, options.set)
                put_lines(options.out, list(lines_of(study, options.seeds, names)))
    print(table(read_json_lines(options.out)))
    return 0


def put_lines(path: Path, lines: Sequence[Mapping[str, Any]], key: Sequence[str] = ("dataset", "variant")) -> None:
    """Put lines into a file, in place of those with the same values of `key`."""
    old_lines = read_json_lines(path) if path.exists() else []
    by_key = {tuple(line[name] for name in key): line for line in [*old_lines, *lines]}
    with atomic_path(path) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in by_key.values()))


def fit_encoder(
    config: Config,
    sessions: Sessions,
    n_items: int,
    min_prefix: int,
    folder: Path,
    identity: Mapping[str, Any],
    reporter: Reporter,
    runner: Runner,
) -> Mapping[str, np.ndarray]:
    """Train an encoder alone on `sessions` for config.optimizer.epochs epochs; return its weights as `weights_of`.

    folder: keeps the run; a finished one is read, not repeated. identity: tells this run from others, as JSON values;
    raises UsageError if the folder has another run.
    """
    with folder_lock(folder, UsageError):
        state = RunState(RunFolder(folder), identity, "search")
        state.open(resume=True, overwrite=False)
        if state["phase"] == "search":
            Fitting(config, n_items, min_prefix, runner, state, reporter).fit(
                "search", sessions, config.optimizer.epochs
            )
            state.next_phase("done", {"weights": state["checkpoint"]})
        return weights_of(config, n_items, state, "weights")


if __name__ == "__main__":
    sys.exit(main())
