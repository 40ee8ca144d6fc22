"""Items like one, as a query asks for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qs

from mtaw_fast.errors import UsageError
from mtaw_fast.service.feedback.recommendation_ids import new_id
from mtaw_fast.service.http.problems import ServiceError, invalid
from mtaw_fast.service.routes.messages import SimilarAnswer
from mtaw_fast.service.snapshot import Snapshot

_DIGITS = "0123456789"

By = Literal["vectors", "sessions"]


@dataclass(frozen=True, slots=True)
class SimilarQuery:
    """What a query string names, as text. allow: None where it names none. session: whose it is, if it says so."""

    item: str
    exclude: list[str] = field(default_factory=list)
    allow: list[str] | None = None
    session: str | None = None

    @classmethod
    def of(cls, query: bytes) -> SimilarQuery:
        """From a query string, strictly UTF-8. Raises ServiceError."""
        values = query_values(query)
        return cls(
            one_of(values, "item"), values.get("exclude", []), values.get("allow"),
            one_of(values, "session_id") if "session_id" in values else None,
        )  # fmt: skip


def query_values(query: bytes) -> dict[str, list[str]]:
    """The values of a query string by name. Raises ServiceError where it is not UTF-8."""
    try:
        return parse_qs(query.decode(), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise invalid("invalid_item", "the query is not UTF-8; percent-encode the item's UTF-8 bytes") from None
    except ValueError:
        raise invalid("invalid_request", "the query has too many fields; send fewer") from None


def one_of(values: dict[str, list[str]], name: str) -> str:
    """The one value of a name. Raises ServiceError where there is none, or another."""
    found = values.get(name, [])
    if len(found) != 1:
        raise invalid(
            "invalid_item" if name == "item" else "invalid_request",
            f"the query names {len(found)} {name}s; name one, with ? & = % + percent-encoded",
        )
    return found[0]


def similar(snapshot: Snapshot, asked: SimilarQuery, k: int, by: By) -> SimilarAnswer:
    """The items most like one. Raises ServiceError where the catalog does not know it, or has nothing to go by."""
    recommender = snapshot.recommender
    item = typed_id(snapshot, asked.item)
    if item not in recommender.ids:
        raise ServiceError(404, "unknown_item", "the catalog does not know the item; give one of its ids")
    if by == "sessions" and recommender.bundle.memory is None:
        raise invalid("no_session_memory", "this bundle has no session memory; ask with by=vectors")
    try:
        out = recommender.similar_items(
            item,
            k,
            by=by,
            exclude=[typed_id(snapshot, text) for text in asked.exclude],
            allow=None if asked.allow is None else [typed_id(snapshot, text) for text in asked.allow],
        )
    except UsageError as error:
        raise invalid("invalid_request", str(error)) from None
    return SimilarAnswer(
        version=snapshot.version, bundle=snapshot.name, recommendation=new_id(snapshot.version), items=out.items,
        scores=out.scores.tolist(),
    )  # fmt: skip


def typed_id(snapshot: Snapshot, text: str) -> int | str:
    """An id as a query has it, of the type that the bundle's ids have."""
    if snapshot.recommender.ids.kind == "str":
        return text
    digits = text.removeprefix("-")
    if not digits or digits.strip(_DIGITS) or len(digits) > 20:  # int64 has 19
        raise invalid("invalid_item", "the item ids of this bundle are integers, and the item is none; give its digits")
    return int(text)
