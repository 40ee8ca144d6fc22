"""The steps of clients and admins: what they ask of a service, and whether its answer holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mtaw_fast import Recommender
from mtaw_fast.errors import DataError, LearnError, UsageError
from tests.simulation.expected_table import ExpectedTable, kinds_of
from tests.simulation.history import History, Step
from tests.simulation.oracle import BrokenPromiseError
from tests.simulation.stage import Stage
from tests.simulation.templates import TRAINED_MS

KNOWN_MS = TRAINED_MS - 1000  # a time of the training


class Clients(Stage):
    """The part of a run that sends events."""

    def __init__(self, history: History) -> None:
        super().__init__(history)
        self._epoch = 0  # of session ids
        self.count = 0  # of clicks so far, for other ids each time
        self._requests: list[tuple[str, list[str], list[str], int]] = []

    def _append(self, step: Step, events: list[dict[str, Any]], call: Callable[[Recommender], str]) -> None:
        """Send events from a server; `call` does it and returns the position."""
        process = self.serving(step)
        if process is None:
            return
        sent = self.oracle.send(step.who, events)
        position = None
        with self.world.step(process, step) as frame:
            try:
                position = call(process.rec)
            except (LearnError, DataError) as error:
                sent.outcome = "refused"
                self.world.tell(f"  refused: {error}")
                if isinstance(error, LearnError) and not frame.failed and not self.world.failed_flushes:
                    raise BrokenPromiseError(f"{step.who} refused, and nothing failed: {error}") from None
        if position is not None and not frame.ending:
            self.world.tell(f"  acknowledged at {position}")
            self.oracle.acknowledge(sent, position, self.keeps_at_once)
        elif self.world.depth == 0:
            self.oracle.update()

    def _observe(self, step: Step) -> None:
        session = f"s{step.values['session']}.{self._epoch}"
        at = KNOWN_MS if step.values.get("at") == "trained" else self.world.ms
        self._click(step, session, step.values["items"], at)

    def _click(self, step: Step, session: str, items: list[str], at: int) -> None:
        ids = [f"e{self.count + number}" for number in range(len(items))]
        self.count += len(items)
        self._request(step, session, items, ids, at)

    def _request(self, step: Step, session: str, items: list[str], ids: list[str], at: int) -> None:
        if self.serving(step) is None:
            return
        self._requests.append((session, items, ids, at))
        events = [{"session": session, "item": item, "id": event_id} for item, event_id in zip(items, ids, strict=True)]
        # Every other session is open, each from an origin of its own; of a guarded history, all are.
        is_open = self.history.settings["guarded"] or session[1:2] in "13579"
        origin = session if is_open else None
        self._append(step, events, lambda rec: rec.observe(session, items, at=at, ids=ids, origin=origin))

    def _resend(self, step: Step) -> None:
        current = [request for request in self._requests[-12:] if request[0].endswith(f".{self._epoch}")]
        if len(current) > step.values["back"]:
            session, items, ids, at = current[-1 - step.values["back"]]
            times = {"now": self.world.ms, "trained": KNOWN_MS}
            self._request(step, session, items, ids, times.get(step.values.get("at", ""), at))

    def _flood(self, step: Step) -> None:
        """Send many sessions with the same two items, or one with too many clicks."""
        if step.values["bot"]:
            names, items = [f"bot{self.count}"], [f"bot-{self.count}"] * 12
        else:
            names, items = [f"f{self.count + number}" for number in range(step.values["sessions"])], ["new-0", "new-1"]
        plain = Step("observe", step.who, {}, step.faults)
        for name in names:
            self._click(plain, name, items, self.world.ms)

    def _forget(self, step: Step) -> None:
        session = f"s{step.values['session']}.{self._epoch}"
        self._append(step, [{"forget": session}], lambda rec: rec.forget(session))

    # What admins do

    def _add(self, step: Step) -> None:
        item, near = step.values["item"], step.values["near"]
        self._admin(step, {"add": [item]}, lambda rec: rec.add_items([item], neighbors=[[near]]))

    def _change(self, step: Step) -> None:
        name, items = "remove_items" if step.what == "remove" else step.what, [step.values["item"]]
        self._admin(step, {step.what: items}, lambda rec: getattr(rec, name)(items))

    _remove = _hide = _show = _change

    def _placement(self, step: Step) -> None:
        name, content = step.values["name"], step.values["content"]

        def keep(rec: Recommender) -> None:
            try:
                rec.set_placement(name, content)
            except UsageError as error:
                if content is not None:
                    raise BrokenPromiseError(f"{step.who} refused a placement: {error}") from None
                raise DataError(str(error)) from None  # there is none

        self._admin(step, {"placement": name, "is": content}, keep)

    def _admin(self, step: Step, event: dict[str, Any], work: Callable[[Recommender], None]) -> None:
        def call(rec: Recommender) -> str:
            work(rec)
            return self._last_of(step, event)

        self._append(step, [event], call)

    def _last_of(self, step: Step, event: dict[str, Any]) -> str:
        """Return the position of the last such event: these calls do not return it."""
        positions = [position for position, record in self.records().items() if event.items() <= record.items()]
        if not positions:
            raise BrokenPromiseError(f"{step.who} acknowledged {event}, and the log lacks it")
        return positions[-1]

    def _set_items(self, step: Step) -> None:
        process, values = self.serving(step), step.values
        if process is None:
            return
        rows = [{"id": item, **row} for item, row in values["rows"].items()]
        kinds, availability = kinds_of(values), "on" if values["availability"] else None
        accepted, before, error = False, self._table_now(), ""
        with self.world.step(process, step) as frame:
            try:
                process.rec.set_items(rows, values["mode"], kinds=kinds, availability=availability)
                accepted = True
            except (LearnError, DataError, UsageError) as refusal:
                error = str(refusal)
                self.world.tell(f"  refused: {error}")
                if isinstance(refusal, LearnError) and not frame.failed and not self.world.failed_flushes:
                    raise BrokenPromiseError(f"{step.who} refused, and nothing failed: {error}") from None
        if accepted and not frame.ending:
            self.world.tell("  acknowledged")
            names = [name for name, owner in self.world.ids.items() if owner is frame]
            self.oracle.acknowledge_table(step.who, names, self.keeps_at_once)
        elif error and not (frame.ending or frame.step.faults or self.world.failed_flushes) and before.fits(values):
            raise BrokenPromiseError(f"{step.who} refused a change of the item table that fits: {error}")

    def _table_now(self) -> ExpectedTable:
        self.oracle.update()
        return self.oracle.expected(self.oracle.end, None).table
