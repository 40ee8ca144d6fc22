"""Why an item is in an answer, and why another is not: found by the ranking's own calls."""

from mtaw_fast.ranking.why.exclusions import Asked
from mtaw_fast.ranking.why.explain import explain
from mtaw_fast.ranking.why.explanation import Explanation, Gate, Part, Source, Why
from mtaw_fast.ranking.why.what_if import Move, WhatIf, moved_items, what_if

__all__ = [
    "Asked", "Explanation", "Gate", "Move", "Part", "Source", "WhatIf", "Why", "explain", "moved_items", "what_if",
]  # fmt: skip
