"""What the ranker's features mean, in words.

`kernels/native/memory/features.hpp`, `memory/own_items.hpp` and `trends/features.hpp` have the formulas.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_WORDS = {
    # The session: the same for every candidate
    "length": "clicks in the session",
    "last_sessions": "past sessions with the last clicked item",
    "distinct": "distinct items in the session",
    "repeat_rate": "share of the session's clicks that repeat an item",
    # Followed, or came before, what is in the session
    "next_last": "how often it came right after the last clicked item",
    "next_dec": "how often it came right after the session's items, recent ones weighing more",
    "fwd_dec": "how often it came within a few clicks after the session's items",
    "fwd_last": "how often it came within a few clicks after the last clicked item",
    "fwd_prev": "how often it came within a few clicks after the item before the last",
    "bwd_dec": "how often it came within a few clicks before the session's items",
    "ses_dec": "past sessions it shares with the session's items, recent ones weighing more",
    "ses_all": "past sessions it shares with the session's items, all weighing the same",
    "ses_last": "past sessions it shares with the last clicked item",
    "cos_dec": "past sessions it shares with the session's items, against how often both occur, recent first",
    "cos_all": "past sessions it shares with the session's items, against how often both occur",
    "rec_dec": "recent past sessions it shares with the session's items, recent items weighing more",
    "rec_all": "recent past sessions it shares with the session's items, all weighing the same",
    "aa_dec": "short past sessions it shares with the session's items",
    "reached": "items of the session that were ever clicked together with it",
    "reach_near": "how recent the latest of these items is in the session",
    "latest": "how long ago it was last clicked together with one of the session's items",
    "second": "how often it came two steps after the last clicked item",
    "pre": "the score that chose it as a candidate",
    # The candidate alone
    "clicks": "its clicks in training",
    "sessions": "the past sessions that contain it",
    "newest": "how long ago the last past session with it was",
    # The encoder
    "logit": "the encoder's score",
    "logit_gap": "the encoder's score against its best one",
    "dense_rank": "its rank in the encoder's list",
    # Items that the session already has
    "own": "it is already in the session",
    "own_back": "already in the session: clicks since then",
    "own_last": "it is the last clicked item",
    "own_count": "already in the session: how often",
    "own_share": "already in the session: its share of the clicks",
    "own_later": "already in the session: how often sessions return to this item later",
    "own_once": "the last clicked item: how often it is clicked again at once",
    "own_next": "already in the session: how often it followed the last clicked item there",
    "own_near": "already in the session: how often it came soon after the last clicked item there",
    "own_first": "already in the session: the position of its first click",
    "own_gap": "already in the session: clicks between its last two clicks",
    "own_streak": "the last clicked item: how often in a row",
    "own_rank": "already in the session: its position among the session's items, latest first",
    # Time
    "t_gap": "time between the last two clicks",
    "t_span": "time since the session's first click",
    "t_last_age": "age of the last clicked item",
    "t_last_later": "how popular the last clicked item is now",
    "t_last_pairs": "how much was clicked lately after the last clicked item",
    "t_pairs": "how much was clicked lately after the session's items",
    "t_clicks_short": "how busy the shop is now",
    "t_clicks_long": "how busy the shop is these days",
    "t_hour_sin": "time of the day (first coordinate)",
    "t_hour_cos": "time of the day (second coordinate)",
    "t_pre": "the score by time that chose it as a candidate",
    "t_first": "its age: time since its first click",
    "t_last": "time since its last click",
}
_LANES = (
    (re.compile(r"t_all_(\d)"), 0, "its share of all clicks"),
    (re.compile(r"t_later_(\d)"), 0, "its share of the clicks that are not a session's first"),
    (re.compile(r"t_fwd_last_(\d)"), -5, "how often it came after the last clicked item"),
    (re.compile(r"t_bwd_last_(\d)"), -5, "how often it came before the last clicked item"),
    (re.compile(r"t_fwd_(\d)"), -5, "how often it came after the session's items"),
    (re.compile(r"t_bwd_(\d)"), -5, "how often it came before the session's items"),
)
_COLUMNS = {
    "c_share_": "its share of the clicks of visits with the same {}",
    "c_lift_": "its popularity among visits with the same {}, against all visits",
    "i_same_": "it has the {} of the last clicked item",
    "i_part_": "share of the session's clicks on items of the same {}",
    "i_age_": "time since its {}",
    "e_last_": "the type of the last click is {}",
    "e_near_": "the session's item that leads to it was last clicked as {}",
    "e_own_": "it was clicked in the session as {}",
}


def words_of(feature: str, half_lives: Sequence[str] = ()) -> str:
    """Return what a feature means; an empty text for a name that this release does not know.

    half_lives: the seven of the bundle's settings, such as '15m', whose counts some features read.
    """
    if feature in _WORDS:
        return _WORDS[feature]
    for pattern, first, text in _LANES:
        match = pattern.fullmatch(feature)
        if match is not None:
            lanes = list(half_lives)[first:] if half_lives else []
            lane = int(match[1])
            return f"{text} lately" + (f" (half-life {lanes[lane]})" if lane < len(lanes) else "")
    for prefix, text in _COLUMNS.items():
        if feature.startswith(prefix):
            return text.format(feature.removeprefix(prefix))
    return ""
