"""Rules on a ranking: sets of them, which items meet a condition, and the order after boosts, limits and pins.

ItemColumns([(name, kind, is_public, arrays)])
    The columns of an item table; arrays by their names in `Column.arrays`, kept without a copy.
RuleSet(json, where)
    Rules as JSON (docs/rules.md). where: how errors name them. Attributes: filter (Condition
    or None), boosts [(Condition, by)], limits [(column, most)], pins [(position, id as a text)], columns and current
    (names, sorted: all of them, and those whose values of the last click's item are used).
rules.check(columns or None, public_only)
    Raises ValueError unless they fit the columns; None: the items have none.
condition.bits(columns, item or None, n_items)
    The items that meet it after a click on `item`: uint8[ceil(n_items / 8)], bit i % 8 of byte i // 8. Attributes:
    source (its text as JSON, or the list of texts), columns, current.
Arrangement(n_items, boosts, rules, columns)
    boosts: [(bits uint8[ceil(n_items / 8)], by, count)]: adds `by` to the items whose bit is set; count: how many a
    ranking can contain, or more. rules, columns: None, or where its limits come from.
arrangement.arrange(ids, scores, k, whole, pins)
    ids int32[D], scores float32[D]: the first items of a ranking, all of it if `whole`. pins: [(position, id)],
    ascending positions from 1. Returns (ids int32[m], scores float32[m], boosts float64[m], pinned bool[m]), m <= k;
    None if items behind the D could be among the k.
arrangement.raised
    The items whose boosts add up to more than 0, uint8[ceil(n_items / 8)]; None without any. The ranking must be one in
    which these are always ranked (`kernels.native.rank`), so that the score of a candidate is in the boosts' units.

What is wrong raises ValueError with one line. Work over the items releases the GIL.
"""

from mtaw_fast.kernels.native import _native

__all__ = ["Arrangement", "Condition", "ItemColumns", "RuleSet"]

Arrangement = _native.Arrangement
Condition = _native.Condition
ItemColumns = _native.ItemColumns
RuleSet = _native.RuleSet
