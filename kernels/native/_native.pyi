from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from mtaw_fast.kernels.native.memory_tables import TableSettings

_Open: TypeAlias = Callable[[str, int], int]

def open_bundle(
    folder: bytes, verify: bool, mapping: str, threads: int, open: _Open
) -> tuple[bytes, dict[str, dict[str, np.ndarray]]]: ...
def map_tensors(path: bytes, mapping: str, open: _Open) -> dict[str, np.ndarray]: ...
def open_file(path: bytes, mapping: str, open: _Open) -> tuple[np.ndarray, int]: ...
def cpu_isa() -> str: ...
def active_isa() -> str: ...
def pack_tiles(offsets: np.ndarray, capacity: int, min_tiles: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...
def adam_step(
    groups: Sequence[Sequence[np.ndarray]],
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    clip_norm: float,
    step: int,
    learning_rate: float,
    threads: int,
    isa: str | None = None,
) -> float: ...
def aw_loss(
    queries: np.ndarray,
    items: np.ndarray,
    targets: np.ndarray,
    row_weights: np.ndarray,
    scale: float,
    gamma: float,
    loss: np.ndarray,
    d_queries: np.ndarray | None,
    d_items: np.ndarray | None,
    compute: str,
    threads: int,
    isa: str | None = None,
    negatives: bool = False,
    item_weights: np.ndarray | None = None,
) -> None: ...
def kept_matrix(rows: int, d: int) -> np.ndarray: ...
def release_kept_blocks() -> None: ...
def memory_build(
    items: np.ndarray,
    offsets: np.ndarray,
    n_items: int,
    settings: TableSettings,
    threads: int,
    first: int,
    last: int,
) -> dict[str, np.ndarray]: ...
def memory_update(
    tables: dict[str, np.ndarray],
    items: np.ndarray,
    offsets: np.ndarray,
    expire: int,
    settings: TableSettings,
    threads: int,
) -> dict[str, np.ndarray]: ...
def memory_check(tables: dict[str, np.ndarray], max_neighbors: int, max_postings: int) -> None: ...
def rerank_topk(
    queries: np.ndarray, catalog: np.ndarray, candidates: np.ndarray, k: int, scale: float
) -> tuple[np.ndarray, np.ndarray]: ...
def scan_quantize(catalog: np.ndarray) -> tuple[np.ndarray, int, float, float]: ...
def scan_quantize_nested(catalog: np.ndarray) -> tuple[np.ndarray, np.ndarray, int, float, float]: ...
def scan_nest(blocks: np.ndarray, d: int, largest_residual: float) -> tuple[np.ndarray, np.ndarray, float]: ...
def scan_join(half_blocks: np.ndarray, low_blocks: np.ndarray, d: int) -> np.ndarray: ...
def scan_requantize(
    catalog: np.ndarray,
    old_catalog: np.ndarray,
    old_blocks: np.ndarray,
    exponent: int,
    largest_norm: float,
    largest_residual: float,
) -> tuple[np.ndarray, int, float, float]: ...
def read_bytes(array: np.ndarray, isa: str | None = None) -> int: ...

class Scanner:
    def __init__(
        self,
        catalog: np.ndarray,
        blocks: np.ndarray | None,
        half_blocks: np.ndarray | None,
        low_blocks: np.ndarray | None,
        exponent: int,
        largest_norm: float,
        largest_residual: float,
        isa: str | None = None,
    ) -> None: ...
    def search(
        self,
        queries: np.ndarray,
        k: int,
        scale: float,
        allowed: np.ndarray | None = None,
        excluded: np.ndarray | None = None,
        excluded_offsets: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]: ...

class IdTable:
    @staticmethod
    def of_ints(values: np.ndarray, sorted: np.ndarray, order: np.ndarray) -> IdTable: ...
    @staticmethod
    def of_texts(blob: np.ndarray, offsets: np.ndarray, slots: np.ndarray) -> IdTable: ...
    @staticmethod
    def slots_of(blob: np.ndarray, offsets: np.ndarray) -> np.ndarray: ...
    def extended(self, places: dict[Any, int], items: tuple[Any, ...]) -> IdTable: ...
    def __len__(self) -> int: ...
    def lookup(self, ids: Sequence[Any]) -> np.ndarray: ...
    def known(self, ids: Sequence[Any]) -> np.ndarray: ...
    def external(self, internal: np.ndarray) -> list[Any]: ...

def redact_lines(
    block: bytearray, forgotten: Sequence[tuple[bytes, int]], last: int
) -> tuple[int, list[tuple[int, int]], list[tuple[int, int]]]: ...

class RecentKeys:
    def __init__(self, most: int) -> None: ...
    def add(self, key: int) -> bool: ...
    def latest(self, count: int) -> np.ndarray: ...
    def __contains__(self, key: int) -> bool: ...
    def __len__(self) -> int: ...
    @property
    def n_bytes(self) -> int: ...

class SessionHandles:
    def __init__(self) -> None: ...
    def add(self, key: int) -> int: ...
    def take(self, key: int) -> list[int]: ...
    def __len__(self) -> int: ...
    @property
    def keys(self) -> np.ndarray: ...
    @property
    def n_bytes(self) -> int: ...

# The applied rules, how many items can be recommended, and up to how many items the index is approximate.
_CallRules: TypeAlias = tuple["AppliedRules", int, int]
# The boosts float64[..], pinned bool[..], and whether an approximate index found too few candidates.
_Effects: TypeAlias = tuple[np.ndarray, np.ndarray, bool]
# All items, most clicks first, int32[N + M], and their clicks int64[N + M].
_Popular: TypeAlias = tuple[np.ndarray, np.ndarray]
_List: TypeAlias = tuple[np.ndarray, np.ndarray, _Effects | None]
_RuleEffect: TypeAlias = Literal["boosted", "buried", "pinned"]
_ReasonKind: TypeAlias = Literal["session", "together", "encoder"]
_OtherStages: TypeAlias = tuple[Callable[..., np.ndarray] | None, Callable[..., tuple[np.ndarray, np.ndarray]] | None]

class Engine:
    def __init__(
        self,
        ids: IdTable,
        encoder: Encoder | None,
        scanner: Scanner | None,
        scale: float,
        memory: SessionMemory | None = None,
        ranker: MemoryRanker | None = None,
        side: Scanner | None = None,
        present: np.ndarray | None = None,
        trends: Trends | None = None,
        content: ItemContent | None = None,
        rows: np.ndarray | None = None,
        added_rows: np.ndarray | None = None,
    ) -> None: ...
    def recommend(
        self,
        session: Sequence[Any] | np.ndarray,
        k: int,
        excluded: np.ndarray | None = None,
        allowed: np.ndarray | None = None,
        exclude_seen: bool = False,
        repeats: bool = False,
        now: int = 0,
        context: np.ndarray | None = None,
        types: np.ndarray | None = None,
        other: _OtherStages | None = None,
        rules: _CallRules | None = None,
        state: SessionState | None = None,
        n_new: int = 0,
    ) -> tuple[Any, Any, list[Any], np.ndarray | None, Any, Any]: ...
    def trace(
        self,
        session: np.ndarray,
        k: int,
        excluded: np.ndarray | None = None,
        allowed: np.ndarray | None = None,
        exclude_seen: bool = False,
        now: int = 0,
        context: np.ndarray | None = None,
        types: np.ndarray | None = None,
        other: _OtherStages | None = None,
        rules: _CallRules | None = None,
    ) -> tuple[np.ndarray, np.ndarray, Any, dict[str, Any]]: ...
    def sessions_together(self, item: int, clicks: np.ndarray) -> np.ndarray: ...
    def rank(
        self,
        items: np.ndarray,
        offsets: np.ndarray,
        k: int,
        excluded: np.ndarray | None = None,
        allowed: np.ndarray | None = None,
        exclude_seen: bool = False,
        now: int = 0,
        context: np.ndarray | None = None,
        times: np.ndarray | None = None,
        contexts: np.ndarray | None = None,
        types: np.ndarray | None = None,
        always_ranked: np.ndarray | None = None,
        other: _OtherStages | None = None,
        popular: _Popular | None = None,
    ) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float, float | None]]: ...
    def popular(
        self,
        k: int,
        popular: _Popular,
        excluded: np.ndarray | None = None,
        allowed: np.ndarray | None = None,
        now: int = 0,
        rules: _CallRules | None = None,
    ) -> _List: ...
    def similar(
        self,
        item: int,
        k: int,
        by_sessions: bool = False,
        excluded: np.ndarray | None = None,
        allowed: np.ndarray | None = None,
        other: _OtherStages | None = None,
        rules: _CallRules | None = None,
    ) -> _List: ...
    def reasons(
        self, clicks: np.ndarray, items: np.ndarray, effects: _Effects | None = None
    ) -> list[tuple[_ReasonKind, tuple[Any, ...], _RuleEffect | None]]: ...
    def rank_ruled(
        self,
        items: np.ndarray,
        offsets: np.ndarray,
        k: int,
        rules: _CallRules,
        excluded: np.ndarray | None = None,
        allowed: np.ndarray | None = None,
        exclude_seen: bool = False,
        now: int = 0,
        context: np.ndarray | None = None,
        times: np.ndarray | None = None,
        contexts: np.ndarray | None = None,
        types: np.ndarray | None = None,
        other: _OtherStages | None = None,
        popular: _Popular | None = None,
    ) -> list[tuple[np.ndarray, np.ndarray, _Effects]]: ...

def memory_feature_names(trends: bool = False) -> tuple[str, ...]: ...

class MemoryDelta:
    def __init__(
        self, tables: dict[str, np.ndarray], settings: TableSettings, capacity: int, max_clicks: int
    ) -> None: ...
    def click(self, handles: np.ndarray, items: np.ndarray) -> None: ...
    def resume(self, handle: int, base_session: int) -> None: ...
    def forget(self, handle: int) -> bool: ...
    def forget_base(self, base_session: int) -> bool: ...
    def add_prior(self, item: int, neighbor: int, values: np.ndarray) -> None: ...
    def ordered(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...
    def row(self, item: int) -> tuple[np.ndarray, np.ndarray]: ...
    def counts(self, item: int) -> np.ndarray: ...
    def base_row(self, item: int) -> tuple[np.ndarray, np.ndarray]: ...
    @property
    def n_catalog(self) -> int: ...
    @property
    def n_sessions(self) -> int: ...
    @property
    def n_clicks(self) -> int: ...
    @property
    def n_rows(self) -> int: ...
    @property
    def n_pairs(self) -> int: ...
    @property
    def n_terms(self) -> int: ...
    @property
    def n_ignored(self) -> int: ...
    @property
    def n_dropped(self) -> int: ...
    @property
    def n_bytes(self) -> int: ...

class MemoryRanker:
    def __init__(self, arrays: dict[str, np.ndarray], n_types: int = 0) -> None: ...
    def scores(self, features: np.ndarray) -> np.ndarray: ...

class SessionMemory:
    def __init__(
        self,
        tables: dict[str, np.ndarray],
        recency: float,
        n_catalog: int,
        own: int,
        others: int,
        dense: int,
        isa: str | None = None,
        delta: MemoryDelta | None = None,
        trends: int = 0,
        once_from: int = ...,
        ranked: int = 0,
    ) -> None: ...
    @property
    def max_candidates(self) -> int: ...
    def features(
        self,
        items: np.ndarray,
        begins: np.ndarray,
        ends: np.ndarray,
        queries: np.ndarray | None = None,
        dense: np.ndarray | None = None,
        logits: np.ndarray | None = None,
        catalog: np.ndarray | None = None,
        scale: float = 0.0,
        threads: int = 1,
        trends: Trends | None = None,
        now: np.ndarray | None = None,
        times: np.ndarray | None = None,
        context: np.ndarray | None = None,
        content: ItemContent | None = None,
        types: np.ndarray | None = None,
        n_types: int = 0,
    ) -> tuple[np.ndarray, np.ndarray]: ...
    def rank(
        self,
        ranker: MemoryRanker,
        items: np.ndarray,
        begins: np.ndarray,
        ends: np.ndarray,
        k: int,
        queries: np.ndarray | None = None,
        dense: np.ndarray | None = None,
        logits: np.ndarray | None = None,
        catalog: np.ndarray | None = None,
        added: np.ndarray | None = None,
        scale: float = 0.0,
        allowed: np.ndarray | None = None,
        excluded: np.ndarray | None = None,
        excluded_offsets: np.ndarray | None = None,
        threads: int = 1,
        trends: Trends | None = None,
        now: np.ndarray | None = None,
        times: np.ndarray | None = None,
        context: np.ndarray | None = None,
        content: ItemContent | None = None,
        types: np.ndarray | None = None,
        always_ranked: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]: ...

class Encoder:
    def __init__(
        self,
        weights: dict[str, np.ndarray],
        max_len: int,
        isa: str | None = None,
        recent: float = 0.0,
        recent_decay: float = 0.0,
    ) -> None: ...
    def extended(self, added: np.ndarray) -> Encoder: ...
    def encode(self, items: np.ndarray, offsets: np.ndarray) -> np.ndarray: ...
    def session(self) -> SessionState: ...

class SessionState:
    def append(self, items: np.ndarray) -> np.ndarray: ...
    def append_one(self, item: int) -> np.ndarray: ...
    def query(self) -> np.ndarray: ...
    @property
    def clicks(self) -> np.ndarray: ...
    @property
    def n_bytes(self) -> int: ...

def trend_feature_names() -> tuple[str, ...]: ...
def trends_build(
    items: np.ndarray,
    offsets: np.ndarray,
    times: np.ndarray,
    n_items: int,
    half_lives: Sequence[int],
    window: int,
    max_neighbors: int,
    threads: int,
    once_from: int,
    newest: int,
    context: np.ndarray | None,
    context_sizes: Sequence[int],
    first: int,
    last: int,
) -> dict[str, np.ndarray]: ...
def trends_check(arrays: dict[str, np.ndarray], half_lives: Sequence[int], window: int, max_neighbors: int) -> None: ...

class ItemContent:
    def __init__(self, categories: Sequence[np.ndarray], created: np.ndarray | None = None) -> None: ...

class Trends:
    def __init__(
        self,
        arrays: dict[str, np.ndarray],
        half_lives: Sequence[int],
        window: int,
        max_neighbors: int,
        capacity: int,
        ahead: int,
        row_neighbors: int,
        isa: str | None = None,
        once: bool = False,
    ) -> None: ...
    def click(
        self,
        handles: np.ndarray,
        items: np.ndarray,
        times: np.ndarray,
        arrivals: np.ndarray | None = None,
        context: np.ndarray | None = None,
    ) -> None: ...
    def forget_in_tables(
        self,
        items: np.ndarray,
        times: np.ndarray,
        left: dict[str, np.ndarray],
        ids: np.ndarray,
        once: bool,
        context: np.ndarray | None = None,
    ) -> None: ...
    def forget(self, handle: int) -> bool: ...
    def candidates(
        self, items: np.ndarray, begins: np.ndarray, ends: np.ndarray, now: np.ndarray, n: int
    ) -> np.ndarray: ...
    def features(
        self,
        items: np.ndarray,
        begins: np.ndarray,
        ends: np.ndarray,
        now: np.ndarray,
        candidates: np.ndarray,
        times: np.ndarray | None = None,
        context: np.ndarray | None = None,
        content: ItemContent | None = None,
    ) -> np.ndarray: ...
    def context(self, item: int, now: int) -> np.ndarray: ...
    def rising(self, now: int, k: int) -> tuple[np.ndarray, np.ndarray]: ...
    def row(self, item: int, now: int) -> tuple[np.ndarray, np.ndarray]: ...
    def counts(self, items: np.ndarray, now: int) -> np.ndarray: ...
    def sessions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]: ...
    def counters(self) -> dict[str, int]: ...
    def nth_newest(self, rank: int) -> int: ...

def co_clicked_neighbors(
    tables: dict[str, np.ndarray], delta: MemoryDelta | None, item: int
) -> tuple[np.ndarray, np.ndarray]: ...
def co_clicked_cosine(tables: dict[str, np.ndarray], delta: MemoryDelta | None, item: int, other: int) -> float: ...

class ItemColumns:
    def __init__(self, columns: list[tuple[str, str, bool, dict[str, np.ndarray]]]) -> None: ...

class Condition:
    @property
    def source(self) -> str: ...
    @property
    def columns(self) -> list[str]: ...
    @property
    def current(self) -> list[str]: ...
    def bits(self, columns: ItemColumns, current: int | None, n_items: int) -> np.ndarray: ...

class RuleSet:
    def __init__(self, json: str, where: str) -> None: ...
    @property
    def filter(self) -> Condition | None: ...
    @property
    def boosts(self) -> list[tuple[Condition, float]]: ...
    @property
    def columns(self) -> list[str]: ...
    @property
    def current(self) -> list[str]: ...
    @property
    def texts(self) -> list[tuple[str, str]]: ...
    def check(self, columns: ItemColumns | None, public_only: bool) -> None: ...

class AppliedRules:
    def __init__(
        self,
        rules: RuleSet,
        columns: ItemColumns,
        ids: IdTable,
        present: np.ndarray | None,
        filter: np.ndarray | None,
        boosts: list[np.ndarray],
    ) -> None: ...
    def shown_pins(
        self, clicks: np.ndarray, excluded: np.ndarray | None, allowed: np.ndarray | None, exclude_seen: bool
    ) -> list[int]: ...
    def within_limits(self, kept: np.ndarray, candidates: np.ndarray, count: int) -> list[int]: ...
