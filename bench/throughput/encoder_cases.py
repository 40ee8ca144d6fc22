"""The cases of the encoder bench: one session encoded whole, and one more click appended to it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bench.harness import eager_faiss
from bench.harness.agreement import vectors_error
from bench.harness.comparison import Case, Contender, Floor, Plan
from bench.harness.eager_faiss import true_queries
from bench.harness.floors import flop_floor
from bench.harness.workload import Workload
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.ranking.encoders import NativeEncoder, NumpyEncoder

_TOLERANCE = 2e-6  # float32 against float64, on the coordinates of a unit vector
_CHECKED = 8
_SESSIONS = 1024  # enough that a run appends to a state only once or twice


@dataclass(frozen=True, eq=False)
class EncoderCases:
    """Sessions of m = `clicks` clicks over one workload, one at a time."""

    workload: Workload
    clicks: int
    plan: Plan

    def encode(self) -> Case:
        """Compare encoding a session of internal ids to its unit query."""
        native = self._native
        return Case(
            "encode",
            self._params,
            "latency_us",
            Contender("ours", lambda call: native.encode(self._session(call))),
            self._baselines,
            self._error,
            self.plan,
            # As in the throughput bench: W_q, W_1, W_2 of every click, W_q' of the last one, attention over t clicks
            # for t = 1..m and once more over m.
            self._floor(self.clicks, (self.clicks + 1) / 2 * self.clicks, "encoding a session"),
        )

    def append(self) -> Case:
        """Compare appending the m-th click to a session (a few are a click or two longer), up to its new unit query.

        The baselines have no state: they encode the whole session.
        """
        states = [self._native.session() for _ in range(_SESSIONS)]
        if self.clicks > 1:
            for state, session in zip(states, self._sessions, strict=True):
                state.extend(session.items[:-1])
        last = [int(session.items[-1]) for session in self._sessions]
        return Case(
            "append",
            self._params,
            "latency_us",
            Contender("ours", lambda call: states[call % _SESSIONS].append(last[call % _SESSIONS])),
            self._baselines,
            self._error,
            self.plan,
            self._floor(1, self.clicks, "appending a click"),
        )

    @cached_property
    def _sessions(self) -> list[Sessions]:
        items = self.workload.serve.items
        starts = np.random.default_rng(0).integers(0, len(items) - self.clicks, _SESSIONS)
        return [Sessions.from_lists([items[start : start + self.clicks]]) for start in starts]

    @cached_property
    def _native(self) -> NativeEncoder:
        return NativeEncoder(self.workload.bundle.config, self.workload.bundle.weights)

    @cached_property
    def _baselines(self) -> list[Contender]:
        bundle = self.workload.bundle
        model = eager_faiss.load_model(bundle.config, bundle.weights).eval()
        numpy = NumpyEncoder(bundle.config, bundle.weights)
        return [
            Contender("torch-eager", lambda call: eager_faiss.encode(model, self._session(call)).numpy()),
            Contender("numpy", lambda call: numpy.encode(self._session(call))),
        ]

    @property
    def _params(self) -> dict[str, Any]:
        return {**self.workload.params, "clicks": self.clicks, "threads": 1}

    def _session(self, call: int) -> Sessions:
        return self._sessions[call % _SESSIONS]

    def _error(self, contender: Contender) -> str | None:
        bundle = self.workload.bundle
        for call in range(_CHECKED):
            truth = true_queries(bundle.config, bundle.weights, self._session(call))
            error = vectors_error(contender.run(call).reshape(1, -1), truth, _TOLERANCE)
            if error:
                return error
        return None

    def _floor(self, rows: int, pairs: float, what: str) -> Floor:
        """Return the floor of `rows` clicks through the layers, `pairs` of clicks in attention, and the last query."""
        d = self.workload.bundle.config.model.embedding_dim
        return flop_floor(6 * rows * d * d + 4 * pairs * d + 2 * d * d + 4 * self.clicks * d, what)
