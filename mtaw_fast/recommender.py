"""The Recommender: it ranks the catalog for sessions of external ids, and learns from clicks."""

from __future__ import annotations

import itertools
import os
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Literal, Unpack

import numpy as np

from mtaw_fast.bundle import Bundle
from mtaw_fast.data.click_types import checked_types
from mtaw_fast.data.filters import Filter
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Sessions, offsets_of
from mtaw_fast.errors import UsageError
from mtaw_fast.items import ItemsReport, ItemTable, TableChange
from mtaw_fast.items.placements import Placements
from mtaw_fast.online.catalog_changes import CatalogChanges
from mtaw_fast.online.compaction.current import current_bundle, signature_of
from mtaw_fast.online.follower import OvertakenError
from mtaw_fast.online.item_state import ItemState
from mtaw_fast.online.learner import OnlineLearner
from mtaw_fast.online.log import open_log
from mtaw_fast.online.settings import LearningSettings
from mtaw_fast.online.state.cold_start import started, with_new_rows
from mtaw_fast.ranking.answer import Recommendations, timed
from mtaw_fast.ranking.catalog import Catalog, CatalogIds
from mtaw_fast.ranking.encoders import Encoder, EncoderName
from mtaw_fast.ranking.exploring import NewItem, new_items_of
from mtaw_fast.ranking.growing_session import GrowingSession
from mtaw_fast.ranking.options import (
    EVERYTHING,
    EXPLORE_BELOW,
    Conditions,
    OptionKeywords,
    Options,
    Rules,
    batch_type_codes,
    checked_fields,
    checked_k,
    conditions_of,
    listed,
    options_of,
    rules_of,
    with_types,
)
from mtaw_fast.ranking.pipeline import Pipeline
from mtaw_fast.ranking.retrieval import Index, IndexName
from mtaw_fast.ranking.served_pipeline import ServedPipeline, load_parts, parts_of
from mtaw_fast.ranking.why import Asked, WhatIf, Why, explain, moved_items, what_if
from mtaw_fast.rules import broken_placements

_NOTHING = np.empty(0, dtype=np.int32)
_LOADS = 5  # at most, while compacted bundles are written faster than one is loaded


class Recommender:
    """Ranks the catalog for the next click of a session.

    Thread-safe: each call uses one state of the catalog from start to end. `recommend` is one native call, without the
    GIL if encoder and index are native. Ties go to the lower internal id.

    It is pickled and deep-copied as its folder and its load options: the copy loads the folder again, with the same log
    or state. One whose items were otherwise changed by hand cannot be pickled.

    Parameters
    ----------
    bundle : Bundle
        The model and its folder.
    encoder : Encoder
        Turns the clicks of a session into a query vector; see `ranking.encoders.make_encoder`.
    index : Index
        Finds the best items for a query vector; see `ranking.retrieval.make_index`.

    Examples
    --------
    >>> rec = Recommender.load("shop.bundle")
    >>> out = rec.recommend(["sku-9", "sku-4"], k=20)
    >>> out.items, out.scores
    """

    def __init__(self, bundle: Bundle, encoder: Encoder, index: Index) -> None:
        self._served = ServedPipeline(bundle, encoder, index)
        self._changes = CatalogChanges(self._served)
        self._folder = bundle.folder.absolute()  # absolute: the process may change its working folder
        self._learns_by: LearningSettings | None = None
        self._loaded = self.catalog  # what a copy begins with

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        encoder: EncoderName | str = "auto",
        index: IndexName | str = "auto",
        verify: bool = True,
        learn: str | os.PathLike[str] | LearningSettings | None = None,
        state: str | os.PathLike[str] | None = None,
    ) -> Recommender:
        """Load a bundle folder.

        Parameters
        ----------
        folder : path
            What `mtaw-fast train` or `Bundle.save` wrote.
        encoder : {'auto', 'native', 'numpy', 'torch', 'onnx', 'onnx-cuda'}, default 'auto'
            See `ranking.encoders.make_encoder`; 'onnx-cuda:1' names another GPU than the first.
        index : {'auto', 'native', 'numpy', 'faiss-flat', 'faiss-gpu', 'ann'}, default 'auto'
            See `ranking.retrieval.make_index`; 'faiss-gpu:1' names another GPU than the first.
        verify : bool, default True
            Whether to check the hash of every file and that all values are finite.
        learn : path or LearningSettings, optional
            A folder for learning while serving (`observe`, `session`); processes with the same folder share what they
            learn. Everything learned there before is included at once. `close` ends the learning.
        state : path, optional
            Without `learn`: a folder that keeps `set_items`, `hide`, `show` and `set_placement` for all processes with
            the same folder, and after they end.

        Raises BundleError if the bundle is missing or damaged; UsageError on an unknown name, an encoder or index that
        this bundle or host does not have, or both `learn` and `state`; MissingPackageError if a package that the
        encoder or index needs is not installed; LearnError if the folder for learning or state cannot be used.
        """
        if learn is None:
            plain = cls(*load_parts(folder, verify, encoder, index))
            plain._served.update(started)
            if state is not None:
                served = plain._served
                plain._changes.keeper = ItemState(
                    Path(state).absolute(),
                    served.bundle.items,
                    lambda live: served.update(lambda catalog: with_new_rows(catalog.with_table(live))),
                )
            plain._loaded = plain.catalog
            return plain
        if state is not None:
            raise UsageError("state: with learn, the log of learning keeps the item table too; leave state out")
        if not isinstance(learn, LearningSettings):
            learn = LearningSettings(Path(learn))
        settings = learn.of_one(Path(folder)).absolute()  # as for `_folder`
        _refuse_exported(encoder, index)
        for _ in range(_LOADS - 1):
            with suppress(OvertakenError):
                return cls._load_learning(folder, encoder, index, verify, settings)
        return cls._load_learning(folder, encoder, index, verify, settings)

    @classmethod
    def _load_learning(
        cls,
        folder: str | os.PathLike[str],
        encoder: EncoderName | str,
        index: IndexName | str,
        verify: bool,
        settings: LearningSettings,
    ) -> Recommender:
        """See `load`. Raises OvertakenError if a compacted bundle was written meanwhile."""
        signature = signature_of(settings.folder)
        bundle = current_bundle(folder, settings.folder, verify, settings.shared_folder)
        bundle.check_learns()
        recommender = cls(*parts_of(bundle, encoder, index))
        recommender._folder, recommender._learns_by = Path(folder).absolute(), settings
        prepare = partial(recommender._served.prepare, encoder=encoder, index=index)
        log, take_displays = open_log(settings), recommender._served.take_displays
        try:
            recommender._changes.keeper = OnlineLearner(
                recommender._folder, bundle, signature, log, settings, prepare, verify, take_displays
            )
        except BaseException:
            log.close()
            raise
        return recommender

    def __reduce__(self) -> tuple[Any, ...]:
        names = (self.encoder.name, self.index.name, True)
        if self._learns_by is not None:
            settings = self._learns_by
            if settings.stream is not None and "@" in settings.stream:
                raise UsageError("a recommender whose Redis address contains a password is not pickled; load it there")
            return Recommender.load, (self._folder, *names, settings)
        catalog, keeper = self.catalog, self._changes.keeper
        state = keeper.folder if isinstance(keeper, ItemState) else None  # keeps no added and removed items
        before = self._loaded
        is_changed = catalog.added != before.added or not np.array_equal(catalog.removed, before.removed)
        if is_changed or (state is None and catalog.items is not before.items):
            raise UsageError(
                "a recommender whose items were changed by hand is not pickled, as its folder does not have the "
                "changes: load the folder there, then make them"
            )
        return Recommender.load, (self._folder, *names, None, state)

    def __repr__(self) -> str:
        return (
            f"<Recommender {self.bundle.folder}: {self.n_items:,} items, encoder {self.encoder.name}, "
            f"index {self.index.name}>"
        )

    @property
    def bundle(self) -> Bundle:
        """The bundle that is served: a newer one after a compaction."""
        return self._served.bundle

    @property
    def encoder(self) -> Encoder:
        """What turns the clicks of a session into a query vector."""
        return self._served.encoder

    @property
    def index(self) -> Index:
        """What finds the best items of the bundle for a query vector."""
        return self._served.index

    @property
    def _pipeline(self) -> Pipeline:
        return self._served.pipeline

    def observe(
        self,
        session: str,
        items: Sequence[Any],
        at: int | Sequence[int] | None = None,
        types: Sequence[str | None] | None = None,
        ids: Sequence[str | None] | None = None,
        context: Mapping[str, Any] | None = None,
        origin: str | None = None,
    ) -> str:
        """Learn from clicks. Rankings of all processes that share the log include them within a second.

        The clicks are stored before this returns: a kill after that loses none. Unknown items are added to the catalog.

        Parameters
        ----------
        session : str
            The session's id; its clicks may come in any number of calls.
        items : sequence of m ids
            External ids, oldest first.
        at : int or sequence of m ints, optional
            Unix milliseconds of the clicks; now by default.
        types : sequence of m str, optional
            The type of each event.
        ids : sequence of m str, optional
            Ids of the events. An event that comes twice counts once, so a call may be repeated.
        context : mapping, optional
            What is known of the visit, a text or a whole number by column. It is stored in the log with every click.
        origin : str, optional
            The address that the clicks came from, if they are those of anybody: what one origin teaches in a day is
            limited, and their times are not believed (docs/learning-limits.md). It is not stored. None: your own
            program vouches for their times and their number.

        Returns the log position after the clicks. An answer includes them if its `log_position` is not less. To wait
        for that in this process, call `catch_up`.

        Raises UsageError if this recommender was not loaded with `learn`; ItemTypeError if all ids are of another type
        than the catalog's; DataError on a value that is not an id or a time (nothing is learned then); LearnError if
        the clicks cannot be stored (a full disk): send them again.
        """
        return self._learning("observe").observe(session, listed("items", items), at, types, ids, context, origin)

    def forget(self, session: str) -> str:
        """Remove what was learned from a session, in all processes: rankings are as if it never was.

        Its clicks stay in the log until the next compaction (`compact`).

        A later click with the same session id begins another session. Returns the log position after the request.
        Raises UsageError if this recommender was not loaded with `learn`, LearnError if the request cannot be stored.
        """
        return self._learning("forget").forget(session)

    def compact(self) -> None:
        """Write what was learned into the compacted bundle, redact the log, and return when the result is served.

        After that, no file has the clicks of a session that was forgotten before. It runs in a process of its own, also
        without this call: see `LearningSettings`. Raises UsageError if this recommender was not loaded with `learn`,
        LearnError if the compaction fails or the log cannot be redacted.
        """
        self._learning("compact").compact(wait=True)

    @property
    def log_position(self) -> str | None:
        """The position in the log up to which rankings include every event; None without `learn` and `state`."""
        keeper = self._changes.keeper
        return None if keeper is None else keeper.position

    @property
    def learner(self) -> OnlineLearner | None:
        """The online learner with its counters; None without `learn`."""
        keeper = self._changes.keeper
        return keeper if isinstance(keeper, OnlineLearner) else None

    def close(self) -> None:
        """End the learning: its threads stop, stored events are kept. Rankings stay as they are."""
        if self._changes.keeper is not None:
            self._changes.keeper.stop()

    def _learning(self, method: str) -> OnlineLearner:
        learner = self.learner
        if learner is None:
            raise UsageError(f"{method}: this recommender does not learn; load it with learn=FOLDER")
        return learner

    @property
    def last_click(self) -> int | None:
        """When the learned clicks end, Unix milliseconds, but for a few; None for a bundle trained without times."""
        model, trends = self.catalog.model, self.catalog.trends
        until = model.known_until
        return until if trends is None or until is None else max(until, trends.nth_newest(model.few_items))

    @property
    def n_items(self) -> int:
        """How many items can be recommended: N, plus added ones, minus removed and hidden ones."""
        return self._pipeline.catalog.n_items

    @property
    def catalog(self) -> Catalog:
        """The immutable state of the catalog that rankings start with now."""
        return self._pipeline.catalog

    @property
    def ids(self) -> ItemIds | CatalogIds:
        """The table of external ids, including added and removed items; it has a length, `in` and iteration."""
        return self._pipeline.catalog.ids

    def add_items(
        self,
        items: Sequence[Any],
        *,
        vectors: np.ndarray | None = None,
        neighbors: Sequence[Sequence[Any]] | None = None,
    ) -> None:
        """Add items to the served catalog, without a new training.

        If this recommender learns, the items are stored in the log for every process that shares it; else they exist
        until the process ends.

        Calls under way keep the catalog they began with. Later calls may recommend the new items, find them with
        similar_items, and encode them as clicks: their embedding is the vector, scaled to the mean length of the
        bundle's embeddings. Many items in one call cost as much as one.

        A removed id may be added again. An item of a bundle with a session memory comes back as it was, with everything
        learned, and its vector or neighbors are not used. Any other item gets the new ones.

        Parameters
        ----------
        items : sequence of M ids
            External ids, int or str like the others.
        vectors : float[M, d], optional
            A direction for each item, of any length except zero.
        neighbors : sequence of M sequences of ids, optional
            Instead of `vectors`: known items for each item; it gets the mean of their vectors.

        Raises DataError on an id that exists, has another type or is listed twice, an unknown neighbor, vectors that do
        not fit, or more items than the session memory has room for (nothing is added then), and if another process
        filled the catalog meanwhile (some items may be added then); UsageError if `items`, or the neighbors of an item,
        are not a list of ids; LearnError if the change cannot be stored.
        """
        rows = None if neighbors is None else [listed("neighbors", row) for row in listed("neighbors", neighbors)]
        self._changes.add_items(list(listed("items", items)), vectors, rows)

    def new_items(self, below: int = EXPLORE_BELOW) -> list[NewItem]:
        """Return the items that came since the training, in that order: how often each was shown by lists with
        exploration and clicked, and whether it is explored (as long as both together are fewer than `below`)."""
        pipeline = self._pipeline
        return new_items_of(pipeline.catalog, pipeline.impressions, below)

    def remove_items(self, items: Iterable[Any]) -> None:
        """Stop recommending items that do not come back; `hide` is for those that may. They are still known as clicks.

        The change takes effect as that of `add_items`. Raises DataError on an item that is not in the catalog; no item
        is removed then.
        """
        self._changes.remove_items(list(listed("items", items)))

    @property
    def items(self) -> ItemTable | None:
        """The item table as it is now; None if nothing is known about the items."""
        return self._pipeline.catalog.items

    def set_items(
        self,
        data: Any,
        mode: Literal["replace", "patch"] = "replace",
        *,
        id: str = "id",
        kinds: Mapping[str, str] | None = None,
        public: Sequence[str] | None = None,
        availability: str | None = None,
    ) -> ItemsReport:
        """Replace the item table, or change some of its values.

        The change takes effect as that of `add_items`; the log or the state keeps it. A row of an id that the catalog
        does not know starts the item if it says enough, and else waits for the first click (docs/items.md).

        Parameters
        ----------
        data : mapping of columns, sequence of row mappings, or a polars, pandas or pyarrow table
            None and NaN are missing values. In rows, a patch leaves alone the columns that a row does not have.
        mode : {'replace', 'patch'}, default 'replace'
            'replace': the table becomes this one. 'patch': the given values change, everything else stays.
        id : str, default 'id'
            The column of external ids.
        kinds : mapping of str to str, optional
            The kind of some columns (`items.KINDS`); others have the kind they had, or it is inferred.
        public : sequence of str, optional
            Columns that everybody may read; in a patch, in addition to those that are public. By default those that
            are public already.
        availability : str, optional
            A boolean column: items for which it is false are not recommended. By default as before.

        Returns what is missing or odd. Raises DataError on a value, an id or a kind that does not fit (nothing changes
        then), UsageError on a wrong option, LearnError if the change cannot be stored.
        """
        return self._changes.set_items(
            lambda before: TableChange.of(
                data, mode, before=before, id=id, kinds=kinds, public=public, availability=availability,
                where="set_items",
            )
        )  # fmt: skip

    def hide(self, items: Iterable[Any]) -> None:
        """Stop recommending some items until `show`, for example sold-out ones; nothing that was learned is lost.

        Items that the catalog does not know yet are hidden when they enter it. The change takes effect as that of
        `add_items`. Raises DataError on a value that is not an id of the catalog's type.
        """
        self._changes.hide(items)

    def show(self, items: Iterable[Any]) -> None:
        """Recommend items again that were hidden; see `hide`. Others are ignored.

        An item that is removed, or not available by its column, stays out.
        """
        self._changes.show(items)

    @property
    def placements(self) -> Placements:
        """The revisions of each placement's rule sets by its name; the last one is in force."""
        return {} if self.items is None else self.items.placements

    @property
    def broken_placements(self) -> dict[str, str]:
        """Why the rules of placements are refused, in one line each, by name: a column has gone or changed its kind."""
        return broken_placements(self.items)

    def set_placement(self, name: str, content: Mapping[str, Any] | None) -> list[str]:
        """Set the rule sets of a placement, for the option `placement` of rankings; None removes it with its history.

        They are kept with the item table: the change takes effect as that of `set_items`. Raises UsageError on content
        that is not as docs/how-to/placements.md says or does not fit the item table, and None for an unknown placement.

        Returns what is odd, one line each: labels that no item has, pinned items that nobody is shown now.
        """
        return self._changes.set_placement(name, content)

    def undo_placement(self, name: str, number: int | None = None) -> list[str]:
        """Set a placement to what it was in the revision `number`, by default in the last but one.

        Returns what `set_placement` does. Raises UsageError if that revision is not kept.
        """
        return self._changes.undo_placement(name, number)

    def catch_up(self) -> None:
        """Apply what other processes have stored until now, with `learn` or `state`; else do nothing.

        Raises LearnError if the log cannot be read.
        """
        self._changes.catch_up()

    def filter(self, exclude: Iterable[Any] = (), allow: Iterable[Any] | None = None) -> Filter:
        """Prepare a filter for many calls, for their option `filter`; `exclude` and `allow` as in `recommend`.

        Raises UsageError on a value that is not a list of ids.
        """
        catalog = self._pipeline.catalog
        allowed = None if allow is None else catalog.ids.known(listed("allow", allow))
        excluded = catalog.ids.known(listed("exclude", exclude))
        model = catalog.model
        return Filter.of(catalog.size, excluded, allowed, model.n_items, model.trained_ids_digest)

    def session(
        self, clicks: Iterable[Any] = (), *, id: str | None = None, types: Iterable[str | None] | None = None
    ) -> GrowingSession:
        """Return a session that grows click by click, with a ranking at any moment.

        If this recommender learns, it learns from the session's clicks as from `observe`.

        Parameters
        ----------
        clicks : iterable of ids, default none
            The first clicks as external ids, oldest first.
        id : str, optional
            The session's id, by which it can be forgotten; random by default.
        types : iterable of str or None, optional
            The types of these clicks, as in `recommend`.

        Raises UsageError if `clicks` is not a list of ids, or the types do not fit.
        """
        first = listed("session", clicks)
        click_types = [None] * len(first) if types is None else checked_types("types", types, len(first))
        learner = self.learner
        if learner is None:
            visit = GrowingSession(lambda: self._pipeline, origin=(self, id))
        else:
            name = id or uuid.uuid4().hex
            visit = GrowingSession(
                lambda: self._pipeline,
                lambda items, types: learner.observe(name, items, types=types),
                lambda: learner.position,
                (self, name),
            )
        return visit.click_typed(first, click_types)

    def recommend(
        self,
        session: Iterable[Any],
        k: int = 20,
        *,
        types: Iterable[str | None] | None = None,
        timings: bool = False,
        **options: Unpack[OptionKeywords],
    ) -> Recommendations:
        """Return the k best next items of one session.

        Unknown clicks are dropped. If none is left, the answer is the popularity ranking and says so (`fallback`). All
        conditions hold together; if they leave fewer than k items, the answer is shorter.

        Parameters
        ----------
        session : iterable of ids
            The clicks as external ids, oldest first.
        k : int, default 20
            How many items.
        types : iterable of str or None, optional
            The type of each click, such as "view" or "cart", if the model was trained on a log with types. One that is
            unknown or None has no effect; the answer names unknown ones (`unknown_values`).
        timings : bool, default False
            Whether the answer contains the time of each stage.
        exclude : iterable of ids, default none
            External ids that are never recommended; unknown ones are ignored.
        allow : iterable of ids, optional
            The only ids that may be recommended; an empty list allows nothing.
        exclude_seen : bool, default False
            Whether to leave out the session's own items.
        filter : Filter, optional
            A filter prepared by `filter`, for long lists.
        at : int or datetime with a zone, optional
            The moment of the request, an int in Unix milliseconds, if the model was trained with times; now by default.
        context : mapping, optional
            What is known of the visit, such as {"referrer": "search"}: a text or a whole number by column of the data
            set that the model was trained on with `context`. Values that training did not know count as one; the
            answer names them (`unknown_values`).
        repeats : bool, default False
            Whether the answer says which results are in the session.
        reasons : bool, default False
            Whether the answer says why each item was recommended.
        fields : iterable of str, default none
            Columns of the item table; the answer contains their values for each item.
        rules : dict, optional
            Filters, boosts, limits and pins by the columns of the item table: docs/rules.md. If they leave fewer than k
            items, the answer's `short` says so.
        placement : str, optional
            Where the list will stand, such as "cart": it gets the rules that `set_placement` gave that placement, or
            else the placement "default".
        session_id : str, optional
            The session's id, which decides among rule sets of a placement that share the sessions.
        explore : float, default 0
            Share of the list, from 0 to 1, for rarely shown items: docs/items.md. The answer's `explored`
            says which ones.
        explore_below : int, default 100
            An item is explored while it has fewer clicks and displays together.
        explore_seed : int, optional
            Seed of the draws of the explored items: the same seed draws the same from the same candidates.

        Raises UsageError if there is no such option, the session is not a list of ids, k is not a positive whole
        number, the filter is of another catalog, the context or `fields` name a column that does not exist, the rules
        do not fit the item table, the share to explore is out of range, or there is not one type for each click;
        ItemTypeError if all ids of the session are of another type: '5' or 5.0 if the catalog's ids are int.
        """
        start = perf_counter_ns()
        log_position = self.log_position  # read first: the ranking includes at least this
        pipeline = self._pipeline
        clicks = listed("session", session)
        checked_options = options_of(pipeline.catalog, k, **options)
        if types is not None:
            checked_options = with_types(checked_options, pipeline.catalog, checked_types("types", types, len(clicks)))
        ready = perf_counter_ns()
        answer, times = pipeline.recommend(clicks, checked_options, log_position)
        answer.unknown_values = checked_options.unknown_values
        return timed(answer, times, start, ready) if timings else answer

    def why(
        self,
        session: Iterable[Any],
        items: Iterable[Any],
        k: int = 20,
        *,
        types: Iterable[str | None] | None = None,
        **options: Unpack[OptionKeywords],
    ) -> Why:
        """Say of some items why they are in the answer of `recommend`, or what keeps them out: docs/why.md.

        The ranking's own pipeline says it: what each group of features was worth is the ranker's score without it. It
        costs a ranking of the whole catalog, and one more for each kind of rule; nothing is counted as shown.

        Parameters
        ----------
        session, k, types, options
            As in `recommend`.
        items : iterable of ids
            External ids; one may be unknown.

        Returns the answer, equal to that of `recommend` at the same moment, with one explanation for each of `items`.
        Raises what `recommend` does, and UsageError if `items` is not a list of ids.
        """
        log_position = self.log_position  # as in `recommend`
        pipeline = self._pipeline
        clicks, asked_items = listed("session", session), listed("items", items)
        if "exclude" in options:
            options["exclude"] = listed("exclude", options["exclude"])
        if options.get("allow") is not None:
            options["allow"] = listed("allow", options["allow"])
        checked_options = options_of(pipeline.catalog, k, **options)
        if types is not None:
            checked_options = with_types(checked_options, pipeline.catalog, checked_types("types", types, len(clicks)))
        asked = Asked(options.get("exclude", ()), options.get("allow"), options.get("filter"))
        return explain(pipeline, clicks, asked_items, checked_options, asked, log_position)

    def what_if(
        self,
        session: Iterable[Any],
        k: int = 20,
        *,
        change: Mapping[str, Any] | None = None,
        other: Recommender | None = None,
        types: Iterable[str | None] | None = None,
        **options: Unpack[OptionKeywords],
    ) -> WhatIf:
        """Compare the answer of `recommend` with that of the same call after a change: docs/why.md.

        Parameters
        ----------
        session, k, types, options
            As in `recommend`.
        change : mapping, optional
            Other values of `session`, `k`, `types` or an option, such as {"rules": {..}} or {"at": ..}; or `without`: a
            list of ids whose clicks are left out of the session.
        other : Recommender, optional
            Another bundle, which answers the changed call.

        Returns both answers and what moved, with explanations of the items that came or left. Both calls are for the
        same moment. Raises what `recommend` does.
        """
        clicks = listed("session", session)
        call: dict[str, Any] = {"k": k, "types": None if types is None else list(types), **options}
        if call.get("at") is None:
            call["at"] = time.time_ns() // 1_000_000
        before = self.recommend(clicks, **call)
        changes = dict(change or {})
        kept = listed("session", changes.pop("session", clicks))
        without = listed("without", changes.pop("without", ()))
        stays = [click not in without for click in kept]
        if "types" not in changes and call["types"] is not None and not all(stays) and len(stays) == len(call["types"]):
            changes["types"] = list(itertools.compress(call["types"], stays))
        changed, ranks = {**call, **changes}, self if other is None else other
        clicks = list(itertools.compress(kept, stays))
        after = ranks.why(clicks, [], **changed).answer
        return what_if(before, ranks.why(clicks, moved_items(before, after), **changed))

    def recommend_batch(
        self,
        sessions: Sessions | Iterable[Iterable[Any]],
        k: int = 20,
        *,
        types: Iterable[Iterable[str | None] | None] | None = None,
        **options: Unpack[OptionKeywords],
    ) -> list[Recommendations]:
        """Return what `recommend` does, for many sessions; every answer equals, to the bit, that for the session alone.

        Parameters
        ----------
        sessions : iterable of iterables of ids, or Sessions
            Clicks as external ids, or packed Sessions of internal ids, whose types are codes of `click_types`. One with
            times is ranked right after its last click, and one with context in that of its last click.
        types : iterable of iterables of str or None, optional
            The types of each session's clicks, as in `recommend`; not with packed Sessions.
        k, exclude, allow, exclude_seen, filter, at, context, repeats, reasons, fields, rules, placement, session_id,
        explore, explore_below, explore_seed
            As in `recommend`, for all sessions.

        Raises what `recommend` does, and DataError on an internal id outside the catalog.
        """
        log_position = self.log_position  # as in `recommend`
        pipeline = self._pipeline
        checked_options = options_of(pipeline.catalog, k, **options)
        if isinstance(sessions, Sessions):
            if types is not None:
                raise UsageError("types are a part of packed Sessions; pass them there, or lists of ids")
            return _naming(
                pipeline.recommend_batch(sessions, [[] for _ in range(len(sessions))], checked_options, log_position),
                checked_options,
            )
        lists = [listed(f"session {number}", clicks) for number, clicks in enumerate(listed("sessions", sessions))]
        pairs = [pipeline.catalog.clicks_of(clicks) for clicks in lists]
        lengths = np.array([len(known) for known, _ in pairs], dtype=np.int64)
        codes, values = (None, []) if types is None else batch_type_codes(pipeline.catalog, lists, types)
        packed = Sessions(np.concatenate([_NOTHING, *(known for known, _ in pairs)]), offsets_of(lengths), None, codes)
        answers = pipeline.recommend_batch(packed, [unknown for _, unknown in pairs], checked_options, log_position)
        return _naming(answers, checked_options, values)

    @property
    def click_types(self) -> tuple[str, ...]:
        """The types of clicks that the ranker reads; empty if it reads none."""
        return self._pipeline.catalog.model.click_types.names

    def similar_items(
        self,
        item: Any,
        k: int = 20,
        *,
        by: Literal["vectors", "sessions"] = "vectors",
        exclude: Iterable[Any] = (),
        allow: Iterable[Any] | None = None,
        filter: Filter | None = None,
        fields: Iterable[str] = (),
        rules: Rules = None,
        placement: str | None = None,
        session_id: str | None = None,
    ) -> Recommendations:
        """Return the k items most similar to an item, without itself, with their cosines.

        Parameters
        ----------
        item : id
            An external id.
        k : int, default 20
            How many items.
        by : {'vectors', 'sessions'}, default 'vectors'
            The cosine of the embeddings, or of the sessions with both items. 'sessions' finds only neighbors that the
            bundle's memory stores: there may be few, and none for an added item.
        exclude, allow, filter, fields, rules, placement, session_id
            As in `recommend`. The item itself is what the rules call `current`.

        Raises UsageError if the catalog does not know the item, or `by` is 'sessions' and the bundle has no memory.
        """
        pipeline = self._pipeline
        catalog = pipeline.catalog
        k = checked_k(k, catalog.n_items)
        internal_ids = catalog.ids.lookup([item])
        if internal_ids[0] < 0:
            raise UsageError(f"similar_items: the catalog does not know item {item!r}; pass one of its external ids")
        conditions = conditions_of(catalog, exclude, allow, filter)
        names = checked_fields(catalog, fields)
        if by == "sessions":
            if catalog.model.memory is None:
                raise UsageError("similar_items: this bundle has no session memory; train one or pass by='vectors'")
        elif by != "vectors":
            raise UsageError(f"similar_items: by must be 'vectors' or 'sessions', not {by!r}")
        rule_set = rules_of(catalog, rules, placement, None, session_id)
        options = Options(k, conditions, fields=names, rules=rule_set)
        return pipeline.similar(int(internal_ids[0]), by, options)

    def rank(self, sessions: Sessions, k: int, *, exclude_seen: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Rank B packed sessions of internal ids, without Python objects for the results.

        Their types, if any, are indices into `click_types`. A data set's are other codes: drop or translate them first.
        An empty session gets the popularity ranking; `k` and `exclude_seen` as in `recommend`. If the model was trained
        with times, the moment is that of the last click if the sessions have times, else of the newest click it knows.

        Returns internal ids int32[B, k], best first, padded with -1, and their scores float32[B, k], padded with -inf.
        Raises DataError on an id outside the catalog, UsageError if k is not a positive whole number.
        """
        pipeline = self._pipeline
        checked_k(k, pipeline.catalog.n_items)
        return pipeline.rank(sessions, int(k), Conditions(exclude_seen=True) if exclude_seen else EVERYTHING)


def _naming(
    answers: list[Recommendations], options: Options, by_session: Sequence[tuple[str, ...]] = ()
) -> list[Recommendations]:
    """Return the answers of a batch, with their `unknown_values`. by_session: those of the types of each session."""
    for answer, values in zip(answers, by_session or itertools.repeat(()), strict=False):
        answer.unknown_values = options.unknown_values + values
    return answers


def _refuse_exported(encoder: str, index: str) -> None:
    """Raise UsageError on an encoder or index that is exported from a bundle, and so cannot learn."""
    if encoder.startswith("onnx"):
        raise UsageError(f"encoder {encoder!r} reads a graph that does not learn; use 'native' or 'auto' with learn")
    if index == "ann":
        raise UsageError("index 'ann' is built for a bundle and does not learn; use 'native' or 'auto' with learn")
