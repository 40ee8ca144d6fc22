"""Why an item is in an answer, and why another is not: found by the ranking's own calls."""

from mtaw_fast.ranking.why.explain import explain
from mtaw_fast.ranking.why.explanation import Explanation, Gate, Part, Source, Why

__all__ = ["Explanation", "Gate", "Part", "Source", "Why", "explain"]
