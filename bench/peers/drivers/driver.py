"""What all drivers share: a job's files in, checkpoints and scores out. Knows numpy and torch alone.

A driver runs inside a peer's own environment, where mtaw_fast is not installed, as

    DRIVER train FOLDER MINUTES         go on training, until so many minutes of processor time, the epochs or the
                                        patience end
    DRIVER score FOLDER SPLIT           the scores of the best weights, to standard output

FOLDER has `job.json` and `data.npz`, which `bench.peers.files` writes and explains; the driver adds `state.json`,
`checkpoint.npz` (weights, optimizer, random state) and `best.npz` (weights of the best validation epoch). Scores are
one line of JSON, {"rows": S, "items": N}, and S rows of N float32.

Axes: S samples, B of them in a batch, N items.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from job import Job, Samples

CHECKPOINT_SECONDS = 60.0
POOL_BATCHES = 50  # batches whose samples are sorted by length together


@dataclass
class Peer:
    """A model in training.

    batch: samples in a step. step(samples, rows int64[B]) returns the loss of these rows, scores(samples, rows) their
    scores float32[B, N]. after_epoch: called with the number of finished epochs. samples: the samples to train on; None
    for every prefix. by_length: whether a batch has samples of similar length. scored: how many samples are scored at a
    time.
    """

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    batch: int
    step: Callable[[Samples, np.ndarray], torch.Tensor]
    scores: Callable[[Samples, np.ndarray], torch.Tensor]
    after_epoch: Callable[[int], None] | None = None
    samples: Samples | None = None
    by_length: bool = True
    scored: int = 512

    def batches(self, samples: Samples, seed: int, epoch: int) -> list[np.ndarray]:
        """Return the rows of each batch of an epoch, in a random order that seed and epoch determine.

        Batches are cut from pools that were sorted by length: every sample comes once an epoch, and little is padded.
        """
        generator = np.random.default_rng([seed, epoch])
        order = generator.permutation(len(samples))
        if self.by_length:
            pool = POOL_BATCHES * self.batch
            lengths = samples.lengths
            order = np.concatenate([
                part[np.argsort(lengths[part], kind="stable")]
                for part in (order[begin : begin + pool] for begin in range(0, len(order), pool))
            ])  # fmt: skip
        cut = [order[begin : begin + self.batch] for begin in range(0, len(order), self.batch)]
        return [cut[index] for index in generator.permutation(len(cut))] if self.by_length else cut


def decay(optimizer: torch.optim.Optimizer, settings: dict[str, Any]) -> Callable[[int], None]:
    """Return an `after_epoch` that multiplies the learning rate by "lr_dc" every "lr_dc_step" epochs.

    It computes the rate from the number of epochs, so a resumed training has the same one.
    """

    def after_epoch(done: int) -> None:
        for group in optimizer.param_groups:
            group["lr"] = settings["lr"] * settings["lr_dc"] ** (done // settings["lr_dc_step"])

    return after_epoch


def main(build: Callable[[Job], Peer]) -> None:
    """Run the command line that the module describes. build: makes the peer from a job, after the seeds are set."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get between the scores
    command, folder, *arguments = sys.argv[1:]
    torch.set_num_threads(1)
    job = Job.load(Path(folder))
    torch.manual_seed(job.settings["seed"])
    np.random.seed(job.settings["seed"])
    peer = build(job)
    if command == "train":
        Training(job, peer).run(60 * float(arguments[0]))
    else:
        load_weights(peer.model, folder + "/best.npz")
        write_scores(job.prefixes(arguments[0]), peer, job.n_items, output)
    output.close()


class Training:
    """One job's training, which continues from its checkpoint."""

    def __init__(self, job: Job, peer: Peer) -> None:
        self.job, self.peer = job, peer
        self.samples = job.train_samples() if peer.samples is None else peer.samples
        self.valid = job.prefixes("valid")
        self.state: dict[str, Any] = {
            "step": 0,
            "steps_per_epoch": -(-len(self.samples) // peer.batch),
            "samples": len(self.samples),
            "epochs_asked": job.settings["epochs"],
            "parameters": sum(parameter.numel() for parameter in peer.model.parameters()),
            "cpu_seconds": 0.0,
            "validation_cpu_seconds": 0.0,
            "wall_seconds": 0.0,
            "peak_mb": 0.0,
            "history": [],
            "losses": [],
            "best": None,
            "versions": versions(),
            "ended": None,
        }
        path = job.folder / "checkpoint.npz"
        if path.exists():
            self._resume(path)

    def run(self, seconds: float) -> None:
        """Train until the processor seconds, the epochs or the patience are over."""
        self.until = time.process_time() + seconds
        self.cpu, self.wall = time.process_time(), time.monotonic()
        state, steps_per_epoch = self.state, self.state["steps_per_epoch"]
        while state["ended"] is None:
            epoch = state["step"] // steps_per_epoch
            if epoch >= state["epochs_asked"]:
                state["ended"] = "epochs"
            elif self._out_of_patience():
                state["ended"] = "patience"
            elif not self._epoch(epoch, state["step"] % steps_per_epoch):
                break
        self._save()

    def _epoch(self, epoch: int, begin: int) -> bool:
        """Train the rest of an epoch and validate; return False if the time ended within it."""
        state, peer = self.state, self.peer
        peer.model.train()
        saved = time.monotonic()
        for rows in peer.batches(self.samples, self.job.settings["seed"], epoch)[begin:]:
            peer.optimizer.zero_grad()
            loss = peer.step(self.samples, rows)
            loss.backward()
            peer.optimizer.step()
            state["step"] += 1
            state["losses"].append(round(loss.item(), 4))
            epoch_done = state["step"] % state["steps_per_epoch"] == 0
            if time.process_time() > self.until and not epoch_done:
                self._validate()
                return False
            if time.monotonic() > saved + CHECKPOINT_SECONDS and not epoch_done:
                self._save()
                saved = time.monotonic()
        if peer.after_epoch is not None:
            peer.after_epoch(epoch + 1)
        self._validate()
        self._save()
        return time.process_time() <= self.until

    def _out_of_patience(self) -> bool:
        history, best = self.state["history"], self.state["best"]
        whole_epochs = [validation for validation in history if validation["step"] % self.state["steps_per_epoch"] == 0]
        since = sum(validation["step"] > best["step"] for validation in whole_epochs) if best else 0
        return since >= self.job.settings["patience"]

    def _validate(self) -> None:
        """Measure the weights on the validation samples; keep them if their MRR@20 is the best so far.

        This runs after every epoch and when the time ends. The extra run of an interrupted training must not change its
        random state (S2-DHCN draws for each of its scores).
        """
        self._count("cpu_seconds")
        with torch.random.fork_rng(devices=[]):
            ranks = np.concatenate([
                pessimistic_rank(scores, self.valid.targets[rows]) for rows, scores in scored(self.valid, self.peer)
            ])  # fmt: skip
        hit = (ranks > 0) & (ranks <= 20)
        state = self.state
        entry = {
            "epoch": round(state["step"] / state["steps_per_epoch"], 3),
            "step": state["step"],
            "loss": round(float(np.mean(state["losses"])), 4) if state["losses"] else None,
            "P@20": 100 * float(hit.mean()),
            "MRR@20": 100 * float(np.where(hit, 1 / np.maximum(ranks, 1), 0).mean()),
            "cpu_seconds": round(state["cpu_seconds"], 1),
        }
        state["losses"] = []
        state["history"].append(entry)
        if state["best"] is None or entry["MRR@20"] > state["best"]["MRR@20"]:
            state["best"] = entry
            save_arrays(self.job.folder / "best.npz", weights_of(self.peer.model))
        self._count("validation_cpu_seconds")
        print(f"epoch {entry['epoch']:g}: loss {entry['loss']}  P@20 {entry['P@20']:.2f}  MRR@20 {entry['MRR@20']:.2f}"
              f"  ({entry['cpu_seconds']:.0f} s of training)", file=sys.stderr, flush=True)  # fmt: skip

    def _count(self, name: str) -> None:
        """Add the time since the last call to a counter."""
        now, wall = time.process_time(), time.monotonic()
        self.state[name] += now - self.cpu
        self.state["wall_seconds"] += wall - self.wall
        self.cpu, self.wall = now, wall
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self.state["peak_mb"] = max(self.state["peak_mb"], peak_mb)

    def _save(self) -> None:
        self._count("cpu_seconds")
        arrays = {f"model/{name}": value for name, value in weights_of(self.peer.model).items()}
        state_dict = self.peer.optimizer.state_dict()
        for number, values in state_dict["state"].items():
            for name, value in values.items():
                arrays[f"optimizer/{number}/{name}"] = np.asarray(value)
        arrays["rates"] = np.array([group["lr"] for group in state_dict["param_groups"]])
        arrays["random"] = torch.get_rng_state().numpy()
        arrays["state"] = np.array(json.dumps(self.state))  # in one file with its weights
        save_arrays(self.job.folder / "checkpoint.npz", arrays)
        write_text(self.job.folder / "state.json", json.dumps(self.state, indent=1))

    def _resume(self, path: Path) -> None:
        with np.load(path) as arrays:
            self.state |= json.loads(str(arrays["state"]))
            self.state |= {"ended": None, "epochs_asked": self.job.settings["epochs"]}
            weights = {name.removeprefix("model/"): arrays[name] for name in arrays.files if name.startswith("model/")}
            load_weights(self.peer.model, weights)
            state_dict = self.peer.optimizer.state_dict()
            state_dict["state"] = {}
            for name in arrays.files:
                if name.startswith("optimizer/"):
                    _, number, key = name.split("/")
                    state_dict["state"].setdefault(int(number), {})[key] = torch.from_numpy(np.array(arrays[name]))
            for group, rate in zip(state_dict["param_groups"], arrays["rates"], strict=True):
                group["lr"] = float(rate)
            self.peer.optimizer.load_state_dict(state_dict)
            torch.set_rng_state(torch.from_numpy(arrays["random"]))


def scored(samples: Samples, peer: Peer) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (rows, scores float32[B, N]) of all samples in their order."""
    peer.model.eval()
    with torch.no_grad():
        for begin in range(0, len(samples), peer.scored):
            rows = np.arange(begin, min(begin + peer.scored, len(samples)))
            yield rows, peer.scores(samples, rows).float().contiguous().numpy()


def write_scores(samples: Samples, peer: Peer, n_items: int, output: Any) -> None:
    """Write the scores of all samples, as they come."""
    output.write(json.dumps({"rows": len(samples), "items": n_items}).encode() + b"\n")
    for rows, scores in scored(samples, peer):
        if scores.shape != (len(rows), n_items):
            raise SystemExit(f"scores have shape {list(scores.shape)}, not {[len(rows), n_items]}")
        output.write(np.ascontiguousarray(scores, np.float32).data)
    output.flush()


def pessimistic_rank(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return int64[B] ranks: 1 is best, ties rank before the target, 0 if the target's score is no number."""
    target_scores = scores[np.arange(len(scores)), targets][:, None]
    return np.where(np.isnan(target_scores[:, 0]), 0, np.count_nonzero(~(scores < target_scores), axis=1))


def weights_of(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """Return all parameters and buffers, by name."""
    return {name: value.detach().cpu().numpy() for name, value in model.state_dict().items() if not value.is_sparse}


def load_weights(model: torch.nn.Module, weights: dict[str, np.ndarray] | str) -> None:
    """Put weights, or those of a file, into a model."""
    if isinstance(weights, str):
        with np.load(weights) as arrays:
            weights = dict(arrays)
    model.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Replace an npz at once."""
    part = path.with_suffix(".part.npz")
    np.savez(part, **arrays)
    part.replace(path)


def write_text(path: Path, text: str) -> None:
    """Replace a text file at once."""
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide the figures."""
    names = ("torch", "numpy", "scipy", "recbole", "rectools")
    return {name: metadata.version(name) for name in names if find_spec(name) is not None}
