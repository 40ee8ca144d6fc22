"""What an explanation holds, and how a person reads it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from mtaw_fast.ranking.answer import Recommendations


def quoted(text: str) -> str:
    """Return a rule in the quotes that it does not contain, if there are such."""
    return f"'{text}'" if "'" not in text else f'"{text}"'


GateKind: TypeAlias = Literal[
    "unknown", "waiting", "removed", "hidden", "not available", "excluded", "not allowed", "filter", "seen",
    "rule filter", "limit", "no candidate", "not ranked", "ranked", "diversify", "pinned over", "explored over",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """A list of candidates that an item was looked up in.

    name: 'session', 'together', 'encoder' or 'trends'. rank: its place there from 1; None: it is not in it. most: how
    many of the list become candidates. text: the same in words.
    """

    name: Literal["session", "together", "encoder", "trends"]
    rank: int | None
    most: int
    text: str

    @property
    def brought(self) -> bool:
        """Whether it made the item a candidate."""
        return self.rank is not None and self.rank <= self.most


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a score. worth: what it adds. kind: of a row of the table; see `docs/why.md`."""

    name: str
    worth: float
    kind: Literal["base", "group", "together", "boost"]


@dataclass(frozen=True, slots=True)
class Gate:
    """What stopped an item. text: in words. position, score, needed: how far it was, where that can be said.

    position: the place that it would have, from 1. score, needed: what it has, and what the last item of the list has;
    of 'not ranked' these are quick scores. items: external ids of those that have its place, best first. rule: the
    condition that it does not meet, or the limit.
    """

    kind: GateKind
    text: str
    position: int | None = None
    score: float | None = None
    needed: float | None = None
    items: tuple[Any, ...] = ()
    rule: str | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an item is in an answer, or why it is not.

    Attributes
    ----------
    item : id
        As it was given.
    position : int or None
        Its place in the answer, from 1; None if it is not there.
    gate : Gate or None
        What stopped it first; None for an item of the answer.
    sources : list of Source
        Where it was looked for as a candidate; empty for an item that was excluded before.
    rank, n_ranked : int or None
        Its place among all candidates that got the ranker's score, from 1, before rules; and how many these are.
    score : float or None
        Its own score with boosts: that of the answer, which gives pinned and explored items their neighbor's.
    parts : list of Part
        What adds up to the score.
    sentence : str
        The answer in words.
    """

    item: Any
    sentence: str
    position: int | None = None
    gate: Gate | None = None
    sources: list[Source] = field(default_factory=list)
    rank: int | None = None
    n_ranked: int | None = None
    score: float | None = None
    parts: list[Part] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [self.sentence]
        lines += [f"  {source.text}" for source in self.sources]
        if self.parts:
            width = max(len(part.name) for part in self.parts)
            lines += [f"  {part.worth:+10.4f}  {part.name}" for part in self.parts]
            lines += [f"  {'-' * (width + 12)}", f"  {self.score:+10.4f}  score"]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Why:
    """An answer with explanations of some items. answer: what `recommend` returns. items: one for each item asked."""

    answer: Recommendations
    items: list[Explanation]

    def __str__(self) -> str:
        return "\n\n".join(str(explanation) for explanation in self.items)
