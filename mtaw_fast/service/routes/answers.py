"""The JSON of answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from mtaw_fast.service.errors import Version
from mtaw_fast.service.routes.requests import Items, PlacementRequest, Recommendation

BundleName = Annotated[str | None, Meta(description="Folder name of the bundle that answered, if several are served.")]


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
    unknown_values: Annotated[
        list[str],
        Meta(
            description="Types of clicks and values of the context that the bundle does not know: such a type has no "
            "effect, such a value counts as one of all others.",
            examples=[["type=wish", "referrer=radio"]],
        ),
    ] = []
    repeats: list[bool] | None = None
    reasons: Annotated[list[ReasonAnswer] | None, Meta(description="One for each item; none if `fallback`.")] = None
    log_position: Annotated[
        str | None,
        Meta(description="With --learn or --state: every event up to this position of the log is known."),
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
    refused: Annotated[
        dict[str, int],
        Meta(description="How many of them are not learned, by the rule that refused them as they arrived."),
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


class ItemTableAnswer(ItemsAnswer, kw_only=True):
    """The item table has changed, and the change is stored."""

    rows: Annotated[int, Meta(description="Rows of the request.")]
    known: Annotated[int, Meta(description="Those whose id the catalog knows; the others wait until it does.")]
    columns: list[ColumnAnswer]
    notes: Annotated[list[str], Meta(description="What is odd.")]


class PlacementSetAnswer(Struct, kw_only=True):
    """The rules of a placement are kept, or removed."""

    version: Version
    log_position: Annotated[str, Meta(description="Position of the log after the change.")]
    notes: Annotated[list[str], Meta(description="What is odd.")]


class RevisionAnswer(Struct, kw_only=True):
    """What a placement was set to."""

    number: int
    time: Annotated[int, Meta(description="Unix milliseconds.")]
    content: PlacementRequest


class PlacementAnswer(Struct, omit_defaults=True, kw_only=True):
    """A placement with its history."""

    version: Version
    revisions: Annotated[list[RevisionAnswer], Meta(description="The last one is in force.")]
    broken: Annotated[str | None, Meta(description="Why its requests are refused until it fits the table.")] = None


class PlacementsAnswer(Struct, kw_only=True):
    """All placements."""

    version: Version
    placements: Annotated[dict[str, RevisionAnswer], Meta(description="What is in force, by name.")]
    broken: Annotated[dict[str, str], Meta(description="Why requests are refused, by name.")]


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


class NewItemAnswer(Struct, kw_only=True):
    """What became of a new item."""

    item: int | str
    displays: Annotated[int, Meta(description="How often lists with exploration have shown it.")]
    clicks: Annotated[int, Meta(description="How often it was clicked.")]
    explored: Annotated[bool, Meta(description="Whether it still gets a share of the lists.")]


class NewItemsAnswer(Struct, kw_only=True):
    """The items that came since the training, in that order."""

    version: Version
    items: list[NewItemAnswer]


class AskLimits(Struct, kw_only=True):
    """What a request may ask for."""

    k: int
    clicks: int
    batch: int
    results: int
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


class RefusedClick(Struct, omit_defaults=True, kw_only=True):
    """A click that was not learned."""

    rule: str
    item: int | str
    time: Annotated[int, Meta(description="When it arrived, in Unix milliseconds.")]
    origin: Annotated[
        str | None, Meta(description="A keyed hash of where it came from; null where a rule of the log refused it.")
    ]
    cut: Annotated[bool, Meta(description="Whether `item` is only the beginning of its id.")] = False


class RefusalsAnswer(Struct, kw_only=True):
    """The clicks that were not learned, the last ones."""

    version: Version
    refusals: Annotated[list[RefusedClick], Meta(description="The newest first.")]
    busiest_origin_share: Annotated[
        float | None,
        Meta(description="Share of today's open clicks that came from one origin; null if there were few."),
    ]


class HealthAnswer(Struct, kw_only=True):
    """The worker's state."""

    version: Version
    status: str
