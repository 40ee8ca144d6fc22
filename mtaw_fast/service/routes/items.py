"""The routes about items: those similar to one, and those whose ids contain a text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs

import numpy as np
from litestar import Response, get
from litestar.params import Parameter

from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.online.log.events import MAX_TEXT_LENGTH
from mtaw_fast.recommender import Recommender
from mtaw_fast.rules import RuleSet
from mtaw_fast.rules.placement import NAME
from mtaw_fast.service.errors import ServiceError, invalid
from mtaw_fast.service.http.bodies import StrictRequest
from mtaw_fast.service.http.responses import JSON, json_response
from mtaw_fast.service.json_codec import decoded, encoded
from mtaw_fast.service.ranking_ids import new_id
from mtaw_fast.service.routes.answers import FoundItems, SimilarAnswer
from mtaw_fast.service.routes.checks import (
    SentRules,
    check_fields,
    check_k,
    cost_of,
    note_time,
    ranks_fast,
    request_rules,
)
from mtaw_fast.service.routes.openapi import errors, operation
from mtaw_fast.service.routes.ranking import LONG_LIST
from mtaw_fast.service.routes.requests import RulesRequest
from mtaw_fast.service.snapshot import Snapshot
from mtaw_fast.service.state import service_of

_DIGITS = "0123456789"
_MAX_DIGITS = 19  # of an int64
_STEP = 1 << 20  # bytes of ids between two checks of the deadline of a search
_SEARCHED = 10_000  # ids that take as long to search as a ranking of a short session takes
_INT64 = 2**63
_MAX_RULES = 4096  # characters in a query
By = Literal["vectors", "sessions"]


@dataclass(frozen=True, slots=True)
class SimilarQuery:
    """The ids in a query string, as text. allow: None if there is none. session: the session's id, if there is one.

    fields: columns of the item table. rules: as JSON.
    """

    item: str
    exclude: list[str] = field(default_factory=list)
    allow: list[str] | None = None
    session: str | None = None
    fields: list[str] = field(default_factory=list)
    rules: str | None = None
    placement: str | None = None

    @classmethod
    def of(cls, query: bytes) -> SimilarQuery:
        """Read a query string; an empty `session_id` is none.

        Raises ServiceError as `query_values` does, or if a field is repeated.
        """
        values = query_values(query)
        return cls(
            one_of(values, "item"), values.get("exclude", []), values.get("allow"),
            (one_of(values, "session_id") or None) if "session_id" in values else None, values.get("fields", []),
            one_of(values, "rules") if "rules" in values else None,
            one_of(values, "placement") if "placement" in values else None,
        )  # fmt: skip


def query_values(query: bytes) -> dict[str, list[str]]:
    """Return the values of a query string by name. Raises ServiceError if it is not UTF-8, or a value is too long."""
    try:
        values = parse_qs(query.decode(), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise invalid("invalid_item", "the query is not UTF-8; percent-encode the item's UTF-8 bytes") from None
    except ValueError:
        raise invalid("invalid_request", "the query has too many fields; send fewer") from None
    for name, texts in values.items():
        length, limit = max(map(len, texts)), _MAX_RULES if name == "rules" else MAX_TEXT_LENGTH
        if length > limit:
            raise invalid("invalid_request", f"`{name[:40]}` in the query has {length} characters, the most is {limit}")
    return values


def one_of(values: dict[str, list[str]], name: str) -> str:
    """Return the value of a name. Raises ServiceError unless there is exactly one."""
    texts = values.get(name, [])
    if len(texts) != 1:
        raise invalid(
            "invalid_item" if name == "item" else "invalid_request",
            f"the query has {len(texts)} values of {name}; give one, with ? & = % + percent-encoded",
        )
    return texts[0]


def similar(snapshot: Snapshot, query: SimilarQuery, k: int, by: By, rules: RuleSet | None = None) -> SimilarAnswer:
    """Return the items most similar to one. rules: those of `request_rules`.

    Raises ServiceError if the item is unknown, or `by` needs a missing memory.
    """
    recommender = snapshot.recommender
    item = typed_id(snapshot, query.item)
    if item not in recommender.ids:
        raise ServiceError(404, "unknown_item", "the item is not in the catalog; give one of its ids")
    if by == "sessions" and recommender.bundle.memory is None:
        raise invalid("no_session_memory", "this bundle has no session memory; ask with by=vectors")
    ranking = recommender.similar_items(
        item,
        k,
        by=by,
        exclude=[typed_id(snapshot, text) for text in query.exclude],
        allow=None if query.allow is None else [typed_id(snapshot, text) for text in query.allow],
        fields=query.fields,
        rules=rules,
    )
    return SimilarAnswer(
        version=snapshot.version, bundle=snapshot.name, recommendation=new_id(snapshot.version, query.session),
        items=ranking.items,
        scores=ranking.scores.tolist(), fields=ranking.fields, short=ranking.short,
    )  # fmt: skip


def typed_id(snapshot: Snapshot, text: str) -> int | str:
    """Return an id of a query in the type of the bundle's ids."""
    if snapshot.recommender.ids.kind == "str":
        return text
    digits = text.removeprefix("-")
    number = int(text) if digits and not digits.strip(_DIGITS) and len(digits) < 20 else _INT64  # int64 has 19 digits
    if not -_INT64 <= number < _INT64:
        raise invalid("invalid_item", "the item ids of this bundle are integers of 64 bits; give the digits of one")
    return number


@get("/v1/similar", responses=errors(400, 403, 404, 503), operation_class=operation("similar"))
async def similar_items(
    request: StrictRequest,
    item: Annotated[  # noqa: ARG001 (only for the OpenAPI document, as below: `SimilarQuery` reads the query)
        str, Parameter(description="An item's id; its digits if the bundle's ids are integers.")
    ],
    k: Annotated[int, Parameter(description="The most results to return.", ge=1)] = 20,
    by: Annotated[
        By, Parameter(description="Cosine of the items' vectors, or of the sessions that contain them.")
    ] = "vectors",
    exclude: Annotated[  # noqa: ARG001
        list[str] | None, Parameter(description="Leave this item out; may be repeated.")
    ] = None,
    allow: Annotated[  # noqa: ARG001
        list[str] | None, Parameter(description="Return only such items; may be repeated.")
    ] = None,
    session_id: Annotated[  # noqa: ARG001
        str | None, Parameter(description="The session's id, if several bundles are served.")
    ] = None,
    fields: Annotated[  # noqa: ARG001
        list[str] | None, Parameter(description="A column of the item table to report; may be repeated.")
    ] = None,
    rules: Annotated[  # noqa: ARG001
        str | None, Parameter(description="Rules as JSON.")
    ] = None,
    placement: Annotated[  # noqa: ARG001
        str | None, Parameter(description="Where the list will stand: its rules apply.", pattern=f"^{NAME}$")
    ] = None,
) -> Response[SimilarAnswer]:
    """Return the items most similar to one."""
    service = service_of(request)
    check_k(k, service.settings.limits)
    query = SimilarQuery.of(request.scope["query_string"])
    sent_rules = None if query.rules is None else decoded(query.rules.encode(), RulesRequest)
    snapshot, placed = service.take(request, query.session), None
    if query.placement is not None:
        placed = snapshot.recommender.catalog.placements.placed(query.placement, None, query.session)
    rule_set = request_rules(sent_rules, placed, snapshot, request.scope, service.settings)

    def work(*_: Any) -> tuple[Snapshot, SimilarAnswer]:
        snapshot = service.take(request, query.session)
        check_fields(query.fields, snapshot, request.scope, service.settings)
        parsed = rule_set.parsed() if isinstance(rule_set, SentRules) else rule_set
        start = perf_counter()
        answer = similar(snapshot, query, k, by, parsed)
        note_time(parsed, (perf_counter() - start) * 1e6)
        return snapshot, answer

    n_ids, n_items = len(query.exclude) + len(query.allow or ()), service.reloader.snapshot.recommender.n_items
    if (rule_set is not None and not ranks_fast(rule_set)) or n_ids > LONG_LIST:
        lists = {"fields": query.fields, "exclude": query.exclude, "allow": query.allow or ()}
        cost = cost_of({"k": k, "rules": rule_set, **lists}, n_items, 0)
        snapshot, answer = await service.queue.run_in_thread(work, cost)
    else:
        snapshot, answer = await service.queue.run(work)
    if placed is not None:
        service.metrics.count_placed(placed)
    service.recorder.record(
        snapshot, "similar", query.session, answer.recommendation, answer.items, rules=sent_rules, placed=placed
    )
    return json_response(answer)


@get("/v1/items", responses=errors(400, 503), operation_class=operation("find"))
async def find_items(
    request: StrictRequest,
    search: Annotated[  # noqa: ARG001
        str, Parameter(description="A part of the id; of integers, their first digits.", min_length=1)
    ],
    k: Annotated[int, Parameter(description="The most ids to return.", ge=1)] = 20,
) -> Response[FoundItems]:
    """Return ids that contain a text: first the id that equals it, then the others in the order of the catalog."""
    service = service_of(request)
    check_k(k, service.settings.limits)
    text = one_of(query_values(request.scope["query_string"]), "search")
    snapshot = service.take(request)

    def work(_: float, check_deadline: Callable[[], None]) -> bytes:
        ids = find_ids(snapshot.recommender, text, k, check_deadline)
        return encoded(FoundItems(version=snapshot.version, items=ids))

    cost = 1 + len(snapshot.recommender.ids) / _SEARCHED
    return Response(await service.queue.run_in_thread(work, cost), media_type=JSON)  # type: ignore[arg-type]


def find_ids(recommender: Recommender, text: str, limit: int, check_deadline: Callable[[], None]) -> list[Any]:
    """Return external ids that contain a text; of integers, those that begin with its digits.

    The id that equals the text comes first, the others are in the order of the catalog. `check_deadline` is called now
    and then.
    """
    ids, base = recommender.ids, recommender.bundle.ids
    matches: dict[Any, None] = {}
    exact: int | str = text
    if base.kind == "int":
        if not re.fullmatch(r"-?[0-9]{1,19}", text):
            return []
        exact = int(text)
    if exact in ids:
        matches[exact] = None
    internal_ids = _numbers(base, text) if base.kind == "int" else _texts(base, text, check_deadline)
    for internal_id in internal_ids:
        if len(matches) >= limit:
            return list(matches)
        (item,) = ids.external(np.array([internal_id], dtype=np.int32))
        matches[item] = None
    for item in ids.external(np.arange(len(base), len(ids), dtype=np.int32)):  # added while serving
        if len(matches) < limit and (str(item).startswith(text) if base.kind == "int" else text in item):
            matches[item] = None
    return list(matches)


def _texts(ids: ItemIds, text: str, check_deadline: Callable[[], None]) -> Iterator[int]:
    """Yield the internal ids of texts that contain `text`, ascending."""
    blob, offsets = ids.arrays["blob"], ids.arrays["offsets"]
    encoded = text.encode("utf-8", "surrogatepass")
    begin = 0
    while begin < len(ids):
        check_deadline()
        end = max(begin + 1, int(np.searchsorted(offsets, offsets[begin] + _STEP, side="right")) - 1)
        base, stop = int(offsets[begin]), int(offsets[end])
        chunk = blob[base:stop].tobytes()
        offset = chunk.find(encoded)
        while offset >= 0:
            internal_id = int(np.searchsorted(offsets, base + offset, side="right")) - 1
            if base + offset + len(encoded) <= int(offsets[internal_id + 1]):
                yield internal_id
                offset = int(offsets[internal_id + 1]) - base
            else:  # across two ids
                offset += 1
            offset = chunk.find(encoded, offset)
        begin = end


def _numbers(ids: ItemIds, text: str) -> Iterator[int]:
    """Yield the internal ids of numbers whose decimal digits begin with `text`, the shortest numbers first."""
    ordered, order = ids.arrays["sorted"], ids.arrays["order"]
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    if digits.startswith("0"):
        return  # no number but 0 itself begins with 0
    for zeros in range(1, _MAX_DIGITS + 1 - len(digits)):
        low = int(digits) * 10**zeros
        high = low + 10**zeros - 1
        first, last = (low, high) if sign > 0 else (-high, -low)
        limits = np.iinfo(np.int64)
        if first > limits.max or last < limits.min:
            return
        begin = int(np.searchsorted(ordered, max(first, limits.min), side="left"))
        end = int(np.searchsorted(ordered, min(last, limits.max), side="right"))
        for row in range(begin, end):
            yield int(order[row])
