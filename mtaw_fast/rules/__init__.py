"""Business rules on a ranking: filters, boosts, limits and pins, by the columns of the item table."""

from mtaw_fast.rules.applied import AppliedRules, BoundRules
from mtaw_fast.rules.bitmaps import BitmapCache
from mtaw_fast.rules.placement import (
    DEFAULT,
    MAX_PLACEMENTS,
    Placed,
    Placement,
    PlacementTable,
    broken_placements,
    checked_placement,
    earlier_content,
)
from mtaw_fast.rules.rule_set import MisfitRulesError, RuleSet, rule_set_of, rule_set_of_text

__all__ = [
    "DEFAULT", "MAX_PLACEMENTS", "AppliedRules", "BitmapCache", "BoundRules", "MisfitRulesError", "Placed", "Placement",
    "PlacementTable", "RuleSet", "broken_placements", "checked_placement", "earlier_content", "rule_set_of",
    "rule_set_of_text",
]  # fmt: skip
