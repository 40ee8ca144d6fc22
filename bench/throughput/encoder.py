"""The native encoder by session length, whole and click by click, against eager PyTorch and numpy.

python -m bench.throughput.encoder [--quick] [--json FILE]
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.harness.agreement import vectors_error
from bench.harness.comparison import Case, Contender, Plan, limit_threads
from bench.harness.report import Report, bench_parser, command, parse, say
from bench.harness.workload import Workload, generated
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.ranking.encoders import NativeEncoder, NumpyEncoder

CATALOG = 40_727
LENGTHS = (1, 3, 10, 30, 100, 512)
QUICK_LENGTHS = (1, 10, 100)

_PLAN = Plan(rounds=200, burst=5, settle=2, seconds=6.0)
_QUICK_PLAN = Plan(rounds=100, burst=5, settle=2, seconds=2.0)
_TOLERANCE = 2e-6  # float32 against float64, on the coordinates of a unit vector
_CHECKED = 8
_SESSIONS = 1024  # enough that a run appends to a state only once or twice


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; return the exit status (1 if an answer was wrong)."""
    parser = bench_parser("throughput.encoder", __doc__)
    options = parse(parser, argv, ("torch", "faiss", "rich"))
    report = Report("encoder", options.quick)
    with limit_threads(1), tempfile.TemporaryDirectory(prefix="mtaw-fast-bench-") as folder:
        workload = generated(CATALOG, Path(folder) / "bundle")
        for clicks in QUICK_LENGTHS if options.quick else LENGTHS:
            say(f"measuring sessions of {clicks} clicks")
            for case in cases(workload, clicks, _QUICK_PLAN if options.quick else _PLAN):
                report.run(case)
    return report.finish(options.json)


def cases(workload: Workload, clicks: int, plan: Plan) -> list[Case]:
    """Return the cases of sessions of m = `clicks` clicks, one at a time.

    encode: a session of internal ids to its unit query. append: the m-th click appended to a session (a few are a click
    or two longer), up to its new unit query; the baselines have no state and encode the whole session.
    """
    from bench.harness import eager_faiss  # PyTorch loads here, so that --help and a misuse answer at once
    from bench.harness.floors import flop_floor

    bundle, d = workload.bundle, workload.bundle.config.model.embedding_dim
    items = workload.serve.items
    starts = np.random.default_rng(0).integers(0, len(items) - clicks, _SESSIONS)
    sessions = [Sessions.from_lists([items[start : start + clicks]]) for start in starts]
    native, numpy = NativeEncoder(bundle.config, bundle.weights), NumpyEncoder(bundle.config, bundle.weights)
    model = eager_faiss.load_model(bundle.config, bundle.weights).eval()
    baselines = [
        Contender("torch-eager", lambda call: eager_faiss.encode(model, sessions[call % _SESSIONS]).numpy()),
        Contender("numpy", lambda call: numpy.encode(sessions[call % _SESSIONS])),
    ]

    def check(contender: Contender) -> str | None:
        for call in range(_CHECKED):
            truth = eager_faiss.true_queries(bundle.config, bundle.weights, sessions[call])
            if error := vectors_error(contender.run(call).reshape(1, -1), truth, _TOLERANCE):
                return error
        return None

    def case(name: str, ours: Contender, rows: int, pairs: float, what: str) -> Case:
        # `rows` clicks through W_q, W_1, W_2, `pairs` of clicks in attention, W_q' of the last one and its attention.
        floor = flop_floor(6 * rows * d * d + 4 * pairs * d + 2 * d * d + 4 * clicks * d, what)
        params = {**workload.params, "clicks": clicks, "threads": 1}
        return Case(name, params, "latency_us", ours, baselines, check, plan, floor)

    whole = Contender("ours", lambda call: native.encode(sessions[call % _SESSIONS]))
    found = [case("encode", whole, clicks, (clicks + 1) / 2 * clicks, "encoding a session")]
    if clicks < bundle.config.model.max_session_length:
        states = [native.session() for _ in range(_SESSIONS)]
        for state, session in zip(states, sessions, strict=True):
            if clicks > 1:
                state.extend(session.items[:-1])
        last = [int(session.items[-1]) for session in sessions]
        one = Contender("ours", lambda call: states[call % _SESSIONS].append(last[call % _SESSIONS]))
        found.append(case("append", one, 1, clicks, "appending a click"))
    return found


if __name__ == "__main__":
    raise SystemExit(main())
