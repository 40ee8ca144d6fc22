"""Two answers side by side: what moved between a call and the same call with a change, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mtaw_fast.ranking.answer import Recommendations
from mtaw_fast.ranking.why.explanation import Explanation, Why


@dataclass(frozen=True, slots=True)
class Move:
    """An item of one of the answers. before, after: its places from 1; None: it is not in that answer.

    why: for an item that left or came, why it is not, or is, in the answer with the change.
    """

    item: Any
    before: int | None
    after: int | None
    why: Explanation | None = None


@dataclass(frozen=True, slots=True)
class WhatIf:
    """A call's answer, that after a change, and what moved: the items of `after` by place, then those that left."""

    before: Recommendations
    after: Recommendations
    moves: list[Move]

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        answers = {
            name: {"items": answer.items, "scores": [float(score) for score in answer.scores]}
            for name, answer in (("before", self.before), ("after", self.after))
        }
        return {**answers, "moves": [asdict(move) for move in self.moves]}

    def __str__(self) -> str:
        n_moved = sum(move.before != move.after for move in self.moves)
        n_left = sum(move.after is None for move in self.moves)
        n_came = sum(move.before is None for move in self.moves)
        if not n_moved:
            return "Nothing moves: both lists are the same."
        columns = [list(map(str, self.before.items)), [_with_move(move) for move in self.moves if move.after]]
        width = max(len("before"), *map(len, columns[0]), 0)
        lines = [f"Left: {n_left}. Came: {n_came}. Moved: {n_moved - n_left - n_came}.", ""]
        lines.append(f"      {'before':<{width}}  after")
        for place in range(max(map(len, columns))):
            left, right = (column[place] if place < len(column) else "" for column in columns)
            lines.append(f"{place + 1:4d}  {left:<{width}}  {right}".rstrip())
        reasons = [move.why.sentence for move in self.moves if move.why is not None]
        return "\n".join([*lines, "", *reasons])


def moved_items(before: Recommendations, after: Recommendations) -> list[Any]:
    """Return the items that are in one of two answers alone, those of `after` first."""
    first, second = set(before.items), set(after.items)
    return [item for item in after.items if item not in first] + [item for item in before.items if item not in second]


def what_if(before: Recommendations, why: Why) -> WhatIf:
    """Return what moved from `before` to the answer of `why`, which explains the items that came and left."""
    places, explained = _places(before.items), {explanation.item: explanation for explanation in why.items}
    moves = [
        Move(item, places.get(item), place, explained.get(item)) for item, place in _places(why.answer.items).items()
    ]
    listed = set(why.answer.items)
    moves += [Move(item, places[item], None, explained.get(item)) for item in before.items if item not in listed]
    return WhatIf(before, why.answer, moves)


def _places(items: Sequence[Any]) -> dict[Any, int]:
    return {item: place for place, item in enumerate(items, 1)}


def _with_move(move: Move) -> str:
    if move.before is None:
        return f"{move.item}  (came)"
    if move.before == move.after or move.after is None:
        return str(move.item)
    return f"{move.item}  ({'up' if move.after < move.before else 'down'} from {move.before})"
