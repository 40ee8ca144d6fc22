"""`mtaw-fast update`: add a new log to a bundle in seconds, without a training."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import time
from typing import Any

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import ADDED_PARTS, TRAINED, trained_at
from mtaw_fast.cli.common import add_command, print_json, wait_passively
from mtaw_fast.cli.learning_options import add_log_arguments, bots_text, limits_for, log_of, min_prefix_of
from mtaw_fast.errors import UsageError, require
from mtaw_fast.model.model import Model
from mtaw_fast.online.batch_update import UpdateSummary, apply_log
from mtaw_fast.online.compaction.compactor import REPEATS
from mtaw_fast.system.cpus import usable_cpus

_KEPT = ("grown_from", "position", REPEATS)  # manifest keys that an update keeps


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "update",
        run,
        "Add the sessions, items and counts of a log to a bundle. Clicks that it learned before are not learned twice.",
        "mtaw-fast update shop.bundle monday.csv --refit ranker",
    )
    add_log_arguments(parser)
    parser.add_argument(
        "--refit", choices=("ranker", "all"), help="also train the ranker, or ranker and encoder, on the new sessions"
    )
    parser.add_argument("--device", default="cpu", help="device of --refit all: auto, cpu or cuda (default: cpu)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Update the bundle and print what was learned and what was refused."""
    began = time.perf_counter()
    if arguments.refit:
        wait_passively()
        require("torch", "train")
    bundle = Bundle.load(arguments.bundle)
    if arguments.refit:  # before the log is read
        from mtaw_fast.training.refit import refuse_weights
        from mtaw_fast.training.run import device_of

        refuse_weights(bundle.config)
        if arguments.refit == "all":
            device_of(arguments.device)
    limits = limits_for(arguments.learn_limit)
    log = log_of(bundle, arguments.log, limits)
    model, summary = apply_log(log, limits, threads=usable_cpus())
    history: list[dict[str, Any]] = []
    refit_began = time.perf_counter()
    if arguments.refit:
        model, history = _refitted(arguments, bundle, model, summary)
    refit_seconds = time.perf_counter() - refit_began
    about = {name: bundle.manifest[name] for name in _KEPT if name in bundle.manifest}
    if not arguments.refit and (trained := trained_at(bundle.manifest)):
        about[TRAINED] = trained
    lost = sorted(set(ADDED_PARTS) & bundle.manifest["files"].keys())
    Bundle.save(
        arguments.bundle, model, metrics=bundle.metrics, dataset=bundle.dataset, overwrite=True, about=about,
        instead_of=bundle,
    )  # fmt: skip
    result = {
        **dataclasses.asdict(summary),
        "seconds": round(time.perf_counter() - began, 2),
        "refit_seconds": round(refit_seconds, 2) if arguments.refit else 0.0,
        "refit": history,
        "to_export_again": lost,
    }
    if arguments.json:
        print_json({"bundle": str(arguments.bundle), **result})
        return
    print(
        f"{summary.clicks:,} clicks of {summary.sessions:,} sessions: {summary.learned_clicks:,} learned in "
        f"{summary.learned_sessions:,} sessions, {summary.known_clicks:,} known before, {summary.new_items:,} new items"
    )
    refused = ", ".join(f"{reason} {count:,}" for reason, count in sorted(summary.refused.items()))
    print(f"refused: {refused or 'nothing'}{bots_text(summary.bots)}")
    if lost:
        print(f"removed, as made for the old catalog: {', '.join(lost)}; run 'mtaw-fast export' again")
    print(f"wrote {arguments.bundle} in {result['seconds']:.1f} s")


def _refitted(
    arguments: argparse.Namespace, bundle: Bundle, model: Model, summary: UpdateSummary
) -> tuple[Model, list[dict[str, Any]]]:
    """Return the model trained as --refit says, and the records of the epochs."""
    from mtaw_fast.cli.progress import TrainingProgress
    from mtaw_fast.training.progress import Silent
    from mtaw_fast.training.refit import refit_encoder, refit_ranker
    from mtaw_fast.training.run import device_of

    if not summary.learned_sessions:
        raise UsageError("the log has no new session, so there is nothing to refit with; leave --refit out")
    min_prefix, folder = min_prefix_of(bundle), arguments.bundle.resolve().parent
    with contextlib.nullcontext(Silent()) if arguments.json else TrainingProgress() as reporter:
        # The ranker first: its examples need an encoder that has not seen the new sessions.
        model, history = refit_ranker(model, bundle.model, summary.learned_sessions, min_prefix, folder, reporter)
        if arguments.refit == "all":
            model, records = refit_encoder(model, min_prefix, folder, device_of(arguments.device), reporter)
            history += records
    return model, history
