"""The plan of a training: its phases, with about how much time and memory they take.

The softmax, if loss.softmax is 'auto':

- full on a GPU, whose kernels never store the logits; with negative_term=true, which a sample does not support; and
  with a chosen loss_backend, since all of them compute the whole catalog;
- full if an epoch has at most `ALWAYS_FULL` logits (samples x items), independent of the load of the machine;
- sampled if a phase with the full one would take more than the free memory; no step of it is tried then;
- full if the whole training, by the steps measured here, fits the budget, or takes no longer than with a sample, as for
  a small catalog with many clicks; else sampled.

A resumed run keeps its choice, and the bundle's settings have it.
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
_BUSY = 1.2  # slowdown from which it is mentioned


@dataclass(frozen=True, slots=True)
class PhasePlan:
    """The plan of one phase.

    name: as in `mtaw_fast.config.phases`. work: its work, such as '2 epochs over 250,000 samples'. seconds: estimated
    from the first steps, without other work on the machine; None if nothing was measured. peak_bytes: estimated peak
    memory. processor_seconds: estimated processor time, over all threads.
    """

    name: str
    work: str
    seconds: float | None
    peak_bytes: int
    processor_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a training.

    softmax: {'full', 'sampled'}, of the encoder's loss. why: the part of the rule that decided. slowdown: wall-clock
    time of the first steps divided by their processor time, because of other work. rough_seconds: of a training too
    short to be measured, by its size alone.
    """

    softmax: Softmax
    why: str
    phases: tuple[PhasePlan, ...]
    slowdown: float = 1.0
    rough_seconds: float | None = None

    @property
    def seconds(self) -> float | None:
        """Seconds of all phases; None if nothing was measured."""
        measured = [phase.seconds for phase in self.phases if phase.seconds is not None]
        return sum(measured) if len(measured) == len(self.phases) else None

    @property
    def processor_seconds(self) -> float | None:
        """Processor time of all phases, over all threads; None if nothing was measured."""
        measured = [phase.processor_seconds for phase in self.phases if phase.processor_seconds is not None]
        return sum(measured) if len(measured) == len(self.phases) else None

    @property
    def peak_bytes(self) -> int:
        """Peak memory over all phases."""
        return max(phase.peak_bytes for phase in self.phases)

    @property
    def samples_by_rule(self) -> bool:
        """Whether the rule, not the settings, chose to sample."""
        return self.softmax == "sampled" and self.why != AS_SET

    def settle(self, config: Config) -> Config:
        """Return the settings with the softmax that the plan chose."""
        return config.replace(softmax=self.softmax)

    def lines(self) -> list[str]:
        """Return the plan as text, a line a phase."""
        width = max(len(phase.name) for phase in self.phases)
        size = max(len(phase.work) for phase in self.phases)
        lines = [f"plan: {self.softmax} softmax ({self.why})"]
        lines += [
            f"  {phase.name:{width}}  {phase.work:{size}}  {_tail(phase.processor_seconds, phase.peak_bytes)}"
            for phase in self.phases
        ]
        free = available_memory()
        if free is not None and free < self.peak_bytes:
            lines.append(f"  memory: more than the {_size(free)} that are free now")
        memory = f"memory about {_size(self.peak_bytes)}"
        if self.seconds is None:
            rough = "" if self.rough_seconds is None else f"about {minutes(self.rough_seconds)} by its size, "
            lines.append(f"  total: {rough}{memory}")
            return lines
        processor = self.processor_seconds
        work = "" if processor is None else f"{minutes(processor)} of processor time, "
        load = "under the present load" if self.slowdown >= _BUSY else "by the clock"
        lines.append(f"  total: about {work}{minutes(self.slowdown * self.seconds)} {load}, {memory}")
        return lines

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
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
    """Return the softmax by the rule above, and why.

    logits_an_epoch: samples of all training sessions times items.
    device: its type, 'cpu' or 'cuda'.
    full_seconds: of the whole training with the full softmax; None if the rule does not need it.
    sampled_seconds: of the whole training with a sample; taken as shorter if not given.
    full_bytes: largest estimated memory of an encoder's phase with the full softmax.
    free_bytes: free memory; without it memory is ignored.
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
    drawn = f"{config.loss.negative_samples:,} drawn items a step and the batch's own{near}"
    if free_bytes is not None and full_bytes > free_bytes:
        return "sampled", (
            f"{drawn}: the full one would take about {_size(full_bytes)}, and {_size(free_bytes)} are free; "
            "--set softmax=full overrides this"
        )
    assert full_seconds is not None
    if full_seconds <= 60 * budget_minutes:
        return "full", f"with it the training fits the {budget_minutes:g} minutes of --budget-minutes"
    if sampled_seconds is not None and sampled_seconds >= full_seconds:
        return "full", f"a sample of such a small catalog would take as long, about {minutes(sampled_seconds)}"
    return "sampled", (
        f"{drawn}: with the full one the training would take about {minutes(full_seconds)}, more than the "
        f"{budget_minutes:g} minutes of --budget-minutes; "
        "--set softmax=full overrides this"
    )


def asks_for_costs(config: Config, *, logits_an_epoch: int, device: str) -> bool:
    """Whether the rule depends on the time and memory of the full softmax."""
    free = config.loss.softmax == "auto" and config.loss.loss_backend == "auto" and not config.loss.negative_term
    return free and device == "cpu" and logits_an_epoch > ALWAYS_FULL


def minutes(seconds: float) -> str:
    """Format a duration, such as '141 s', '3 min', '1 h 5 min'."""
    if seconds < 180:
        return f"{max(round(seconds), 1)} s"
    rounded = round(seconds / 60)
    return f"{rounded} min" if rounded < 60 else f"{rounded // 60} h {rounded % 60} min"


def _size(count: int) -> str:
    return f"{count / _GB:.1f} GB" if count >= _GB / 10 else f"{max(round(count / 1e6), 1)} MB"


def _tail(seconds: float | None, peak: int) -> str:
    return _size(peak) if seconds is None else f"{minutes(seconds):>10}  {_size(peak):>7}"
