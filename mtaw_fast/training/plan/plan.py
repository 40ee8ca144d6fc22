"""What a training is going to do, and about how long and how large: said before it starts.

The rule of the softmax, where config.softmax is 'auto':

- full on a GPU, whose kernels never store the logits, with negatives=true, which a sample has no term for, and with a
  loss_backend of choice, which are all of the whole catalog;
- full where an epoch has at most `ALWAYS_FULL` logits (samples x items), whatever the machine is doing meanwhile;
- sampled where a phase with the full one would take more memory than is free, and no step of it is tried;
- full where the whole training, by the steps measured here, fits the budget with it, or takes no longer than with a
  sample, as where the catalog is small and the clicks are many; else sampled.

A run keeps its choice when it is resumed, and the bundle's settings have it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mtaw_fast.config import Config, Softmax
from mtaw_fast.system.memory_use import available_memory

ALWAYS_FULL = 2 * 10**11  # some minutes an epoch on one core
BUDGET_MINUTES = 90.0
AS_SET = "as the settings say"
_GB = 1e9
_BUSY = 1.2  # from which it is worth a word


@dataclass(frozen=True, slots=True)
class PhasePlan:
    """One phase as it is planned.

    Attributes
    ----------
    name : str
        As in `mtaw_fast.config.phases`.
    work : str
        What it does, such as '2 epochs over 250,000 samples'.
    seconds : float or None
        By the first steps, on a machine of its own; None where nothing was measured.
    peak_bytes : int
        The most memory that it is thought to take.
    """

    name: str
    work: str
    seconds: float | None
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A training as it is planned.

    Attributes
    ----------
    softmax : {'full', 'sampled'}
        Of the encoder's loss.
    why : str
        By which part of the rule.
    phases : tuple of PhasePlan
        In order.
    slowdown : float, default 1
        How many times as long the first steps took by the clock, beside other work.
    """

    softmax: Softmax
    why: str
    phases: tuple[PhasePlan, ...]
    slowdown: float = 1.0

    @property
    def seconds(self) -> float | None:
        """Of all phases; None where nothing was measured."""
        found = [phase.seconds for phase in self.phases if phase.seconds is not None]
        return sum(found) if len(found) == len(self.phases) else None

    @property
    def peak_bytes(self) -> int:
        """The most of all phases."""
        return max(phase.peak_bytes for phase in self.phases)

    @property
    def samples_by_rule(self) -> bool:
        """Whether it samples though the settings did not ask for that."""
        return self.softmax == "sampled" and self.why != AS_SET

    def settle(self, config: Config) -> Config:
        """The settings with nothing left open that the plan decides."""
        return config.replace(softmax=self.softmax)

    def lines(self) -> list[str]:
        """The plan as text, a line a phase."""
        width = max(len(phase.name) for phase in self.phases)
        size = max(len(phase.work) for phase in self.phases)
        told = [f"plan: {self.softmax} softmax ({self.why})"]
        told += [
            f"  {phase.name:{width}}  {phase.work:{size}}  {_tail(phase.seconds, phase.peak_bytes)}"
            for phase in self.phases
        ]
        free = available_memory()
        if free is not None and free < self.peak_bytes:
            told.append(f"  memory: that is more than the {_size(free)} that are free now")
        if self.seconds is None:
            told.append(f"  in all: too small to be timed, memory about {_size(self.peak_bytes)}")
        else:
            busy = ""
            if self.slowdown >= _BUSY:
                busy = f" ({minutes(self.slowdown * self.seconds)} if the machine stays as busy as it is)"
            told.append(
                f"  in all: about {minutes(self.seconds)} by first steps taken here{busy}, memory about "
                f"{_size(self.peak_bytes)}"
            )
        return told

    def as_dict(self) -> dict[str, Any]:
        """The plan as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        """The inverse of `as_dict`."""
        return cls(**{**values, "phases": tuple(PhasePlan(**phase) for phase in values["phases"])})


def chosen_softmax(
    config: Config,
    *,
    logits_an_epoch: int,
    device: str,
    full_seconds: float | None,
    budget_minutes: float,
    sampled_seconds: float | None = None,
    full_bytes: int = 0,
    free_bytes: int | None = None,
) -> tuple[Softmax, str]:
    """The softmax by the rule above, and why.

    Parameters
    ----------
    config : Config
    logits_an_epoch : int
        Samples of all training sessions times items.
    device : str
        Its type: 'cpu' or 'cuda'.
    full_seconds : float or None
        What the whole training would take with the full softmax; None where it was not measured, since the rule does
        not ask.
    budget_minutes : float
        What it may take.
    sampled_seconds : float, optional
        What it would take with a sample; without it, that counts as less.
    full_bytes : int, default 0
        The most memory that an encoder's phase is thought to take with the full softmax.
    free_bytes : int, optional
        The memory that is free; without it, memory does not count.
    """
    if config.loss.softmax != "auto":
        return config.loss.softmax, AS_SET
    if device != "cpu":
        return "full", "always on a GPU"
    if config.loss.negative_term:
        return "full", "negative_term=true needs the whole catalog"
    if config.loss.loss_backend != "auto":
        return "full", f"loss_backend={config.loss.loss_backend} computes the whole catalog"
    if logits_an_epoch <= ALWAYS_FULL:
        return "full", "always for a log of this size"
    near = " and their neighbors in sessions" if config.loss.cooccurrence_negatives else ""
    drawn = f"{config.loss.negative_samples:,} drawn items a step beside the batch's own{near}"
    if free_bytes is not None and full_bytes > free_bytes:
        return "sampled", (
            f"{drawn}: the full one would take about {_size(full_bytes)} and {_size(free_bytes)} are free; "
            "--set softmax=full insists"
        )
    assert full_seconds is not None
    if full_seconds <= 60 * budget_minutes:
        return "full", f"with it the training fits the {budget_minutes:g} minutes of --budget-minutes"
    if sampled_seconds is not None and sampled_seconds >= full_seconds:
        return "full", f"a sample of so small a catalog would take as long, about {minutes(sampled_seconds)}"
    return "sampled", (
        f"{drawn}: with the full one the training would take about {minutes(full_seconds)}, more than the "
        f"{budget_minutes:g} minutes of --budget-minutes; "
        "--set softmax=full insists"
    )


def asks_for_costs(config: Config, *, logits_an_epoch: int, device: str) -> bool:
    """Whether the rule asks what the full softmax would cost."""
    free = config.loss.softmax == "auto" and config.loss.loss_backend == "auto" and not config.loss.negative_term
    return free and device == "cpu" and logits_an_epoch > ALWAYS_FULL


def minutes(seconds: float) -> str:
    """Such as '41 s', '3 min', '1 h 5 min'."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    whole = round(seconds / 60)
    return f"{whole} min" if whole < 60 else f"{whole // 60} h {whole % 60} min"


def _size(count: int) -> str:
    return f"{count / _GB:.1f} GB" if count >= _GB / 10 else f"{max(round(count / 1e6), 1)} MB"


def _tail(seconds: float | None, peak: int) -> str:
    return _size(peak) if seconds is None else f"{minutes(seconds):>10}  {_size(peak):>7}"
