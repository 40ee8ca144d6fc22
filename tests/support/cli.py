"""A small log, the settings to train on it, and the commands and their failures."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.cli import _parser, main

_SETTINGS = ("embedding_dim=16", "lr=0.03", "batch_prefixes=64", "validation_fraction=0.1")
TINY = [part for setting in _SETTINGS for part in ("--set", setting)]


def write_log(path: Path, sessions: int = 250, seed: int = 0) -> None:
    """Walks around a ring of 40 items with text ids, ten minutes a session."""
    rng = np.random.default_rng(seed)
    lines = ["session_id,item_id,timestamp"]
    for session in range(sessions):
        start, length = rng.integers(0, 40), rng.integers(2, 8)
        lines += [
            f"s{session},sku-{(start + t) % 40}é,{1_700_000_000 + 3600 * session + 60 * t}" for t in range(length)
        ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def failure(arguments: list[str], status: int, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must fail with `status`; returns its error, which must be one line."""
    capsys.readouterr()
    assert main(arguments) == status
    error = capsys.readouterr().err
    assert error.startswith("mtaw-fast: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error
    return error


def commands() -> dict[str, argparse.ArgumentParser]:
    actions = (action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction))
    return {name: parser for action in actions for name, parser in action.choices.items()}


def options() -> list[tuple[str, argparse.ArgumentParser, argparse.Action]]:
    return [(name, parser, action) for name, parser in commands().items() for action in parser._actions]
