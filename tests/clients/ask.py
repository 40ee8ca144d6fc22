"""Makes the calls of tests/clients/calls.py with the package, or with the C interface through ctypes.

    python -m tests.clients.ask package|c BUNDLE

Each line of the input is a call, each line of the output its answers or its error. What the types of Python or C cannot
express is no error, but says so.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mtaw_fast.errors import MtawError
from mtaw_fast.ranking.answer import Reason
from mtaw_fast.recommender import Recommender
from tests.clients.calls import Call
from tests.support import libmtaw

_KINDS: dict[str, Any] = {
    "k": int, "at": int, "excludeSeen": bool, "reasons": bool, "exclude": list, "allow": list, "filter": dict,
    "rules": (dict, str, list, int), "context": dict, "types": list, "by": str, "session": list, "sessions": list,
    "item": (str, int), "placement": str, "sessionId": str, "folder": str, "verify": bool, "map": bool,
    "options": dict, "type": str, "time": int,
}  # fmt: skip

_NAMES = {"excludeSeen": "exclude_seen", "sessionId": "session_id"}


def _shown(items: Sequence[Any], scores: np.ndarray, unknown: list[int], fallback: bool, short: bool) -> dict[str, Any]:
    bits = scores.view(np.uint32).tolist()
    return {"items": list(items), "bits": bits, "unknown": unknown, "fallback": fallback, "short": short}


def _rule_set(name: str | None) -> dict[str, Any]:
    return {"ruleSet": name} if name else {}


def _reasons(reasons: Sequence[Reason] | None) -> dict[str, Any]:
    if not reasons:
        return {}
    entries = [{"kind": one.kind, "items": list(one.items), "rule": one.rule} for one in reasons]
    return {"reasons": [{name: value for name, value in entry.items() if value is not None} for entry in entries]}


def package(folder: str) -> Callable[[Call], list[Any]]:
    """Return how the package answers a call."""
    rec = Recommender.load(folder, encoder="native", index="native")
    filters: dict[str, Any] = {}

    def asked(call: Call) -> list[Any]:
        options = {_NAMES.get(name, name): value for name, value in call["options"].items()}
        if call["call"] == "open":
            _ = Recommender.load(call["folder"], **options)
            return []
        if "filter" in options and not call.get("raw"):
            key = json.dumps(options["filter"])
            options["filter"] = (
                filters[key] if key in filters else filters.setdefault(key, rec.filter(**options["filter"]))
            )
        if call["call"] == "similar":
            answers, sessions = [rec.similar_items(call["item"], **options)], [[]]
        elif call["call"] == "batch":
            sessions, types = call["sessions"], options.pop("types", None)
            if types is not None:
                ends = np.cumsum([len(session) for session in sessions]).tolist()
                options["types"] = [types[end - len(one) : end] for one, end in zip(sessions, ends, strict=True)]
            answers = rec.recommend_batch(sessions, **options)
        else:
            sessions = [call["session"]]
            answers = [rec.recommend(call["session"], **options)]
        rule_set = None
        if "placement" in options:
            placements, moment = rec.catalog.placements, options.get("at")
            rule_set = placements.placed(options["placement"], moment, options.get("session_id")).name
        found = []
        for answer, session in zip(answers, sessions, strict=True):
            unknown = [place for place, item in enumerate(session) if item in answer.unknown]
            shown = _shown(answer.items, answer.scores, unknown, answer.fallback, answer.short == "rules")
            found.append(shown | _rule_set(rule_set) | _reasons(answer.reasons))
        return found

    return asked


def _checked(name: str, value: Any) -> Any:
    """Return a value that C could be given. Raises TypeError."""
    kind = _KINDS.get(name)
    if kind is None or not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{name}: {value!r}")
    if "\0" in json.dumps(value, ensure_ascii=False).replace("\\u0000", "\0") and name in (
        "context",
        "types",
        "placement",
        "sessionId",
        "folder",
        "type",
    ):
        raise TypeError(f"{name}: a text ends at a zero byte")
    return value


def interface(folder: str) -> Callable[[Call], list[Any]]:
    """Return how libmtaw answers a call."""
    client = libmtaw.Client(folder)
    prepared: dict[tuple[str, str], Any] = {}

    def ready(what: str, given: Any) -> Any:
        key = what, json.dumps(given)
        if key not in prepared:
            if what == "filter":
                for name, ids in given.items():
                    _ = {"exclude": 0, "allow": 0}[name], _checked(name, ids)
            prepared[key] = client.filter(**given) if what == "filter" else client.rules(given)
        return prepared[key]

    def opened(call: Call) -> list[Any]:
        options = {name: _checked(name, value) for name, value in call["options"].items()}
        flags = (0 if options.pop("verify", True) else libmtaw.NO_VERIFY) | (
            libmtaw.MAP if options.pop("map", False) else 0
        )
        libmtaw.Client(_checked("folder", call["folder"]), flags).close()
        return []

    def logged(call: Call) -> list[Any]:
        log = ctypes.c_void_p()
        libmtaw.call("log_open", call["folder"].encode(), 1, ctypes.byref(log))
        try:
            for event in call["events"]:
                item = libmtaw.one_id(event.pop("item"))
                context = event.pop("context", {})
                columns = (libmtaw.Context * len(context))(*((n.encode(), v.encode()) for n, v in context.items()))
                time = _checked("time", event.pop("time", libmtaw.NOW))
                entry = libmtaw.Event(item=item, time=time, context=columns, n_context=len(context))
                for name, text in event.items():
                    _ = getattr(entry, name)  # it is a field
                    setattr(entry, name, _checked("type", text).encode())
                libmtaw.call("log_append", log, ctypes.byref(entry), ctypes.c_size_t(1), None)
        finally:
            libmtaw.library().mtaw_log_close(log)
        return []

    def asked(call: Call) -> list[Any]:
        if call["call"] == "open":
            return opened(call)
        if call["call"] == "log":
            return logged(call)
        given = {name: _checked(name, value) for name, value in _checked("options", call["options"]).items()}
        if call.get("raw"):
            raise TypeError("a pointer to a structure")
        options = {_NAMES.get(name, name): value for name, value in given.items()}
        for what in ("filter", "rules"):
            if what in options:
                options[what] = ready(what, options[what])
        if call["call"] == "similar":
            options["by"] = options.get("by", "vectors")
            answers = [client.similar(_checked("item", call["item"]), **options)]
        elif call["call"] == "batch":
            sessions = [_checked("session", session) for session in _checked("sessions", call["sessions"])]
            answers = client.recommend_batch(sessions, **options)
        elif call["call"] == "session":
            answers = [_grown(client, call["session"], options)]
        else:
            for item in _checked("session", call["session"]):
                _checked("item", item)
            answers = [client.recommend(call["session"], **options)]
        return [
            _shown(one.items, one.scores, one.unknown, one.fallback, one.short)
            | _rule_set(one.rule_set)
            | _reasons(one.reasons)
            for one in answers
        ]

    return asked


def _grown(client: libmtaw.Client, session: list[Any], options: dict[str, Any]) -> libmtaw.Answer:
    half, visit = len(session) // 2, client.session()
    visit.click(*session[:half])
    visit.recommend(**options if options.get("types") is None else {**options, "types": options["types"][:half]})
    answer = visit.click(*session[half:]).recommend(**options)
    visit.close()
    return answer


def main() -> None:
    """Answer the input's calls."""
    asked = {"package": package, "c": interface}[sys.argv[1]](sys.argv[2])
    for line in sys.stdin:
        try:
            found: dict[str, Any] = {"answers": asked(json.loads(line))}
        except (MtawError, libmtaw.CallError) as error:
            found = {"error": str(error)}
        except (TypeError, AttributeError, KeyError, ValueError, ctypes.ArgumentError) as error:
            found = {"types": repr(error)}
        print(json.dumps(found))


if __name__ == "__main__":
    main()
