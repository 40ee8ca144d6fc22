"""The JSON of requests and answers. Decoding checks every type; `ranking.check_limits` how much a request asks for."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from mtaw_fast.data.context import MOST_CHARACTERS
from mtaw_fast.online.log.events import EARLIEST, LATEST, MAX_TEXT_LENGTH
from mtaw_fast.service.errors import Version
from mtaw_fast.service.ranking_ids import EXAMPLE, PATTERN

# Ids are bounded while they are decoded. Python hashes an integer modulo 2**61 - 1: without the bound, a client could
# make a set or a dict of ids take quadratic time.
WholeNumber = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Item = WholeNumber | Annotated[str, Meta(max_length=MAX_TEXT_LENGTH)]  # of the type that the bundle uses
Items = list[Item]
Context = Annotated[
    dict[str, WholeNumber | Annotated[str, Meta(max_length=MOST_CHARACTERS)] | None],
    Meta(description="What is known of the visit, by context column.", examples=[{"referrer": "search"}], max_length=8),
]
Types = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=MAX_TEXT_LENGTH)] | None],
    Meta(description="Types of the clicks, such as view and cart: one for each, null where unknown."),
]
MOST_EVENTS = 10_000  # of a request
MOST_FIELDS = 64  # columns named in a request
Name = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT_LENGTH)]
NewItem = WholeNumber | Name
K = Annotated[int, Meta(description="The most results to return.", examples=[20], ge=1)]
Recommendation = Annotated[
    str, Meta(description="The ranking's id, for feedback on it.", examples=[EXAMPLE], pattern=PATTERN)
]
BundleName = Annotated[str | None, Meta(description="Folder name of the bundle that answered, if several are served.")]
SessionId = Annotated[
    Name | None,
    Meta(
        description="The session's id: deleting it deletes feedback on the ranking. If several bundles are served, it "
        "decides which one answers."
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


class RulesRequest(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Rules on a ranking, by the columns of the item table. Without the bearer token they may use public columns."""

    filter: Annotated[
        Condition | list[Condition] | None, Meta(description="What an item must meet; of a list, all of it.")
    ] = None
    boost: BoostRequest | list[BoostRequest] | None = None
    limit: LimitRequest | list[LimitRequest] | None = None
    pin: Annotated[
        dict[str, int] | None, Meta(description="Items and their places, from 1.", examples=[{"sku-1": 3}])
    ] = None


Rules = Annotated[
    RulesRequest | Annotated[str, Meta(max_length=MAX_TEXT_LENGTH)] | None,
    Meta(description="Rules, or the name of kept ones."),
]


class RankingOptions(Struct, forbid_unknown_fields=True, kw_only=True):
    """Options of a ranking."""

    k: K = 20
    exclude: Annotated[Items, Meta(description="Items to leave out.")] = []
    allow: Annotated[Items | None, Meta(description="Return only these; null: all; []: none.")] = None
    exclude_seen: Annotated[bool, Meta(description="Leave out the items of the session.")] = False
    repeats: Annotated[bool, Meta(description="Report which results are in the session.")] = False
    reasons: Annotated[bool, Meta(description="Report why each result was chosen.")] = False
    at: Annotated[
        int | None,
        Meta(description="Time to rank for in Unix milliseconds, if the bundle uses times; null: now."),
    ] = None
    context: Context | None = None
    fields: Annotated[
        list[Name],
        Meta(description="Columns of the item table to report; public ones without the token.", max_length=MOST_FIELDS),
    ] = []
    rules: Rules = None
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

    items: Annotated[list[NewItem], Meta(min_length=1, max_length=MOST_EVENTS, examples=[["sku-new"]])]
    neighbors: Annotated[
        list[Items] | None,
        Meta(description="For each item, known items that it is placed among.", examples=[[["sku-9"]]]),
    ] = None
    vectors: Annotated[
        list[list[float]] | None, Meta(description="Or a vector for each, of the model's dimension.")
    ] = None


class RemoveItemsRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """Items to stop recommending; as clicks they stay known."""

    items: Annotated[list[NewItem], Meta(min_length=1, max_length=MOST_EVENTS, examples=[["sku-7"]])]


class HideItemsRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """Items to hide or to show; the catalog need not know them yet."""

    items: Annotated[list[NewItem], Meta(min_length=1, max_length=MOST_EVENTS, examples=[["sku-7"]])]


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
    time: Annotated[
        Annotated[int, Meta(ge=EARLIEST, le=LATEST)] | None, Meta(description="Unix milliseconds; null: now.")
    ] = None
    type: Annotated[Name | None, Meta(description="Type of the event: view, cart, ..")] = None
    id: Annotated[Name | None, Meta(description="The event's id: an event that is sent twice counts once.")] = None
    context: Context | None = None


class EventsRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """Clicks to learn from, each session's in order."""

    events: Annotated[list[EventRequest], Meta(max_length=MOST_EVENTS)]


class Timings(Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Microseconds of each stage."""

    queue: float
    lookup: float
    encode: float
    retrieve: float
    assemble: float
    total: float
    memory: Annotated[float | None, Meta(description="Only if a session memory reordered the ranking.")] = None


class ReasonAnswer(Struct, omit_defaults=True, kw_only=True):
    """Why an item was chosen."""

    kind: Annotated[
        Literal["session", "together", "encoder"],
        Meta(
            description="session: it is in the session; together: past sessions hold it with `items` of this one; "
            "encoder: neither, it is close to the session's vector."
        ),
    ]
    items: Annotated[Items, Meta(description="At most three, the closest first.")]
    rule: Annotated[
        Literal["boosted", "buried", "pinned", "explored"] | None,
        Meta(description="What the rules did to the item; explored: it was placed because it was seldom shown."),
    ] = None


Short = Annotated[
    Literal["rules", "candidates"] | None,
    Meta(
        description="Why a request with rules got fewer than k items. rules: no more items meet them; candidates: the "
        "approximate index found no more."
    ),
]


Fields = Annotated[
    list[dict[str, Any]] | None,
    Meta(
        description="For each item its values by column name, without missing ones; only if the request has `fields`."
    ),
]


class Answer(Struct, omit_defaults=True, kw_only=True):
    """A ranking, best first."""

    recommendation: Recommendation
    items: Items
    scores: Annotated[list[float], Meta(description="float32; click counts if `fallback`.")]
    unknown: Annotated[Items, Meta(description="Clicks on unknown items; of a kept session, those of the request.")]
    fallback: Annotated[bool, Meta(description="No click was known: the popularity ranking.")]
    repeats: list[bool] | None = None
    reasons: Annotated[list[ReasonAnswer] | None, Meta(description="One for each item; none if `fallback`.")] = None
    log_position: Annotated[
        str | None, Meta(description="Every event up to this position of the log is known, if the service learns.")
    ] = None
    fields: Fields = None
    short: Short = None
    explored: Annotated[
        list[bool] | None, Meta(description="Which items were placed because they were seldom shown; with `explore`.")
    ] = None


class RecommendAnswer(Answer, omit_defaults=True, kw_only=True):
    """A ranking, and the bundle that made it."""

    version: Version
    bundle: BundleName = None
    timings: Timings | None = None


class ClickAnswer(RecommendAnswer, omit_defaults=True, kw_only=True):
    """A ranking for a session that the service keeps."""

    clicks: Annotated[int, Meta(description="Number of clicks that the service keeps of the session.")]


class BatchAnswer(Struct, omit_defaults=True, kw_only=True):
    """A ranking for each session, in order."""

    version: Version
    answers: list[Answer]
    bundle: BundleName = None


class EventsAnswer(Struct, kw_only=True):
    """The events are in the log."""

    version: Version
    accepted: int
    log_position: Annotated[
        str, Meta(description="Position of the log after them: rankings with this or a later `log_position` know them.")
    ]


class ForgetAnswer(Struct, kw_only=True):
    """The session is deleted."""

    version: Version
    log_position: Annotated[str | None, Meta(description="Position of the log after it; null without learning.")]


class FeedbackAnswer(Struct, kw_only=True):
    """The feedback is stored."""

    version: Version
    of: Annotated[str, Meta(description="The bundle that made the ranking.", pattern="^[0-9a-f]{16}$")]
    new: Annotated[
        int, Meta(description="Reported items that had not been reported before; the others changed nothing.")
    ]


class ItemsAnswer(Struct, kw_only=True):
    """The catalog has changed, and the change is in the log."""

    version: Version
    items: Annotated[int, Meta(description="Number of items that can be recommended now.")]
    log_position: Annotated[
        str, Meta(description="Position of the log after it: rankings with this or a later `log_position` know it.")
    ]


class ColumnAnswer(Struct, kw_only=True):
    """A column of the item table."""

    name: str
    kind: str
    public: bool
    missing: Annotated[int, Meta(description="Items of the catalog without a value.")]


class ItemTableAnswer(Struct, kw_only=True):
    """The item table has changed, and the change is stored."""

    version: Version
    items: Annotated[int, Meta(description="Number of items that can be recommended now.")]
    log_position: Annotated[
        str, Meta(description="Position of the log after it: rankings with this or a later `log_position` know it.")
    ]
    rows: Annotated[int, Meta(description="Rows of the request.")]
    known: Annotated[int, Meta(description="Those whose id the catalog knows; the others wait until it does.")]
    columns: list[ColumnAnswer]
    notes: Annotated[list[str], Meta(description="What is odd.")]


class RulesAnswer(Struct, kw_only=True):
    """The rules are kept, or removed."""

    version: Version
    log_position: Annotated[str, Meta(description="Position of the log after the change.")]


class KeptRulesAnswer(Struct, omit_defaults=True, kw_only=True):
    """Kept rules."""

    version: Version
    rules: RulesRequest
    broken: Annotated[str | None, Meta(description="Why they are refused until they are put again.")] = None


class SessionAnswer(Struct, kw_only=True):
    """A session that the service keeps."""

    version: Version
    clicks: Annotated[Items, Meta(description="The latest clicks that the service keeps, oldest first.")]


class SimilarAnswer(Struct, omit_defaults=True, kw_only=True):
    """The items most like one, best first."""

    version: Version
    recommendation: Recommendation
    items: Items
    scores: Annotated[list[float], Meta(description="Cosines.")]
    bundle: BundleName = None
    fields: Fields = None
    short: Short = None


class FoundItems(Struct, kw_only=True):
    """Ids that contain a text."""

    version: Version
    items: Items


class AskLimits(Struct, kw_only=True):
    """What a request may ask for."""

    k: int
    clicks: int
    batch: int
    body: int


class ServedBundle(Struct, kw_only=True):
    """One of several bundles."""

    name: str
    version: Version
    items: int
    share: Annotated[float, Meta(description="Share of the sessions, 0 to 1.")]


class BundleAnswer(Struct, omit_defaults=True, kw_only=True):
    """The bundle that is served."""

    version: Version
    items: Annotated[int, Meta(description="Number of items that can be recommended.")]
    ids: Annotated[str, Meta(description="Type of the item ids: 'int' or 'str'.")]
    encoder: str
    index: str
    limits: AskLimits
    bundles: Annotated[list[ServedBundle] | None, Meta(description="All bundles, if several are served.")] = None
    fields: Annotated[list[str] | None, Meta(description="The public columns of the item table, if there is one.")] = (
        None
    )


class ReloadAnswer(Struct, kw_only=True):
    """The result of a reload."""

    version: Version
    result: Annotated[str, Meta(description="'loaded' or 'unchanged'.")]
    workers: Annotated[dict[str, int], Meta(description="Live workers by the version that they serve.")]


class CompactAnswer(Struct, kw_only=True):
    """A compaction was started."""

    version: Version
    log_position: Annotated[
        str,
        Meta(description="The log's end now: the compaction covers all up to here."),
    ]


class HealthAnswer(Struct, kw_only=True):
    """The worker's state."""

    version: Version
    status: str
