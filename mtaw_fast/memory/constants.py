"""Constants of the session memory's candidates and features, as in `kernels/native/memory` and `kernels/native/trends`.

"Back" counts a session's clicks from its end: 0 is the last one.
"""

from __future__ import annotations

from mtaw_fast.kernels.native.trend_tables import ITEM_LANES, PAIR_LANES

MAX_CLICKS = 512  # the latest clicks of a session that count
DECAY = 0.8  # to the power of back: weights of own items
STRONG = 20  # strongest neighbors of an item that lead to second neighbors
NEAR = 3  # clicks after an earlier click on the last item that count as near
# Sums over the rows of own items: a pair statistic, and the weight of the own items.
SUMS = (
    "next_last", "next_dec", "fwd_dec", "fwd_last", "fwd_prev", "bwd_dec", "ses_dec", "ses_all", "ses_last", "cos_dec",
    "cos_all", "rec_dec", "rec_all", "aa_dec", "reached", "second",
)  # fmt: skip

# Trends: half-lives are lanes, those of items first; pairs have the last of them.
FIRST_PAIR_LANE = ITEM_LANES - PAIR_LANES
NEVER = -1  # the time of a click that never was
NEVER_AGE = 60 * 24 * 3600.0  # seconds
OWN = 10  # latest own items whose pairs count
RISING = 50  # rising items that become candidates
PRE_LANES = (0.6, 1.0, 0.0, 0.4, 0.0)  # weights of the pair lanes in the pre-score
STALE = 7 * 24 * 3_600_000  # ms after the newest click: a ranking counts older evidence as this old
