"""Rules on a ranking: sets of them, which items meet a condition, and rules over a catalog.

ItemColumns([(name, kind, is_public, arrays)])
    The columns of an item table; arrays by their names in `Column.arrays`, kept without a copy.
RuleSet(json, where)
    Rules as JSON (docs/rules.md). where: how errors name them. Attributes: filter (Condition
    or None), boosts [(Condition, by)], columns and current (names, sorted: all of them, and those whose values of the
    last click's item are used), texts [(column, text that it is compared with)].
rules.check(columns or None, public_only)
    Raises ValueError unless they fit the columns; None: the items have none.
condition.bits(columns, item or None, n_items)
    The items that meet it after a click on `item`: uint8[ceil(n_items / 8)], bit i % 8 of byte i // 8. Attributes:
    source (its text as JSON, or the list of texts), columns, current.
AppliedRules(rules, columns, ids, present, filter, boosts)
    Rules over a catalog, for `kernels.native.rank`. ids: its IdTable. present: the items that can be recommended, and
    filter: those that meet the conditions of the filter, both as bits or None; boosts: the bits of each boost's items.
applied.shown_pins(clicks int32[m], excluded, allowed, exclude_seen)
    The pinned items that no condition (as in `kernels.native.rank`) hides, by their positions.
applied.within_limits(kept int32[..], candidates int32[..], count)
    The first `count` candidates that the limits let into a list next to the items `kept`.

What is wrong raises ValueError with one line. Work over the items releases the GIL.
"""

from mtaw_fast.kernels.native import _native

__all__ = ["AppliedRules", "Condition", "ItemColumns", "RuleSet"]

AppliedRules = _native.AppliedRules
Condition = _native.Condition
ItemColumns = _native.ItemColumns
RuleSet = _native.RuleSet
