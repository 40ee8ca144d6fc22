"""libmtaw through ctypes: what the header declares, and calls as a Python caller would write them."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping, Sequence
from ctypes import POINTER, Structure, byref, c_char, c_char_p, c_float, c_int32, c_int64, c_size_t, c_uint32, c_void_p
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.cli.config import library_file
from mtaw_fast.ranking.answer import Reason, Recommendations

OK, USAGE, BUNDLE, LOG, NO_MEMORY, INTERNAL = range(6)
NO_VERIFY, MAP = 1, 2
NOW = -(2**63)
_KINDS: tuple[Any, ...] = ("session", "together", "encoder")
_EFFECTS: tuple[Any, ...] = (None, "boosted", "buried", "pinned")


class Id(Structure):
    _fields_ = (("text", c_char_p), ("value", c_int64))


class Context(Structure):
    _fields_ = (("name", c_char_p), ("value", c_char_p))


class Error(Structure):
    _fields_ = (("status", c_int32), ("message", c_char * 1024))


class Options(Structure):
    _fields_ = (
        ("struct_size", c_size_t), ("k", c_size_t), ("at", c_int64), ("exclude_seen", c_int32), ("reasons", c_int32),
        ("exclude", POINTER(Id)), ("n_exclude", c_size_t), ("allow", POINTER(Id)), ("n_allow", c_size_t),
        ("filter", c_void_p), ("rules", c_void_p), ("context", POINTER(Context)), ("n_context", c_size_t),
        ("types", POINTER(c_char_p)), ("n_types", c_size_t), ("placement", c_char_p), ("session_id", c_char_p),
    )  # fmt: skip


class OpenOptions(Structure):
    _fields_ = (("struct_size", c_size_t), ("flags", c_uint32), ("files", c_void_p))


class Info(Structure):
    _fields_ = (
        ("struct_size", c_size_t), ("n_items", c_int64), ("catalog_size", c_int64), ("id_kind", c_int32),
        ("dimensions", c_int32), ("has_memory", c_int32), ("has_times", c_int32), ("bundle_format", c_int32),
        ("version", c_char * 17),
    )  # fmt: skip


class ReasonView(Structure):
    _fields_ = (("kind", c_int32), ("rule", c_int32), ("n", c_size_t), ("items", POINTER(Id)))


class AnswerView(Structure):
    _fields_ = (
        ("n", c_size_t), ("items", POINTER(Id)), ("scores", POINTER(c_float)), ("n_unknown", c_size_t),
        ("unknown", POINTER(c_size_t)), ("fallback", c_int32), ("completeness", c_int32),
        ("reasons", POINTER(ReasonView)), ("rule_set", c_char_p),
    )  # fmt: skip


class Clicks(Structure):
    _fields_ = (("ids", POINTER(Id)), ("n", c_size_t))


class Event(Structure):
    _fields_ = (
        ("session", c_char_p), ("item", Id), ("time", c_int64), ("type", c_char_p), ("id", c_char_p),
        ("context", POINTER(Context)), ("n_context", c_size_t),
    )  # fmt: skip


class CallError(Exception):
    """A call returned another status than MTAW_OK."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Answer:
    """An answer of libmtaw. unknown: places of clicks. rule_set: the placement's, if any."""

    items: list[Any]
    scores: np.ndarray
    unknown: list[int]
    fallback: bool
    short: bool
    reasons: list[Reason] | None
    rule_set: str | None = None

    def equals(self, other: Recommendations, session: Sequence[Any] = ()) -> bool:
        """Return whether the package gave the same answer to the same session, scores to the bit."""
        return (
            self.items == other.items
            and self.scores.tobytes() == other.scores.tobytes()
            and [session[position] for position in self.unknown] == other.unknown
            and self.fallback == other.fallback
            and self.short == (other.short == "rules")
            and (self.reasons or None) == (other.reasons or None)  # an empty list has none
        )


@cache
def library() -> ctypes.CDLL:
    """Return the library that is installed with the package."""
    loaded = ctypes.CDLL(str(library_file()))
    for name in ("version", "capabilities", "instruction_set", "status_name", "click_type", "context_column"):
        getattr(loaded, f"mtaw_{name}").restype = c_char_p
    for name in ("close", "session_close", "filter_close", "rules_close", "log_close", "answer_free"):
        getattr(loaded, f"mtaw_{name}").argtypes = [c_void_p]
        getattr(loaded, f"mtaw_{name}").restype = None
    return loaded


def call(name: str, *arguments: Any) -> None:
    """Call a function that can fail. Raises CallError."""
    error = Error()
    status = getattr(library(), f"mtaw_{name}")(*arguments, byref(error))
    assert status == error.status
    if status != OK:
        raise CallError(status, error.message.decode())


def one_id(value: Any) -> Id:
    """Return an id; a text with its length, for it may contain zeros."""
    if isinstance(value, str):
        text = value.encode("utf-8", "surrogatepass")
        return Id(text, len(text))
    return Id(None, value)


def ids(values: Sequence[Any]) -> Any:
    """Return an array of ids."""
    return (Id * len(values))(*map(one_id, values))


class Client:
    """An open bundle."""

    def __init__(self, folder: Path | str, flags: int = 0, files: Any = None) -> None:
        self.handle = c_void_p()
        options = OpenOptions(ctypes.sizeof(OpenOptions), flags, ctypes.addressof(files) if files else None)
        call("open", str(folder).encode(), byref(options), byref(self.handle))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free it."""
        library().mtaw_close(self.handle)
        self.handle = c_void_p()

    def info(self) -> Info:
        """Return what the bundle is."""
        info = Info(ctypes.sizeof(Info))
        call("describe", self.handle, byref(info))
        return info

    def names(self, what: str) -> list[str]:
        """Return the names of mtaw_click_type or mtaw_context_column."""
        name_of = getattr(library(), f"mtaw_{what}")
        names = [name_of(self.handle, c_size_t(index)) for index in range(99)]
        return [name.decode() for name in names[: names.index(None)]]

    def recommend(self, session: Sequence[Any], k: int = 20, **options: Any) -> Answer:
        """See mtaw_recommend."""
        clicks, (struct, _kept), answer = ids(session), self._options(k, options), c_void_p()
        call("recommend", self.handle, clicks, c_size_t(len(session)), byref(struct), byref(answer))
        return _taken(answer)

    def recommend_batch(self, sessions: Sequence[Sequence[Any]], k: int = 20, **options: Any) -> list[Answer]:
        """See mtaw_recommend_batch."""
        lists = [ids(session) for session in sessions]
        packed = (Clicks * len(lists))(*(Clicks(items, len(items)) for items in lists))
        (struct, _kept), answers = self._options(k, options), (c_void_p * len(lists))()
        call("recommend_batch", self.handle, packed, c_size_t(len(lists)), byref(struct), answers)
        return [_taken(c_void_p(answer)) for answer in answers]

    def similar(self, item: Any, k: int = 20, by: str = "vectors", **options: Any) -> Answer:
        """See mtaw_similar."""
        (struct, _kept), answer = self._options(k, options), c_void_p()
        call("similar", self.handle, one_id(item), ["vectors", "sessions"].index(by), byref(struct), byref(answer))
        return _taken(answer)

    def session(self) -> GrowingSession:
        """See mtaw_session_open."""
        return GrowingSession(self)

    def filter(self, exclude: Sequence[Any] = (), allow: Sequence[Any] | None = None) -> c_void_p:
        """See mtaw_filter_open."""
        handle, n_allow = c_void_p(), c_size_t(len(allow or ()))
        allowed = None if allow is None else _never_null(allow)
        call("filter_open", self.handle, ids(exclude), c_size_t(len(exclude)), allowed, n_allow, byref(handle))
        return handle

    def rules(self, rules: Any) -> c_void_p:
        """See mtaw_rules_open."""
        text, handle = json.dumps(rules).encode(), c_void_p()
        call("rules_open", self.handle, text, c_size_t(len(text)), byref(handle))
        return handle

    def _options(self, k: int, given: Mapping[str, Any]) -> tuple[Options, Any]:
        options = Options()
        library().mtaw_options_init_sized(byref(options), c_size_t(ctypes.sizeof(Options)))
        assert (options.struct_size, options.k, options.at) == (ctypes.sizeof(Options), 20, NOW)
        options.k, options.at = k, given.get("at", NOW)
        options.exclude_seen, options.reasons = given.get("exclude_seen", False), given.get("reasons", False)
        exclude, allow, context = given.get("exclude", ()), given.get("allow"), given.get("context") or {}
        excluded = ids(exclude)
        options.exclude, options.n_exclude = excluded, len(exclude)
        allowed = None if allow is None else _never_null(allow)
        options.allow, options.n_allow = allowed, len(allow or ())
        options.filter, options.rules = given.get("filter"), given.get("rules")
        columns = (Context * len(context))(*(Context(name.encode(), value.encode()) for name, value in context.items()))
        options.context, options.n_context = columns, len(context)
        options.placement, options.session_id = (
            None if name is None else name.encode("utf-8", "surrogatepass")
            for name in (given.get("placement"), given.get("session_id"))
        )
        types = given.get("types")
        if types is not None:
            names = (c_char_p * (len(types) + 1))(*(None if name is None else name.encode() for name in types))
            options.types, options.n_types = names, len(types)
        return options, (excluded, allowed, columns, types)  # the arrays live as long as the caller keeps them


class GrowingSession:
    """A session that grows."""

    def __init__(self, client: Client) -> None:
        self._client, self.handle = client, c_void_p()
        call("session_open", client.handle, byref(self.handle))

    def click(self, *items: Any) -> GrowingSession:
        """See mtaw_session_click."""
        call("session_click", self.handle, ids(items), c_size_t(len(items)))
        return self

    def recommend(self, k: int = 20, **options: Any) -> Answer:
        """See mtaw_session_recommend."""
        (struct, _kept), answer = self._client._options(k, options), c_void_p()
        call("session_recommend", self.handle, byref(struct), byref(answer))
        return _taken(answer)

    def close(self) -> None:
        """Free it."""
        library().mtaw_session_close(self.handle)


def _never_null(values: Sequence[Any]) -> Any:
    """Return an array with one more element: an empty one has an address too."""
    return (Id * (len(values) + 1))(*map(one_id, values))


def _listed(items: Any, count: int) -> list[Any]:
    values: list[Any] = []
    for item in items[:count]:
        address = c_void_p.from_buffer(item).value  # of the text, which may contain zeros
        if address is None:
            values.append(item.value)
            continue
        text = ctypes.string_at(address, item.value)
        assert ctypes.string_at(address + item.value, 1) == b"\0"
        values.append(text.decode("utf-8", "surrogatepass"))
    return values


def _taken(found: c_void_p) -> Answer:
    view = ctypes.cast(found, POINTER(AnswerView)).contents
    reasons = None
    if view.reasons:
        reasons = [
            Reason(_KINDS[reason.kind], tuple(_listed(reason.items, reason.n)), _EFFECTS[reason.rule])
            for reason in view.reasons[: view.n]
        ]
    answer = Answer(
        _listed(view.items, view.n), np.array(view.scores[: view.n], dtype=np.float32),
        list(view.unknown[: view.n_unknown]), bool(view.fallback), bool(view.completeness), reasons,
        None if view.rule_set is None else view.rule_set.decode(),
    )  # fmt: skip
    library().mtaw_answer_free(found)
    return answer
