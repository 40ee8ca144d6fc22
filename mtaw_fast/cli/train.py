"""`mtaw-fast train`: train a model on a data set and write a bundle."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import logging
import sys
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtaw_fast.bundle import Bundle, refuse_existing
from mtaw_fast.cli.common import add_command, add_training_options, config_of, print_json, thread_count, wait_passively
from mtaw_fast.config import DEFAULT_PRESET, PRESETS, Config, preset
from mtaw_fast.config.phases import EXPLAINED, phases_of
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.moments import text_of_age, warning_of_age
from mtaw_fast.errors import UsageError, require
from mtaw_fast.system.cpus import usable_cpus
from mtaw_fast.system.launch import Launch
from mtaw_fast.workflow import run_folder_of, train


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "train",
        run,
        "mtaw-fast train shop.dataset shop.bundle --set epochs=1\n"
        "  torchrun --nproc-per-node=2 -m mtaw_fast train shop.dataset shop.bundle   # a group of processes, one model",
    )
    parser.epilog = f"{parser.epilog}\n\n{_phases_text()}\n\n{_settings_text()}"
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="folder made by 'prepare'")
    parser.add_argument(
        "bundle", type=Path, metavar="BUNDLE", help="folder to write; BUNDLE.training keeps the state of the run"
    )
    add_training_options(parser)
    parser.add_argument("--epochs", type=int, help="short for --set epochs=N")
    parser.add_argument("--seed", type=int, help="short for --set seed=N")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted run")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing bundle and its run")
    parser.add_argument(
        "--no-refit", action="store_true", help="keep the model that was trained without the validation sessions"
    )
    parser.add_argument(
        "--encoder-threads", type=thread_count, default=1, metavar="N|auto",
        help="PyTorch threads in a training step; more are faster on an otherwise idle host, much slower on a busy "
        "one, and round differently (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--mlflow", metavar="URI", help="log the run to MLflow, such as http://host:5000 or sqlite:///mlflow.db (the "
        "extra 'mlflow'): settings, metrics, curves, and the bundle as a model; --resume continues the same run",
    )  # fmt: skip
    parser.add_argument(
        "--mlflow-experiment", default="mtaw-fast", metavar="NAME", help="MLflow experiment; created if it is missing"
    )
    parser.add_argument(
        "--table-memory", type=_gigabytes, default=None, metavar="GB|auto",
        help="memory for building the session memory's tables, and its trends; if one pass might need more, they are "
        "built in several passes with the same result (default: auto, half of the free memory)",
    )  # fmt: skip
    parser.add_argument(
        "--budget-minutes", type=_minutes, default=90.0, metavar="MINUTES",
        help="longest training with the full softmax, estimated from its first steps; a log that would take longer is "
        "trained with sampled negatives (default: 90)",
    )  # fmt: skip
    parser.add_argument(
        "--plan", action="store_true",
        help="print the plan with its estimated time and memory, and stop",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the result as JSON, without progress bars")


def run(arguments: argparse.Namespace) -> None:
    """Train a model on a data set and write it as a bundle."""
    wait_passively()
    require("torch", "train")
    if Launch.from_environment() is None:
        _train(arguments)
        return
    from mtaw_fast.training.group import GroupError

    try:
        _train(arguments)
    except GroupError as error:
        if error.reported:
            raise SystemExit(error.exit_code) from None
        raise


def _train(arguments: argparse.Namespace) -> None:
    config = config_of(arguments, epochs=arguments.epochs, seed=arguments.seed)
    if arguments.plan:
        if Launch.from_environment() is not None:
            raise UsageError("--plan works in one process only; run it without torchrun")
        _print_plan(arguments, config)
        return
    with contextlib.ExitStack() as stack:
        group = None
        if Launch.from_environment() is not None:
            from mtaw_fast.training.group import joined

            group = stack.enter_context(joined(arguments.device))
            if not group.leads:
                logging.getLogger("mtaw_fast").setLevel(logging.ERROR)  # rank 0 logs for the group
                group.follow(arguments.dataset)
                return
            if group.resumes(run_folder_of(arguments.bundle)):
                arguments.resume = arguments.overwrite = True
        refuse_existing(arguments.bundle, arguments.overwrite)

        from mtaw_fast.cli.progress import TrainingProgress
        from mtaw_fast.training.progress import Several

        dataset = Dataset.load(arguments.dataset)
        reporters: list[Any] = []
        run = None
        if arguments.mlflow is not None:
            from mtaw_fast.integrations.mlflow_tracking import MlflowRun

            run = MlflowRun(
                arguments.mlflow, dataset, config, run_folder_of(arguments.bundle), resume=arguments.resume,
                experiment=arguments.mlflow_experiment, name=arguments.bundle.resolve().name,
            )  # fmt: skip
            stack.enter_context(run)
            reporters.append(run)
        if not arguments.json:
            reporters.append(stack.enter_context(TrainingProgress()))
        plans: list[Any] = []

        def say_plan(plan: Any) -> None:  # to stderr, because scripts read the JSON from stdout
            plans.append(plan)
            print("\n".join(plan.lines()), file=sys.stderr, flush=True)

        bundle = train(
            dataset,
            arguments.bundle,
            config,
            resume=arguments.resume,
            overwrite=arguments.overwrite,
            refit=not arguments.no_refit,
            device=arguments.device,
            reporter=Several(reporters),
            threads=arguments.threads,
            encoder_threads=arguments.encoder_threads or usable_cpus(),
            table_memory=arguments.table_memory,
            group=group,
            budget_minutes=arguments.budget_minutes,
            planned=say_plan,
        )
        peaks = [] if group is None else group.finish()
        run_id = None if run is None else run.finish(bundle)
    _report(arguments, bundle, run_id, peaks, plans, len(dataset.test))


def _report(
    arguments: argparse.Namespace,
    bundle: Bundle,
    run_id: str | None,
    peaks: Sequence[Any],
    plans: list[Any],
    held_out: int,
) -> None:
    """Print the result of a training.

    peaks: of the processes of its group, if there is one. held_out: samples of the data set's test split.
    """
    record = bundle.metrics
    if arguments.json:
        extra: dict[str, Any] = {} if run_id is None else {"mlflow_run": run_id}
        extra |= {"processes": [dataclasses.asdict(peak) for peak in peaks]} if peaks else {}
        print_json({"bundle": str(arguments.bundle), **record, **extra})
    else:
        metrics = ", ".join(f"{name} {value:.2f}" for name, value in record["validation"].items())
        print(f"epochs {record['best_epoch']}: {metrics} on validation")
        print(_processor_time(record["processor_seconds"], plans, len(peaks), arguments.resume))
        print(f"wrote {arguments.bundle} (curves in {run_folder_of(bundle.folder) / 'curves.png'})")
        if (until := bundle.model.known_until) is not None:
            print(f"clicks until: {text_of_age(until)}")
        if (warning := warning_of_age(bundle.model.known_until, record)) is not None:
            remedy = "; the data set holds its last days back: 'prepare --test-days 0' trains on them too"
            print(f"warning: {warning}{remedy if held_out else ''}", file=sys.stderr)
        if run_id is not None:
            print(f"MLflow run {run_id}")
        for peak in peaks:
            print(peak.describe(len(peaks)))


def _processor_time(spent: Mapping[str, float], plans: list[Any], processes: int, resumed: bool) -> str:
    """Return the processor time of a training as text, next to the planned one.

    processes: how many its group has; 0 for none.
    """
    from mtaw_fast.training.plan.plan import minutes

    planned = [plan.processor_seconds for plan in plans if plan.processor_seconds is not None]
    text = f"processor time: {minutes(sum(spent.values()))}"
    if processes > 1:
        text += f" of the first of {processes} processes"
    if resumed:
        text += ", with what was saved before the resume"
    return text + (f", planned {minutes(planned[-1])}" if planned else "")


def _print_plan(arguments: argparse.Namespace, config: Config) -> None:
    """Print the plan of a new training."""
    from mtaw_fast.training.memory_tables import TableMemory, training_table_memory
    from mtaw_fast.training.plan.estimate import plan_training
    from mtaw_fast.training.run import device_of
    from mtaw_fast.training.threads import Threads, training_threads

    if arguments.resume:
        raise UsageError("--plan works for a new run only; a resumed run prints its own plan when it starts")
    threads = Threads.of(arguments.threads, arguments.encoder_threads or usable_cpus())
    table_memory = None if arguments.table_memory is None else round(arguments.table_memory * 1e9)
    with (
        tempfile.TemporaryDirectory(prefix="mtaw-fast-plan-") as scratch,
        training_threads(threads),
        training_table_memory(TableMemory(table_memory, Path(scratch))),
    ):
        plan = plan_training(
            Dataset.load(arguments.dataset), config, refit=not arguments.no_refit, device=device_of(arguments.device),
            budget_minutes=arguments.budget_minutes,
        )  # fmt: skip
    if arguments.json:
        print_json({**plan.as_dict(), "seconds": plan.seconds, "peak_bytes": plan.peak_bytes})
    else:
        print("\n".join(plan.lines()))


def _phases_text() -> str:
    """Return the help text about the phases, in the order in which the progress line counts them."""
    phases = " and ".join(phases_of(preset("paper"), True))
    lines = [f"phases in the order of the progress line (the preset 'paper' has {phases}):"]
    for name, text in EXPLAINED.items():
        lines.append(textwrap.fill(text, width=78, initial_indent=f"  {name:14}", subsequent_indent=" " * 16))
    return "\n".join(lines)


def _gigabytes(text: str) -> float | None:
    """Parse a size in GB; return None for auto."""
    try:
        size = None if text == "auto" else float(text)
    except ValueError:
        size = 0.0
    if size is not None and not 0 < size < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write GB above 0, such as 2.5, or auto")
    return size


def _minutes(text: str) -> float:
    """Parse a budget in minutes."""
    try:
        minutes = float(text)
    except ValueError:
        minutes = -1.0
    if not 0 <= minutes < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time; write minutes, such as 90")
    return minutes


def _settings_text() -> str:
    """Return the help text about the settings: the default preset's values by group, and how other presets differ."""
    default = preset(DEFAULT_PRESET)
    lines = [f"settings and their values in the preset '{DEFAULT_PRESET}', by group:"]
    for group, values in default.as_dict().items():
        lines.append(_wrapped(f"{group}: ", values))
    for name, config in PRESETS.items():
        defaults = default.settings()
        changed = {key: value for key, value in config.settings().items() if value != defaults[key]}
        if changed:
            lines += ["", f"changed settings in the preset '{name}':", _wrapped("", changed)]
    return "\n".join(lines)


def _wrapped(head: str, values: Mapping[str, Any]) -> str:
    text = head + ", ".join(f"{key}={value}" for key, value in values.items())
    return textwrap.fill(text, width=78, initial_indent="  ", subsequent_indent="    " if head else "  ")
