"""The JSON of requests. Decoding checks every type; `ranking.check_limits` how much a request asks for."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct, field

from mtaw_fast.data.context import MAX_CHARACTERS, MAX_COLUMNS
from mtaw_fast.online.log.events import MAX_TEXT_LENGTH
from mtaw_fast.rules.placement import MAX_SETS, NAME
from mtaw_fast.service.ranking_ids import EXAMPLE, PATTERN

# Ids are bounded while they are decoded. Python hashes an integer modulo 2**61 - 1: without the bound, a client could
# make a set or a dict of ids take quadratic time.
WholeNumber = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Item = WholeNumber | Annotated[str, Meta(max_length=MAX_TEXT_LENGTH)]  # of the type that the bundle uses
Items = list[Item]
Context = Annotated[
    dict[str, WholeNumber | Annotated[str, Meta(max_length=MAX_CHARACTERS)] | None],
    Meta(
        description="What is known of the visit, by context column.",
        examples=[{"referrer": "search"}],
        max_length=MAX_COLUMNS,
    ),
]
Types = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=MAX_TEXT_LENGTH)] | None],
    Meta(description="Types of the clicks, such as view and cart: one for each, null where unknown."),
]
MAX_EVENTS = 10_000  # of a request
MAX_FIELDS = 64  # columns named in a request
Name = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT_LENGTH)]
NewItem = WholeNumber | Name
K = Annotated[int, Meta(description="The most results to return.", examples=[20], ge=1)]
Recommendation = Annotated[
    str, Meta(description="The ranking's id, for feedback on it.", examples=[EXAMPLE], pattern=PATTERN)
]
SessionId = Annotated[
    Name | None,
    Meta(
        description="The session's id: deleting it deletes feedback on the ranking. It decides which of several "
        "bundles answers, and which of rule sets that share the sessions applies."
    ),
]


Condition = Annotated[str, Meta(max_length=4096, examples=['brand == "own" and price < 80'])]


class BoostRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """Adds to the scores of items."""

    when: Condition
    by: Annotated[float, Meta(description="Added to the score; below 0 it buries.", examples=[0.3])]


class LimitRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """At most so many items with the same value in a column."""

    per: Annotated[str, Meta(description="A column.", max_length=MAX_TEXT_LENGTH, examples=["brand"])]
    most: Annotated[int, Meta(ge=1, examples=[2])]


class DiversifyRequest(LimitRequest, kw_only=True):
    """At most so many items with the same value among any so many in a row; the others wait."""

    of: Annotated[int, Meta(ge=2, le=100, examples=[5])]


class RulesRequest(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Rules on a ranking, by the columns of the item table. Without the bearer token they may use public columns."""

    filter: Annotated[
        Condition | list[Condition] | None, Meta(description="What an item must meet; of a list, all of it.")
    ] = None
    boost: BoostRequest | list[BoostRequest] | None = None
    limit: LimitRequest | list[LimitRequest] | None = None
    diversify: DiversifyRequest | list[DiversifyRequest] | None = None
    pin: Annotated[
        dict[str, int] | None, Meta(description="Items and their positions, from 1.", examples=[{"sku-1": 3}])
    ] = None


PlacementName = Annotated[str, Meta(pattern=f"^{NAME}$", examples=["cart"])]
_LONGEST_TIME = 64  # characters
_Moment = Annotated[str | WholeNumber | None, Meta(description="ISO-8601 or Unix milliseconds; null: no bound.")]


class RuleSetRequest(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Rules of a placement, in a window of time and for a share of the sessions."""

    rules: RulesRequest
    name: Annotated[PlacementName | None, Meta(description="In feedback and tests; null: set-1, ..")] = None
    begin: _Moment = field(name="from", default=None)
    until: _Moment = None
    share: Annotated[
        Annotated[float, Meta(gt=0, le=1)] | None,
        Meta(description="Of the sessions, by their id; null: those that are left."),
    ] = None


class PlacementRequest(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """The rule sets of a placement, or the revision to put back."""

    sets: Annotated[
        Annotated[list[RuleSetRequest], Meta(max_length=MAX_SETS)] | None,
        Meta(description="The first whose window is open gets the sessions without another one's share."),
    ] = None
    together: Annotated[bool, Meta(description="Apply them also to requests that bring rules.")] = False
    undo_to: Annotated[WholeNumber | None, Meta(description="Instead: the number of an earlier revision.")] = None


class RankingOptions(Struct, forbid_unknown_fields=True, kw_only=True):
    """Options of a ranking."""

    k: K = 20
    exclude: Annotated[Items, Meta(description="Items to leave out.")] = []
    allow: Annotated[Items | None, Meta(description="Return only these; null: all; []: none.")] = None
    exclude_seen: Annotated[bool, Meta(description="Leave out the items of the session.")] = False
    repeats: Annotated[bool, Meta(description="Report which results are in the session.")] = False
    reasons: Annotated[bool, Meta(description="Report why each result was chosen.")] = False
    at: Annotated[
        int | Annotated[str, Meta(max_length=_LONGEST_TIME)] | None,
        Meta(
            description="Time to rank for, if the bundle uses times: ISO-8601 or Unix milliseconds; null: now.",
            examples=["2026-12-01T18:00"],
        ),
    ] = None
    context: Context | None = None
    fields: Annotated[
        list[Name],
        Meta(description="Columns of the item table to report; public ones without the token.", max_length=MAX_FIELDS),
    ] = []
    rules: RulesRequest | None = None
    placement: Annotated[
        PlacementName | None,
        Meta(description="Where the list will stand: its rules apply; of an unknown one, default."),
    ] = None
    explore: Annotated[
        Annotated[float, Meta(ge=0, le=1)] | None,
        Meta(description="Share of the list for items that were seldom shown; null: the service's."),
    ] = None


class RecommendRequest(RankingOptions, kw_only=True):
    """A session to rank the catalog for."""

    session: Annotated[
        Items, Meta(description="Clicks, oldest first; unknown items are ignored.", examples=[["sku-9", "sku-4"]])
    ]
    types: Types | None = None
    session_id: SessionId = None
    timings: Annotated[bool, Meta(description="Report the microseconds of each stage.")] = False


class BatchRequest(RankingOptions, kw_only=True):
    """Sessions to rank the catalog for, with the same options."""

    sessions: Annotated[list[Items], Meta(examples=[[["sku-9", "sku-4"], ["sku-7"]]])]
    types: Annotated[
        list[Types | None] | None, Meta(description="Types of the clicks of each session; null where unknown.")
    ] = None
    session_id: SessionId = None


class ClickRequest(RankingOptions, kw_only=True):
    """Clicks to append to a session that the service keeps."""

    items: Annotated[Items, Meta(description="New clicks, oldest first.", min_length=1, examples=[["sku-4"]])]
    types: Types | None = None
    timings: Annotated[bool, Meta(description="Report the microseconds of each stage.")] = False


class ReportedItem(Struct, forbid_unknown_fields=True, kw_only=True):
    """An item of a ranking, with what else is known of it."""

    item: Item
    value: Annotated[
        float,
        Meta(
            description="What it is worth to the shop, such as its price times the count.",
            examples=[59.9],
            ge=0,
            le=1_000_000,
        ),
    ] = 0.0
    position: Annotated[
        int, Meta(description="Where it was shown, from 1; 0: not said.", ge=0, le=1_000_000, examples=[2])
    ] = 0


Reported = list[Item | ReportedItem]


class FeedbackRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """What became of one ranking. It may come in parts, such as clicks after the items shown.

    Each item counts once in each list, however often it is sent.
    """

    recommendation: Recommendation
    shown: Annotated[Reported, Meta(description="Items that were shown.", examples=[["sku-2", "sku-9"]])] = []
    clicked: Annotated[Reported, Meta(description="Those of them that were clicked.", examples=[["sku-2"]])] = []
    carted: Annotated[Reported, Meta(description="Those of them that were put into the cart.")] = []
    bought: Annotated[
        Reported,
        Meta(description="Those of them that were bought.", examples=[[{"item": "sku-2", "value": 59.9}]]),
    ] = []
    explored: Annotated[Reported, Meta(description="Those of them that the answer marked as explored.")] = []
    session: Annotated[
        Name | None,
        Meta(description="The session's id, if the ranking was asked for without: deleting it deletes this feedback."),
    ] = None


class AddItemsRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """Items for the catalog, with either neighbors or vectors."""

    items: Annotated[list[NewItem], Meta(min_length=1, max_length=MAX_EVENTS, examples=[["sku-new"]])]
    neighbors: Annotated[
        list[Items] | None,
        Meta(description="For each item, known items that it is placed among.", examples=[[["sku-9"]]]),
    ] = None
    vectors: Annotated[
        list[list[float]] | None, Meta(description="Or a vector for each, of the model's dimension.")
    ] = None


class RemoveItemsRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """Items to stop recommending; as clicks they stay known."""

    items: Annotated[list[NewItem], Meta(min_length=1, max_length=MAX_EVENTS, examples=[["sku-7"]])]


class HideItemsRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """Items to hide or to show; the catalog need not know them yet."""

    items: Annotated[list[NewItem], Meta(min_length=1, max_length=MAX_EVENTS, examples=[["sku-7"]])]


class ItemTableRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """Rows for the item table."""

    items: Annotated[
        list[dict[str, Any]],
        Meta(
            description="One object for each item: its id, and values by column name; null: missing.",
            examples=[[{"id": "sku-9", "title": "Red shoe", "price": 59.9, "in_stock": True}]],
        ),
    ]
    id: Annotated[Name, Meta(description="The column of the ids.")] = "id"
    kinds: Annotated[
        dict[str, str], Meta(description="Kinds of some columns; others keep theirs, or it is inferred.")
    ] = {}
    public: Annotated[
        list[Name] | None,
        Meta(description="Columns that everybody may read; null: as before. PATCH adds to them."),
    ] = None
    availability: Annotated[
        Name | None,
        Meta(description="The boolean column that says whether an item may be recommended; null: as before."),
    ] = None


class EventRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """One click to learn from."""

    session: Annotated[
        str, Meta(description="The session's id, chosen by the client.", min_length=1, max_length=MAX_TEXT_LENGTH)
    ]
    item: Annotated[NewItem, Meta(description="Its external id; an unknown item is added to the catalog.")]
    time: Annotated[int | None, Meta(description="Unix milliseconds; null: now.")] = None
    type: Annotated[Name | None, Meta(description="Type of the event: view, cart, ..")] = None
    id: Annotated[Name | None, Meta(description="The event's id: an event that is sent twice counts once.")] = None
    context: Context | None = None


class EventsRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """Clicks to learn from, each session's in order."""

    events: Annotated[list[EventRequest], Meta(max_length=MAX_EVENTS)]
