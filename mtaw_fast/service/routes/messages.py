"""The JSON of requests and answers. Decoding checks every type, `ranking.check_limits` how much is asked for."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from mtaw_fast.online.log.events import EARLIEST, LATEST, MOST_TEXT
from mtaw_fast.service.feedback.recommendation_ids import EXAMPLE, PATTERN

Item = Annotated[int | str, Meta(description="An item's external id, of the type that the bundle has.")]
Items = list[Item]
MOST_EVENTS = 10_000  # in a request
Name = Annotated[str, Meta(min_length=1, max_length=MOST_TEXT)]
NewItem = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | Name
K = Annotated[int, Meta(description="How many results at most.", examples=[20], ge=1)]
Version = Annotated[
    str,
    Meta(
        description="The bundle that answered: 16 hex digits.", examples=["0f3a6c1d2b4e5f60"], pattern="^[0-9a-f]{16}$"
    ),
]
Recommendation = Annotated[
    str, Meta(description="The ranking's own id, for feedback on it.", examples=[EXAMPLE], pattern=PATTERN)
]
BundleName = Annotated[
    str | None, Meta(description="The bundle that answered, by its folder's name, where several are served.")
]
SessionId = Annotated[
    Name | None,
    Meta(description="Whose session it is: where several bundles are served, it decides which of them answers."),
]


class Wanted(Struct, forbid_unknown_fields=True, kw_only=True):
    """What kind of ranking is asked for."""

    k: K = 20
    exclude: Annotated[Items, Meta(description="Never these.")] = []
    allow: Annotated[Items | None, Meta(description="These only; null: all; []: none.")] = None
    exclude_seen: Annotated[bool, Meta(description="Leave out what is in the session.")] = False
    repeats: Annotated[bool, Meta(description="Tell which results are in the session.")] = False
    reasons: Annotated[bool, Meta(description="Tell why each result.")] = False
    at: Annotated[
        int | None,
        Meta(description="The moment to rank for, Unix milliseconds, where the bundle knows of time; null: now."),
    ] = None


class RecommendRequest(Wanted, kw_only=True):
    """A session to rank the catalog for."""

    session: Annotated[
        Items, Meta(description="Clicks, oldest first; unknown ones are dropped.", examples=[["sku-9", "sku-4"]])
    ]
    session_id: SessionId = None
    timings: Annotated[bool, Meta(description="Tell the microseconds of each stage.")] = False


class BatchRequest(Wanted, kw_only=True):
    """Sessions to rank the catalog for, all under the same conditions."""

    sessions: Annotated[list[Items], Meta(examples=[[["sku-9", "sku-4"], ["sku-7"]]])]
    session_id: SessionId = None


class ClickRequest(Wanted, kw_only=True):
    """Clicks to append to a session that the server keeps."""

    items: Annotated[Items, Meta(description="New clicks, oldest first.", min_length=1, examples=[["sku-4"]])]
    timings: Annotated[bool, Meta(description="Tell the microseconds of each stage.")] = False


class FeedbackRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """What came of one ranking. It may come in parts: what was shown at first, what was clicked later."""

    recommendation: Recommendation
    shown: Annotated[Items, Meta(description="Items that were shown.", examples=[["sku-2", "sku-9"]])] = []
    clicked: Annotated[Items, Meta(description="Those of them that were clicked.", examples=[["sku-2"]])] = []
    bought: Annotated[Items, Meta(description="Those of them that were bought.")] = []


class AddItemsRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """Items for the catalog, with either neighbors or vectors."""

    items: Annotated[list[NewItem], Meta(min_length=1, max_length=MOST_EVENTS, examples=[["sku-new"]])]
    neighbors: Annotated[
        list[Items] | None,
        Meta(description="For each item some that the catalog knows: it is put among them.", examples=[[["sku-9"]]]),
    ] = None
    vectors: Annotated[
        list[list[float]] | None, Meta(description="Or a direction for each, of as many numbers as the model's.")
    ] = None


class RemoveItemsRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """Items that shall not be recommended any more; as clicks they stay known."""

    items: Annotated[list[NewItem], Meta(min_length=1, max_length=MOST_EVENTS, examples=[["sku-7"]])]


class EventRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """One click to learn from."""

    session: Annotated[
        str, Meta(description="The session's id, chosen by the client.", min_length=1, max_length=MOST_TEXT)
    ]
    item: Annotated[NewItem, Meta(description="Its external id; one that the catalog does not know enters it.")]
    time: Annotated[
        Annotated[int, Meta(ge=EARLIEST, le=LATEST)] | None, Meta(description="Unix milliseconds; null: now.")
    ] = None
    type: Annotated[Name | None, Meta(description="What kind of event: view, cart, ..")] = None
    id: Annotated[Name | None, Meta(description="The event's own id: what comes twice counts once.")] = None


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
    memory: Annotated[float | None, Meta(description="Only where a session memory reordered the ranking.")] = None


class ReasonAnswer(Struct, kw_only=True):
    """Why one item."""

    kind: Annotated[
        Literal["session", "together", "encoder"],
        Meta(
            description="session: it is in the session; together: past sessions hold it with `items` of this one; "
            "encoder: neither, it is near to the session's vector."
        ),
    ]
    items: Annotated[Items, Meta(description="At most three, the closest first.")] = []


class Answer(Struct, omit_defaults=True, kw_only=True):
    """A ranking, best first."""

    recommendation: Recommendation
    items: Items
    scores: Annotated[list[float], Meta(description="float32; click counts where `fallback`.")]
    unknown: Annotated[Items, Meta(description="Clicks that the catalog does not know.")]
    fallback: Annotated[bool, Meta(description="No click was known: the popularity ranking.")]
    repeats: list[bool] | None = None
    reasons: Annotated[list[ReasonAnswer] | None, Meta(description="One an item; none where `fallback`.")] = None
    log_position: Annotated[
        str | None, Meta(description="The log's position up to which this knows every event, where the service learns.")
    ] = None


class RecommendAnswer(Answer, omit_defaults=True, kw_only=True):
    """A ranking and the bundle that gave it."""

    version: Version
    bundle: BundleName = None
    timings: Timings | None = None


class ClickAnswer(RecommendAnswer, omit_defaults=True, kw_only=True):
    """A ranking for a session that the server keeps."""

    clicks: Annotated[int, Meta(description="How many clicks the server holds of the session.")]


class BatchAnswer(Struct, omit_defaults=True, kw_only=True):
    """A ranking for each session, in order."""

    version: Version
    answers: list[Answer]
    bundle: BundleName = None


class EventsAnswer(Struct, kw_only=True):
    """The events are kept."""

    version: Version
    accepted: int
    log_position: Annotated[
        str, Meta(description="The log's position after them: compare `log_position` of later rankings.")
    ]


class ForgetAnswer(Struct, kw_only=True):
    """The session is forgotten."""

    version: Version
    log_position: Annotated[str | None, Meta(description="The log's position; null where the service does not learn.")]


class FeedbackAnswer(Struct, kw_only=True):
    """The feedback is kept."""

    version: Version
    of: Annotated[str, Meta(description="The bundle whose ranking it is about.", pattern="^[0-9a-f]{16}$")]


class ItemsAnswer(Struct, kw_only=True):
    """The catalog has changed, and what changed is kept."""

    version: Version
    items: Annotated[int, Meta(description="How many items can be recommended now.")]
    log_position: Annotated[
        str, Meta(description="The log's position that knows of it: compare `log_position` of rankings.")
    ]


class SessionAnswer(Struct, kw_only=True):
    """A session that the server keeps."""

    version: Version
    clicks: Annotated[Items, Meta(description="Oldest first: the last ones, as many as the service keeps.")]


class SimilarAnswer(Struct, omit_defaults=True, kw_only=True):
    """The items most like one, best first."""

    version: Version
    recommendation: Recommendation
    items: Items
    scores: Annotated[list[float], Meta(description="Cosines.")]
    bundle: BundleName = None


class FoundItems(Struct, kw_only=True):
    """Ids that a text is part of."""

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
    share: Annotated[float, Meta(description="Of the sessions, 0 to 1.")]


class BundleAnswer(Struct, omit_defaults=True, kw_only=True):
    """What is served."""

    version: Version
    items: Annotated[int, Meta(description="How many items can be recommended.")]
    ids: Annotated[str, Meta(description="Whether item ids are 'int' or 'str'.")]
    encoder: str
    index: str
    limits: AskLimits
    bundles: Annotated[list[ServedBundle] | None, Meta(description="All of them, where several are served.")] = None


class ReloadAnswer(Struct, kw_only=True):
    """What a look at the manifest led to."""

    version: Version
    result: Annotated[str, Meta(description="'loaded' or 'unchanged'.")]
    workers: Annotated[dict[str, int], Meta(description="Live workers by the version that they serve.")]


class HealthAnswer(Struct, kw_only=True):
    """The worker is there."""

    version: Version
    status: str


class ErrorDetail(Struct, kw_only=True):
    """What went wrong."""

    code: Annotated[str, Meta(description="For programs.")]
    message: Annotated[str, Meta(description="One line: what, where, and the remedy.")]


class ErrorAnswer(Struct, kw_only=True):
    """An error, with the bundle that is served."""

    error: ErrorDetail
    version: Version
