"""Business rules on a ranking: filters, boosts, limits and pins, by the columns of the item table."""

from mtaw_fast.rules.applied import AppliedRules, BoundRules
from mtaw_fast.rules.bitmaps import BitmapCache
from mtaw_fast.rules.rule_set import (
    MAX_KEPT,
    MisfitRulesError,
    RuleSet,
    broken_rules,
    check_name,
    rule_set_of,
    rule_set_of_text,
)

__all__ = [
    "MAX_KEPT", "AppliedRules", "BitmapCache", "BoundRules", "MisfitRulesError", "RuleSet", "broken_rules",
    "check_name", "rule_set_of", "rule_set_of_text",
]  # fmt: skip
