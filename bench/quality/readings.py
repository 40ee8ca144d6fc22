"""Other readings of what the paper leaves open: `paper-literal` on validation, with batches of 100 prefixes and one
thing changed at a time.

python -m bench.quality.readings --data DATA --stages tmall:0:2,retailrocket:0:4 [--only NAMES] [--until HH:MM]
python -m bench.quality.readings --table

A stage is DATASET:SEED:EPOCHS; stages run in order, each with every reading, and a run continues where it stopped. Each
reading, data set and seed is a line of --out, with P@20 and MRR@20 on validation after every epoch. Every sample is
scored by a pass over its prefix, so readings that no single pass over a session can compute are scored alike. Test sets
are not read.
"""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bench.harness.machine import machine_class, machine_record
from bench.harness.records import commit
from bench.harness.register import read_json_lines
from bench.harness.report import command
from bench.quality.ablations import put_lines, study_parser
from bench.quality.runs import prepared
from bench.quality.table import readings as table
from mtaw_fast.config import Config, preset
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import UsageError
from mtaw_fast.evaluation.metrics import gains_of, means_of
from mtaw_fast.kernels.aw_loss import aw_loss
from mtaw_fast.kernels.prefix_interest import PrefixInterestWeights
from mtaw_fast.kernels.prefix_interest.reference import NORM_EPS, PaddedSessions
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.storage.files import folder_lock
from mtaw_fast.training.checkpoints import RunFolder
from mtaw_fast.training.encoder.initial_weights import initialize
from mtaw_fast.training.steps.batch import Batch, EpochBatches
from mtaw_fast.training.steps.full_step import Stepper
from mtaw_fast.training.threads import Threads, training_threads

OUT = Path("docs/results/readings.jsonl")
PLAIN = "batches of 100 prefixes"
LITERAL = preset("paper-literal").replace(batches="prefixes")
_GAMMAS = {"tmall": 2.0, "retailrocket": 6.0}  # the paper's
_EPOCHS_A_RATE, _DECAY, _L2 = 3, 0.1, 1e-5
_CPU, _METRICS = torch.device("cpu"), ("P@20", "MRR@20")


class Reversed(MTAW):
    """Positions from the last click of the prefix back, as in GCE-GNN and S2-DHCN; a session is one prefix."""

    def _interests(self, item_vectors: Tensor, click_index: Tensor, offsets: Tensor, *rest: Any) -> Tensor:
        lengths = offsets.diff().repeat_interleave(offsets.diff())
        return super()._interests(item_vectors, lengths - 1 - click_index, offsets, *rest)


class QueryOfClicks(MTAW):
    """Interest enhancing asks with x_t, the embedded click, instead of l_t."""

    def _interests(self, item_vectors: Tensor, click_index: Tensor, offsets: Tensor, *_: Any) -> Tensor:
        weights = PrefixInterestWeights(*(getattr(self, name) for name in PrefixInterestWeights._fields))
        dropout = self.config.model.dropout
        positions = self.position_embedding[click_index.clamp_max(self.config.model.max_positions - 1)]
        x, sessions = functional.dropout(item_vectors + positions, dropout, self.training), PaddedSessions(offsets)
        query = functional.linear(x, weights.itl_query_weight, weights.itl_query_bias).relu()
        instant = sessions.prefix_attention(query, x)
        hidden = functional.linear(instant, weights.ffn_in_weight, weights.ffn_in_bias).relu()
        update = functional.linear(hidden, weights.ffn_out_weight, weights.ffn_out_bias)
        summed = instant + functional.dropout(update, dropout, self.training)
        interests = functional.layer_norm(summed, summed.shape[1:], weights.norm_weight, weights.norm_bias, NORM_EPS)
        query = functional.linear(x, weights.iel_query_weight, weights.iel_query_bias).relu()
        return sessions.prefix_attention(query, interests)


class Decaying(Stepper):
    """The learning rate times 0.1 every three epochs, and an L2 penalty in the gradient, as SR-GNN's code has them."""

    def __init__(self, model: MTAW, config: Config) -> None:
        super().__init__(model, config)
        for parameter in model.parameters():
            parameter.register_hook(lambda gradient, weights=parameter: gradient.add_(weights.detach(), alpha=_L2))

    def step(self, batch: Batch, progress: float) -> float:
        """See `Stepper.step`."""
        lr = LITERAL.optimizer.lr * _DECAY ** (int(progress) // _EPOCHS_A_RATE)
        self._config = self._config.replace(lr=lr)
        return super().step(batch, progress)


class WeightStopped(Stepper):
    """The adaptive weight is a number: no gradient passes through it."""

    def _loss(self, clicked: Tensor, batch: Batch) -> Tensor:
        queries = self.model.interests(clicked, batch.offsets)[batch.rows]
        items, model, loss = self.model.item_embedding, self._config.model, self._config.loss
        with torch.no_grad():
            entropy = aw_loss(
                queries, items, batch.targets, scale=model.scale, gamma=0, reduction="none",
                compute_dtype=self._dtype, threads=self._threads,
            )  # fmt: skip
            weights = (-2 * torch.expm1(-entropy)) ** loss.gamma / len(queries)
        return aw_loss(
            queries, items, batch.targets, scale=model.scale, gamma=0, weights=weights, reduction="sum",
            compute_dtype=self._dtype, threads=self._threads,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reading:
    """What differs from the preset. settings: overrides, as `Config.override` takes."""

    settings: tuple[str, ...] = ()
    model: type[MTAW] = MTAW
    stepper: type[Stepper] = Stepper


READINGS = {
    PLAIN: Reading(),
    "positions reversed": Reading(model=Reversed),
    "batches of 100 sessions": Reading(("batches=random-sessions",)),
    "batches of 512 prefixes": Reading(("batch_prefixes=512",)),
    "the weight's gradient stopped": Reading(stepper=WeightStopped),
    "rate x 0.1 every 3 epochs, L2 of 1e-5": Reading(stepper=Decaying),
    "interest enhancing asks with the click": Reading(model=QueryOfClicks),
    "scale 20, dropout 0.5": Reading(("scale=20", "dropout=0.5")),
    "100 sessions, scale 20, dropout 0.5": Reading(("batches=random-sessions", "scale=20", "dropout=0.5")),
    "100 sessions, rate x 0.1, L2": Reading(("batches=random-sessions",), stepper=Decaying),
}


class Run:
    """A reading on a data set with a seed; `folder` keeps its last epoch. settings: more overrides, for tests."""

    def __init__(
        self, name: str, dataset: Dataset, seed: int, folder: Path, settings: Sequence[str] = (), threads: int = 1
    ) -> None:
        reading = READINGS[name]
        gamma = _GAMMAS.get(dataset.name, 2.0)
        self.config = LITERAL.replace(gamma=gamma, seed=seed).override([*reading.settings, *settings])
        self._reading, self._files, self._dataset, self._threads = reading, RunFolder(folder), dataset, threads
        fitted, self._held_out = dataset.train.split_last(self.config.optimizer.validation_fraction)
        longest, shortest = self.config.model.max_session_length + 1, dataset.min_prefix
        cut = fitted.keep_last(longest)
        self._fitted = cut.select(np.flatnonzero(cut.lengths > shortest))
        self._held_out = self._held_out.keep_last(longest)
        self._identity = {"reading": name, "config": self.config.settings(), "data": dataset.fingerprint}

    def epochs(self, until: int, deadline: float = float("inf")) -> list[dict[str, float]]:
        """Train up to `until` epochs, or until an epoch ends after `deadline` (`time.time`); return all of them."""
        self._files.folder.mkdir(parents=True, exist_ok=True)
        with folder_lock(self._files.folder, UsageError), training_threads(Threads(self._threads)):
            state = self._files.load_state() or {**self._identity, "history": [], "checkpoint": None}
            if {name: state[name] for name in self._identity} != self._identity:
                raise UsageError(f"{self._files.folder} has another run; name another --work")
            done = state["history"]
            if len(done) >= until:
                return done
            model = self._reading.model(self.config, self._dataset.n_items)
            stepper = self._reading.stepper(model, self.config)
            if done:
                self._files.load_checkpoint(state["checkpoint"], model, stepper)
            else:
                initialize(model, self._fitted)
            source = EpochBatches(self.config, self._fitted, self._dataset.min_prefix)
            while len(done) < until and time.time() < deadline:
                done.append(self._epoch(len(done) + 1, stepper, source))
                print(" ", self._identity["reading"], done[-1], file=sys.stderr, flush=True)
                state["checkpoint"] = f"checkpoint-search-{len(done)}.safetensors"
                self._files.save_checkpoint(state["checkpoint"], model, stepper)
                self._files.save(state)
            return done

    def _epoch(self, epoch: int, stepper: Stepper, source: EpochBatches) -> dict[str, float]:
        """As `Fitting` runs it, so that it has the bits of a training by the preset."""
        seed = np.random.SeedSequence([self.config.optimizer.seed, epoch])
        torch.manual_seed(int(seed.generate_state(1)[0]))
        stepper.model.train()
        began, batches = time.perf_counter(), source.cut(epoch)
        for step, numbers in enumerate(batches):
            stepper.step(source.batch(numbers, _CPU), epoch - 1 + step / len(batches))
        loss, seconds = stepper.end_epoch(), time.perf_counter() - began
        found = prefix_metrics(stepper.model, self.config, self._held_out, self._dataset.min_prefix)
        return {"epoch": epoch, "loss": round(loss, 4), **found, "seconds": round(seconds, 1)}


@torch.inference_mode()
def prefix_metrics(model: MTAW, config: Config, sessions: Sessions, min_prefix: int) -> dict[str, float]:
    """Return P@20 and MRR@20 in percent over every sample of `sessions`, each by a pass over its prefix."""
    model.eval()
    catalog = functional.normalize(model.item_embedding, dim=1)
    source = EpochBatches(config.replace(batches="prefixes", batch_prefixes=256), sessions, min_prefix)
    ranks = []
    for numbers in source.cut(1):
        batch = source.batch(numbers, _CPU)
        scores = functional.normalize(model(batch.clicks, batch.offsets)[batch.rows], dim=1) @ catalog.T
        ranks.append((~(scores < scores.gather(1, batch.targets[:, None]))).sum(dim=1).numpy())
    means = means_of(gains_of(np.concatenate(ranks)))
    return {name: round(means[name], 2) for name in _METRICS}


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the stages and write their lines, and print their table; return the exit status."""
    parser = study_parser("python -m bench.quality.readings", __doc__, OUT)
    parser.set_defaults(threads=1)
    parser.add_argument("--stages", default="tmall:0:8,retailrocket:0:8", metavar="DATASET:SEED:EPOCHS,..")
    parser.add_argument("--only", default="", metavar="NAMES", help="some of the readings, with semicolons")
    parser.add_argument("--until", metavar="HH:MM", help="start no epoch after this time")
    options = parser.parse_args(argv)
    if not options.table:
        if options.data is None:
            parser.error("give --data, or --table for what is recorded")
        deadline = _deadline(options.until)
        for stage in options.stages.split(","):
            name, seed, until = stage.split(":")
            dataset = prepared(options.data, name, options.work)
            for reading in options.only.split(";") if options.only else READINGS:
                folder = options.work / "readings" / f"{name}-{'-'.join(reading.replace(',', '').split())}-{seed}"
                run = Run(reading, dataset, int(seed), folder, options.set, options.threads)
                done = run.epochs(int(until), deadline)
                if done:
                    put_lines(options.out, [_line(name, reading, int(seed), done)], ("dataset", "reading", "seed"))
    print(table(read_json_lines(options.out)))
    return 0


def _deadline(text: str | None) -> float:
    """Return the next time at this hour and minute as `time.time`; infinity without one."""
    if text is None:
        return float("inf")
    hour, minute = map(int, text.split(":"))
    now = datetime.datetime.now()
    then = now.replace(hour=hour, minute=minute, second=0)
    return (then if then > now else then + datetime.timedelta(days=1)).timestamp()


def _line(dataset: str, reading: str, seed: int, epochs: Sequence[dict[str, float]]) -> dict[str, Any]:
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    made = {"at": today, "commit": commit(), "machine": machine_class(machine_record())}
    return {"dataset": dataset, "reading": reading, "seed": seed, "split": "validation", "epochs": epochs, "made": made}


if __name__ == "__main__":
    sys.exit(main())
