"""Explain items of one call: ranks by the call's own pipeline, as it was asked and with a rule or a gate left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from mtaw_fast.memory.settings import query_settings
from mtaw_fast.ranking.answer import Recommendations
from mtaw_fast.ranking.options import Options
from mtaw_fast.ranking.pipeline import Pipeline
from mtaw_fast.ranking.why import rule_stages, worth
from mtaw_fast.ranking.why.exclusions import Asked, exclusion_of
from mtaw_fast.ranking.why.explanation import Explanation, Gate, Part, Source, Why, quoted
from mtaw_fast.ranking.why.trace import Trace, nth

_EXACT = 256  # counts of sessions are rounded above it
_TRIES = 5  # while clicks are learned between the rankings of a call


def explain(
    pipeline: Pipeline,
    session: Sequence[Any],
    items: Sequence[Any],
    options: Options,
    asked: Asked,
    log_position: str | None = None,
) -> Why:
    """Return the answer to a session of external ids, and why each of `items` is in it or not.

    It counts as no display of an item that exploration places. asked: the conditions of the call by their names.
    """
    for _ in range(_TRIES):
        counted = replace(pipeline, impressions=pipeline.impressions.copy())
        answer, _ = counted.recommend(session, options, log_position)
        answer.unknown_values = options.unknown_values
        call = _Call(counted, session, options, answer)
        if call.is_one_state:
            break
    return Why(answer, [call.explanation(item, asked) for item in items])


class _Row(NamedTuple):
    """A ranking of internal ids under some of the rules, best first, as deep as it could be made."""

    ids: np.ndarray
    scores: np.ndarray

    def place(self, item: int) -> int | None:
        """Return an item's place from 0."""
        found = np.flatnonzero(self.ids == item)
        return int(found[0]) if len(found) else None


class _Call:
    """One call, and the rankings that explain it."""

    def __init__(self, pipeline: Pipeline, session: Sequence[Any], options: Options, answer: Recommendations) -> None:
        self.catalog, self.ranker, self.answer, self.k = pipeline.catalog, pipeline.ranker, answer, options.k
        self.clicks, _, self.options = options.of_known(self.catalog, session)
        self.positions = {item: place for place, item in enumerate(self.catalog.ids.lookup(answer.items).tolist(), 1)}
        self.trace: Trace | None = None
        names = rule_stages.names_of(self.options.rules)
        self.stages = [(name, self._ranked(name)) for name in ("boost", *names)]
        self.raw = self._ranked("filter") if self.trace is None else _Row(self.trace.list, self.trace.list_scores)

    @property
    def is_one_state(self) -> bool:
        """Whether the answer and its explanation saw the same clicks; learning may change the memory in between."""
        listed = self.stages[-1][1].ids[: self.k].tolist()
        return self.answer.explored is not None or listed == list(self.positions)

    def _ranked(self, stage: str) -> _Row:
        """Rank with the rules up to a stage."""
        rules = rule_stages.until(self.options.rules, stage)
        last = int(self.clicks[-1]) if len(self.clicks) else None
        applied = None if rules is None else self.catalog.bound_rules.bound(rules, last)
        depth = self.k if self.ranker.is_approximate else self.catalog.n_items
        if len(self.clicks):
            options = self.options._replace(k=depth)
            ids, scores, _, arrays = self.ranker.trace(self.clicks, options, applied)
            if self.trace is None:
                model = self.catalog.model
                has_memory = self.ranker.memory is not None
                self.trace = Trace(
                    arrays, query_settings(model.config, model.trends is not None) if has_memory else None
                )
        else:
            ids, scores, _ = self.ranker.popular(depth, self.options.conditions, applied)
        count = int(np.count_nonzero(ids >= 0))
        return _Row(ids[:count], scores[:count])

    def explanation(self, item: Any, asked: Asked) -> Explanation:
        """Return why an item is in the answer or not."""
        internal_id = int(self.catalog.ids.lookup([item])[0])
        gate = exclusion_of(self.catalog, item, internal_id, self.clicks, self.options, asked)
        if gate is not None:
            return Explanation(item, f"{item} is not in the list: {gate.text}.", gate=gate)
        position = self.positions.get(internal_id)
        sources = [] if self.trace is None else self.trace.sources(internal_id)
        rank, n_ranked = self._rank(internal_id)
        score, parts = self._parts(internal_id)
        if position is None:
            gate = self._gate(internal_id)
            text = f"{item} is not in the list: {gate.text}."
        else:
            because = self._because(internal_id, position, sources, rank) + _most_worth(parts)
            text = f"{item} is {nth(position)} of {len(self.answer)}: {because}."
        return Explanation(item, text, position, gate, sources, rank, n_ranked, score, parts)

    def _rank(self, item: int) -> tuple[int | None, int | None]:
        """Return an item's place among those that the ranker scored, before rules, and how many these are."""
        if self.trace is None or not self.trace.n_ranked:
            return None, None
        if self.trace.row(item) is None:
            return None, self.trace.n_ranked
        return int(np.flatnonzero(self.trace.list == item)[0]) + 1, self.trace.n_ranked

    def _parts(self, item: int) -> tuple[float | None, list[Part]]:
        """Return an item's own score, with boosts, and what adds up to it."""
        place = self.raw.place(item)
        if place is None:
            return None, []
        raw = float(self.raw.scores[place])
        row = None if self.trace is None else self.trace.row(item)
        net = self.catalog.model.ranker_net
        if row is not None and self.trace is not None and net is not None and self.ranker.ranker_net is not None:
            parts = worth.parts_of(net, self.ranker.ranker_net, self.trace.features[row], raw)
        else:
            parts = [Part(self._plain_name(item), raw, "base")]
        boosts = rule_stages.boosts_of(self.catalog, self.options.rules, self.clicks, item)
        parts += [Part(f"rule: {text}", by, "boost") for text, by in boosts]
        return float(np.float32(raw + sum(by for _, by in boosts))), parts

    def _plain_name(self, item: int) -> str:
        if not len(self.clicks):
            return "how much it is clicked, as no click of the session is known"
        if self.trace is not None and self.trace.has_memory:
            kind = "by the quick score" if self.trace.is_candidate(item) else "in the encoder's order"
            return f"behind all ranked candidates, {kind}"
        return "how close the encoder finds it to the session"

    def _because(self, item: int, position: int, sources: list[Source], rank: int | None) -> str:
        """Return why an item of the answer is there, in words."""
        if self.answer.explored is not None and self.answer.explored[position - 1]:
            return "exploration placed it with its neighbor's score, as a new item that was shown seldom"
        words = list[str]()
        pin = rule_stages.pin_of(self.catalog, self.options.rules, item)
        if pin is not None:
            words.append(f"a rule pins it to position {pin}, where it has its neighbor's score")
        if not len(self.clicks):
            return "; ".join([*words, "no click of the session is known, so the list is what is clicked most"])
        kinds = {source.name for source in sources if source.brought}
        reason = self.ranker.reasons(self.clicks, np.array([item], dtype=np.int32))[0]
        if reason.kind == "session":
            words.append("it is in the session")
        if reason.items:
            words.append(self._together(item, reason.items))
        if "encoder" in kinds:
            words.append("the encoder finds it close to the session")
        if "trends" in kinds:
            words.append("it is clicked lately")
        if rank is not None and self.trace is not None:
            words.append(f"{nth(rank)} of {self.trace.n_ranked} ranked candidates")
        elif not kinds:
            words.append("it is no candidate, and fills up a list that is longer than the candidates")
        boosts = rule_stages.boosts_of(self.catalog, self.options.rules, self.clicks, item)
        words += [f"{by:+g} by the rule {quoted(text)}" for text, by in boosts]
        return "; ".join(words)

    def _together(self, item: int, clicks: tuple[Any, ...]) -> str:
        """Return in how many past sessions an item was clicked together with clicks of the session, in words."""
        counts = self.ranker.sessions_together(item, self.catalog.ids.lookup(clicks)).tolist()
        texts = [
            f"{click} in {'about ' if count > _EXACT else ''}{count:,.0f}"
            for click, count in zip(clicks, counts, strict=True)
        ]
        return f"clicked together with {', '.join(texts)} past sessions"

    def _gate(self, item: int) -> Gate:
        """Return what stopped an item that no condition excludes: the last stage that took it out of the list."""
        shown = [(name, item in row.ids[: self.k]) for name, row in self.stages]
        if self.answer.explored is not None and shown[-1][1]:
            placed = tuple(item for item, is_new in zip(self.answer.items, self.answer.explored, strict=True) if is_new)
            return Gate(
                "explored over", f"exploration gave {len(placed)} of the last places to new items", items=placed
            )
        for (_, before), (name, after) in zip(reversed(shown[:-1]), reversed(shown[1:]), strict=True):
            if before and not after:
                return self._stopped_by(name, item)
        limited, place = dict(self.stages).get("limit"), self.stages[0][1].place(item)
        if limited is not None and place is not None and limited.place(item) is None:
            n_ahead = np.count_nonzero(np.isin(self.stages[0][1].ids[:place], limited.ids))
            if n_ahead < self.k:  # limits that spared it alone would list it
                return self._stopped_by("limit", item)
        return self._ranked_behind(item)

    def _stopped_by(self, stage: str, item: int) -> Gate:
        """Return the gate of a stage of the rules."""
        rows = dict(self.stages)
        if stage == "pin":
            pins = [rule_stages.pin_of(self.catalog, self.options.rules, other) for other in self.positions]
            taken = tuple(other for other, pin in zip(self.answer.items, pins, strict=True) if pin is not None)
            return Gate("pinned over", f"rules pin {_listed(taken)}, which leaves no place for it", items=taken)
        row = rows[stage]
        above = row.ids[: self.k]
        rule, same = rule_stages.limit_that_holds(self.catalog, self.options.rules, stage, item, above)
        places = tuple(self.catalog.ids.external(np.array(same, dtype=np.int32)))
        kind: Any = stage
        verb = "allows no more" if stage == "limit" else "makes it wait"
        text = f"the rule {quoted(rule)} {verb}; its places went to {_listed(places)}"
        return Gate(kind, text, items=places, rule=rule)

    def _ranked_behind(self, item: int) -> Gate:
        """Return how far behind the list an item is ranked."""
        row = self.stages[0][1]
        place = row.place(item)
        if place is None:
            return Gate("no candidate", "the approximate index did not find it")
        score, needed = float(row.scores[place]), float(row.scores[min(self.k, len(row.ids)) - 1])
        position = self._final_place(item)
        how = f"{nth(position)}, score {score:.4f} against {needed:.4f} of the {nth(min(self.k, len(row.ids)))}"
        new = ""
        if item in self.catalog.new_items:
            new = f"; it is new, with {int(self.catalog.popularity[item]):,} clicks so far"
        trace = self.trace
        if trace is None or not trace.has_memory or trace.row(item) is not None:
            return Gate("ranked", f"it is ranked {how}{new}", position, score, needed)
        if trace.is_candidate(item):
            quick, cutoff = trace.quick(item)
            text = f"it is a candidate, but not among the best by quick score: {quick:.4f}, the last has {cutoff:.4f}"
            return Gate("not ranked", text + new, position, quick, cutoff)
        near = [source for source in trace.sources(item) if source.rank is not None]
        best = min(near, key=lambda source: (source.rank or 0) / max(source.most, 1), default=None)
        text = f"it is no candidate; nearest to it is {best.text}" if best else "it is no candidate of any list"
        return Gate("no candidate", text + new, position, score, needed)

    def _final_place(self, item: int) -> int:
        """Return an item's place in the last stage that still has it, from 1."""
        places = [row.place(item) for _, row in self.stages]
        known = [place for place in places if place is not None]
        return known[-1] + 1


def _most_worth(parts: Sequence[Part]) -> str:
    """Return the group that was worth most, in words; nothing if none raised the score."""
    best = max((part for part in parts if part.kind == "group"), key=lambda part: part.worth, default=None)
    return "" if best is None or best.worth <= 0 else f"; worth most: {best.name} ({best.worth:+.2f})"


def _listed(items: Sequence[Any]) -> str:
    shown = ", ".join(map(str, items[:5]))
    return shown + (f" and {len(items) - 5} more" if len(items) > 5 else "") if items else "others"
