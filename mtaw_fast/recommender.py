"""The serving surface: external ids in, the ranked catalog out."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Literal, Unpack

import numpy as np

from mtaw_fast.bundle import Bundle
from mtaw_fast.data.filters import Filter
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Sessions, offsets_of
from mtaw_fast.errors import UsageError
from mtaw_fast.online.compaction.current import current_bundle, signature_of
from mtaw_fast.online.learner import OnlineLearner
from mtaw_fast.online.log import open_log
from mtaw_fast.online.settings import LearningSettings
from mtaw_fast.online.state.cold_start import with_named
from mtaw_fast.ranking.answer import Recommendations, assembled, timed
from mtaw_fast.ranking.catalog import Catalog, CatalogIds
from mtaw_fast.ranking.composed_ranker import retrieve
from mtaw_fast.ranking.encoders import Encoder, EncoderName, make_encoder
from mtaw_fast.ranking.growing_session import GrowingSession
from mtaw_fast.ranking.item_lists import clicked_together
from mtaw_fast.ranking.options import (
    EVERYTHING,
    Conditions,
    OptionKeywords,
    checked_k,
    conditions_of,
    listed,
    options_of,
)
from mtaw_fast.ranking.pipeline import Pipeline
from mtaw_fast.ranking.retrieval import Index, IndexName, ann_file_of, for_items, make_index
from mtaw_fast.system.fork_lock import ForkLock

_NOTHING = np.empty(0, dtype=np.int32)
_LOG = logging.getLogger("mtaw_fast")


class Recommender:
    """Ranks the catalog for the next click of a session.

    Thread-safe: each call works on one state of the catalog from its begin to its end. Where encoder and index are
    native, `recommend` is one native call, without the GIL. Ties go to the lower internal id.

    Pickled or deep-copied it is its folder's name and how it was loaded: the copy is loaded from there, and learns from
    the same log. One whose items were changed by hand is refused.

    Parameters
    ----------
    bundle : Bundle
        The model, and the folder that it lies in.
    encoder : Encoder
        Clicks of a session to its query vector; `ranking.encoders.make_encoder` makes one.
    index : Index
        Query vectors to the best items; `ranking.retrieval.make_index` makes one.

    Attributes
    ----------
    bundle, encoder, index
        As given.

    Examples
    --------
    >>> rec = Recommender.load("shop.bundle")
    >>> out = rec.recommend(["sku-9", "sku-4"], k=20)
    >>> out.items, out.scores
    """

    def __init__(self, bundle: Bundle, encoder: Encoder, index: Index) -> None:
        self.bundle = bundle
        self.encoder = encoder
        self.index = index
        self._pipeline = Pipeline.of(Catalog.of(bundle.model), encoder, index)
        self._updating = ForkLock()
        self._learner: OnlineLearner | None = None
        self._folder = bundle.folder.absolute()  # of the bundle that was given, wherever the process goes
        self._learns_by: LearningSettings | None = None

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        encoder: EncoderName | str = "auto",
        index: IndexName | str = "auto",
        verify: bool = True,
        learn: str | os.PathLike[str] | LearningSettings | None = None,
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
            Whether to check the hash of every file and that all numbers are finite.
        learn : path or LearningSettings, optional
            A folder to learn in while serving (`observe`, `session`); processes that name the same one learn from each
            other. What was learned there before is known at once. `close` ends the learning.

        Returns
        -------
        Recommender

        Raises
        ------
        BundleError
            Where the bundle is missing or damaged.
        UsageError
            On an unknown name, or an encoder or index that this bundle or machine has not got.
        MissingPackageError
            Where the encoder or index needs a package that is not installed.
        LearnError
            Where the folder to learn in cannot be used.
        """
        if learn is None:
            return cls(*_parts(Bundle.load(folder, verify=verify), encoder, index))
        settings = learn if isinstance(learn, LearningSettings) else LearningSettings(Path(learn))
        settings = replace(settings, folder=settings.folder.absolute())  # wherever the process goes
        _refuse_exported(encoder, index)
        seen = signature_of(settings.folder)
        bundle = current_bundle(folder, settings.folder, verify)
        if bundle.memory is None:
            raise UsageError(
                f"the bundle {folder} has no session memory, so it cannot learn; train it with preset full"
            )
        recommender = cls(*_parts(bundle, encoder, index))

        def prepare(bundle: Bundle) -> Callable[[Catalog], None]:
            at_first = bundle is recommender.bundle
            parts = recommender._served if at_first else _parts(bundle, encoder, index)
            if parts[2].name != recommender.index.name:
                _LOG.warning(
                    "index %s is served from now on, not %s: a bundle that has learned holds no other",
                    parts[2].name, recommender.index.name,
                )  # fmt: skip
            return lambda catalog: recommender._take(parts, catalog)

        recommender._folder, recommender._learns_by = Path(folder).absolute(), settings
        log = open_log(settings)
        try:
            recommender._learner = OnlineLearner(recommender._folder, bundle, seen, log, settings, prepare, verify)
        except BaseException:
            log.close()
            raise
        return recommender

    def __reduce__(self) -> tuple[Any, ...]:
        names = (self.encoder.name, self.index.name, True)
        if self._learns_by is not None:
            settings = self._learns_by
            if settings.stream is not None and "@" in settings.stream:
                raise UsageError("a recommender whose Redis address holds a password is not pickled; load it there")
            return Recommender.load, (self._folder, *names, settings)
        if self._pipeline.catalog.is_updated:
            raise UsageError(
                "items were added to this recommender or removed from it, which its folder does not know: load the "
                "folder where it is wanted, and add or remove them there"
            )
        return Recommender.load, (self._folder, *names)

    def __repr__(self) -> str:
        return (
            f"<Recommender {self.bundle.folder}: {self.n_items:,} items, encoder {self.encoder.name}, "
            f"index {self.index.name}>"
        )

    @property
    def _served(self) -> tuple[Bundle, Encoder, Index]:
        return self.bundle, self.encoder, self.index

    def _take(self, parts: tuple[Bundle, Encoder, Index], catalog: Catalog) -> None:
        """Serve a state of a catalog from now on, perhaps of another bundle."""
        with self._updating:
            pipeline = Pipeline.of(catalog, *parts[1:])  # may raise: all of it changes, or nothing
            self.bundle, self.encoder, self.index = parts
            self._pipeline = pipeline

    def observe(
        self,
        session: str,
        items: Sequence[Any],
        at: int | Sequence[int] | None = None,
        types: Sequence[str | None] | None = None,
        ids: Sequence[str | None] | None = None,
    ) -> str:
        """Learn from clicks: every session's rankings know of them within a second, wherever the log is shared.

        When this returns, the clicks are kept: a process that is killed now has lost none. An item that the catalog
        does not know enters it.

        Parameters
        ----------
        session : str
            The session's id; its clicks may come in any number of calls.
        items : sequence of m ids
            External ids, oldest first.
        at : int or sequence of m ints, optional
            Unix milliseconds of the clicks; now by default.
        types : sequence of m str, optional
            What kind of event each was.
        ids : sequence of m str, optional
            The events' own ids: one that comes twice counts once, so that a call may be repeated.

        Returns
        -------
        str
            The position in the log after the clicks; `Recommendations.log_position` of a later answer that is not less
            knows them.

        Raises
        ------
        UsageError
            Where this recommender was not loaded with `learn`.
        DataError
            On what is no id or no time; nothing is learned then.
        LearnError
            Where the clicks could not be kept (a full disk): send them again.
        """
        return self._learning("observe").observe(session, listed("items", items), at, types, ids)

    def forget(self, session: str) -> str:
        """Take out again what a session taught, everywhere; after the next compaction to the last bit.

        Parameters
        ----------
        session : str
            Its id. A later click of the same id begins another session.

        Returns
        -------
        str
            The position in the log after the request.

        Raises
        ------
        UsageError
            Where this recommender was not loaded with `learn`.
        LearnError
            Where the request could not be kept.
        """
        return self._learning("forget").forget(session)

    @property
    def log_position(self) -> str | None:
        """The position in the log up to which rankings know every event; None without `learn`."""
        return None if self._learner is None else self._learner.position

    @property
    def learner(self) -> OnlineLearner | None:
        """What learns, with its counters; None without `learn`."""
        return self._learner

    def close(self) -> None:
        """End the learning: its threads stop, what was acknowledged is kept. Rankings go on as they are."""
        if self._learner is not None:
            self._learner.stop()

    def _learning(self, what: str) -> OnlineLearner:
        if self._learner is None:
            raise UsageError(f"{what}: this recommender does not learn; load it with learn=FOLDER")
        return self._learner

    @property
    def n_items(self) -> int:
        """How many items can be recommended: N, but for added and removed ones."""
        return self._pipeline.catalog.n_items

    @property
    def ids(self) -> ItemIds | CatalogIds:
        """The table of external ids, added and removed items included: it has a length, `in` and iteration."""
        return self._pipeline.catalog.ids

    def add_items(
        self,
        items: Sequence[Any],
        *,
        vectors: np.ndarray | None = None,
        neighbors: Sequence[Sequence[Any]] | None = None,
    ) -> None:
        """Add items to the served catalog, without a new training.

        Where this recommender learns, the items are kept with what it learns, for every process that shares it; else
        they are there until the process ends.

        Calls that run meanwhile end on the catalog they began with; every later one may recommend the new items, find
        them with similar_items, and encode them as clicks: their embedding is the vector at the mean length of the
        bundle's embeddings. Many items in one call cost as much as one. An id that was removed may be added again.

        Parameters
        ----------
        items : sequence of M ids
            External ids, int or str like the others.
        vectors : float[M, d], optional
            A direction for each, of any length but zero.
        neighbors : sequence of M sequences of ids, optional
            In place of `vectors`: for each item some known ones, whose mean it takes.

        Raises
        ------
        DataError
            On an id that is there already, of the other type or named twice, an unknown neighbor, or vectors that do
            not fit; nothing is added then. Or where another process filled the catalog meanwhile: some may be there.
        """
        added = list(listed("items", items))
        if self._learner is None:
            self._update(lambda catalog: with_named(catalog, added, vectors, neighbors))
        else:
            self._learner.catch_up()  # an item may have come or gone by another process
            self._learner.add_items(self._pipeline.catalog, added, vectors, neighbors)

    def remove_items(self, items: Iterable[Any]) -> None:
        """Never again recommend some items: sold out, or added in error. As clicks they stay known.

        Takes effect as `add_items` does.

        Parameters
        ----------
        items : iterable of ids
            External ids.

        Raises
        ------
        DataError
            On an item that is not in the catalog. None is removed then.
        """
        removed = list(listed("items", items))
        if self._learner is None:
            self._update(lambda catalog: catalog.without_items(removed))
        else:
            self._learner.catch_up()  # as in `add_items`
            self._learner.remove_items(self._pipeline.catalog, removed)

    def _update(self, change: Callable[[Catalog], Catalog]) -> None:
        """Put the next state of the catalog in the place of this one; updates wait for each other, rankings do not."""
        with self._updating:
            before = self._pipeline
            self._pipeline = Pipeline.of(change(before.catalog), self.encoder, self.index, before)

    def filter(self, exclude: Iterable[Any] = (), allow: Iterable[Any] | None = None) -> Filter:
        """Prepare a filter for many calls; ids that the catalog does not know are ignored.

        Parameters
        ----------
        exclude : iterable of ids, default none
            External ids that are never recommended.
        allow : iterable of ids, optional
            The only ones that are; an empty list allows nothing.

        Returns
        -------
        Filter
            To pass as `filter`.

        Raises
        ------
        UsageError
            On what is no list of ids.
        """
        catalog = self._pipeline.catalog
        allowed = None if allow is None else catalog.ids.known(listed("allow", allow))
        excluded = catalog.ids.known(listed("exclude", exclude))
        return Filter.of(catalog.size, excluded, allowed, catalog.model.n_items)

    def session(self, clicks: Iterable[Any] = (), *, id: str | None = None) -> GrowingSession:
        """A session to append clicks to, one by one, with a ranking at any moment.

        Where this recommender learns, everybody else learns from its clicks as from `observe`.

        Parameters
        ----------
        clicks : iterable of ids, default none
            The first ones, external ids, oldest first.
        id : str, optional
            The session's id for what it teaches, by which it can be forgotten; a random one by default.

        Returns
        -------
        GrowingSession

        Raises
        ------
        UsageError
            On clicks that are no list of ids.
        """
        first = listed("session", clicks)
        learner = self._learner
        if learner is None:
            return GrowingSession(lambda: self._pipeline, origin=(self, id)).click(*first)
        name = id or uuid.uuid4().hex
        visit = GrowingSession(
            lambda: self._pipeline,
            lambda items: learner.observe(name, items),
            lambda: learner.position,
            (self, name),
        )
        return visit.click(*first)

    def recommend(
        self,
        session: Iterable[Any],
        k: int = 20,
        *,
        timings: bool = False,
        **options: Unpack[OptionKeywords],
    ) -> Recommendations:
        """The k best next items of one session.

        Clicks that the catalog does not know are dropped; where none is left, the popularity ranking is given and
        flagged, unless all of them are of the other type than the catalog's ids: that is a mistake. All conditions hold
        together. There are fewer than k results where they leave no more.

        Parameters
        ----------
        session : iterable of ids
            The clicks as external ids, oldest first.
        k : int, default 20
            How many items.
        timings : bool, default False
            Whether to tell how long each stage took.
        exclude : iterable of ids, default none
            External ids that are never recommended; unknown ones are ignored.
        allow : iterable of ids, optional
            The only ones that are; an empty list allows nothing.
        exclude_seen : bool, default False
            Whether to leave the session's own items out.
        filter : Filter, optional
            What `filter` prepared, for long lists.
        at : int, optional
            The moment of the request in Unix milliseconds, where the model was trained with times; now by default.
        repeats : bool, default False
            Whether to tell which results are in the session already.
        reasons : bool, default False
            Whether to tell why each item was recommended.

        Returns
        -------
        Recommendations

        Raises
        ------
        UsageError
            On a session that is no list of ids, a k that is no positive whole number, or another catalog's filter.
        ItemTypeError
            On a session all of whose ids are of the other type: '5' or 5.0 where the catalog's ids are int.
        """
        start = perf_counter_ns()
        log_position = self.log_position  # before anything is read: the ranking knows at least so much
        pipeline = self._pipeline
        clicks = listed("session", session)
        checked = options_of(pipeline.catalog, k, **options)
        ready = perf_counter_ns()
        answer, times = pipeline.recommend(clicks, checked, log_position)
        return timed(answer, times, start, ready) if timings else answer

    def recommend_batch(
        self,
        sessions: Sessions | Iterable[Iterable[Any]],
        k: int = 20,
        **options: Unpack[OptionKeywords],
    ) -> list[Recommendations]:
        """`recommend` for many sessions; every answer equals, to the bit, that for the session alone.

        Parameters
        ----------
        sessions : iterable of iterables of ids, or Sessions
            Clicks as external ids, or packed Sessions of internal ids.
        k, exclude, allow, exclude_seen, filter, at, repeats, reasons
            As in `recommend`, for all sessions.

        Returns
        -------
        list of Recommendations
            One a session.

        Raises
        ------
        UsageError, ItemTypeError
            As in `recommend`.
        DataError
            On an internal id outside the catalog.
        """
        log_position = self.log_position  # before the tables are looked at, which may know more by then
        pipeline = self._pipeline
        checked = options_of(pipeline.catalog, k, **options)
        if isinstance(sessions, Sessions):
            return pipeline.recommend_batch(sessions, [[] for _ in range(len(sessions))], checked, log_position)
        lists = [listed(f"session {b}", one) for b, one in enumerate(listed("sessions", sessions))]
        pairs = [pipeline.catalog.clicks_of(one) for one in lists]
        lengths = np.array([len(known) for known, _ in pairs], dtype=np.int64)
        packed = Sessions(np.concatenate([_NOTHING, *(known for known, _ in pairs)]), offsets_of(lengths))
        return pipeline.recommend_batch(packed, [unknown for _, unknown in pairs], checked, log_position)

    def similar_items(
        self,
        item: Any,
        k: int = 20,
        *,
        by: Literal["vectors", "sessions"] = "vectors",
        exclude: Iterable[Any] = (),
        allow: Iterable[Any] | None = None,
        filter: Filter | None = None,
    ) -> Recommendations:
        """The k items that are most like one, itself left out, with their cosines.

        Parameters
        ----------
        item : id
            An external id.
        k : int, default 20
            How many items.
        by : {'vectors', 'sessions'}, default 'vectors'
            Whose cosine: of the embeddings, or of the sessions that hold both (`memory.co_clicked`), among the items that
            the bundle's memory keeps for this one: there may be few, and of an added item none.
        exclude, allow, filter
            As in `recommend`.

        Returns
        -------
        Recommendations

        Raises
        ------
        UsageError
            Where the catalog does not know the item, or `by` is 'sessions' and the bundle has no memory.
        """
        pipeline = self._pipeline
        catalog = pipeline.catalog
        k = checked_k(k, catalog.n_items)
        place = catalog.ids.lookup([item])
        if place[0] < 0:
            raise UsageError(f"similar_items: the catalog does not know item {item!r}; give one of its external ids")
        conditions = conditions_of(catalog, exclude, allow, filter)
        if by == "sessions":
            found = clicked_together(catalog, int(place[0]), k, conditions)
            if found is None:
                raise UsageError("similar_items: this bundle has no session memory; train one or pass by='vectors'")
            return assembled(catalog, found, place, [], False)
        if by != "vectors":
            raise UsageError(f"similar_items: by must be 'vectors' or 'sessions', not {by!r}")
        dropped = place if conditions.excluded is None else np.union1d(conditions.excluded, place)
        query = catalog.vector(int(place[0]))
        row = retrieve(for_items(pipeline.index), catalog.n_items, query, k, conditions.allowed, [dropped], 1.0)
        return assembled(catalog, (row[0][0], row[1][0]), place, [], False)

    def rank(self, sessions: Sessions, k: int, *, exclude_seen: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """`recommend` on internal ids, without making Python objects of the results.

        Parameters
        ----------
        sessions : Sessions
            B packed sessions of internal ids; an empty one gets the popularity ranking.
        k : int
            How many items.
        exclude_seen : bool, default False
            Whether to leave each session's own items out.

        Returns
        -------
        ids : int32[B, k]
            Internal ids, best first, padded with -1.
        scores : float32[B, k]
            Theirs, padded with -inf.

        Raises
        ------
        DataError
            On an id outside the catalog.
        UsageError
            On a k that is no positive whole number.
        """
        pipeline = self._pipeline
        checked_k(k, pipeline.catalog.n_items)
        return pipeline.rank(sessions, int(k), Conditions(exclude_seen=True) if exclude_seen else EVERYTHING)


def _refuse_exported(encoder: str, index: str) -> None:
    """Raise UsageError where a recommender that learns is asked for what is exported from a bundle, and cannot grow."""
    if encoder.startswith("onnx"):
        raise UsageError(f"encoder {encoder!r} reads a graph that does not learn; take 'native' or 'auto' with learn")
    if index == "ann":
        raise UsageError("index 'ann' is built for a bundle and does not learn; take 'native' or 'auto' with learn")


def _parts(bundle: Bundle, encoder: str, index: str) -> tuple[Bundle, Encoder, Index]:
    """A bundle with its encoder and its index, by their names."""
    found = make_index(index, bundle.item_vectors, bundle.scan, ann_file_of(bundle))
    return bundle, make_encoder(encoder, bundle), found
